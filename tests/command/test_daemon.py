"""Tests for :mod:`txapns.command.daemon` and :mod:`txapns.daemon.check`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from click.testing import Result
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.checks import invoke
from tests.daemon.world import world_of
from txapns.command import main as cli
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.apps import Apps
from txapns.daemon.check import check_files
from txapns.daemon.errors import NotAuthenticated
from txapns.daemon.keys import Keys
from txapns.daemon.secrets.master_key import VARIABLE
from txapns.daemon.store.sqlite.polling import INTERVAL
from txapns.daemon.values import Limits
from txapns.simulator import Authority

__all__ = ["AppsTests", "CheckTests", "KeysTests", "MissingTests", "TerminalTests"]

AUTHORITY = Authority()
TIMEOUT = 60


class _CommandTests(SynchronousTestCase):
    """A daemon that is running, as far as there is one, and the command beside it."""

    def setUp(self) -> None:
        """Start it."""
        self.world = world_of(self)
        self.config("")
        self.pem = self.world.write("a.pem", AUTHORITY.client_pem())
        self.p8 = self.world.write("a.p8", AUTHORITY.p8)

    def config(self, text: str) -> None:
        """Write the configuration."""
        self.world.configure(text)
        self.world.write("apns.toml", text.encode())

    def invoke(self, *arguments: str | Path, stdin: bytes = b"", **environment: str | None) -> Result:
        """Run the command."""
        given = {"TXAPNS_CONFIG": str(self.world.directory / "apns.toml"), VARIABLE: None, "TXAPNS_PASSPHRASE": None}
        given |= environment
        return invoke(*arguments, input=stdin, env=given)

    def txapns(self, *arguments: str | Path, stdin: bytes = b"", **environment: str | None) -> str:
        """Run the command; gives what it prints."""
        result = self.invoke(*arguments, stdin=stdin, **environment)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def refused(self, *arguments: str | Path, stdin: bytes = b"", **environment: str | None) -> str:
        """Run the command, which does nothing; gives what it says."""
        result = self.invoke(*arguments, stdin=stdin, **environment)
        self.assertEqual((result.exit_code, result.stdout), (cli.UNUSABLE, ""), result.output)
        return result.stderr

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that lists something."""
        return [json.loads(line) for line in self.txapns(*arguments, "--json").splitlines()]


