"""
Answers to homeservers, in the words of Matrix.

An error is ``{"errcode": "M_…", "error": …}``. Source: Matrix Specification, Client-Server API, "Standard error
response".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from txapns._serving.http import Answer
from txapns.daemon.errors import (
    AppQueueFull,
    Malformed,
    NotAllowed,
    NotAuthenticated,
    RequestRefused,
    TooLarge,
    UnknownApp,
)
from txapns.daemon.faces.matrix.requests import NotJSON

__all__ = ["error", "refused", "rejected"]

_CODES: Sequence[tuple[type[RequestRefused], str]] = (
    (NotJSON, "M_NOT_JSON"),
    (Malformed, "M_BAD_JSON"),
    (TooLarge, "M_TOO_LARGE"),
    (NotAllowed, "M_FORBIDDEN"),
    (AppQueueFull, "M_LIMIT_EXCEEDED"),
)
_CODES_OF_STATUS = {
    401: "M_MISSING_TOKEN",
    403: "M_FORBIDDEN",
    404: "M_UNRECOGNIZED",
    405: "M_UNRECOGNIZED",
    413: "M_TOO_LARGE",
}

_encode = msgspec.json.Encoder().encode


def rejected(pushkeys: Iterable[str]) -> Answer:
    """Answer which pushkeys are dead: the homeserver removes their pushers."""
    return Answer(200, _encode({"rejected": list(pushkeys)}))


def error(status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Write an error of HTTP itself."""
    return Answer(status, _encode({"errcode": _CODES_OF_STATUS.get(status, "M_UNKNOWN"), "error": message}), headers)


def refused(refusal: RequestRefused) -> Answer:
    """
    Write the answer to a request that is refused.

    Homeservers repeat every request that is answered with an error. An error is for what may be accepted later, and for
    what is not a request at all.
    """
    # The operator has to add an app that the configuration names; until then nothing is lost.
    status = 503 if isinstance(refusal, UnknownApp) else refusal.status
    code = next((code for kind, code in _CODES if isinstance(refusal, kind)), "M_UNKNOWN")
    body: dict[str, object] = {"errcode": code, "error": str(refusal)}
    headers = []
    if isinstance(refusal, NotAuthenticated):
        body["errcode"] = "M_UNKNOWN_TOKEN"
        headers.append((b"WWW-Authenticate", b'Bearer realm="txapns"'))
    if refusal.retry_after is not None:
        seconds = max(1, round(refusal.retry_after))
        headers.append((b"Retry-After", b"%d" % seconds))
        if status == 429:
            body["retry_after_ms"] = 1_000 * seconds
    return Answer(status, _encode(body), headers)
