"""
The binary provider protocol, byte by byte: notifications in commands 0, 1 and 2, and the error packet.

A session is TLS with a plain stream of bytes inside. The provider writes notifications back to back; the server writes
nothing while it accepts them. At the first one it rejects, it writes a single error packet, discards everything that
follows, and closes. Every integer is unsigned and big-endian. A message may be split anywhere, and several may come in
one read, so both parsers here take any piece of the stream and hold back what is incomplete.

The examples share a token of 32 bytes (``00 11 22 … ff``, twice), the payload ``{"aps":{"alert":"Hi"}}`` of 22 bytes,
the identifier 1 and the expiration 1700000000 (2023-11-14 22:13:20 UTC). A test reads them from here.

Command 0, *simple*: token and payload, each after its length. It carries no identifier, so the server rejects it by a
bare close::

    00                        command
    00 20                     token length
    00 11 22 33 44 55 66 77   token
    88 99 aa bb cc dd ee ff
    00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff
    00 16                     payload length
    7b 22 61 70 73 22 3a 7b   payload
    22 61 6c 65 72 74 22 3a
    22 48 69 22 7d 7d

Command 1, *enhanced*: the same with an identifier, which an error packet echoes, and the time after which the
notification is useless (0: try once, do not store)::

    01                        command
    00 00 00 01               identifier
    65 53 f1 00               expiration
    00 20                     token length
    00 11 22 33 44 55 66 77   token
    88 99 aa bb cc dd ee ff
    00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff
    00 16                     payload length
    7b 22 61 70 73 22 3a 7b   payload
    22 61 6c 65 72 74 22 3a
    22 48 69 22 7d 7d

Command 2, *framed*: one notification as a series of items, in any order, each with a number, a length and its data.
Items 3, 4 and 5 can be left out. The frame length counts what follows it. The identifier comes first here, so that a
server that fails on a later item can still name it::

    02                        command
    00 00 00 4e               frame length
    03 00 04 00 00 00 01      item 3, identifier
    01 00 20                  item 1, token
    00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff
    00 11 22 33 44 55 66 77
    88 99 aa bb cc dd ee ff
    02 00 16                  item 2, payload
    7b 22 61 70 73 22 3a 7b
    22 61 6c 65 72 74 22 3a
    22 48 69 22 7d 7d
    04 00 04 65 53 f1 00      item 4, expiration
    05 00 01 0a               item 5, priority 10

Command 8, *error*, from the server: always six bytes, at most one per connection. This one rejects the token (status
8) of identifier 1::

    08                        command
    08                        status
    00 00 00 01               identifier

A *barrier* is a deliberately invalid notification: its token is empty. The server handles notifications in order, so
rejecting the barrier proves that it accepted everything before. This one has the identifier ``ff ff ff fe``::

    02                        command
    00 00 00 0f               frame length
    03 00 04 ff ff ff fe      item 3, identifier
    01 00 00                  item 1, an empty token
    02 00 02 7b 7d            item 2, the payload {}

Sources: Apple, *Local and Remote Notification Programming Guide* (archived), appendices "Binary Provider API" and
"Legacy Notification Format". The barrier is the idea of pushy, a Java client. Apple ended the protocol on 31 March
2021.
"""

from __future__ import annotations

__all__ = [
    "BARRIER_PAYLOAD",
    "ERROR_LENGTH",
    "ErrorPacket",
    "ErrorParser",
    "MalformedFrame",
    "NotificationParser",
    "ReceivedNotification",
    "encode_barrier",
    "encode_enhanced",
    "encode_error",
    "encode_framed",
    "encode_simple",
    "frame_encoder",
]

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import attrs

from txapns.errors import InvalidNotification, WireError, redact
from txapns.reasons import Status

ERROR_LENGTH = 6
"""The length of an error packet in bytes."""

BARRIER_PAYLOAD = b"{}"
"""The payload of a barrier: the shortest JSON object."""

_SIMPLE, _ENHANCED, _FRAMED, _ERROR = 0, 1, 2, 8
_TOKEN, _PAYLOAD, _IDENTIFIER, _EXPIRATION, _PRIORITY = 1, 2, 3, 4, 5

_LENGTH = struct.Struct(">H")
_SIMPLE_HEAD = struct.Struct(">BH")
_ENHANCED_HEAD = struct.Struct(">BIIH")
_ENHANCED_FIELDS = struct.Struct(">II")
_FRAME_HEAD = struct.Struct(">BI")
_FRAME_START = struct.Struct(">BIBHIBH")
_ITEM_HEAD = struct.Struct(">BH")
_ITEM_OF_FOUR = struct.Struct(">BHI")
_ITEM_OF_ONE = struct.Struct(">BHB")
_BARRIER_HEAD = struct.Struct(">BIBHIBHBH")
_ERROR_PACKET = struct.Struct(">BBI")

