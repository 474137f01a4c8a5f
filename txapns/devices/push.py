"""A push, as Apple's servers get it: values that nothing has checked."""

from __future__ import annotations

import json
import math
import re
from binascii import unhexlify
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs

from txapns.errors import redact
from txapns.notification import PushType
from txapns.payload import is_deep

__all__ = ["SUFFIXES", "TOKEN_LENGTHS", "Push", "is_identifier", "json_object", "token_bytes"]

#: The suffix that a push type adds to the app's bundle ID; an unknown type has none.
SUFFIXES = {each.value: each.suffix for each in PushType if each.suffix}
#: Bytes in a device token. It has always been 32; longer ones have been announced and seen.
TOKEN_LENGTHS = range(32, 101)
# What JSON takes for white space.
_SPACE = " \t\n\r"
_IDENTIFIER = re.compile("[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")


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
    """
    Parse a JSON object in UTF-8, with all limits of the parser that devices have.

    That is Foundation's, which reads neither ``NaN`` and ``Infinity`` nor numbers that are too large, such as
    ``1e999``, and nothing that is nested more deeply than :data:`~txapns.payload.MAX_DEPTH`. So what is found can be
    written as JSON.

    :param text: anything.
    :returns: the object; ``None`` if it is none.
    """
    try:
        document = text.decode().strip(_SPACE)  # json.loads would also accept UTF-16 if given bytes
        content, end = _DECODER.raw_decode(document)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or end < len(document):
        return None
    return None if is_deep(content, text) else content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large, or no number in JSON")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def is_identifier(text: str) -> bool:
    """Whether a text is a UUID in its usual form, in either case."""
    return _IDENTIFIER.fullmatch(text) is not None


def token_bytes(text: str) -> bytes | None:
    """Parse the hexadecimal text of a device token; returns ``None`` if it is malformed."""
    try:
        return unhexlify(text)
    except ValueError:
        return None
