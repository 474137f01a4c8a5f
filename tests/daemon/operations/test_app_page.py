"""Tests for :mod:`txapns.daemon.operations.app_page`; those of the admin endpoint submit its forms."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld
from tests.daemon.dispatch_world import DEAD, token
from txapns.daemon.errors import UnknownApp
from txapns.daemon.operations.app_page import AppPage
from txapns.simulator import Response

__all__ = ["AppPageTests"]


class AppPageTests(SynchronousTestCase):
    """The page of an app."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld(delay=0.03)
        self.addCleanup(self.world.close)
        world = self.world
        self.pages = AppPage(world.health, world.history, world.outcome_log, world.log, world.apps)

    def page(self, app: str = "chess", what: str | None = None) -> str:
        """Fetch the page."""
        self.world.advance(2.0)
        found = self.world.result(Deferred.fromCoroutine(self.pages.html(app, manage=False, what=what)))
        assert isinstance(found, bytes)
        return found.decode()

    def test_state(self) -> None:
        """The page says what is wrong, and what to do about it."""
        page = self.page()
        for text in ("Working", self.world.simulator.topic, "None that is not forgotten"):
            self.assertIn(text, page)
        self.world.simulator.http2_fault = lambda server, request, response: Response(403, "BadCertificateEnvironment")
        self.world.take([token(1)])
        self.world.advance(5.0)
        page = self.page()
        for text in ("Circuit tripped", "is for the other environment", "Replace the credential"):
            self.assertIn(text, page)

    def test_failures(self) -> None:
        """The latest failures are listed with what they mean, also those of other processes; tokens are shortened."""
        self.world.take([token(1), DEAD])
        self.world.drain()
        self.world.crash()
        page = self.page()
        for text in ("dddd…dddd", "410 Unregistered", "no longer active for this topic"):
            self.assertIn(text, page)
        self.assertNotIn(DEAD.hex(), page)

    def test_credentials(self) -> None:
        """The page says which credential an app has: kind, expiry and key id; of one with two sides, both."""
        self.assertIn("<dt>Credential</dt><dd", self.page())
        _, side = self.world.add_sandbox()
        key = self.world.simulator.provider_token()
        self.world.add_app("chess", sandbox=attrs.evolve(side, credential=key))
        page = self.page()
        self.assertRegex(page, r"<dt>Credential, production</dt><dd[^>]*>[0-9-]+, in \S+ days? \(certificate\)</dd>")
        self.assertRegex(page, rf"<dt>Credential, sandbox</dt><dd[^>]*>{key.key_id} \(key\)</dd>")
        self.assertNotIn("<dt>Credential</dt>", page)
        self.assertNotIn("PRIVATE", page)

    def test_look_up(self) -> None:
        """What was looked up is on the page of whoever asked."""
        self.assertIn("neither an apns-id nor", self.page(what="<b>"))
        self.assertNotIn('id="found"', self.page())

    def test_unknown(self) -> None:
        """There is no page of an app that there is not."""
        with self.assertRaises(UnknownApp):
            self.page("news")
