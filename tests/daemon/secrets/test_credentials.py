"""Tests for :mod:`txapns.daemon.secrets.credentials`."""

from __future__ import annotations

from datetime import datetime, timezone

from cryptography.fernet import Fernet
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.world import world_of
from tests.network.test_tls import self_signed
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.errors import ConfigurationError, SecretError
from txapns.daemon.secrets.credentials import (
    decrypt,
    encrypt,
    read_certificate,
    section_credential,
    server_certificate,
)
from txapns.daemon.secrets.master_key import MasterKey
from txapns.errors import CertificateExpired, CredentialError, WrongPassphrase
from txapns.simulator import Authority

__all__ = ["EncryptedTests", "ReadTests", "ServerCertificateTests"]

AUTHORITY = Authority()


def present() -> datetime:
    """Tell the time."""
    return datetime.now(timezone.utc)


class ReadTests(SynchronousTestCase):
    """Credentials as they are read."""

    def test_forms(self) -> None:
        """A certificate is read in any form, with its chain."""
        pem = AUTHORITY.client_pem(intermediate=True, passphrase=b"x")
        found = read_certificate(pem, b"x", present())
        expected = Certificate.from_pem(pem, passphrase="x")
        self.assertEqual((found, found.chain), (expected, expected.chain))
        p12 = AUTHORITY.client_pkcs12()
        self.assertEqual(read_certificate(p12, b"txapns", present()), Certificate.from_pkcs12(p12, "txapns"))

    def test_several(self) -> None:
        """Of several certificates in one file, the one for the app's gateway and topic is taken."""
        both = [AUTHORITY.client_pem(environments=[each]) for each in ("production", "sandbox")]
        both.append(AUTHORITY.client_pem("com.example.other", environments=["sandbox"]))
        data = b"".join(both)
        for gateway, topic, expected in (
            ("production", None, both[0]),
            ("sandbox", "com.example.app", both[1]),
            ("http2:host=localhost:port=1", "com.example.other", both[2]),
        ):
            found = read_certificate(data, None, present(), gateway=gateway, topic=topic)
            self.assertEqual(found, Certificate.from_pem(expected))
        self.assertRaises(CredentialError, read_certificate, data, None, present())

    def test_refused(self) -> None:
        """What is not a credential is refused."""
        encrypted = AUTHORITY.client_pem(passphrase=b"x")
        for passphrase in (None, b"y"):
            self.assertRaises(WrongPassphrase, read_certificate, encrypted, passphrase, present())
        self.assertRaises(CredentialError, read_certificate, b"nonsense", None, present())
        expired = AUTHORITY.client_pem(expired=True)
        self.assertRaises(CertificateExpired, read_certificate, expired, None, present())

    def test_section(self) -> None:
        """The configuration names a certificate or a key, and what is wrong is reported with the file's name."""
        world = world_of(self)
        world.write("a.p8", b"Bag Attributes\n" + AUTHORITY.p8)
        world.write("b.p8", b"nonsense")
        world.configure(
            "[apps.a]\nkey = 'a.p8'\nkey_id = 'KEY'\nteam_id = 'TEAM'\n"
            "[apps.b]\nkey = 'b.p8'\nkey_id = 'KEY'\nteam_id = 'TEAM'\n"
        )
        sections = world.configuration.apps
        expected = ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM")
        self.assertEqual(section_credential(sections["a"], present()), expected)
        with self.assertRaisesRegex(CredentialError, r"b\.p8: "):
            section_credential(sections["b"], present())


class EncryptedTests(SynchronousTestCase):
    """Credentials as they are stored."""

    def test_encrypted(self) -> None:
        """They are decrypted with the key they were encrypted with, for the app they were encrypted for."""
        key = MasterKey([Fernet.generate_key()])
        certificate = Certificate.from_pem(AUTHORITY.client_pem(intermediate=True))
        credentials: list[Credential] = [certificate, ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM")]
        for credential in credentials:
            encrypted = encrypt(credential, "a", key)
            self.assertEqual(decrypt(encrypted, "a", key, present()), credential)
            with self.assertRaisesRegex(SecretError, "stored for b is that of a"):
                decrypt(encrypted, "b", key, present())
            other = MasterKey([Fernet.generate_key()])
            self.assertRaises(SecretError, decrypt, encrypted, "a", other, present())


class ServerCertificateTests(SynchronousTestCase):
    """The certificates of listeners."""

    def setUp(self) -> None:
        """Make a directory."""
        self.world = world_of(self)

    def read(self, text: str) -> Certificate:
        """Read the certificate that a configuration names."""
        self.world.configure(f"intake.native.tls = {text}")
        tls = self.world.configuration.intake.native.tls
        assert tls is not None
        return server_certificate(tls, present())

    def test_one_file_or_two(self) -> None:
        """Certificate and key may be in one file or in two; only the key's must be private."""
        pem = AUTHORITY.server_certificate()
        middle = pem.index(b"-----BEGIN PRIVATE")
        self.world.write("both.pem", pem)
        self.world.write("cert.pem", pem[:middle]).chmod(0o644)
        self.world.write("key.pem", pem[middle:])
        one, two = self.read("{certificate = 'both.pem'}"), self.read("{certificate = 'cert.pem', key = 'key.pem'}")
        self.assertEqual(one, two)

    def test_refused(self) -> None:
        """A file that is missing, mismatched, expired or readable by other users is reported by its name."""
        pem = AUTHORITY.server_certificate()
        self.world.write("a.pem", pem[: pem.index(b"-----BEGIN PRIVATE")])
        other = AUTHORITY.server_certificate()
        self.world.write("key.pem", other[other.index(b"-----BEGIN PRIVATE") :])
        self.world.write("open.pem", pem).chmod(0o644)
        self.world.write("old.pem", AUTHORITY.server_certificate(expired=True))
        self.world.write("weak.pem", self_signed("weak.example", 1024))
        for text, kind, words in (
            ("{certificate = 'none.pem'}", ConfigurationError, "none.pem: No such file"),
            ("{certificate = 'none.pem', key = 'a.pem'}", ConfigurationError, "none.pem: No such file"),
            ("{certificate = 'open.pem'}", ConfigurationError, "open.pem holds a secret"),
            ("{certificate = 'a.pem', key = 'key.pem'}", CredentialError, "a.pem: "),
            ("{certificate = 'weak.pem'}", CredentialError, "weak.pem: OpenSSL does not accept .*2,048 bits"),
            ("{certificate = 'old.pem'}", CertificateExpired, "old.pem: the certificate 'txapns simulator' is valid"),
        ):
            with self.assertRaisesRegex(kind, words):
                self.read(text)
