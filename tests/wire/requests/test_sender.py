"""Tests for :mod:`txapns.wire.requests.sender`, against our receiver, a script, and an independent server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from itertools import pairwise, permutations

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from hyperframe import frame as frames
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.requests.pair import (
    BODY,
    CANCEL,
    FIELDS,
    INTERNAL_ERROR,
    NO_ERROR,
    OK,
    REFUSED,
    WINDOW,
    Ledger,
    Pair,
    Script,
    ask,
    frame,
    left,
    post,
    rejection,
    scripted,
)
from txapns.errors import WireError
from txapns.wire import requests
from txapns.wire.requests import Answer, GoAway, Request, RequestReceiver, RequestSender, Round
from txapns.wire.requests import sender as sender_module


class StartTests(SynchronousTestCase):
    """How a connection begins."""

    def test_not_ready(self) -> None:
        """There is no room before the peer's SETTINGS."""
        sender: RequestSender[str] = RequestSender(b"h")
        self.assertEqual(sender.room(), (0, 0))
        self.assertTrue(sender.open)

    def test_ready_once(self) -> None:
        """The peer's first SETTINGS make it ready, its later ones do not again."""
        pair = Pair()
        pair.receiver.limit(5)
        pair.carry()
        self.assertEqual(pair.ledger.ready, 1)

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
        pair = Pair()
        pair.send("a")
        [request] = pair.requests
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
        pair = Pair()
        self.assertEqual(pair.sender.last_stream, 0)
        pair.send("a", "b", "c")
        self.assertEqual([request.stream for request in pair.requests], [1, 3, 5])
        self.assertEqual(pair.sender.last_stream, 5)

    def test_unsendable(self) -> None:
        """Header fields longer than HTTP/2 allows are not sent, are reported later, and occupy no stream."""
        pair = Pair()
        pair.send("a", fields=((b"apns-collapse-id", b"x" * 70_000),))
        pair.send("b")
        self.assertEqual(pair.ledger.unsendable, ["a"])
        pair.answer(pair.requests[0].stream)
        self.assertEqual(pair.ledger.accepted, ["b"])
        self.assertEqual(len(pair.sender), 0)

    def test_long_body_is_cut(self) -> None:
        """The server keeps one byte more of a body than the limit, so that it can detect a longer one."""
        pair = Pair()
        pair.send("a", body=b"x" * 5_120)
        pair.send("b", body=b"x" * 60_000)
        self.assertEqual([len(request.body) for request in pair.requests], [5_120, 5_121])

    def test_so_many(self) -> None:
        """A connection with a maximum number of requests has no room for more, and then is no longer open."""
        pair = Pair(most=3)
        self.assertEqual((pair.sender.room()[0], pair.sender.left), (3, 3))
        pair.send("a", "b")
        self.assertEqual((pair.sender.room()[0], pair.sender.open), (1, True))
        pair.send("c")
        self.assertEqual((pair.sender.room(), pair.sender.left, pair.sender.open), ((0, 0), 0, False))

    def test_streams_run_out(self) -> None:
        """A connection that has used nearly all stream numbers accepts no further request."""
        self.patch(sender_module, "LAST_STREAM", 2 * sender_module.MAX_CONCURRENCY + 3)
        pair = Pair()
        pair.send("a")
        self.assertTrue(pair.sender.open)
        pair.send("b")
        self.assertFalse(pair.sender.open)
        self.assertEqual(pair.sender.room(), (0, 0))


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
        pair = Pair(10)
        self.assertEqual(pair.sender.room(), (10, WINDOW))
        pair.send("a", "b")
        self.assertEqual(pair.sender.room()[0], 8)
        self.assertEqual(len(pair.sender), 2)
        pair.answer(1)
        self.assertEqual(pair.sender.room()[0], 9)

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
        pair = Pair(1)
        self.assertEqual(pair.sender.room()[0], 1)
        pair.receiver.limit(100)
        pair.carry()
        pair.send("a", "b", "c")
        self.assertEqual(pair.sender.room()[0], 97)
        pair.receiver.limit(1)
        pair.carry()
        self.assertEqual(pair.sender.room()[0], -2)
        for stream in (1, 3, 5):
            pair.answer(stream)
        self.assertEqual(pair.sender.room()[0], 1)
        self.assertEqual(pair.ledger.accepted, ["a", "b", "c"])

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
        pair = Pair(window_updates=False)
        pair.send("a", body=b"x" * 40_000)
        self.assertEqual(pair.sender.room()[1], WINDOW - 40_000)
        pair.send("b", body=b"x" * WINDOW)
        self.assertEqual(pair.sender.room()[1], -40_000)
        self.assertEqual(len(pair.requests), 1)
        pair.receiver.acknowledge(1, 40_000)
        pair.carry()
        self.assertEqual(len(pair.requests), 2)
        self.assertEqual(pair.sender.room()[1], 0)

    def test_single(self) -> None:
        """With a provider token there is room for a single request until one was accepted."""
        pair = Pair(1_000, single=True)
        self.assertEqual(pair.sender.room()[0], 1)
        pair.send("a")
        self.assertEqual(pair.sender.room()[0], 0)
        pair.answer(1)
        self.assertEqual(pair.sender.room()[0], 1_000)

    def test_single_after_a_refusal(self) -> None:
        """A rejection of the notification proves the provider token as well as acceptance; a 403 does not."""
        pair = Pair(1_000, single=True)
        pair.send("a")
        pair.answer(1, *rejection(403, "ExpiredProviderToken"))
        self.assertEqual(pair.sender.room()[0], 1)
        pair.send("b")
        pair.answer(3, *rejection(410, "Unregistered"))
        self.assertEqual(pair.sender.room()[0], 1_000)

    def test_single_after_half_an_answer(self) -> None:
        """The status alone proves the provider token, however the rest of the answer was cut off."""
        for status, room in ((b"410", 1_000), (b"403", 1)):
            script = Script()
            sender: RequestSender[str] = RequestSender(b"h", single=True)
            sender.receive(script.settings())
            post(sender, "a")
            sender.data_to_send()
            received = sender.receive(script.headers(1, [(b":status", status)]) + script.reset(1, NO_ERROR))
            self.assertEqual(([item for item, _ in received.rejected], sender.room()[0]), (["a"], room))

    def test_single_obeys_the_limit(self) -> None:
        """If the peer allows no stream, the first request has to wait as well."""
        self.assertEqual(Pair(0, single=True).sender.room()[0], 0)


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
        pair = Pair()
        pair.send("a", "b", "c")
        pair.answer(5)
        pair.answer(1, *rejection(400, "BadTopic"))
        pair.answer(3)
        self.assertEqual(pair.ledger.accepted, ["c", "b"])
        self.assertEqual([(item, answer.reason) for item, answer in pair.ledger.rejected], [("a", "BadTopic")])

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
        pair = Pair()
        pair.send("a", "b", "c")
        made = [(b":status", b"201"), (b"apns-channel-id", b"x")]
        pair.answer(1, made)
        pair.answer(3, [(b":status", b"204")])
        pair.answer(5, [(b":status", b"300")])
        self.assertEqual(
            pair.ledger.answered,
            [("a", Answer(201, tuple(made), b"")), ("b", Answer(204, ((b":status", b"204"),), b""))],
        )
        self.assertEqual([(item, answer.status) for item, answer in pair.ledger.rejected], [("c", 300)])

    def test_rejected(self) -> None:
        """Another status is a rejection, with status, reason and header fields."""
        pair = Pair()
        pair.send("a")
        pair.answer(1, *rejection(410, "Unregistered", timestamp=1_700_000_000_000))
        [(item, answer)] = pair.ledger.rejected
        self.assertEqual((item, answer.status, answer.reason), ("a", 410, "Unregistered"))
        self.assertEqual(answer.timestamp, 1_700_000_000)
        self.assertEqual(answer.headers[0], (b":status", b"410"))

    def test_rejected_without_a_body(self) -> None:
        """A rejection without a body has no reason."""
        pair = Pair()
        pair.send("a")
        pair.answer(1, [(b":status", b"503")])
        self.assertEqual([(answer.status, answer.reason) for _, answer in pair.ledger.rejected], [(503, "")])

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
            pair = Pair()
            (ask if asked else post)(pair.sender, "a")
            pair.carry()
            pair.answer(1, body=b"x" * (longest + 1))
            [(_, answer)] = pair.ledger.answered
            self.assertEqual(len(answer.body), longest)
            self.assertNotIn("xx", repr(answer))

    def test_refusal_of_a_question(self) -> None:
        """A request without a body is refused, reset and given up like any other, and leaves nothing behind."""
        pair = Pair(window_updates=False)
        for item in ("a", "b", "c", "d", "e"):
            ask(pair.sender, item)
        pair.carry()
        pair.answer(1, *rejection(400, "ChannelNotRegistered"))
        pair.receiver.reset(3, INTERNAL_ERROR)
        pair.receiver.reset(5, REFUSED)
        pair.answer(7)
        self.assertEqual(
            [(item, answer.reason) for item, answer in pair.ledger.rejected], [("a", "ChannelNotRegistered")]
        )
        self.assertEqual((pair.ledger.reset, pair.ledger.refused), ([("b", INTERNAL_ERROR)], ["c"]))
        self.assertEqual(pair.ledger.accepted, ["d"])
        self.assertEqual(left(pair.sender.cancel_through(9)), ([], ["e"]))
        pair.carry()
        self.assertEqual((len(pair.sender), pair.sender._asking), (0, set()))

    def test_informational(self) -> None:
        """An informational answer is not the answer."""
        sender, script = scripted("a")
        received = sender.receive(script.headers(1, [(b":status", b"103")]))
        self.assertEqual((received.accepted, received.rejected), ([], []))
        self.assertEqual([item for item, _ in sender.receive(script.headers(1, end=True)).accepted], ["a"])

    def test_refused(self) -> None:
        """REFUSED_STREAM says that the request was not processed."""
        pair = Pair()
        pair.send("a", "b")
        pair.receiver.reset(1, REFUSED)
        pair.answer(3)
        self.assertEqual((pair.ledger.refused, pair.ledger.accepted), (["a"], ["b"]))
        self.assertEqual(len(pair.sender), 0)

    def test_reset(self) -> None:
        """After any other RST_STREAM the outcome is unknown."""
        pair = Pair()
        pair.send("a")
        pair.receiver.reset(1, INTERNAL_ERROR)
        pair.carry()
        self.assertEqual(pair.ledger.reset, [("a", INTERNAL_ERROR)])
        self.assertEqual(len(pair.sender), 0)

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
        pair = Pair()
        pair.send("a", "b", "c", "d")
        pair.receiver.goaway(last_stream=3, debug=b'{"reason":"Shutdown"}')
        pair.carry()
        self.assertEqual(pair.ledger.goaway, GoAway(3, NO_ERROR, "Shutdown"))
        self.assertEqual(sorted(pair.ledger.refused), ["c", "d"])
        self.assertFalse(pair.sender.open)
        self.assertFalse(pair.sender.closed)
        self.assertEqual(pair.sender.room(), (0, 0))
        pair.answer(3)
        pair.answer(1)
        self.assertEqual(pair.ledger.accepted, ["b", "a"])
        self.assertTrue(pair.sender.closed)
        self.assertEqual(len(pair.sender), 0)

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
        pair = Pair()
        pair.send("a")
        pair.sender.goodbye()
        pair.sender.goodbye()
        pair.carry()
        self.assertFalse(pair.sender.open)
        pair.answer(1)
        self.assertEqual(pair.ledger.accepted, ["a"])
        self.assertTrue(pair.sender.closed)


