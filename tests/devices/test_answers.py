"""Tests for :mod:`txapns.devices.answers`."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txapns.devices import Activity, ActivityState, Answer, Credential, Device, Push, TokenKind, answer
from txapns.devices.push import SUFFIXES
from txapns.devices.rules.refusal import ACCEPTED

__all__ = ["AnswerTests", "CredentialTests", "DeviceTests"]

TOPIC, TOKEN = "com.example.app", "ab" * 32
GOOD = {"apns-topic": TOPIC, "apns-push-type": "alert"}
PROVIDER_TOKEN = Credential((TOPIC,))

#: Each fault, in the order of the checks: header fields, what else differs from a good push, the answer.
FAULTS: list[tuple[dict[str, str], dict[str, Any], Answer]] = [
    ({"apns-id": "7"}, {}, Answer(400, "BadMessageId")),
    ({"apns-topic": "com example"}, {}, Answer(400, "BadTopic")),
    ({"apns-topic": "com.other"}, {}, Answer(400, "TopicDisallowed")),
    ({"apns-push-type": "Alert"}, {}, Answer(400, "InvalidPushType")),
    ({"apns-push-type": "voip"}, {}, Answer(400, "BadTopic")),
    ({"apns-priority": "7"}, {}, Answer(400, "BadPriority")),
    ({"apns-expiration": "1.5"}, {}, Answer(400, "BadExpirationDate")),
    ({"apns-collapse-id": "x" * 65}, {}, Answer(400, "BadCollapseId")),
    ({}, {"token": ""}, Answer(400, "MissingDeviceToken")),
    ({}, {"token": "ab" * 31}, Answer(400, "BadDeviceToken")),
    ({}, {"token": "xyz"}, Answer(400, "BadDeviceToken")),
    ({}, {"environment": "sandbox"}, Answer(400, "BadDeviceToken")),
    ({}, {"removed_since": 7.0}, Answer(410, "Unregistered", 7.0)),
    ({}, {"topic": "com.example"}, Answer(400, "DeviceTokenNotForTopic")),
    ({}, {"token_kind": TokenKind.VOIP}, Answer(400, "DeviceTokenNotForTopic")),
    ({}, {"payload": b""}, Answer(400, "PayloadEmpty")),
    ({}, {"payload": b"x" * 4_097}, Answer(413, "PayloadTooLarge")),
    ({}, {"payload": b"[]"}, Answer(400, "PayloadEmpty")),
]


def ask(fields: dict[str, str], other: dict[str, Any]) -> Answer:
    """Find the answer to a good push with faults, sent in production."""
    other = dict(other)
    payload, token = other.pop("payload", b"{}"), other.pop("token", TOKEN)
    return answer(Push({**GOOD, **fields}, payload, token), Device(**other), PROVIDER_TOKEN, "production")


class AnswerTests(SynchronousTestCase):
    """Faults and their answers."""

    def test_none(self) -> None:
        """A good push is accepted."""
        self.assertEqual(ask({}, {}), ACCEPTED)
        self.assertTrue(ACCEPTED.is_success)

    def test_alone(self) -> None:
        """Each fault has its answer."""
        for fields, other, expected in FAULTS:
            self.assertEqual(ask(fields, other), expected)

    def test_first(self) -> None:
        """Of two faults, the first one determines the answer."""
        for (first, others, expected), (second, more, _) in combinations(FAULTS, 2):
            if not {**first, **others}.keys() & {**second, **more}.keys():
                self.assertEqual(ask({**first, **second}, {**others, **more}), expected)

    def test_priority(self) -> None:
        """A background push must say that it is not urgent."""
        for priority, expected in ({"apns-priority": "5"}, ACCEPTED), ({}, Answer(400, "BadPriority")):
            self.assertEqual(ask({"apns-push-type": "background", **priority}, {}), expected)

    def test_size(self) -> None:
        """A VoIP push may be longer than others, and both may be exactly as long as is allowed."""
        for push_type, most in (("alert", 4_096), ("voip", 5_120)):
            fields = {"apns-push-type": push_type, "apns-topic": TOPIC + SUFFIXES.get(push_type, "")}
            for length, expected in (most, ACCEPTED), (most + 1, Answer(413, "PayloadTooLarge")):
                payload = b'{"a":"' + b"x" * (length - 8) + b'"}'
                self.assertEqual(ask(fields, {"payload": payload}), expected)


class CredentialTests(SynchronousTestCase):
    """What a credential is for."""

    def ask(self, topic: str | None, credential: Credential | None) -> str:
        """Find the reason for a topic and a credential."""
        fields = {"apns-push-type": "alert"} if topic is None else {"apns-push-type": "alert", "apns-topic": topic}
        return answer(Push(fields, b"{}", TOKEN), Device(), credential).reason

    def test_provider_token(self) -> None:
        """A provider token is for the topics that continue its own, and each push must name one."""
        for topic, reason in (
            (TOPIC, ""),
            (f"{TOPIC}.other", ""),
            (f"{TOPIC}2", "TopicDisallowed"),
            ("", "BadTopic"),
            (None, "MissingTopic"),
        ):
            self.assertEqual(self.ask(topic, PROVIDER_TOKEN), reason)

    def test_certificate(self) -> None:
        """A certificate is for its topics only; if it lists them, a push must name one."""
        for listed, reasons in (False, ["", "TopicDisallowed", ""]), (True, ["", "BadTopic", "MissingTopic"]):
            credential = Credential((TOPIC,), is_certificate=True, listed=listed)
            self.assertEqual([self.ask(topic, credential) for topic in (TOPIC, f"{TOPIC}.b", None)], reasons)

    def test_default_topic(self) -> None:
        """Where no topic is named, the certificate's has to fit the push type."""
        credential = Credential((TOPIC,), is_certificate=True)
        push = Push({"apns-push-type": "voip"}, b"{}", TOKEN)
        self.assertEqual(answer(push, Device(), credential).reason, "BadTopic")

    def test_unknown(self) -> None:
        """A credential of which nothing is known is for every topic."""
        self.assertEqual(self.ask("any", None), "")
        self.assertEqual(self.ask(None, None), "MissingTopic")


