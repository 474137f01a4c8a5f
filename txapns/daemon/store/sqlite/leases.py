"""
The leases, and where in the queue to look for the next notification.

A flow is ordered by due time, then by number. Leased notifications stay at its front until they are settled, so the
*mark* remembers how far the flow was leased, and the search begins there. When a notification before
the mark becomes free, because its lease ended or was given back, the mark moves back to it, and those still leased
after it are skipped.

One process has the database, so leases need not be on the disk: they end with the process, and no notification can stay
leased for ever. Leasing needs no write, and works even with a full disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Leases", "Mark"]

#: A place in the queue: the due time in milliseconds, and the number.
Mark = tuple[int, int]

_START: Mark = (-(2**62), 0)


class _Loan(NamedTuple):
    """What notifications have in common that were leased together; ``due`` is when the first of them was due."""

    flow: int
    due: int
    until: float


class Leases:
    """The leases of all flows, which are known by their ids."""

    def __init__(self) -> None:
        self._leases: dict[int, _Loan] = {}
        self._marks: dict[int, Mark] = {}
        self._furthest: dict[int, Mark] = {}
        self._soonest = math.inf  # no lease ends before this time

    def __contains__(self, number: object) -> bool:
        return number in self._leases

    def counts(self) -> dict[int, int]:
        """Count the leases, by flow."""
        found: dict[int, int] = {}
        for lease in self._leases.values():
            found[lease.flow] = found.get(lease.flow, 0) + 1
        return found

    def numbers(self) -> list[int]:
        """List the leased notifications."""
        return list(self._leases)

    def mark(self, flow: int) -> Mark:
        """Tell after which place to look for free notifications."""
        return self._marks.get(flow, _START)

    def passed_over(self, flow: int) -> list[int]:
        """List the leased notifications that may lie after the mark."""
        if self.mark(flow) >= self._furthest.get(flow, _START):
            return []
        return [number for number, lease in self._leases.items() if lease.flow == flow]

    def lend(self, flow: int, dues: Sequence[int], numbers: Sequence[int], until: float) -> None:
        """
        Lease notifications, which lie after the mark, in order, with nothing free between them.

        :param dues: when they are due.
        """
        if numbers:
            self._leases.update(dict.fromkeys(numbers, _Loan(flow, dues[0], until)))
            self._marks[flow] = dues[-1], numbers[-1]
            self._soonest = min(self._soonest, until)
        self._furthest[flow] = max(self._furthest.get(flow, _START), self.mark(flow))

    def appear(self, flow: int, due: int, number: int) -> None:
        """Take account of a free notification that may lie before the mark."""
        self._marks[flow] = min(self.mark(flow), (due, number - 1))

    def rewind(self) -> None:
        """Take account of free notifications that may lie anywhere."""
        self._marks.clear()

    def forget(self, flows: Iterable[int]) -> None:
        """Take account of flows that are gone, and of which nothing was leased; another may get the id of one."""
        for flow in flows:
            self._marks.pop(flow, None)
            self._furthest.pop(flow, None)

    def drop(self, number: int) -> None:
        """End the lease of a notification that left the queue, or its place there."""
        self._leases.pop(number, None)

    def put_back(self, number: int, due: int) -> None:
        """End the lease of a notification that moved to another place in the queue."""
        lease = self._leases.pop(number, None)
        if lease is not None:
            self.appear(lease.flow, due, number)

    def free(self, numbers: Iterable[int]) -> None:
        """End leases, so that the notifications can be leased again."""
        for number in numbers:
            lease = self._leases.pop(number, None)
            if lease is not None:
                self.appear(lease.flow, lease.due, number)

    def renew(self, numbers: Iterable[int], until: float) -> None:
        """Move the end of leases."""
        for number in numbers:
            lease = self._leases.get(number)
            if lease is not None:
                self._leases[number] = lease._replace(until=until)
                self._soonest = min(self._soonest, until)

    def expire(self, now: float) -> None:
        """End the leases that have run out."""
        if now >= self._soonest:
            self.free([number for number, lease in self._leases.items() if lease.until <= now])
            self._soonest = min([lease.until for lease in self._leases.values()], default=math.inf)
