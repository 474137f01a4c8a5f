"""Tests of the provider API on the wire: both roles against each other, and against peers we did not write."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from itertools import pairwise, permutations

import attrs
import h2.config
import h2.connection
import h2.events
import ngh2
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe import frame as frames
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.errors import WireError
from txapns.wire import requests
from txapns.wire.requests import Answer, FrameBudget, GoAway, Request, RequestReceiver, RequestSender, Round, reason_of
from txapns.wire.requests import sender as sender_module

WINDOW = 65_535
OK = [(b":status", b"200")]
FIELDS = ((b"authorization", b"bearer x"), (b"apns-topic", b"com.example.app"))
BODY = b'{"aps":{"alert":"Hi"}}'
NO_ERROR, INTERNAL_ERROR, REFUSED, CANCEL = 0, 2, 7, 8


def rejection(status: int, reason: str, **more: object) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Make the header fields and the body of a rejection."""
    return [(b":status", b"%d" % status)], json.dumps({"reason": reason, **more}).encode()


def post(
    sender: RequestSender[str],
    item: str,
    device: bytes = b"abcd",
    fields: requests.Headers = FIELDS,
    body: bytes = BODY,
) -> None:
    """Send a notification to a device."""
    sender.send(item, sender.head(b"POST"), b"/3/device/" + device, fields, body)


def ask(sender: RequestSender[str], item: str, method: bytes = b"GET") -> None:
    """Send a request without a body."""
    sender.send(item, sender.head(method), b"/1/x", FIELDS, b"")


@attrs.define
class Ledger:
    """The outcomes of a connection's requests, collected over its reads."""

    ready: int = 0
    accepted: list[str] = attrs.Factory(list)  # in whichever of the two ways
    answered: list[tuple[str, Answer]] = attrs.Factory(list)
    rejected: list[tuple[str, Answer]] = attrs.Factory(list)
    refused: list[str] = attrs.Factory(list)
    reset: list[tuple[str, int]] = attrs.Factory(list)
    unsendable: list[str] = attrs.Factory(list)
    goaway: GoAway | None = None

    def add(self, received: Round[str]) -> None:
        """Add what one read brought."""
        self.ready += received.ready
        self.accepted += [item for item, _ in [*received.accepted, *received.answered]]
        self.answered += received.answered
        self.rejected += received.rejected
        self.refused += received.refused
        self.reset += received.reset
        self.unsendable += received.unsendable
        self.goaway = received.goaway or self.goaway

    @property
    def settled(self) -> list[str]:
        """Every item with an outcome, once per outcome."""
        pairs = [*self.rejected, *self.reset]
        return sorted([*self.accepted, *self.refused, *self.unsendable, *(item for item, _ in pairs)])

    @property
    def sorted(self) -> Ledger:
        """The same, in an order that does not depend on how the stream was split."""
        return Ledger(
            self.ready,
            sorted(self.accepted),
            sorted(self.answered, key=lambda pair: pair[0]),
            sorted(self.rejected, key=lambda pair: pair[0]),
            sorted(self.refused),
            sorted(self.reset),
            sorted(self.unsendable),
            self.goaway,
        )


class Peers:
    """A sender and a receiver, and the wire between them."""

    def __init__(
        self, concurrency: int = 1_000, *, most: int = 0, single: bool = False, window_updates: bool = True
    ) -> None:
        self.sender: RequestSender[str] = RequestSender(b"api.example.com", most=most, single=single)
        self.receiver = RequestReceiver(concurrency, max_body=5_120, window_updates=window_updates)
        self.ledger = Ledger()
        self.requests: list[Request] = []
        self.carry()

    def send(self, *items: str, body: bytes = BODY, fields: requests.Headers = FIELDS) -> None:
        """Send a request for each item, and carry it over."""
        for item in items:
            post(self.sender, item, fields=fields, body=body)
        self.carry()

    def carry(self) -> None:
        """Carry bytes both ways until there are none."""
        while True:
            up, down = self.sender.data_to_send(), self.receiver.data_to_send()
            if not (up or down):
                break
            self.requests += self.receiver.receive(up)
            self.ledger.add(self.sender.receive(down))
        self.ledger.add(self.sender.take())

    def answer(self, stream: int, headers: Iterable[tuple[bytes, bytes]] = OK, body: bytes = b"") -> None:
        """Answer from the receiver."""
        self.receiver.respond(stream, headers, body)
        self.carry()


class Script:
    """A server's bytes, frame by frame, made by python-hyper's frames and header compression."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def settings(self, **settings: int) -> bytes:
        """SETTINGS, with the settings named as in the specification."""
        made = frames.SettingsFrame(0)
        made.settings = {getattr(frames.SettingsFrame, name): value for name, value in settings.items()}
        return made.serialize()

    def headers(self, stream: int, fields: Iterable[tuple[bytes, bytes]] = OK, *, end: bool = False) -> bytes:
        """HEADERS, complete."""
        made = frames.HeadersFrame(stream, self._encoder.encode(list(fields)))
        made.flags |= {"END_HEADERS", *(["END_STREAM"] if end else [])}
        return made.serialize()

    def data(self, stream: int, data: bytes, *, end: bool = False) -> bytes:
        """DATA."""
        made = frames.DataFrame(stream, data)
        if end:
            made.flags.add("END_STREAM")
        return made.serialize()

    def reset(self, stream: int, code: int) -> bytes:
        """RST_STREAM."""
        return frames.RstStreamFrame(stream, code).serialize()

    def goaway(self, last_stream: int, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
        """GOAWAY."""
        return frames.GoAwayFrame(0, last_stream, code, debug).serialize()

    def window(self, size: int) -> bytes:
        """WINDOW_UPDATE of the connection."""
        return frames.WindowUpdateFrame(0, size).serialize()

    def answer(self, stream: int, status: int, reason: str, **more: object) -> bytes:
        """HEADERS and DATA of a rejection."""
        fields, body = rejection(status, reason, **more)
        return self.headers(stream, fields) + self.data(stream, body, end=True)


def left(gone: Round[str]) -> tuple[list[str], list[str]]:
    """The items that were not processed, and those that may have been."""
    return gone.refused, [item for item, _ in gone.reset]


def scripted(*items: str, body: bytes = BODY, **settings: int) -> tuple[RequestSender[str], Script]:
    """Start a connection whose server is a script, and send a request for each item."""
    script = Script()
    sender: RequestSender[str] = RequestSender(b"api.example.com")
    sender.receive(script.settings(**settings))
    for item in items:
        post(sender, item, body=body)
    sender.data_to_send()
    return sender, script


class StartTests(SynchronousTestCase):
    """How a connection begins."""

    def test_not_ready(self) -> None:
        """There is no room before the peer's SETTINGS."""
        sender: RequestSender[str] = RequestSender(b"h")
        self.assertEqual(sender.room(), (0, 0))
        self.assertTrue(sender.open)

    def test_ready_once(self) -> None:
        """The peer's first SETTINGS make it ready, its later ones do not again."""
        peers = Peers()
        peers.receiver.limit(5)
        peers.carry()
        self.assertEqual(peers.ledger.ready, 1)

    def test_two_settings_at_once(self) -> None:
        """Two SETTINGS in one read make it ready, with the limit of the second."""
        script = Script()
        sender: RequestSender[str] = RequestSender(b"h")
        received = sender.receive(script.settings(MAX_CONCURRENT_STREAMS=1) + script.settings(MAX_CONCURRENT_STREAMS=7))
        self.assertTrue(received.ready)
        self.assertEqual(sender.room(), (7, WINDOW))

    def test_preface(self) -> None:
        """The client's preface goes first, and its SETTINGS say that nothing may be pushed."""
        peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        peer.initiate_connection()
        events = peer.receive_data(RequestSender(b"h").data_to_send())
        [changed] = [event for event in events if isinstance(event, h2.events.RemoteSettingsChanged)]
        self.assertEqual(changed.changed_settings[SettingCodes.ENABLE_PUSH].new_value, 0)

    def test_goaway_first(self) -> None:
        """A GOAWAY in the same read as the first SETTINGS is reported, and leaves no room."""
        script = Script()
        sender: RequestSender[str] = RequestSender(b"h")
        received = sender.receive(script.settings() + script.goaway(0, debug=b'{"reason":"BadCertificateEnvironment"}'))
        self.assertTrue(received.ready)
        self.assertEqual(received.goaway, GoAway(0, NO_ERROR, "BadCertificateEnvironment"))
        self.assertFalse(sender.open)
        self.assertEqual(sender.room(), (0, 0))

    def test_all(self) -> None:
        """The public names are the two roles and their values."""
        self.assertEqual(
            requests.__all__,
            [
                "ENHANCE_YOUR_CALM",
                "PROTOCOL_ERROR",
                "REFUSED_STREAM",
                "Answer",
                "FrameBudget",
                "GoAway",
                "Headers",
                "Request",
                "RequestReceiver",
                "RequestSender",
                "Round",
                "reason_of",
            ],
        )


