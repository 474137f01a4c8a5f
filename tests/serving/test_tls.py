"""Tests for :mod:`txapns._serving.tls`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns._serving.connections import FaceProtocol, ServerConnections
from txapns._serving.limits import ConnectionLimits
from txapns._serving.tls import ServerTLS, certified_names
from txapns.credentials import Certificate
from txapns.simulator import Authority

__all__ = ["HandshakeTests", "NameTests", "ServerTLSTests"]

AUTHORITY = Authority()
SERVER = Certificate.from_pem(AUTHORITY.server_certificate())
KNOWN, UNKNOWN = (Certificate.from_pem(AUTHORITY.client_pem()) for _ in range(2))


class NameTests(SynchronousTestCase):
    """The host names of a certificate."""

    def test_names(self) -> None:
        """Names are listed, addresses are not; a certificate without names has none."""
        names = ["gateway.example", "*.push.example"]
        shown = Certificate.from_pem(AUTHORITY.server_certificate(names))
        self.assertEqual(certified_names(shown), names)
        self.assertEqual(list(certified_names(KNOWN)), [])


class ServerTLSTests(SynchronousTestCase):
    """Handshakes."""

    def shake(self, shown: Certificate | None, *, newest: int = SSL.TLS1_3_VERSION, **options: bool) -> SSL.Connection:
        """Shake hands in memory; returns the client's side."""
        tls = ServerTLS(
            SERVER, lambda found: found == KNOWN.fingerprint, protocols=[b"h2"], **{"required": True, **options}
        )
        verifyObject(IOpenSSLServerConnectionCreator, tls)
        server = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
        server.set_accept_state()
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(newest)
        context.set_alpn_protos([b"http/1.1", b"h2"])
        if shown is not None:
            context.use_certificate(shown.certificate)
            context.use_privatekey(shown.private_key)
        client = SSL.Connection(context)
        client.set_connect_state()
        for _ in range(5):
            for side, other in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    side.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(side.bio_read(65_536))
        with contextlib.suppress(SSL.WantReadError):
            client.recv(1)  # an alert, if there is one
        return client

    def test_known(self) -> None:
        """A known certificate is accepted, with HTTP/2."""
        self.assertEqual(self.shake(KNOWN).get_alpn_proto_negotiated(), b"h2")

    def test_unknown(self) -> None:
        """An unknown certificate is refused; a missing one, too, if one is required."""
        for shown in (UNKNOWN, None):
            with self.assertRaises(SSL.Error):
                self.shake(shown)
        with self.assertRaises(SSL.Error):
            self.shake(UNKNOWN, required=False)
        self.shake(None, required=False)

    def test_versions(self) -> None:
        """The newest version can be limited to TLS 1.2; nothing older is accepted."""
        self.assertEqual(self.shake(KNOWN).get_protocol_version_name(), "TLSv1.3")
        self.assertEqual(self.shake(KNOWN, tls12=True).get_protocol_version_name(), "TLSv1.2")
        with self.assertRaises(SSL.Error):
            self.shake(KNOWN, newest=SSL.TLS1_1_VERSION)


class Greeter(FaceProtocol):
    """A protocol that says hello."""

    busy = False

    def begun(self) -> None:
        """Say hello."""
        self.transport.write(b"hello")

    def check(self, now: float) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


def of_version(version: int) -> bytes:
    """Give a client certificate of a version that does not exist, in DER."""
    der = KNOWN.certificate.public_bytes(Encoding.DER)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    return der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01" + bytes([version]))


class HandshakeTests(SynchronousTestCase):
    """Handshakes through the whole stack from TCP to a protocol."""

    def setUp(self) -> None:
        """Make a clock."""
        self.clock = Clock()

    def shake(self, shown: bytes, known: Callable[[str], bool]) -> tuple[bytes, list[str]]:
        """Connect with a certificate; returns what the server sent, and what it logged."""
        server = ServerConnections(self.clock, Greeter, ConnectionLimits(), "a face")
        factory = server.encrypted(ServerTLS(SERVER, known, required=True))
        transport: Any = StringTransport()
        transport.setTcpNoDelay = transport.setTcpKeepAlive = lambda on: None
        transport.abortConnection = transport.loseConnection
        context = SSL.Context(SSL.TLS_METHOD)
        path = self.mktemp()
        Path(path).write_bytes(shown)
        context.use_certificate_file(path, crypto.FILETYPE_ASN1)
        context.use_privatekey(KNOWN.private_key)
        client = SSL.Connection(context)
        client.set_connect_state()
        said = b""
        with capturedLogs() as events:
            connection: Any = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1_000))
            connection.makeConnection(transport)
            for _ in range(5):
                with contextlib.suppress(SSL.Error):
                    client.do_handshake()
                with contextlib.suppress(SSL.Error):
                    connection.dataReceived(client.bio_read(65_536))
                self.clock.advance(0)
                if transport.value():
                    client.bio_write(transport.value())
                    transport.clear()
                with contextlib.suppress(SSL.Error):
                    said += client.recv(100)
            connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(all("log_failure" not in event for event in events))
        return said, [formatEvent(event) for event in events]

    def test_strange_versions(self) -> None:
        """A certificate of X.509 version 5 is known or not, like any other; a refusal is logged."""
        for version in (0, 1, 3, 4, 99):
            shown = of_version(version)
            said, lines = self.shake(shown, lambda found: False)
            self.assertEqual(said, b"")
            [line] = lines
            self.assertIn("192.0.2.1:1000 failed: the TLS handshake failed: certificate verify failed", line)
            known = hashlib.sha256(shown).hexdigest()
            self.assertEqual(self.shake(shown, lambda found, known=known: found == known), (b"hello", []))

    def test_fenced(self) -> None:
        """An exception while a certificate is checked is one line in the log, too."""

        def fail(found: str) -> bool:
            raise ZeroDivisionError("unlucky")

        said, lines = self.shake(KNOWN.certificate.public_bytes(Encoding.DER), fail)
        self.assertEqual((said, len(lines)), (b"", 1))
        self.assertIn("192.0.2.1:1000 failed: ZeroDivisionError: unlucky (line ", lines[0])

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.one_of(st.binary(min_size=1, max_size=200), st.just(b"\x16\x03\x01\x00\x05\x01\0\0\x01\0")), max_size=4
        )
    )
    def test_anything(self, pieces: list[bytes]) -> None:
        """Whatever arrives instead of a handshake is at most one line in the log."""
        server = ServerConnections(self.clock, Greeter, ConnectionLimits(), "a face")
        connection: Any = server.encrypted(ServerTLS(SERVER, bool, required=True)).buildProtocol(None)
        with capturedLogs() as events:
            connection.makeConnection(StringTransport())
            for piece in pieces:
                connection.dataReceived(piece)
            connection.connectionLost(Failure(ConnectionDone()))
        self.assertLessEqual(len(events), 1)
        self.assertTrue(all("log_failure" not in event for event in events))
