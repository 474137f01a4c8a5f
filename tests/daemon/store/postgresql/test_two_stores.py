"""Two stores on one database: the queue and the outcome log, compared with the same model as one store."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from tests.daemon.store.contract import LONGEST, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.daemon.store.queue_machine import APPS, COUNTS, SECONDS, QueueMachine
from tests.postgresql import schema
from txapns.daemon.values import State

__all__ = ["ModelTests", "TwoStoresMachine"]


class TwoStoresMachine(QueueMachine):
    """
    The machine with two stores, which it uses in turn.

    Numbers increase within a store. What waits is known at once where it was changed, and elsewhere after a look.
    """

    worlds: list[PostgreSQLWorld]
    given_back = 1  # a claim may go on where the node's last one ended, for a moment

    def __init__(self) -> None:
        self.last: dict[str, int] = {}  # the last number that each store gave
        self.holders: dict[int, str] = {}  # the node that has leased each notification
        super().__init__()

    def make_world(self) -> PostgreSQLWorld:
        """Make both."""
        first = PostgreSQLWorld(schema())
        self.worlds = [first, PostgreSQLWorld(first.place, first)]
        return first

    def teardown(self) -> None:
        """Stop both."""
        for world in self.worlds:
            world.stop()
        self.worlds[0].place.drop()

    @property
    def numbers(self) -> int:
        """The last number that the present store gave."""
        return self.last.get(self.node, 0)

    @numbers.setter
    def numbers(self, number: int) -> None:
        self.last[self.node] = number

    @property
    def node(self) -> str:
        """The node whose store is used at present."""
        return getattr(self.world, "node", "")

    def holds(self, each: Any) -> bool:
        """Only the store that has leased it may release or renew it."""
        return self.holders.get(each.number) == self.node

    def lead(self) -> float:
        """By how much the database's clock is ahead of the reactor's."""
        return self.worlds[0].ahead

    @initialize()
    def begin(self) -> None:
        """Begin with something that the first store has leased, and the second uses."""
        self.accept("chess", 5, None)
        self.lease("chess", 4, 20)
        self.depths_agree()
        self.use(1)

    @rule(n=st.sampled_from([0, 1]))
    def use(self, n: int) -> None:
        """Go on with one of the stores."""
        self.world = self.worlds[n]
        self.world.feed.keep(self.recorded)

    @rule(app=APPS, count=COUNTS, seconds=SECONDS)
    def lease(self, app: str, count: int, seconds: int) -> None:
        """Lease exactly what the model says, whoever leased before."""
        due = self.due(app, count)
        leased = self.do("lease", app, count, self.now + seconds)
        assert [each.number for each in leased] == [each.number for each in due]
        for each in due:
            each.until = self.now + seconds
            self.holders[each.number] = self.node

    @rule(app=APPS, count=COUNTS, most=st.integers(min_value=0, max_value=6), seconds=SECONDS)
    def lease_at_most(self, app: str, count: int, most: int, seconds: int) -> None:
        """Lease no more than may be leased by both."""
        waiting = [each for each in self.all if each.app == app and each.state is State.WAITING]
        held = len(waiting) - len(self.free(app))
        due = self.due(app, max(0, min(count, most - held)))
        leased = self.do("lease", app, count, self.now + seconds, most)
        assert [each.number for each in leased] == [each.number for each in due]
        for each in due:
            each.until = self.now + seconds
            self.holders[each.number] = self.node

    @rule()
    def restart(self) -> None:
        """Restart one store, which takes a second. What it had leased is free, and what the other has stays leased."""
        now, node = self.now, self.node
        self.world.restart()
        self.world.feed.keep(self.recorded)
        self.world.clock.rightNow = now + 1
        for each in self.all:
            each.due = min(each.due, now + 0.5 + (LONGEST if each.attempts else 0))
            if self.holders.get(each.number) == node:
                each.until = None
        self.place(self.all)

    @invariant()
    def depths_agree(self) -> None:
        """As many wait as in the model: where the last change was at once, and in the other store after a look."""
        now = self.now
        for world in (self.world, *self.worlds):
            for app in ("chess", "news"):
                waiting = [each for each in self.all if each.app == app and each.state is State.WAITING]
                found: Any = world.queue  # type: ignore[attr-defined]
                if world is not self.world:
                    result(world.clock, found.look())
                assert found.waiting(app).count == len(waiting)
        self.world.clock.rightNow = now


ModelTests = TwoStoresMachine.TestCase
ModelTests.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
