"""Tests for :mod:`txapns.simulator.http2`, with a peer that writes any request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import jwt
import ngh2
from ngh2 import Setting
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.credentials.test_bearer import der_signed
from txapns._network.tls import ClientContextFactory
from txapns.credentials import Certificate, ProviderToken
from txapns.notification import Notification
from txapns.simulator.authority import Authority, SigningKey
from txapns.simulator.devices import Reception
from txapns.simulator.requests import SUFFIXES, TOKEN_CHANGE, TOKEN_LIFE, Response
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

AUTHORITY = Authority()
TOKEN = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
PORT = 2197
TOPIC = "com.example.app"
DEVICE, DEAD = "ab" * 32, "dd" * 32
ID = "123e4567-e89b-12d3-a456-426655440000"

#: What stands in a request: a text, several for a field that is repeated, or ``None`` for none.
Field = str | tuple[str, ...] | None

GOOD: dict[str, Field] = {
    ":method": "POST",
    ":scheme": "https",
    ":authority": "localhost",
    ":path": f"/3/device/{DEVICE}",
    "apns-topic": TOPIC,
    "body": '{"aps":{"alert":"Hi"}}',
}


def bearer(
    key: str | bytes = AUTHORITY.p8, algorithm: str = "ES256", key_id: str | None = AUTHORITY.key_id, **claims: Any
) -> str:
    """Sign a provider token with exactly these claims, right or wrong."""
    return "bearer " + jwt.encode(claims, key, algorithm, {} if key_id is None else {"kid": key_id})


@implementer(IHandshakeListener)
class Peer(Protocol):
    """A provider that sends anything, and records every response."""

    def __init__(self) -> None:
        self.lost: Failure | None = None
        self.limits: list[int] = []
        self.goaways: list[bytes] = []
        self.answers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT)

    def handshakeCompleted(self) -> None:
        """Begin the connection."""
        self._h2.initiate_connection({Setting.ENABLE_PUSH: 0})
        self._write()

    def dataReceived(self, data: bytes) -> None:
        """Record the events."""
        self._h2.receive_data(data)
        for event in self._h2.events():
            if isinstance(event, ngh2.ResponseReceived):
                self.answers[event.stream_id] = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, ngh2.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, ngh2.SettingsReceived) and Setting.MAX_CONCURRENT_STREAMS in event.settings:
                self.limits.append(event.settings[Setting.MAX_CONCURRENT_STREAMS])
            elif isinstance(event, ngh2.GoAwayReceived):
                self.goaways.append(event.debug_data)
        self._write()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record how the connection ended."""
        self.lost = reason

    def send(self, fields: Mapping[str, Field]) -> int:
        """Send a request; returns its stream."""
        headers = [
            (name.encode(), text.encode())
            for name, value in fields.items()
            for text in ((value,) if isinstance(value, str) else value or ())
            if name != "body"
        ]
        body = fields.get("body")
        stream = self._h2.send_request(headers, end_stream=body is None)
        if body is not None:
            self._h2.send_data(stream, str(body).encode(), end_stream=True)
        self._write()
        return stream

    def _write(self) -> None:
        assert self.transport is not None
        self.transport.write(self._h2.data_to_send())


class ServerCase(SynchronousTestCase):
    """A simulator in memory, one of whose tokens is dead."""

    def setUp(self) -> None:
        """Make a simulator, whose clock shows some hour."""
        self.simulator = MemorySimulator(authority=AUTHORITY, dead=[DEAD])
        self.simulator.advance(100_000)

    def connect(
        self, certificate: Certificate | None = None, alpn: Sequence[bytes] = (b"h2",), port: int = PORT
    ) -> Peer:
        """Connect over TLS; without a certificate each request needs a provider token."""
        peer = Peer()
        context = ClientContextFactory("127.0.0.1", certificate, AUTHORITY.ca_pem, alpn)
        factory = ClientFactory.forProtocol(lambda: peer)
        reactor = self.simulator.reactor
        reactor.connectTCP("127.0.0.1", port, TLSMemoryBIOFactory(context, True, factory, reactor))
        self.simulator.flush()
        return peer

    def bearer(self, age: float = 0) -> str:
        """Make a provider token of an age, in seconds."""
        return "bearer " + TOKEN.sign(int(self.simulator.reactor.seconds() - age))

    def ask(self, peer: Peer, fields: Mapping[str, Field]) -> tuple[int, str]:
        """Send a valid request with these fields changed; returns status and reason."""
        stream = peer.send({**GOOD, **fields})
        self.simulator.flush()
        reason = json.loads(peer.bodies[stream])["reason"] if stream in peer.bodies else ""
        return int(peer.answers[stream][":status"]), reason

    def check(self, peer: Peer, fields: Mapping[str, Field], status: int, reason: str = "") -> None:
        """Compare the response."""
        self.assertEqual(self.ask(peer, fields), (status, reason), fields)


