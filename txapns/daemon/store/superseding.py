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

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b

import attrs
from twisted.logger import Logger

__all__ = ["Superseded", "SupersededListeners", "hash_of"]

_log = Logger()


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


class SupersededListeners:
    """Those who want to know what was superseded."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Mapping[str, int], Sequence[int]], None]] = []

    def subscribe(self, listener: Callable[[Mapping[str, int], Sequence[int]], None]) -> Callable[[], None]:
        """See :meth:`IQueue.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def announce(self, counts: Mapping[str, int], numbers: Iterable[int]) -> None:
        """Tell the listeners. What one of them raises is logged."""
        known = list(numbers)
        for listener in list(self._listeners) if known else ():
            try:
                listener(counts, known)
            except Exception:
                _log.failure("A listener for what was superseded failed")


def hash_of(collapse_id: str) -> int:
    """Hash a collapse id, to a number of 64 bits that is not 0."""
    digest = blake2b(collapse_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1
