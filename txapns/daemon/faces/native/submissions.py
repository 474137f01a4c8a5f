"""
What requests for notifications and for broadcasts have in common: header fields, idempotency keys, findings and
outcomes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from txapns._serving.http import Request
from txapns._serving.operations import Schema, parameter
from txapns.daemon.errors import Malformed
from txapns.daemon.faces.native.json_api import (
    STATES,
    ChannelName,
    EnvironmentName,
    Seconds,
    UniqueId,
    environment_name,
)
from txapns.daemon.intake import FURTHEST, MAX_HEADER
from txapns.daemon.linting import LINTED, lint_drafts
from txapns.daemon.values import App, Caller, Draft, Idempotency, Lane, Outcome, Receipt

__all__ = [
    "IDEMPOTENCY_KEY",
    "LANES",
    "NUMBER",
    "PREFER",
    "TEXT",
    "UUID",
    "FindingBody",
    "OutcomeBody",
    "Rate",
    "Submission",
    "ValidBody",
    "digits",
    "idempotency",
    "outcome_bodies",
    "outcome_body",
    "outcome_values",
    "patience",
    "valid_body",
]

_KEY = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")

#: The pattern of an id.
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

# Header fields, exactly as the intake accepts them.
#: The schema of one that is text.
TEXT: Schema = {"type": "string", "pattern": "^(?! )[^\\u0000-\\u001f\\u007f]*(?<! )$", "maxLength": MAX_HEADER}
_MOST = 10**18 - 1
_LAST = 253_402_300_799  # a date in the year 9999
#: The schema of one that is a number.
NUMBER: Schema = {
    "anyOf": [
        {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
        {"type": "integer", "minimum": -_MOST, "maximum": _MOST},
    ]
}

#: A date before which nothing of a request is sent.
NotBefore: TypeAlias = Annotated[
    float,
    Meta(
        ge=0,
        le=_LAST,
        description=f"Send nothing before this date, in UNIX seconds: {FURTHEST / 86_400:.0f} days ahead at most.",
    ),
]
#: At which rate a request is sent. A float, because 10.0 is a whole number in JSON, too.
Rate: TypeAlias = Annotated[
    float,
    Meta(ge=1, le=1_000_000, multiple_of=1, description="To how many devices a second it is sent, at most."),
]

#: The lane of a request.
LaneName: TypeAlias = Annotated[
    Literal["urgent", "normal", "bulk"],
    Meta(description="What goes first. Left out, the daemon chooses by the size of the request and its priority."),
]


class Submission(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request says about everything in it."""

    validate_only: Annotated[bool, Meta(description="Only check them; nothing is stored.")] = False
    wait: Annotated[bool, Meta(description="Answer when Apple has answered, or after a while.")] = False
    not_before: NotBefore | UnsetType = UNSET
    lane: LaneName | UnsetType = UNSET


# One preference of several; what else is preferred is ignored, and so is what cannot be understood.
_WAIT = re.compile(rb'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)

#: The lanes, by name; ``UNSET`` for no choice.
LANES: Mapping[str | UnsetType, Lane | None] = {UNSET: None, **{lane.name.lower(): lane for lane in Lane}}

#: The parameter that identifies a request.
IDEMPOTENCY_KEY = parameter(
    "Idempotency-Key",
    "header",
    "Identifies the request: if it is sent again, it is not accepted again.",
    type="string",
    minLength=1,
    maxLength=255,
    pattern="^[!-~]([ -~]*[!-~])?$",
)

#: The parameter that says for how long outcomes are waited for.
PREFER = parameter(
    "Prefer",
    "header",
    "With wait: for how many seconds at most, such as wait=5. The daemon may wait less.",
    type="string",
)


class OutcomeBody(Struct, omit_defaults=True):
    """What is known of one notification for one device."""

    id: Annotated[str, Meta(description="Its apns-id.")]
    app: str
    state: Literal["waiting", "accepted", "rejected", "expired", "dead", "superseded"]
    status: Annotated[int, Meta(description="The HTTP status that Apple answered with.")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Apple's reason, or why Apple was not asked.")] | UnsetType = UNSET
    timestamp: Annotated[float, Meta(description="When the token died, in UNIX seconds.")] | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    accepted_at: Seconds | UnsetType = UNSET
    settled_at: Seconds | UnsetType = UNSET
    unique_id: UniqueId | UnsetType = UNSET
    environment: EnvironmentName | UnsetType = UNSET
    channel: ChannelName | UnsetType = UNSET


class FindingBody(Struct):
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


class ValidBody(Struct):
    """The answer to validate_only."""

    valid: Literal[True]
    findings: Annotated[list[FindingBody], Meta(description=f"What is found in the first {LINTED} notifications.")]


def patience(request: Request, most: float) -> float:
    """
    Tell for how many seconds a request waits for outcomes: no longer than it prefers (RFC 7240).

    :param most: how long it can wait.
    """
    preferred = _WAIT.search(b",".join(request.fields.get(b"prefer", ())))
    return most if preferred is None else min(most, int(preferred[1]))


def idempotency(request: Request, caller: Caller, app: str) -> Idempotency | None:
    """
    Read the idempotency key of a request.

    :raises Malformed: it is not one.
    """
    values = request.fields.get(b"idempotency-key")
    if values is None:
        return None
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise Malformed("an Idempotency-Key has 1 to 255 printable ASCII characters", path="Idempotency-Key")
    digest = hashlib.sha256(request.body).digest()
    return Idempotency(f"{caller.name}/{app}", values[0].decode("ascii"), digest)


def digits(number: float) -> str:
    """Write a number as a header field has it; 10.0 is a whole number in JSON, too."""
    return str(int(number) if number == number // 1 else number)


def valid_body(app: App, drafts: Sequence[Draft]) -> ValidBody:
    """Tell what is found in notifications that the intake has checked."""
    found = lint_drafts(app, drafts, time.time())
    findings = [msgspec.convert({"notification": each, **finding.to_dict()}, FindingBody) for each, finding in found]
    return ValidBody(True, findings)


def outcome_bodies(receipt: Receipt, app: str, found: Mapping[int, Outcome]) -> list[OutcomeBody]:
    """Describe the outcome of each, in the order of the request."""
    return [
        outcome_body(found[number]) if number in found else OutcomeBody(apns_id, app, "waiting")
        for number, apns_id in zip(receipt.numbers, receipt.apns_ids, strict=True)
    ]


def outcome_body(outcome: Outcome) -> OutcomeBody:
    """Describe an outcome."""
    return OutcomeBody(*outcome_values(outcome))


def outcome_values(outcome: Outcome) -> tuple[Any, ...]:
    """List the values that describe an outcome, in the order of :class:`OutcomeBody`."""
    return (
        outcome.apns_id,
        outcome.app,
        STATES[outcome.state],
        outcome.status or UNSET,
        outcome.reason or UNSET,
        UNSET if outcome.timestamp is None else outcome.timestamp,
        outcome.attempts,
        outcome.accepted_at,
        UNSET if outcome.settled_at is None else outcome.settled_at,
        outcome.unique_id or UNSET,
        environment_name(outcome),
        outcome.channel or UNSET,
    )
