"""
The native face: JSON over HTTP/1.1.

::

    POST /v1/apps/<app>/notifications              accept notifications: 202 and their ids, once they are on the disk
    GET  /v1/notifications/<id>                    what became of one
    GET  /v1/apps/<app>/feedback?after=&limit=     the dead tokens, by cursor
    GET  /v1/apps/<app>/queue …                    for operators; see :mod:`txapns.daemon.faces.native.queue`
    GET  /v1/apps, PUT /v1/apps/<app> …            likewise; see :mod:`txapns.daemon.faces.native.apps`
    GET  /v1/openapi.json                          all of this for programs

The bodies are the structures below, and the OpenAPI document is made from them. A payload is not decoded and encoded
again: Apple gets the octets that the caller wrote.
"""

from __future__ import annotations

import hashlib
import re
from binascii import unhexlify
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import unquote

import attrs
import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred
from zope.interface import implementer

import txapns
from txapns.daemon.apps import Apps
from txapns.daemon.errors import Malformed, NotAllowed, NotAuthenticated, RequestRefused
from txapns.daemon.faces.native import apps as provisioning
from txapns.daemon.faces.native import queue as queue_routes
from txapns.daemon.faces.native.json_api import (
    ERRORS,
    STATES,
    ErrorBody,
    Seconds,
    decoded,
    encode,
    fault,
    is_json,
    json_body,
    no_json,
    operation,
    page,
    paging,
    parameter,
    parameters,
    refused,
    refused_later,
    response,
)
from txapns.daemon.intake import MAX_HEADER, MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IKeys, IQueue
from txapns.daemon.serving.authorization import ANYBODY, bearer_token
from txapns.daemon.serving.http import Answer, IApplication, Request
from txapns.daemon.values import Caller, Draft, FeedbackEntry, Idempotency, Outcome, Receipt

__all__ = ["Native", "openapi"]

_KEY = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(_UUID)

# How the description writes header fields: exactly what the intake takes.
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
# An apns-id is the id of one device's notification.
_ONE_ID = {
    "if": {"required": ["headers"], "properties": {"headers": {"required": ["apns-id"]}}},
    "then": {"properties": {"tokens": {"maxItems": 1}}},
}

_Token = Annotated[
    str,
    Meta(
        description="A device token, in hexadecimal.",
        extra_json_schema={"pattern": "^([0-9a-fA-F]{2})+$", "maxLength": 2 * MAX_TOKEN, "examples": ["ab" * 32]},
    ),
]


# What callers send.


class _Notification(Struct, forbid_unknown_fields=True):
    """One payload, for one device or more."""

    tokens: Annotated[list[_Token], Meta(description="The devices.", extra_json_schema={"minItems": 1})]
    payload: Annotated[Raw, Meta(description="What Apple gets, octet by octet.", extra_json_schema={"type": "object"})]
    headers: dict[str, str | int | float] = {}


class _Submission(Struct, forbid_unknown_fields=True):
    """A request to accept notifications."""

    notifications: Annotated[list[_Notification], Meta(extra_json_schema={"minItems": 1})]
    validate_only: Annotated[bool, Meta(description="Only tell whether they would be accepted.")] = False
    wait: Annotated[bool, Meta(description="Answer when Apple has answered, or after some time.")] = False


# What they get.


