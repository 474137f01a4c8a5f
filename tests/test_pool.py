"""Tests for txapns.pool: who waits, in which order, and how long."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns import Batch, Notification
from txapns.batch import Sending, SingleSending
from txapns.delivery import IOutcomes
from txapns.errors import ConnectFailed, CredentialRefused
from txapns.interfaces import IConnectionEvents, IWork
from txapns.pool import Pool
from txapns.simulator import Authority, Verdict
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
HELLO = Notification(alert="Hello", topic="com.example.app")


class PoolTests(SynchronousTestCase):
    """The pool of a client of the simulator."""

    def setUp(self) -> None:
        """Make both."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.client = self.simulator.client()

    def test_interfaces(self) -> None:
        """Pool, batch and single notification are what the others take them for."""
        pool = Pool(self.simulator.reactor, self.simulator.gateway(), self.simulator.certificate(), 30.0, 600.0)
        verifyObject(IConnectionEvents, pool)
        sending = Sending(self.simulator.reactor, pool, [], lambda again: self.client.send_many([]))
        verifyObject(IWork, sending)
        verifyObject(IOutcomes, sending)
        verifyObject(IOutcomes, SingleSending(pool))

    def test_in_order(self) -> None:
        """Single notifications go out in the order in which they were asked for."""
        for number in range(100):
            self.client.send_one(HELLO, f"{number:064x}")
        self.assertEqual(self.client.status().queued, 100)
        self.simulator.advance(1)
        received = [int.from_bytes(reception.token, "big") for reception in self.simulator.devices.received]
        self.assertEqual(received, list(range(100)))

    def test_window(self) -> None:
        """Large payloads are paced by the server's window: no more leave than it has room for."""
        self.simulator.window_updates = False
        large = Notification(alert="x" * 4_000, topic="com.example.app")
        self.client.send(large, [f"{number:064x}" for number in range(100)])
        self.simulator.advance(1)
        self.assertEqual(self.simulator.counters()["accepted"], 16)
        self.assertEqual(self.client.status().in_flight, 1)

    def test_patience_with_a_stuck_server(self) -> None:
        """A server that takes nothing for the timeout has everything that waits reported unsent."""
        self.simulator.concurrency = 0
        sending = self.client.send(HELLO, [f"{number:064x}" for number in range(10)])
        self.simulator.advance(29)
        self.assertNoResult(sending)
        self.simulator.advance(2)
        batch = self.successResultOf(sending)
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(batch.unsent[0].error, ConnectFailed)
        self.assertIn("took nothing for 30 s", str(batch.unsent[0].error))

    def test_refused_credential_ends_all_that_waits(self) -> None:
        """When the provider token is refused, the one that was asked failed, and nothing else is tried."""
        self.simulator.http2_fault = lambda server, request, verdict: Verdict(403, "InvalidProviderToken")
        client = self.simulator.client(credential=self.simulator.provider_token())
        batches = [client.send(HELLO, [f"{number:064x}" for number in range(10)]) for _ in range(3)]
        results = [self.simulator.result(batch, within=1) for batch in batches]
        self.assertEqual([len(batch.failed) for batch in results], [1, 0, 0])
        self.assertEqual([len(batch.unsent) for batch in results], [9, 10, 10])
        error = results[2].unsent[0].error
        assert isinstance(error, CredentialRefused)
        self.assertEqual(error.reason, "InvalidProviderToken")
        self.assertEqual(client.status().last_error, error)

    def test_usable_again(self) -> None:
        """After everything was given up, the next batch is tried anew."""
        server = self.simulator.reactor.servers.pop(2197)
        self.assertEqual(len(self.simulator.result(self.client.send(HELLO, ["aa" * 32])).unsent), 1)
        self.simulator.advance(70)
        self.simulator.reactor.servers[2197] = server
        self.assertEqual(self.simulator.result(self.client.send(HELLO, ["aa" * 32])).accepted, 1)

    def test_one_attempt_at_least(self) -> None:
        """A batch that comes during a long back-off waits for the next attempt."""
        server = self.simulator.reactor.servers.pop(2197)
        self.simulator.result(self.client.send(HELLO, ["aa" * 32]))
        self.simulator.result(self.client.send(HELLO, ["aa" * 32]), within=61)
        self.simulator.advance(0.5 if self.client.status().connections[0] == "connecting" else 0.0)
        sending = self.client.send(HELLO, ["aa" * 32])
        self.assertEqual(self.client.status().connections[0], "waiting")
        self.simulator.reactor.servers[2197] = server
        self.assertEqual(self.simulator.result(sending, within=61).accepted, 1)


