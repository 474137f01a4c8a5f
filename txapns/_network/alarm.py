"""One timer for work that is due at some time, and may turn out to be due sooner."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Alarm"]


class Alarm:
    """
    A timer that can be set again and again, and keeps the earliest time.

    There is never more than one delayed call in the reactor, however often the alarm is set.

    :param ring: called without arguments when the time has come. It may set the alarm again.
    """

    def __init__(self, clock: IReactorTime, ring: Callable[[], object]) -> None:
        self._clock = clock
        self._ring = ring
        self._call: IDelayedCall | None = None

    @property
    def is_set(self) -> bool:
        return self._call is not None

    def set(self, delay: float) -> None:
        """Ring after a delay, in seconds, unless the alarm is set to ring sooner."""
        if self._call is not None:
            if self._call.getTime() <= self._clock.seconds() + delay:
                return
            self._call.cancel()
        self._call = self._clock.callLater(delay, self._elapsed)

    def cancel(self) -> None:
        """Do not ring. If the alarm is not set, this does nothing."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _elapsed(self) -> None:
        self._call = None
        self._ring()
