"""Tests for :mod:`txapns._network.trust`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from OpenSSL import SSL, crypto
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from txapns._network.tls import ClientContextFactory
from txapns._network.trust import given_trust, platform_trust, trust_pem
from txapns.errors import CredentialError
from txapns.simulator import Authority

AUTHORITY = Authority()
OTHER = Authority()

# A client of the platform's trust, and a server of an authority that it is to trust, or not.
HANDSHAKE = """
import sys
from pathlib import Path
from tests.network.test_tls import open_session, plain_server
from txapns._network.tls import ClientContextFactory
session = open_session(ClientContextFactory("localhost"), plain_server(Path(sys.argv[1]).read_bytes()))
print("established" if session.established else session.explanation)
"""


class GivenTests(SynchronousTestCase):
    """Authorities that a program gives."""

    def test_pem(self) -> None:
        """PEM of one or several is accepted as text and as bytes, with comments, a byte order mark, or in UTF-16."""
        both = AUTHORITY.ca_pem + OTHER.ca_pem
        for form in (
            both,
            both.decode(),
            bytearray(both),
            memoryview(both),
            b"# F\xc5\x91\r\n" + both.replace(b"\n", b"\r\n"),
            b"\xef\xbb\xbf" + both,
            both.decode().encode("utf-16"),
        ):
            self.assertEqual(trust_pem(form), both.decode())
            self.assertEqual(len(given_trust(form).certificates), 2)

    def test_der(self) -> None:
        """For DER, as Windows exports it, the message has the command that converts it."""
        certificate = x509.load_pem_x509_certificate(AUTHORITY.ca_pem)
        bundle = pkcs7.serialize_certificates([certificate], Encoding.DER)
        for der, command in (
            (certificate.public_bytes(Encoding.DER), "openssl x509"),
            (bundle, "openssl pkcs7 -print_certs"),
        ):
            error = self.assertRaises(CredentialError, trust_pem, der)
            self.assertIn(
                f"trust_root is DER, as Windows exports it, not PEM; convert it with: {command} -inform der", str(error)
            )

    def test_something_else(self) -> None:
        """Anything but complete certificates is an error that does not show it."""
        for other in ("", b"", "secret", AUTHORITY.p8, AUTHORITY.ca_pem[:-60], "\ud800", Path("ca.pem"), 17):
            error = self.assertRaises(CredentialError, trust_pem, other)
            self.assertIn("trust_root", str(error))
            self.assertNotIn("secret", str(error))


class PlatformTests(SynchronousTestCase):
    """The platform's authorities, read in a separate process, since they are read once per process."""

    def setUp(self) -> None:
        """Write two authorities to files, and make a server's certificate from the first."""
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "hashed").mkdir(parents=True)
        for name, content in (
            ("one.pem", AUTHORITY.ca_pem),
            ("hashed/0123abcd.0", AUTHORITY.ca_pem),
            ("other.pem", OTHER.ca_pem),
            ("server.pem", AUTHORITY.server_certificate()),
            ("damaged.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + AUTHORITY.ca_pem),
            ("certifi.py", f"def where():\n    return {str(self.directory / 'one.pem')!r}\n".encode()),
        ):
            (self.directory / name).write_bytes(content)

    def shake_hands(self, file: str, directory: str, path: str = "") -> str:
        """Shake hands in an environment with these variables; returns what came of it."""
        variables = {"SSL_CERT_FILE": file, "SSL_CERT_DIR": directory}
        given = {name: str(self.directory / value) for name, value in variables.items() if value}
        plain = {name: value for name, value in os.environ.items() if name not in variables}
        return subprocess.run(
            [sys.executable, "-c", HANDSHAKE, self.directory / "server.pem"],
            env={**plain, **given, "PYTHONPATH": os.pathsep.join([path, str(PROJECT)])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def test_named(self) -> None:
        """The variables name a file, or directories, or both; one damaged certificate does not hide the others."""
        for file, directory in (("one.pem", ""), ("", "hashed"), ("other.pem", "hashed"), ("damaged.pem", "none")):
            self.assertEqual(self.shake_hands(file, directory), "established", (file, directory))

    def test_others(self) -> None:
        """Other authorities are not trusted, and the message says which are."""
        said = self.shake_hands("other.pem", "none")
        self.assertIn("localhost is not trusted", said)
        self.assertIn(f"(trusted authorities: {self.directory / 'other.pem'})", said)

    def test_none(self) -> None:
        """If OpenSSL finds none, as on macOS and Windows, certifi's are trusted, and the message says so."""
        said = self.shake_hands("none.pem", "none")
        self.assertIn(f"(trusted authorities: certifi ({certifi.where()}), since the platform's", said)
        self.assertEqual(self.shake_hands("none.pem", "none", path=str(self.directory)), "established")

    def test_once(self) -> None:
        """They are read once for all clients, and each context trusts them."""
        trust = platform_trust()
        self.assertIs(platform_trust(), trust)
        self.assertGreater(len(trust.certificates), 20)
        for host in ("a.example", "b.example"):
            context = ClientContextFactory(host).getContext()  # the store goes with it
            store = context.get_cert_store()
            assert store is not None
            today = [each for each in trust.certificates if not each.has_expired()]
            crypto.X509StoreContext(store, today[0]).verify_certificate()

    def test_install(self) -> None:
        """A context trusts only the given authorities, even if some are given twice."""
        context = SSL.Context(SSL.TLS_METHOD)
        given_trust(AUTHORITY.ca_pem * 2).install(context)
        store = context.get_cert_store()
        assert store is not None
        for authority, trusted in ((AUTHORITY, True), (OTHER, False)):
            certificate = crypto.load_certificate(crypto.FILETYPE_PEM, authority.server_certificate())
            try:
                crypto.X509StoreContext(store, certificate).verify_certificate()
            except crypto.X509StoreContextError:
                self.assertFalse(trusted)
            else:
                self.assertTrue(trusted)