class RequestTests(SynchronousTestCase):
    """What a request looks like at the server."""

    def test_request(self) -> None:
        """A request has the pseudo-header fields, the path with the token, the given fields in order, and the body."""
        peers = Peers()
        peers.send("a")
        [request] = peers.requests
        self.assertEqual(request.body, BODY)
        self.assertEqual(
            request.headers,
            (
                (b":method", b"POST"),
                (b":scheme", b"https"),
                (b":authority", b"api.example.com"),
                (b":path", b"/3/device/abcd"),
                *FIELDS,
            ),
        )

    def test_without_a_body(self) -> None:
        """A request without a body ends with its header fields, and has the method and path it is given."""
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        server.initiate_connection()
        sender: RequestSender[str] = RequestSender(b"h")
        sender.receive(server.data_to_send())
        ask(sender, "a", b"DELETE")
        events = server.receive_data(sender.data_to_send())
        [request] = [event for event in events if isinstance(event, h2.events.RequestReceived)]
        self.assertIsNotNone(request.stream_ended)
        self.assertEqual([request.headers[0], request.headers[3]], [(b":method", b"DELETE"), (b":path", b"/1/x")])

    def test_streams(self) -> None:
        """Requests get the streams 1, 3, 5, and the last stream is known."""
        peers = Peers()
        self.assertEqual(peers.sender.last_stream, 0)
        peers.send("a", "b", "c")
        self.assertEqual([request.stream for request in peers.requests], [1, 3, 5])
        self.assertEqual(peers.sender.last_stream, 5)

    def test_unsendable(self) -> None:
        """Header fields longer than HTTP/2 allows are not sent, are reported later, and occupy no stream."""
        peers = Peers()
        peers.send("a", fields=((b"apns-collapse-id", b"x" * 70_000),))
        peers.send("b")
        self.assertEqual(peers.ledger.unsendable, ["a"])
        peers.answer(peers.requests[0].stream)
        self.assertEqual(peers.ledger.accepted, ["b"])
        self.assertEqual(len(peers.sender), 0)

    def test_long_body_is_cut(self) -> None:
        """The server keeps one byte more of a body than the limit, so that it can detect a longer one."""
        peers = Peers()
        peers.send("a", body=b"x" * 5_120)
        peers.send("b", body=b"x" * 60_000)
        self.assertEqual([len(request.body) for request in peers.requests], [5_120, 5_121])

    def test_so_many(self) -> None:
        """A connection with a maximum number of requests has no room for more, and then is no longer open."""
        peers = Peers(most=3)
        self.assertEqual((peers.sender.room()[0], peers.sender.left), (3, 3))
        peers.send("a", "b")
        self.assertEqual((peers.sender.room()[0], peers.sender.open), (1, True))
        peers.send("c")
        self.assertEqual((peers.sender.room(), peers.sender.left, peers.sender.open), ((0, 0), 0, False))

    def test_streams_run_out(self) -> None:
        """A connection that has used nearly all stream numbers accepts no further request."""
        self.patch(sender_module, "LAST_STREAM", 2 * sender_module.MAX_CONCURRENCY + 3)
        peers = Peers()
        peers.send("a")
        self.assertTrue(peers.sender.open)
        peers.send("b")
        self.assertFalse(peers.sender.open)
        self.assertEqual(peers.sender.room(), (0, 0))


class GivenUpTests(SynchronousTestCase):
    """Connections that libnghttp2 has given up, at once or with a GOAWAY still to be sent."""

    def given_up(self, written: bytes) -> RequestSender[str]:
        """End a connection with two requests under way by a server's bytes."""
        sender, _ = scripted("a", "b")
        with contextlib.suppress(WireError):
            sender.receive(written)
        return sender

    def test_any_call(self) -> None:
        """Further calls, in any order, do nothing and raise nothing; all requests are accounted for."""
        script = Script()
        endings = {
            "a list of many header fields": script.headers(1, [*OK, *((b"x-%d" % n, b"") for n in range(5_000))]),
            "a list of long header fields": script.headers(1, [*OK, *((b"x-%d" % n, b"x" * 8_000) for n in range(20))]),
            "no compression of header fields": frames.HeadersFrame(1, b"\xff" * 30, flags=["END_HEADERS"]).serialize(),
            "no HTTP/2": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "data for no stream": script.data(0x7FFF_FFFF, b"x"),
            "settings that are none": frames.SettingsFrame(0, {4: 0x7FFF_FFFF + 1}).serialize(),
        }
        calls: list[Callable[[RequestSender[str]], object]] = [
            lambda sender: sender.cancel_through(3),
            RequestSender.ping,
            RequestSender.goodbye,
            RequestSender.take,
            RequestSender.data_to_send,
            RequestSender.room,
            lambda sender: sender.closed,
            lambda sender: sender.receive(b"x" * 20),
        ]
        for name, written in endings.items():
            for order in permutations(calls, 3):
                sender = self.given_up(written)
                gone: list[str] = []
                for call in order:
                    with contextlib.suppress(WireError):
                        told = call(sender)
                        gone += [*left(told)[0], *left(told)[1]] if isinstance(told, Round) else []
                gone += [item for items in left(sender.abandon()) for item in items]
                self.assertEqual((sorted(gone), sender.open), (["a", "b"], False), name)