class DeviceTests(SynchronousTestCase):
    """What depends on the device."""

    def test_kinds(self) -> None:
        """Every push type has tokens of its own kind; where the kind is not known, every push fits."""
        kinds = {"alert": TokenKind.APP, "background": TokenKind.APP, "liveactivity": TokenKind.PUSH_TO_START}
        for push_type in ("alert", "background", "mdm", *SUFFIXES):
            fields = {
                "apns-push-type": push_type,
                "apns-topic": TOPIC + SUFFIXES.get(push_type, ""),
                "apns-priority": "5",
            }
            kind = kinds.get(push_type) or TokenKind(push_type)
            for device, fits in (
                (Device(), True),
                (Device(token_kind=kind, topic=TOPIC), True),
                (Device(token_kind=TokenKind.APP if kind is not TokenKind.APP else TokenKind.VOIP), False),
            ):
                self.assertEqual(answer(Push(fields, b"{}", TOKEN), device).is_success, fits)

    def test_topic(self) -> None:
        """Without a push type, any topic of the app fits."""
        device = Device(topic=TOPIC)
        for topic, fits in (TOPIC, True), (f"{TOPIC}.voip", True), (f"{TOPIC}.other", False):
            self.assertEqual(answer(Push({"apns-topic": topic}, b"{}", TOKEN), device).is_success, fits)

    def test_activity(self) -> None:
        """The token of a Live Activity is dead once it is dismissed."""
        activity = Activity(number=1, kind="Match", started=0, timestamp=0, ends_at=9, token=TOKEN)
        gone = Activity(1, "Match", 0, 0, 9, token=TOKEN, state=ActivityState.DISMISSED, dismissed_at=5.0)
        push = Push(GOOD, b"{}", TOKEN)
        self.assertEqual(answer(push, Device(activities=(activity,))), ACCEPTED)
        self.assertEqual(answer(push, Device(activities=(gone,))), Answer(410, "Unregistered", 5.0))
