"""
Broadcasts: accepting them. What becomes of one is asked for as of any notification.

::

    POST /v1/apps/<app>/broadcasts          accept broadcasts: 202 and their ids, once they are on the disk
    GET  /v1/notifications/<id>             the outcome of one

Each goes to one channel, as an update or the end of the Live Activities that listen to it; see
:mod:`txapns.daemon.broadcasts`. The key must allow sending for the app.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred

from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema
from txapns.daemon.broadcasts import broadcast_draft
from txapns.daemon.errors import Malformed, NotAllowed
from txapns.daemon.faces.native.json_api import ENVIRONMENTS, AskedEnvironment, encode, json_body, parameters
from txapns.daemon.faces.native.submissions import (
    IDEMPOTENCY_KEY,
    LANES,
    NUMBER,
    PREFER,
    TEXT,
    UUID,
    OutcomeBody,
    Submission,
    ValidBody,
    digits,
    idempotency,
    outcome_bodies,
    patience,
    valid_body,
)
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.interfaces import IApps, IIntake
from txapns.daemon.values import CHANNEL, Caller, Draft, Lane, Outcome, Receipt

__all__ = ["EXTRAS", "OPERATIONS", "BroadcastOperations", "ChannelId"]

_REQUEST_ID = "apns-request-id"

#: The identifier of a channel, in a body.
ChannelId = Annotated[
    str,
    Meta(
        description="The channel's identifier, as Apple gave it.",
        extra_json_schema={"pattern": "^[!-~]+$", "maxLength": MAX_HEADER, "examples": ["dHN0LXNyY2gtY2hubA=="]},
    ),
]

_HEADERS = {
    "type": "object",
    "description": "Apple's header fields. The topic is the bundle id, and the expiration is in UNIX seconds.",
    "properties": {
        "apns-topic": {**TEXT, "minLength": 1},
        "apns-push-type": TEXT,
        "apns-priority": NUMBER,
        "apns-expiration": NUMBER,
        _REQUEST_ID: {"type": "string", "pattern": f"^{UUID.replace('a-f', 'a-fA-F')}$"},
    },
    "additionalProperties": False,
    "default": {},
}


# Bodies of requests.


class _Broadcast(Struct, forbid_unknown_fields=True):
    """One payload, for one channel."""

    channel: ChannelId
    payload: Annotated[Raw, Meta(description="What Apple gets, byte for byte.", extra_json_schema={"type": "object"})]
    headers: dict[str, str | int | float] = {}
    environment: AskedEnvironment | UnsetType = UNSET


class _Broadcasts(Submission, forbid_unknown_fields=True, kw_only=True):
    """A request to accept broadcasts."""

    broadcasts: Annotated[list[_Broadcast], Meta(extra_json_schema={"minItems": 1})]


# Bodies of answers.


class _AcceptedBroadcast(Struct):
    """What was accepted of one broadcast."""

    id: Annotated[str, Meta(description="Its apns-request-id.")]
    outcome: Annotated[OutcomeBody, Meta(description="What is known of it, with wait.")] | UnsetType = UNSET


class _AcceptedBroadcasts(Struct):
    """What was accepted, in the order of the request."""

    broadcasts: list[_AcceptedBroadcast]


#: What the types of the structures cannot express.
EXTRAS: Mapping[type, Schema] = {_Broadcast: {"properties": {"headers": _HEADERS}}}

_broadcasts = msgspec.json.Decoder(_Broadcasts)


class BroadcastOperations:
    """
    The operations of broadcasts.

    :param patience: how long a caller can wait for outcomes, in seconds.
    """

    def __init__(self, intake: IIntake, apps: IApps, patience: float) -> None:
        self._intake = intake
        self._apps = apps
        self._patience = patience

    def accept(self, request: Request, caller: Caller, app: str) -> Answer | Deferred[Answer]:
        """Accept broadcasts, or only check them."""
        if not caller.may_send(app):
            raise NotAllowed("the key does not allow sending for this app")
        parameters(request)
        submission = json_body(_broadcasts, request)
        if not submission.broadcasts:
            raise Malformed("the request has no broadcasts", path="broadcasts")
        request_wide = None if submission.not_before is UNSET else submission.not_before, LANES[submission.lane]
        drafts = [_draft(each, position, *request_wide) for position, each in enumerate(submission.broadcasts)]
        if submission.validate_only:
            self._intake.check(app, drafts)
            return Answer(200, encode(valid_body(self._apps.get(app), drafts)))
        accepted = self._intake.accept(app, drafts, idempotency(request, caller, app), caller, awaited=submission.wait)
        if not submission.wait:
            return accepted.addCallback(_accepted)
        return accepted.addCallback(self._wait, app, patience(request, self._patience))

    def _wait(self, receipts: list[Receipt], app: str, timeout: float) -> Deferred[Answer]:
        def waited(found: Mapping[int, Outcome]) -> Answer:
            outcomes = [outcome for receipt in receipts for outcome in outcome_bodies(receipt, app, found)]
            accepted = [_AcceptedBroadcast(outcome.id, outcome) for outcome in outcomes]
            return Answer(200 if len(found) == len(outcomes) else 202, encode(_AcceptedBroadcasts(accepted)))

        return self._intake.wait(receipts, timeout).addCallback(waited)


def _draft(broadcast: _Broadcast, position: int, not_before: float | None, lane: Lane | None) -> Draft:
    headers = {name: value if isinstance(value, str) else digits(value) for name, value in broadcast.headers.items()}
    if CHANNEL in headers:
        path = f"broadcasts[{position}].headers.{CHANNEL}"
        raise Malformed(f"{path}: the channel is given as 'channel'", path=path)
    request_id = headers.pop(_REQUEST_ID, None)
    payload, environment = bytes(broadcast.payload), ENVIRONMENTS[broadcast.environment]
    return broadcast_draft(payload, headers, broadcast.channel, request_id, not_before, lane, environment)


def _accepted(receipts: list[Receipt]) -> Answer:
    accepted = [_AcceptedBroadcast(apns_id) for receipt in receipts for apns_id in receipt.apns_ids]
    return Answer(202, encode(_AcceptedBroadcasts(accepted)))


#: What :class:`BroadcastOperations` answers.
OPERATIONS = (
    Operation(
        "POST",
        "/v1/apps/{app}/broadcasts",
        BroadcastOperations.accept,
        "broadcast",
        "Accept broadcasts: all, or none.",
        {
            200: (
                "All have an outcome (with wait), or would be accepted (with validate_only).",
                (_AcceptedBroadcasts, ValidBody),
            ),
            202: ("They are on the disk.", (_AcceptedBroadcasts,)),
        },
        (400, 401, 403, 404, 409, 413, 415, 429, 503),
        body=_Broadcasts,
        parameters=(IDEMPOTENCY_KEY, PREFER),
    ),
)
