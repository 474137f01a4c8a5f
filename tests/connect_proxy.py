"""
A proxy for CONNECT requests only, for tests: in memory or, run as a program, on loopback.

As a program it prints the free port at which it listens, and runs until its standard input ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import protocol
from twisted.internet.endpoints import HostnameEndpoint
from twisted.python.failure import Failure

__all__ = ["ConnectProxy"]

OK = b"HTTP/1.1 200 Connection established\r\nProxy-Agent: tests\r\n\r\n"


class _Side(protocol.Protocol):
    """One of the two connections of a tunnel."""

    other: _Side | None = None
    lost = False

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        assert self.other is not None and self.other.transport is not None
        self.other.transport.write(data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Close the other side, too."""
        self.lost = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()

    def join(self, other: _Side) -> None:
        """Join two sides into a tunnel, each read no faster than the other can write."""
        self.other, other.other = other, self
        for one, another in ((self, other), (other, self)):
            one.transport.registerProducer(another.transport, True)


class _Client(_Side):
    """The client's connection."""

    factory: ConnectProxy
    header = b""

    def connectionMade(self) -> None:
        """Record it."""
        self.factory.clients.append(self)

    def dataReceived(self, data: bytes) -> None:
        """Read the request, or pass on what follows it."""
        self.factory.seen += data
        if self.other is not None:
            super().dataReceived(data)
            return
        self.header += data
        if self.header.endswith(b"\r\n\r\n"):
            self.factory.requests.append(self.header)
            if self.factory.answer is None:
                self.connect()
            else:
                self.factory.answer(self)

    def connect(self, answer: bytes = OK) -> None:
        """Make the connection that was asked for, and respond."""
        target = self.header.split()[1].decode()
        host, _, port = target.rpartition(":")
        endpoint = HostnameEndpoint(self.factory.reactor, host.strip("[]"), int(port))

        def connected(far: protocol.Protocol) -> None:
            assert isinstance(far, _Side)
            self.transport.write(answer)
            self.join(far)

        def failed(reason: Failure) -> None:
            self.say(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n")

        endpoint.connect(protocol.Factory.forProtocol(_Side)).addCallbacks(connected, failed)

    def say(self, answer: bytes) -> None:
        """Answer, and close."""
        self.transport.write(answer)
        self.transport.loseConnection()


class ConnectProxy(protocol.Factory):
    """
    The proxy.

    :param reactor: the reactor.

    :ivar answer: called with the connection of a request, to respond to it; ``None`` to connect.
    :ivar requests: the headers of all requests.
    :ivar clients: all connections of clients.
    :ivar seen: everything received from them.
    """

    protocol = _Client
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.answer: Callable[[_Client], object] | None = None
        self.requests: list[bytes] = []
        self.clients: list[_Client] = []
        self.seen = b""


def main() -> None:
    """Run it."""
    from twisted.internet import reactor, stdio

    class Input(protocol.Protocol):
        def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
            reactor.callLater(0, reactor.stop)

    port = reactor.listenTCP(0, ConnectProxy(reactor), interface="127.0.0.1")
    stdio.StandardIO(Input())
    sys.stdout.write(f"{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
