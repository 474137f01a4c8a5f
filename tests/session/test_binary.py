"""Tests for :mod:`txapns._session.binary`: one protocol, on a transport that keeps what is written."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns import errors
from txapns._network import tcp
from txapns._session import binary
from txapns._session.binary import Allowance, EnhancedNotificationProtocol
from txapns._session.protocol import MAX_RETURNS, ProtocolListener
from txapns.delivery import Delivery, DeliveryListener
from txapns.interfaces import IGatewayProtocol, IProtocolListener
from txapns.notification import Notification
from txapns.result import Rejection
from txapns.wire.frames import NotificationParser, ReceivedNotification, encode_barrier, encode_error

NOW = 1_700_000_000.0
ALERT = Notification(alert="Hi")


class Transport(StringTransport):
    """A TCP transport that keeps each write by itself."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "127.0.0.1", 2195))
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.writes.append(data)
        super().write(data)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no delay."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """There is no peer to keep alive."""

    @property
    def received(self) -> list[ReceivedNotification]:
        """What a server would read."""
        return NotificationParser().receive(self.value())


@implementer(IProtocolListener, DeliveryListener)
class Record:
    """Records what a protocol reports and settles, in order."""

    ended = None

    def __init__(self) -> None:
        self.events: list[str] = []
        self.outcomes: list[tuple[str, object]] = []
        self.errors: list[Exception] = []
        self.trouble: list[Exception | None] = []

    def protocol_ready(self, protocol: IGatewayProtocol) -> None:
        """It can be used."""
        self.events.append("ready")

    def protocol_proved(self, protocol: IGatewayProtocol) -> None:
        """It proved itself."""
        self.events.append("proved")

    def protocol_round(self, protocol: IGatewayProtocol, settle: Callable[[], None]) -> None:
        """Several are settled at once."""
        settle()

    def protocol_room(self, protocol: IGatewayProtocol) -> None:
        """It may have room again."""
        self.events.append("room")

    def protocol_returned(self, protocol: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """The server did not process these."""
        self.outcomes.extend(("returned", delivery.identifier) for delivery in deliveries)

    def protocol_rejected(self, protocol: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """It is not sent again."""
        delivery.outcomes.rejected(delivery, rejection)

    def protocol_draining(self, protocol: IGatewayProtocol, error: Exception | None) -> None:
        """It takes nothing more."""
        self.events.append("draining")
        self.trouble.append(error)

    def protocol_lost(self, protocol: IGatewayProtocol, error: Exception | None) -> None:
        """It is over."""
        self.events.append("lost")
        self.trouble.append(error)

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""
        self.outcomes.append(("accepted", delivery.identifier))

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """APNs rejected it."""
        self.outcomes.append((f"{rejection.status} {rejection.reason}", delivery.identifier))

    def unsent(self, delivery: Delivery, error: Exception) -> None:
        """APNs did not process it."""
        self.outcomes.append(("unsent", delivery.identifier))
        self.errors.append(error)

    def uncertain(self, delivery: Delivery, error: Exception) -> None:
        """The outcome is unknown."""
        self.outcomes.append(("uncertain", delivery.identifier))
        self.errors.append(error)


class ProtocolCase(SynchronousTestCase):
    """A protocol, ready, on a transport."""

    barrier = False

    def setUp(self) -> None:
        """The handshake is over."""
        self.clock = Clock()
        self.clock.advance(NOW)
        self.record = Record()
        self.open()

    def open(self, allowance: Allowance | None = None, command: int = 2) -> None:
        """Make a protocol, with a settle time of 2 s and a timeout of 30 s."""
        self.protocol = EnhancedNotificationProtocol(
            self.record, self.clock, settle_time=2.0, barrier=self.barrier, command=command, allowance=allowance
        )
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)
        self.protocol.handshakeCompleted()

    def deliver(self, *identifiers: int, notification: Notification = ALERT, returns: int = 0) -> None:
        """Send one notification to the devices with these numbers."""
        tokens = [identifier.to_bytes(32, "big") for identifier in identifiers]
        self.protocol.deliver(
            [
                Delivery(self.record, identifier, token, token, notification, notification.body, returns)
                for identifier, token in zip(identifiers, tokens, strict=True)
            ]
        )

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def expect(self, *outcomes: tuple[str, object]) -> None:
        """Compare the outcomes since the last time."""
        found, self.record.outcomes = self.record.outcomes, []
        self.assertEqual(found, list(outcomes))


class CommandTests(ProtocolCase):
    """Sessions that write the older commands."""

    def test_enhanced(self) -> None:
        """Command 1 carries identifier and expiration, but no priority."""
        self.open(command=1)
        self.deliver(1, 2, notification=Notification(alert="Hi", expiration=5, priority=5))
        received = self.transport.received
        self.assertEqual([notification.command for notification in received], [1, 1])
        self.assertEqual([notification.identifier for notification in received], [1, 2])
        self.assertEqual([notification.expiration for notification in received], [5, 5])

    def test_enhanced_expiration_default(self) -> None:
        """Command 1 cannot leave the expiration open either."""
        self.open(command=1)
        self.deliver(1)
        self.assertEqual(self.transport.received[0].expiration, NOW + 30 * 24 * 3600)

    def test_enhanced_refusal(self) -> None:
        """An error packet sorts what was written with command 1 as it does with command 2."""
        self.open(command=1)
        self.deliver(1, 2, 3)
        self.protocol.dataReceived(encode_error(8, 2))
        self.expect(("accepted", 1), ("8 InvalidToken", 2), ("returned", 3))

    def test_own_payloads(self) -> None:
        """Devices that share a notification may have payloads of their own."""
        for command in (0, 1, 2):
            self.open(command=command)
            own = [b'{"n":1}', b'{"n":2}', ALERT.body]
            self.protocol.deliver([Delivery(self.record, 0, bytes(32), bytes(32), ALERT, body) for body in own])
            self.assertEqual([notification.payload for notification in self.transport.received], own)

    def test_simple(self) -> None:
        """Command 0 carries the token and the payload."""
        self.open(command=0)
        self.deliver(1, 2)
        expected = [
            ReceivedNotification(0, bytes([*bytes(31), number]), ALERT.body, None, None, None) for number in (1, 2)
        ]
        self.assertEqual(self.transport.received, expected)
        self.clock.advance(2)
        self.expect(("accepted", 1), ("accepted", 2))

    def test_simple_closed(self) -> None:
        """With command 0 a server rejects by closing, so it is unknown which one it was; the error says so."""
        self.open(command=0)
        self.deliver(1, 2)
        self.lose()
        self.expect(("uncertain", 1), ("uncertain", 2))
        self.assertIn("command 0", str(self.record.errors[0]))

    def test_simple_packet(self) -> None:
        """An error packet after command 0 names nothing, whatever its identifier, since no notification had one."""
        for identifier in (0, 1, 2):
            self.open(command=0)
            self.deliver(1, 2)
            self.protocol.dataReceived(encode_error(8, identifier))
            self.expect(("uncertain", 1), ("uncertain", 2))

    def test_barrier(self) -> None:
        """The barrier is of the same command, or of command 1 where that has no identifier; its refusal proves all."""
        self.barrier = True
        for command, expected in ((0, 1), (1, 1), (2, 2)):
            for status, identifier in ((2, 3), (2, 0), (5, 3)):
                self.open(command=command)
                self.deliver(1, 2)
                self.protocol.flush()
                last = self.transport.received[-1]
                self.assertEqual((last.command, last.identifier, last.token), (expected, 3, b""))
                self.protocol.dataReceived(encode_error(status, identifier))
                self.expect(("accepted", 1), ("accepted", 2))


@pytest.mark.loopback
class AcknowledgementTests(ProtocolCase):
    """What the peer's system has not acknowledged, on a connection of real TCP."""

    def setUp(self) -> None:
        """The protocol's transport says it wrote to a socket that already has more in it than the peer will read."""
        super().setUp()
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.near = socket.create_connection(listener.getsockname())
        self.addCleanup(self.near.close)
        self.far, _ = listener.accept()
        self.addCleanup(self.far.close)
        self.near.setblocking(False)
        self.transport.socket = self.near

    def fill(self) -> None:
        """Write until the system takes no more."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.near.send(bytes(65_536))

    def read_all(self) -> None:
        """Read it, until the peer's system knows."""
        self.far.settimeout(10)
        while tcp.unacknowledged(self.transport):
            self.far.recv(65_536)

    def test_not_acknowledged(self) -> None:
        """What a peer has not even acknowledged does not count as accepted; after the timeout it is uncertain."""
        self.fill()
        self.deliver(1)
        for _ in range(15):
            self.clock.advance(2)
            self.assertFalse(self.transport.disconnecting)
        self.expect()
        self.clock.advance(2)
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.expect(("uncertain", 1))
        self.assertIn("not acknowledged", str(self.record.errors[0]))

    def test_acknowledged_late(self) -> None:
        """Once it is acknowledged the settle time begins."""
        self.fill()
        self.deliver(1)
        self.clock.advance(2)
        self.read_all()
        self.clock.advance(1.9)
        self.expect()
        self.clock.advance(0.1)
        self.expect(("accepted", 1))

    def test_acknowledged_in_part(self) -> None:
        """What is not acknowledged is what was written last, so it does not keep back what was written before."""
        self.deliver(1)
        self.clock.advance(1.5)
        self.fill()
        large = Notification(alert="x" * 60_000)
        count = tcp.unacknowledged(self.transport) // len(large.body) + 1
        self.assertGreater(count, 1)
        self.deliver(*range(2, 2 + count), notification=large)
        self.clock.advance(0.5)
        self.expect(("accepted", 1))
        self.clock.advance(1.5)
        self.expect()


