"""
The ids of notifications: UUIDs of version 7 (RFC 9562, section 5.7), which grow with time.

::

    018bcfe5-6800-7000-8a3c-5d6e7f809112
    └── 48 bits ─┘ │└┬┘ └┬─────────────┘
    milliseconds   │ │   └ variant (2 bits, binary 10), 62 random bits
                   │ └ 12 bits that count within the millisecond
                   └ version 7

The milliseconds are UNIX time. What grows is added at the end of an index and not anywhere in its middle, which makes
an index of millions cheap. The random bits keep the ids of different processes apart, and make them hard to guess.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["Identifiers"]

_COUNTED = 12  # bits


class Identifiers:
    """
    A source of ids. Each is greater than all it gave before, even where the clock steps back.

    It may be used by several threads.

    :param seconds: tells the UNIX time in seconds, as ``reactor.seconds`` does.
    :param random: gives so many random octets.
    """

    def __init__(self, seconds: Callable[[], float], random: Callable[[int], bytes] = os.urandom) -> None:
        self._seconds = seconds
        self._random = random
        self._lock = threading.Lock()
        self._next = 0  # of the 60 bits before the random ones: the milliseconds and the count in one number

    def take(self, count: int) -> list[str]:
        """
        Make new ids.

        :param count: how many.
        :returns: the ids, in lower case, growing.
        """
        with self._lock:
            first = max(self._next, int(self._seconds() * 1000) << _COUNTED)
            self._next = first + count
        random = self._random(8 * count).hex()
        return [_format(first + n, random[16 * n : 16 * n + 16]) for n in range(count)]


def _format(position: int, random: str) -> str:
    """Put an id together from its 60 bits and 64 random ones, of which the variant takes the place of two."""
    front = f"{position >> _COUNTED:012x}"
    variant = "89ab"[int(random[0], 16) & 3]
    return f"{front[:8]}-{front[8:]}-7{position & 0xFFF:03x}-{variant}{random[1:4]}-{random[4:]}"
