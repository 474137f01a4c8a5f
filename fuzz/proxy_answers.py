"""A proxy's answers to CONNECT."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from fuzz import whole_and_split
from txapns._network.proxy import Proxy, _TunnelFactory
from txapns.errors import ConnectFailed

__all__ = ["SEEDS", "check"]

SEEDS = [
    b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03\x01",
    b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm=a\r\n\r\n",
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
    b"SSH-2.0-OpenSSH_9.2\r\n",
]
_LONGEST = 1_048_576


class _Behind(Protocol):
    """The protocol behind the tunnel."""

    def __init__(self) -> None:
        self.read = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep the bytes."""
        self.read += data


def _read(stream: Iterable[bytes]) -> list[object]:
    behind = IProtocolFactory(Factory.forProtocol(_Behind))
    address = IPv4Address("TCP", "127.0.0.1", 3128)
    proxy = Proxy("localhost", 3128, "user", "password")
    tunnel = _TunnelFactory(proxy, "localhost:443", address, behind).buildProtocol(address)
    ended: list[object] = []
    tunnel.through.addBoth(ended.append)
    tunnel.makeConnection(StringTransport())
    for piece in stream:
        tunnel.dataReceived(piece)
    if not ended:
        tunnel.connectionLost(Failure(ConnectionDone()))
    [result] = ended
    if isinstance(result, Failure):
        assert isinstance(result.value, ConnectFailed), result
        return [ConnectFailed]  # the message depends on how much of the answer had arrived
    assert isinstance(result, _Behind)
    return [result.read]


def check(data: bytes) -> None:
    """Check that the result is the same however the answer is split, and that a failure is a ``ConnectFailed``."""
    whole_and_split(data, _read)
