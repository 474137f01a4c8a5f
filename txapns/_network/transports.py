"""The transport of a protocol over TLS, with the methods that Twisted's ``Protocol.transport`` does not declare."""

from __future__ import annotations

from typing import cast

from OpenSSL.SSL import Connection
from twisted.internet.interfaces import IConsumer, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol
from zope.interface import Attribute

__all__ = ["ITLSTransport", "transport_of"]


class ITLSTransport(ISSLTransport, IConsumer, IPushProducer):
    """What ``TLSMemoryBIOProtocol`` is to the protocol that it wraps."""

    transport: ITCPTransport = Attribute("The TCP transport below.")

    def getHandle() -> Connection:
        """Return the connection of OpenSSL."""


def transport_of(protocol: Protocol) -> ITLSTransport:
    """Find the transport of a protocol that is connected over TLS."""
    assert protocol.transport is not None
    return cast(ITLSTransport, protocol.transport)