class GivingUpTests(SynchronousTestCase):
    """Requests that are given up, on a connection that is open or dead."""

    def test_abandon(self) -> None:
        """On a dead connection, requests that left completely have an unknown outcome, and nothing is kept."""
        pair = Pair()
        pair.send("a", "b")
        pair.answer(1)
        self.assertEqual(left(pair.sender.abandon()), ([], ["b"]))
        self.assertEqual(len(pair.sender), 0)
        self.assertFalse(pair.sender.open)
        self.assertEqual(left(pair.sender.abandon()), ([], []))

    def test_abandon_a_body_stuck_in_the_window(self) -> None:
        """Requests that did not leave completely cannot have been processed."""
        sender, _ = scripted("a", "b", "c", body=b"x" * 30_000)
        self.assertEqual(left(sender.abandon()), (["c"], ["a", "b"]))

    def test_cancel(self) -> None:
        """Requests that are given up free their streams as soon as RST_STREAM is sent."""
        pair = Pair(10)
        pair.send("a", "b", "c")
        self.assertEqual(left(pair.sender.cancel_through(3)), ([], ["a", "b"]))
        pair.carry()
        self.assertEqual(pair.sender.room()[0], 9)
        pair.answer(1)
        pair.answer(5)
        self.assertEqual(pair.ledger.settled, ["c"])

    def test_cancel_a_body_stuck_in_the_window(self) -> None:
        """A request whose body is stuck was not processed, and its bytes leave the queue."""
        sender, _ = scripted("a", "b", "c", body=b"x" * 30_000)
        self.assertEqual(left(sender.cancel_through(5)), (["c"], ["a", "b"]))
        sender.data_to_send()
        sender.take()
        self.assertEqual(sender.room(), (sender_module.DEFAULT_CONCURRENCY, 0))

    def test_cancel_again(self) -> None:
        """Requests that were answered or given up are not given up again."""
        pair = Pair()
        pair.send("a", "b")
        pair.answer(1)
        self.assertEqual(left(pair.sender.cancel_through(3)), ([], ["b"]))
        self.assertEqual(left(pair.sender.cancel_through(3)), ([], []))
        self.assertEqual(left(pair.sender.abandon()), ([], []))

    def test_late_answer(self) -> None:
        """An answer that crosses our RST_STREAM is ignored."""
        sender, script = scripted("a")
        sender.cancel_through(1)
        sender.data_to_send()
        received = sender.receive(script.headers(1, end=True))
        self.assertEqual((received.accepted, received.rejected, received.reset), ([], [], []))
        self.assertEqual(len(sender), 0)


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
            pair = Pair()
            pair.send("a", "b")
            with contextlib.suppress(WireError):
                pair.sender.receive(written)
            pair.sender.ping()
            pair.sender.take()
            gone = pair.sender.cancel_through(1)
            pair.sender.goodbye()
            pair.sender.data_to_send()
            rest = pair.sender.abandon()
            self.assertEqual([*left(gone)[1], *left(rest)[1]], ["a", "b"])
            self.assertEqual((pair.sender.room(), pair.sender.open), ((0, 0), False))
