"""The bodies of requests with notifications."""

from __future__ import annotations

from txapns.daemon.errors import Malformed
from txapns.daemon.faces.native.json_api import decoded
from txapns.daemon.faces.native.notifications import _draft, _submission

__all__ = ["SEEDS", "check"]

SEEDS = [
    b'{"notifications":[{"tokens":["aa"],"payload":{"aps":{"alert":"Hi"}},"headers":{"apns-priority":10}}]}',
    b'{"wait":true,"notifications":[{"tokens":["\\ud83d"],"payload":{"a":1e400},"headers":{"apns-expiration":1e22}}]}',
    b'{"notifications":[{"tokens":[],"payload":{"a":"\\udc00"}}],"validate_only":true}',
]


def check(data: bytes) -> None:
    """Check that the body is accepted, or refused with a message that can be encoded."""
    try:
        submission = decoded(_submission, data)
        drafts = [_draft(each, position, None, None, None) for position, each in enumerate(submission.notifications)]
    except Malformed as error:
        assert str(error).encode()
    else:
        assert all(isinstance(value, str) for draft in drafts for value in draft.headers.values())
