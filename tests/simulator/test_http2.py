"""Tests for :mod:`txapns.simulator.http2`, with a peer that writes any request."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.simulator.peers import (
    AUTHORITY,
    DEAD_DEVICE,
    DEVICE,
    GOOD,
    ID,
    TOPIC,
    Field,
    HTTP2Case,
)
from txapns.credentials import Certificate
from txapns.devices.push import SUFFIXES
from txapns.devices.rules import RULES
from txapns.devices.rules.refusal import Refusal
from txapns.simulator.requests import TOKEN_LIFE, Response

__all__ = ["AnswerTests", "FieldTests", "OrderTests"]


#: The reasons for what is wrong with a push, and not with the connection or the form of the request.
ASKED = {rule.answer.reason for rule in RULES.values() if isinstance(rule, Refusal)} - {"BadMessageId"}


class OrderTests(HTTP2Case):
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
            ({":path": "/3/device/" + DEAD_DEVICE}, 410, "Unregistered"),
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
        """Each fault has its response, and if it is in what is asked for, it is found later on, before all others."""
        for fields, status, reason in self.faults():
            self.check(self.peer, {**self.good, **fields}, status, reason)
            if reason in ASKED:
                self.simulator.phones.judge()
                verdict = self.simulator.inbox.received[-1].verdict
                assert verdict is not None
                refusals = [rule for each in verdict.findings if isinstance(rule := RULES[each.code], Refusal)]
                self.assertEqual(refusals[0].answer.reason, reason, fields)

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


class FieldTests(HTTP2Case):
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
        """Each push type requires its topic, some a provider token, and only the known lower-case names are valid."""
        peer = self.connect()
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
            fields = {"apns-push-type": push_type, "authorization": self.bearer()}
            self.check(peer, {**fields, "apns-topic": topic}, 200)
            if topic != TOPIC:
                self.check(peer, fields, 400, "BadTopic")
            refused = (400, "TopicDisallowed") if push_type in ("location", "liveactivity") else (200, "")
            self.check(self.peer, {**fields, "apns-topic": topic}, *refused)
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


class AnswerTests(HTTP2Case):
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