class RoomTests(SynchronousTestCase):
    """How many requests, and how many bytes, may be sent."""

    def test_requests_under_way(self) -> None:
        """Each request takes one stream until it is answered."""
        peers = Peers(10)
        self.assertEqual(peers.sender.room(), (10, WINDOW))
        peers.send("a", "b")
        self.assertEqual(peers.sender.room()[0], 8)
        self.assertEqual(len(peers.sender), 2)
        peers.answer(1)
        self.assertEqual(peers.sender.room()[0], 9)

    def test_no_limit(self) -> None:
        """Without a limit of the peer, the default applies."""
        sender, _ = scripted()
        self.assertEqual(sender.room()[0], sender_module.DEFAULT_CONCURRENCY)

    def test_huge_limit(self) -> None:
        """Whatever the peer allows, the number of requests under way is bounded."""
        sender, _ = scripted(MAX_CONCURRENT_STREAMS=2**31)
        self.assertEqual(sender.room()[0], sender_module.MAX_CONCURRENCY)

    def test_settings_up_and_down(self) -> None:
        """The limit may rise and fall, also below the number of requests under way."""
        peers = Peers(1)
        self.assertEqual(peers.sender.room()[0], 1)
        peers.receiver.limit(100)
        peers.carry()
        peers.send("a", "b", "c")
        self.assertEqual(peers.sender.room()[0], 97)
        peers.receiver.limit(1)
        peers.carry()
        self.assertEqual(peers.sender.room()[0], -2)
        for stream in (1, 3, 5):
            peers.answer(stream)
        self.assertEqual(peers.sender.room()[0], 1)
        self.assertEqual(peers.ledger.accepted, ["a", "b", "c"])

    def test_other_settings(self) -> None:
        """SETTINGS without the limit do not change it."""
        sender, script = scripted(MAX_CONCURRENT_STREAMS=5)
        sender.receive(script.settings(MAX_FRAME_SIZE=20_000))
        self.assertEqual(sender.room()[0], 5)

    def test_limit_of_none(self) -> None:
        """A limit of 0 is a limit."""
        sender, _ = scripted(MAX_CONCURRENT_STREAMS=0)
        self.assertEqual(sender.room()[0], 0)

    def test_window(self) -> None:
        """Bodies use up the connection's window; what does not fit waits and counts against it."""
        peers = Peers(window_updates=False)
        peers.send("a", body=b"x" * 40_000)
        self.assertEqual(peers.sender.room()[1], WINDOW - 40_000)
        peers.send("b", body=b"x" * WINDOW)
        self.assertEqual(peers.sender.room()[1], -40_000)
        self.assertEqual(len(peers.requests), 1)
        peers.receiver.acknowledge(1, 40_000)
        peers.carry()
        self.assertEqual(len(peers.requests), 2)
        self.assertEqual(peers.sender.room()[1], 0)

    def test_single(self) -> None:
        """With a provider token there is room for a single request until one was accepted."""
        peers = Peers(1_000, single=True)
        self.assertEqual(peers.sender.room()[0], 1)
        peers.send("a")
        self.assertEqual(peers.sender.room()[0], 0)
        peers.answer(1)
        self.assertEqual(peers.sender.room()[0], 1_000)

    def test_single_after_a_refusal(self) -> None:
        """A rejection of the notification proves the provider token as well as acceptance; a 403 does not."""
        peers = Peers(1_000, single=True)
        peers.send("a")
        peers.answer(1, *rejection(403, "ExpiredProviderToken"))
        self.assertEqual(peers.sender.room()[0], 1)
        peers.send("b")
        peers.answer(3, *rejection(410, "Unregistered"))
        self.assertEqual(peers.sender.room()[0], 1_000)

    def test_single_obeys_the_limit(self) -> None:
        """If the peer allows no stream, the first request has to wait as well."""
        self.assertEqual(Peers(0, single=True).sender.room()[0], 0)


