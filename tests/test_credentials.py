"""Tests for :mod:`txapns.credentials`."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.credentials.pem import AUTHORITY, certificates_of, key_of, to_pem
from txapns import credentials
from txapns.credentials import (
    MAXIMUM_AGE,
    MINIMUM_AGE,
    Certificate,
    Credential,
    ProviderToken,
    SignedToken,
)
from txapns.errors import (
    CertificateExpired,
    CredentialError,
    KeyMismatch,
    UnsupportedKey,
    WrongPassphrase,
)

PASSPHRASE = "correct horse battery staple"

# A key made for publication, and what Apple's description of provider tokens makes of it.
P8 = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtHFeeze08pnXG58t
bvZDmQkysE71KFfuOYu7MtwsCcmhRANCAASAWRR+SmMYvWvg7wDTiC9LvwVbYlmV
BCsfXxhpDETkia2N0R9lbE8QtrhTJvlr5+m7I2BopeS/jM8iRc26bC5B
-----END PRIVATE KEY-----
"""
PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgFkUfkpjGL1r4O8A04gvS78FW2JZ
lQQrH18YaQxE5ImtjdEfZWxPELa4Uyb5a+fpuyNgaKXkv4zPIkXNumwuQQ==
-----END PUBLIC KEY-----
"""
UNSIGNED = "eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQzEyM0RFRkcifQ.eyJpc3MiOiJERUYxMjNHSElKIiwiaWF0IjoxNzAwMDAwMDAwfQ"
SIGNATURE = "yOwousyVlEPPZPZy8QxCKGDulKkOnkRdhHwDcpoHQ8mMM0VIyzPXh2v4v5QDbk99WkxFRBv1cTSqjLrXmrpSZA"


def deterministic() -> bool:
    """Whether signatures can be deterministic."""
    try:
        ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    except UnsupportedAlgorithm:
        return False
    return True


def decode(part: str) -> bytes:
    """Decode base64url without its padding."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class FromPEMTests(SynchronousTestCase):
    """:meth:`Certificate.from_pem` with the content of typical files."""

    def setUp(self) -> None:
        """Make one certificate and its key."""
        self.pem = AUTHORITY.client_pem()
        self.certificate, self.key = certificates_of(self.pem), key_of(self.pem)

    def test_one_text(self) -> None:
        """Certificate and key may be in one text."""
        self.assertEqual(Certificate.from_pem(self.pem).name, "Apple Push Services: com.example.app")

    def test_any_order(self) -> None:
        """Certificate and key may be in two texts, in either order."""
        self.assertEqual(
            Certificate.from_pem(self.certificate, self.key), Certificate.from_pem(self.key, self.certificate)
        )

    def test_text_or_bytes(self) -> None:
        """Text and bytes are accepted alike."""
        self.assertEqual(Certificate.from_pem(self.pem.decode()), Certificate.from_pem(self.pem))

    def test_surroundings(self) -> None:
        """Text around the PEM is skipped: attributes, Windows' line ends, a byte order mark."""
        text = "\ufeffBag Attributes\n    friendlyName: Schl\u00fcssel \ud800\n" + self.pem.decode()
        self.assertEqual(Certificate.from_pem(text.replace("\n", "\r\n")), Certificate.from_pem(self.pem))

    def test_no_newline_at_the_end(self) -> None:
        """Two texts without a newline at their ends do not run into each other."""
        Certificate.from_pem(self.certificate.strip(), self.key.strip())

    def test_rsa(self) -> None:
        """RSA keys, which most of Apple's developers have, are accepted."""
        Certificate.from_pem(AUTHORITY.client_pem(key_type="rsa"))

    def test_passphrase(self) -> None:
        """Both encrypted forms of a key open with the passphrase, text or bytes."""
        key = load_pem_private_key(self.key, None)
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            for passphrase in (PASSPHRASE, PASSPHRASE.encode()):
                encrypted = to_pem(key, PASSPHRASE, form)
                Certificate.from_pem(self.certificate, encrypted, passphrase=passphrase)

    def test_needless_passphrase(self) -> None:
        """A passphrase for a key that is not encrypted is not used."""
        Certificate.from_pem(self.pem, passphrase=PASSPHRASE)

    def test_passphrase_missing(self) -> None:
        """An encrypted key without a passphrase, or with an empty one, is refused."""
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            encrypted = to_pem(load_pem_private_key(self.key, None), PASSPHRASE, form)
            for passphrase in (None, "", b""):
                with self.assertRaisesRegex(WrongPassphrase, "no passphrase was given"):
                    Certificate.from_pem(self.certificate, encrypted, passphrase=passphrase)

    def test_wrong_passphrase(self) -> None:
        """A wrong passphrase is a WrongPassphrase, for both encrypted forms."""
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            encrypted = to_pem(load_pem_private_key(self.key, None), PASSPHRASE, form)
            with self.assertRaisesRegex(WrongPassphrase, "does not open"):
                Certificate.from_pem(self.certificate, encrypted, passphrase="another")

    def test_mismatch(self) -> None:
        """A key of another certificate is refused."""
        with self.assertRaises(KeyMismatch):
            Certificate.from_pem(self.certificate, key_of(AUTHORITY.client_pem()))

    def test_missing_parts(self) -> None:
        """A text without key or without certificate is refused, and the message says which is missing."""
        for text, missing in (
            (self.certificate, "no private key"),
            (self.key, "no certificate"),
            (b"", "no private key"),
            (b"\x30\x82", "the text contains no PEM"),
        ):
            with self.assertRaisesRegex(CredentialError, missing):
                Certificate.from_pem(text)

    def test_passphrase_in_the_wrong_place(self) -> None:
        """A passphrase passed as a text gives its own message, which does not show it."""
        with self.assertRaisesRegex(CredentialError, "text 2 contains no PEM, .*passphrase=") as caught:
            Certificate.from_pem(self.certificate + self.key, "s3cret")
        self.assertNotIn("s3cret", str(caught.exception))

    def test_damaged(self) -> None:
        """A key with a part cut out is refused."""
        with self.assertRaisesRegex(CredentialError, "private key cannot be read"):
            Certificate.from_pem(self.certificate, self.key.replace(self.key.splitlines()[1], b""))
        with self.assertRaisesRegex(CredentialError, "private key is incomplete: it has 96 of its 138 bytes"):
            Certificate.from_pem(self.certificate, self.key.replace(self.key.splitlines()[3], b""))
        with self.assertRaisesRegex(CredentialError, "private key is incomplete: its -----END line is missing"):
            Certificate.from_pem(self.certificate, self.key[:-40])

    def test_unsupported_keys(self) -> None:
        """Kinds of keys that APNs does not accept are refused."""
        for key in (dsa.generate_private_key(2048), ed25519.Ed25519PrivateKey.generate()):
            with self.assertRaises(UnsupportedKey):
                Certificate.from_pem(self.certificate, to_pem(key))

    def test_unknown_curve(self) -> None:
        """A key on an unknown curve is refused."""
        der = load_pem_private_key(self.key, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        prime256v1 = bytes.fromhex("06082a8648ce3d030107")
        unknown = base64.encodebytes(der.replace(prime256v1, prime256v1[:-1] + b"\x7f"))
        with self.assertRaises(CredentialError):
            Certificate.from_pem(
                self.certificate, b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n" % unknown
            )

    def test_damaged_beside_the_key(self) -> None:
        """A damaged certificate is not reported as a damaged key."""
        cut = self.certificate.replace(self.certificate.splitlines()[2], b"")
        with self.assertRaisesRegex(CredentialError, "the certificate cannot be read"):
            Certificate.from_pem(cut, self.key)

    @given(st.one_of(st.text(), st.binary()))
    def test_anything(self, text: str | bytes) -> None:
        """Any input gives at most a CredentialError."""
        for texts in ((text,), (text, self.pem[:-40])):
            with self.assertRaises(CredentialError):
                Certificate.from_pem(*texts)


class ArgumentTests(SynchronousTestCase):
    """Wrong arguments."""

    def test_now(self) -> None:
        """A time without a zone, or another type, is an error."""
        pem = AUTHORITY.client_pem()
        zone = timezone(timedelta(hours=14))
        for now in (datetime(2026, 1, 1), 5, "now", datetime.min.replace(tzinfo=zone)):  # noqa: DTZ001  # on purpose
            with self.assertRaisesRegex(CredentialError, "must be a datetime with a time zone"):
                Certificate.from_pem(pem, now=now)  # type: ignore[arg-type]

    def test_identifiers(self) -> None:
        """For an identifier that is not text, the message has its name."""
        for value in (None, 5, b"KEY"):
            with self.assertRaisesRegex(CredentialError, "key_id"):
                ProviderToken.from_p8(P8, value, "TEAM")  # type: ignore[arg-type]

    def test_paths(self) -> None:
        """An invalid file name is an error, and a credential in its place is not shown."""
        for path in (None, 5, "a\0b", "\ud800"):
            with self.assertRaisesRegex(CredentialError, "is not a file name"):
                Certificate.from_file(path)  # type: ignore[arg-type]
        for path in (P8, base64.b64encode(P8.encode()).decode(), P8.replace("\n", "\\n")):
            with self.assertRaisesRegex(CredentialError, "itself a credential"):
                ProviderToken.from_file(path, "KEY", "TEAM")

    def test_large_file(self) -> None:
        """A file that never ends is not read to its end."""
        if not Path("/dev/zero").exists():
            raise SkipTest("there is no such file here")
        with self.assertRaisesRegex(CredentialError, "more than any credential"):
            Certificate.from_file("/dev/zero")


class FromPKCS12Tests(SynchronousTestCase):
    """:meth:`Certificate.from_pkcs12` and :meth:`Certificate.from_file`."""

    def test_passphrase(self) -> None:
        """A file opens with its passphrase, text or bytes."""
        data = AUTHORITY.client_pkcs12("com.example.app", PASSPHRASE.encode())
        self.assertEqual(Certificate.from_pkcs12(data, PASSPHRASE), Certificate.from_pkcs12(data, PASSPHRASE.encode()))

    def test_no_passphrase(self) -> None:
        """A file without a passphrase opens without one."""
        data = AUTHORITY.client_pkcs12("com.example.app", None)
        self.assertEqual(Certificate.from_pkcs12(data).topics, ("com.example.app",))

    def test_wrong_passphrase(self) -> None:
        """A missing or wrong passphrase is a WrongPassphrase."""
        data = AUTHORITY.client_pkcs12("com.example.app", PASSPHRASE.encode())
        for passphrase in (None, "", "another"):
            with self.assertRaises(WrongPassphrase):
                Certificate.from_pkcs12(data, passphrase)

    def test_chain(self) -> None:
        """Additional certificates in the file are the chain."""
        pem = AUTHORITY.client_pem(intermediate=True)
        leaf, issuer = x509.load_pem_x509_certificates(pem)
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        data = pkcs12.serialize_key_and_certificates(None, key, leaf, [issuer], NoEncryption())
        self.assertEqual(Certificate.from_pkcs12(data).chain, (issuer,))

    def test_missing_parts(self) -> None:
        """A file without key or without certificate is refused."""
        pem = AUTHORITY.client_pem()
        certificate, key = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        for parts, missing in (((None, certificate), "no private key"), ((key, None), "no certificate")):
            data = pkcs12.serialize_key_and_certificates(None, *parts, None, NoEncryption())
            with self.assertRaisesRegex(CredentialError, missing):
                Certificate.from_pkcs12(data)

    def test_something_else(self) -> None:
        """Other content is not reported as a wrong passphrase, and is read if possible."""
        der = x509.load_pem_x509_certificate(AUTHORITY.ca_pem).public_bytes(Encoding.DER)
        for data in (b"", b"\x30", b"\x30\x00", b"\x30\x84\xff", der):
            with self.assertRaisesRegex(CredentialError, "no private key|is not DER, PKCS#12"):
                Certificate.from_pkcs12(data)
        Certificate.from_pkcs12(AUTHORITY.client_pem())

    def test_file(self) -> None:
        """The content of a file decides whether it is PEM or PKCS#12, not its name."""
        path = Path(self.mktemp())
        for data in (AUTHORITY.client_pkcs12(passphrase=PASSPHRASE.encode()), AUTHORITY.client_pem()):
            path.write_bytes(data)
            for name in (path, str(path)):
                self.assertEqual(Certificate.from_file(name, PASSPHRASE).topics, ("com.example.app",))

    def test_no_file(self) -> None:
        """A file that is not there is the operating system's error, with its name."""
        with self.assertRaises(FileNotFoundError):
            Certificate.from_file(self.mktemp())


class CertificateTests(SynchronousTestCase):
    """:class:`Certificate` as a value."""

    def test_fingerprint(self) -> None:
        """The fingerprint is the one that ``openssl x509 -fingerprint -sha256`` shows."""
        pem = AUTHORITY.client_pem()
        expected = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
        self.assertEqual(Certificate.from_pem(pem).fingerprint, expected)

    def test_equality(self) -> None:
        """Equal certificates are one dictionary key; other objects are not equal."""
        pem, other = AUTHORITY.client_pem(), AUTHORITY.client_pem()
        self.assertEqual(len({Certificate.from_pem(pem), Certificate.from_pem(pem), Certificate.from_pem(other)}), 2)
        self.assertNotEqual(Certificate.from_pem(pem), Certificate.from_pem(pem).fingerprint)

    def test_repr(self) -> None:
        """The representation has name, last day and the beginning of the fingerprint."""
        certificate = Certificate.from_pem(AUTHORITY.client_pem())
        self.assertEqual(
            repr(certificate),
            "<Certificate 'Apple Push Services: com.example.app' "
            f"expires={certificate.expires:%Y-%m-%d} fingerprint={certificate.fingerprint[:16]}…>",
        )


class PickleTests(SynchronousTestCase):
    """Credentials on their way to other processes."""

    def test_certificate(self) -> None:
        """A certificate comes back whole, also one that has expired since it was read."""
        made = Certificate.from_pem(AUTHORITY.client_pem(intermediate=True))
        expired = Certificate.from_pem(
            AUTHORITY.client_pem(expired=True), now=datetime.now(timezone.utc) - timedelta(days=3)
        )
        for each in (made, expired, Certificate.from_pem(AUTHORITY.client_pem(key_type="rsa"))):
            other = pickle.loads(pickle.dumps(each))
            self.assertEqual((other, other.to_pem()), (each, each.to_pem()))
            for field in ("name", "topics", "needs_topic", "environments", "expires", "fingerprint", "chain"):
                self.assertEqual(getattr(other, field), getattr(each, field), field)

    def test_provider_token(self) -> None:
        """So does a provider token, and it signs the same."""
        made = ProviderToken.from_p8(AUTHORITY.p8, "ABC123DEFG", "DEF123GHIJ")
        other = pickle.loads(pickle.dumps(made))
        self.assertEqual((other, other.to_p8(), other.key_id), (made, made.to_p8(), made.key_id))
        self.assertEqual(other.current(1_000_000.0), made.current(1_000_000.0))


class ExpiryTests(SynchronousTestCase):
    """A certificate outside its dates."""

    def test_expired(self) -> None:
        """An expired certificate is refused, with its name and dates."""
        with self.assertRaisesRegex(CertificateExpired, r"com\.example\.app.* is valid from 20\d\d-\d\d-\d\d .* UTC"):
            Certificate.from_pem(AUTHORITY.client_pem(expired=True))

    def test_now(self) -> None:
        """Its first and last seconds are valid, the ones before and after are not."""
        pem = AUTHORITY.client_pem()
        certificate = Certificate.from_pem(pem)
        first, last, second = certificate.certificate.not_valid_before_utc, certificate.expires, timedelta(seconds=1)
        for now in (first, last):
            Certificate.from_pem(pem, now=now)
        for now in (first - second, last + second):
            with self.assertRaises(CertificateExpired):
                Certificate.from_pem(pem, now=now)

    def test_other_sources(self) -> None:
        """The same holds for PKCS#12 and files."""
        later = datetime.now(timezone.utc) + timedelta(days=1_000)
        data = AUTHORITY.client_pkcs12(passphrase=None)
        path = Path(self.mktemp())
        path.write_bytes(data)
        with self.assertRaises(CertificateExpired):
            Certificate.from_pkcs12(data, now=later)
        with self.assertRaises(CertificateExpired):
            Certificate.from_file(path, now=later)

    def test_time_zone(self) -> None:
        """The last day has a time zone."""
        self.assertEqual(Certificate.from_pem(AUTHORITY.client_pem()).expires.utcoffset(), timedelta())


class SignTests(SynchronousTestCase):
    """:meth:`ProviderToken.sign` against a worked example."""

    def setUp(self) -> None:
        """Read the published key."""
        self.token = ProviderToken.from_p8(P8, "ABC123DEFG", "DEF123GHIJ")

    def test_header_and_claims(self) -> None:
        """Header and claims are these, byte for byte, and nothing else."""
        unsigned, _, _ = self.token.sign(1_700_000_000).rpartition(".")
        self.assertEqual(unsigned, UNSIGNED)
        header, claims = map(decode, unsigned.split("."))
        self.assertEqual(json.loads(header), {"alg": "ES256", "kid": "ABC123DEFG"})
        self.assertEqual(json.loads(claims), {"iss": "DEF123GHIJ", "iat": 1_700_000_000})

    def test_deterministic(self) -> None:
        """The same time gives the same token, byte for byte."""
        if deterministic():
            self.assertEqual(self.token.sign(1_700_000_000), self.token.sign(1_700_000_000))

    def test_signature(self) -> None:
        """The signature is r and s, 32 bytes each, and verifies with the public key."""
        unsigned, _, signature = self.token.sign(1_700_000_000).rpartition(".")
        self.verify(unsigned, signature)

    def test_example(self) -> None:
        """The example's own signature verifies, so the verification here is the right one."""
        self.verify(UNSIGNED, SIGNATURE)

    def test_public_key(self) -> None:
        """The public key is the one that belongs to it."""
        shown = self.token.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(shown.decode().split(), PUBLIC_KEY.split())

    def verify(self, unsigned: str, signature: str) -> None:
        """Check a signature without the library that made it."""
        raw = decode(signature)
        self.assertEqual(len(raw), 64)
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        key = load_pem_public_key(PUBLIC_KEY.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(der, unsigned.encode(), ec.ECDSA(hashes.SHA256()))


class WrittenTests(SynchronousTestCase):
    """Credentials as text again."""

    def test_certificate(self) -> None:
        """A certificate is written with its private key and its chain, none of it encrypted."""
        pem = AUTHORITY.client_pem(intermediate=True, passphrase=PASSPHRASE.encode())
        certificate = Certificate.from_pem(pem, passphrase=PASSPHRASE)
        found = Certificate.from_pem(certificate.to_pem())
        self.assertEqual((found, found.chain), (certificate, certificate.chain))
        self.assertEqual(found.to_pem(), certificate.to_pem())

    def test_provider_token(self) -> None:
        """A signing key is written as Apple issues it, even if it was encrypted."""
        encrypted = to_pem(load_pem_private_key(P8.encode(), None), PASSPHRASE)
        token = ProviderToken.from_p8(encrypted, "KEY", "TEAM", passphrase=PASSPHRASE)
        self.assertEqual(token.to_p8(), P8)


class ProviderTokenTests(SynchronousTestCase):
    """A signing key from memory."""

    def test_sources(self) -> None:
        """Text, bytes and file give equal tokens."""
        path = Path(self.mktemp())
        path.write_text(P8)
        tokens = {
            ProviderToken.from_p8(P8, "KEY", "TEAM"),
            ProviderToken.from_p8(P8.encode(), "KEY", "TEAM"),
            ProviderToken.from_file(path, "KEY", "TEAM"),
            ProviderToken.from_file(str(path), "KEY", "TEAM"),
        }
        self.assertEqual(len(tokens), 1)

    def test_fingerprint(self) -> None:
        """Another key, key identifier or team has another fingerprint, and adjacent fields do not run together."""
        tokens = [
            ProviderToken.from_p8(P8, "KEY", "TEAM"),
            ProviderToken.from_p8(P8, "KEYT", "EAM"),
            ProviderToken.from_p8(P8, "KEY", "TEAN"),
            ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM"),
        ]
        self.assertEqual(len({token.fingerprint for token in tokens}), 4)
        self.assertNotEqual(tokens[0], tokens[0].fingerprint)

    def test_other_curves(self) -> None:
        """Only the curve P-256 signs ES256."""
        for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
            with self.assertRaisesRegex(UnsupportedKey, "P-256"):
                ProviderToken.from_p8(to_pem(key), "KEY", "TEAM")

    def test_passphrase(self) -> None:
        """An encrypted key opens with its passphrase and with no other."""
        encrypted = to_pem(load_pem_private_key(P8.encode(), None), PASSPHRASE)
        token = ProviderToken.from_p8(encrypted, "KEY", "TEAM", passphrase=PASSPHRASE)
        self.assertEqual(token, ProviderToken.from_p8(P8, "KEY", "TEAM"))
        for passphrase in (None, "another"):
            with self.assertRaises(WrongPassphrase):
                ProviderToken.from_p8(encrypted, "KEY", "TEAM", passphrase=passphrase)

    def test_signing_keys(self) -> None:
        """Several keys are an error, but the same key twice counts as one."""
        with self.assertRaisesRegex(CredentialError, "there are 2 signing keys"):
            ProviderToken.from_p8(P8.encode() + AUTHORITY.p8, "KEY", "TEAM")
        self.assertEqual(ProviderToken.from_p8(P8 + P8, "KEY", "TEAM"), ProviderToken.from_p8(P8, "KEY", "TEAM"))

    def test_no_key(self) -> None:
        """Anything but a private key is refused."""
        for text in ("", "AuthKey_ABC123DEFG.p8", AUTHORITY.ca_pem):
            with self.assertRaises(CredentialError):
                ProviderToken.from_p8(text, "KEY", "TEAM")

    def test_identifiers(self) -> None:
        """An identifier that is empty, or has the newline of the file it was read from, is refused by name."""
        for value in ("", " ", "ABC123DEFG\n", "ABC 123", "ÄBC"):
            with self.assertRaisesRegex(CredentialError, "key_id"):
                ProviderToken.from_p8(P8, value, "TEAM")
            with self.assertRaisesRegex(CredentialError, "team_id"):
                ProviderToken.from_p8(P8, "KEY", value)

    def test_repr(self) -> None:
        """The representation has the identifiers and the beginning of the fingerprint."""
        token = ProviderToken.from_p8(P8, "KEY", "TEAM")
        self.assertEqual(repr(token), f"<ProviderToken team_id=TEAM key_id=KEY fingerprint={token.fingerprint[:16]}…>")


class AgeTests(SynchronousTestCase):
    """One token at a time, neither too old nor too young."""

    def setUp(self) -> None:
        """Make a new key."""
        self.p8 = to_pem(ec.generate_private_key(ec.SECP256R1()))
        self.token = ProviderToken.from_p8(self.p8, "KEY", "TEAM")

    def test_value(self) -> None:
        """The value is the header field, and its token is dated to the beginning of its window."""
        signed = self.token.current(3 * MAXIMUM_AGE + 1_000.9)
        scheme, _, text = signed.value.partition(b" ")
        self.assertEqual((scheme, signed.issued_at), (b"bearer", 3 * MAXIMUM_AGE))
        claims = jwt.decode(text, options={"verify_signature": False})
        self.assertEqual(claims, {"iss": "TEAM", "iat": 3 * MAXIMUM_AGE})

    def test_kept(self) -> None:
        """The same token is used for 35 minutes, then another."""
        first = self.token.current(0)
        self.assertIs(self.token.current(MAXIMUM_AGE - 1), first)
        self.assertEqual(self.token.current(MAXIMUM_AGE).issued_at, MAXIMUM_AGE)

    def test_late_start(self) -> None:
        """A process that starts at the end of a window changes the token when the others do."""
        self.assertEqual(self.token.current(MAXIMUM_AGE - 1).issued_at, 0)
        self.assertEqual(self.token.current(MAXIMUM_AGE).issued_at, MAXIMUM_AGE)

    def test_processes(self) -> None:
        """Two independent processes have the same token, byte for byte."""
        if not deterministic():
            raise SkipTest("this OpenSSL signs at random only")
        environment = {**os.environ, "PYTHONPATH": str(Path(credentials.__file__).parent.parent)}
        moments = [MAXIMUM_AGE, 1.5 * MAXIMUM_AGE, 2 * MAXIMUM_AGE - 0.001]
        program = "import sys; from txapns import ProviderToken; [p8, now] = sys.argv[1:]; "
        program += "print(ProviderToken.from_p8(p8, 'KEY', 'TEAM').current(float(now)).value.decode())"
        told = {
            subprocess.run(
                [sys.executable, "-c", program, self.p8, str(now)],
                capture_output=True,
                check=True,
                timeout=60,
                env=environment,
            ).stdout.strip()
            for now in moments
        }
        self.assertEqual(told, {self.token.current(MAXIMUM_AGE).value})

    def test_shared(self) -> None:
        """Equal provider tokens share it, even one made after the other is gone."""
        first = self.token.current(0)
        del self.token
        self.assertIs(ProviderToken.from_p8(self.p8, "KEY", "TEAM").current(60), first)

    def test_not_shared(self) -> None:
        """Other teams and keys have their own."""
        self.assertIsNot(ProviderToken.from_p8(self.p8, "KEY", "OTHER").current(0), self.token.current(0))

    def test_renew(self) -> None:
        """A renewal within 20 minutes gives the same token; a later one signs a new one for all."""
        first = self.token.current(0)
        self.assertIs(self.token.renew(MINIMUM_AGE - 1), first)
        second = self.token.renew(MINIMUM_AGE)
        self.assertEqual(second.issued_at, MINIMUM_AGE)
        self.assertIs(self.token.current(MINIMUM_AGE), second)

    def test_renew_first(self) -> None:
        """A renewal without a token signs that of the window."""
        self.assertEqual(self.token.renew(5).issued_at, 0)

    def test_clock_set_back(self) -> None:
        """A clock set back by seconds changes nothing; by more, the token is that of the new time."""
        for ask in (self.token.current, self.token.renew):
            first = self.token.current(5 * MAXIMUM_AGE)
            self.assertIs(ask(5 * MAXIMUM_AGE - 5), first)
            self.assertEqual(ask(5 * MAXIMUM_AGE - 6).issued_at, 4 * MAXIMUM_AGE)

    def test_clock_set_forward(self) -> None:
        """After a clock that was behind is corrected, the token is that of the new time."""
        self.token.current(5 * MAXIMUM_AGE)
        self.assertEqual(self.token.current(9 * MAXIMUM_AGE + 60).issued_at, 9 * MAXIMUM_AGE)

    @given(st.floats(0, 1e9), st.lists(st.tuples(st.booleans(), st.floats(0, 1_000))))
    def test_never_too_often(self, start: float, steps: list[tuple[bool, float]]) -> None:
        """In any sequence of calls, two tokens are at least 20 minutes apart, and none is too old or too new."""
        token = ProviderToken.from_p8(to_pem(ec.generate_private_key(ec.SECP256R1())), "KEY", "TEAM")
        now, issued = start, [token.current(start).issued_at]
        for renew, pause in steps:
            now += pause
            signed = token.renew(now) if renew else token.current(now)
            self.assertTrue(0 <= now - signed.issued_at < MAXIMUM_AGE)
            if signed.issued_at != issued[-1]:
                issued.append(signed.issued_at)
        self.assertTrue(all(later - sooner >= MINIMUM_AGE for sooner, later in pairwise(issued)))

    @given(st.integers(MINIMUM_AGE, MAXIMUM_AGE - 1))
    def test_in_step_again(self, renewed: int) -> None:
        """A process that renewed its token early soon has the same one as the others again."""
        token = ProviderToken.from_p8(to_pem(ec.generate_private_key(ec.SECP256R1())), "KEY", "TEAM")
        token.current(0)
        token.renew(renewed)
        issued = [token.current(now).issued_at for now in range(renewed, 4 * MAXIMUM_AGE, 60)]
        self.assertTrue(all(later - sooner >= MINIMUM_AGE for sooner, later in pairwise(sorted(set(issued)))))
        self.assertEqual(token.current(4 * MAXIMUM_AGE).issued_at, 4 * MAXIMUM_AGE)
        self.assertEqual(token.current(5 * MAXIMUM_AGE).issued_at, 5 * MAXIMUM_AGE)

    def test_memory(self) -> None:
        """Tokens that are an hour old are forgotten when another is signed."""
        self.token.current(0)
        before = len(ProviderToken._signed)
        other = ProviderToken.from_p8(self.p8, "OTHER", "TEAM")
        other.current(3_600)
        self.assertNotIn(self.token.fingerprint, ProviderToken._signed)
        self.assertLessEqual(len(ProviderToken._signed), before)


class SecrecyTests(SynchronousTestCase):
    """No secret in anything that could be printed."""

    def assertTellsNothing(self, text: str, *secrets: str | bytes) -> None:
        """Check that none of the secrets, nor a line of a PEM body, is in the text."""
        for secret in secrets:
            lines = (secret.decode() if isinstance(secret, bytes) else secret).splitlines()
            for line in lines:
                if not line.startswith("-----"):
                    self.assertNotIn(line, text)

    def failure(self, call: Callable[[], Credential]) -> str:
        """Call a function that must fail, and return everything that its traceback shows, hidden causes included."""
        with self.assertRaises(CredentialError) as caught:
            call()
        shown, error = [], caught.exception
        while error is not None:
            shown += [repr(error), str(error), *traceback.format_exception(error)]
            error = error.__cause__ or error.__context__
        return "".join(shown)

    def test_exceptions(self) -> None:
        """No exception, nor what caused it, shows a key or a passphrase."""
        pem, other = AUTHORITY.client_pem(), AUTHORITY.client_pem()
        key = load_pem_private_key(pem, None)
        encrypted = certificates_of(pem) + to_pem(key, PASSPHRASE)
        cut = pem[:-60]
        store = AUTHORITY.client_pkcs12(passphrase=PASSPHRASE.encode())
        other_key = key_of(other)
        wrong = "Tr0ub4dor&3"
        calls: list[Callable[[], Credential]] = [
            lambda: Certificate.from_pem(encrypted),
            lambda: Certificate.from_pem(encrypted, passphrase=wrong),
            lambda: Certificate.from_pem(cut, passphrase=wrong),
            lambda: Certificate.from_pem(certificates_of(pem), other_key),
            lambda: Certificate.from_pem(other_key),
            lambda: Certificate.from_pem(AUTHORITY.client_pem(expired=True), passphrase=wrong),
            lambda: Certificate.from_pkcs12(store, wrong),
            lambda: Certificate.from_pkcs12(cut, wrong),
            lambda: Certificate.from_file(pem.decode()),
            lambda: ProviderToken.from_file(base64.b64encode(P8.encode()).decode(), "KEY", "TEAM"),
            lambda: ProviderToken.from_p8(encrypted, "KEY", "TEAM", passphrase=wrong),
            lambda: ProviderToken.from_p8(P8[:-60], "KEY", "TEAM", passphrase=wrong),
            lambda: ProviderToken.from_p8("KEY", P8, "TEAM"),
            lambda: ProviderToken.from_p8("KEY", "TEAM", P8),
        ]
        for call in calls:
            self.assertTellsNothing(self.failure(call), P8, pem, encrypted, other_key, PASSPHRASE, wrong)

    def test_repr(self) -> None:
        """No representation shows a key or a token."""
        pem = AUTHORITY.client_pem()
        token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        signed = token.current(0)
        text = signed.value.removeprefix(b"bearer ")
        for value in (Certificate.from_pem(pem), token, signed, [signed], {token: signed}):
            for shown in (repr(value), str(value), f"{value}"):
                self.assertTellsNothing(shown, pem, AUTHORITY.p8, text, text.rpartition(b".")[2])

    def test_signed_token_repr(self) -> None:
        """The representation of a signed token shows when it was signed."""
        self.assertEqual(repr(SignedToken(b"bearer secret", 5)), "SignedToken(issued_at=5)")


# The first line makes the pseudo-terminal the controlling one, where OpenSSL would ask.
CHILD = """
import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from txapns.credentials import Certificate, ProviderToken
from txapns.errors import WrongPassphrase
pem = bytes.fromhex(sys.argv[1])
for read in (Certificate.from_pem, lambda pem: ProviderToken.from_p8(pem, "KEY", "TEAM")):
    try:
        read(pem)
    except WrongPassphrase:
        print("WrongPassphrase")
"""


class TerminalTests(SynchronousTestCase):
    """OpenSSL would ask for a passphrase on the terminal."""

    if sys.platform == "win32":
        skip = "there are no pseudo-terminals on Windows"

    def test_no_prompt(self) -> None:
        """An encrypted key without a passphrase is an error at once, without a prompt."""
        import pty

        package = Path(credentials.__file__).parent.parent
        key = ec.generate_private_key(ec.SECP256R1())
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            ours, theirs = pty.openpty()
            self.addCleanup(os.close, ours)
            try:
                child = subprocess.run(
                    [sys.executable, "-c", CHILD, to_pem(key, PASSPHRASE, form).hex()],
                    cwd=package,
                    env={**os.environ, "PYTHONPATH": str(package)},
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                    start_new_session=True,
                    timeout=60,
                    check=False,
                )
            finally:
                os.close(theirs)
            # Linux ends a terminal that no process has open with an error, after what was written to it.
            self.assertEqual(read_all(ours), b"WrongPassphrase\r\n" * 2)
            self.assertEqual(child.returncode, 0)


def read_all(descriptor: int) -> bytes:
    """Read the terminal output of a process that has ended."""
    read = b""
    try:
        while data := os.read(descriptor, 4096):
            read += data
    except OSError:
        pass
    return read
