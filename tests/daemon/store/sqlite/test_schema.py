"""Tests for :mod:`txapns.daemon.store.sqlite.schema`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import result
from tests.daemon.store.sqlite.words import WORDS
from txapns.daemon.errors import (
    DatabaseVersion,
)
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import Schema

__all__ = ["SchemaTests"]


class SchemaTests(SynchronousTestCase):
    """Versions of the tables."""

    def test_versions(self) -> None:
        """Each step runs once; a later version is refused, and nothing is changed."""
        second = Schema("words", (*WORDS.steps, "ALTER TABLE word ADD length;\nUPDATE word SET length = 5"))
        path, clock = self.mktemp(), Clock()
        for part, columns in ((WORDS, 1), (WORDS, 1), (second, 2), (second, 2)):
            database = Database(path, clock, lambda name: InlineWorker())
            result(clock, database.start())
            result(clock, database.prepare(part))
            found = result(clock, database.read(lambda c: c.execute("SELECT * FROM word").fetchall()))
            self.assertEqual([len(row) for row in found], [columns] * len(found))
            result(
                clock,
                database.write(lambda c: c.execute("INSERT INTO word(word) VALUES (hex(randomblob(5)))").rowcount),
            )
            result(clock, database.stop())
        database = Database(path, clock, lambda name: InlineWorker())
        result(clock, database.start())
        self.addCleanup(lambda: result(clock, database.stop()))
        error = self.assertRaises(DatabaseVersion, result, clock, database.prepare(WORDS))
        self.assertIn("version 2 of its words tables", str(error))
