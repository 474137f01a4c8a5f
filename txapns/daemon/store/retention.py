"""
From which date on what was settled is kept.

How long it is kept is a duration, but what is stored are dates, and somebody may set the clock that they come from. Set
forward by a week, it would make all that was settled today look a week old. So the clock on the wall is compared with
the reactor's, which nobody sets: of the leads that the one has had over the other while things were kept, the smallest
counts. Nothing is forgotten too soon then; after a step something is kept for longer, but not for ever.
"""

from __future__ import annotations

import math
from collections import deque

from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import wall_clock

__all__ = ["Retention"]


class Retention:
    """
    For how long something is kept.

    :param clock: the reactor, or a ``Clock``.
    :param seconds: for how long.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._wall = wall_clock(clock)
        self._seconds = seconds
        # The leads that may become the smallest, each with when it was last seen: both grow.
        self._leads: deque[tuple[float, int]] = deque()

    def begin(self) -> float:
        """Tell the date before which all has been kept for long enough. It has to be asked for now and again."""
        now = self._clock.seconds()
        lead = math.floor(self._wall.now() - now)
        while self._leads and self._leads[-1][1] >= lead:
            self._leads.pop()
        self._leads.append((now, lead))
        while self._leads[0][0] < now - self._seconds:
            self._leads.popleft()
        return now + self._leads[0][1] - self._seconds
