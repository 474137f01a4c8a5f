"""Tests for :mod:`txapns.daemon.store.sqlite.flows`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import StoreContract, message
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.values import State

__all__ = ["FlowTests"]

_LOAD = """
WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < 20000)
INSERT INTO queue_delivery (number, message, app, due, token, apns_id, flow, state)
SELECT -n, 0, 1, 0, x'aa', randomblob(16), 1 + n % 2, 4 * (n % 2) FROM series;
"""


class FlowTests(StoreContract, SynchronousTestCase):
    """What the contract does not show."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))

    def test_accepted_meanwhile(self) -> None:
        """What is accepted after its flow was forgotten in memory, but not on the disk, keeps it."""
        self.do("accept", [message(self.world, caller="web")])
        self.settle(self.lease(), State.ACCEPTED, 200)
        pruning = self.world.outcome_log.prune(0.0)  # it writes what is gathered, a moment later
        while self.world.store.queue._state.flows:
            self.world.clock.advance(0.0001)
        accepting = self.world.queue.accept([message(self.world, caller="web")])
        self.result(pruning)
        self.result(accepting)
        self.assertEqual((self.world.flows(), len(self.lease())), ({"web"}, 1))

    def test_plans(self) -> None:
        """With many rows that wait and many that are dead, an index is asked for each flow."""
        self.do("accept", [message(self.world, caller="web"), message(self.world, caller="shop")])
        seen: list[str] = []

        def load(connection: sqlite3.Connection) -> None:
            connection.executescript(_LOAD)
            connection.set_trace_callback(seen.append)

        self.result(self.world.database.between(load))
        self.ask("prune", 0.0, 10)
        self.assertEqual(self.world.flows(), {"web", "shop"})
        [asked] = [each for each in seen if "INDEXED BY" in each]
        explain = f"EXPLAIN QUERY PLAN {asked}", [None] * asked.count("?")
        found = self.world.database.read(lambda connection: connection.execute(*explain).fetchall())
        steps = {step for *_, step in self.result(found)}
        self.assertLessEqual(
            {
                "SEARCH queue_flow USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
                "SEARCH queue_delivery USING INDEX queue_delivery_flow (flow=?)",
                "SEARCH queue_delivery USING INDEX queue_delivery_flow_dead (flow=?)",
            },
            steps,
        )
