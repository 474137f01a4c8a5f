"""Tests for :mod:`txapns._network.tls`: real TLS, in memory."""

from __future__ import annotations

import contextlib
import gc
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, DNSMismatch
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import IOPump, connect, makeFakeClient, makeFakeServer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns._network import tls
from txapns._network.tls import ClientContextFactory, explain
from txapns._network.trust import platform_trust
from txapns.credentials import Certificate, ProviderToken
from txapns.errors import (
    ClientClosed,
    ConnectFailed,
    CredentialError,
    CredentialRefused,
    InvalidGateway,
    PeerNotVerified,
)
from txapns.simulator.authority import Authority, ServerContextFactory

AUTHORITY = Authority()
HELLO = b"hello"


class Greeter(Protocol):
    """Says hello, and remembers what it heard and why it ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        """Say hello."""
        self.transport.write(HELLO)

    def dataReceived(self, data: bytes) -> None:
        """Remember the bytes of the other side."""
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember why it ended."""
        self.lost = reason


@attrs.frozen
class Session:
    """Both ends of one connection."""

    client: Greeter
    server: Greeter
    pump: IOPump

    @property
    def established(self) -> bool:
        """Whether both sides heard the other, so that the handshake was completed on both."""
        return self.client.heard == self.server.heard == HELLO

    @property
    def explanation(self) -> Exception:
        """How the client explains the end of the connection."""
        assert self.client.lost is not None
        return explain(self.client.lost)


def open_session(client_side: object, server_side: object) -> Session:
    """Let a client and a server, given by their context factories, shake hands in memory."""
    clock = Clock()
    client, server = Greeter(), Greeter()
    protocols = [
        TLSMemoryBIOFactory(side, is_client, Factory.forProtocol(lambda greeter=greeter: greeter), clock).buildProtocol(
            None
        )
        for side, is_client, greeter in ((client_side, True, client), (server_side, False, server))
    ]
    pump = connect(protocols[1], makeFakeServer(protocols[1]), protocols[0], makeFakeClient(protocols[0]), clock=clock)
    pump.flush()
    return Session(client, server, pump)


def client_side(hostname: str = "localhost", credential: Certificate | None = None) -> ClientContextFactory:
    """Make a client that trusts the authority and offers HTTP/2."""
    return ClientContextFactory(hostname, credential, AUTHORITY.ca_pem, [b"h2"])


def plain_server(pem: bytes, newest: int = SSL.TLS1_3_VERSION) -> ServerContextFactory:
    """Make a server from certificate and key alone."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")  # otherwise OpenSSL 3 would not serve TLS 1.1, nor with a short key
    certificate = Certificate.from_pem(pem)
    context.use_certificate(certificate.certificate)
    context.use_privatekey(certificate.private_key)
    context.set_max_proto_version(newest)
    return ServerContextFactory(context)


class HandshakeTests(SynchronousTestCase):
    """Connections that must succeed."""

    def test_interfaces(self) -> None:
        """It works with Twisted's current and older APIs for context factories."""
        factory = client_side()
        self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, factory))
        self.assertTrue(verifyObject(IOpenSSLContextFactory, factory))
        self.assertIsInstance(factory, ssl.ClientContextFactory)

    def test_mutual(self) -> None:
        """Both sides present certificates and negotiate HTTP/2, in either version of TLS."""
        for key_type in ("ec", "rsa"):
            credential = Certificate.from_pem(AUTHORITY.client_pem(key_type=key_type))
            for tls12 in (False, True):
                options = AUTHORITY.server_options((b"h2",), tls12=tls12, require_certificate=True)
                session = open_session(client_side("localhost", credential), options)
                self.assertTrue(session.established)
                for end in (session.client, session.server):
                    self.assertEqual(end.transport.negotiatedProtocol, b"h2")
                    version = end.transport.getHandle().get_protocol_version_name()
                    self.assertEqual(version, "TLSv1.2" if tls12 else "TLSv1.3")
                seen = session.server.transport.getPeerCertificate().to_cryptography()
                self.assertEqual(seen, credential.certificate)

    def test_no_certificate(self) -> None:
        """With a provider token no certificate is presented, which is enough if none is required."""
        session = open_session(client_side(), AUTHORITY.server_options((b"h2",)))
        self.assertTrue(session.established)
        self.assertIsNone(session.server.transport.getPeerCertificate())

    def test_no_protocols(self) -> None:
        """Without protocols nothing is negotiated, as the binary protocol requires."""
        factory = ClientContextFactory("localhost", None, AUTHORITY.ca_pem.decode())
        session = open_session(factory, AUTHORITY.server_options((b"h2",)))
        self.assertTrue(session.established)
        self.assertIsNone(session.client.transport.negotiatedProtocol)

    def test_address(self) -> None:
        """Addresses, without their zone, are verified against those in the certificate, and not sent as server name."""
        for address in ("127.0.0.1", "::1", "::1%lo"):
            session = open_session(client_side(address), AUTHORITY.server_options((b"h2",)))
            self.assertTrue(session.established)
            self.assertIsNone(session.server.transport.getHandle().get_servername())

    def test_server_name(self) -> None:
        """The host name is sent in its ASCII form."""
        for hostname, sent in (("localhost", b"localhost"), ("bücher.example", b"xn--bcher-kva.example")):
            certificate = AUTHORITY.server_certificate([sent.decode()])
            session = open_session(client_side(hostname), AUTHORITY.server_options((b"h2",), certificate=certificate))
            self.assertTrue(session.established)
            self.assertEqual(session.server.transport.getHandle().get_servername(), sent)

    def test_chain(self) -> None:
        """The intermediate certificate is sent, so a server that trusts only the root can verify the chain."""
        credential = Certificate.from_pem(AUTHORITY.client_pem(intermediate=True))
        session = open_session(
            client_side("localhost", credential), AUTHORITY.server_options((b"h2",), require_certificate=True)
        )
        self.assertTrue(session.established)
        chain = session.server.transport.getHandle().get_verified_chain()
        received = [certificate.to_cryptography() for certificate in chain]
        self.assertEqual(received[:2], [credential.certificate, *credential.chain])

    def test_several_connections(self) -> None:
        """One factory makes many connections from one context, which pyOpenSSL no longer lets us change."""
        factory = client_side("localhost", Certificate.from_pem(AUTHORITY.client_pem()))
        options = AUTHORITY.server_options((b"h2",))
        self.assertTrue(all(open_session(factory, options).established for _ in range(3)))
        self.assertIs(factory.getContext(), factory.getContext())


