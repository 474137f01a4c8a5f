"""
Who has which notification, and where in the queue the next is found: the part of it that is not on the disk.

The queue of an app is ordered by ``due``, then by number. What was leased lies at its front, where it stays until it is
settled, so it is remembered up to where the queue was leased, the *mark*, and looked for from there on. When a
notification before the mark becomes free (a lease ended or was given back) the mark moves back
to it, and what is still leased after it is passed over.

Since one process has the database, leases need not be on the disk: they end with the process, and nothing is left that
could be stuck. To lease costs no write, and is possible with a full disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Leases", "Mark"]

#: A place in the queue: when it is due, in milliseconds, and the number.
Mark = tuple[int, int]

_START: Mark = (-(2**62), 0)


class _Lease(NamedTuple):
    app: str
    due: int
    until: float


class Leases:
    """The leases, of all apps."""

    def __init__(self) -> None:
        self._leases: dict[int, _Lease] = {}
        self._marks: dict[str, Mark] = {}
        self._furthest: dict[str, Mark] = {}
        self._soonest = math.inf  # no lease ends before

    def __contains__(self, number: object) -> bool:
        return number in self._leases

    def counts(self) -> dict[str, int]:
        """Tell how many there are, by app."""
        found: dict[str, int] = {}
        for lease in self._leases.values():
            found[lease.app] = found.get(lease.app, 0) + 1
        return found

    def numbers(self) -> list[int]:
        """List all that is leased."""
        return list(self._leases)

    def mark(self, app: str) -> Mark:
        """
        Tell where to look for what is free: after this place.

        :param app: the app's name.
        """
        return self._marks.get(app, _START)

    def passed_over(self, app: str) -> list[int]:
        """
        List what is leased and may lie after the mark.

        :param app: the app's name.
        """
        if self.mark(app) >= self._furthest.get(app, _START):
            return []
        return [number for number, lease in self._leases.items() if lease.app == app]

    def lend(self, app: str, places: Sequence[Mark], until: float) -> None:
        """
        Lease notifications.

        :param app: the app's name.
        :param places: where they were found after the mark, in order; there was nothing free between.
        :param until: when the lease ends.
        """
        if places:
            self._leases.update({number: _Lease(app, due, until) for due, number in places})
            self._marks[app] = places[-1]
            self._soonest = min(self._soonest, until)
        self._furthest[app] = max(self._furthest.get(app, _START), self.mark(app))

    def appear(self, app: str, due: int, number: int) -> None:
        """
        There is a notification that may lie before the mark.

        :param app: the app's name.
        :param due: when it is due.
        :param number: its number.
        """
        self._marks[app] = min(self.mark(app), (due, number - 1))

    def drop(self, number: int) -> None:
        """
        End a lease of what is not in the queue any more, or not where it was.

        :param number: the notification.
        """
        self._leases.pop(number, None)

    def put_back(self, number: int, due: int) -> None:
        """
        End the lease of what is in the queue at another place now.

        :param number: the notification.
        :param due: when it is due now.
        """
        lease = self._leases.pop(number, None)
        if lease is not None:
            self.appear(lease.app, due, number)

    def free(self, numbers: Iterable[int]) -> None:
        """
        End leases of what is to be leased again.

        :param numbers: the notifications.
        """
        for number in numbers:
            lease = self._leases.pop(number, None)
            if lease is not None:
                self.appear(lease.app, lease.due, number)

    def renew(self, numbers: Iterable[int], until: float) -> None:
        """
        Let leases end at another time.

        :param numbers: the notifications.
        :param until: the time.
        """
        for number in numbers:
            lease = self._leases.get(number)
            if lease is not None:
                self._leases[number] = _Lease(lease.app, lease.due, until)
                self._soonest = min(self._soonest, until)

    def expire(self, now: float) -> None:
        """
        End the leases whose time is over.

        :param now: the time.
        """
        if now >= self._soonest:
            self.free([number for number, lease in self._leases.items() if lease.until <= now])
            self._soonest = min([lease.until for lease in self._leases.values()], default=math.inf)
