"""Tests for :mod:`txapns.command.apps`."""

from __future__ import annotations

import fcntl
import getpass
import os
import pty
import subprocess
import termios
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.command.case import AUTHORITY, CommandCase
from tests.command.processes import TIMEOUT, TXAPNS, environment
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.secrets.master_key import VARIABLE
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.values import Limits

__all__ = ["AppsTests", "TerminalTests"]

_ONE_SIDE = {"environment": None, "sandbox_expires": None, "sandbox_fingerprint": None}


@pytest.mark.campaign
class AppsTests(CommandCase):
    """``txapns apps``."""

    def setUp(self) -> None:
        """Let the daemon watch its apps."""
        super().setUp()
        self.apps = self.world.apps()
        self.world.result(self.apps.start())

    def test_certificate(self) -> None:
        """A certificate is added, and the running daemon knows it within the interval."""
        said = self.txapns("apps", "add", "a", "--certificate", self.pem, "--gateway", "sandbox")
        certificate = Certificate.from_file(self.pem)
        self.assertEqual(
            said,
            f"added a: Apple Push Services: com.example.app, expires {certificate.expires:%Y-%m-%d}, "
            f"SHA-256 {certificate.fingerprint}\n",
        )
        self.world.clock.advance(INTERVAL)
        app = self.apps.get("a")
        self.assertEqual((app.credential, app.gateway.host), (certificate, "api.sandbox.push.apple.com"))

    def test_key(self) -> None:
        """A signing key is added, with all settings of an app."""
        root = self.world.write("ca.pem", AUTHORITY.ca_pem)
        fingerprint = f"sha256 Fingerprint={'AB:' * 31}AB"
        said = self.txapns(
            *("apps", "add", "a", "--key", self.p8, "--key-id", "KEY", "--team-id", "TEAM", "--topic", "t"),
            *("--gateway", "http2:host=localhost:port=1", "--trust-root", root, "--push-type", "alert"),
            *("--caller", fingerprint, "--limit", "queue=5", "--limit", "connections=3"),
        )
        self.assertEqual(said, "added a: key KEY of team TEAM\n")
        self.world.clock.advance(INTERVAL)
        app = self.apps.get("a")
        self.assertEqual(app.credential, ProviderToken.from_p8(AUTHORITY.p8, "KEY", "TEAM"))
        self.assertEqual((app.topic, app.push_type, app.callers), ("t", "alert", {"ab" * 32}))
        self.assertEqual(app.limits, Limits(queue=5, connections=3))
        self.assertEqual(app.gateway.trust_root, AUTHORITY.ca_pem.decode())

    def test_standard_input(self) -> None:
        """A credential may come from standard input, and a passphrase from a file or the environment."""
        words = self.world.write("words", b"txapns\n")
        p12 = AUTHORITY.client_pkcs12()
        self.txapns("apps", "add", "a", "--certificate", "-", "--passphrase-file", words, stdin=p12)
        self.txapns("apps", "add", "b", "--certificate", "-", stdin=p12, TXAPNS_PASSPHRASE="txapns")
        path = self.world.write("a.p12", p12)
        self.txapns("apps", "add", "c", "--certificate", path, "--passphrase-file", "-", stdin=b"txapns")
        rows = self.rows("apps", "list")
        self.assertEqual({row["fingerprint"] for row in rows}, {Certificate.from_pkcs12(p12, "txapns").fingerprint})

    def test_master_key(self) -> None:
        """The first app makes a master key if there is none, and the command reports it."""
        path = self.world.configuration.secrets.master_key_file
        path.unlink()
        said = self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.assertTrue(said.startswith(f"made a master key in {path.absolute()}; keep a copy"), said)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertNotIn("made", self.txapns("apps", "add", "b", "--certificate", self.pem))

    def test_lost_master_key(self) -> None:
        """If the master key is lost, no new one is made as long as the database has apps encrypted with it."""
        for name in ("b", "a"):
            self.txapns("apps", "add", name, "--certificate", self.pem)
        path = self.world.configuration.secrets.master_key_file
        kept = path.read_bytes()
        path.unlink()
        said = self.refused("apps", "add", "c", "--certificate", self.pem)
        words = "is missing, but the database has apps encrypted with it: a, b. Put it back, or remove these apps first"
        self.assertIn(f"{path.absolute()} {words}", said)
        self.assertFalse(path.exists())
        path.touch(mode=0o600)
        path.write_bytes(kept)
        self.txapns("apps", "add", "c", "--certificate", self.pem)
        path.unlink()
        for name in "abc":
            self.txapns("apps", "remove", name)
        self.assertIn("made a master key", self.txapns("apps", "add", "c", "--certificate", self.pem))
        self.assertIsNone(self.rows("apps", "list")[0]["problem"])

    def test_listed(self) -> None:
        """The list includes the apps of the configuration, and what is wrong with them."""
        self.txapns("apps", "add", "b", "--key", self.p8, "--key-id", "K", "--team-id", "T", "--topic", "t")
        self.config("[apps.a]\ncertificate = 'a.pem'\n[apps.c]\ncertificate = 'none.pem'\ngateway = 'sandbox'")
        first, second, third = self.rows("apps", "list")
        certificate = Certificate.from_file(self.pem)
        expected = {"name": "a", "source": "file", "credential": "certificate", "topic": None, "gateway": "production"}
        times = {"expires": certificate.expires.isoformat(timespec="seconds"), "fingerprint": certificate.fingerprint}
        self.assertEqual(first, {**expected, **times, "outcomes": False, "problem": None, "paused": None, **_ONE_SIDE})
        self.assertEqual((second["name"], second["source"], second["topic"]), ("b", "database", "t"))
        self.assertIn("No such file", third["problem"])
        text = self.txapns("apps", "list").splitlines()
        self.assertRegex(
            text[0], "^name  source    credential   expires +topic  gateway +fingerprint +outcomes +problem +paused$"
        )
        self.assertRegex(text[2], "^b     database  key          - +t      production  [0-9a-f]{64}  no +- +-$")

    def test_two_sides(self) -> None:
        """An app may have two sides, which have the same credential until the sandbox gets its own."""
        key = ("--key", self.p8, "--key-id", "K", "--team-id", "T", "--topic", "t")
        self.txapns("apps", "add", "b", *key, "--environment", "auto")
        (row,) = self.rows("apps", "list")
        self.assertEqual((row["environment"], row["sandbox_fingerprint"]), ("auto", row["fingerprint"]))
        own = ("--certificate", self.pem, "--environment", "sandbox")
        self.assertIn("rotated b", self.txapns("apps", "rotate", "b", *own))
        (row,) = self.rows("apps", "list")
        certificate = Certificate.from_file(self.pem)
        self.assertEqual((row["credential"], row["expires"]), ("key", None))
        self.assertEqual(row["sandbox_expires"], certificate.expires.isoformat(timespec="seconds"))
        self.assertEqual(row["sandbox_fingerprint"], certificate.fingerprint)
        self.assertIn("sandbox_expires", self.txapns("apps", "list"))
        self.config("[apps.a]\nenvironment = 'auto'\ncertificate = 'a.pem'\n[apps.a.sandbox]\ncertificate = 'a.pem'")
        first, _ = self.rows("apps", "list")
        self.assertEqual((first["environment"], first["sandbox_fingerprint"]), ("auto", certificate.fingerprint))

    def test_one_side(self) -> None:
        """An app with one side has no credential for another one."""
        self.txapns("apps", "add", "b", "--certificate", self.pem)
        error = self.refused("apps", "rotate", "b", "--certificate", self.pem, "--environment", "sandbox")
        self.assertIn("the app b has only one side", error)

    def test_listed_without_master_key(self) -> None:
        """If the master key is missing or invalid, the list says so for each app in the database."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        path = self.world.configuration.secrets.master_key_file
        path.write_bytes(b"no key")
        (row,) = self.rows("apps", "list")
        self.assertIn("master.key: the master key is not 32 bytes", row["problem"])
        path.unlink()
        (row,) = self.rows("apps", "list")
        self.assertEqual(row["problem"], f"{path.absolute()}: No such file or directory")
        self.assertEqual(row["topic"], None)

    def test_nothing_is_made(self) -> None:
        """Listing and checking make no files."""
        empty = Path(self.mktemp())
        empty.mkdir()
        config = empty / "apns.toml"
        config.touch()
        for command in (("apps", "list"), ("keys", "list")):
            self.assertEqual(self.txapns(*command, "--config", config), "")
        self.txapns("check-config", "--config", config)
        self.assertEqual(list(empty.iterdir()), [config])

    def test_rotated(self) -> None:
        """The running daemon uses the new credential."""
        self.txapns("apps", "add", "a", "--certificate", self.pem, "--topic", "t")
        self.assertEqual(
            self.txapns("apps", "rotate", "a", "--key", self.p8, "--key-id", "K", "--team-id", "T"),
            "rotated a: key K of team T\n",
        )
        self.world.clock.advance(INTERVAL)
        app = self.apps.get("a")
        self.assertEqual((app.topic, app.credential), ("t", ProviderToken.from_p8(AUTHORITY.p8, "K", "T")))

    def test_paused(self) -> None:
        """An app is paused and resumed, the running daemon knows it within the interval, and the list shows it."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        said = [self.txapns("apps", "pause", "a") for _ in range(2)]
        self.assertEqual(said, ["paused a\n", "a was paused before\n"])
        self.world.clock.advance(INTERVAL)
        pause = self.apps.get("a").pause
        assert pause is not None
        self.assertEqual(pause.caller, f"the user {getpass.getuser()}")
        (row,) = self.rows("apps", "list")
        self.assertEqual(datetime.fromisoformat(row["paused"]).timestamp(), int(pause.since))
        said = [self.txapns("apps", "resume", "a") for _ in range(2)]
        self.assertEqual(said, ["resumed a\n", "a was not paused\n"])
        self.world.clock.advance(INTERVAL)
        self.assertIsNone(self.apps.get("a").pause)
        for command in ("pause", "resume"):
            self.assertIn("there is no app b", self.refused("apps", command, "b"))

    def test_removed(self) -> None:
        """The running daemon forgets a removed app."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.txapns("apps", "remove", "a"), "removed a\n")
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.apps.names(), [])

    def test_rekeyed(self) -> None:
        """A new master key changes nothing for the running daemon, and the old one decrypts nothing."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.world.clock.advance(INTERVAL)
        path = self.world.configuration.secrets.master_key_file
        old = path.read_bytes()
        self.assertRegex(self.txapns("apps", "rekey"), "^encrypted 1 credential with a new master key; keep a copy of")
        self.assertNotEqual(path.read_bytes(), old)
        revision = self.apps.revision
        self.world.clock.advance(INTERVAL)
        self.assertEqual((self.apps.revision, self.apps.problems()), (revision, {}))
        for command in (["check-config"], ["serve", "--check-config"]):
            self.assertEqual(self.txapns(*command), f"{self.world.directory / 'apns.toml'} can be used\n")
        self.world.write(path.name, old)
        self.assertIn("the master key does not decrypt it", self.refused("check-config"))

    def test_rekeyed_in_the_environment(self) -> None:
        """The key may be in the environment; two are needed there for a change."""
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        self.txapns("apps", "add", "a", "--certificate", self.pem, **{VARIABLE: old})
        self.assertIn("put the new key before the old one", self.refused("apps", "rekey", **{VARIABLE: old}))
        self.assertIn(
            f"the environment variable {VARIABLE}", self.txapns("apps", "rekey", **{VARIABLE: f"{new} {old}"})
        )
        self.txapns("check-config", **{VARIABLE: new})
        self.assertIn("does not decrypt", self.refused("check-config", **{VARIABLE: old}))

    def test_refused(self) -> None:
        """An error is reported in a sentence without secrets, and nothing is changed."""
        self.config("[apps.mine]\ncertificate = 'a.pem'")
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        before = self.rows("apps", "list")
        encrypted = self.world.write("e.pem", AUTHORITY.client_pem(passphrase=b"hunter2"))
        expired = self.world.write("old.pem", AUTHORITY.client_pem(expired=True))
        add, one = ("apps", "add", "b"), ("--certificate", self.pem)
        for arguments, words in (
            ((*add,), "Give either --certificate or --key"),
            ((*add, *one, "--key", self.p8), "Give either --certificate or --key"),
            ((*add, "--key", self.p8), "--key needs --key-id and --team-id"),
            ((*add, "--certificate", "none"), "'none': No such file"),
            ((*add, "--certificate", encrypted), "no passphrase was given; give --passphrase-file, or set TXAPNS"),
            ((*add, "--certificate", encrypted, "--passphrase-file", self.p8), "the passphrase does not open"),
            ((*add, "--certificate", expired), "is valid from"),
            ((*add, *one, "--gateway", "prod"), "'prod' is not a gateway"),
            ((*add, *one, "--limit", "queue"), "'queue' is not one of queue, tokens, in_flight, connections, attempts"),
            ((*add, *one, "--limit", "zzz=1"), "'zzz=1' is not one of"),
            ((*add, *one, "--limit", "queue=0"), "'queue=0' is not one of"),
            ((*add, *one, "--limit", "queue=٣"), "'queue=٣' is not one of"),
            ((*add, *one, "--caller", "AB"), "--caller takes a SHA-256"),
            (("apps", "add", "b/c", *one), "the name of an app has"),
            (("apps", "add", "a", *one), "there is an app a already"),
            (("apps", "add", "mine", *one), "the app mine is in the configuration"),
            (("apps", "rotate", "mine", *one), "the app mine is in the configuration"),
            (("apps", "remove", "mine"), "the app mine is in the configuration"),
            (("apps", "rotate", "b", *one), "there is no app b in the database"),
            (("apps", "remove", "b"), "there is no app b in the database"),
            (("apps", "list", "--config", "none.toml"), "none.toml: No such file"),
        ):
            said = self.refused(*arguments)
            self.assertIn(words, said)
            self.assertNotIn("hunter2", said)
            self.assertNotIn("BEGIN", said)
        self.assertEqual(self.rows("apps", "list"), before)

    def test_exposed(self) -> None:
        """A database or a master key that others can read is not used."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        database = self.world.configuration.database.path
        database.chmod(0o644)
        self.assertIn(f"{database.absolute()} has mode 0644", self.refused("apps", "list"))
        database.chmod(0o600)
        self.world.configuration.secrets.master_key_file.chmod(0o644)
        self.assertRegex(self.refused("apps", "rotate", "a", "--certificate", self.pem), "master.key holds a secret")

    def test_another_database(self) -> None:
        """A file that is not a database is reported, and left alone."""
        path = self.world.write("other.db", b"something else, and more of it than a few words" * 100)
        self.config("database.path = 'other.db'")
        before = path.read_bytes()
        self.assertIn("other.db is damaged, or not a database", self.refused("apps", "list"))
        self.assertEqual(path.read_bytes(), before)


class TerminalTests(CommandCase):
    """On a terminal."""

    def test_passphrase(self) -> None:
        """A missing passphrase is asked for, and not shown."""
        path = self.world.write("e.pem", AUTHORITY.client_pem(passphrase=b"hunter2"))
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        arguments = ["apps", "add", "a", "--config", self.world.directory / "apns.toml", "--certificate", path]
        process = subprocess.Popen(
            [*TXAPNS, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="dumb"),
            preexec_fn=take_terminal,
        )
        self.addCleanup(process.kill)
        os.close(theirs)
        shown = b""
        while b"Passphrase: " not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, b"hunter2\n")
        self.assertEqual(process.wait(TIMEOUT), 0)
        shown += os.read(ours, 4096)
        self.assertIn(b"added a: Apple Push Services", shown)
        self.assertNotIn(b"hunter2", shown)