class SharingTests(SynchronousTestCase):
    """Which factories share a context."""

    def test_shared(self) -> None:
        """Those for the same host, authorities and protocols share one, and none that presents a certificate itself."""

        def context(
            host: str = "localhost", root: bytes = AUTHORITY.ca_pem, alpn: bytes = b"h2", shown: Any = None
        ) -> SSL.Context:
            return ClientContextFactory(host, shown, root, [alpn]).getContext()

        certificate = Certificate.from_pem(AUTHORITY.client_pem())
        first = context()
        self.assertIs(ClientContextFactory("localhost", None, AUTHORITY.ca_pem.decode(), [b"h2"]).getContext(), first)
        others = [context("127.0.0.1"), context(root=Authority().ca_pem), context(alpn=b"h3")]
        others += [context(shown=certificate), context(shown=certificate)]
        self.assertEqual(len({id(each) for each in [first, *others]}), 6)

    def test_certificates(self) -> None:
        """Those with certificates share it, too: each connection presents its own, also when it resumes a session."""
        shown = [Certificate.from_pem(AUTHORITY.client_pem(f"com.example.app{number}")) for number in range(2)]
        factories = [client_side("localhost", each) for each in shown]
        server = AUTHORITY.server_options((b"h2",), require_certificate=True)
        contexts = set()
        for _ in range(3):
            for factory, certificate in zip(factories, shown, strict=True):
                session = open_session(factory, server)
                self.assertTrue(session.established)
                received = session.server.transport.getHandle().get_peer_certificate().to_cryptography()
                self.assertEqual(received, certificate.certificate)
                contexts.add(session.client.transport.getHandle().get_context())
                self.assertNotIn(factory.getContext(), contexts)
        self.assertEqual(contexts, {client_side("localhost").getContext()})


