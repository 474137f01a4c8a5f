"""Tests for :mod:`txapns.daemon.operations.history`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import DatedClock
from txapns.daemon.operations.history import SPAN, STEP, History
from txapns.daemon.operations.metrics import Totals

__all__ = ["HistoryTests"]

START = 1_700_000_000.0


class HistoryTests(SynchronousTestCase):
    """The last 15 minutes."""

    def setUp(self) -> None:
        """Nothing has happened yet."""
        self.clock = DatedClock(START)
        self.totals = Totals(received=1000)  # from before it began
        self.history = History(self.clock, self.totals)
        self.history.start()
        self.addCleanup(self.history.stop)

    def pass_time(self, seconds: int, each: int = 0) -> None:
        """Let time pass while some notifications are received every second."""
        for _ in range(seconds):
            self.totals.received += each
            self.clock.advance(1.0)

    def test_nothing(self) -> None:
        """At first the history is empty."""
        self.assertEqual((self.history.steps(), self.history.rates()), ([], Totals()))

    def test_steps(self) -> None:
        """Each step of ten seconds is listed once it is over."""
        self.pass_time(STEP, 5)
        self.pass_time(STEP, 7)
        self.pass_time(STEP // 2, 9)
        self.assertEqual(self.history.steps(), [(START, Totals(received=50)), (START + STEP, Totals(received=70))])

    def test_rates(self) -> None:
        """The current rate is that of the last ten seconds, and available early."""
        self.pass_time(4, 3)
        self.assertEqual(self.history.rates(), Totals(received=3))
        self.pass_time(100, 8)
        self.assertEqual(self.history.rates(), Totals(received=8))
        self.pass_time(12)
        self.assertEqual(self.history.rates(), Totals())

    def test_bounded(self) -> None:
        """Only 15 minutes are kept."""
        self.pass_time(3 * STEP * SPAN, 1)
        steps = self.history.steps()
        self.assertEqual((len(steps), steps[-1][0] - steps[0][0]), (SPAN, (SPAN - 1) * STEP))

    def test_late(self) -> None:
        """Steps that the process was too busy to count are listed as empty."""
        self.pass_time(STEP, 1)
        self.totals.received += 60
        self.clock.rightNow += 35
        self.clock.advance(0)
        began = [began for began, _ in self.history.steps()]
        self.assertEqual(began, [START + n * STEP for n in range(len(began))])
        self.assertEqual(sum(counts.received for _, counts in self.history.steps()), 70)

    def test_clock_set(self) -> None:
        """Setting the clock changes no count; dates follow the clock as it is set now."""
        for step in (3_600, -7_200, 86_407):
            self.clock.ahead += step
            self.pass_time(STEP, 2)
            self.assertEqual(self.history.rates(), Totals(received=2))
        self.assertEqual([counts for _, counts in self.history.steps()], [Totals(received=2 * STEP)] * 3)
        self.assertEqual([self.clock.now() - began for began, _ in self.history.steps()], [3 * STEP, 2 * STEP, STEP])

    def test_standstill(self) -> None:
        """If the process was suspended for longer than the history, no steps are invented for that time."""
        self.pass_time(STEP, 1)
        self.clock.rightNow += 86_400
        self.pass_time(2 * STEP, 1)
        self.assertTrue(len(self.history.steps()) <= 3)
        self.assertTrue(all(counts.received <= STEP for _, counts in self.history.steps()))
