"""Tests for :mod:`txapns.daemon.store.postgresql.superseding`."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.daemon.store.superseding_contract import SupersedingContract
from tests.postgresql import schema
from txapns.daemon.values import Receipt, Settlement, State

__all__ = ["PostgreSQLSupersedingTests", "TwoNodesTests"]


class PostgreSQLSupersedingTests(SupersedingContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


class TwoNodesTests(SynchronousTestCase):
    """Two nodes with one queue."""

    def setUp(self) -> None:
        """Start both."""
        place = schema(self)
        self.first = PostgreSQLWorld(place)
        self.addCleanup(lambda: self.first.stop())
        self.second = PostgreSQLWorld(place, self.first)
        self.addCleanup(lambda: self.second.stop())

    def accept(self, world: PostgreSQLWorld, count: int = 1) -> Receipt:
        """Accept a message with a collapse id."""
        [receipt] = result(
            world.clock, world.queue.accept([msgspec.structs.replace(message(world, count), collapse_id="score")])
        )
        assert isinstance(receipt, Receipt)
        return receipt

    def states(self, receipt: Receipt) -> list[State]:
        """The states of notifications."""
        return [each.state for each in result(self.first.clock, self.first.outcome_log.outcomes(receipt.numbers))]

    def test_numbers(self) -> None:
        """What was accepted later supersedes what was accepted before, whichever has the smaller number."""
        self.accept(self.first)
        older = self.accept(self.second, 3)
        newer = self.accept(self.first, 3)
        self.assertLess(newer.numbers[0], older.numbers[0])
        self.assertEqual(self.states(older) + self.states(newer), [State.SUPERSEDED] * 3 + [State.WAITING] * 3)
        for world in (self.first, self.second):
            result(world.clock, world.queue.look())
            self.assertEqual(world.queue.waiting("chess").count, 3)

    def test_leased_elsewhere(self) -> None:
        """What another node has leased is left alone, and superseded when it comes back there."""
        older = self.accept(self.first, 2)
        leased = result(self.second.clock, self.second.queue.lease("chess", 10, self.second.clock.seconds() + 60))
        self.accept(self.first, 2)
        self.assertEqual(self.states(older), [State.WAITING] * 2)
        settlements = [Settlement(each.number, State.WAITING) for each in leased]
        result(self.second.clock, self.second.queue.settle(settlements))
        found = result(self.first.clock, self.first.queue.lease("chess", 10, self.first.clock.seconds() + 60))
        self.assertEqual((len(found), self.states(older)), (2, [State.SUPERSEDED] * 2))

    def test_rate(self) -> None:
        """Both together lease no more a second than an app may send."""
        self.accept(self.first, 100)
        found = 0
        for turn in range(9):
            for world in (self.first, self.second):
                arguments = ("chess", 50, world.clock.seconds() + 1e6, None, None, 10)
                found += len(result(world.clock, world.queue.lease(*arguments)))
            self.assertLessEqual(found, 10 * (turn * 0.25 + 0.5) + 1)
            self.first.clock.advance(0.25)
        self.assertGreaterEqual(found, 20)

    def test_locked(self) -> None:
        """While a node accepts something with a collapse id, nobody leases for the app."""
        self.accept(self.first)
        with self.second.connect() as connection:
            connection.execute("SELECT FROM queue_app WHERE name = 'chess' FOR NO KEY UPDATE")
            with self.first.connect() as other, self.assertRaisesRegex(Exception, "lock timeout"):
                other.execute("SET lock_timeout = '50ms'")
                other.execute("SELECT FROM queue_app WHERE id = ANY('{1}'::bigint[]) ORDER BY id FOR NO KEY UPDATE")
