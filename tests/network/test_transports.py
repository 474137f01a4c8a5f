"""Tests for :mod:`txapns._network.transports`."""

from __future__ import annotations

from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.client_case import AUTHORITY
from txapns._network.tls import ClientContextFactory
from txapns._network.transports import transport_of, write_at_once

__all__ = ["TransportTests", "WriteAtOnceTests"]


class Descriptor(FileDescriptor):
    """A connection whose socket takes so many bytes, and keeps them."""

    def __init__(self, room: int) -> None:
        super().__init__(MemoryReactor())  # type: ignore[no-untyped-call]
        self.connected = 1
        self.room = room
        self.sent = b""

    def writeSomeData(self, data: bytes) -> int:
        """Take what there is room for."""
        taken = data[: self.room - len(self.sent)]
        self.sent += taken
        return len(taken)


class Collector(Protocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.data += data


class TransportTests(SynchronousTestCase):
    """The transport of a protocol."""

    def test_connected(self) -> None:
        """A connected protocol has one; before it is an error to ask."""
        protocol = Protocol()
        self.assertRaises(AssertionError, transport_of, protocol)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertIs(transport_of(protocol), transport)


class WriteAtOnceTests(SynchronousTestCase):
    """Writing without waiting for the next turn of the reactor."""

    def start(self, room: int) -> None:
        """Connect both sides over TLS, with a socket on the client's side that takes so many bytes."""
        self.clock = Clock()
        self.client, self.server = Protocol(), Collector()
        self.below, self.peer = Descriptor(room), StringTransport()
        ours, theirs = (
            ClientContextFactory("localhost", None, AUTHORITY.ca_pem),
            AUTHORITY.server_options([], require_certificate=False),
        )
        self.near = TLSMemoryBIOFactory(ours, True, Factory.forProtocol(lambda: self.client), self.clock).buildProtocol(
            None
        )
        self.far = TLSMemoryBIOFactory(
            theirs, False, Factory.forProtocol(lambda: self.server), self.clock
        ).buildProtocol(None)
        self.far.makeConnection(self.peer)
        self.near.makeConnection(self.below)
        for _ in range(4):
            self.below.doWrite()
            self.carry()

    def carry(self) -> None:
        """Carry what was sent to the other side, and the answer back."""
        sent, self.below.sent = self.below.sent, b""
        if sent:
            self.far.dataReceived(sent)
        self.clock.advance(0)
        answer = self.peer.value()
        self.peer.clear()
        if answer:
            self.near.dataReceived(answer)

    def test_sent(self) -> None:
        """The bytes are sent before the call returns, in order."""
        self.start(100_000)
        for part in (b"one ", b"two"):
            write_at_once(self.client, part)
        self.carry()
        self.assertEqual(self.server.data, b"one two")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full(self) -> None:
        """What the socket does not take is left to the reactor."""
        self.start(100_000)
        write_at_once(self.client, b"x" * 200_000)
        self.assertEqual(len(self.below.sent), 100_000)
        self.assertIn(self.below, self.below.reactor.writers)
        for _ in range(2):
            self.carry()
            self.below.doWrite()
        self.carry()
        self.assertEqual(self.server.data, b"x" * 200_000)

    def test_closing(self) -> None:
        """A connection that is closed when all is written is closed by the reactor."""
        self.start(100_000)
        self.below.loseConnection()
        write_at_once(self.client, b"x")
        self.assertEqual(self.below.sent, b"")
        self.assertIsNotNone(self.below.doWrite())
