"""Tests for :mod:`txapns.daemon.linting`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.credentials import Certificate
from txapns.daemon.linting import LINTED, lint_drafts
from txapns.daemon.values import App, Draft
from txapns.gateway import Gateway
from txapns.simulator import Authority

__all__ = ["LintDraftsTests"]

TOKEN = b"\xaa" * 32


class LintDraftsTests(SynchronousTestCase):
    """What is wrong with the notifications of a request."""

    def found(self, *drafts: Draft) -> list[tuple[int, str]]:
        """Lint them; returns positions and codes."""
        certificate = Certificate.from_pem(Authority().client_pem())
        app = App("chess", Gateway.parse("sandbox"), certificate, "com.example.app")
        return [(position, finding.code) for position, finding in lint_drafts(app, drafts, 1_700_000_000)]

    def test_as_sent(self) -> None:
        """The push type and the topic that the daemon adds are known."""
        self.assertEqual(self.found(Draft(b'{"aps":{"content-available":1}}', {}, [TOKEN])), [])
        voip = Draft(b'{"aps":{"content-available":1}}', {"apns-push-type": "voip"}, [TOKEN])
        self.assertIn((0, "TOPIC_TYPE"), self.found(voip))

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
