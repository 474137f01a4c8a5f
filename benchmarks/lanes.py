"""
Single requests beside a campaign: ``python benchmarks/lanes.py``.

A daemon as for ``benchmarks/daemon.py``, whose server answers after 50 ms, as Apple does. First single requests come to
an empty queue, 20 a second, each of which waits for its outcome. Then the same come while a campaign of a million
waits, which is handed over before and due at one moment. The time of a request begins when it should have been made, so
a request that waits for the one before counts as late.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
from daemon import ENVIRONMENT, TXAPNS, SQLiteOutcomes, add_key, closing, configure, serve, tempfile
from http2 import SCENARIOS, serving

#: How many single requests a second there are, and over how many connections.
RATE, CONNECTIONS = 20.0, 8
#: How many devices a request of the campaign is for.
DEVICES = 10_000
#: How much longer than beside an empty queue the slowest of 100 may take.
GOAL = 2.0
#: How long handing the campaign over may take, in seconds, for each million.
PATIENCE = 90.0

_LIMITS = "\n[limits]\nqueue = 100_000_000\ntokens = 10_000\n"


@attrs.frozen
class Found:
    """
    The times of single requests in ms, and how many notifications of the campaign were sent a second meanwhile.

    :ivar count: how many requests there were.
    """

    count: int
    median: float
    p99: float
    campaign: float


class Caller:
    """Posts to a daemon over one connection."""

    def __init__(self, address: str, key: str) -> None:
        self._connection = http.client.HTTPConnection(address)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def post(self, tokens: list[str], **fields: object) -> None:
        """Post a request that must be accepted."""
        notification = {"tokens": tokens, "payload": {"aps": {"alert": "Hello"}}}
        body = json.dumps({"notifications": [notification], **fields})
        self._connection.request("POST", "/v1/apps/chess/notifications", body, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status not in (200, 202):
            raise SystemExit(f"the daemon responded {response.status} {answer[:300]!r}")

    def hand_over(self, count: int) -> None:
        """Hand a campaign over, which begins when all of it is there."""
        begin = time.time() + 5 + PATIENCE * count / 1e6
        for first in range(0, count, DEVICES):
            tokens = [f"00{number:062x}" for number in range(first, min(first + DEVICES, count))]
            self.post(tokens, lane="bulk", not_before=begin)
        if time.time() > begin:
            raise SystemExit("the campaign has begun before all of it was there")
        time.sleep(begin + 2 - time.time())

    def single(self, begin: float, numbers: range) -> list[float]:
        """Make single requests, each at its time; returns how long they took, in ms."""
        took = []
        for number in numbers:
            due = begin + number / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            self.post([f"ff{number:062x}"], wait=True)
            took.append((time.perf_counter() - due) * 1e3)
        return took


def measure(callers: list[Caller], outcomes: SQLiteOutcomes, count: int) -> Found:
    """Make single requests over several connections."""
    before, begin = waiting(outcomes), time.perf_counter()
    with ThreadPoolExecutor(len(callers)) as pool:
        making = [
            pool.submit(caller.single, begin, range(number, count, len(callers)))
            for number, caller in enumerate(callers)
        ]
        took = sorted(each for one in making for each in one.result())
    left = waiting(outcomes)
    if before and not left:
        raise SystemExit("the campaign was over before the measurement: give a greater --count")
    sent = (before - left) / (time.perf_counter() - begin)
    return Found(len(took), took[len(took) // 2], took[len(took) * 99 // 100], sent)


def waiting(outcomes: SQLiteOutcomes) -> int:
    """Count what waits."""
    [(count,)] = outcomes.database.execute("SELECT count(*) FROM queue_delivery WHERE state = 0")
    return int(count)


def show(says: str, found: Found) -> None:
    """Print what was found."""
    campaign = f"; {found.campaign:,.0f} of the campaign a second" if found.campaign else ""
    print(f"{says}: {found.count:,} requests, {found.median:.0f} ms, p99 {found.p99:.0f} ms{campaign}", flush=True)


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0].strip())
    parser.add_argument("--count", type=int, default=1_000_000, help="how many notifications the campaign has")
    parser.add_argument("--single", type=int, default=1_000, help="how many single requests there are")
    parser.add_argument("--scenario", choices=SCENARIOS, default="delay", help="how the server answers")
    parser.add_argument("--directory", type=Path, default=ENVIRONMENT, help="where to make the database, on a disk")
    given = parser.parse_args()
    with serving(SCENARIOS[given.scenario]) as server, tempfile.TemporaryDirectory(dir=given.directory) as name:
        config = configure(Path(name), server, _LIMITS)
        key = add_key(config)
        with serve(config, TXAPNS) as (_, address), closing(SQLiteOutcomes(Path(name) / "apns.db")) as outcomes:
            callers = [Caller(address, key) for _ in range(CONNECTIONS)]
            measure(callers, outcomes, 50)
            empty = measure(callers, outcomes, given.single)
            show("empty queue", empty)
            Caller(address, key).hand_over(given.count)
            callers = [Caller(address, key) for _ in range(CONNECTIONS)]  # idle ones are closed after a minute
            print(f"{waiting(outcomes):,} of a campaign wait", flush=True)
            beside = measure(callers, outcomes, given.single)
            show("beside the campaign", beside)
    ratio = beside.p99 / empty.p99
    print(f"p99 beside the campaign, at most {GOAL:g} times: {ratio:.2f}{'' if ratio <= GOAL else '  NOT REACHED'}")
    raise SystemExit(ratio > GOAL)


if __name__ == "__main__":
    main()
