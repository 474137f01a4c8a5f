"""Tests of the binary protocol's frames: commands 0, 1 and 2, the barrier and the error packet."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.errors import InvalidNotification, WireError
from txapns.wire import frames
from txapns.wire.frames import (
    BARRIER_PAYLOAD,
    ERROR_LENGTH,
    ErrorPacket,
    ErrorParser,
    MalformedFrame,
    NotificationParser,
    ReceivedNotification,
    encode_barrier,
    encode_enhanced,
    encode_error,
    encode_framed,
    encode_simple,
    frame_encoder,
)

TOKEN = bytes.fromhex("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
PAYLOAD = b'{"aps":{"alert":"Hi"}}'
IDENTIFIER = 1
EXPIRATION = 1700000000

SIMPLE = bytes.fromhex("""
    00 00 20 00 11 22 33 44 55 66 77 88 99 aa bb cc
    dd ee ff 00 11 22 33 44 55 66 77 88 99 aa bb cc
    dd ee ff 00 16 7b 22 61 70 73 22 3a 7b 22 61 6c
    65 72 74 22 3a 22 48 69 22 7d 7d
""")
ENHANCED = bytes.fromhex("""
    01 00 00 00 01 65 53 f1 00 00 20 00 11 22 33 44
    55 66 77 88 99 aa bb cc dd ee ff 00 11 22 33 44
    55 66 77 88 99 aa bb cc dd ee ff 00 16 7b 22 61
    70 73 22 3a 7b 22 61 6c 65 72 74 22 3a 22 48 69
    22 7d 7d
""")
FRAMED = bytes.fromhex("""
    02 00 00 00 4e 01 00 20 00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff 00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff 02 00 16 7b 22 61 70 73
    22 3a 7b 22 61 6c 65 72 74 22 3a 22 48 69 22 7d
    7d 03 00 04 00 00 00 01 04 00 04 65 53 f1 00 05
    00 01 0a
""")
FRAMED_IDENTIFIER_FIRST = bytes.fromhex("""
    02 00 00 00 4e 03 00 04 00 00 00 01 01 00 20 00
    11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 00
    11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 02
    00 16 7b 22 61 70 73 22 3a 7b 22 61 6c 65 72 74
    22 3a 22 48 69 22 7d 7d 04 00 04 65 53 f1 00 05
    00 01 05
""")
FRAMED_MINIMAL = bytes.fromhex("""
    02 00 00 00 3c 01 00 20 00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff 00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff 02 00 16 7b 22 61 70 73
    22 3a 7b 22 61 6c 65 72 74 22 3a 22 48 69 22 7d
    7d
""")
BARRIER = bytes.fromhex("""
    02 00 00 00 0f 03 00 04 ff ff ff fe 01 00 00 02
    00 02 7b 7d
""")

TOKEN_ITEM = bytes.fromhex("01 00 20") + TOKEN
PAYLOAD_ITEM = bytes.fromhex("02 00 16") + PAYLOAD
IDENTIFIER_ITEM = bytes.fromhex("03 00 04 00 00 00 01")
EXPIRATION_ITEM = bytes.fromhex("04 00 04 65 53 f1 00")
PRIORITY_ITEM = bytes.fromhex("05 00 01 0a")

ERRORS = {
    "08 08 00 00 00 01": (8, 1),
    "08 07 de ad be ef": (7, 0xDEADBEEF),
    "08 0a 00 00 00 29": (10, 41),
    "08 80 00 00 00 00": (128, 0),
    "08 ff 00 00 00 00": (255, 0),
}

numbers = st.integers(0, 0xFFFFFFFF)
byte_values = st.integers(0, 0xFF)
field = st.binary(max_size=100)
messages = st.one_of(
    st.builds(encode_simple, field, field),
    st.builds(encode_enhanced, numbers, numbers, field, field),
    st.builds(encode_framed, numbers, field, field, st.none() | numbers, st.none() | byte_values),
    st.builds(encode_barrier, numbers),
)
streams = st.lists(messages, max_size=5).map(b"".join)


@st.composite
def damaged_streams(draw: st.DrawFn) -> bytes:
    """Streams of messages with up to three bytes overwritten and the end cut off."""
    stream = bytearray(draw(streams))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 500), byte_values), max_size=3)):
        if place < len(stream):
            stream[place] = value
    return bytes(stream[: draw(st.integers(0, 1000))])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Split data at the given places."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


places = st.lists(st.integers(0, 300), max_size=10)


def feed(pieces: list[bytes], max_frame: int = 65_536) -> tuple[list[ReceivedNotification], tuple[str, int] | None]:
    """Pass the pieces to a new parser; return all notifications and the fault's message and identifier."""
    parser = NotificationParser(max_frame)
    received: list[ReceivedNotification] = []
    fault = None
    for piece in pieces:
        try:
            received += parser.receive(piece)
        except MalformedFrame as error:
            received += error.received
            fault = str(error), error.identifier
    return received, fault


