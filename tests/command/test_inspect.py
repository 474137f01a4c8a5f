"""Tests for :mod:`txapns.command.inspect`."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.checks import invoke
from txapns.simulator import Authority

__all__ = ["InspectTests"]

AUTHORITY = Authority()


class InspectTests(SynchronousTestCase):
    """``txapns inspect``."""

    def file(self, name: str, content: bytes) -> Path:
        """Write a file of that name."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        (directory / name).write_bytes(content)
        return directory / name

    def test_good(self) -> None:
        """All that is known of a certificate and a key, and the exit status 0."""
        certificate = self.file("client.pem", AUTHORITY.client_pem())
        key = self.file("AuthKey_ABC123DEFG.p8", AUTHORITY.p8)
        result = invoke("inspect", certificate, key)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        for text in (
            "client.pem: certificate 'Apple Push Services: com.example.app'",
            "environments production, sandbox",
            "com.example.app: alert, background",
            "liveactivity and location pushes: they need a provider token",
            "key ID       ABC123DEFG",
        ):
            self.assertIn(text, result.stdout)
        self.assertNotIn("PRIVATE", result.stdout)

    def test_json(self) -> None:
        """One object a line for each credential."""
        certificate = self.file("client.pem", AUTHORITY.client_pem())
        key = self.file("AuthKey_ABC123DEFG.p8", AUTHORITY.p8)
        result = invoke("inspect", "--json", certificate, key)
        first, second = map(json.loads, result.stdout.splitlines())
        self.assertEqual((first["kind"], first["topics"]), ("certificate", ["com.example.app"]))
        self.assertEqual((first["file"], first["usable"]), (str(certificate), True))
        self.assertEqual((second["kind"], second["key_id"]), ("signing key", "ABC123DEFG"))

    def test_unusable(self) -> None:
        """One that cannot be used makes the exit status 1; the others are shown all the same."""
        good = self.file("good.pem", AUTHORITY.client_pem())
        for content, why in (
            (AUTHORITY.client_pem(expired=True), "renew it"),
            (b"Hello", "cannot be used: "),
            (AUTHORITY.client_pkcs12(), "or it is damaged; give --passphrase-file, or set TXAPNS_PASSPHRASE"),
        ):
            bad = self.file("bad.pem", content)
            result = invoke("inspect", bad, good, env={"TXAPNS_PASSPHRASE": None})
            self.assertEqual(result.exit_code, 1, result.output)
            self.assertIn(why, result.stdout)
            self.assertIn("good for", result.stdout)
            lines = invoke("inspect", "--json", bad, good, env={"TXAPNS_PASSPHRASE": None}).stdout.splitlines()
            self.assertEqual([json.loads(line)["usable"] for line in lines], [False, True])

    def test_passphrase(self) -> None:
        """It comes from a file or the environment."""
        p12 = self.file("client.p12", AUTHORITY.client_pkcs12())
        secret = self.file("passphrase", b"txapns\n")
        self.assertEqual(invoke("inspect", p12, "--passphrase-file", secret).exit_code, 0)
        self.assertEqual(invoke("inspect", p12, env={"TXAPNS_PASSPHRASE": "txapns"}).exit_code, 0)
        wrong = invoke("inspect", p12, env={"TXAPNS_PASSPHRASE": "sesame"})
        self.assertEqual(wrong.exit_code, 1)
        self.assertNotIn("sesame", wrong.output)

    def test_usage(self) -> None:
        """Without a file, or with one that is not there, the exit status is 2."""
        self.assertEqual(invoke("inspect").exit_code, 2)
        self.assertEqual(invoke("inspect", "nowhere.pem").exit_code, 2)
