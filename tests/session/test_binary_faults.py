"""The binary protocol from the batch down to a server that does wrong: true TLS, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from random import Random

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import check_batch
from txapns import errors
from txapns.client import APNSClient
from txapns.credentials import Certificate
from txapns.notification import Notification
from txapns.reasons import status_name
from txapns.result import Accepted, Batch
from txapns.simulator.authority import Authority
from txapns.simulator.binary import EnhancedNotificationServer, Fault
from txapns.testing import MemorySimulator
from txapns.wire.frames import NotificationParser, ReceivedNotification, encode_error

AUTHORITY = Authority()
STRANGER = Authority()
ALERT = Notification(alert="Hi")
LARGE = Notification(alert="x" * 2_000)
BINARY = 2195

#: What to do with a connection, given the notification at which to do it.
Deed = Callable[[EnhancedNotificationServer, ReceivedNotification], None]


def some(count: int, start: int = 0) -> dict[int, str]:
    """Give that many identifiers a token each."""
    return {number: f"{number + 1:064x}" for number in range(start, start + count)}


def at(identifier: int, deed: Deed, *, connection: int = 0) -> Fault:
    """Do something at one notification of one connection, by its identifier on the wire, and never mind it."""
    servers: list[EnhancedNotificationServer] = []

    def fault(
        server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> int | bool | None:
        if server not in servers:
            servers.append(server)
        if servers.index(server) == connection and notification.identifier == identifier:
            deed(server, notification)
            return False
        return status

    return fault


class BinaryCase(SynchronousTestCase):
    """A client of the simulator's binary server."""

    def setUp(self) -> None:
        """There are a simulator and a client that has not connected yet."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.connect()

    def connect(self, *, barrier: bool = False, command: int = 2, **options: object) -> None:
        """Make a client."""
        gateway = self.simulator.gateway("binary", barrier=barrier, command=command)
        self.client: APNSClient = self.simulator.client(gateway, **options)

    def send(self, tokens: Mapping[int, str], notification: Notification = ALERT) -> Batch:
        """Send to these, and hold what comes of it against the server's record."""
        batch = self.simulator.result(self.client.send(notification, tokens))
        check_batch(self, batch, tokens, self.simulator)
        return batch

    def kill(self, *tokens: str) -> None:
        """The devices with these tokens are gone."""
        for token in tokens:
            self.simulator.inbox.dead[bytes.fromhex(token)] = 0.0

    def note(self, notification: ReceivedNotification, reason: str | None) -> None:
        """Have the server's record say what a deed did to a notification."""
        self.simulator.inbox.note("binary", notification.token, notification.payload, {}, reason)

    def refuse(self, status: int, *pieces: int, identifier: int | None = None) -> Deed:
        """Answer with an error packet, cut at some places, that may name another."""

        def deed(server: EnhancedNotificationServer, notification: ReceivedNotification) -> None:
            self.note(notification, status_name(status))
            named = notification.identifier if identifier is None else identifier
            packet = encode_error(status, named or 0)
            server.finish(*(packet[start:end] for start, end in pairwise([0, *pieces, len(packet)])))

        return deed

    def taken(self) -> list[int]:
        """Tell whose notifications the server accepted, in its order."""
        received = self.simulator.inbox.received
        return [int.from_bytes(reception.token, "big") - 1 for reception in received if reception.reason is None]


