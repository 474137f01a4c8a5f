"""
What newer notifications supersede.

A notification with a collapse id stands for the latest state of something, so an older one for the same device that
still waits need not be sent any more. It becomes final when the newer one is accepted, in the same transaction. What is
leased then may be under way, and is left alone; but it is *marked*, and so are dead letters. What is marked and would
be tried again, after a failed attempt, is settled as superseded instead; and what comes back into the queue otherwise,
after a crash or an operator's retry, is settled so when it would be leased.

The rows have a hash of the collapse id, and only rows that have one are in the index. With 64 bits, two ids of the
notifications that wait for one device are the same about once in 10\\ :sup:`13` devices with a thousand of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import attrs

__all__ = ["Superseded", "hash_of"]


@attrs.frozen(eq=False)
class Superseded:
    """
    What a transaction superseded.

    :ivar numbers: the notifications that became final.
    :ivar counts: how many of which apps.
    :ivar recorded: the apps of which that was recorded.
    """

    numbers: Sequence[int] = ()
    counts: Mapping[str, int] = attrs.Factory(dict)
    recorded: frozenset[str] = frozenset()


def hash_of(collapse_id: str) -> int:
    """Hash a collapse id, to a number of 64 bits that is not 0."""
    digest = blake2b(collapse_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1
