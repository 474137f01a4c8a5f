"""Tests for several nodes that send from one queue on PostgreSQL: real dispatchers and stores, in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.dispatch_world import AUTHORITY, HEADERS, PAYLOAD, START, DictApps, token
from tests.daemon.fakes import InlineWorker
from tests.postgresql import schema
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import Unavailable
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.sending.context import AppState
from txapns.daemon.sending.dispatcher import GRACE, Dispatcher
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.cluster import HALF_OPEN
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.nodes import LIFE
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.store import PostgreSQLStore
from txapns.daemon.values import App, Limits, Message, Receipt, State
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

__all__ = ["CircuitTests", "LimitTests", "SharingTests", "TakingOverTests"]

_WAYS = ("write_together", "write", "between", "read", "beat")


class Node:
    """
    A node.

    :ivar connections: how many connections to the simulator the node has.
    """

    def __init__(self, world: NodesCase, name: str) -> None:
        self.world = world
        self.clock: Any = world.clock
        settings = Settings(world.place.url, schema=world.place.name)
        self.database = Database(settings, self.clock, lambda name: InlineWorker())
        self.store = PostgreSQLStore(self.database, 900.0, name, lambda connection: self.clock.seconds())
        self.ids = Identifiers(wall_clock(self.clock))
        world.result(self.store.start())
        self.outcomes = OutcomeWaiters(self.clock, self.store.outcomes, shared=True)
        self.dispatcher = Dispatcher(
            self.clock,
            self.store.queue,
            world.apps,
            self.outcomes,
            cluster=self.store.cluster,
            retries=Retries(2.0, 900.0, 0.5, random=lambda: 0.5),
        )
        self._ways = {way: getattr(self.database, way) for way in _WAYS}

    def start(self) -> Node:
        """Begin to send."""
        self.world.result(self.dispatcher.start())
        return self

    def stop(self) -> None:
        """Stop all."""
        self.world.result(self.dispatcher.stop(0.0))
        self.outcomes.stop()
        self.world.result(self.store.stop())

    def accept(self, count: int) -> Receipt:
        """Accept a message, of which only this node is told."""
        tokens = [token(self.world.numbers + n) for n in range(count)]
        self.world.numbers += count
        message = Message("chess", PAYLOAD, HEADERS, tokens, self.ids.take(count))
        [receipt] = self.world.result(self.store.queue.accept([message]))
        self.dispatcher.wake("chess")
        assert isinstance(receipt, Receipt)
        return receipt

    def cut_off(self) -> None:
        """Cut the node off from the database."""
        for way in _WAYS:
            setattr(self.database, way, lambda *arguments, **options: fail(Unavailable("away", 1.0)))

    def rejoin(self, *ways: str) -> None:
        """Undo that, or a part of it."""
        for way in ways or _WAYS:
            setattr(self.database, way, self._ways[way])

    def state(self) -> AppState:
        """What the node knows of the app."""
        return self.dispatcher.state("chess") or AppState("chess")


class NodesCase(SynchronousTestCase):
    """
    A simulator, a place for a database, and apps that all nodes know.

    :ivar requests: when each request came, and on which of the simulator's connections.
    """

    def setUp(self) -> None:
        """Make them."""
        self.place = schema(self)
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.clock = self.simulator.reactor
        self.clock.rightNow = START
        self.apps = DictApps()
        self.numbers = 0
        self.requests: list[tuple[float, ProviderAPIServer, str]] = []
        self.reply: Callable[[Response], Response | None] = lambda response: response
        self.simulator.http2_fault = self.note
        self.configure()

    def configure(self, **limits: int) -> None:
        """Add or change the app."""
        credential, gateway = self.simulator.certificate(), self.simulator.gateway()
        self.apps.put(App("chess", gateway, credential, self.simulator.topic, limits=Limits(**limits)))

    def note(self, server: ProviderAPIServer, request: Request, response: Response) -> Response | None:
        """Note a request, and answer it."""
        [apns_id] = [value.decode() for name, value in request.headers if name == b"apns-id"]
        self.requests.append((self.clock.seconds(), server, apns_id))
        return self.reply(response)

    def node(self, name: str) -> Node:
        """Make a node, which stops when the test ends."""
        node = Node(self, name)
        self.addCleanup(node.stop)
        return node

    def start(self, *names: str) -> list[Node]:
        """Start nodes."""
        return [self.node(name).start() for name in names]

    def result(self, deferred: Deferred[Any]) -> Any:
        """Let a little time pass until there is a result."""
        return self.simulator.result(deferred, 10.0)

    def advance(self, seconds: float) -> None:
        """Let time pass, a little at a time."""
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)

    def drain(self, node: Node, within: float = 60.0) -> None:
        """Let time pass until nothing waits."""
        end = self.clock.seconds() + within
        while [depth.waiting for depth in self.result(node.store.queue.depths())] != [0]:
            self.assertLess(self.clock.seconds(), end)
            self.advance(0.25)

    def times(self) -> Counter[str]:
        """How often each id was sent."""
        return Counter(apns_id for _, _, apns_id in self.requests)

    def states(self, node: Node, receipt: Receipt) -> Counter[State]:
        """The states of notifications."""
        return Counter(each.state for each in self.result(node.store.outcomes.outcomes(receipt.numbers)))


@pytest.mark.loopback
class SharingTests(NodesCase):
    """What one node accepts, any node sends."""

    def test_together(self) -> None:
        """Each notification is sent once, by any node, and all are settled."""
        nodes = self.start("a", "b", "c")
        receipts = [node.accept(700) for node in nodes]
        self.drain(nodes[0])
        self.assertEqual(self.times(), {apns_id: 1 for receipt in receipts for apns_id in receipt.apns_ids})
        for node, receipt in zip(nodes, receipts, strict=True):
            self.assertEqual(self.states(node, receipt), {State.ACCEPTED: 700})

    def test_wait(self) -> None:
        """One who waits on a node is told what another node sent."""
        a = self.node("a")
        [b] = self.start("b")
        receipt = a.accept(5)
        waiting = a.outcomes.wait(receipt.numbers, 30.0, fresh=True)
        begun = self.clock.seconds()
        found = self.result(waiting)
        self.assertEqual({each.state for each in found.values()}, {State.ACCEPTED})
        self.assertEqual((len(found), b.state().accepted), (5, 5))
        self.assertLess(self.clock.seconds() - begun, 2.0)

    def test_retried_elsewhere(self) -> None:
        """What one node put off, another sends when it is due, if the first is gone."""
        self.reply = lambda response: Response(503, "ServiceUnavailable")
        [a] = self.start("a")
        receipt = a.accept(1)
        self.advance(1.0)
        self.assertEqual(len(self.requests), 1)
        self.reply = lambda response: response
        [b] = self.start("b")
        a.dispatcher.stop(0.0)
        self.drain(b)
        self.assertEqual(self.states(b, receipt), {State.ACCEPTED: 1})


@pytest.mark.loopback
class TakingOverTests(NodesCase):
    """A node that cannot reach the database, and another one that can."""

    def test_cut_off(self) -> None:
        """
        A node that is cut off while it sends stops before its life ends in the database. Then the other sends what is
        not settled, and when the first is back, it settles nothing twice.
        """
        self.reply = lambda response: None
        [a] = self.start("a")
        receipt = a.accept(300)
        self.advance(1.0)
        self.assertEqual(len(self.requests), 300)
        [b] = self.start("b")
        cut = self.clock.seconds()
        a.cut_off()
        while a.store.cluster.alive:
            self.assertEqual((a.dispatcher.under_way(), len(self.requests)), (300, 300))
            self.advance(0.25)
        self.assertEqual((a.dispatcher.under_way(), a.state().connections), (0, ()))
        self.assertLess(self.clock.seconds() - cut, LIFE)
        self.reply = lambda response: response
        self.drain(b)
        first = self.requests[0][1]
        stopped = max(time for time, server, _ in self.requests if server is first)
        taken = min(time for time, server, _ in self.requests if server is not first)
        self.assertGreater(taken, max(stopped, cut + LIFE - 5.0))
        self.assertEqual(set(self.times().values()), {2})
        a.rejoin()
        self.advance(60.0)
        self.assertTrue(a.store.cluster.alive)
        self.assertEqual((len(self.requests), self.states(b, receipt)), (600, {State.ACCEPTED: 300}))
        self.assertEqual(self.result(b.store.queue.depths())[0].leased, 0)
        a.accept(1)
        self.drain(b)

    def test_answered(self) -> None:
        """
        What was answered before a node was cut off may be sent again by another, and settled by both: the first stays,
        and whoever waits is told that one.
        """
        [a] = self.start("a")
        self.simulator.delay = 2.0
        receipt = a.accept(10)
        waiting = a.outcomes.wait(receipt.numbers, 1000.0, fresh=True)
        self.advance(1.0)
        a.cut_off()
        self.advance(2.0)
        self.assertEqual(self.times(), dict.fromkeys(receipt.apns_ids, 1))
        [b] = self.start("b")
        self.reply = lambda response: Response(400, "BadTopic")
        self.advance(LIFE + 5.0)
        self.assertEqual(self.states(b, receipt), {State.REJECTED: 10})
        a.rejoin("beat", "write", "write_together", "between")
        self.advance(60.0)
        self.assertEqual((a.store.cluster.alive, a.dispatcher.under_way()), (True, 0))
        self.assertNoResult(waiting)
        a.rejoin()
        self.advance(1.0)
        self.assertEqual(self.states(a, receipt), {State.REJECTED: 10})
        told = Counter(each.state for each in self.successResultOf(waiting).values())
        self.assertEqual(told, {State.REJECTED: 10})
        self.assertEqual(self.times(), dict.fromkeys(receipt.apns_ids, 2))
        self.assertEqual([node.store.queue.waiting("chess").count for node in (a, b)], [0, 0])

    def test_database_away(self) -> None:
        """If the database is away from all nodes for long, what they know is stored when it is back, not sent again."""
        nodes = self.start("a", "b")
        self.simulator.delay = 1.0
        receipts = [node.accept(100) for node in nodes]
        self.advance(0.5)
        for node in nodes:
            node.cut_off()
        self.advance(2 * LIFE)
        for node in nodes:
            node.rejoin()
            self.advance(GRACE / 2)  # one finds it a little later than the other
        self.drain(nodes[0])
        self.assertEqual(set(self.times().values()), {1})
        for receipt in receipts:
            self.assertEqual(self.states(nodes[0], receipt), {State.ACCEPTED: 100})
        self.advance(35.0)
        self.assertEqual([node.dispatcher.under_way() for node in nodes], [0, 0])


@pytest.mark.loopback
class LimitTests(NodesCase):
    """An app's limit in flight."""

    def test_in_flight(self) -> None:
        """All nodes together have no more in flight than one may have, and use all but what is for urgent ones."""
        self.configure(in_flight=100)
        self.reply = lambda response: None
        nodes = self.start("a", "b", "c")
        for node in nodes:
            node.accept(200)
        self.advance(3.0)
        self.assertEqual(sum(node.dispatcher.under_way() for node in nodes), 95)
        self.assertEqual(len(self.requests), 95)

    def test_turns(self) -> None:
        """With a low limit everything is sent in the end, without a pause between chunks."""
        self.configure(in_flight=20)
        nodes = self.start("a", "b")
        receipts = [node.accept(200) for node in nodes]
        self.drain(nodes[0], 20.0)
        self.assertEqual(len(self.requests), 400)
        for receipt in receipts:
            self.assertEqual(self.states(nodes[1], receipt), {State.ACCEPTED: 200})


