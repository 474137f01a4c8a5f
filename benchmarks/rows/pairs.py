"""
What a second process adds: two clients instead of one, and two daemons that share a PostgreSQL server.

On a machine with few cores the second process has no whole one, since servers and caller run there, too. So the rate is
held against what the cores allow: twice that of one, or what all cores together could do at the CPU time that one took,
server and all, whichever is less. What is missing is waiting, or CPU time that one process does not need. A part of
that is the machine's, where two cores share a cache, or are the hyperthreads of one: how much longer a notification
takes is shown, and beside it the same for two processes that only compute.

Apple is many machines, so nothing waits for a server that is busy with somebody else: each client has a server in C of
its own, of the one thread that each of them is. The daemons share their caller, their database and one such server,
which is busy for a sixth of the time. The caller has 32 connections, for one daemon as for two. With 16, of which each
of two has eight, the caller is what is waited for: what eight requests bring is stored together, and nothing is left.
What the app may have in flight is a limit of all nodes together. It is twice the default, for one daemon as for two, so
that each of two has the default.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import attrs
from cluster import Setup
from daemon import LOADS, TXAPNS, Figures, cpu_times
from database_server import database_server
from http2 import OURS, SCENARIOS, Server, run_script, serving
from rounds import Experiment, Goal, Sample, Settings, alternating

from rows import needs

__all__ = ["EXPERIMENTS"]

#: How many notifications each client sends, and all daemons together. Two clients neither begin nor end at the same
#: moment, and meanwhile only one of them sends: with half as many that was up to a tenth of the time.
CLIENT, DAEMON = 400_000, 100_000

#: What is posted to the daemons.
LOAD = attrs.evolve(LOADS["batches"], says="requests of 100 tokens, 32 connections", connections=32)
LIMITS = """
[apps.chess.limits]
in_flight = 4000
"""

#: Prints how often it did some work in half a second.
COMPUTE = """
import time
count, end = 0, time.monotonic() + 0.5
while time.monotonic() < end:
    [bytes(50) for _ in range(200)]
    count += 1
print(count)
"""


def computed(processes: int) -> float:
    """Compute in so many processes at the same time; returns how much each did."""
    command = [sys.executable, "-c", COMPUTE]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return statistics.mean(int(each.communicate()[0]) for each in running)


def allowed(rate: float, cpu: float) -> float:
    """Return how many times the rate of one the cores allow two, if they took so many µs of all cores for each."""
    return min(2.0, (os.cpu_count() or 1) * 1e6 / cpu / rate)


def share(one: float, two: float, cpu: tuple[float, float]) -> Sample:
    """Make a sample of two rates, and of the CPU time that a notification took with one and with two, all in all."""
    most, times = allowed(one, cpu[0]), two / one
    longer = {"CPU time, times": cpu[1] / cpu[0], "computing, times": computed(1) / computed(2)}
    return Sample(times / most * 100, {"times one's rate": times, "the cores allow": most} | longer)


def send(servers: Sequence[Server], count: int) -> tuple[float, float]:
    """Send to each server by a client; returns the rate of all, and the CPU time of clients and servers in µs."""
    before = served(servers)
    with ThreadPoolExecutor(len(servers)) as pool:
        found = list(pool.map(lambda server: run_script(OURS, server, count), servers))
    spent = (served(servers) - before) * 1e6 / (count * len(servers) * 1.1)  # with the warm-up
    took = max(each.ended for each in found) - min(each.started for each in found)
    return count * len(servers) / took, statistics.mean(each.cpu for each in found) + spent


def served(servers: Sequence[Server]) -> float:
    """Return the CPU seconds of some servers so far."""
    return sum(sum(cpu_times(server.process).values()) for server in servers)


def clients(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Compare two clients with one."""
    count = settings.count(CLIENT, 1_000)
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(SCENARIOS["plain"])) for _ in range(2)]
        for number in range(settings.rounds):
            sides = {"one": partial(send, servers[:1], count), "two": partial(send, servers, count)}
            found = alternating(number, sides)
            (one, alone), (two, together) = found["one"], found["two"]
            yield {"two-clients": share(one, two, (alone, together))}


def daemons(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Compare two daemons on one database with one."""
    count = settings.count(DAEMON, 1_000)
    with serving(SCENARIOS["plain"]) as server, database_server(settings.directory) as database:

        def run(nodes: int) -> Figures:
            with Setup(nodes, LIMITS).running(server, database, settings.directory, TXAPNS) as daemon:
                return daemon.measure(LOAD, count)

        for number in range(settings.rounds):
            found = alternating(number, {"one": partial(run, 1), "two": partial(run, 2)})
            one, two = found["one"], found["two"]
            alone, together = (
                sum(each.cpu[name] for name in ("daemon", "database", "server", "caller")) for each in (one, two)
            )
            yield {"two-daemons": share(one.rate, two.rate, (alone, together))}


EXPERIMENTS = (
    Experiment(
        (
            Goal(
                "two-clients", "two clients and servers: rate, of twice one's or of what the cores allow", 90, "%", True
            ),
        ),
        clients,
        (needs.c_server, needs.proc),
    ),
    Experiment(
        (Goal("two-daemons", "two daemons on PostgreSQL: likewise", 90, "%", True),),
        daemons,
        (needs.c_server, needs.postgresql, needs.proc),
    ),
)
