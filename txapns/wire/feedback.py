"""
The feedback service of the binary protocol: which devices no longer have the app.

Once a connection is made, the server writes one tuple per device and closes; the provider writes nothing. A tuple is a
time, the length of a token, and the token; its integers are unsigned and big-endian. There is no frame, no count and no
end mark: the list ends where the stream ends, and an empty list is a bare close. A tuple truncated by the close is
lost, but those before it count.

The time, in UNIX seconds, is when the service found the app gone; a token registered again after that is valid. (The
field ``timestamp`` of the HTTP/2 API says the same in *milliseconds*.) Reading clears the list at the server.

One device, found without the app at 1700000000 (2023-11-14 22:13:20 UTC); a test reads the bytes from here::

    65 53 f1 00               time
    00 20                     token length
    00 11 22 33 44 55 66 77   token
    88 99 aa bb cc dd ee ff
    00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff

Source: Apple, *Local and Remote Notification Programming Guide* (archived), appendix "Binary Provider API".
"""

from __future__ import annotations

import struct

import attrs

from txapns.errors import InvalidNotification, redact

__all__ = ["FeedbackParser", "FeedbackTuple", "encode"]

_HEAD = struct.Struct(">IH")


@attrs.frozen
class FeedbackTuple:
    """
    One device without the app.

    :ivar timestamp: UNIX seconds at which the service found the app gone.
    """

    token: bytes = attrs.field(repr=redact)
    timestamp: int


def encode(timestamp: int, token: bytes) -> bytes:
    """
    Encode one tuple, for a server.

    :param timestamp: UNIX seconds, 0 to 2**32-1.
    :returns: the tuple's bytes.
    :raises InvalidNotification: the timestamp or the token is too large for its field.
    """
    try:
        return _HEAD.pack(timestamp, len(token)) + token
    except struct.error:
        raise InvalidNotification(
            f"timestamp {timestamp!r} or a token of {len(token)} bytes does not fit a feedback tuple"
        ) from None


class FeedbackParser:
    """
    The provider's side of the stream: bytes in, tuples out.

    Any bytes are valid tuples, so it never fails. It holds at most one incomplete tuple, which is less than 64 KiB and
    six bytes, and one read.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """The size of an incomplete tuple in bytes; if not 0 at the end of the stream, that tuple was truncated."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[FeedbackTuple]:
        """
        Take the next bytes of the stream.

        :param data: any number of bytes.
        :returns: the tuples they complete, in order.
        """
        self._buffer += data
        received: list[FeedbackTuple] = []
        start = 0
        while (token_start := start + _HEAD.size) <= len(self._buffer):
            timestamp, length = _HEAD.unpack_from(self._buffer, start)
            end = token_start + length
            if end > len(self._buffer):
                break
            received.append(FeedbackTuple(bytes(self._buffer[token_start:end]), timestamp))
            start = end
        del self._buffer[:start]
        return received
