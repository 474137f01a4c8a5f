"""The client while iterables and callbacks use it from within."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns import Notification
from txapns.delivery import Delivery
from txapns.interfaces import IMetrics
from txapns.simulator import Authority, RandomFaults
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
HELLO = Notification(alert="Hello")
DEAD = "dd" * 32


@implementer(IMetrics)
class Books:
    """Counts what was sent, and what came of it."""

    def __init__(self) -> None:
        self.out = 0
        self.back = 0

    def sent(self, count: int) -> None:
        """They are in flight."""
        self.out += count

    def accepted(self, seconds: float) -> None:
        """One came to an end."""
        self.back += 1

    def rejected(self, status: int, reason: str, seconds: float) -> None:
        """So did one."""
        self.back += 1

    def retried(self, reason: str) -> None:
        """One did not yet."""

    def unanswered(self, uncertain: bool) -> None:
        """One did."""
        self.back += 1


class Meddler:
    """
    Sends, cancels, waits and closes whenever it is called, by chance.

    :param chance: where chance comes from.
    """

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.simulator = MemorySimulator(
            authority=AUTHORITY, dead=[DEAD], delay=chance.choice([0, 0.01, 1]), concurrency=chance.choice([1, 3, 50])
        )
        gateway = "http2"
        if chance.random() < 0.4:
            options = {"barrier": chance.random() < 0.5, "settle_time": chance.choice([0, 0.5, 2])}
            gateway = self.simulator.gateway("binary", **options)  # type: ignore[assignment]
        else:
            self.simulator.http2_fault = RandomFaults(chance, chance.choice([0, 0.1, 0.5]), drastic=0.3)
        self.books = Books()
        self.client = self.simulator.client(
            gateway,
            metrics=self.books,
            max_connections=chance.choice([1, 2, 4]),
            retries=chance.choice([0, 3]),
            idle_timeout=chance.choice([1, 600, None]),
            max_queued=chance.choice([1, 5, 10_000]),
            timeout=chance.choice([1, 30]),
        )
        self.begun: list[Deferred[Any]] = []
        self.ended = 0
        self.tokens = 0
        self.depth = 0

    def meddle(self, _: object = None) -> None:
        """Do one thing, which may come back here, but not forever."""
        if self.depth < 3:
            self.depth += 1
            acts: list[tuple[int, Callable[[], object]]] = [
                (1, lambda: self.track(self.client.close())),
                (20, self.send),
                (20, lambda: self.track(self.client.send_one(HELLO, self.token()))),
                (20, lambda: [begun.cancel() for begun in self.begun[self.chance.randint(0, 50) :][:1]]),
                (20, lambda: self.track(self.client.when_ready())),
                (120, lambda: None),
            ]
            weights, calls = zip(*acts, strict=True)
            self.chance.choices(calls, weights)[0]()
            self.depth -= 1

    def send(self) -> None:
        """Send a batch."""
        rows = self.later_rows() if self.chance.random() < 0.3 else self.rows()
        self.track(self.client.send(HELLO, rows, deadline=self.chance.choice([None, None, 0, 0.5])))

    def token(self) -> str:
        """Make a new token; sometimes a malformed or a dead one."""
        self.tokens += 1
        return self.chance.choices([f"{self.tokens:064x}", "none", DEAD], [18, 1, 1])[0]

    def rows(self) -> Iterator[str]:
        """Meddle before each token, and perhaps fail."""
        for _ in range(self.chance.choice([0, 1, 5, 60])):
            self.meddle()
            yield self.token()
        if self.chance.random() < 0.05:
            raise ArithmeticError

    async def later_rows(self) -> AsyncIterator[str]:
        """The same."""
        for token in self.rows():
            yield token

    def track(self, begun: Deferred[Any]) -> None:
        """Meddle once more when it ends."""
        self.begun.append(begun)
        begun.addBoth(self.done)

    def done(self, _: object) -> None:
        """It did."""
        self.ended += 1
        self.meddle()


def deliveries() -> int:
    """Count the deliveries there are, without the ``Deferred`` of one that is over: whoever called may keep that."""
    gc.collect()
    found = (thing for thing in gc.get_objects() if isinstance(thing, Delivery))
    return sum(not (isinstance(each, Deferred) and each.called) for each in found)


class ReentranceTests(SynchronousTestCase):
    """Whatever is done from within, everything ends."""

    def setUp(self) -> None:
        """Other tests may have left some."""
        self.before = deliveries()

    def test_few(self) -> None:
        """Each call ends once, nothing is sent twice, nothing is left, and the metrics have counted all of it."""
        self.run_seeds(range(25, 29))

    @pytest.mark.campaign
    def test_campaign(self) -> None:
        """The same, for longer."""
        self.run_seeds(range(25))

    def run_seeds(self, seeds: Iterable[int]) -> None:
        """Do everything by chance."""
        for seed in seeds:
            meddler = Meddler(Random(seed))
            for _ in range(meddler.chance.randint(1, 12)):
                meddler.send()
                meddler.simulator.advance(meddler.chance.choice([0, 0.1, 1, 20]))
            closing = meddler.client.close()
            meddler.simulator.advance(200)
            self.successResultOf(closing)
            self.check(meddler, seed)

    def check(self, meddler: Meddler, seed: int) -> None:
        """Look at what is left."""
        self.assertEqual(meddler.ended, len(meddler.begun), seed)
        self.assertEqual(meddler.books.out, meddler.books.back, seed)
        accepted = [each.token.hex() for each in meddler.simulator.inbox.received if each.reason is None]
        self.assertEqual([token for token, times in Counter(accepted).items() if times > 1], [], seed)
        self.assertLessEqual(deliveries(), self.before, seed)
        self.assertEqual(meddler.simulator.reactor.getDelayedCalls(), [], seed)
        status = meddler.client.status()
        self.assertEqual((status.in_flight, status.queued), (0, 0), seed)