class StandAloneTests(ProtocolCase):
    """A protocol used without a pool behind it."""

    def setUp(self) -> None:
        """Only what it settles is recorded."""
        super().setUp()
        self.protocol = EnhancedNotificationProtocol(ProtocolListener(), self.clock)
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)

    def test_outcomes(self) -> None:
        """Each notification has one outcome under its identifier; what the server discarded is unsent."""
        self.protocol.handshakeCompleted()
        self.protocol.send(ALERT, {"ann": "aa" * 32, "bob": "bb" * 32, "cleo": "cc" * 32}, self.record)
        self.assertEqual(len(self.transport.writes), 1)
        self.protocol.dataReceived(encode_error(8, 2))
        self.expect(("accepted", "ann"), ("8 InvalidToken", "bob"), ("unsent", "cleo"))
        self.assertIsInstance(self.record.errors[0], errors.StreamRefused)

    def test_positions(self) -> None:
        """Without identifiers the positions are the identifiers, and raw tokens do as well."""
        self.protocol.handshakeCompleted()
        self.protocol.send(ALERT, ["aa" * 32, bytes(32)], self.record)
        self.clock.advance(2)
        self.expect(("accepted", 0), ("accepted", 1))

    def test_bad_token(self) -> None:
        """A token that is none is the caller's mistake, and nothing is written."""
        self.protocol.handshakeCompleted()
        with self.assertRaises(errors.InvalidToken):
            self.protocol.send(ALERT, ["aa" * 32, "zz"], self.record)
        self.assertEqual(self.transport.writes, [])

    def test_no_iterable(self) -> None:
        """A single token, and an async iterable, are the caller's mistakes."""
        self.protocol.handshakeCompleted()

        async def tokens() -> AsyncIterator[str]:
            yield "aa" * 32

        for mistake in ("aa" * 32, tokens(), 5):
            with self.assertRaises(TypeError):
                self.protocol.send(ALERT, mistake, self.record)  # type: ignore[arg-type]

    def test_takes_nothing(self) -> None:
        """Before the handshake and after the end it takes nothing, and says so."""
        with self.assertRaises(errors.ConnectionLost):
            self.protocol.send(ALERT, ["aa" * 32], self.record)
        self.protocol.handshakeCompleted()
        self.protocol.close()
        with self.assertRaises(errors.ConnectionLost):
            self.protocol.send(ALERT, ["aa" * 32], self.record)
        self.expect()


