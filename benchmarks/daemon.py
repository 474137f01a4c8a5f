"""
How many notifications a second the daemon takes from end to end, and how soon: ``python benchmarks/daemon.py``.

Four processes on one machine: a caller that posts prepared requests to the HTTP API (``peers/daemon_caller.py``), the
gateway as an operator starts it (``txapns serve``, with keys, its database in a directory on the disk), the server of
``benchmarks/http2.py``, and this one, which looks on. A notification counts when its outcome is committed.

- batches: requests of 100 tokens, as fast as they are taken;
- half: the same at half the rate that is wanted, for the time from acceptance to Apple's answer;
- single: requests of one token at concurrency 64;
- memory: a million in batches, with the daemon's memory as it goes (only with ``--memory``).

Each has a gateway with an empty database, which has sent a few before it is measured. Before them ``APNSClient.send``
sends to the same server, which is the limit: it stores nothing and reads no HTTP.

CPU times are for each notification; those of the daemon are given for all of its threads together, for that of the
reactor, and for that which writes the database. Nobody but the caller's requests is waited for: where they come faster
than notifications go, the queue grows, and is emptied before the time is taken.
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

import attrs
from http2 import ENVIRONMENT, HERE, KEY_ID, PEERS, SCENARIOS, TEAM_ID, TOPIC, Server, serving

#: Requests that are sent before it is measured.
WARM_UP = 50
#: How often this process looks on, in seconds.
LOOK = 0.1
#: How long the last outcome may take after the last request, in seconds.
PATIENCE = 300
#: What is wanted: notifications a second, requests of one token a second, ms from acceptance to answer, MB of growth.
RATE, SINGLE_RATE, LATENCY, GROWTH = 10_000, 2_000, 100, 20
#: Memory is told every so many.
STEP = 100_000


@attrs.frozen
class Load:
    """
    What is posted.

    :ivar says: it, in words.
    :ivar tokens: how many tokens a request has.
    :ivar connections: over how many connections.
    :ivar share: how many notifications, as a part of ``--count``.
    :ivar rate: how many requests a second; 0 for as many as are answered.
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
    What came of a load. Times are in ms, CPU times in µs for each notification.

    :ivar count: how many notifications there were.
    :ivar rate: how many a second, from the first acceptance to the last outcome.
    :ivar requests: how many requests a second were answered.
    :ivar stored: how long these answers took: median and 99 of 100.
    :ivar answered: how long Apple's answer took from the acceptance: likewise.
    :ivar cpu: by what used it.
    :ivar memory: the daemon's memory in MB when so many thousands were done.
    :ivar others: how many cores everybody else on the machine used meanwhile.
    :ivar lost: how many were not accepted by the server.
    """

    count: int
    rate: float
    requests: float
    stored: tuple[float, float]
    answered: tuple[float, float]
    cpu: dict[str, float]
    memory: dict[int, float]
    others: float
    lost: int


def cpu_times(process: int) -> list[float]:
    """Tell how many seconds each thread of a process has run, the first one first."""
    tasks = sorted(Path(f"/proc/{process}/task").iterdir(), key=lambda task: int(task.name))
    return [int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks]


def all_cpu_time() -> float:
    """Tell how many seconds the cores have worked for anybody."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Tell how much memory a process has, in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


