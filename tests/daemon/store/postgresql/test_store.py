"""Tests for :mod:`txapns.daemon.store.postgresql.store`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.fakes import DatedClock, InlineWorker
from tests.daemon.store.contract import START, message, result
from tests.postgresql import execute, pair, schema, started
from txapns.daemon.errors import DatabaseError, DatabaseVersion, Unavailable
from txapns.daemon.store.postgresql.connection import RETRY
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.store import PostgreSQLStore
from txapns.daemon.store.store import IStore
from txapns.daemon.values import Leased, Settlement, State

__all__ = ["FailureTests", "StoreTests"]


class Node:
    """A store, as one of several nodes has it."""

    def __init__(self, settings: Settings, clock: DatedClock, name: str) -> None:
        self.clock = clock
        self.database = Database(settings, clock, lambda name: InlineWorker())
        self.store = PostgreSQLStore(self.database, 10.0, name, lambda connection: clock.now())
        self.queue, self.outcome_log, self.log = self.store.queue, self.store.outcomes, self.store.feedback

    def do(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.clock, deferred)

    def accept(self, count: int = 1, start: int = 0) -> None:
        """Accept a message for some devices."""
        self.do(self.queue.accept([message(self, count, start=start)]))  # type: ignore[arg-type]

    def lease(self, count: int = 100) -> list[Leased]:
        """Lease for a minute."""
        return list(self.do(self.queue.lease("chess", count, self.clock.seconds() + 60.0)))

    def settle(self, leased: list[Leased]) -> None:
        """Settle notifications."""
        self.do(self.queue.settle([Settlement(each.number, State.ACCEPTED, 200) for each in leased]))

    def state(self, leased: Leased) -> State:
        """Look up a notification."""
        [found] = self.do(self.outcome_log.outcomes([leased.number]))
        return State(found.state)


@pytest.mark.loopback
class StoreTests(SynchronousTestCase):
    """How stores start, stop, and share a database."""

    def setUp(self) -> None:
        """Find a place for them."""
        self.place = schema(self)
        self.settings = Settings(self.place.url, schema=self.place.name)
        self.clock = DatedClock(START)

    def make(self, name: str = "one") -> Node:
        """Make a node."""
        return Node(self.settings, self.clock, name)

    def start(self, name: str = "one") -> Node:
        """Make a node, and start it."""
        node = self.make(name)
        node.do(node.store.start())
        self.addCleanup(lambda: node.do(node.store.stop()))
        return node

    def pass_by(self, seconds: int) -> None:
        """Let time pass, a second at a time."""
        self.clock.pump([1.0] * seconds)

    def test_interface(self) -> None:
        """It has everything of the interface."""
        verifyObject(IStore, self.start().store)

    def test_size(self) -> None:
        """Its size is that of its tables, and grows with what is stored."""
        one = self.start()
        size = one.do(one.store.size())
        one.accept(2_000)
        self.assertGreater(one.do(one.store.size()), size + 200_000)

    def test_shared(self) -> None:
        """What one node accepts another sends, and each knows what became of it."""
        one, two = self.start("one"), self.start("two")
        one.accept(3)
        leased = two.lease(2)
        self.assertEqual([len(leased), len(one.lease()), len(two.lease())], [2, 1, 0])
        two.settle(leased)
        self.assertEqual([node.state(leased[0]) for node in (one, two)], [State.ACCEPTED] * 2)
        self.pass_by(2)
        self.assertEqual([node.queue.waiting("chess").count for node in (one, two)], [1, 1])

    def test_stopped(self) -> None:
        """Work that was submitted before the stop is finished, leases end with it, and later requests fail."""
        one, two = self.start("one"), self.start("two")
        accepting = one.queue.accept([message(one)])  # type: ignore[arg-type]
        one.accept(1, start=1)
        self.assertEqual(len(one.lease()), 2)
        one.do(one.store.stop())
        self.assertEqual(len(self.successResultOf(accepting)), 1)
        self.failureResultOf(one.queue.accept([message(one)]), Unavailable)  # type: ignore[arg-type]
        self.failureResultOf(one.outcome_log.outcomes([1]), Unavailable)
        self.failureResultOf(one.log.after(None, 0, 1), Unavailable)
        self.assertNotEqual(self.successResultOf(one.store.probe()), "")
        self.assertEqual(len(two.lease()), 2)
        two.do(two.store.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_another_life(self) -> None:
        """When a node has begun another life, it leases under that, and nothing that it leased before is its own."""
        one = self.start()
        one.accept(2)
        [first] = one.lease(1)
        before = one.store.cluster.incarnation
        self.clock.advance(100.0)  # it stood still
        self.pass_by(2)
        self.assertNotEqual(one.store.cluster.incarnation, before)
        self.assertTrue(one.store.cluster.alive)
        leased = one.lease()
        self.assertEqual(len(leased), 2)
        one.settle(leased)
        self.assertEqual(one.state(first), State.ACCEPTED)

    def test_not_started(self) -> None:
        """A store that cannot start leaves nothing open."""
        self.start("one")
        url = f"{self.place.url}&options=-csearch_path%3D{self.place.name}"
        execute(url, "UPDATE schema_version SET version = 99, needed = 99 WHERE name = 'queue'")
        two = self.make("two")
        self.failureResultOf(two.store.start(), DatabaseVersion)
        self.failureResultOf(two.log.after(None, 0, 1), Unavailable)
        rows = execute(url, "SELECT name FROM node ORDER BY name")
        self.assertEqual(rows, [("one",)])


@pytest.mark.loopback
@pytest.mark.campaign
class FailureTests(SynchronousTestCase):
    """A node whose database goes away."""

    def test_away(self) -> None:
        """Nothing is accepted while it is away, and what was leased is settled when it is back in time."""
        server = started(self)
        clock = DatedClock(START)
        node = Node(Settings(server.tcp_url), clock, "one")
        self.failureResultOf(self.fails(node, server), DatabaseError)
        node.do(node.store.start())
        self.addCleanup(lambda: node.do(node.store.stop()))
        node.accept(3)
        leased = node.lease(2)
        server.kill()
        self.assertRaises(Unavailable, node.accept, 1, 10)
        self.assertRaises(Unavailable, node.settle, leased)
        self.assertRaises(Unavailable, node.lease)
        self.assertIn("the database is away", node.store.trouble)
        server.start()
        clock.pump([RETRY] * 2)
        self.assertEqual(node.store.trouble, "")
        node.settle(leased)
        self.assertEqual([node.state(each) for each in leased], [State.ACCEPTED] * 2)
        self.assertEqual(len(node.lease()), 1)
        node.accept(1, 10)
        self.assertEqual(len(node.lease()), 1)

    def test_promoted(self) -> None:
        """After the primary is lost, the promoted standby has all that was accepted, and the node goes on there."""
        primary, standby = pair(self)
        clock = DatedClock(START)
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        node = Node(Settings(f"postgresql://postgres@{hosts}/postgres"), clock, "one")
        node.do(node.store.start())
        self.addCleanup(lambda: node.do(node.store.stop()))
        node.accept(3)
        leased = node.lease(2)
        primary.kill()
        self.assertRaises(Unavailable, node.accept, 1, 10)
        self.assertIn("read-only", node.store.trouble)
        standby.set(synchronous_standby_names="")
        standby.promote()
        clock.pump([RETRY] * 2)
        self.assertEqual(node.store.trouble, "")
        node.settle(leased)
        self.assertEqual([node.state(each) for each in leased], [State.ACCEPTED] * 2)
        node.accept(1, 10)
        self.assertEqual(len(node.lease()), 2)

    def fails(self, node: Node, server: Any) -> Deferred[None]:
        """Start the store while the server is stopped."""
        server.stop()
        starting: Deferred[None] = node.store.start()
        server.start()
        return starting
