"""
The native face: JSON over HTTP/1.1.

::

    POST /v1/apps/<app>/notifications              accept notifications: 202 and their ids, once they are on the disk
    GET  /v1/notifications/<id>                    what became of one
    GET  /v1/apps/<app>/feedback?after=&limit=     the dead tokens, by cursor
    GET  /v1/openapi.json                          all of this for programs

The bodies are the structures below, and the OpenAPI document is made from them. A payload is not decoded and encoded
again: Apple gets the octets that the caller wrote. An error is ``{"error": {"code": …, "message": …, "path": …}}``,
where the path is there if a part of the request is to blame.
"""

from __future__ import annotations

import hashlib
import re
from binascii import unhexlify
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote

import attrs
import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

import txapns
from txapns.daemon.errors import (
    GatewayRefusal,
    KeyConflict,
    Malformed,
    NotAllowed,
    NotAuthenticated,
    QueueFull,
    TooLarge,
    Unavailable,
    UnknownApp,
)
from txapns.daemon.faces.http import Answer, IApplication, Request
from txapns.daemon.intake import MAX_HEADER, MAX_TOKEN
from txapns.daemon.interfaces import IApps, IFeedbackLog, IIntake, IKeys, ISpool
from txapns.daemon.values import Caller, DeadToken, Draft, Idempotency, Outcome, State

__all__ = ["ANYBODY", "CODES", "Native", "openapi"]

#: Whoever calls where no keys are asked for.
ANYBODY = Caller("anybody", None, None)

_REFUSALS = (
    Malformed,
    NotAuthenticated,
    NotAllowed,
    UnknownApp,
    KeyConflict,
    TooLarge,
    QueueFull,
    Unavailable,
)
# What HTTP itself has words for.
_FAULTS = {
    400: "malformed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    500: "internal",
    503: "unavailable",
}


