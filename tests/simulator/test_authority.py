"""Tests for :mod:`txapns.simulator.authority`."""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import datetime, timezone

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns.credentials import Certificate, ProviderToken
from txapns.simulator.authority import Authority

AUTHORITY = Authority()
ROOT = x509.load_pem_x509_certificate(AUTHORITY.ca_pem)

SANDBOX = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
PRODUCTION = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")

# The list of topics of a certificate for com.example.app, its VoIP pushes and its watch complications.
THREE_TOPICS = bytes.fromhex(
    "30640c0f636f6d2e6578616d706c652e61707030050c036170700c14636f6d2e6578616d706c652e6170702e766f6970"
    "30060c04766f69700c1c636f6d2e6578616d706c652e6170702e636f6d706c69636174696f6e300e0c0c636f6d706c69"
    "636174696f6e"
)


def extension(pem: bytes, oid: x509.ObjectIdentifier) -> bytes:
    """Return the value of one of Apple's extensions in a certificate."""
    return x509.load_pem_x509_certificate(pem).extensions.get_extension_for_oid(oid).value.public_bytes()


class ClientTests(SynchronousTestCase):
    """The certificates of providers."""

    def test_subject(self) -> None:
        """The subject has the bundle identifier as UID, and Apple's common name."""
        leaf = x509.load_pem_x509_certificate(AUTHORITY.client_pem("com.example.app"))
        self.assertEqual(leaf.subject.rfc4514_string(), "CN=Apple Push Services: com.example.app,UID=com.example.app")

    def test_long_topic(self) -> None:
        """A topic too long for the common name is complete in the UID."""
        topic = "com.example." + "a" * 100
        self.assertEqual(Certificate.from_pem(AUTHORITY.client_pem(topic)).topics, (topic,))

    def test_environments(self) -> None:
        """The marks of the given environments are there, each an ASN.1 NULL."""
        pem = AUTHORITY.client_pem(environments=["sandbox"])
        self.assertEqual(extension(pem, SANDBOX), b"\x05\x00")
        self.assertRaises(x509.ExtensionNotFound, extension, pem, PRODUCTION)

    def test_topics(self) -> None:
        """The list of topics is, byte for byte, the one that Apple makes."""
        topics = ["com.example.app", "com.example.app.voip", "com.example.app.complication"]
        self.assertEqual(extension(AUTHORITY.client_pem(topics=topics), TOPICS), THREE_TOPICS)

    def test_no_topics(self) -> None:
        """A certificate for one topic has no list."""
        self.assertRaises(x509.ExtensionNotFound, extension, AUTHORITY.client_pem(), TOPICS)

    @given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), unique=True))
    def test_any_topics(self, topics: list[str]) -> None:
        """A list of any content and length is read back."""
        pem = AUTHORITY.client_pem("com.example.app", topics=["com.example.app", *topics])
        self.assertEqual(Certificate.from_pem(pem).topics, tuple(dict.fromkeys(["com.example.app", *topics])))

    def test_key_types(self) -> None:
        """Keys have the given type."""
        for key_type, kind in (("ec", ec.EllipticCurvePrivateKey), ("rsa", rsa.RSAPrivateKey)):
            self.assertIsInstance(load_pem_private_key(AUTHORITY.client_pem(key_type=key_type), None), kind)

    def test_passphrase(self) -> None:
        """The passphrase decrypts the key."""
        pem = AUTHORITY.client_pem(passphrase=b"txapns")
        self.assertIn(b"ENCRYPTED", pem)
        Certificate.from_pem(pem, passphrase="txapns")

    def test_expired(self) -> None:
        """An expired certificate was valid before."""
        leaf = x509.load_pem_x509_certificate(AUTHORITY.client_pem(expired=True))
        self.assertTrue(leaf.not_valid_before_utc < leaf.not_valid_after_utc < datetime.now(timezone.utc))

    def test_intermediate(self) -> None:
        """The intermediate authority leads from the certificate to the root."""
        leaf, issuer = x509.load_pem_x509_certificates(AUTHORITY.client_pem(intermediate=True))
        leaf.verify_directly_issued_by(issuer)
        issuer.verify_directly_issued_by(ROOT)

    def test_pkcs12(self) -> None:
        """The PKCS#12 file contains key and certificate, encrypted or not."""
        for passphrase in (b"txapns", None):
            bag = pkcs12.load_pkcs12(AUTHORITY.client_pkcs12("com.example.other", passphrase), passphrase)
            assert bag.cert is not None
            self.assertIsNotNone(bag.key)
            self.assertIn("UID=com.example.other", bag.cert.certificate.subject.rfc4514_string())

    def test_old_pkcs12(self) -> None:
        """One for old programs has an RSA key, and uses only what they support."""
        data = AUTHORITY.client_pkcs12(key_type="rsa", old=True)
        bag = pkcs12.load_pkcs12(data, b"txapns")
        self.assertIsInstance(bag.key, rsa.RSAPrivateKey)
        triple_des, pbes2 = bytes.fromhex("2a864886f70d010c0103"), bytes.fromhex("2a864886f70d01050d")
        self.assertEqual((data.count(triple_des), data.count(pbes2)), (2, 0))


