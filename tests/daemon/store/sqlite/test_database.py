"""Tests for :mod:`txapns.daemon.store.sqlite.database`: normal operation, and each way in which a disk can fail."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.daemon.fakes import InlineWorker, SlowWorker
from tests.daemon.store.contract import START, message, result
from tests.daemon.store.sqlite.words import WORDS, add, add_all, words
from tests.daemon.store.sqlite.world import SQLiteWorld
from tests.processes import started
from txapns.daemon.errors import (
    DatabaseInUse,
    Unavailable,
)
from txapns.daemon.store.sqlite import file
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.workers import IWorker
from txapns.daemon.values import Settlement, State

__all__ = [
    "DatabaseTests",
    "DiskTests",
    "LockedTests",
    "LoggedTests",
    "NoRoomTests",
    "ProbeTests",
    "SeparateProcessTests",
    "WorkerTests",
]

_R = TypeVar("_R")


class DatabaseTests(SynchronousTestCase):
    """A database without threads, or with workers that the test runs."""

    def make(self, workers: Callable[[str], IWorker] = lambda name: InlineWorker(), **options: Any) -> Database:
        """Make one."""
        self.clock = Clock()
        self.clock.rightNow = START
        return Database(self.mktemp(), self.clock, workers, **options)

    def open(self, **options: Any) -> Database:
        """Make and start one, with a table for words."""
        database = self.make(**options)
        self.result(database.start())
        self.result(database.prepare(WORDS))
        self.addCleanup(lambda: self.result(database.stop()))
        return database

    def result(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.clock, deferred)

    def transactions(self, database: Database) -> list[str]:
        """Record the beginnings and ends of transactions."""
        found: list[str] = []
        database._file.writing.set_trace_callback(
            lambda statement: (
                found.append(statement) if statement.split()[0] in ("BEGIN", "COMMIT", "ROLLBACK") else None
            )
        )
        return found

    def test_write_and_read(self) -> None:
        """Both ways of reading see what was written."""
        database = self.open()
        self.assertEqual(self.result(database.write(add("hello"))), "HELLO")
        self.assertEqual(self.result(database.read(words)), ["hello"])
        self.assertEqual(self.result(database.between(words)), ["hello"])

    def test_gathered(self) -> None:
        """Writes of one turn share a transaction; a read between transactions need not wait for it."""
        database = self.open()
        found = self.transactions(database)
        reading = database.between(words)
        writing = [database.write(add(word)) for word in "abc"]
        self.assertEqual((found, [each.called for each in writing]), ([], [False] * 3))
        self.clock.advance(0)
        self.assertEqual(found, ["BEGIN IMMEDIATE", "COMMIT"])
        self.assertEqual([self.successResultOf(each) for each in writing], ["A", "B", "C"])
        self.assertEqual(
            (self.successResultOf(reading), self.successResultOf(database.between(words))), ([], ["a", "b", "c"])
        )

    def test_together(self) -> None:
        """One call of a function serves all items that wait for it, and each item has its own result."""
        database = self.open()
        stored: list[list[str]] = []
        names = ["a", "nobody", "b"]
        first, second, third = (database.write_together(add_all, word, 1, stored.append) for word in names)
        self.assertEqual(self.result(first), "3 a")
        self.assertIsInstance(self.failureResultOf(second).value, LookupError)
        self.assertEqual((self.successResultOf(third), stored), ("3 b", [["a", "b"]]))

    def test_one_raises(self) -> None:
        """A failing write does not affect the others, whether they use the same function or another."""
        database = self.open()
        self.result(database.write(add("there")))
        stored: list[list[str]] = []
        jobs = [database.write(add(word)) for word in ("a", "there", "b")]
        jobs += [database.write_together(add_all, word, 1, stored.append) for word in ("c", "there", "d")]
        self.clock.advance(1)
        for wrong in (jobs.pop(4), jobs.pop(1)):
            self.failureResultOf(wrong, sqlite3.IntegrityError)
        self.assertEqual([self.successResultOf(each) for each in jobs], ["A", "B", "1 c", "1 d"])
        self.assertEqual(self.result(database.read(words)), ["there", "a", "b", "c", "d"])
        self.assertEqual((stored, database.trouble), ([["c"], ["d"]], ""))

    def test_reading_that_raises(self) -> None:
        """Only the one read fails."""
        database = self.open()
        wrong = [getattr(database, name)(lambda connection: 1 // 0) for name in ("between", "read")]
        right = database.between(words)
        self.assertEqual(self.result(right), [])
        for each in wrong:
            self.failureResultOf(each, ZeroDivisionError)

    def test_readers_only_read(self) -> None:
        """A function in the reader's thread cannot write by mistake."""
        database = self.open()
        self.failureResultOf(database.read(add("a")), Unavailable)

    def test_in_turn(self) -> None:
        """While one transaction is being written the next gathers, and nothing fires before it is stored."""
        workers: dict[str, SlowWorker] = {}
        database = self.make(lambda name: workers.setdefault(name, SlowWorker(name)))
        started = database.start()
        writer = workers["txapns-writer"]
        writer.work()
        self.successResultOf(started)
        prepared = database.prepare(WORDS)
        self.clock.advance(1)
        first = database.write(add("a"))
        self.clock.advance(1)
        self.assertEqual((len(writer.left), prepared.called), (1, False))
        writer.work()
        self.assertEqual((prepared.called, first.called), (True, False))
        self.clock.advance(0)
        second = database.write(add("b"))
        writer.work()
        self.assertEqual((first.called, second.called), (True, False))
        stopped = database.stop()
        writer.work()
        self.assertEqual(self.successResultOf(second), "B")
        workers["txapns-reader"].work()
        writer.work()
        self.successResultOf(stopped)
        self.assertEqual([each.stopped for each in workers.values()], [True, True])

    def test_stopped_while_opening(self) -> None:
        """A database stopped while it opens is closed as soon as it is open, and releases the lock."""
        workers: dict[str, SlowWorker] = {}
        database = self.make(lambda name: workers.setdefault(name, SlowWorker(name)))
        started, stopped = database.start(), database.stop()
        for name in ("txapns-writer", "txapns-reader", "txapns-writer"):
            self.assertNoResult(stopped)
            workers[name].work()
        self.successResultOf(started)
        self.successResultOf(stopped)
        self.failureResultOf(database.write(add("a")), Unavailable)
        again = Database(database.path, self.clock, lambda name: InlineWorker())
        self.result(again.start())
        self.result(again.stop())

    def test_directory_gone(self) -> None:
        """Everyone learns of it, even if the directory is gone; writes without a size are done."""
        database = self.open()
        other = database.path.parent.rename(Path(self.mktemp()))
        self.addCleanup(other.rename, database.path.parent)
        writing = database.write_together(add_all, "a", 1)
        self.clock.advance(1)
        self.assertIn("was removed", str(self.failureResultOf(writing, Unavailable).value))
        self.assertEqual(self.result(database.write(add("b"))), "B")
        self.assertIn("was removed", database.trouble)
        self.failureResultOf(database.write_together(add_all, "c", 1), Unavailable)

    def test_removed(self) -> None:
        """Once the file is gone, new data is refused, waiting data too; writes without a size are done."""
        database = self.open()
        together = [database.write_together(add_all, "a", 1), database.write(add("b"))]
        away = database.path.rename(Path(self.mktemp()))
        together.append(database.write_together(add_all, "c", 1))
        self.clock.advance(1)
        self.assertIn("was removed", str(self.failureResultOf(together[0], Unavailable).value))
        self.assertEqual(self.successResultOf(together[1]), "B")
        self.failureResultOf(together[2], Unavailable)
        self.assertIn("was removed", self.result(database.probe()))
        away.rename(database.path)
        self.assertEqual(self.result(database.probe()), "")
        self.assertEqual(self.result(database.write_together(add_all, "d", 1)), "1 d")
        self.assertEqual(self.result(database.read(words)), ["b", "d"])

    def test_capacity(self) -> None:
        """Waiting writes are bounded in bytes; beyond that they are refused, except those without a size."""
        database = self.open(capacity=10)
        waiting = [database.write_together(add_all, word, 5) for word in "ab"]
        error = self.failureResultOf(database.write_together(add_all, "c", 1), Unavailable).value
        self.assertEqual(error.retry_after, 1.0)
        must = database.write_together(add_all, "d")
        self.assertEqual([self.result(each) for each in [*waiting, must]], ["3 a", "3 b", "3 d"])
        self.assertEqual(self.result(database.write_together(add_all, "e", 10)), "1 e")

    def test_large(self) -> None:
        """A large amount is divided among transactions, so that writes without a size need not wait for all of it."""
        database = self.open()
        found = self.transactions(database)
        large = [database.write_together(add_all, word, 2**20) for word in "abcd"]
        small = [database.write_together(add_all, word) for word in "ef"]
        self.assertEqual([self.result(each) for each in [*large, *small]], ["5 a", "5 b", "5 c", "1 d", "5 e", "5 f"])
        self.assertEqual(found, ["BEGIN IMMEDIATE", "COMMIT"] * 2)

    def test_flush(self) -> None:
        """A flush writes at once, and ends when everything is written, in as many transactions as it takes."""
        database = self.open()
        large = [database.write_together(add_all, word, 2**21) for word in "abcd"]
        self.successResultOf(database.flush())
        self.assertEqual([self.successResultOf(each) for each in large], ["2 a", "2 b", "2 c", "2 d"])
        self.successResultOf(database.flush())
        self.assertEqual(self.result(database.write(add("e"))), "E")

    def test_stop(self) -> None:
        """Submitted work is finished before it closes, later work is refused, and stopping again is harmless."""
        database = self.open()
        first, reading = database.write(add("a")), database.between(words)
        both = [database.stop(), database.stop()]
        self.assertEqual((self.successResultOf(first), self.successResultOf(reading)), ("A", []))
        for each in both:
            self.successResultOf(each)
        for refused in (database.write(add("b")), database.read(words), database.between(words)):
            self.failureResultOf(refused, Unavailable)
        self.assertEqual(
            sorted(path.name for path in database.path.parent.iterdir()),
            [database.path.name, f"{database.path.name}.lock"],
        )

    def test_cancelled(self) -> None:
        """Cancelling a write is harmless; it is stored all the same."""
        database = self.open()
        cancelled = database.write(add("a"))
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.clock.advance(1)
        self.assertEqual(self.result(database.between(words)), ["a"])

    def test_callbacks_that_write(self) -> None:
        """Writes that start further writes do not recurse."""
        database = self.open()
        left = list(range(500))

        def more(found: str) -> Any:
            return database.write(add(str(left.pop()))).addCallback(more) if left else found

        writing = more("")
        for _ in range(1000):
            self.clock.advance(0.002)
        self.assertEqual(self.successResultOf(writing), "0")


