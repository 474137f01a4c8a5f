"""The transport of a protocol over TLS, with the methods that Twisted's ``Protocol.transport`` does not declare."""

from __future__ import annotations

from typing import Any, cast

from OpenSSL.SSL import Connection
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IConsumer, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import Attribute

__all__ = ["ITLSTransport", "transport_of", "write_at_once"]


class ITLSTransport(ISSLTransport, IConsumer, IPushProducer):
    """What ``TLSMemoryBIOProtocol`` is to the protocol that it wraps."""

    transport: ITCPTransport = Attribute("The TCP transport below.")

    def getHandle() -> Connection:
        """Return the connection of OpenSSL."""


def transport_of(protocol: Protocol) -> ITLSTransport:
    """Find the transport of a protocol that is connected over TLS."""
    assert protocol.transport is not None
    return cast(ITLSTransport, protocol.transport)


def write_at_once(protocol: Protocol, data: bytes) -> None:
    """
    Write over TLS, and hand the bytes to the system.

    Twisted collects what is written until everything else that is ready has been read, and hands it to the system when
    the reactor has looked again what is ready. With several connections this is some milliseconds later.
    """
    transport: object = protocol.transport
    if not isinstance(transport, TLSMemoryBIOProtocol):
        transport_of(protocol).write(data)
        return
    TLSMemoryBIOProtocol.write(transport, data)
    below: Any = transport.transport
    # An error, or the end of a connection that is being closed, is left to the reactor.
    if isinstance(below, FileDescriptor) and below.connected and not below.disconnecting:
        below.doWrite()
