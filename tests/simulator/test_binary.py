"""Tests for :mod:`txapns.simulator.binary`, with a peer that writes bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport

from tests.simulator.peers import (
    BINARY,
    DEAD_TOKEN,
    FEEDBACK,
    PAYLOAD,
    TOKEN,
    BinaryCase,
    BinaryPeer,
    connect,
)
from txapns.credentials import Certificate
from txapns.simulator.authority import Authority
from txapns.simulator.binary import EnhancedNotificationServer, Fault
from txapns.wire.frames import ReceivedNotification, encode_enhanced, encode_framed, encode_simple

STRANGER = Authority()


def framed(*items: tuple[int, bytes]) -> bytes:
    """Encode a frame of command 2 with exactly these items, right or wrong."""
    frame = b"".join(struct.pack(">BH", item, len(data)) + data for item, data in items)
    return struct.pack(">BI", 2, len(frame)) + frame


def error(status: int, identifier: int = 0) -> bytes:
    """Encode the error packet, without the code under test."""
    return struct.pack(">BBI", 8, status, identifier)


class PlannedTests(BinaryCase):
    """Answers that somebody has planned."""

    def plan(self, **facts: Any) -> None:
        """Plan one, given once."""
        self.simulator.inbox.answers.add(times=1, **facts)

    def say_all(self) -> BinaryPeer:
        """Write three notifications at once over a new connection."""
        peer = self.connect()
        peer.transport.write(b"".join(encode_framed(each, TOKEN, PAYLOAD, None, None) for each in (1, 2, 3)))
        self.simulator.flush()
        return peer

    def test_error_packet(self) -> None:
        """The notification for which it is planned gets the error packet, and those after it are ignored."""
        self.plan(token=TOKEN.hex(), topic="com.example.app", error_packet=77)
        self.plan(push_type="alert", error_packet=1)  # nothing over this protocol has a push type
        self.assertEqual(self.say_all().read, error(77, 1))
        self.assertEqual(self.reasons(), ["Status77"])
        self.say_all()
        self.assertEqual(self.reasons(), ["Status77", None, None, None])

    def test_for_http2(self) -> None:
        """What is for HTTP/2 waits for that."""
        self.plan(status=503, reason="Shutdown", drop=True)
        self.assertEqual(self.say_all().read, b"")
        self.assertEqual((self.reasons(), len(self.simulator.inbox.answers)), ([None] * 3, 1))

    def test_delay(self) -> None:
        """An error packet can come late, also one that was not planned; silence cannot."""
        self.plan(error_packet=8, delay=5.0)
        peer = self.say_all()
        self.simulator.advance(4.9)
        self.assertEqual(peer.read, b"")
        self.simulator.advance(0.2)
        self.assertEqual(peer.read, error(8, 1))
        self.plan(delay=5.0)
        peer = self.connect()
        peer.transport.write(encode_framed(9, DEAD_TOKEN, PAYLOAD, None, None))
        self.simulator.advance(4.9)
        self.assertEqual(peer.read, b"")
        self.simulator.advance(0.2)
        self.assertEqual(peer.read, error(8, 9))
        self.plan(delay=5.0)
        self.assertEqual(self.say_all().read, b"")
        self.assertEqual(self.reasons()[-3:], [None] * 3)

    def test_goaway(self) -> None:
        """A server that goes away accepts the notification and names it with status 10."""
        self.plan(goaway=True)
        self.assertEqual(self.say_all().read, error(10, 1))
        self.assertEqual(self.reasons(), [None])

    def test_drop(self) -> None:
        """A connection is aborted at once or after the delay, without an error packet; what was good has been taken."""
        self.plan(drop=True, delay=3.0)
        peer = self.say_all()
        self.assertEqual((self.reasons(), peer.lost), ([None], None))
        self.simulator.advance(3.1)
        self.assertIsNotNone(peer.lost)
        self.plan(drop=True, error_packet=8)
        peer = self.say_all()
        self.assertIsNotNone(peer.lost)
        self.assertEqual((peer.read, self.reasons()), (b"", [None]))

    def test_leaves(self) -> None:
        """If the provider leaves first, nothing is left to be done."""
        for facts in ({"drop": True}, {"error_packet": 8}, {"goaway": True}):
            self.plan(delay=30.0, **facts)
            peer = self.say_all()
            peer.transport.loseConnection()
            self.simulator.flush()
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])


class AcceptTests(BinaryCase):
    """What is accepted, silently."""

    def test_commands(self) -> None:
        """Notifications of all three commands are accepted over one connection."""
        data = encode_simple(TOKEN, PAYLOAD) + encode_enhanced(7, 0, TOKEN, PAYLOAD)
        data += encode_framed(8, TOKEN, PAYLOAD, 99, 5)
        self.assertEqual(self.say(data), b"")
        received = self.simulator.inbox.received
        self.assertEqual(
            [reception.headers for reception in received],
            [{}, {"identifier": "7", "expiration": "0"}, {"identifier": "8", "expiration": "99", "priority": "5"}],
        )
        self.assertEqual({(reception.token, reception.payload) for reception in received}, {(TOKEN, PAYLOAD)})
        self.assertEqual(self.reasons(), [None, None, None])

    def test_stays_open(self) -> None:
        """The connection stays open for more."""
        peer = self.connect()
        for identifier in (1, 2):
            peer.transport.write(encode_framed(identifier, TOKEN, PAYLOAD, None, None))
            self.simulator.advance(100)
        self.assertIsNone(peer.lost)
        self.assertEqual(self.simulator.counters()["accepted"], 2)

    def test_kept(self) -> None:
        """Of what is far too long only the beginning is recorded, since thousands of them are kept."""
        self.assertEqual(self.say(encode_framed(1, TOKEN, b"x" * 65_535, None, None)), error(7, 1))
        self.assertEqual(self.simulator.inbox.received[0].payload, b"x" * 8_192)

    def test_order_of_items(self) -> None:
        """The items of a frame may be in any order."""
        self.assertEqual(self.say(framed((5, b"\x0a"), (3, bytes(4)), (2, PAYLOAD), (1, TOKEN))), b"")
        self.assertEqual(self.reasons(), [None])

    def test_largest(self) -> None:
        """A payload of 2,048 bytes is accepted."""
        payload = json.dumps({"aps": {"alert": "x" * 2_028}}, separators=(",", ":")).encode()
        self.assertEqual(len(payload), 2_048)
        self.assertEqual(self.say(encode_framed(1, TOKEN, payload, None, None)), b"")

    def test_silent(self) -> None:
        """A silent notification is accepted with priority 5, or with none."""
        payload = b'{"aps":{"content-available":1}}'
        for priority in (5, None):
            self.assertEqual(self.say(encode_framed(1, TOKEN, payload, None, priority)), b"")


class RefuseTests(BinaryCase):
    """What is refused, and how, in the order of Apple's checks."""

    def check(self, data: bytes, answer: bytes) -> None:
        """
        Compare the answer. Nothing that follows is looked at, and the connection is closed a second after the answer,
        or at once if there is none.
        """
        seen = len(self.simulator.inbox.received)
        peer = self.connect()
        peer.transport.write(data + encode_framed(99, TOKEN, PAYLOAD, None, None))
        self.simulator.flush()
        peer.transport.write(encode_framed(100, TOKEN, PAYLOAD, None, None))
        self.simulator.advance(0.9)
        self.assertEqual(peer.read, answer)
        self.assertEqual(peer.lost is None, answer != b"")
        self.simulator.advance(0.2)
        self.assertIsNotNone(peer.lost)
        self.assertNotIn(None, self.reasons()[seen:])

    def test_unknown_command(self) -> None:
        """An unknown command is a protocol error that names no notification."""
        for command in (b"\x03", b"\x08", b"GET / HTTP/1.1\r\n"):
            self.check(command, error(128))

    def test_frame_length(self) -> None:
        """An empty frame, or one that is too large, is a protocol error."""
        self.check(struct.pack(">BI", 2, 0), error(128))
        self.check(struct.pack(">BI", 2, 2**31), error(128))

    def test_items(self) -> None:
        """Items that do not fill their frame are a protocol error, which names the notification if it is known."""
        identifier = (3, struct.pack(">I", 7))
        for items in (
            [(9, b"")],  # no such item
            [(1, TOKEN), (1, TOKEN)],  # twice
            [(4, b"123")],  # an expiration of three bytes
            [(5, b"")],  # a priority of none
        ):
            self.check(framed(*items), error(128))
            self.check(framed(identifier, *items), error(128, 7))
        self.check(framed((3, b"12345")), error(128))
        self.check(struct.pack(">BI", 2, 2) + b"\x01\x00", error(128))
        self.check(struct.pack(">BI", 2, 3) + b"\x01\x00\x20", error(128))

    def test_missing_token(self) -> None:
        """Without a token the status is 2, with the identifier 0, as from Apple."""
        self.check(framed((3, struct.pack(">I", 7)), (2, PAYLOAD)), error(2))
        self.check(framed((3, struct.pack(">I", 7)), (1, b""), (2, b"")), error(2))
        self.check(encode_enhanced(7, 0, b"", PAYLOAD), error(2))

    def test_token_size(self) -> None:
        """A token that does not have 32 bytes is status 5, whatever the payload."""
        for size in (1, 31, 33, 100):
            self.check(encode_framed(7, bytes(size), b"", None, None), error(5, 7))

    def test_missing_payload(self) -> None:
        """Without a payload the status is 4."""
        self.check(framed((3, struct.pack(">I", 7)), (1, TOKEN)), error(4, 7))
        self.check(encode_enhanced(7, 0, DEAD_TOKEN, b""), error(4, 7))

    def test_payload_size(self) -> None:
        """A payload of more than 2,048 bytes is status 7, before it is parsed."""
        self.check(encode_framed(7, DEAD_TOKEN, b"x" * 2_049, None, None), error(7, 7))

    def test_legacy_payload_size(self) -> None:
        """Commands 0 and 1 accept as much, unless limited to 256 bytes, as in Apple's documents."""
        payloads = {size: b'{"aps":{"alert":"%b"}}' % (b"x" * (size - 20)) for size in (256, 257)}
        data = encode_simple(TOKEN, payloads[257]) + encode_enhanced(7, 0, TOKEN, payloads[257])
        self.assertEqual(self.say(data), b"")
        self.simulator.strict_legacy_payload = True
        data = encode_simple(TOKEN, payloads[256]) + encode_enhanced(7, 0, TOKEN, payloads[256])
        self.assertEqual(self.say(data + encode_framed(8, TOKEN, payloads[257], None, None)), b"")
        self.check(encode_enhanced(9, 0, TOKEN, payloads[257]), error(7, 9))
        self.check(encode_simple(TOKEN, payloads[257]), b"")

    def test_no_json(self) -> None:
        """A payload that is not a JSON object in UTF-8 is status 255, before the token is looked up."""
        for payload in (b"Hi", b"[]", b"1", b"\xff", b"[" * 2_000, "{}".encode("utf-16")):
            self.check(encode_framed(7, DEAD_TOKEN, payload, None, None), error(255, 7))

    def test_priority(self) -> None:
        """A priority other than 5 and 10 is status 255, and so is 10 with nothing to show."""
        for priority in (0, 1, 11, 255):
            self.check(encode_framed(7, TOKEN, PAYLOAD, None, priority), error(255, 7))
        self.check(encode_framed(7, TOKEN, b'{"aps":{"content-available":1}}', None, 10), error(255, 7))

    def test_dead_token(self) -> None:
        """A token whose device is gone is status 8."""
        self.check(encode_framed(0xDEADBEEF, DEAD_TOKEN, PAYLOAD, None, 10), error(8, 0xDEADBEEF))
        self.assertEqual(self.simulator.counters()["rejected"], {"InvalidToken": 1})

    def test_simple(self) -> None:
        """Command 0 has no identifier to name, so the connection is closed at once, without an error packet."""
        self.check(encode_simple(DEAD_TOKEN, PAYLOAD), b"")
        self.assertEqual(self.reasons(), ["InvalidToken"])

    def test_oversized(self) -> None:
        """Fields of commands 0 and 1 may have any length; if too long they are refused like others."""
        longest = b"x" * 65_535
        for token, payload, status in ((TOKEN, longest, 7), (longest, longest, 5)):
            self.check(encode_enhanced(7, 0, token, payload), error(status, 7))
            self.check(encode_simple(token, payload), b"")
        self.assertEqual(set(self.reasons()), {"InvalidPayloadSize", "InvalidTokenSize"})

    def test_before_it(self) -> None:
        """Notifications before the refused one, even in the same write, were accepted."""
        good = encode_framed(1, TOKEN, PAYLOAD, None, None)
        for wrong in (encode_framed(2, DEAD_TOKEN, PAYLOAD, None, None), b"\x07"):
            self.say(good + wrong)
        self.assertEqual(self.reasons(), [None, "InvalidToken", None])
        self.assertEqual(self.simulator.counters()["rejected"], {"InvalidToken": 1, "ProtocolError": 1})

    @given(st.binary(max_size=200))
    def test_garbage(self, data: bytes) -> None:
        """Whatever is received, the server sends nothing or one error packet."""
        self.setUp()
        answer = self.say(data)
        self.assertIn(len(answer), (0, 6))
        self.assertEqual(answer[:1], b"\x08"[: len(answer)])


