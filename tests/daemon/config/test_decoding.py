"""Tests for :mod:`txapns.daemon.config.decoding`: what the values of a file are taken for."""

from __future__ import annotations

from tests.daemon.config.reading import COUNT, ENDPOINT, FaultsCase, read
from txapns.daemon.errors import ConfigurationError

__all__ = ["DecodingTests"]

SCHEMA = "a name of lower-case letters, digits and underscores, which does not begin with pg_"
SECONDS = "a number of seconds, 0 or more, at most 100 years"
DURATION = "a number of seconds, more than 0, at most 100 years"

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
    f"limits.rate = 1{'0' * 12}1": [f"limits.rate: found 1{'0' * 12}1; allowed is {COUNT}"],
    "limits.idle = 1e10": [f"limits.idle: found 10000000000.0; allowed is {DURATION}"],
    "database.retention = -1": [f"database.retention: found -1; allowed is {SECONDS}"],
    "outcomes.retention = 1e10": [f"outcomes.retention: found 10000000000.0; allowed is {SECONDS}"],
    "database.path = 3": ["database.path: found 3; allowed is the name of a file"],
    'database.path = ""': ['database.path: found ""; allowed is the name of a file'],
    "database = {url = 3, schema = 'Pg', password_file = 'a'}\nnode.name = 'a b'": [
        "database.url: found 3; allowed is a text",
        f'database.schema: found "Pg"; allowed is {SCHEMA}',
        'node.name: found "a b"; allowed is a name of 1 to 100 letters, digits, dots, hyphens and underscores',
    ],
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
        "apps.b: found neither certificate nor key; give one of them",
        "retries.longest: found 0.1; allowed is at least retries.first, 1.0",
    ],
    "retries.xxx = 0\nretries.attempts = 0\nretries.first = 0\nlimits.body = 0": [
        f"limits.body: found 0; allowed is {COUNT}",
        "retries.xxx: there is no such key; allowed are attempts, first, longest, jitter",
        f"retries.attempts: found 0; allowed is {COUNT}",
        f"retries.first: found 0; allowed is {DURATION}",
    ],
}


class DecodingTests(FaultsCase):
    """Keys and values that cannot be decoded."""

    def test_lines(self) -> None:
        """Each mistake is a line: the key, what was found, what is allowed."""
        self.check(WRONG)

    def test_a_key_in_the_wrong_place(self) -> None:
        """A private key, or anything as long, is not repeated, whatever key it is the value of."""
        pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
        master = "c2VjcmV0" * 5 + "abc="
        for place in ("database.path", "secrets.master_key_file", "intake.native.listen", "apps.a.certificate"):
            for secret in (pem, master):
                error = self.assertRaises(ConfigurationError, read, f"{place} = '''{secret}'''")
                self.assertIn(f"{place}: found a text of {len(secret)} characters; allowed is", str(error))
