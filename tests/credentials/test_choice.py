"""Tests for :mod:`txapns._credentials.choice`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, load_pem_private_key, pkcs12
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.credentials.pem import AUTHORITY, certificates_of, key_of, self_signed, to_pem
from txapns._credentials.choice import inspect_certificate
from txapns.credentials import Certificate
from txapns.errors import CertificateExpired, CredentialError, KeyMismatch


def push(topic: str, *environments: str, expired: bool = False) -> bytes:
    """Make a push certificate with its key."""
    return AUTHORITY.client_pem(topic, environments=environments or ("sandbox", "production"), expired=expired)


class ChainTests(SynchronousTestCase):
    """Which certificate is the leaf, and which follow it in the chain."""

    def test_intermediate(self) -> None:
        """The intermediate certificate is the chain, wherever it stands."""
        pem = AUTHORITY.client_pem(intermediate=True)
        leaf, issuer = x509.load_pem_x509_certificates(pem)
        certificate = Certificate.from_pem(issuer.public_bytes(Encoding.PEM), pem)
        self.assertEqual((certificate.certificate, certificate.chain), (leaf, (issuer,)))

    def test_order(self) -> None:
        """The chain is in the order of issue, in whatever order it was given; other certificates stay out."""
        pem = AUTHORITY.client_pem(intermediate=True)
        stray = certificates_of(AUTHORITY.client_pem())
        certificate = Certificate.from_pem(AUTHORITY.ca_pem, stray, pem)
        self.assertEqual(
            [issuer.public_bytes(Encoding.PEM) for issuer in certificate.chain],
            [x509.load_pem_x509_certificates(pem)[1].public_bytes(Encoding.PEM), AUTHORITY.ca_pem],
        )

    def test_renewed(self) -> None:
        """Of two certificates for the same key, the one that expires last is chosen."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(timezone.utc)
        certificates = [self_signed(key, now + timedelta(days=days)) for days in (10, 300, 20)]
        certificate = Certificate.from_pem(*certificates, to_pem(key))
        self.assertEqual(certificate.expires.date(), (now + timedelta(days=300)).date())
        self.assertEqual(certificate.chain, ())


class ChoiceTests(SynchronousTestCase):
    """Which of several certificates is chosen."""

    def setUp(self) -> None:
        """Make an identity that is not for push and expires last."""
        key = ec.generate_private_key(ec.SECP256R1())
        self.other = self_signed(key, datetime.now(timezone.utc) + timedelta(days=399)) + to_pem(key)

    def assertTakes(self, expected: str, *texts: bytes, **choice: str) -> Certificate:
        """Check which topic the chosen certificate is for, in every order of the texts."""
        for order in (texts, texts[::-1]):
            for arranged in (
                order,
                [b"".join(order)],
                [key_of(each) for each in order] + [*map(certificates_of, order)],
            ):
                certificate = Certificate.from_pem(*arranged, **choice)
                self.assertEqual(certificate.topics[0], expected)
        return certificate

    def test_marks(self) -> None:
        """Apple's marks of a push certificate decide, and other identities do not matter."""
        self.assertTakes("com.example.chess", self.other, push("com.example.chess"))

    def test_marks_of_one_key(self) -> None:
        """They also decide between two certificates for one key, in PKCS#12 as well."""
        pem = push("com.example.chess")
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        other = self_signed(key, datetime.now(timezone.utc) + timedelta(days=399))
        self.assertEqual(Certificate.from_pem(pem, other).topics, ("com.example.chess",))
        leaf, stray = (x509.load_pem_x509_certificate(each) for each in (pem, other))
        for certificates in ((leaf, [stray]), (stray, [leaf])):
            data = pkcs12.serialize_key_and_certificates(None, key, *certificates, NoEncryption())
            self.assertEqual(Certificate.from_pkcs12(data).topics, ("com.example.chess",))

    def test_voip(self) -> None:
        """Every such mark counts, that of VoIP certificates included."""
        key = ec.generate_private_key(ec.SECP256R1())
        voip = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113635.100.6.3.4"), b"\5\0")
        expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=9)
        certificate = Certificate.from_pem(self.other, self_signed(key, expires, voip), to_pem(key))
        self.assertEqual(certificate.expires, expires)

    def test_key_missing(self) -> None:
        """No other certificate replaces a push certificate whose key is missing."""
        with self.assertRaisesRegex(KeyMismatch, "none of the push certificates"):
            Certificate.from_pem(self.other, certificates_of(push("com.example.chess")))

    def test_key_decides(self) -> None:
        """Of two push certificates, the one whose key is present is chosen."""
        self.assertEqual(
            Certificate.from_pem(certificates_of(push("com.example.mail")), push("com.example.chess")).topics,
            ("com.example.chess",),
        )

    def test_dates_decide(self) -> None:
        """Of two, the one that is valid is chosen."""
        self.assertTakes("com.example.chess", push("com.example.mail", expired=True), push("com.example.chess"))

    def test_all_expired(self) -> None:
        """If none is valid, that is the error."""
        with self.assertRaises(CertificateExpired):
            Certificate.from_pem(*(push(topic, expired=True) for topic in ("com.example.mail", "com.example.chess")))

    def test_renewed(self) -> None:
        """Of two for the same purpose, with different keys, the one that expires last is chosen."""
        first, second = push("com.example.chess"), push("com.example.chess")
        lasting = max(map(Certificate.from_pem, (first, second)), key=lambda each: each.expires)
        self.assertEqual(Certificate.from_pem(first, second).expires, lasting.expires)

    def test_several(self) -> None:
        """If two fit, both are listed, and the topic or the environment decides."""
        sandbox, production = push("com.example.chess", "sandbox"), push("com.example.mail", "production")
        with self.assertRaises(CredentialError) as caught:
            Certificate.from_pem(sandbox, production)
        for words in (
            "several certificates fit; choose by environment=… or topic=…",
            "'Apple Push Services: com.example.chess' (com.example.chess; sandbox; until ",
            "'Apple Push Services: com.example.mail' (com.example.mail; production; until ",
        ):
            self.assertIn(words, str(caught.exception))
        self.assertTakes("com.example.chess", sandbox, production, environment="sandbox")
        self.assertTakes("com.example.mail", sandbox, production, environment="production")
        self.assertTakes("com.example.mail", sandbox, production, topic="com.example.mail")

    def test_both_serve(self) -> None:
        """Two certificates that both serve the given topic are an error."""
        one, both = push("com.example.chess", "sandbox"), push("com.example.chess")
        with self.assertRaisesRegex(CredentialError, "several certificates fit"):
            Certificate.from_pem(one, both, topic="com.example.chess")
        self.assertTakes("com.example.chess", one, both, environment="sandbox")
        self.assertTrue(
            "production" in self.assertTakes("com.example.chess", one, both, environment="production").environments
        )

    def test_none_fits(self) -> None:
        """If none is for the given environment and topic, the message lists those found, even a single one."""
        for choice in ({"environment": "production"}, {"topic": "com.example.mail"}):
            with self.assertRaisesRegex(CredentialError, r"found: 'Apple .*chess' \(com.example.chess; sandbox; until"):
                Certificate.from_pem(push("com.example.chess", "sandbox"), **choice)
        self.assertTakes(
            "com.example.chess", push("com.example.chess"), environment="sandbox", topic="com.example.chess"
        )

    def test_unknown_environment(self) -> None:
        """An unknown environment is an error."""
        with self.assertRaisesRegex(CredentialError, "neither 'sandbox' nor 'production'"):
            Certificate.from_pem(push("com.example.chess"), environment="development")

    def test_sources(self) -> None:
        """The choice applies to PKCS#12 and files as well."""
        path = Path(self.mktemp())
        data = AUTHORITY.client_pkcs12(passphrase=None)
        path.write_bytes(data)
        for choice in ({"environment": "sandbox"}, {"topic": "com.example.app"}):
            self.assertEqual(Certificate.from_pkcs12(data, **choice), Certificate.from_file(path, **choice))
        for call in (lambda: Certificate.from_pkcs12(data, topic="x"), lambda: Certificate.from_file(path, topic="x")):
            self.assertRaises(CredentialError, call)


