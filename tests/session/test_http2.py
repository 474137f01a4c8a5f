"""Tests of the provider API's protocol, between a transport in memory and the server's role of the wire format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from weakref import WeakSet

import attrs
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.session.http2_case import ALERT, OK, TIMEOUT, Events, Outcomes, ProtocolCase, Transport
from txapns import errors
from txapns._session import http2
from txapns._session.http2 import LOOKS, TOKEN_HELD, ProviderAPIProtocol
from txapns._session.protocol import CLOSE_TIMEOUT, MAX_RETURNS
from txapns.credentials import MAXIMUM_AGE, ProviderToken
from txapns.delivery import Delivery, DeliveryListener
from txapns.interfaces import IGatewayProtocol, IProtocolListener
from txapns.notification import Notification
from txapns.simulator.authority import Authority
from txapns.wire.requests import RequestReceiver, sender

REFUSED = 7


@attrs.frozen
class Question:
    """A request without a body, which is for no device."""

    method: bytes = b"GET"
    path: bytes = b"/1/x"
    body: bytes = b""

    def headers(self, topic: str | None = None) -> tuple[tuple[bytes, bytes], ...]:
        """Give the header fields."""
        return ((b"apns-channel-id", b"abc="),)


class Alive(Outcomes):
    """Counts, whenever one is accepted, which of all deliveries are still kept; it keeps none itself."""

    def __init__(self) -> None:
        super().__init__()
        self.all: WeakSet[Delivery] = WeakSet()
        self.counts: list[int] = []

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""
        super().accepted(delivery, headers, body)
        self.counts.append(len(self.all))


class LettingGoTests(ProtocolCase):
    """What is kept of deliveries while those after them are settled."""

    def test_each(self) -> None:
        """Of many that are accepted by one read, each is let go when the next is settled."""
        self.ready()
        self.outcomes = alive = Alive()
        self.deliver(*range(10))
        alive.all.update(self.protocol.in_flight_of(alive))
        self.answer(*range(1, 20, 2))
        self.assertEqual(alive.counts, list(range(10, 0, -1)))


class OtherMessageTests(ProtocolCase):
    """What is no notification."""

    def test_request(self) -> None:
        """It has its own method and path, with nothing behind it; notifications before and after it have theirs."""
        self.ready()
        question = Delivery(self.outcomes, 2, b"", b"", Question(), b"")
        alert = [Delivery(self.outcomes, each, b"", b"\xab", ALERT, ALERT.body) for each in (1, 3)]
        self.protocol.deliver([alert[0], question, alert[1]])
        self.carry()
        requests = {request.stream: request for request in self.received}  # one without a body is whole the soonest
        found = []
        for stream in (1, 3, 5):
            headers = dict(requests[stream].headers)
            found.append((headers[b":method"], headers[b":path"], requests[stream].body))
        post = (b"POST", b"/3/device/ab", ALERT.body)
        self.assertEqual(found, [post, (b"GET", b"/1/x", b""), post])
        self.assertEqual(requests[3].headers[4:], ((b"apns-channel-id", b"abc="),))

    def test_answer(self) -> None:
        """Any status from 200 to 299 accepts, and proves the protocol; its body reaches the caller."""
        self.ready()
        for number, status in enumerate((b"200", b"201", b"204")):
            self.deliver(number, notification=Question(), device=b"")
            self.answer(2 * number + 1, fields=[(b":status", status)], body=b"{}" if number == 0 else b"")
        self.assertEqual(self.outcomes.ended, {0: b"{}", 1: "accepted", 2: "accepted"})
        self.assertIn("proved", self.events.told)

    def test_refusal(self) -> None:
        """The identifier of a rejection is the request's, whose field has another name than a notification's."""
        self.ready()
        self.deliver(1, notification=Question(), device=b"")
        self.answer(1, fields=[(b":status", b"400"), (b"apns-request-id", b"8a6f")], body=b'{"reason":"BadChannelId"}')
        self.assertEqual(self.outcomes.ended, {1: (400, "BadChannelId", None, "8a6f")})


class BeginningTests(ProtocolCase):
    """From the TCP connection until it is ready."""

    def test_interfaces(self) -> None:
        """It is what it says, and so are the two that listen to it in these tests."""
        for interface in (IGatewayProtocol, IPushProducer, IHandshakeListener):
            verifyObject(interface, self.protocol)
        verifyObject(IProtocolListener, self.events)
        verifyObject(DeliveryListener, self.outcomes)

    def test_ready(self) -> None:
        """It has no room before the server's SETTINGS, and their limit afterwards."""
        self.assertEqual(self.protocol.room(), (0, 0))
        self.carry()
        self.assertEqual(self.events.told, ["ready"])
        self.assertEqual(self.protocol.room(), (100, 65_535))

    def test_peer_that_does_not_read(self) -> None:
        """What a peer makes us answer does not pile up while it reads nothing: in the end it is cut off."""
        self.ready()
        self.protocol.pauseProducing()
        self.server._h2.ping()
        self.protocol.dataReceived(self.server.data_to_send())
        self.assertEqual(self.transport.value(), b"")
        self.protocol.resumeProducing()
        self.assertNotEqual(self.transport.value(), b"")
        self.protocol.pauseProducing()
        self.transport.clear()
        for _ in range(2_000):
            self.server._h2.ping()
            self.protocol.dataReceived(self.server.data_to_send())
        self.assertEqual(self.transport.value(), b"")
        self.assertTrue(self.transport.aborting)
        self.lose()

    def test_socket_options(self) -> None:
        """Small frames leave at once, and a dead peer is noticed."""
        self.assertTrue(self.transport.noDelay)
        self.assertTrue(self.transport.keepAlive)

    def test_nothing_before_the_handshake(self) -> None:
        """Nothing is written before the handshake is over."""
        protocol = ProviderAPIProtocol(self.events, self.clock, "h")
        transport = Transport()
        protocol.makeConnection(transport)
        self.assertEqual(transport.writes, 0)

    def test_other_protocol(self) -> None:
        """A server that did not choose HTTP/2 is left, with a word about what is wrong."""
        for chosen in (None, b"http/1.1"):
            events, transport = Events(), Transport()
            transport.negotiatedProtocol = chosen
            protocol = ProviderAPIProtocol(events, self.clock, "h")
            protocol.makeConnection(transport)
            protocol.handshakeCompleted()
            self.assertTrue(transport.aborting)
            protocol.connectionLost(Failure(ConnectionDone()))
            [error] = events.lost
            self.assertIsInstance(error, errors.ConnectFailed)
            self.assertIn("h2", str(error))

    def test_not_http2(self) -> None:
        """A server that speaks something else is left as soon as it does."""
        self.protocol.dataReceived(b"220 smtp.example.com ESMTP\r\n")
        self.assertTrue(self.transport.aborting)
        self.lose()
        [error] = self.events.lost
        self.assertIsInstance(error, errors.WireError)

    def test_garbage_with_the_settings(self) -> None:
        """Garbage right behind the first SETTINGS is an error, and nothing is sent into it."""
        self.protocol.dataReceived(self.server.data_to_send() + b"garbage" * 10)
        self.assertEqual(self.protocol.room(), (0, 0))
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.assertIsInstance(self.events.lost[0], errors.WireError)

    def test_international_name(self) -> None:
        """The authority of an international host name is its ASCII form."""
        self.start(None, "bücher.example")
        self.ready()
        self.deliver(1)
        self.assertEqual(dict(self.received[0].headers)[b":authority"], b"xn--bcher-kva.example")

    def test_address(self) -> None:
        """An IPv6 address stands in brackets, without the zone, which says something here alone."""
        self.start(None, "fe80::1%eth0")
        self.ready()
        self.deliver(1)
        self.assertEqual(dict(self.received[0].headers)[b":authority"], b"[fe80::1]")


