"""Tests for :mod:`txapns.daemon.serving.tls`."""

from __future__ import annotations

import contextlib

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns.credentials import Certificate
from txapns.daemon.serving.tls import ServerTLS, certified_names
from txapns.simulator import Authority

__all__ = ["NameTests", "ServerTLSTests"]

AUTHORITY = Authority()
SERVER = Certificate.from_pem(AUTHORITY.server_certificate())
KNOWN, UNKNOWN = (Certificate.from_pem(AUTHORITY.client_pem()) for _ in range(2))


class NameTests(SynchronousTestCase):
    """For which hosts a certificate is."""

    def test_names(self) -> None:
        """It tells the names, and not the addresses; one of another kind tells none."""
        names = ["gateway.example", "*.push.example"]
        shown = Certificate.from_pem(AUTHORITY.server_certificate(names))
        self.assertEqual(certified_names(shown), names)
        self.assertEqual(list(certified_names(KNOWN)), [])


class ServerTLSTests(SynchronousTestCase):
    """Who gets through the handshake."""

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
        """Who is known gets through, with HTTP/2."""
        self.assertEqual(self.shake(KNOWN).get_alpn_proto_negotiated(), b"h2")

    def test_unknown(self) -> None:
        """Who is not is refused, and so is who shows nothing, unless nothing has to be shown."""
        for shown in (UNKNOWN, None):
            with self.assertRaises(SSL.Error):
                self.shake(shown)
        with self.assertRaises(SSL.Error):
            self.shake(UNKNOWN, required=False)
        self.shake(None, required=False)

    def test_versions(self) -> None:
        """The newest version is TLS 1.2 on demand; nothing older is spoken."""
        self.assertEqual(self.shake(KNOWN).get_protocol_version_name(), "TLSv1.3")
        self.assertEqual(self.shake(KNOWN, tls12=True).get_protocol_version_name(), "TLSv1.2")
        with self.assertRaises(SSL.Error):
            self.shake(KNOWN, newest=SSL.TLS1_1_VERSION)
