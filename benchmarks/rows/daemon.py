"""The daemon: how long a request that comes alone takes, and what a notification costs in each way in."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import attrs
import daemon
from http2 import HERE, KEY_ID, OURS, SCENARIOS, TEAM_ID, TOPIC, Server, run_script, serving
from rounds import Experiment, Goal, Sample, Settings, alternating, ratio

from rows import needs
from txapns import Notification, ProviderToken

__all__ = ["EXPERIMENTS"]

#: How many notifications each way in takes in a round.
COUNTS = {"send": 100_000, "native100": 60_000, "native1": 6_000, "apple": 20_000, "binary": 60_000}
#: How many requests come alone in a round, to each side.
ALONE = 150
#: How long the last outcome of a round may take, in seconds, and how often the database is asked for it.
PATIENCE, LOOK = 120.0, 0.05

FACES = """
[intake.apple]
listen = "tcp:port=0:interface=127.0.0.1"
mode = "{mode}"

[intake.binary]
listen = "tcp:port=0:interface=127.0.0.1"
feedback = "tcp:port=0:interface=127.0.0.1"
app = "chess"

[limits]
queue = 10_000_000
"""


@attrs.frozen
class Daemon:
    """
    A daemon with all ways in, and an empty database.

    :ivar server: the server that it sends to.
    :ivar process: its process.
    :ivar addresses: its addresses, by listener.
    :ivar key: a key for it.
    :ivar outcomes: the outcomes in its database.
    """

    server: Server
    process: int
    addresses: dict[str, str]
    key: str
    outcomes: daemon.SQLiteOutcomes

    def cpu(self, call: Callable[[int], None], count: int) -> float:
        """Have notifications handed over; returns the CPU time of all of the daemon's threads for each, in µs."""
        self.outcomes.mark()
        before = daemon.cpu_times(self.process)
        call(count)
        until = time.monotonic() + PATIENCE
        while self.outcomes.accepted() < count:
            if time.monotonic() > until:
                raise RuntimeError(f"only {self.outcomes.accepted()} of {count} were accepted")
            time.sleep(LOOK)
        after = daemon.cpu_times(self.process)
        return (sum(after.values()) - sum(before.values())) / count * 1e6

    def native(self, tokens: int, connections: int, count: int) -> None:
        """Post requests to the native API."""
        self._call(
            "daemon_caller",
            addresses=[self.addresses["intake.native"]],
            app="chess",
            tokens=tokens,
            connections=connections,
            requests=count // tokens,
            rate=0,
        )

    def binary(self, count: int) -> None:
        """Write to the binary bridge."""
        self._call("binary_caller", address=self.addresses["intake.binary"], count=count)

    def apple(self, count: int) -> None:
        """Post requests to the Apple-compatible face, 1,000 at a time."""
        payload, uris = self.server.state / "payload", self.server.state / "uris"
        payload.write_bytes(Notification(payload={"aps": {"alert": self.server.alert}}).body)
        uris.write_text(
            "\n".join(f"http://{self.addresses['intake.apple']}/3/device/{number:064x}" for number in range(1_000))
        )
        command = ["h2load", "-t1", "-n", str(count), "-c", "1", "-m", "1000", "-i", str(uris), "-d", str(payload)]
        command += [f"-Hauthorization: bearer {self.key}", f"-Hapns-topic: {TOPIC}", "-Hapns-push-type: alert"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if f" {count} 2xx" not in printed:
            raise RuntimeError(printed)

    def alone(self, count: int) -> dict[str, dict[str, float]]:
        """Make requests one at a time; returns the median and the mean of native, relay and Apple's server, in ms."""
        token = ProviderToken.from_file(self.server.state / "AuthKey.p8", KEY_ID, TEAM_ID)
        printed = self._call(
            "lone_caller",
            native=self.addresses["intake.native"],
            relay=self.addresses["intake.apple"],
            port=self.server.port,
            ca=str(self.server.state / "ca.pem"),
            topic=TOPIC,
            bearer=token.sign(int(time.time())),
            warm_up=count // 5,
            count=count,
        )
        return dict(json.loads(printed))

    def _call(self, script: str, **task: object) -> str:
        command = [sys.executable, str(HERE / f"peers/{script}.py")]
        task = {"key": self.key, "alert": self.server.alert, **task}
        return subprocess.run([*command, json.dumps(task)], check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def running(server: Server, settings: Settings, mode: str) -> Iterator[Daemon]:
    """Run a daemon with an empty database."""
    with tempfile.TemporaryDirectory(dir=settings.directory) as name:
        config = daemon.configure(Path(name), server, FACES.format(mode=mode))
        key = daemon.add_key(config)
        with (
            daemon.serve_faces(config) as (process, addresses),
            closing(daemon.SQLiteOutcomes(Path(name) / "apns.db")) as outcomes,
        ):
            yield Daemon(server, process, addresses, key, outcomes)


def lone(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Time requests that come alone."""
    with serving(SCENARIOS["plain"]) as server, running(server, settings, "relay") as idle:
        for _ in range(settings.rounds):
            found = idle.alone(settings.count(ALONE, 10))
            native, relay, apple = found["native"], found["relay"], found["apple"]
            yield {
                "lone-native": Sample(native["p50"], {"mean, ms": native["mean"]}),
                "lone-relay": Sample(
                    relay["mean"] - apple["mean"],
                    {"relay, ms": relay["mean"], "Apple, ms": apple["mean"], "p50, ms": relay["p50"]},
                ),
            }


def costs(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Compare the ways in with one another, and with the client alone."""
    with serving(SCENARIOS["plain"]) as server:

        def alone() -> float:
            return run_script(OURS, server, settings.count(COUNTS["send"], 500)).cpu

        for number in range(settings.rounds):
            with running(server, settings, "queue") as one:
                ways: dict[str, Callable[[int], None]] = {
                    "native100": partial(one.native, 100, 16),
                    "native1": partial(one.native, 1, 64),
                    "binary": one.binary,
                }
                if not needs.h2load():
                    ways["apple"] = one.apple
                one.cpu(ways["native100"], 1_000)
                sides = {name: partial(one.cpu, way, settings.count(COUNTS[name], 500)) for name, way in ways.items()}
                sides["send"] = alone
                found = alternating(number, sides)
            yield {
                name: ratio(found[above], found[below], "µs", (above, below))
                for name, above, below in (
                    ("native-100", "native100", "send"),
                    ("native-1", "native1", "native100"),
                    ("apple", "apple", "native100"),
                    ("binary", "binary", "native100"),
                )
                if above in found
            }


EXPERIMENTS = (
    Experiment(
        (
            Goal("lone-native", "a request that comes alone, native API: median until it is stored", 1.5, "ms"),
            Goal("lone-relay", "a request that comes alone, relayed: mean above Apple's own time", 2, "ms"),
        ),
        lone,
        (needs.c_server, needs.proc),
    ),
    Experiment(
        (
            Goal("native-100", "native API, 100 devices a request: CPU time, times client.send's", 2.5),
            Goal("native-1", "native API, 1 device, 64 callers: CPU time, times that with 100 devices", 4),
            Goal("apple", "Apple-compatible face, queue: CPU time, times the native API's with 100 devices", 1.8),
            Goal("binary", "binary bridge, own payloads: CPU time, times the native API's with 100 devices", 1.2),
        ),
        costs,
        (needs.c_server, needs.proc),
    ),
)
