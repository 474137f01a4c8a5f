"""Tests for :mod:`txapns.daemon.store.postgresql.counts`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.postgresql.counts import NodeCounts, WaitingCounts
from txapns.daemon.values import Settlement, State

__all__ = ["SharedCountTests", "WaitingCountsTests"]


class WaitingCountsTests(SynchronousTestCase):
    """The counts in memory."""

    def setUp(self) -> None:
        """Begin."""
        self.counts = WaitingCounts()

    def look(self, own: int, others: int, changes: int | None) -> None:
        """Find something in the database."""
        self.counts.looked_up(NodeCounts("node", {"chess": own}, {"chess": others}), changes, 5.0)

    def test_sum(self) -> None:
        """What this node changed and what the others have are added."""
        self.counts.update({"chess": 3})
        self.counts.subtract({"chess": 1})
        self.look(0, 10, None)
        self.assertEqual((self.counts["chess"], self.counts["news"], self.counts.looked), (12, 0, 5.0))

    def test_others_unseen(self) -> None:
        """What this node has settled and another accepted after the last look does not make the count negative."""
        self.look(0, 2, self.counts.changes)
        self.counts.subtract({"chess": 5})
        self.assertEqual(self.counts["chess"], 0)
        self.look(-5, 6, self.counts.changes)
        self.assertEqual(self.counts["chess"], 1)

    def test_put_right(self) -> None:
        """What this node has in the database counts, unless something was under way while somebody looked."""
        self.counts.update({"chess": 3})
        before = self.counts.changes
        done: Deferred[None] = Deferred()
        self.counts.during(done)
        self.assertIsNone(self.counts.changes)
        self.look(7, 0, before)
        self.assertEqual(self.counts["chess"], 3)
        done.callback(None)
        self.look(7, 0, before)
        self.assertEqual(self.counts["chess"], 3)
        self.look(7, 0, self.counts.changes)
        self.assertEqual(self.counts["chess"], 7)

    def test_another_life(self) -> None:
        """What the node changed in a former life is not counted twice, though something is always under way."""
        self.counts.update({"chess": 3})
        self.look(3, 0, self.counts.changes)
        self.counts.during(Deferred())
        self.counts.looked_up(NodeCounts("anew", {}, {"chess": 3}), None, 6.0)
        self.assertEqual(self.counts["chess"], 3)
        self.counts.update({"chess": 1})
        self.counts.looked_up(NodeCounts("anew", {}, {"chess": 3}), None, 7.0)
        self.assertEqual(self.counts["chess"], 4)

    def test_failures_pass(self) -> None:
        """What is under way may fail."""
        failing: Deferred[None] = self.counts.during(Deferred())
        failing.errback(ValueError())
        self.failureResultOf(failing, ValueError)
        self.assertIsNotNone(self.counts.changes)


class SharedCountTests(SynchronousTestCase):
    """The counts of two nodes."""

    def setUp(self) -> None:
        """Start both."""
        self.first = PostgreSQLWorld(schema(self))
        self.addCleanup(lambda: self.first.stop())
        self.second = PostgreSQLWorld(self.first.place, self.first)
        self.addCleanup(lambda: self.second.stop())

    def waiting(self, world: PostgreSQLWorld) -> int:
        """Tell how much waits, as a node sees it now."""
        return world.queue.waiting("chess").count

    def test_age(self) -> None:
        """A node's own changes count at once, the others' within a second; the estimate tells how old it is."""
        result(self.first.clock, self.first.queue.accept([message(self.first, 5)]))
        self.assertEqual((self.waiting(self.first), self.waiting(self.second)), (5, 0))
        self.assertLess(self.second.queue.waiting("chess").age, 0.1)
        self.first.clock.advance(1.1)
        self.assertEqual((self.waiting(self.first), self.waiting(self.second)), (5, 5))

    def test_node_gone(self) -> None:
        """The counts of nodes that are gone are added up when old outcomes are forgotten, and the sum stays."""
        [receipt] = result(self.first.clock, self.first.queue.accept([message(self.first, 5)]))
        settlements = [Settlement(number, State.ACCEPTED, 200) for number in receipt.numbers[:2]]
        result(self.second.clock, self.second.queue.settle(settlements))
        for _ in range(3):
            self.first.restart()
        result(self.second.clock, self.second.outcome_log.prune(0.0))
        self.assertEqual(self.first.execute("SELECT waiting FROM queue_count ORDER BY waiting"), [(-2,), (5,)])
        result(self.second.clock, self.second.queue.look())
        result(self.first.clock, self.first.queue.look())
        self.assertEqual((self.waiting(self.first), self.waiting(self.second)), (3, 3))
