"""
JSON over HTTP/1.1, as the control API reads and writes it.

An error is ``{"error": {"code": …, "message": …, "path": …}}``, as in the daemon's API. The path is the part of the
request that is to blame, and empty if that is not one part.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from txapns._serving.http import Answer, Request
from txapns._serving.operations import CODES
from txapns._serving.pages import SECURITY
from txapns.devices.push import json_object

__all__ = [
    "ERROR",
    "ERRORS",
    "MAX_KEPT",
    "Fields",
    "Refused",
    "answer",
    "encode",
    "fault",
    "json_body",
    "number",
    "parameters",
    "refused",
    "whole",
    "whole_parameter",
]


#: How long a body may be of which thousands may be kept, in bytes.
MAX_KEPT = 32_768
# Numbers as JSON and OpenAPI write them. What Python reads besides, such as 1_0, is not one.
_NUMBER, _WHOLE = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"), re.compile(r"[0-9]{1,16}")
D = TypeVar("D", int, None)

#: What each status of an error means.
ERRORS = {
    400: "The request is malformed.",
    404: "It does not exist.",
    413: "The body is too long.",
    415: "The body is not application/json.",
    503: "There are too many of these.",
}
#: The schemas of the body of an error.
ERROR = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "path"],
                "properties": {name: {"type": "string"} for name in ("code", "message", "path")},
            }
        },
    }
}


class Refused(Exception):
    """
    A request is refused.

    :ivar status: the HTTP status.
    :ivar path: the part of the request that is to blame.
    """

    def __init__(self, message: str, path: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.path = path
        self.status = status


def encode(value: object) -> bytes:
    """Write JSON."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def answer(value: object, status: int = 200) -> Answer:
    """Write an answer."""
    return Answer(status, encode(value), SECURITY)


def fault(status: int, message: str, path: str = "") -> Answer:
    """Write an error."""
    return answer({"error": {"code": CODES[status], "message": message, "path": path}}, status)


def refused(error: Refused) -> Answer:
    """Write the answer to a request that is refused."""
    return fault(error.status, str(error), error.path)


def parameters(request: Request, *known: str) -> dict[str, str]:
    """Read the query of a request, which may have only the ``known`` parameters, and each only once."""
    query = request.uri.partition(b"?")[2].decode("latin-1")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=20)
    except ValueError:
        raise Refused("the query cannot be read") from None
    found = dict(pairs)
    unknown = sorted(found.keys() - set(known))
    if unknown or len(found) < len(pairs):
        raise Refused(f"a query parameter is unknown or repeated; allowed: {', '.join(known) or 'none'}")
    return found


def number(given: Mapping[str, str], name: str, default: float, most: float) -> float:
    """Read a parameter that is a number from 0 to ``most``."""
    text = given.get(name)
    if text is None:
        return default
    found = float(text) if _NUMBER.fullmatch(text) else math.inf
    if found > most:
        raise Refused(f"{name} must be a number from 0 to {most:g}", name)
    return found


def whole(text: str) -> int | None:
    """Read a whole number in decimal digits; ``None`` if it is not one, or has more than 16 digits."""
    return int(text) if _WHOLE.fullmatch(text) else None


def whole_parameter(given: Mapping[str, str], name: str, default: D, most: int) -> int | D:
    """Read a parameter that is a whole number from 0 to ``most``."""
    text = given.get(name)
    if text is None:
        return default
    found = whole(text)
    if found is None or found > most:
        raise Refused(f"{name} must be a whole number from 0 to {most}", name)
    return found


def json_body(request: Request, most: int | None = None) -> dict[str, Any]:
    """
    Read the body of a request, a JSON object that is declared as one.

    :param most: how long it may be, in bytes, if it is to be kept.

    A page of another site can make a browser send a form, but not this type, unless we were to allow it.
    """
    kind = request.single(b"Content-Type") or b""
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise Refused("the body must be JSON, and the Content-Type application/json", status=415)
    if most is not None and len(request.body) > most:
        raise Refused(f"the body is longer than {most} bytes", status=413)
    content = json_object(request.body)
    if content is None:
        raise Refused("the body is not a JSON object")
    return content


class Fields:
    """
    The members of a JSON object, which may have only the ``known`` ones. Null is the same as a missing one.

    Each method raises :exc:`Refused` if a member is not what it should be.
    """

    def __init__(self, content: Mapping[str, Any], *known: str) -> None:
        unknown = sorted(content.keys() - set(known))
        if unknown:
            raise Refused(f"this is unknown; known: {', '.join(known)}", unknown[0])
        self._content = content

    def text(self, name: str) -> str | None:
        """Read a text; ``None`` if it is missing."""
        value = self._content.get(name)
        if value is not None and not isinstance(value, str):
            raise Refused(f"{name} must be a text", name)
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        """Read a whole number; ``None`` if it is missing."""
        value = self._content.get(name)
        if value is not None and not (type(value) is int and least <= value <= most):
            raise Refused(f"{name} must be a whole number from {least} to {most}", name)
        return value

    def number(self, name: str, least: float, most: float, default: float | None = None) -> float | None:
        """Read a number."""
        value = self._content.get(name)
        if value is None:
            return default
        if not (isinstance(value, int | float) and type(value) is not bool and least <= value <= most):
            raise Refused(f"{name} must be a number from {least:g} to {most:g}", name)
        return float(value)

    def flag(self, name: str) -> bool:
        """Read true or false; false if it is missing."""
        value = self._content.get(name)
        if value is not None and not isinstance(value, bool):
            raise Refused(f"{name} must be true or false", name)
        return bool(value)
