"""
Two clocks, kept apart by their types.

The *wall clock* (:class:`IWallClock`, read by ``now()``) dates things: when a provider token was signed, when a
notification expires, since when a device is gone. People and NTP set it, forward and back. The *monotonic clock* (an
``IReactorTime``, read by ``seconds()``) measures durations and is never set. Nothing has both methods, so using one
clock in place of the other is found by a type checker, or raises ``AttributeError``.

A Twisted reactor measures durations by the wall clock (twisted#2424): when the clock is set back by an hour, each of
its timers is an hour late. :func:`steady` corrects a reactor. But a library's reactor belongs to the program, which may
not have corrected it; so code here that needs timers passes the reactor through :func:`timers`. There each timer knows
its due time by the monotonic clock. Reading the time, or making a timer, detects that the wall clock was set; then all
pending timers are set again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import attrs
from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import Interface, directlyProvides, implementer, providedBy

__all__ = ["IWallClock", "SteadyReactor", "SystemWallClock", "steady", "timers", "wall_clock"]

R = TypeVar("R")

#: Timers are set again if the wall clock was set by more than this, in seconds, so they are never later than that.
STEP = 0.1


class IWallClock(Interface):
    """The clock that dates things. It may be set forward or back at any moment."""

    def now() -> float:
        """Return the time in UNIX seconds."""


@implementer(IWallClock)
class SystemWallClock:
    """The wall clock of the operating system."""

    def now(self) -> float:
        return time.time()


@implementer(IWallClock)
@attrs.frozen(eq=False)
class _ClockTime:
    """A ``Clock`` that a test advances: its time is also the date."""

    _clock: Clock

    def now(self) -> float:
        return self._clock.seconds()


def wall_clock(reactor: object) -> IWallClock:
    """
    Find the wall clock that belongs to a reactor.

    :returns: the reactor itself if it provides :class:`IWallClock`, or its adapter; for a ``Clock``, its own time;
        otherwise the operating system's clock.
    """
    own: IWallClock | None = IWallClock(reactor, None)
    if own is not None:
        return own
    return _ClockTime(reactor) if isinstance(reactor, Clock) else SystemWallClock()


def steady(reactor: R) -> R:
    """
    Make the timers of a reactor monotonic, so that setting the wall clock does not move them.

    Call it once, before or while the reactor runs. Existing timers keep the rest of their delay.

    :param reactor: a Twisted reactor. Anything else that provides ``IReactorTime`` is returned as it is, and so is a
        reactor that is already steady.
    """
    timed: Any = reactor
    if not isinstance(reactor, ReactorBase) or timed.seconds is time.monotonic:
        return reactor
    change = time.monotonic() - timed.seconds()
    for call in timed.getDelayedCalls():
        # A uniform shift keeps the order, and with it the reactor's heap, as it is.
        call.time += change
        call.seconds = time.monotonic
    timed.seconds = time.monotonic
    return reactor


@implementer(IDelayedCall)
class _SteadyCall:
    """A call of a :class:`SteadyReactor`: a call of the reactor beneath, set again when the wall clock was set."""

    __slots__ = ("_call", "_due", "_function", "_reactor")

    def __init__(self, reactor: SteadyReactor, delay: float, function: Callable[[], object]) -> None:
        self._reactor = reactor
        self._due = reactor.seconds() + delay
        self._function = function
        self._arm(delay)

    def _arm(self, left: float) -> None:
        self._reactor.pending.add(self)
        self._call = self._reactor.beneath.callLater(left, self._elapsed)

    def rearm(self) -> None:
        """Count the rest of the delay from now, since the wall clock was set."""
        self._call.reset(max(0.0, self._due - self._reactor.seconds()))

    def _elapsed(self) -> None:
        self._reactor.pending.discard(self)
        left = self._due - self._reactor.seconds()
        if left > 0.0:  # the wall clock was set forward
            self._arm(left)
        else:
            self._function()

    def getTime(self) -> float:
        return self._due

    def cancel(self) -> None:
        self._call.cancel()
        self._reactor.pending.discard(self)

    def delay(self, secondsLater: float) -> None:
        self.reset(self._due + secondsLater - self._reactor.seconds())

    def reset(self, secondsFromNow: float) -> None:
        due = self._reactor.seconds() + secondsFromNow  # first, since it may set the call again
        self._call.reset(max(0.0, secondsFromNow))
        self._due = due

    def active(self) -> bool:
        return bool(self._call.active())


class SteadyReactor:
    """
    A reactor that runs by the wall clock, with its timers replaced by monotonic ones. Everything else is the reactor's.

    :param beneath: the reactor, which is not changed.
    """

    def __init__(self, beneath: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.beneath = beneath
        self.pending: set[_SteadyCall] = set()
        self._monotonic = monotonic
        self._ahead = beneath.seconds() - monotonic()
        directlyProvides(self, providedBy(beneath))

    def seconds(self) -> float:
        """Read the monotonic clock; if the wall clock was set in the meantime, correct the timers."""
        now = self._monotonic()
        ahead = self.beneath.seconds() - now
        if not -STEP < ahead - self._ahead < STEP:
            self._ahead = ahead
            for call in list(self.pending):
                call.rearm()
        return now

    def callLater(self, delay: float, function: Callable[..., object], /, *args: object, **kw: object) -> IDelayedCall:
        return cast(IDelayedCall, _SteadyCall(self, delay, partial(function, *args, **kw)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


#: One for each reactor, as long as it is referenced, so that detecting that the wall clock was set corrects all timers.
_steadied: WeakValueDictionary[int, SteadyReactor] = WeakValueDictionary()


def timers(reactor: R) -> R:
    """
    Return a reactor whose timers are monotonic.

    :returns: for a Twisted reactor that runs by the wall clock, its only :class:`SteadyReactor`; anything else is
        returned as it is.
    """
    if not isinstance(reactor, ReactorBase) or cast(Any, reactor).seconds is time.monotonic:
        return reactor
    found = _steadied.get(id(reactor))
    if found is None:
        found = _steadied[id(reactor)] = SteadyReactor(reactor)
    return cast(R, found)
