"""
Notifications: accepting them, their outcomes, and the dead tokens.

::

    POST /v1/apps/<app>/notifications              accept notifications: 202 and their ids, once they are on the disk
    GET  /v1/notifications/<id>                    the outcome of one
    GET  /v1/apps/<app>/feedback?after=&limit=     the dead tokens, by cursor

A payload is not decoded and encoded again: Apple gets the bytes that the caller wrote.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred

from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema, parameter
from txapns.daemon.errors import Malformed, NotAllowed
from txapns.daemon.faces.native.json_api import (
    ENVIRONMENTS,
    AskedEnvironment,
    encode,
    fault,
    json_body,
    page,
    parameters,
)
from txapns.daemon.faces.native.openapi import PAGING
from txapns.daemon.faces.native.submissions import (
    IDEMPOTENCY_KEY,
    LANES,
    NUMBER,
    PREFER,
    TEXT,
    UUID,
    OutcomeBody,
    Rate,
    Submission,
    ValidBody,
    digits,
    idempotency,
    outcome_bodies,
    outcome_body,
    patience,
    valid_body,
)
from txapns.daemon.intake import MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IOutcomeLog
from txapns.daemon.values import Caller, Draft, FeedbackEntry, Lane, Outcome, Receipt

__all__ = ["EXTRAS", "ID", "OPERATIONS", "NotificationOperations"]

_ID = re.compile(UUID)

#: The parameter in a path that names a notification.
ID = parameter("id", "path", "The notification's apns-id.", type="string", pattern=f"^{UUID}$")

_HEADERS = {
    "type": "object",
    "description": "Apple's header fields. The expiration is in UNIX seconds; an apns-id is for one token only.",
    "properties": {
        "apns-topic": TEXT,
        "apns-push-type": TEXT,
        "apns-priority": NUMBER,
        "apns-expiration": NUMBER,
        "apns-collapse-id": TEXT,
        "apns-id": {"type": "string", "pattern": f"^{UUID.replace('a-f', 'a-fA-F')}$"},
    },
    "additionalProperties": False,
    "default": {},
}
_Token = Annotated[
    str,
    Meta(
        description="A device token, in hexadecimal.",
        extra_json_schema={"pattern": "^([0-9a-fA-F]{2})+$", "maxLength": 2 * MAX_TOKEN, "examples": ["ab" * 32]},
    ),
]


# Bodies of requests.


class _Notification(Struct, forbid_unknown_fields=True):
    """One payload, for one device or more."""

    tokens: Annotated[list[_Token], Meta(description="The devices.", extra_json_schema={"minItems": 1})]
    payload: Annotated[Raw, Meta(description="What Apple gets, byte for byte.", extra_json_schema={"type": "object"})]
    headers: dict[str, str | int | float] = {}
    environment: AskedEnvironment | UnsetType = UNSET


class _Notifications(Submission, forbid_unknown_fields=True, kw_only=True):
    """A request to accept notifications."""

    notifications: Annotated[list[_Notification], Meta(extra_json_schema={"minItems": 1})]
    rate: Rate | UnsetType = UNSET


# Bodies of answers.


class _Accepted(Struct):
    """What was accepted of one notification."""

    ids: Annotated[list[str], Meta(description="For each token, in order, the apns-id.")]
    outcomes: Annotated[list[OutcomeBody], Meta(description="The same for the outcomes, with wait.")] | UnsetType = (
        UNSET
    )


class _Acceptance(Struct):
    """What was accepted, in the order of the request."""

    notifications: list[_Accepted]


class _FeedbackToken(Struct):
    """A device token that is no longer in use."""

    cursor: int
    token: str
    reason: str
    timestamp: Annotated[float, Meta(description="When it died, in UNIX seconds.")]
    noted_at: Annotated[float, Meta(description="When the daemon learned of it, in UNIX seconds.")]


class _Feedback(Struct):
    """Some of the dead tokens."""

    tokens: list[_FeedbackToken]
    cursor: Annotated[int, Meta(description="Where to continue: give it as 'after'.")]


#: What the types of the structures cannot express.
EXTRAS: Mapping[type, Schema] = {
    _Notification: {
        "properties": {"headers": _HEADERS},
        # An apns-id is the id of one device's notification.
        "if": {"required": ["headers"], "properties": {"headers": {"required": ["apns-id"]}}},
        "then": {"properties": {"tokens": {"maxItems": 1}}},
    }
}

_submission = msgspec.json.Decoder(_Notifications)


class NotificationOperations:
    """
    The operations of notifications.

    :param patience: how long a caller can wait for outcomes, in seconds.
    """

    def __init__(
        self, intake: IIntake, outcomes: IOutcomeLog, feedback: IFeedbackLog, apps: IApps, patience: float
    ) -> None:
        self._intake = intake
        self._outcomes = outcomes
        self._feedback = feedback
        self._apps = apps
        self._patience = patience

    def accept(self, request: Request, caller: Caller, app: str) -> Answer | Deferred[Answer]:
        """Accept notifications, or only check them."""
        if not caller.may_send(app):
            raise NotAllowed("the key does not allow sending for this app")
        parameters(request)
        submission = json_body(_submission, request)
        not_before = None if submission.not_before is UNSET else submission.not_before
        rate = None if submission.rate is UNSET else int(submission.rate)
        request_wide = not_before, rate, LANES[submission.lane]
        drafts = [_draft(each, position, *request_wide) for position, each in enumerate(submission.notifications)]
        if submission.validate_only:
            self._intake.check(app, drafts)
            return Answer(200, encode(valid_body(self._apps.get(app), drafts)))
        accepted = self._intake.accept(app, drafts, idempotency(request, caller, app), caller, awaited=submission.wait)
        if not submission.wait:
            return accepted.addCallback(_accepted)
        return accepted.addCallback(self._wait, app, patience(request, self._patience))

    def _wait(self, receipts: list[Receipt], app: str, timeout: float) -> Deferred[Answer]:
        def waited(found: Mapping[int, Outcome]) -> Answer:
            complete = len(found) == sum(len(receipt.numbers) for receipt in receipts)
            accepted = [_Accepted(list(receipt.apns_ids), outcome_bodies(receipt, app, found)) for receipt in receipts]
            return Answer(200 if complete else 202, encode(_Acceptance(accepted)))

        return self._intake.wait(receipts, timeout).addCallback(waited)

    def outcome(self, request: Request, caller: Caller, apns_id: str) -> Answer | Deferred[Answer]:
        """Get the outcome of a notification."""
        parameters(request)
        apns_id = apns_id.lower()
        if not _ID.fullmatch(apns_id):
            return _unknown_id()

        def found(outcome: Outcome | None) -> Answer:
            return _unknown_id() if outcome is None else Answer(200, encode(outcome_body(outcome)))

        return self._outcomes.latest(apns_id, caller.feedback).addCallback(found)

    def feedback(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """List dead tokens."""
        if not caller.may_read(app):
            raise NotAllowed("the key does not allow reading the dead tokens of this app")
        cursor, limit = page(parameters(request, "after", "limit"))
        self._apps.get(app)

        def read(dead: list[FeedbackEntry]) -> Answer:
            tokens = [
                _FeedbackToken(each.cursor, each.token.hex(), each.reason, each.timestamp, each.noted_at)
                for each in dead
            ]
            return Answer(200, encode(_Feedback(tokens, dead[-1].cursor if dead else cursor)))

        return self._feedback.after(app, cursor, limit).addCallback(read)


# Reading requests.


def _draft(
    notification: _Notification, position: int, not_before: float | None, rate: int | None, lane: Lane | None
) -> Draft:
    path = f"notifications[{position}]"
    try:
        tokens = [unhexlify(token) for token in notification.tokens]
    except ValueError:
        raise _invalid_token(notification.tokens, f"{path}.tokens") from None
    headers = {name: value if isinstance(value, str) else digits(value) for name, value in notification.headers.items()}
    apns_id = headers.pop("apns-id", None)
    apns_ids = () if apns_id is None else (apns_id,)
    environment = ENVIRONMENTS[notification.environment]
    return Draft(bytes(notification.payload), headers, tokens, apns_ids, not_before, rate, lane, environment)


def _invalid_token(tokens: Sequence[str], path: str) -> Malformed:
    position = next(position for position, token in enumerate(tokens) if not _is_hexadecimal(token))
    path = f"{path}[{position}]"
    fault = f"a device token of {len(tokens[position])} characters is not hexadecimal"
    return Malformed(f"{path}: {fault}", path=path)


def _is_hexadecimal(text: str) -> bool:
    try:
        unhexlify(text)
    except ValueError:
        return False
    return True


# Writing answers.


def _unknown_id() -> Answer:
    return fault(404, "no notification has this id, or its outcome is no longer kept")


def _accepted(receipts: list[Receipt]) -> Answer:
    return Answer(202, encode(_Acceptance([_Accepted(list(receipt.apns_ids)) for receipt in receipts])))


#: What :class:`NotificationOperations` answers.
OPERATIONS = (
    Operation(
        "POST",
        "/v1/apps/{app}/notifications",
        NotificationOperations.accept,
        "accept",
        "Accept notifications: all, or none.",
        {
            200: (
                "All have an outcome (with wait), or would be accepted (with validate_only).",
                (_Acceptance, ValidBody),
            ),
            202: ("They are on the disk.", (_Acceptance,)),
        },
        (400, 401, 403, 404, 409, 413, 415, 429, 503),
        body=_Notifications,
        parameters=(IDEMPOTENCY_KEY, PREFER),
    ),
    Operation(
        "GET",
        "/v1/notifications/{id}",
        NotificationOperations.outcome,
        "outcome",
        "Get the outcome of a notification.",
        {200: ("The latest with this id that the key may read.", (OutcomeBody,))},
        (400, 401, 404, 503),
    ),
    Operation(
        "GET",
        "/v1/apps/{app}/feedback",
        NotificationOperations.feedback,
        "feedback",
        "Read dead tokens.",
        {200: ("Those after the cursor.", (_Feedback,))},
        (400, 401, 403, 404, 503),
        parameters=PAGING,
    ),
)
