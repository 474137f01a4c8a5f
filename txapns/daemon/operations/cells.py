"""The cells of the tables on the status page, and how numbers, times and durations are written in them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Literal, TypeAlias

import attrs

from txapns.daemon.apps import WARNINGS

__all__ = [
    "Cell",
    "Kind",
    "clock_time",
    "date_time",
    "duration",
    "expiry",
    "latency",
    "left",
    "number",
    "per_second",
    "urgent",
]

#: How to mark something; empty for not at all.
Kind: TypeAlias = Literal["", "ok", "notice", "warn", "bad"]

_DAY = 86_400.0


@attrs.frozen
class Cell:
    """
    A cell of a table.

    :ivar note: a second line, less important; empty for none.
    :ivar link: the relative address of a page that says more; empty for none.
    """

    text: str
    kind: Kind = ""
    note: str = ""
    link: str = ""


def expiry(expires: float, now: float) -> tuple[str, Kind]:
    """Return the day on which a certificate expires, how soon that is, and how to mark it."""
    text, kind = left(expires, now)
    return f"{datetime.fromtimestamp(expires, timezone.utc):%Y-%m-%d}, {text}", kind


def left(expires: float, now: float) -> tuple[str, Kind]:
    """Return how soon a certificate expires, and how to mark it."""
    days = (expires - now) / _DAY
    far, near, _ = WARNINGS
    if urgent(expires, now):
        return ("expired" if days <= 0 else "within a day"), "bad"
    kind: Kind = "warn" if days <= near else "notice" if days <= far else ""
    return (f"in {int(days)} days" if days >= 2 else "in a day"), kind


def urgent(expires: float, now: float) -> bool:
    """Tell whether a certificate has expired, or expires so soon that it has to be renewed at once."""
    return expires - now <= WARNINGS[-1] * _DAY


def date_time(at: float) -> str:
    """Return the date and the time of the day, UTC."""
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M:%S}"


def clock_time(at: float) -> str:
    """Return the time of the day, UTC."""
    return f"{datetime.fromtimestamp(at, timezone.utc):%H:%M:%S}"


def number(count: int) -> str:
    """Return a whole number."""
    return f"{count:,}"


def per_second(rate: float) -> str:
    """Return a rate."""
    return f"{rate:,.0f}" if rate >= 10 or rate == int(rate) else f"{rate:.1f}"


def duration(seconds: float) -> str:
    """Return a duration in the largest unit of which it has two."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", _DAY), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"


def latency(seconds: float) -> str:
    """Return a duration that may be as short as a millisecond."""
    if seconds < 1.0:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10.0 else duration(seconds)
