"""
The admin endpoint with many apps: how long each answer takes, and for how long at a time it holds the reactor.

    python -m benchmarks.status_page [--apps 5000 10000]

A tenth of the apps is busy, and the others have nothing to send. Both figures are measured as the time of the
processor, so other programs on the machine do not count. Nothing is stored, and there is no HTTP: what the health check
asks is in memory.
"""

from __future__ import annotations

import argparse
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
from txapns.daemon.values import Depth, Entry, Estimate, Limits, Settlement, State

__all__ = ["main"]

#: The goals: ms of the page and of the metrics, and ms in one turn of the reactor.
PAGE, METRICS, TURN = 100, 200, 10


class MemoryStore:
    """What a health check asks of queue, outcome log and dispatcher."""

    trouble = ""

    def __init__(self, apps: list[str]) -> None:
        self._apps = apps
        self._busy = dict.fromkeys(apps[::10])

    def depths(self) -> Deferred[list[Depth]]:
        """Count what waits."""
        return succeed([Depth(name, 3, 0, None) for name in self._busy])

    def waiting(self, app: str) -> Estimate:
        """Estimate what waits."""
        return Estimate(3, 0.0)

    def dead_letters(self) -> Deferred[dict[str, int]]:
        """Count the dead letters."""
        return succeed({self._apps[7]: 3})

    def failures(self, app: str | None, limit: int) -> Deferred[list[Entry]]:
        """List the latest failures."""
        return succeed([])

    def state(self, app: str) -> AppState | None:
        """Tell what a sender knows."""
        return AppState(app, in_flight=3, under_way=3, connections=("ready",)) if app in self._busy else None

    def sending(self) -> list[str]:
        """List the apps of which something is under way."""
        return list(self._busy)


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


async def measure(reactor: Any, count: int) -> None:
    """Measure with so many apps."""
    names = [f"app{number:05}" for number in range(count)]
    store, metrics, apps = MemoryStore(names), DaemonMetrics(reactor), Apps({name: Limits() for name in names})
    kept: Any = HealthStore(store, store, store, SingleNode(reactor))  # type: ignore[arg-type]
    health = HealthCheck(reactor, kept, apps, problems=dict, senders=store)
    page = StatusPage(reactor, health, History(reactor, metrics.totals))
    for name in names[::10]:
        metrics.received("native", name, 3)
        metrics.settled(name, [], [Settlement(1, State.ACCEPTED, 200), Settlement(2, State.REJECTED, 410)], 0.0)
        metrics.client(name).sent(3)

    async def scrape() -> bytes:
        return await metrics.render(await health.overview())

    turns = Turns(reactor)
    print(f"{count:,} apps:")
    for name, ask, pause, goal in (
        ("first page", lambda: page.html(Query()), 0.0, None),
        ("page, with a health check", lambda: page.html(Query()), 2.0, PAGE),
        ("last page, same health check", lambda: page.html(Query(page=count // 50)), 0.0, PAGE),
        ("search, with a health check", lambda: page.html(Query("app0123")), 2.0, PAGE),
        ("search, same health check", lambda: page.html(Query("app0123")), 0.0, PAGE),
        ("health check", health.overview, 2.0, None),
        ("metrics, with a health check", scrape, 2.0, METRICS),
        ("metrics, same health check", scrape, 0.0, METRICS),
    ):
        calm_collector()
        await _sleep(reactor, pause)
        turns.begin()
        answer: Any = await ask()
        took = (time.thread_time() - turns.began) * 1000
        await _sleep(reactor, 0.0)
        long = turns.longest * 1000
        missed = ", NOT REACHED" if goal is not None and (took > goal or long > TURN) else ""
        size = f", {len(answer):,} bytes" if isinstance(answer, bytes) else ""
        print(f"  {name}: {took:.0f} ms, longest turn {long:.1f} ms{size}{missed}")


async def main(reactor: Any, *counts: int) -> None:
    """Measure with each number of apps."""
    for count in counts:
        await measure(reactor, count)


def _sleep(reactor: Any, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--apps", nargs="+", type=int, default=[5_000, 10_000])
    given = parser.parse_args()
    sys.exit(react(lambda reactor: Deferred.fromCoroutine(main(reactor, *given.apps))))
