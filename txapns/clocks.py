"""
Two clocks, which are never taken for each other.

The *wall clock* (:class:`IWallClock`, read by ``now()``) dates things: when a provider token was signed, when a
notification expires, since when a device is gone. People and NTP set it, forward and back. The *monotonic clock* (an
``IReactorTime``, read by ``seconds()``) measures how long things take, and nobody sets it. Nothing has both methods, so
that a type checker, or else an ``AttributeError``, finds the one taken for the other.

A reactor of Twisted measures durations by the wall clock (twisted#2424): when the clock is set back by an hour, each of
its timers is an hour late. :func:`steady` mends a reactor.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from zope.interface import Interface, implementer

__all__ = ["IWallClock", "SystemWallClock", "steady", "wall_clock"]

R = TypeVar("R")


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
