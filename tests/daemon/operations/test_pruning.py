"""Tests for :mod:`txapns.daemon.operations.pruning`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import Cluster, DatedClock
from txapns.daemon.errors import Unavailable
from txapns.daemon.operations.pruning import Pruning
from txapns.daemon.store.retention import Retention

__all__ = ["PruningTests"]

START = 1_700_000_000.0


class PruningTests(SynchronousTestCase):
    """A queue whose old outcomes are deleted."""

    def setUp(self) -> None:
        """The queue has nothing to delete."""
        self.clock = DatedClock(START)
        self.dates: list[float] = []
        self.results: list[Deferred[int]] = []
        self.pruning = Pruning(self.clock, self.prune, Retention(self.clock, lambda: 100.0))

    def prune(self, before: float) -> Deferred[int]:
        """Note when the queue is pruned, and give the next of the prepared results."""
        self.dates.append(before)
        return self.results.pop(0) if self.results else succeed(0)

    def test_interval(self) -> None:
        """The queue is pruned at the start and every minute, of what is older than the retention."""
        self.pruning.start()
        self.clock.pump([60.0, 60.0])
        self.assertEqual(self.dates, [START - 100.0, START - 40.0, START + 20.0])

    def test_more(self) -> None:
        """While there is something to delete, the next part follows soon."""
        self.results = [succeed(500), succeed(20)]
        self.pruning.start()
        self.clock.pump([0.1, 0.1, 0.1])
        self.assertEqual(len(self.dates), 3)

    def test_fails(self) -> None:
        """A failure is logged unless the database is merely unavailable; both are tried again."""
        self.results = [fail(ValueError("unlucky")), fail(Unavailable("locked", 1.0))]
        self.pruning.start()
        self.clock.pump([60.0, 60.0])
        self.assertEqual((len(self.dates), len(self.flushLoggedErrors(ValueError))), (3, 1))

    def test_duty(self) -> None:
        """Of several nodes only the one with the duty prunes."""
        cluster = Cluster()
        pruning = Pruning(self.clock, self.prune, Retention(self.clock, lambda: 100.0), cluster)
        pruning.start()
        self.clock.pump([60.0, 60.0])
        self.assertEqual((self.dates, len(cluster.asked)), ([], 1))
        cluster.become(duties=cluster.asked)
        self.clock.advance(60.0)
        self.assertEqual(self.dates, [START + 80.0])
        cluster.become(duties=())
        self.clock.pump([60.0, 60.0])
        self.assertEqual(len(self.dates), 1)
        pruning.stop()

    def test_stop(self) -> None:
        """Once stopped, it does not start again when a prune ends."""
        self.pruning.start()
        pending: Deferred[int] = Deferred()
        self.results = [pending]
        self.clock.advance(60.0)
        self.pruning.stop()
        pending.callback(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])