class DeliveringTests(ProtocolCase):
    """Requests out, answers in."""

    def setUp(self) -> None:
        """The protocol is ready."""
        super().setUp()
        self.ready()

    def test_request(self) -> None:
        """A request names the device in lower-case hexadecimal and carries the notification's fields and body."""
        self.deliver(1)
        [request] = self.received
        fields = dict(request.headers)
        self.assertEqual(fields[b":path"], b"/3/device/abcd")
        self.assertEqual(fields[b":authority"], b"api.example.com")
        self.assertEqual(fields[b"apns-topic"], b"com.example.app")
        self.assertNotIn(b"authorization", fields)
        self.assertEqual(request.body, ALERT.body)

    def test_notifications_alternate(self) -> None:
        """Each request has the fields and the body of its own notification."""
        other = Notification(alert="Other", topic="org.example", collapse_id="x")
        deliveries = [
            Delivery(self.outcomes, i, b"\1", b"\1", each, each.body) for i, each in enumerate([ALERT, other, ALERT])
        ]
        self.protocol.deliver(deliveries)
        self.carry()
        self.assertEqual([request.body for request in self.received], [ALERT.body, other.body, ALERT.body])
        topics = [dict(request.headers)[b"apns-topic"] for request in self.received]
        self.assertEqual(topics, [b"com.example.app", b"org.example", b"com.example.app"])

    def test_one_write(self) -> None:
        """However many requests are delivered in one turn of the reactor, they leave in one write."""
        before = self.transport.writes
        for part in (range(25), range(25, 50)):
            self.protocol.deliver([Delivery(self.outcomes, i, b"\1", b"\1", ALERT, ALERT.body) for i in part])
        self.assertEqual(self.transport.writes, before)
        self.clock.advance(0)
        self.assertEqual(self.transport.writes, before + 1)

    def test_one_timer(self) -> None:
        """However many requests are in flight, there is one timer, and none when there are none."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deliver(*range(50))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.answer(*range(1, 100, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_accepted(self) -> None:
        """What is answered 200 is accepted, the protocol proved once, and the room offered once a read."""
        self.deliver("a", "b", "c")
        self.assertEqual(self.protocol.in_flight, 3)
        self.events.told.clear()
        self.answer(5, 1)
        self.assertEqual(self.outcomes.ended, {"c": "accepted", "a": "accepted"})
        self.assertEqual(self.events.told, ["proved", "room"])
        self.assertEqual(self.protocol.in_flight, 1)
        self.assertEqual(self.protocol.room()[0], 99)

    def test_rejected(self) -> None:
        """A rejection has status, reason, time and the notification's id."""
        self.deliver("a")
        fields = [(b":status", b"410"), (b"apns-id", b"X-1")]
        self.answer(1, fields=fields, body=b'{"reason":"Unregistered","timestamp":1700000000000}')
        since = datetime.fromtimestamp(1_700_000_000, timezone.utc)
        self.assertEqual(self.outcomes.ended, {"a": (410, "Unregistered", since, "X-1")})

    def test_page(self) -> None:
        """A web page comes from a server on the way, whatever its status: it neither accepts nor rejects."""
        for status in (b"200", b"202"):
            self.deliver(status)
            fields = [(b":status", status), (b"content-type", b"text/html; charset=utf-8")]
            self.answer(self.received[-1].stream, fields=fields, body=b"<html>\nPlease log in</html>")
            outcome = self.outcomes.ended[status]
            assert isinstance(outcome, tuple)
            self.assertEqual((outcome[0], type(outcome[1])), ("uncertain", errors.WireError))
            self.assertIn(f"answered {status.decode()} with a web page: <html> Please log in", str(outcome[1]))

    def test_strange_timestamps(self) -> None:
        """A time that no calendar has is no time."""
        for number in (b"1e300", b"-1e300", b"NaN", b"1e17", b'"x"'):
            self.deliver(number)
            body = b'{"reason":"Unregistered","timestamp":%s}' % number
            self.answer(self.received[-1].stream, fields=[(b":status", b"410")], body=body)
            self.assertEqual(self.outcomes.ended[number], (410, "Unregistered", None, None))

    def test_what_proves(self) -> None:
        """A rejection of the notification proves the protocol; a server in trouble proves nothing."""
        for status, reason, proves in (
            (400, "BadDeviceToken", True),
            (410, "Unregistered", True),
            (499, "NeverHeardOf", True),
            (403, "InvalidProviderToken", False),
            (429, "TooManyRequests", False),
            (500, "InternalServerError", False),
            (503, "", False),
        ):
            self.setUp()
            self.deliver("a")
            self.refuse(1, status=status, reason=reason)
            self.assertEqual("proved" in self.events.told, proves, reason)

    def test_reset(self) -> None:
        """A request that the server drops is uncertain; the others and the connection are not affected."""
        self.deliver("a", "b")
        self.server.reset(1, 2)
        self.answer(3)
        outcome, error = self.outcomes.ended["a"]
        self.assertEqual(outcome, "uncertain")
        self.assertIsInstance(error, errors.StreamReset)
        self.assertEqual(self.outcomes.ended["b"], "accepted")
        self.assertFalse(self.events.draining)

    def test_refused(self) -> None:
        """A request refused unprocessed is handed back."""
        self.deliver("a", "b")
        self.server.reset(1, REFUSED)
        self.carry()
        self.assertEqual([(each.identifier, each.returns) for each in self.events.returned], [("a", 1)])
        self.assertEqual(self.outcomes.ended, {})

    def test_refused_too_often(self) -> None:
        """It is not returned forever."""
        delivery = Delivery(self.outcomes, "a", b"\1", b"\1", ALERT, ALERT.body)
        for _ in range(MAX_RETURNS + 1):
            self.protocol.deliver([delivery])
            self.carry()
            self.server.reset(self.received[-1].stream, REFUSED)
            self.carry()
        outcome, error = self.outcomes.ended["a"]
        self.assertEqual(outcome, "unsent")
        self.assertIsInstance(error, errors.StreamRefused)
        self.assertEqual(len(self.events.returned), MAX_RETURNS)

    def test_unsendable(self) -> None:
        """A notification that HTTP/2 cannot carry is unsent at once, and does not hold up others."""
        self.events.told.clear()
        self.deliver("a", notification=Notification(alert="x", collapse_id="x" * 70_000))
        self.deliver("b", device=b"\1" * 40_000)
        for identifier in "ab":
            outcome, error = self.outcomes.ended[identifier]
            self.assertEqual(outcome, "unsent")
            self.assertIsInstance(error, errors.InvalidNotification)
        self.assertEqual(self.protocol.in_flight, 0)
        self.assertEqual(self.events.told, ["room", "room"])
        self.deliver("c")
        self.answer(self.received[-1].stream)
        self.assertEqual(self.outcomes.ended["c"], "accepted")

    def test_paused(self) -> None:
        """While the transport's buffers are full there is no room; when they are empty it is offered again."""
        self.events.told.clear()
        self.protocol.pauseProducing()
        self.assertEqual(self.protocol.room(), (0, 0))
        self.protocol.resumeProducing()
        self.assertEqual(self.protocol.room()[0], 100)
        self.assertEqual(self.events.told, ["room"])

    def test_header_list_too_long(self) -> None:
        """Header fields without end break the connection; only what is in flight is uncertain."""
        length = b"\x7f\x85\x06"  # 900, as HPACK writes it (RFC 7541, section 5.1)
        block = b"\x88" + b"".join(b"\0\x04x-%02d" % n + length + b"y" * 900 for n in range(80))
        for times in (1, 3):  # libnghttp2 refuses more CONTINUATIONs than a few by itself
            self.start(None)
            self.carry()
            self.deliver("a", "b")
            pieces = [(block * times)[at : at + 16_384] for at in range(0, len(block) * times, 16_384)]
            frames = [
                len(piece).to_bytes(3, "big")
                + bytes([9 if at else 1, 4 * (at == len(pieces) - 1) + (not at)])
                + b"\0\0\0\1"
                for at, piece in enumerate(pieces)
            ]
            self.protocol.dataReceived(b"".join(head + piece for head, piece in zip(frames, pieces, strict=True)))
            self.assertTrue(self.transport.aborting)
            self.protocol.pauseProducing()
            self.protocol.resumeProducing()
            self.clock.advance(TIMEOUT * 2)
            self.lose()
            self.assertEqual({outcome for outcome, _ in self.outcomes.ended.values()}, {"uncertain"})
            self.assertIsInstance(self.events.lost[0], errors.WireError)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_garbage(self) -> None:
        """Garbage ends the connection; what was in flight is uncertain, what was answered before is not."""
        self.deliver("a", "b")
        self.server.respond(1, OK)
        self.protocol.dataReceived(self.server.data_to_send() + b"garbage" * 10)
        self.assertTrue(self.transport.aborting)
        self.assertEqual(self.protocol.room(), (0, 0))
        self.lose()
        self.assertEqual(self.outcomes.ended["a"], "accepted")
        outcome, error = self.outcomes.ended["b"]
        self.assertEqual(outcome, "uncertain")
        self.assertIsInstance(error, errors.WireError)
        self.assertEqual(self.events.lost, [error])

    def test_lost(self) -> None:
        """When the connection has ended, what was sent completely is uncertain, and the rest is returned."""
        big = Notification(payload={"aps": {"alert": "x" * 30_000}}, topic="x")
        self.start(None)
        self.server = RequestReceiver(100, max_body=5_120, window_updates=False)
        self.carry()
        self.deliver("a", "b", "c", notification=big)
        self.lose()
        self.assertEqual([self.outcomes.ended[each][0] for each in "ab"], ["uncertain"] * 2)
        self.assertEqual([each.identifier for each in self.events.returned], ["c"])
        self.assertIsInstance(self.events.lost[0], errors.ConnectionLost)
        self.assertEqual(self.protocol.in_flight, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost_by_tls(self) -> None:
        """An alert about our certificate, which TLS 1.3 sends after the handshake, is reported as such."""
        self.lose(SSL.Error([("SSL routines", "", "tlsv13 alert certificate expired")]))
        self.assertIsInstance(self.events.lost[0], errors.CredentialRefused)


class DeadlineTests(ProtocolCase):
    """Answers that do not come."""

    def setUp(self) -> None:
        """The protocol is ready."""
        super().setUp()
        self.ready()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in small steps, and carry bytes."""
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
            self.carry()

    def test_silent_stream(self) -> None:
        """A request without an answer is uncertain soon after the timeout, while the others go on."""
        self.deliver("silent")
        stream = 3
        for second in range(int(TIMEOUT)):
            self.pass_time(1)
            self.deliver(second)
            self.answer(stream)
            stream += 2
        self.assertNotIn("silent", self.outcomes.ended)
        self.pass_time(TIMEOUT / LOOKS + 0.25)
        outcome, error = self.outcomes.ended["silent"]
        self.assertEqual(outcome, "uncertain")
        self.assertIsInstance(error, errors.AnswerTimeout)
        self.assertFalse(self.events.draining)
        self.assertEqual(self.protocol.in_flight, 0)
        self.assertEqual(self.protocol.room()[0], 100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed_with_a_body_that_cannot_leave(self) -> None:
        """Requests answered before their bodies have left, by a server that takes no more, do not hold up the end."""
        self.start(None)
        self.server = RequestReceiver(100, max_body=5_120, window_updates=False)
        self.carry()
        large = Notification(alert="x" * 4_000)
        self.deliver(*range(20), notification=large)
        self.answer(*range(1, 41, 2))
        self.assertEqual(set(self.outcomes.ended.values()), {"accepted"})
        self.protocol.close()
        self.assertGreater(self.protocol.in_flight, 0)
        self.pass_time(TIMEOUT * (1 + 1 / LOOKS))
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_server_that_does_not_read(self) -> None:
        """A server that reads nothing for the timeout is left, whatever is in flight, and closing ends then as well."""
        self.deliver("a")
        self.protocol.pauseProducing()
        self.protocol.close()
        self.clock.advance(TIMEOUT - 1)
        self.assertFalse(self.transport.aborting)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.assertEqual(self.outcomes.ended["a"][0], "uncertain")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_reader(self) -> None:
        """A server that reads on in time is not left."""
        for _ in range(5):
            self.protocol.pauseProducing()
            self.clock.advance(TIMEOUT - 1)
            self.protocol.resumeProducing()
        self.clock.advance(TIMEOUT)
        self.assertFalse(self.transport.aborting)

    def test_slow_reader_is_not_asked(self) -> None:
        """Nor is one that reads slowly asked for a sign of life which it cannot see."""
        self.ping_interval = 1.0
        self.start(None)
        self.ready()
        self.protocol.pauseProducing()
        for _ in range(int(TIMEOUT) - 1):
            self.clock.advance(1.0)
        self.assertFalse(self.transport.aborting)
        self.protocol.resumeProducing()
        self.carry()
        self.clock.advance(TIMEOUT)
        self.assertEqual(self.server.receive(self.transport.value()), [])
        self.transport.clear()
        self.assertFalse(self.transport.aborting)

    def test_silence(self) -> None:
        """A connection that was silent for that long is not used any more, and closed when nothing is in flight."""
        self.deliver("a", "b")
        self.server.receive = lambda data: []
        self.pass_time(TIMEOUT * (1 + 1 / LOOKS))
        self.assertEqual({ended[0] for ended in self.outcomes.ended.values()}, {"uncertain"})
        [error] = self.events.draining
        self.assertIsInstance(error, errors.AnswerTimeout)
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silence_and_a_younger_request(self) -> None:
        """On a connection given up for its silence, a younger request has its full time."""
        self.deliver("old")
        self.pass_time(TIMEOUT - 1)
        self.deliver("young")
        self.pass_time(TIMEOUT / LOOKS + 1)
        self.assertEqual(list(self.outcomes.ended), ["old"])
        self.assertEqual(len(self.events.draining), 1)
        self.answer(3)
        self.assertEqual(self.outcomes.ended["young"], "accepted")
        self.assertTrue(self.transport.disconnecting)

    def test_stuck_in_the_window(self) -> None:
        """A request whose body never left whole is unsent when its time is over."""
        self.start(None)
        self.server = RequestReceiver(100, max_body=5_120, window_updates=False)
        self.ready()
        big = Notification(payload={"aps": {"alert": "x" * 30_000}}, topic="x")
        self.deliver("a", "b", "c", notification=big)
        self.answer(1, 3)
        self.pass_time(TIMEOUT * (1 + 1 / LOOKS))
        outcome, error = self.outcomes.ended["c"]
        self.assertEqual(outcome, "unsent")
        self.assertIsInstance(error, errors.AnswerTimeout)
        self.assertEqual(self.protocol.in_flight, 0)

    def test_closing(self) -> None:
        """A closing protocol closes when the last silent request is given up."""
        self.deliver("a", "b")
        self.pass_time(10)
        self.answer(1)
        self.protocol.close()
        self.assertFalse(self.transport.disconnecting)
        self.pass_time(TIMEOUT)
        self.assertEqual(self.outcomes.ended["b"][0], "uncertain")
        self.assertTrue(self.transport.disconnecting)


class EndTests(ProtocolCase):
    """How a protocol drains and closes."""

    def setUp(self) -> None:
        """The protocol is ready."""
        super().setUp()
        self.ready()

    def test_goaway(self) -> None:
        """After a GOAWAY it takes nothing, hands back what is above, and closes when the rest was answered."""
        self.deliver("a", "b", "c")
        self.server.goaway(last_stream=3, debug=b'{"reason":"Shutdown"}')
        self.carry()
        self.assertEqual([each.identifier for each in self.events.returned], ["c"])
        [error] = self.events.draining
        self.assertIsInstance(error, errors.GatewayShutdown)
        self.assertIn("Shutdown", str(error))
        self.assertEqual(self.protocol.room(), (0, 0))
        self.answer(1)
        self.assertFalse(self.transport.disconnecting)
        self.answer(3)
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.assertEqual(self.outcomes.ended, {"a": "accepted", "b": "accepted"})
        self.assertEqual(self.events.lost, [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_goaway_without_a_reason(self) -> None:
        """A GOAWAY without a reason is reported with its code."""
        self.server.goaway(11)
        self.carry()
        self.assertIn("11", str(self.events.draining[0]))

    def test_goaway_about_the_credential(self) -> None:
        """What was refused is handed back first, so that it shares the fate of what waits."""
        order: list[str] = []
        self.events.protocol_returned = lambda protocol, deliveries: order.append("returned")
        self.events.protocol_draining = lambda protocol, error: order.append(type(error).__name__)
        self.deliver("a")
        self.server.goaway(last_stream=0, debug=b'{"reason":"BadCertificateEnvironment"}')
        self.carry()
        self.assertEqual(order, ["returned", "CredentialRefused"])

    def test_close_at_rest(self) -> None:
        """Closing with nothing in flight sends GOAWAY and closes; an end in time is orderly."""
        self.protocol.close()
        self.carry()
        self.assertTrue(self.transport.disconnecting)
        self.assertTrue(self.server.closed)
        self.assertEqual(self.events.draining, [None])
        self.lose()
        self.assertEqual(self.events.lost, [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_without_an_end(self) -> None:
        """A server that does not close its side is cut off."""
        self.protocol.close()
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.transport.aborting)

    def test_words_after_the_end(self) -> None:
        """What the server says after the end is no error."""
        self.protocol.close()
        self.carry()
        self.protocol.dataReceived(b"whatever")
        self.assertFalse(self.transport.aborting)
        self.lose()
        self.assertEqual(self.events.lost, [None])

    def test_close_with_requests_under_way(self) -> None:
        """Closing waits for the answers."""
        self.deliver("a")
        self.protocol.close()
        self.protocol.close()
        self.assertEqual(self.protocol.room(), (0, 0))
        self.assertFalse(self.transport.disconnecting)
        self.answer(1)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.outcomes.ended, {"a": "accepted"})

    def test_abort(self) -> None:
        """Aborting leaves what was in flight uncertain, with the first reason given."""
        self.deliver("a")
        first = errors.ConnectionLost("first")
        self.protocol.abort(first)
        self.protocol.abort(errors.ConnectionLost("second"))
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.assertEqual(self.outcomes.ended, {"a": ("uncertain", first)})
        self.assertEqual(self.events.lost, [first])

    def test_streams_run_out(self) -> None:
        """A protocol that has used nearly all stream numbers drains."""
        self.patch(sender, "LAST_STREAM", 2 * sender.MAX_CONCURRENCY + 1)
        self.deliver("a")
        self.assertEqual(self.events.draining, [None])
        self.answer(1)
        self.assertTrue(self.transport.disconnecting)

    def test_credential_refused(self) -> None:
        """A credential refused before the protocol proved itself is the end of it; later it is the notification's."""
        self.deliver("a")
        self.refuse(1, status=403, reason="InvalidProviderToken")
        [error] = self.events.draining
        self.assertIsInstance(error, errors.CredentialRefused)
        self.assertEqual(error.reason, "InvalidProviderToken")
        self.assertEqual(self.outcomes.ended, {"a": (403, "InvalidProviderToken", None, None)})
        self.setUp()
        self.deliver("a", "b")
        self.answer(1)
        self.refuse(3, status=403, reason="InvalidProviderToken")
        self.assertEqual(self.events.draining, [])

    def test_elsewhere(self) -> None:
        """A rejection of the connection sends the notification to another."""
        for reason in ("Shutdown", "IdleTimeout", "UnrelatedKeyIdInToken"):
            self.setUp()
            self.deliver("a", "b")
            self.refuse(1, status=503, reason=reason)
            self.assertEqual([each.identifier for each in self.events.returned], ["a"])
            self.assertIsInstance(self.events.draining[0], errors.GatewayShutdown)
            self.answer(3)
            self.assertEqual(self.outcomes.ended, {"b": "accepted"})

    def test_elsewhere_too_often(self) -> None:
        """After some connections the rejection is the answer."""
        delivery = Delivery(self.outcomes, "a", b"\1", b"\1", ALERT, ALERT.body, returns=MAX_RETURNS)
        self.protocol.deliver([delivery])
        self.carry()
        self.refuse(1, status=503, reason="Shutdown")
        self.assertEqual(self.outcomes.ended, {"a": (503, "Shutdown", None, None)})


class ProviderTokenTests(ProtocolCase):
    """Sessions authenticated by a provider token."""

    def setUp(self) -> None:
        """There is a team's key, never used before."""
        authority = Authority()
        self.clock = Clock()
        self.clock.advance(500 * MAXIMUM_AGE)  # a window begins
        self.token = ProviderToken.from_p8(authority.p8, authority.key_id, authority.team_id)
        self.start(self.token)

    def begin(self) -> None:
        """Begin another protocol with the key."""
        self.start(self.token)
        self.ready()

    def bearer(self) -> bytes:
        """Send a notification, have it accepted, and tell under which authorization it came."""
        self.deliver(object())
        request = self.received[-1]
        self.answer(request.stream)
        return dict(request.headers)[b"authorization"]

    def test_one_first(self) -> None:
        """One request goes first; when it was answered there is room for all."""
        self.ready()
        self.assertEqual(self.protocol.room()[0], 1)
        self.deliver("a")
        self.assertEqual(self.protocol.room()[0], 0)
        self.answer(1)
        self.assertEqual(self.protocol.room()[0], 100)

    def test_shared(self) -> None:
        """All protocols of the key send the same token."""
        self.ready()
        bearer = self.bearer()
        self.assertEqual(bearer, self.token.current(self.clock.seconds()).value)
        self.clock.advance(60)
        self.begin()
        self.assertEqual(self.bearer(), bearer)

    def test_renewed_by_age(self) -> None:
        """A token of 35 minutes gives way to a new one, on a connection that has had it for long."""
        self.ready()
        bearer = self.bearer()
        self.clock.advance(34 * 60)
        self.assertEqual(self.bearer(), bearer)
        self.clock.advance(60)
        self.assertNotEqual(self.bearer(), bearer)

    def test_held(self) -> None:
        """A connection takes up a newer token no sooner than twenty minutes after its own."""
        old = self.token.current(self.clock.seconds()).value
        self.clock.advance(30 * 60)
        self.begin()
        self.assertEqual(self.bearer(), old)
        self.clock.advance(10 * 60)
        new = self.token.current(self.clock.seconds()).value
        self.assertNotEqual(new, old)
        self.assertEqual(self.bearer(), old)
        self.clock.advance(TOKEN_HELD - 10 * 60)
        self.assertEqual(self.bearer(), new)

    def test_expired(self) -> None:
        """A token that the server calls expired is renewed, and the notification sent over another connection."""
        self.ready()
        old = self.bearer()
        self.clock.advance(TOKEN_HELD)
        self.deliver("a")
        self.refuse(self.received[-1].stream, status=403, reason="ExpiredProviderToken")
        self.assertEqual([each.identifier for each in self.events.returned], ["a"])
        self.assertIsInstance(self.events.draining[0], errors.GatewayShutdown)
        self.begin()
        self.assertNotEqual(self.bearer(), old)

    def test_expired_together(self) -> None:
        """When several are refused for it at once, the token is renewed once, and all are sent again."""
        self.ready()
        self.bearer()
        self.clock.advance(TOKEN_HELD)
        self.deliver("a", "b", "c")
        self.refuse(*(request.stream for request in self.received[-3:]), status=403, reason="ExpiredProviderToken")
        self.assertEqual([each.identifier for each in self.events.returned], ["a", "b", "c"])
        self.assertEqual(self.token.current(self.clock.seconds()).issued_at, self.clock.seconds())

    def test_expired_too_young(self) -> None:
        """If a token is too young to be renewed, nothing else is sent, since all of it would be refused."""
        for proved in (False, True):
            self.begin()
            if proved:
                self.bearer()
            self.clock.advance(60)
            self.deliver("a")
            self.refuse(self.received[-1].stream, status=403, reason="ExpiredProviderToken")
            self.assertEqual(self.outcomes.ended["a"], (403, "ExpiredProviderToken", None, None))
            self.assertEqual(self.events.returned, [])
            [error] = self.events.draining
            self.assertIsInstance(error, errors.CredentialRefused)
            self.assertEqual(error.reason, "ExpiredProviderToken")

    def test_expired_without_one(self) -> None:
        """A server that calls a certificate's owner's provider token expired is not to be pleased."""
        self.start(None)
        self.ready()
        self.deliver("a")
        self.refuse(1, status=403, reason="ExpiredProviderToken")
        self.assertEqual(self.outcomes.ended, {"a": (403, "ExpiredProviderToken", None, None)})

    def test_all(self) -> None:
        """The public name is the protocol's."""
        self.assertEqual(http2.__all__, ["ProviderAPIProtocol"])
