"""Tests for :mod:`txapns.daemon.store.sqlite.file`: a file that can be opened, and those that cannot."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import START, message, result
from tests.daemon.store.sqlite.words import WORDS, add, add_all
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseExposed,
    DatabaseInUse,
    DatabaseVersion,
    Unavailable,
)
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.file import APPLICATION
from txapns.daemon.values import Settlement, State

__all__ = ["FileTests"]


class FileTests(SynchronousTestCase):
    """Files that can be opened, and files that are refused or damaged."""

    def open(self, path: str) -> Database:
        """Start a database, or raise the error."""
        self.clock = Clock()
        database = Database(path, self.clock, lambda name: InlineWorker())
        result(self.clock, database.start())
        self.addCleanup(lambda: result(self.clock, database.stop()))
        return database

    def refused(self, path: str, error: type[DatabaseError], words: str) -> None:
        """The error names the file, and stopping afterwards is harmless."""
        database = Database(path, Clock(), lambda name: InlineWorker(), patience=0.01)
        raised = self.assertRaises(error, result, Clock(), database.start())
        self.assertIn(path, str(raised))
        self.assertIn(words, str(raised))
        self.successResultOf(database.stop())

    def test_mode(self) -> None:
        """Only the owner can read it and the files beside it, whatever the umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        database = self.open(self.mktemp())
        result(self.clock, database.prepare(WORDS))
        modes = {path.name: path.stat().st_mode & 0o777 for path in database.path.parent.glob(f"{database.path.name}*")}
        self.assertEqual(set(modes.values()), {0o600})
        self.assertEqual(len(modes), 4, modes)

    def test_exposed(self) -> None:
        """A file that others can read is refused, and left as it is."""
        path = self.mktemp()
        result(Clock(), self.open(path).stop())
        for mode in (0o640, 0o604, 0o620):
            Path(path).chmod(mode)
            self.refused(path, DatabaseExposed, f"{mode:04o}")
            self.assertEqual(Path(path).stat().st_mode & 0o777, mode)
        Path(path).chmod(0o600)
        self.open(path)

    def test_in_use(self) -> None:
        """A second process cannot open it until the first has closed it."""
        path = self.mktemp()
        first = self.open(path)
        self.refused(path, DatabaseInUse, f"in use by another process, number {os.getpid()}")
        result(self.clock, first.stop())
        self.open(path)

    def test_locked_at_start(self) -> None:
        """The same holds while another program has it locked, such as one that copies it."""
        path = self.mktemp()
        Path(path).touch(0o600)
        other = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        self.refused(path, DatabaseInUse, "locked by another process")
        other.execute("COMMIT")
        database = self.open(path)
        other.execute("BEGIN IMMEDIATE")
        error = self.assertRaises(DatabaseError, result, self.clock, database.prepare(WORDS))
        self.assertIn("another process has the database locked", str(error))

    def test_no_database(self) -> None:
        """A file of another kind is refused, and left as it is."""
        for content in (b"no database " * 1000, b"SQLite format 3\0" + b"\xff" * 5000):
            path = Path(self.mktemp())
            path.touch(0o600)
            path.write_bytes(content)
            self.refused(str(path), DatabaseCorrupt, "damaged, or not a database")
            self.assertEqual(path.read_bytes(), content)

    def test_foreign_database(self) -> None:
        """So is the database of another program."""
        path = self.mktemp()
        Path(path).touch(0o600)
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE bookmarks (url TEXT)")
        other.close()
        self.refused(path, DatabaseCorrupt, "another program")

    def test_before_the_first_release(self) -> None:
        """So is one of ours whose tables had other names."""
        path = self.mktemp()
        Path(path).touch(0o600)
        with sqlite3.connect(path) as other:
            other.execute(f"PRAGMA application_id = {APPLICATION}")
            other.execute("CREATE TABLE part (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")
        other.close()
        self.refused(path, DatabaseVersion, "before the first release")

    def test_no_file(self) -> None:
        """A missing directory, and a directory in the file's place, are reported."""
        self.refused("/nowhere/at/all", DatabaseError, "No such file")
        directory = self.mktemp()
        Path(directory).mkdir(0o700)
        self.refused(directory, DatabaseError, "is not a regular file")

    def test_damaged(self) -> None:
        """Damage that shows only later is reported, and nothing is acknowledged."""
        path = self.mktemp()
        database = self.open(path)
        result(self.clock, database.prepare(WORDS))
        for _ in range(100):
            result(
                self.clock,
                database.write(lambda c: c.execute("INSERT INTO word VALUES (hex(randomblob(500)))").lastrowid),
            )
        result(self.clock, database.stop())
        with Path(path).open("r+b") as file:
            file.seek(8192)
            file.write(b"\xa5" * 20_000)
        damaged = self.open(path)
        self.assertIn("damaged", damaged.trouble)
        error = self.assertRaises(Unavailable, result, self.clock, damaged.write(add("a")))
        self.assertIn("damaged", str(error))
        self.assertIn("damaged", result(self.clock, damaged.probe()))

    def test_written_to_by_others(self) -> None:
        """If another program writes to the open file, it is checked before anything new is stored."""

        def checkpoint(path: Path) -> None:
            """Do what any program that has it open may do."""
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        def overwrite(path: Path) -> None:
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xa5" * 20_000)

        def cut(path: Path) -> None:
            os.truncate(path, 8192)

        for harm, damaged in ((checkpoint, False), (overwrite, True), (cut, True)):
            world = SQLiteWorld(Path(self.mktemp()))
            self.addCleanup(world.stop)
            result(world.clock, world.queue.accept([message(world, 5_000)]))
            checkpoint(world.path)
            self.assertEqual(result(world.clock, world.database.probe()), "")
            os.utime(world.path, (0, 0))  # or it might be the same moment
            harm(world.path)
            accepting = world.queue.accept([message(world)])
            world.clock.advance(1)
            if damaged:
                self.assertIn("damaged", str(self.failureResultOf(accepting, Unavailable).value))
                self.assertIn("damaged", result(world.clock, world.database.probe()))
            else:
                self.successResultOf(accepting)
                self.assertEqual(world.database.trouble, "")

    def test_cut_beside(self) -> None:
        """If the journal was cut, that is noticed before anything new is stored."""
        world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        for _ in range(2):
            result(world.clock, world.queue.accept([message(world, 2_000)]))
        os.truncate(f"{world.path}-wal", 0)
        self.assertRaises(Unavailable, result, world.clock, world.queue.accept([message(world)]))
        self.assertIn("damaged", world.database.trouble)

    def test_missing_table(self) -> None:
        """A database without one of its tables is damaged."""
        world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        result(world.clock, world.queue.accept([message(world)]))
        [leased] = result(world.clock, world.queue.lease("chess", 1, START + 60))
        with closing(sqlite3.connect(world.path)) as other:
            other.execute("DROP TABLE queue_delivery")
        settling = world.queue.settle([Settlement(leased.number, State.ACCEPTED, 200)])
        self.assertRaises(Unavailable, result, world.clock, settling)
        self.assertIn("damaged", world.database.trouble)

    def test_damaged_while_open(self) -> None:
        """Damage met by a read is remembered, even if the next transaction succeeds."""
        path = self.mktemp()
        database = self.open(path)
        self.assertEqual(database.trouble, "")

        def read(connection: sqlite3.Connection) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        self.assertRaises(Unavailable, result, self.clock, database.read(read))
        self.assertIn("damaged", result(self.clock, database.probe()))
        self.assertRaises(Unavailable, result, self.clock, database.write_together(add_all, "a", 1))
        result(self.clock, database.stop())
        self.assertEqual(self.open(path).trouble, "")
