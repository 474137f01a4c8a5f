"""Tests for :mod:`txapns.daemon.faces.binary`."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces_world import HOST, FacesWorld
from txapns import APNSClient, Gateway, Notification
from txapns.credentials import Certificate
from txapns.daemon.config.sections import BinarySection
from txapns.daemon.errors import Unavailable
from txapns.daemon.faces import binary
from txapns.daemon.faces.binary import AHEAD, CHUNK, READER, Binary
from txapns.daemon.values import Draft, Limits, Settlement, State
from txapns.wire.feedback import FeedbackParser, FeedbackTuple

__all__ = ["CallerTests", "ClientTests", "EndTests", "FeedbackTests", "NotificationTests"]

ANN, BOB, EVE = b"\xaa" * 32, b"\xbb" * 32, b"\xee" * 32
PORT, FEEDBACK_PORT = 2195, 2196
PAYLOAD = b'{"aps":{"alert":"Hello"}}'


def simple(token: bytes = ANN, payload: bytes = PAYLOAD) -> bytes:
    """Write a notification of command 0."""
    return struct.pack(">BH", 0, len(token)) + token + struct.pack(">H", len(payload)) + payload


def enhanced(identifier: int, token: bytes = ANN, payload: bytes = PAYLOAD, expiration: int = 2_000_000_000) -> bytes:
    """Write a notification of command 1."""
    head = struct.pack(">BIIH", 1, identifier, expiration, len(token))
    return head + token + struct.pack(">H", len(payload)) + payload


def framed(identifier: int, token: bytes = ANN, payload: bytes = PAYLOAD, **more: int) -> bytes:
    """Write a notification of command 2."""
    items = [(1, token), (2, payload), (3, struct.pack(">I", identifier))]
    if "expiration" in more:
        items.append((4, struct.pack(">I", more["expiration"])))
    if "priority" in more:
        items.append((5, struct.pack(">B", more["priority"])))
    frame = b"".join(struct.pack(">BH", item, len(data)) + data for item, data in items)
    return struct.pack(">BI", 2, len(frame)) + frame


def packet(status: int, identifier: int) -> bytes:
    """Write an error packet."""
    return struct.pack(">BBI", 8, status, identifier)


class Wire(StringTransport):
    """A TCP connection to the face, in plain text."""

    aborted = False
    half_closed = False

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.server = protocol
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        """Note that it is aborted."""
        self.aborted = self.disconnecting = True

    def loseWriteConnection(self) -> None:
        """Note that it is closed in one direction."""
        self.half_closed = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Ask a pull producer at once, as TCP does."""
        super().registerProducer(producer, streaming)
        if not streaming:
            producer.resumeProducing()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.server.dataReceived(data)

    def end(self, reason: type[Exception] = ConnectionDone) -> None:
        """Close it."""
        self.server.connectionLost(Failure(reason()))


class BinaryCase(SynchronousTestCase):
    """A face with everything that it needs."""

    app: str | None = "chess"

    def setUp(self) -> None:
        """Start it."""
        self.world = FacesWorld(Path(self.mktemp()))
        self.reactor = self.world.reactor
        self.addCleanup(lambda: self.world.stop())
        self.face = self.make(self.world)

    def make(self, world: FacesWorld) -> Binary:
        """Make a face."""
        options = BinarySection(app=self.app)
        return Binary(world.reactor, world.intake, world.apps, world.log, options, world.limits)

    def connect(self) -> Wire:
        """Connect in plain text, for notifications."""
        return Wire(self.face.factory().buildProtocol(None))

    def send(self, *notifications: bytes) -> Wire:
        """Send at once, and let a little time pass."""
        wire = self.connect()
        wire.send(b"".join(notifications))
        self.reactor.advance(0.02)
        return wire

    def stored(self, app: str = "chess") -> list[bytes]:
        """Lease everything that was stored; returns the tokens, in order."""
        return [leased.token for leased in self.world.lease(app)]


