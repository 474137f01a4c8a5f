"""Tests for :mod:`txapns.daemon.store.postgresql.cluster` and :mod:`txapns.daemon.store.postgresql.nodes`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import TestCase

import psycopg
import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import txapns
from tests.daemon.fakes import DatedClock, InlineWorker
from tests.daemon.store.contract import START, result
from tests.daemon.store.postgresql.opened import until
from tests.postgresql import execute, schema
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.cluster import ICluster, NodeStatus
from txapns.daemon.store.postgresql import nodes
from txapns.daemon.store.postgresql.cluster import AGAIN, BEAT, MARGIN, PostgreSQLCluster
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.nodes import LIFE, is_alone
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["ClockTests", "DutyTests", "LifeTests", "NameTests"]

T = TypeVar("T")


class Nodes:
    """
    Nodes on one database, without threads.

    :ivar clock: the database's clock; a test may set it.
    :ivar reading: what happens while a node reads the database's clock.
    """

    def __init__(self, case: TestCase) -> None:
        self._case = case
        self.place = schema(case)
        self.clock = DatedClock(START)
        self.nodes: list[Node] = []
        self.numbers = itertools.count(1)
        self.reading: Callable[[], None] = lambda: None

    def start(self, name: str) -> Node:
        """Start a node."""
        node = Node(self, name)
        self.nodes.append(node)
        node.do(node.database.start())
        self._case.addCleanup(lambda: node.do(node.database.stop()))
        node.do(node.cluster.start())
        node.cluster.subscribe(lambda: node.told.append((node.cluster.alive, node.owned)))
        return node

    def date(self, connection: Connection) -> float:
        """Read the database's clock."""
        self.reading()
        return self.clock.now()

    def advance(self, seconds: float, *still: Node) -> None:
        """Let time pass, a second at a time, for all but those that stand still."""
        for step in [1.0] * int(seconds) + [seconds % 1]:
            self.clock.advance(step)
            for node in self.nodes:
                if node not in still:
                    node.clock.advance(step)

    def connect(self) -> Connection:
        """Connect, as a node does."""
        return psycopg.connect(self.place.url, options=f"-csearch_path={self.place.name}")

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute one statement, as another program does."""
        return execute(f"{self.place.url}&options=-csearch_path%3D{self.place.name}", statement, *parameters)


class Node:
    """
    A node.

    :ivar told: what was true whenever its listeners were told of a change: whether it is alive, and its duties among
        those that are asked for.
    :ivar cut: whether it cannot reach the database.
    """

    def __init__(self, nodes: Nodes, name: str) -> None:
        self.clock = DatedClock(START)
        settings = Settings(nodes.place.url, schema=nodes.place.name)
        self.database = Database(settings, self.clock, lambda name: InlineWorker())
        self.time = ClusterTime(self.clock, nodes.date)
        self.cluster = PostgreSQLCluster(
            self.database, self.time, name, lambda: f"00000000-0000-4000-8000-{next(nodes.numbers):012}"
        )
        self.duties: list[str] = []
        self.told: list[tuple[bool, set[str]]] = []
        self.cut = False
        beat = self.database.beat
        self.database.beat = (  # type: ignore[method-assign]
            lambda function: fail(Unavailable("away", 1.0)) if self.cut else beat(function)
        )

    @property
    def owned(self) -> set[str]:
        """The duties that it has."""
        return {duty for duty in self.duties if self.cluster.owns(duty)}

    def do(self, deferred: Deferred[T]) -> T:
        """Wait for a result."""
        found: T = result(self.clock, deferred)
        return found

    def status(self) -> dict[str, NodeStatus]:
        """List the nodes, as this one knows them."""
        return {each.name: each for each in self.do(self.cluster.nodes())}


@pytest.mark.loopback
class LifeTests(SynchronousTestCase):
    """How a node lives, and how its life ends."""

    def setUp(self) -> None:
        """Start two nodes."""
        self.nodes = Nodes(self)
        self.a, self.b = self.nodes.start("a"), self.nodes.start("b")

    def test_interface(self) -> None:
        """It has everything of the interface."""
        verifyObject(ICluster, self.a.cluster)

    def test_renewed(self) -> None:
        """Nodes live as long as they renew their lives; each knows of the others."""
        self.a.cluster.digest, self.a.cluster.in_flight = "d", lambda: 7
        self.nodes.advance(20 * LIFE + 2)
        for node in self.a, self.b:
            self.assertEqual((node.cluster.alive, node.cluster.trouble, node.told), (True, "", []))
        found = self.a.status()
        self.assertEqual(
            found["a"],
            NodeStatus(
                "a", txapns.__version__, "d", found["a"].since, found["a"].heartbeat, 0.0, 7, alive=True, own=True
            ),
        )
        self.assertApproximates(found["a"].since, START, 0.05)
        self.assertLess(found["a"].heartbeat, BEAT)
        self.assertEqual([found["b"].alive, found["b"].own, self.b.status()["b"].own], [True, False, True])

    def test_digest(self) -> None:
        """The others learn of another configuration at once."""
        self.a.cluster.digest = "d"
        self.nodes.advance(0.01)
        self.assertEqual((self.a.cluster.digest, self.b.status()["a"].digest), ("d", "d"))

    def test_offset(self) -> None:
        """By how much each node's wall clock is ahead of the database's is known."""
        self.a.clock.ahead += 2.5
        self.b.clock.ahead -= 7.0
        self.nodes.advance(BEAT)
        found = self.a.status()
        self.assertApproximates(found["a"].clock_offset, 2.5, 0.05)
        self.assertApproximates(found["b"].clock_offset, -7.0, 0.05)

    def test_cut_off(self) -> None:
        """
        A node that cannot renew its life stops sending before it ends in the database, and joins as another
        incarnation when it can.
        """
        before = self.a.cluster.incarnation
        self.nodes.advance(2 * BEAT + 1)
        self.a.cut = True
        while self.a.cluster.alive:
            self.assertTrue(self.b.status()["a"].alive)
            self.nodes.advance(0.5)
        self.assertEqual(self.a.told, [(False, set())])
        self.assertIn("could not be reached", self.a.cluster.trouble)
        left = self.nodes.execute("SELECT until FROM node WHERE name = 'a'")[0][0] - self.b.time.now()
        self.assertApproximates(left / 1000, MARGIN, 0.05)
        self.nodes.advance(MARGIN + 1)
        self.assertFalse(self.b.status()["a"].alive)
        self.assertTrue(self.b.cluster.alive)
        self.a.cut = False
        self.nodes.advance(AGAIN + 0.1)
        self.assertEqual((self.a.told, self.a.cluster.trouble), ([(False, set()), (True, set())], ""))
        self.assertNotEqual(self.a.cluster.incarnation, before)
        [(stored,)] = self.nodes.execute("SELECT incarnation::text FROM node WHERE name = 'a'")
        self.assertEqual(stored, self.a.cluster.incarnation)

    def test_brief_cut(self) -> None:
        """A cut shorter than the life has no effect: a heartbeat that failed is soon tried again."""
        self.nodes.advance(BEAT - 0.5)
        self.a.cut = True
        self.nodes.advance(LIFE - MARGIN - BEAT - AGAIN)
        self.a.cut = False
        self.nodes.advance(30.0)
        self.assertEqual((self.a.told, self.a.cluster.alive), ([], True))

    def test_stood_still(self) -> None:
        """A process that stood still for longer than its life has none when it goes on, before anything else."""
        before = self.a.cluster.incarnation
        self.nodes.advance(LIFE + 1, self.a)
        self.assertTrue(self.a.cluster.alive)
        self.a.clock.rightNow += LIFE + 1  # its timers are late
        self.assertFalse(self.a.cluster.alive)
        self.a.clock.advance(0)
        self.assertEqual(self.a.told, [(False, set()), (True, set())])
        self.assertNotEqual(self.a.cluster.incarnation, before)

    def test_machine_stood_still(self) -> None:
        """So it is if even its monotonic clock stood still; only the database can tell."""
        self.nodes.advance(LIFE + 1, self.a)
        self.a.clock.advance(BEAT)
        self.a.clock.advance(0)
        self.assertEqual(self.a.told, [(False, set()), (True, set())])
        self.assertTrue(self.b.cluster.alive)
        self.assertEqual(self.b.told, [])

    def slow(self, seconds: float) -> None:
        """Have the next heartbeat of the first node take some time."""

        def wait() -> None:
            self.nodes.reading = lambda: None
            self.nodes.clock.advance(seconds)
            self.a.clock.rightNow += seconds

        self.nodes.reading = wait

    def test_slow_heartbeat(self) -> None:
        """A life counts from the moment before the heartbeat, and one that takes longer than that prolongs nothing."""
        self.nodes.advance(BEAT - 1)
        self.slow(6.0)
        self.a.clock.advance(1.0)
        self.a.cut = True
        self.a.clock.advance(LIFE - MARGIN - 6.0 - 0.1)
        self.assertTrue(self.a.cluster.alive)
        self.a.clock.advance(0.2)
        self.assertFalse(self.a.cluster.alive)
        self.a.cut = False
        self.slow(LIFE)
        self.a.clock.advance(AGAIN)
        self.assertEqual((self.a.cluster.alive, self.a.told), (True, [(False, set()), (True, set())]))

    def test_farewell(self) -> None:
        """A node that stops is forgotten at once."""
        self.a.do(self.a.cluster.stop())
        self.assertEqual(list(self.b.status()), ["b"])
        self.assertFalse(self.a.cluster.alive)
        self.assertEqual(self.a.clock.getDelayedCalls(), self.a.clock.getDelayedCalls()[:1])  # the database's
        self.nodes.advance(60)
        self.assertEqual(list(self.b.status()), ["b"])

    def test_farewell_while_cut_off(self) -> None:
        """A node that cannot say farewell stops all the same."""
        self.a.cut = True
        self.a.do(self.a.cluster.stop())
        self.nodes.advance(LIFE + 1)
        self.assertFalse(self.b.status()["a"].alive)

    def test_listener_raises(self) -> None:
        """A listener that raises does not keep others from being told."""
        self.b.cluster.subscribe(lambda: 1 // 0)
        end = self.b.cluster.subscribe(lambda: self.b.told.append((True, {"last"})))
        self.b.cut = True
        self.nodes.advance(LIFE)
        self.assertEqual(self.b.told, [(False, set()), (True, {"last"})])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        end()

    def test_alone(self) -> None:
        """It is known whether other nodes are alive, also by a program that is none, and before there are tables."""

        def alone(name: str) -> bool:
            return self.b.do(
                self.b.database.read(lambda connection: is_alone(connection, name, self.nodes.clock.now()))
            )

        self.assertEqual((alone("a"), alone(""), self.a.database.alone is None), (False, False, False))
        self.a.do(self.a.cluster.stop())
        self.assertEqual((alone("b"), alone("")), (True, False))
        self.b.cut = True
        self.nodes.advance(LIFE + 1)
        self.assertTrue(alone(""))
        self.nodes.execute("DROP TABLE node")
        self.assertTrue(alone("b"))


@pytest.mark.loopback
class NameTests(SynchronousTestCase):
    """Two processes under one name."""

    def setUp(self) -> None:
        """Start one."""
        self.nodes = Nodes(self)
        self.first = self.nodes.start("a")

    def test_killed(self) -> None:
        """A process that starts again under its name lives at once, as another incarnation."""
        self.nodes.nodes.remove(self.first)  # it was killed
        second = self.nodes.start("a")
        self.assertTrue(second.cluster.alive)
        rows = self.nodes.execute("SELECT incarnation::text FROM node")
        self.assertEqual(rows, [(second.cluster.incarnation,)])
        self.assertNotEqual(second.cluster.incarnation, self.first.cluster.incarnation)

    def test_twice(self) -> None:
        """The earlier of two stops sending, and says why, until the later one is gone."""
        with capturedLogs() as events:
            second = self.nodes.start("a")
            self.nodes.advance(BEAT)
        self.assertIn("has been replaced by this process", str([each.get("log_format") for each in events]))
        self.assertEqual((self.first.cluster.alive, second.cluster.alive), (False, True))
        self.assertIn("another process has the name a", self.first.cluster.trouble)
        with capturedLogs() as events:
            self.nodes.advance(60.0)
        self.assertEqual((self.first.cluster.alive, second.cluster.alive, events), (False, True, []))
        second.do(second.cluster.stop())
        self.nodes.advance(AGAIN)
        self.assertEqual((self.first.cluster.alive, self.first.cluster.trouble), (True, ""))

    def test_unsure(self) -> None:
        """A process that cannot know whether it has joined does not take itself for another."""
        self.first.cut = True
        self.nodes.advance(LIFE)
        self.assertFalse(self.first.cluster.alive)
        beat = self.first.database.beat
        self.first.cut = False

        def lost(function: Callable[[Connection], T]) -> Deferred[T]:
            return beat(function).addCallback(lambda _: fail(Unavailable("the connection was lost", 1.0)))

        self.patch(self.first.database, "beat", lost)
        self.nodes.advance(3.0)
        self.assertFalse(self.first.cluster.alive)
        self.patch(self.first.database, "beat", beat)
        self.nodes.advance(AGAIN)
        self.assertTrue(self.first.cluster.alive)


@pytest.mark.loopback
class DutyTests(SynchronousTestCase):
    """What one node does for all."""

    def setUp(self) -> None:
        """Start two nodes, which both ask for the same duty; one asks for another, too."""
        self.nodes = Nodes(self)
        self.a, self.b = self.nodes.start("a"), self.nodes.start("b")
        self.a.duties, self.b.duties = ["webhook"], ["webhook", "other"]
        self.a.owned, self.b.owned  # noqa: B018
        self.nodes.advance(0.01)

    def test_at_the_same_time(self) -> None:
        """Of two nodes that join and take the same duties at the same time, each of these has one owner."""
        now = int(START * 1000)
        self.nodes.execute("INSERT INTO duty VALUES ('old', '00000000-0000-0000-0000-000000000000')")
        found: list[set[str]] = []

        def begin(connection: Connection, number: int) -> None:
            node = nodes.Node(f"n{number}", f"00000000-0000-4000-9000-{number:012}", "", "", 0, 0)
            nodes.join(connection, node, now)
            found.append(nodes.take(connection, node.incarnation, ["old", "new"], now))

        with self.nodes.connect() as one, self.nodes.connect() as other:
            begin(one, 1)
            thread = threading.Thread(target=begin, args=(other, 2))
            thread.start()
            waits = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
            until(lambda: self.nodes.execute(waits, other.info.backend_pid) == [(True,)])
            one.commit()
            thread.join()
        self.assertEqual(found, [{"old", "new"}, set()])

    def owners(self) -> list[set[str]]:
        """The duties of both."""
        return [self.a.owned, self.b.owned]

    def test_one_owner(self) -> None:
        """One of those that ask has it, as soon as it asks, and keeps it."""
        self.assertEqual(self.owners(), [{"webhook"}, {"other"}])
        self.nodes.advance(10 * LIFE)
        self.assertEqual(self.owners(), [{"webhook"}, {"other"}])
        self.assertEqual([self.a.told, self.b.told], [[(True, {"webhook"})], [(True, {"other"})]])

    def test_resigned(self) -> None:
        """A duty that its owner resigns goes to another one, and comes back only if that one resigns."""
        self.a.duties.clear()
        self.a.cluster.resign("webhook")
        self.assertEqual(self.owners(), [set(), {"other"}])
        self.nodes.advance(BEAT)
        self.assertEqual(self.b.owned, {"webhook", "other"})
        self.a.duties.append("webhook")
        self.assertEqual(self.a.owned, set())
        self.nodes.advance(LIFE)
        self.assertEqual(self.owners(), [set(), {"webhook", "other"}])
        self.b.duties.remove("webhook")
        self.b.cluster.resign("webhook")
        self.nodes.advance(0.01)
        self.nodes.advance(BEAT)
        self.assertEqual(self.owners(), [{"webhook"}, {"other"}])
        self.a.cluster.resign("webhook")
        self.assertEqual(self.a.owned, set())
        self.nodes.advance(0.01)
        self.assertEqual(self.a.owned, {"webhook"})

    def test_farewell(self) -> None:
        """When the owner stops, another takes it over with its next heartbeat."""
        self.a.do(self.a.cluster.stop())
        self.assertEqual(self.a.owned, set())
        self.nodes.advance(BEAT)
        self.assertEqual(self.b.owned, {"webhook", "other"})

    def test_owner_dies(self) -> None:
        """When the owner dies, another takes it over; never do two have it."""
        self.a.cut = True
        for _ in range(int(LIFE + BEAT) + 1):
            self.nodes.advance(1.0)
            self.assertLess(sum("webhook" in owned for owned in self.owners()), 2)
        self.assertEqual(self.owners(), [set(), {"webhook", "other"}])
        self.a.cut = False
        self.nodes.advance(60.0)
        self.assertEqual(self.owners(), [set(), {"webhook", "other"}])

    def test_rejoined(self) -> None:
        """An owner that joins again may get it back, if nobody took it."""
        self.b.do(self.b.cluster.stop())
        self.a.cut = True
        self.nodes.advance(LIFE)
        self.assertEqual(self.a.owned, set())
        self.a.cut = False
        self.nodes.advance(BEAT)
        self.assertEqual(self.a.owned, {"webhook"})


@pytest.mark.loopback
class ClockTests(SynchronousTestCase):
    """The database's clock is set, or another one after a failover."""

    def setUp(self) -> None:
        """Start two nodes."""
        self.nodes = Nodes(self)
        self.a, self.b = self.nodes.start("a"), self.nodes.start("b")
        self.nodes.advance(7.0)

    def now(self, node: Node) -> float:
        """The cluster's time, as a node knows it, in seconds."""
        return node.time.now() / 1000

    def test_back(self) -> None:
        """A clock that is set back is corrected, once, for all nodes: the cluster's time goes on."""
        begin = self.now(self.a)
        self.nodes.clock.ahead -= 3_600.0
        self.nodes.advance(60.0)
        for node in self.a, self.b:
            self.assertApproximates(self.now(node) - begin, 60.0, 0.05)
            self.assertEqual(node.told, [])
        [(correction,)] = self.nodes.execute("SELECT correction FROM cluster_clock")
        self.assertApproximates(correction / 1000, 3_600.0, 0.05)
        self.nodes.clock.ahead -= 60.0
        self.nodes.advance(60.0)
        self.assertApproximates(self.now(self.b) - begin, 120.0, 0.05)
        c = self.nodes.start("c")
        self.assertApproximates(self.now(c) - begin, 120.0, 0.05)

    def test_slow(self) -> None:
        """A node that stands still in the middle of a heartbeat, while others go on, corrects nothing."""
        read = self.a.time.read

        def slow(connection: Connection) -> float:
            self.a.time.read = read
            date = read(connection)
            self.nodes.advance(9.0, self.a)
            return date

        for _ in range(3):
            self.a.time.read = slow
            self.nodes.advance(BEAT)
        self.assertEqual(self.nodes.execute("SELECT correction FROM cluster_clock"), [(0,)])

    def test_back_by_little(self) -> None:
        """A small difference is not corrected, but followed: a node that dies is not noticed much later."""
        begin = self.now(self.a)
        self.nodes.clock.ahead -= 0.5
        self.nodes.advance(60.0)
        for node in self.a, self.b:
            self.assertApproximates(self.now(node) - begin, 59.5, 0.05)
        self.assertEqual(self.nodes.execute("SELECT correction FROM cluster_clock"), [(0,)])

    def test_back_while_nobody_looks(self) -> None:
        """Nodes that all stop, and start after the clock was set back, go on where they stopped, or later."""
        begin = self.now(self.b)
        self.a.do(self.a.cluster.stop())
        self.b.do(self.b.cluster.stop())
        self.nodes.clock.ahead -= 3_600.0
        c = self.nodes.start("c")
        self.assertGreater(self.now(c), begin - BEAT)

    def test_back_while_all_are_dead(self) -> None:
        """So do those that were killed."""
        begin = self.now(self.b)
        self.a.cut = self.b.cut = True
        self.nodes.clock.ahead -= 3_600.0
        c = self.nodes.start("c")
        self.assertGreater(self.now(c), begin - BEAT)

    def test_forward(self) -> None:
        """A clock that is set forward looks as if the nodes had stood still: they join anew, and go on."""
        before = [self.a.cluster.incarnation, self.b.cluster.incarnation]
        begin = self.now(self.a)
        self.nodes.clock.ahead += 3_600.0
        self.nodes.advance(2 * BEAT)
        for node, incarnation in zip((self.a, self.b), before, strict=True):
            self.assertEqual(node.told, [(False, set()), (True, set())])
            self.assertNotEqual(node.cluster.incarnation, incarnation)
            self.assertApproximates(self.now(node) - begin, 3_600.0 + 2 * BEAT, 0.05)

    def test_wall_clock(self) -> None:
        """What the wall clock of a node shows does not matter."""
        begin = self.now(self.a)
        self.a.clock.ahead += 86_400.0
        self.nodes.advance(60.0)
        self.assertApproximates(self.now(self.a) - begin, 60.0, 0.05)
        self.assertEqual(self.a.told, [])
