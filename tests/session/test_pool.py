"""Tests for :mod:`txapns._session.pool`: what waits, in which order, and how long."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns import Batch, Notification
from txapns._session.batch import Sending, SingleSending
from txapns._session.http2 import ProviderAPIProtocol
from txapns._session.pool import Pool
from txapns.delivery import Delivery, DeliveryListener
from txapns.errors import ConnectFailed, CredentialRefused, DeadlinePassed
from txapns.interfaces import IConnectionEvents, IWork
from txapns.options import Options
from txapns.simulator import Authority, RequestServer, Response
from txapns.simulator.http2 import ProviderAPIServer
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

AUTHORITY = Authority()
HELLO = Notification(alert="Hello", topic="com.example.app")


class PoolTests(SynchronousTestCase):
    """The pool of a client of the simulator."""

    def setUp(self) -> None:
        """Make both."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.client = self.simulator.client()

    def test_interfaces(self) -> None:
        """Pool, batch and single notification provide their interfaces."""
        pool = Pool(self.simulator.reactor, self.simulator.gateway(), self.simulator.certificate(), Options())
        verifyObject(IConnectionEvents, pool)
        sending = Sending(self.simulator.reactor, pool, [], lambda again: self.client.send_many([]))
        verifyObject(IWork, sending)
        verifyObject(DeliveryListener, sending)
        verifyObject(DeliveryListener, SingleSending(pool, 0, "ab", b"\xab", HELLO))

    def test_in_order(self) -> None:
        """Single notifications go out in the order in which they were asked for."""
        for number in range(100):
            self.client.send_one(HELLO, f"{number:064x}")
        self.assertEqual(self.client.status().queued, 100)
        self.simulator.advance(1)
        received = [int.from_bytes(reception.token, "big") for reception in self.simulator.inbox.received]
        self.assertEqual(received, list(range(100)))

    def test_answered_together(self) -> None:
        """What is sent in answer to the outcomes of one read is handed over together, in order, over one connection."""
        delivered: list[int] = []
        deliver = ProviderAPIProtocol.deliver

        def count(protocol: ProviderAPIProtocol, deliveries: list[Delivery]) -> None:
            delivered.append(len(deliveries))
            deliver(protocol, deliveries)

        self.patch(ProviderAPIProtocol, "deliver", count)
        client = self.simulator.client(max_connections=3)
        self.simulator.result(client.send_one(HELLO, "ff" * 32))
        left = iter(range(100, 300))
        for number in range(100):
            sent = client.send_one(HELLO, f"{number:064x}")
            sent.addCallback(lambda _: client.send_one(HELLO, f"{next(left):064x}"))
            sent.addCallback(lambda _: client.send_one(HELLO, f"{next(left):064x}"))
        self.simulator.advance(1)
        received = [int.from_bytes(each.token, "big") for each in self.simulator.inbox.received]
        self.assertEqual(received[1:], list(range(300)))
        self.assertEqual((sum(delivered), client.status().connections), (301, ("ready",)))
        self.assertLess(len(delivered), 1 + 100 + 20)

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

    def test_deadline_without_a_connection(self) -> None:
        """A batch whose deadline passes without a connection says why there is none."""
        self.simulator.concurrency = 1
        server = self.simulator.reactor.servers.pop(2197)
        sending = self.client.send(HELLO, ["aa" * 32], deadline=5)
        self.simulator.advance(6)
        error = self.successResultOf(sending).unsent[0].error
        self.assertIsInstance(error, DeadlinePassed)
        self.assertIn("before it was sent: ", str(error))
        self.assertIn("127.0.0.1:2197", str(error))
        self.simulator.reactor.servers[2197] = server
        self.simulator.http2_fault = lambda server, request, response: None
        batch = self.simulator.result(self.client.send(HELLO, ["aa" * 32] * 10, deadline=20))
        self.assertEqual(str(batch.unsent[9].error), "the batch's deadline of 20 s passed before it was sent")

    def test_refused_credential_ends_all_that_waits(self) -> None:
        """When the provider token is refused, the one that was asked failed, and nothing else is tried."""
        self.simulator.http2_fault = lambda server, request, response: Response(403, "InvalidProviderToken")
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
        """After everything was given up, the next batch is tried again."""
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
        """Send to this many new devices."""
        self.sent += count
        return self.client.send(HELLO, [f"{number:064x}" for number in range(self.sent - count, self.sent)])

    def accepted_once(self) -> None:
        """Everything that was sent was accepted, once."""
        tokens = [int.from_bytes(reception.token, "big") for reception in self.simulator.inbox.received]
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

    def test_windows(self) -> None:
        """Where one has streams, but no window, another is opened as well."""
        self.simulator.concurrency = 1_000
        self.simulator.window_updates = False
        large = Notification(alert="x" * 4_000, topic="com.example.app")
        self.client.send(large, [f"{number:064x}" for number in range(100)])
        self.simulator.flush()
        self.assertEqual((self.client.status().connections, self.client.status().in_flight), (("ready",) * 3, 3 * 17))

    def test_one_at_a_time(self) -> None:
        """No connection is opened before the one that is starting is ready."""
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
        """A connection without answers ends, and what waits is sent over the others."""
        sessions = self.simulator.sessions
        self.simulator.http2_fault = lambda server, request, response: response if server not in sessions[1:2] else None
        sending = self.send(1_000)
        self.simulator.advance(29)
        self.assertEqual(self.client.status().connections, ("ready",) * 3)
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.uncertain), len(batch.unsent)), (990, 10, 0))

    def test_trouble_of_all(self) -> None:
        """However many there may be, a gateway in trouble sees no more than ten attempts in the first minute."""
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
        """Closing waits for the answers on each of them."""
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


