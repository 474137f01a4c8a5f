"""Tests of the two clocks."""

from __future__ import annotations

import time

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns.clocks import IWallClock, SystemWallClock, steady, wall_clock

__all__ = ["SteadyTests", "WallClockTests"]


@implementer(IWallClock)
class _DatedClock(Clock):
    """A ``Clock`` with dates of its own."""

    def now(self) -> float:
        return 1_800_000_000.0


class WallClockTests(SynchronousTestCase):
    """``wall_clock``."""

    def test_own(self) -> None:
        """What provides a wall clock is its own."""
        clock = _DatedClock()
        self.assertIs(wall_clock(clock), clock)

    def test_hand_turned(self) -> None:
        """The time of a ``Clock`` is the date as well."""
        clock = Clock()
        clock.advance(5.0)
        self.assertEqual(wall_clock(clock).now(), 5.0)

    def test_system(self) -> None:
        """Anything else has the operating system's, whatever its own timers go by."""
        found = wall_clock(steady(SelectReactor()))
        self.assertIsInstance(found, SystemWallClock)
        verifyObject(IWallClock, found)
        before = time.time()
        self.assertTrue(before <= found.now() <= time.time())


class SteadyTests(SynchronousTestCase):
    """``steady``, with reactors that do not run."""

    def setUp(self) -> None:
        """Make a reactor whose wall clock can be set."""
        self.offset = 0.0
        self.reactor = SelectReactor()
        self.reactor.seconds = lambda: time.time() + self.offset
        self.called: list[str] = []
        self.addCleanup(self.reactor.disconnectAll)

    def test_same(self) -> None:
        """It is the same reactor; what has no timers of Twisted's is as it was."""
        self.assertIs(steady(self.reactor), self.reactor)
        clock = Clock()
        self.assertIs(steady(clock), clock)

    def test_set_back(self) -> None:
        """After the wall clock was set back by an hour, a timer that was set before or after is in time."""
        self.reactor.callLater(0.0, self.called.append, "before")
        steady(self.reactor)
        self.reactor.callLater(0.0, self.called.append, "after")
        self.offset = -3600.0
        self.reactor.runUntilCurrent()
        self.assertEqual(self.called, ["before", "after"])

    def test_left(self) -> None:
        """A timer keeps what was left of its delay, however often the reactor is made steady."""
        call = self.reactor.callLater(100.0, self.called.append, "late")
        steady(steady(self.reactor))
        left = call.getTime() - self.reactor.seconds()
        self.assertTrue(99.0 < left <= 100.0, left)
        call.reset(5.0)
        left = call.getTime() - self.reactor.seconds()
        self.assertTrue(4.0 < left <= 5.0, left)
