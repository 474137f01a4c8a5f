"""Tests for :mod:`txapns.daemon.sending.sender`."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.daemon.dispatch_world import DEAD, START, DispatcherCase, DispatchWorld, token
from txapns._network.clocks import wall_clock
from txapns.client import APNSClient
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import Unavailable
from txapns.daemon.sending.budget import Budget
from txapns.daemon.sending.context import SenderContext
from txapns.daemon.sending.sender import CHUNK, AppSender
from txapns.daemon.sending.settling import Retries
from txapns.daemon.store.cluster import HALF_OPEN, SingleNode
from txapns.daemon.values import Lane, Lease, Limits, Pause, Settlement, State
from txapns.errors import TokensFailed
from txapns.gateway import Gateway
from txapns.interfaces import IMetrics
from txapns.result import Batch
from txapns.simulator.authority import Authority
from txapns.simulator.http2 import ProviderAPIServer, Response
from txapns.wire.requests import Request

__all__ = [
    "ClockTests",
    "CredentialTests",
    "FaultTests",
    "LeaseTests",
    "OutcomeTests",
    "PauseTests",
    "RotationTests",
    "TroubleTests",
]


@implementer(IMetrics)
class Counting:
    """Metrics in a counter."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def sent(self, count: int) -> None:
        """Count attempts."""
        self._counts["sent"] += count

    def accepted(self, seconds: float) -> None:
        """Count one."""
        self._counts["accepted"] += 1

    def rejected(self, status: int, reason: str, seconds: float) -> None:
        """Count one by its reason."""
        self._counts[reason] += 1

    def retried(self, reason: str) -> None:
        """Count one."""
        self._counts["retried"] += 1

    def unanswered(self, uncertain: bool) -> None:
        """Count one."""
        self._counts["unanswered"] += 1


class BrokenClient(APNSClient):
    """A client whose batches fail."""

    def send_many(self, triples: Any, **options: Any) -> Deferred[Batch]:
        """Fail."""
        return fail(TokensFailed("the iterable raised ZeroDivisionError"))