# How long the items of a frame are, by their numbers; 0 for any length.
_LENGTHS = (0, 0, 0, 4, 4, 1)

_LARGEST = {
    "identifier": 0xFFFFFFFF,
    "expiration": 0xFFFFFFFF,
    "token length": 0xFFFF,
    "payload length": 0xFFFF,
    "priority": 0xFF,
    "status": 0xFF,
}


def _misfit(fields: dict[str, object]) -> InvalidNotification:
    """Name the field that ``struct`` rejected, since its own message does not."""
    name, value = next(
        (name, value)
        for name, value in fields.items()
        if not isinstance(value, int) or not 0 <= value <= _LARGEST[name]
    )
    return InvalidNotification(f"{name} must be an integer from 0 to {_LARGEST[name]}, not {value!r}")


def encode_simple(token: bytes, payload: bytes) -> bytes:
    """
    Encode a notification as command 0.

    :param payload: the payload, JSON in UTF-8.
    :raises InvalidNotification: token or payload is longer than 65,535 bytes.
    """
    try:
        return b"".join((_SIMPLE_HEAD.pack(_SIMPLE, len(token)), token, _LENGTH.pack(len(payload)), payload))
    except struct.error:
        raise _misfit({"token length": len(token), "payload length": len(payload)}) from None


def encode_enhanced(identifier: int, expiration: int, token: bytes, payload: bytes) -> bytes:
    """
    Encode a notification as command 1.

    :param identifier: the identifier for an error packet, 0 to 2**32-1.
    :param expiration: UNIX seconds after which it is useless; 0 means try once and do not store.
    :param payload: the payload, JSON in UTF-8.
    :raises InvalidNotification: a value is too large for its field.
    """
    try:
        head = _ENHANCED_HEAD.pack(_ENHANCED, identifier, expiration, len(token))
        return b"".join((head, token, _LENGTH.pack(len(payload)), payload))
    except struct.error:
        raise _misfit(
            {
                "identifier": identifier,
                "expiration": expiration,
                "token length": len(token),
                "payload length": len(payload),
            }
        ) from None


def frame_encoder(payload: bytes, expiration: int | None, priority: int | None) -> Callable[[int, bytes], bytes]:
    """
    Prepare to encode one notification as command 2 for many devices: the parts that they share are encoded once.

    :param payload: the payload, JSON in UTF-8.
    :param expiration: UNIX seconds after which it is useless; 0 means try once and do not store; ``None`` leaves the
        item out, and Apple does not say what that means.
    :param priority: 10 or 5; ``None`` leaves the item out, which means 10.
    :returns: a function of an identifier, 0 to 2**32-1, and a raw device token that returns the message; it raises
        ``InvalidNotification`` if one of them is too large for its field.
    :raises InvalidNotification: a value is too large for its field.
    """
    try:
        common = _ITEM_HEAD.pack(_PAYLOAD, len(payload)) + payload
        if expiration is not None:
            common += _ITEM_OF_FOUR.pack(_EXPIRATION, 4, expiration)
        if priority is not None:
            common += _ITEM_OF_ONE.pack(_PRIORITY, 1, priority)
    except struct.error:
        numbers = {"payload length": len(payload), "expiration": expiration, "priority": priority}
        raise _misfit({name: number for name, number in numbers.items() if number is not None}) from None
    start = _FRAME_START.pack
    # The identifier item and the head of the token item have ten bytes.
    without_token = 10 + len(common)

    def encode(identifier: int, token: bytes) -> bytes:
        length = len(token)
        try:
            head = start(_FRAMED, without_token + length, _IDENTIFIER, 4, identifier, _TOKEN, length)
        except struct.error:
            raise _misfit({"identifier": identifier, "token length": length}) from None
        return head + token + common

    return encode


def encode_framed(identifier: int, token: bytes, payload: bytes, expiration: int | None, priority: int | None) -> bytes:
    """
    Encode a notification as command 2.

    :param identifier: the identifier for an error packet, 0 to 2**32-1.
    :param payload: as for :func:`frame_encoder`, like ``expiration`` and ``priority``.
    :raises InvalidNotification: a value is too large for its field.
    """
    return frame_encoder(payload, expiration, priority)(identifier, token)


