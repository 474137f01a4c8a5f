"""Tests for :mod:`txapns.daemon.store.sqlite.leases`; the model in ``queue_contract`` tests them with the queue."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.sqlite.leases import Leases

__all__ = ["LeasesTests"]


class LeasesTests(SynchronousTestCase):
    """Leases of a flow."""

    def setUp(self) -> None:
        """Make three leases at the front of the queue."""
        self.leases = Leases()
        self.start = self.leases.mark(1)
        self.leases.lend(1, [1000, 1000, 2000], [1, 2, 5], 60.0)

    def test_mark(self) -> None:
        """The search begins after the last lease, with nothing to skip."""
        self.assertLess(self.start, (0, 1))
        self.assertEqual((self.leases.mark(1), self.leases.passed_over(1)), ((2000, 5), []))
        self.assertEqual(self.leases.mark(2), self.start)

    def test_nothing_lent(self) -> None:
        """Leasing nothing changes nothing."""
        self.leases.lend(1, [], [], 60.0)
        self.leases.lend(2, [], [], 60.0)
        self.assertEqual((self.leases.mark(1), self.leases.counts()), ((2000, 5), {1: 3}))

    def test_free(self) -> None:
        """A freed notification moves the mark back, and leased ones after it are skipped."""
        self.leases.free([2, 99])
        self.assertLess(self.leases.mark(1), (1000, 2))
        self.assertGreaterEqual(self.leases.mark(1), (1000, 1))
        self.assertEqual(self.leases.passed_over(1), [1, 5])
        self.assertNotIn(2, self.leases.numbers())
        self.leases.lend(1, [1000], [2], 60.0)
        self.assertEqual(self.leases.passed_over(1), [1, 5, 2])  # 5 is behind the mark
        self.leases.lend(1, [2000], [6], 60.0)
        self.assertEqual(self.leases.passed_over(1), [])

    def test_dropped(self) -> None:
        """A settlement leaves the mark where it is."""
        self.leases.drop(1)
        self.leases.drop(99)
        self.assertEqual((self.leases.mark(1), self.leases.numbers()), ((2000, 5), [2, 5]))

    def test_put_back(self) -> None:
        """A notification put back before the mark moves the mark; one put back after it does not."""
        self.leases.put_back(1, 3000)
        self.assertEqual(self.leases.mark(1), (2000, 5))
        self.leases.put_back(2, 500)
        self.leases.put_back(99, 100)
        self.assertEqual(self.leases.mark(1), (500, 1))

    def test_expire(self) -> None:
        """Leases end at their time, even if it was moved."""
        self.leases.renew([2], 30.0)
        self.leases.renew([5, 99], 90.0)
        ended = []
        for now in (29.9, 30.0, 60.0, 90.0):
            self.leases.expire(now)
            ended.append(self.leases.numbers())
        self.assertEqual(ended, [[1, 2, 5], [1, 5], [5], []])