class OutcomeTests(DispatcherCase):
    """From the queue to Apple and back."""

    def test_accepted(self) -> None:
        """An accepted notification is sent at once, under its own id, and settled."""
        ids = self.world.accept(3)
        self.world.advance(0.05)
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 3)
        found = self.world.outcome(ids[0])
        self.assertEqual((found.status, found.reason, found.attempts), (200, "", 1))
        self.assertLess((found.settled_at or 0.0) - START, 0.05)

    def test_unique_id(self) -> None:
        """One who waits gets the id that Apple gives notifications in the sandbox, and so does one who asks later."""
        self.world.simulator.environment = "sandbox"
        [apns_id] = self.world.accept(1)
        number = self.world.outcome(apns_id).number
        waiting = self.world.outcomes.wait([number], 5.0)
        found = self.world.result(waiting)[number].unique_id
        self.assertEqual((bool(found), self.world.outcome(apns_id).unique_id), (True, found))

    def test_what_is_sent(self) -> None:
        """Token, payload and header fields arrive as accepted, with the app's topic if they have none."""
        payload = b'{ "aps" : {"alert":"\xc3\xbc"}}'
        self.world.accept(
            tokens=[token(7)], payload=payload, priority="5", expiration=str(int(START) + 60), collapse_id="x"
        )
        self.world.drain()
        [found] = self.world.simulator.inbox.received
        self.assertEqual((found.token, found.payload), (token(7), payload))
        expected = {
            "apns-topic": "com.example.app",
            "apns-push-type": "alert",
            "apns-priority": "5",
            "apns-expiration": str(int(START) + 60),
            "apns-collapse-id": "x",
        }
        self.assertEqual({**found.headers, **expected}, found.headers)

    def test_dead_token(self) -> None:
        """A dead token is in the feedback log, and the listener is called."""
        ids = self.world.accept(tokens=[token(1), DEAD])
        self.world.drain()
        self.assertEqual(self.states(ids), [State.ACCEPTED, State.REJECTED])
        [dead] = self.world.result(self.world.log.after("chess", 0, 10))
        self.assertEqual((dead.token, dead.reason), (DEAD, "Unregistered"))
        self.assertEqual(self.world.noted, ["chess"])

    def test_refused(self) -> None:
        """A notification that Apple rejects for good is settled with the reason; its token is not dead."""
        [one] = self.world.accept(push_type="nonsense")
        self.world.drain()
        found = self.world.outcome(one)
        self.assertEqual((found.state, found.status, found.reason), (State.REJECTED, 400, "InvalidPushType"))
        self.assertEqual(self.world.noted, [])

    def test_invalid(self) -> None:
        """A notification that no request can carry is rejected, and does not stop the others."""
        [invalid] = self.world.accept(priority="high")
        [good] = self.world.accept()
        self.world.drain()
        self.assertEqual(self.states([invalid, good]), [State.REJECTED, State.ACCEPTED])
        self.assertEqual(self.world.outcome(invalid).reason, "ValueError")
        self.assertEqual(len(self.world.received()), 1)

    def test_expired(self) -> None:
        """An expired notification is not sent; 0 does not mean a time."""
        late, zero = self.world.accept(expiration=str(int(START) - 1)), self.world.accept(expiration="0")
        self.world.drain()
        self.assertEqual(self.states(late + zero), [State.EXPIRED, State.ACCEPTED])
        self.assertEqual(list(self.world.received()), zero)
        self.assertEqual(self.world.state().expired, 1)

    def test_large(self) -> None:
        """More than one chunk gets through, and the counters are right."""
        ids = self.world.accept(3 * CHUNK + 1)
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))
        state = self.world.state()
        self.assertEqual((state.sent, state.accepted, state.in_flight), (len(ids), len(ids), 0))

    def test_chunks(self) -> None:
        """A chunk has 500 at most, or a quarter of the limit if that is more, up to 1,000; all are of one size."""
        self.world.simulator.delay = 1.0
        sizes: list[int] = []
        lease = self.world.queue.lease

        def leased(found: Lease) -> Lease:
            sizes.append(len(found))
            return found

        self.patch(self.world.queue, "lease", lambda *given: lease(*given).addCallback(leased))
        for limit, expected in (700, [332] * 2), (2_000, [475] * 4), (2_803, [675] * 4), (6_000, [983] * 6):
            name = f"limit{limit}"
            self.world.add_app(name, limits=Limits(in_flight=limit))
            self.world.accept(limit, name)
            self.world.advance(0.5)
            self.assertEqual(sizes, expected)
            self.world.drain(app=name)
            sizes.clear()

    def test_found_at_start(self) -> None:
        """What waited before the start is sent without a call of ``wake``."""
        self.world.result(self.world.dispatcher.stop(0.0))
        ids = self.world.accept(5)
        self.world.advance(5.0)
        self.assertEqual(self.states(ids), [State.WAITING] * 5)
        self.world.start()
        self.world.drain()
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 5)

    def test_idle(self) -> None:
        """With nothing to send connections are closed after a while, and there are no timers."""
        self.world.accept()
        self.world.drain()
        self.world.advance(700.0)
        self.assertEqual(self.world.clock.getDelayedCalls(), [])


