"""Tests for :mod:`txapns.daemon.sending.dispatcher`."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

import txapns.daemon.sending.dispatcher
from tests.daemon.dispatch_world import AUTHORITY, DEAD, START, DictApps, DispatcherCase, token
from txapns._network.clocks import SystemWallClock
from txapns.credentials import Certificate
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.sending.budget import RESERVED
from txapns.daemon.sending.dispatcher import Dispatcher
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.values import App, Limits, Message, State
from txapns.gateway import Gateway
from txapns.simulator import Simulator

__all__ = ["FairnessTests", "FenceTests", "LoopbackTests", "StopTests"]


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
        self.patch(txapns.daemon.sending.dispatcher, "APNSClient", lambda *arguments, **options: 1 // 0)
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
        in_flight = [self.world.state(name).in_flight for name in slow]
        self.assertLessEqual(sum(in_flight), 600 + 5 * RESERVED)
        self.assertGreaterEqual(min(in_flight), RESERVED)

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
        """An app never has more under way than its limit, which may be 1."""
        self.world.simulator.delay = 1.0
        for limit in 1, 7, 100:
            name = f"limit{limit}"
            self.world.add_app(name, limits=Limits(in_flight=limit))
            self.world.accept(3 * limit, name)
            self.world.advance(0.5)
            self.assertEqual(self.world.state(name).in_flight, limit)
            self.world.drain(app=name)


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
        received = Counter(each.headers["apns-id"] for each in simulator.devices.received)
        self.assertEqual(received, dict.fromkeys([outcome.apns_id for outcome in found], 1))
        await dispatcher.stop(10.0)
        self.assertEqual([queue.waiting(name).count for name in apps.names()], [0, 0])
