"""
What the other ways in cost, compared with the client on Twisted: ``python benchmarks/ways_in.py [--help]``.

The server, the task and the figures are those of ``benchmarks/http2.py``; see there. Each sender is a process of its
own, and they take turns:

- txapns: ``client.send(notification, generator of tokens)`` on Twisted;
- blocking: the same with ``txapns.blocking``: the generator runs in the calling thread, the reactor in another;
- aioapns, as far as ``make peers`` has installed it.

Then one notification at a time, to an idle, open connection: raw, which is a socket with TLS and ``txapns.wire``, and
with ``client.send_one``. The median is printed, in ms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from http2 import (
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

HERE = Path(__file__).parent
#: How many single notifications are measured.
SINGLES = 500


def ours(name: str) -> Peer:
    """Make a peer of one of our own ways in."""
    command = [sys.executable, str(HERE / f"peers/{name}_peer.py")]
    return Peer(partial(run_script, command), 1.0, lambda: False)


WAYS = {"txapns": PEERS["txapns"], "blocking": ours("blocking"), "aioapns": PEERS["aioapns"]}


def measure_singles() -> dict[str, float]:
    """Measure how long one notification takes, in ms."""
    with serving(SCENARIOS["plain"]) as server:
        task = json.dumps(server.task(SINGLES, 0))
        printed, _, _ = run_process([sys.executable, str(HERE / "peers/latency_peer.py"), task])
    return dict(json.loads(printed))


def goals(found: Found, singles: dict[str, float], memory: list[Figures]) -> Iterator[tuple[str, float, bool]]:
    """Yield each goal, the figure, and whether it is reached."""
    for name in ("blocking",):
        cpu = ratio(found[name], found["txapns"], "cpu")
        yield f"CPU time each of {name}, as a multiple of that on Twisted: at most 1.3", cpu, cpu <= 1.3
        if "aioapns" in found:
            rate = ratio(found[name], found["aioapns"], "rate")
            yield f"rate of {name}, as a multiple of aioapns's: at least 15", rate, rate >= 15
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
    memory = measure_memory(WAYS["blocking"]) if given.memory else []
    for goal, figure, reached in goals(found, singles, memory):
        print(f"{goal}: {figure:.2f}{'' if reached else ', NOT REACHED'}")


if __name__ == "__main__":
    main()