class TroubleTests(DispatcherCase):
    """Notifications that do not get through at once."""

    def test_later(self) -> None:
        """A rejection that asks for patience is retried with the same id after growing pauses; others go on."""
        times: list[float] = []

        def reply(request: Request) -> Response | None:
            if not dict(request.headers)[b":path"].endswith(token(0).hex().encode()):
                return None
            times.append(self.world.clock.seconds())
            return Response(429, "TooManyRequests") if len(times) < 4 else None

        self.answer(reply)
        ids = self.world.accept(3)
        self.world.advance(0.1)
        self.assertEqual(self.states(ids), [State.WAITING, State.ACCEPTED, State.ACCEPTED])
        self.assertEqual(self.world.outcome(ids[0]).reason, "TooManyRequests")
        self.world.drain()
        self.assertEqual(self.world.received()[ids[0]], 1)
        self.assertEqual(self.world.received(accepted=False), {ids[0]: 3})
        self.assertEqual(self.world.outcome(ids[0]).attempts, 4)
        pauses = [after - before for before, after in itertools.pairwise(times)]
        for pause, expected in zip(pauses, (1.5, 3.0, 6.0), strict=True):
            self.assertLess(abs(pause - expected), 0.1)

    def test_given_up(self) -> None:
        """After as many attempts as the app allows a notification is dead."""
        self.world.add_app("chess", limits=Limits(attempts=3))
        self.answer(lambda request: Response(429, "TooManyRequests"))
        [one] = self.world.accept()
        self.world.drain()
        found = self.world.outcome(one)
        self.assertEqual((found.state, found.attempts, found.status), (State.DEAD, 3, 429))
        self.assertEqual((self.world.state().dead, self.world.state().retried), (1, 2))
        self.assertEqual(self.world.result(self.world.outcome_log.retry("chess", 10)), 1)
        self.world.simulator.http2_fault = None
        self.world.simulator.sessions[-1].close()  # type: ignore[attr-defined]
        self.world.dispatcher.wake("chess")
        self.world.drain()
        self.assertEqual(self.states([one]), [State.ACCEPTED])

    def test_gateway_in_trouble(self) -> None:
        """A gateway that answers 503 to everything does not get the whole queue."""
        self.answer(lambda request: Response(503, "ServiceUnavailable"))
        self.world.add_app("chess", limits=Limits(in_flight=100))
        self.world.accept(1_000)
        self.world.advance(2.0)
        self.assertLessEqual(sum(self.world.received(accepted=False).values()), 100 + 3 * HALF_OPEN)
        self.assertFalse(self.world.state().tripped)
        self.assertIn("not available", self.world.state().reason)
        self.world.simulator.http2_fault = None
        self.world.simulator.sessions[-1].close()  # type: ignore[attr-defined]
        self.world.drain()
        self.assertEqual(self.world.state().reason, "")
        self.assertEqual(len(self.world.received()), 1_000)

    def test_gateway_down(self) -> None:
        """While no connection can be made attempts do not count, and are made now and then."""
        server = self.world.clock.servers.pop(2197)
        ids = self.world.accept(50)
        self.world.advance(300.0)
        self.assertLess(self.world.clock.attempts, 30)
        self.assertEqual(self.states(ids), [State.WAITING] * 50)
        self.assertIn("nothing listens", self.world.state().reason)
        self.world.clock.servers[2197] = server
        self.world.drain(120.0)
        self.assertEqual({self.world.outcome(apns_id).attempts for apns_id in ids}, {1})

    def test_uncertain(self) -> None:
        """What was sent before the connection was lost is sent again under the same id."""
        cut: list[ProviderAPIServer] = []

        def fault(server: ProviderAPIServer, request: Request, response: Response) -> Response | None:
            if not cut:
                cut.append(server)
                server.abort()
                return None
            return response

        self.world.simulator.http2_fault = fault
        ids = self.world.accept(5)
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))
        self.assertEqual({self.world.outcome(apns_id).attempts for apns_id in ids}, {2})

    def test_due_between(self) -> None:
        """Each retry happens when it is due, also after a start, whatever else is put off."""
        delays = {0: 40.0, 1: 10.0, 2: 25.0}
        self.world.result(self.world.dispatcher.stop(1.0))
        ids = [self.world.accept(1)[0] for _ in delays]
        leased = self.world.result(self.world.queue.lease("chess", 3, START + 1_000))
        begin = self.world.clock.seconds()
        settlements = [
            Settlement(each.number, State.WAITING, 503, "", due=begin + delays[n]) for n, each in enumerate(leased)
        ]
        self.world.result(self.world.queue.settle(settlements))
        self.world.start()
        for seconds, count in (9.0, 0), (2.0, 1), (13.0, 1), (2.0, 2), (13.0, 2), (2.0, 3):
            self.world.advance(seconds)
            self.assertEqual(len(self.world.received()), count)
        self.assertEqual(set(self.world.received()), set(ids))

    def test_retries_of_a_former_life(self) -> None:
        """What is put off when the dispatcher stops is retried when it is due."""
        self.answer(lambda request: Response(429, "TooManyRequests"))
        ids = self.world.accept(2)
        self.world.advance(0.1)
        self.world.simulator.http2_fault = None
        self.world.result(self.world.dispatcher.stop(1.0), 0.1)
        self.world.start()
        self.world.drain(3.0)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 2)