class ErrorPacketTests(BinaryCase):
    """Servers that refuse something."""

    def test_dead_token(self) -> None:
        """The dead token fails, and what the server discarded after it arrives once, over another connection."""
        tokens = some(100)
        self.kill(tokens[40])
        batch = self.send(tokens)
        self.assertEqual((batch.accepted, list(batch.failed)), (99, [40]))
        self.assertEqual((batch.failed[40].status, batch.failed[40].reason), (8, "InvalidToken"))
        self.assertEqual(self.simulator.inbox.connections, 2)

    def test_split(self) -> None:
        """An error packet that comes in two halves, or byte by byte, is one error packet."""
        for cuts in ((3,), (1, 2, 3, 4, 5)):
            self.setUp()
            self.simulator.binary_fault = at(5, self.refuse(8, *cuts))
            batch = self.send(some(10))
            self.assertEqual((batch.accepted, list(batch.failed)), (9, [4]))

    def test_each_status(self) -> None:
        """Whatever the status, known or not, one fails with it and the others arrive."""
        for status in (1, 2, 4, 5, 7, 8, 9, 77, 128, 255):
            self.setUp()
            self.simulator.binary_fault = at(3, self.refuse(status))
            self.connect(retries=0)
            batch = self.send(some(6))
            self.assertEqual((batch.accepted, batch.failed[2].reason), (5, status_name(status)))

    def test_many_dead_tokens(self) -> None:
        """Each dead token costs a connection, everything else is accepted exactly once."""
        tokens = some(300)
        dead = [*range(0, 300, 10), 1, 298, 299]
        self.kill(*(tokens[number] for number in dead))
        batch = self.send(tokens)
        self.assertEqual(sorted(batch.failed), sorted(dead))
        self.assertEqual(batch.accepted, 300 - len(dead))
        self.assertEqual(self.simulator.inbox.connections, len(dead))

    def test_all_dead(self) -> None:
        """A batch of nothing but dead tokens fails whole."""
        tokens = some(30)
        self.kill(*tokens.values())
        self.assertEqual(len(self.send(tokens).failed), 30)

    def test_order(self) -> None:
        """The server takes the tokens in the order in which they were given, however often it closes."""
        tokens = some(200)
        self.kill(*(tokens[number] for number in range(7, 200, 17)))
        batch = self.send(tokens)
        self.assertEqual(self.taken(), [number for number in tokens if number not in batch.failed])

    def test_order_of_batches(self) -> None:
        """What is sent again goes before what was not sent at all, and before the next batch."""
        tokens = some(20)
        self.kill(tokens[3])
        sending = [self.client.send(ALERT, list(tokens.values())[start : start + 10]) for start in (0, 10)]
        for deferred in sending:
            self.simulator.result(deferred)
        self.assertEqual(self.taken(), [number for number in tokens if number != 3])

    def test_previous_batch(self) -> None:
        """An error for the batch before, which counts as accepted, affects none in this one, and is logged once."""
        before, after = some(5), some(5, start=5)
        self.send(before)
        first = self.simulator.sessions[0]
        assert isinstance(first, EnhancedNotificationServer)
        with capturedLogs() as events:
            sending = self.client.send(ALERT, after)
            first.refuse(8, 2)  # before it reads any of the second batch
            batch = self.simulator.result(sending)
        check_batch(self, batch, after, self.simulator)
        self.assertEqual(batch.accepted, 5)
        self.assertEqual([event["identifier"] for event in events if "settle_time" in event], [2])

    def test_unnamed(self) -> None:
        """With identifier 0, or one never given out, all that was unconfirmed is uncertain; the next batch is fine."""
        for identifier in (0, 999, 2**32 - 1):
            self.setUp()
            self.simulator.binary_fault = at(3, self.refuse(7, identifier=identifier))
            tokens = some(5)
            batch = self.simulator.result(self.client.send(ALERT, tokens))
            self.assertEqual(sorted(batch.uncertain), list(tokens))
            self.assertIn("did not name", str(batch.uncertain[0].error))
            self.assertEqual(self.taken(), [0, 1])
            self.assertEqual(self.send(some(5, start=5)).accepted, 5)

    def test_unnamed_again_and_again(self) -> None:
        """A server that never says what is wrong is not asked without pause."""
        self.connect(idle_timeout=None)
        self.simulator.binary_fault = lambda server, notification, status: self._shrug(server)
        for number in range(60):
            self.client.send(ALERT, some(1, start=number))
            self.simulator.advance(1)
        self.assertLessEqual(self.simulator.reactor.attempts, 10)

    def _shrug(self, server: EnhancedNotificationServer) -> bool:
        server.refuse(255, 0)
        return False

    def test_cancelled_after_it_came_back(self) -> None:
        """What the server discarded, and was cancelled before it could be sent again, is not sent again."""
        tokens = some(3)
        self.kill(tokens[0])
        self.simulator.delay = 0.5
        sending = [self.client.send_one(ALERT, token) for token in tokens.values()]
        self.simulator.flush()
        server = self.simulator.reactor.servers.pop(BINARY)
        self.simulator.advance(0.6)
        self.assertEqual(self.client.status().queued, 2)
        sending[1].cancel()
        self.failureResultOf(sending[1], CancelledError)
        self.simulator.reactor.servers[BINARY] = server
        self.assertIsInstance(self.simulator.result(sending[2]), Accepted)
        self.assertEqual(self.taken(), [2])

    def test_shutdown(self) -> None:
        """Status 10 names the last one accepted: it is not sent again, what follows it is."""

        def shut_down(server: EnhancedNotificationServer, notification: ReceivedNotification) -> None:
            self.note(notification, None)
            server.refuse(10, notification.identifier or 0)

        self.simulator.binary_fault = at(4, shut_down)
        tokens = some(10)
        self.assertEqual(self.send(tokens).accepted, 10)
        self.assertEqual(self.taken(), list(tokens))

    def test_shutdown_while_idle(self) -> None:
        """A server that shuts down when all is settled costs nothing, and the next batch connects at once."""
        self.send(some(3))
        self.simulator.sessions[0].refuse(10, 3)
        self.simulator.advance(5)
        self.assertIsNone(self.client.status().last_error)
        self.client.send(ALERT, some(1, start=3))
        self.simulator.flush()
        self.assertEqual(self.taken(), [0, 1, 2, 3])


