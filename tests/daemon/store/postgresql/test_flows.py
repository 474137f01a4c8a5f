"""Tests for :mod:`txapns.daemon.store.postgresql.flows`."""

from __future__ import annotations

from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import StoreContract, message
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.acceptance import FlowKey
from txapns.daemon.store.postgresql.flows import forget_flows, hold_flows
from txapns.daemon.values import State

__all__ = ["FlowTests"]

_WEB: FlowKey = ("chess", 1, "web")


class FlowTests(StoreContract, SynchronousTestCase):
    """Several transactions."""

    world: PostgreSQLWorld

    def make_world(self) -> PostgreSQLWorld:
        """Make one, with a flow of which there is nothing."""
        world = PostgreSQLWorld(schema(self))
        world.execute_all("INSERT INTO queue_app (name) VALUES ('chess')")
        world.execute_all("INSERT INTO flow (app, lane, caller) SELECT 1, 1, 'web'")
        return world

    def test_held(self) -> None:
        """What a transaction holds is not forgotten; whoever looks does not wait for it."""
        with self.world.connect() as accepting, self.world.connect() as pruning:
            self.assertEqual(hold_flows(accepting, {_WEB}, {"chess": 1}, {_WEB: 1}), {_WEB: 1})
            self.assertEqual(forget_flows(pruning, 0, 10), (0, 1))
            pruning.commit()
            self.assertEqual(self.world.flows(), {"web"})
            accepting.commit()
            self.assertEqual(forget_flows(pruning, 0, 10), (0, 1))
            pruning.commit()
            self.assertEqual(self.world.flows(), set())

    def test_gone(self) -> None:
        """A transaction that wants to hold what is being forgotten waits, and makes it anew."""
        found: list[dict[FlowKey, int]] = []
        with self.world.connect() as accepting, self.world.connect() as pruning:
            forget_flows(pruning, 0, 10)

            def hold() -> None:
                found.append(hold_flows(accepting, {_WEB}, {"chess": 1}, {_WEB: 1}))
                accepting.commit()

            thread = Thread(target=hold)
            thread.start()
            while not self.world.waits(accepting.info.backend_pid):
                pass
            pruning.commit()
            thread.join()
        self.assertEqual((found, self.world.flows()), ([{_WEB: 2}], {"web"}))

    def test_other_node(self) -> None:
        """A node serves a caller whose flow another one has forgotten."""
        other = PostgreSQLWorld(self.world.place, self.world)
        self.addCleanup(other.stop)
        for _ in range(2):
            self.do("accept", [message(self.world, caller="web")])
            self.settle(self.lease(), State.ACCEPTED, 200)
            self.result(other.outcome_log.prune(0.0))
            self.assertEqual(self.world.flows(), set())

    def test_parts(self) -> None:
        """It goes on after the flow last looked at, until the end."""
        self.world.execute_all("INSERT INTO flow (app, lane, caller) SELECT 1, 1, n::text FROM generate_series(1, 6) n")
        with self.world.connect() as connection:
            self.assertEqual(
                [forget_flows(connection, after, 3) for after in (0, 3, 6, 7)], [(3, 3), (6, 3), (0, 1), (0, 0)]
            )