class CredentialTests(DispatcherCase):
    """Apps whose credential is refused."""

    def refuse(self, app: str = "chess") -> None:
        """Give an app a key that Apple does not know."""
        key = Authority()
        self.world.add_app(app, credential=ProviderToken.from_p8(key.p8, "ABCDEFGHIJ", "KLMNOPQRST"))

    def test_tripped(self) -> None:
        """The circuit is tripped with a reason, the app's notifications wait, and other apps go on."""
        self.refuse()
        self.world.add_app("go")
        ids = self.world.accept(50)
        others = self.world.accept(50, "go")
        self.world.advance(0.2)
        self.assertEqual(self.states(ids), [State.WAITING] * 50)
        self.assertEqual(self.states(others), [State.ACCEPTED] * 50)
        state = self.world.state()
        self.assertTrue(state.tripped)
        self.assertIn("provider token", state.reason)
        self.assertLess((state.since or 0.0) - START, 0.3)
        self.assertFalse(self.world.state("go").tripped)

    def test_tried_now_and_then(self) -> None:
        """A few are tried, every 15 minutes in the end; attempts that were not made do not count."""
        self.refuse()
        ids = self.world.accept(50)
        self.world.advance(3_600.0)
        before = self.world.clock.attempts
        self.world.advance(3_600.0)
        self.assertIn(self.world.clock.attempts - before, range(3, 7))
        self.assertEqual(self.world.queue.waiting("chess").count, 50)
        self.assertLess(sum(self.world.outcome(apns_id).attempts for apns_id in ids), 30)

    def test_recovers(self) -> None:
        """When Apple takes the credential again the app goes on by itself."""
        bad = [True]
        self.answer(lambda request: Response(403, "InvalidProviderToken") if bad else None)
        ids = self.world.accept(50)
        self.world.advance(60.0)
        self.assertTrue(self.world.state().tripped)
        bad.clear()
        self.world.drain(900.0)
        self.assertFalse(self.world.state().tripped)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 50)

    def test_renewed(self) -> None:
        """A new credential closes the circuit at once."""
        self.refuse()
        ids = self.world.accept(50)
        self.world.advance(300.0)
        self.world.add_app("chess")
        self.world.advance(0.2)
        self.assertFalse(self.world.state().tripped)
        # The few that were answered for the credential wait for their time.
        self.assertGreater(self.states(ids).count(State.ACCEPTED), 40)
        self.world.drain(900.0)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 50)

    def test_foreign_topic(self) -> None:
        """A notification for a foreign topic, which Apple blames on the key, does not stop others for long."""

        def reply(request: Request) -> Response | None:
            foreign = dict(request.headers)[b"apns-topic"] == b"com.example.other"
            return Response(403, "InvalidProviderToken") if foreign else None

        self.answer(reply)
        self.world.add_app("chess", limits=Limits(attempts=4))
        [foreign] = self.world.accept(topic="com.example.other")
        ids = self.world.accept(50)
        self.world.drain(600.0)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 50)
        self.assertEqual(self.states([foreign]), [State.DEAD])

    def test_false_server(self) -> None:
        """A server that cannot be verified gets nothing, and the circuit is tripped."""
        gateway = Gateway.http2("127.0.0.1", 2197, trust_root=Authority().ca_pem)
        self.world.add_app("chess", gateway=gateway)
        self.world.accept(5)
        self.world.advance(0.2)
        self.assertTrue(self.world.state().tripped)
        self.assertIn("not trusted", self.world.state().reason)
        self.assertEqual(self.world.simulator.inbox.received, [])

    def test_unusable(self) -> None:
        """A credential that the gateway's protocol cannot use trips the circuit, too."""
        self.world.add_app(
            "chess", gateway=self.world.simulator.gateway("binary"), credential=self.world.simulator.provider_token()
        )
        self.world.accept(5)
        self.world.advance(0.2)
        self.assertTrue(self.world.state().tripped)

    def test_no_app(self) -> None:
        """Notifications for a removed app wait until it is back."""
        self.world.apps.remove("chess")
        ids = self.world.accept(5)
        self.world.advance(100.0)
        self.assertEqual((self.world.state().tripped, self.states(ids)), (True, [State.WAITING] * 5))
        self.assertIn("no app chess", self.world.state().reason)
        self.world.add_app("chess")
        self.world.advance(0.2)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 5)


