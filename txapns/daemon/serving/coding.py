"""
The bodies of requests as they were before they were compressed (RFC 9110, section 8.4).

A kilobyte of gzip can hold a megabyte of nothing, so no more comes out than is allowed, however much goes in.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

__all__ = ["ACCEPTED", "Decoder", "Malformed", "TooLong", "Unknown", "decoder_of"]

#: What is taken, as the header field ``Accept-Encoding`` has it.
ACCEPTED = b"gzip, deflate"

_MEMBERS = 100  # parts of a body in gzip: each takes time, even one in which there is nothing

_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Unknown(Exception):
    """A body is encoded in a way that is not known."""


class Malformed(Exception):
    """A body is not what it is said to be."""


class TooLong(Exception):
    """There is more in a body than is allowed."""


class Decoder:
    """
    Unpacks one body.

    :param gzip: whether it is gzip; otherwise it is deflate, with the header of zlib or, as some send it, without.
    :param most: how many octets may come out.
    """

    def __init__(self, *, gzip: bool, most: int) -> None:
        self._gzip = gzip
        self._left = most
        self._members = 0
        self._unpacking: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """
        Take a piece of the body.

        :param data: the octets, split anywhere.
        :returns: what is in it.
        :raises Malformed: it is not what it was said to be.
        :raises TooLong: there is more in it than is allowed.
        """
        found = b""
        while data:
            unpacking = self._begun(data)
            try:
                piece = unpacking.decompress(data, self._left + 1)
            except zlib.error:
                raise Malformed("the body is not encoded as its Content-Encoding says") from None
            if len(piece) > self._left:
                raise TooLong
            self._left -= len(piece)
            found += piece
            data = unpacking.unused_data
        return found

    def whole(self, data: bytes) -> bytes:
        """
        Take all of the body at once.

        :param data: the octets.
        :returns: what is in it.
        :raises Malformed: it is not what it was said to be.
        :raises TooLong: there is more in it than is allowed.
        """
        found = self.feed(data)
        self.finish()
        return found

    def _begun(self, data: bytes) -> zlib._Decompress:
        """Go on where it was, or with the next member: there may be several in gzip (RFC 1952, section 2.2)."""
        if self._unpacking is None or (self._unpacking.eof and self._gzip and self._members < _MEMBERS):
            self._members += 1
            self._unpacking = zlib.decompressobj(_GZIP if self._gzip else _RAW if data[0] & 0x0F != 8 else _ZLIB)
        elif self._unpacking.eof:
            raise Malformed("the body goes on after the end of the encoded data")
        return self._unpacking

    def finish(self) -> None:
        """
        Say that this was all.

        :raises Malformed: there should be more.
        """
        if self._unpacking is not None and not self._unpacking.eof:
            raise Malformed("the body ends before the encoded data does")


def decoder_of(values: Sequence[bytes], most: int) -> Decoder | None:
    """
    Find what unpacks a body.

    :param values: the request's header fields ``Content-Encoding``.
    :param most: how many octets may come out.
    :returns: ``None`` where it is not encoded.
    :raises Unknown: it is encoded otherwise, or more than once.
    """
    codings = [coding for each in b",".join(values).split(b",") if (coding := each.strip().lower())]
    if not codings or codings == [b"identity"]:
        return None
    if len(codings) > 1 or codings[0] not in (b"gzip", b"x-gzip", b"deflate"):
        raise Unknown
    return Decoder(gzip=codings[0] != b"deflate", most=most)