class NoRoomTests(SynchronousTestCase):
    """A full disk: SQLite may use no more pages than it has."""

    def setUp(self) -> None:
        """Make a queue with something in it."""
        self.world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(self.world.stop)
        self.do(self.world.queue.accept([message(self.world, 100)]))

    def do(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.world.clock, deferred)

    def pages(self, more: int) -> None:
        """Let the file grow by some pages and no further."""

        def limit(connection: sqlite3.Connection) -> None:
            [(count,)] = connection.execute("PRAGMA page_count")
            connection.execute(f"PRAGMA max_page_count = {count + more}")

        self.do(self.world.database.between(limit))

    def test_full(self) -> None:
        """What does not fit is refused as a whole, what fits is done; with room again, everything goes on."""
        leased = self.do(self.world.queue.lease("chess", 10, START + 60))
        self.pages(0)
        big = self.world.queue.accept([message(self.world, 3000, start=1000)])
        settling = self.world.queue.settle([Settlement(each.number, State.ACCEPTED, 200) for each in leased])
        error = self.assertRaises(Unavailable, self.do, big)
        self.assertEqual((str(error), error.retry_after), ("the disk is full", 10.0))
        self.assertIsNone(self.successResultOf(settling))
        self.assertEqual(
            (self.world.queue.waiting("chess").count, self.world.database.trouble), (90, "the disk is full")
        )
        self.assertEqual(len(self.do(self.world.queue.lease("chess", 1000, START + 60))), 90)
        self.pages(10_000)
        self.do(self.world.queue.accept([message(self.world, 3000, start=1000)]))
        self.assertEqual((self.world.queue.waiting("chess").count, self.world.database.trouble), (3090, ""))
        [(check,)] = self.do(self.world.database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()))
        self.assertEqual(check, "ok")

    def test_nothing_left_behind(self) -> None:
        """Nothing of what was refused is there after a restart."""
        self.pages(3)
        for _ in range(3):
            self.assertRaises(Unavailable, self.do, self.world.queue.accept([message(self.world, 3000, "news")]))
        self.world.restart()
        self.assertEqual([self.world.queue.waiting(app).count for app in ("chess", "news")], [100, 0])
        self.do(self.world.queue.accept([message(self.world, 3000, "news")]))
        self.assertEqual(len(self.do(self.world.queue.lease("news", 5000, START + 60))), 3000)

    def test_nearly_full(self) -> None:
        """The last room on the disk is kept for the outcomes of accepted notifications."""
        leased = self.do(self.world.queue.lease("chess", 10, START + 60))
        self.world.options = {"reserve": 2**80}
        self.world.restart()
        for _ in range(2):
            error = self.assertRaises(Unavailable, self.do, self.world.queue.accept([message(self.world)]))
        self.assertEqual((str(error), error.retry_after), ("the disk is nearly full", 10.0))
        self.assertEqual(self.world.database.trouble, str(error))
        self.do(self.world.queue.settle([Settlement(each.number, State.ACCEPTED, 200) for each in leased]))
        self.assertEqual((self.world.queue.waiting("chess").count, self.world.database.trouble), (90, str(error)))
        self.world.options = {}
        self.world.restart()
        self.do(self.world.queue.accept([message(self.world)]))
        self.assertEqual(self.world.database.trouble, "")


