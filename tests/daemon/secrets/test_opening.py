"""Tests for :mod:`txapns.daemon.secrets.opening`."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

import txapns.daemon.secrets.opening
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.secrets.opening import opened
from txapns.errors import CredentialError, WrongPassphrase
from txapns.simulator import Authority

__all__ = ["OpenedTests"]

AUTHORITY = Authority()


@pytest.mark.loopback
class OpenedTests(SynchronousTestCase):
    """Decryption in a process of its own."""

    def test_quick(self) -> None:
        """What can be read quickly is left as it is, and no process is started."""
        self.patch(txapns.daemon.secrets.opening, "_COMMAND", "raise SystemExit(1)")
        for data in (AUTHORITY.client_pem(), AUTHORITY.p8):
            self.assertEqual(opened(data, None), data)

    def test_opened(self) -> None:
        """PKCS#12 is decrypted to PEM with the same certificate, key and chain."""
        data = AUTHORITY.client_pkcs12()
        found = opened(data, b"txapns")
        self.assertEqual(Certificate.from_pem(found), Certificate.from_pkcs12(data, "txapns"))
        self.assertNotIn("ENCRYPTED", found.decode())

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
    def test_slow_key(self) -> None:
        """A signing key with a slow passphrase is decrypted."""
        key = ProviderToken.from_p8(AUTHORITY.p8, "K", "T").private_key
        clear = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        command = ["openssl", "pkcs8", "-topk8", "-iter", "300000", "-passout", "pass:x"]
        data = subprocess.run(command, input=clear, capture_output=True, check=True).stdout
        found = opened(data, b"x")
        self.assertNotEqual(found, data)
        self.assertEqual(ProviderToken.from_p8(found, "K", "T"), ProviderToken.from_p8(AUTHORITY.p8, "K", "T"))

    def test_refused(self) -> None:
        """What cannot be decrypted is refused with the usual message."""
        data = AUTHORITY.client_pkcs12()
        for passphrase in (None, b"wrong"):
            expected = self.assertRaises(WrongPassphrase, Certificate.from_pkcs12, data, passphrase)
            error = self.assertRaises(WrongPassphrase, opened, data, passphrase)
            self.assertEqual(str(error), str(expected))

    def test_process_fails(self) -> None:
        """A process that fails or does not end is an error."""
        for program in ("raise SystemExit(1)", "import time; time.sleep(60)"):
            self.patch(txapns.daemon.secrets.opening, "_COMMAND", program)
            self.patch(txapns.daemon.secrets.opening, "PATIENCE", 0.5)
            with self.assertRaisesRegex(CredentialError, "takes too long to decrypt"):
                opened(AUTHORITY.client_pkcs12(), b"txapns")
