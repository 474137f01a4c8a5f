"""
APNs in memory, for tests of programs that use txapns: no sockets, no waiting, no mocks.

::

    simulator = MemorySimulator(dead=[DEAD])
    client = simulator.client()
    sending = client.send(Notification(alert="Hello"), [DEAD, ALIVE])
    batch = simulator.result(sending)
    assert list(batch.failed) == [0]

Everything is real except the network and the time: the client resolves the host name, connects, performs a TLS
handshake with certificates of a throw-away authority, and speaks HTTP/2 or the binary protocol with the simulated
servers. Call :meth:`MemorySimulator.flush` to move bytes, and :meth:`MemorySimulator.advance` to let time pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import attrs
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from zope.interface import implementer

from txapns._network.clocks import IWallClock
from txapns.client import APNSClient
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.gateway import Gateway
from txapns.simulator.authority import Authority
from txapns.simulator.servers import Simulator
from txapns.simulator.web.api import WebServer

__all__ = ["MemoryReactor", "MemorySimulator", "MemoryWallClock"]

T = TypeVar("T")

_HOST = "127.0.0.1"
_PORTS = {"http2": 2197, "binary": 2195, "feedback": 2196, "channels": 2198}
_WEB = 8025


@implementer(IConnector)
@attrs.define(eq=False)
class _Connector:
    """The connector of an attempt, which takes one turn of the clock."""

    _destination: IAddress
    attempt: IDelayedCall = attrs.field(init=False)

    def getDestination(self) -> IAddress:
        return self._destination

    def connect(self) -> None:
        """Do nothing: only the reactor connects."""

    def disconnect(self) -> None:
        """Do nothing: the protocol's transport disconnects."""

    def stopConnecting(self) -> None:
        if self.attempt.active():
            self.attempt.cancel()


