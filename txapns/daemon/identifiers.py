"""
The ids of notifications: UUIDs of version 7 (RFC 9562, section 5.7), which increase with time.

::

    018bcfe5-6800-7000-8a3c-5d6e7f809112
    └── 48 bits ─┘ │└┬┘ └┬─────────────┘
    milliseconds   │ │   └ variant (2 bits, binary 10), 62 random bits
                   │ └ 12 bits that count within the millisecond
                   └ version 7

The milliseconds are UNIX time. Increasing ids are added at the end of an index and not in its middle, which makes an
index of millions cheap. The random bits keep the ids of different processes apart, and make them hard to guess.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from txapns._network.clocks import IWallClock

__all__ = ["Identifiers"]

_COUNTED = 12  # bits
_RANDOM, _VARIANT = b"\x3f" + b"\xff" * 7, b"\x80" + b"\0" * 7  # the bits kept of 64 random ones, and those set


class Identifiers:
    """
    Makes ids. Each is greater than all before it, even if the clock steps back. It is thread-safe.

    :param random: returns a given number of random bytes.

    :ivar wall: the clock that they are dated with.
    """

    def __init__(self, wall: IWallClock, random: Callable[[int], bytes] = os.urandom) -> None:
        self.wall = wall
        self._random = random
        self._lock = threading.Lock()
        self._next = 0  # of the 60 bits before the random ones: the milliseconds and the count in one number

    def take(self, count: int) -> list[str]:
        """
        Make new ids.

        :returns: the ids, in lower case, in increasing order.
        """
        with self._lock:
            first = max(self._next, int(self.wall.now() * 1000) << _COUNTED)
            self._next = first + count
        return _format(first, self._random(8 * count))


def _format(first: int, random: bytes) -> list[str]:
    """Compose ids from the 60 bits of the first and 64 random bits for each, of which the variant replaces two."""
    count = len(random) // 8
    # All variants at once: this runs for every notification.
    variants = int.from_bytes(random, "big") & int.from_bytes(_RANDOM * count, "big")
    variants |= int.from_bytes(_VARIANT * count, "big")
    digits = variants.to_bytes(8 * count, "big").hex()
    found, front = [], ""
    for n in range(count):
        position = first + n
        counted = position & 0xFFF
        if not (n and counted):
            milliseconds = f"{position >> _COUNTED:012x}"
            front = f"{milliseconds[:8]}-{milliseconds[8:]}-7"
        at = 16 * n
        found.append(f"{front}{counted:03x}-{digits[at : at + 4]}-{digits[at + 4 : at + 16]}")
    return found
