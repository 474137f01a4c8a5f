"""
The daemon's throughput and latency from end to end: ``python benchmarks/daemon.py``.

Four processes on one machine: a caller that posts prepared requests to the HTTP API (``peers/daemon_caller.py``), the
daemon as an operator starts it (``txapns serve``, with keys, its database in a directory on the disk), the server of
``benchmarks/http2.py``, and this one, which measures. A notification counts when its outcome is committed.

- batches: requests of 100 tokens, as fast as they are accepted;
- half: the same at half the target rate, for the time from acceptance to Apple's response;
- single: requests of one token at concurrency 64;
- memory: a million in batches, with the daemon's memory over time (only with ``--memory``).

Each load has a daemon with an empty database, which has sent a few notifications before it is measured. First
``APNSClient.send`` sends to the same server. This is the limit: it stores nothing and reads no HTTP.

CPU times are per notification. Those of the daemon are given for all of its threads together, for the reactor's thread,
and for the thread that writes the database. The caller waits only for the responses to its requests: if they come
faster than notifications are sent, the queue grows, and it is emptied before the time is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import attrs
from http2 import ENVIRONMENT, HERE, KEY_ID, PEERS, SCENARIOS, TEAM_ID, TOPIC, Server, serving

TXAPNS = [sys.executable, "-m", "txapns"]
#: Requests that are sent before the measurement.
WARM_UP = 50
#: How often this process looks at the daemon, in seconds.
LOOK = 0.1
#: How long after the last request the last outcome may be settled, in seconds.
PATIENCE = 300
#: The goals: notifications a second, requests of one token a second, ms from acceptance to response, MB of growth.
RATE, SINGLE_RATE, LATENCY, GROWTH = 10_000, 2_000, 100, 20
#: Memory is reported after each of these many notifications.
STEP = 100_000


@attrs.frozen
class Load:
    """
    What is posted.

    :ivar says: a description.
    :ivar tokens: how many tokens a request has.
    :ivar connections: over how many connections.
    :ivar share: the number of notifications, as a fraction of ``--count``.
    :ivar rate: how many requests a second; 0 for as many as possible.
    """

    says: str
    tokens: int
    connections: int
    share: float
    rate: float = 0.0


LOADS = {
    "batches": Load("requests of 100 tokens, 16 connections", 100, 16, 1.0),
    "half": Load(f"the same at {RATE // 2:,} notifications/s", 100, 16, 0.5, RATE / 2 / 100),
    "single": Load("requests of 1 token, 64 connections", 1, 64, 0.1),
}
MEMORY = Load("1,000,000 in requests of 100 tokens", 100, 16, 0.0)

CONFIGURATION = """
[intake.native]
listen = "tcp:port=0:interface=127.0.0.1"

[admin]
listen = "tcp:port=0:interface=127.0.0.1"

[apps.chess]
gateway = "http2:host=localhost:port={port}"
trust_root = "{state}/ca.pem"
key = "AuthKey.p8"
key_id = "{key_id}"
team_id = "{team_id}"
topic = "{topic}"
"""


@attrs.frozen
class Figures:
    """
    The results of a load. Times are in ms, CPU times in µs per notification.

    :ivar count: how many notifications there were.
    :ivar rate: notifications a second, from the first acceptance to the last outcome.
    :ivar requests: requests a second.
    :ivar stored: the time until the response to a request: median and 99th percentile.
    :ivar answered: the time from acceptance to Apple's response, likewise.
    :ivar cpu: CPU time by process or thread.
    :ivar written: octets of the database server's log for each notification.
    :ivar memory: the daemon's memory in MB, by thousands of notifications.
    :ivar others: how many cores other processes on the machine used meanwhile.
    :ivar lost: how many were not accepted by the server.
    """

    count: int
    rate: float
    requests: float
    stored: tuple[float, float]
    answered: tuple[float, float]
    cpu: dict[str, float]
    written: float
    memory: dict[int, float]
    others: float
    lost: int


def cpu_times(process: int) -> dict[int, float]:
    """Return the CPU seconds of each thread of a process, the first thread first."""
    tasks = sorted(Path(f"/proc/{process}/task").iterdir(), key=lambda task: int(task.name))
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def all_cpu_time() -> float:
    """Return the CPU seconds of all processes."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Return the memory of a process in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


class Outcomes(Protocol):
    """What became of notifications, as a daemon's database tells."""

    def mark(self) -> None:
        """Count nothing that is in the database now."""

    def pending(self) -> bool:
        """Tell whether something is not settled."""

    def accepted(self) -> int:
        """Count those that Apple accepted."""

    def rows(self) -> list[tuple[int, int, int]]:
        """Return when each was settled and when accepted, in ms, and its state, by the time when it was settled."""

    def spent(self) -> tuple[float, int]:
        """Return the CPU seconds of the database's own processes so far, and how many octets of log they wrote."""

    def close(self) -> None:
        """Close the database."""


