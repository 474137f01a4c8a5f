"""
The status page with ten thousand apps: how long an answer takes, and for how long at a time it holds the reactor.

    python -m benchmarks.status_page

Both are measured as the time of the processor, so other programs on the machine do not count. Nothing is stored, and
there is no HTTP: what the health check asks is in memory.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import react

from tests.daemon.admin_world import HealthStore
from tests.daemon.fakes import Apps
from txapns.daemon.operations.app_list import Query
from txapns.daemon.operations.collector import calm_collector
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.sending.context import AppState
from txapns.daemon.store.cluster import SingleNode
from txapns.daemon.values import Depth, Estimate, Limits

__all__ = ["main"]

APPS = [f"app{number:05}" for number in range(10_000)]


class MemoryStore:
    """What a health check asks of queue and outcome log."""

    trouble = ""

    def depths(self) -> Deferred[list[Depth]]:
        """Count what waits."""
        return succeed([Depth(name, 3, 0, None) for name in APPS])

    def waiting(self, app: str) -> Estimate:
        """Estimate what waits."""
        return Estimate(3, 0.0)

    def dead_letters(self) -> Deferred[dict[str, int]]:
        """Count the dead letters."""
        return succeed({APPS[7]: 3})


class Turns:
    """Watches the turns of the reactor; ``longest`` is the longest since the last :meth:`begin`, in seconds."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.begin()
        reactor.callLater(0, self._turn)

    def begin(self) -> None:
        """Begin again."""
        self.longest, self.began, self._last = 0.0, time.thread_time(), time.thread_time()

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now
        self._reactor.callLater(0, self._turn)


async def main(reactor: Any) -> None:
    """Measure."""
    store, metrics = MemoryStore(), DaemonMetrics(reactor)
    states = [AppState(name, connections=("ready",)) for name in APPS]
    kept: Any = HealthStore(store, store, store, SingleNode(reactor))  # type: ignore[arg-type]
    apps = Apps({name: Limits() for name in APPS})
    health = HealthCheck(reactor, kept, apps, problems=dict, states=lambda: states)
    page = StatusPage(reactor, health, History(reactor, metrics.totals))
    turns = Turns(reactor)
    await page.html(Query())
    calm_collector()
    for name, query, pause in (
        ("page, with a health check", Query(), 2.0),
        ("last page, same health check", Query(page=200), 0.0),
        ("search, with a health check", Query("app0123"), 2.0),
        ("search, same health check", Query("app0123"), 0.0),
    ):
        await _sleep(reactor, pause)
        turns.begin()
        text = await page.html(query)
        took = time.thread_time() - turns.began
        await _sleep(reactor, 0.0)
        print(f"{name}: {took * 1000:.0f} ms, longest turn {turns.longest * 1000:.0f} ms, {len(text):,} bytes")


def _sleep(reactor: Any, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


if __name__ == "__main__":
    sys.exit(react(lambda reactor: Deferred.fromCoroutine(main(reactor))))