def frame(*items: bytes) -> bytes:
    """Build a message of command 2 from items."""
    data = b"".join(items)
    return b"\x02" + len(data).to_bytes(4, "big") + data


def examples() -> list[bytes]:
    """Read the hexadecimal examples out of the module's docstring."""
    blocks = re.findall(r"::\n\n((?:    .*\n)+)", frames.__doc__ or "")
    rows = re.compile(r"^    ((?:[0-9a-f]{2} ?)+)(?:  .*)?$", re.MULTILINE)
    return [bytes.fromhex("".join(rows.findall(block))) for block in blocks]


class DocumentationTests(SynchronousTestCase):
    """The examples in the module's docstring."""

    def test_examples(self) -> None:
        """Each example in the docstring is the encoding of its values."""
        self.assertEqual(
            examples(),
            [
                encode_simple(TOKEN, PAYLOAD),
                encode_enhanced(IDENTIFIER, EXPIRATION, TOKEN, PAYLOAD),
                encode_framed(IDENTIFIER, TOKEN, PAYLOAD, EXPIRATION, 10),
                encode_error(8, IDENTIFIER),
                encode_barrier(0xFFFFFFFE),
            ],
        )

    def test_all(self) -> None:
        """The public names are those without a leading underscore."""
        own = {name for name, value in vars(frames).items() if getattr(value, "__module__", None) == frames.__name__}
        public = {name for name in own if not name.startswith("_")} | {"BARRIER_PAYLOAD", "ERROR_LENGTH"}
        self.assertEqual(sorted(public), sorted(frames.__all__))


