"""
What the other ways in cost, compared with the client on Twisted: ``python benchmarks/ways_in.py [--help]``.

The server, the task and the figures are those of ``benchmarks/http2.py``; see there. Each sender is a process of its
own, and they take turns:

- txapns: ``client.send(notification, generator of tokens)`` on Twisted;
- blocking: the same with ``txapns.blocking``: the generator runs in the calling thread, the reactor in another;
- aio: the same with ``txapns.aio``, on asyncio's loop;
- aio tasks: ``client.send_one`` of ``txapns.aio`` in 1,000 tasks;
- aioapns, as far as ``make peers`` has installed it.

Then one notification at a time, to an idle, open connection: raw, which is a socket with TLS and ``txapns.wire``, and
with ``client.send_one``. The median is printed, in ms.

At last the CPU time that a program takes until it can send: only to import, and to import and make its first client,
which in ``txapns.aio`` imports Twisted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from http2 import (
    ENVIRONMENT,
    PEERS,
    SCENARIOS,
    Figures,
    Found,
    Peer,
    compare,
    measure_memory,
    ratio,
    run_process,
    run_script,
    serving,
    show,
)

from txapns.simulator import Authority

HERE = Path(__file__).parent
#: How many single notifications are measured.
SINGLES = 500


def ours(name: str) -> Peer:
    """Make a peer of one of our own ways in."""
    command = [sys.executable, str(HERE / f"peers/{name}_peer.py")]
    return Peer(partial(run_script, command), 1.0, lambda: False)


WAYS = {
    "txapns": PEERS["txapns"],
    "blocking": ours("blocking"),
    "aio": ours("aio"),
    "aio tasks": ours("aio_tasks"),
    "aioapns": PEERS["aioapns"],
}
#: What a program does before it sends, for each interpreter that can.
_STARTS = {
    "import txapns.aio": (sys.executable, "import txapns.aio"),
    "import aioapns": (str(ENVIRONMENT / "aioapns/bin/python"), "import aioapns"),
    "txapns.aio and a client": (
        sys.executable,
        """
import asyncio, sys
from txapns import ProviderToken
from txapns.aio import APNSClient
async def main():
    APNSClient(ProviderToken.from_file(sys.argv[1], "ABC123DEFG", "DEF123GHIJ"), topic="com.example.app")
asyncio.run(main())
""",
    ),
    "aioapns and a client": (
        str(ENVIRONMENT / "aioapns/bin/python"),
        """
import asyncio, sys
from aioapns import APNs
async def main():
    APNs(key=open(sys.argv[1]).read(), key_id="ABC123DEFG", team_id="DEF123GHIJ", topic="com.example.app")
asyncio.run(main())
""",
    ),
}


def measure_starts(rounds: int = 10) -> dict[str, float]:
    """Measure the CPU time of an interpreter that starts so, in ms: the least of several, in turn."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        key = Path(directory, "AuthKey.p8")
        key.write_bytes(Authority().p8)
        # Bytecode as an installed package has it, which this environment may not write.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": directory}
        for _ in range(rounds + 1):
            for name, (python, program) in _STARTS.items():
                if Path(python).exists():
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    subprocess.run([python, "-c", program, str(key)], env=environment, check=True)
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    took = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1_000
                    found[name] = min(found.get(name, took), took)
    return found


def measure_singles() -> dict[str, float]:
    """Measure how long one notification takes, in ms."""
    with serving(SCENARIOS["plain"]) as server:
        task = json.dumps(server.task(SINGLES, 0))
        printed, _, _ = run_process([sys.executable, str(HERE / "peers/latency_peer.py"), task])
    return dict(json.loads(printed))


def goals(
    found: Found, singles: dict[str, float], starts: dict[str, float], memory: list[Figures]
) -> Iterator[tuple[str, float, bool]]:
    """Yield each goal, the figure, and whether it is reached."""
    for name in ("blocking", "aio"):
        cpu = ratio(found[name], found["txapns"], "cpu")
        yield f"CPU time each of {name}, as a multiple of that on Twisted: at most 1.3", cpu, cpu <= 1.3
        if "aioapns" in found:
            rate = ratio(found[name], found["aioapns"], "rate")
            yield f"rate of {name}, as a multiple of aioapns's: at least 15", rate, rate >= 15
    if "aioapns" in found:
        rate = ratio(found["aio tasks"], found["aioapns"], "rate")
        yield "rate of 1,000 tasks of aio.send_one, as a multiple of aioapns's: at least 5", rate, rate >= 5
    if "import aioapns" in starts:
        longer = starts["import txapns.aio"] / starts["import aioapns"]
        yield "CPU time of importing txapns.aio, as a multiple of aioapns's: at most 1.2", longer, longer <= 1.2
    more = singles["blocking"] - singles["raw"]
    yield "ms that one blocking.send_one takes above the raw round trip: at most 0.5", more, more <= 0.5
    if memory:
        short, long = memory
        growth = long.peak - short.peak
        goal = f"MB that {long.count:,} tokens take above the {short.peak:.0f} of {short.count:,}, blocking: at most 20"
        yield goal, growth, growth <= 20


def main() -> None:
    """Compare, and print the results."""
    parser = argparse.ArgumentParser(description="Compare the ways in.")
    parser.add_argument("--count", type=int, default=200_000, help="how many we send; a slower peer sends fewer")
    parser.add_argument("--rounds", type=int, default=3, help="how often the senders take turns")
    parser.add_argument("--memory", action="store_true", help="also measure the peak for 10,000 and 1,000,000 tokens")
    given = parser.parse_args()
    peers = {name: peer for name, peer in WAYS.items() if not peer.missing()}
    found = compare(SCENARIOS["plain"], peers, given.count, given.rounds)
    show(SCENARIOS["plain"], found)
    singles = measure_singles()
    print("\nms for one notification: " + ", ".join(f"{name} {ms:.3f}" for name, ms in singles.items()) + "\n")
    starts = measure_starts()
    print("ms of CPU time to start: " + ", ".join(f"{name} {ms:.0f}" for name, ms in starts.items()) + "\n")
    memory = measure_memory(WAYS["blocking"]) if given.memory else []
    for goal, figure, reached in goals(found, singles, starts, memory):
        print(f"{goal}: {figure:.2f}{'' if reached else ', NOT REACHED'}")


if __name__ == "__main__":
    main()
