"""
The leases, and where in the queue to look for the next notification.

A flow is ordered by due time, then by number. Leased notifications stay at its front until they are settled, so the
*mark* remembers how far the flow was leased, and the search begins there. When a notification before
the mark becomes free, because its lease ended or was given back, the mark moves back to it, and those still leased
after it are skipped.

One process has the database, so leases need not be on the disk: they end with the process, and no notification can stay
leased for ever. Leasing needs no write, and works even with a full disk.

Most notifications are leased right after they were accepted, when nothing of their flow is before them. So a flow may
have a time before which nothing of it is due, except for what was accepted since that became known. This is kept in
memory as the flow's *arrivals*, which are leased without a look into the database. For a flow without such a time, the
database is asked.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import attrs

from txapns.daemon.store.sqlite.arrivals import Arrival
from txapns.daemon.values import Content, Leased

__all__ = ["KEPT", "Leases", "Mark"]

#: How many bytes of arrivals are kept, about; for those that come after them the database is looked into.
KEPT = 16 * 2**20

#: A place in the queue: the due time in milliseconds, and the number.
Mark = tuple[int, int]

_START: Mark = (-(2**62), 0)


@attrs.frozen(eq=False)
class _Loan:
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
        self._clear: dict[int, float] = {}  # before this time nothing free is due, but for the arrivals
        self._arrivals: dict[int, deque[Arrival]] = {}
        self._kept = 0
        self._soonest = math.inf  # no lease ends before this time

    def __contains__(self, number: object) -> bool:
        return number in self._leases

    def counts(self) -> dict[int, int]:
        """Count the leases, by flow."""
        found: dict[int, int] = {}
        for lease in self._leases.values():
            found[lease.flow] = found.get(lease.flow, 0) + 1
        return found

    def among(self, numbers: Sequence[int]) -> tuple[Counter[int], list[int]]:
        """Count those that are leased, by flow, and list the others."""
        found: Counter[int] = Counter()
        for loan, count in Counter(map(self._leases.get, numbers)).items():
            if loan is not None:
                found[loan.flow] += count
        if found.total() == len(numbers):
            return found, []
        return found, [number for number in numbers if number not in self._leases]

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

    def first(self, flow: int, due: int) -> float | None:
        """
        Tell when the first free notification of a flow is due, as far as that is known without the database.

        :param due: the time until which it has to be known.
        :returns: a time after ``due``, or that of the first arrival; ``None`` if the database has to be asked.
        """
        clear = self._clear.get(flow)
        if clear is None or clear <= due:
            return None
        arrivals = self._arrivals.get(flow)
        return arrivals[0].due if arrivals else clear

    def know(self, flow: int, due: float) -> None:
        """Take note of when the first free notification of a flow is due, as the database tells."""
        self._forget_arrivals(flow)
        self._clear[flow] = due

    def are_next(self, flow: int, due: int) -> bool:
        """Tell whether notifications that were just accepted are next, behind the arrivals, and may be kept."""
        arrivals = self._arrivals.get(flow)
        behind = not arrivals or arrivals[-1].due <= due
        return behind and due < self._clear.get(flow, -math.inf) and self._kept < KEPT

    def arrive(self, flow: int, arrival: Arrival) -> None:
        """Keep notifications that are next."""
        self._rewind_to(flow, arrival.due, arrival.number)
        self._arrivals.setdefault(flow, deque()).append(arrival)
        self._kept += arrival.size

    def look_again(self) -> None:
        """Forget all arrivals: the database may change what they are."""
        for flow, arrivals in self._arrivals.items():
            self._clear[flow] = arrivals[0].due
        self._arrivals.clear()
        self._kept = 0

    def take(self, flow: int, count: int, until: float, contents: dict[str, Content]) -> list[Leased]:
        """
        Lease the first arrivals of a flow, as far as nothing else is before them.

        :param contents: what notifications that are leased together share, by the text of their header fields.
        """
        arrivals = self._arrivals[flow]
        found: list[Leased] = []
        dues: list[int] = []
        while arrivals and len(found) < count and arrivals[0].due < self._clear[flow]:
            arrival = arrivals[0]
            some = arrival.take(count - len(found), contents)
            found += some
            dues += [arrival.due] * len(some)
            if not arrival.count:
                self._kept -= arrival.size
                arrivals.popleft()
        if not arrivals:
            del self._arrivals[flow]
        self._lend(flow, dues, [each.number for each in found], until)
        return found

    def _forget_arrivals(self, flow: int) -> None:
        self._kept -= sum([arrival.size for arrival in self._arrivals.pop(flow, ())])

    def lend(self, flow: int, dues: Sequence[int], numbers: Sequence[int], until: float) -> None:
        """
        Lease notifications that the database tells: they lie after the mark, in order, with nothing free between them.

        :param dues: when they are due.
        """
        self._forget_arrivals(flow)
        self._clear.pop(flow, None)
        self._lend(flow, dues, numbers, until)

    def _lend(self, flow: int, dues: Sequence[int], numbers: Sequence[int], until: float) -> None:
        if numbers:
            self._leases.update(dict.fromkeys(numbers, _Loan(flow, dues[0], until)))
            self._marks[flow] = dues[-1], numbers[-1]
            self._soonest = min(self._soonest, until)
        self._furthest[flow] = max(self._furthest.get(flow, _START), self.mark(flow))

    def appear(self, flow: int, due: int, number: int) -> None:
        """Take account of a free notification that may lie before the mark."""
        self._rewind_to(flow, due, number)
        if flow in self._clear:
            self._clear[flow] = min(self._clear[flow], due)

    def _rewind_to(self, flow: int, due: int, number: int) -> None:
        self._marks[flow] = min(self.mark(flow), (due, number - 1))

    def rewind(self) -> None:
        """Take account of free notifications that may lie anywhere."""
        self._marks.clear()
        self._arrivals.clear()
        self._clear.clear()
        self._kept = 0

    def forget(self, flows: Iterable[int]) -> None:
        """Take account of flows that are gone, and of which nothing was leased; another may get the id of one."""
        for flow in flows:
            self._marks.pop(flow, None)
            self._furthest.pop(flow, None)
            self._forget_arrivals(flow)
            self._clear.pop(flow, None)

    def drop(self, numbers: Iterable[int]) -> None:
        """End the leases of notifications that left the queue, or their places there."""
        for number in numbers:
            if self._leases.pop(number, None) is None:
                self.look_again()  # it may be an arrival

    def put_back(self, number: int, due: int) -> None:
        """End the lease of a notification that moved to another place in the queue, if it has not ended before."""
        lease = self._leases.pop(number, None)
        if lease is None:
            self.rewind()  # only the lease knew its flow
        else:
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
                self._leases[number] = attrs.evolve(lease, until=until)
                self._soonest = min(self._soonest, until)

    def expire(self, now: float) -> None:
        """End the leases that have run out."""
        if now >= self._soonest:
            self.free([number for number, lease in self._leases.items() if lease.until <= now])
            self._soonest = min([lease.until for lease in self._leases.values()], default=math.inf)