def encode_barrier(identifier: int, command: int = 2) -> bytes:
    """
    Encode a deliberately invalid notification.

    The server answers an empty token with status 2. Apple's servers have been seen to give identifier 0 with it instead
    of this one, so an answer with either counts.

    :param identifier: the identifier for the error packet, 0 to 2**32-1.
    :param command: the command of the notifications before it. Command 0 has no identifier, so after it, too, the
        barrier uses command 1.
    :raises InvalidNotification: the identifier is too large for its field.
    """
    if command != _FRAMED:
        return encode_enhanced(identifier, 0, b"", BARRIER_PAYLOAD)
    size = len(BARRIER_PAYLOAD)
    try:
        # The identifier item and the heads of the other two have thirteen bytes.
        head = _BARRIER_HEAD.pack(_FRAMED, 13 + size, _IDENTIFIER, 4, identifier, _TOKEN, 0, _PAYLOAD, size)
    except struct.error:
        raise _misfit({"identifier": identifier}) from None
    return head + BARRIER_PAYLOAD


def encode_error(status: int, identifier: int) -> bytes:
    """
    Encode the server's error packet.

    :param status: why the connection ends, 0 to 255.
    :param identifier: the notification it names, or 0 if the server does not know it.
    :returns: the six bytes.
    :raises InvalidNotification: a value is too large for its field.
    """
    try:
        return _ERROR_PACKET.pack(_ERROR, status, identifier)
    except struct.error:
        raise _misfit({"status": status, "identifier": identifier}) from None


@attrs.frozen
class ErrorPacket:
    """
    The server's error packet, which ends a connection.

    :ivar status: the reason, as the byte that came; unassigned values pass through.
    :ivar identifier: the notification it names: with status 10 the last one accepted, otherwise the one rejected; 0 if
        the server does not know.
    """

    status: int
    identifier: int


class ErrorParser:
    """
    The client's side of the stream: bytes in, at most one :class:`ErrorPacket` out.

    Nothing may follow the packet. Further bytes are ignored, and never held.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._over = False

    @property
    def pending(self) -> int:
        """The size of an incomplete packet in bytes; if not 0 at the end of the stream, the packet was truncated."""
        return len(self._buffer)

    def receive(self, data: bytes) -> ErrorPacket | None:
        """
        Take the next bytes of the stream.

        :param data: any number of bytes.
        :returns: the packet, with the bytes that complete it, else ``None``.
        :raises WireError: the stream begins with anything but an error packet; the rest is ignored.
        """
        if self._over:
            return None
        buffer = self._buffer + data[: ERROR_LENGTH - len(self._buffer)]
        invalid = bool(buffer) and buffer[0] != _ERROR
        self._over = invalid or len(buffer) == ERROR_LENGTH
        self._buffer = b"" if self._over else buffer
        if invalid:
            raise WireError(f"the server sent byte {buffer[0]:#04x} where only an error packet (0x08) is allowed")
        if not self._over:
            return None
        _, status, identifier = _ERROR_PACKET.unpack(buffer)
        return ErrorPacket(status, identifier)


class ReceivedNotification(NamedTuple):
    """
    A notification as received. Only its structure has been checked.

    :ivar command: 0, 1 or 2.
    :ivar token: the device token, raw; empty if the item was missing.
    :ivar payload: the payload; empty if the item was missing.
    :ivar identifier: the provider's identifier, or ``None`` if there was none.
    :ivar expiration: UNIX seconds, or ``None`` if there was none.
    :ivar priority: the byte that came, or ``None`` if there was none.
    """

    command: int
    token: bytes
    payload: bytes
    identifier: int | None = None
    expiration: int | None = None
    priority: int | None = None

    def __repr__(self) -> str:
        """Show only the length of the payload, which may hold private content."""
        shown = f"command={self.command}, token={redact(self.token)}, payload=<{len(self.payload)} bytes>"
        return f"ReceivedNotification({shown}, identifier={self.identifier}, …)"


class MalformedFrame(WireError):
    """
    The provider sent a malformed notification. Answer with the status and the identifier, then close.

    :ivar status: 128, protocol error, for the error packet.
    :ivar identifier: the identifier of the malformed notification if it was read before the fault, else 0.
    :ivar received: the notifications that the same call completed before the fault.
    """

    status = Status.PROTOCOL_ERROR

    def __init__(self, message: str, identifier: int | None = None) -> None:
        super().__init__(message, identifier)
        self.identifier = identifier or 0
        self.received: list[ReceivedNotification] = []

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class NotificationParser:
    """
    The server's side of the stream: bytes in, notifications out.

    It checks only the structure; rejecting an empty token, or a payload that is too large or not JSON, is up to the
    server. The protocol has no way to resynchronize after a fault, so all further bytes are ignored.

    A peer could announce a message of 4 GiB and send it slowly. So announcing more than ``max_frame`` bytes is a fault
    at once, and no more than that, and one read, is ever held.

    :param max_frame: the maximum size in bytes of a frame of command 2, or of token and payload together in commands 0
        and 1.
    """

    def __init__(self, max_frame: int = 65_536) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()
        self._needed = 0  # how many bytes there must be to read on
        self._over = False

    @property
    def pending(self) -> int:
        """The size of an incomplete notification in bytes."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[ReceivedNotification]:
        """
        Take the next bytes of the stream.

        :param data: any number of bytes.
        :returns: the notifications they complete, in order; none after a fault.
        :raises MalformedFrame: at the first fault; it has the notifications completed before.
        """
        received: list[ReceivedNotification] = []
        if self._over:
            return received
        self._buffer += data
        if len(self._buffer) < self._needed:
            return received
        stream, start, end = bytes(self._buffer), 0, 1
        try:
            while end <= len(stream):
                read = _READERS.get(stream[start])
                if read is None:
                    raise MalformedFrame(f"unknown command {stream[start]}")
                notification, end = read(stream, start, self._max_frame)
                if notification is not None:
                    received.append(notification)
                    start, end = end, end + 1
        except MalformedFrame as fault:
            self._over = True
            self._buffer.clear()
            fault.received = received
            raise
        self._needed = end - start
        del self._buffer[:start]
        return received