class OutcomeTests(SynchronousTestCase):
    """The four ways in which a request ends."""

    def test_accepted(self) -> None:
        """A 200 without a body is accepted, with its header fields."""
        sender, script = scripted("a")
        fields = [(b":status", b"200"), (b"apns-id", b"X"), (b"apns-unique-id", b"Y")]
        received = sender.receive(script.headers(1, fields, end=True))
        self.assertEqual(received.accepted, [("a", tuple(fields))])
        self.assertEqual(len(sender), 0)

    def test_any_order(self) -> None:
        """Answers are matched by stream, not by order."""
        peers = Peers()
        peers.send("a", "b", "c")
        peers.answer(5)
        peers.answer(1, *rejection(400, "BadTopic"))
        peers.answer(3)
        self.assertEqual(peers.ledger.accepted, ["c", "b"])
        self.assertEqual([(item, answer.reason) for item, answer in peers.ledger.rejected], [("a", "BadTopic")])

    def test_accepted_with_a_body(self) -> None:
        """A 200 is accepted with or without a body."""
        for body in (b"", b"thanks"):
            sender, script = scripted("a")
            self.assertEqual(sender.receive(script.headers(1)).accepted, [])
            received = sender.receive(script.data(1, body, end=True))
            self.assertEqual(received.answered, [("a", Answer(200, tuple(OK), body))])
            self.assertEqual(len(sender), 0)

    def test_accepted_otherwise(self) -> None:
        """Any status from 200 to 299 means accepted, and comes with its header fields."""
        peers = Peers()
        peers.send("a", "b", "c")
        made = [(b":status", b"201"), (b"apns-channel-id", b"x")]
        peers.answer(1, made)
        peers.answer(3, [(b":status", b"204")])
        peers.answer(5, [(b":status", b"300")])
        self.assertEqual(
            peers.ledger.answered,
            [("a", Answer(201, tuple(made), b"")), ("b", Answer(204, ((b":status", b"204"),), b""))],
        )
        self.assertEqual([(item, answer.status) for item, answer in peers.ledger.rejected], [("c", 300)])

    def test_rejected(self) -> None:
        """Another status is a rejection, with status, reason and header fields."""
        peers = Peers()
        peers.send("a")
        peers.answer(1, *rejection(410, "Unregistered", timestamp=1_700_000_000_000))
        [(item, answer)] = peers.ledger.rejected
        self.assertEqual((item, answer.status, answer.reason), ("a", 410, "Unregistered"))
        self.assertEqual(answer.timestamp, 1_700_000_000)
        self.assertEqual(answer.headers[0], (b":status", b"410"))

    def test_rejected_without_a_body(self) -> None:
        """A rejection without a body has no reason."""
        peers = Peers()
        peers.send("a")
        peers.answer(1, [(b":status", b"503")])
        self.assertEqual([(answer.status, answer.reason) for _, answer in peers.ledger.rejected], [(503, "")])

    def test_body_in_pieces(self) -> None:
        """A body may come in several frames, the last of them empty."""
        sender, script = scripted("a")
        fields, body = rejection(400, "BadDeviceToken")
        sender.receive(script.headers(1, fields) + script.data(1, body[:3]))
        sender.receive(script.data(1, body[3:]))
        received = sender.receive(script.data(1, b"", end=True))
        self.assertEqual([answer.reason for _, answer in received.rejected], ["BadDeviceToken"])

    def test_body_over_the_bound(self) -> None:
        """Only the beginning of an endless body is kept."""
        sender, script = scripted("a")
        sender.receive(script.headers(1, [(b":status", b"502")]))
        for _ in range(3):
            sender.receive(script.data(1, b"x" * 3_000))
        received = sender.receive(script.data(1, b"x", end=True))
        self.assertEqual([answer.body for _, answer in received.rejected], [b"x" * sender_module.MAX_ANSWER])

    def test_trailers(self) -> None:
        """An answer may end with trailers."""
        sender, script = scripted("a", "b")
        trailers = [(b"x-checksum", b"1")]
        fields, body = rejection(400, "BadTopic")
        received = sender.receive(
            script.headers(1, fields)
            + script.data(1, body)
            + script.headers(1, trailers, end=True)
            + script.headers(3)
            + script.headers(3, trailers, end=True)
        )
        self.assertEqual([answer.reason for _, answer in received.rejected], ["BadTopic"])
        self.assertEqual([item for item, _ in received.answered], ["b"])

    def test_content(self) -> None:
        """Requested content may be as long as a list of all channels; any other body has a lower limit."""
        for asked, longest in ((True, sender_module.MAX_CONTENT), (False, sender_module.MAX_ANSWER)):
            peers = Peers()
            (ask if asked else post)(peers.sender, "a")
            peers.carry()
            peers.answer(1, body=b"x" * (longest + 1))
            [(_, answer)] = peers.ledger.answered
            self.assertEqual(len(answer.body), longest)
            self.assertNotIn("xx", repr(answer))

    def test_refusal_of_a_question(self) -> None:
        """A request without a body is refused, reset and given up like any other, and leaves nothing behind."""
        peers = Peers(window_updates=False)
        for item in ("a", "b", "c", "d", "e"):
            ask(peers.sender, item)
        peers.carry()
        peers.answer(1, *rejection(400, "ChannelNotRegistered"))
        peers.receiver.reset(3, INTERNAL_ERROR)
        peers.receiver.reset(5, REFUSED)
        peers.answer(7)
        self.assertEqual(
            [(item, answer.reason) for item, answer in peers.ledger.rejected], [("a", "ChannelNotRegistered")]
        )
        self.assertEqual((peers.ledger.reset, peers.ledger.refused), ([("b", INTERNAL_ERROR)], ["c"]))
        self.assertEqual(peers.ledger.accepted, ["d"])
        self.assertEqual(left(peers.sender.cancel_through(9)), ([], ["e"]))
        peers.carry()
        self.assertEqual((len(peers.sender), peers.sender._asking), (0, set()))

    def test_informational(self) -> None:
        """An informational answer is not the answer."""
        sender, script = scripted("a")
        received = sender.receive(script.headers(1, [(b":status", b"103")]))
        self.assertEqual((received.accepted, received.rejected), ([], []))
        self.assertEqual([item for item, _ in sender.receive(script.headers(1, end=True)).accepted], ["a"])

    def test_refused(self) -> None:
        """REFUSED_STREAM says that the request was not processed."""
        peers = Peers()
        peers.send("a", "b")
        peers.receiver.reset(1, REFUSED)
        peers.answer(3)
        self.assertEqual((peers.ledger.refused, peers.ledger.accepted), (["a"], ["b"]))
        self.assertEqual(len(peers.sender), 0)

    def test_reset(self) -> None:
        """After any other RST_STREAM the outcome is unknown."""
        peers = Peers()
        peers.send("a")
        peers.receiver.reset(1, INTERNAL_ERROR)
        peers.carry()
        self.assertEqual(peers.ledger.reset, [("a", INTERNAL_ERROR)])
        self.assertEqual(len(peers.sender), 0)

    def test_reset_after_the_status(self) -> None:
        """Once the status is known it is the answer, even if the rest of the body is cut off."""
        sender, script = scripted("a", "b")
        fields, body = rejection(400, "BadTopic")
        received = sender.receive(
            script.headers(1)
            + script.reset(1, INTERNAL_ERROR)
            + script.headers(3, fields)
            + script.data(3, body[:5])
            + script.reset(3, INTERNAL_ERROR)
        )
        self.assertEqual([item for item, _ in received.answered], ["a"])
        self.assertEqual([(item, answer.status) for item, answer in received.rejected], [("b", 400)])
        self.assertEqual(received.reset, [])

    def test_early_answer(self) -> None:
        """An answer before the body has left counts, without waiting for the rest of the body."""
        sender, script = scripted("a", "b", body=b"x" * 60_000)
        self.assertEqual(sender.room(), (998, WINDOW - 120_000))
        received = sender.receive(script.answer(3, 413, "PayloadTooLarge") + script.reset(3, NO_ERROR))
        self.assertEqual([(item, answer.status) for item, answer in received.rejected], [("b", 413)])
        self.assertEqual((received.reset, received.refused), ([], []))
        self.assertEqual(sender.room(), (999, 0))

    def test_early_answer_without_reset(self) -> None:
        """The server may also read the rest of the body; the request counts against the limit until it has left."""
        sender, script = scripted("a", "b", body=b"x" * 60_000)
        received = sender.receive(script.answer(3, 413, "PayloadTooLarge"))
        self.assertEqual([(item, answer.status) for item, answer in received.rejected], [("b", 413)])
        self.assertEqual(sender.room()[0], 998)
        sender.receive(script.window(100_000))
        sender.data_to_send()
        sender.take()
        self.assertEqual(sender.room()[0], 999)
        self.assertEqual(left(sender.abandon()), ([], ["a"]))

    def test_second_answer(self) -> None:
        """A second answer on a stream is not a second outcome."""
        sender, script = scripted("a", "b")
        ledger = Ledger()
        ledger.add(sender.receive(script.headers(1, end=True)))
        ledger.add(sender.receive(script.headers(1, end=True) + script.reset(1, REFUSED)))
        sender.data_to_send()
        ledger.add(sender.take())
        self.assertEqual(ledger.settled, ["a"])
        self.assertEqual(left(sender.abandon()), ([], ["b"]))


