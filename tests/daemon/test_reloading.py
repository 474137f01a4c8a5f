"""Tests for :mod:`txapns.daemon.reloading`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import Apps
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.reloading import check_apps, differences, in_effect, recorded
from txapns.daemon.values import Limits

__all__ = ["ReloadingTests"]


def configured(text: str) -> Configuration:
    """Read a configuration."""
    return Configuration.from_text(text, Path("/etc"))


_TLS = """
intake.apple.tls.certificate = "a.pem"
admin.tls.certificate = "a.pem"
intake.binary.app = "a"
"""


class ReloadingTests(SynchronousTestCase):
    """What differs, and what of it a running daemon takes up."""

    def check(self, before: str, after: str, changed: list[str], left: list[str]) -> None:
        """Check which keys have changed, and which of them need a restart."""
        one, other = configured(before), configured(after)
        self.assertEqual(differences(one, other), changed)
        self.assertEqual(differences(in_effect(one, other), other), left)

    def test_same(self) -> None:
        """The same configuration has no differences, with whatever in it."""
        self.check(_TLS, _TLS, [], [])

    def test_taken_up(self) -> None:
        """Limits, apps, webhooks, certificates, and how long what is kept, are taken up."""
        self.check("", "limits.stop = 5\nretries.attempts = 3", ["limits.stop", "retries.attempts"], [])
        kept = "database.retention = 5\noutcomes.retention = 5\noutcomes.most = 5"
        self.check("", kept, ["database.retention", "outcomes.retention", "outcomes.most"], [])
        self.check("", "[apps.a]\ncertificate = 'a.pem'", ["apps.a"], [])
        self.check("[apps.a]\ncertificate = 'a.pem'", "", ["apps.a"], [])
        webhook = "[webhook.a]\nurl = 'https://example.com/'\nsecret_file = 'a'"
        self.check("", webhook, ["webhook.a"], [])
        self.check(webhook, "", ["webhook.a"], [])
        self.check(webhook, f"{webhook}\nevents = ['outcomes']", ["webhook.a.events"], [])
        certificate = "[apps.a]\ncertificate = 'a.pem'\n"
        keys = ["apps.a.topic", "apps.a.limits.queue"]
        self.check(certificate, f"{certificate}limits.queue = 5\ntopic = 't'", sorted(keys, reverse=True), [])
        certificates = ["intake.apple.tls.certificate", "admin.tls.certificate"]
        self.check(_TLS, _TLS.replace("a.pem", "b.pem"), certificates, [])

    def test_left(self) -> None:
        """Everything else needs a restart, also TLS where there was none."""
        for text, keys in (
            ("database.path = 'a.db'\nretries.first = 2", ["database.path", "retries.first"]),
            ("intake.native.wait = 5", ["intake.native.wait"]),
            ("intake.apple.tls.certificate = 'a.pem'", ["intake.apple"]),
            ("admin.tls.certificate = 'a.pem'", ["admin.tls"]),
        ):
            self.check("", text, keys, keys)
            self.check(text, "", keys, keys)

    def test_apps(self) -> None:
        """Some apps may go, but not all of them; where there were none, there may be none."""
        one, two = (
            configured("".join(f"[apps.{name}]\ncertificate = 'a.pem'\n" for name in names)) for names in ("a", "ab")
        )
        none = configured("")
        for before, after in ((two, one), (none, one), (none, none)):
            check_apps(before, after)
        self.assertRaises(ConfigurationError, check_apps, one, none)

    def test_recorded(self) -> None:
        """Outcomes of an app that is removed are still recorded, and not those of one that no longer wants it."""
        before = recorded(frozenset(), Apps(dict.fromkeys(("a", "b", "c", "d"), Limits()), ["a", "b", "c"]))
        self.assertEqual(before, {"a", "b", "c"})
        after = recorded(before, Apps(dict.fromkeys(("b", "c", "d"), Limits()), ["c", "d"]))
        self.assertEqual(after, {"a", "c", "d"})
