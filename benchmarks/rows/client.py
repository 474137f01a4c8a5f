"""The library: what a notification costs in each way of sending it, beside the cheapest and beside h2load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from http2 import OURS, PEERS, SCENARIOS, Figures, Server, run_script, serving
from rounds import Experiment, Goal, Sample, Settings, alternating, ratio

from rows import needs

__all__ = ["EXPERIMENTS"]

#: How many notifications each way sends in a round.
COUNTS = {"send": 100_000, "h2load": 200_000, "keywords": 50_000, "singles": 30_000}
#: How many notifications 3,000 batches have.
BATCHES = 9_000


def sent(server: Server, way: str, count: int) -> Figures:
    """Send in a process of its own, all of it accepted."""
    found = PEERS["h2load"].run(server, count) if way == "h2load" else run_script(OURS, server, count, way)
    if found.lost:
        raise RuntimeError(f"{way}: {found.lost} of {count} were not accepted")
    return found


def ways(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Compare the ways of sending."""
    with serving(SCENARIOS["plain"]) as server:
        sides = {way: partial(sent, server, way, settings.count(count, 500)) for way, count in COUNTS.items()}
        for number in range(settings.rounds):
            found = alternating(number, sides)
            send, load = found["send"], found["h2load"]
            yield {
                "send-cpu": ratio(send.cpu, load.cpu, "µs", ("send", "h2load")),
                "send-rate": ratio(send.rate, load.rate, "/s", ("send", "h2load")),
                "keywords": ratio(found["keywords"].cpu, send.cpu, "µs", ("keywords", "send")),
                "send-one": ratio(found["singles"].cpu, send.cpu, "µs", ("send_one", "send")),
            }


def streams(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Compare the rate over four connections with what their streams allow."""
    scenario = SCENARIOS["delay4"]
    with serving(scenario) as server:
        sides = {way: partial(sent, server, way, settings.count(160_000, 4_000)) for way in ("send", "h2load")}
        for number in range(settings.rounds):
            found = alternating(number, sides)
            shares = {way: each.rate / scenario.limit * 100 for way, each in found.items()}
            yield {"streams": Sample(shares["send"], {"h2load, %": shares["h2load"], "send, µs": found["send"].cpu})}


def batches(settings: Settings) -> Iterator[Mapping[str, Sample]]:
    """Compare batches that wait for their devices with batches that have them."""
    with serving(SCENARIOS["plain"]) as server:
        count = settings.count(BATCHES, 300)
        sides = {way: partial(sent, server, way, count) for way in ("waiting", "lists")}
        for number in range(settings.rounds):
            found = alternating(number, sides)
            yield {"batches": ratio(found["waiting"].cpu, found["lists"].cpu, "µs", ("waiting", "lists"))}


EXPERIMENTS = (
    Experiment(
        (
            Goal("send-cpu", "client.send: CPU time, times h2load's", 2.2),
            Goal("send-rate", "client.send: rate, times h2load's", 0.5, at_least=True),
            Goal("keywords", "send_many of notifications from keywords: CPU time, times client.send's", 1.7),
            Goal("send-one", "send_one of new notifications, 1,000 in flight: CPU time, times client.send's", 2.5),
        ),
        ways,
        (needs.c_server, needs.h2load),
    ),
    Experiment(
        (Goal("streams", "4 connections, answers after 50 ms: rate, of what the streams allow", 90, "%", True),),
        streams,
        (needs.c_server, needs.h2load),
    ),
    Experiment(
        (Goal("batches", "3,000 batches that wait for their devices: CPU time, times that of lists", 3),),
        batches,
        (needs.c_server,),
    ),
)
