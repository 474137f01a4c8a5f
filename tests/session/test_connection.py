"""Tests for txapns._session.connection: when a connection is opened, how often, and what it makes of each end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns import Certificate, Gateway, Notification
from txapns._network.backoff import Backoff
from txapns._session.connection import Connection
from txapns.delivery import Delivery
from txapns.errors import AnswerTimeout, APNSError, ConnectFailed
from txapns.interfaces import IConnectionEvents, IProtocolListener
from txapns.options import Options
from txapns.result import Rejection
from txapns.simulator import Authority
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
#: Time passes in such steps, in seconds.
STEP = 0.1


@implementer(IConnectionEvents)
class Listener:
    """Opens the connection again whenever that is possible, as a pool with work does; records the events."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.errors: list[APNSError] = []
        self.states: list[str] = []
        self.eager = False

    def connection_round(self, settle: Callable[[], None]) -> None:
        """Several are settled at once."""
        settle()

    def connection_changed(self) -> None:
        """Note the state; open again."""
        assert self.connection is not None
        if self.states[-1:] != [self.connection.state]:
            self.states.append(self.connection.state)
        if self.eager:
            self.connection.open()

    def connection_trouble(self, error: APNSError, proved: bool) -> None:
        """Note the error."""
        self.errors.append(error)

    def deliveries_returned(self, deliveries: list[Delivery]) -> None:
        """These tests deliver nothing."""
        raise AssertionError("nothing was delivered")

    def delivery_rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """Nor is anything rejected."""
        raise AssertionError("nothing was delivered")


class ConnectionCase(SynchronousTestCase):
    """A connection to the simulator, without a pool."""

    def setUp(self) -> None:
        """Make it."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.reactor = self.simulator.reactor
        self.events = Listener()
        self.connection = self.connect()

    def connect(self, port: int = 2197, idle_timeout: float | None = 600.0) -> Connection:
        """Make a connection."""
        gateway = Gateway.http2("127.0.0.1", port, trust_root=AUTHORITY.ca_pem)
        certificate = self.simulator.certificate()
        connection = Connection(
            self.reactor,
            gateway,
            gateway.endpoint(self.reactor, certificate),
            certificate,
            self.events,
            Options(idle_timeout=idle_timeout),
            Backoff(jitter=0.0),
            lasting=False,
        )
        self.events.connection = connection
        return connection


class LifeTests(ConnectionCase):
    """From one state to the next."""

    def test_interfaces(self) -> None:
        """It listens to protocols, and a pool listens to it."""
        verifyObject(IProtocolListener, self.connection)
        verifyObject(IConnectionEvents, self.events)

    def test_opened_once(self) -> None:
        """Opening is idempotent in every state."""
        for _ in range(3):
            self.connection.open()
        self.assertEqual(self.connection.state, "connecting")
        self.simulator.flush()
        self.connection.open()
        self.simulator.advance(3)
        self.assertEqual((self.connection.state, self.reactor.attempts), ("ready", 1))
        self.assertEqual(self.connection.room()[0], 1_000)

    def test_no_room_before_it_is_ready(self) -> None:
        """A connection takes nothing until the server has spoken."""
        self.assertEqual(self.connection.room(), (0, 0))
        self.connection.open()
        self.assertEqual(self.connection.room(), (0, 0))

    def test_silent_server(self) -> None:
        """A server that accepts the connection and says nothing is left after the timeout."""
        from twisted.internet.protocol import Factory, Protocol

        self.reactor.servers[9] = Factory.forProtocol(Protocol)
        connection = self.connect(9)
        connection.open()
        self.simulator.advance(29)
        self.assertEqual(connection.state, "starting")
        self.simulator.advance(1.5)
        self.assertEqual(connection.state, "waiting")
        self.assertIsInstance(self.events.errors[0], AnswerTimeout)

    def test_back_off(self) -> None:
        """Attempts that fail come after 1, 2, 4 … 60 seconds."""
        connection = self.connect(9)
        self.events.eager = True
        connection.open()
        attempts = []
        while len(attempts) < 9:
            if self.reactor.attempts > len(attempts):
                attempts.append(self.reactor.seconds())
            self.simulator.advance(STEP)
        for before, after, gap in zip(attempts, attempts[1:], [1, 2, 4, 8, 16, 32, 60, 60], strict=False):
            self.assertApproximates(after - before, gap, 0.5)  # an endpoint takes 0.3 s to give up
        self.assertEqual({type(error) for error in self.events.errors}, {ConnectFailed})

    def test_attempt_cancelled_by_others(self) -> None:
        """An attempt that something else has cancelled failed like any other: nothing waits for it forever."""
        endpoint = _Endpoint()
        self.patch(self.connection, "_endpoint", endpoint)
        self.connection.open()
        endpoint.attempt.cancel()
        self.assertEqual((self.connection.state, len(self.events.errors)), ("waiting", 1))
        self.simulator.advance(1)
        self.assertEqual(self.connection.state, "idle")

    def test_a_connection_alone_proves_nothing(self) -> None:
        """Connections that end without an answer lengthen the delay."""
        self.simulator.environment = "sandbox"  # the certificate below is for production only
        pem = AUTHORITY.client_pem(environments=["production"])
        client = self.simulator.client(credential=Certificate.from_pem(pem), idle_timeout=None)

        def send(_: object = None) -> None:
            client.send_one(Notification(alert="x"), "aa" * 32).addErrback(send)

        send()
        self.simulator.advance(60)
        self.assertIn(self.reactor.attempts, (6, 7))

    def test_refused_is_not_kept_open(self) -> None:
        """A connection that should be kept is not opened again and again if the credential is refused."""
        self.simulator.environment = "sandbox"
        pem = AUTHORITY.client_pem(environments=["production"])
        client = self.simulator.client(
            credential=Certificate.from_pem(pem), min_connections=2, max_connections=2, idle_timeout=None
        )
        self.simulator.advance(600)
        self.assertEqual(self.reactor.attempts, 1)
        error = client.status().last_error
        self.assertIn("other environment", str(error))

    def test_stop_in_every_state(self) -> None:
        """Stopping ends what is in flight, leaves no timer, and is final."""
        for advance, port in product((None, 0.0, 0.05, 2.0), (2197, 9)):
            connection = self.connect(port)
            if advance is not None:
                connection.open()
                if advance:
                    self.simulator.advance(advance)
            stopping = connection.stop()
            self.simulator.advance(10)
            self.successResultOf(stopping)
            self.successResultOf(connection.stop())
            connection.open()
            self.simulator.advance(100)
            self.assertEqual((connection.state, self.reactor.getDelayedCalls()), ("stopped", []))

    def test_host_unknown(self) -> None:
        """An unknown name is reported."""
        gateway = self.simulator.gateway().http2("nowhere.invalid", 2197)
        client = self.simulator.client(gateway)
        self.reactor.nameResolver = _Ignorant()  # type: ignore[assignment]
        batch = self.simulator.result(client.send(Notification(alert="x"), ["aa" * 32]))
        self.assertIn("nowhere.invalid", str(batch.unsent[0].error))
        self.assertIn("cannot be resolved", str(batch.unsent[0].error))


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """An endpoint that leaves its only attempt to the test."""

    def __init__(self) -> None:
        self.attempt: Deferred[IProtocol] = Deferred()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self.attempt


class _Ignorant:
    """A resolver that finds nothing."""

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):  # type: ignore[no-untyped-def]
        receiver.resolutionBegan(self)
        receiver.resolutionComplete()
        return self
