"""
Notifications: accepting them, their outcomes, and the dead tokens.

::

    POST /v1/apps/<app>/notifications              accept notifications: 202 and their ids, once they are on the disk
    GET  /v1/notifications/<id>                    the outcome of one
    GET  /v1/apps/<app>/feedback?after=&limit=     the dead tokens, by cursor

A payload is not decoded and encoded again: Apple gets the bytes that the caller wrote.
"""

from __future__ import annotations

import hashlib
import re
import time
from binascii import unhexlify
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred

from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema, parameter
from txapns.daemon.errors import Malformed, NotAllowed
from txapns.daemon.faces.native.json_api import STATES, Seconds, encode, fault, json_body, page, parameters
from txapns.daemon.faces.native.openapi import PAGING
from txapns.daemon.intake import MAX_HEADER, MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IOutcomeLog
from txapns.daemon.linting import LINTED, lint_drafts
from txapns.daemon.values import Caller, Draft, FeedbackEntry, Idempotency, Outcome, Receipt

__all__ = ["EXTRAS", "ID", "OPERATIONS", "NotificationOperations"]

_KEY = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(_UUID)

#: The parameter in a path that names a notification.
ID = parameter("id", "path", "The notification's apns-id.", type="string", pattern=f"^{_UUID}$")

