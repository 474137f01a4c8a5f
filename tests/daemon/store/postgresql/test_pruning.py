"""Tests for :mod:`txapns.daemon.store.postgresql.pruning`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.postgresql.acceptance import BLOCK_LIFE
from txapns.daemon.values import Settlement, State

__all__ = ["PruningTests"]


class PruningTests(SynchronousTestCase):
    """What is forgotten of a store whose days last ten seconds."""

    def setUp(self) -> None:
        """Make it."""
        self.world = PostgreSQLWorld(schema(self))
        self.addCleanup(lambda: self.world.stop())

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments))

    def accept(self, state: State) -> int:
        """Accept a notification and settle it; returns its number."""
        [receipt] = self.do("accept", [message(self.world)])
        self.do("settle", [Settlement(receipt.numbers[0], state, due=self.world.clock.seconds())])
        return receipt.numbers[0]

    def prune(self, age: float) -> None:
        """Forget what is older."""
        for _ in range(20):
            if not result(self.world.clock, self.world.outcome_log.prune(self.world.clock.now() - age, 2)):
                return
        self.fail("it does not end")

    def messages(self) -> list[int]:
        """List the messages that are kept."""
        return [number for (number,) in self.world.execute("SELECT number FROM message ORDER BY number")]

    def test_messages(self) -> None:
        """A message is kept as long as something of it waits or may be retried."""
        waiting, dead, _ = (self.accept(state) for state in (State.WAITING, State.WAITING, State.REJECTED))
        self.world.clock.advance(BLOCK_LIFE + 100)
        young = self.accept(State.ACCEPTED)
        self.do("settle", [Settlement(dead, State.DEAD)])
        self.prune(20.0)
        self.assertEqual(self.messages(), [waiting, dead, young])
        self.assertEqual(result(self.world.clock, self.world.outcome_log.retry("chess", 10)), 1)
        leased = self.do("lease", "chess", 10, self.world.clock.seconds() + 60)
        self.assertEqual([each.number for each in leased], [waiting, dead])

    def test_young_before_old(self) -> None:
        """A young message with a low number, of a node that accepts little, does not hold up the others."""
        first, *rest = (self.accept(State.ACCEPTED) for _ in range(4))
        self.world.clock.advance(1_000)
        accepted_at = int((self.world.clock.now() - 50 + BLOCK_LIFE / 2) * 1000)
        self.world.execute("UPDATE message SET accepted_at = %s WHERE number = %s", accepted_at, first)
        self.prune(50.0)
        self.assertEqual(self.messages(), [first])
        self.assertEqual(len(rest), 3)

    def test_node_ahead(self) -> None:
        """A node whose clock is ahead of the others' forgets nothing too early, and goes by the database's clock."""
        number = self.accept(State.ACCEPTED)
        self.world.clock.ahead += 1e6
        self.prune(20.0)
        found = result(self.world.clock, self.world.outcome_log.outcomes([number]))
        self.assertEqual((self.messages(), len(found)), ([number], 1))
        self.world.clock.advance(BLOCK_LIFE + 100)
        self.prune(20.0)
        found = result(self.world.clock, self.world.outcome_log.outcomes([number]))
        self.assertEqual((self.messages(), found), ([], []))

    def test_clock_was_ahead(self) -> None:
        """A message that was accepted while the clock was ahead does not hold up the others."""
        self.world.clock.ahead += 1e6
        first = self.accept(State.ACCEPTED)
        self.world.clock.ahead -= 1e6
        for _ in range(3):
            self.accept(State.ACCEPTED)
        self.world.clock.advance(1_000)
        self.prune(50.0)
        self.assertEqual(self.messages(), [first])
        self.world.clock.advance(2e6)
        self.prune(50.0)
        self.assertEqual((self.messages(), self.world.execute("SELECT count(*) FROM outcome")), ([], [(0,)]))