class AppsTests(_CommandTests):
    """``txapns apps``."""

    def setUp(self) -> None:
        """Let the daemon watch its apps."""
        super().setUp()
        self.apps = Apps(self.world.clock, self.world.configuration, self.world.database, self.world.secrets)
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
        """A signing key is added, with all that can be said of an app."""
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
        """The first to be added makes a master key where there is none, and says so."""
        path = self.world.configuration.secrets.master_key_file
        path.unlink()
        said = self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.assertTrue(said.startswith(f"made a master key in {path.absolute()}; keep a copy"), said)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertNotIn("made", self.txapns("apps", "add", "b", "--certificate", self.pem))

    def test_listed(self) -> None:
        """The list has those of the configuration, and what is wrong with them; nothing but those is in a new place."""
        self.txapns("apps", "add", "b", "--key", self.p8, "--key-id", "K", "--team-id", "T", "--topic", "t")
        self.config("[apps.a]\ncertificate = 'a.pem'\n[apps.c]\ncertificate = 'none.pem'\ngateway = 'sandbox'")
        first, second, third = self.rows("apps", "list")
        certificate = Certificate.from_file(self.pem)
        expected = {"name": "a", "source": "file", "credential": "certificate", "topic": None, "gateway": "production"}
        times = {"expires": certificate.expires.isoformat(timespec="seconds"), "fingerprint": certificate.fingerprint}
        self.assertEqual(first, {**expected, **times, "problem": None})
        self.assertEqual((second["name"], second["source"], second["topic"]), ("b", "database", "t"))
        self.assertIn("No such file", third["problem"])
        text = self.txapns("apps", "list").splitlines()
        self.assertRegex(text[0], "^name  source    credential   expires +topic  gateway +fingerprint +problem$")
        self.assertRegex(text[2], "^b     database  key          - +t      production  [0-9a-f]{64}  -$")

    def test_nothing_is_made(self) -> None:
        """To list and to check makes no files."""
        empty = Path(self.mktemp())
        empty.mkdir()
        config = empty / "apns.toml"
        config.touch()
        for command in (("apps", "list"), ("keys", "list")):
            self.assertEqual(self.txapns(*command, "--config", config), "")
        self.txapns("check-config", "--config", config)
        self.assertEqual(list(empty.iterdir()), [config])

    def test_rotated(self) -> None:
        """Another credential is taken up by the running daemon."""
        self.txapns("apps", "add", "a", "--certificate", self.pem, "--topic", "t")
        self.assertEqual(
            self.txapns("apps", "rotate", "a", "--key", self.p8, "--key-id", "K", "--team-id", "T"),
            "rotated a: key K of team T\n",
        )
        self.world.clock.advance(INTERVAL)
        app = self.apps.get("a")
        self.assertEqual((app.topic, app.credential), ("t", ProviderToken.from_p8(AUTHORITY.p8, "K", "T")))

    def test_removed(self) -> None:
        """What is removed the running daemon does not know any more."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.txapns("apps", "remove", "a"), "removed a\n")
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.apps.names(), [])

    def test_rekeyed(self) -> None:
        """A new master key changes nothing for the running daemon, and the old one opens nothing."""
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.world.clock.advance(INTERVAL)
        path = self.world.configuration.secrets.master_key_file
        old = path.read_bytes()
        self.assertRegex(self.txapns("apps", "rekey"), "^encrypted 1 credentials with a new master key; keep a copy of")
        self.assertNotEqual(path.read_bytes(), old)
        revision = self.apps.revision
        self.world.clock.advance(INTERVAL)
        self.assertEqual((self.apps.revision, self.apps.problems()), (revision, {}))
        for command in (["check-config"], ["serve", "--check-config"]):
            self.assertEqual(self.txapns(*command), f"{self.world.directory / 'apns.toml'} can be used\n")
        self.world.write(path.name, old)
        self.assertIn("the master key does not open it", self.refused("check-config"))

    def test_rekeyed_in_the_environment(self) -> None:
        """The key may be in the environment, where two are needed for a change."""
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        self.txapns("apps", "add", "a", "--certificate", self.pem, **{VARIABLE: old})
        self.assertIn("put the new key before the old one", self.refused("apps", "rekey", **{VARIABLE: old}))
        self.assertIn(
            f"the environment variable {VARIABLE}", self.txapns("apps", "rekey", **{VARIABLE: f"{new} {old}"})
        )
        self.txapns("check-config", **{VARIABLE: new})
        self.assertIn("does not open", self.refused("check-config", **{VARIABLE: old}))

    def test_refused(self) -> None:
        """What cannot be is told in a sentence, without what is secret, and changes nothing."""
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
            ((*add, "--certificate", encrypted), "the private key is encrypted and no passphrase was given"),
            ((*add, "--certificate", encrypted, "--passphrase-file", self.p8), "the passphrase does not open"),
            ((*add, "--certificate", expired), "is valid from"),
            ((*add, *one, "--gateway", "prod"), "'prod' is not a gateway"),
            ((*add, *one, "--limit", "queue"), "'queue' is not one of queue, tokens, in_flight, connections, attempts"),
            ((*add, *one, "--limit", "zzz=1"), "'zzz=1' is not one of"),
            ((*add, *one, "--limit", "queue=0"), "'queue=0' is not one of"),
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
        """Something else in the place of the database is told as such, and left alone."""
        path = self.world.write("other.db", b"something else, and more of it than a few words" * 100)
        self.config("database.path = 'other.db'")
        before = path.read_bytes()
        self.assertIn("other.db is damaged, or not a database", self.refused("apps", "list"))
        self.assertEqual(path.read_bytes(), before)


class KeysTests(_CommandTests):
    """``txapns keys``."""

    def setUp(self) -> None:
        """Have apps, and let the daemon watch its keys."""
        super().setUp()
        self.config("[apps.mine]\ncertificate = 'a.pem'")
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.keys = Keys(self.world.clock, self.world.database)
        self.world.result(self.keys.start())

    def add(self, *arguments: str) -> str:
        """Make a key."""
        return self.txapns("keys", "add", *arguments).removesuffix("\n")

    def test_added(self) -> None:
        """The key alone is printed, once, and the running daemon knows it within the interval."""
        key = self.add("web", "--app", "a", "--app", "mine")
        self.assertTrue(re.fullmatch("txapns_[0-9a-f]{8}_[0-9a-f]{64}", key), key)
        self.world.clock.advance(INTERVAL)
        caller = self.keys.check(key)
        self.assertEqual((caller.send, caller.feedback, caller.manage), ({"a", "mine"}, {"a", "mine"}, False))
        self.assertNotIn(key.split("_")[2], self.txapns("keys", "list") + self.txapns("keys", "list", "--json"))

    def test_permissions(self) -> None:
        """It may be for all apps, and allow only some."""
        reader, sender = self.add("r", "--all-apps", "--may", "feedback"), self.add("s", "--app", "a", "--may", "send")
        manager = self.add("m", "--may", "manage")
        self.world.clock.advance(INTERVAL)
        caller = self.keys.check(reader)
        self.assertEqual((caller.send, caller.feedback, caller.manage), (frozenset(), None, False))
        caller = self.keys.check(sender)
        self.assertEqual((caller.send, caller.feedback, caller.manage), ({"a"}, frozenset(), False))
        caller = self.keys.check(manager)
        self.assertEqual((caller.send, caller.feedback, caller.manage), (frozenset(), frozenset(), True))

    def test_listed(self) -> None:
        """The list tells what each allows, in JSON or in columns."""
        self.add("web", "--app", "mine", "--app", "a")
        self.add("all", "--all-apps", "--may", "send")
        first, second = self.rows("keys", "list")
        self.assertEqual((first["label"], first["send"], first["feedback"]), ("all", "all", []))
        self.assertEqual((second["label"], second["send"], second["manage"]), ("web", ["a", "mine"], False))
        self.assertLess(abs(datetime.fromisoformat(first["created"]) - datetime.now(timezone.utc)).total_seconds(), 60)
        lines = self.txapns("keys", "list").splitlines()
        self.assertEqual(lines[0].split(), ["id", "label", "send", "feedback", "manage", "created", "problem"])
        self.assertEqual(lines[1].split()[1:5], ["all", "all", "-", "no"])

    def test_removed(self) -> None:
        """What is removed, by label or by id, the running daemon turns away."""
        keys = [self.add("web", "--app", "a"), self.add("other", "--app", "a")]
        self.assertEqual(self.txapns("keys", "remove", "web"), "removed web\n")
        self.txapns("keys", "remove", keys[1].split("_")[1])
        self.world.clock.advance(INTERVAL)
        for key in keys:
            self.assertRaises(NotAuthenticated, self.keys.check, key)

    def test_refused(self) -> None:
        """What cannot be is told in a sentence."""
        self.add("web", "--app", "a")
        for arguments, words in (
            (("add", "x"), "Give either --app or --all-apps"),
            (("add", "x", "--app", "a", "--all-apps"), "Give either --app or --all-apps"),
            (("add", "x", "--app", "a", "--may", "manage"), "Who may only manage is not for some apps or all"),
            (("add", "x", "--app", "b"), "there is no app 'b'"),
            (("add", "x", "--app", "a", "--may", "fly"), "'fly' is not one of 'send', 'feedback', 'manage'"),
            (("add", "a b", "--app", "a"), "a key's label has"),
            (("add", "web", "--app", "a"), "there is a key called web already"),
            (("remove", "x"), "there is no key of this id or label"),
        ):
            self.assertIn(words, self.refused("keys", *arguments))
        self.assertEqual(len(self.rows("keys", "list")), 1)


class CheckTests(_CommandTests):
    """``txapns check-config``."""

    def faults(self, text: str) -> list[str]:
        """Look into the files that a configuration names; gives what is wrong, without the directory's name."""
        self.config(text)
        directory = f"{self.world.directory.absolute()}/"
        found = list(check_files(self.world.configuration, {}, datetime.now(timezone.utc)))
        result = self.invoke("check-config")
        self.assertEqual(result.exit_code, cli.UNUSABLE if found else 0)
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
        """What is missing, empty or can be read by others is told with its key."""
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
                f"apps.a: open.pem holds a secret, and others than its owner have access (mode 0644); chmod {chmod} it",
                "apps.b: none: No such file or directory",
                "intake.apple.tls: none: No such file or directory",
                "webhook.v.secret_file: none: No such file or directory",
                "webhook.w.secret_file: empty is empty",
            ],
        )

    def test_database(self) -> None:
        """So is a database that others can read, and a master key that is missing."""
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

    def test_expired(self) -> None:
        """So is a certificate in the database that has expired since."""
        self.txapns("apps", "add", "b", "--certificate", self.pem)
        later = datetime.now(timezone.utc).replace(year=datetime.now(timezone.utc).year + 2, day=1)
        (fault,) = check_files(self.world.configuration, {}, later)
        self.assertRegex(fault, "^the app b in the database: the certificate .* is valid from")

    def test_apps(self) -> None:
        """So is all else that would keep an app from sending, by what can be known here."""
        certificate = x509.load_pem_x509_certificate(AUTHORITY.ca_pem)
        self.world.write("company.cer", certificate.public_bytes(Encoding.DER))
        self.world.write("a.p8", AUTHORITY.p8)
        key = "key = 'a.p8'\nkey_id = 'K'\nteam_id = 'T'\n"
        for section, words in (
            ("certificate = 'a.pem'\ntrust_root = 'company.cer'", "company.cer: trust_root is not PEM but DER"),
            ("certificate = 'a.pem'\ntrust_root = 'none'", "trust_root: none: No such file or directory"),
            ("certificate = 'a.pem'\ntrust_root = 'a.p8'", "a.p8: trust_root is not the PEM of"),
            ("certificate = 'a.pem'\ntopic = 'com.example.other'", "the topic is com.example.other, and the certif"),
            ('certificate = "a.pem"\ntopic = "a\\u0007b"', "topic has"),
            (f"{key}gateway = 'binary:host=localhost:port=1'", "the binary protocol authenticates by certificate"),
            (f"{key}topic = 't'\npassphrase_file = 'none'", "none: No such file or directory"),
            (key.replace("'T'", "'T T'"), "team_id is empty, or has spaces"),
        ):
            (fault,) = self.faults(f"[apps.a]\n{section}")
            self.assertTrue(fault.startswith("apps.a: "), fault)
            self.assertIn(words, fault)

    def test_environment(self) -> None:
        """A certificate for the sandbox is of no use with the other gateway."""
        sandbox = AUTHORITY.client_pem(environments=["sandbox"])
        self.world.write("s.pem", sandbox)
        (fault,) = self.faults("[apps.a]\ncertificate = 's.pem'")
        self.assertEqual(fault, "apps.a: the daemon is production, and the certificate is for sandbox")
        self.assertEqual(self.faults("[apps.a]\ncertificate = 's.pem'\ngateway = 'sandbox'"), [])

    def test_rows(self) -> None:
        """A row of the database that makes no sense is told of by the name of its app or key; lists show it, too."""
        for name in ("b", "c"):
            self.txapns("apps", "add", name, "--certificate", self.pem)
        self.txapns("keys", "add", "web", "--all-apps")
        with self.world.visiting() as connection:
            connection.execute("UPDATE app SET encrypted = x'00', settings = 'x', expires = 'soon' WHERE name = 'b'")
            connection.execute("UPDATE api_key SET send = 'all'")
        key, app = self.faults("")
        self.assertRegex(key, "^the key web in the database: its row in the database cannot be read")
        self.assertRegex(app, "^the app b in the database: the master key does not open it")
        b, c = self.rows("apps", "list")
        self.assertIn("cannot be read", b["problem"])
        self.assertEqual((c["name"], c["problem"]), ("c", None))
        self.txapns("apps", "list")
        (row,) = self.rows("keys", "list")
        self.assertEqual((row["label"], row["send"], row["manage"]), ("web", [], False))
        self.assertIn("cannot be read", row["problem"])

    def test_wrong(self) -> None:
        """A wrong configuration is told as such, a line for each mistake."""
        self.world.write("apns.toml", b"limits.body = 0\nlimits.queue = 0")
        said = self.refused("check-config")
        self.assertEqual([line.split(":")[1:2] for line in said.splitlines()], [[" apns.toml"], [" limits.queue"]])


