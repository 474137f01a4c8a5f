"""
The queue's time: when a notification is due, and when it was accepted.

The wall clock dates what is accepted and settled. When something is *due* is not a date: if it were, a clock set back
by an hour would delay everything just accepted by that hour. So due times lie on a timeline of their own, which begins
at the wall clock's time at each start and moves with the reactor's clock. Steps of the wall clock between two runs of
the process are handled at the start: what was never tried is due at once, and nothing is delayed by more than the
longest retry.

Before which date something is not sent *is* a date of the wall clock. When that is due follows from it, and has to be
found anew after each step of the wall clock.

All stored times are whole milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

from twisted.internet.interfaces import IReactorTime

from txapns.daemon.store.queue_time import QueueTime

__all__ = ["STEP", "Timeline"]

#: In milliseconds; the two clocks drift apart by less than this unless somebody sets one.
STEP = 1000


class Timeline(QueueTime):
    """A timeline, which :meth:`begin` starts."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock)
        self._epoch = 0.0
        # By how many milliseconds the wall clock was ahead of the timeline, from which message on.
        self._leads: list[tuple[int, int]] = [(0, 0)]

    @property
    def epoch(self) -> float:
        """See :attr:`QueueTime.epoch`."""
        return self._epoch

    def begin(self) -> None:
        """Begin at the wall clock's time."""
        self._epoch = self._wall.now() - self._clock.seconds()

    def lead(self) -> int:
        """Tell by how many milliseconds the wall clock is ahead of the timeline."""
        return self.date() - self.now()

    def accepted(self, message: int, date: int, due: int) -> None:
        """Remember how dates and the timeline relate, from a message on that was accepted at a date and a place."""
        if abs(date - due - self._leads[-1][1]) > STEP:
            self._leads.append((message, date - due))

    def accepted_since(self, message: int, date: float) -> float:
        """
        Tell when a message was accepted, by the reactor's clock.

        :param date: the date when it was accepted.
        """
        _, lead = self._leads[bisect_right(self._leads, message, key=itemgetter(0)) - 1]
        return date - lead / 1000 - self._epoch