@pytest.mark.loopback
class CircuitTests(NodesCase):
    """An app whose credential is refused."""

    def test_probes(self) -> None:
        """All nodes pause together, and after each pause they try a few notifications together."""
        self.reply = lambda response: Response(403, "BadCertificate")
        nodes = self.start("a", "b", "c")
        for node in nodes:
            node.accept(200)
        self.advance(5.0)
        self.assertEqual([node.state().tripped for node in nodes], [True] * 3)
        begun = len(self.requests)
        self.advance(120.0)
        bursts: list[list[float]] = []
        for time, _, _ in self.requests[begun:]:
            if not bursts or time - bursts[-1][-1] > 5.0:
                bursts.append([])
            bursts[-1].append(time)
        self.assertGreaterEqual(len(bursts), 2)
        self.assertLessEqual(max(map(len, bursts)), HALF_OPEN)
        self.reply = lambda response: response
        self.configure()
        self.drain(nodes[0])
        self.assertEqual([node.state().tripped for node in nodes], [False] * 3)

    def test_over(self) -> None:
        """When a probe of one node gets through, all of them send again, soon."""
        self.reply = lambda response: Response(403, "BadCertificate")
        nodes = self.start("a", "b", "c")
        for node in nodes:
            node.accept(200)
        self.advance(5.0)
        self.reply = lambda response: response
        begun = self.clock.seconds()
        self.drain(nodes[0])
        self.assertLess(self.clock.seconds() - begun, 15.0)
        self.advance(2.0)
        self.assertEqual([node.state().tripped for node in nodes], [False] * 3)
