"""Tests for :mod:`txapns.daemon.store.sqlite.feedback_log`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import result
from tests.daemon.store.feedback_contract import FeedbackLogContract
from tests.daemon.store.sqlite.world import SQLiteWorld

__all__ = ["PlanTests", "SQLiteFeedbackLogTests"]


class SQLiteFeedbackLogTests(FeedbackLogContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class PlanTests(SynchronousTestCase):
    """The plans of the statements."""

    def test_known(self) -> None:
        """Tokens are looked up in the index of tokens, so it does not matter how many dead ones an app has."""
        world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        seen: list[str] = []
        result(world.clock, world.database.read(lambda connection: connection.set_trace_callback(seen.append)))
        result(world.clock, world.log.known("chess", [b"\x01" * 32]))
        [sql] = [each for each in seen if "FROM feedback_token" in each]
        look = f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?")
        plan = result(world.clock, world.database.read(lambda connection: connection.execute(*look).fetchall()))
        self.assertIn("feedback_token_once (app=? AND token=?)", str([row[3] for row in plan]))