class ResumptionTests(SynchronousTestCase):
    """Connections that resume the session of the one before."""

    def setUp(self) -> None:
        """Count how often a server's certificate is looked at."""
        self.verified = 0
        self.patch(tls, "extract_patterns", self.extract)
        self.factory = client_side("localhost", Certificate.from_pem(AUTHORITY.client_pem()))
        self.server = plain_server(AUTHORITY.server_certificate())

    def extract(self, certificate: crypto.X509) -> Any:
        """Look at a certificate."""
        self.verified += 1
        return extract_patterns(certificate)

    def open(self, server: ServerContextFactory | None = None) -> Session:
        """Connect."""
        return open_session(self.factory, server or self.server)

    def test_resumed(self) -> None:
        """The next connection resumes the session of an existing one, in either version of TLS."""
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            self.setUp()
            server = plain_server(AUTHORITY.server_certificate(), newest)
            sessions = [self.open(server) for _ in range(5)]
            self.assertTrue(all(session.established for session in sessions))
            self.assertEqual(self.verified, 1)

    def test_gone(self) -> None:
        """Without one, the server is verified again."""
        for _ in range(3):
            self.assertTrue(self.open().established)
            gc.collect()
        self.assertEqual(self.verified, 3)

    def test_after_some(self) -> None:
        """After a number of connections the server is verified again."""
        self.patch(tls, "RESUMED", 2)
        sessions = [self.open() for _ in range(7)]
        self.assertTrue(all(session.established for session in sessions))
        self.assertEqual(self.verified, 3)

    def test_not_kept_to(self) -> None:
        """If a server ends a resumed connection, later connections do not resume."""
        # OpenSSL resumes no session of a client with a certificate where the server has not named a context for it.
        self.server.getContext().set_verify(SSL.VERIFY_PEER, lambda *_: True)
        first, refused = self.open(), self.open()
        self.assertEqual((first.established, refused.established), (True, False))
        sessions = [first, *(self.open() for _ in range(5))]
        self.assertTrue(all(session.established for session in sessions))
        self.assertEqual(self.verified, 6)

    def test_another_server(self) -> None:
        """A server that does not know the session is verified."""
        first = self.open()
        second = self.open(plain_server(AUTHORITY.server_certificate()))
        impostor = self.open(plain_server(AUTHORITY.server_certificate(["other.example"])))
        self.assertEqual((first.established, second.established, impostor.established), (True, True, False))
        self.assertIsInstance(impostor.explanation, PeerNotVerified)


class RejectionTests(SynchronousTestCase):
    """Servers that must be rejected."""

    def assertRefused(self, factory: object, options: object, words: str) -> None:
        """Check that the client ends the connection before it sends anything, and says why."""
        session = open_session(factory, options)
        self.assertEqual((session.client.heard, session.server.heard), (b"", b""))
        self.assertIsInstance(session.explanation, PeerNotVerified)
        self.assertRegex(str(session.explanation), words)

    def test_wrong_authority(self) -> None:
        """A certificate of an untrusted authority is rejected, whether or not the server sends that authority's."""
        other = Authority()
        source = r"\(trusted authorities: trust_root\)"
        for server, words in (
            (other.server_options((b"h2",)), "its chain ends in a self-signed authority that is not trusted"),
            (plain_server(other.server_certificate()), "its authority is unknown"),
        ):
            self.assertRefused(
                client_side(),
                server,
                rf"localhost is not trusted {source}: {words}.*; if .* as trust_root; ",
            )

    def test_platform(self) -> None:
        """Without a trust root only the platform's authorities are trusted."""
        options = AUTHORITY.server_options((b"h2",))
        words = f"localhost is not trusted.*authorities: {re.escape(platform_trust().source)}"
        self.assertRefused(ClientContextFactory("localhost"), options, words)

    def test_several_authorities(self) -> None:
        """Any of several trusted authorities is accepted."""
        factory = ClientContextFactory("localhost", None, Authority().ca_pem + AUTHORITY.ca_pem)
        self.assertTrue(open_session(factory, AUTHORITY.server_options(())).established)

    def test_wrong_name(self) -> None:
        """A trusted certificate for another host is refused."""
        for hostname in ("api.push.apple.com", "localhost.example", "127.0.0.2", "::2"):
            options = AUTHORITY.server_options((b"h2",))
            self.assertRefused(client_side(hostname), options, f"is not for {hostname}; check the host name")

    def test_address_is_no_name(self) -> None:
        """An address written as a host name in the certificate does not count."""
        options = AUTHORITY.server_options((b"h2",), certificate=AUTHORITY.server_certificate(["127.0.0.1"], []))
        self.assertRefused(client_side("127.0.0.1"), options, r"is not for 127\.0\.0\.1")

    def test_no_name(self) -> None:
        """A trusted certificate without a host name is rejected."""
        options = AUTHORITY.server_options((b"h2",), certificate=AUTHORITY.server_certificate([], []))
        self.assertRefused(client_side(), options, "is not for localhost .*subjectAltName")

    def test_expired(self) -> None:
        """An expired certificate is rejected for that reason, not for a missing authority."""
        options = AUTHORITY.server_options((b"h2",), certificate=AUTHORITY.server_certificate(expired=True))
        self.assertRefused(
            client_side(),
            options,
            r"localhost is not trusted .*: it has expired .*; check this machine.s clock",
        )

    def test_self_signed(self) -> None:
        """A self-signed certificate is refused, unless it is itself the trust root."""
        pem = self_signed("localhost")
        self.assertRefused(client_side(), plain_server(pem), r"localhost is not trusted .*: it is self-signed")
        self.assertTrue(open_session(ClientContextFactory("localhost", None, pem), plain_server(pem)).established)

    def test_short_key(self) -> None:
        """A server whose RSA key is too short is rejected for that reason."""
        words = r"localhost is not trusted .*: its key is too short, such as RSA of fewer than 2,048 bits \(OpenSSL"
        pem = self_signed("localhost", 1024)
        self.assertRefused(ClientContextFactory("localhost", None, pem), plain_server(pem), words)

    def test_tls12(self) -> None:
        """TLS 1.2 verifies in the same way."""
        for hostname in ("localhost", "elsewhere.example"):
            options = AUTHORITY.server_options((b"h2",), tls12=True)
            self.assertEqual(open_session(client_side(hostname), options).established, hostname == "localhost")

    def test_context(self) -> None:
        """The context alone also verifies."""
        for hostname, established in (("localhost", True), ("elsewhere.example", False)):
            client = SSL.Connection(client_side(hostname).getContext())
            client.set_connect_state()
            server = SSL.Connection(plain_server(AUTHORITY.server_certificate()).context)
            server.set_accept_state()
            self.assertEqual(shake_hands(client, server), established)


