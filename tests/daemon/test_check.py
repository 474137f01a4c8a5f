"""Tests for :mod:`txapns.daemon.check`, by ``txapns check-config``."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.command.case import AUTHORITY, CommandCase
from txapns.command.streams import UNUSABLE
from txapns.daemon.check import check_files

__all__ = ["CheckTests"]


class CheckTests(CommandCase):
    """Mistakes in the files of a configuration, and in the store."""

    def faults(self, text: str) -> list[str]:
        """Check the files that a configuration names; returns the faults, without the directory's name."""
        self.config(text)
        directory = f"{self.world.directory.absolute()}/"
        found = list(check_files(self.world.configuration, {}, datetime.now(timezone.utc)))
        result = self.invoke("check-config")
        self.assertEqual(result.exit_code, UNUSABLE if found else 0)
        self.assertEqual(result.stderr.count("\n"), len(found))
        return [fault.replace(f"{self.world.directory}/", "").replace(directory, "") for fault in found]

    def test_sound(self) -> None:
        """A daemon that can start has no faults."""
        self.world.write("s.pem", AUTHORITY.server_certificate())
        self.world.write("w", b"secret")
        self.txapns("apps", "add", "b", "--certificate", self.pem)
        text = (
            "intake.native.tls.certificate = 's.pem'\nadmin.tls.certificate = 's.pem'\n"
            "webhook.w = {url = 'https://example.com', secret_file = 'w'}\napps.a.certificate = 'a.pem'"
        )
        self.assertEqual(self.faults(text), [])

    def test_files(self) -> None:
        """A file that is missing, empty, or readable by others is reported with its key."""
        self.world.write("open.pem", AUTHORITY.client_pem()).chmod(0o644)
        self.world.write("empty", b"\n")
        chmod = "640" if os.geteuid() == 0 else "600"
        self.assertEqual(
            self.faults(
                "intake.apple.tls.certificate = 'none'\n"
                "webhook.v = {url = 'https://example.com', secret_file = 'none'}\n"
                "webhook.w = {url = 'https://example.com', secret_file = 'empty'}\n"
                "apps.a.certificate = 'open.pem'\napps.b.certificate = 'none'"
            ),
            [
                f"apps.a: open.pem holds a secret, and other users have access (mode 0644); chmod {chmod} it",
                "apps.b: none: No such file or directory",
                "intake.apple.tls: none: No such file or directory",
                "webhook.v.secret_file: none: No such file or directory",
                "webhook.w.secret_file: empty is empty",
            ],
        )

    def test_database(self) -> None:
        """So are a database that others can read, and a missing master key."""
        self.txapns("apps", "add", "b", "--certificate", self.pem)
        self.world.configuration.database.path.chmod(0o640)
        (fault,) = self.faults("")
        self.assertRegex(fault, "^database.path: apns.db has mode 0640")
        self.world.configuration.database.path.chmod(0o600)
        self.config("")
        self.world.configuration.secrets.master_key_file.unlink()
        found = list(check_files(self.world.configuration, {}, datetime.now(timezone.utc)))
        self.assertEqual(len(found), 1)
        self.assertRegex(found[0], "^secrets.master_key_file: .*No such file")

    def test_no_directory(self) -> None:
        """So is a database in a directory that does not exist, since the daemon does not make one."""
        self.assertEqual(self.faults("database.path = 'none/apns.db'"), ["database.path: there is no directory none"])
        self.assertEqual(self.faults("database.path = 'a.pem/apns.db'"), ["database.path: there is no directory a.pem"])
        self.assertEqual(self.faults("database.path = 'new.db'"), [])

    def test_expired(self) -> None:
        """So is a certificate in the database that has expired since."""
        self.txapns("apps", "add", "b", "--certificate", self.pem)
        later = datetime.now(timezone.utc).replace(year=datetime.now(timezone.utc).year + 2, day=1)
        (fault,) = check_files(self.world.configuration, {}, later)
        self.assertRegex(fault, "^the app b in the database: the certificate .* is valid from")

    def test_apps(self) -> None:
        """So is everything else that would prevent an app from sending, as far as it can be known here."""
        certificate = x509.load_pem_x509_certificate(AUTHORITY.ca_pem)
        self.world.write("company.cer", certificate.public_bytes(Encoding.DER))
        self.world.write("a.p8", AUTHORITY.p8)
        key = "key = 'a.p8'\nkey_id = 'K'\nteam_id = 'T'\n"
        for section, words in (
            ("certificate = 'a.pem'\ntrust_root = 'company.cer'", "company.cer: trust_root is DER"),
            ("certificate = 'a.pem'\ntrust_root = 'none'", "trust_root: none: No such file or directory"),
            ("certificate = 'a.pem'\ntrust_root = 'a.p8'", "a.p8: trust_root is"),
            ("certificate = 'a.pem'\ntopic = 'com.example.other'", "the topic is com.example.other, and the certif"),
            ('certificate = "a.pem"\ntopic = "a\\u0007b"', "topic has"),
            (f"{key}gateway = 'binary:host=localhost:port=1'", "the binary protocol does not support provider tokens"),
            (f"{key}topic = 't'\npassphrase_file = 'none'", "none: No such file or directory"),
            (key.replace("'T'", "'T T'"), "team_id is empty, or has characters"),
        ):
            (fault,) = self.faults(f"[apps.a]\n{section}")
            self.assertTrue(fault.startswith("apps.a: "), fault)
            self.assertIn(words, fault)

    def test_two_sides(self) -> None:
        """Both credentials of an app with two sides are checked, each for its environment."""
        self.world.write("s.pem", AUTHORITY.client_pem(environments=["sandbox"]))
        self.world.write("p.pem", AUTHORITY.client_pem(environments=["production"]))
        auto = "environment = 'auto', certificate"
        self.assertEqual(
            self.faults(
                f"apps.a = {{{auto} = 's.pem'}}\n"
                f"apps.b = {{{auto} = 'p.pem', sandbox = {{certificate = 'none'}}}}\n"
                f"apps.c = {{{auto} = 'p.pem', sandbox = {{certificate = 's.pem'}}}}"
            ),
            [
                "apps.a: production: the gateway is production, and the certificate is for sandbox",
                "apps.b: none: No such file or directory",
            ],
        )

    def test_environment(self) -> None:
        """A certificate for the sandbox cannot be used in production."""
        sandbox = AUTHORITY.client_pem(environments=["sandbox"])
        self.world.write("s.pem", sandbox)
        (fault,) = self.faults("[apps.a]\ncertificate = 's.pem'")
        self.assertEqual(fault, "apps.a: the gateway is production, and the certificate is for sandbox")
        self.assertEqual(self.faults("[apps.a]\ncertificate = 's.pem'\ngateway = 'sandbox'"), [])

    def test_app_ids(self) -> None:
        """So is a Matrix app id of an app that is neither in the configuration nor in the database."""
        app_ids = "[intake.matrix.app_ids]\n'com.example.a'.app = 'a'\n'com.example.b'.app = 'b'\n"
        text = f"{app_ids}[apps.a]\ncertificate = 'a.pem'"
        fault = 'intake.matrix.app_ids."com.example.b".app: there is no app b in the configuration or the database'
        self.assertEqual(self.faults(text), [fault])
        self.txapns("apps", "add", "c", "--certificate", self.pem)
        self.assertEqual(self.faults(text), [fault])
        self.txapns("apps", "add", "b", "--certificate", self.pem)
        self.assertEqual(self.faults(text), [])

    def test_rows(self) -> None:
        """A damaged row of the database is reported with the name of its app or key; lists show it, too."""
        for name in ("b", "c"):
            self.txapns("apps", "add", name, "--certificate", self.pem)
        self.txapns("keys", "add", "web", "--all-apps")
        with self.world.visiting() as connection:
            connection.execute("UPDATE app SET encrypted = x'00', settings = 'x', expires = 'soon' WHERE name = 'b'")
            connection.execute("UPDATE api_key SET send = 'all'")
        key, app = self.faults("")
        self.assertRegex(key, "^the key web in the database: its row in the database cannot be read")
        self.assertRegex(app, "^the app b in the database: the master key does not decrypt it")
        b, c = self.rows("apps", "list")
        self.assertIn("cannot be read", b["problem"])
        self.assertEqual((c["name"], c["problem"]), ("c", None))
        self.txapns("apps", "list")
        (row,) = self.rows("keys", "list")
        self.assertEqual((row["label"], row["send"], row["manage"]), ("web", [], False))
        self.assertIn("cannot be read", row["problem"])
