"""Tests for :mod:`txapns.daemon.store.sqlite.superseding`."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.sqlite.world import SQLiteWorld
from tests.daemon.store.superseding_contract import SupersedingContract
from txapns.daemon.store.sqlite import superseding
from txapns.daemon.values import Settlement, State

__all__ = ["CostTests", "SQLiteSupersedingTests"]


class SQLiteSupersedingTests(SupersedingContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class CostTests(SynchronousTestCase):
    """What the statements cost."""

    def setUp(self) -> None:
        """Fill a queue: half of it has a collapse id, and there are dead letters."""
        self.world = SQLiteWorld(Path(self.mktemp()), factory=sqlite3.Connection)
        self.addCleanup(lambda: self.world.stop())
        self.sent = message(self.world, 5_000)
        self.accept(message(self.world, 5))
        leased = result(self.world.clock, self.world.queue.lease("chess", 10, self.world.clock.seconds() + 60))
        dead = [Settlement(each.number, State.DEAD) for each in leased]
        result(self.world.clock, self.world.queue.settle(dead))
        self.accept(self.sent)
        result(self.world.clock, self.world.queue.accept([message(self.world, 5_000, start=9_000)]))

    def accept(self, sent: object) -> None:
        """Accept a message with a collapse id."""
        each = msgspec.structs.replace(sent, collapse_id="score")  # type: ignore[misc]
        result(self.world.clock, self.world.queue.accept([each]))

    def test_same_device(self) -> None:
        """The same device thousands of times costs no more than as many devices."""

        def cost(tokens: list[bytes]) -> int:
            """How many instructions of SQLite's, in thousands, it takes to accept something for these twice."""
            spent: list[None] = []
            self.sent = msgspec.structs.replace(self.sent, tokens=tokens)
            between = self.world.database.between
            count = partial(spent.append, None)
            result(self.world.clock, between(lambda connection: connection.set_progress_handler(count, 1_000)))
            self.accept(self.sent)
            self.accept(self.sent)
            result(self.world.clock, between(lambda connection: connection.set_progress_handler(None, 0)))
            return len(spent)

        different = cost([(20_000 + n).to_bytes(32, "big") for n in range(5_000)])
        self.assertLess(cost([b"\xaa" * 32] * 5_000), 2 * different)

    def test_no_collapse_id(self) -> None:
        """What has no collapse id executes no statement of these, and is in neither index."""
        self.sent = message(self.world, 10, start=20_000)
        seen: list[str] = []
        self.patch(superseding, "array", lambda value: seen.append(value) or "[]")
        result(self.world.clock, self.world.queue.accept([self.sent]))
        self.assertEqual(seen, [[]])
        counted = "SELECT count(*) FROM queue_delivery INDEXED BY queue_delivery_collapse"
        where = "WHERE state = 0 AND collapse IS NOT NULL"
        found = result(
            self.world.clock, self.world.database.read(lambda each: each.execute(f"{counted} {where}").fetchall())
        )
        self.assertEqual(found, [(5_000,)])
