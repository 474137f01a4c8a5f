"""A protocol of the provider API and the server's role, without a network between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns._session.http2 import ProviderAPIProtocol
from txapns.credentials import ProviderToken
from txapns.delivery import Delivery, DeliveryListener
from txapns.errors import APNSError
from txapns.interfaces import IGatewayProtocol, IProtocolListener
from txapns.notification import Notification
from txapns.result import Rejection
from txapns.wire.requests import Request, RequestReceiver

__all__ = ["ALERT", "OK", "TIMEOUT", "Events", "ProtocolCase", "Transport"]

TIMEOUT = 30.0
OK = [(b":status", b"200")]
ALERT = Notification(alert="Hi", topic="com.example.app")


class Transport(StringTransport):
    """A TLS transport that counts its writes."""

    negotiatedProtocol: bytes | None = b"h2"
    writes = 0
    noDelay = keepAlive = aborting = False

    def write(self, data: bytes) -> None:
        """Count it."""
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        """Remember it."""
        self.aborting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remember it."""
        self.noDelay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Remember it."""
        self.keepAlive = enabled


@implementer(IProtocolListener)
class Events:
    """Records what the protocol reports."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.returned: list[Delivery] = []
        self.draining: list[APNSError | None] = []
        self.lost: list[APNSError | None] = []

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

    def protocol_returned(self, protocol: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """The server did not process these."""
        self.returned += deliveries

    def protocol_rejected(self, protocol: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """It is not sent again."""
        delivery.outcomes.rejected(delivery, rejection)

    def protocol_draining(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It takes nothing more."""
        self.draining.append(error)

    def protocol_lost(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It is over."""
        self.lost.append(error)


@implementer(DeliveryListener)
class Outcomes:
    """Records the outcome of each delivery, by identifier."""

    def __init__(self) -> None:
        self.ended: dict[object, object] = {}

    def _end(self, delivery: Delivery, outcome: object) -> None:
        assert delivery.identifier not in self.ended, "settled twice"
        self.ended[delivery.identifier] = outcome

    def accepted(self, delivery: Delivery, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """APNs accepted it."""
        self._end(delivery, body or "accepted")

    def rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """APNs rejected it."""
        self._end(delivery, (rejection.status, rejection.reason, rejection.timestamp, rejection.apns_id))

    def unsent(self, delivery: Delivery, error: Exception) -> None:
        """APNs did not process it."""
        self._end(delivery, ("unsent", error))

    def uncertain(self, delivery: Delivery, error: Exception) -> None:
        """The outcome is unknown."""
        self._end(delivery, ("uncertain", error))


class ProtocolCase(SynchronousTestCase):
    """A protocol and the server's role."""

    ping_interval: float | None = None

    def setUp(self) -> None:
        """There is a protocol without credentials, whose handshake is over."""
        self.clock = Clock()
        self.start(None)

    def start(self, credential: ProviderToken | None, host: str = "api.example.com") -> None:
        """Begin a protocol."""
        self.events = Events()
        self.outcomes = Outcomes()
        self.protocol = ProviderAPIProtocol(
            self.events, self.clock, host, credential, TIMEOUT, ping_interval=self.ping_interval
        )
        self.transport = Transport()
        self.server = RequestReceiver(100, max_body=5_120)
        self.received: list[Request] = []
        self.protocol.makeConnection(self.transport)
        self.protocol.handshakeCompleted()

    def carry(self) -> None:
        """Carry bytes in both directions until there are none, in this turn of the reactor and the next."""
        self.clock.advance(0)
        while True:
            up = self.transport.value()
            self.transport.clear()
            self.received += self.server.receive(up)
            down = self.server.data_to_send()
            if not (up or down):
                break
            if down:
                self.protocol.dataReceived(down)

    def deliver(self, *identifiers: object, notification: Notification = ALERT, device: bytes = b"\xab\xcd") -> None:
        """Hand a delivery for each identifier to the protocol, and carry them over."""
        self.protocol.deliver(
            [Delivery(self.outcomes, each, device, device, notification, notification.body) for each in identifiers]
        )
        self.carry()

    def ready(self) -> None:
        """Let the protocol become ready."""
        self.carry()
        self.assertEqual(self.events.told, ["ready"])

    def answer(self, *streams: int, fields: Iterable[tuple[bytes, bytes]] = OK, body: bytes = b"") -> None:
        """Have the server answer, all in one write."""
        for stream in streams:
            self.server.respond(stream, fields, body)
        self.carry()

    def refuse(self, *streams: int, status: int = 400, reason: str = "BadTopic") -> None:
        """Have the server say no."""
        self.answer(*streams, fields=[(b":status", b"%d" % status)], body=b'{"reason":"%s"}' % reason.encode())

    def lose(self, reason: Exception | None = None) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))
