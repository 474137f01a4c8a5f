"""Tests for :mod:`txapns._network.transports`."""

from __future__ import annotations

from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from txapns._network.transports import transport_of

__all__ = ["TransportTests"]


class TransportTests(SynchronousTestCase):
    """The transport of a protocol."""

    def test_connected(self) -> None:
        """A connected protocol has one; before it is an error to ask."""
        protocol = Protocol()
        self.assertRaises(AssertionError, transport_of, protocol)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertIs(transport_of(protocol), transport)
