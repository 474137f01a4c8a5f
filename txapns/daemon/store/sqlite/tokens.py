"""Many device tokens as parameters of one statement: JSON, which arrays come as, has no octets."""

from __future__ import annotations

from collections.abc import Sequence

from txapns.daemon.store.acceptance import PLACE

__all__ = ["THESE", "packed"]

#: The tokens, given the blob and the JSON array of the places.
THESE = f"SELECT substr(?, value / {PLACE}, value % {PLACE}) FROM json_each(?)"  # noqa: S608 - ours


def packed(tokens: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Join tokens into one blob; of each also its position, counted from 1 as SQL does, times ``PLACE``, and length."""
    places, position = [], 1
    for token in tokens:
        places.append(position * PLACE + len(token))
        position += len(token)
    return b"".join(tokens), places
