"""Tests for :mod:`txapns.command.database`, with SQLite."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.command.case import CommandCase
from tests.daemon.store.copy_contract import filled, seen
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.command.streams import UNUSABLE
from txapns.daemon.store.copying import KINDS
from txapns.daemon.store.sqlite.copying import copying

__all__ = ["CheckTests", "CopyTests", "MigrateTests"]


class CheckTests(CommandCase):
    """``txapns database check``."""

    def test_used(self) -> None:
        """A database that a daemon has open can be used; the command says who has it."""
        text = self.txapns("database", "check")
        self.assertRegex(text, r"^ok       .*apns\.db can be used, with SQLite 3\.")
        self.assertRegex(text, r"ok       .* is in use by another process, number \d+\n")
        rows = [json.loads(line) for line in self.txapns("database", "check", "--json").splitlines()]
        self.assertEqual({row["kind"] for row in rows}, {"ok"})

    def test_unused(self) -> None:
        """One that nobody has open, or that is not there yet, is no fault, either."""
        self.world.close()
        self.assertIn("ok       no daemon has it open\n", self.txapns("database", "check"))
        self.config("database.path = 'other.db'")
        self.assertRegex(self.txapns("database", "check"), r"^ok       there is no file .*other\.db yet")
        self.assertFalse((self.world.directory / "other.db").exists())

    def test_faults(self) -> None:
        """What keeps the daemon from working is told by the exit status, too."""
        self.world.write("other.db", b"another program's" * 100)
        for text, words in (
            ("database.path = 'none/apns.db'", "there is no directory"),
            ("database.path = 'other.db'", "is damaged, or not a database"),
        ):
            self.config(text)
            result = self.invoke("database", "check")
            self.assertEqual((result.exit_code, result.stderr), (UNUSABLE, ""))
            self.assertRegex(result.stdout, f"^fault    .*{words}")


class MigrateTests(CommandCase):
    """``txapns database migrate``."""

    def test_made(self) -> None:
        """Tables that are missing are made, and those that are there stay."""
        self.config("database.path = 'new.db'")
        modules = ("queue", "outcomes", "feedback", "tokens", "apps", "keys")
        expected = "".join(f"{name}: made version [0-9]+\n" for name in modules)
        self.assertRegex(self.txapns("database", "migrate"), f"^{expected}$")
        self.assertEqual(self.txapns("database", "migrate"), "all tables are up to date\n")

    def test_in_use(self) -> None:
        """No table is changed while a daemon has the database open."""
        self.assertRegex(self.refused("database", "migrate"), "is in use by another process")


class CopyTests(CommandCase):
    """``txapns database copy``."""

    def setUp(self) -> None:
        """Fill a database, and configure another one."""
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "old.toml").write_text("database.path = 'old.db'")
        (self.directory / "new.toml").write_text("database.path = 'new.db'")
        world = SQLiteWorld(self.directory / "old.db")
        filled(world)
        self.before = seen(world)
        world.stop()
        with copying(self.directory / "old.db") as source:
            self.counts = {name: source.count(kind) for kind, name in KINDS.items()}
        self.arguments = (
            "database",
            "copy",
            "--from",
            self.directory / "old.toml",
            "--to",
            self.directory / "new.toml",
        )

    def test_copied(self) -> None:
        """Everything is copied and counted, and a daemon that starts there goes on."""
        text = self.txapns(*self.arguments)
        self.assertEqual(text.splitlines(), [f"{name}: {count}" for name, count in self.counts.items()])
        self.assertEqual(0 in self.counts.values(), False)
        world = SQLiteWorld(self.directory / "new.db")
        self.addCleanup(world.stop)
        self.assertEqual(seen(world), self.before)

    def test_not_empty(self) -> None:
        """A database that has something is not copied to."""
        self.txapns(*self.arguments)
        names = ", ".join(self.counts)
        self.assertIn(f"new.toml is not empty: it has {names}", self.refused(*self.arguments))

    def test_nothing_there(self) -> None:
        """What is not there cannot be copied, and is not made."""
        (self.directory / "old.toml").write_text("database.path = 'none.db'")
        self.assertRegex(self.refused(*self.arguments), r"there is no database .*none\.db")
        self.assertFalse((self.directory / "none.db").exists())
        self.assertFalse((self.directory / "new.db").exists())

    def test_in_use(self) -> None:
        """Nothing is copied while a daemon has either database open."""
        for name in ("old.db", "new.db"):
            world = SQLiteWorld(self.directory / name)
            self.assertRegex(self.refused(*self.arguments), rf"{name} is in use by another process")
            world.stop()

    def test_damaged(self) -> None:
        """What cannot be read is left out, and the command says so."""
        with closing(sqlite3.connect(self.directory / "old.db")) as connection, connection:
            connection.execute("UPDATE queue_delivery SET apns_id = x'00' WHERE number = 1")
        text = self.txapns(*self.arguments)
        count = self.counts["notifications"] - 1
        self.assertIn(f"notifications: {count}, without 1 that cannot be read\n", text)