class _Outcome(Struct, omit_defaults=True):
    """What is known of one notification for one device."""

    id: Annotated[str, Meta(description="Its apns-id.")]
    app: str
    state: Literal["waiting", "accepted", "rejected", "expired", "dead"]
    status: Annotated[int, Meta(description="The HTTP status that Apple answered with.")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Apple's reason, or what kept us from asking.")] | UnsetType = UNSET
    timestamp: Annotated[float, Meta(description="Since when the token is dead.")] | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    accepted_at: Seconds | UnsetType = UNSET
    settled_at: Seconds | UnsetType = UNSET


class _Accepted(Struct):
    """What was accepted of one notification."""

    ids: Annotated[list[str], Meta(description="For each token, in order, the apns-id.")]
    outcomes: Annotated[list[_Outcome], Meta(description="Likewise, with wait.")] | UnsetType = UNSET


class _Acceptance(Struct):
    """What was accepted, in the order of the request."""

    notifications: list[_Accepted]


class _Valid(Struct):
    """The answer to validate_only."""

    valid: Literal[True]


class _FeedbackToken(Struct):
    """A device token that is no longer in use."""

    cursor: int
    token: str
    reason: str
    timestamp: Annotated[float, Meta(description="Since when, in UNIX seconds.")]
    noted_at: Annotated[float, Meta(description="When we learnt of it, in UNIX seconds.")]


class _Feedback(Struct):
    """Some of the dead tokens."""

    tokens: list[_FeedbackToken]
    cursor: Annotated[int, Meta(description="Where to read on: give it as 'after'.")]


_submission = msgspec.json.Decoder(_Submission)

_BODIES = (_Submission, _Acceptance, _Valid, _Outcome, _Feedback, ErrorBody, *provisioning.BODIES, *queue_routes.BODIES)


@attrs.frozen
class _Route:
    """
    One resource.

    :ivar pattern: its path; what is in groups is an argument.
    :ivar answers: what answers, by method; ``OPTIONS`` is known beside, and ``HEAD`` where there is ``GET``.
    """

    pattern: re.Pattern[bytes]
    answers: Mapping[bytes, Callable[..., Answer | Deferred[Answer]]]

    @property
    def allowed(self) -> bytes:
        """The methods, as in the header field ``Allow``."""
        return b", ".join([*self.answers, *([b"HEAD"] if b"GET" in self.answers else []), b"OPTIONS"])


def _nobody(app: str) -> None:
    """Nobody is told."""


@implementer(IApplication)
class Native:
    """
    Answers requests of the native face.

    :param intake: where notifications go.
    :param queue: knows what became of them.
    :param feedback: the dead tokens.
    :param apps: the apps.
    :param keys: the keys that callers show; ``None`` where everybody may do all but change apps.
    :param patience: for how many seconds a caller can wait for outcomes at the most.
    :param wake: called with an app's name when there is something to be sent again.
    :param stored: the same apps, where callers may change them. Where no keys are asked for, none may.
    """

    def __init__(
        self,
        intake: IIntake,
        queue: IQueue,
        feedback: IFeedbackLog,
        apps: IApps,
        keys: IKeys | None,
        patience: float = 30.0,
        wake: Callable[[str], None] = _nobody,
        stored: Apps | None = None,
    ) -> None:
        self._intake = intake
        self._queue = queue
        self._feedback = feedback
        self._apps = apps
        self._keys = keys
        self._patience = patience
        self._openapi = openapi()
        operator = queue_routes.Queue(queue, apps, wake)
        provisioned = provisioning.Provisioning(None if keys is None else stored)
        self._routes = (
            _Route(re.compile(rb"/v1/apps/([^/]+)/notifications"), {b"POST": self._accept}),
            _Route(re.compile(rb"/v1/notifications/([^/]+)"), {b"GET": self._tell}),
            _Route(re.compile(rb"/v1/apps/([^/]+)/feedback"), {b"GET": self._read}),
            _Route(re.compile(rb"/v1/apps/([^/]+)/queue"), {b"GET": operator.read}),
            _Route(re.compile(rb"/v1/apps/([^/]+)/queue/retry"), {b"POST": operator.retry}),
            _Route(re.compile(rb"/v1/apps/([^/]+)/queue/purge"), {b"POST": operator.purge}),
            _Route(re.compile(rb"/v1/apps"), {b"GET": provisioned.read}),
            _Route(re.compile(rb"/v1/apps/([^/]+)"), {b"PUT": provisioned.put, b"DELETE": provisioned.remove}),
            _Route(re.compile(rb"/v1/apps/([^/]+)/credential"), {b"POST": provisioned.rotate}),
            _Route(re.compile(rb"/v1/openapi\.json"), {b"GET": self._describe}),
        )

    def begun(self, request: Request) -> Answer | None:
        """Find out who calls."""
        if self._keys is None:
            request.context = ANYBODY
            return None
        try:
            request.context = self._keys.check(_bearer(request))
        except RequestRefused as refusal:
            return refused(refusal)
        request.mark_authenticated()
        return None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Find what is asked for."""
        request.mark_authenticated()
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is not None:
                return self._routed(route, request, match.groups())
        return self.fault(404, "there is nothing at this path")

    def _routed(self, route: _Route, request: Request, arguments: Sequence[bytes]) -> Answer | Deferred[Answer]:
        if request.method == b"OPTIONS":
            return Answer(204, headers=[(b"Allow", route.allowed)])
        known = route.answers.get(b"GET" if request.method == b"HEAD" else request.method)
        if known is None:
            answer = self.fault(405, f"allowed here: {route.allowed.decode()}")
            return attrs.evolve(answer, headers=[(b"Allow", route.allowed)])
        try:
            return known(request, request.context, *[_unquoted(each) for each in arguments])
        except RequestRefused as refusal:
            return refused(refusal)

    def fault(self, status: int, message: str) -> Answer:
        """See :meth:`IApplication.fault`."""
        return fault(status, message)

    # What can be asked for.

    def _accept(self, request: Request, caller: Caller, app: str) -> Answer | Deferred[Answer]:
        if not caller.may_send(app):
            raise NotAllowed("the key is not for sending to this app")
        if not is_json(request):
            return no_json()
        parameters(request)
        submission = decoded(_submission, request.body)
        drafts = [_draft(each, position) for position, each in enumerate(submission.notifications)]
        if submission.validate_only:
            self._intake.check(app, drafts)
            return Answer(200, encode(_Valid(True)))
        accepted = self._intake.accept(app, drafts, _idempotency(request, caller, app))
        if submission.wait:
            return accepted.addCallback(self._wait, app).addErrback(refused_later)
        return accepted.addCallbacks(_accepted, refused_later)

    def _wait(self, receipts: list[Receipt], app: str) -> Deferred[Answer]:
        def waited(found: Mapping[int, Outcome]) -> Answer:
            complete = len(found) == sum(len(receipt.numbers) for receipt in receipts)
            accepted = [_Accepted(list(receipt.apns_ids), _outcomes(receipt, app, found)) for receipt in receipts]
            return Answer(200 if complete else 202, encode(_Acceptance(accepted)))

        return self._intake.wait(receipts, self._patience).addCallback(waited)

    def _tell(self, request: Request, caller: Caller, apns_id: str) -> Answer | Deferred[Answer]:
        parameters(request)
        unknown = "there is no such notification, or it is forgotten"
        apns_id = apns_id.lower()
        if not _ID.fullmatch(apns_id):
            return self.fault(404, unknown)

        def found(outcome: Outcome | None) -> Answer:
            return self.fault(404, unknown) if outcome is None else Answer(200, encode(_outcome(outcome)))

        return self._queue.outcome(apns_id, caller.feedback).addCallbacks(found, refused_later)

    def _read(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        if not caller.may_read(app):
            raise NotAllowed("the key is not for reading the dead tokens of this app")
        cursor, limit = page(parameters(request, "after", "limit"))
        self._apps.get(app)

        def read(dead: list[FeedbackEntry]) -> Answer:
            tokens = [
                _FeedbackToken(each.cursor, each.token.hex(), each.reason, each.timestamp, each.noted_at)
                for each in dead
            ]
            return Answer(200, encode(_Feedback(tokens, dead[-1].cursor if dead else cursor)))

        return self._feedback.after(app, cursor, limit).addCallbacks(read, refused_later)

    def _describe(self, request: Request, caller: Caller) -> Answer:
        return Answer(200, self._openapi)


# Reading requests.


def _bearer(request: Request) -> str:
    key = bearer_token(request.authorization)
    if key is None:
        raise NotAuthenticated("a key is required: Authorization: Bearer txapns_…")
    return key


def _unquoted(segment: bytes) -> str:
    return unquote(segment.decode("latin-1"), errors="replace")


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
        raise _unfit_token(notification.tokens, f"{path}.tokens") from None
    headers = {
        name: value if isinstance(value, str) else _digits(value) for name, value in notification.headers.items()
    }
    apns_id = headers.pop("apns-id", None)
    return Draft(bytes(notification.payload), headers, tokens, () if apns_id is None else (apns_id,))


def _digits(number: float) -> str:
    """Write a number as a header field has it; to JSON 10.0 is as whole a number as 10."""
    return str(int(number) if number == number // 1 else number)


def _unfit_token(tokens: Sequence[str], path: str) -> Malformed:
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


def _accepted(receipts: list[Receipt]) -> Answer:
    return Answer(202, encode(_Acceptance([_Accepted(list(receipt.apns_ids)) for receipt in receipts])))


def _outcomes(receipt: Receipt, app: str, found: Mapping[int, Outcome]) -> list[_Outcome]:
    """Write what became of each, in the order of the request."""
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


# The description.


def openapi() -> bytes:
    """
    Describe the face.

    :returns: an OpenAPI document, in JSON.
    """
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    schemas["_Notification"].update(_ONE_ID)
    schemas["_Notification"]["properties"]["headers"] = _HEADERS
    schemas["_Credential"].update(provisioning.ONE_CREDENTIAL)
    text = encode({name.removeprefix("_"): schema for name, schema in schemas.items()}).decode()
    app = parameter("app", "path", "The app's name.", type="string", minLength=1)
    key = parameter(
        "Idempotency-Key",
        "header",
        "Makes a request that is sent a second time known as such; it is accepted once.",
        type="string",
        minLength=1,
        maxLength=255,
        pattern="^[!-~]([ -~]*[!-~])?$",
    )
    identifier = parameter("id", "path", "The notification's apns-id.", type="string", pattern=f"^{_UUID}$")
    accepted = {
        200: ("All have an outcome (with wait), or would be accepted (with validate_only).", "Acceptance"),
        202: ("They are on the disk.", "Acceptance"),
    }
    accept = operation(
        "accept",
        "Accept notifications: all, or none.",
        accepted,
        (400, 401, 403, 404, 409, 413, 415, 429, 503),
        parameters=[key],
        requestBody={"required": True, **json_body("Submission")},
    )
    either = [{"$ref": f"#/components/schemas/{name}"} for name in ("Acceptance", "Valid")]
    accept["responses"]["200"]["content"]["application/json"]["schema"] = {"anyOf": either}  # type: ignore[index]
    document = {
        "openapi": "3.1.0",
        "info": {"title": "txapns push gateway", "version": txapns.__version__},
        "security": [{"key": []}],
        "paths": {
            "/v1/apps/{app}/notifications": {"parameters": [app], "post": accept},
            "/v1/notifications/{id}": {
                "parameters": [identifier],
                "get": operation(
                    "outcome",
                    "Tell what became of a notification.",
                    {200: ("The latest with this id that the key is for.", "Outcome")},
                    (400, 401, 404, 503),
                ),
            },
            "/v1/apps/{app}/feedback": {
                "parameters": [app],
                "get": operation(
                    "feedback",
                    "Read dead tokens.",
                    {200: ("Those after the cursor.", "Feedback")},
                    (400, 401, 403, 404, 503),
                    parameters=paging(),
                ),
            },
            **queue_routes.paths(app),
            **provisioning.paths(app),
            "/v1/openapi.json": {
                "get": {
                    "operationId": "describe",
                    "summary": "This document.",
                    "responses": {
                        "200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}},
                        "401": response(ERRORS[401], "ErrorBody"),
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": Raw(text.replace("#/components/schemas/_", "#/components/schemas/").encode()),
        },
    }
    return encode(document)
