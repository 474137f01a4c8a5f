"""Tests for :mod:`txapns.daemon.faces.callers`."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces_world import AppShelf, FacesWorld
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.faces.callers import Callers, default_headers, lacks_topic
from txapns.daemon.values import App
from txapns.gateway import Gateway
from txapns.simulator import Authority

__all__ = ["CertificateTests", "TokenTests", "TopicTests"]

AUTHORITY = FacesWorld.authority
CERTIFICATE = Certificate.from_pem(AUTHORITY.client_pem("com.example.chess"))
SEVERAL = Certificate.from_pem(AUTHORITY.client_pem("com.example.a", topics=["com.example.a", "com.example.a.voip"]))
TOKEN = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
SANDBOX, PRODUCTION = Gateway.parse("sandbox"), Gateway.parse("production")


class CallersCase(SynchronousTestCase):
    """Some apps."""

    def setUp(self) -> None:
        """Begin without any."""
        self.apps = AppShelf()
        self.callers = Callers(self.apps)

    def add(self, name: str, credential: Certificate | ProviderToken = TOKEN, **more: Any) -> App:
        """Add an app."""
        more.setdefault("gateway", PRODUCTION)
        app = App(name=name, credential=credential, **more)
        self.apps.set(app)
        return app


class CertificateTests(CallersCase):
    """Callers with certificates."""

    def test_own_and_callers(self) -> None:
        """The app's own certificate counts, and those that are listed; no others, and none that is no longer listed."""
        self.assertEqual(self.callers.by_certificate(CERTIFICATE.fingerprint), frozenset())
        self.add("chess", CERTIFICATE)
        self.add("news", callers=frozenset({CERTIFICATE.fingerprint, "ab" * 32}))
        self.assertEqual(self.callers.by_certificate(CERTIFICATE.fingerprint), {"chess", "news"})
        self.assertEqual(self.callers.by_certificate("ab" * 32), {"news"})
        self.assertEqual(self.callers.by_certificate(TOKEN.fingerprint), frozenset())
        self.apps.drop("news")
        self.assertEqual(self.callers.by_certificate("ab" * 32), frozenset())
        self.assertIsNone(self.callers.get("news"))


class TokenTests(CallersCase):
    """Callers with provider tokens."""

    def test_right(self) -> None:
        """A token is for all apps that have its key."""
        self.add("a")
        self.add("b")
        self.add("c", CERTIFICATE)
        claim = self.callers.by_token(TOKEN.sign(1_700_000_000))
        assert claim is not None
        self.assertEqual((claim.issued, claim.apps), (1_700_000_000.0, {"a", "b"}))

    def test_two_keys_of_one_name(self) -> None:
        """If two keys have the same identifier, a token is for the apps of the one that signed it."""
        self.add("a")
        other = ProviderToken.from_p8(Authority().p8, TOKEN.key_id, TOKEN.team_id)
        self.add("b", other)
        claim = self.callers.by_token(other.sign(5))
        assert claim is not None
        self.assertEqual(claim.apps, {"b"})

    def test_wrong(self) -> None:
        """A token with another key, team, identifier or algorithm, or without a time, is invalid."""
        self.add("a")
        head, claims, signature = TOKEN.sign(5).split(".")

        def part(**content: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

        for text in (
            ProviderToken.from_p8(AUTHORITY.p8, "OTHER", TOKEN.team_id).sign(5),
            ProviderToken.from_p8(AUTHORITY.p8, TOKEN.key_id, "OTHER").sign(5),
            ProviderToken.from_p8(Authority().p8, TOKEN.key_id, TOKEN.team_id).sign(5),
            f"{head}.{part(iss=TOKEN.team_id, iat=6)}.{signature}",
            f"{part(alg='none', kid=TOKEN.key_id)}.{claims}.",
            f"{part(alg='HS256', kid=TOKEN.key_id)}.{claims}.{signature}",
            f"{part(alg='ES256', kid=[1])}.{claims}.{signature}",
            f"{part(alg='ES256')}.{claims}.{signature}",
            f"{head}.{'W' * 4_000}.{signature}",
        ):
            self.assertIsNone(self.callers.by_token(text))

    @given(st.text(max_size=80) | st.binary(max_size=80).map(lambda noise: base64.urlsafe_b64encode(noise).decode()))
    def test_anything(self, noise: str) -> None:
        """Any text can be checked."""
        self.add("a")
        head, claims, signature = TOKEN.sign(5).split(".")
        for text in (noise, f"{noise}.{claims}.{signature}", f"{head}.{noise}.{signature}", f"{head}.{claims}.{noise}"):
            self.assertIsNone(self.callers.by_token(text))


class TopicTests(CallersCase):
    """Topics."""

    def test_topics(self) -> None:
        """The app's topic counts before that of its certificate, the whole before that without a suffix."""
        self.add("chess", CERTIFICATE)
        self.add("named", CERTIFICATE, topic="com.example.named")
        self.add("voip", topic="com.example.chess.voip")
        self.add("several", SEVERAL)
        for topic, names in (
            ("com.example.chess", ["chess"]),
            ("com.example.chess.voip", ["voip"]),
            ("com.example.chess.push-type.widgets", ["chess"]),
            ("com.example.named", ["named"]),
            ("com.example.a.voip", ["several"]),
            ("com.example.a.complication", ["several"]),
            ("com.example", []),
        ):
            self.assertEqual(self.callers.for_topic(topic, None, sandbox=False), names, topic)

    def test_any(self) -> None:
        """An app without a topic is meant by every topic that no other allowed app has."""
        self.add("chess", CERTIFICATE)
        self.add("any")
        self.assertEqual(self.callers.for_topic("com.example.chess", None, sandbox=False), ["chess"])
        self.assertEqual(self.callers.for_topic("com.example.x", None, sandbox=False), ["any"])
        self.assertEqual(self.callers.for_topic("com.example.x", frozenset({"chess"}), sandbox=False), [])
        self.assertEqual(self.callers.for_topic(None, None, sandbox=False), ["any", "chess"])

    def test_environments(self) -> None:
        """Of two apps, the environment decides; for one app it does not matter."""
        self.add("one", CERTIFICATE)
        self.assertEqual(self.callers.for_topic("com.example.chess", None, sandbox=True), ["one"])
        self.add("two", CERTIFICATE, gateway=SANDBOX)
        self.assertEqual(self.callers.for_topic("com.example.chess", None, sandbox=True), ["two"])
        self.assertEqual(self.callers.for_topic("com.example.chess", None, sandbox=False), ["one"])

    def test_remembered(self) -> None:
        """The number of remembered topics is limited, and none is remembered after the apps change."""
        self.add("chess", CERTIFICATE)
        for n in range(2_500):
            self.assertEqual(self.callers.for_topic(f"com.example.{n}", None, sandbox=False), [])
        assert self.callers._known is not None
        self.assertLessEqual(len(self.callers._known.topics), 1_000)
        self.add("five", topic="com.example.5")
        self.assertEqual(self.callers.for_topic("com.example.5", None, sandbox=False), ["five"])

    def test_defaults(self) -> None:
        """The defaults of an app."""
        self.assertEqual(default_headers(self.add("a", push_type="voip")), {"apns-push-type": "voip"})
        self.assertEqual(default_headers(self.add("b")), {})
        lacking = [lacks_topic(self.add("c", each)) for each in (TOKEN, CERTIFICATE, SEVERAL)]
        self.assertEqual(lacking, [True, False, True])
        self.assertFalse(lacks_topic(self.add("d", topic="com.example.d")))
