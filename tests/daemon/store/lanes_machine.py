"""The order in which a queue leases, compared with a model of lanes and callers."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.daemon.store.contract import World, message, result
from txapns.daemon.store.turns import SHARE
from txapns.daemon.values import Lane, Settlement, State

__all__ = ["LanesMachine"]

_CALLERS = st.sampled_from(["web", "shop", "campaign", "cron", "admin"])
_COUNTS = st.integers(min_value=1, max_value=9)


@attrs.define
class _Notification:
    """What the model knows of a notification that waits."""

    number: int
    lane: Lane
    caller: str
    due: float
    leased: bool = False


class LanesMachine(RuleBasedStateMachine):
    """
    Uses a queue in any order.

    Which lane has its turn is exactly the model's. Of the callers it demands that they get equal parts, each of them in
    its order, and that a caller who is passed over has its turn.
    """

    def make_world(self) -> World:
        """Make an empty store, and start it."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.waiting: dict[int, _Notification] = {}
        self.passed = dict.fromkeys(Lane, 0)
        self.unserved: dict[tuple[Lane, str], int] = {}  # how often callers with something due got nothing

    def teardown(self) -> None:
        """Nothing is lost: all that is accepted is leased in the end, once."""
        self.world.clock.rightNow += 100.0
        self.do("release", [each.number for each in self.waiting.values() if each.leased])
        for each in self.waiting.values():
            each.leased = False
        while self.due():
            self.lease(9, None)
        assert not self.do("lease", "chess", 9, self.now + 60)
        self.world.stop()

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue, and turn the clock back to where it was."""
        now = self.now
        found = result(self.world.clock, getattr(self.world.queue, name)(*arguments))
        self.world.clock.rightNow = now
        return found

    @property
    def now(self) -> float:
        """The time."""
        return float(self.world.clock.seconds())

    def due(self) -> list[_Notification]:
        """What can be leased, in the order in which it is due."""
        found = [each for each in self.waiting.values() if not each.leased and each.due <= self.now]
        return sorted(found, key=lambda each: (each.due, each.number))

    @rule(lane=st.sampled_from(Lane), caller=_CALLERS, count=_COUNTS)
    def accept(self, lane: Lane, caller: str, count: int) -> None:
        """Accept a message."""
        [receipt] = self.do("accept", [message(self.world, count, lane=lane, caller=caller)])
        self.waiting.update({n: _Notification(n, lane, caller, self.now) for n in receipt.numbers})

    @rule(count=_COUNTS, only=st.none() | st.sampled_from(Lane))
    def lease(self, count: int, only: Lane | None) -> None:
        """Lease some."""
        due = self.due()
        lease = self.do("lease", "chess", count, self.now + 1e6, None, only)
        lane = self.turn({each.lane for each in due}, count, only)
        found = [self.waiting[each.number] for each in lease]
        assert {each.lane for each in found} == ({lane} if lane is not None else set())
        assert lane is None or {each.content.lane for each in lease} == {lane}
        candidates: dict[str, list[_Notification]] = {}
        for each in due:
            if each.lane is lane:
                candidates.setdefault(each.caller, []).append(each)
        self.check_callers(found, candidates, count)
        rest = [each for each in due if each not in found and only in (None, each.lane)]
        assert lease.more or not rest
        for each in found:
            each.leased = True
        if lane is not None:
            waited = {each.lane for each in due}
            for other in Lane:
                passed = self.passed[other] + len(found) if other in waited else 0
                self.passed[other] = 0 if other is lane else passed

    def turn(self, due: set[Lane], count: int, only: Lane | None) -> Lane | None:
        """Whose turn it is, of the lanes of which something is due."""
        if only is not None:
            return only if only in due else None
        owed = sorted([lane for lane in due if self.passed[lane] >= SHARE * count], key=lambda each: -self.passed[each])
        return min(due, default=None) if not owed else min(owed, key=lambda each: (-self.passed[each], each))

    def check_callers(self, found: list[_Notification], candidates: dict[str, list[_Notification]], count: int) -> None:
        """Those with something due get equal parts; if they are too many, the others have their turn soon."""
        if not candidates:
            return
        part = -(-count // min(count, len(candidates)))
        got = {caller: [each for each in found if each.caller == caller] for caller in candidates}
        for caller, some in got.items():
            assert some == candidates[caller][: len(some)]
            assert len(some) <= part
        served = [caller for caller in got if got[caller]]
        assert len(served) == min(len(candidates), -(-count // part))
        assert len(found) == count or sum(len(got[each]) < min(part, len(candidates[each])) for each in served) <= 1
        lane = found[0].lane
        for caller in got:
            times = self.unserved.get((lane, caller), 0) + 1
            self.unserved[lane, caller] = 0 if got[caller] else times
            assert self.unserved[lane, caller] <= 5  # no more than there are callers

    @rule(data=st.data(), state=st.sampled_from([State.ACCEPTED, State.WAITING]), seconds=st.integers(0, 9))
    def settle(self, data: st.DataObject, state: State, seconds: int) -> None:
        """Settle some of those that are leased, for good or for another attempt."""
        leased = [each for each in self.waiting.values() if each.leased]
        if not leased:
            return
        chosen = data.draw(st.lists(st.sampled_from(leased), unique_by=lambda each: each.number))
        due = self.now + seconds if state is State.WAITING else None
        if due is None:
            self.do("settle", [], [each.number for each in chosen])
        else:
            self.do("settle", [Settlement(each.number, state, 503, due=due) for each in chosen])
        for each in chosen:
            if due is None:
                del self.waiting[each.number]
            else:
                each.due, each.leased = due, False

    @rule(seconds=st.integers(1, 9))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.world.clock.rightNow += seconds