def self_signed(hostname: str, key_size: int = 2048) -> bytes:
    """Make a self-signed certificate with an RSA key, both in PEM."""
    key = rsa.generate_private_key(65_537, key_size)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname)])
    today = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, today - timedelta(days=1), today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> bool:
    """Do a handshake without Twisted, and return whether it succeeded."""
    for _ in range(5):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return False
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65_536))
    return True


class ServerTests(SynchronousTestCase):
    """Servers that reject us."""

    def rejection(self, credential: Certificate | None, *, tls12: bool) -> Exception:
        """Connect to a server that requires a certificate, and return the client's explanation."""
        options = AUTHORITY.server_options((b"h2",), tls12=tls12, require_certificate=True)
        session = open_session(client_side("localhost", credential), options)
        self.assertEqual(session.server.heard, b"")
        assert session.client.lost is not None
        return explain(session.client.lost, credential)

    def test_unknown_certificate(self) -> None:
        """A certificate of an authority unknown to the server is rejected, and the alert says so."""
        credential = Certificate.from_pem(Authority().client_pem())
        for tls12 in (False, True):
            error = self.rejection(credential, tls12=tls12)
            assert isinstance(error, CredentialRefused), error
            self.assertEqual(error.reason, "unknown ca")
            self.assertIn(f"(valid until {credential.expires:%Y-%m-%d}) with the alert 'unknown ca'; ", str(error))

    def test_expired_certificate(self) -> None:
        """A certificate that expires while the program runs has its own alert."""
        pem = AUTHORITY.client_pem(expired=True)
        leaf = x509.load_pem_x509_certificate(pem)
        credential = Certificate.from_pem(pem, now=leaf.not_valid_before_utc)
        for tls12 in (False, True):
            error = self.rejection(credential, tls12=tls12)
            assert isinstance(error, CredentialRefused), error
            self.assertEqual(error.reason, "certificate expired")

    def test_certificate_required(self) -> None:
        """A server that requires a certificate says so in TLS 1.3; TLS 1.2 has no alert for it."""
        error = self.rejection(None, tls12=False)
        assert isinstance(error, CredentialRefused), error
        self.assertEqual(error.reason, "certificate required")
        self.assertIsInstance(self.rejection(None, tls12=True), ConnectFailed)

    def test_old_tls(self) -> None:
        """A server that supports nothing newer than TLS 1.1 is rejected."""
        server = plain_server(AUTHORITY.server_certificate(), SSL.TLS1_1_VERSION)
        session = open_session(client_side(), server)
        self.assertFalse(session.established)
        self.assertIs(type(session.explanation), ConnectFailed)
        self.assertRegex(str(session.explanation), "^TLS failed: .*alert protocol version")

    def test_old_client(self) -> None:
        """An old client can connect to the server of the previous test, so only its version was wrong."""
        server = plain_server(AUTHORITY.server_certificate(), SSL.TLS1_1_VERSION)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        client = SSL.Connection(context)
        client.set_connect_state()
        accepting = SSL.Connection(server.context)
        accepting.set_accept_state()
        self.assertTrue(shake_hands(client, accepting))
        self.assertEqual(client.get_protocol_version_name(), "TLSv1.1")

    def test_no_tls(self) -> None:
        """For a server that does not speak TLS, the message has OpenSSL's reason."""
        session = open_session(client_side(), AUTHORITY.server_options(()))
        client = client_side().clientConnectionForTLS(session.client.transport)
        client.set_connect_state()
        client.bio_write(b"SSH-2.0-OpenSSH_9.6\r\n")
        error = self.assertRaises(SSL.Error, client.do_handshake)
        self.assertRegex(str(explain(error)), "^TLS failed: (wrong version number|packet length too long)")


