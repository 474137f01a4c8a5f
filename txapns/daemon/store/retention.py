"""
The date before which outcomes are forgotten.

How long they are kept is a duration, but dates are stored, and somebody may set the clock from which they come. If it
were set forward by a week, everything settled today would look a week old. So the wall clock is compared with the
reactor's clock, which cannot be set: the smallest lead of the one over the other, during the time for which outcomes
are kept, counts. So nothing is forgotten too early. After a step of the clock, outcomes are kept longer, but not for
ever.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import wall_clock

__all__ = ["Retention"]


class Retention:
    """
    How long outcomes are kept.

    :param clock: the reactor, or a ``Clock``.
    :param seconds: returns how long, in seconds; it may change.
    """

    def __init__(self, clock: IReactorTime, seconds: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall_clock(clock)
        self._seconds = seconds
        # The leads that may become the smallest, each with the time when it was last seen: both increase.
        self._leads: deque[tuple[float, int]] = deque()

    def begin(self) -> float:
        """
        Return the date before which outcomes are old enough to be forgotten.

        Call it from time to time, since it tracks the clock.
        """
        now, seconds = self._clock.seconds(), self._seconds()
        lead = math.floor(self._wall.now() - now)
        while self._leads and self._leads[-1][1] >= lead:
            self._leads.pop()
        self._leads.append((now, lead))
        while self._leads[0][0] < now - seconds:
            self._leads.popleft()
        return now + self._leads[0][1] - seconds