class SQLiteOutcomes:
    """
    The outcomes in SQLite, whose work is done in the daemon's process.

    :param path: the database.
    """

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._first = 0

    def mark(self) -> None:
        """See :class:`Outcomes`."""
        [(self._first,)] = self.database.execute("SELECT coalesce(max(number), 0) FROM queue_delivery")

    def pending(self) -> bool:
        """See :class:`Outcomes`."""
        return bool(self.database.execute("SELECT 1 FROM queue_delivery WHERE state = 0 LIMIT 1").fetchone())

    def accepted(self) -> int:
        """See :class:`Outcomes`."""
        [(count,)] = self.database.execute(
            "SELECT count(*) FROM queue_delivery WHERE state = 1 AND number > ?", [self._first]
        )
        return int(count)

    def rows(self) -> list[tuple[int, int, int]]:
        """See :class:`Outcomes`."""
        return self.database.execute(
            """
            SELECT settled_at, accepted_at, state FROM queue_delivery
            JOIN queue_message ON queue_message.number = message WHERE queue_delivery.number > ? ORDER BY settled_at
            """,
            [self._first],
        ).fetchall()

    def spent(self) -> tuple[float, int]:
        """See :class:`Outcomes`."""
        return 0.0, 0

    def close(self) -> None:
        """See :class:`Outcomes`."""
        self.database.close()


