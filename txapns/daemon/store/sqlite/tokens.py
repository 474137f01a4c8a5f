"""Many device tokens as parameters of one statement: JSON, which arrays come as, has no octets."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["THESE", "packed"]

#: The tokens, given the blob and the JSON array of the places.
THESE = "SELECT substr(?, json_extract(value, '$[0]'), json_extract(value, '$[1]')) FROM json_each(?)"


def packed(tokens: Sequence[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    """Join tokens into one blob; of each also its position, counted from 1 as SQL does, and its length."""
    places, position = [], 1
    for token in tokens:
        places.append((position, len(token)))
        position += len(token)
    return b"".join(tokens), places
