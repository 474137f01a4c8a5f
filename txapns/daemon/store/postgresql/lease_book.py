"""
Which rows of the table of leases a node has, and which notifications are in each of them.

A chunk is leased by one row and mostly settled as a whole, and then its row is deleted by its id. Only this node knows
which notification is in which row. A notification that is settled and not known here, such as one that another node
leased after a lease of this one had ended, is looked for in all rows, which takes longer and is rare.

It belongs to the reactor's thread, except for :meth:`LeaseBook.find`, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

__all__ = ["Found", "LeaseBook", "LeaseKey"]

#: The key of a row: the app's id, and the id of the lease.
LeaseKey = tuple[int, int]


@attrs.define(eq=False)
class _Lease:
    until: float
    numbers: set[int]


@attrs.frozen(eq=False)
class Found:
    """
    Where notifications are leased.

    :ivar whole: the rows of which all notifications are among them.
    :ivar parts: other rows, with those that are among them.
    :ivar unknown: the notifications of which no row is known.
    """

    whole: dict[LeaseKey, set[int]] = attrs.Factory(dict)
    parts: dict[LeaseKey, set[int]] = attrs.Factory(dict)
    unknown: list[int] = attrs.Factory(list)

    @property
    def known(self) -> dict[LeaseKey, set[int]]:
        """All rows."""
        return {**self.whole, **self.parts}


class LeaseBook:
    """The leases of this node."""

    def __init__(self) -> None:
        self._leases: dict[LeaseKey, _Lease] = {}
        self._rows: dict[int, LeaseKey] = {}  # by the number of the notification

    def __len__(self) -> int:
        return len(self._rows)

    def lend(self, key: LeaseKey, numbers: Sequence[int], until: float, now: float) -> None:
        """Note a new row; what ended before ``now`` is forgotten."""
        for old in [old for old, lease in self._leases.items() if lease.until <= now]:
            self._forget(old)
        self._leases[key] = _Lease(until, set(numbers))
        self._rows.update(dict.fromkeys(numbers, key))

    def find(self, numbers: Iterable[int], now: float) -> Found:
        """Find the rows of notifications. A lease that has ended is not known any more: another node may have it."""
        found: dict[LeaseKey, set[int]] = {}
        unknown = []
        for number in numbers:
            key = self._rows.get(number)
            if key is None:
                unknown.append(number)
            else:
                found.setdefault(key, set()).add(number)
        whole, parts = {}, {}
        for key, chosen in found.items():
            lease = self._leases.get(key)
            if lease is None or lease.until <= now:
                unknown += chosen
            elif len(chosen) == len(lease.numbers):
                whole[key] = chosen
            else:
                parts[key] = chosen
        return Found(whole, parts, unknown)

    def drop(self, rows: Iterable[tuple[LeaseKey, Iterable[int]]]) -> None:
        """Note that notifications left their rows."""
        for key, numbers in rows:
            lease = self._leases.get(key)
            if lease is None:
                continue
            lease.numbers.difference_update(numbers)
            for number in numbers:
                if self._rows.get(number) == key:
                    del self._rows[number]
            if not lease.numbers:
                del self._leases[key]

    def renew(self, keys: Iterable[LeaseKey], until: float) -> None:
        """Note that the end of rows has moved."""
        for key in keys:
            lease = self._leases.get(key)
            if lease is not None:
                lease.until = until

    def clear(self) -> None:
        """Forget all: the node has begun a new life, and its leases have ended with the old one."""
        self._leases.clear()
        self._rows.clear()

    def _forget(self, key: LeaseKey) -> None:
        for number in self._leases.pop(key).numbers:
            if self._rows.get(number) == key:
                del self._rows[number]