class OrderTests(ServerCase):
    """The order of the checks."""

    def faults(self) -> list[tuple[dict[str, Field], int, str]]:
        """The faults and their responses; the earlier one wins."""
        return [
            ({"apns-collapse-id": ("a", "b")}, 400, "DuplicateHeaders"),
            ({"apns-id": ID[1:]}, 400, "BadMessageId"),
            ({":method": "GET"}, 405, "MethodNotAllowed"),
            ({":path": "/4/device/" + DEVICE}, 404, "BadPath"),
            ({"authorization": None}, 403, "MissingProviderToken"),
            ({"authorization": "bearer a.b.c"}, 403, "InvalidProviderToken"),
            ({"authorization": self.bearer(TOKEN_LIFE + 1)}, 403, "ExpiredProviderToken"),
            ({"authorization": self.bearer(30)}, 429, "TooManyProviderTokenUpdates"),
            ({"apns-topic": None}, 400, "MissingTopic"),
            ({"apns-topic": "com example"}, 400, "BadTopic"),
            ({"apns-topic": "com.example.other"}, 400, "TopicDisallowed"),
            ({"apns-push-type": "Alert"}, 400, "InvalidPushType"),
            ({"apns-push-type": "voip"}, 400, "BadTopic"),
            ({"apns-priority": "7"}, 400, "BadPriority"),
            ({"apns-expiration": "1.5"}, 400, "BadExpirationDate"),
            ({"apns-collapse-id": "x" * 65}, 400, "BadCollapseId"),
            ({":path": "/3/device/"}, 400, "MissingDeviceToken"),
            ({":path": "/3/device/xyz"}, 400, "BadDeviceToken"),
            ({":path": "/3/device/" + DEAD}, 410, "Unregistered"),
            ({"body": ""}, 400, "PayloadEmpty"),
            ({"body": "x" * 4_097}, 413, "PayloadTooLarge"),
            ({"body": "[]"}, 400, "PayloadEmpty"),
        ]

    def setUp(self) -> None:
        """A connection has just replaced its provider token, so another replacement is too early."""
        super().setUp()
        self.peer = self.connect()
        self.check(self.peer, {"authorization": self.bearer(20)}, 200)
        self.good: dict[str, Field] = {"authorization": self.bearer(10)}
        self.check(self.peer, self.good, 200)

    def test_alone(self) -> None:
        """Each fault has its response."""
        for fields, status, reason in self.faults():
            self.check(self.peer, {**self.good, **fields}, status, reason)

    def test_first(self) -> None:
        """The first fault determines the response, whatever else is wrong."""
        request = self.good
        for fields, status, reason in reversed(self.faults()):
            request = {**request, **fields}
            self.check(self.peer, request, status, reason)

    def test_none(self) -> None:
        """Without a fault the request is accepted, on the connection that had all of them."""
        self.test_alone()
        self.check(self.peer, {**self.good, "apns-id": ID, "apns-expiration": "0", "apns-collapse-id": "x" * 64}, 200)