class FaultTests(BinaryCase):
    """Servers with faults."""

    def play(self, fault: Fault) -> BinaryPeer:
        """Send three notifications to a server with a fault."""
        self.simulator.binary_fault = fault
        peer = self.connect()
        peer.transport.write(b"".join(encode_framed(number, TOKEN, PAYLOAD, None, None) for number in (1, 2, 3)))
        self.simulator.flush()
        return peer

    def second(self, deed: Callable[[EnhancedNotificationServer], int | bool | None]) -> Fault:
        """Act at the second notification."""

        def fault(
            server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
        ) -> int | bool | None:
            return deed(server) if notification.identifier == 2 else status

        return fault

    def test_another_status(self) -> None:
        """A fault may return another status, even an unknown one."""
        peer = self.play(self.second(lambda server: 77))
        self.assertEqual(peer.read, error(77, 2))
        self.assertEqual(self.reasons(), [None, "Status77"])

    def test_no_status(self) -> None:
        """A fault may accept what is wrong."""
        self.simulator.inbox.dead[TOKEN] = 0.0
        self.play(lambda server, notification, status: None)
        self.assertEqual(self.reasons(), [None, None, None])

    def test_never_mind(self) -> None:
        """A fault may lose a notification."""
        self.play(self.second(lambda server: False))
        self.assertEqual([reception.headers["identifier"] for reception in self.simulator.inbox.received], ["1", "3"])

    def test_over(self) -> None:
        """After a fault has ended the connection, it is not called again, and everything else is ignored."""
        asked: list[int | None] = []

        def fault(
            server: EnhancedNotificationServer, notification: ReceivedNotification, status: int | None
        ) -> int | bool | None:
            asked.append(notification.identifier)
            server.refuse(10, 0)
            return False

        peer = self.play(fault)
        self.assertEqual((peer.read, asked, self.reasons()), (error(10), [1], []))

    def test_pieces(self) -> None:
        """Pieces are sent one after the other."""
        peer = self.play(self.second(lambda server: server.finish(b"\x08\x08\x00", b"\x00\x00\x02")))
        self.assertEqual(peer.read, error(8, 2)[:3])
        self.simulator.advance(0.01)
        self.assertEqual(peer.read, error(8, 2))

    def test_abort(self) -> None:
        """The connection is aborted without an error packet."""
        peer = self.play(self.second(lambda server: server.abort()))
        self.assertEqual(peer.read, b"")
        self.assertIsNotNone(peer.lost)
        self.assertEqual(self.reasons(), [None, None])  # it was accepted before that

    def test_delay(self) -> None:
        """A delay is kept."""
        self.simulator.delay = 0.5
        peer = self.play(self.second(lambda server: 8))
        self.simulator.advance(0.4)
        self.assertEqual(peer.read, b"")
        self.simulator.advance(0.1)
        self.assertEqual(peer.read, error(8, 2))

    def test_provider_stays(self) -> None:
        """If the provider does not close after the server, the connection is aborted."""
        clock = Clock()
        server = EnhancedNotificationServer(clock, self.simulator.inbox)
        transport = FakeTransport(server, isServer=True)
        transport.abortConnection = partial(setattr, transport, "disconnected", True)
        server.makeConnection(transport)
        server.refuse(8, 2)
        clock.pump([0.0, 1.0, 4.9])
        self.assertEqual((transport.disconnecting, transport.disconnected), (True, 0))
        clock.advance(0.1)
        self.assertEqual(transport.disconnected, True)

    def test_provider_leaves(self) -> None:
        """If the provider closes first, the server has nothing left to do."""
        peer = self.play(self.second(lambda server: 8))
        peer.transport.loseConnection()
        self.simulator.flush()
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])


