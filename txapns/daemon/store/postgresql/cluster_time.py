"""
The cluster's time: when a notification is due and when a lease ends, the same on all nodes.

The clock of the database decides, since there is only one. Each node measures at every heartbeat how far its reactor's
clock, which nobody can set, is from it; between two heartbeats it reads its own clock alone, and no statement asks the
database for the time. Times of the cluster are whole milliseconds.

A measurement is uncertain by half of the time that it took::

    reactor's clock    before ─────────┬───────── after
                                       │
    database's clock                  date         somewhere between the two

As long as the date is where the node expects it, within that uncertainty, nothing is corrected. So the cluster's time
does not tremble with the network.

The wall clock of the node dates what is accepted and settled, for people. Before which date something is not sent is
a matter of the cluster's time: if the database's clock is set, such dates come sooner or later.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.queue_time import QueueTime

__all__ = ["ClusterTime", "database_date"]


def database_date(connection: Connection) -> float:
    """Read the database's clock, in UNIX seconds."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    return float(row[0])


class ClusterTime(QueueTime):
    """
    The time of the database's clock, told by the reactor's.

    :param clock: the reactor, or a ``Clock``.
    :param read: reads the database's clock, in UNIX seconds.

    :ivar error: by how many seconds the last measurement may be wrong.
    """

    def __init__(self, clock: IReactorTime, read: Callable[[Connection], float] = database_date) -> None:
        self.read = read
        self.error = 0.0
        super().__init__(clock)
        self._epoch: float | None = None  # the database's time when the reactor's clock was at 0

    def calendar(self) -> int:
        """See :meth:`QueueTime.calendar`: the cluster's time is also a date, and the same for all nodes."""
        return self.now()

    def place(self, date: int) -> int:
        """See :meth:`QueueTime.place`."""
        return date

    @property
    def epoch(self) -> float:
        """The cluster's time when the reactor's clock was at 0; before the first measurement, the wall clock's."""
        return self._wall.now() - self._clock.seconds() if self._epoch is None else self._epoch

    def measured(self, date: float, before: float, after: float) -> float:
        """
        Take a measurement into account.

        :param date: what the database's clock showed, in UNIX seconds.
        :param before: when the reading began, by the reactor's clock.
        :param after: when it had ended.
        :returns: by how many seconds the cluster's time was corrected.
        """
        self.error = (after - before) / 2
        if self._epoch is not None and date - after <= self._epoch <= date - before:
            return 0.0
        was, self._epoch = self._epoch, date - (before + after) / 2
        return 0.0 if was is None else self._epoch - was
