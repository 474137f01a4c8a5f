"""
The throughput of a batch, and its CPU time: ``python benchmarks/throughput.py [notifications] [rounds]``.

The simulator runs in a process of its own and validates everything, so it is the bottleneck, and the rate says more
about it than about the client. The client's cost is the CPU time of this process, user and system, per notification,
including results and TLS. The protocols take turns; medians are printed, with the range.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txapns import APNSClient, Certificate, Gateway, Notification, ProviderToken

PAYLOAD = {"aps": {"alert": "x" * 98}}  # 118 bytes


async def measure(client: APNSClient, count: int, quiet: float) -> tuple[float, float]:
    """Send notifications; returns the rate, without the quiet time at the end, and the CPU time of each in µs."""
    before, started = os.times(), time.perf_counter()
    batch = await client.send(Notification(payload=PAYLOAD), (f"{number:064x}" for number in range(count)))
    took, after = time.perf_counter() - started - quiet, os.times()
    if batch.accepted != count:
        raise SystemExit(f"not all were accepted: {batch}")
    cpu = after.user + after.system - before.user - before.system
    return count / took, cpu / count * 1e6


async def main(reactor: object, state: Path, count: int, rounds: int) -> None:
    """Send over both protocols in turn, and print the results."""
    about = json.loads((state / "simulator.json").read_text())
    trust_root = (state / "ca.pem").read_bytes()
    token = ProviderToken.from_file(state / "AuthKey.p8", about["key_id"], about["team_id"])
    certificate = Certificate.from_file(state / "client.pem")
    http2 = Gateway.http2("localhost", about["http2"], trust_root=trust_root)
    binary = Gateway.binary("localhost", about["binary"], trust_root=trust_root)
    clients = {
        "HTTP/2, provider token": (APNSClient(reactor, token, http2, topic=about["topic"]), 0.0),
        "binary": (APNSClient(reactor, certificate, binary), binary.settle_time),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, (client, quiet) in clients.items():
            found[name].append(await measure(client, count, quiet))
    for name, measured in found.items():
        rates, costs = zip(*measured, strict=True)
        print(
            f"{name:24} {statistics.median(rates):9,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f})"
            f" {statistics.median(costs):6.1f} µs CPU each ({min(costs):.1f} to {max(costs):.1f})"
        )
    for client, _ in clients.values():
        await client.close()


if __name__ == "__main__":
    count, rounds = ([int(argument) for argument in sys.argv[1:]] + [100_000, 5][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as directory:
        ports = [argument for name in ("http2", "binary", "feedback") for argument in (f"--{name}", "0")]
        command = [sys.executable, "-m", "txapns", "simulate", *ports, "--state", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
            try:
                simulator.stdout.readline()
                react(lambda reactor: Deferred.fromCoroutine(main(reactor, Path(directory), count, rounds)))
            finally:
                simulator.terminate()
