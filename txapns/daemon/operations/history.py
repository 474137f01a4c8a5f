"""
The last 15 minutes, in memory: how many notifications there were.

Memory does not grow with the number of notifications. The counts are read every two seconds from
:class:`~txapns.daemon.operations.metrics.Totals` and become one number for every ten seconds.
"""

from __future__ import annotations

from collections import deque

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.alarm import Alarm
from txapns._network.clocks import wall_clock
from txapns.daemon.operations.activity import Activity
from txapns.daemon.operations.metrics import Totals

__all__ = ["SPAN", "STEP", "History"]

#: The length of a step in seconds, and how many steps are kept.
STEP, SPAN = 10, 90

_TICK = 2.0
_RECENT = 5  # ticks over which the current rate is measured


class History:
    """
    Remembers the last 15 minutes.

    :ivar activity: how busy each app is.
    """

    def __init__(self, clock: IReactorTime, totals: Totals) -> None:
        self.activity = Activity(clock)
        self._clock = clock
        self._wall = wall_clock(clock)
        self._totals = totals
        self._steps: deque[tuple[float, Totals]] = deque(maxlen=SPAN)
        self._recent: deque[tuple[float, Totals]] = deque(maxlen=_RECENT + 1)
        self._begun = (0.0, attrs.evolve(totals))
        self._alarm = Alarm(clock, self._tick)

    def start(self) -> None:
        """Start counting."""
        now = self._clock.seconds()
        self._begun = self._round(now), attrs.evolve(self._totals)
        self._recent.append((now, attrs.evolve(self._totals)))
        self._alarm.set(_TICK)

    def stop(self) -> None:
        """Stop counting."""
        self._alarm.cancel()

    def steps(self) -> list[tuple[float, Totals]]:
        """
        Return for each finished step when it began and what it counted, oldest first.

        The dates follow the wall clock as it is set now.
        """
        ahead = self._wall.now() - self._clock.seconds()
        return [(round(began + ahead), counts) for began, counts in self._steps]

    def rates(self) -> Totals:
        """Return the current rates per second."""
        if len(self._recent) < 2:
            return Totals()
        (before, first), (now, last) = self._recent[0], self._recent[-1]
        return _difference(first, last, max(now - before, 0.001))

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._alarm.set(_TICK)
        self._recent.append((now, attrs.evolve(self._totals)))
        began, before = self._begun
        if now - began >= STEP * SPAN:  # the process was suspended
            self._begun = self._round(now), attrs.evolve(self._totals)
        elif now - began >= STEP:
            counts = _difference(before, self._totals, 1)
            self._steps.append((began, counts))
            for number in range(1, int((now - began) // STEP)):
                self._steps.append((began + number * STEP, Totals()))
            self._begun = now - (now - began) % STEP, attrs.evolve(self._totals)

    def _round(self, now: float) -> float:
        """Return when the step of a time begins: at a round time of the wall clock."""
        return now - self._wall.now() % STEP


def _difference(before: Totals, after: Totals, divisor: float) -> Totals:
    pairs = zip(attrs.astuple(before), attrs.astuple(after), strict=True)
    return Totals(*[(new - old) / divisor for old, new in pairs])
