"""Tests for :mod:`txapns.wire.requests.receiver`, as far as the sender's tests do not cover it."""

from __future__ import annotations

import contextlib

import ngh2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.requests.pair import (
    CANCEL,
    REFUSED,
    WINDOW,
    Pair,
    frame,
)
from txapns.errors import WireError
from txapns.wire.requests import FrameBudget, Headers, Request, RequestReceiver


class ReceiverTests(SynchronousTestCase):
    """The server's role, as far as the sender's tests do not cover it."""

    def test_answer_too_late(self) -> None:
        """Answering or dropping a stream that the client gave up, or that never existed, does nothing."""
        pair = Pair()
        pair.send("a")
        pair.sender.cancel_through(1)
        pair.carry()
        pair.answer(1)
        pair.answer(99)
        pair.receiver.reset(99, REFUSED)
        pair.carry()
        self.assertEqual(pair.ledger.settled, [])

    def test_after_the_end(self) -> None:
        """Nor does any other call, once the connection is over."""
        pair = Pair()
        pair.send("a")
        pair.receiver.receive(b"garbage" * 10)
        pair.carry()
        self.assertTrue(pair.receiver.closed)
        pair.receiver.acknowledge(1, 1)
        pair.receiver.limit(7)
        pair.receiver.goaway()
        pair.receiver.reset(1, REFUSED)
        pair.answer(1)
        self.assertEqual(pair.receiver.data_to_send(), b"")

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
        pair = Pair()
        pair.send("a", fields=((b"apns-topic", b"x"), (b"apns-topic", b"y")))
        self.assertEqual(pair.requests[0].headers[-2:], ((b"apns-topic", b"x"), (b"apns-topic", b"y")))

    def test_closed(self) -> None:
        """The connection is over when both sides have sent GOAWAY and nothing is under way."""
        pair = Pair()
        self.assertFalse(pair.receiver.closed)
        pair.receiver.goaway()
        pair.carry()
        self.assertTrue(pair.receiver.closed)


class ScreenTests(SynchronousTestCase):
    """Requests that are refused when only their header fields have come."""

    head = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"x"))

    def setUp(self) -> None:
        """Make a client whose requests are all refused, except for one."""
        self.client = ngh2.Connection(ngh2.Role.CLIENT)
        self.events: list[ngh2.Event] = []
        self.whole: list[Request] = []
        self.refused: list[int] = []
        self.receiver = RequestReceiver(10, max_body=100, window_updates=False)

    def screen(self, stream: int, headers: Headers) -> bool:
        """Refuse a request, unless its path is the accepted one."""
        if (b"good", b"1") in headers:
            return True
        self.refused.append(stream)
        self.receiver.refuse(stream, [(b":status", b"403")], b"no")
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
        self.assertEqual(self.refused, [bad, ended])
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

    def test_given_back(self) -> None:
        """What is given back may be used again, as far as that many may be used at once."""
        budget = FrameBudget()
        ping = frame(6, b"12345678")
        self.assertTrue(budget.spend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + ping * 10, 0.0, (10, 5), (10, 5)))
        budget.give_back(4)
        self.assertTrue(budget.spend(ping * 4, 0.0, (10, 5), (10, 5)))
        budget.give_back(100)
        self.assertFalse(budget.spend(ping * 11, 0.0, (10, 5), (10, 5)))
