"""Tests of the feedback service's tuples."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.errors import InvalidNotification
from txapns.wire import feedback
from txapns.wire.feedback import FeedbackParser, FeedbackTuple, encode

TOKEN = bytes.fromhex("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
TIMESTAMP = 1700000000

ONE = bytes.fromhex("""
    65 53 f1 00 00 20 00 11 22 33 44 55 66 77 88 99
    aa bb cc dd ee ff 00 11 22 33 44 55 66 77 88 99
    aa bb cc dd ee ff
""")
TWO = bytes.fromhex("""
    65 53 f1 00 00 20 00 11 22 33 44 55 66 77 88 99
    aa bb cc dd ee ff 00 11 22 33 44 55 66 77 88 99
    aa bb cc dd ee ff 65 53 ff 10 00 20 ff ee dd cc
    bb aa 99 88 77 66 55 44 33 22 11 00 ff ee dd cc
    bb aa 99 88 77 66 55 44 33 22 11 00
""")

tuples = st.builds(FeedbackTuple, st.binary(max_size=100), st.integers(0, 0xFFFFFFFF))


def receive_all(parser: FeedbackParser, pieces: list[bytes]) -> list[FeedbackTuple]:
    """Pass the pieces to a parser one after the other; return all tuples."""
    return [each for piece in pieces for each in parser.receive(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Split data at the given places."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class EncodeTests(SynchronousTestCase):
    """The server's role."""

    def test_one(self) -> None:
        """A tuple is the time, the token's length and the token."""
        self.assertEqual(encode(TIMESTAMP, TOKEN), ONE)

    def test_two(self) -> None:
        """Tuples follow each other without anything between them."""
        self.assertEqual(encode(TIMESTAMP, TOKEN) + encode(TIMESTAMP + 3600, TOKEN[::-1]), TWO)

    def test_documentation(self) -> None:
        """The example in the module's docstring is correct."""
        rows = re.findall(r"^    ((?:[0-9a-f]{2} ?)+)(?:  .*)?$", feedback.__doc__ or "", re.MULTILINE)
        self.assertEqual(bytes.fromhex("".join(rows)), ONE)

    def test_too_large(self) -> None:
        """A time or a token that does not fit its field is refused, and the token is not shown."""
        self.assertRaises(InvalidNotification, encode, 2**32, TOKEN)
        self.assertRaises(InvalidNotification, encode, -1, TOKEN)
        error = self.assertRaises(InvalidNotification, encode, TIMESTAMP, bytes(0x10000))
        self.assertIn("a token of 65536 bytes", str(error))

    def test_all(self) -> None:
        """The public names are those without a leading underscore."""
        self.assertEqual(feedback.__all__, ["FeedbackParser", "FeedbackTuple", "encode"])


class FeedbackParserTests(SynchronousTestCase):
    """The provider's role."""

    def test_one(self) -> None:
        """One tuple is read, and nothing is left."""
        parser = FeedbackParser()
        self.assertEqual(parser.receive(ONE), [FeedbackTuple(TOKEN, TIMESTAMP)])
        self.assertEqual(parser.pending, 0)

    def test_two(self) -> None:
        """Two tuples in one read come in their order."""
        self.assertEqual(
            FeedbackParser().receive(TWO),
            [FeedbackTuple(TOKEN, TIMESTAMP), FeedbackTuple(TOKEN[::-1], TIMESTAMP + 3600)],
        )

    def test_empty(self) -> None:
        """An empty list is no bytes at all, and not an error."""
        parser = FeedbackParser()
        self.assertEqual(parser.receive(b""), [])
        self.assertEqual(parser.pending, 0)

    def test_cut_off(self) -> None:
        """The size of a truncated tuple is known, and the tuples before it count."""
        parser = FeedbackParser()
        self.assertEqual(parser.receive(TWO[:-1]), [FeedbackTuple(TOKEN, TIMESTAMP)])
        self.assertEqual(parser.pending, len(ONE) - 1)

    def test_longest(self) -> None:
        """A token may have the maximum length, in any number of reads."""
        parser = FeedbackParser()
        longest = encode(TIMESTAMP, bytes(0xFFFF))
        pieces = cut(longest, list(range(1000, len(longest), 1000)))
        self.assertEqual(receive_all(parser, pieces), [FeedbackTuple(bytes(0xFFFF), TIMESTAMP)])

    @given(st.lists(tuples), st.lists(st.integers(0, 500)))
    def test_any_split(self, sent: list[FeedbackTuple], places: list[int]) -> None:
        """A server's tuples are read the same however the stream is split."""
        parser = FeedbackParser()
        stream = b"".join(encode(each.timestamp, each.token) for each in sent)
        self.assertEqual(receive_all(parser, cut(stream, places)), sent)
        self.assertEqual(parser.pending, 0)

    @given(st.binary(), st.lists(st.integers(0, 500)))
    def test_garbage(self, stream: bytes, places: list[int]) -> None:
        """Any bytes are tuples and a rest, which together give the same bytes."""
        parser = FeedbackParser()
        received = receive_all(parser, cut(stream, places))
        encoded = b"".join(encode(each.timestamp, each.token) for each in received)
        self.assertEqual(encoded + stream[len(stream) - parser.pending :], stream)

    def test_repr(self) -> None:
        """A tuple does not show its whole token."""
        self.assertEqual(repr(FeedbackTuple(TOKEN, TIMESTAMP)), "FeedbackTuple(token=0011…eeff, timestamp=1700000000)")
