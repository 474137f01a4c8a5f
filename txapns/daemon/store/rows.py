"""What the rows of all tables have in common, whatever else was written into them by other means than ours."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

__all__ = ["Instant", "printable"]

#: A date in a row, in UNIX seconds, up to the end of the year 9999.
Instant: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799)]


def printable(name: object) -> str:
    """Show a name as it can be printed."""
    return text if (text := str(name)).isprintable() else ascii(text)[1:-1]
