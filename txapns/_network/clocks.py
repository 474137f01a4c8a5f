"""
Two clocks, which are never taken for each other.

The *wall clock* (:class:`IWallClock`, read by ``now()``) dates things: when a provider token was signed, when a
notification expires, since when a device is gone. People and NTP set it, forward and back. The *monotonic clock* (an
``IReactorTime``, read by ``seconds()``) measures how long things take, and nobody sets it. Nothing has both methods, so
that a type checker, or else an ``AttributeError``, finds the one taken for the other.

A reactor of Twisted measures durations by the wall clock (twisted#2424): when the clock is set back by an hour, each of
its timers is an hour late. :func:`steady` mends a reactor. But a library's reactor is the program's, and may be as it
was; so what needs timers here takes :func:`timers` of it. There each timer knows by the monotonic clock when it is due,
and asking for the time or for a timer finds out whether the wall clock was set; then all that are pending are set anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import Interface, directlyProvides, implementer, providedBy

__all__ = ["IWallClock", "SteadyReactor", "SystemWallClock", "steady", "timers", "wall_clock"]

R = TypeVar("R")

#: By how many seconds the wall clock may be set before timers are set anew: they are late by no more.
STEP = 0.1


class IWallClock(Interface):
    """What dates things. It may be set, forward and back, at any moment."""

    def now() -> float:
        """Tell what time it is, in UNIX seconds."""


@implementer(IWallClock)
class SystemWallClock:
    """The wall clock of the operating system."""

    def now(self) -> float:
        """Tell what time it is, in UNIX seconds."""
        return time.time()


@implementer(IWallClock)
class _HandTurned:
    """A ``Clock`` that a test turns by hand: its time is the date as well."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.seconds()


def wall_clock(reactor: object) -> IWallClock:
    """
    Find the wall clock that belongs to a reactor.

    :param reactor: the reactor, or a ``Clock``.
    :returns: the reactor itself where it provides :class:`IWallClock`, or the one that it adapts to; for a ``Clock``,
        its own time; otherwise the operating system's.
    """
    own: IWallClock | None = IWallClock(reactor, None)
    if own is not None:
        return own
    return _HandTurned(reactor) if isinstance(reactor, Clock) else SystemWallClock()


def steady(reactor: R) -> R:
    """
    Make the timers of a reactor monotonic, so that no step of the wall clock moves them.

    Call it once, before or while the reactor runs. Timers that are set already keep what is left of their delay.

    :param reactor: a reactor of Twisted. Anything else that provides ``IReactorTime`` is returned as it is, and so is a
        reactor that is steady already.
    :returns: the same reactor.
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
    """A call of a :class:`SteadyReactor`, made by one of the reactor beneath, which may have to be set anew."""

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
        """The wall clock was set: count what is left of the delay from now."""
        self._call.reset(max(0.0, self._due - self._reactor.seconds()))

    def _elapsed(self) -> None:
        self._reactor.pending.discard(self)
        left = self._due - self._reactor.seconds()
        if left > 0.0:  # the wall clock was set forward
            self._arm(left)
        else:
            self._function()

    def getTime(self) -> float:
        """When it is due, by the monotonic clock."""
        return self._due

    def cancel(self) -> None:
        """Do not make it."""
        self._call.cancel()
        self._reactor.pending.discard(self)

    def delay(self, secondsLater: float) -> None:
        """Make it so much later."""
        self.reset(self._due + secondsLater - self._reactor.seconds())

    def reset(self, secondsFromNow: float) -> None:
        """Make it so much later than now."""
        due = self._reactor.seconds() + secondsFromNow  # first, for it may set the call anew
        self._call.reset(max(0.0, secondsFromNow))
        self._due = due

    def active(self) -> bool:
        """Whether it is still to be made."""
        return bool(self._call.active())


class SteadyReactor:
    """
    A reactor that goes by the wall clock, with monotonic timers in the place of its own. All else is the reactor's.

    :param beneath: the reactor, which stays as it is.
    :param monotonic: the monotonic clock.

    :ivar beneath: the same.
    :ivar pending: the calls that are to be made.
    """

    def __init__(self, beneath: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.beneath = beneath
        self.pending: set[_SteadyCall] = set()
        self._monotonic = monotonic
        self._ahead = beneath.seconds() - monotonic()
        directlyProvides(self, providedBy(beneath))

    def seconds(self) -> float:
        """Tell the time by the monotonic clock; if the wall clock was set meanwhile, put the timers right."""
        now = self._monotonic()
        ahead = self.beneath.seconds() - now
        if not -STEP < ahead - self._ahead < STEP:
            self._ahead = ahead
            for call in list(self.pending):
                call.rearm()
        return now

    def callLater(self, delay: float, function: Callable[..., object], /, *args: object, **kw: object) -> IDelayedCall:
        """
        Call something later.

        :param delay: after how many seconds.
        :param function: what to call.
        :param args: its arguments.
        :param kw: its keyword arguments.
        :returns: the call.
        """
        call: IDelayedCall = _SteadyCall(self, delay, partial(function, *args, **kw))
        return call

    def __getattr__(self, name: str) -> Any:
        """All else is the reactor's."""
        return getattr(self.beneath, name)


#: One for each reactor, as long as somebody has it, so that one that finds the wall clock set finds it for all.
_steadied: WeakValueDictionary[int, SteadyReactor] = WeakValueDictionary()


def timers(reactor: R) -> R:
    """
    Give a reactor whose timers are monotonic.

    :param reactor: the reactor, or a ``Clock``.
    :returns: for a reactor of Twisted that goes by the wall clock its :class:`SteadyReactor`, the same for all; for
        anything else the same.
    """
    if not isinstance(reactor, ReactorBase) or cast(Any, reactor).seconds is time.monotonic:
        return reactor
    found = _steadied.get(id(reactor))
    if found is None:
        found = _steadied[id(reactor)] = SteadyReactor(reactor)
    return cast(R, found)
