"""Tests for :mod:`txapns._serving.coding`."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.coding import BodyTooLong, Decoder, MalformedEncoding, UnknownEncoding, body_decoder

__all__ = ["ChoiceTests", "DecoderTests"]

MOST = 1_000


def raw(data: bytes) -> bytes:
    """Compress as some clients do for deflate: without the zlib header."""
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(data) + packing.flush()


def unpack(coding: bytes, *pieces: bytes, most: int = MOST) -> bytes:
    """Decompress a whole body."""
    decoder = body_decoder([coding], most)
    assert decoder is not None
    found = b"".join([decoder.feed(piece) for piece in pieces])
    decoder.finish()
    return found


class ChoiceTests(SynchronousTestCase):
    """The choice of the decoder."""

    def test_not(self) -> None:
        """A body need not be encoded."""
        for values in ([], [b""], [b"identity"], [b" Identity "], [b","]):
            self.assertIsNone(body_decoder(values, MOST))

    def test_known(self) -> None:
        """Capitals and the old name of gzip are accepted."""
        for value in (b"gzip", b"GZip", b" x-gzip ", b"deflate", b"gzip,"):
            self.assertIsInstance(body_decoder([value], MOST), Decoder)

    def test_unknown(self) -> None:
        """Another encoding is refused, and so are two at once."""
        for values in ([b"br"], [b"zstd"], [b"gzip, gzip"], [b"gzip", b"deflate"], [b"gzip;q=1"], [b"identity, gzip"]):
            self.assertRaises(UnknownEncoding, body_decoder, values, MOST)


class DecoderTests(SynchronousTestCase):
    """Decompression."""

    @given(st.binary(max_size=MOST), st.lists(st.integers(0, MOST), max_size=5), st.sampled_from([0, 1, 6]))
    def test_any_split(self, data: bytes, cuts: list[int], level: int) -> None:
        """A body is restored in each encoding, however it is split."""
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
        """A body may be exactly as long as the limit, and not one byte longer, in one member or in two."""
        for pack in gzip.compress, zlib.compress, raw:
            coding = b"gzip" if pack is gzip.compress else b"deflate"
            self.assertEqual(unpack(coding, pack(bytes(MOST))), bytes(MOST))
            self.assertRaises(BodyTooLong, unpack, coding, pack(bytes(MOST + 1)))
        self.assertRaises(BodyTooLong, unpack, b"gzip", gzip.compress(bytes(MOST)) + gzip.compress(b"1"))

    def test_bomb(self) -> None:
        """A decompression bomb costs no more memory than the limit."""
        bomb = gzip.compress(bytes(50_000_000))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertRaises(BodyTooLong, unpack, b"gzip", bomb, most=100_000)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

    def test_many_members(self) -> None:
        """The number of empty members is limited."""
        self.assertRaises(MalformedEncoding, unpack, b"gzip", gzip.compress(b"") * 101)

    def test_damaged(self) -> None:
        """Data that is truncated, corrupt or continues after its end is refused."""
        for coding, packed in ((b"gzip", gzip.compress(b"hello")), (b"deflate", zlib.compress(b"hello"))):
            for wrong in (packed[:-1], packed[:5], packed[:-1] + b"!", packed + b"!", b"hello", b"\0" * 20):
                self.assertRaises(MalformedEncoding, unpack, coding, wrong)

    def test_nothing(self) -> None:
        """An empty body is accepted in every encoding."""
        self.assertEqual(unpack(b"gzip"), b"")

    @given(st.binary(max_size=100), st.sampled_from([b"gzip", b"deflate"]))
    def test_anything(self, noise: bytes, coding: bytes) -> None:
        """Any data is decompressed or refused."""
        for data in (noise, gzip.compress(b"")[:10] + noise, zlib.compress(b"")[:2] + noise):
            try:
                unpack(coding, data)
            except (MalformedEncoding, BodyTooLong):
                continue