class MuteTests(SynchronousTestCase):
    """Connections that take notifications and answer none of them."""

    def setUp(self) -> None:
        """There is a client whose connections are mute where the test says so."""
        self.simulator = MemorySimulator(authority=AUTHORITY, concurrency=10, delay=0.6)
        self.mute: set[int] = set()
        self.simulator.http2_fault = self.answer
        self.client = self.simulator.client(timeout=5.0)

    def answer(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Say nothing on these connections, and end every other after 20 answers."""
        number = self.simulator.sessions.index(server)
        if number not in self.mute and request.stream == 39:
            server.requests.goaway(last_stream=39)
        return None if number in self.mute else response

    def send(self) -> Batch:
        """Send a hundred."""
        return self.simulator.result(self.client.send(HELLO, [f"{number:064x}" for number in range(100)]))

    def test_one_among_others(self) -> None:
        """After others that did well, one that is mute costs what it took, and the rest goes over the next."""
        self.mute = {2}
        batch = self.send()
        self.assertEqual((batch.accepted, len(batch.uncertain), len(batch.unsent)), (90, 10, 0))

    def test_two_in_a_row(self) -> None:
        """If the next is mute as well, the rest is not risked."""
        self.mute = {2, 3, 4, 5, 6}
        batch = self.send()
        self.assertEqual((batch.accepted, len(batch.uncertain), len(batch.unsent)), (40, 20, 40))

    def test_the_first(self) -> None:
        """If there was never an answer, the rest is not risked at all."""
        self.mute = {0}
        batch = self.send()
        self.assertEqual((batch.accepted, len(batch.uncertain), len(batch.unsent)), (0, 10, 90))


class LastingTests(SynchronousTestCase):
    """Connections that are kept."""

    def setUp(self) -> None:
        """There is a simulator."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.reactor = self.simulator.reactor

    def test_opened_at_once(self) -> None:
        """The minimum is opened, one after the other, without any work, and never closed for lack of it."""
        client = self.simulator.client(min_connections=3, max_connections=3)
        self.simulator.advance(5)
        self.assertEqual(client.status().connections, ("ready",) * 3)
        self.simulator.advance(5_000)
        self.assertEqual((client.status().connections, self.reactor.attempts), (("ready",) * 3, 3))
        self.simulator.result(client.close())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_replaced(self) -> None:
        """One that is lost is replaced, with the delays of any other."""
        client = self.simulator.client(min_connections=2, max_connections=2)
        self.simulator.advance(1)
        self.simulator.sessions[0].abort()
        self.simulator.advance(3)
        self.assertEqual((client.status().connections, self.reactor.attempts), (("ready",) * 2, 3))
        server = self.reactor.servers.pop(2197)
        for session in self.simulator.sessions[1:]:
            session.abort()
        self.simulator.advance(60)
        self.assertTrue(7 <= self.reactor.attempts <= 10, self.reactor.attempts)
        self.reactor.servers[2197] = server
        self.simulator.advance(70)
        self.assertEqual(client.status().connections, ("ready",) * 2)
        self.simulator.result(client.close())

    def test_idle_ones_are_replaced_soon(self) -> None:
        """A server that ends connections on which nothing was asked, hour after hour, does not lengthen the delay."""
        client = self.simulator.client(min_connections=1)
        self.simulator.advance(1)
        for _ in range(8):
            self.simulator.advance(3_600)
            session = self.simulator.sessions[-1]
            assert isinstance(session, ProviderAPIServer)
            session.requests.goaway(debug=b'{"reason":"IdleTimeout"}')
            session.write()
            self.simulator.advance(1.5)
            self.assertEqual(client.status().connections, ("ready",))
        self.simulator.result(client.close())

    def test_surplus_is_closed(self) -> None:
        """Those above the number are closed when they are idle."""
        self.simulator.concurrency = 1
        client = self.simulator.client(min_connections=1, max_connections=4, idle_timeout=60.0)
        self.simulator.delay = 1.0
        self.simulator.result(client.send(HELLO, [f"{number:064x}" for number in range(20)]))
        self.assertEqual(client.status().connections, ("ready",) * 4)
        self.simulator.advance(200)
        self.assertEqual(client.status().connections, ("ready", "idle", "idle", "idle"))
        self.simulator.result(client.close())

    def test_closed_before_it_opened(self) -> None:
        """A client that is closed in the moment it was made opens nothing."""
        client = self.simulator.client(min_connections=1)
        self.simulator.result(client.close())
        self.assertEqual((self.reactor.attempts, self.reactor.getDelayedCalls()), (0, []))


class PingTests(SynchronousTestCase):
    """Signs of life."""

    def setUp(self) -> None:
        """There is a client with a connection."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.client = self.simulator.client(ping_interval=20.0)
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        [self.session] = self.simulator.sessions

    def heard(self) -> list[float]:
        """Record when the server hears something."""
        times: list[float] = []
        receive = self.session.dataReceived

        def data_received(data: bytes) -> None:
            times.append(self.simulator.reactor.seconds())
            receive(data)

        self.session.dataReceived = data_received
        return times

    def test_idle(self) -> None:
        """An idle connection is asked for a sign of life, every so often."""
        times = self.heard()
        self.simulator.advance(100)
        self.assertEqual([round(time) for time in times], [20, 40, 60, 80, 100])

    def test_never(self) -> None:
        """It can be switched off."""
        client = self.simulator.client(ping_interval=None)
        self.simulator.result(client.send_one(HELLO, "aa" * 32))
        self.session = self.simulator.sessions[-1]
        times = self.heard()
        self.simulator.advance(500)
        self.assertEqual(times, [])

    def test_dead_and_idle(self) -> None:
        """A connection that gives no sign of life is left, before anything is sent over it."""
        self.session.dataReceived = lambda data: None
        self.simulator.advance(20 + 15)
        self.assertEqual(self.client.status().connections, ("waiting",))
        self.assertIn("PING", str(self.client.status().last_error))

    def test_dead_with_requests(self) -> None:
        """Requests in flight do not keep a dead connection alive: they are uncertain, and what waits goes elsewhere."""
        client = self.simulator.client(ping_interval=5.0, timeout=60.0, max_connections=1)
        self.simulator.result(client.send_one(HELLO, "aa" * 32))
        self.simulator.sessions[-1].dataReceived = lambda data: None
        sending = client.send(HELLO, [f"{number:064x}" for number in range(1_500)])
        self.simulator.advance(30)
        batch = self.successResultOf(sending)
        self.assertEqual((batch.accepted, len(batch.uncertain)), (500, 1_000))

    def test_slow_answers_are_no_silence(self) -> None:
        """A server that answers PINGs is alive, however long its answers take."""
        self.simulator.delay = 25.0
        client = self.simulator.client(ping_interval=2.0)
        self.assertEqual(self.simulator.result(client.send(HELLO, ["bb" * 32] * 10)).accepted, 10)
