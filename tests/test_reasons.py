"""Tests for :mod:`txapns.reasons`."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns import reasons
from txapns.reasons import Action, Reason, Status, action, status_name, text

# The status bytes of the binary protocol, with what a sender does with the notification that the packet names.
STATUSES = {
    0: ("NoError", Action.RECONNECT),
    1: ("ProcessingError", Action.RETRY),
    2: ("MissingDeviceToken", Action.FIX),
    3: ("MissingTopic", Action.CREDENTIAL),
    4: ("MissingPayload", Action.FIX),
    5: ("InvalidTokenSize", Action.FIX),
    6: ("InvalidTopicSize", Action.CREDENTIAL),
    7: ("InvalidPayloadSize", Action.FIX),
    8: ("InvalidToken", Action.DROP),
    10: ("Shutdown", Action.RECONNECT),
    128: ("ProtocolError", Action.FIX),
    255: ("Unknown", Action.RETRY),
}

# Apple's table of responses to a notification.
NOTIFICATION_REASONS = {
    (400, "BadCollapseId"): Action.FIX,
    (400, "BadDeviceToken"): Action.FIX,
    (400, "BadExpirationDate"): Action.FIX,
    (400, "BadMessageId"): Action.FIX,
    (400, "BadPriority"): Action.FIX,
    (400, "BadTopic"): Action.FIX,
    (400, "DeviceTokenNotForTopic"): Action.FIX,
    (400, "DuplicateHeaders"): Action.FIX,
    (400, "IdleTimeout"): Action.RECONNECT,
    (400, "InvalidPushType"): Action.FIX,
    (400, "MissingDeviceToken"): Action.FIX,
    (400, "MissingTopic"): Action.FIX,
    (400, "PayloadEmpty"): Action.FIX,
    (400, "TopicDisallowed"): Action.FIX,
    (403, "BadCertificate"): Action.CREDENTIAL,
    (403, "BadCertificateEnvironment"): Action.CREDENTIAL,
    (403, "ExpiredProviderToken"): Action.RENEW,
    (403, "Forbidden"): Action.FIX,
    (403, "InvalidProviderToken"): Action.CREDENTIAL,
    (403, "MissingProviderToken"): Action.CREDENTIAL,
    (403, "UnrelatedKeyIdInToken"): Action.RECONNECT,
    (403, "BadEnvironmentKeyIdInToken"): Action.CREDENTIAL,
    (403, "BadEnvironmentKeyInToken"): Action.CREDENTIAL,
    (404, "BadPath"): Action.FIX,
    (405, "MethodNotAllowed"): Action.FIX,
    (410, "ExpiredToken"): Action.DROP,
    (410, "Unregistered"): Action.DROP,
    (413, "PayloadTooLarge"): Action.FIX,
    (429, "TooManyProviderTokenUpdates"): Action.RETRY,
    (429, "TooManyRequests"): Action.RETRY,
    (500, "InternalServerError"): Action.RETRY,
    (503, "ServiceUnavailable"): Action.RETRY,
    (503, "Shutdown"): Action.RECONNECT,
}

# What its table for broadcasts and channels adds.
CHANNEL_REASONS = {
    (400, "BadChannelId"): Action.FIX,
    (400, "BadRequestParams"): Action.FIX,
    (400, "BadRequestPayload"): Action.FIX,
    (400, "CannotCreateChannelConfig"): Action.FIX,
    (400, "ChannelNotRegistered"): Action.DROP,
    (400, "FeatureNotEnabled"): Action.FIX,
    (400, "MissingChannelId"): Action.FIX,
    (400, "MissingChannelQueueSize"): Action.FIX,
    (400, "MissingPushType"): Action.FIX,
    (403, "TopicMismatch"): Action.FIX,
    (503, "Service Unavailable"): Action.RETRY,
}

REASONS = {**NOTIFICATION_REASONS, **CHANNEL_REASONS}


class StatusTests(SynchronousTestCase):
    """The status bytes of the binary protocol."""

    def test_names(self) -> None:
        """Every assigned byte has its name."""
        self.assertEqual(
            {int(status): status_name(status) for status in Status}, {n: row[0] for n, row in STATUSES.items()}
        )

    def test_unassigned_names(self) -> None:
        """Every other byte is named by its number."""
        unassigned = set(range(256)) - STATUSES.keys()
        self.assertEqual({n: status_name(n) for n in unassigned}, {n: f"Status{n}" for n in unassigned})

    def test_actions(self) -> None:
        """Every assigned byte has its action."""
        self.assertEqual(
            {n: action(n, name) for n, (name, _) in STATUSES.items()}, {n: row[1] for n, row in STATUSES.items()}
        )

    def test_unassigned_actions(self) -> None:
        """Every other byte is treated like 255, unknown, including those that could be an HTTP status."""
        unassigned = set(range(256)) - STATUSES.keys()
        self.assertEqual({action(n, status_name(n)) for n in unassigned}, {Action.RETRY})

    def test_number_alone(self) -> None:
        """A byte that cannot be an HTTP status needs no name."""
        self.assertEqual((action(8, ""), text(8, "")), (Action.DROP, Status.INVALID_TOKEN.text))


class ReasonTests(SynchronousTestCase):
    """The reasons of the provider API."""

    def test_every_reason_is_listed(self) -> None:
        """The enumeration holds Apple's reasons and the variants seen, no more."""
        self.assertEqual(sorted(Reason), sorted(reason for _, reason in REASONS))

    def test_actions(self) -> None:
        """Every reason has its action."""
        self.assertEqual({answer: action(*answer) for answer in REASONS}, REASONS)

    def test_without_status(self) -> None:
        """In a GOAWAY the reason comes without a status and means the same."""
        self.assertEqual({answer: action(0, answer[1]) for answer in REASONS}, REASONS)

    def test_compares_as_text(self) -> None:
        """A member is its own text: in comparisons, look-ups, strings and formats."""
        self.assertEqual(Reason.BAD_TOPIC, "BadTopic")
        self.assertIs(Reason("BadTopic"), Reason.BAD_TOPIC)
        self.assertEqual([str(Reason.BAD_TOPIC), f"{Reason.BAD_TOPIC}"], ["BadTopic"] * 2)

    def test_pickle(self) -> None:
        """Members of either table survive pickling as themselves."""
        members = [*Reason, *Status]
        for member, copy in zip(members, pickle.loads(pickle.dumps(members)), strict=True):
            self.assertIs(copy, member)


