"""Tests for :mod:`txapns.daemon.secrets.submitted`; those of the HTTP API send it every kind of credential."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import Malformed, SecretError, Unavailable
from txapns.daemon.secrets.submitted import SubmittedCredential, master_key_failed, read_submitted
from txapns.simulator import Authority

__all__ = ["SubmittedTests"]

NOW = datetime.now(timezone.utc)


class SubmittedTests(SynchronousTestCase):
    """A credential from an operator."""

    def test_kinds(self) -> None:
        """It is a certificate or a key, and nothing between."""
        authority = Authority()
        pem, p8 = authority.client_pem().decode(), authority.p8.decode()
        key = SubmittedCredential(key=p8, key_id="KEY", team_id="TEAM")
        self.assertIsInstance(read_submitted(key, NOW), ProviderToken)
        self.assertIsInstance(read_submitted(SubmittedCredential(certificate=pem), NOW), Certificate)
        for given in (
            SubmittedCredential(),
            SubmittedCredential(key=p8, key_id="KEY"),
            SubmittedCredential(certificate=pem, key_id="KEY", team_id="TEAM"),
        ):
            with self.assertRaises(Malformed) as caught:
                read_submitted(given, NOW, "credential.")
            self.assertEqual(caught.exception.path, "credential")

    def test_hidden(self) -> None:
        """What shows it shows no secret."""
        self.assertNotIn("hush", repr(SubmittedCredential(certificate="hush", passphrase="hush")))

    def test_master_key(self) -> None:
        """A fault of the master key is told to whoever submits; others pass."""
        with self.assertRaisesRegex(Unavailable, "the master key cannot be used: gone"):
            master_key_failed(Failure(SecretError("gone")))
        other = Failure(ValueError())
        self.assertIs(master_key_failed(other), other)