class GoAwayTests(SynchronousTestCase):
    """The peer accepts no new streams."""

    def test_streams_above(self) -> None:
        """Requests above the last stream were not processed; those up to it are still answered."""
        peers = Peers()
        peers.send("a", "b", "c", "d")
        peers.receiver.goaway(last_stream=3, debug=b'{"reason":"Shutdown"}')
        peers.carry()
        self.assertEqual(peers.ledger.goaway, GoAway(3, NO_ERROR, "Shutdown"))
        self.assertEqual(sorted(peers.ledger.refused), ["c", "d"])
        self.assertFalse(peers.sender.open)
        self.assertFalse(peers.sender.closed)
        self.assertEqual(peers.sender.room(), (0, 0))
        peers.answer(3)
        peers.answer(1)
        self.assertEqual(peers.ledger.accepted, ["b", "a"])
        self.assertTrue(peers.sender.closed)
        self.assertEqual(len(peers.sender), 0)

    def test_two_steps(self) -> None:
        """A server may announce its end first and name the last stream later."""
        sender, script = scripted("a", "b", "c")
        first = sender.receive(script.goaway(2**31 - 1))
        self.assertEqual((first.refused, sender.open), ([], False))
        second = sender.receive(script.goaway(3))
        self.assertEqual(second.refused, ["c"])

    def test_answers_before_it_in_one_read(self) -> None:
        """Answers in the same read as the GOAWAY count."""
        sender, script = scripted("a", "b", "c")
        received = sender.receive(
            script.headers(1, end=True) + script.goaway(3) + script.answer(3, 410, "ExpiredToken")
        )
        self.assertEqual([item for item, _ in received.accepted], ["a"])
        self.assertEqual([item for item, _ in received.rejected], ["b"])
        self.assertEqual(received.refused, ["c"])

    def test_not_yet_written(self) -> None:
        """A request that is still unsent when the GOAWAY comes is refused like those above the last stream."""
        script = Script()
        sender: RequestSender[str] = RequestSender(b"h")
        sender.receive(script.settings())
        post(sender, "a")
        sender.receive(script.goaway(0))
        sender.data_to_send()
        self.assertEqual(sender.take().refused, ["a"])

    def test_after_the_end(self) -> None:
        """Bytes after a GOAWAY and the last answer are ignored."""
        sender, script = scripted("a")
        sender.receive(script.goaway(1) + script.headers(1, end=True))
        self.assertTrue(sender.closed)
        received = sender.receive(script.window(1_000) + b"garbage")
        self.assertEqual((received.ready, received.accepted, received.goaway), (False, [], None))

    def test_debug_data(self) -> None:
        """Debug data that is text, not UTF-8, or absent does no harm; it becomes one line that is safe for a log."""
        for debug, reason in (
            (b"", ""),
            (b"Maximum active streams violated for this endpoint.",) * 2,
            (b"caf\xe9 \xff", "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"),
            (b"\x00\x01", ""),
            (b'{"reason": "one\\n\\u001b[31mtwo"}', "one [31mtwo"),
            (b"x" * 1_000, "x" * 200),
        ):
            sender, script = scripted("a")
            received = sender.receive(script.goaway(0, REFUSED, debug))
            expected = reason.decode() if isinstance(reason, bytes) else reason
            self.assertEqual(received.goaway, GoAway(0, REFUSED, expected))
            self.assertEqual(received.refused, ["a"])

    def test_own(self) -> None:
        """After our own GOAWAY no request is sent, and those under way are still answered."""
        peers = Peers()
        peers.send("a")
        peers.sender.goodbye()
        peers.sender.goodbye()
        peers.carry()
        self.assertFalse(peers.sender.open)
        peers.answer(1)
        self.assertEqual(peers.ledger.accepted, ["a"])
        self.assertTrue(peers.sender.closed)


class GivingUpTests(SynchronousTestCase):
    """Requests that are given up, on a connection that is open or dead."""

    def test_abandon(self) -> None:
        """On a dead connection, requests that left completely have an unknown outcome, and nothing is kept."""
        peers = Peers()
        peers.send("a", "b")
        peers.answer(1)
        self.assertEqual(left(peers.sender.abandon()), ([], ["b"]))
        self.assertEqual(len(peers.sender), 0)
        self.assertFalse(peers.sender.open)
        self.assertEqual(left(peers.sender.abandon()), ([], []))

    def test_abandon_a_body_stuck_in_the_window(self) -> None:
        """Requests that did not leave completely cannot have been processed."""
        sender, _ = scripted("a", "b", "c", body=b"x" * 30_000)
        self.assertEqual(left(sender.abandon()), (["c"], ["a", "b"]))

    def test_cancel(self) -> None:
        """Requests that are given up free their streams as soon as RST_STREAM is sent."""
        peers = Peers(10)
        peers.send("a", "b", "c")
        self.assertEqual(left(peers.sender.cancel_through(3)), ([], ["a", "b"]))
        peers.carry()
        self.assertEqual(peers.sender.room()[0], 9)
        peers.answer(1)
        peers.answer(5)
        self.assertEqual(peers.ledger.settled, ["c"])

    def test_cancel_a_body_stuck_in_the_window(self) -> None:
        """A request whose body is stuck was not processed, and its bytes leave the queue."""
        sender, _ = scripted("a", "b", "c", body=b"x" * 30_000)
        self.assertEqual(left(sender.cancel_through(5)), (["c"], ["a", "b"]))
        sender.data_to_send()
        sender.take()
        self.assertEqual(sender.room(), (sender_module.DEFAULT_CONCURRENCY, 0))

    def test_cancel_again(self) -> None:
        """Requests that were answered or given up are not given up again."""
        peers = Peers()
        peers.send("a", "b")
        peers.answer(1)
        self.assertEqual(left(peers.sender.cancel_through(3)), ([], ["b"]))
        self.assertEqual(left(peers.sender.cancel_through(3)), ([], []))
        self.assertEqual(left(peers.sender.abandon()), ([], []))

    def test_late_answer(self) -> None:
        """An answer that crosses our RST_STREAM is ignored."""
        sender, script = scripted("a")
        sender.cancel_through(1)
        sender.data_to_send()
        received = sender.receive(script.headers(1, end=True))
        self.assertEqual((received.accepted, received.rejected, received.reset), ([], [], []))
        self.assertEqual(len(sender), 0)


class ReasonTests(SynchronousTestCase):
    """Values read from bodies."""

    def test_reason(self) -> None:
        """The reason passes through, known or not."""
        for reason in ("BadDeviceToken", "NeverHeardOf", "", "naïve"):
            self.assertEqual(reason_of(json.dumps({"reason": reason}).encode()), reason)

    def test_not_json(self) -> None:
        """Text is its own reason, on one line and shortened."""
        self.assertEqual(reason_of(b"<html>\r\n  <b>Bad\tGateway</b>"), "<html> <b>Bad Gateway</b>")
        self.assertEqual(reason_of(b"x" * 1_000), "x" * 200)
        self.assertEqual(reason_of(b""), "")

    def test_other_json(self) -> None:
        """JSON of another shape is its own reason as well."""
        for body in (b"[]", b"17", b'"text"', b"null", b"{}", b'{"error":"x"}', b"[" * 5_000):
            self.assertEqual(reason_of(body), body[:200].decode())

    def test_no_reason(self) -> None:
        """A null reason is empty, and a reason that is not text is replaced by the body."""
        self.assertEqual(reason_of(b'{"reason":null}'), "")
        for value in (b"17", b"true", b"1.5", b'["BadTopic"]', b'{"a":1}'):
            body = b'{"reason":%s}' % value
            self.assertEqual(reason_of(body), body.decode())
        self.assertEqual(len(reason_of(b'{"reason":[%s]}' % (b'"BadTopic",' * 300))), 200)

    def test_page(self) -> None:
        """An HTML page is recognized by its type, in any spelling, or by its beginning."""
        for kind in (b"text/html", b"Text/HTML; charset=utf-8"):
            self.assertTrue(Answer(200, ((b":status", b"200"), (b"content-type", kind)), b"").page)
        self.assertTrue(Answer(200, ((b":status", b"200"),), b"\r\n<!DOCTYPE html>").page)
        for fields in ((), ((b"content-type", b"application/json"),)):
            for body in (b"", b"{}", b"OK"):
                self.assertFalse(Answer(200, fields, body).page)

    def test_timestamp(self) -> None:
        """Milliseconds are the rule; seconds have been seen."""
        for number, seconds in ((1_700_000_000_000, 1_700_000_000), (1_430_000_000, 1_430_000_000), (1_500, 1_500)):
            self.assertEqual(Answer(410, (), b'{"timestamp":%d}' % number).timestamp, seconds)
        self.assertEqual(Answer(410, (), b'{"timestamp":"1700000000123"}').timestamp, 1_700_000_000.123)

    def test_no_timestamp(self) -> None:
        """Anything else is not a timestamp."""
        for body in (
            b"",
            b"{}",
            b"[]",
            b"\xff",
            b'{"timestamp":null}',
            b'{"timestamp":"yesterday"}',
            b'{"timestamp":[1]}',
            b'{"timestamp":NaN}',
            b'{"timestamp":-Infinity}',
            b'{"timestamp":1%s}' % (b"0" * 400),
            b"[" * 5_000,
        ):
            self.assertIs(Answer(410, (), body).timestamp, None, body[:30])

    @given(st.binary())
    def test_any_body(self, body: bytes) -> None:
        """No body raises an exception."""
        answer = Answer(410, (), body)
        self.assertIsInstance(answer.reason, str)
        self.assertIsInstance(answer.timestamp, float | None)