class DiskTests(SynchronousTestCase):
    """What waits for the disk, and a disk that fails."""

    def setUp(self) -> None:
        """Make a queue with something in it, and a disk that works."""
        self.failing: set[str] = set()
        self.waits = 0
        self.patch(file, "_fdatasync", self.wait)
        self.world = SQLiteWorld(Path(self.mktemp()), patience=0.01)
        self.addCleanup(self.world.stop)
        self.do(self.world.queue.accept([message(self.world, 100)]))

    def wait(self, descriptor: int) -> None:
        """Wait for the disk."""
        self.waits += 1
        if self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def do(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.world.clock, deferred)

    def settle(self) -> None:
        """Lease and settle a notification."""
        [leased] = self.do(self.world.queue.lease("chess", 1, START + 60))
        self.do(self.world.queue.settle([Settlement(leased.number, State.REJECTED, 410, "Unregistered", START)]))

    def test_left(self) -> None:
        """What a process that was killed has committed is brought to the disk before anything is read."""
        self.settle()
        other = Path(self.mktemp())
        for suffix in ("", "-wal"):
            Path(f"{other}{suffix}").write_bytes(Path(f"{self.world.path}{suffix}").read_bytes())
            Path(f"{other}{suffix}").chmod(0o600)
        self.waits = 0
        world = SQLiteWorld(other)
        self.addCleanup(world.stop)
        self.assertEqual(self.waits, 1)
        self.assertEqual(len(result(world.clock, world.log.after("chess", 0, 10))), 1)
        self.failing.add("disk")
        self.world.restart()
        self.do(self.world.database.on_disk())
        self.assertFalse(self.world.database._file.behind)

    def test_levels(self) -> None:
        """SQLite's commit waits for the disk, unless nothing that is written needs that; then we do, each time."""
        levels, self.waits = [], 0

        def write(connection: sqlite3.Connection, items: list[int]) -> list[int]:
            levels.append(connection.execute("PRAGMA synchronous").fetchall())
            return items

        for number in range(6):
            self.do(self.world.database.write_together(write, number, durable=number in (1, 2, 4)))
        self.assertEqual([level for [(level,)] in levels], [1, 2, 2, 1, 2, 1])
        self.assertEqual(self.waits, 3)
        self.settle()
        self.assertEqual(self.waits, 4)
        self.do(self.world.queue.accept([message(self.world)]))
        self.assertEqual(self.waits, 4)

    def test_order(self) -> None:
        """What need not wait for the disk is leased before that, but settled after it."""
        queue, steps = self.world.queue, []
        self.patch(file, "_fdatasync", lambda descriptor: steps.append("disk"))

        def accepted(_: object) -> None:
            steps.append("accepted")
            [leased] = self.successResultOf(queue.lease("news", 1, START + 60))
            settling = queue.settle([Settlement(leased.number, State.ACCEPTED, 200)])
            settling.addCallback(lambda _: steps.append("settled"))

        self.do(queue.accept([message(self.world, app="news")]))
        self.assertEqual(len(self.do(queue.lease("news", 9, START + 60))), 1)  # from now on, what comes next is known
        self.do(queue.accept([message(self.world, app="news")], durable=False).addCallback(accepted))
        self.do(self.world.database.flush())
        self.assertEqual(steps, ["accepted", "disk", "settled", "disk"])

    def test_fails(self) -> None:
        """If the disk fails after a settlement was told, nothing is lost, and all of it goes another way."""
        self.failing.add("disk")
        self.settle()
        self.assertEqual(self.world.database.trouble, "writing to the disk failed: Input/output error")
        self.failing.clear()
        self.do(self.world.queue.accept([message(self.world)]))
        self.assertEqual((self.world.database.trouble, self.world.queue.waiting("chess").count), ("", 100))
        Path(f"{self.world.path}-wal").rename(f"{self.world.path}.away")
        with closing(sqlite3.connect(f"file:{self.world.path}?immutable=1", uri=True)) as other:
            rows = other.execute("SELECT state, count(*) FROM queue_delivery GROUP BY state").fetchall()
        Path(f"{self.world.path}.away").rename(f"{self.world.path}-wal")
        self.assertEqual(dict(rows)[State.REJECTED], 1)  # without the log

    def test_goes_on_failing(self) -> None:
        """Nothing new is accepted before what was told is on the disk, but outcomes are."""
        self.failing.add("disk")
        self.settle()
        with closing(sqlite3.connect(self.world.path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM queue_next").fetchall()  # it needs the log as it is
            self.settle()
            for deferred in (
                self.world.queue.accept([message(self.world)]),
                self.world.log.after("chess", 0, 10),
                self.world.database.on_disk(),
            ):
                self.assertRaises(Unavailable, self.do, deferred)
            self.assertNotEqual(self.world.database.trouble, "")
        self.assertEqual(len(self.do(self.world.log.after("chess", 0, 10))), 2)
        self.do(self.world.database.on_disk())
        self.do(self.world.queue.accept([message(self.world)]))
        self.assertEqual((self.world.database.trouble, self.world.queue.waiting("chess").count), ("", 99))

    def test_log_begins_anew(self) -> None:
        """
        Nothing new is appended to a log of which a part may be missing, though the disk works again, and others read
        from it.
        """
        log = Path(f"{self.world.path}-wal")
        self.failing.add("disk")
        self.settle()
        self.failing.clear()
        header = log.read_bytes()[:32]
        self.settle()
        self.assertTrue(self.world.database._file.behind)
        with closing(sqlite3.connect(self.world.path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM queue_next").fetchall()
            self.assertRaises(Unavailable, self.do, self.world.queue.accept([message(self.world)]))
            other.execute("COMMIT")
            self.do(self.world.database.on_disk())
            other.execute("BEGIN")
            other.execute("SELECT * FROM queue_next").fetchall()
            self.do(self.world.queue.accept([message(self.world)]))
        self.assertNotEqual(log.read_bytes()[:32], header)

    def test_positions(self) -> None:
        """Whoever remembers a position in a feed has read nothing that a power cut could undo."""
        self.world.feed.keep({"chess"})
        self.failing.add("disk")
        for read in (
            lambda: self.world.feed.after("chess", 0, 10),
            lambda: self.world.feed.take({"chess"}, "hook", 10),
            lambda: self.world.log.after("chess", 0, 10),
            lambda: self.world.log.take("chess", "hook", 10),
        ):
            self.settle()
            self.assertTrue(self.world.database._file.behind)
            self.assertTrue(self.do(read()))
            self.assertFalse(self.world.database._file.behind)


class ProbeTests(SynchronousTestCase):
    """The probe, which tries a write."""

    def test_probe(self) -> None:
        """It fails while another process has the database locked, and succeeds at once afterwards."""
        world = SQLiteWorld(Path(self.mktemp()), patience=0.01)
        self.addCleanup(world.stop)
        self.assertEqual(result(world.clock, world.database.probe()), "")
        with closing(sqlite3.connect(world.database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked = "another process has the database locked"
            self.assertEqual(result(world.clock, world.database.probe()), locked)
            self.assertEqual(world.database.trouble, locked)
            other.execute("ROLLBACK")
        self.assertEqual(world.database.trouble, locked)
        self.assertEqual(result(world.clock, world.database.probe()), "")
        self.assertEqual(world.database.trouble, "")

    def test_nearly_full(self) -> None:
        """A nearly full disk is trouble, although the probe's own write succeeds."""
        world = SQLiteWorld(Path(self.mktemp()), reserve=2**80)
        self.addCleanup(world.stop)
        self.assertEqual(result(world.clock, world.database.probe()), "the disk is nearly full")

    def test_stopped(self) -> None:
        """A closed database takes nothing."""
        world = SQLiteWorld(Path(self.mktemp()))
        world.stop()
        self.assertEqual(self.successResultOf(world.database.probe()), "the daemon is shutting down")


class LoggedTests(SynchronousTestCase):
    """What the operator reads."""

    def test_once(self) -> None:
        """Only the beginning and the end of trouble are logged, however often it is met."""
        world = SQLiteWorld(Path(self.mktemp()), patience=0.01)
        self.addCleanup(world.stop)
        other = sqlite3.connect(world.path, isolation_level=None)
        self.addCleanup(other.close)
        seen: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"].startswith("txapns.daemon"):
                seen.append(f"{event['log_level'].name}: {formatEvent(event)}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        for command in ("BEGIN IMMEDIATE", "COMMIT"):
            other.execute(command)
            for _ in range(3):
                deferred = world.queue.accept([message(world)])
                deferred.addErrback(lambda failure: failure.trap(Unavailable))
                result(world.clock, deferred)
        self.assertEqual(
            seen,
            [
                f"error: Nothing can be stored in {world.path}: another process has the database locked",
                f"info: {world.path} can be used again",
            ],
        )


class LockedTests(SynchronousTestCase):
    """Another process that has the database locked."""

    def test_locked(self) -> None:
        """Nothing is stored while it is locked, and leases stay; afterwards everything goes on."""
        world = SQLiteWorld(Path(self.mktemp()), patience=0.01)
        self.addCleanup(world.stop)
        result(world.clock, world.queue.accept([message(world, 2)]))
        leased = result(world.clock, world.queue.lease("chess", 1, START + 60))
        other = sqlite3.connect(world.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        settlements = [Settlement(leased[0].number, State.ACCEPTED, 200)]
        for asked in (world.queue.accept([message(world)]), world.queue.settle(settlements)):
            error = self.assertRaises(Unavailable, result, world.clock, asked)
            self.assertEqual((str(error), error.retry_after), ("another process has the database locked", 2.0))
        self.assertEqual((world.queue.waiting("chess").count, world.database.trouble), (2, str(error)))
        self.assertEqual(len(result(world.clock, world.queue.lease("chess", 9, START + 60))), 1)
        other.execute("COMMIT")
        result(world.clock, world.queue.settle(settlements))
        result(world.clock, world.queue.accept([message(world)]))
        self.assertEqual((world.queue.waiting("chess").count, world.database.trouble), (2, ""))


class WorkerTests(SynchronousTestCase):
    """A worker that fails."""

    def test_worker_lost(self) -> None:
        """If it is unknown what was stored, all writes fail, and the next transaction is tried."""
        clock = Clock()
        workers: dict[str, SlowWorker] = {}
        database = Database(self.mktemp(), clock, lambda name: workers.setdefault(name, SlowWorker(name)))
        database.start()
        writer = workers["txapns-writer"]
        writer.work()
        first = database.prepare(WORDS)
        clock.advance(1)
        _, deferred = writer.left.pop()
        deferred.errback(MemoryError("no thread"))
        self.failureResultOf(first, MemoryError)
        self.assertEqual(database.trouble, "no thread")
        second = database.prepare(WORDS)
        clock.advance(1)
        writer.work()
        self.successResultOf(second)
        self.assertEqual(database.trouble, "")
        database.stop()
        for each in (*workers.values(), writer):
            each.work()


CHILD = """
import resource, signal, sys
from pathlib import Path
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from tests.daemon.store.contract import message, result
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import Settlement, State
"""

# With the reactor's threads, and several callers at the same time, as in the daemon.
FOREVER = """
async def accept(world):
    while True:
        [receipt] = await world.queue.accept([message(world, 20)])
        print("accepted", *receipt.apns_ids, flush=True)

async def settle(world):
    while True:
        leased = await world.queue.lease("chess", 5, world.clock.seconds() + 1000)
        await world.queue.settle([Settlement(each.number, State.ACCEPTED, 200) for each in leased])
        print("settled", *[each.apns_id for each in leased], flush=True)

class World:
    def __init__(self, reactor):
        self.clock = reactor
        self.store = SQLiteStore(Database(sys.argv[1], reactor))
        self.queue = self.store.queue

async def main(reactor):
    world = World(reactor)
    await world.store.start()
    print("ready", flush=True)
    await gatherResults([Deferred.fromCoroutine(each(world)) for each in [accept, settle] * 3])

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""

# Files may not grow beyond a limit, as if the disk were full, until the parent says so.
LIMITED = """
world = SQLiteWorld(Path(sys.argv[1]))
print("ready", flush=True)

def accept(world):
    [receipt] = result(world.clock, world.queue.accept([message(world, 20)]))
    print("accepted", *receipt.apns_ids, flush=True)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
refused = 0
while not refused:
    try:
        accept(world)
    except Unavailable as error:
        refused += 1
        print("refused", error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
accept(world)
world.stop()
"""


@pytest.mark.loopback
@pytest.mark.campaign
class SeparateProcessTests(SynchronousTestCase):
    """A separate process has the database."""

    def start(self, path: str, program: str) -> subprocess.Popen[str]:
        """Start one, and wait until it has opened the file."""
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-c", CHILD + program, str(Path(path).resolve())]
        child = started(self, command, stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout is not None
        self.assertEqual(child.stdout.readline(), "ready\n")
        return child

    def check(self, path: str, printed: list[str]) -> None:
        """Check that everything printed is there, and nothing settled is leased again."""
        accepted, settled = set[str](), set[str]()
        for line in printed:
            verb, *ids = line.split()
            (accepted if verb == "accepted" else settled).update(ids)
        world = SQLiteWorld(Path(path))
        world.clock.advance(10**9)  # after all that the process did
        self.addCleanup(world.stop)
        waiting = {each.apns_id for each in result(world.clock, world.queue.lease("chess", 10**6, START + 10**10))}
        for apns_id in settled:
            self.assertEqual(result(world.clock, world.outcome_log.latest(apns_id)).state, State.ACCEPTED)
        lost = {
            each for each in accepted - waiting - settled if result(world.clock, world.outcome_log.latest(each)) is None
        }
        self.assertEqual((lost, waiting & settled), (set(), set()))
        self.assertEqual(world.queue.waiting("chess").count, len(waiting))
        [(found,)] = result(world.clock, world.database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()))
        self.assertEqual(found, "ok")

    def test_killed(self) -> None:
        """Whenever it is killed, what it acknowledged as accepted or settled is so."""
        path = self.mktemp()
        printed: list[str] = []
        for lines in (1, 7, 20, 33, 58):
            child = self.start(path, FOREVER)
            assert child.stdout is not None
            # The child goes on while the pipe is read, so the signal arrives at any point of its work.
            printed += [child.stdout.readline() for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().splitlines(keepends=True)
            printed += [line for line in rest if line.endswith("\n")]
            child.wait()
        self.assertGreater(len({line for line in printed if line.startswith("settled")}), 10)
        self.check(path, printed)

    def test_disk_full(self) -> None:
        """When the files cannot grow it refuses, and goes on when they can."""
        path = self.mktemp()
        child = self.start(path, LIMITED)
        printed, _ = child.communicate(timeout=120)
        lines = printed.splitlines()
        self.assertEqual(child.returncode, 0)
        self.assertTrue(
            [line for line in lines if line in {"refused the disk is full", "refused writing to the disk failed"}],
            lines[-5:],
        )
        self.check(path, [line for line in lines if line.split()[0] in ("accepted", "settled")])

    def test_second_daemon(self) -> None:
        """While it runs no other can open the file, even without the lock file; after it was killed, one can."""
        path = self.mktemp()
        child = self.start(path, FOREVER)
        for said in (f"in use by another process, number {child.pid}", "its lock file was removed"):
            database = Database(path, Clock(), lambda name: InlineWorker())
            self.assertIn(said, str(self.assertRaises(DatabaseInUse, result, Clock(), database.start())))
            Path(f"{path}.lock").unlink()
        child.kill()
        child.wait()
        self.check(path, [])