def _code(kind: type[GatewayRefusal]) -> str:
    """Turn a name as ``QueueFull`` into a code as ``queue_full``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


#: Every code that an error can have, with its status.
CODES = frozenset({(_code(kind), kind.status) for kind in _REFUSALS} | {(code, n) for n, code in _FAULTS.items()})

_PAGE, _MAX_PAGE = 1_000, 10_000
_MAX_CURSOR = 2**63 - 1
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
_Time = Annotated[float, Meta(description="UNIX seconds.")]


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
    accepted_at: _Time | UnsetType = UNSET
    settled_at: _Time | UnsetType = UNSET


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


class _DeadToken(Struct):
    """A device token that is no longer in use."""

    cursor: int
    token: str
    reason: str
    timestamp: Annotated[float, Meta(description="Since when, in UNIX seconds.")]
    noted_at: Annotated[float, Meta(description="When we learnt of it, in UNIX seconds.")]


class _Feedback(Struct):
    """Some of the dead tokens."""

    tokens: list[_DeadToken]
    cursor: Annotated[int, Meta(description="Where to read on: give it as 'after'.")]


class _Error(Struct, omit_defaults=True):
    """What is wrong."""

    code: str
    message: str
    path: Annotated[str, Meta(description="The part of the request that is to blame.")] = ""


class _Refusal(Struct):
    """The body of every answer that is an error."""

    error: _Error


_decode = msgspec.json.Decoder(_Submission).decode
_encode = msgspec.json.Encoder().encode

_BODIES = (_Submission, _Acceptance, _Valid, _Outcome, _Feedback, _Refusal)


def _error(status: int, code: str, message: str, path: str = "", headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    return Answer(status, _encode(_Refusal(_Error(code, message, path))), headers)


def _refused(refusal: GatewayRefusal) -> Answer:
    headers = []
    if refusal.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % max(1, round(refusal.retry_after))))
    if isinstance(refusal, NotAuthenticated):
        headers.append((b"WWW-Authenticate", b'Bearer realm="txapns"'))
    return _error(refusal.status, _code(type(refusal)), str(refusal), refusal.path, headers)


def _refused_later(reason: Failure) -> Answer:
    reason.trap(GatewayRefusal)
    assert isinstance(reason.value, GatewayRefusal)
    return _refused(reason.value)


@attrs.frozen
class _Route:
    """
    One resource.

    :ivar pattern: its path; what is in groups is an argument.
    :ivar method: the method that it knows, beside ``OPTIONS``, and ``HEAD`` where it is ``GET``.
    :ivar answer: what answers.
    """

    pattern: re.Pattern[bytes]
    method: bytes
    answer: Callable[..., Answer | Deferred[Answer]]

    @property
    def allowed(self) -> bytes:
        """The methods, as in the header field ``Allow``."""
        return b"GET, HEAD, OPTIONS" if self.method == b"GET" else self.method + b", OPTIONS"


@implementer(IApplication)
class Native:
    """
    Answers requests of the native face.

    :param intake: where notifications go.
    :param spool: knows what became of them.
    :param feedback: the dead tokens.
    :param apps: the apps.
    :param keys: the keys that callers show; ``None`` where everybody may do everything.
    :param patience: for how many seconds a caller can wait for outcomes at the most.
    """

    def __init__(
        self,
        intake: IIntake,
        spool: ISpool,
        feedback: IFeedbackLog,
        apps: IApps,
        keys: IKeys | None,
        patience: float = 30.0,
    ) -> None:
        self._intake = intake
        self._spool = spool
        self._feedback = feedback
        self._apps = apps
        self._keys = keys
        self._patience = patience
        self._openapi = openapi()
        self._routes = (
            _Route(re.compile(rb"/v1/apps/([^/]+)/notifications"), b"POST", self._accept),
            _Route(re.compile(rb"/v1/notifications/([^/]+)"), b"GET", self._tell),
            _Route(re.compile(rb"/v1/apps/([^/]+)/feedback"), b"GET", self._read),
            _Route(re.compile(rb"/v1/openapi\.json"), b"GET", self._describe),
        )

    def begun(self, request: Request) -> Answer | None:
        """Find out who calls."""
        if self._keys is None:
            request.context = ANYBODY
            return None
        try:
            request.context = self._keys.check(_bearer(request))
        except GatewayRefusal as refusal:
            return _refused(refusal)
        return None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Find what is asked for."""
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is not None:
                return self._routed(route, request, match.groups())
        return self.fault(404, "there is nothing at this path")

    def _routed(self, route: _Route, request: Request, arguments: Sequence[bytes]) -> Answer | Deferred[Answer]:
        if request.method == b"OPTIONS":
            return Answer(204, headers=[(b"Allow", route.allowed)])
        if request.method != route.method and (request.method, route.method) != (b"HEAD", b"GET"):
            answer = self.fault(405, f"allowed here: {route.allowed.decode()}")
            return attrs.evolve(answer, headers=[(b"Allow", route.allowed)])
        try:
            return route.answer(request, request.context, *[_unquoted(each) for each in arguments])
        except GatewayRefusal as refusal:
            return _refused(refusal)

    def fault(self, status: int, message: str) -> Answer:
        """See :meth:`IApplication.fault`."""
        return _error(status, _FAULTS[status], message)

    # What can be asked for.

    def _accept(self, request: Request, caller: Caller, app: str) -> Answer | Deferred[Answer]:
        if not caller.may_send(app):
            raise NotAllowed("the key is not for sending to this app")
        if not _is_json(request):
            return self.fault(415, "the body has to be application/json, and its Content-Type to say so")
        _parameters(request)
        submission = _decoded(request.body)
        drafts = [_draft(each, position) for position, each in enumerate(submission.notifications)]
        if submission.validate_only:
            self._intake.check(app, drafts)
            return Answer(200, _encode(_Valid(True)))
        accepted = self._intake.accept(app, drafts, _idempotency(request, caller, app))
        if submission.wait:
            return accepted.addCallback(self._wait, app).addErrback(_refused_later)
        return accepted.addCallbacks(_accepted, _refused_later)

    def _wait(self, apns_ids: list[list[str]], app: str) -> Deferred[Answer]:
        def waited(found: Mapping[str, Outcome]) -> Answer:
            complete = len(found) == len({each for group in apns_ids for each in group})
            accepted = [
                _Accepted(group, [_outcome(found[each]) if each in found else _waiting(each, app) for each in group])
                for group in apns_ids
            ]
            return Answer(200 if complete else 202, _encode(_Acceptance(accepted)))

        every = [each for group in apns_ids for each in group]
        return self._intake.wait(every, self._patience).addCallback(waited)

    def _tell(self, request: Request, caller: Caller, apns_id: str) -> Answer | Deferred[Answer]:
        _parameters(request)
        unknown = "there is no such notification, or it is forgotten"
        apns_id = apns_id.lower()
        if not _ID.fullmatch(apns_id):
            return self.fault(404, unknown)

        def found(outcome: Outcome | None) -> Answer:
            if outcome is None:
                return self.fault(404, unknown)
            if not caller.may_read(outcome.app):
                raise NotAllowed("the key is not for reading what became of this notification")
            return Answer(200, _encode(_outcome(outcome)))

        return self._spool.outcome(apns_id).addCallback(found).addErrback(_refused_later)

    def _read(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        if not caller.may_read(app):
            raise NotAllowed("the key is not for reading the dead tokens of this app")
        parameters = _parameters(request, "after", "limit")
        cursor = _whole(parameters, "after", 0, 0, _MAX_CURSOR)
        limit = _whole(parameters, "limit", _PAGE, 1, _MAX_PAGE)
        self._apps.get(app)

        def read(dead: list[DeadToken]) -> Answer:
            tokens = [
                _DeadToken(each.cursor, each.token.hex(), each.reason, each.timestamp, each.noted_at) for each in dead
            ]
            return Answer(200, _encode(_Feedback(tokens, dead[-1].cursor if dead else cursor)))

        return self._feedback.after(app, cursor, limit).addCallbacks(read, _refused_later)

    def _describe(self, request: Request, caller: Caller) -> Answer:
        return Answer(200, self._openapi)


# Reading requests.


def _bearer(request: Request) -> str:
    value = request.single(b"Authorization") or b""
    scheme, _, key = value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise NotAuthenticated("there has to be a key: Authorization: Bearer txapns_…")
    return key.strip(b" ").decode("latin-1")


def _unquoted(segment: bytes) -> str:
    return unquote(segment.decode("latin-1"), errors="replace")


def _is_json(request: Request) -> bool:
    kind = request.single(b"Content-Type") or b""
    return kind.partition(b";")[0].strip().lower() == b"application/json"


def _parameters(request: Request, *known: str) -> dict[str, str]:
    """Read the part of the address after the question mark."""
    query = request.uri.partition(b"?")[2]
    if not query:
        return {}
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        raise Malformed("what follows the question mark cannot be read") from None
    for name, value in pairs:
        if name not in known or name in found:
            allowed = " and ".join(known) or "none"
            raise Malformed(f"there is a parameter that is not known, or one twice; allowed: {allowed}")
        found[name] = value
    return found


def _whole(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    number = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if not least <= number <= most:
        raise Malformed(f"{name} has to be a whole number from {least} to {most}", path=name)
    return number


def _idempotency(request: Request, caller: Caller, app: str) -> Idempotency | None:
    values = request.requestHeaders.getRawHeaders(b"Idempotency-Key")
    if values is None:
        return None
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise Malformed("an Idempotency-Key has 1 to 255 printable ASCII characters", path="Idempotency-Key")
    digest = hashlib.sha256(request.body).digest()
    return Idempotency(f"{caller.name}/{app}", values[0].decode("ascii"), digest)


def _decoded(body: bytes) -> _Submission:
    try:
        return _decode(body)
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        raise Malformed(message, path=path.strip("`").removeprefix("$").removeprefix(".")) from None
    except msgspec.DecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None


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


def _accepted(apns_ids: list[list[str]]) -> Answer:
    return Answer(202, _encode(_Acceptance([_Accepted(group) for group in apns_ids])))


def _waiting(apns_id: str, app: str) -> _Outcome:
    return _Outcome(apns_id, app, "waiting")


_STATES: Mapping[State, Any] = {state: state.name.lower() for state in State}


def _outcome(outcome: Outcome) -> _Outcome:
    return _Outcome(
        outcome.apns_id,
        outcome.app,
        _STATES[outcome.state],
        outcome.status or UNSET,
        outcome.reason or UNSET,
        UNSET if outcome.timestamp is None else outcome.timestamp,
        outcome.attempts,
        outcome.accepted_at,
        UNSET if outcome.settled_at is None else outcome.settled_at,
    )


# The description.


def _json_body(name: str) -> dict[str, object]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _response(description: str, body: str) -> dict[str, object]:
    return {"description": description, **_json_body(body)}


def _parameter(name: str, where: str, description: str, **schema: object) -> dict[str, object]:
    return {"name": name, "in": where, "required": where == "path", "description": description, "schema": schema}


_ERRORS = {
    400: "The request cannot be understood.",
    401: "Nobody has this key.",
    403: "The key is not for this.",
    404: "There is no such thing.",
    409: "The idempotency key was used for another request.",
    413: "It is more than the limits allow.",
    415: "The body is not application/json.",
    429: "The app's queue is full. Nothing was accepted.",
    503: "It cannot be done now. Nothing was accepted.",
}
_PATIENT = {429, 503}


def _operation(
    name: str, summary: str, answers: Mapping[int, tuple[str, str]], errors: Sequence[int], **more: object
) -> dict[str, object]:
    responses = {str(status): _response(*answer) for status, answer in answers.items()}
    for status in errors:
        responses[str(status)] = _response(_ERRORS[status], "Refusal")
        if status in _PATIENT:
            schema = {"schema": {"type": "integer"}, "description": "When to try again, in seconds."}
            responses[str(status)]["headers"] = {"Retry-After": schema}
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def openapi() -> bytes:
    """
    Describe the face.

    :returns: an OpenAPI document, in JSON.
    """
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    schemas["_Notification"].update(_ONE_ID)
    schemas["_Notification"]["properties"]["headers"] = _HEADERS
    text = _encode({name.removeprefix("_"): schema for name, schema in schemas.items()}).decode()
    app = _parameter("app", "path", "The app's name.", type="string", minLength=1)
    key = _parameter(
        "Idempotency-Key",
        "header",
        "Makes a request that is sent a second time known as such; it is accepted once.",
        type="string",
        minLength=1,
        maxLength=255,
        pattern="^[!-~]([ -~]*[!-~])?$",
    )
    after = _parameter(
        "after", "query", "The cursor of the last one read.", type="integer", minimum=0, maximum=_MAX_CURSOR
    )
    limit = _parameter("limit", "query", "How many at the most.", type="integer", minimum=1, maximum=_MAX_PAGE)
    identifier = _parameter("id", "path", "The notification's apns-id.", type="string", pattern=f"^{_UUID}$")
    accepted = {
        200: ("All have an outcome (with wait), or would be accepted (with validate_only).", "Acceptance"),
        202: ("They are on the disk.", "Acceptance"),
    }
    accept = _operation(
        "accept",
        "Accept notifications: all, or none.",
        accepted,
        (400, 401, 403, 404, 409, 413, 415, 429, 503),
        parameters=[key],
        requestBody={"required": True, **_json_body("Submission")},
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
                "get": _operation(
                    "outcome",
                    "Tell what became of a notification.",
                    {200: ("It.", "Outcome")},
                    (400, 401, 403, 404, 503),
                ),
            },
            "/v1/apps/{app}/feedback": {
                "parameters": [app],
                "get": _operation(
                    "feedback",
                    "Read dead tokens.",
                    {200: ("Those after the cursor.", "Feedback")},
                    (400, 401, 403, 404, 503),
                    parameters=[after, limit],
                ),
            },
            "/v1/openapi.json": {
                "get": {
                    "operationId": "describe",
                    "summary": "This document.",
                    "responses": {
                        "200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}},
                        "401": _response(_ERRORS[401], "Refusal"),
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": Raw(text.replace("#/components/schemas/_", "#/components/schemas/").encode()),
        },
    }
    return _encode(document)