class RotationTests(DispatcherCase):
    """Credentials that change while notifications are under way."""

    options = {"delay": 1.0, "concurrency": 10}  # noqa: RUF012

    def test_drained(self) -> None:
        """Notifications under way are answered on the old connection, the others go over the new one, each once."""
        ids = self.world.accept(60)
        self.world.advance(1.5)
        self.world.add_app("chess", credential=self.world.simulator.provider_token())
        later = self.world.accept(5)
        self.world.advance(0.1)
        self.assertEqual(self.world.simulator.inbox.connections, 2)  # it does not wait for the old one
        ids += later
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))
        self.assertEqual({self.world.outcome(apns_id).attempts for apns_id in ids}, {1})

    def test_limits_only(self) -> None:
        """If only the limits change the connection stays."""
        ids = self.world.accept(20)
        self.world.advance(0.5)
        self.world.add_app("chess", credential=self.same(), limits=Limits(in_flight=5))
        self.world.drain()
        self.assertEqual(self.world.simulator.inbox.connections, 1)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 20)

    def same(self) -> Certificate | ProviderToken:
        """The credential that the app has."""
        return self.world.apps.get("chess").credential

    def test_same_again(self) -> None:
        """An app that has not really changed keeps its connection."""
        self.world.accept(20)
        self.world.advance(0.5)
        self.world.add_app("chess", credential=self.same())
        self.world.drain()
        self.assertEqual(self.world.simulator.inbox.connections, 1)

    def test_removed(self) -> None:
        """What is under way when the app is removed is answered; the others wait."""
        ids = self.world.accept(60)
        self.world.advance(0.5)
        self.world.apps.remove("chess")
        self.world.advance(10.0)
        states = self.states(ids)
        self.assertEqual(states.count(State.ACCEPTED), 10)
        self.assertEqual(states.count(State.WAITING), 50)


class PauseTests(DispatcherCase):
    """An app that somebody pauses."""

    def pause(self, pause: Pause | None) -> None:
        """Pause the app, or resume it."""
        self.world.apps.put(attrs.evolve(self.world.apps.get("chess"), pause=pause))

    def test_paused(self) -> None:
        """What is under way is finished over the same connection; nothing more is sent until the app is resumed."""
        first = self.world.accept(3)
        self.world.advance(0.001)
        self.pause(Pause(START, "ann"))
        second = self.world.accept(3)
        self.world.advance(3_600)
        self.assertEqual(self.states(first + second), [State.ACCEPTED] * 3 + [State.WAITING] * 3)
        self.pause(None)
        self.world.advance(0.1)
        self.assertEqual(self.states(second), [State.ACCEPTED] * 3)
        self.assertEqual(self.world.received(), dict.fromkeys(first + second, 1))

    def test_paused_while_leasing(self) -> None:
        """What was leased when the app was paused is given back, and no attempt counts."""
        lease = self.world.queue.lease

        def paused(*given: Any) -> Any:
            self.pause(Pause(START, "ann"))
            return lease(*given)

        self.patch(self.world.queue, "lease", paused)
        ids = self.world.accept(3)
        self.world.advance(60)
        self.assertEqual((self.world.received(), self.states(ids)), ({}, [State.WAITING] * 3))
        self.patch(self.world.queue, "lease", lease)
        self.pause(None)
        self.world.advance(60)
        self.assertEqual([self.world.outcome(each).attempts for each in ids], [1] * 3)


