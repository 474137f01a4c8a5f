"""
Whether memory stays flat while things go wrong: ``python benchmarks/soak.py [notifications] [batches] [percent]``.

The simulator, in a process of its own, injects random faults into this percentage of the requests: it refuses them,
resets them, responds with 429, 500 or 503, never responds, changes its limits and its window, sends GOAWAY, sends
garbage, or aborts the connection. Each batch must account for every one of its notifications, and must leave nothing
behind: after each batch the memory of this process is printed, and how many objects are left of the kinds that a
notification needs.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import ngh2
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from txapns import APNSClient, Batch, Gateway, Notification, ProviderToken
from txapns.delivery import Delivery

PAYLOAD = {"aps": {"alert": "x" * 98}}  # 118 bytes
#: How much more memory the second half of the batches may take than the first, in MB.
GROWTH = 8.0


def resident() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def left() -> dict[str, int]:
    """Count the objects left of the kinds that a notification, a batch or a connection needs."""
    gc.collect()
    kinds = Counter(type(found) for found in gc.get_objects())
    return {kind.__name__: kinds[kind] for kind in (Delivery, Batch, ngh2.Connection)}


async def send(client: APNSClient, first: int, size: int) -> Counter[str]:
    """Send a batch; returns the number of each outcome."""
    tokens = (f"{number:064x}" for number in range(first, first + size))
    batch = await client.send(Notification(payload=PAYLOAD), tokens)
    if batch.total != size:
        raise SystemExit(f"not all are accounted for: {batch} of {size}")
    return Counter(accepted=batch.accepted) + Counter(type(outcome).__name__ for outcome in batch.outcomes)


async def soak(reactor: object, state: Path, count: int, batches: int) -> None:
    """Send batches, and print what is left after each."""
    about = json.loads((state / "simulator.json").read_text())
    token = ProviderToken.from_file(state / "AuthKey.p8", about["key_id"], about["team_id"])
    gateway = Gateway.http2("localhost", about["http2"], trust_root=(state / "ca.pem").read_bytes())
    client = APNSClient(reactor, token, gateway, topic=about["topic"], timeout=5.0, max_connections=2)
    total: Counter[str] = Counter()
    sizes: list[float] = []
    started = time.perf_counter()
    size = count // batches
    for number in range(batches):
        ends = await send(client, number * size, size)
        total += ends
        await deferLater(reactor, 0)  # the caller of the batch's Deferred still holds its last deliveries
        sizes.append(resident())
        print(f"{(number + 1) * size:10,}  {sizes[-1]:6.1f} MB  {dict(ends)}  left: {left()}", flush=True)
    took = time.perf_counter() - started
    status = client.status()
    await client.close()
    half = len(sizes) // 2
    growth = max(sizes[half:]) - max(sizes[:half])
    print(
        f"{dict(total)}; in flight {status.in_flight}, queued {status.queued}; {growth:+.1f} MB; {count / took:,.0f}/s"
    )
    if growth > GROWTH or status.in_flight or status.queued:
        raise SystemExit("something is left of what was sent")


def main() -> None:
    """Start the simulator, and send."""
    defaults = [2_000_000, 20, 1]
    count, batches, percent = [int(argument) for argument in sys.argv[1:]] + defaults[len(sys.argv) - 1 :]
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "txapns", "simulate", "--state", directory, "--random-faults", str(percent)]
        ports = [argument for name in ("http2", "binary", "feedback") for argument in (f"--{name}", "0")]
        with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as simulator:
            try:
                simulator.stdout.readline()
                react(lambda reactor: Deferred.fromCoroutine(soak(reactor, Path(directory), count, batches)))
            finally:
                simulator.terminate()


if __name__ == "__main__":
    main()
