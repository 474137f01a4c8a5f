"""
Whose notifications are leased next.

What one caller sends for one app in one lane is a *flow*. The notifications of a flow are leased in the order of their
due times, then of their acceptance. Each lease takes from one lane:

- The first lane of which something is due has its turn. So what is urgent goes before all, and behind what is leased
  already.
- But a lane that was passed over while something of it was due has the next turn once :data:`SHARE` times as many were
  leased from others as it would get. So in the long run a lane gets one notification in five, whatever the others have.
- All flows of the lane that have something due get an equal part. If they are more than may be leased, they take
  turns.

So one caller's million holds neither what is urgent nor another caller's notifications.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from txapns.daemon.values import Lane

__all__ = ["SHARE", "Turn", "Turns", "part"]

#: How many notifications of other lanes may be leased for each that a lane would get, before it has its turn.
SHARE = 4


def part(count: int, flows: int) -> int:
    """Tell how many of ``count`` to lease from each of some flows; the last may get fewer."""
    return -(-count // flows)


@attrs.frozen
class Turn:
    """
    How to choose for one lease.

    :ivar lanes: the lanes, that whose turn it is first.
    :ivar after: for each of all lanes, after which flow to begin.
    """

    lanes: Sequence[int]
    after: Sequence[int]

    def choose(self, due: Mapping[int, int], most: int) -> list[int]:
        """
        Choose the flows to lease from.

        :param due: the flows that have something due: their ids, with their lanes.
        :param most: how many notifications may be leased.
        """
        lanes = set(due.values())
        lane = next((lane for lane in self.lanes if lane in lanes), None)
        flows = [flow for flow in due if due[flow] == lane]
        if not flows or most <= 0:
            return []
        if len(flows) == 1:
            return flows
        flows.sort(key=lambda flow: (flow <= self.after[due[flow]], flow))
        each = part(most, min(most, len(flows)))
        return flows[: part(most, each)]


_LANES = range(len(Lane))


@attrs.define(eq=False)
class _Lanes:
    passed: list[int] = attrs.Factory(lambda: [0 for _ in _LANES])
    after: list[int] = attrs.Factory(lambda: [0 for _ in _LANES])


class Turns:
    """Whose turn it is, for each app. They belong to the thread that leases; each node has its own."""

    def __init__(self) -> None:
        self._apps: dict[str, _Lanes] = {}

    def next(self, app: str, count: int, only: Lane | None = None) -> Turn:
        """
        Tell how to choose.

        :param count: how many are wanted.
        :param only: the lane to lease from; ``None`` for any.
        """
        lanes = self._lanes(app)
        if only is not None:
            return Turn([int(only)], [*lanes.after])
        passed = [number if number >= SHARE * count else 0 for number in lanes.passed]
        turn = sorted(_LANES, key=lambda lane: (-passed[lane], lane)) if any(passed) else _LANES
        return Turn(turn, [*lanes.after])

    def took(self, app: str, lane: int, count: int, last: int, due: Collection[int]) -> None:
        """
        Note what was leased.

        :param last: the last flow of which something was.
        :param due: the lanes of which something was due.
        """
        lanes = self._lanes(app)
        lanes.after[lane] = last
        for other in _LANES:
            lanes.passed[other] = lanes.passed[other] + count if other != lane and other in due else 0

    def _lanes(self, app: str) -> _Lanes:
        lanes = self._apps.get(app)
        if lanes is None:
            lanes = self._apps[app] = _Lanes()
        return lanes
