"""Tests for :mod:`txapns.daemon.store.postgresql.database`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import START, result
from tests.daemon.store.postgresql.words import WORDS, add, add_all, words
from tests.postgresql import schema
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.workers import IWorker

__all__ = ["DatabaseTests"]


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