class TerminalTests(_CommandTests):
    """Before a person."""

    def test_passphrase(self) -> None:
        """A passphrase that is missing is asked for, and not shown."""
        path = self.world.write("e.pem", AUTHORITY.client_pem(passphrase=b"hunter2"))
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        arguments = ["apps", "add", "a", "--config", self.world.directory / "apns.toml", "--certificate", path]
        process = subprocess.Popen(
            [sys.executable, "-m", "txapns", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "TERM": "dumb"},
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


class MissingTests(SynchronousTestCase):
    """Where the packages for the daemon are not installed."""

    def run_without(self, package: str, *arguments: str) -> tuple[int, str, str]:
        """Run the command in a process that cannot import a package."""
        hidden = f"import sys; sys.modules[{package!r}] = None"
        program = f"{hidden}; from txapns.command.main import main; main({list(arguments)!r})"
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return result.returncode, result.stdout, result.stderr

    def test_sentence(self) -> None:
        """Its commands say what to install; the others work, and name only those there are."""
        sentence = 'Error: The daemon needs msgspec: pip install "txapns[daemon]"\n'
        self.assertEqual(self.run_without("msgspec", "apps", "list"), (2, "", sentence))
        status, said, _ = self.run_without("msgspec", "--help")
        self.assertEqual((status, "simulate" in said, "keys" in said), (0, True, False))

    def test_sending_needs_none_of_it(self) -> None:
        """The other commands import nothing of the daemon."""
        names = "[name for name in sys.modules if 'txapns.daemon' in name or name == 'msgspec']"
        program = f"import sys, txapns.command.main; print({names})"
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        self.assertEqual(result.stdout, "[]\n")
