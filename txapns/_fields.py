"""The keywords of a notification that become header fields, and their checks."""

from __future__ import annotations

import math
import operator
import re
import time
import uuid
from datetime import datetime, timedelta
from typing import Any, TypedDict

from txapns import payload as payloads
from txapns.errors import InvalidNotification

__all__ = ["FORBIDDEN", "FieldKeywords", "checked_integer", "checked_seconds", "checked_text"]

# The clock that resolves a time "from now"; a separate name for tests to patch.
_now = time.time

#: RFC 9113, section 8.2.1: a value with one of these makes the request malformed, and many peers then close the
#: connection, with everyone's notifications on it. Surrogates have no encoding in UTF-8.
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|\A | \Z")


class FieldKeywords(TypedDict, total=False):
    """The header fields, as keywords."""

    topic: str | None
    push_type: str | None
    priority: int | None
    expiration: float | timedelta | datetime | None
    collapse_id: str | None
    apns_id: str | uuid.UUID | None


def checked_text(field: str, value: object) -> str | None:
    """Check a field that travels as text."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidNotification(f"{field} must be text, not {type(value).__name__}")
    # The regular expression is slow, and each notification of the daemon has an id. Printable text can only be invalid
    # at its ends.
    if value.isprintable() and value.strip(" ") == value:
        return str(value)
    value = payloads.joined(value)
    if FORBIDDEN.search(value):
        raise InvalidNotification(
            f"{field} has a control character, a space at either end or half of a surrogate pair, "
            "which header fields cannot have"
        )
    return str(value)


def checked_integer(field: str, value: Any) -> int | None:
    """Check a field that travels as a decimal number. APNs checks its range."""
    if value is None:
        return None
    try:
        number = int(operator.index(value))
    except TypeError:
        raise InvalidNotification(f"{field} must be an integer, not {type(value).__name__}") from None
    # Python refuses to write very long integers, and no server reads more than these.
    if number.bit_length() > 64:
        raise InvalidNotification(f"{field} does not fit in 64 bits")
    return number


def checked_seconds(field: str, moment: object) -> int | None:
    """Convert any form of a time into UNIX seconds."""
    if moment is None:
        return None
    if isinstance(moment, timedelta):
        moment = _now() + moment.total_seconds()
    elif isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise InvalidNotification(f"{field} is a datetime without a time zone; it must have one")
        moment = moment.timestamp()
    if isinstance(moment, float):
        if not math.isfinite(moment):
            raise InvalidNotification(f"{field} must be a time, not {moment}")
        moment = int(moment)
    return checked_integer(field, moment)
