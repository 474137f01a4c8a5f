"""Tests for :mod:`txapns._linting`."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from txapns import Certificate, Notification, ProviderToken, lint
from txapns._linting import lint_with
from txapns.devices import App, Device, Finding
from txapns.simulator import Authority

__all__ = ["LintTests"]

NOW = 1_800_000_000


def codes(findings: list[Finding]) -> list[str]:
    """The codes of what was found."""
    return [finding.code for finding in findings]


class LintTests(SynchronousTestCase):
    """What is found in a notification."""

    def test_nothing(self) -> None:
        """Nothing is found in notifications of every kind that have what they need."""
        app = "com.example.app"
        state = {"content_state": {"score": 0}, "timestamp": NOW}
        start = {"attributes_type": "Game", "attributes": {}, "alert": {"title": "Kick-off"}, **state}
        for notification in (
            Notification.alert(title="Chess", body="Your move", sound="default", topic=app),
            Notification.background(topic=app),
            Notification.location(app),
            Notification.voip(app, {"call": 4711}),
            Notification.complication(app),
            Notification.fileprovider(app, "root", "work"),
            Notification.mdm("4711", topic="com.apple.mgmt.External.4711"),
            Notification.live_activity_start(app, **start),
            Notification.live_activity_update(app, **state),
            Notification.push_to_talk(app),
            Notification.widgets(app),
            Notification.controls(app),
        ):
            self.assertEqual(lint(notification, now=NOW), [], notification)

    def test_header_fields(self) -> None:
        """Header fields are looked at as APNs would get them: octets, and not characters, are counted."""
        for length, expected in ((32, []), (33, ["COLLAPSE_ID"])):
            notification = Notification.background(collapse_id="é" * length, topic="com.example.app")
            self.assertEqual(codes(lint(notification)), expected)

    def test_topic(self) -> None:
        """The client's topic is that of a notification that has none."""
        notification = Notification.background()
        self.assertEqual(codes(lint(notification, topic="com.example.app.voip")), ["TOPIC_SUFFIX"])
        notification = notification.with_topic("com.example.app")
        self.assertEqual(lint(notification, topic="com.example.app.voip"), [])

    def test_device(self) -> None:
        """With a device, what depends on it is found too."""
        notification = Notification.alert(title="Chess", body="Your move", sound="bell.caf")
        self.assertEqual(lint(notification), [])
        self.assertEqual(codes(lint(notification, device=Device(app=App(sounds={})))), ["SOUND_MISSING"])

    def test_now(self) -> None:
        """Dates are compared with the present, or with the given time."""
        notification = Notification.background(expiration=NOW)
        self.assertEqual(codes(lint(notification, now=NOW + 1)), ["EXPIRATION_PAST"])
        self.assertEqual(codes(lint(Notification.background(expiration=1_500_000_000))), ["EXPIRATION_PAST"])

    def test_credential(self) -> None:
        """With a certificate its topics are known; with a provider token the notification has to name one."""
        authority = Authority()
        certificate = Certificate.from_pem(authority.client_pem())
        token = ProviderToken.from_p8(authority.p8, authority.key_id, authority.team_id)
        app, other = certificate.topics[0], Notification.background(topic="com.example.other")
        for notification, credential, expected in (
            (Notification.background(), None, []),
            (Notification.background(), certificate, []),
            (Notification.background(), token, ["TOPIC_MISSING"]),
            (other, token, []),
            (other, certificate, ["TOPIC_NOT_SERVED"]),
            (Notification.live_activity_update(app, {}, timestamp=NOW), token, []),
        ):
            self.assertEqual(codes(lint_with(notification, credential, NOW)), expected, (notification, credential))
        update = Notification.live_activity_update(app, {}, timestamp=NOW)
        self.assertIn("LA_CERTIFICATE", codes(lint_with(update, certificate, NOW)))

    def test_lazy(self) -> None:
        """Programs that only send do not import the rules."""
        script = "import sys, txapns; sys.exit('txapns.devices.rules' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", script], check=False).returncode, 0)
