"""
Polling the store for changes that others make: ``txapns apps`` and ``txapns keys`` run in processes of their own.

The store counts the changes of a table, so that polling an unchanged table reads one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns.daemon.errors import DaemonError

__all__ = ["INTERVAL", "ChangePoller"]

_log = Logger()

#: How many seconds pass between two polls.
INTERVAL = 1.0

_T = TypeVar("_T")


class ChangePoller(Generic[_T]):
    """Polls at regular intervals."""

    def __init__(self, clock: IReactorTime, read: Callable[[], Deferred[_T]], found: Callable[[_T], None]) -> None:
        self._read = read
        self._found = found
        self._complaint: str | None = None
        self._loop = LoopingCall(self._poll_again)
        self._loop.clock = clock
        self._ended: Deferred[None] = succeed(None)

    def start(self) -> Deferred[None]:
        """
        Poll for the first time, and then every :data:`INTERVAL`.

        :raises DaemonError: the first poll failed; polling does not start.
        """
        return self.poll().addCallback(self._go_on)

    def stop(self) -> Deferred[None]:
        """
        Stop polling.

        :returns: a ``Deferred`` that fires when the last poll has ended.
        """
        if self._loop.running:
            self._loop.stop()
        return self._ended

    def poll(self) -> Deferred[None]:
        """Poll now."""
        return self._read().addCallback(self._found)

    def _go_on(self, _: None) -> None:
        self._ended = self._loop.start(INTERVAL, now=False).addCallback(lambda _: None)

    def _poll_again(self) -> Deferred[None]:
        return self.poll().addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, _: None) -> None:
        self._complaint = None

    def _failed(self, failure: Failure) -> None:
        """Log it once, and go on with what was found before."""
        complaint, self._complaint = self._complaint, failure.getErrorMessage()
        if self._complaint == complaint:
            return
        if failure.check(DaemonError):
            _log.warn("changes of the database are not seen: {reason}", reason=self._complaint)
        else:
            _log.failure("changes of the database are not seen", failure)