class SeveralConnectionsTests(SynchronousTestCase):
    """A pool that may have several connections."""

    def setUp(self) -> None:
        """A connection takes ten requests at once, and an answer takes a second."""
        self.simulator = MemorySimulator(authority=AUTHORITY, concurrency=10, delay=1.0)
        self.reactor = self.simulator.reactor
        self.client = self.simulator.client(max_connections=3)
        self.sent = 0

    def send(self, count: int) -> Deferred[Batch]:
        """Send to so many devices, none of which was sent to before."""
        self.sent += count
        return self.client.send(HELLO, [f"{number:064x}" for number in range(self.sent - count, self.sent)])

    def accepted_once(self) -> None:
        """Everything that was sent was accepted, once."""
        tokens = [int.from_bytes(reception.token, "big") for reception in self.simulator.devices.received]
        self.assertEqual(sorted(tokens), list(range(self.sent)))

    def test_one_is_enough(self) -> None:
        """Where one connection has room for all there is no second."""
        self.simulator.result(self.send(9))
        self.assertEqual((self.client.status().connections, self.reactor.attempts), (("ready",), 1))

    def test_all_are_used(self) -> None:
        """Where one has no room another is opened, up to the number given, and all are filled."""
        sending = self.send(100)
        self.simulator.flush()
        self.assertEqual((self.client.status().connections, self.client.status().in_flight), (("ready",) * 3, 30))
        self.assertEqual(self.simulator.result(sending).accepted, 100)
        self.assertEqual(self.reactor.attempts, 3)
        self.accepted_once()

    def test_one_at_a_time(self) -> None:
        """No connection is opened before the one under way is ready."""
        self.send(100)
        silent = Factory.forProtocol(Protocol)  # takes connections and says nothing, not even in TLS
        server, self.reactor.servers[2197] = self.reactor.servers[2197], silent
        self.simulator.advance(10)
        self.assertEqual((self.client.status().connections, self.reactor.attempts), (("starting",), 1))
        self.reactor.servers[2197] = server

    def test_idle(self) -> None:
        """Those that are not needed any more close, and are opened again when they are."""
        self.simulator.result(self.send(100))
        self.simulator.advance(610)
        self.assertEqual(self.client.status().connections, ("idle",) * 3)
        self.simulator.result(self.send(9))
        self.assertEqual(self.client.status().connections, ("ready", "idle", "idle"))
        self.simulator.result(self.send(100))
        self.assertEqual(self.reactor.attempts, 6)
        self.accepted_once()

    def test_one_breaks(self) -> None:
        """When one connection breaks, the others go on, and what was on it is uncertain or sent over them."""
        sending = self.send(100)
        self.simulator.flush()
        broken = self.simulator.sessions[1]
        assert broken.transport is not None
        broken.transport.abortConnection()  # type: ignore[attr-defined]
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.uncertain)), (90, 10))
        self.assertEqual(self.reactor.attempts, 4)

    def test_one_does_not_answer(self) -> None:
        """A connection that answers nobody ends, and what waits is sent over the others."""
        sessions = self.simulator.sessions
        self.simulator.http2_fault = lambda server, request, verdict: verdict if server not in sessions[1:2] else None
        sending = self.send(1_000)
        self.simulator.advance(29)
        self.assertEqual(self.client.status().connections, ("ready",) * 3)
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.uncertain), len(batch.unsent)), (990, 10, 0))

    def test_trouble_of_all(self) -> None:
        """However many there may be, a gateway in trouble sees ten attempts in the first minute at the most."""
        client = self.simulator.client(max_connections=20)
        client.send(HELLO, [f"{number:064x}" for number in range(1_000)])
        self.simulator.advance(700)
        self.assertEqual(client.status().connections, ("idle",) * 20)
        before = self.reactor.attempts
        self.reactor.servers.clear()
        for number in range(60):
            client.send(HELLO, [f"{number:064x}"])
            self.simulator.advance(1)
        self.assertIn(self.reactor.attempts - before, range(5, 11))

    def test_all_cut(self) -> None:
        """When all are cut at once, they return in their turn, and not all at once."""
        sending = self.send(500)
        self.simulator.flush()
        del self.reactor.servers[2197]
        for session in self.simulator.sessions:
            assert session.transport is not None
            session.transport.abortConnection()  # type: ignore[attr-defined]
        before = self.reactor.attempts
        self.simulator.advance(10)
        self.assertLessEqual(self.reactor.attempts - before, 6)
        self.reactor.servers[2197] = self.simulator.tls_factory("http2")
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.uncertain)), (470, 30))

    def test_close(self) -> None:
        """Closing lets what is under way on each of them be answered."""
        sending = self.send(100)
        self.simulator.flush()
        closing = self.client.close()
        self.assertNoResult(closing)
        self.simulator.result(closing)
        batch = self.successResultOf(sending)
        self.assertEqual((batch.accepted, len(batch.unsent)), (30, 70))
        self.assertEqual((self.client.status().connections, self.reactor.getDelayedCalls()), (("stopped",) * 3, []))

    def test_stay(self) -> None:
        """Without an idle timeout one connection stays, and is replaced when it breaks."""
        self.client = self.simulator.client(max_connections=3, idle_timeout=None)
        self.simulator.result(self.send(9))
        self.simulator.sessions[0].transport.abortConnection()  # type: ignore[union-attr]
        self.simulator.advance(5)
        self.assertEqual((self.client.status().connections, self.reactor.attempts), (("ready",), 2))

    def test_none(self) -> None:
        """There has to be one."""
        with self.assertRaises(ValueError):
            self.simulator.client(max_connections=0)