class CredentialTests(BinaryCase):
    """Servers that do not like the certificate."""

    def test_topic_statuses(self) -> None:
        """Status 3 and 6 are about the certificate: the rest is not sent at all, for that reason."""
        for status in (3, 6):
            self.setUp()
            self.simulator.binary_fault = at(3, self.refuse(status))
            batch = self.send(some(10))
            self.assertEqual((batch.accepted, list(batch.failed), len(batch.unsent)), (2, [2], 7))
            for unsent in batch.unsent.values():
                assert isinstance(unsent.error, errors.CredentialRefused)
                self.assertEqual(unsent.error.reason, status_name(status))
            self.assertEqual(self.simulator.inbox.connections, 1)

    def test_topic_statuses_answer_the_barrier(self) -> None:
        """The same with a barrier, where the protocol drains already."""
        self.connect(barrier=True)
        self.simulator.binary_fault = at(3, self.refuse(3))
        batch = self.send(some(10))
        self.assertEqual((batch.accepted, list(batch.failed), len(batch.unsent)), (2, [2], 7))
        self.assertIsInstance(batch.unsent[9].error, errors.CredentialRefused)

    def stranger(self, **options: object) -> None:
        """Make a client whose certificate the server's authority did not sign."""
        certificate = Certificate.from_pem(STRANGER.client_pem(self.simulator.topic))
        self.connect(credential=certificate, **options)

    def test_refused_certificate(self) -> None:
        """In TLS 1.3 a refused certificate shows only after the handshake; still nothing was sent, and that is said."""
        self.stranger()
        batch = self.send(some(1_000))
        self.assertEqual(len(batch.unsent), 1_000)
        for unsent in batch.unsent.values():
            self.assertIsInstance(unsent.error, errors.CredentialRefused)
        self.assertIn("rejected our certificate", str(batch.unsent[0].error))

    def test_refused_certificate_tls12(self) -> None:
        """In TLS 1.2 it shows within the handshake, with the same outcome."""
        self.simulator.reactor.servers[BINARY] = self.simulator.tls_factory("binary", tls12=True)
        self.stranger()
        batch = self.send(some(10))
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(batch.unsent[0].error, errors.CredentialRefused)

    def test_no_storm(self) -> None:
        """Neither a stream of batches nor the wish to stay connected makes a storm of a refused certificate."""
        for idle_timeout in (600.0, None):
            self.setUp()
            self.stranger(idle_timeout=idle_timeout)
            for number in range(60):
                self.client.send(ALERT, some(1, start=number))
                self.simulator.advance(1)
            self.assertIn(self.simulator.reactor.attempts, range(5, 11))


