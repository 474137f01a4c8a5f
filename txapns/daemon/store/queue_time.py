"""Times as a queue stores them: whole milliseconds, on a timeline that moves with the reactor's clock."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from txapns._network.clocks import wall_clock

__all__ = ["QueueTime", "milliseconds"]


def milliseconds(seconds: float) -> int:
    """Round seconds to milliseconds; cutting them would store a time read from the database as another."""
    return round(seconds * 1000)


class QueueTime:
    """
    A timeline.

    :param clock: the reactor, or a ``Clock``.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._wall = wall_clock(clock)

    @property
    def epoch(self) -> float:
        """The timeline's time when the reactor's clock was at 0, in seconds."""
        raise NotImplementedError

    def due(self, seconds: float) -> int:
        """Place a time of the reactor's clock on the timeline."""
        return milliseconds(self.epoch + seconds)

    def seconds(self, due: int) -> float:
        """Tell a time by the reactor's clock."""
        return due / 1000 - self.epoch

    def now(self) -> int:
        """Tell the present place on the timeline."""
        return self.due(self._clock.seconds())

    def calendar(self) -> int:
        """
        Tell the date by which something is sent not before another date, in milliseconds since the UNIX epoch.

        It is the date of the wall clock, unless several nodes need the same one.
        """
        return self.date()

    def place(self, date: int) -> int:
        """Place a date on the timeline, as the two relate now."""
        return date - self.calendar() + self.now()

    def date(self) -> int:
        """Tell the date, in milliseconds since the UNIX epoch."""
        return milliseconds(self._wall.now())