class Daemon:
    """
    A daemon in a process of its own, or several that share a database.

    :param server: the server that it sends to.
    :param processes: the processes.
    :param addresses: the addresses of their HTTP APIs.
    :param key: a key for it.
    :param outcomes: the outcomes in its database.
    """

    def __init__(
        self, server: Server, processes: list[int], addresses: list[str], key: str, outcomes: Outcomes
    ) -> None:
        self.server = server
        self.outcomes = outcomes
        self._processes = processes
        self._addresses = addresses
        self._key = key
        self._memory: list[tuple[float, float]] = []

    def measure(self, load: Load, count: int) -> Figures:
        """Post notifications, and measure what becomes of them."""
        self.call(load, WARM_UP)
        self._memory.clear()
        self.outcomes.mark()
        before, served, stored = self._cpu_times(), sum(cpu_times(self.server.process).values()), self.outcomes.spent()
        started, everybody, us = time.perf_counter(), all_cpu_time(), time.process_time()
        figures = self.call(load, count // load.tokens)
        took, everybody, us = time.perf_counter() - started, all_cpu_time() - everybody, time.process_time() - us
        threads = [
            [seconds - early.get(thread, 0.0) for thread, seconds in late.items()]
            for late, early in zip(self._cpu_times(), before, strict=True)
        ]
        database, written = (late - early for late, early in zip(self.outcomes.spent(), stored, strict=True))
        spent = {
            "daemon": sum(map(sum, threads)),
            "reactor": sum(times[0] for times in threads),
            "writer": sum(max(times[1:]) for times in threads),
            "database": database,
            "server": sum(cpu_times(self.server.process).values()) - served,
            "caller": figures["cpu"] / 1e6 * count / load.tokens,
        }
        others = everybody - us - sum(spent[name] for name in ("daemon", "database", "server", "caller"))
        rows = self.outcomes.rows()
        seconds = (rows[-1][0] - min(accepted for _, accepted, _ in rows)) / 1e3
        waits = sorted(settled - accepted for settled, accepted, _ in rows)
        return Figures(
            len(rows),
            len(rows) / seconds,
            figures["rate"],
            (figures["p50"], figures["p99"]),
            (waits[len(waits) // 2], waits[len(waits) * 99 // 100]),
            {name: each / len(rows) * 1e6 for name, each in spent.items()},
            written / len(rows),
            self._memory_at([settled / 1e3 for settled, _, _ in rows]),
            others / took,
            count - sum(state == 1 for _, _, state in rows),
        )

    def call(self, load: Load, requests: int) -> dict[str, float]:
        """Post requests, and wait until all notifications are settled; returns the caller's figures."""
        task = attrs.asdict(load) | {
            "addresses": self._addresses,
            "app": "chess",
            "key": self._key,
            "alert": self.server.alert,
            "requests": requests,
        }
        command = [sys.executable, str(HERE / "peers/daemon_caller.py"), json.dumps(task)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
            while caller.poll() is None:
                self._look()
            if caller.returncode != 0:
                raise SystemExit(f"the caller ended with {caller.returncode}")
            figures = json.load(caller.stdout)
        until = time.monotonic() + PATIENCE
        while self.outcomes.pending():
            self._look()
            if time.monotonic() > until:
                raise SystemExit("some notifications are not settled")
        return figures

    def _cpu_times(self) -> list[dict[int, float]]:
        return [cpu_times(process) for process in self._processes]

    def _look(self) -> None:
        self._memory.append((time.time(), sum(map(memory, self._processes))))
        time.sleep(LOOK)

    def _memory_at(self, settled: list[float]) -> dict[int, float]:
        """Find the memory at each step, given when notifications were settled, in order."""
        return {
            step // 1_000: min(self._memory, key=lambda seen: abs(seen[0] - settled[step - 1]))[1]
            for step in range(STEP, len(settled) + 1, STEP)
        }


def configure(home: Path, server: Server, more: str = "") -> Path:
    """Write a daemon's configuration; returns its file."""
    config = home / "apns.toml"
    (home / "AuthKey.p8").touch(mode=0o600)
    (home / "AuthKey.p8").write_bytes((server.state / "AuthKey.p8").read_bytes())
    config.write_text(
        CONFIGURATION.format(port=server.port, state=server.state, key_id=KEY_ID, team_id=TEAM_ID, topic=TOPIC) + more
    )
    return config


def add_key(config: Path) -> str:
    """Add a key for the app."""
    adding = [*TXAPNS, "keys", "add", "caller", "--config", str(config), "--app", "chess"]
    return subprocess.run(adding, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def serve(config: Path, program: list[str] = TXAPNS) -> Iterator[tuple[int, str]]:
    """Run a process with a configuration; returns its number, and the address of its HTTP API."""
    with serve_faces(config, program) as (process, addresses):
        yield process, addresses["intake.native"]


@contextmanager
def serve_faces(config: Path, program: list[str] = TXAPNS) -> Iterator[tuple[int, dict[str, str]]]:
    """Run a process with a configuration; returns its number, and the address of each of its listeners."""
    command = [*program, "serve", "--config", str(config)]
    log = config.with_suffix(".log")
    with log.open("w") as lines, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=lines, text=True) as process:
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(log.read_text())
            yield process.pid, {name: each for name, [each] in json.loads(line)["addresses"].items() if each}
        finally:
            process.terminate()


@contextmanager
def running(server: Server, directory: Path | None) -> Iterator[Daemon]:
    """Run a daemon with a database in SQLite."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        config = configure(Path(name), server)
        key = add_key(config)
        with serve(config) as (process, address), closing(SQLiteOutcomes(Path(name) / "apns.db")) as outcomes:
            yield Daemon(server, [process], [address], key, outcomes)


def show(says: str, found: Figures) -> None:
    """Print the results of a load."""
    cpu = ", ".join(f"{name} {each:.1f}" for name, each in found.cpu.items() if each)
    steps = ", ".join(f"{each:.1f} at {step},000" for step, each in found.memory.items())
    print(
        f"\n{says}: {found.count:,} sent" + (f", {found.lost} LOST" if found.lost else ""),
        f"{found.rate:,.0f} notifications/s, {found.requests:,.0f} requests/s",
        f"stored after {found.stored[0]:.0f} ms, p99 {found.stored[1]:.0f}; "
        f"response from Apple after {found.answered[0]:.0f} ms, p99 {found.answered[1]:.0f}",
        f"CPU µs: {cpu}; others used {found.others:.1f} cores" + (f"\n  MB: {steps}" if steps else ""),
        sep="\n  ",
        flush=True,
    )


def goals(results: dict[str, Figures]) -> Iterator[tuple[str, float, bool]]:
    """Yield each goal, the figure, and whether it is reached."""
    if "batches" in results:
        rate = results["batches"].rate
        yield f"notifications/s in requests of 100: at least {RATE:,}", rate, rate >= RATE
    if "half" in results:
        wait = results["half"].answered[1]
        yield f"ms from acceptance to response at half that rate, p99: less than {LATENCY}", wait, wait < LATENCY
    if "single" in results:
        rate = results["single"].rate
        yield f"requests of one token/s: at least {SINGLE_RATE:,}", rate, rate >= SINGLE_RATE
    if "memory" in results:
        steps = list(results["memory"].memory.values())
        growth = steps[-1] - steps[0]
        yield (
            f"MB that the last {len(steps) - 1} of {len(steps)} steps took: at most {GROWTH}",
            growth,
            growth <= GROWTH,
        )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0].strip())
    loads = "; ".join(f"{name}: {load.says}" for name, load in LOADS.items())
    parser.add_argument("--load", nargs="*", choices=LOADS, default=list(LOADS), help=loads)
    parser.add_argument(
        "--count", type=int, default=200_000, help="how many notifications in batches; fewer in other loads"
    )
    parser.add_argument("--memory", action="store_true", help="also send a million, and measure the memory")
    parser.add_argument("--directory", type=Path, default=ENVIRONMENT, help="where to make the databases, on a disk")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the results."""
    given = arguments()
    results = {}
    with serving(SCENARIOS["plain"]) as server:
        bare = PEERS["txapns"].run(server, given.count)
        print(f"APNSClient.send alone: {bare.rate:,.0f} notifications/s, {bare.cpu:.1f} µs CPU each", flush=True)
        loads = {name: (LOADS[name], int(given.count * LOADS[name].share)) for name in given.load}
        if given.memory:
            loads["memory"] = (MEMORY, 1_000_000)
        for name, (load, count) in loads.items():
            with running(server, given.directory) as daemon:
                results[name] = daemon.measure(load, count)
            show(load.says, results[name])
    print()
    for goal, figure, reached in goals(results):
        print(f"{goal}: {figure:,.0f}{'' if reached else ', NOT REACHED'}")
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        value = {"machine": machine, "bare": bare, "results": results}
        given.json.write_text(json.dumps(value, default=attrs.asdict, indent=1))


if __name__ == "__main__":
    main()
