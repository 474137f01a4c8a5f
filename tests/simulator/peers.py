"""Clients of the simulator in memory: what they write to it may be anything, right or wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

import ngh2
from ngh2 import Setting
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns._network.tls import ClientContextFactory
from txapns.credentials import Certificate, ProviderToken
from txapns.simulator.authority import Authority
from txapns.testing import MemorySimulator

__all__ = ["BinaryCase", "BinaryPeer", "HTTP2Case", "HTTP2Peer", "connect"]

AUTHORITY = Authority()
HTTP2, BINARY, FEEDBACK = 2197, 2195, 2196
TOPIC = "com.example.app"

_P = TypeVar("_P", bound=Protocol)


def connect(
    simulator: MemorySimulator, peer: _P, port: int, certificate: Certificate | None, alpn: Sequence[bytes] = ()
) -> _P:
    """Connect a peer over TLS."""
    context = ClientContextFactory("127.0.0.1", certificate, AUTHORITY.ca_pem, alpn)
    factory = ClientFactory.forProtocol(lambda: peer)
    reactor = simulator.reactor
    reactor.connectTCP("127.0.0.1", port, TLSMemoryBIOFactory(context, True, factory, reactor))
    simulator.flush()
    return peer


# The binary protocol and the feedback service.

TOKEN = bytes(range(32))
DEAD_TOKEN = bytes(reversed(range(32)))
PAYLOAD = b'{"aps":{"alert":"Hi"}}'


class BinaryPeer(Protocol):
    """Records what it reads, and how the connection ended."""

    def __init__(self) -> None:
        self.read = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.read += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep it."""
        self.lost = reason


class BinaryCase(SynchronousTestCase):
    """A simulator in memory, one of whose tokens is dead."""

    def setUp(self) -> None:
        """Make a simulator."""
        self.simulator = MemorySimulator(authority=AUTHORITY, dead=[DEAD_TOKEN])

    def connect(
        self, port: int = BINARY, certificate: Certificate | None = None, *, anonymous: bool = False
    ) -> BinaryPeer:
        """Connect over TLS."""
        if certificate is None and not anonymous:
            certificate = self.simulator.certificate()
        return connect(self.simulator, BinaryPeer(), port, certificate)

    def say(self, data: bytes) -> bytes:
        """Write this over a new connection; returns what the server sends within a second."""
        peer = self.connect()
        peer.transport.write(data)
        self.simulator.advance(0.9)
        return peer.read

    def reasons(self) -> list[str | None]:
        """Return the outcome of each notification that the server processed."""
        return [reception.reason for reception in self.simulator.inbox.received]


# HTTP/2.

PROVIDER_TOKEN = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
DEVICE, DEAD_DEVICE = "ab" * 32, "dd" * 32
ID = "123e4567-e89b-12d3-a456-426655440000"

#: What stands in a request: a text, several for a field that is repeated, or ``None`` for none.
Field = str | tuple[str, ...] | None

GOOD: dict[str, Field] = {
    ":method": "POST",
    ":scheme": "https",
    ":authority": "localhost",
    ":path": f"/3/device/{DEVICE}",
    "apns-topic": TOPIC,
    "body": '{"aps":{"alert":"Hi"}}',
}


@implementer(IHandshakeListener)
class HTTP2Peer(Protocol):
    """A provider that sends anything, and records every response."""

    def __init__(self) -> None:
        self.lost: Failure | None = None
        self.limits: list[int] = []
        self.goaways: list[bytes] = []
        self.answers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT)

    def handshakeCompleted(self) -> None:
        """Begin the connection."""
        self._h2.initiate_connection({Setting.ENABLE_PUSH: 0})
        self._write()

    def dataReceived(self, data: bytes) -> None:
        """Record the events."""
        self._h2.receive_data(data)
        for event in self._h2.events():
            if isinstance(event, ngh2.ResponseReceived):
                self.answers[event.stream_id] = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, ngh2.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, ngh2.SettingsReceived) and Setting.MAX_CONCURRENT_STREAMS in event.settings:
                self.limits.append(event.settings[Setting.MAX_CONCURRENT_STREAMS])
            elif isinstance(event, ngh2.GoAwayReceived):
                self.goaways.append(event.debug_data)
        self._write()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record how the connection ended."""
        self.lost = reason

    def send(self, fields: Mapping[str, Field]) -> int:
        """Send a request; returns its stream."""
        headers = [
            (name.encode(), text.encode())
            for name, value in fields.items()
            for text in ((value,) if isinstance(value, str) else value or ())
            if name != "body"
        ]
        body = fields.get("body")
        stream = self._h2.send_request(headers, end_stream=body is None)
        if body is not None:
            self._h2.send_data(stream, str(body).encode(), end_stream=True)
        self._write()
        return stream

    def _write(self) -> None:
        assert self.transport is not None
        self.transport.write(self._h2.data_to_send())


class HTTP2Case(SynchronousTestCase):
    """A simulator in memory, one of whose tokens is dead."""

    def setUp(self) -> None:
        """Make a simulator, whose clock shows some hour."""
        self.simulator = MemorySimulator(authority=AUTHORITY, dead=[DEAD_DEVICE])
        self.simulator.advance(100_000)

    def connect(
        self, certificate: Certificate | None = None, alpn: Sequence[bytes] = (b"h2",), port: int = HTTP2
    ) -> HTTP2Peer:
        """Connect over TLS; without a certificate each request needs a provider token."""
        return connect(self.simulator, HTTP2Peer(), port, certificate, alpn)

    def bearer(self, age: float = 0) -> str:
        """Make a provider token of an age, in seconds."""
        return "bearer " + PROVIDER_TOKEN.sign(int(self.simulator.reactor.seconds() - age))

    def ask(self, peer: HTTP2Peer, fields: Mapping[str, Field]) -> tuple[int, str]:
        """Send a valid request with these fields changed; returns status and reason."""
        stream = peer.send({**GOOD, **fields})
        self.simulator.flush()
        reason = json.loads(peer.bodies[stream])["reason"] if stream in peer.bodies else ""
        return int(peer.answers[stream][":status"]), reason

    def check(self, peer: HTTP2Peer, fields: Mapping[str, Field], status: int, reason: str = "") -> None:
        """Compare the response."""
        self.assertEqual(self.ask(peer, fields), (status, reason), fields)