# Header fields, exactly as the intake accepts them.
_TEXT = {"type": "string", "pattern": "^(?! )[^\\u0000-\\u001f\\u007f]*(?<! )$", "maxLength": MAX_HEADER}
_MOST = 10**18 - 1
_NUMBER = {
    "anyOf": [
        {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
        {"type": "integer", "minimum": -_MOST, "maximum": _MOST},
    ]
}
_HEADERS = {
    "type": "object",
    "description": "Apple's header fields. The expiration is in UNIX seconds; an apns-id is for one token only.",
    "properties": {
        "apns-topic": _TEXT,
        "apns-push-type": _TEXT,
        "apns-priority": _NUMBER,
        "apns-expiration": _NUMBER,
        "apns-collapse-id": _TEXT,
        "apns-id": {"type": "string", "pattern": f"^{_UUID.replace('a-f', 'a-fA-F')}$"},
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


class _Submission(Struct, forbid_unknown_fields=True):
    """A request to accept notifications."""

    notifications: Annotated[list[_Notification], Meta(extra_json_schema={"minItems": 1})]
    validate_only: Annotated[bool, Meta(description="Only check them; nothing is stored.")] = False
    wait: Annotated[bool, Meta(description="Answer when Apple has answered, or after a while.")] = False


# Bodies of answers.


class _Outcome(Struct, omit_defaults=True):
    """What is known of one notification for one device."""

    id: Annotated[str, Meta(description="Its apns-id.")]
    app: str
    state: Literal["waiting", "accepted", "rejected", "expired", "dead"]
    status: Annotated[int, Meta(description="The HTTP status that Apple answered with.")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Apple's reason, or why Apple was not asked.")] | UnsetType = UNSET
    timestamp: Annotated[float, Meta(description="When the token died, in UNIX seconds.")] | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    accepted_at: Seconds | UnsetType = UNSET
    settled_at: Seconds | UnsetType = UNSET


class _Accepted(Struct):
    """What was accepted of one notification."""

    ids: Annotated[list[str], Meta(description="For each token, in order, the apns-id.")]
    outcomes: Annotated[list[_Outcome], Meta(description="The same for the outcomes, with wait.")] | UnsetType = UNSET


class _Acceptance(Struct):
    """What was accepted, in the order of the request."""

    notifications: list[_Accepted]


class _Finding(Struct):
    """What would come of a notification other than is meant."""

    notification: Annotated[int, Meta(description="Its position in the request.")]
    code: Annotated[str, Meta(description="The rule.")]
    severity: Annotated[
        Literal["error", "warning", "hint"],
        Meta(description="Apple rejects it; the device ignores or changes something; it may not be what was meant."),
    ]
    message: str
    path: Annotated[str, Meta(description="A key of the payload, as aps.badge, a header field, or empty.")]
    grade: Annotated[
        Literal["documented", "reported", "single report", "unknown"], Meta(description="How well that is known.")
    ]
    source: Annotated[str, Meta(description="A page of Apple's documentation, or a report.")]


class _Valid(Struct):
    """The answer to validate_only."""

    valid: Literal[True]
    findings: Annotated[list[_Finding], Meta(description=f"What is found in the first {LINTED} notifications.")]


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

_submission = msgspec.json.Decoder(_Submission)


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
        drafts = [_draft(each, position) for position, each in enumerate(submission.notifications)]
        if submission.validate_only:
            self._intake.check(app, drafts)
            found = lint_drafts(self._apps.get(app), drafts, time.time())
            findings = [
                msgspec.convert({"notification": each, **finding.to_dict()}, _Finding) for each, finding in found
            ]
            return Answer(200, encode(_Valid(True, findings)))
        accepted = self._intake.accept(app, drafts, _idempotency(request, caller, app))
        return accepted.addCallback(self._wait, app) if submission.wait else accepted.addCallback(_accepted)

    def _wait(self, receipts: list[Receipt], app: str) -> Deferred[Answer]:
        def waited(found: Mapping[int, Outcome]) -> Answer:
            complete = len(found) == sum(len(receipt.numbers) for receipt in receipts)
            accepted = [_Accepted(list(receipt.apns_ids), _outcomes(receipt, app, found)) for receipt in receipts]
            return Answer(200 if complete else 202, encode(_Acceptance(accepted)))

        return self._intake.wait(receipts, self._patience).addCallback(waited)

    def outcome(self, request: Request, caller: Caller, apns_id: str) -> Answer | Deferred[Answer]:
        """Get the outcome of a notification."""
        parameters(request)
        apns_id = apns_id.lower()
        if not _ID.fullmatch(apns_id):
            return _unknown_id()

        def found(outcome: Outcome | None) -> Answer:
            return _unknown_id() if outcome is None else Answer(200, encode(_outcome(outcome)))

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


def _idempotency(request: Request, caller: Caller, app: str) -> Idempotency | None:
    values = request.requestHeaders.getRawHeaders(b"Idempotency-Key")
    if values is None:
        return None
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise Malformed("an Idempotency-Key has 1 to 255 printable ASCII characters", path="Idempotency-Key")
    digest = hashlib.sha256(request.body).digest()
    return Idempotency(f"{caller.name}/{app}", values[0].decode("ascii"), digest)


def _draft(notification: _Notification, position: int) -> Draft:
    path = f"notifications[{position}]"
    try:
        tokens = [unhexlify(token) for token in notification.tokens]
    except ValueError:
        raise _invalid_token(notification.tokens, f"{path}.tokens") from None
    headers = {
        name: value if isinstance(value, str) else _digits(value) for name, value in notification.headers.items()
    }
    apns_id = headers.pop("apns-id", None)
    return Draft(bytes(notification.payload), headers, tokens, () if apns_id is None else (apns_id,))


def _digits(number: float) -> str:
    """Write a number as a header field has it; 10.0 is a whole number in JSON, too."""
    return str(int(number) if number == number // 1 else number)


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


def _outcomes(receipt: Receipt, app: str, found: Mapping[int, Outcome]) -> list[_Outcome]:
    """Describe the outcome of each, in the order of the request."""
    return [
        _outcome(found[number]) if number in found else _Outcome(apns_id, app, "waiting")
        for number, apns_id in zip(receipt.numbers, receipt.apns_ids, strict=True)
    ]


def _outcome(outcome: Outcome) -> _Outcome:
    return _Outcome(
        outcome.apns_id,
        outcome.app,
        STATES[outcome.state],
        outcome.status or UNSET,
        outcome.reason or UNSET,
        UNSET if outcome.timestamp is None else outcome.timestamp,
        outcome.attempts,
        outcome.accepted_at,
        UNSET if outcome.settled_at is None else outcome.settled_at,
    )


_IDEMPOTENCY_KEY = parameter(
    "Idempotency-Key",
    "header",
    "Identifies the request: if it is sent again, it is not accepted again.",
    type="string",
    minLength=1,
    maxLength=255,
    pattern="^[!-~]([ -~]*[!-~])?$",
)

#: What :class:`NotificationOperations` answers.
OPERATIONS = (
    Operation(
        "POST",
        "/v1/apps/{app}/notifications",
        NotificationOperations.accept,
        "accept",
        "Accept notifications: all, or none.",
        {
            200: ("All have an outcome (with wait), or would be accepted (with validate_only).", (_Acceptance, _Valid)),
            202: ("They are on the disk.", (_Acceptance,)),
        },
        (400, 401, 403, 404, 409, 413, 415, 429, 503),
        body=_Submission,
        parameters=(_IDEMPOTENCY_KEY,),
    ),
    Operation(
        "GET",
        "/v1/notifications/{id}",
        NotificationOperations.outcome,
        "outcome",
        "Get the outcome of a notification.",
        {200: ("The latest with this id that the key may read.", (_Outcome,))},
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
