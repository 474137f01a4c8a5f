"""
A service that reads the feedback service of the binary protocol at regular intervals.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from twisted.application.internet import TimerService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txapns._network.clocks import timers
from txapns.client import APNSClient
from txapns.errors import APNSError
from txapns.feedback import DeadToken

__all__ = ["FeedbackPoller"]

_log = Logger()

_DAY = 86_400.0


class FeedbackPoller(TimerService):
    """
    A service that reads the feedback service at regular intervals, once a day by default, and passes on what it lists.

    When reading or the callback fails, this is logged, and tried again at the next interval. A callback that failed is
    called with the same tokens again, before new ones, so it may see some twice.

    :param client: a client of a binary gateway; not one that a :class:`~txapns.Session` closes when it is idle.
    :param callback: called with a list of ``(token, datetime)`` whenever there are some; it may return a ``Deferred``
        or a coroutine.
    :param interval: the time between readings, in seconds.
    :param clock: the reactor, or a ``Clock``.
    :raises ValueError: the interval is not a positive number.
    """

    def __init__(
        self,
        client: APNSClient,
        callback: Callable[[list[DeadToken]], Awaitable[object] | None],
        interval: float = _DAY,
        *,
        clock: IReactorTime,
    ) -> None:
        if not 0 < interval < math.inf:
            raise ValueError("the interval must be a positive number of seconds")
        super().__init__(interval, self._poll)  # type: ignore[no-untyped-call]
        self.clock = timers(clock)
        self._client = client
        self._callback = callback
        self._owed: list[DeadToken] = []
        self._reading: Deferred[list[DeadToken]] | None = None

    def stopService(self) -> Deferred[None]:
        """
        Stop. A current reading is cancelled, and the client keeps what was read; a running callback is waited for.

        :returns: a ``Deferred`` that fires when both have ended.
        """
        if self._reading is not None:
            self._reading.cancel()
        stopped: Deferred[None] = super().stopService()  # type: ignore[no-untyped-call]
        return stopped

    async def _poll(self) -> None:
        self._reading = self._client.feedback()
        try:
            self._owed += await self._reading
        except CancelledError:
            return
        except APNSError as error:
            _log.warn(
                "{gateway}: feedback was not read: {reason}", gateway=str(self._client.gateway), reason=str(error)
            )
        finally:
            self._reading = None
        if self._owed:
            try:
                await maybeDeferred(self._callback, list(self._owed))
            except Exception:
                _log.failure("{count} dead tokens will be offered again: the callback failed", count=len(self._owed))
            else:
                self._owed.clear()
