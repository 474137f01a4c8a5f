"""Tests for :mod:`txapns.daemon.sending.dispatcher`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase, TestCase

import txapns.daemon.sending.connecting
from tests.daemon.dispatch_world import AUTHORITY, DEAD, START, DictApps, DispatcherCase, DispatchWorld, token
from tests.daemon.fakes import Cluster
from tests.turns import MOST, Turns
from txapns._network.clocks import SystemWallClock
from txapns.credentials import Certificate
from txapns.daemon.errors import Unavailable
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.sending.budget import RESERVED
from txapns.daemon.sending.dispatcher import Dispatcher
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.cluster import Circuit, SingleNode
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import App, Content, Lease, Leased, Limits, Message, Pause, State
from txapns.gateway import Gateway
from txapns.simulator import Simulator
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.wire.requests import Request

__all__ = ["ClusterTests", "DrainTests", "FairnessTests", "FenceTests", "LoopbackTests", "ManyTests", "StopTests"]


class FenceTests(DispatcherCase):
    """An app that fails in every way."""

    def test_others_go_on(self) -> None:
        """An exception for one app does not affect how others are sent, changed and stopped."""
        get = self.world.apps.get

        def odd(name: str) -> App:
            if name == "go":
                raise RuntimeError("odd")
            return get(name)

        self.patch(self.world.apps, "get", odd)
        self.world.add_app("news")
        self.world.accept(3, "go")
        self.world.accept(3, "news")
        self.world.apps.tell("go", "news")
        self.world.drain(app="news")
        self.world.start()  # with what waits for both
        self.world.accept(3, "news")
        self.world.drain(app="news")
        self.assertEqual(self.world.state("news").accepted, 3)
        self.assertTrue(self.flushLoggedErrors(RuntimeError))

    def test_no_client(self) -> None:
        """If the client of an app cannot be made, for any reason, its circuit is tripped."""
        self.patch(txapns.daemon.sending.connecting, "APNSClient", lambda *arguments, **options: 1 // 0)
        self.world.accept()
        self.world.advance(1.0)
        state = self.world.state()
        self.assertEqual((state.tripped, state.reason), (True, "ZeroDivisionError; the daemon's log has more of it"))
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))


class FairnessTests(DispatcherCase):
    """Several apps."""

    started = {"most": 600}  # noqa: RUF012

    def test_slow_gateway(self) -> None:
        """An app with a long queue whose gateway does not answer does not delay another."""
        self.world.simulator.http2_fault = lambda server, request, response: None
        slow = [f"slow{n}" for n in range(5)]
        for name in slow:
            self.world.add_app(name)
            self.world.accept(2_000, name)
        self.world.advance(0.2)
        self.world.simulator.http2_fault = None
        ids = self.world.accept(RESERVED)
        self.world.advance(0.05)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * RESERVED)
        under_way = [self.world.state(name).under_way for name in slow]
        self.assertLessEqual(sum(under_way), 600 + 5 * RESERVED)
        self.assertGreaterEqual(min(under_way), RESERVED)

    def test_turns(self) -> None:
        """Apps with long queues advance about equally, and in the end everything is sent."""
        names = [f"app{n}" for n in range(3)]
        for name in names:
            self.world.add_app(name)
            self.world.accept(3_000, name)
        for name in names:
            self.world.drain(app=name)
        self.assertEqual(len(self.world.received()), 9_000)
        self.assertEqual(set(self.world.received().values()), {1})

    def test_in_flight(self) -> None:
        """An app never has more under way than its limit, which may be 1, less what is kept for urgent ones."""
        self.world.simulator.delay = 1.0
        for limit in 1, 7, 100:
            name = f"limit{limit}"
            self.world.add_app(name, limits=Limits(in_flight=limit))
            self.world.accept(3 * limit, name)
            self.world.advance(0.5)
            self.assertEqual(self.world.state(name).under_way, limit - limit // 20)
            self.world.drain(app=name)


class DrainTests(DispatcherCase):
    """A dispatcher that sends what waits before it is stopped."""

    def test_drained(self) -> None:
        """It is over when everything that is due is sent."""
        ids = self.world.accept(3_000)
        over = self.world.dispatcher.drain()
        self.world.advance(0.01)
        self.assertNoResult(over)
        self.world.drain()
        self.world.advance(1.0)
        self.assertEqual((self.successResultOf(over), self.world.received()), (None, dict.fromkeys(ids, 1)))

    def test_stuck(self) -> None:
        """What cannot be sent is not waited for: that of an app that is paused, is gone, or whose circuit is open."""
        self.world.simulator.http2_fault = lambda server, request, response: Response(403, "BadCertificateEnvironment")
        self.world.accept(3)
        paused = self.world.add_app("paused")
        self.world.apps.put(attrs.evolve(paused, pause=Pause(START, "ann")))
        self.world.accept(3, "paused")
        self.world.accept(3, "gone")
        over = self.world.dispatcher.drain()
        self.world.advance(5.0)
        self.assertEqual((self.successResultOf(over), self.world.dispatcher.under_way()), (None, 0))

    def test_stopped(self) -> None:
        """It is over when the dispatcher is stopped, whatever waits, even if the database cannot be read."""
        self.world.queue.broken = Unavailable("the disk is gone", 1.0)
        self.patch(self.world.queue, "due_apps", lambda: fail(Unavailable("the disk is gone", 1.0)))
        self.world.accept(3)
        over = self.world.dispatcher.drain()
        self.world.advance(60.0)
        self.assertNoResult(over)
        self.world.result(self.world.dispatcher.stop(0.0))
        self.assertEqual(self.successResultOf(over), None)

    def test_nodes(self) -> None:
        """Other nodes send what waits, so there is nothing to wait for."""
        self.world.cluster = Cluster()
        self.world.start()
        self.world.accept(3)
        self.assertEqual(self.successResultOf(self.world.dispatcher.drain()), None)


class StopTests(DispatcherCase):
    """How it stops."""

    options = {"delay": 2.0, "concurrency": 10}  # noqa: RUF012

    def test_drained(self) -> None:
        """What is under way is answered; what waits for a connection is given back; nothing more is leased."""
        ids = self.world.accept(60)
        self.world.advance(1.0)
        stopping = self.world.dispatcher.stop(10.0)
        self.world.accept(5)
        self.world.result(stopping, 0.1)
        self.assertLess(self.world.clock.seconds() - START, 3.0)
        states = self.states(ids)
        self.assertEqual((states.count(State.ACCEPTED), states.count(State.WAITING)), (10, 50))
        self.assertEqual(len(self.world.received()), 10)
        [depth] = self.world.result(self.world.queue.depths())
        self.assertEqual((depth.waiting, depth.leased), (55, 0))
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """What is not answered by the deadline stays leased; the next dispatcher sends it."""
        self.world.simulator.delay = 20.0
        ids = self.world.accept(10)
        self.world.advance(1.0)
        self.world.result(self.world.dispatcher.stop(3.0), 0.1)
        self.assertLess(self.world.clock.seconds() - START, 5.0)
        [depth] = self.world.result(self.world.queue.depths())
        self.assertEqual((depth.waiting, depth.leased), (10, 10))
        self.world.advance(30.0)
        self.assertEqual(self.states(ids), [State.WAITING] * 10)
        self.world.simulator.delay = 0.0
        self.world.result(self.world.queue.reclaim())
        self.world.start()
        self.world.drain()
        self.assertEqual(set(self.world.received()), set(ids))

    def test_full_disk(self) -> None:
        """A disk that stays full does not delay the stop."""
        self.world.simulator.delay = 0.0
        self.world.queue.full = True
        self.world.accept(10)
        self.world.advance(1.0)
        self.world.result(self.world.dispatcher.stop(3.0), 0.1)
        self.assertLess(self.world.clock.seconds() - START, 5.0)

    def test_nothing(self) -> None:
        """With nothing under way it stops at once, even before it was ever woken."""
        self.assertIsNone(self.successResultOf(self.world.dispatcher.stop(10.0)))
        self.world.start()
        self.world.dispatcher.wake("chess")
        self.world.advance(0.1)
        self.world.result(self.world.dispatcher.stop(10.0))


class ManyTests(SynchronousTestCase):
    """A start with many apps."""

    def test_turns(self) -> None:
        """Where many apps have something waiting, the reactor has turns between some of them and the next."""
        world = DispatchWorld()
        self.addCleanup(world.close)
        names = [f"app{number:02}" for number in range(40)]
        for name in names:
            world.add_app(name)
            world.accept(app=name)
        turns = Turns(world.clock)
        turns.begin(world.start)
        self.assertEqual([name for name in names if world.dispatcher.state(name) is None], [])
        self.assertLess(max(turns.found), MOST)


class ClusterTests(SynchronousTestCase):
    """One of several nodes."""

    def setUp(self) -> None:
        """Start a dispatcher on a queue that others share."""
        self.world = DispatchWorld(concurrency=10)
        self.world.cluster = self.cluster = Cluster()
        self.world.start()
        self.addCleanup(self.world.close)

    def accept_elsewhere(self, count: int) -> list[str]:
        """Accept as another node does, of which this one is not told."""
        self.patch(self.world.dispatcher, "wake", lambda app: None)
        ids = self.world.accept(count)
        del self.world.dispatcher.wake
        return ids

    def depth(self) -> tuple[int, int]:
        """Count what waits and what is leased."""
        [depth] = self.world.result(self.world.queue.depths())
        return depth.waiting, depth.leased

    def test_accepted_elsewhere(self) -> None:
        """What another node accepted is sent within a second, also of an app that had nothing before."""
        self.world.add_app("go")
        for _ in range(2):
            self.accept_elsewhere(3)
            self.world.advance(1.1)
            self.world.advance(0.1)
            self.assertEqual(self.depth(), (0, 0))
        self.assertEqual(len(self.world.received()), 6)

    def test_no_look(self) -> None:
        """A database that is away does not end the looks; with a store that cannot be shared there are none."""
        self.patch(self.world.queue, "due_apps", lambda: fail(Unavailable("away", 1.0)))
        self.world.advance(3.0)
        del self.world.queue.due_apps
        ids = self.accept_elsewhere(3)
        self.world.advance(1.1)
        self.world.drain()
        self.assertEqual(set(self.world.received()), set(ids))
        self.world.result(self.world.dispatcher.stop(1.0))
        self.world.cluster = SingleNode(self.world.clock)
        self.world.start()
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_end_of_life(self) -> None:
        """
        Before the node's leases end, nothing is in flight, no connection is open, and nothing more is leased. What was
        in flight is forgotten; after joining anew, whatever still waits is sent.
        """
        self.world.simulator.delay = 5.0
        ids = self.world.accept(60)
        self.world.advance(1.0)
        self.assertEqual((self.world.dispatcher.under_way(), self.world.state().connections), (60, ("ready",)))
        self.cluster.become(alive=False)
        self.assertEqual((self.world.dispatcher.under_way(), self.world.state().connections), (0, ()))
        ids += self.world.accept(5)
        self.world.advance(10.0)
        self.assertEqual((self.world.received(), self.depth()), ({}, (65, 60)))
        self.assertEqual(self.world.simulator.inbox.connections, 1)
        self.world.simulator.delay = 0.0
        self.world.result(self.world.queue.reclaim())
        self.cluster.become(alive=True)
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))
        self.assertEqual(self.states(ids), {State.ACCEPTED})

    def states(self, ids: list[str]) -> set[State]:
        """The states of notifications."""
        return {self.world.outcome(each).state for each in ids}

    def test_full(self) -> None:
        """
        Where others leave no room, whatever is accepted is looked for when something of this node's is settled, or a
        moment has passed; with nothing under way at once.
        """
        self.world.add_app("chess", limits=Limits(in_flight=10))
        self.accept_elsewhere(8)
        others = self.world.result(self.world.queue.lease("chess", 8, START + 600))
        looks = self.count_leases()
        self.world.simulator.delay = 1.0
        for _ in range(5):
            self.world.accept()
            self.world.advance(0.01)
        self.assertEqual((looks[0], self.depth()), (2, (13, 10)))
        self.world.advance(0.3)
        self.world.accept()
        self.world.advance(0.01)
        self.assertEqual((looks[0], self.depth()), (3, (14, 10)))
        self.world.advance(0.75)
        self.assertEqual((self.world.state().accepted, self.depth()), (2, (12, 10)))
        self.world.result(self.world.queue.release([each.number for each in others]))
        self.world.drain()
        self.assertEqual(self.depth(), (0, 0))

    def count_leases(self) -> list[int]:
        """Count from now on how often something is looked for."""
        looks, lease = [0], self.world.queue.lease

        def counted(*arguments: Any) -> Deferred[Lease]:
            looks[0] += 1
            return lease(*arguments)

        self.patch(self.world.queue, "lease", counted)
        return looks

    def test_lease_at_the_end(self) -> None:
        """What is leased at the very moment when the life ends is not sent, even if the next life has begun."""
        leasing: Deferred[Lease] = Deferred()
        lease = self.world.queue.lease
        self.patch(self.world.queue, "lease", lambda *arguments: lease(*arguments).addCallback(lambda _: leasing))
        ids = self.world.accept(3)
        self.world.advance(0.0)
        self.cluster.become(alive=False)
        del self.world.queue.lease
        self.assertEqual(self.depth(), (3, 3))
        numbers = [self.world.outcome(each).number for each in ids]
        content = Content("chess", {})
        self.cluster.become(alive=True)
        own = content, b"{}", b"t", ids[0], 0, START, START
        leasing.callback(Lease([Leased(number, *own) for number in numbers]))
        self.world.advance(5.0)
        self.assertEqual((self.depth(), self.world.received()), ((3, 3), {}))
        self.world.result(self.world.queue.reclaim())
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))

    def test_answered_in_time(self) -> None:
        """What was answered before the life ended is stored as soon as it begins anew, and sent no more."""
        self.world.queue.full = True
        ids = self.world.accept(5)
        self.world.advance(40.0)
        self.assertEqual((set(self.world.received()), self.depth()), (set(ids), (5, 5)))
        self.cluster.become(alive=False)
        self.assertEqual(self.world.dispatcher.under_way(), 5)
        self.world.queue.full = False
        self.world.result(self.world.queue.reclaim())
        self.cluster.become(alive=True)
        self.world.advance(0.01)
        self.assertEqual(self.depth(), (0, 0))
        self.world.advance(2.0)
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))
        ids += self.world.accept(5)
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))

    def test_stored_late(self) -> None:
        """The outcomes of what was answered are stored even while the node has no life, if the database allows."""
        self.world.queue.full = True
        ids = self.world.accept(5)
        self.world.advance(1.0)
        self.cluster.become(alive=False)
        self.world.queue.full = False
        self.world.advance(60.0)
        self.assertEqual((self.states(ids), self.depth()), ({State.ACCEPTED}, (0, 0)))

    def test_to_be_tried_again(self) -> None:
        """What could not be stored before the life ended, and is to be tried again, is left to others, and not told."""
        ids: list[str] = []
        told: list[object] = []

        def fault(server: ProviderAPIServer, request: Request, response: Response) -> Response:
            last = (b"apns-id", ids[2].encode()) in request.headers
            return Response(503, "ServiceUnavailable") if last else response

        self.world.simulator.http2_fault = fault
        self.world.queue.full = True
        ids += self.world.accept(3)
        self.world.outcomes.wait([self.world.outcome(each).number for each in ids], 99.0).addCallback(told.append)
        self.world.advance(1.0)
        self.cluster.become(alive=False)
        self.world.queue.full = False
        self.world.advance(60.0)
        states = [self.world.outcome(each).state for each in ids]
        self.assertEqual(states, [State.ACCEPTED] * 2 + [State.WAITING])
        self.assertEqual((self.world.outcome(ids[2]).attempts, self.depth(), told), (0, (1, 1), []))

    def test_stopped_without_life(self) -> None:
        """It stops at once when nothing is in flight because the life has ended."""
        self.world.simulator.delay = 5.0
        self.world.accept(5)
        self.world.advance(1.0)
        self.cluster.become(alive=False)
        self.cluster.become(alive=False)
        self.world.result(self.world.dispatcher.stop(10.0))
        self.assertEqual((self.cluster.listeners, self.cluster.watchers), ([], []))
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_started_without_life(self) -> None:
        """A dispatcher that starts without life sends when it begins."""
        self.world.result(self.world.dispatcher.stop(1.0))
        self.cluster.become(alive=False)
        self.world.start()
        ids = self.world.accept(3)
        self.world.advance(5.0)
        self.assertEqual(self.depth(), (3, 0))
        self.cluster.become(alive=True)
        self.world.drain()
        self.assertEqual(set(self.world.received()), set(ids))

    def test_circuit(self) -> None:
        """What another node reports of an app's circuit holds here, and what happens here is reported."""
        now = self.world.clock.seconds()
        self.cluster.tell("chess", Circuit("the credential is refused", True, now, now + 100.0))
        self.world.accept(3)
        self.world.advance(50.0)
        state = self.world.state()
        self.assertEqual((state.tripped, state.reason), (True, "the credential is refused"))
        self.assertEqual((self.depth(), self.world.received()), ((3, 0), {}))
        self.cluster.tell("chess", None)
        self.world.drain()
        self.assertFalse(self.world.state().tripped)
        self.assertEqual(self.cluster.reports, [])
        refused = Response(403, "BadCertificate")
        self.world.simulator.http2_fault = lambda server, request, response: refused
        self.world.add_app("go")
        self.world.accept(3, "go")
        self.world.advance(0.5)
        [(app, circuit)] = self.cluster.reports
        assert circuit is not None
        self.assertEqual((app, circuit.trips, circuit.until), ("go", True, self.world.state("go").since + 9.0))