def whole_stream() -> tuple[list[str], bytes, bytes]:
    """Make a server's bytes with every outcome; return the items, the first SETTINGS, and the rest."""
    items = [f"{number:02}" for number in range(1, 13)]
    script = Script()
    first = script.settings(MAX_CONCURRENT_STREAMS=100)
    fields, body = rejection(400, "BadTopic")
    rest = [
        script.headers(1, end=True),
        script.settings(MAX_CONCURRENT_STREAMS=1),
        script.headers(3, fields),
        script.headers(5, [(b":status", b"200"), (b"apns-id", b"123e4567-e89b-12d3-a456-426655440000")], end=True),
        script.data(3, body[:7]),
        frames.PingFrame(0, b"12345678").serialize(),
        script.reset(7, REFUSED),
        script.data(3, body[7:], end=True),
        script.reset(9, INTERNAL_ERROR),
        b"\x00\x00\x07\xf0\x00\x00\x00\x00\x00unknown",  # a frame of a type that does not exist
        script.headers(11),
        script.data(11, b"a body with a 200", end=True),
        script.headers(13, [(b":status", b"103")]),
        script.settings(MAX_CONCURRENT_STREAMS=1_000),
        script.answer(15, 410, "Unregistered", timestamp=1_700_000_000_000),
        script.headers(17, fields),
        script.reset(17, CANCEL),
        script.goaway(19, debug=b'{"reason":"Shutdown"}'),
        script.headers(13, [(b":status", b"200"), (b"apns-id", b"x")], end=True),
    ]
    return items, first, b"".join(rest)


ITEMS, FIRST, REST = whole_stream()


def replay(pieces: Iterable[bytes]) -> tuple[Ledger, list[str], list[str]]:
    """Feed a server's bytes to a new connection; return the ledger, and the requests left at the end."""
    sender: RequestSender[str] = RequestSender(b"h")
    ledger = Ledger()
    ledger.add(sender.receive(FIRST))
    for item in ITEMS:
        post(sender, item)
    sender.data_to_send()
    for piece in pieces:
        try:
            ledger.add(sender.receive(piece))
        except WireError:
            break
        sender.data_to_send()
        ledger.add(sender.take())
    gone = sender.abandon()
    ledger.add(Round(accepted=gone.accepted, answered=gone.answered, rejected=gone.rejected))
    return ledger, *left(gone)