class BothProtocolsTests(SynchronousTestCase):
    """One pair of functions serves both protocols."""

    def test_same_name_other_fault(self) -> None:
        """MissingTopic is the certificate's fault in one protocol and the request's in the other."""
        self.assertEqual([action(3, "MissingTopic"), action(400, "MissingTopic")], [Action.CREDENTIAL, Action.FIX])
        self.assertEqual(
            [text(3, "MissingTopic"), text(400, "MissingTopic")], [Status.MISSING_TOPIC.text, Reason.MISSING_TOPIC.text]
        )

    def test_unknown_reason_by_class(self) -> None:
        """For a reason that is not listed, the class of the HTTP status decides."""
        expected = {
            200: Action.RETRY,
            255: Action.RETRY,
            302: Action.RETRY,
            400: Action.FIX,
            407: Action.FIX,
            410: Action.DROP,
            429: Action.RETRY,
            499: Action.FIX,
            500: Action.RETRY,
            502: Action.RETRY,
            599: Action.RETRY,
        }
        self.assertEqual({status: action(status, "NewReason") for status in expected}, expected)
        self.assertEqual({status: action(status, "") for status in expected}, expected)

    @given(st.integers(), st.text())
    def test_anything_has_an_action_and_a_text(self, status: int, reason: str) -> None:
        """Any answer of a gateway or proxy has an action and a text."""
        self.assertIsInstance(action(status, reason), Action)
        self.assertTrue(text(status, reason).endswith("."))


class TextTests(SynchronousTestCase):
    """The sentences for people."""

    def test_known(self) -> None:
        """Every status and every reason has one, which says what happened and what to do."""
        sentences = [text(n, name) for n, (name, _) in STATUSES.items()] + [text(*answer) for answer in REASONS]
        self.assertEqual([sentence for sentence in sentences if "; " not in sentence or sentence[-1] != "."], [])

    def test_unknown_is_quoted(self) -> None:
        """A reason that is not listed is quoted safely for a terminal, so that it can be looked up."""
        self.assertEqual(
            text(400, "New\x1b[2JReason"),
            "The gateway answered 400 with the unlisted reason 'New\\x1b[2JReason'. "
            "Correct the request or the configuration before sending it again.",
        )

    def test_no_reason(self) -> None:
        """For an answer without a reason, as from a proxy, the text says so."""
        self.assertEqual(
            text(502, ""), "The gateway answered 502 with no reason. Send it again later, waiting longer each time."
        )

    def test_unknown_410(self) -> None:
        """With any reason, 410 is about the device token."""
        self.assertIn("Delete the device token.", text(410, "Gone"))


class NamesTests(SynchronousTestCase):
    """The public names of the module."""

    def test_all(self) -> None:
        """The public names are exact."""
        public = [name for name, value in vars(reasons).items() if getattr(value, "__module__", "") == reasons.__name__]
        self.assertEqual(sorted(name for name in public if name[0] != "_"), sorted(reasons.__all__))
