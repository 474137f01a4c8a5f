"""
Outcomes are deleted when they are older than the retention, a part at a time. So are those that are recorded.

Each part is small, so a prune never holds up other writes for long; while there is more, the next part follows soon.
Where several nodes share the store, one at a time has the duty to prune.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.cluster import ICluster, SingleNode
from txapns.daemon.store.retention import Retention

__all__ = ["Pruning"]

_log = Logger()

_INTERVAL = 60.0  # seconds from one prune to the next
_NEXT_PART = 0.1  # seconds, if there may be more to delete
_DUTY = "pruning"


class Pruning:
    """
    Deletes old outcomes, as long as the daemon runs.

    :param clock: the reactor, or a ``Clock``.
    :param prune: deletes some of those from before a date, and tells how many.
    :param cluster: the nodes that share the store; ``None`` if it cannot be shared.
    """

    def __init__(
        self,
        clock: IReactorTime,
        prune: Callable[[float], Deferred[int]],
        retention: Retention,
        cluster: ICluster | None = None,
    ) -> None:
        self._cluster = cluster or SingleNode(clock)
        self._delete = prune
        self._retention = retention
        self._alarm = Alarm(clock, self._prune)
        self._running = False

    def start(self) -> None:
        """Prune now, and from time to time."""
        self._running = True
        self._prune()

    def stop(self) -> None:
        """Stop pruning."""
        self._running = False
        self._alarm.cancel()

    def _prune(self) -> None:
        begin = self._retention.begin()  # also without the duty, since it tracks the clock
        if self._cluster.owns(_DUTY):
            self._delete(begin).addCallbacks(self._pruned, self._failed)
        else:
            self._pruned(0)

    def _pruned(self, count: int) -> None:
        if self._running:
            self._alarm.set(_NEXT_PART if count else _INTERVAL)

    def _failed(self, failure: Failure) -> None:
        if failure.check(Unavailable) is None:
            _log.failure("old outcomes could not be deleted", failure)
        self._pruned(0)