class NotificationTests(BinaryCase):
    """Which notifications are accepted."""

    def test_commands(self) -> None:
        """All three commands are accepted without an answer, with their expirations and priorities."""
        wire = self.send(simple(ANN), enhanced(7, BOB), framed(8, EVE, expiration=2_000_000_001, priority=5))
        self.assertEqual((wire.value(), wire.disconnecting), (b"", False))
        leased = self.world.lease()
        self.assertEqual([each.token for each in leased], [ANN, BOB, EVE])
        self.assertEqual({each.payload for each in leased}, {PAYLOAD})
        self.assertEqual(
            [dict(each.content.headers) for each in leased],
            [
                {"apns-push-type": "alert"},
                {"apns-expiration": "2000000000", "apns-push-type": "alert"},
                {"apns-expiration": "2000000001", "apns-priority": "5", "apns-push-type": "alert"},
            ],
        )
        self.assertEqual(self.world.woken, ["chess"])

    def test_push_type(self) -> None:
        """The push type is the app's."""
        self.world.add("chess", self.world.certificate, push_type="voip")
        self.send(framed(1))
        [leased] = self.world.lease()
        self.assertEqual(dict(leased.content.headers), {"apns-push-type": "voip"})

    def test_equal_ones(self) -> None:
        """Consecutive notifications that are equal share one message."""
        self.send(*[framed(n, bytes([n]) * 32) for n in range(100)])
        leased = self.world.lease()
        self.assertEqual([each.token[0] for each in leased], list(range(100)))
        self.assertEqual(len({id(each.payload) for each in leased}), 1)

    def test_own_payloads(self) -> None:
        """Consecutive ones with payloads of their own are one message, apart from those among them that are equal."""
        submitted, intake = list[Sequence[Draft]](), self.world.intake
        accept = intake.accept
        self.patch(
            intake, "accept", lambda app, drafts, **more: submitted.append(drafts) or accept(app, drafts, **more)
        )
        texts = [(b"a", 5), (b"b", 5), (b"c", 5), (b"c", 5), (b"c", 5), (b"d", 5), (b"e", 5), (b"e", 10), (b"f", 10)]
        sent = [(b'{"aps":{"alert":"%s"}}' % text, priority) for text, priority in texts]
        self.send(*[framed(n, bytes([n]) * 32, payload, priority=each) for n, (payload, each) in enumerate(sent)])
        leased = self.world.lease()
        self.assertEqual([each.token[0] for each in leased], list(range(len(sent))))
        self.assertEqual([(each.payload, int(each.content.headers["apns-priority"])) for each in leased], sent)
        self.assertEqual(len({id(each.payload) for each in leased[2:5]}), 1)
        [drafts] = submitted
        self.assertEqual([(len(each.payloads), len(each.tokens)) for each in drafts], [(2, 2), (0, 3), (2, 2), (2, 2)])

    def test_first_fault(self) -> None:
        """The packet names the first invalid one; those before it are stored, and none after it."""
        wire = self.send(framed(1), framed(2, BOB), framed(3, b""), framed(4, EVE), framed(5, b""))
        self.assertEqual(wire.value(), packet(2, 0))
        wire.send(framed(6, EVE))
        self.reactor.advance(0.02)
        self.assertEqual(self.stored(), [ANN, BOB])
        self.assertFalse(wire.disconnecting)
        self.reactor.advance(2)
        self.assertTrue(wire.disconnecting)

    def test_packet_after_the_commit(self) -> None:
        """The packet is not sent before the preceding notifications are on the disk."""
        wire = self.connect()
        wire.send(framed(1) + framed(2, payload=b""))
        self.assertEqual(wire.value(), b"")
        self.reactor.advance(0.02)
        self.assertEqual(wire.value(), packet(4, 2))
        self.assertEqual(self.stored(), [ANN])

    def test_statuses(self) -> None:
        """Each error has its status."""
        cases = [
            (framed(9, b""), packet(2, 0)),
            (enhanced(9, b"x" * 513), packet(5, 9)),
            (framed(9, payload=b""), packet(4, 9)),
            (enhanced(9, payload=b'"' + b"x" * 65_534), packet(255, 9)),
            (framed(9, payload=b"[]"), packet(255, 9)),
            (framed(9, payload=b"{"), packet(255, 9)),
            (framed(9, payload=b'{"aps":{"alert":"Lunch \\ud83c"}}'), packet(255, 9)),
            (b"\x07", packet(128, 0)),
            (struct.pack(">BI", 2, 0), packet(128, 0)),
            (struct.pack(">BI", 2, 2**31), packet(128, 0)),
        ]
        for raw, answer in cases:
            self.assertEqual(self.send(raw).value(), answer, raw[:40])
        self.assertEqual(self.stored(), [])

    def test_no_topic(self) -> None:
        """Notifications of an app without a topic are refused."""
        self.world.add("chess", self.world.provider_token, topic=None)
        self.assertEqual(self.send(framed(9)).value(), packet(3, 9))

    def test_without_identifier(self) -> None:
        """A notification of command 0 cannot be named: the connection is only closed."""
        wire = self.send(simple(), simple(payload=b"{"), simple(BOB))
        self.assertEqual((wire.value(), wire.disconnecting), (b"", True))
        self.assertEqual(self.stored(), [ANN])

    def test_one_commit(self) -> None:
        """Notifications of one read are one request to the intake, and so are those that come while it is stored."""
        wire = self.connect()
        wire.send(framed(1) + framed(2) + framed(3)[:20])
        wire.send(framed(3)[20:])
        wire.send(framed(4))
        self.assertEqual(wire.producerState, "producing")
        self.reactor.advance(0.02)
        self.assertEqual(len(self.world.woken), 2)
        self.assertEqual(len(self.stored()), 4)

    def test_pause(self) -> None:
        """While some are stored, a connection reads until there is enough for the next request, and then goes on."""
        wire = self.connect()
        wire.send(framed(1))
        many = b"".join([framed(number) for number in range(2, 2 + AHEAD // len(framed(1)))])
        wire.send(many)
        self.assertEqual(wire.producerState, "producing")
        wire.send(framed(9_999))
        self.assertEqual(wire.producerState, "paused")
        self.reactor.advance(0.02)
        self.assertEqual(wire.producerState, "producing")
        self.assertEqual(len(self.stored()), 2 + AHEAD // len(framed(1)))
        self.assertEqual(self.face.gathered, 0)

    def test_pause_together(self) -> None:
        """What all connections gather is limited, too; what a connection discards does not count."""
        self.patch(binary, "AHEAD_TOGETHER", 2 * AHEAD)
        wires = [self.connect() for _ in range(3)]
        for wire in wires:
            wire.send(framed(1))
            wire.send(b"\x07" * (AHEAD - 1))
        self.assertEqual([wire.producerState for wire in wires], ["producing", "producing", "paused"])
        self.reactor.advance(0.02)
        self.assertEqual({wire.value() for wire in wires}, {packet(128, 0)})
        self.assertEqual(self.face.gathered, 0)

    def test_large_reads(self) -> None:
        """More tokens than a request may have are several requests."""
        self.send(*[framed(n, bytes([n % 256, n // 256]) * 16) for n in range(1_201)])
        self.reactor.advance(0.1)
        self.assertEqual(len(self.world.woken), 3)
        tokens = self.stored()
        self.assertEqual([token[0] + 256 * token[1] for token in tokens], list(range(1_201)))

    def test_sent_and_gone(self) -> None:
        """Everything from a client that closes at once is stored, to the last read."""
        wire = self.connect()
        wire.send(framed(1))
        wire.send(framed(2, BOB) + framed(3, EVE))
        wire.end()
        self.reactor.advance(0.05)
        self.assertEqual(self.stored(), [ANN, BOB, EVE])

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(1, 150), max_size=12), st.integers(0, 5))
    def test_any_split(self, sizes: Sequence[int], fault: int) -> None:
        """However the bytes are split, the same is stored in the same order, and the same is answered."""
        notifications = [framed(n, bytes([n]) * 32) for n in range(1, 6)]
        notifications.insert(fault, framed(77, payload=b"{"))
        raw, wire = b"".join(notifications), self.connect()
        for size in [*sizes, len(raw)]:
            wire.send(raw[:size])
            raw = raw[size:]
            if size % 2:
                self.reactor.advance(0.02)
        self.reactor.advance(0.05)
        self.assertEqual([token[0] for token in self.stored()], list(range(1, fault + 1)))
        self.assertEqual(wire.value(), packet(255, 77))
        wire.end()


class EndTests(BinaryCase):
    """How connections end."""

    def test_queue_full(self) -> None:
        """If the queue is full, the last notification that was stored is named, and the connection closed."""
        self.world.add("chess", self.world.certificate, limits=Limits(queue=3, tokens=2))
        wire = self.send(framed(11), framed(12, BOB))
        self.assertEqual(wire.value(), b"")
        wire.send(framed(13) + framed(14) + framed(15, payload=b""))
        self.reactor.advance(0.02)
        self.assertEqual(wire.value(), packet(10, 12))
        self.assertEqual(self.stored(), [ANN, BOB])
        self.reactor.advance(2)
        self.assertTrue(wire.disconnecting)

    def test_nothing_stored(self) -> None:
        """If none was stored, the first one that was not is named instead, with a processing error."""
        self.world.intake.accept = lambda *_, **__: fail(Unavailable("the disk is full", 10))  # type: ignore[method-assign]
        self.assertEqual(self.send(framed(0), framed(1)).value(), packet(1, 0))
        wire = self.send(simple())
        self.assertEqual((wire.value(), wire.disconnecting), (b"", True))

    def test_stop(self) -> None:
        """At shutdown each client is told which was the last; what is being stored is finished first."""
        done, busy, silent = self.send(framed(1)), self.connect(), self.connect()
        busy.send(framed(5, BOB))
        stopped = self.face.close()
        self.assertEqual((done.value(), busy.value(), silent.disconnecting), (packet(10, 1), b"", True))
        busy.send(framed(6, EVE))
        self.reactor.advance(0.02)
        self.assertEqual(busy.value(), packet(10, 5))
        self.assertEqual(self.stored(), [ANN, BOB])
        self.reactor.advance(2)
        for wire in (done, busy, silent):
            self.assertTrue(wire.disconnecting)
            wire.end()
        self.successResultOf(stopped)
        self.assertTrue(self.connect().aborted)

    def test_partial(self) -> None:
        """An unfinished notification is not waited for."""
        wire = self.send(framed(1), framed(2)[:-1])
        self.reactor.advance(29)
        self.assertFalse(wire.disconnecting)
        self.reactor.advance(2)
        self.assertTrue(wire.aborted)

    def test_partial_again(self) -> None:
        """Notifications may keep arriving in pieces for any time."""
        wire = self.connect()
        for n in range(10):
            wire.send(framed(n)[5:] if n else framed(n))
            wire.send(framed(n + 1)[:5])
            self.reactor.advance(20)
        self.assertFalse(wire.disconnecting)

    def test_silent(self) -> None:
        """An idle connection is closed after a day."""
        wire = self.send(framed(1))
        self.reactor.advance(86_000)
        self.assertFalse(wire.disconnecting)
        self.reactor.advance(500)
        self.assertTrue(wire.disconnecting)

    def test_does_not_close(self) -> None:
        """A client that does not answer the close is cut."""
        wire = self.send(framed(1, payload=b""))
        self.reactor.advance(4)
        self.assertEqual((wire.disconnecting, wire.aborted), (True, False))
        self.reactor.advance(4)
        self.assertTrue(wire.aborted)

    def test_app_gone(self) -> None:
        """When the app is removed, nothing is stored for it."""
        wire = self.send(framed(1))
        self.world.apps.drop("chess")
        wire.send(framed(2))
        self.reactor.advance(0.02)
        self.assertEqual(wire.value(), packet(10, 1))

    def test_connections(self) -> None:
        """The number of connections is limited; the one that has been idle the longest is dropped."""
        wires = []
        for _ in range(6):
            wires.append(self.connect())
            self.reactor.advance(0.5)
        self.assertEqual([each.aborted for each in wires], [True] + [False] * 5)


class FeedbackTests(BinaryCase):
    """The feedback service."""

    def connect(self) -> Wire:
        """Connect to it in plain text."""
        return Wire(self.face.feedback_factory().buildProtocol(None))

    def list(self, wire: Wire) -> list[FeedbackTuple]:
        """Read everything, as TCP asks for it."""
        for _ in range(50):
            self.reactor.advance(0.01)
            if wire.producer is not None:
                wire.producer.resumeProducing()
        found = FeedbackParser().receive(wire.value())
        wire.clear()
        return found

    def close(self, wire: Wire, reason: type[Exception] = ConnectionDone) -> None:
        """Close it."""
        wire.end(reason)
        self.reactor.advance(0.02)

    def test_list(self) -> None:
        """It lists the app's dead tokens and closes; each is listed once."""
        self.world.kill(ANN, since=1_699_999_000.7)
        self.world.kill(BOB)
        self.world.kill(EVE, "news")
        wire = self.connect()
        self.assertEqual(self.list(wire), [FeedbackTuple(ANN, 1_699_999_000), FeedbackTuple(BOB, 1_699_999_900)])
        self.assertTrue(wire.half_closed)
        self.close(wire)
        wire = self.connect()
        self.assertEqual(self.list(wire), [])
        self.close(wire)
        self.world.kill(EVE)
        self.assertEqual([each.token for each in self.list(self.connect())], [EVE])

    def test_lost(self) -> None:
        """If the connection ended uncleanly or too early, all are listed again."""
        self.world.kill(ANN)
        wire = self.connect()
        self.assertEqual(len(self.list(wire)), 1)
        self.close(wire, ConnectionLost)
        wire = self.connect()
        self.reactor.advance(0.05)
        self.assertEqual(len(wire.value()), 38)  # written, and not known to be taken
        self.close(wire)
        self.assertEqual(len(self.list(self.connect())), 1)

    def test_long(self) -> None:
        """A long list is written piece by piece, as the peer reads it."""
        tokens = [struct.pack(">I", n) * 8 for n in range(CHUNK + 200)]
        self.world.add("chess", self.world.certificate, limits=Limits())
        self.world.result(self.world.intake.accept("chess", [Draft(b"{}", {}, tokens)]))
        dead = [Settlement(each.number, State.REJECTED, 410, "Unregistered", 5.0) for each in self.world.lease()]
        self.world.result(self.world.queue.settle(dead))
        wire = self.connect()
        self.reactor.advance(0.05)
        self.assertEqual(len(wire.value()), CHUNK * 38)
        self.assertEqual([each.token for each in self.list(wire)], tokens)
        self.close(wire)
        self.assertEqual(self.world.result(self.world.log.take("chess", READER, 10)), [])

    def test_two_at_once(self) -> None:
        """While one connection is listing, another gets nothing."""
        self.world.kill(ANN)
        first, second = self.connect(), self.connect()
        self.assertTrue(second.disconnecting)
        self.close(second)
        self.assertEqual(len(self.list(first)), 1)

    def test_slow(self) -> None:
        """A client that does not read is cut."""
        self.world.kill(ANN)
        wire = self.connect()
        self.reactor.advance(29)
        self.assertFalse(wire.aborted)
        self.reactor.advance(2)
        self.assertTrue(wire.aborted)

    def test_database(self) -> None:
        """If the log cannot be read, the connection is cut, as when Apple's service was out of order."""
        self.world.log.take = lambda *_: fail(Unavailable("locked", 1))
        wire = self.connect()
        self.reactor.advance(0.01)
        self.assertTrue(wire.aborted)

    def test_stop(self) -> None:
        """At shutdown an unfinished list will be listed again."""
        self.world.kill(ANN)
        wire = self.connect()
        stopped = self.face.close()
        self.assertTrue(wire.aborted)
        self.close(wire, ConnectionLost)
        self.successResultOf(stopped)


class CallerTests(BinaryCase):
    """Which app a caller sends for."""

    app = None

    def test_certificates(self) -> None:
        """A certificate tells the app, whether it is the app's own or that of a caller."""
        own = self.world.certificate.fingerprint
        self.assertEqual(self.face.app_of(own), "chess")
        self.world.add("news", self.world.provider_token, callers=frozenset({own, "ab" * 32}))
        self.assertEqual(self.face.app_of(own), "chess")
        self.assertEqual(self.face.app_of("ab" * 32), "news")
        self.world.add("third", self.world.certificate)
        for unclear in (own, "cd" * 32, None):
            self.assertIsNone(self.face.app_of(unclear))


class ClientTests(BinaryCase):
    """Our own client, over TLS."""

    app = None

    def setUp(self) -> None:
        """Listen."""
        super().setUp()
        self.reactor.servers[PORT] = self.face.factory(self.world.server_certificate)
        self.reactor.servers[FEEDBACK_PORT] = self.face.feedback_factory(self.world.server_certificate)

    def client(self, credential: Certificate) -> APNSClient:
        """Make one."""
        gateway = Gateway.binary(
            HOST, PORT, feedback_port=FEEDBACK_PORT, trust_root=self.world.authority.ca_pem, settle_time=0.5
        )
        client = APNSClient(self.reactor, credential, gateway)
        self.addCleanup(lambda: self.world.result(client.close()))
        return client

    def test_send(self) -> None:
        """Everything it sends is stored once, though one in the middle is refused and the rest sent again."""
        tokens = [bytes([n]) * 32 for n in range(1, 50)]
        tokens[20] = b"\x99" * 600
        sending: Deferred[Any] = self.client(self.world.certificate).send(Notification(alert="Hello"), tokens)
        batch = self.world.result(sending)
        self.assertEqual((batch.accepted, list(batch.failed)), (48, [20]))
        self.assertEqual(sorted(self.stored()), sorted(set(tokens) - {tokens[20]}))

    def test_feedback(self) -> None:
        """Dead tokens are listed once."""
        self.world.kill(ANN)
        client = self.client(self.world.certificate)
        self.assertEqual([token for token, _ in self.world.result(client.feedback())], [ANN.hex()])
        self.reactor.advance(0.1)
        self.assertEqual(self.world.result(client.feedback()), [])

    def test_unknown(self) -> None:
        """An unknown certificate is refused in the handshake."""
        unknown = Certificate.from_pem(self.world.authority.client_pem("com.example.chess"))
        batch = self.world.result(self.client(unknown).send(Notification(alert="Hello"), [ANN]))
        self.assertEqual((batch.accepted, len(batch.unsent)), (0, 1))
        self.assertEqual(self.stored(), [])

    def test_old_tls(self) -> None:
        """The version is at most TLS 1.2, without tickets: nothing can be read before an error packet."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(self.world.certificate.certificate)
        context.use_privatekey(self.world.certificate.private_key)
        connection = SSL.Connection(context)
        connection.set_connect_state()
        transport = StringTransport()
        server = self.face.factory(self.world.server_certificate).buildProtocol(None)
        server.makeConnection(transport)
        for _ in range(10):
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                server.dataReceived(connection.bio_read(65_536))
            self.reactor.advance(0.01)
            if transport.value():
                connection.bio_write(transport.value())
            transport.clear()
        self.assertEqual(connection.get_protocol_version_name(), "TLSv1.2")
        connection.send(framed(1))
        server.dataReceived(connection.bio_read(65_536))
        self.reactor.advance(0.05)
        self.assertEqual((transport.value(), self.stored()), (b"", [ANN]))