# Each of these reads the message at a place of the stream. It returns the message and where it ends; or, while it is
# incomplete, None and how far the stream must reach before it is worth reading on.
_Read: TypeAlias = "tuple[ReceivedNotification | None, int]"


def _read_simple(stream: bytes, start: int, longest: int) -> _Read:
    return _read_token_and_payload(stream, start + 1, longest, _SIMPLE)


def _read_enhanced(stream: bytes, start: int, longest: int) -> _Read:
    lengths = start + 1 + _ENHANCED_FIELDS.size
    if len(stream) < lengths:
        return None, lengths
    return _read_token_and_payload(
        stream, lengths, longest, _ENHANCED, *_ENHANCED_FIELDS.unpack_from(stream, start + 1)
    )


def _read_token_and_payload(stream: bytes, start: int, longest: int, command: int, *fields: int) -> _Read:
    found: list[Any] = [command]
    size = 0
    while len(found) < 3:
        end = start + _LENGTH.size
        if len(stream) < end:
            return None, end
        (length,) = _LENGTH.unpack_from(stream, start)
        size += length
        _check_size(size, longest, *fields[:1])
        start, end = end, end + length
        if len(stream) < end:
            return None, end
        found.append(stream[start:end])
        start = end
    return ReceivedNotification(*found, *fields), start


def _read_framed(stream: bytes, start: int, longest: int) -> _Read:
    end = start + _FRAME_HEAD.size
    if len(stream) < end:
        return None, end
    _, size = _FRAME_HEAD.unpack_from(stream, start)
    if not size:
        raise MalformedFrame("an empty frame")
    _check_size(size, longest)
    start, end = end, end + size
    if len(stream) < end:
        return None, end
    # By the numbers of the items; the command has the place of an item 0.
    found: list[Any] = [_FRAMED, None, None, None, None, None]
    item_head, from_bytes = _ITEM_HEAD.unpack_from, int.from_bytes
    while start + 3 <= end:  # the head of an item has three bytes
        item, length = item_head(stream, start)
        data = start + 3
        start = data + length
        if item > _PRIORITY or found[item] is not None or length != (_LENGTHS[item] or length) or start > end:
            raise MalformedFrame(_item_fault(item, length, found), found[_IDENTIFIER])
        found[item] = stream[data:start] if item <= _PAYLOAD else from_bytes(stream[data:start], "big")
    if start < end:
        raise MalformedFrame("a frame that ends inside the head of an item", found[_IDENTIFIER])
    found[_TOKEN] = found[_TOKEN] or b""
    found[_PAYLOAD] = found[_PAYLOAD] or b""
    return ReceivedNotification._make(found), end


def _item_fault(item: int, length: int, found: list[Any]) -> str:
    """Describe the fault of an item, given those before it."""
    if not _TOKEN <= item <= _PRIORITY:
        return f"unknown item {item}"
    if found[item] is not None:
        return f"item {item} twice in one frame"
    if length != (_LENGTHS[item] or length):
        return f"item {item} has {length} bytes instead of {_LENGTHS[item]}"
    return f"item {item} runs past the end of its frame"


def _check_size(size: int, longest: int, identifier: int | None = None) -> None:
    if size > longest:
        raise MalformedFrame(f"a message of {size} bytes, where at most {longest} are allowed", identifier)


_READERS = {_SIMPLE: _read_simple, _ENHANCED: _read_enhanced, _FRAMED: _read_framed}
