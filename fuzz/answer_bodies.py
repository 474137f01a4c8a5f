"""Apple's answers, or those of a middlebox."""

from __future__ import annotations

import math

from txapns.wire.requests import Answer, reason_of

__all__ = ["SEEDS", "check"]

SEEDS = [
    b'{"reason":"Unregistered","timestamp":1700000000000}',
    b'{"reason":null}',
    b'{"reason":{"a":[]},"timestamp":"1e400"}',
    b"<html><title>502 Bad Gateway</title></html>",
    b"120",
    b"Wed, 21 Oct 2026 07:28:00 GMT",
]


def check(data: bytes) -> None:
    """Check that a reason is text, and that times are finite and in the future."""
    answer = Answer(503, [(b":status", b"503"), (b"retry-after", data)], data)
    assert isinstance(reason_of(data), str)
    assert isinstance(answer.reason, str)
    assert answer.timestamp is None or math.isfinite(answer.timestamp)
    wait = answer.retry_after(1_700_000_000.0)
    assert wait is None or (math.isfinite(wait) and wait >= 0)
