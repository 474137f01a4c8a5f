"""
The limits of waiting: how many deliveries may wait, and for how long without progress.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Admission", "Patience"]


class Admission:
    """
    Lets callers wait for their turn while as many single deliveries wait as may.

    :param most: how many that is.
    :param waiting: returns how many wait.

    :ivar closed: whether there is nothing to wait for any more.
    """

    def __init__(self, most: int, waiting: Callable[[], int]) -> None:
        self.closed = False
        self._most = most
        self._waiting = waiting
        self._callers: OrderedDict[Deferred[None], None] = OrderedDict()  # cancelling one must not search them all
        self._admitting = False

    def when_ready(self) -> Deferred[None]:
        """
        Wait until another delivery may wait.

        :returns: a ``Deferred`` that fires when there is room, or when nothing is taken any more.
        """
        ready: Deferred[None] = Deferred(self._callers.pop)
        self._callers[ready] = None
        self.admit()
        return ready

    def admit(self) -> None:
        """Let callers proceed while there is room: one after the other, since each may fill the place."""
        if self._admitting:
            return  # a caller sends: the loop below continues
        self._admitting = True
        while self._callers and (self.closed or self._waiting() < self._most):
            ready, _ = self._callers.popitem(last=False)
            ready.callback(None)
        self._admitting = False


class Patience:
    """
    The deadline for what waits: it expires when nothing could be handed to a connection for a time.

    :param clock: the reactor, or a ``Clock``.
    :param timeout: how long, in seconds.
    :param excused: returns whether there is a reason to wait longer.

    :ivar progress: when something was last handed to a connection.
    :ivar tried: whether a connection has failed since work began to wait.
    """

    def __init__(
        self, clock: IReactorTime, timeout: float, excused: Callable[[], bool], expired: Callable[[], None]
    ) -> None:
        self.progress = 0.0
        self.tried = False
        self._clock = clock
        self._timeout = timeout
        self._excused = excused
        self._expired = expired
        self._timer: IDelayedCall | None = None

    def watch(self, waiting: bool) -> None:
        """
        Start or stop the deadline.

        :param waiting: whether anything waits for a connection now.
        """
        if self._timer is None and waiting:
            self.progress = self._clock.seconds()
            self.tried = False
            self._timer = self._clock.callLater(self._timeout, self._elapsed)
        elif self._timer is not None and not waiting:
            self._timer.cancel()
            self._timer = None

    def _elapsed(self) -> None:
        self._timer = None
        left = self.progress + self._timeout - self._clock.seconds()
        if left <= 0 and self._excused():
            left = self._timeout
        if left > 0:
            self._timer = self._clock.callLater(left, self._elapsed)
        else:
            self._expired()