class ServerTests(SynchronousTestCase):
    """The certificates of servers."""

    def test_names(self) -> None:
        """The certificate is for the given names and addresses."""
        leaf = x509.load_pem_x509_certificate(AUTHORITY.server_certificate(["a.example", "b.example"], ["192.0.2.1"]))
        hosts = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(hosts.get_values_for_type(x509.DNSName), ["a.example", "b.example"])
        self.assertEqual(hosts.get_values_for_type(x509.IPAddress), [ipaddress.ip_address("192.0.2.1")])

    def test_strict(self) -> None:
        """Strict verifiers accept it, so clients in any language can be tested against the simulator."""
        leaf = x509.load_pem_x509_certificate(AUTHORITY.server_certificate())
        for name in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("::1"))):
            verifier = PolicyBuilder().store(Store([ROOT])).build_server_verifier(name)
            self.assertEqual(verifier.verify(leaf, []), [leaf, ROOT])

    def test_authorities_differ(self) -> None:
        """Another authority did not sign it."""
        leaf = x509.load_pem_x509_certificate(Authority().server_certificate())
        self.assertRaises(InvalidSignature, leaf.verify_directly_issued_by, ROOT)

    def test_interfaces(self) -> None:
        """Twisted accepts the options as a server's context factory, of the current or the old kind."""
        options = AUTHORITY.server_options((b"h2",))
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, options))
        self.assertTrue(verifyObject(IOpenSSLContextFactory, options))
        self.assertIs(options.getContext(), options.getContext())

    def test_tickets(self) -> None:
        """A client that reconnects resumes its session if the server issues tickets."""
        for tickets in (False, True):
            server = AUTHORITY.server_options((), tls12=True, tickets=tickets).getContext()
            self.assertEqual(resumes(server), tickets)

    def test_no_tickets_in_tls13(self) -> None:
        """A server without tickets does not speak TLS 1.3, in which they cannot be disabled."""
        server = AUTHORITY.server_options((), tickets=False).getContext()
        self.assertEqual(shake_hands(client_context(), server)[0].get_protocol_version_name(), "TLSv1.2")


def client_context() -> SSL.Context:
    """Make the context of a client with a certificate."""
    context = SSL.Context(SSL.TLS_METHOD)
    certificate = Certificate.from_pem(AUTHORITY.client_pem())
    context.use_certificate(certificate.certificate)
    context.use_privatekey(certificate.private_key)
    return context


def shake_hands(
    client: SSL.Context, server: SSL.Context, session: SSL.Session | None = None
) -> tuple[SSL.Connection, SSL.Connection]:
    """Connect to a server, perhaps with a session to resume; returns both ends, the client's first."""
    ends = SSL.Connection(client), SSL.Connection(server)
    ends[0].set_connect_state()
    ends[1].set_accept_state()
    if session is not None:
        ends[0].set_session(session)
    for one, other in (ends, ends[::-1]) * 3:
        with contextlib.suppress(SSL.WantReadError):
            one.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            other.bio_write(one.bio_read(65_536))
    return ends


def resumes(server: SSL.Context) -> bool:
    """Connect to a server twice, the second time with the session of the first; returns whether it was resumed."""
    client = client_context()
    session, secrets = None, []
    for _ in range(2):
        ends = shake_hands(client, server, session)
        session = ends[0].get_session()
        secrets.append(ends[0].master_key())
        for end in ends:
            end.shutdown()  # OpenSSL forgets the sessions of connections that were not closed
    return secrets[0] == secrets[1]


class SigningKeyTests(SynchronousTestCase):
    """The team's signing key."""

    def test_token(self) -> None:
        """The public key verifies what the key signs."""
        token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id).sign(1_700_000_000)
        claims = jwt.decode(token, AUTHORITY.public_key, algorithms=["ES256"])
        self.assertEqual(claims, {"iss": AUTHORITY.team_id, "iat": 1_700_000_000})

    def test_identifiers(self) -> None:
        """The identifiers have the ten characters of Apple's."""
        self.assertEqual([len(AUTHORITY.key_id), len(AUTHORITY.team_id)], [10, 10])

    def test_differs(self) -> None:
        """Each authority has its own key, so tokens of one are not valid for another."""
        self.assertNotEqual(Authority().p8, AUTHORITY.p8)
