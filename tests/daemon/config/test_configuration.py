"""Tests for :mod:`txapns.daemon.config.configuration`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import AppLimitsSection
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.values import Limits

__all__ = ["ConfigurationTests", "ExampleTests", "FaultsTests"]

EXAMPLE = PROJECT / "contrib/apns.toml"
HERE = Path("/etc/txapns")
COUNT = "a whole number, at least 1"
DURATION = "a number of seconds, more than 0"
ENDPOINT = 'an endpoint such as "tcp:port=8080:interface=127.0.0.1"'
NO_TLS = "allowed is interface=127.0.0.1, a tls table, or allow_without_tls = true"
NO_KEYS = "allowed is keys = true, a loopback address, or allow_without_keys = true"
USERS = "and every user of this machine can reach"
NO_MODE = "allowed is keys = true, mode=660, or allow_without_keys = true"
NO_CERTIFICATE = "allowed is a loopback address, or allow_without_keys = true"
GATEWAY = "production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N"
REACHABLE = "which other machines can reach without TLS"

# What stands in the file, and the lines that are said about it.
WRONG: dict[str, list[str]] = {
    # Kinds of values.
    'limits.body = "4k"': [f'limits.body: found "4k"; allowed is {COUNT}'],
    "limits.body = 0": [f"limits.body: found 0; allowed is {COUNT}"],
    "limits.body = 1.5": [f"limits.body: found 1.5; allowed is {COUNT}"],
    "limits.body = true": [f"limits.body: found true; allowed is {COUNT}"],
    "limits.idle = nan": [f"limits.idle: found nan; allowed is {DURATION}"],
    "limits.idle = inf": [f"limits.idle: found inf; allowed is {DURATION}"],
    "limits.idle = -1": [f"limits.idle: found -1; allowed is {DURATION}"],
    "database.retention = -1": ["database.retention: found -1; allowed is a number of seconds, 0 or more"],
    "database.path = 3": ["database.path: found 3; allowed is the name of a file"],
    'database.path = ""': ['database.path: found ""; allowed is the name of a file'],
    'intake.native.keys = "no"': ['intake.native.keys: found "no"; allowed is true or false'],
    "intake.native.listen = 80": [f"intake.native.listen: found 80; allowed is {ENDPOINT}"],
    "intake.native.listen = ['tcp:1:interface=::1', 2]": [f"intake.native.listen[1]: found 2; allowed is {ENDPOINT}"],
    "intake.apple.mode = 'both'": ['intake.apple.mode: found "both"; allowed is "relay" or "queue"'],
    "retries.jitter = 1.5": ["retries.jitter: found 1.5; allowed is a number from 0 to 1"],
    "limits = 1999-12-31": ["limits: found a date or time; allowed is a table"],
    "apps = []": ["apps: found a list; allowed is a table"],
    "apps.a = 3": ["apps.a: found 3; allowed is a table"],
    "intake.apple = 3": ["intake.apple: found 3; allowed is a table"],
    "intake.native.tls = {}": ["intake.native.tls.certificate: found nothing; allowed is the name of a file"],
    # Keys.
    "limits.boddy = 1": ["limits.boddy: there is no such key; did you mean body?"],
    "secrets.xyz = 1": ["secrets.xyz: there is no such key; allowed are master_key_file"],
    "[appps.a]": ["appps: there is no such key; did you mean apps?"],
    # All at once; but a section is looked at as a whole only when each value in it is right.
    "limits.body = 0\nintake.native = {keys = 3, listen = 'tcp:1'}\nadmin.listen = 'x'\nretries.longest = 0.1\n"
    "apps.a = {key = 3}\napps.b = {}": [
        "intake.native.keys: found 3; allowed is true or false",
        f"limits.body: found 0; allowed is {COUNT}",
        "apps.a.key: found 3; allowed is the name of a file",
        f'admin.listen: found "x"; allowed is {ENDPOINT}',
        "apps.b: found neither of certificate and key; allowed is one of them",
        "retries.longest: found 0.1; allowed is at least retries.first, 1.0",
    ],
    "retries.xxx = 0\nretries.attempts = 0\nretries.first = 0\nlimits.body = 0": [
        f"limits.body: found 0; allowed is {COUNT}",
        "retries.xxx: there is no such key; allowed are attempts, first, longest, jitter",
        f"retries.attempts: found 0; allowed is {COUNT}",
        f"retries.first: found 0; allowed is {DURATION}",
    ],
    # Subscribers.
    "intake.native.listen = 'tcp:port=8080'": [
        f'intake.native.listen: found "tcp:port=8080", {REACHABLE}; {NO_TLS}',
    ],
    "intake.native.listen = ['tcp:1:interface=127.0.0.1', 'tcp6:2']": [
        f'intake.native.listen: found "tcp6:2", {REACHABLE}; {NO_TLS}',
    ],
    "admin.listen = 'tcp:1:interface=10.0.0.1'": [
        f'admin.listen: found "tcp:1:interface=10.0.0.1", {REACHABLE}; {NO_TLS}',
        'admin.keys: found false, and other machines can reach "tcp:1:interface=10.0.0.1"; ' + NO_KEYS,
    ],
    "intake.pyapns = {listen = 'tcp:1', keys = false, allow_without_tls = true}": [
        f'intake.pyapns.keys: found false, and other machines can reach "tcp:1"; {NO_KEYS}',
    ],
    "intake.native.listen = 'systemd:domain=INET:index=0'": [
        f'intake.native.listen: found "systemd:domain=INET:index=0", {REACHABLE}; {NO_TLS}',
    ],
    "intake.native = {listen = 'unix:/run/x:mode=666', keys = false}": [
        f'intake.native.keys: found false, {USERS} "unix:/run/x:mode=666"; {NO_MODE}'
    ],
    "admin.listen = 'haproxy:unix:/run/x:0722'": [
        f'admin.keys: found false, {USERS} "haproxy:unix:/run/x:0722"; {NO_MODE}'
    ],
    "intake.binary = {app = 'a', feedback = 'unix:mode=2:address=/run/x'}": [
        f'intake.binary.app: found "a", {USERS} "unix:mode=2:address=/run/x"; {NO_MODE.replace("keys = true, ", "")}'
    ],
    "intake.native.listen = 'unix:/run/x:mode=888'": [
        f'intake.native.listen: found "unix:/run/x:mode=888"; allowed is {ENDPOINT}'
    ],
    "intake.native.listen = 'nonsense:1'": [f'intake.native.listen: found "nonsense:1"; allowed is {ENDPOINT}'],
    "intake.native.listen = 'tcp:http'": [f'intake.native.listen: found "tcp:http"; allowed is {ENDPOINT}'],
    "intake.native.listen = 'tcp:1:zzz=1'": [f'intake.native.listen: found "tcp:1:zzz=1"; allowed is {ENDPOINT}'],
    "intake.native.listen = 'ssl:1:privateKey=/none'": [
        f'intake.native.listen: found "ssl:1:privateKey=/none"; allowed is {ENDPOINT}'
    ],
    "intake.binary = {}": [
        "intake.binary: found neither tls nor app; one of them has to tell which app a caller is for"
    ],
    "intake.binary = {app = 'a', feedback = 'tcp:1'}": [
        f'intake.binary.feedback: found "tcp:1", {REACHABLE}; {NO_TLS}',
        f'intake.binary.app: found "a", and other machines can reach "tcp:1"; {NO_CERTIFICATE}',
    ],
    # Apps.
    "[apps.a]": ["apps.a: found neither of certificate and key; allowed is one of them"],
    "[apps.a]\ncertificate = 'a'\nkey = 'b'\nkey_id = 'c'\nteam_id = 'd'": [
        "apps.a: found both of certificate and key; allowed is one of them"
    ],
    "[apps.a]\nkey = 'a'\nteam_id = 'b'": [
        "apps.a.key_id: found nothing; allowed is an identifier with key, and nothing without"
    ],
    "[apps.a]\ncertificate = 'a'\nteam_id = 'b'": [
        "apps.a.team_id: found a text; allowed is an identifier with key, and nothing without"
    ],
    "[apps.'a b']\ncertificate = 'a'": [
        'apps."a b": allowed as a name are 1 to 100 letters, digits, dots, hyphens and underscores'
    ],
    "[apps.a]\ncertificate = 'a'\ngateway = 'prod'": [
        f'apps.a.gateway: found "prod"; allowed is {GATEWAY}',
    ],
    "[apps.a]\ncertificate = 'a'\ncallers = ['AA']": [
        'apps.a.callers[0]: found "AA"; allowed is a SHA-256 of 64 hexadecimal digits, plain or as openssl prints it'
    ],
    "[apps.a]\ncertificate = 'a'\nlimits.queue = 0": [f"apps.a.limits.queue: found 0; allowed is {COUNT}"],
    # Webhooks.
    "[webhook.w]\nsecret_file = 's'": ["webhook.w.url: found nothing; allowed is a text"],
    "[webhook.w]\nsecret_file = 's'\nurl = 'http://example.com/'": [
        "webhook.w.url: found http://example.com; allowed is https://, or allow_without_tls = true"
    ],
    "[webhook.w]\nsecret_file = 's'\nurl = 'https://ann:secret@example.com/'": [
        "webhook.w.url: found no address; allowed is one such as https://example.com/hook, without user or password"
    ],
    "[webhook.w]\nsecret_file = 's'\nurl = 'https://[/'": [
        "webhook.w.url: found no address; allowed is one such as https://example.com/hook, without user or password"
    ],
    "retries.longest = 0.5": ["retries.longest: found 0.5; allowed is at least retries.first, 1.0"],
}

RIGHT = [
    "",
    "intake.native.listen = []",
    "intake.native.listen = ['tcp:0:interface=127.0.0.1', 'tcp6:0:interface=\\:\\:1', 'unix:/run/x']",
    "intake.native.listen = 'haproxy:tcp:80:interface=127.8.9.1'",
    "intake.native = {listen = ['unix:/run/x', 'unix:mode\\=666:mode=660', 'haproxy:unix:/run/y'], keys = false}",
    "intake.native.listen = 'unix:/run/x:mode=666'",
    "intake.native = {listen = 'unix:/run/x:666', keys = false, allow_without_keys = true}",
    "intake.native = {listen = 'tcp:80', allow_without_tls = true}",
    "intake.native = {listen = 'tcp:80', tls = {certificate = 'a'}}",
    "admin = {listen = 'tcp:80', keys = true, tls = {certificate = 'a'}}",
    "intake.apple = {listen = 'systemd:domain=INET:index=0', allow_without_tls = true}",
    "admin = {listen = 'tcp:80', allow_without_tls = true, allow_without_keys = true}",
    "intake.binary.app = 'a'",
    "intake.binary = {listen = 'tcp:80', feedback = [], tls = {certificate = 'a'}}",
    "[webhook.w]\nsecret_file = 's'\nurl = 'http://localhost:80/'",
    "[webhook.w]\nsecret_file = 's'\nurl = 'http://[::1]/'",
    "limits.idle = 1",
]


def read(text: str) -> Configuration:
    """Read a configuration that is in /etc/txapns."""
    return Configuration.from_text(text, HERE)


class ConfigurationTests(SynchronousTestCase):
    """Reading a file."""

    def test_nothing_is_enough(self) -> None:
        """An empty file is a configuration: it listens for this machine only, and asks for keys."""
        found = read("")
        self.assertEqual(found.intake.native.listen, ("tcp:port=8080:interface=127.0.0.1",))
        self.assertTrue(found.intake.native.keys)
        self.assertEqual((found.intake.apple, found.intake.binary, found.intake.pyapns), (None, None, None))
        self.assertEqual((found.apps, found.webhook), ({}, {}))

    def test_right(self) -> None:
        """Valid configurations are accepted."""
        for text in RIGHT:
            read(text)

    def test_files(self) -> None:
        """File names are relative to the configuration's directory, including the defaults."""
        found = read("secrets.master_key_file = '/run/key'\n[apps.a]\ncertificate = 'a.pem'")
        self.assertEqual(found.apps["a"].certificate, HERE / "a.pem")
        self.assertEqual(found.database.path, HERE / "apns.db")
        self.assertEqual(found.secrets.master_key_file, Path("/run/key"))

    def test_from_file(self) -> None:
        """A file is read, and its name is in the messages."""
        path = Path(self.mktemp())
        path.write_text("limits.body = 7")
        found = Configuration.from_file(path)
        self.assertEqual((found.limits.body, found.database.path), (7, path.absolute().parent / "apns.db"))
        path.write_text("limits.body = 0")
        error = self.assertRaises(ConfigurationError, Configuration.from_file, path)
        self.assertEqual(str(error), f"{path.name}: limits.body: found 0; allowed is {COUNT}")
        for encoding in ("utf-8-sig", "utf-16"):
            path.write_text("limits.body = 7", encoding)
            self.assertEqual(Configuration.from_file(path).limits.body, 7)

    def test_unreadable(self) -> None:
        """A file that is missing, not text or not TOML is reported as such."""
        path = Path(self.mktemp())
        with self.assertRaisesRegex(ConfigurationError, "No such file"):
            Configuration.from_file(path)
        path.write_bytes(b"ab\xff")
        with self.assertRaisesRegex(ConfigurationError, "byte 3 is not UTF-8"):
            Configuration.from_file(path)
        path.write_text("[apps\n")
        with self.assertRaisesRegex(ConfigurationError, "this is not TOML: .*line 1"):
            Configuration.from_file(path)

    def test_limits(self) -> None:
        """An app's own limits override those of all apps."""
        found = read("limits.queue = 5\nretries.attempts = 6\n[apps.a]\ncertificate = 'a'\nlimits.in_flight = 7")
        self.assertEqual(found.limits_of(found.apps["a"].limits), Limits(queue=5, attempts=6, in_flight=7))

    def test_the_same_defaults(self) -> None:
        """The default limits of an app are those of Limits."""
        self.assertEqual(read("").limits_of(AppLimitsSection()), Limits())