class InspectionTests(SynchronousTestCase):
    """What a certificate says about itself."""

    def test_universal(self) -> None:
        """A certificate for one app names it and both environments."""
        certificate = Certificate.from_pem(AUTHORITY.client_pem("com.example.app"))
        self.assertEqual(certificate.topics, ("com.example.app",))
        self.assertEqual(certificate.environments, {"sandbox", "production"})
        self.assertFalse(certificate.needs_topic)

    def test_one_environment(self) -> None:
        """Older certificates are for one environment."""
        for environment in ("sandbox", "production"):
            certificate = Certificate.from_pem(AUTHORITY.client_pem(environments=[environment]))
            self.assertEqual(certificate.environments, {environment})

    def test_topics(self) -> None:
        """A certificate for several topics lists them, the bundle identifier first, and needs one named."""
        for count in (1, 3, 40, 4_000):
            topics = [f"com.example.app{number or ''}" for number in range(count)]
            certificate = Certificate.from_pem(AUTHORITY.client_pem("com.example.app", topics=topics))
            self.assertEqual(certificate.topics, tuple(topics))
            self.assertTrue(certificate.needs_topic)

    def test_without_key(self) -> None:
        """A server reads the same from a client's certificate, whose key it does not have."""
        pem = AUTHORITY.client_pem(environments=["sandbox"], topics=["com.example.app", "com.example.app.voip"])
        ours = Certificate.from_pem(pem)
        self.assertEqual(inspect_certificate(x509.load_pem_x509_certificate(pem)), (ours.topics, ours.environments))

    @given(st.binary())
    def test_damaged_list_of_topics(self, value: bytes) -> None:
        """A certificate with a malformed list of topics can still be used."""
        key = ec.generate_private_key(ec.SECP256R1())
        expires = datetime.now(timezone.utc) + timedelta(days=1)
        damaged = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113635.100.6.3.6"), value)
        certificate = Certificate.from_pem(self_signed(key, expires, damaged), to_pem(key))
        self.assertTrue(certificate.needs_topic)

    def test_plain(self) -> None:
        """A certificate without any of Apple's marks has no topics, environments or name, and is accepted."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = Certificate.from_pem(
            self_signed(key, datetime.now(timezone.utc) + timedelta(days=1)), to_pem(key)
        )
        self.assertEqual((certificate.name, certificate.topics, certificate.environments), ("", (), frozenset()))

    def test_repeated_extension(self) -> None:
        """A certificate with a repeated extension is a CredentialError."""
        pem = AUTHORITY.client_pem()
        der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        one, two = (bytes.fromhex("2a864886f76364060301"), bytes.fromhex("2a864886f76364060302"))
        self.assertIn(one, der)
        doubled = x509.load_der_x509_certificate(der.replace(one, two))
        self.assertRaises(CredentialError, inspect_certificate, doubled)
        with self.assertRaisesRegex(CredentialError, "subject, dates or extensions cannot be read"):
            Certificate.from_pem(doubled.public_bytes(Encoding.PEM), key_of(pem))