class ConstructionTests(SynchronousTestCase):
    """Errors before any connection."""

    def test_hostname(self) -> None:
        """A text that is neither a host name nor an address is an error."""
        for hostname in ("", " ", "a b", "https://api.push.apple.com", "localhost:2197", "\ud800", "ü" * 80):
            with self.assertRaisesRegex(InvalidGateway, "neither a host name nor an address"):
                ClientContextFactory(hostname)

    def test_trust_root(self) -> None:
        """A trust root without a certificate is an error."""
        for trust_root in ("", b"", "/etc/ssl/cert.pem", "\ud800", AUTHORITY.p8):
            with self.assertRaisesRegex(CredentialError, "trust_root"):
                ClientContextFactory("localhost", None, trust_root)

    def test_weak_certificate(self) -> None:
        """For a key that is too short for OpenSSL, the message has OpenSSL's reason."""
        weak = Certificate.from_pem(self_signed("weak.example", 1024))
        with self.assertRaisesRegex(CredentialError, r"weak\.example.*key too small"):
            ClientContextFactory("localhost", weak)


class ExplainTests(SynchronousTestCase):
    """:func:`explain` for other errors."""

    def test_own_error(self) -> None:
        """Our own errors are returned as they are."""
        error = ClientClosed("closed")
        self.assertIs(explain(error), error)
        self.assertIs(explain(Failure(error)), error)

    def test_host_name(self) -> None:
        """The errors of service_identity, which other context factories pass on, are recognized."""
        for error in (VerificationError([DNSMismatch(DNS_ID("localhost"))]), CertificateError("no names")):
            self.assertIsInstance(explain(error), PeerNotVerified)
        self.assertRegex(str(explain(CertificateError("no names"))), r"\(no names\)")

    def test_verify_failed(self) -> None:
        """So is OpenSSL's error for an untrusted chain."""
        error = SSL.Error([("SSL routines", "", "certificate verify failed")])
        self.assertRegex(str(explain(error)), "not trusted: certificate verify failed; check trust_root")

    def test_alerts(self) -> None:
        """Alerts about our certificate are recognized in each spelling of OpenSSL; others do not reject it."""
        for words, refused in (
            ("sslv3 alert certificate revoked", True),
            ("ssl/tls alert certificate revoked", True),
            ("tlsv1 alert access denied", True),
            ("sslv3 alert bad certificate", True),
            ("sslv3 alert certificate unknown", True),
            ("sslv3 alert unsupported certificate", True),
            ("sslv3 alert handshake failure", False),
            ("tlsv1 alert internal error", False),
            ("tlsv1 alert no application protocol", False),
        ):
            error = explain(SSL.Error([("SSL routines", "", words)]))
            self.assertIs(type(error), CredentialRefused if refused else ConnectFailed)
            self.assertIn(words.partition("alert ")[2], str(error))

    def test_provider_token(self) -> None:
        """With a provider token the message has no date."""
        token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        error = explain(SSL.Error([("SSL routines", "", "sslv3 alert certificate expired")]), token)
        self.assertTrue(
            str(error).startswith("the server rejected our certificate with the alert 'certificate expired'; renew")
        )

    def test_several_words(self) -> None:
        """The message has all of OpenSSL's queue."""
        error = SSL.Error([("a", "b", "first"), ("a", "b", "second")])
        self.assertEqual(str(explain(error)), "TLS failed: first; second")

    def test_no_words(self) -> None:
        """An error without a reason still has a message."""
        for error in (SSL.Error(), SSL.Error([]), SSL.ZeroReturnError()):
            self.assertEqual(str(explain(error)), "TLS failed: OpenSSL gave no reason")
        error = SSL.SysCallError(-1, "Unexpected EOF")
        self.assertIn("TLS failed: -1 Unexpected EOF; the server, or a firewall", str(explain(error)))

    def test_transport(self) -> None:
        """The errors of the transport keep their messages."""
        for error in (ConnectError(), ConnectionDone(), OSError("no route"), OSError()):
            explanation = explain(error)
            self.assertIs(type(explanation), ConnectFailed)
            self.assertEqual(str(explanation), str(error) or "OSError")