class FaultsTests(SynchronousTestCase):
    """The messages about mistakes."""

    def test_lines(self) -> None:
        """Each mistake is a line: the key, what was found, what is allowed."""
        for text, lines in WRONG.items():
            error = self.assertRaises(ConfigurationError, read, text)
            self.assertEqual(str(error).split("\n"), [f"apns.toml: {line}" for line in lines], text)

    def test_a_key_in_the_wrong_place(self) -> None:
        """A private key, or anything as long, is not repeated, whatever key it is the value of."""
        pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
        master = "c2VjcmV0" * 5 + "abc="
        for place in ("database.path", "secrets.master_key_file", "intake.native.listen", "apps.a.certificate"):
            for secret in (pem, master):
                error = self.assertRaises(ConfigurationError, read, f"{place} = '''{secret}'''")
                self.assertIn(f"{place}: found a text of {len(secret)} characters; allowed is", str(error))


def sections(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Find all sections."""
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            yield each
            for field in msgspec.structs.fields(each):
                yield from sections(field.type)


class ExampleTests(SynchronousTestCase):
    """``contrib/apns.toml``."""

    def setUp(self) -> None:
        """Read it."""
        self.text = EXAMPLE.read_text(encoding="utf-8")
        self.whole = re.sub(r"^#(?=\[|[a-z_]+ = )", "", self.text, flags=re.MULTILINE)

    def test_as_it_is(self) -> None:
        """As shipped, it equals the defaults."""
        self.assertEqual(read(self.text), read(""))

    def test_whole(self) -> None:
        """It is also valid with everything uncommented."""
        self.assertEqual(list(read(self.whole).apps), ["example", "other"])

    def test_complete(self) -> None:
        """It contains every key, at least once for each table that has it."""
        found = msgspec.toml.decode(self.whole)
        tables = {"apps": found["apps"]["example"] | found["apps"]["other"], "webhook": found["webhook"]["example"]}

        def check(kind: type[msgspec.Struct], table: dict[str, Any]) -> None:
            self.assertEqual(set(table), set(kind.__struct_fields__), kind)
            for field in msgspec.structs.fields(kind):
                for section in list(sections(field.type))[:1]:
                    check(section, tables.get(field.name, table[field.name]))

        check(Configuration, found)

    def test_defaults(self) -> None:
        """It shows the defaults."""
        found, default = read(self.whole), read("")
        for name in ("database", "secrets", "limits", "retries"):
            self.assertEqual(getattr(found, name), getattr(default, name), name)
        self.assertEqual(msgspec.structs.replace(found.admin, tls=None), default.admin)
        self.assertEqual(msgspec.structs.replace(found.intake.native, tls=None), default.intake.native)
        on = read("[intake.apple]\n[intake.binary]\napp = 'example'\n[intake.pyapns]").intake
        for name in ("apple", "binary", "pyapns"):
            self.assertEqual(msgspec.structs.replace(getattr(found.intake, name), tls=None), getattr(on, name))
        self.assertEqual(found.limits_of(found.apps["example"].limits), Limits())
        webhook = read("[webhook.a]\nurl = 'https://example.com/apns'\nsecret_file = 'webhook.secret'").webhook["a"]
        self.assertEqual(found.webhook["example"], webhook)