@pytest.mark.loopback
class LoopbackTests(TestCase):
    """Real threads, sockets and clocks."""

    async def test_all(self) -> None:
        """Notifications arrive and are settled while more are accepted; stopping leaves nothing."""
        simulator = Simulator(reactor, authority=AUTHORITY, dead=[DEAD])
        port = reactor.listenTCP(0, simulator.tls_factory("http2"), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        store, apps = SQLiteStore(Database(self.mktemp(), reactor)), DictApps()  # type: ignore[arg-type]
        queue = store.queue
        await store.start()
        self.addCleanup(store.stop)
        outcomes = OutcomeWaiters(reactor, store.outcomes)  # type: ignore[arg-type]
        gateway = Gateway.http2("127.0.0.1", port.getHost().port, trust_root=AUTHORITY.ca_pem)
        for name in "chess", "go":
            credential = Certificate.from_pem(AUTHORITY.client_pem("com.example.app"))
            apps.put(App(name, gateway, credential, "com.example.app", limits=Limits(in_flight=100)))
        dispatcher = Dispatcher(reactor, queue, apps, outcomes, retries=Retries(1.0, 60.0, 0.5))  # type: ignore[arg-type]
        await dispatcher.start()
        waiting, ids = [], Identifiers(SystemWallClock())
        for round_ in range(20):
            for name in "chess", "go":
                tokens = [DEAD, *(token(100 * round_ + n) for n in range(49))]
                message = Message(name, b'{"aps":{"alert":"Hello"}}', {}, tokens, ids.take(50))
                [accepted] = await queue.accept([message])
                dispatcher.wake(name)
                waiting.append(outcomes.wait(accepted.numbers, 60.0, fresh=True))
        found = [outcome for each in waiting for outcome in (await each).values()]
        states = Counter(outcome.state for outcome in found)
        self.assertEqual(states, {State.ACCEPTED: 1_960, State.REJECTED: 40})
        received = Counter(each.headers["apns-id"] for each in simulator.inbox.received)
        self.assertEqual(received, dict.fromkeys([outcome.apns_id for outcome in found], 1))
        await dispatcher.stop(10.0)
        self.assertEqual([queue.waiting(name).count for name in apps.names()], [0, 0])
