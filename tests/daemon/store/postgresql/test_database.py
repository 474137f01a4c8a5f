"""Tests for :mod:`txapns.daemon.store.postgresql.database`."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Sequence
from typing import Any
from unittest import SkipTest

import psycopg
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import START, result
from tests.daemon.store.postgresql.opened import ThreadWorkers
from tests.daemon.store.postgresql.words import KILL_AT_COMMIT, WORDS, add, add_all, words
from tests.database_proxy import DatabaseProxy
from tests.ports import reserve
from tests.postgresql import execute, schema, started
from txapns.daemon.errors import DatabaseError, Unavailable
from txapns.daemon.store.postgresql.connection import RETRY
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Connection, Schema
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.workers import IWorker

__all__ = ["AwayTests", "DatabaseTests", "FullDiskTests", "SilenceTests"]


# Words of the way that new data is added in may be refused as if the disk were full.
REFUSE_NEW = """
CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.word = 'new' THEN
        RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refused BEFORE INSERT ON word FOR EACH ROW EXECUTE FUNCTION refused();
"""


def add_more(connection: Connection, items: Sequence[str]) -> list[str | Exception]:
    """Add words in another way."""
    return add_all(connection, items)


@pytest.mark.loopback
class DatabaseTests(SynchronousTestCase):
    """A database without threads."""

    def setUp(self) -> None:
        """Find a place for it."""
        self.place = schema(self)
        self.clock = Clock()
        self.clock.rightNow = START

    def make(self, workers: Callable[[str], IWorker] = lambda name: InlineWorker(), **options: Any) -> Database:
        """Make one."""
        return Database(Settings(self.place.url, schema=self.place.name), self.clock, workers, **options)

    def open(self, **options: Any) -> Database:
        """Make and start one, with a table for words."""
        database = self.make(**options)
        self.result(database.start())
        self.addCleanup(lambda: self.result(database.stop()))
        self.result(database.prepare(WORDS))
        return database

    def result(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.clock, deferred)

    def test_write_and_read(self) -> None:
        """All ways of reading see what was written in both ways."""
        database = self.open()
        self.assertEqual(self.result(database.write(add("hello"))), "HELLO")
        self.assertEqual(self.result(database.write(add("world"), 1)), "WORLD")
        for ask in (database.read, database.between, database.beat):
            self.assertEqual(self.result(ask(words)), ["hello", "world"])

    def test_one_raises(self) -> None:
        """A failing write does not affect the others, whether they use the same function or another."""
        database = self.open()
        self.result(database.write(add("there")))
        stored: list[list[str]] = []
        jobs = [database.write(add(word)) for word in ("a", "there", "b")]
        jobs += [database.write_together(add_all, word, 0, stored.append) for word in ("c", "there", "d")]
        self.clock.advance(1)
        for wrong in (jobs.pop(4), jobs.pop(1)):
            self.failureResultOf(wrong, psycopg.IntegrityError)
        self.assertEqual([self.successResultOf(each) for each in jobs], ["A", "B", "1 c", "1 d"])
        self.assertEqual(self.result(database.read(words)), ["there", "a", "b", "c", "d"])
        self.assertEqual((stored, database.trouble), ([["c"], ["d"]], ""))

    def test_reading_that_raises(self) -> None:
        """Only the one read fails."""
        database = self.open()
        wrong = [getattr(database, name)(lambda connection: 1 // 0) for name in ("between", "read", "beat")]
        self.assertEqual(self.result(database.between(words)), [])
        for each in wrong:
            self.failureResultOf(each, ZeroDivisionError)

    def test_readers_only_read(self) -> None:
        """A function that reads cannot write by mistake."""
        database = self.open()
        self.failureResultOf(database.read(add("a")), Unavailable)

    def test_probe(self) -> None:
        """It tries to write."""
        database = self.open()
        self.assertEqual(self.result(database.probe()), "")

    def test_connections(self) -> None:
        """Acceptance and settlement are on connections of their own: one need not wait for the other."""
        database = self.open()

        def connection_of(connection: Connection) -> object:
            [[name]] = connection.execute("SELECT current_setting('application_name')")
            return name

        asked = [database.write(connection_of), database.write(connection_of, 1)]
        asked += [getattr(database, name)(connection_of) for name in ("between", "read", "beat")]
        names = [self.result(each) for each in asked]
        self.assertEqual(names, [f"txapns {name}" for name in ("settle", "accept", "lease", "read", "beat")])

    def test_stopped(self) -> None:
        """Submitted work is finished before it closes, later work is refused, and stopping again is harmless."""
        database = self.open()
        first, second = database.write(add("a")), database.write(add("b"), 1)
        both = [database.stop(), database.stop()]
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), ("A", "B"))
        for each in both:
            self.successResultOf(each)
        for refused in (database.write(add("c")), database.read(words), database.between(words), database.beat(words)):
            self.failureResultOf(refused, Unavailable)
        self.assertNotEqual(self.successResultOf(database.probe()), "")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.result(database.start())
        self.assertEqual(sorted(self.result(database.read(words))), ["a", "b"])

    def test_not_there(self) -> None:
        """A database that cannot be reached says why at the start, and nothing is left open."""
        [port] = reserve()
        database = Database(
            Settings(f"postgresql://postgres@127.0.0.1:{port}/x"), self.clock, lambda name: InlineWorker()
        )
        error = self.failureResultOf(database.start(), DatabaseError).value
        self.assertIn(f"postgresql://127.0.0.1:{port}/x: the database is away: ", str(error))
        self.assertIn("Connection refused", str(error))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(database.stop())

    def test_one_connection(self) -> None:
        """As long as one of the writers has no connection, new data is refused; it is told once, and the end of it."""
        database = self.open()
        self.result(database.write(add("a"), 1))
        role = f"role_{self.place.name}"
        execute(self.place.url, f"CREATE ROLE {role} SUPERUSER LOGIN")
        execute(self.place.url, f"ALTER ROLE {role} NOSUPERUSER CONNECTION LIMIT 0")
        self.addCleanup(execute, self.place.url, f"DROP ROLE {role}")
        settings = Settings(self.place.url.replace("postgres@", f"{role}@"), schema=self.place.name)
        database._links["settle"].connection.close()
        database._links["settle"].connection._settings = settings
        with capturedLogs() as events:
            for _ in range(3):
                self.failureResultOf(self.wait(database.write(add("b"))), Unavailable)
                self.assertIn("no connection left", database.trouble)
                self.failureResultOf(database.write(add("c"), 1), Unavailable)
                self.clock.advance(RETRY)
            execute(self.place.url, f"ALTER ROLE {role} SUPERUSER CONNECTION LIMIT -1")
            self.clock.advance(2 * RETRY)
            self.assertEqual(database.trouble, "")
        self.assertEqual([event["log_level"].name for event in events], ["error", "info"])
        self.assertEqual(self.result(database.write(add("b"))), "B")
        database._links["settle"].connection.close()

    def wait(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """Let time pass for what is gathered."""
        self.clock.advance(0.01)
        return deferred

    def test_long_migration(self) -> None:
        """A migration may take longer than other transactions."""
        database = self.open(patience=10.0)
        asked = "SELECT current_setting('statement_timeout') AS timeout"
        self.result(database.prepare(Schema("limits", (f"CREATE TABLE limits AS {asked}",))))
        found = [
            self.result(database.read(lambda connection: connection.execute(statement).fetchall()))  # noqa: B023
            for statement in ("SELECT timeout FROM limits", asked)
        ]
        self.assertEqual(found, [[("0",)], [("8s",)]])

    def test_lost_at_commit(self) -> None:
        """What may not have been committed does not count as stored."""
        database = self.open()
        stored: list[list[str]] = []
        execute(f"{self.place.url}&options=-csearch_path%3D{self.place.name}", KILL_AT_COMMIT)
        accepting = database.write_together(add_all, "a", 1, stored.append)
        self.clock.advance(1)
        error = self.failureResultOf(accepting, Unavailable).value
        self.assertIn("the database is", str(error))
        self.assertEqual(stored, [])
        self.assertEqual(self.result(database.write_together(lambda c, items: items, "b", 1)), "b")

    def test_full(self) -> None:
        """While there is no room for new data, the rest is stored, and the trouble ends when there is room again."""
        database = self.open()
        url = f"{self.place.url}&options=-csearch_path%3D{self.place.name}"
        execute(url, REFUSE_NEW)
        new = database.write_together(add_all, "new", 1)
        other = database.write_together(add_more, "old", 1)
        settling = database.write(add("settled"))
        self.clock.advance(1)
        error = self.failureResultOf(new, Unavailable).value
        self.assertEqual((str(error), error.retry_after), ("the database's disk is full", 10.0))
        self.assertEqual((self.successResultOf(other), self.successResultOf(settling)), ("1 old", "SETTLED"))
        self.assertEqual(database.trouble, str(error))
        execute(url, "DROP TRIGGER refused ON word")
        self.assertEqual(self.result(database.write_together(add_all, "new", 1)), "1 new")
        self.assertEqual(database.trouble, "")


@pytest.mark.loopback
@pytest.mark.campaign
class AwayTests(SynchronousTestCase):
    """A server that goes away and comes back."""

    def setUp(self) -> None:
        """Start a server and a database."""
        self.server = started(self)
        self.clock = Clock()
        self.database = Database(Settings(self.server.tcp_url), self.clock, lambda name: InlineWorker())
        self.result(self.database.start())
        self.addCleanup(lambda: self.result(self.database.stop()))
        self.result(self.database.prepare(WORDS))

    def result(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.clock, deferred)

    def refused(self, deferred: Deferred[Any]) -> Unavailable:
        """Tell why something is refused."""
        error = self.assertRaises(Unavailable, self.result, deferred)
        assert isinstance(error, Unavailable) and error.retry_after
        return error

    def test_away(self) -> None:
        """While it is away everything is refused, new data at once; when it is back, everything goes on by itself."""
        self.result(self.database.write(add("a"), 1))
        for end in (self.server.stop, self.server.kill):
            end()
            for asked in (self.database.write(add("b"), 1), self.database.write(add("b")), self.database.read(words)):
                self.assertIn("the database is away", str(self.refused(asked)))
            self.assertIn("the database is away", self.database.trouble)
            self.failureResultOf(self.database.write(add("b"), 1), Unavailable)  # without waiting for anything
            self.assertIn("the database is away", self.result(self.database.probe()))
            self.server.start()
            self.clock.advance(RETRY)
            self.assertEqual(self.database.trouble, "")
            self.clock.advance(RETRY)
            for ask in (self.database.between, self.database.read, self.database.beat):
                self.assertEqual(self.result(ask(words)), ["a"])
            self.assertEqual(self.result(self.database.probe()), "")
        self.assertEqual(self.result(self.database.write(add("b"), 1)), "B")

    def test_noticed(self) -> None:
        """A failure to settle refuses new data, too: there is no connection."""
        self.server.stop()
        self.refused(self.database.write(add("a")))
        self.failureResultOf(self.database.write(add("b"), 1), Unavailable)

    def test_told(self) -> None:
        """The log tells the beginning and the end, once, and never more than where the database is."""
        with capturedLogs() as events:
            self.server.stop()
            for _ in range(3):
                self.refused(self.database.write(add("b"), 1))
                self.clock.advance(RETRY)
            self.server.start()
            self.clock.advance(RETRY)
            self.result(self.database.write(add("b"), 1))
        where = f"postgresql://127.0.0.1:{self.server.port}/postgres"
        said = [formatEvent(event) for event in events]
        self.assertEqual(len(said), 2, said)
        self.assertTrue(said[0].startswith(f"Nothing can be stored in {where}: the database is away: "), said[0])
        self.assertEqual(said[1], f"{where} can be used again")

    def test_read_only(self) -> None:
        """A server that takes no writes any more accepts nothing; what is in flight is settled when it does again."""
        self.server.set(default_transaction_read_only="on")
        for asked in (self.database.write(add("a"), 1), self.database.write(add("b"))):
            self.assertIn("the database is read-only", str(self.refused(asked)))
        self.assertIn("the database is read-only", self.database.trouble)
        self.server.set(default_transaction_read_only="off")
        self.clock.advance(2 * RETRY)
        self.assertEqual(self.database.trouble, "")
        self.assertEqual(self.result(self.database.write(add("b"))), "B")

    def test_warned(self) -> None:
        """What an operator should change about the server is told at the start."""
        self.result(self.database.stop())
        self.server.set(full_page_writes="off")
        with capturedLogs() as events:
            self.result(self.database.start())
        self.assertIn("full_page_writes is off", formatEvent(events[0]))
        self.assertEqual(len(self.database.warnings), 1)


@pytest.mark.loopback
@pytest.mark.campaign
class SilenceTests(SynchronousTestCase):
    """A network that says nothing any more, with the threads of a daemon."""

    def test_silent(self) -> None:
        """
        What waits for an answer fails when patience has ended, and new data is refused, until the network is back.

        Stopping does not wait for longer, either.
        """
        server = started(self)
        proxy = DatabaseProxy(self, server.port)
        workers = ThreadWorkers()
        settings = Settings(f"{proxy.url(server.tcp_url)}?connect_timeout=2")
        database = Database(settings, workers.clock, workers.make)
        workers.result(database.start())
        workers.result(database.prepare(WORDS))
        workers.result(database.write(add("a"), 1))
        proxy.stop()
        asked = [database.write(add("b"), 1), database.write(add("c"))]
        for each in asked:
            error = self.assertRaises(Unavailable, workers.result, each, 1.0)
            self.assertIn("the database is away", str(error))
        self.assertIn("the database is away", database.trouble)
        self.failureResultOf(database.write(add("d"), 1), Unavailable)
        proxy.passing()
        workers.until(lambda: not database.trouble, 0.1)
        self.assertEqual(workers.result(database.write(add("e"), 1)), "E")
        proxy.stop()
        asked = [database.write(add("f"), 1), database.beat(words)]
        workers.result(database.stop(), 1.0)
        for each in asked:
            self.failureResultOf(each, Unavailable)
        self.assertEqual(workers.clock.getDelayedCalls(), [])


@pytest.mark.loopback
@pytest.mark.campaign
class FullDiskTests(SynchronousTestCase):
    """A disk that is full."""

    def setUp(self) -> None:
        """Start a server whose tables are on a small disk of their own."""
        self.server = started(self)
        self.disk = self.server.directory / "disk"
        self.disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", self.disk], check=False)
        if mounted.returncode:
            self.disk.rmdir()
            raise SkipTest("no right to mount a small disk")
        self.addCleanup(subprocess.run, ["umount", self.disk], check=True)
        self.addCleanup(self.server.stop)
        owner = self.server.directory.stat()
        os.chown(self.disk, owner.st_uid, owner.st_gid)
        self.server.execute(f"CREATE TABLESPACE small LOCATION '{self.disk}'")
        self.server.set(default_tablespace="small")

    def test_full(self) -> None:
        """New data is refused while the disk is full, and nothing of it is there; with more room all goes on."""
        clock = Clock()
        database = Database(Settings(self.server.tcp_url), clock, lambda name: InlineWorker())
        result(clock, database.start())
        result(clock, database.prepare(Schema("texts", ("CREATE TABLE texts (text text)",))))

        def add(connection: Connection) -> None:
            connection.execute("INSERT INTO texts VALUES (%s)", [secrets.token_hex(100_000)])

        def count(connection: Connection) -> int:
            [[found]] = connection.execute("SELECT count(*) FROM texts WHERE length(text) = 200000")
            return int(found)

        stored = 0
        with self.assertRaises(Unavailable) as refused:
            for _ in range(100):
                result(clock, database.write(add, 1))
                stored += 1
        self.assertEqual(str(refused.exception), "the database's disk is full")
        self.assertEqual(database.trouble, str(refused.exception))
        self.assertEqual(result(clock, database.read(count)), stored)
        subprocess.run(["mount", "-o", "remount,size=64M", self.disk], check=True)
        result(clock, database.write(add, 1))
        self.assertEqual((result(clock, database.read(count)), database.trouble), (stored + 1, ""))
        result(clock, database.stop())