class WriteTests(ProtocolCase):
    """What a protocol writes."""

    def test_interfaces(self) -> None:
        """It has the interfaces of a protocol, a producer and a handshake listener, and the record its listener."""
        for interface in (IProtocol, IGatewayProtocol, IPushProducer, IHandshakeListener):
            verifyObject(interface, self.protocol)
        for interface in (IProtocolListener, DeliveryListener):
            verifyObject(interface, self.record)

    def test_ready(self) -> None:
        """The protocol is ready with the handshake, since the server says nothing."""
        self.assertEqual(self.record.events, ["ready"])
        self.assertEqual(self.transport.writes, [])

    def test_packs_many_into_one_write(self) -> None:
        """What is delivered together is written together, in order, with identifiers from 1."""
        self.deliver(*range(500))
        self.assertEqual(len(self.transport.writes), 1)
        received = self.transport.received
        self.assertEqual([notification.identifier for notification in received], list(range(1, 501)))
        self.assertEqual([int.from_bytes(notification.token, "big") for notification in received], list(range(500)))

    def test_identifiers_go_on(self) -> None:
        """Identifiers count on from one batch to the next, so a late error cannot blame the wrong one."""
        self.deliver(7, 8)
        self.clock.advance(2)
        self.deliver(9)
        self.assertEqual([notification.identifier for notification in self.transport.received], [1, 2, 3])

    def test_expiration_default(self) -> None:
        """A notification that does not say when it expires is stored for 30 days, as the provider API does."""
        self.deliver(1)
        self.assertEqual(self.transport.received[0].expiration, NOW + 30 * 24 * 3600)

    def test_expiration(self) -> None:
        """An expiration is sent as it is, 0 (do not store) as well."""
        for expiration in (0, 1_800_000_000):
            self.deliver(1, notification=Notification(alert="Hi", expiration=expiration))
        self.assertEqual([notification.expiration for notification in self.transport.received], [0, 1_800_000_000])

    def test_priority(self) -> None:
        """A priority is sent as it is, and omitted if there is none."""
        for priority in (10, 5, 77, None):
            self.deliver(1, notification=Notification(alert="Hi", priority=priority))
        self.assertEqual([notification.priority for notification in self.transport.received], [10, 5, 77, None])

    def test_cannot_be_written(self) -> None:
        """What does not fit into a frame is unsent, and disturbs nothing."""
        self.deliver(1)
        self.deliver(2, notification=Notification(alert="Hi", expiration=2**32))
        self.deliver(3)
        self.expect(("unsent", 2))
        self.assertIsInstance(self.record.errors[0], errors.InvalidNotification)
        self.assertEqual([notification.identifier for notification in self.transport.received], [1, 2])
        self.clock.advance(2)
        self.expect(("accepted", 1), ("accepted", 3))

    def test_close_from_an_outcome(self) -> None:
        """A listener may close the protocol when a delivery cannot be written; the others of that write still leave."""
        record, protocol = self.record, self.protocol

        class Closing(Record):
            def unsent(self, delivery: Delivery, error: Exception) -> None:
                protocol.close()

        wrong = Delivery(Closing(), 1, bytes(32), bytes(32), Notification(alert="Hi", expiration=2**32), b"{}")
        protocol.deliver([wrong, Delivery(record, 2, bytes(32), bytes(32), ALERT, ALERT.body)])
        self.assertEqual(len(self.transport.received), 1)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.expect(("accepted", 2))
        self.assertTrue(self.transport.disconnecting)


