"""The tuples of the feedback service."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz import whole_and_split
from txapns.wire.feedback import FeedbackParser, encode

__all__ = ["SEEDS", "check"]

SEEDS = [encode(1_700_000_000, b"\xaa" * 32) * 3, encode(0, b""), b"\x00\x00\x00\x01\xff\xff"]


def _read(stream: Iterable[bytes]) -> list[object]:
    parser = FeedbackParser()
    found: list[object] = [each for piece in stream for each in parser.receive(piece)]
    return [*found, parser.pending]


def check(data: bytes) -> None:
    """Check that the tuples are the same however they are split, and that no bytes are lost."""
    whole_and_split(data, _read)
    *tuples, pending = _read([data])
    assert sum(6 + len(each.token) for each in tuples) + pending == len(data)
