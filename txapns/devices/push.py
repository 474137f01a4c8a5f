"""A push, as Apple's servers get it: values that nothing has checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs

from txapns.errors import redact

__all__ = ["SUFFIXES", "Push", "json_object"]

#: The suffix that a push type adds to the app's bundle ID; an unknown type has none.
SUFFIXES = {
    "location": ".location-query",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}


@attrs.frozen(slots=False)
class Push:
    """
    A push.

    :ivar headers: the header fields of the request by name, in lower case: ``apns-push-type``, ``apns-topic`` and so
        on. Other fields, such as ``:path``, may be among them.
    :ivar payload: the body of the request.
    :ivar token: the device token as text; empty for a broadcast.
    :ivar channel: the broadcast channel; empty for a push to a device.
    """

    headers: Mapping[str, str] = attrs.field(repr=lambda headers: f"<{len(headers)} fields>")
    payload: bytes = attrs.field(repr=lambda payload: f"<{len(payload)} bytes>")
    token: str = attrs.field(default="", repr=redact)
    channel: str = ""

    @cached_property
    def content(self) -> dict[str, Any] | None:
        """The payload as a JSON object; ``None`` if it is none."""
        return json_object(self.payload)

    @cached_property
    def aps(self) -> dict[str, Any]:
        """What the system acts on; empty if it is missing or not an object."""
        aps = (self.content or {}).get("aps")
        return aps if isinstance(aps, dict) else {}

    @property
    def push_type(self) -> str:
        """The push type as it was sent; empty if it was not."""
        return self.headers.get("apns-push-type", "")

    @property
    def topic(self) -> str:
        """The topic as it was sent; empty if it was not."""
        return self.headers.get("apns-topic", "")

    @property
    def priority(self) -> str:
        """The priority as it was sent; that which Apple assumes if it was not."""
        return self.headers.get("apns-priority", "10")


def json_object(text: bytes) -> dict[str, Any] | None:
    """Parse a JSON object in UTF-8; returns ``None`` for anything else."""
    try:
        content = json.loads(text.decode())  # json.loads would also accept UTF-16 if given bytes
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
