"""
Requests of HTTP/1.1 as bytes (RFC 9112): their heads, and how long their bodies are. No I/O.

::

    POST /v1/apps/chess/notifications HTTP/1.1␍␊
    Host: localhost␍␊
    Content-Length: 5␍␊
    ␍␊
    hello

With ``Transfer-Encoding: chunked``, the body is ``5␍␊hello␍␊0␍␊␍␊`` instead: chunks with their sizes in hexadecimal,
the last of which is empty, and after it header fields, if any, which are ignored.

What two servers could read differently is refused, since a proxy may pass it on: a length that is given twice or in two
ways, spaces around a name, lines that end with ␊ alone, and header fields that are continued on the next line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import attrs

from txapns._serving.target import BadHead

__all__ = ["BadBody", "Body", "ChunkedBody", "Head", "SizedBody"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) (HTTP/1\.[01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,100}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELDS = 100  # header fields in a request
_LONGEST = 1_024  # bytes of the line with the size of a chunk
_TRAILERS = 16_384  # bytes of the header fields after a chunked body


class BadBody(Exception):
    """The body of a request is malformed."""


class Body(Protocol):
    """
    Reads the body of one request.

    :ivar complete: whether all of it has been read.
    """

    @property
    def complete(self) -> bool: ...

    def read(self, data: bytes, keep: Callable[[bytes], None]) -> bytes:
        """
        Read what has arrived.

        :param keep: called with each piece of the body.
        :returns: what is left: the beginning of what cannot be read yet, or what follows the body.
        :raises BadBody: the body is malformed.
        """


@attrs.define
class Head:
    """
    The head of a request.

    :ivar fields: the values of the header fields, in order, by their names in lower case.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: dict[bytes, list[bytes]]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """Read a head, without the empty line at its end; raises :exc:`BadHead` if it is malformed."""
        first, *lines = data.split(b"\r\n")
        line = _LINE.fullmatch(first)
        if line is None:
            raise BadHead("the request does not begin with a line of HTTP/1.1")
        if len(lines) > _FIELDS:
            raise BadHead(f"the request has more than {_FIELDS} header fields")
        fields: dict[bytes, list[bytes]] = {}
        for each in lines:
            field = _FIELD.fullmatch(each)
            if field is None:
                raise BadHead("a header field of the request is malformed")
            name, value = field.groups()
            fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
        method, target, version = line.groups()
        return cls(method, target, version, fields)

    @property
    def persistent(self) -> bool:
        """Whether the connection can be used for another request."""
        if self.version == b"HTTP/1.0":
            return False
        values = b",".join(self.fields.get(b"connection", ())).lower()
        return b"close" not in [each.strip(b" \t") for each in values.split(b",")]

    @property
    def expects(self) -> bool:
        """Whether the body is sent only after status 100."""
        expected = self.fields.get(b"expect")
        return expected is not None and expected[0].lower() == b"100-continue" and self.version != b"HTTP/1.0"

    def length(self) -> int | None:
        """Find the length of the body, ``None`` if it is chunked; raises :exc:`BadHead` if it is not clear."""
        lengths, codings = self.fields.get(b"content-length"), self.fields.get(b"transfer-encoding")
        if codings is not None:
            if lengths or self.version == b"HTTP/1.0" or [each.lower() for each in codings] != [b"chunked"]:
                raise BadHead("the only Transfer-Encoding accepted is chunked, in HTTP/1.1, without a Content-Length")
            return None
        if lengths is None:
            return 0
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise BadHead("the Content-Length must be one whole number")
        return int(lengths[0])


class SizedBody:
    """A body whose length is known; see :class:`Body`."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def complete(self) -> bool:
        """See :class:`Body`."""
        return not self._left

    def read(self, data: bytes, keep: Callable[[bytes], None]) -> bytes:
        """See :class:`Body`."""
        piece = data[: self._left]
        self._left -= len(piece)
        if piece:
            keep(piece)
        return data[len(piece) :]


class ChunkedBody:
    """A body that comes in chunks; see :class:`Body`."""

    def __init__(self) -> None:
        self.complete = False
        self._next = ChunkedBody._size  # not bound, which would be a cycle of references
        self._left = 0
        self._trailers = 0

    def read(self, data: bytes, keep: Callable[[bytes], None]) -> bytes:
        """See :class:`Body`."""
        at, end = -1, 0
        while at != end and not self.complete:
            at, end = end, self._next(self, data, end, keep)
        return data[end:]

    # Each returns where to go on: at the same place, if more has to arrive.

    def _size(self, data: bytes, at: int, keep: Callable[[bytes], None]) -> int:
        end = data.find(b"\r\n", at)
        if (end if end >= 0 else len(data)) - at > _LONGEST:
            raise BadBody("the size of a chunk is too long")
        if end < 0:
            return at
        match = _CHUNK.fullmatch(data, at, end)
        if match is None:
            raise BadBody("the size of a chunk is malformed")
        self._left = int(match[1], 16)
        self._next = ChunkedBody._data if self._left else ChunkedBody._trailer
        return end + 2

    def _data(self, data: bytes, at: int, keep: Callable[[bytes], None]) -> int:
        piece = data[at : at + self._left]
        if piece:
            self._left -= len(piece)
            keep(piece)
        if not self._left:
            self._next = ChunkedBody._end
        return at + len(piece)

    def _end(self, data: bytes, at: int, keep: Callable[[bytes], None]) -> int:
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            raise BadBody("a chunk is longer than its size")
        if len(end) < 2:
            return at
        self._next = ChunkedBody._size
        return at + 2

    def _trailer(self, data: bytes, at: int, keep: Callable[[bytes], None]) -> int:
        end = data.find(b"\r\n", at)
        if self._trailers + (end if end >= 0 else len(data)) - at > _TRAILERS:
            raise BadBody("there are too many header fields after the body")
        if end < 0:
            return at
        self.complete = end == at
        if not self.complete and not _FIELD.fullmatch(data, at, end):
            raise BadBody("a header field after the body is malformed")
        self._trailers += end + 2 - at
        return end + 2
