"""Tests for :mod:`txapns._network.alarm`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns._network.alarm import Alarm

__all__ = ["AlarmTests"]


class AlarmTests(SynchronousTestCase):
    """A timer that keeps the earliest time."""

    def setUp(self) -> None:
        """Make one that is not set."""
        self.clock = Clock()
        self.rung: list[float] = []
        self.alarm = Alarm(self.clock, lambda: self.rung.append(self.clock.seconds()))

    def pass_time(self, seconds: int) -> None:
        """Let whole seconds pass."""
        self.clock.pump([1.0] * seconds)

    def test_rings(self) -> None:
        """It rings once, after its delay."""
        self.assertFalse(self.alarm.is_set)
        self.alarm.set(3.0)
        self.assertTrue(self.alarm.is_set)
        self.pass_time(10)
        self.assertEqual(self.rung, [3.0])
        self.assertFalse(self.alarm.is_set)

    def test_earliest(self) -> None:
        """Of several times the earliest counts, and there is one delayed call."""
        for delay in 5.0, 7.0, 2.0, 3.0:
            self.alarm.set(delay)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.pass_time(10)
        self.assertEqual(self.rung, [2.0])

    def test_later_setting(self) -> None:
        """The delay counts from the moment at which the alarm is set."""
        self.alarm.set(5.0)
        self.pass_time(4)
        self.alarm.set(2.0)  # that is at 6
        self.pass_time(10)
        self.assertEqual(self.rung, [5.0])

    def test_cancel(self) -> None:
        """A cancelled alarm does not ring, and can be set again."""
        self.alarm.cancel()
        self.alarm.set(1.0)
        self.alarm.cancel()
        self.assertFalse(self.alarm.is_set)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.alarm.set(2.0)
        self.pass_time(10)
        self.assertEqual(self.rung, [2.0])

    def test_set_while_ringing(self) -> None:
        """What it calls may set it again."""
        times: list[float] = []

        def ring() -> None:
            times.append(self.clock.seconds())
            if len(times) < 3:
                alarm.set(2.0)

        alarm = Alarm(self.clock, ring)
        alarm.set(1.0)
        self.pass_time(10)
        self.assertEqual(times, [1.0, 3.0, 5.0])