class CloseTests(BinaryCase):
    """Servers that close without an error packet."""

    def test_unanswered_close(self) -> None:
        """After an unanswered close what was not confirmed is uncertain, whether the server had taken it or not."""
        self.simulator.binary_fault = at(4, lambda server, notification: server.abort())
        batch = self.send(some(10))
        self.assertEqual((batch.accepted, len(batch.uncertain)), (0, 10))
        self.assertEqual(self.taken(), [0, 1, 2])
        self.assertIsInstance(batch.uncertain[0].error, errors.ConnectionLost)

    def test_close_after_some_settled(self) -> None:
        """What had settled before the close stays accepted."""
        self.assertEqual(self.send(some(5)).accepted, 5)
        self.simulator.sessions[0].abort()
        self.simulator.advance(1)
        self.assertEqual(self.send(some(5, start=5)).accepted, 5)

    def test_closed_while_idle(self) -> None:
        """That a server closes an idle connection is no failure: the next batch connects at once."""
        self.send(some(5))
        self.simulator.sessions[0].transport.loseConnection()
        self.simulator.advance(1)
        self.assertEqual((self.client.status().connections, self.client.status().last_error), (("idle",), None))
        self.client.send(ALERT, some(1, start=5))
        self.simulator.flush()
        self.assertEqual(self.taken(), list(range(6)))

    def test_retry(self) -> None:
        """A caller who accepts duplicates sends the uncertain ones again, and only those."""
        self.simulator.binary_fault = at(4, lambda server, notification: server.abort())
        batch = self.send(some(10))
        self.simulator.binary_fault = None
        again = self.simulator.result(batch.retry(uncertain=True))
        self.assertEqual(again.accepted, 10)
        self.assertEqual(self.taken(), [0, 1, 2, *range(10)])

    def test_truncated(self) -> None:
        """A packet that ends too early names no notification."""
        self.simulator.binary_fault = at(3, lambda server, notification: server.finish(b"\x08\x08\x00"))
        batch = self.send(some(5))
        self.assertEqual(len(batch.uncertain), 5)
        self.assertIn("within an error packet", str(batch.uncertain[0].error))

    def test_no_error_packet(self) -> None:
        """Bytes that are not an error packet name no notification."""
        self.simulator.binary_fault = at(3, lambda server, notification: server.finish(b"HTTP/1.1 400 Bad Request"))
        batch = self.send(some(5))
        self.assertEqual(len(batch.uncertain), 5)
        self.assertIsInstance(batch.uncertain[0].error, errors.WireError)

    def test_client_closed(self) -> None:
        """A client that is closed while the server discards reports the rest as unsent."""
        tokens = some(10)
        self.kill(tokens[2])
        self.simulator.delay = 0.5
        sending = self.client.send(ALERT, tokens)
        self.simulator.flush()
        closing = self.client.close()
        batch = self.simulator.result(sending)
        self.simulator.result(closing)
        check_batch(self, batch, tokens, self.simulator)
        self.assertEqual((batch.accepted, list(batch.failed), len(batch.unsent)), (2, [2], 7))
        self.assertIsInstance(batch.unsent[9].error, errors.ClientClosed)
        self.simulator.advance(10)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_nobody_listens(self) -> None:
        """If nothing listens, the batch ends within the timeout, unsent."""
        del self.simulator.reactor.servers[BINARY]
        batch = self.send(some(5))
        self.assertEqual(len(batch.unsent), 5)
        self.assertIsInstance(batch.unsent[0].error, errors.ConnectFailed)
        self.assertIn("nothing listens", str(batch.unsent[0].error))


class BarrierTests(BinaryCase):
    """Batches that are confirmed by a barrier."""

    def setUp(self) -> None:
        """The client uses barriers."""
        super().setUp()
        self.connect(barrier=True)

    def test_accepted(self) -> None:
        """The batch is over as soon as the barrier is refused, without a settle time."""
        before = self.simulator.reactor.seconds()
        sending = self.client.send(ALERT, some(10))
        self.simulator.flush()
        batch = self.successResultOf(sending)
        check_batch(self, batch, some(10), self.simulator)
        self.assertEqual(batch.accepted, 10)
        self.assertEqual(self.simulator.reactor.seconds(), before)

    def test_named(self) -> None:
        """A server that names the barrier by its identifier says the same."""
        self.simulator.binary_fault = at(11, self.refuse(2))
        self.assertEqual(self.send(some(10)).accepted, 10)

    def test_dead_tokens(self) -> None:
        """Dead tokens before the barrier cost a connection each, as ever."""
        tokens = some(20)
        self.kill(tokens[0], tokens[10], tokens[19])
        self.assertEqual(sorted(self.send(tokens).failed), [0, 10, 19])

    def test_closed(self) -> None:
        """A server that closes at the barrier leaves everything uncertain."""
        self.simulator.binary_fault = at(6, lambda server, notification: server.abort())
        self.assertEqual(len(self.send(some(5)).uncertain), 5)

    def test_accepts_the_barrier(self) -> None:
        """A server that takes no offence at the barrier leaves everything uncertain, after the timeout."""
        self.simulator.binary_fault = at(6, lambda server, notification: None)
        batch = self.send(some(5))
        self.assertEqual(len(batch.uncertain), 5)
        self.assertIsInstance(batch.uncertain[0].error, errors.AnswerTimeout)

    def test_batch_after_batch(self) -> None:
        """Each batch has its own barrier and its own connection."""
        for start in (0, 5, 10):
            self.assertEqual(self.send(some(5, start=start)).accepted, 5)
        self.assertEqual(self.simulator.inbox.connections, 3)


