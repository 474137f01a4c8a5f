"""Tests for the face in :mod:`txapns.daemon.faces.apple`: what credentials and topics it accepts."""

from __future__ import annotations

import ngh2

from tests.credentials.test_bearer import der_signed
from tests.daemon.faces.apple.face_case import TOPIC, AppleCase
from txapns import Gateway, ProviderToken
from txapns.daemon.faces.apple.connection import CONCURRENCY
from txapns.simulator import Authority

__all__ = ["CredentialTests"]


class CredentialTests(AppleCase):
    """Credentials and topics."""

    def bearer(self, token: ProviderToken, issued: float) -> dict[str, str]:
        """Show a provider token."""
        return {"authorization": f"bearer {token.sign(int(issued))}", "apns-topic": "com.example.news"}

    def test_key(self) -> None:
        """A key is for its apps; it is not told whether another app exists."""
        self.assertEqual(self.ask(key="chess").status, 200)
        self.assertEqual(self.ask({"apns-topic": "com.example.news"}, key="all").status, 200)
        for topic in ("com.example.news", "com.example.unknown"):
            self.assertEqual(self.ask({"apns-topic": topic}, key="chess").brief, (400, "TopicDisallowed"))

    def test_keys_together(self) -> None:
        """Requests that are read together are each answered by the key that it shows."""
        caller = self.caller()
        keys = ["chess", "all", "nobody", "chess", "all"]
        with caller.together():
            streams = [caller.begin({"apns-topic": "com.example.news"}, key=key) for key in keys]
        statuses = [self.after(caller, stream).brief for stream in streams]
        mine, foreign = (200, ""), (400, "TopicDisallowed")
        self.assertEqual(statuses, [foreign, mine, (403, "InvalidProviderToken"), foreign, mine])

    def test_unknown(self) -> None:
        """Without credentials, or with wrong ones, nothing is stored."""
        self.assertEqual(self.ask(key=None).brief, (403, "MissingProviderToken"))
        self.assertEqual(self.ask({"authorization": "basic eDp5"}, key=None).brief, (403, "MissingProviderToken"))
        self.assertEqual(self.ask(key="nobody").brief, (403, "InvalidProviderToken"))
        self.assertEqual(self.ask({"authorization": "bearer a.b.c"}, key=None).brief, (403, "InvalidProviderToken"))
        self.assertEqual(self.world.lease(), [])

    def test_provider_token(self) -> None:
        """A provider token of the app's own key is valid for that app, and only for that one."""
        now = self.reactor.seconds()
        fields = self.bearer(self.world.provider_token, now)
        self.assertEqual(self.ask(fields, key=None).status, 200)
        self.assertEqual(self.ask({**fields, "apns-topic": TOPIC}, key=None).brief, (400, "TopicDisallowed"))
        [leased] = self.world.lease("news")
        headers = {"apns-topic": "com.example.news", "apns-push-type": "alert"}
        self.assertEqual(dict(leased.content.headers), headers)

    def test_age(self) -> None:
        """A token may be an hour old, or signed by a clock slightly ahead."""
        now, token = self.reactor.seconds(), self.world.provider_token
        self.assertEqual(self.ask(self.bearer(token, now - 3_599), key=None).status, 200)
        self.assertEqual(self.ask(self.bearer(token, now + 300), key=None).status, 200)
        self.assertEqual(self.ask(self.bearer(token, now - 3_602), key=None).brief, (403, "ExpiredProviderToken"))
        self.assertEqual(self.ask(self.bearer(token, now + 302), key=None).brief, (403, "InvalidProviderToken"))

    def test_grows_old(self) -> None:
        """A token that was valid when the connection was made expires."""
        caller = self.caller()
        fields = self.bearer(self.world.provider_token, self.reactor.seconds())
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.reactor.advance(3_500)
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.reactor.advance(101)
        self.assertEqual(caller.ask(fields, key=None).brief, (403, "ExpiredProviderToken"))

    def test_clock_set(self) -> None:
        """When the wall clock is set, it is what counts."""
        caller = self.caller()
        fields = self.bearer(self.world.provider_token, self.reactor.wall.now())
        self.reactor.wall.step(3_500)
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.reactor.wall.step(101)
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).brief, (403, "ExpiredProviderToken"))
        self.reactor.wall.step(-3_601)
        self.assertEqual(self.ask(fields, key=None).status, 200)

    def test_forged(self) -> None:
        """A token that names the right key but is signed with another one, or not at all, is invalid."""
        now = self.reactor.seconds()
        ours = self.world.provider_token
        forged = ProviderToken.from_p8(Authority().p8, ours.key_id, ours.team_id)
        self.assertEqual(self.ask(self.bearer(forged, now), key=None).brief, (403, "InvalidProviderToken"))
        head, claims, _ = ours.sign(int(now)).split(".")
        for text in (f"{head}.{claims}.", f"eyJhbGciOiJub25lIiwia2lkIjoiQUJDMTIzREVGRyJ9.{claims}."):
            fields = {"authorization": f"bearer {text}", "apns-topic": "com.example.news"}
            self.assertEqual(self.ask(fields, key=None).brief, (403, "InvalidProviderToken"))

    def test_der(self) -> None:
        """A token whose signature is in DER, as pushy's are, is valid."""
        now = int(self.reactor.seconds())
        fields = {"authorization": f"bearer {der_signed(self.world.authority, now)}", "apns-topic": "com.example.news"}
        self.assertEqual(self.ask(fields, key=None).status, 200)

    def test_key_replaced(self) -> None:
        """When the app gets another key, a token of the old one is invalid from the next request on."""
        caller = self.caller()
        fields = self.bearer(self.world.provider_token, self.reactor.seconds())
        self.assertEqual(self.after(caller, caller.begin(fields, key=None)).status, 200)
        self.world.add("news", ProviderToken.from_p8(Authority().p8, "OTHER", "TEAM"))
        self.assertEqual(caller.ask(fields, key=None).brief, (403, "InvalidProviderToken"))

    def test_limit(self) -> None:
        """The limit is the full one from the beginning: some clients never notice a later one."""
        self.assertEqual(self.caller().limits, [CONCURRENCY])

    def test_too_often(self) -> None:
        """After repeated requests without authentication the connection is closed."""
        caller = self.caller()
        for _ in range(20):
            self.assertEqual(caller.ask(key=None).status, 403)
        self.assertTrue(caller.goaway)
        self.assertTrue(caller.gone)

    def test_too_many(self) -> None:
        """Of many requests at once each gets its reason before the GOAWAY; authenticated ones are stored."""
        caller = self.caller()
        with caller.together():
            known = caller.begin()
            streams = [caller.begin(key="nobody") for _ in range(500)]
        self.reactor.advance(0.02)
        self.assertEqual(caller.said(known).status, 200)
        self.assertEqual({caller.said(stream).brief for stream in streams}, {(403, "InvalidProviderToken")})
        self.assertTrue(caller.goaway)
        self.assertEqual(caller.whole_before_goaway, set(streams))

    def test_too_many_other(self) -> None:
        """After too many refusals nothing more is read: a request with another credential may be sent elsewhere."""
        caller = self.caller()
        with caller.together():
            streams = [caller.begin(key=f"nobody {number}") for number in range(25)]
        self.assertEqual({caller.said(stream).brief for stream in streams[:20]}, {(403, "InvalidProviderToken")})
        self.assertEqual({caller.closed[stream] for stream in streams[20:]}, {ngh2.ErrorCode.REFUSED_STREAM})
        self.assertTrue(caller.goaway)

    def test_topics(self) -> None:
        """The suffix of a push type does not matter; without a topic, the only app is meant."""
        self.assertEqual(self.ask({"apns-topic": f"{TOPIC}.voip"}).status, 200)
        self.assertEqual(self.ask({"apns-topic": f"{TOPIC}.push-type.liveactivity"}).status, 200)
        self.assertEqual(self.ask({"apns-topic": f"{TOPIC}.beta"}).brief, (400, "TopicDisallowed"))
        self.assertEqual(self.ask({"apns-topic": "-"}).status, 200)
        self.assertEqual(self.ask({"apns-topic": "-"}, key="all").brief, (400, "MissingTopic"))

    def test_environments(self) -> None:
        """If two apps have the same topic, the host name tells which one is meant."""
        sandbox = Gateway.parse("sandbox")
        self.world.add("test", self.world.certificate, topic=TOPIC, gateway=sandbox)
        self.assertEqual(self.ask(key="all").status, 200)
        self.assertEqual((len(self.world.lease()), len(self.world.lease("test"))), (1, 0))
        self.assertEqual(self.ask({":authority": "api.sandbox.push.apple.com"}, key="all").status, 200)
        self.assertEqual((len(self.world.lease()), len(self.world.lease("test"))), (0, 1))
        self.world.add("third", self.world.certificate, topic=TOPIC, gateway=sandbox)
        self.assertEqual(self.ask({":authority": "api.sandbox.push.apple.com"}, key="all").brief, (400, "BadTopic"))
