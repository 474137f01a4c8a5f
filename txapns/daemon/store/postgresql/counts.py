"""
How many notifications wait: what this node has changed, exactly, and what the others have, as of the last look.

In the database each node has rows of its own, to which its transactions add; see
:mod:`txapns.daemon.store.postgresql.tables`. Here the count of the own rows includes what is only being stored. It
may come to differ from them, as when a connection breaks during COMMIT; where nothing of this node's is under way, a
look puts it right. When the node begins another life, its rows begin at 0, and those of its former life are another
node's. Then the first look counts, even if it misses some of what is under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred

from txapns.daemon.store.postgresql.schema import Connection

__all__ = ["NodeCounts", "WaitingCounts", "read_counts"]

_T = TypeVar("_T")

_READ = """
SELECT name, coalesce(sum(waiting) FILTER (WHERE node = %(node)s), 0)::bigint,
    coalesce(sum(waiting) FILTER (WHERE node <> %(node)s), 0)::bigint
FROM queue_count JOIN queue_app ON queue_app.id = queue_count.app GROUP BY name
"""


@attrs.frozen
class NodeCounts:
    """
    What a look found, by app.

    :ivar own: what the node's own rows say.
    """

    node: str
    own: Mapping[str, int]
    others: Mapping[str, int]


def read_counts(connection: Connection, node: str) -> NodeCounts:
    """Look into the database."""
    rows = connection.execute(_READ, {"node": node}, prepare=True).fetchall()
    return NodeCounts(node, {name: own for name, own, _ in rows}, {name: others for name, _, others in rows})


class WaitingCounts:
    """
    The counts, by app. They belong to the reactor's thread.

    :ivar looked: when the others' counts were read, by the reactor's clock.
    """

    def __init__(self) -> None:
        self.looked = 0.0
        self._own: Counter[str] = Counter()
        self._others: Mapping[str, int] = {}
        self._under_way = 0
        self._changes = 0
        self._node: str | None = None

    def __getitem__(self, app: str) -> int:
        # Less than none: this node has settled what another has accepted since the last look.
        return max(0, self._own[app] + self._others.get(app, 0))

    @property
    def changes(self) -> int | None:
        """How many changes there were; ``None`` while one is under way."""
        return None if self._under_way else self._changes

    def update(self, counts: Mapping[str, int], /) -> None:
        """Add."""
        self._own.update(counts)

    def subtract(self, counts: Mapping[str, int], /) -> None:
        """Take away."""
        self._own.subtract(counts)

    def during(self, change: Deferred[_T]) -> Deferred[_T]:
        """Take note that something of this node's is under way until a ``Deferred`` fires."""
        self._under_way += 1

        def done(result: _T) -> _T:
            self._under_way -= 1
            self._changes += 1
            return result

        return change.addBoth(done)

    def looked_up(self, found: NodeCounts, changes: int | None, now: float) -> None:
        """
        Take note of a look.

        :param changes: what :attr:`changes` was when it began.
        """
        self.looked = now
        self._others = found.others
        other, self._node = self._node not in (None, found.node), found.node
        if other or (changes is not None and changes == self.changes):
            self._own = Counter(found.own)