class ClockTests(SynchronousTestCase):
    """The wall clock is set while notifications are under way."""

    def settled(self, moment: float, step: float) -> float:
        """Set the wall clock by a step at some moment; returns the seconds until everything was settled."""
        world = DispatchWorld(delay=0.3)
        refused: set[str] = set()

        def once(server: ProviderAPIServer, request: Request, response: Response) -> Response:
            path = dict(request.headers)[b":path"].decode()
            if path in refused:
                return response
            refused.add(path)
            return Response(503, "ServiceUnavailable")

        world.simulator.http2_fault = once
        server = world.clock.servers.pop(2197)
        world.start()
        ids = world.accept(50)
        done = False
        for tick in range(1, 600):
            if not done and tick * 0.05 >= moment:
                world.simulator.wall.step(step)
                ids += world.accept(1)
                done = True
            if tick == 10:
                world.clock.servers[2197] = server
            world.advance(0.05)
            if done and not world.queue.waiting("chess").count:
                break
        self.assertEqual({world.outcome(apns_id).state for apns_id in ids}, {State.ACCEPTED})
        world.close()
        return tick * 0.05

    def test_any_moment(self) -> None:
        """No wait gets longer: for a connection, an answer, room, or another attempt."""
        longest = self.settled(0.0, 0.0) + 5
        for moment in (0.05, 0.6, 1.2, 2.0, 3.0):
            for step in (-86_400.0, -3_600.0, 3_600.0, 86_400.0):
                self.assertLess(self.settled(moment, step), longest)

    def test_expiration(self) -> None:
        """A notification expires by the wall clock."""
        world = DispatchWorld()
        self.addCleanup(world.close)
        world.simulator.wall.step(3_600.0)
        late, good = (world.accept(expiration=str(int(START) + seconds)) for seconds in (3_000, 4_000))
        world.start()
        world.drain()
        states = [world.outcome(apns_id).state for apns_id in (*late, *good)]
        self.assertEqual(states, [State.EXPIRED, State.ACCEPTED])


class LeaseTests(DispatcherCase):
    """Leases, and a database that cannot be written."""

    started = {"lease": 12.0, "timeout": 60.0}  # noqa: RUF012

    def test_renewed(self) -> None:
        """A lease lasts as long as Apple takes to answer."""
        self.world.simulator.delay = 50.0
        ids = self.world.accept(10)
        for _ in range(49):
            self.world.advance(1.0)
            self.assertEqual(self.world.result(self.world.queue.lease("chess", 10, START)), [])
        self.world.drain()
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))

    def test_full_disk(self) -> None:
        """Outcomes that cannot be stored are stored later; nothing is sent twice."""
        self.world.queue.full = True
        ids = self.world.accept(10)
        self.world.advance(100.0)
        self.assertEqual(self.states(ids), [State.WAITING] * 10)
        self.assertIn(self.world.queue.refused, range(4, 12))
        self.world.queue.full = False
        self.world.drain(31.0)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 10)
        self.assertEqual(self.world.received(), dict.fromkeys(ids, 1))

    def test_told_when_stored(self) -> None:
        """One who waits gets the outcome once it is stored."""
        self.world.queue.full = True
        [one] = self.world.accept()
        results: list[Any] = []
        number = self.world.outcome(one).number
        self.world.outcomes.wait([number], 100.0).addCallback(results.append)
        self.world.advance(10.0)
        self.assertEqual(results, [])
        self.world.queue.full = False
        self.world.drain(31.0)
        self.assertEqual([set(each) for each in results], [{number}])


