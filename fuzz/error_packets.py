"""The error packet of the binary protocol, as a client reads it."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz import whole_and_split
from txapns.errors import WireError
from txapns.wire.frames import ErrorPacket, ErrorParser, encode_error

__all__ = ["SEEDS", "check"]

SEEDS = [encode_error(8, 1), encode_error(10, 2**32 - 1), b"\x08\x00"]


def _read(stream: Iterable[bytes]) -> ErrorPacket | str | None:
    parser = ErrorParser()
    for piece in stream:
        try:
            packet = parser.receive(piece)
        except WireError as error:
            return type(error).__name__
        if packet is not None:
            return packet
    return None


def check(data: bytes) -> None:
    """Check that the packet or the fault is the same however it is split."""
    whole_and_split(data, _read)
