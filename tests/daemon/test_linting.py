"""Tests for :mod:`txapns.daemon.linting`."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.broadcasts import broadcast_draft
from txapns.daemon.linting import LINTED, lint_drafts
from txapns.daemon.values import App, Draft, Environment, Side
from txapns.gateway import Gateway
from txapns.simulator import Authority

__all__ = ["LintDraftsTests"]

TOKEN = b"\xaa" * 32


class LintDraftsTests(SynchronousTestCase):
    """What is wrong with the notifications of a request."""

    def found(self, *drafts: Draft) -> list[tuple[int, str]]:
        """Lint them; returns positions and codes."""
        authority = Authority()
        certificate = Certificate.from_pem(authority.client_pem())
        key = ProviderToken.from_p8(authority.p8, authority.key_id, authority.team_id)
        sandbox = Side(Gateway.parse("sandbox"), key)
        app = App("chess", Gateway.parse("production"), certificate, "com.example.app", sandbox=sandbox)
        return [(position, finding.code) for position, finding in lint_drafts(app, drafts, 1_700_000_000)]

    def test_as_sent(self) -> None:
        """The push type and the topic that the daemon adds are known."""
        self.assertEqual(self.found(Draft(b'{"aps":{"content-available":1}}', {}, [TOKEN])), [])
        voip = Draft(b'{"aps":{"content-available":1}}', {"apns-push-type": "voip"}, [TOKEN])
        self.assertIn((0, "TOPIC_TYPE"), self.found(voip))

    def test_broadcast(self) -> None:
        """A broadcast is linted with the header fields that the client adds, and its channel and payload are seen."""
        update = b'{"aps":{"event":"update","timestamp":1700000000,"content-state":{"home":1}}}'
        self.assertEqual(self.found(broadcast_draft(update, {}, "dHN0LXNyY2gtY2hubA==")), [])
        bad = broadcast_draft(update.replace(b"update", b"start"), {}, "?")
        self.assertLessEqual({(0, "CHANNEL_FORM"), (0, "LA_START_CHANNEL")}, set(self.found(bad)))
        self.assertIn((0, "CHANNEL_FORM"), self.found(broadcast_draft(update, {"apns-priority": "9" * 30}, "?")))

    def test_side(self) -> None:
        """What names the sandbox is seen as with the credential there."""
        activity = Draft(b'{"aps":{"event":"end","timestamp":1700000000}}', {"apns-push-type": "liveactivity"}, [TOKEN])
        for environment, expected in ((None, True), *zip(Environment, (True, False), strict=True)):
            found = self.found(msgspec.structs.replace(activity, environment=environment))
            self.assertEqual((0, "LA_CERTIFICATE") in found, expected, environment)

    def test_not_sent(self) -> None:
        """What no request can carry is linted as it stands."""
        odd = Draft(b'{"aps":{"badge":"3"}}', {"apns-push-type": "alert", "apns-expiration": "-1x"}, [TOKEN])
        self.assertEqual(
            {code for _, code in self.found(odd)} & {"BADGE_TYPE", "EXPIRATION"}, {"BADGE_TYPE", "EXPIRATION"}
        )

    def test_bounded(self) -> None:
        """Only the first are looked at."""
        bad = Draft(b'{"aps":{"badge":"3"}}', {}, [TOKEN])
        positions = {position for position, _ in self.found(*[bad] * (LINTED + 1))}
        self.assertEqual(positions, set(range(LINTED)))
