"""Tests for :mod:`txapns.simulator.requests`, with a peer that writes any request."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any

import attrs
import jwt
from twisted.trial.unittest import SynchronousTestCase

from tests.credentials.test_bearer import der_signed
from tests.simulator.peers import (
    AUTHORITY,
    DEVICE,
    TOPIC,
    Field,
    HTTP2Case,
    HTTP2Peer,
)
from txapns.credentials import Certificate, ProviderToken
from txapns.notification import Notification
from txapns.simulator.authority import Authority, SigningKey
from txapns.simulator.requests import TOKEN_CHANGE, TOKEN_LIFE, fields_of, random_identifier
from txapns.wire.requests import Request

__all__ = ["CertificateTests", "ConnectionTests", "FieldsTests", "ProviderTokenTests", "ScopeTests"]


def bearer(
    key: str | bytes = AUTHORITY.p8, algorithm: str = "ES256", key_id: str | None = AUTHORITY.key_id, **claims: Any
) -> str:
    """Sign a provider token with exactly these claims, right or wrong."""
    return "bearer " + jwt.encode(claims, key, algorithm, {} if key_id is None else {"kid": key_id})


class ProviderTokenTests(HTTP2Case):
    """Connections without a certificate."""

    def present(self, peer: HTTP2Peer, authorization: str, status: int = 200, reason: str = "") -> None:
        """Send a valid request with a provider token, and compare the response."""
        self.check(peer, {"authorization": authorization}, status, reason)

    def test_missing(self) -> None:
        """It is the word after "bearer", in either case."""
        peer = self.connect()
        for text in ("", "bearer", "basic abc", self.bearer().removeprefix("bearer ")):
            self.present(peer, text, 403, "MissingProviderToken")
        self.present(peer, self.bearer().replace("bearer", "Bearer"))

    def test_invalid(self) -> None:
        """A token of another key, algorithm, team or form is invalid."""
        peer = self.connect()
        good = self.bearer()
        header, payload, signature = good.split(".")
        claims = {"iss": AUTHORITY.team_id, "iat": self.simulator.reactor.seconds()}
        for text in (
            "bearer x",
            f"{header}.{payload}",
            f"{header}.{payload}.{signature[::-1]}",
            f"{header}.{payload}x.{signature}",
            bearer("secret of more than thirty-two octets", "HS256", **claims),
            bearer(Authority().p8, **claims),
            bearer(key_id=None, **claims),
            bearer(key_id="ZZZZZZZZZZ", **claims),
            bearer(iat=claims["iat"]),
            bearer(iss=claims["iss"]),
            bearer(**{**claims, "iss": "ZZZZZZZZZZ"}),
            bearer(**{**claims, "iat": "now"}),
        ):
            self.present(peer, text, 403, "InvalidProviderToken")
        self.present(peer, good)

    def test_der(self) -> None:
        """A signature in DER, as pushy makes it, is as valid as one in the standard's form."""
        self.present(self.connect(), f"bearer {der_signed(AUTHORITY, int(self.simulator.reactor.seconds()))}")

    def test_other_claims(self) -> None:
        """What Apple ignores does not matter."""
        now = self.simulator.reactor.seconds()
        self.present(self.connect(), bearer(iss=AUTHORITY.team_id, iat=now, exp=1, nbf=2**40, aud="me"))

    def test_expired(self) -> None:
        """It is valid for an hour, and not a second longer, on any connection."""
        peer, authorization = self.connect(), self.bearer()
        self.present(peer, authorization)
        self.simulator.advance(TOKEN_LIFE)
        self.present(peer, authorization)
        self.simulator.advance(1)
        self.present(peer, authorization, 403, "ExpiredProviderToken")
        self.present(self.connect(), authorization, 403, "ExpiredProviderToken")

    def test_after_an_expired_one(self) -> None:
        """An expired one neither raises the limit nor counts: a valid one after it is the first."""
        peer = self.connect()
        self.present(peer, self.bearer(TOKEN_LIFE + 1), 403, "ExpiredProviderToken")
        self.assertEqual(peer.limits, [1])
        for age in (20, 10):
            self.present(peer, self.bearer(age))
        self.assertEqual(peer.limits, [1, 1_000])

    def test_limit(self) -> None:
        """The first valid one raises the limit, once."""
        peer = self.connect()
        self.assertEqual(peer.limits, [1])
        self.present(peer, "bearer a.b.c", 403, "InvalidProviderToken")
        self.assertEqual(peer.limits, [1])
        self.present(peer, self.bearer())
        self.simulator.advance(TOKEN_CHANGE)
        self.present(peer, self.bearer())
        self.assertEqual(peer.limits, [1, 1_000])

    def test_updates(self) -> None:
        """It may be replaced once in twenty minutes; a refused one leaves the one in use unchanged."""
        peer = self.connect()
        first, second, third = (self.bearer(age) for age in (30, 20, 10))
        self.present(peer, first)
        self.present(peer, second)
        for refused in (third, first):
            self.present(peer, refused, 429, "TooManyProviderTokenUpdates")
            self.present(peer, second)
        self.simulator.advance(TOKEN_CHANGE - 1)
        self.present(peer, third, 429, "TooManyProviderTokenUpdates")
        self.simulator.advance(1)
        self.present(peer, third)

    def test_expired_before_too_many(self) -> None:
        """An expired one is refused as expired, whatever was sent before."""
        peer = self.connect()
        self.present(peer, self.bearer(30))
        self.present(peer, self.bearer(20))
        self.present(peer, self.bearer(TOKEN_LIFE + 1), 403, "ExpiredProviderToken")

    def test_updates_on_other_connections(self) -> None:
        """All connections count together: a new token is an update on any of them, one in use is none on any."""
        first, second, third = (self.bearer(age) for age in (30, 20, 10))
        for authorization in first, second, first, second:
            self.present(self.connect(), authorization)
        self.present(self.connect(), third, 429, "TooManyProviderTokenUpdates")
        self.simulator.advance(TOKEN_CHANGE)
        self.present(self.connect(), third)


