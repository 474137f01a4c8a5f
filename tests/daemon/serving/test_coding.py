"""Tests for :mod:`txapns.daemon.serving.coding`."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.serving.coding import BodyTooLong, Decoder, MalformedEncoding, UnknownEncoding, body_decoder

__all__ = ["ChoiceTests", "DecoderTests"]

MOST = 1_000


def raw(data: bytes) -> bytes:
    """Compress as some do who say deflate: without the header of zlib."""
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(data) + packing.flush()


def unpack(coding: bytes, *pieces: bytes, most: int = MOST) -> bytes:
    """Take a whole body."""
    decoder = body_decoder([coding], most)
    assert decoder is not None
    found = b"".join([decoder.feed(piece) for piece in pieces])
    decoder.finish()
    return found


class ChoiceTests(SynchronousTestCase):
    """How a body is encoded."""

    def test_not(self) -> None:
        """It need not be."""
        for values in ([], [b""], [b"identity"], [b" Identity "], [b","]):
            self.assertIsNone(body_decoder(values, MOST))

    def test_known(self) -> None:
        """Capitals and the old name of gzip do not matter."""
        for value in (b"gzip", b"GZip", b" x-gzip ", b"deflate", b"gzip,"):
            self.assertIsInstance(body_decoder([value], MOST), Decoder)

    def test_unknown(self) -> None:
        """Another is not taken, nor are two at once."""
        for values in ([b"br"], [b"zstd"], [b"gzip, gzip"], [b"gzip", b"deflate"], [b"gzip;q=1"], [b"identity, gzip"]):
            self.assertRaises(UnknownEncoding, body_decoder, values, MOST)


class DecoderTests(SynchronousTestCase):
    """What is in a body."""

    @given(st.binary(max_size=MOST), st.lists(st.integers(0, MOST), max_size=5), st.sampled_from([0, 1, 6]))
    def test_any_split(self, data: bytes, cuts: list[int], level: int) -> None:
        """It comes out as it was, however it is split, and in each of the forms."""
        for coding, packed in (
            (b"gzip", gzip.compress(data, level)),
            (b"gzip", gzip.compress(data[:10], level) + gzip.compress(data[10:], level)),
            (b"deflate", zlib.compress(data, level)),
            (b"deflate", raw(data)),
        ):
            edges = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
            pieces = [packed[a:b] for a, b in pairwise(edges)]
            self.assertEqual(unpack(coding, *pieces), data)

    def test_most(self) -> None:
        """As much as is allowed may be in it, and not one octet more, be it in one member or in two."""
        for pack in gzip.compress, zlib.compress, raw:
            coding = b"gzip" if pack is gzip.compress else b"deflate"
            self.assertEqual(unpack(coding, pack(bytes(MOST))), bytes(MOST))
            self.assertRaises(BodyTooLong, unpack, coding, pack(bytes(MOST + 1)))
        self.assertRaises(BodyTooLong, unpack, b"gzip", gzip.compress(bytes(MOST)) + gzip.compress(b"1"))

    def test_bomb(self) -> None:
        """A bomb costs no more than what is allowed."""
        bomb = gzip.compress(bytes(50_000_000))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertRaises(BodyTooLong, unpack, b"gzip", bomb, most=100_000)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

    def test_many_members(self) -> None:
        """Nor do many members in which there is nothing."""
        self.assertRaises(MalformedEncoding, unpack, b"gzip", gzip.compress(b"") * 101)

    def test_damaged(self) -> None:
        """What is cut off, changed or goes on after its end is refused."""
        for coding, packed in ((b"gzip", gzip.compress(b"hello")), (b"deflate", zlib.compress(b"hello"))):
            for wrong in (packed[:-1], packed[:5], packed[:-1] + b"!", packed + b"!", b"hello", b"\0" * 20):
                self.assertRaises(MalformedEncoding, unpack, coding, wrong)

    def test_nothing(self) -> None:
        """Nothing at all is nothing, whatever it is said to be."""
        self.assertEqual(unpack(b"gzip"), b"")

    @given(st.binary(max_size=100), st.sampled_from([b"gzip", b"deflate"]))
    def test_anything(self, noise: bytes, coding: bytes) -> None:
        """Whatever comes is taken or refused."""
        for data in (noise, gzip.compress(b"")[:10] + noise, zlib.compress(b"")[:2] + noise):
            try:
                unpack(coding, data)
            except (MalformedEncoding, BodyTooLong):
                continue