class CommandTests(BinaryCase):
    """Batches in the older commands."""

    def test_enhanced(self) -> None:
        """Command 1 does what command 2 does."""
        self.connect(command=1)
        tokens = some(100)
        self.kill(tokens[40])
        self.assertEqual(list(self.send(tokens).failed), [40])
        self.assertEqual(self.simulator.inbox.connections, 2)

    def test_simple(self) -> None:
        """Command 0 does where nothing is refused."""
        self.connect(command=0)
        self.assertEqual(self.send(some(100)).accepted, 100)

    def test_simple_refused(self) -> None:
        """With command 0 a rejection leaves uncertain what was not settled, and nothing else."""
        self.connect(command=0)
        before, tokens = some(10), some(10, start=10)
        self.kill(tokens[13])
        self.assertEqual(self.send(before).accepted, 10)
        batch = self.send(tokens)
        self.assertEqual(sorted(batch.uncertain), list(tokens))
        self.assertIn("command 0", str(batch.uncertain[10].error))

    def test_simple_with_barrier(self) -> None:
        """With a barrier, what was sent with command 0 is proved accepted, or uncertain."""
        self.connect(command=0, barrier=True)
        self.assertEqual(self.send(some(10)).accepted, 10)
        tokens = some(10, start=10)
        self.kill(tokens[13])
        self.assertEqual(sorted(self.send(tokens).uncertain), list(tokens))


class CountingServer(EnhancedNotificationServer):
    """Counts all frames that come, those that it discards as well."""

    frames = 0

    def connectionMade(self) -> None:
        """Count each connection by itself."""
        super().connectionMade()
        self._counter = NotificationParser()

    def dataReceived(self, data: bytes) -> None:
        """Count the frames."""
        type(self).frames += len(self._counter.receive(data))
        super().dataReceived(data)


class AllowanceTests(BinaryCase):
    """How much is sent in vain."""

    def frames(self, count: int, dead: Iterable[int]) -> int:
        """Send to this many, some of them dead; return how many frames the server received."""
        tokens = some(count)
        self.kill(*(tokens[number] for number in dead))
        context = AUTHORITY.server_options((), require_certificate=True)
        clock, devices = self.simulator.reactor, self.simulator.inbox
        server = type("Server", (CountingServer,), {})
        factory = Factory.forProtocol(lambda: server(clock, devices))
        clock.servers[BINARY] = TLSMemoryBIOFactory(context, False, factory, clock)
        self.send(tokens)
        return server.frames

    def test_none_dead(self) -> None:
        """Without dead tokens nothing is sent in vain, and one settle time is enough."""
        before = self.simulator.reactor.seconds()
        self.assertEqual(self.frames(3_000, []), 3_000)
        self.assertLess(self.simulator.reactor.seconds() - before, 3)

    def test_many_dead(self) -> None:
        """With many dead tokens a multiple of the batch is sent, not the batch for each of them."""
        dead = Random(1).sample(range(5_000), 100)
        self.assertLess(self.frames(5_000, dead), 15 * 5_000)

    def test_patience(self) -> None:
        """Waiting for the settle time is no want of progress, even where the timeout is shorter."""
        self.connect(timeout=1.0)
        for start in range(0, 60, 5):
            tokens = some(5, start=start)
            self.kill(tokens[start])
            self.send(tokens)
        self.assertEqual(self.send(some(2_000, start=60)).accepted, 2_000)