class ScopeTests(HTTP2Case):
    """What a signing key is valid for."""

    def under(self, key: SigningKey, **fields: Field) -> dict[str, Field]:
        """Make the fields of a request with a provider token of a key."""
        token = ProviderToken.from_p8(key.p8, key.key_id, key.team_id)
        return {"authorization": token.current(self.simulator.reactor.seconds()).value.decode(), **fields}

    def test_team(self) -> None:
        """A key is for all topics of its team, and for no other team's."""
        key, other = AUTHORITY.signing_key(), AUTHORITY.signing_key(team_id="OTHERTEAM1")
        peer = self.connect()
        for topic in (TOPIC, f"{TOPIC}.voip"):
            self.check(peer, self.under(key) | {"apns-topic": topic}, 200)
        self.check(peer, self.under(key) | {"apns-topic": "com.example.other"}, 400, "TopicDisallowed")
        self.check(self.connect(), self.under(other), 400, "TopicDisallowed")

    def test_topics(self) -> None:
        """A key for topics is for these, and those that continue them, and no others of the team."""
        key = AUTHORITY.signing_key(topics=[f"{TOPIC}.watch"])
        peer = self.connect()
        for topic in (f"{TOPIC}.watch", f"{TOPIC}.watch.complication"):
            self.check(peer, self.under(key) | {"apns-topic": topic}, 200)
        for topic in (TOPIC, f"{TOPIC}.voip", f"{TOPIC}.watchful"):
            self.check(peer, self.under(key) | {"apns-topic": topic}, 400, "TopicDisallowed")

    def test_environment(self) -> None:
        """A key for the other environment is refused, with the reason that Apple's servers send."""
        keys = {
            "production": AUTHORITY.signing_key(environment="production"),
            "sandbox": AUTHORITY.signing_key(environment="sandbox"),
        }
        for here, there in pairwise(("production", "sandbox", "production")):
            self.simulator.environment = here
            self.check(self.connect(), self.under(keys[here]), 200)
            peer = self.connect()
            self.check(peer, self.under(keys[there]), 403, "BadEnvironmentKeyInToken")
            self.assertEqual(peer.limits, [1])

    def test_first_decides(self) -> None:
        """The first valid key is the connection's; another of the team is unrelated, one of another team invalid."""
        first, second = AUTHORITY.signing_key(), AUTHORITY.signing_key()
        stranger = AUTHORITY.signing_key(team_id="OTHERTEAM1")
        peer = self.connect()
        self.check(peer, self.under(first), 200)
        self.check(peer, self.under(second), 403, "UnrelatedKeyIdInToken")
        self.check(peer, self.under(stranger), 403, "InvalidProviderToken")
        self.check(peer, self.under(first), 200)
        self.check(self.connect(), self.under(second), 200)

    def test_wrong_team(self) -> None:
        """A key under another team's name is invalid."""
        key = attrs.evolve(AUTHORITY.signing_key(), team_id="OTHERTEAM1")
        self.check(self.connect(), self.under(key), 403, "InvalidProviderToken")

    def test_client(self) -> None:
        """For the client a key for the other environment is a refused credential."""
        key = AUTHORITY.signing_key(environment="sandbox")
        client = self.simulator.client(credential=ProviderToken.from_p8(key.p8, key.key_id, key.team_id), topic=TOPIC)
        batch = self.simulator.result(client.send(Notification(alert="Hi"), [DEVICE, "ee" * 32]))
        reasons = [getattr(each.error, "reason", "") for each in batch.unsent.values()]
        reasons += [each.reason for each in batch.failed.values()]
        self.assertEqual(reasons, ["BadEnvironmentKeyInToken"] * 2)