class Gateway:
    """
    A daemon in a process of its own.

    :param server: the server that it sends to.
    :param process: the process.
    :param address: where it listens.
    :param key: a key for it.
    :param database: its database.
    """

    def __init__(self, server: Server, process: int, address: str, key: str, database: Path) -> None:
        self.server = server
        self.process = process
        self._address = address
        self._key = key
        self._database = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self._memory: list[tuple[float, float]] = []

    def close(self) -> None:
        """Look at its database no more."""
        self._database.close()

    def measure(self, load: Load, count: int) -> Figures:
        """Post so many notifications, and find out what came of them."""
        self.call(load, WARM_UP)
        self._memory.clear()
        [(first,)] = self._database.execute("SELECT max(number) FROM queue_delivery")
        before, served = cpu_times(self.process), sum(cpu_times(self.server.process))
        started, everybody, us = time.perf_counter(), all_cpu_time(), time.process_time()
        told = self.call(load, count // load.tokens)
        took, everybody, us = time.perf_counter() - started, all_cpu_time() - everybody, time.process_time() - us
        threads = [after - earlier for after, earlier in zip(cpu_times(self.process), before, strict=True)]
        spent = {
            "gateway": sum(threads),
            "reactor": threads[0],
            "writer": max(threads[1:]),
            "server": sum(cpu_times(self.server.process)) - served,
            "caller": told["cpu"] / 1e6 * count / load.tokens,
        }
        others = everybody - us - sum(spent[name] for name in ("gateway", "server", "caller"))
        rows = self._database.execute(
            """
            SELECT settled_at, accepted_at, state FROM queue_delivery
            JOIN queue_message ON queue_message.number = message WHERE queue_delivery.number > ? ORDER BY settled_at
            """,
            [first],
        ).fetchall()
        seconds = (rows[-1][0] - min(accepted for _, accepted, _ in rows)) / 1e3
        waits = sorted(settled - accepted for settled, accepted, _ in rows)
        return Figures(
            len(rows),
            len(rows) / seconds,
            told["rate"],
            (told["p50"], told["p99"]),
            (waits[len(waits) // 2], waits[len(waits) * 99 // 100]),
            {name: each / len(rows) * 1e6 for name, each in spent.items()},
            self._memory_at([settled / 1e3 for settled, _, _ in rows]),
            others / took,
            count - sum(state == 1 for _, _, state in rows),
        )

    def call(self, load: Load, requests: int) -> dict[str, float]:
        """Post so many requests, and wait until all is settled; returns what the caller tells."""
        host, _, port = self._address.rpartition(":")
        task = attrs.asdict(load) | {
            "host": host,
            "port": int(port),
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
            told = json.load(caller.stdout)
        until = time.monotonic() + PATIENCE
        while self._database.execute("SELECT 1 FROM queue_delivery WHERE state = 0 LIMIT 1").fetchone():
            self._look()
            if time.monotonic() > until:
                raise SystemExit("some notifications are not settled")
        return told

    def _look(self) -> None:
        self._memory.append((time.time(), memory(self.process)))
        time.sleep(LOOK)

    def _memory_at(self, settled: list[float]) -> dict[int, float]:
        """Find the memory at each step, given when notifications were settled, in order."""
        return {
            step // 1_000: min(self._memory, key=lambda seen: abs(seen[0] - settled[step - 1]))[1]
            for step in range(STEP, len(settled) + 1, STEP)
        }


@contextmanager
def running(server: Server, directory: Path | None) -> Iterator[Gateway]:
    """Start a gateway, and end it."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        home = Path(name)
        config = home / "apns.toml"
        (home / "AuthKey.p8").touch(mode=0o600)
        (home / "AuthKey.p8").write_bytes((server.state / "AuthKey.p8").read_bytes())
        config.write_text(
            CONFIGURATION.format(port=server.port, state=server.state, key_id=KEY_ID, team_id=TEAM_ID, topic=TOPIC)
        )
        txapns = [sys.executable, "-m", "txapns"]
        adding = [*txapns, "keys", "add", "caller", "--config", str(config), "--app", "chess"]
        key = subprocess.run(adding, check=True, capture_output=True, text=True).stdout.strip()
        serve = [*txapns, "serve", "--config", str(config)]
        with (
            (home / "log").open("w") as log,
            subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                line = process.stdout.readline()
                if not line:
                    raise SystemExit((home / "log").read_text())
                [address] = json.loads(line)["addresses"]["intake.native"]
                with closing(Gateway(server, process.pid, address, key, home / "apns.db")) as gateway:
                    yield gateway
            finally:
                process.terminate()


def show(says: str, found: Figures) -> None:
    """Print what came of one load."""
    cpu = ", ".join(f"{name} {each:.1f}" for name, each in found.cpu.items())
    steps = ", ".join(f"{each:.1f} at {step},000" for step, each in found.memory.items())
    print(
        f"\n{says}: {found.count:,} sent" + (f", {found.lost} LOST" if found.lost else ""),
        f"{found.rate:,.0f} notifications/s, {found.requests:,.0f} requests/s",
        f"stored after {found.stored[0]:.0f} ms, p99 {found.stored[1]:.0f}; "
        f"answered by Apple after {found.answered[0]:.0f} ms, p99 {found.answered[1]:.0f}",
        f"CPU µs: {cpu}; others used {found.others:.1f} cores" + (f"\n  MB: {steps}" if steps else ""),
        sep="\n  ",
        flush=True,
    )


def goals(results: dict[str, Figures]) -> Iterator[tuple[str, float, bool]]:
    """What is wanted, what there is, and whether that is enough."""
    if "batches" in results:
        rate = results["batches"].rate
        yield f"notifications/s in requests of 100: at least {RATE:,}", rate, rate >= RATE
    if "half" in results:
        wait = results["half"].answered[1]
        yield f"ms from acceptance to answer at half that rate, p99: less than {LATENCY}", wait, wait < LATENCY
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
    parser.add_argument("--count", type=int, default=200_000, help="how many notifications in batches; others: fewer")
    parser.add_argument("--memory", action="store_true", help="also a million, and the memory they take")
    parser.add_argument("--directory", type=Path, default=ENVIRONMENT, help="where databases are made, on a disk")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, and tell."""
    given = arguments()
    results = {}
    with serving(SCENARIOS["plain"]) as server:
        bare = PEERS["txapns"].run(server, given.count)
        print(f"APNSClient.send alone: {bare.rate:,.0f} notifications/s, {bare.cpu:.1f} µs CPU each", flush=True)
        loads = {name: (LOADS[name], int(given.count * LOADS[name].share)) for name in given.load}
        if given.memory:
            loads["memory"] = (MEMORY, 1_000_000)
        for name, (load, count) in loads.items():
            with running(server, given.directory) as gateway:
                results[name] = gateway.measure(load, count)
            show(load.says, results[name])
    print()
    for wanted, there_is, held in goals(results):
        print(f"{wanted}: {there_is:,.0f}{'' if held else ', NOT REACHED'}")
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        value = {"machine": machine, "bare": bare, "results": results}
        given.json.write_text(json.dumps(value, default=attrs.asdict, indent=1))


if __name__ == "__main__":
    main()
