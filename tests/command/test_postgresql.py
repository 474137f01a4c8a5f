"""Tests of the commands on a database of PostgreSQL, as from a machine that has only its URL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import invoke
from tests.command.processes import txapns
from tests.daemon.store.copy_contract import filled, seen
from tests.daemon.store.postgresql.test_copying import PostgreSQLPlace
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.command.streams import UNUSABLE
from txapns.daemon.secrets.master_key import VARIABLE
from txapns.daemon.store.postgresql.tables import QUEUE
from txapns.simulator import Authority

__all__ = ["CommandTests", "DatabaseTests", "QueueTests"]


class PostgreSQLCase(SynchronousTestCase):
    """A configuration with a url, and the command."""

    def setUp(self) -> None:
        """Write it."""
        self.place = PostgreSQLPlace(self)
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)
        self.config = self.configure("apns.toml")

    def configure(self, name: str, more: str = "") -> Path:
        """Write a configuration with the url; returns the file."""
        path = self.directory / name
        url = f"url = '{self.place.schema.url}'\nschema = '{self.place.schema.name}'"
        path.write_text(f"{more}\n[database]\n{url}\n[node]\nname = 'push-1'")
        return path

    def invoke(self, *arguments: str | Path) -> Result:
        """Run the command."""
        return invoke(*arguments, env={"TXAPNS_CONFIG": str(self.config), VARIABLE: None})

    def txapns(self, *arguments: str | Path) -> str:
        """Run the command; returns its output."""
        result = self.invoke(*arguments)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def refused(self, *arguments: str | Path) -> str:
        """Run the command, which must fail without output; returns its error message."""
        result = self.invoke(*arguments)
        self.assertEqual((result.exit_code, result.stdout), (UNUSABLE, ""), result.output)
        return result.stderr


@pytest.mark.loopback
class CommandTests(PostgreSQLCase):
    """``txapns apps``, ``keys`` and ``check-config``."""

    def test_apps(self) -> None:
        """Apps are added, listed, given new credentials and removed."""
        certificate = self.directory / "a.pem"
        certificate.touch(mode=0o600)
        certificate.write_bytes(Authority().client_pem())
        self.assertIn("added chess", self.txapns("apps", "add", "chess", "--certificate", certificate))
        self.assertIn("there is an app chess", self.refused("apps", "add", "chess", "--certificate", certificate))
        [row] = [json.loads(line) for line in self.txapns("apps", "list", "--json").splitlines()]
        self.assertEqual((row["name"], row["source"], row["problem"]), ("chess", "database", None))
        self.assertIn("rotated chess", self.txapns("apps", "rotate", "chess", "--certificate", certificate))
        self.assertIn("encrypted 1 credential", self.txapns("apps", "rekey"))
        self.assertIn("can be used", self.txapns("check-config"))
        self.place.execute("UPDATE app SET encrypted = 'x'")
        self.assertIn("the app chess in the database: the master key does not decrypt it", self.refused("check-config"))
        self.assertEqual(self.txapns("apps", "remove", "chess"), "removed chess\n")

    def test_keys(self) -> None:
        """So are keys."""
        self.assertRegex(self.txapns("keys", "add", "web", "--all-apps"), "^txapns_")
        self.assertIn("there is a key called web", self.refused("keys", "add", "web", "--all-apps"))
        [row] = [json.loads(line) for line in self.txapns("keys", "list", "--json").splitlines()]
        self.assertEqual((row["label"], row["send"], row["manage"]), ("web", "all", False))
        self.assertEqual(self.txapns("keys", "remove", "web"), "removed web\n")

    def test_nothing_made(self) -> None:
        """To check a configuration makes no tables."""
        self.assertIn("can be used", self.txapns("check-config"))
        self.assertEqual(self.place.execute("SELECT to_regclass('schema_version')"), [(None,)])

    def test_faults(self) -> None:
        """What is wrong with the database is told, and no password is."""
        (self.directory / "password").write_text("hush-hush")
        (self.directory / "password").chmod(0o644)
        url = "postgresql://x@127.0.0.1:1/x?connect_timeout=2"
        for text, words in (
            (f"url = '{url}'", "database.url: postgresql://127.0.0.1:1/x: the database is away"),
            (f"url = '{url}'\npassword_file = 'none'", "none: No such file or directory"),
            (f"url = '{url}'\npassword_file = 'password'", "password holds a secret, and other users have access"),
            ("url = 'postgresql://127.0.0.1:x/x'", "database.url: "),
            (f"url = '{url}&nonsense=1'", "database.url: "),
        ):
            self.config.write_text(f"[database]\n{text}")
            said = self.refused("check-config")
            self.assertIn(words, said)
            self.assertNotIn("hush", said)


@pytest.mark.loopback
class DatabaseTests(PostgreSQLCase):
    """``txapns database``."""

    def test_migrated_and_checked(self) -> None:
        """The tables are made, and what is there is told, with the nodes and what they differ in."""
        self.assertIn("has no tables for nodes, queue, ", self.txapns("database", "check"))
        self.assertIn(f"queue: made version {QUEUE.known}\n", self.txapns("database", "migrate"))
        self.assertEqual(self.txapns("database", "migrate"), "all tables are up to date\n")
        now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        for name, version in (("push-1", "0.1"), ("push-2", "0.2")):
            self.place.execute(
                f"INSERT INTO node VALUES ('{name}', gen_random_uuid(), '{version}', '', {now}, {now}, {now} + 90000,"
                " 0, 7)"
            )
        text = self.txapns("database", "check")
        self.assertRegex(text, r"ok       node push-1: alive, version 0\.1, 7 in flight, heard of \d+ s ago\n")
        self.assertIn("warning  the nodes have different versions: push-1; push-2\n", text)

    def test_faults(self) -> None:
        """What keeps the daemon from working is told by the exit status, too."""
        self.config.write_text("database.url = 'postgresql://x@127.0.0.1:1/x?connect_timeout=2'")
        result = self.invoke("database", "check")
        self.assertEqual((result.exit_code, result.stderr), (UNUSABLE, ""))
        self.assertRegex(result.stdout, "^fault    postgresql://127.0.0.1:1/x: the database is away")

    def test_copied(self) -> None:
        """Everything is copied from SQLite and back."""
        for name in ("old", "back"):
            (self.directory / f"{name}.toml").write_text(f"database.path = '{name}.db'")
        world = SQLiteWorld(self.directory / "old.db")
        filled(world)
        before = seen(world)
        world.stop()
        text = ""
        for source, target in (("old", "apns"), ("apns", "back")):
            files = self.directory / f"{source}.toml", self.directory / f"{target}.toml"
            text = self.txapns("database", "copy", "--from", files[0], "--to", files[1])
            self.assertIn("notifications: 12\n", text)
            self.assertIn("is not empty", self.refused("database", "copy", "--from", files[0], "--to", files[1]))
        world = SQLiteWorld(self.directory / "back.db")
        self.addCleanup(world.stop)
        self.assertEqual(seen(world), before)


@pytest.mark.loopback
class QueueTests(PostgreSQLCase):
    """``txapns queue``, while a node works."""

    def run_queue(self, *arguments: str) -> str:
        """Run the command; returns its output."""
        done = txapns("queue", *arguments, "--config", str(self.config))
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """List as JSON."""
        return [json.loads(line) for line in self.run_queue("list", *arguments, "--json").splitlines()]

    def test_life(self) -> None:
        """Notifications are listed, retried and deleted without a daemon's help, and the daemon counts them."""
        world = self.place.start()
        self.addCleanup(world.stop)
        filled(world)
        nodes = world.execute("SELECT name, incarnation FROM node")
        [dead] = self.rows("chess")
        self.assertEqual((dead["state"], dead["reason"]), ("dead", "ConnectionLost"))
        self.assertEqual(self.run_queue("retry", "chess"), "waiting again: 1\n")
        waiting = self.rows("chess", "--state", "waiting")
        self.assertIn(dead["id"], [row["id"] for row in waiting])
        world.clock.advance(2.0)
        self.assertEqual(world.queue.waiting("chess").count, len(waiting))
        self.assertEqual(self.run_queue("purge", "chess", "--state", "waiting", "--yes"), f"deleted: {len(waiting)}\n")
        world.clock.advance(2.0)
        self.assertEqual(world.queue.waiting("chess").count, 0)
        self.assertEqual(world.execute("SELECT name, incarnation FROM node"), nodes)

    def test_refused(self) -> None:
        """An app that never was is refused, and so is a database that is away."""
        done = txapns("queue", "list", "nope", "--config", str(self.config))
        self.assertEqual((done.returncode, done.stderr), (2, "Error: there is no app nope\n"))
        self.config.write_text("database.url = 'postgresql://x@127.0.0.1:1/x?connect_timeout=2'")
        done = txapns("queue", "list", "nope", "--config", str(self.config))
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "^Error: postgresql://127.0.0.1:1/x: the database is away")
