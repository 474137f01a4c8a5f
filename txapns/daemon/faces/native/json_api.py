"""
JSON over HTTP/1.1: how requests are read and answers are written.

An error is ``{"error": {"code": …, "message": …, "path": …, "reason": …}}``. The code is the name of the exception that
refused the request, or of the HTTP status. The path is there if one part of the request is to blame, and the reason if
it was Apple who rejected it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from twisted.python.failure import Failure

from txapns._serving.http import Answer, Request
from txapns._serving.operations import CODES as CODES_OF_HTTP
from txapns.daemon.errors import (
    AppExists,
    AppQueueFull,
    KeyConflict,
    Malformed,
    NoAnswer,
    NotAllowed,
    NotAuthenticated,
    NotRecorded,
    NotSupported,
    RejectedByApple,
    RequestRefused,
    TooLarge,
    Unavailable,
    UnknownApp,
    UnknownChannel,
    UnsupportedMediaType,
)
from txapns.daemon.values import Caller, Environment, Outcome, State
from txapns.payload import half_character

__all__ = [
    "CODES",
    "ENVIRONMENTS",
    "ERRORS",
    "MAX_CURSOR",
    "MAX_PAGE",
    "STATES",
    "AskedEnvironment",
    "ChannelName",
    "EnvironmentName",
    "ErrorBody",
    "Seconds",
    "UniqueId",
    "decoded",
    "encode",
    "environment_name",
    "fault",
    "json_body",
    "must_manage",
    "page",
    "parameters",
    "refused",
    "refused_later",
]

_S = TypeVar("_S", bound=Struct)

_REFUSALS = (
    Malformed,
    NotAuthenticated,
    NotAllowed,
    UnknownApp,
    UnknownChannel,
    AppExists,
    KeyConflict,
    NotSupported,
    NotRecorded,
    TooLarge,
    UnsupportedMediaType,
    RejectedByApple,
    AppQueueFull,
    Unavailable,
    NoAnswer,
)


def _code(kind: type[RequestRefused]) -> str:
    """Turn ``AppQueueFull`` into ``app_queue_full``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


#: Every code that an error can have, with its status.
CODES = frozenset({(_code(kind), kind.status) for kind in _REFUSALS} | {(code, n) for n, code in CODES_OF_HTTP.items()})

#: How the states of notifications are written.
STATES: Mapping[State, Any] = {state: state.name.lower() for state in State}

#: The largest number of entries in one answer, and the greatest cursor.
MAX_PAGE, MAX_CURSOR = 10_000, 2**63 - 1
_DEFAULT_PAGE = 1_000

#: A time in an answer.
Seconds = Annotated[float, Meta(description="UNIX seconds.")]

#: Apple's unique id in an answer.
UniqueId = Annotated[str, Meta(description="Apple's apns-unique-id, for its developer console; sandbox only.")]

#: The channel of a broadcast in an answer.
ChannelName = Annotated[str, Meta(description="The channel of a broadcast.")]

#: The name of an environment in an answer.
EnvironmentName = Annotated[
    Literal["production", "sandbox"],
    Meta(description="The environment whose answer it is, if the app has two sides."),
]

#: The name of an environment in a request.
AskedEnvironment = Annotated[
    Literal["production", "sandbox"],
    Meta(
        description="Of an app with two sides, the one that it is for. Left out, it is production for a broadcast, and"
        " for a notification the one that knows the device token."
    ),
]

#: What the names of environments mean.
ENVIRONMENTS: Mapping[object, Environment | None] = {
    UNSET: None,
    **{environment.name.lower(): environment for environment in Environment},
}

#: Writes a body.
encode = msgspec.json.Encoder().encode


class _Error(Struct, omit_defaults=True):
    """What is wrong with a request."""

    code: str
    message: str
    path: Annotated[str, Meta(description="The part of the request that is to blame.")] = ""
    reason: Annotated[str, Meta(description="Apple's reason, if Apple rejected it.")] = ""


class ErrorBody(Struct):
    """The body of every error."""

    error: _Error


# Reading requests.


def must_manage(caller: Caller) -> None:
    """Refuse a caller whose key does not allow ``manage``."""
    if not caller.manage:
        raise NotAllowed("the key does not allow managing the daemon")


def parameters(request: Request, *known: str) -> dict[str, str]:
    """Read the query of a request, which may have only the ``known`` parameters, and each only once."""
    query = request.uri.partition(b"?")[2]
    if not query:
        return {}
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        raise Malformed("the query cannot be read") from None
    for name, value in pairs:
        if name not in known or name in found:
            allowed = " and ".join(known) or "none"
            raise Malformed(f"a query parameter is unknown or repeated; allowed: {allowed}")
        found[name] = value
    return found


def page(given: Mapping[str, str]) -> tuple[int, int]:
    """Read which page of a list a query asks for: after which cursor it begins, and how many entries it has."""
    return _whole(given, "after", 0, 0, MAX_CURSOR), _whole(given, "limit", _DEFAULT_PAGE, 1, MAX_PAGE)


def _whole(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    number = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if not least <= number <= most:
        raise Malformed(f"{name} must be a whole number from {least} to {most}", path=name)
    return number


def json_body(decoder: msgspec.json.Decoder[_S], request: Request) -> _S:
    """Read the body of a request, which must be declared as JSON."""
    kind = request.single(b"Content-Type") or b""
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMediaType("the body must be JSON, and the Content-Type application/json")
    return decoded(decoder, request.body)


def decoded(decoder: msgspec.json.Decoder[_S], body: bytes) -> _S:
    """Decode JSON; an error names the path of what is wrong."""
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
            fault = "half of a surrogate pair, which UTF-8 cannot encode: a text was cut in the middle of a character"
            raise Malformed(f"{half}: {fault}", path=half) from None
        raise Malformed(f"the body is not JSON: {error}") from None


# Writing answers.


def _error(status: int, error: _Error, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    return Answer(status, encode(ErrorBody(error)), headers)


def fault(status: int, message: str) -> Answer:
    """Write an error of HTTP itself."""
    return _error(status, _Error(CODES_OF_HTTP[status], message))


def refused(refusal: RequestRefused) -> Answer:
    """Write the answer to a request that is refused."""
    headers = []
    if refusal.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % max(1, round(refusal.retry_after))))
    if isinstance(refusal, NotAuthenticated):
        headers.append((b"WWW-Authenticate", b'Bearer realm="txapns"'))
    error = _Error(_code(type(refusal)), str(refusal), refusal.path, refusal.reason)
    return _error(refusal.status, error, headers)


def refused_later(reason: Failure) -> Answer:
    """Do the same as an errback; failures of other kinds are passed on."""
    refusal = reason.value
    if not isinstance(refusal, RequestRefused):
        reason.raiseException()
    return refused(refusal)


#: What each status of an error means.
ERRORS = {
    400: "The request is malformed.",
    401: "The key is missing or unknown.",
    403: "The key does not allow this.",
    404: "It does not exist.",
    409: "The idempotency key was used for another request, or the app is in the configuration or cannot do this.",
    413: "It exceeds the limits.",
    415: "The body is not application/json.",
    422: "Apple rejects it, for the reason given.",
    429: "The app's queue is full. Nothing was accepted.",
    503: "It cannot be done now. Nothing was done.",
    504: "It was passed on, and no answer of Apple's came: it may have been done.",
}


def environment_name(outcome: Outcome) -> Literal["production", "sandbox"] | UnsetType:
    """Tell which environment an outcome is of."""
    if outcome.environment is None:
        return UNSET
    return "sandbox" if outcome.environment is Environment.SANDBOX else "production"