class StreamTests(SynchronousTestCase):
    """A whole connection's bytes, split and damaged."""

    def test_whole(self) -> None:
        """The stream that the other tests split has every outcome."""
        ledger, unsent, uncertain = replay([REST])
        self.assertEqual(sorted(ledger.accepted), ["01", "03", "06", "07"])
        self.assertEqual(
            [(item, answer.status, answer.reason) for item, answer in ledger.rejected],
            [("02", 400, "BadTopic"), ("08", 410, "Unregistered"), ("09", 400, "")],
        )
        self.assertEqual(sorted(ledger.refused), ["04", "11", "12"])
        self.assertEqual(ledger.reset, [("05", INTERNAL_ERROR)])
        self.assertEqual((unsent, uncertain), ([], ["10"]))
        self.assertEqual(sorted([*ledger.settled, *uncertain]), ITEMS)

    @given(st.lists(st.integers(0, len(REST)), max_size=20))
    def test_any_split(self, cuts: list[int]) -> None:
        """However the stream is split, the outcomes are the same."""
        edges = [0, *sorted(cuts), len(REST)]
        ledger, unsent, uncertain = replay(REST[start:end] for start, end in pairwise(edges))
        whole = replay([REST])
        self.assertEqual((ledger.sorted, unsent, uncertain), (whole[0].sorted, *whole[1:]))

    def test_byte_by_byte(self) -> None:
        """The finest split makes no difference either."""
        ledger, unsent, uncertain = replay(REST[position : position + 1] for position in range(len(REST)))
        whole = replay([REST])
        self.assertEqual((ledger.sorted, unsent, uncertain), (whole[0].sorted, *whole[1:]))

    @given(st.integers(0, len(REST)))
    def test_cut_off(self, length: int) -> None:
        """Wherever the stream ends, each request has exactly one outcome."""
        ledger, unsent, uncertain = replay([REST[:length]])
        self.assertEqual(sorted([*ledger.settled, *unsent, *uncertain]), ITEMS)

    @given(
        st.lists(st.tuples(st.integers(0, len(REST) - 1), st.integers(0, 255)), min_size=1, max_size=10),
        st.integers(1, len(REST)),
    )
    def test_damaged(self, changes: list[tuple[int, int]], size: int) -> None:
        """Whatever bytes are changed, no request is lost or ends twice, and no other exception is raised."""
        written = bytearray(REST)
        for position, byte in changes:
            written[position] = byte
        ledger, unsent, uncertain = replay(bytes(written[start : start + size]) for start in range(0, len(REST), size))
        self.assertEqual(sorted([*ledger.settled, *unsent, *uncertain]), ITEMS)

    @given(st.lists(st.binary(max_size=200), max_size=10))
    def test_garbage(self, pieces: list[bytes]) -> None:
        """Garbage from the server raises only ``WireError``, and the requests have an unknown outcome."""
        ledger, unsent, uncertain = replay(pieces)
        self.assertEqual(sorted([*ledger.settled, *unsent, *uncertain]), ITEMS)

    @given(st.lists(st.binary(max_size=200), max_size=10), st.booleans())
    def test_garbage_from_a_client(self, pieces: list[bytes], preface: bool) -> None:
        """Garbage from the client raises only ``WireError``."""
        receiver = RequestReceiver(100, max_body=100)
        if preface:
            receiver.receive(RequestSender(b"h").data_to_send())
        for piece in pieces:
            try:
                receiver.receive(piece)
            except WireError:
                break
            receiver.data_to_send()

    def test_not_http2(self) -> None:
        """If the server speaks another protocol, the connection is closed and accepts nothing."""
        for first in (b"", FIRST):
            sender: RequestSender[str] = RequestSender(b"h")
            sender.receive(first)
            sender.receive(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.assertFalse(sender.open)
            self.assertEqual(sender.room(), (0, 0))
            sender.data_to_send()
            self.assertTrue(sender.closed)

    @given(st.lists(st.integers(1, 400), max_size=20))
    def test_requests_split(self, sizes: list[int]) -> None:
        """However a client's stream is split, the server reads the same requests."""
        sender: RequestSender[str] = RequestSender(b"h")
        for item in ITEMS:
            post(sender, item, item.encode())
        written = sender.data_to_send()
        receiver = RequestReceiver(100, max_body=100)
        whole: list[Request] = []
        for size in sizes:
            whole += receiver.receive(written[:size])
            written = written[size:]
        whole += receiver.receive(written)
        self.assertEqual(
            [request.headers[3][1] for request in whole], [b"/3/device/" + item.encode() for item in ITEMS]
        )
        self.assertEqual({request.body for request in whole}, {BODY})


class ReceiverTests(SynchronousTestCase):
    """The server's role, as far as the sender's tests do not cover it."""

    def test_answer_too_late(self) -> None:
        """Answering or dropping a stream that the client gave up, or that never existed, does nothing."""
        peers = Peers()
        peers.send("a")
        peers.sender.cancel_through(1)
        peers.carry()
        peers.answer(1)
        peers.answer(99)
        peers.receiver.reset(99, REFUSED)
        peers.carry()
        self.assertEqual(peers.ledger.settled, [])

    def test_after_the_end(self) -> None:
        """Nor does any other call, once the connection is over."""
        peers = Peers()
        peers.send("a")
        peers.receiver.receive(b"garbage" * 10)
        peers.carry()
        self.assertTrue(peers.receiver.closed)
        peers.receiver.acknowledge(1, 1)
        peers.receiver.limit(7)
        peers.receiver.goaway()
        peers.receiver.reset(1, REFUSED)
        peers.answer(1)
        self.assertEqual(peers.receiver.data_to_send(), b"")

    @given(
        st.lists(st.integers(0, 40), max_size=5), st.sampled_from([b"GET / HTTP/1.1\r\n", b"PRIX", b"POST /3/device/"])
    )
    def test_http1(self, cuts: list[int], written: bytes) -> None:
        """An HTTP/1.1 request is recognized however it is split; HTTP/2 and other protocols are not."""
        for data, http1 in ((written, True), (b"\x16\x03\x01", False), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n!", False)):
            receiver = RequestReceiver(10, max_body=100)
            at = 0
            with contextlib.suppress(WireError):
                for cut in [*sorted(cuts), len(data)]:
                    receiver.receive(data[at:cut])
                    at = max(at, cut)
            self.assertEqual(receiver.http1, http1)

    def test_too_long(self) -> None:
        """
        With ``early`` a request whose body is too long is given out before its end, with all that came.

        What comes after is dropped, and given back to the window like what was part of a request that was given up.
        """
        client = ngh2.Connection(ngh2.Role.CLIENT)
        client.initiate_connection({})
        receiver = RequestReceiver(10, max_body=100, window_updates=False, early=True)
        found: list[Request] = []

        def carry() -> None:
            for _ in range(3):
                found.extend(receiver.receive(client.data_to_send()))
                client.receive_data(receiver.data_to_send())

        head = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"x")]
        carry()
        for fate in ("too long", "given up"):
            stream = client.send_request(head)
            client.send_data(stream, b"x" * (30_000 if fate == "too long" else 50))
            carry()
            self.assertEqual(receiver.unfinished, [] if fate == "too long" else [stream])
            if fate == "too long":
                client.send_data(stream, b"x" * 30_000)
                carry()
                (request,) = found
                self.assertEqual((request.stream, len(request.body) > 100), (stream, True))
                receiver.acknowledge(stream, len(request.body))
            else:
                client.reset_stream(stream, CANCEL)
                carry()
        self.assertEqual(receiver.unfinished, [])
        self.assertEqual(len(found), 1)
        carry()
        self.assertGreater(client.remote_window_size, WINDOW // 2)

    def test_repeated_fields(self) -> None:
        """Repeated header fields are all kept, in order."""
        peers = Peers()
        peers.send("a", fields=((b"apns-topic", b"x"), (b"apns-topic", b"y")))
        self.assertEqual(peers.requests[0].headers[-2:], ((b"apns-topic", b"x"), (b"apns-topic", b"y")))

    def test_closed(self) -> None:
        """The connection is over when both sides have sent GOAWAY and nothing is under way."""
        peers = Peers()
        self.assertFalse(peers.receiver.closed)
        peers.receiver.goaway()
        peers.carry()
        self.assertTrue(peers.receiver.closed)


class IndependentServer:
    """A server on python-hyper's h2, which answers by the token in the path."""

    def __init__(self, answers: dict[str, tuple[int, bytes]]) -> None:
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 50})
        self._answers = answers
        self._paths: dict[int, str] = {}
        self.bodies: dict[str, bytes] = {}

    def receive(self, data: bytes) -> bytes:
        """Take in bytes; return those to send."""
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[":path"]
                self._paths[event.stream_id] = path
                self.bodies[path] = b""
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[self._paths[event.stream_id]] += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._answer(event.stream_id)
        return self._h2.data_to_send()

    def _answer(self, stream: int) -> None:
        status, body = self._answers.get(self._paths[stream].rpartition("/")[2], (200, b""))
        if status:
            self._h2.send_headers(stream, [(":status", str(status)), ("apns-id", "x")], end_stream=not body)
            if body:
                self._h2.send_data(stream, body, end_stream=True)
        else:
            self._h2.reset_stream(stream, REFUSED)

    def goaway(self, last_stream: int) -> bytes:
        """Send a GOAWAY: nothing above a stream will be processed."""
        self._h2.close_connection(additional_data=b'{"reason":"Shutdown"}', last_stream_id=last_stream)
        return self._h2.data_to_send()


