"""Tests of the two clocks."""

from __future__ import annotations

import time

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns._network.clocks import IWallClock, SteadyReactor, SystemWallClock, steady, timers, wall_clock

__all__ = ["SteadyReactorTests", "SteadyTests", "TimersTests", "WallClockTests"]


@implementer(IWallClock)
class _DatedClock(Clock):
    """A ``Clock`` with its own wall clock."""

    def now(self) -> float:
        return 1_800_000_000.0


class WallClockTests(SynchronousTestCase):
    """``wall_clock``."""

    def test_own(self) -> None:
        """An object that provides a wall clock is its own."""
        clock = _DatedClock()
        self.assertIs(wall_clock(clock), clock)

    def test_hand_turned(self) -> None:
        """The time of a ``Clock`` is also the date."""
        clock = Clock()
        clock.advance(5.0)
        self.assertEqual(wall_clock(clock).now(), 5.0)

    def test_system(self) -> None:
        """Anything else gets the operating system's clock."""
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
        """It returns the same reactor; anything but a Twisted reactor is unchanged."""
        self.assertIs(steady(self.reactor), self.reactor)
        clock = Clock()
        self.assertIs(steady(clock), clock)

    def test_set_back(self) -> None:
        """After the wall clock is set back by an hour, timers made before or after are on time."""
        self.reactor.callLater(0.0, self.called.append, "before")
        steady(self.reactor)
        self.reactor.callLater(0.0, self.called.append, "after")
        self.offset = -3600.0
        self.reactor.runUntilCurrent()
        self.assertEqual(self.called, ["before", "after"])

    def test_left(self) -> None:
        """A timer keeps the rest of its delay, even if the reactor is made steady twice."""
        call = self.reactor.callLater(100.0, self.called.append, "late")
        steady(steady(self.reactor))
        left = call.getTime() - self.reactor.seconds()
        self.assertTrue(99.0 < left <= 100.0, left)
        call.reset(5.0)
        left = call.getTime() - self.reactor.seconds()
        self.assertTrue(4.0 < left <= 5.0, left)