class CertificateTests(HTTP2Case):
    """Connections with a certificate."""

    def test_no_provider_token(self) -> None:
        """They need no provider token, and ignore one; the limit is announced at once."""
        peer = self.connect(self.simulator.certificate())
        self.assertEqual(peer.limits, [1_000])
        self.check(peer, {"authorization": "bearer nonsense"}, 200)

    def test_default_topic(self) -> None:
        """A certificate for one app implies the topic; another app's topic is disallowed."""
        peer = self.connect(self.simulator.certificate())
        self.check(peer, {"apns-topic": None}, 200)
        self.check(peer, {"apns-topic": None, "apns-push-type": "voip"}, 400, "BadTopic")
        for topic in ("com.example.application", f"{TOPIC}.voip"):
            self.check(peer, {"apns-topic": topic}, 400, "TopicDisallowed")

    def test_one_listed_topic(self) -> None:
        """A list of a single topic is a list: the topic must be named, and no other is allowed."""
        peer = self.connect(Certificate.from_pem(AUTHORITY.client_pem(TOPIC, topics=[TOPIC])))
        self.check(peer, {"apns-topic": None}, 400, "MissingTopic")
        self.check(peer, {"apns-topic": f"{TOPIC}.voip"}, 400, "BadTopic")
        self.check(peer, {}, 200)

    def test_several_topics(self) -> None:
        """With a list of topics one of them must be named, related to the first or not."""
        pem = AUTHORITY.client_pem(TOPIC, topics=[TOPIC, f"{TOPIC}.voip", "com.example.other"])
        peer = self.connect(Certificate.from_pem(pem))
        self.check(peer, {"apns-topic": None}, 400, "MissingTopic")
        self.check(peer, {"apns-topic": f"{TOPIC}.complication"}, 400, "BadTopic")
        for topic in (TOPIC, f"{TOPIC}.voip", "com.example.other"):
            self.check(peer, {"apns-topic": topic}, 200)

    def test_environment(self) -> None:
        """A certificate of the other environment is refused with GOAWAY and the reason."""
        peer = self.connect(Certificate.from_pem(AUTHORITY.client_pem(TOPIC, environments=["sandbox"])))
        self.assertEqual(peer.goaways, [b'{"reason":"BadCertificateEnvironment"}'])
        self.assertIsNotNone(peer.lost)


class FieldsTests(SynchronousTestCase):
    """What is read of the header fields."""

    def test_shared(self) -> None:
        """Requests share the texts that they have in common; those that are of one request alone are not remembered."""
        fields = {"apns-topic": TOPIC, ":path": f"/3/device/{DEVICE}", "own-field": "é"}
        one, other = (
            fields_of(Request(1, [(name.encode(), value.encode("latin-1")) for name, value in fields.items()], b""))
            for _ in range(2)
        )
        self.assertEqual((one, other), (fields, fields))
        self.assertIs(one["apns-topic"], other["apns-topic"])
        self.assertIsNot(one[":path"], other[":path"])

    def test_identifier(self) -> None:
        """An identifier that the server makes is a random UUID, as the standard library makes them."""
        made = {random_identifier() for _ in range(1_000)}
        self.assertEqual(len(made), 1_000)
        for text in made:
            made_as = uuid.UUID(text)
            self.assertEqual((str(made_as), made_as.version, made_as.variant), (text, 4, uuid.RFC_4122))


class ConnectionTests(HTTP2Case):
    """Connections without valid requests."""

    def test_unannounced(self) -> None:
        """HTTP/2 is accepted, whether negotiated in the handshake or not."""
        self.check(self.connect(self.simulator.certificate(), alpn=()), {}, 200)

    def test_garbage(self) -> None:
        """Bytes that are not HTTP/2 end the connection."""
        peer = self.connect(self.simulator.certificate())
        peer.transport.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
        self.simulator.flush()
        self.assertIsNotNone(peer.lost)
