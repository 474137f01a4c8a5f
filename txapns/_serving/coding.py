"""
Compressed bodies of requests (RFC 9110, section 8.4).

A kilobyte of gzip can expand to a megabyte, so the size is limited after decompression, however much goes in.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

__all__ = ["ACCEPTED", "BodyTooLong", "Decoder", "MalformedEncoding", "UnknownEncoding", "body_decoder"]

#: The encodings that are supported, as a value of ``Accept-Encoding``.
ACCEPTED = b"gzip, deflate"

_MEMBERS = 100  # members of a gzip body: even an empty one takes time

_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class UnknownEncoding(Exception):
    """The encoding of a body is not supported."""


class MalformedEncoding(Exception):
    """A body does not have the encoding that it claims."""


class BodyTooLong(Exception):
    """A body is too long after decompression."""


class Decoder:
    """
    Decompresses one body.

    :param gzip: whether it is gzip; otherwise it is deflate, with the zlib header or, as some clients send it, without.
    :param most: the largest size after decompression, in bytes.
    """

    def __init__(self, *, gzip: bool, most: int) -> None:
        self._gzip = gzip
        self._left = most
        self._members = 0
        self._decompress: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """
        Decompress a piece of the body.

        :param data: the bytes, split anywhere.
        :returns: the decompressed bytes.
        :raises MalformedEncoding: the body does not have the encoding that it claims.
        :raises BodyTooLong: the body is too long after decompression.
        """
        found = b""
        while data:
            decompress = self._current(data)
            try:
                piece = decompress.decompress(data, self._left + 1)
            except zlib.error:
                raise MalformedEncoding("the body is not encoded as its Content-Encoding says") from None
            if len(piece) > self._left:
                raise BodyTooLong
            self._left -= len(piece)
            found += piece
            data = decompress.unused_data
        return found

    def whole(self, data: bytes) -> bytes:
        """Decompress the whole body at once; see :meth:`feed`."""
        found = self.feed(data)
        self.finish()
        return found

    def _current(self, data: bytes) -> zlib._Decompress:
        """Go on, or begin the next member: gzip may have several (RFC 1952, section 2.2)."""
        if self._decompress is None or (self._decompress.eof and self._gzip and self._members < _MEMBERS):
            self._members += 1
            self._decompress = zlib.decompressobj(_GZIP if self._gzip else _RAW if data[0] & 0x0F != 8 else _ZLIB)
        elif self._decompress.eof:
            raise MalformedEncoding("the body continues after the end of the encoded data")
        return self._decompress

    def finish(self) -> None:
        """Note the end of the body; raises :exc:`MalformedEncoding` if it is not complete."""
        if self._decompress is not None and not self._decompress.eof:
            raise MalformedEncoding("the body ends before the encoded data does")


def body_decoder(values: Sequence[bytes], most: int) -> Decoder | None:
    """Choose the decoder for a body by its ``Content-Encoding`` header fields; ``None`` if it is not encoded."""
    codings = [coding for each in b",".join(values).split(b",") if (coding := each.strip().lower())]
    if not codings or codings == [b"identity"]:
        return None
    if len(codings) > 1 or codings[0] not in (b"gzip", b"x-gzip", b"deflate"):
        raise UnknownEncoding
    return Decoder(gzip=codings[0] != b"deflate", most=most)