class IndependentPeerTests(SynchronousTestCase):
    """The sender and an independent HTTP/2 server."""

    def carry(self, sender: RequestSender[str], server: IndependentServer) -> Ledger:
        """Carry bytes both ways until there are none."""
        ledger = Ledger()
        down = server.receive(b"")
        while True:
            ledger.add(sender.receive(down))
            up = sender.data_to_send()
            if not up:
                return ledger
            down = server.receive(up)

    def test_outcomes(self) -> None:
        """It understands the requests, and its answers are understood."""
        dead = json.dumps({"reason": "Unregistered", "timestamp": 1_700_000_000_000}).encode()
        server = IndependentServer({"dead": (410, dead), "b": (0, b"")})
        sender: RequestSender[str] = RequestSender(b"h")
        self.assertEqual(self.carry(sender, server).ready, 1)
        self.assertEqual(sender.room(), (50, WINDOW))
        for device in ("a", "b", "dead"):
            post(sender, device, device.encode())
        ledger = self.carry(sender, server)
        self.assertEqual((ledger.accepted, ledger.refused), (["a"], ["b"]))
        self.assertEqual([(item, answer.reason) for item, answer in ledger.rejected], [("dead", "Unregistered")])
        self.assertEqual(server.bodies, dict.fromkeys(["/3/device/a", "/3/device/b", "/3/device/dead"], BODY))
        self.assertEqual(len(sender), 0)

    def test_window(self) -> None:
        """Bodies larger than the window leave as the server updates the window."""
        server = IndependentServer({})
        sender: RequestSender[str] = RequestSender(b"h")
        self.carry(sender, server)
        devices = [str(number) for number in range(50)]
        for device in devices:
            post(sender, device, device.encode(), body=b"x" * 4_096)
        ledger = self.carry(sender, server)
        self.assertEqual(sorted(ledger.accepted), sorted(devices))
        self.assertEqual({len(body) for body in server.bodies.values()}, {4_096})

    def test_goaway(self) -> None:
        """Its GOAWAY refuses the streams above, as ours does."""
        server = IndependentServer({})
        sender: RequestSender[str] = RequestSender(b"h")
        self.carry(sender, server)
        for device in ("a", "b", "c"):
            post(sender, device, device.encode())
        sender.data_to_send()
        received = sender.receive(server.goaway(3))
        self.assertEqual(received.goaway, GoAway(3, NO_ERROR, "Shutdown"))
        self.assertEqual(received.refused, ["c"])
        self.assertEqual(left(sender.abandon()), ([], ["a", "b"]))

    def test_client(self) -> None:
        """The receiver and an independent client understand each other, too."""
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        client.initiate_connection()
        receiver = RequestReceiver(7, max_body=100)
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", "h"), (":path", "/3/device/ab")]
        client.send_headers(1, fields)
        client.send_data(1, BODY, end_stream=True)
        [request] = receiver.receive(client.data_to_send())
        receiver.respond(request.stream, *rejection(400, "BadTopic"))
        events = client.receive_data(receiver.data_to_send())
        self.assertEqual(request.body, BODY)
        self.assertEqual(client.remote_settings.max_concurrent_streams, 7)
        self.assertEqual(
            [event.data for event in events if isinstance(event, h2.events.DataReceived)], [b'{"reason": "BadTopic"}']
        )


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class ScreenTests(SynchronousTestCase):
    """Requests that are refused when only their header fields have come."""

    head = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"x"))

    def setUp(self) -> None:
        """Make a client whose requests are all refused, except for one."""
        self.client = ngh2.Connection(ngh2.Role.CLIENT)
        self.events: list[ngh2.Event] = []
        self.whole: list[Request] = []
        self.refused: list[Request] = []
        self.receiver = RequestReceiver(10, max_body=100, window_updates=False)

    def screen(self, head: Request) -> bool:
        """Refuse a request, unless its path is the accepted one."""
        if (b"good", b"1") in head.headers:
            return True
        self.refused.append(head)
        self.receiver.refuse(head.stream, [(b":status", b"403")], b"no")
        return False

    def carry(self) -> None:
        """Carry bytes in both directions."""
        for _ in range(3):
            self.whole.extend(self.receiver.receive(self.client.data_to_send(), self.screen))
            self.client.receive_data(self.receiver.data_to_send())
            self.events.extend(self.client.events())

    def test_refused(self) -> None:
        """The answer arrives complete and ends the stream, although the request has not ended; other streams go on."""
        self.client.initiate_connection({})
        good, bad, ended = (
            self.client.send_request([*self.head, *more], end_stream=end)
            for more, end in (([(b"good", b"1")], False), ([], False), ([], True))
        )
        self.client.send_data(bad, b"x" * 5_000)
        self.carry()
        for stream in (bad, ended):
            found = [event for event in self.events if getattr(event, "stream_id", None) == stream]
            answer = [event for event in found if isinstance(event, ngh2.ResponseReceived | ngh2.DataReceived)]
            self.assertEqual((answer[0].headers, answer[1].data), (((b":status", b"403"),), b"no"))
            self.assertIsInstance(found[-1], ngh2.StreamClosed)
        self.assertEqual((self.receiver.unfinished, self.receiver.unsent), ([good], 0))
        self.assertEqual([request.stream for request in self.refused], [bad, ended])
        self.client.send_data(good, b"hello", end_stream=True)
        self.carry()
        self.assertEqual([(request.stream, request.body) for request in self.whole], [(good, b"hello")])

    def test_no_window(self) -> None:
        """If the peer has no window for an answer, only its header fields are sent, and nothing is kept."""
        self.client.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: 0})
        stream = self.client.send_request(self.head, end_stream=False)
        self.carry()
        [answer] = [event for event in self.events if isinstance(event, ngh2.ResponseReceived)]
        self.assertEqual((answer.headers, answer.end_stream, self.receiver.unsent), (((b":status", b"403"),), True, 0))
        self.assertIn(stream, [event.stream_id for event in self.events if isinstance(event, ngh2.StreamClosed)])


class BrokenTests(SynchronousTestCase):
    """A connection that libnghttp2 has given up."""

    def test_sender(self) -> None:
        """Further calls to the sender do nothing, and each request is accounted for."""
        field = b"\0\x01x\x7f\x85\x06" + b"y" * 900  # as HPACK writes it (RFC 7541, section 6.2.2)
        for written in (
            frame(4, flags=1) * 3,
            frame(1, b"\xff" * 30, 5, 1),
            frame(9, b"", 4, 1),
            frame(1, b"\x88" + field * 16, 1, 1) + frame(9, field * 16, 0, 1) * 4 + frame(9, field * 16, 4, 1),
        ):
            peers = Peers()
            peers.send("a", "b")
            with contextlib.suppress(WireError):
                peers.sender.receive(written)
            peers.sender.ping()
            peers.sender.take()
            gone = peers.sender.cancel_through(1)
            peers.sender.goodbye()
            peers.sender.data_to_send()
            rest = peers.sender.abandon()
            self.assertEqual([*left(gone)[1], *left(rest)[1]], ["a", "b"])
            self.assertEqual((peers.sender.room(), peers.sender.open), ((0, 0), False))


class FrameBudgetTests(SynchronousTestCase):
    """How many frames a client may send."""

    @given(
        st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 99]), st.integers(0, 1), st.binary(max_size=30))),
        st.data(),
    )
    def test_split(self, frames: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
        """Frames are counted the same however the bytes are split."""
        written = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frame(kind, body, flag) for kind, flag, body in frames)
        cuts = sorted(data.draw(st.sets(st.integers(0, len(written)), max_size=8)))
        pieces = [written[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(written)], strict=True)]
        settings = sum(kind == 4 and not flag for kind, flag, _ in frames)
        for short in (0, 1):
            most = (max(1, len(frames)) - short, 1), (100, 1)
            budget = FrameBudget()
            fits = all(budget.spend(piece, 5.0, *most) for piece in pieces)
            self.assertEqual(fits, len(frames) <= most[0][0])
            budget = FrameBudget()
            fits = all(budget.spend(piece, 5.0, (1_000, 1), (settings - short, 1)) for piece in pieces)
            self.assertEqual(fits, not short)

    def test_time(self) -> None:
        """An unused allowance accumulates, up to a limit."""
        budget = FrameBudget()
        ping = frame(6, b"12345678")
        begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for data, now, fits in (
            (begin + ping * 10, 0.0, True),
            (ping * 5, 1.0, True),
            (ping * 10, 100.0, True),
            (ping, 100.1, False),
        ):
            self.assertEqual(budget.spend(data, now, (10, 5), (10, 5)), fits)
