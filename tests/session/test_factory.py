"""Tests for :mod:`txapns._session.factory`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IConnector, IHandshakeListener, IProtocolFactory, IPushProducer
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns._network.backoff import Backoff
from txapns._network.tls import ClientContextFactory
from txapns._session.binary import EnhancedNotificationProtocol
from txapns._session.factory import APNSClientFactory
from txapns._session.http2 import ProviderAPIProtocol
from txapns.delivery import Delivery
from txapns.errors import APNSError
from txapns.gateway import Gateway
from txapns.interfaces import IGatewayProtocol, IProtocolListener
from txapns.result import Rejection
from txapns.simulator.authority import Authority
from txapns.testing import MemorySimulator

AUTHORITY = Authority()


@implementer(IProtocolListener)
class Events:
    """Records the names of what a protocol reports."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def protocol_ready(self, protocol: IGatewayProtocol) -> None:
        """It can be used."""
        self.told.append("ready")

    def protocol_proved(self, protocol: IGatewayProtocol) -> None:
        """It proved itself."""
        self.told.append("proved")

    def protocol_round(self, protocol: IGatewayProtocol, settle: Callable[[], None]) -> None:
        """Several are settled at once."""
        settle()

    def protocol_room(self, protocol: IGatewayProtocol) -> None:
        """It may have room again."""
        self.told.append("room")

    def protocol_returned(self, protocol: IGatewayProtocol, deliveries: Sequence[Delivery]) -> None:
        """The server did not process these."""
        self.told.append("returned")

    def protocol_rejected(self, protocol: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """It is not sent again."""
        delivery.outcomes.rejected(delivery, rejection)

    def protocol_draining(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It takes nothing more."""
        self.told.append("draining")

    def protocol_lost(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It is over."""
        self.told.append("lost")


@implementer(IConnector)
class Connector:
    """Counts what a factory asks of its connector."""

    def __init__(self) -> None:
        self.connected = self.stopped = 0

    def connect(self) -> None:
        """Connect once more."""
        self.connected += 1

    def stopConnecting(self) -> None:
        """Stop an attempt."""
        self.stopped += 1

    def disconnect(self) -> None:
        """Never asked for."""

    def getDestination(self) -> IAddress:
        """Tell where it connects."""
        return IPv4Address("TCP", "127.0.0.1", 2195)


class FactoryCase(SynchronousTestCase):
    """A factory for the simulator's servers."""

    def setUp(self) -> None:
        """There are a simulator and a factory for its binary server."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.reactor = self.simulator.reactor
        self.events = Events()
        self.factory = self.factory_for(self.simulator.gateway("binary"))

    def factory_for(self, gateway: Gateway) -> APNSClientFactory:
        """Make a factory whose delays are not left to chance."""
        certificate = self.simulator.certificate()
        return APNSClientFactory(gateway, certificate, self.events, self.reactor, backoff=Backoff(jitter=0.0))


class BuildTests(FactoryCase):
    """What it builds."""

    def test_interfaces(self) -> None:
        """The factory, its protocols and their listener provide their interfaces."""
        verifyObject(IProtocolFactory, self.factory)
        verifyObject(IProtocolListener, self.events)
        self.assertIsInstance(self.factory, ReconnectingClientFactory)
        for kind in ("binary", "http2"):
            protocol = self.factory_for(self.simulator.gateway(kind)).buildProtocol(None)
            for interface in (IGatewayProtocol, IPushProducer, IHandshakeListener):
                verifyObject(interface, protocol)

    def test_protocol(self) -> None:
        """The gateway decides which protocol is spoken."""
        self.assertIsInstance(self.factory.buildProtocol(None), EnhancedNotificationProtocol)
        factory = self.factory_for(self.simulator.gateway("http2"))
        self.assertIsInstance(factory.buildProtocol(None), ProviderAPIProtocol)

    def test_back_reference(self) -> None:
        """As with other factories, a protocol knows its own."""
        self.assertIs(self.factory.buildProtocol(None).factory, self.factory)


class ConnectorTests(FactoryCase):
    """The factory with a plain connector, as ``reactor.connectSSL`` makes one."""

    def setUp(self) -> None:
        """There is a connector, too."""
        super().setUp()
        self.connector = Connector()

    def lose(self) -> None:
        """The connector's connection breaks."""
        self.factory.clientConnectionLost(self.connector, Failure(ConnectionLost()))

    def test_connects_again(self) -> None:
        """After a connection was lost the connector connects again, a second later."""
        self.lose()
        self.reactor.advance(0.9)
        self.assertEqual(self.connector.connected, 0)
        self.reactor.advance(0.1)
        self.assertEqual(self.connector.connected, 1)

    def test_backs_off(self) -> None:
        """Each failure doubles the delay, whether the connection was made or not."""
        for delay in (1, 2, 4, 8):
            connected = self.connector.connected
            self.factory.clientConnectionFailed(self.connector, Failure(ConnectionLost()))
            self.reactor.advance(delay - 0.1)
            self.assertEqual(self.connector.connected, connected)
            self.reactor.advance(0.1)
            self.assertEqual(self.connector.connected, connected + 1)

    def test_a_connection_resets_nothing(self) -> None:
        """A connection that was made and lost proves nothing, so the delay goes on to grow."""
        for _ in range(3):
            self.factory.buildProtocol(None)
            self.lose()
            self.reactor.advance(60)
        self.lose()
        self.reactor.advance(7.9)
        self.assertEqual(self.connector.connected, 3)

    def test_reset_delay(self) -> None:
        """After a protocol proved itself the next delay is the first again."""
        for _ in range(4):
            self.lose()
            self.reactor.advance(60)
        self.factory.resetDelay()
        self.lose()
        self.reactor.advance(1)
        self.assertEqual(self.connector.connected, 5)

    def test_stop_trying(self) -> None:
        """After ``stopTrying`` neither the pending call nor a later loss connects again."""
        self.lose()
        self.factory.stopTrying()
        self.lose()
        self.reactor.advance(100)
        self.assertEqual((self.connector.connected, self.connector.stopped), (0, 1))

    def test_late_reset_after_stop(self) -> None:
        """A protocol that proves itself after ``stopTrying`` does not make the factory try again."""
        self.factory.stopTrying()
        self.factory.resetDelay()
        self.lose()
        self.reactor.advance(100)
        self.assertEqual(self.connector.connected, 0)

    def test_reset_before_stop(self) -> None:
        """A protocol that proves itself while the next attempt waits does not keep ``stopTrying`` from stopping it."""
        self.lose()
        self.factory.resetDelay()
        self.factory.stopTrying()
        self.reactor.advance(100)
        self.assertEqual(self.connector.connected, 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ConnectSSLTests(FactoryCase):
    """The factory without an endpoint."""

    def test_connect_ssl(self) -> None:
        """The factory is one for ``reactor.connectSSL``, with our context factory."""
        context = ClientContextFactory("127.0.0.1", self.simulator.certificate(), AUTHORITY.ca_pem)
        self.reactor.connectSSL("127.0.0.1", 2195, self.factory, context)
        _, _, factory, used, _, _ = self.reactor.sslClients.pop()
        self.assertEqual((factory, used), (self.factory, context))

    def test_endpoint(self) -> None:
        """Through the gateway's endpoint the protocol becomes ready, and reports its end."""
        endpoint = self.simulator.gateway("binary").endpoint(self.reactor, self.simulator.certificate())
        endpoint.connect(self.factory)
        self.simulator.flush()
        self.assertEqual(self.events.told, ["ready"])
        self.simulator.sessions[0].transport.loseConnection()
        self.simulator.flush()
        self.assertEqual(self.events.told, ["ready", "lost"])
