"""What the rows of all tables have in common, whatever else was written into them by other means than ours."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from txapns.daemon.values import CHANNEL

__all__ = ["Instant", "channel_of", "printable"]

#: A date in a row, in UNIX seconds, up to the end of the year 9999.
Instant: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799)]


def printable(name: object) -> str:
    """Show a name as it can be printed."""
    return text if (text := str(name)).isprintable() else ascii(text)[1:-1]


def channel_of(headers: str | None) -> str | None:
    """
    Find the channel of a broadcast.

    :param headers: the header fields of its message, in JSON; ``None`` if it is not a broadcast.
    """
    if headers is None:
        return None
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(headers, type=dict[str, str]).get(CHANNEL)
    return None
