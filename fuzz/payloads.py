"""Payloads, as programs give them: bytes, or decoded JSON."""

from __future__ import annotations

import json
from contextlib import suppress

from txapns import Notification
from txapns.errors import InvalidPayload

__all__ = ["SEEDS", "check"]

SEEDS = [
    b'{"aps":{"alert":"Hi","badge":0}}',
    b'{"aps":{"alert":"\\ud83d\\ude00"}}',
    b'{"aps":{"alert":"\\ud83d"}}',
    b'{"a":NaN,"b":1e999,"c":[[[{}]]]}',
    b"[1]",
]


def check(data: bytes) -> None:
    """Check that accepted payloads are sent as equivalent JSON, and that only our own errors are raised."""
    with suppress(InvalidPayload):
        json.loads(Notification(payload=data).body)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        with suppress(InvalidPayload):
            assert json.loads(Notification(payload=value).body) == value