class FieldTests(ServerCase):
    """Valid header fields and payloads."""

    def setUp(self) -> None:
        """Make a connection with a certificate for all push types."""
        super().setUp()
        pem = AUTHORITY.client_pem(TOPIC, topics=[TOPIC, *(TOPIC + suffix for suffix in SUFFIXES.values())])
        self.peer = self.connect(Certificate.from_pem(pem))

    def test_message_id(self) -> None:
        """A UUID is accepted in either case, but only in its usual form."""
        for text in (ID, ID.upper()):
            self.check(self.peer, {"apns-id": text}, 200)
        for text in ("", ID.replace("-", ""), f"{{{ID}}}", "x" * 36):
            self.check(self.peer, {"apns-id": text}, 400, "BadMessageId")

    def test_priority(self) -> None:
        """The default is 10, which is wrong for background notifications."""
        for priority in ("1", "5", "10", None):
            self.check(self.peer, {"apns-priority": priority}, 200)
        for priority in ("", "0", "05", "high"):
            self.check(self.peer, {"apns-priority": priority}, 400, "BadPriority")
        for priority in ("1", "5"):
            self.check(self.peer, {"apns-push-type": "background", "apns-priority": priority}, 200)
        for priority in ("10", None):
            self.check(self.peer, {"apns-push-type": "background", "apns-priority": priority}, 400, "BadPriority")

    def test_push_types(self) -> None:
        """Each push type requires its topic, and only the known lower-case names are valid."""
        for push_type, topic in (
            ("alert", TOPIC),
            ("mdm", TOPIC),
            ("location", f"{TOPIC}.location-query"),
            ("voip", f"{TOPIC}.voip"),
            ("complication", f"{TOPIC}.complication"),
            ("fileprovider", f"{TOPIC}.pushkit.fileprovider"),
            ("liveactivity", f"{TOPIC}.push-type.liveactivity"),
            ("pushtotalk", f"{TOPIC}.voip-ptt"),
            ("widgets", f"{TOPIC}.push-type.widgets"),
            ("controls", f"{TOPIC}.push-type.controls"),
        ):
            self.check(self.peer, {"apns-push-type": push_type, "apns-topic": topic}, 200)
            if topic != TOPIC:
                self.check(self.peer, {"apns-push-type": push_type}, 400, "BadTopic")
        for push_type in ("", "telepathy", "Alert", "VOIP", "Background"):
            self.check(self.peer, {"apns-push-type": push_type}, 400, "InvalidPushType")

    def test_expiration(self) -> None:
        """It is a decimal number of seconds."""
        self.check(self.peer, {"apns-expiration": "1700000000"}, 200)
        for text in ("", "-1", "1e9", "١"):
            self.check(self.peer, {"apns-expiration": text}, 400, "BadExpirationDate")

    def test_collapse_id(self) -> None:
        """Its length is measured in bytes."""
        self.check(self.peer, {"apns-collapse-id": "ü" * 32}, 200)
        self.check(self.peer, {"apns-collapse-id": "ü" * 33}, 400, "BadCollapseId")

    def test_device_token(self) -> None:
        """It has 32 to 100 bytes."""
        for size in (32, 80, 100):
            self.check(self.peer, {":path": "/3/device/" + "Ab" * size}, 200)
        for text in ("ab" * 31, "ab" * 101, "ab" * 32 + "a", "ab" * 32 + "/"):
            self.check(self.peer, {":path": f"/3/device/{text}"}, 400, "BadDeviceToken")

    def test_payload(self) -> None:
        """It is a JSON object of at most 4,096 bytes, or 5,120 for a call."""
        voip = {"apns-push-type": "voip", "apns-topic": f"{TOPIC}.voip"}
        for size, fields in ((4_096, {}), (5_120, voip)):
            self.check(self.peer, {**fields, "body": '{"a":"' + "x" * (size - 8) + '"}'}, 200)
            self.check(self.peer, {**fields, "body": "x" * (size + 1)}, 413, "PayloadTooLarge")
        for text in ("Hi", "1", '"{}"', "[" * 2_000):
            self.check(self.peer, {"body": text}, 400, "PayloadEmpty")


