"""Tests for :mod:`txapns._network.tcp`, on real connections over loopback."""

from __future__ import annotations

import select
import socket
import struct
import sys
from typing import Any

import pytest
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from txapns._network.tcp import closing, read_last, unacknowledged


class Transport:
    """The relevant parts of a Twisted transport."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.loopback
class UnacknowledgedTests(SynchronousTestCase):
    """How much the peer's system has not acknowledged."""

    def setUp(self) -> None:
        """A connection, whose far end reads only when told to."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            self.near = socket.create_connection(listener.getsockname())
            self.addCleanup(self.near.close)
            self.far, _ = listener.accept()
            self.addCleanup(self.far.close)
        self.near.setblocking(False)
        self.transport = Transport(transport=Transport(socket=self.near))

    def write(self) -> int:
        """Write until the system accepts no more; return how much it accepted."""
        taken = 0
        try:
            while True:
                taken += self.near.send(bytes(65_536))
        except BlockingIOError:
            return taken

    def test_nothing_written(self) -> None:
        """If nothing was written, nothing is unacknowledged."""
        self.assertEqual(unacknowledged(self.transport), 0)

    def test_not_read(self) -> None:
        """Bytes in the system's buffer count, and those that may be in Twisted's, through any number of layers."""
        if not sys.platform.startswith("linux"):
            self.skipTest("only Linux tells")
        taken = self.write()
        missing = unacknowledged(self.transport)
        self.assertGreater(missing, 65_536)
        self.assertLessEqual(missing, taken + 65_536)
        self.assertEqual(unacknowledged(self.transport.transport), missing)

    def test_read(self) -> None:
        """Bytes that were read do not count."""
        left = self.write()
        self.far.settimeout(10)
        while left:
            left -= len(self.far.recv(65_536))
        self.far.send(b"!")  # with which comes the last acknowledgement
        self.near.setblocking(True)
        self.assertEqual(self.near.recv(1), b"!")
        self.assertEqual(unacknowledged(self.transport), 0)

    def test_cannot_tell(self) -> None:
        """A closed connection, and a transport without one, have nothing unacknowledged."""
        self.write()
        self.near.close()
        self.assertEqual(unacknowledged(self.transport), 0)
        self.assertEqual(unacknowledged(StringTransport()), 0)


@pytest.mark.loopback
class LastWordsTests(SynchronousTestCase):
    """Bytes that arrived before the connection broke."""

    def setUp(self) -> None:
        """A connection with something in it, and a protocol in the place of TLS."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.near = socket.create_connection(listener.getsockname())
            self.addCleanup(self.near.close)
            self.far, _ = listener.accept()
            self.addCleanup(self.far.close)
        self.near.setblocking(False)
        self.read: list[bytes] = []
        self.tls = Transport(transport=Transport(socket=self.near), dataReceived=self.read.append)

    def say(self, words: bytes) -> None:
        """Send this from the far end, and wait until it arrives."""
        self.far.send(words)
        self.assertEqual(select.select([self.near], [], [], 10)[0], [self.near])

    def test_read(self) -> None:
        """Bytes that have arrived are passed to TLS."""
        self.say(b"farewell")
        read_last(self.tls)
        self.assertEqual(self.read, [b"farewell"])

    def test_read_after_a_reset(self) -> None:
        """Also if a reset came after them, and a write has failed."""
        self.say(b"farewell")
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()
        for _ in range(1_000):
            try:
                self.near.send(b"?")
            except OSError:
                break
        else:
            self.fail("it can be written to a connection that was reset")
        read_last(self.tls)
        self.assertEqual(self.read, [b"farewell"])

    def test_nothing(self) -> None:
        """Without such bytes, or without a connection, nothing happens."""
        read_last(self.tls)
        self.near.close()
        read_last(self.tls)
        read_last(StringTransport())
        self.assertEqual(self.read, [])


class ClosingTests(SynchronousTestCase):
    """Whether a connection will be closed."""

    def test_closing(self) -> None:
        """It will be once TCP, the lowest layer, is closing."""
        tcp = StringTransport()
        tls = Transport(transport=tcp)
        self.assertFalse(closing(tls))
        tcp.loseConnection()
        self.assertTrue(closing(tls))
        self.assertTrue(closing(tcp))
