"""Tests for :mod:`txapns.doctor.inspection`."""

from __future__ import annotations

import json
import re
import warnings
from datetime import datetime, timedelta, timezone

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.doctor.inspection import SOON, Inspection, inspect, push_types_of
from txapns.errors import CredentialError, WrongPassphrase
from txapns.simulator import Authority

__all__ = ["CertificateTests", "KeyTests", "PushTypeTests"]

AUTHORITY = Authority()
NOW = datetime.now(timezone.utc)
APP = "com.example.app"
PEM = AUTHORITY.client_pem()


def one(content: bytes, now: datetime = NOW, **options: str) -> Inspection:
    """Inspect a file with one credential."""
    (found,) = inspect(content, now, **options)
    return found


def without_key(pem: bytes) -> bytes:
    """Leave out the private key."""
    return re.sub(rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\s*", b"", pem, flags=re.DOTALL)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Write a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class CertificateTests(SynchronousTestCase):
    """Certificates."""

    def test_one_app(self) -> None:
        """That of one app is for its bundle ID alone, in the environments that it names."""
        found = one(AUTHORITY.client_pem(APP))
        self.assertEqual((found.kind, found.name), ("certificate", f"Apple Push Services: {APP}"))
        self.assertEqual((found.topics, found.environments), ((APP,), ("production", "sandbox")))
        self.assertEqual((found.key, found.issuer), ("elliptic curve P-256", "txapns simulator root"))
        self.assertEqual(found.good_for, (f"{APP}: alert, background",))
        self.assertEqual(found.not_for[0], "liveactivity and location pushes: they need a provider token")
        self.assertIn("voip", found.not_for[1])
        self.assertEqual((found.usable, found.faults, found.warnings), (True, (), ()))

    def test_several_topics(self) -> None:
        """One that lists topics is for the push types of their suffixes."""
        found = one(AUTHORITY.client_pem(APP, topics=[APP, f"{APP}.voip", f"{APP}.complication"], key_type="rsa"))
        self.assertEqual(
            found.good_for, (f"{APP}: alert, background", f"{APP}.voip: voip", f"{APP}.complication: complication")
        )
        self.assertEqual(found.key, "RSA, 2048 bits")
        self.assertNotIn("voip,", " ".join(found.not_for))
        self.assertIn("widgets", found.not_for[1])

    def test_one_environment(self) -> None:
        """The other environment is among what it is not for."""
        found = one(AUTHORITY.client_pem(environments=["sandbox"]))
        self.assertEqual(found.environments, ("sandbox",))
        self.assertIn("production: the certificate is for the other environment", found.not_for)

    def test_dates(self) -> None:
        """It is usable between its dates, with a warning in the last month."""
        pem = AUTHORITY.client_pem()
        expires, begins = one(pem).expires, one(pem).begins
        assert expires is not None and begins is not None
        for now, usable, warned in (
            (expires - SOON - timedelta(seconds=1), True, False),
            (expires - SOON, True, True),
            (expires, True, False),
            (expires + timedelta(seconds=1), False, False),
            (begins - timedelta(seconds=1), False, False),
        ):
            found = one(pem, now)
            self.assertEqual((found.usable, bool(found.warnings)), (usable, warned), now)
        self.assertIn("renew", one(AUTHORITY.client_pem(expired=True)).faults[0])

    def test_without_key(self) -> None:
        """A certificate without its key, or with that of another, cannot be used."""
        alone = without_key(AUTHORITY.client_pem())
        self.assertIn("the private key is missing", one(alone).faults[0])
        self.assertIn("belongs to another certificate", one(alone + AUTHORITY.p8).faults[0])

    def test_no_push_certificate(self) -> None:
        """A server's certificate names no topic."""
        self.assertIn("names no topic", one(AUTHORITY.server_certificate()).faults[0])

    def test_forms(self) -> None:
        """The chain does not count, and several certificates are inspected one by one."""
        self.assertTrue(one(AUTHORITY.client_pem(intermediate=True)).usable)
        self.assertTrue(one(AUTHORITY.client_pkcs12(), passphrase="txapns").usable)
        two = inspect(AUTHORITY.client_pem("com.example.a") + AUTHORITY.client_pem("com.example.b"), NOW)
        self.assertEqual({each.topics for each in two}, {("com.example.a",), ("com.example.b",)})

    def test_passphrase(self) -> None:
        """A passphrase that is missing or wrong is an error, which does not show it."""
        for data in (AUTHORITY.client_pkcs12(), AUTHORITY.client_pem(passphrase=b"txapns")):
            self.assertRaises(WrongPassphrase, inspect, data, NOW)
            error = self.assertRaises(WrongPassphrase, inspect, data, NOW, passphrase="sesame")
            self.assertNotIn("sesame", str(error))

    @given(st.binary(max_size=200))
    def test_anything(self, content: bytes) -> None:
        """Anything else is an error."""
        self.assertRaises(CredentialError, inspect, content, NOW)

    @given(st.integers(0, 800), st.integers(1, 255))
    def test_damaged(self, position: int, change: int) -> None:
        """A damaged certificate is inspected or an error."""
        pem = bytearray(PEM)
        pem[position % len(pem)] ^= change
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", CryptographyDeprecationWarning
            )  # some damage makes a serial number negative
            try:
                inspect(bytes(pem), NOW)
            except CredentialError as error:
                self.assertIsNone(error.__cause__)


class KeyTests(SynchronousTestCase):
    """Signing keys."""

    def test_name(self) -> None:
        """The name of the file has the key's identifier, as Apple gives it."""
        found = one(AUTHORITY.p8, name="/etc/keys/AuthKey_ABC123DEFG.p8")
        self.assertEqual((found.kind, found.key_id, found.usable), ("signing key", "ABC123DEFG", True))
        self.assertEqual((found.key, found.warnings), ("elliptic curve P-256", ()))
        for name in ("key.p8", "AuthKey_short.p8", "AuthKey_ABC123DEFGHI.p8", ""):
            found = one(AUTHORITY.p8, name=name)
            self.assertEqual((found.key_id, len(found.warnings), found.usable), (None, 1, True))

    def test_other_keys(self) -> None:
        """A key on another curve, or none, signs no provider tokens."""
        for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65_537, 2_048)):
            found = one(pem_of(key))
            self.assertEqual((found.usable, found.good_for), (False, ()))
            self.assertIn("P-256", found.faults[0])

    def test_no_secret(self) -> None:
        """Neither the values nor their JSON have anything of the key."""
        for content in (AUTHORITY.p8, AUTHORITY.client_pem()):
            key = content.partition(b"PRIVATE KEY-----\n")[2].split(b"\n")[0].decode()
            found = one(content)
            for text in (repr(found), json.dumps(found.to_dict())):
                self.assertNotIn(key[:20], text)
                self.assertNotIn("PRIVATE", text)


class PushTypeTests(SynchronousTestCase):
    """What a topic is for."""

    def test_suffixes(self) -> None:
        """The suffix tells, and without one it is an app's."""
        self.assertEqual(push_types_of(APP), ("alert", "background"))
        self.assertEqual(push_types_of(f"{APP}.push-type.liveactivity"), ("liveactivity",))
        self.assertEqual(push_types_of("com.apple.mgmt.External.42"), ("mdm",))
