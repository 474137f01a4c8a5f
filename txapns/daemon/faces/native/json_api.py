"""
JSON over HTTP/1.1: how requests are read, how answers are written, and how both are described.

An error is ``{"error": {"code": …, "message": …, "path": …}}``, where the path is there if a part of the request is to
blame. The code is the name of the refusal, or of what HTTP itself has words for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct
from twisted.python.failure import Failure

from txapns.daemon.errors import (
    AppExists,
    AppQueueFull,
    KeyConflict,
    Malformed,
    NotAllowed,
    NotAuthenticated,
    RequestRefused,
    TooLarge,
    Unavailable,
    UnknownApp,
)
from txapns.daemon.serving.http import Answer, Request
from txapns.daemon.values import Caller, State
from txapns.payload import half_character

__all__ = [
    "CODES",
    "ERRORS",
    "MAX_CURSOR",
    "MAX_PAGE",
    "STATES",
    "ErrorBody",
    "Seconds",
    "decoded",
    "encode",
    "fault",
    "is_json",
    "json_body",
    "must_manage",
    "no_json",
    "operation",
    "page",
    "paging",
    "parameter",
    "parameters",
    "refused",
    "refused_later",
    "response",
]

_S = TypeVar("_S", bound=Struct)

_REFUSALS = (
    Malformed,
    NotAuthenticated,
    NotAllowed,
    UnknownApp,
    AppExists,
    KeyConflict,
    TooLarge,
    AppQueueFull,
    Unavailable,
)
# What HTTP itself has words for.
_FAULTS = {
    400: "malformed",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    421: "misdirected",
    500: "internal",
    503: "unavailable",
}


def _code(kind: type[RequestRefused]) -> str:
    """Turn a name as ``AppQueueFull`` into a code as ``app_queue_full``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


#: Every code that an error can have, with its status.
CODES = frozenset({(_code(kind), kind.status) for kind in _REFUSALS} | {(code, n) for n, code in _FAULTS.items()})

#: How the states of notifications are written.
STATES: Mapping[State, Any] = {state: state.name.lower() for state in State}

#: The most entries in one answer, and the greatest cursor. Where nothing is asked for, there are as many as ``_PAGE``.
MAX_PAGE, MAX_CURSOR = 10_000, 2**63 - 1
_PAGE = 1_000

#: A time in an answer.
Seconds = Annotated[float, Meta(description="UNIX seconds.")]

#: Writes a body.
encode = msgspec.json.Encoder().encode


class _Error(Struct, omit_defaults=True):
    """What is wrong."""

    code: str
    message: str
    path: Annotated[str, Meta(description="The part of the request that is to blame.")] = ""


class ErrorBody(Struct):
    """The body of every answer that is an error."""

    error: _Error


# Reading requests.


def must_manage(caller: Caller) -> None:
    """
    Turn away who may not look after the daemon.

    :param caller: who asks.
    :raises NotAllowed: it may not.
    """
    if not caller.manage:
        raise NotAllowed("the key is not for looking after the daemon")


def is_json(request: Request) -> bool:
    """
    Tell whether a request says that its body is JSON.

    :param request: the request.
    """
    kind = request.single(b"Content-Type") or b""
    return kind.partition(b";")[0].strip().lower() == b"application/json"


def parameters(request: Request, *known: str) -> dict[str, str]:
    """
    Read the part of the address after the question mark.

    :param request: the request.
    :param known: the names that may be there.
    :raises Malformed: there is another one, or one twice.
    """
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


def page(given: Mapping[str, str]) -> tuple[int, int]:
    """
    Read which part of a list is asked for.

    :param given: the parameters.
    :returns: after which cursor, and how many.
    :raises Malformed: one of them is no number, or too large.
    """
    return _whole(given, "after", 0, 0, MAX_CURSOR), _whole(given, "limit", _PAGE, 1, MAX_PAGE)