@implementer(IWallClock)
class MemoryWallClock:
    """
    A wall clock that follows a reactor's time, until it is set.

    :param reactor: the reactor, or a ``Clock``.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._ahead = 0.0

    def now(self) -> float:
        """Return the time, in UNIX seconds."""
        return self._reactor.seconds() + self._ahead

    def step(self, seconds: float) -> None:
        """
        Set the clock, as people and NTP do. No time passes.

        :param seconds: by how much; negative to set it back.
        """
        self._ahead += seconds


class MemoryReactor(MemoryReactorClock):
    """
    A reactor whose time is advanced by hand, and whose TCP connections lead to servers in the same process.

    :ivar wall: the wall clock.
    :ivar servers: the servers, by port. A connection to any other port is refused.
    :ivar attempts: how many connections were attempted.
    """

    def __init__(self) -> None:
        MemoryReactorClock.__init__(self)
        self.servers: dict[int, IProtocolFactory] = {}
        self.attempts = 0
        self.wall = MemoryWallClock(self)
        self._pumps: list[IOPump] = []

    def __conform__(self, interface: object) -> MemoryWallClock | None:
        """Return the wall clock."""
        return self.wall if interface is IWallClock else None

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory, timeout: float = 30, bindAddress: Any = None
    ) -> _Connector:
        """
        Connect to one of the servers, in the next turn of the clock.

        :param host: an address; it is ignored.
        :param port: the server's port.
        :param factory: the client's factory.
        :param timeout: ignored: connecting takes no time.
        :param bindAddress: ignored.
        :returns: a connector.
        """
        self.attempts += 1
        connector = _Connector(IPv4Address("TCP", host, port))
        factory.doStart()
        factory.startedConnecting(connector)
        connector.attempt = self.callLater(0, self._connect, port, factory, connector)
        return connector

    def _connect(self, port: int, factory: ClientFactory, connector: _Connector) -> None:
        if port not in self.servers:
            factory.clientConnectionFailed(connector, Failure(error.ConnectionRefusedError()))
            return
        address = connector.getDestination()
        client = factory.buildProtocol(address)
        server = self.servers[port].buildProtocol(address)
        if client is None or server is None:
            return
        near, far = FakeTransport(client, isServer=False), FakeTransport(server, isServer=True)
        self._pumps.append(IOPump(client, server, near, far, debug=False, clock=self))
        server.makeConnection(far)
        client.makeConnection(near)

    def flush(self) -> None:
        """Move bytes in both directions, and make the calls that are due, until nothing more happens."""
        moved = True
        while moved:
            super().advance(0)
            moved = sum(pump.pump(advanceClock=False) for pump in self._pumps) > 0 or self._due()
        self._pumps = [pump for pump in self._pumps if not pump.clientIO.disconnected]

    def _due(self) -> bool:
        return any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())

    def advance(self, amount: float) -> None:
        """
        Let time pass. Each call is made at its time, and what it sends arrives before the next call.

        :param amount: how many seconds.
        """
        end = self.seconds() + amount
        self.flush()
        while True:
            times = [call.getTime() for call in self.getDelayedCalls()]
            due = min([time for time in times if time <= end], default=None)
            if due is None:
                break
            super().advance(max(due - self.seconds(), 0.0))
            self.flush()
        super().advance(max(end - self.seconds(), 0.0))
        self.flush()


class MemorySimulator(Simulator):
    """
    The simulator, in memory.

    :param dead: the device tokens that are dead, in hexadecimal or raw.
    :param authority: makes the certificates and keys; left out, a new one.
    :param topic: the app's bundle ID.
    :param delay: how long a response takes, in seconds.
    :param concurrency: how many requests may be under way on a connection at once.

    :ivar reactor: the reactor for clients.
    :ivar wall: the wall clock of clients and servers, a :class:`MemoryWallClock`. It follows the reactor's time until
        it is set with ``step``.
    """

    def __init__(
        self,
        *,
        dead: Iterable[str | bytes] = (),
        authority: Authority | None = None,
        topic: str = "com.example.app",
        delay: float = 0.0,
        concurrency: int = 1_000,
    ) -> None:
        self.reactor = MemoryReactor()
        self.wall = self.reactor.wall
        gone = [bytes.fromhex(token) if isinstance(token, str) else token for token in dead]
        super().__init__(
            self.reactor, authority=authority, topic=topic, dead=gone, delay=delay, concurrency=concurrency
        )
        for protocol, port in _PORTS.items():
            self.reactor.servers[port] = self.tls_factory(protocol)
        self.reactor.servers[_WEB] = WebServer(self.reactor, self)
        self.ports = {**_PORTS, "web": _WEB}

    def gateway(self, protocol: str = "http2", **options: Any) -> Gateway:
        """
        Describe a server of the simulator.

        :param protocol: ``"http2"`` or ``"binary"``.
        :param options: further arguments for :meth:`Gateway.http2 <txapns.Gateway.http2>` or :meth:`Gateway.binary
            <txapns.Gateway.binary>`.
        :returns: the gateway, which trusts the simulator's authority.
        """
        if protocol == "http2":
            options.setdefault("management_port", _PORTS["channels"])
            return Gateway.http2(_HOST, _PORTS["http2"], trust_root=self.authority.ca_pem, **options)
        options.setdefault("feedback_port", _PORTS["feedback"])
        return Gateway.binary(_HOST, _PORTS["binary"], trust_root=self.authority.ca_pem, **options)

    def certificate(self) -> Certificate:
        """Make a client certificate for the app."""
        return Certificate.from_pem(self.authority.client_pem(self.topic))

    def provider_token(self) -> ProviderToken:
        """Make a provider token."""
        return ProviderToken.from_p8(self.authority.p8, self.authority.key_id, self.authority.team_id)

    def client(
        self, gateway: str | Gateway = "http2", credential: Credential | None = None, **options: Any
    ) -> APNSClient:
        """
        Make a client of the simulator.

        :param gateway: ``"http2"``, ``"binary"``, or a result of :meth:`gateway`.
        :param credential: a certificate or provider token; left out, a certificate.
        :param options: further arguments for :class:`~txapns.APNSClient`.
        :returns: the client.
        """
        if isinstance(gateway, str):
            gateway = self.gateway(gateway)
        options.setdefault("topic", self.topic)
        return APNSClient(self.reactor, credential or self.certificate(), gateway, **options)

    def flush(self) -> None:
        """Move bytes in both directions until nothing more happens."""
        self.reactor.flush()

    def advance(self, seconds: float) -> None:
        """Let time pass, in seconds."""
        self.reactor.advance(seconds)

    def result(self, deferred: Deferred[T], within: float = 60.0) -> T:
        """
        Move bytes, and let time pass, until a ``Deferred`` fires.

        :param deferred: the ``Deferred``.
        :param within: how much time may pass, in seconds.
        :returns: its result.
        :raises Exception: the error it failed with; ``AssertionError`` if it did not fire.
        """
        results: list[T | Failure] = []
        deferred.addBoth(results.append)
        end = self.reactor.seconds() + within
        self.flush()
        while not results and self.reactor.seconds() < end:
            self.advance(0.25)
        if not results:
            raise AssertionError(f"the Deferred did not fire within {within:g} s")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]