class AnswerTests(ServerCase):
    """Responses."""

    def answer(self, fields: Mapping[str, Field] = {}) -> dict[str, str]:
        """Send a request over a connection with a certificate; returns the response's header fields."""
        peer = self.connect(self.simulator.certificate())
        stream = peer.send({**GOOD, **fields})
        self.simulator.flush()
        return peer.answers[stream]

    def test_accepted(self) -> None:
        """The response to an accepted request has its identifier, and nothing more."""
        self.assertEqual(self.answer({"apns-id": ID}), {":status": "200", "apns-id": ID})

    def test_rejected(self) -> None:
        """The response to a rejected request has its reason in JSON."""
        answer = self.answer({"apns-id": ID, "apns-priority": "7"})
        self.assertEqual(answer, {":status": "400", "apns-id": ID, "content-type": "application/json"})

    def test_made_up_identifier(self) -> None:
        """Without an identifier, or with a malformed one, a request gets a new one."""
        for fields in ({}, {"apns-id": "mine"}):
            self.assertRegex(self.answer(fields)["apns-id"], r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

    def test_sandbox(self) -> None:
        """In the sandbox an accepted request gets a second identifier."""
        self.simulator.environment = "sandbox"
        self.assertIn("apns-unique-id", self.answer())
        self.assertNotIn("apns-unique-id", self.answer({"apns-priority": "7"}))

    def test_timestamp(self) -> None:
        """A 410 says since when the token is dead, in milliseconds."""
        self.assertEqual(
            json.loads(Response(410, "Unregistered", 1_700_000_000.5).body()),
            {"reason": "Unregistered", "timestamp": 1_700_000_000_500},
        )

    def test_delay(self) -> None:
        """Responses are delayed, also if several are under way."""
        self.simulator.delay = 1.0
        peer = self.connect(self.simulator.certificate())
        first = peer.send(GOOD)
        self.simulator.advance(0.5)
        second = peer.send(GOOD)
        self.simulator.advance(0.5)
        self.assertEqual(list(peer.answers), [first])
        self.simulator.advance(0.5)
        self.assertEqual(list(peer.answers), [first, second])

    def test_delay_ends_with_the_connection(self) -> None:
        """When the connection ends, pending responses are dropped, and no timer is left."""
        self.simulator.delay = 1.0
        peer = self.connect(self.simulator.certificate())
        for _ in range(2):
            peer.send(GOOD)
            self.simulator.advance(0.1)
        self.assertEqual(len(self.simulator.reactor.getDelayedCalls()), 2)
        peer.transport.loseConnection()
        self.simulator.flush()
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])
        self.assertEqual(self.simulator.counters()["received"], 0)


class ProviderTokenTests(ServerCase):
    """Connections without a certificate."""

    def present(self, peer: Peer, authorization: str, status: int = 200, reason: str = "") -> None:
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

    def test_per_connection(self) -> None:
        """Each connection counts for itself."""
        for age in (30, 20, 10):
            self.present(self.connect(), self.bearer(age))


class ScopeTests(ServerCase):
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


class EnvironmentTests(ServerCase):
    """Device tokens of one environment."""

    def test_other_environment(self) -> None:
        """A token of the other environment is invalid, over either protocol; in its own it is valid."""
        self.simulator.devices.environments[bytes.fromhex(DEVICE)] = "sandbox"
        peer = self.connect(self.simulator.certificate())
        self.check(peer, {}, 400, "BadDeviceToken")
        self.check(peer, {":path": "/3/device/" + "ef" * 32}, 200)
        gateway = self.simulator.gateway("binary", barrier=True)
        send = self.simulator.client(gateway).send(Notification(alert="Hi"), [DEVICE])
        self.assertEqual([each.reason for each in self.simulator.result(send).failed.values()], ["InvalidToken"])
        self.simulator.environment = "sandbox"
        self.check(self.connect(self.simulator.certificate()), {}, 200)


class CertificateTests(ServerCase):
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


class ConnectionTests(ServerCase):
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


class SecretTests(SynchronousTestCase):
    """What may be logged."""

    def test_repr(self) -> None:
        """The repr of a request and of its record shows no device token, provider token or payload."""
        headers = {":path": f"/3/device/{DEVICE}", "authorization": "bearer secret"}
        request = Request(1, [(name.encode(), value.encode()) for name, value in headers.items()], b"secret")
        self.assertEqual(repr(request), "Request(stream=1, headers=<2 fields>, body=<6 bytes>)")
        reception = Reception("http2", bytes.fromhex(DEVICE), b"secret", headers, None)
        self.assertEqual(
            repr(reception),
            "Reception(protocol='http2', token=abab…abab, payload=<6 bytes>, headers=<2 fields>, reason=None)",
        )