def _whole(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    number = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if not least <= number <= most:
        raise Malformed(f"{name} has to be a whole number from {least} to {most}", path=name)
    return number


def decoded(decoder: msgspec.json.Decoder[_S], body: bytes) -> _S:
    """
    Read a body.

    :param decoder: knows what it should be.
    :param body: the body.
    :raises Malformed: it is something else; the message says where.
    """
    try:
        return decoder.decode(body)
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        raise Malformed(message, path=path.strip("`").removeprefix("$").removeprefix(".")) from None
    except msgspec.DecodeError as error:
        half = half_character(body)
        if half is not None:  # which is JSON by its grammar
            fault = "half of a surrogate pair, which UTF-8 cannot express: a text was cut in the middle of a character"
            raise Malformed(f"{half}: {fault}", path=half) from None
        raise Malformed(f"the body is not JSON: {error}") from None


# Writing answers.


def _error(status: int, code: str, message: str, path: str = "", headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    return Answer(status, encode(ErrorBody(_Error(code, message, path))), headers)


def fault(status: int, message: str) -> Answer:
    """
    Write an error that HTTP itself has words for.

    :param status: the status.
    :param message: why.
    """
    return _error(status, _FAULTS[status], message)


def no_json() -> Answer:
    """Refuse what does not say that it is JSON; see :func:`is_json`."""
    return fault(415, "the body has to be application/json, and its Content-Type to say so")


def refused(refusal: RequestRefused) -> Answer:
    """
    Write a refusal.

    :param refusal: the refusal.
    """
    headers = []
    if refusal.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % max(1, round(refusal.retry_after))))
    if isinstance(refusal, NotAuthenticated):
        headers.append((b"WWW-Authenticate", b'Bearer realm="txapns"'))
    return _error(refusal.status, _code(type(refusal)), str(refusal), refusal.path, headers)


def refused_later(reason: Failure) -> Answer:
    """
    Write a refusal that came through a ``Deferred``.

    :param reason: the refusal; any other failure is passed on.
    """
    refusal = reason.value
    if not isinstance(refusal, RequestRefused):
        reason.raiseException()
    return refused(refusal)


# The description.

#: What each status of an error says.
ERRORS = {
    400: "The request cannot be understood.",
    401: "Nobody has this key.",
    403: "The key is not for this.",
    404: "There is no such thing.",
    409: "The idempotency key was used for another request, or the app is the configuration's.",
    413: "It is more than the limits allow.",
    415: "The body is not application/json.",
    429: "The app's queue is full. Nothing was accepted.",
    503: "It cannot be done now. Nothing was done.",
}
_PATIENT = {429, 503}


def json_body(name: str) -> dict[str, object]:
    """
    Describe a body.

    :param name: the name of its structure.
    """
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def response(description: str, body: str) -> dict[str, object]:
    """
    Describe an answer.

    :param description: what it says.
    :param body: the name of its body's structure.
    """
    return {"description": description, **json_body(body)}


def parameter(name: str, where: str, description: str, **schema: object) -> dict[str, object]:
    """
    Describe a parameter.

    :param name: its name.
    :param where: ``path``, ``query`` or ``header``.
    :param description: what it is.
    :param schema: what it can be.
    """
    return {"name": name, "in": where, "required": where == "path", "description": description, "schema": schema}


def paging() -> list[dict[str, object]]:
    """Describe the parameters that :func:`page` reads."""
    after = "The cursor of the last one read."
    return [
        parameter("after", "query", after, type="integer", minimum=0, maximum=MAX_CURSOR),
        parameter("limit", "query", "How many at the most.", type="integer", minimum=1, maximum=MAX_PAGE),
    ]


def operation(
    name: str, summary: str, answers: Mapping[int, tuple[str, str]], errors: Sequence[int], **more: object
) -> dict[str, object]:
    """
    Describe what can be asked for.

    :param name: its name.
    :param summary: what it does.
    :param answers: for each status, what the answer says, and the name of its body's structure.
    :param errors: the statuses of the errors there can be.
    :param more: what else the document has about it.
    """
    responses = {str(status): response(*answer) for status, answer in answers.items()}
    for status in errors:
        responses[str(status)] = response(ERRORS[status], "ErrorBody")
        if status in _PATIENT:
            schema = {"schema": {"type": "integer"}, "description": "When to try again, in seconds."}
            responses[str(status)]["headers"] = {"Retry-After": schema}
    return {"operationId": name, "summary": summary, "responses": responses, **more}
