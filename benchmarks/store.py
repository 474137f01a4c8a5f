"""
How many notifications a second the daemon's queue accepts, leases and settles, in one process.

    python benchmarks/store.py [--count 100000] [--postgresql] [--outcomes] [--waiting 20000 2000000] [--directory DIR]
    python benchmarks/store.py --accept [--waiting 10000 1000000] [--count 50000] [--postgresql]

Each line is one run on an empty database: the size of the requests, the operation, notifications a second, the CPU time
of the whole process for each (all threads together), and how long a request waited to be stored. In a "busy" run the
reactor's thread does other work half of the time, 4 ms at a stretch, as a daemon's does.

With ``--postgresql`` the store is on a PostgreSQL server of the benchmark's own, and its CPU time is told as well. With
``--waiting`` so many more notifications wait while some are leased and settled, which should cost the same. With
``--outcomes`` the outcomes are recorded in the outcome feed.

With ``--accept`` notifications are accepted while so many more wait, with ids of the daemon's and with random ones, as
callers may choose. What the process wrote for each is told, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count as counted
from pathlib import Path

import attrs
from database_server import DatabaseServer, database_server
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater, react

from txapns._network.clocks import wall_clock
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.store.acceptance import uuid_text
from txapns.daemon.store.postgresql.database import Database as PostgreSQLDatabase
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.store import PostgreSQLStore
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.store.store import IStore
from txapns.daemon.values import Message

PAYLOAD = (
    b'{"aps":{"alert":{"title":"Your move","body":"Queen takes d5. It is your turn."},"badge":1,"sound":"default"}}'
)
HEADERS = {"apns-topic": "com.example.chess", "apns-push-type": "alert"}
CONCURRENCY = 64


class Bench:
    """A store of its own, and the operations on it."""

    def __init__(self, reactor: object, store: IStore, count: int, size: int, *, random: bool = False) -> None:
        self.clock = reactor
        self.store = store
        self.queue = self.store.queue
        self.count = count
        self.size = size
        self.ids = _random_ids if random else Identifiers(wall_clock(reactor)).take
        self.left = requests_of(count, size)
        self.waited: list[float] = []

    async def accept_some(self) -> None:
        """Make requests one after the other, as one caller does."""
        while self.left > 0:
            self.left -= 1
            tokens, started = [os.urandom(32) for _ in range(self.size)], time.perf_counter()
            message = Message("chess", PAYLOAD, HEADERS, tokens, self.ids(self.size))
            await self.queue.accept([message])
            self.waited.append(time.perf_counter() - started)

    async def accept(self) -> None:
        """Make requests as many callers do at the same time."""
        await gatherResults([Deferred.fromCoroutine(self.accept_some()) for _ in range(CONCURRENCY)])

    async def send_some(self, unsent: list[int]) -> None:
        """Lease and settle until as many as that are settled, and no more: perhaps no more wait."""
        while unsent[0] > 0:
            wanted = min(250, unsent[0])
            unsent[0] -= wanted
            leased = await self.queue.lease("chess", wanted, self.clock.seconds() + 60)
            unsent[0] += wanted - len(leased)
            if leased:
                await self.queue.settle([], [each.number for each in leased])
            else:
                await deferLater(self.clock, 0.005)

    async def send(self) -> None:
        """Do so several times at once, as a dispatcher with up to 4,000 notifications in flight does."""
        unsent = [self.count]
        await gatherResults([Deferred.fromCoroutine(self.send_some(unsent)) for _ in range(16)])

    async def both(self) -> None:
        """Do both at the same time."""
        await gatherResults([Deferred.fromCoroutine(each) for each in (self.accept(), self.send())])


def requests_of(count: int, size: int) -> int:
    """Tell how many requests of a size are for at least so many notifications."""
    return -(-count // size)


def _random_ids(count: int) -> list[str]:
    digits = os.urandom(16 * count).hex()
    return [uuid_text(digits[at : at + 32]) for at in range(0, 32 * count, 32)]


@attrs.frozen
class Cost:
    """
    What each notification took.

    :ivar cpu: the CPU time of the process, in microseconds.
    :ivar served: that of the PostgreSQL server.
    :ivar written: how many octets were written, by the process or into the server's write-ahead log.
    """

    cpu: float
    served: float
    written: float


@attrs.frozen
class Place:
    """
    Where stores are made.

    :ivar server: the PostgreSQL server; ``None`` for SQLite.
    :ivar outcomes: whether outcomes are recorded.
    """

    directory: Path
    server: DatabaseServer | None
    outcomes: bool
    number: Iterator[int] = attrs.Factory(counted)

    @contextmanager
    def store(self, reactor: object) -> Iterator[IStore]:
        """Make a store with an empty database."""
        with self._made(reactor) as store:
            store.outcome_feed.keep(["chess"] if self.outcomes else [])
            yield store

    @contextmanager
    def _made(self, reactor: object) -> Iterator[IStore]:
        if self.server is not None:
            settings = Settings(self.server.url, schema=f"bench{next(self.number)}")
            yield PostgreSQLStore(PostgreSQLDatabase(settings, reactor))
            return
        with tempfile.TemporaryDirectory(dir=self.directory) as name:
            yield SQLiteStore(Database(Path(name) / "store", reactor))

    def spent(self) -> tuple[float, float, float]:
        """Tell the CPU seconds of the process and of the server so far, and how many octets were written."""
        times = os.times()
        if self.server is not None:
            return times.user + times.system, self.server.cpu_time(), self.server.written()
        lines = Path("/proc/self/io").read_text().splitlines()
        return times.user + times.system, 0.0, int(dict(line.split(": ") for line in lines)["wchar"])

    async def measure(
        self, label: str, count: int, work: Callable[[], Awaitable[None]], waited: list[float] | None = None
    ) -> None:
        """Run an operation, and print its costs."""
        served = self.server.cpu_time() if self.server else 0.0
        before, started = os.times(), time.perf_counter()
        await work()
        took, after = time.perf_counter() - started, os.times()
        cpu = (after.user + after.system - before.user - before.system) / count * 1e6
        waits = sorted(waited or [])
        said = ""
        if self.server:
            said += f" {(self.server.cpu_time() - served) / count * 1e6:6.1f} µs the server's"
        if waits:
            said += (
                f"  stored after {waits[len(waits) // 2] * 1e3:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.0f}"
            )
        print(f"{label:44} {count / took:9,.0f}/s {cpu:6.1f} µs CPU{said}", flush=True)


async def accepting(reactor: object, place: Place, waiting: int, count: int, *, random: bool) -> Cost:
    """
    Accept notifications in requests of 100 while many wait.

    :param waiting: how many wait.
    :param random: whether ids are random, as callers may choose them; otherwise they are the daemon's own.
    :returns: what each took.
    """
    with place.store(reactor) as store:
        await store.start()
        await Bench(reactor, store, waiting, 1000, random=random).accept()
        if place.server is not None:
            place.server.tidy()
        bench = Bench(reactor, store, count, 100, random=random)
        before = place.spent()
        await bench.accept()
        cost = [(after - earlier) / count for earlier, after in zip(before, place.spent(), strict=True)]
        await store.stop()
        return Cost(cost[0] * 1e6, cost[1] * 1e6, cost[2])


async def acceptance(reactor: object, place: Place, waiting: list[int], count: int) -> None:
    """Compare the costs of accepting while few and many wait, in turn."""
    for random in (False, True):
        for number in waiting:
            cost = await accepting(reactor, place, number, count, random=random)
            said = f"{cost.cpu:6.1f} µs CPU {cost.served:6.1f} µs the server's {cost.written:7.0f} octets written"
            print(f"{'random' if random else 'own':6} ids, {number:9,} wait: {said}", flush=True)


def burn() -> None:
    """Keep the thread busy."""
    until = time.perf_counter() + 0.004
    while time.perf_counter() < until:
        pass


async def requests(reactor: object, place: Place, size: int, count: int, *, busy: bool) -> None:
    """Measure with requests of one size."""
    with place.store(reactor) as store:
        bench = Bench(reactor, store, count, size)
        await store.start()
        label = f"requests of {size}{', busy' if busy else ''}: "
        burning = LoopingCall(burn)
        if busy:
            burning.start(0.008)
        else:
            await place.measure(label + "accept", count, bench.accept, bench.waited)
            await place.measure(label + "lease and settle", count, bench.send)
            bench.left = requests_of(count, size)
        bench.waited.clear()
        await place.measure(label + "all at the same time", count, bench.both, bench.waited)
        if busy:
            burning.stop()
        await store.stop()


async def depths(reactor: object, place: Place, waiting: list[int], count: int) -> None:
    """Measure while many more wait, in turn."""
    for number in waiting:
        with place.store(reactor) as store:
            await store.start()
            bench = Bench(reactor, store, number + 3 * count, 1000)
            await bench.accept()
            bench.count = count
            if place.server is not None:
                place.server.tidy()
            for _ in range(3):
                await place.measure(f"{number:,} more wait: lease and settle", count, bench.send)
            await store.stop()


async def run(reactor: object, given: argparse.Namespace) -> None:
    """Run everything."""
    running = database_server(given.directory, given.binaries) if given.postgresql else nullcontext()
    with running as server, tempfile.TemporaryDirectory(dir=given.directory) as directory:
        place = Place(Path(directory), server, given.outcomes)
        if given.accept:
            await acceptance(reactor, place, given.waiting or [10_000, 1_000_000], given.count)
            return
        if given.waiting:
            await depths(reactor, place, given.waiting, given.count)
            return
        for size, number in ((100, given.count), (1, given.count // 5)):
            for busy in (False, True):
                await requests(reactor, place, size, number, busy=busy)


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description="Measure the daemon's queue by itself.")
    parser.add_argument("--count", type=int, default=100_000, help="how many notifications")
    parser.add_argument("--postgresql", action="store_true", help="store in PostgreSQL instead of SQLite")
    parser.add_argument("--outcomes", action="store_true", help="record the outcomes")
    parser.add_argument("--accept", action="store_true", help="accept while so many wait, with any ids")
    parser.add_argument("--waiting", nargs="*", type=int, help="lease and settle while so many more wait, in turn")
    parser.add_argument("--directory", type=Path, help="where to make the databases, on a disk")
    parser.add_argument("--binaries", type=Path, help="the directory of the PostgreSQL server's programs")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, given)))


if __name__ == "__main__":
    main()
