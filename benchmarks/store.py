"""
How many notifications a second the daemon's queue accepts, leases and settles, in one process.

    python benchmarks/store.py [notifications] [directory]

Each line is one run on an empty database: the size of the requests, the operation, notifications a second, the CPU time
of the whole process for each (all threads together), and how long a request waited to be stored. In a "busy" run the
reactor's thread does other work half of the time, 4 ms at a stretch, as a daemon's does.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater, react

from txapns._network.clocks import wall_clock
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import Message, Settlement, State

PAYLOAD = (
    b'{"aps":{"alert":{"title":"Your move","body":"Queen takes d5. It is your turn."},"badge":1,"sound":"default"}}'
)
HEADERS = {"apns-topic": "com.example.chess", "apns-push-type": "alert"}
CONCURRENCY = 64


class Bench:
    """A store in a file of its own, and the operations on it."""

    def __init__(self, reactor: object, directory: Path, count: int, size: int) -> None:
        self.clock = reactor
        self.store = SQLiteStore(Database(directory / "store", reactor))
        self.queue = self.store.queue
        self.count = count
        self.size = size
        self.identifiers = Identifiers(wall_clock(reactor))
        self.left = count // size
        self.waited: list[float] = []

    async def accept_some(self) -> None:
        """Make requests one after the other, as one caller does."""
        while self.left > 0:
            self.left -= 1
            tokens, started = [os.urandom(32) for _ in range(self.size)], time.perf_counter()
            message = Message("chess", PAYLOAD, HEADERS, tokens, self.identifiers.take(self.size))
            await self.queue.accept([message])
            self.waited.append(time.perf_counter() - started)

    async def accept(self) -> None:
        """Make requests as many callers do at the same time."""
        await gatherResults([Deferred.fromCoroutine(self.accept_some()) for _ in range(CONCURRENCY)])

    async def send_some(self, sent: list[int]) -> None:
        """Lease and settle until everything is settled."""
        while sent[0] < self.count:
            leased = await self.queue.lease("chess", 250, self.clock.seconds() + 60)
            if leased:
                await self.queue.settle([Settlement(each.number, State.ACCEPTED, 200) for each in leased])
                sent[0] += len(leased)
            else:
                await deferLater(self.clock, 0.005)

    async def send(self) -> None:
        """Do so several times at once, as a dispatcher with up to 4,000 notifications in flight does."""
        sent = [0]
        await gatherResults([Deferred.fromCoroutine(self.send_some(sent)) for _ in range(16)])

    async def both(self) -> None:
        """Do both at the same time."""
        await gatherResults([Deferred.fromCoroutine(each) for each in (self.accept(), self.send())])


async def measure(label: str, count: int, work: Callable[[], Awaitable[None]], waited: list[float]) -> None:
    """Run an operation, and print its costs."""
    waited.clear()
    before, started = os.times(), time.perf_counter()
    await work()
    took, after = time.perf_counter() - started, os.times()
    cpu = (after.user + after.system - before.user - before.system) / count * 1e6
    waits = sorted(waited)
    said = (
        f"  stored after {waits[len(waits) // 2] * 1e3:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.0f}"
        if waits
        else ""
    )
    print(f"{label:44} {count / took:9,.0f}/s {cpu:6.1f} µs CPU{said}")


def burn() -> None:
    """Keep the thread busy."""
    until = time.perf_counter() + 0.004
    while time.perf_counter() < until:
        pass


async def main(reactor: object, directory: Path, count: int) -> None:
    """Run everything."""
    for size, number in ((100, count), (1, count // 5)):
        for busy in (False, True):
            with tempfile.TemporaryDirectory(dir=directory) as name:
                bench = Bench(reactor, Path(name), number, size)
                await bench.store.start()
                label = f"requests of {size}{', busy' if busy else ''}: "
                burning = LoopingCall(burn)
                if busy:
                    burning.start(0.008)
                else:
                    await measure(label + "accept", number, bench.accept, bench.waited)
                    bench.waited.clear()
                    await measure(label + "lease and settle", number, bench.send, bench.waited)
                    bench.left = number // size
                await measure(label + "all at the same time", number, bench.both, bench.waited)
                if busy:
                    burning.stop()
                await bench.store.stop()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as directory:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor, Path(directory), count)))
