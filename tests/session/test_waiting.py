"""Tests for :mod:`txapns._session.waiting`: how many may wait, and for how long."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns import Notification
from txapns._session.waiting import Patience
from txapns.errors import QueueFull
from txapns.simulator import Authority
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
HELLO = Notification(alert="Hello", topic="com.example.app")


class AdmissionTests(SynchronousTestCase):
    """How many single notifications may wait."""

    def setUp(self) -> None:
        """There is a client that lets a hundred wait."""
        self.simulator = MemorySimulator(authority=AUTHORITY, concurrency=10, delay=0.1)
        self.client = self.simulator.client(max_queued=100)

    def test_full(self) -> None:
        """One too many is refused at once, and those that wait arrive."""
        outcomes = [self.client.send_one(HELLO, f"{number:064x}") for number in range(150)]
        for outcome in outcomes[100:]:
            self.failureResultOf(outcome, QueueFull)
        self.simulator.advance(5)
        for outcome in outcomes[:100]:
            self.successResultOf(outcome)
        self.assertEqual(self.client.status().queued, 0)

    def test_when_ready(self) -> None:
        """A caller who waits for room each time may send any number, and keeps only the allowed number waiting."""
        most = 0

        async def send() -> int:
            nonlocal most
            accepted = 0

            def count(outcome: object) -> None:
                nonlocal accepted
                accepted += 1

            for number in range(3_000):
                await self.client.when_ready()
                self.client.send_one(HELLO, f"{number:064x}").addCallback(count)
                most = max(most, self.client.status().queued)
            return accepted

        self.simulator.result(Deferred.fromCoroutine(send()), within=100)
        self.assertEqual(most, 100)

    def test_takes_turns(self) -> None:
        """However many wait for room, each gets it in turn."""
        for number in range(100):
            self.client.send_one(HELLO, f"{number:064x}")
        told: list[int] = []
        for number in range(5_000):
            self.client.when_ready().addCallback(lambda _, number=number: self.later(told, number))
        self.simulator.advance(60)
        self.assertEqual(told, list(range(5_000)))
        self.assertEqual(self.simulator.counters()["accepted"], 5_100)

    def later(self, told: list[int], number: int) -> None:
        """It has its turn."""
        told.append(number)
        self.client.send_one(HELLO, f"{number:064x}")

    def test_cancelled_and_closed(self) -> None:
        """A caller who waits may cancel, and goes on when the client is closed."""
        for number in range(100):
            self.client.send_one(HELLO, f"{number:064x}").addErrback(lambda _: None)
        first, second = self.client.when_ready(), self.client.when_ready()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        many = [self.client.when_ready() for _ in range(50_000)]
        for ready in reversed(many):
            ready.addErrback(lambda _: None)
            ready.cancel()
        self.client.close()
        self.successResultOf(second)
        self.successResultOf(self.client.when_ready())
        self.simulator.advance(10)


class PatienceTests(SynchronousTestCase):
    """How long work may wait."""

    def setUp(self) -> None:
        """There is a deadline of 10 s, without an excuse."""
        self.clock = Clock()
        self.excused = False
        self.expired: list[float] = []
        self.patience = Patience(
            self.clock, 10.0, lambda: self.excused, lambda: self.expired.append(self.clock.seconds())
        )

    def test_expires(self) -> None:
        """It expires once, after the timeout."""
        self.patience.watch(True)
        self.clock.pump([5.0] * 10)
        self.assertEqual(self.expired, [10.0])

    def test_progress(self) -> None:
        """Progress starts the timeout over, and so does work that begins to wait."""
        self.patience.watch(True)
        self.clock.advance(8)
        self.patience.progress = self.clock.seconds()
        self.patience.watch(True)
        self.clock.advance(9)
        self.patience.watch(False)
        self.patience.watch(True)
        self.clock.pump([1.0] * 20)
        self.assertEqual(self.expired, [27.0])

    def test_excuse(self) -> None:
        """An excuse extends the deadline by the timeout, as often as there is one."""
        self.excused = True
        self.patience.watch(True)
        self.clock.pump([10.0] * 3)
        self.assertEqual(self.expired, [])
        self.excused = False
        self.clock.advance(10)
        self.assertEqual(self.expired, [40.0])

    def test_nothing_waits(self) -> None:
        """While nothing waits there is no timer."""
        self.patience.watch(True)
        self.patience.watch(False)
        self.assertEqual(self.clock.getDelayedCalls(), [])
