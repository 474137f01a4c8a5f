"""Tests for :mod:`txapns.daemon.store.postgresql.cluster_time`."""

from __future__ import annotations

import time

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import DatedClock
from tests.daemon.store.postgresql.opened import OpenedDatabase
from txapns.daemon.store.postgresql.cluster_time import ClusterTime, database_date

__all__ = ["ClusterTimeTests", "DatabaseDateTests"]


class ClusterTimeTests(SynchronousTestCase):
    """The cluster's time, told by the reactor's clock."""

    def setUp(self) -> None:
        """Make a clock that is an hour behind the database's."""
        self.clock = DatedClock(1_700_000_000.0)
        self.time = ClusterTime(self.clock)

    def measure(self, date: float, took: float = 0.0) -> float:
        """Measure something that took some time, until now."""
        now = self.clock.seconds()
        return self.time.measured(date, now - took, now)

    def test_before(self) -> None:
        """Before the first measurement it is the wall clock's."""
        self.assertEqual(self.time.now(), 1_700_000_000_000)

    def test_measured(self) -> None:
        """Then it is the database's, and goes on with the reactor's clock, whatever becomes of the wall clock."""
        self.assertEqual(self.measure(1_700_003_600.0), 0.0)
        self.assertEqual(self.time.now(), 1_700_003_600_000)
        self.clock.ahead += 1_000.0
        self.clock.advance(5.0)
        self.assertEqual((self.time.now(), self.time.date()), (1_700_003_605_000, 1_700_001_005_000))

    def test_both_ways(self) -> None:
        """A time can be told by either clock, to the millisecond."""
        self.measure(1_700_003_600.0)
        now = self.clock.seconds()
        self.assertEqual(self.time.due(now + 0.0015), 1_700_003_600_002)
        self.assertApproximates(self.time.seconds(1_700_003_601_000), now + 1.0, 0.001)
        for due in range(1_700_003_600_000, 1_700_003_600_100):
            self.assertEqual(self.time.due(self.time.seconds(due)), due)

    def test_uncertain(self) -> None:
        """Within the uncertainty of a measurement nothing is corrected; beyond it, to the middle."""
        self.measure(1_700_003_600.0, 0.2)  # the date is that of 0.1 seconds ago
        self.assertEqual((self.time.now(), round(self.time.error, 6)), (1_700_003_600_100, 0.1))
        self.assertEqual(self.measure(1_700_003_600.1, 0.0), 0.0)
        self.assertEqual(self.measure(1_700_003_600.0, 0.5), 0.0)
        self.assertApproximates(self.measure(1_700_003_600.0, 0.02), -0.09, 1e-6)
        self.assertEqual((self.time.now(), round(self.time.error, 6)), (1_700_003_600_010, 0.01))


@pytest.mark.loopback
class DatabaseDateTests(SynchronousTestCase):
    """The database's clock."""

    def test_read(self) -> None:
        """It is read as it is at the moment, also in a transaction; here it is this machine's."""
        opened = OpenedDatabase(self)
        before = time.time()
        first, second = opened.result(opened.database.between(lambda c: (database_date(c), database_date(c))))
        self.assertTrue(before <= first < second <= time.time())