class HandshakeTests(BinaryCase):
    """Which providers are accepted."""

    def refused(self, peer: BinaryPeer, words: str) -> None:
        """The connection ended with an alert."""
        assert peer.lost is not None
        peer.lost.trap(SSL.Error)
        self.assertIn(words, str(peer.lost.value))
        self.assertEqual(peer.read, b"")

    def test_no_certificate(self) -> None:
        """Without a certificate there is no session, and no feedback: nothing is listed, so nothing is lost."""
        for port in (BINARY, FEEDBACK):
            self.refused(self.connect(port, anonymous=True), "alert")
        self.assertEqual(len(list(self.simulator.inbox.unlisted())), 1)

    def test_certificate_of_a_stranger(self) -> None:
        """A certificate of another authority is refused."""
        stranger = Certificate.from_pem(STRANGER.client_pem(self.simulator.topic))
        for port in (BINARY, FEEDBACK):
            self.refused(self.connect(port, stranger), "alert")

    def test_tls12(self) -> None:
        """The same holds for TLS 1.2."""
        self.simulator.reactor.servers[BINARY] = self.simulator.tls_factory("binary", tls12=True)
        self.refused(self.connect(anonymous=True), "alert")
        self.assertIsNone(self.connect().lost)

    def test_data_before_the_refusal(self) -> None:
        """What a provider without a certificate writes early is ignored."""

        class Hasty(BinaryPeer):
            def connectionMade(self) -> None:
                """Write at once."""
                self.transport.write(encode_framed(1, TOKEN, PAYLOAD, None, None))

        connect(self.simulator, Hasty(), BINARY, None)
        self.assertEqual(self.simulator.counters()["received"], 0)