class FaultTests(DispatcherCase):
    """A queue and a listener with bugs."""

    def test_cannot_be_leased(self) -> None:
        """What cannot be leased now is leased later."""
        self.world.queue.broken = Unavailable("the database cannot be read", 2.0)
        ids = self.world.accept(5)
        self.world.advance(10.0)
        self.assertEqual(self.states(ids), [State.WAITING] * 5)
        self.world.queue.broken = None
        self.world.advance(2.5)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 5)

    def test_urgent_cannot_be_leased(self) -> None:
        """What is urgent and cannot be leased now is not tried again and again, but after a pause."""
        self.world.queue.broken = Unavailable("the database cannot be read", 2.0)
        ids = self.world.accept(5, lane=Lane.URGENT)
        leases = 0
        lease = self.world.queue.lease

        def count(*arguments: Any) -> Any:
            nonlocal leases
            leases += 1
            if leases > 20:
                self.world.queue.broken = None
            return lease(*arguments)

        self.patch(self.world.queue, "lease", count)
        self.world.advance(10.0)
        self.assertLess(leases, 10)
        self.world.queue.broken = None
        self.world.advance(2.5)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 5)

    def test_fault(self) -> None:
        """An exception in the queue is in the log; nothing gets stuck or is sent twice."""
        ids = self.world.accept(5)
        self.world.queue.broken = ZeroDivisionError("a fault")
        self.world.advance(10.0)
        self.world.accept(5, "chess")
        self.world.advance(10.0)
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.world.queue.broken = None
        self.world.drain(31.0)
        self.assertEqual(self.states(ids), [State.ACCEPTED] * 5)
        self.assertEqual(set(self.world.received().values()), {1})

    def test_fault_of_a_listener(self) -> None:
        """An exception in a listener for dead tokens is in the log, and stops nothing."""

        def noted(app: str) -> None:
            raise ZeroDivisionError(app)

        self.world.log.subscribe(noted)
        ids = self.world.accept(tokens=[DEAD])
        self.world.drain()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        ids += self.world.accept(5)
        self.world.drain()
        self.assertEqual(self.states(ids), [State.REJECTED, *[State.ACCEPTED] * 5])
        self.assertEqual(self.world.state().in_flight, 0)

    def test_broken_off(self) -> None:
        """If it is unknown how far the client got, everything is retried later, and not at once."""
        client = BrokenClient(self.world.clock, self.world.simulator.certificate(), self.world.simulator.gateway())
        budget, retries = Budget(100), Retries(2.0, 900.0, 0.5, random=lambda: 0.5)
        settled: list[Settlement] = []
        context = SenderContext(
            self.world.clock,
            wall_clock(self.world.clock),
            self.world.queue,
            self.world.apps,
            SingleNode(self.world.clock),
            self.world.outcomes,
            budget,
            retries,
            120.0,
            lambda app, leased, settlements, now: settled.extend(settlements),
            lambda app: client,
            lambda: True,
        )
        self.world.result(self.world.dispatcher.stop(1.0))
        ids = self.world.accept(3)
        sender = AppSender("chess", context)
        sender.wake()
        self.world.advance(2.0)
        self.assertEqual(len(self.flushLoggedErrors(TokensFailed)), 2)
        found = self.world.outcome(ids[0])
        self.assertEqual((found.state, found.reason, found.attempts), (State.WAITING, "TokensFailed", 2))
        self.assertEqual([each.reason for each in settled], ["TokensFailed"] * 6)
        self.world.result(sender.stop(), 0.1)
        self.assertEqual(budget.room(0), 100)

    def test_metrics(self) -> None:
        """The client of an app counts in the app's metrics."""
        self.world.result(self.world.dispatcher.stop(1.0))
        counts: dict[str, Counter[str]] = {}
        self.world.start(metrics=lambda app: Counting(counts.setdefault(app, Counter())))
        self.world.accept(tokens=[token(1), DEAD])
        self.world.drain()
        self.assertEqual(counts, {"chess": Counter({"sent": 2, "accepted": 1, "Unregistered": 1})})