class EncodeTests(SynchronousTestCase):
    """Values to bytes."""

    def test_simple(self) -> None:
        """Command 0 carries token and payload, each after its length."""
        self.assertEqual(encode_simple(TOKEN, PAYLOAD), SIMPLE)

    def test_enhanced(self) -> None:
        """Command 1 has identifier and expiration before them."""
        self.assertEqual(encode_enhanced(IDENTIFIER, EXPIRATION, TOKEN, PAYLOAD), ENHANCED)

    def test_framed(self) -> None:
        """Command 2 carries the identifier first, then the other items in the order of their numbers."""
        self.assertEqual(encode_framed(IDENTIFIER, TOKEN, PAYLOAD, EXPIRATION, 5), FRAMED_IDENTIFIER_FIRST)

    def test_frame_encoder(self) -> None:
        """A notification that is prepared once is encoded for each device as if separately."""
        encode = frame_encoder(PAYLOAD, EXPIRATION, 10)
        for identifier, token in ((1, TOKEN), (2**32 - 1, bytes(100)), (0, b"")):
            self.assertEqual(encode(identifier, token), encode_framed(identifier, token, PAYLOAD, EXPIRATION, 10))

    def test_framed_left_out(self) -> None:
        """Expiration and priority are each left out if they are ``None``."""
        items = IDENTIFIER_ITEM, TOKEN_ITEM, PAYLOAD_ITEM
        for expiration in (None, EXPIRATION):
            for priority in (None, 10):
                self.assertEqual(
                    encode_framed(IDENTIFIER, TOKEN, PAYLOAD, expiration, priority),
                    frame(*items, EXPIRATION_ITEM if expiration else b"", PRIORITY_ITEM if priority else b""),
                )

    def test_framed_zero(self) -> None:
        """Expiration 0, which means try once, is written, since it differs from none."""
        self.assertIn(bytes.fromhex("04 00 04 00 00 00 00"), encode_framed(1, TOKEN, PAYLOAD, 0, None))

    def test_barrier(self) -> None:
        """A barrier has its identifier first, then the empty token that makes it invalid."""
        self.assertEqual(encode_barrier(0xFFFFFFFE), BARRIER)
        self.assertTrue(BARRIER.endswith(BARRIER_PAYLOAD))

    def test_barrier_of_older_commands(self) -> None:
        """A barrier after command 1 uses command 1, and so does one after command 0, which has no identifier."""
        for command in (0, 1):
            barrier = encode_barrier(IDENTIFIER, command)
            self.assertEqual(barrier.hex(" "), "01 00 00 00 01 00 00 00 00 00 00 00 02 7b 7d")

    def test_error(self) -> None:
        """An error packet is six bytes: command 8, status, identifier."""
        for text, (status, identifier) in ERRORS.items():
            self.assertEqual(encode_error(status, identifier), bytes.fromhex(text))
            self.assertEqual(len(encode_error(status, identifier)), ERROR_LENGTH)

    def test_sizes(self) -> None:
        """The largest legal messages have the sizes that follow from Apple's limits."""
        for size, lengths in ((256, (293, 301, 317)), (2048, (2085, 2093, 2109))):
            payload = bytes(size)
            encoded = (
                encode_simple(TOKEN, payload),
                encode_enhanced(1, EXPIRATION, TOKEN, payload),
                encode_framed(1, TOKEN, payload, EXPIRATION, 10),
            )
            self.assertEqual(tuple(map(len, encoded)), lengths)

    def test_lengths_at_the_limit(self) -> None:
        """Tokens and payloads of 65,535 bytes fit their fields."""
        longest = bytes(0xFFFF)
        self.assertEqual(len(encode_simple(longest, longest)), 5 + 2 * 0xFFFF)
        self.assertEqual(len(encode_framed(1, longest, longest, None, None)), 5 + 6 + 7 + 2 * 0xFFFF)

    def test_too_large(self) -> None:
        """For a value that does not fit, the message has the name of its field, and no other."""
        long = bytes(0x10000)
        large = 2**32
        for name, call in (
            ("token length", lambda: encode_simple(long, PAYLOAD)),
            ("payload length", lambda: encode_simple(TOKEN, long)),
            ("token length", lambda: encode_enhanced(1, EXPIRATION, long, PAYLOAD)),
            ("payload length", lambda: encode_enhanced(1, EXPIRATION, TOKEN, long)),
            ("identifier", lambda: encode_enhanced(large, EXPIRATION, TOKEN, PAYLOAD)),
            ("expiration", lambda: encode_enhanced(1, large, TOKEN, PAYLOAD)),
            ("expiration", lambda: encode_enhanced(1, -1, TOKEN, PAYLOAD)),
            ("token length", lambda: encode_framed(1, long, PAYLOAD, EXPIRATION, 10)),
            ("payload length", lambda: encode_framed(1, TOKEN, long, None, None)),
            ("identifier", lambda: encode_framed(-1, TOKEN, PAYLOAD, EXPIRATION, 10)),
            ("expiration", lambda: encode_framed(1, TOKEN, PAYLOAD, large, 10)),
            ("priority", lambda: encode_framed(1, TOKEN, PAYLOAD, None, 256)),
            ("identifier", lambda: encode_barrier(large)),
            ("status", lambda: encode_error(256, 1)),
            ("identifier", lambda: encode_error(8, large)),
        ):
            error = self.assertRaises(InvalidNotification, call)
            self.assertTrue(str(error).startswith(f"{name} must be an integer from 0 to "), str(error))

    def test_not_an_integer(self) -> None:
        """A fraction of a second is refused like a value that is too large."""
        error = self.assertRaises(InvalidNotification, encode_framed, 1, TOKEN, PAYLOAD, 0.5, None)
        self.assertEqual(str(error), "expiration must be an integer from 0 to 4294967295, not 0.5")


