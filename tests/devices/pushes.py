"""Pushes for tests of devices."""

from __future__ import annotations

import json
from typing import Any

from txapns.devices import Push
from txapns.devices.push import SUFFIXES

__all__ = ["APP", "NOW", "START", "STATE", "TOKEN", "activity_push", "push"]

APP, TOKEN, NOW = "com.example.app", "ab" * 32, 1_790_000_000.0
STATE = {"home": 1, "away": 0}
#: A complete start of a Live Activity, but for its timestamp.
START: dict[str, Any] = {
    "event": "start",
    "content-state": STATE,
    "attributes-type": "Match",
    "attributes": {"teams": "A – B"},
    "alert": {"title": "Kick-off", "body": "A – B"},
}


def push(aps: Any, push_type: str | None = "alert", *, token: str = TOKEN, channel: str = "", **fields: str) -> Push:
    """
    Make a push.

    :param aps: what is in ``aps``; or bytes, the payload; or an object with another key, the content.
    :param push_type: the push type; ``None`` for none.
    :param token: the device token.
    :param channel: the channel of a broadcast.
    :param fields: header fields, without ``apns-`` and with underscores.
    :returns: the push, with what Apple asks for in its header.
    """
    headers = {"apns-topic": APP + SUFFIXES.get(push_type or "", "")}
    if push_type is not None:
        headers["apns-push-type"] = push_type
    if push_type == "background":
        headers["apns-priority"] = "5"
    headers.update({f"apns-{name.replace('_', '-')}": value for name, value in fields.items()})
    payload = aps if isinstance(aps, bytes) else json.dumps({"aps": aps}).encode()
    return Push(headers, payload, "" if channel else token, channel)


def activity_push(event: str, when: float, aps: dict[str, Any] | None = None, **options: Any) -> Push:
    """Make a push for a Live Activity with a timestamp; ``None`` for a value leaves its key out."""
    base = START if event == "start" else {"event": event, "content-state": STATE}
    content = {**base, "timestamp": int(when), **(aps or {})}
    return push({key: value for key, value in content.items() if value is not None}, "liveactivity", **options)
