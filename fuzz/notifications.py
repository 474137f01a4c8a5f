"""Notifications of the binary protocol, as a server reads them."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz import whole_and_split
from txapns.wire.frames import (
    MalformedFrame,
    NotificationParser,
    encode_barrier,
    encode_enhanced,
    encode_framed,
    encode_simple,
)

__all__ = ["SEEDS", "check"]

_TOKEN, _PAYLOAD = b"\xaa" * 32, b'{"aps":{"alert":"Hi"}}'
SEEDS = [
    encode_simple(_TOKEN, _PAYLOAD),
    encode_enhanced(1, 1_700_000_000, _TOKEN, _PAYLOAD) * 2,
    encode_framed(2, _TOKEN, _PAYLOAD, 1_700_000_000, 10),
    encode_framed(3, _TOKEN, _PAYLOAD, None, None) + encode_barrier(4),
]
_LONGEST = 4_096


def _read(stream: Iterable[bytes]) -> list[object]:
    parser = NotificationParser(_LONGEST)
    found: list[object] = []
    for piece in stream:
        try:
            found += parser.receive(piece)
        except MalformedFrame as fault:
            found += [*fault.received, str(fault), fault.identifier]
        assert parser.pending <= _LONGEST + len(piece) + 32
    return found


def check(data: bytes) -> None:
    """Check that notifications and fault are the same however they are split, and that memory is bounded."""
    whole_and_split(data, _read)
