"""Tests for :mod:`txapns.daemon.store.postgresql.copying`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import TestCase

import pytest
from hypothesis import HealthCheck, given, settings
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import LONGEST, message, result
from tests.daemon.store.copy_contract import CopyContract, MemoryCopy, contents, copied, filled, seen
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.daemon.store.sqlite.test_copying import SQLitePlace
from tests.postgresql import execute, schema
from txapns.daemon.errors import DatabaseInUse
from txapns.daemon.store.copying import Counters, NotificationRow, QueueRow, copy
from txapns.daemon.store.postgresql.access import SCHEMAS
from txapns.daemon.store.postgresql.api_keys import PostgreSQLKeyStore
from txapns.daemon.store.postgresql.apps import PostgreSQLAppStore
from txapns.daemon.store.postgresql.copying import PostgreSQLCopy, copying
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.values import State

__all__ = ["BothWaysTests", "PostgreSQLCopyTests", "PostgreSQLPlace"]


class _World(PostgreSQLWorld):
    """A store with apps and keys, whose node leaves when it is stopped."""

    def start(self) -> None:
        super().start()
        apps, keys = PostgreSQLAppStore(self.database), PostgreSQLKeyStore(self.database)
        self.store = SimpleNamespace(apps=apps, keys=keys)

    def stop(self) -> None:
        super().stop()
        self.execute("DELETE FROM node")


class PostgreSQLPlace:
    """A schema."""

    def __init__(self, case: TestCase) -> None:
        self.schema = schema(case)

    def start(self) -> _World:
        """Start a store there."""
        return _World(self.schema)

    def copying(self) -> AbstractContextManager[PostgreSQLCopy]:
        """Open it for copying."""
        return copying(Settings(self.schema.url, schema=self.schema.name), SCHEMAS, LONGEST)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement there, as another program does."""
        return execute(f"{self.schema.url}&options=-csearch_path%3D{self.schema.name}", statement)


@pytest.mark.loopback
class PostgreSQLCopyTests(CopyContract, SynchronousTestCase):
    """The contract, and what is particular to PostgreSQL."""

    def make_place(self) -> PostgreSQLPlace:
        """Find a schema that is not there yet."""
        return PostgreSQLPlace(self)

    def test_in_use(self) -> None:
        """A database with a node that is alive is not copied, and no node joins while one is copied."""
        place = self.make_place()
        world = PostgreSQLWorld(place.schema)
        with self.assertRaisesRegex(DatabaseInUse, "is in use by first; stop these nodes first"), place.copying():
            pass
        world.stop()
        place.execute("DELETE FROM node")
        with place.copying():
            locked = "SELECT 1 FROM schema_version WHERE name = 'nodes' FOR UPDATE SKIP LOCKED"
            self.assertEqual(place.execute(locked), [])
        self.assertEqual(place.execute(locked), [(1,)])

    def test_put_off(self) -> None:
        """Nothing is put off for longer than usual, whatever the clock said in the other store."""
        place = self.make_place()
        row = NotificationRow(5, 5, "chess", b"t", bytes(16), 2**50, State.WAITING, 0, 0, "", None, 7_000, None)
        rows = {QueueRow: [QueueRow("chess")], NotificationRow: [row, row._replace(number=6, attempts=1)]}
        with place.copying() as target:
            copy(MemoryCopy(rows, Counters(9, 0)), target, lambda *step: None)
        found = place.execute(
            "SELECT number, due - extract(epoch FROM clock_timestamp()) * 1000 BETWEEN -60000 AND 10000 FROM queue"
        )
        self.assertEqual(found, [(5, True), (6, True)])

    def test_partitions(self) -> None:
        """Outcomes of the last days get partitions, so that they are dropped with their day."""
        place = self.make_place()
        [(today,)] = execute(place.schema.url, "SELECT (extract(epoch FROM now()) * 1000)::bigint")
        row = NotificationRow(5, 5, "chess", b"t", bytes(16), 0, State.ACCEPTED, 1, 200, "", None, 0, today)
        old = row._replace(number=6, settled_at=today - 1_000 * 86_400_000)
        rows = {QueueRow: [QueueRow("chess")], NotificationRow: [row, old]}
        with place.copying() as target:
            copy(MemoryCopy(rows), target, lambda *step: None)
        self.assertEqual(place.execute("SELECT number FROM outcome_other"), [(6,)])

    def test_nul(self) -> None:
        """Texts lose the NUL characters that PostgreSQL does not have."""
        place = self.make_place()
        row = NotificationRow(5, 5, "a\0b", b"t", bytes(16), 0, State.WAITING, 0, 0, "c\0d", None, 7_000, None)
        with place.copying() as target:
            copy(MemoryCopy({QueueRow: [QueueRow("a\0b")], NotificationRow: [row]}), target, lambda *step: None)
        statement = "SELECT name, reason FROM queue JOIN queue_app ON queue_app.id = app"
        self.assertEqual(place.execute(statement), [("ab", "cd")])


@pytest.mark.loopback
class BothWaysTests(SynchronousTestCase):
    """From SQLite to PostgreSQL, and back."""

    @given(contents())
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    def test_rows(self, given: MemoryCopy) -> None:
        """Whatever is in a store is in its copy, and in the copy of that."""
        first, second = SQLitePlace(Path(self.mktemp())), SQLitePlace(Path(self.mktemp()))
        between, found = PostgreSQLPlace(self), MemoryCopy()
        with first.copying() as target:
            copied(given, target)
        with first.copying() as source, between.copying() as target:
            copied(source, target)
        with between.copying() as source, second.copying() as target:
            copied(source, target)
        with second.copying() as source:
            copied(source, found)
        self.assertEqual(found.comparable(), given.comparable())
        self.assertGreaterEqual(found.counters(), given.counters())

    def test_life(self) -> None:
        """A daemon sees in the copy, and in the copy of that, what it saw before."""
        first, between, second = (
            SQLitePlace(Path(self.mktemp())),
            PostgreSQLPlace(self),
            SQLitePlace(Path(self.mktemp())),
        )
        world: Any = first.start()
        filled(world)
        before = seen(world)
        world.stop()
        for old, new in ((first, between), (between, second)):
            with old.copying() as source, new.copying() as target:
                copied(source, target)
            world = new.start()
            self.assertEqual(seen(world), before)
            world.stop()
        world.start()
        self.addCleanup(world.stop)
        [receipt] = result(world.clock, world.queue.accept([message(world)]))
        self.assertGreater(receipt.numbers[0], max(outcome.number for outcome in before["outcomes"]))
