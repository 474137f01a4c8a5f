"""The proxy in front of a database."""

from __future__ import annotations

import socket
import time

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.database_proxy import DatabaseProxy

pytestmark = pytest.mark.loopback


class DatabaseProxyTests(SynchronousTestCase):
    """Between two sockets of the test."""

    def setUp(self) -> None:
        """Make a server that accepts, a proxy in front of it, and a connection through both."""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.server.settimeout(30)
        self.proxy = DatabaseProxy(self, self.server.getsockname()[1])
        self.client, self.peer = self.connected()

    def connected(self) -> tuple[socket.socket, socket.socket]:
        """Connect through the proxy; returns both ends."""
        client = self.client_socket()
        peer, _ = self.server.accept()
        self.addCleanup(peer.close)
        peer.settimeout(30)
        return client, peer

    def client_socket(self) -> socket.socket:
        """Connect to the proxy."""
        client = socket.create_connection(("127.0.0.1", self.proxy.port), 30)
        self.addCleanup(client.close)
        return client

    def assertSilent(self, end: socket.socket) -> None:
        """Assert that nothing comes, for a moment."""
        end.settimeout(0.05)
        self.assertRaises(TimeoutError, end.recv, 1)
        end.settimeout(30)

    def test_passing(self) -> None:
        """It passes on what both say, and that one has said all."""
        self.client.sendall(b"ping")
        self.assertEqual(b"ping", self.peer.recv(10))
        self.peer.sendall(b"pong")
        self.peer.shutdown(socket.SHUT_WR)
        self.assertEqual([b"pong", b""], [self.client.recv(10), self.client.recv(10)])

    def test_stop(self) -> None:
        """Stopped, it passes nothing on and ends no connection; what was said comes when it passes again."""
        self.proxy.stop()
        self.client.sendall(b"ping")
        late = self.client_socket()
        late.sendall(b"late")
        self.assertSilent(self.peer)
        self.assertSilent(late)
        self.proxy.passing()
        self.assertEqual(b"ping", self.peer.recv(10))
        peer, _ = self.server.accept()
        self.addCleanup(peer.close)
        self.assertEqual(b"late", peer.recv(10))

    def test_cut(self) -> None:
        """A cut ends the connections that there are, and no new ones."""
        self.proxy.cut()
        self.assertRaises(ConnectionResetError, self.client.recv, 1)
        client, peer = self.connected()
        client.sendall(b"ping")
        self.assertEqual(b"ping", peer.recv(10))

    def test_refuse(self) -> None:
        """Refusing, it ends old and new connections; then it passes on new ones."""
        self.proxy.refuse()
        self.assertRaises(ConnectionResetError, self.client.recv, 1)
        self.assertRaises(ConnectionResetError, lambda: self.client_socket().recv(1))
        self.proxy.passing()
        client, peer = self.connected()
        client.sendall(b"ping")
        self.assertEqual(b"ping", peer.recv(10))

    def test_delay(self) -> None:
        """What is delayed comes later, and in order."""
        self.proxy.delay(0.05)
        began = time.monotonic()
        self.client.sendall(b"ping")
        self.assertEqual(b"ping", self.peer.recv(10))
        self.assertGreaterEqual(time.monotonic() - began, 0.05)