class SteadyReactorTests(SynchronousTestCase):
    """``SteadyReactor``, on a reactor whose wall clock can be set."""

    def setUp(self) -> None:
        """Make both."""
        self.passed = 0.0
        self.beneath = _DatedClock()
        self.beneath.rightNow = 1_000_000.0
        self.reactor = SteadyReactor(self.beneath, lambda: self.passed)
        self.called: list[object] = []

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self.passed += seconds
        self.beneath.advance(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.beneath.rightNow += seconds

    def test_interfaces(self) -> None:
        """It provides the interfaces of the reactor beneath, and its calls provide ``IDelayedCall``."""
        verifyObject(IReactorTime, self.reactor)
        verifyObject(IDelayedCall, self.reactor.callLater(1.0, self.called.append, 1))
        self.assertIs(wall_clock(self.reactor), self.reactor)
        self.assertEqual(IWallClock(self.reactor).now(), 1_800_000_000.0)

    def test_passing(self) -> None:
        """If the clock is not set, calls run on time, in order, with their arguments."""
        for delay in (3.0, 1.0, 2.0):
            self.reactor.callLater(delay, self.called.append, delay)
        self.reactor.callLater(4.0, dict, call=self.called.append)
        self.assertEqual(self.reactor.seconds(), 0.0)
        for expected in ([], [1.0], [1.0, 2.0], [1.0, 2.0, 3.0]):
            self.assertEqual(self.called, expected)
            self.advance(1.0)
        self.assertEqual((self.reactor.seconds(), self.reactor.pending), (4.0, set()))

    def test_set_back(self) -> None:
        """After the clock is set back, reading the time or making a timer corrects the pending timers."""
        asks = (self.reactor.seconds, lambda: self.reactor.callLater(50.0, self.called.append, "other"))
        for ask in asks:
            self.called.clear()
            self.reactor.callLater(10.0, self.called.append, "due")
            self.advance(4.0)
            self.step(-86_400.0)
            ask()
            self.advance(5.9)
            self.assertEqual(self.called, [])
            self.advance(0.2)
            self.assertEqual(self.called, ["due"])

    def test_set_back_unnoticed(self) -> None:
        """If the time is never read, a timer is late: only ``steady`` corrects this."""
        self.reactor.callLater(10.0, self.called.append, "late")
        self.step(-3_600.0)
        self.advance(60.0)
        self.assertEqual(self.called, [])
        self.reactor.seconds()
        self.advance(0.0)
        self.assertEqual(self.called, ["late"])

    def test_set_forward(self) -> None:
        """After the clock is set forward, no call runs too soon, whether the time is read or not."""
        self.reactor.callLater(10.0, self.called.append, "due")
        for step in (3_600.0, 86_400.0):
            self.step(step)
            self.advance(4.0)
            self.assertEqual(self.called, [])
        self.advance(2.1)
        self.assertEqual(self.called, ["due"])

    def test_drift(self) -> None:
        """A slewed clock makes timers late by at most a tenth of a second."""
        self.reactor.callLater(100.0, self.called.append, "due")
        for _ in range(100):
            self.step(-0.01)
            self.reactor.seconds()
            self.advance(1.0)
        self.advance(0.1)
        self.assertEqual(self.called, ["due"])

    def test_moved_unnoticed(self) -> None:
        """A call that is moved after the clock was set, but before that was detected, is on time."""
        for move in (lambda call: call.reset(2.0), lambda call: call.delay(-8.0)):
            self.called.clear()
            call = self.reactor.callLater(10.0, self.called.append, "moved")
            self.step(-86_400.0)
            move(call)
            self.advance(1.9)
            self.assertEqual(self.called, [])
            self.advance(0.2)
            self.assertEqual(self.called, ["moved"])

    def test_call(self) -> None:
        """A call can be moved and cancelled, and has its due time by the monotonic clock."""
        call = self.reactor.callLater(10.0, self.called.append, "moved")
        self.assertEqual(call.getTime(), 10.0)
        self.advance(1.0)
        call.reset(2.0)
        self.assertEqual(call.getTime(), 3.0)
        call.delay(4.0)
        self.assertEqual(call.getTime(), 7.0)
        self.step(-100.0)
        call.delay(1.0)
        self.advance(6.9)
        self.assertEqual((self.called, call.active()), ([], True))
        self.advance(0.2)
        self.assertEqual((self.called, call.active()), (["moved"], False))
        self.assertRaises(AlreadyCalled, call.cancel)
        cancelled = self.reactor.callLater(1.0, self.called.append, "never")
        cancelled.cancel()
        self.assertRaises(AlreadyCancelled, cancelled.reset, 1.0)
        self.assertEqual((cancelled.active(), self.reactor.pending, self.beneath.calls), (False, set(), []))


class TimersTests(SynchronousTestCase):
    """``timers``."""

    def test_for_all(self) -> None:
        """All callers get the same timers for a reactor, as long as one of them is referenced."""
        reactor = SelectReactor()
        self.addCleanup(reactor.disconnectAll)
        found = timers(reactor)
        self.assertIsInstance(found, SteadyReactor)
        self.assertIs(timers(reactor), found)
        self.assertIs(timers(found), found)
        self.assertIs(found.connectTCP.__self__, reactor)

    def test_right_already(self) -> None:
        """A steady reactor, or a ``Clock``, is returned as it is."""
        reactor = steady(SelectReactor())
        self.addCleanup(reactor.disconnectAll)
        clock = Clock()
        self.assertIs(timers(reactor), reactor)
        self.assertIs(timers(clock), clock)

    def test_made_steady_later(self) -> None:
        """A reactor that is made steady while timers are pending keeps them."""
        reactor = SelectReactor()
        self.addCleanup(reactor.disconnectAll)
        called: list[str] = []
        call = timers(reactor).callLater(0.0, called.append, "called")
        steady(reactor)
        timers(reactor).callLater(60.0, called.append, "later").cancel()
        reactor.runUntilCurrent()
        self.assertEqual((called, call.active()), (["called"], False))