class ErrorParserTests(SynchronousTestCase):
    """The client's side of the stream."""

    def test_examples(self) -> None:
        """Any status and identifier are read."""
        for text, (status, identifier) in ERRORS.items():
            self.assertEqual(ErrorParser().receive(bytes.fromhex(text)), ErrorPacket(status, identifier))

    def test_byte_by_byte(self) -> None:
        """The packet comes with its last byte; until then the parser has its pending size."""
        parser = ErrorParser()
        for count, byte in enumerate(bytes.fromhex("08 07 de ad be"), 1):
            self.assertIsNone(parser.receive(bytes([byte])))
            self.assertEqual(parser.pending, count)
        self.assertEqual(parser.receive(b"\xef"), ErrorPacket(7, 0xDEADBEEF))
        self.assertEqual(parser.pending, 0)

    def test_only_one(self) -> None:
        """Bytes after the packet are ignored, in the same read and in later ones."""
        parser = ErrorParser()
        packet = encode_error(8, 1)
        self.assertEqual(parser.receive(packet + packet), ErrorPacket(8, 1))
        self.assertIsNone(parser.receive(packet))
        self.assertEqual(parser.pending, 0)

    def test_another_protocol(self) -> None:
        """A first byte other than 8 is a fault at once, and the rest is ignored."""
        parser = ErrorParser()
        error = self.assertRaises(WireError, parser.receive, b"H")
        self.assertIn("0x48", str(error))
        self.assertIsNone(parser.receive(encode_error(8, 1)))
        self.assertEqual(parser.pending, 0)

    @given(byte_values, numbers, st.binary(max_size=20), places)
    def test_any_split(self, status: int, identifier: int, rest: bytes, where: list[int]) -> None:
        """A packet is read the same however it is split, with anything after it."""
        parser = ErrorParser()
        events = [parser.receive(piece) for piece in cut(encode_error(status, identifier) + rest, where)]
        self.assertEqual([event for event in events if event], [ErrorPacket(status, identifier)])

    @given(st.lists(st.binary(max_size=10)))
    def test_garbage(self, pieces: list[bytes]) -> None:
        """For any bytes, the parser raises only its documented fault, and holds less than a packet."""
        parser = ErrorParser()
        for piece in pieces:
            try:
                parser.receive(piece)
            except WireError:
                self.assertFalse(b"".join(pieces).startswith(b"\x08"))
            self.assertLess(parser.pending, ERROR_LENGTH)