class RandomFaults:
    """
    A server that does anything at any time.

    :param random: where chance comes from.
    :param simulator: whose record to keep honest.
    """

    def __init__(self, random: Random, simulator: MemorySimulator) -> None:
        self._random = random
        self._note = simulator.inbox.note
        self._rate = random.choice((0.0, 0.01, 0.05, 0.3))

    def __call__(
        self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> int | bool | None:
        """Do what is right, mostly."""
        if self._random.random() >= self._rate:
            return status
        deed = self._random.choice((self.reject, self.reject, self.shut_down, self.vanish, self.garbage, self.shrug))
        deed(server, notification, status)
        return False

    def record(self, notification: ReceivedNotification, status: int | None) -> None:
        """Record the outcome of a notification, not of the barrier."""
        if notification.token:
            reason = None if status is None else status_name(status)
            self._note("binary", notification.token, notification.payload, {}, reason)

    def reject(
        self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> None:
        """Refuse it, for this reason or that, in one piece or in several."""
        status = status or self._random.choice((1, 4, 5, 7, 8, 77, 128, 255))
        self.record(notification, status)
        packet = encode_error(status, notification.identifier or 0)
        cut = self._random.randrange(6)
        server.finish(packet[:cut], packet[cut:])

    def shut_down(
        self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> None:
        """Accept it, if one can, and shut down."""
        if status is not None:
            self.reject(server, notification, status)
            return
        self.record(notification, None)
        server.refuse(10, notification.identifier or 0)

    def vanish(
        self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> None:
        """Close without a word, having accepted it or not."""
        if status is None and self._random.random() < 0.5:
            self.record(notification, None)
        server.abort()

    def garbage(
        self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
    ) -> None:
        """Send a part of a packet, or no packet at all, and close."""
        server.finish(self._random.choice((b"\x08", b"\x08\x08\x00\x00\x00", b"HTTP", b"")))

    def shrug(self, server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None) -> None:
        """Reject a notification that was never sent."""
        server.refuse(255, self._random.choice((0, 2**31)))


class CampaignTests(BinaryCase):
    """Chance as an adversary."""

    def test_few(self) -> None:
        """Whatever the server does, each token has the one outcome that the server's record confirms."""
        self.run_seeds(50)

    @pytest.mark.campaign
    def test_five_hundred_seeds(self) -> None:
        """The same, for longer."""
        self.run_seeds(500)

    def run_seeds(self, count: int) -> None:
        """Run so many campaigns."""
        seen: Counter[str] = Counter()
        for seed in range(count):
            self.campaign(seed, seen)
        # All of it occurs, and often: a campaign in which nothing goes wrong would prove nothing.
        for outcome in ("accepted", "failed", "unsent", "uncertain"):
            self.assertGreater(seen[outcome], 2 * count)

    def campaign(self, seed: int, seen: Counter[str]) -> None:
        """Send a few batches to one mischievous server, one after the other and side by side."""
        random = Random(seed)
        barrier = random.random() < 0.3
        # With a second until the server closes, all but the longest delay is shorter than the settle time.
        delay = random.choice((0.0, 0.3, 0.9, 5.0) if barrier else (0.0, 0.3, 0.9))
        self.simulator = MemorySimulator(authority=AUTHORITY, delay=delay)
        self.simulator.binary_fault = RandomFaults(random, self.simulator)
        self.connect(
            barrier=barrier, command=random.choice((0, 1, 2, 2, 2)), max_connections=random.choice((1, 1, 2, 5))
        )
        everything = some(random.choice((10, 100, 400)))
        rate = random.choice((0.0, 0.02, 0.2))
        self.kill(*(token for token in everything.values() if random.random() < rate))
        parts = [{number: token for number, token in everything.items() if number % 3 == part} for part in range(3)]
        sending = []
        for part in parts:
            deadline = random.choice((None, None, None, 3.0))
            sending.append(self.client.send(random.choice((ALERT, LARGE)), part, deadline=deadline))
            self.simulator.advance(random.choice((0.0, 0.1, 3.0)))
        closing = self.client.close() if random.random() < 0.1 else None
        for part, deferred in zip(parts, sending, strict=True):
            batch = self.simulator.result(deferred, within=600)
            check_batch(self, batch, part, self.simulator)
            seen["accepted"] += batch.accepted
            for outcome in batch.outcomes:
                seen[type(outcome).__name__.lower().replace("rejection", "failed")] += 1
        self.simulator.result(closing or self.client.close())
        self.simulator.advance(10)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [], f"seed {seed}")
        self.assertEqual((self.client.status().in_flight, self.client.status().queued), (0, 0))
