"""
What a daemon with many apps costs: ``python benchmarks/many_apps.py``.

The apps are in the database, each with a signing key of its own, as ``txapns apps add`` stores them. Then the daemon
starts as an operator starts it, accepts a notification for each of a tenth of the apps, which cannot be sent, and is
asked for its metrics and its status page, in turn, over new connections. A turn is how long the reactor is held at a
time, as CPU time of its thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from txapns.credentials import ProviderToken
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.apps import AppSettings, add_app
from txapns.daemon.store.factory import visiting_tables
from txapns.simulator import Authority

CONFIGURATION = """
[intake.native]
listen = "tcp:port=0:interface=127.0.0.1"
keys = false
[admin]
listen = "tcp:port=0:interface=127.0.0.1"
"""

#: The goals, for 10,000 apps: seconds to the start, MB of memory, ms and MB of the metrics, ms of the status page, and
#: ms of the longest turn of the reactor that either causes.
START, MEMORY, METRICS, METRICS_SIZE, PAGE, TURN = 5.0, 300.0, 200.0, 10.0, 100.0, 10.0
WATCHED = Path(__file__).parent / "peers" / "watched.py"


def main() -> None:
    """Measure, and print what was measured beside the goals."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9, help="how often each page is asked for")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "apns.toml"
        config.write_text(CONFIGURATION)
        fill(config, given.apps)
        print(f"{given.apps:,} apps, Python {platform.python_version()}\n")
        began = time.monotonic()
        daemon = subprocess.Popen(
            [sys.executable, str(WATCHED), "serve", "--config", str(config), "--log-level", "error"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert daemon.stdout is not None
            ready = json.loads(daemon.stdout.readline())
            report("start, s", time.monotonic() - began, START)
            measure(daemon, ready["addresses"], given.apps, given.rounds)
        finally:
            daemon.terminate()
            daemon.wait()


def fill(config: Path, count: int) -> None:
    """Add the apps."""
    configuration = Configuration.from_file(config)
    secrets = Secrets(configuration.secrets.master_key_file, {})
    secrets.create()
    now = datetime.now(timezone.utc)
    key = ProviderToken.from_p8(Authority().p8, "ABC123DEFG", "DEF123GHIJ")
    with visiting_tables(configuration) as tables:
        for number in range(count):
            settings = AppSettings(gateway="http2:host=localhost:port=1", topic=f"com.example.app{number}")
            add_app(tables.apps, secrets, f"app{number}", settings, key, now=now)


def longest_turn(daemon: subprocess.Popen[str]) -> float:
    """Return the longest turn since the last call, in ms."""
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    daemon.stdin.write("\n")
    daemon.stdin.flush()
    return float(daemon.stdout.readline())


def measure(daemon: subprocess.Popen[str], addresses: dict[str, list[str]], apps: int, rounds: int) -> None:
    """Ask for everything, and print what it took."""
    [native], [admin] = addresses["intake.native"], addresses["admin"]
    body = json.dumps({"notifications": [{"tokens": ["ab" * 32], "payload": {"aps": {"alert": "Hi"}}}]}).encode()
    for number in range(0, apps, 10):
        request = urllib.request.Request(
            f"http://{native}/v1/apps/app{number}/notifications", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            assert response.status == 202, response.status
    time.sleep(3.0)
    took: dict[str, list[float]] = {"/metrics": [], "/": []}
    turns: dict[str, list[float]] = {path: [] for path in took}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for path, times in took.items():
            longest_turn(daemon)
            began = time.monotonic()
            with urllib.request.urlopen(f"http://{admin}{path}") as response:
                sizes[path] = len(response.read())
            times.append((time.monotonic() - began) * 1000)
            turns[path].append(longest_turn(daemon))
            time.sleep(2.0)  # until nothing of it is kept
    report("metrics, ms (median)", statistics.median(took["/metrics"]), METRICS)
    report("metrics, longest turn, ms (median)", statistics.median(turns["/metrics"]), TURN)
    report("metrics, MB", sizes["/metrics"] / 1e6, METRICS_SIZE)
    report("status page, ms (median)", statistics.median(took["/"]), PAGE)
    report("status page, longest turn, ms (median)", statistics.median(turns["/"]), TURN)
    status = Path(f"/proc/{daemon.pid}/status")
    if status.exists():
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert peak is not None
        report("memory at most, MB", int(peak[1]) / 1024, MEMORY)


def report(what: str, found: float, goal: float) -> None:
    """Print a figure beside its goal."""
    print(f"{what}: {found:,.1f}, at most {goal:g}{'' if found <= goal else ', NOT REACHED'}")


if __name__ == "__main__":
    main()