class NotificationParserTests(SynchronousTestCase):
    """The server's side of the stream."""

    def assertFault(self, data: bytes, message: str, identifier: int = 0) -> None:
        """Check that the data is refused with this message and attributed to this identifier."""
        error = self.assertRaises(MalformedFrame, NotificationParser().receive, data)
        self.assertEqual((str(error), error.status, error.identifier), (message, 128, identifier))

    def test_examples(self) -> None:
        """All three commands are read from one stream, with all their fields."""
        stream = SIMPLE + ENHANCED + FRAMED + FRAMED_IDENTIFIER_FIRST + FRAMED_MINIMAL + BARRIER
        self.assertEqual(
            NotificationParser().receive(stream),
            [
                ReceivedNotification(0, TOKEN, PAYLOAD, None, None, None),
                ReceivedNotification(1, TOKEN, PAYLOAD, 1, EXPIRATION, None),
                ReceivedNotification(2, TOKEN, PAYLOAD, 1, EXPIRATION, 10),
                ReceivedNotification(2, TOKEN, PAYLOAD, 1, EXPIRATION, 5),
                ReceivedNotification(2, TOKEN, PAYLOAD, None, None, None),
                ReceivedNotification(2, b"", b"{}", 0xFFFFFFFE, None, None),
            ],
        )

    def test_pending(self) -> None:
        """The size of an incomplete notification is known."""
        parser = NotificationParser()
        for data, pending in ((b"", 0), (FRAMED[:9], 9), (FRAMED[9:], 0), (FRAMED + SIMPLE[:1], 1)):
            parser.receive(data)
            self.assertEqual(parser.pending, pending)

    @given(st.permutations([TOKEN_ITEM, PAYLOAD_ITEM, IDENTIFIER_ITEM, EXPIRATION_ITEM, PRIORITY_ITEM]))
    def test_any_order(self, items: list[bytes]) -> None:
        """The items of a frame may come in any order."""
        self.assertEqual(
            NotificationParser().receive(frame(*items)),
            [ReceivedNotification(2, TOKEN, PAYLOAD, IDENTIFIER, EXPIRATION, 10)],
        )

    def test_missing_items(self) -> None:
        """A missing token or payload is empty, since rejecting it is up to the server."""
        self.assertEqual(
            NotificationParser().receive(frame(IDENTIFIER_ITEM)),
            [ReceivedNotification(2, b"", b"", IDENTIFIER, None, None)],
        )

    def test_byte_by_byte(self) -> None:
        """A notification comes with its last byte."""
        for message in (SIMPLE, ENHANCED, FRAMED):
            parser = NotificationParser()
            for byte in message[:-1]:
                self.assertEqual(parser.receive(bytes([byte])), [])
            self.assertEqual(len(parser.receive(message[-1:])), 1)

    def test_unknown_command(self) -> None:
        """A command other than 0, 1 and 2 is a fault."""
        for command in (3, 8, 255):
            self.assertFault(bytes([command]), f"unknown command {command}")

    def test_empty_frame(self) -> None:
        """An empty frame is a fault."""
        self.assertFault(frame(), "an empty frame")

    def test_unknown_item(self) -> None:
        """An item of unknown number is a fault, attributed if the identifier was read before it."""
        self.assertFault(frame(b"\x06\x00\x00", IDENTIFIER_ITEM), "unknown item 6")
        self.assertFault(frame(IDENTIFIER_ITEM, b"\x00\x00\x00"), "unknown item 0", IDENTIFIER)

    def test_duplicate_item(self) -> None:
        """An item that comes twice is a fault; of two identifiers the first one counts."""
        self.assertFault(frame(TOKEN_ITEM, TOKEN_ITEM), "item 1 twice in one frame")
        self.assertFault(
            frame(IDENTIFIER_ITEM, bytes.fromhex("03 00 04 00 00 00 02")), "item 3 twice in one frame", IDENTIFIER
        )

    def test_wrong_length(self) -> None:
        """Identifier and expiration have four bytes and priority one, or else it is a fault."""
        self.assertFault(frame(b"\x03\x00\x03abc"), "item 3 has 3 bytes instead of 4")
        self.assertFault(frame(b"\x04\x00\x05abcde"), "item 4 has 5 bytes instead of 4")
        self.assertFault(frame(IDENTIFIER_ITEM, b"\x05\x00\x00"), "item 5 has 0 bytes instead of 1", IDENTIFIER)

    def test_item_past_the_end(self) -> None:
        """An item that is longer than what is left of its frame is a fault, even if more bytes follow the frame."""
        self.assertFault(frame(TOKEN_ITEM[:-1]) + SIMPLE, "item 1 runs past the end of its frame")
        self.assertFault(frame(IDENTIFIER_ITEM, PAYLOAD_ITEM[:-1]), "item 2 runs past the end of its frame", IDENTIFIER)

    def test_trailing_bytes(self) -> None:
        """One or two bytes at the end of a frame, too few for an item, are a fault."""
        for trailing in (b"\x01", b"\x01\x00"):
            self.assertFault(
                frame(IDENTIFIER_ITEM, trailing), "a frame that ends inside the head of an item", IDENTIFIER
            )

    def test_received_before_the_fault(self) -> None:
        """The notifications completed before a fault come with it."""
        error = self.assertRaises(MalformedFrame, NotificationParser().receive, SIMPLE + ENHANCED + b"\xff")
        self.assertEqual([notification.command for notification in error.received], [0, 1])

    def test_nothing_after_the_fault(self) -> None:
        """After a fault all bytes are ignored, as in the protocol."""
        parser = NotificationParser()
        self.assertRaises(MalformedFrame, parser.receive, b"\xff" + SIMPLE)
        self.assertEqual(parser.receive(SIMPLE), [])

    def test_bound(self) -> None:
        """A message may be as long as the bound; a longer one is a fault as soon as it is announced."""
        message = "a message of 11 bytes, where at most 10 are allowed"
        for allowed, refused, identifier in (
            (encode_simple(b"token", b"12345"), bytes.fromhex("00 00 0b"), 0),
            (encode_simple(b"token", b"12345"), encode_simple(b"token", b"123456")[:-6], 0),
            (encode_enhanced(7, 0, b"token", b"12345"), encode_enhanced(7, 0, b"token", b"123456")[:-6], 7),
            (frame(b"\x01\x00\x07payload"), bytes.fromhex("02 00 00 00 0b"), 0),
        ):
            self.assertEqual(len(NotificationParser(max_frame=10).receive(allowed)), 1)
            self.assertEqual(feed([refused[:-1]], max_frame=10), ([], None))
            self.assertEqual(feed([refused], max_frame=10), ([], (message, identifier)))

    def test_default_bound(self) -> None:
        """Without an argument a frame of 64 KiB is the largest."""
        self.assertEqual(feed([bytes.fromhex("02 00 01 00 00")]), ([], None))
        self.assertIsNotNone(feed([bytes.fromhex("02 00 01 00 01")])[1])

    @given(numbers, field, field, st.none() | numbers, st.none() | byte_values)
    def test_framed_round_trip(
        self, identifier: int, token: bytes, payload: bytes, expiration: int | None, priority: int | None
    ) -> None:
        """Everything that command 2 carries is read as it was written."""
        self.assertEqual(
            NotificationParser().receive(encode_framed(identifier, token, payload, expiration, priority)),
            [ReceivedNotification(2, token, payload, identifier, expiration, priority)],
        )

    @given(numbers, numbers, field, field)
    def test_other_round_trips(self, identifier: int, expiration: int, token: bytes, payload: bytes) -> None:
        """Everything that commands 1 and 0 carry is read as it was written."""
        stream = encode_enhanced(identifier, expiration, token, payload) + encode_simple(token, payload)
        self.assertEqual(
            NotificationParser().receive(stream),
            [
                ReceivedNotification(1, token, payload, identifier, expiration, None),
                ReceivedNotification(0, token, payload, None, None, None),
            ],
        )

    @given(st.one_of(streams, damaged_streams(), st.binary(max_size=50)), places)
    def test_any_split(self, stream: bytes, where: list[int]) -> None:
        """A stream, damaged or not, gives the same notifications and fault however it is split."""
        self.assertEqual(feed(cut(stream, where)), feed([stream]))

    @given(st.one_of(damaged_streams(), st.binary()), st.integers(0, 100))
    def test_garbage(self, stream: bytes, max_frame: int) -> None:
        """For any bytes, the parser raises only its documented fault."""
        received, _ = feed([stream], max_frame)
        for notification in received:
            self.assertIn(notification.command, (0, 1, 2))

    def test_repr(self) -> None:
        """A notification shows neither its whole token nor its payload, which may be secret."""
        text = repr(ReceivedNotification(0, TOKEN, PAYLOAD, None, None, None))
        self.assertIn("token=0011…eeff, payload=<22 bytes>", text)
        self.assertNotIn("Hi", text)