class SettleTests(ProtocolCase):
    """What counts as accepted because nothing was heard."""

    def test_settle_time(self) -> None:
        """Two seconds after it was written, and not before, a notification counts as accepted."""
        self.deliver(1, 2)
        self.clock.advance(1.9)
        self.expect()
        self.assertEqual(self.protocol.in_flight, 2)
        self.clock.advance(0.1)
        self.expect(("accepted", 1), ("accepted", 2))
        self.assertEqual(self.protocol.in_flight, 0)

    def test_each_write_by_itself(self) -> None:
        """Each write has its own two seconds, and one timer serves all."""
        self.deliver(1)
        self.clock.advance(1)
        self.deliver(2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.expect(("accepted", 1))
        self.clock.advance(1)
        self.expect(("accepted", 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_proof(self) -> None:
        """The first that settles proves the protocol; then there is room."""
        self.deliver(1)
        self.clock.advance(2)
        self.deliver(2)
        self.clock.advance(2)
        self.assertEqual(self.record.events, ["ready", "proved", "room", "room"])

    def test_nothing_settles_while_paused(self) -> None:
        """While the transport's buffers are full nothing settles, and the settle time starts when they are empty."""
        self.deliver(1)
        self.clock.advance(1)
        self.protocol.pauseProducing()
        self.clock.advance(20)
        self.expect()
        self.protocol.resumeProducing()
        self.clock.advance(1.9)
        self.expect()
        self.clock.advance(0.1)
        self.expect(("accepted", 1))

    def test_short_pause(self) -> None:
        """A pause that ends before the settle time restarts it."""
        self.deliver(1)
        self.protocol.pauseProducing()
        self.clock.advance(1.5)
        self.protocol.resumeProducing()
        self.clock.advance(1)
        self.expect()
        self.clock.advance(1)
        self.expect(("accepted", 1))

    def test_pause_of_what_follows(self) -> None:
        """A pause says nothing of what had left before the one before it."""
        self.deliver(1)
        self.protocol.pauseProducing()
        self.protocol.resumeProducing()
        self.clock.advance(1)
        self.deliver(2)
        self.protocol.pauseProducing()
        self.clock.advance(0.5)
        self.protocol.resumeProducing()
        self.clock.advance(0.5)
        self.expect(("accepted", 1))
        self.clock.advance(1.4)
        self.expect()
        self.clock.advance(0.1)
        self.expect(("accepted", 2))

    def test_reads_first(self) -> None:
        """When the settle time is over, what came meanwhile is read before anything counts as accepted."""
        self.deliver(1, 2)
        self.clock.rightNow += 2  # the process was busy: nothing was read, and no call made
        self.clock.callLater(0, self.protocol.dataReceived, encode_error(8, 1))
        self.clock.advance(0)
        self.expect(("8 InvalidToken", 1), ("returned", 2))

    def test_part_of_a_packet(self) -> None:
        """While an error packet has come in part nothing settles or is taken, and the rest of it has a deadline."""
        self.deliver(1, 2)
        self.protocol.dataReceived(encode_error(8, 1)[:3])
        self.assertEqual(self.protocol.room(), (0, 0))
        self.clock.advance(29.9)
        self.expect()
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.expect(("uncertain", 1), ("uncertain", 2))
        self.assertIn("within an error packet", str(self.record.errors[0]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rest_of_a_packet(self) -> None:
        """Where the rest comes in time it is one packet, however late."""
        self.deliver(1, 2, 3)
        self.protocol.dataReceived(encode_error(8, 2)[:5])
        self.clock.advance(29)
        self.protocol.dataReceived(encode_error(8, 2)[5:])
        self.expect(("accepted", 1), ("8 InvalidToken", 2), ("returned", 3))

    def test_busy_process(self) -> None:
        """Time in which the process came to nothing is no settle time: what was written may be leaving only now."""
        self.deliver(1)
        self.clock.advance(10)
        self.expect()
        self.clock.advance(1.9)
        self.expect()
        self.clock.advance(0.1)
        self.expect(("accepted", 1))

    def test_no_room_while_paused(self) -> None:
        """A paused protocol takes nothing, and tells when it does again."""
        self.assertGreater(min(self.protocol.room()), 0)
        self.protocol.pauseProducing()
        self.assertEqual(self.protocol.room(), (0, 0))
        self.protocol.resumeProducing()
        self.assertEqual(self.record.events, ["ready", "room"])
        self.assertGreater(min(self.protocol.room()), 0)

    def test_stalled_reader(self) -> None:
        """A server that does not read for the timeout is left, and what it was sent is uncertain."""
        self.deliver(1, 2)
        self.protocol.pauseProducing()
        self.clock.advance(29.9)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.expect(("uncertain", 1), ("uncertain", 2))
        self.assertIsInstance(self.record.errors[0], errors.AnswerTimeout)
        self.assertIsInstance(self.record.trouble[-1], errors.AnswerTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reader_goes_on(self) -> None:
        """A server that reads on in time is not left."""
        self.deliver(1)
        self.protocol.pauseProducing()
        self.clock.advance(29)
        self.protocol.resumeProducing()
        self.clock.advance(2)
        self.expect(("accepted", 1))
        self.clock.advance(27)
        self.assertFalse(self.transport.disconnecting)

    def test_close(self) -> None:
        """A closing protocol takes nothing more, and closes when all is settled."""
        self.deliver(1)
        self.protocol.close()
        self.assertEqual(self.protocol.room(), (0, 0))
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.expect(("accepted", 1))
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.assertEqual(self.record.trouble, [None, None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flush(self) -> None:
        """Without a barrier there is nothing to flush."""
        self.deliver(1)
        self.protocol.flush()
        self.assertEqual(len(self.transport.received), 1)


class BarrierTests(ProtocolCase):
    """What is proved by a notification that has to be refused."""

    barrier = True

    def test_nothing_is_taken_for_granted(self) -> None:
        """With a barrier nothing settles with time."""
        self.deliver(1)
        self.clock.advance(29)
        self.expect()

    def test_written_last(self) -> None:
        """When nothing more is waiting the barrier is written, once, and not counted; nothing is taken after it."""
        self.deliver(1, 2)
        self.protocol.flush()
        self.protocol.flush()
        self.assertEqual(self.transport.writes[1:], [encode_barrier(3)])
        self.assertEqual(self.protocol.room(), (0, 0))
        self.assertEqual(self.protocol.in_flight, 2)
        self.assertEqual(self.record.events, ["ready"])

    def test_nothing_to_prove(self) -> None:
        """Without anything unconfirmed there is no barrier, so an idle connection lives on."""
        self.protocol.flush()
        self.assertEqual(self.transport.writes, [])

    def test_refusal_proves_the_rest(self) -> None:
        """The barrier's refusal proves that all before it were accepted, and ends the connection without trouble."""
        self.deliver(1, 2)
        self.protocol.flush()
        self.protocol.dataReceived(encode_error(2, 3))
        self.expect(("accepted", 1), ("accepted", 2))
        self.assertIn("proved", self.record.events)
        self.lose()
        self.assertEqual(self.record.trouble, [None, None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_identifier_zero(self) -> None:
        """Apple answered an empty token with status 2 and identifier 0, which names the barrier."""
        self.deliver(1, 2)
        self.protocol.flush()
        self.protocol.dataReceived(encode_error(2, 0))
        self.expect(("accepted", 1), ("accepted", 2))

    def test_identifier_zero_without_barrier(self) -> None:
        """The same answer before the barrier was written names nothing."""
        self.deliver(1)
        self.protocol.dataReceived(encode_error(2, 0))
        self.expect(("uncertain", 1))

    def test_refused_before_the_barrier(self) -> None:
        """Where another is refused, what follows is handed back, and the barrier is forgotten."""
        self.deliver(1, 2, 3)
        self.protocol.flush()
        self.protocol.dataReceived(encode_error(8, 2))
        self.expect(("accepted", 1), ("8 InvalidToken", 2), ("returned", 3))
        self.lose()
        self.expect()

    def test_never_answered(self) -> None:
        """Where the barrier is not answered within the timeout, what it was to prove is uncertain."""
        self.deliver(1)
        self.protocol.flush()
        self.clock.advance(30)
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.expect(("uncertain", 1))
        self.assertIn("barrier", str(self.record.errors[0]))

    def test_paused(self) -> None:
        """The barrier's answer has its full timeout once the transport's buffers are empty."""
        self.deliver(1)
        self.protocol.pauseProducing()
        self.clock.advance(1)
        self.protocol.flush()
        self.clock.advance(28)
        self.protocol.resumeProducing()
        self.clock.advance(29)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.lose()
        self.expect(("uncertain", 1))
        self.assertIn("barrier", str(self.record.errors[0]))

    def test_full(self) -> None:
        """When no more may be unconfirmed the barrier is written unasked."""
        self.open(Allowance(3))
        self.deliver(1, 2, 3)
        self.assertEqual(self.transport.writes[1:], [encode_barrier(4)])


class ErrorPacketTests(ProtocolCase):
    """The server's one and last word."""

    def test_refused(self) -> None:
        """Before the refused one all were accepted, after it all go elsewhere, and the connection is cut."""
        self.deliver(1, 2)
        self.deliver(3, 4)
        self.protocol.dataReceived(encode_error(8, 2))
        self.expect(("accepted", 1), ("8 InvalidToken", 2), ("returned", 3), ("returned", 4))
        self.assertEqual(self.record.events, ["ready", "proved", "draining"])
        self.assertEqual(self.record.trouble, [None])
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.expect()
        self.assertEqual(self.record.events[-1], "lost")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(st.integers(1, 5))
    def test_split(self, cut: int) -> None:
        """Wherever the packet is split it means the same."""
        self.setUp()
        self.deliver(1, 2)
        packet = encode_error(8, 1)
        self.protocol.dataReceived(packet[:cut])
        self.expect()
        self.protocol.dataReceived(packet[cut:])
        self.expect(("8 InvalidToken", 1), ("returned", 2))

    def test_nothing_after_it(self) -> None:
        """What follows the packet, and further packets, say nothing."""
        self.deliver(1, 2)
        self.protocol.dataReceived(encode_error(8, 1) + encode_error(8, 2))
        self.protocol.dataReceived(encode_error(8, 2))
        self.expect(("8 InvalidToken", 1), ("returned", 2))

    def test_no_room_after_it(self) -> None:
        """Nothing is written after the packet, even if an outcome makes somebody ask for room."""
        rooms: list[tuple[int, int]] = []
        protocol = self.protocol

        class Asking(Record):
            def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
                rooms.append(protocol.room())

        protocol.deliver([Delivery(Asking(), number, bytes(32), bytes(32), ALERT, ALERT.body) for number in range(2)])
        protocol.dataReceived(encode_error(8, 2))
        self.assertEqual(rooms, [(0, 0)])

    def test_shutdown(self) -> None:
        """Status 10 names the last one accepted."""
        self.deliver(1, 2, 3)
        self.protocol.dataReceived(encode_error(10, 2))
        self.expect(("accepted", 1), ("accepted", 2), ("returned", 3))

    def test_shutdown_when_all_is_settled(self) -> None:
        """Status 10 that names the last of those settled is neither late nor trouble."""
        self.deliver(1)
        self.clock.advance(2)
        self.expect(("accepted", 1))
        with capturedLogs() as events:
            self.protocol.dataReceived(encode_error(10, 1))
        self.lose()
        self.assertEqual(self.record.trouble, [None, None])
        self.assertEqual(events, [])

    def test_unknown_status(self) -> None:
        """An undocumented status is passed on unchanged."""
        self.deliver(1)
        self.protocol.dataReceived(encode_error(77, 1))
        self.expect(("77 Status77", 1))

    def test_identifier_zero(self) -> None:
        """If the server does not know which one it was, all are uncertain; the protocol proved nothing."""
        self.deliver(1, 2)
        self.protocol.dataReceived(encode_error(7, 0))
        self.expect(("uncertain", 1), ("uncertain", 2))
        self.assertNotIn("proved", self.record.events)
        self.assertIsInstance(self.record.trouble[0], errors.RemoteError)
        self.assertIn("InvalidPayloadSize", str(self.record.errors[0]))

    def test_never_issued(self) -> None:
        """An identifier that was never given out says no more."""
        self.deliver(1, 2)
        self.protocol.dataReceived(encode_error(8, 3))
        self.expect(("uncertain", 1), ("uncertain", 2))

    def test_idle(self) -> None:
        """A server that complains of nothing in particular, to a protocol that sent nothing, gives it no proof."""
        self.protocol.dataReceived(encode_error(10, 0))
        self.assertNotIn("proved", self.record.events)
        self.assertIsInstance(self.record.trouble[0], errors.RemoteError)

    def test_late(self) -> None:
        """A packet for what counts as accepted hands back the rest, and leaves one event in the log."""
        self.deliver(1, 2)
        self.clock.advance(2)
        self.expect(("accepted", 1), ("accepted", 2))
        self.deliver(3, 4)
        with capturedLogs() as events:
            self.protocol.dataReceived(encode_error(8, 2))
        self.expect(("returned", 3), ("returned", 4))
        (event,) = events
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertEqual((event["status"], event["identifier"], event["settle_time"]), ("InvalidToken", 2, 2.0))

    def test_late_again_and_again(self) -> None:
        """What is returned without anything settled is not returned forever."""
        self.deliver(1, returns=MAX_RETURNS)
        self.protocol.dataReceived(encode_error(10, 1))
        self.expect(("accepted", 1))
        self.open()
        self.deliver(2)
        self.clock.advance(2)
        self.expect(("accepted", 2))
        self.deliver(3, returns=MAX_RETURNS)
        self.protocol.dataReceived(encode_error(8, 1))
        self.expect(("unsent", 3))
        self.assertIsInstance(self.record.errors[0], errors.StreamRefused)

    def test_credential(self) -> None:
        """Status 3 and 6 are about the certificate: the rest is unsent, and the connection's end has the reason."""
        for status, name in ((3, "MissingTopic"), (6, "InvalidTopicSize")):
            self.setUp()
            self.deliver(1, 2, 3)
            self.protocol.dataReceived(encode_error(status, 2))
            self.expect(("accepted", 1), (f"{status} {name}", 2), ("unsent", 3))
            self.assertNotIn("proved", self.record.events)
            self.lose()
            self.assertEqual(self.record.trouble, self.record.errors)
            (trouble,) = self.record.trouble
            assert isinstance(trouble, errors.CredentialRefused)
            self.assertEqual(trouble.reason, name)

    def test_nothing_settles_after_it(self) -> None:
        """Once the server has spoken time proves nothing, even if the connection takes its time to end."""
        self.deliver(1, 2)
        self.protocol.dataReceived(encode_error(7, 0))
        self.clock.advance(10)
        self.expect(("uncertain", 1), ("uncertain", 2))
        self.assertNotIn("proved", self.record.events)

    def test_no_packet(self) -> None:
        """Bytes that are no error packet end the connection; what was sent is uncertain."""
        self.deliver(1)
        self.protocol.dataReceived(b"HTTP/1.1 400")
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.expect(("uncertain", 1))
        self.assertIsInstance(self.record.trouble[-1], errors.WireError)


class EndTests(ProtocolCase):
    """Connections that end without an error packet."""

    def test_unanswered(self) -> None:
        """What was not confirmed is uncertain."""
        self.deliver(1)
        self.clock.advance(2)
        self.deliver(2, 3)
        self.lose()
        self.expect(("accepted", 1), ("uncertain", 2), ("uncertain", 3))
        self.assertIsInstance(self.record.errors[0], errors.ConnectionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_broken(self) -> None:
        """A reset is reported as a lost connection, not as one that could not be made."""
        self.deliver(1)
        self.lose(ConnectionLost())
        self.expect(("uncertain", 1))
        self.assertIsInstance(self.record.errors[0], errors.ConnectionLost)

    def test_truncated(self) -> None:
        """A truncated packet says nothing, but is reported."""
        self.deliver(1)
        self.protocol.dataReceived(encode_error(8, 1)[:5])
        self.lose()
        self.expect(("uncertain", 1))
        self.assertIn("within an error packet", str(self.record.errors[0]))

    def test_abort(self) -> None:
        """The reason for an abort is reported."""
        self.deliver(1)
        error = errors.ConnectionLost("the client has no patience")
        self.protocol.abort(error)
        self.lose()
        self.expect(("uncertain", 1))
        self.assertEqual((self.record.errors, self.record.trouble), ([error], [error]))


class AllowanceTests(ProtocolCase):
    """How many may be unconfirmed."""

    def test_room(self) -> None:
        """A protocol takes as many as may be unconfirmed, and again when some are."""
        self.open(Allowance(5))
        self.assertEqual(self.protocol.room()[0], 5)
        self.deliver(1, 2, 3)
        self.assertEqual(self.protocol.room()[0], 2)
        self.clock.advance(2)
        self.assertEqual(self.protocol.room()[0], 8)

    def test_narrowed_by_an_error(self) -> None:
        """After an error packet the next protocol takes fewer: half-way to what this one had accepted, fourfold."""
        allowance = Allowance(10_000)
        self.open(allowance)
        self.deliver(*range(1_000))
        self.protocol.dataReceived(encode_error(8, 501))
        self.assertEqual(allowance, Allowance((10_000 + 4 * 500) // 2))

    def test_narrowed_by_a_late_error(self) -> None:
        """A late error packet narrows it, too, by all that the protocol had accepted."""
        allowance = Allowance(10_000)
        self.open(allowance)
        self.deliver(*range(100))
        self.clock.advance(2)
        self.protocol.dataReceived(encode_error(8, 100))
        self.assertEqual(allowance, Allowance((10_100 + 4 * 100) // 2))

    def test_shutdown_narrows_nothing(self) -> None:
        """The server's own wish to close says nothing about the tokens."""
        allowance = Allowance(1_000)
        self.open(allowance)
        self.deliver(*range(100))
        self.protocol.dataReceived(encode_error(10, 40))
        self.assertEqual(allowance, Allowance(1_040))

    @given(st.integers(binary.LEAST, binary.WINDOW), st.integers(0, 10**9))
    def test_bounds(self, size: int, accepted: int) -> None:
        """It is never narrower than the least nor wider than the most."""
        allowance = Allowance(size)
        allowance.narrow(accepted)
        self.assertTrue(binary.LEAST <= allowance.size <= binary.WINDOW)
        allowance.widen(accepted)
        self.assertTrue(binary.LEAST <= allowance.size <= binary.WINDOW)
