"""Tests for :mod:`txapns._session.backlog`: what is sent again later, and when."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns import Notification
from txapns._session.backlog import MAX_POSTPONED, Backlog
from txapns.delivery import Delivery
from txapns.errors import APNSError, OutcomeUnknown
from txapns.interfaces import IMetrics, IWork
from txapns.simulator import Authority, Response
from txapns.simulator.http2 import ProviderAPIServer
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

AUTHORITY = Authority()
HELLO = Notification(alert="Hello", topic="com.example.app")


@implementer(IMetrics)
class Counter:
    """Counts what a client sends."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def sent(self, count: int) -> None:
        """Some were handed to a connection."""
        self.seen.append(("sent", count))

    def accepted(self, seconds: float) -> None:
        """One was accepted."""
        self.seen.append(("accepted", seconds))

    def rejected(self, status: int, reason: str, seconds: float) -> None:
        """One was rejected."""
        self.seen.append(("rejected", status, reason, seconds))

    def retried(self, reason: str) -> None:
        """One is sent again later."""
        self.seen.append(("retried", reason))

    def unanswered(self, uncertain: bool) -> None:
        """One had no answer."""
        self.seen.append(("unanswered", uncertain))


@implementer(IWork)
class Work:
    """A batch that never ends, and counts how often it is asked."""

    exhausted = False

    def __init__(self) -> None:
        self.ready = False
        self.asked = 0

    @property
    def available(self) -> bool:
        """Whether it has something."""
        self.asked += 1
        return self.ready

    def take(self, count: int, size: int) -> list[Delivery]:
        """It had something without a token."""
        self.asked += 1
        self.ready = False
        return []

    def give_up(self, error: APNSError) -> Deferred[None]:
        """It ends at once."""
        self.exhausted = True
        return succeed(None)


class WaitingTests(SynchronousTestCase):
    """Batches that have nothing to send for now."""

    def setUp(self) -> None:
        """Very many wait."""
        self.backlog = Backlog(Clock(), 0, lambda: None, lambda delivery, rejection: None)
        self.works = [Work() for _ in range(3_000)]
        verifyObject(IWork, self.works[0])
        for work in self.works:
            self.backlog.add(work)

    def asked(self) -> int:
        """How often they were asked since the last time."""
        asked = sum(work.asked for work in self.works)
        for work in self.works:
            work.asked = 0
        return asked

    def test_not_asked(self) -> None:
        """However many wait, only one that has something again is asked."""
        self.asked()
        for work in self.works[:100]:
            self.assertFalse(self.backlog.available)
            work.ready = True
            self.backlog.resume(work)
            self.assertTrue(self.backlog.available)
            self.backlog.take(1_000, 65_535)
        self.assertFalse(self.backlog.available)
        self.assertLessEqual(self.asked(), 300)

    def test_ended(self) -> None:
        """One that was withdrawn does not come back, and those that wait are given up like the others."""
        work = self.works.pop()
        self.backlog.withdraw(work, APNSError("stop"))
        self.backlog.resume(work)
        self.assertFalse(self.backlog.available)
        self.assertTrue(self.backlog)
        self.successResultOf(self.backlog.give_up(APNSError("stop")))
        self.assertEqual((all(each.exhausted for each in self.works), work.exhausted), (True, False))
        self.assertFalse(self.backlog)


