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

The parser is llhttp, which is in Node.js, by way of ``httptools``. It refuses what two servers could read differently,
since a proxy may pass it on: spaces around a name, lines that end with ␊ alone, header fields that are continued on the
next line, and a length that is given twice or in two ways. It would go on to the next request, which is not to be read
before this one is answered; so it is given one head at a time, and a chunked body up to where it may end.

On a connection one head is mostly like the one before, except for the length; then only that is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from txapns._serving.target import BadHead, asked_host, split_target

__all__ = ["BadBody", "Body", "ChunkedBody", "Head", "SizedBody"]

_END = b"\r\n\r\n"
_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")  # the parser would read others, and other protocols
_CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_FIELDS = 100  # header fields in a request
_LENGTH = re.compile(rb"(.*\r\ncontent-length: *)[0-9]+(\r\n.*)", re.DOTALL | re.IGNORECASE)
_DIGITS = 9  # of a length that is read without the parser
_FRAMING = 16_384  # bytes between two pieces of a chunked body, and after the last


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
        :returns: what follows the body.
        :raises BadBody: the body is malformed.
        """


class Head:
    """
    The head of a request. It does not change, and may be that of several requests.

    :param data: its bytes, with the empty line at its end.

    :ivar target: what is asked for: a path, or a URL.
    :ivar uri: the path with its query.
    :ivar named: the host that the request is for; ``None`` if it names none.
    :ivar fields: the values of the header fields, in order, by their names in lower case.
    :ivar length: the length of the body, in bytes; ``None`` if it is chunked.
    :ivar persistent: whether the connection can be used for another request.
    :ivar expects: whether the body is sent only after status 100.
    :raises BadHead: it is malformed.
    """

    def __init__(self, data: bytes) -> None:
        self.target = b""
        self.fields: dict[bytes, list[bytes]] = {}
        self._data = data
        self._count = 0
        parser = HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # it asks for another protocol, which a server need not speak
        except HttpParserError as error:
            raise BadHead(f"the head of the request is malformed: {error}") from None
        first = data[: data.find(b"\r\n")]
        if not first.endswith(_VERSIONS):
            raise BadHead("the request does not begin with a line of HTTP/1.1")
        if self._count > _FIELDS:
            raise BadHead(f"the request has more than {_FIELDS} header fields")
        self.method = parser.get_method()
        self.version = first[-8:]
        authority, path = split_target(self.target.decode("ascii"))
        self.uri = path.encode("ascii")
        hosts = [value.decode("latin-1") for value in self.fields.get(b"host", ())]
        self.named = asked_host(hosts, authority, self.version.decode("ascii"))
        self.length = self._length()
        self.persistent, self.expects = self._persistent(), self._expects()
        self._around: tuple[bytes, ...] | None = None  # what is before and after the length, once it was looked for

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        """Take the target."""
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        self._count += 1
        self.fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))

    # What follows from it.

    def _persistent(self) -> bool:
        if self.version == b"HTTP/1.0":
            return False
        values = b",".join(self.fields.get(b"connection", ())).lower()
        return b"close" not in [each.strip(b" \t") for each in values.split(b",")]

    def _expects(self) -> bool:
        expected = self.fields.get(b"expect")
        return expected is not None and expected[0].lower() == b"100-continue" and self.version != b"HTTP/1.0"

    def _length(self) -> int | None:
        if (codings := self.fields.get(b"transfer-encoding")) is not None:
            if self.version == b"HTTP/1.0" or [each.lower() for each in codings] != [b"chunked"]:
                raise BadHead("the only Transfer-Encoding accepted is chunked, in HTTP/1.1")
            return None
        return int(self.fields.get(b"content-length", (b"0",))[0])

    def following(self, data: bytes) -> Head:
        """
        Read the head of the next request on the same connection, as quickly as possible if it is like this one.

        :param data: its bytes.
        :raises BadHead: it is malformed.
        """
        if data == self._data:
            return self
        if self._around is None:
            found = _LENGTH.fullmatch(self._data)
            self._around = () if found is None else found.group(1, 2)
        if self._around:
            before, after = self._around
            length = data[len(before) : -len(after)]
            if data.startswith(before) and data.endswith(after) and len(length) <= _DIGITS and length.isdigit():
                return self._of_length(data, length)
        return Head(data)

    def _of_length(self, data: bytes, length: bytes) -> Head:
        """Make a copy with another length."""
        head = Head.__new__(Head)
        head.__dict__.update(self.__dict__)
        head._data, head.length = data, int(length)
        head.fields = {**self.fields, b"content-length": [length]}
        return head


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
        self._taken = _Taken()
        self._parser = HttpRequestParser(self._taken)
        self._parser.feed_data(_CHUNKED)
        self._last = b""  # the last bytes that were read: what may be the end can come in two parts
        self._framing = 0

    @property
    def complete(self) -> bool:
        """See :class:`Body`."""
        return self._taken.complete

    def read(self, data: bytes, keep: Callable[[bytes], None]) -> bytes:
        """See :class:`Body`."""
        begin = len(self._last)
        data = self._last + data
        while begin < len(data) and not self.complete:
            found = data.find(_END, max(begin - len(_END) + 1, 0))
            end = len(data) if found < 0 else found + len(_END)
            self._feed(data[begin:end])
            begin = end
        self._last = data[:begin][1 - len(_END) :]
        if piece := self._taken.piece():
            self._framing = 0
            keep(piece)
        if self._framing > _FRAMING:
            raise BadBody("the chunks of the body have too much around them")
        return data[begin:]

    def _feed(self, data: bytes) -> None:
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise BadBody(f"the chunks of the body are malformed: {error}") from None


class _Taken:
    """What the parser has read of a chunked body. It is not the body itself, which would be a cycle of references."""

    def __init__(self) -> None:
        self.complete = False
        self._pieces: list[bytes] = []

    def piece(self) -> bytes:
        """Return what has been read since the last time."""
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    # What the parser calls.

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Learn that the body is complete."""
        self.complete = True
