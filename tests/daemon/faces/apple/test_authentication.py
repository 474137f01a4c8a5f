"""Tests for :mod:`txapns.daemon.faces.apple.authentication`, beside those of the face."""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import Keys, key_of
from txapns._network.clocks import wall_clock
from txapns.daemon.faces.apple.authentication import Authentication, app_of
from txapns.daemon.faces.apple.responses import ErrorResponse, NotAuthenticatedResponse
from txapns.daemon.faces.callers import LEEWAY, TOKEN_LIFE, Callers, Claim
from txapns.daemon.values import Caller

__all__ = ["AppTests", "AuthenticationTests"]


class _Callers:
    """Callers with the certificate ``known`` and the provider token ``a.b.c``."""

    def __init__(self) -> None:
        self.revision = self.verified = 0
        self.issued = 10_000.0
        self.meant: list[str] = []

    def by_certificate(self, fingerprint: str) -> frozenset[str]:
        """See :meth:`Callers.by_certificate`."""
        return frozenset({"chess"} if fingerprint == "known" else ())

    def by_token(self, token: str) -> Claim | None:
        """See :meth:`Callers.by_token`."""
        self.verified += 1
        return Claim("key T/K", self.issued, frozenset({"news"})) if token == "a.b.c" else None

    def for_topic(self, topic: str | None, names: frozenset[str] | None, *, sandbox: bool) -> list[str]:
        """See :meth:`Callers.for_topic`."""
        return self.meant + ["sandbox"] * sandbox


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        """Make the callers."""
        self.clock = Clock()
        self.clock.advance(10_000.0)
        self.callers = _Callers()

    def authentication(self, fingerprint: str | None = None) -> Authentication:
        """Make that of one connection."""
        keys = Keys(Caller("all", None, None, manage=True), Caller("sender", frozenset({"chess"}), frozenset()))
        return Authentication(cast("Callers", self.callers), keys, wall_clock(self.clock), fingerprint)

    def refused(self, authentication: Authentication, authorization: str) -> str:
        """Authenticate a request that is refused; returns the reason."""
        response = self.assertRaises(NotAuthenticatedResponse, authentication.caller, authorization).response
        self.assertEqual(response.status, 403)
        return response.reason


class AuthenticationTests(_Case):
    """Credentials."""

    def test_certificate(self) -> None:
        """A certificate counts before the header field."""
        self.assertEqual(self.authentication("known").caller("").send, {"chess"})
        self.assertEqual(self.refused(self.authentication("other"), f"bearer {key_of('all')}"), "BadCertificate")

    def test_keys(self) -> None:
        """A key of the daemon is for its apps, or for all."""
        authentication = self.authentication()
        self.assertIsNone(authentication.caller(f"bearer {key_of('all')}").send)
        self.assertEqual(authentication.caller(f"Bearer {key_of('sender')}").send, {"chess"})
        self.assertEqual(self.refused(authentication, "bearer txapns_nobody"), "InvalidProviderToken")
        for missing in ("", "bearer", "basic YTpi"):
            self.assertEqual(self.refused(authentication, missing), "MissingProviderToken")

    def test_token(self) -> None:
        """A token is verified once, until the apps change; its age is checked each time."""
        authentication = self.authentication()
        for _ in range(3):
            self.assertEqual(authentication.caller("bearer a.b.c").send, {"news"})
        self.assertEqual(self.callers.verified, 1)
        self.callers.revision += 1
        authentication.caller("bearer a.b.c")
        self.assertEqual(self.callers.verified, 2)
        self.clock.advance(TOKEN_LIFE + 1)
        self.assertEqual(self.refused(authentication, "bearer a.b.c"), "ExpiredProviderToken")
        self.assertEqual(self.refused(authentication, "bearer d.e.f"), "InvalidProviderToken")
        self.callers.issued = self.clock.seconds() + LEEWAY + 1
        self.assertEqual(self.refused(self.authentication(), "bearer a.b.c"), "InvalidProviderToken")


class AppTests(_Case):
    """The app that is meant."""

    def test_each(self) -> None:
        """Exactly one app has to be meant; the host name tells whether it is in the sandbox."""
        callers, fields = cast("Callers", self.callers), {"apns-topic": "com.example"}
        cases: list[tuple[list[str], dict[str, str], str]] = [
            ([], fields, "TopicDisallowed"),
            ([], {}, "TopicDisallowed"),
            (["chess", "news"], fields, "BadTopic"),
            (["chess", "news"], {}, "MissingTopic"),
        ]
        for meant, given, reason in cases:
            self.callers.meant = meant
            response = self.assertRaises(ErrorResponse, app_of, callers, given, None).response
            self.assertEqual((response.status, response.reason), (400, reason))
        self.callers.meant = ["chess"]
        self.assertEqual(app_of(callers, fields, None), "chess")
        self.callers.meant = []
        self.assertEqual(app_of(callers, {**fields, ":authority": "api.sandbox.push.apple.com"}, None), "sandbox")