class RetryTests(SynchronousTestCase):
    """Answers that ask to wait."""

    def setUp(self) -> None:
        """There is a simulator whose answers the test decides."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.responses: list[Response] = []
        self.extra: list[tuple[bytes, bytes]] = []
        self.times: list[float] = []
        self.simulator.http2_fault = self.answer
        self.client = self.simulator.client(retries=3)

    def answer(self, server: ProviderAPIServer, request: Request, response: Response) -> Response | None:
        """Answer what the test wants, and as it should be afterwards."""
        self.times.append(self.simulator.reactor.seconds())
        if not self.responses:
            return response
        response = self.responses.pop(0)
        headers = {name.decode(): value.decode() for name, value in request.headers}
        answer = [(b":status", b"%d" % response.status), *self.extra]
        server.requests.respond(request.stream, answer, response.body())
        token = bytes.fromhex(headers[":path"].removeprefix("/3/device/"))
        self.simulator.inbox.note("http2", token, request.body, headers, response.reason)
        return None

    def tearDown(self) -> None:
        """Nothing is left."""
        self.simulator.result(self.client.close())
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_sent_again(self) -> None:
        """Each of these is sent again, later each time, with the same apns-id, and then accepted."""
        self.responses = [
            Response(429, "TooManyRequests"),
            Response(503, "ServiceUnavailable"),
            Response(500, "Whatever"),
        ]
        notification = Notification(alert="x", apns_id="3fa85f64-5717-4562-b3fc-2c963f66afa6")
        outcome = self.simulator.result(self.client.send_one(notification, "aa" * 32))
        self.assertEqual(outcome.apns_id, notification.apns_id)
        delays = [later - earlier for earlier, later in pairwise(self.times)]
        for delay, expected in zip(delays, [1, 2, 4], strict=True):
            self.assertTrue(0.8 * expected <= delay <= expected + 0.25, delays)
        self.assertEqual({each.headers["apns-id"] for each in self.simulator.inbox.received}, {notification.apns_id})

    def test_not_for_ever(self) -> None:
        """After the last retry the rejection is final."""
        self.responses = [Response(503, "ServiceUnavailable")] * 9
        batch = self.simulator.result(self.client.send(HELLO, ["aa" * 32]))
        self.assertEqual((batch.failed[0].reason, len(self.times)), ("ServiceUnavailable", 4))

    def test_never(self) -> None:
        """With no retries, and for what is no matter of patience, the first refusal stands."""
        for retries, response in ((0, Response(503, "ServiceUnavailable")), (3, Response(413, "PayloadTooLarge"))):
            self.simulator.result(self.client.close())
            self.client = self.simulator.client(retries=retries)
            self.responses, self.times = [response], []
            batch = self.simulator.result(self.client.send(HELLO, ["aa" * 32]))
            self.assertEqual((batch.failed[0].reason, len(self.times)), (response.reason, 1))

    def test_first(self) -> None:
        """A batch that is to go first is sent before what is left of the others."""
        self.simulator.delay = 1.0
        bulk = self.client.send(HELLO, [f"{number:064x}" for number in range(5_000)])
        self.simulator.reactor.advance(0.5)
        urgent = self.client.send_many([(0, HELLO, "ff" * 32)], first=True)
        self.assertEqual(self.simulator.result(urgent).accepted, 1)
        self.assertNoResult(bulk)
        self.assertEqual(self.simulator.result(bulk).accepted, 5_000)

    def test_kept(self) -> None:
        """Once a batch went first, some room is kept free for the next one."""
        self.simulator.delay = 1.0
        notifications = [(number, HELLO, f"{number:064x}") for number in range(5_000)]
        self.simulator.result(self.client.send_many(notifications[:1], first=True))
        bulk = self.client.send_many(notifications)
        self.simulator.reactor.advance(0.5)
        self.assertEqual(self.client.status().in_flight, 950)
        urgent = self.client.send_many(notifications[:20], first=True)
        self.assertEqual(self.client.status().in_flight, 970)
        self.assertEqual(self.simulator.result(urgent).accepted, 20)
        self.assertEqual(self.simulator.result(bulk).accepted, 5_000)

    def test_others_do_not_wait(self) -> None:
        """What comes later is sent meanwhile."""
        self.responses = [Response(429, "TooManyRequests")]
        batch = self.simulator.result(self.client.send(HELLO, [f"{number:064x}" for number in range(5_000)]))
        self.assertEqual(batch.accepted, 5_000)
        self.assertEqual(int.from_bytes(self.simulator.inbox.received[-1].token, "big"), 0)

    def test_retry_after(self) -> None:
        """The gateway's own word counts, in seconds or as a date, where it asks for more than we would wait."""
        self.simulator.reactor.advance(784_111_777)  # 1994-11-06 08:49:37 UTC
        for value, least in ((b"7", 7.0), (b"Sun, 06 Nov 1994 08:50:00 GMT", 12.0), (b"soon", 0.8), (b"0", 0.8)):
            self.responses, self.times, self.extra = [Response(503, "X")], [], [(b"retry-after", value)]
            self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
            waited = self.times[1] - self.times[0]
            self.assertTrue(least <= waited <= least + 4.0, (value, waited))
        self.responses, self.extra = [Response(503, "X")], [(b"retry-after", b"3600")]
        rejection = self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        self.assertEqual((rejection.reason, rejection.retry_after), ("X", 3_600.0))

    def test_ended_meanwhile(self) -> None:
        """A batch whose deadline comes, a client that is closed, and a notification that is cancelled do not wait."""
        for end in ("deadline", "close", "cancel"):
            self.setUp()
            self.responses = [Response(503, "ServiceUnavailable")] * 3
            batch = self.client.send(HELLO, ["aa" * 32], deadline=0.5 if end == "deadline" else None)
            one = self.client.send_one(HELLO, "bb" * 32)
            self.simulator.advance(0.1)
            self.assertEqual(self.client.status().queued, 2)
            if end == "close":
                self.client.close()
            if end == "cancel":
                batch.cancel()
                one.cancel()
                self.failureResultOf(batch, CancelledError)
                self.failureResultOf(one, CancelledError)
                self.assertEqual(self.client.status().queued, 0)
            self.simulator.advance(0.5)
            if end != "cancel":
                self.assertEqual(self.successResultOf(batch).failed[0].reason, "ServiceUnavailable")
            if end == "close":
                self.assertEqual(self.successResultOf(one).reason, "ServiceUnavailable")
            if end == "deadline":
                one.addErrback(lambda _: None)

    def test_bounded(self) -> None:
        """If everything is answered like that, the number taken from the batch is limited."""
        self.responses = [Response(503, "ServiceUnavailable")] * 100_000
        pulled: list[int] = []

        def tokens() -> Iterator[str]:
            for number in range(20_000):
                pulled.append(number)
                yield f"{number:064x}"

        sending = self.client.send(HELLO, tokens())
        self.simulator.advance(0.5)
        self.assertLess(len(pulled), MAX_POSTPONED + 2_100)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)

    def test_binary(self) -> None:
        """Over the binary protocol, the statuses 1 and 255 ask to wait."""
        statuses = [1, 255]
        self.simulator.binary_fault = lambda server, notification, status: statuses.pop() if statuses else status
        client = self.simulator.client("binary")
        batch = self.simulator.result(client.send(HELLO, ["aa" * 32, "bb" * 32]))
        self.assertEqual((batch.accepted, statuses), (2, []))
        self.simulator.result(client.close())

    def test_counted(self) -> None:
        """Metrics count each notification once, and each retry."""
        self.simulator.delay = 0.5
        verifyObject(IMetrics, counter := Counter())
        self.client = self.simulator.client(metrics=counter, retries=1)
        self.responses = [Response(429, "TooManyRequests"), Response(400, "BadTopic"), Response(429, "TooManyRequests")]
        batch = self.simulator.result(self.client.send(HELLO, ["aa" * 32, "bb" * 32, "zz"]))
        self.assertEqual((len(batch.failed), len(batch.unsent)), (2, 1))
        self.assertEqual(
            [each[:3] for each in counter.seen[:3]],
            [("sent", 2), ("retried", "TooManyRequests"), ("rejected", 400, "BadTopic")],
        )
        name, status, reason, seconds = counter.seen[3]
        self.assertEqual((name, status, reason), ("rejected", 429, "TooManyRequests"))
        self.assertTrue(1.8 <= seconds <= 2.5)
        counter.seen.clear()
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        self.assertEqual(counter.seen, [("sent", 1), ("accepted", 0.5)])
        counter.seen.clear()
        sending = self.client.send(HELLO, ["aa" * 32])
        self.simulator.advance(0.1)
        self.simulator.sessions[-1].abort()
        self.assertEqual(len(self.simulator.result(sending).uncertain), 1)
        self.assertEqual(counter.seen, [("sent", 1), ("unanswered", True)])

    def test_counted_and_cancelled(self) -> None:
        """What was sent once, and cancelled while it waited to be sent again, is counted as left without an answer."""
        counter = Counter()
        self.client = self.simulator.client(metrics=counter)
        self.responses = [Response(429, "TooManyRequests")]
        sending = self.client.send_one(HELLO, "aa" * 32)
        self.simulator.advance(0.1)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.client.send_one(HELLO, "bb" * 32).addErrback(lambda _: None).cancel()
        self.assertEqual([each[0] for each in counter.seen], ["sent", "retried", "unanswered", "sent"])

    def test_counted_over_binary(self) -> None:
        """The binary protocol is counted as well; an acceptance takes the settle time."""
        counter = Counter()
        client = self.simulator.client("binary", metrics=counter)
        self.simulator.result(client.send(HELLO, ["aa" * 32, "bb" * 32]))
        self.assertEqual([each[0] for each in counter.seen], ["sent", "accepted", "accepted"])
        self.assertTrue(2.0 <= counter.seen[-1][1] <= 2.1)
        self.simulator.result(client.close())

    def test_who_counts_raises(self) -> None:
        """What that raises is logged, and no notification suffers for it."""
        self.simulator.delay = 0.5
        counter = Counter()
        del counter.seen
        self.client = self.simulator.client(metrics=counter, retries=1)
        self.responses = [Response(429, "TooManyRequests"), Response(400, "BadTopic")]
        batch = self.simulator.result(self.client.send(HELLO, [f"{number:064x}" for number in range(5)]))
        self.assertEqual((batch.accepted, len(batch.failed)), (4, 1))
        sending = self.client.send_one(HELLO, "aa" * 32)
        self.simulator.advance(0.1)
        self.simulator.sessions[-1].abort()
        self.simulator.advance(0.1)
        self.assertIsInstance(self.failureResultOf(sending).value, OutcomeUnknown)
        # Handed over twice, sent again once, accepted four times, refused and left unanswered once each.
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 9)
