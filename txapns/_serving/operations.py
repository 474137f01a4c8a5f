"""
Operations of an API over HTTP: a table of them, and which one a request asks for.

The same table makes the OpenAPI document, so the description cannot differ from what is served.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred

from txapns._serving.http import Answer, Request

__all__ = ["CODES", "Operation", "Router", "Schema", "parameter"]

#: A part of an OpenAPI document.
Schema = Mapping[str, Any]

#: The codes of the errors of HTTP itself, in the bodies of answers.
CODES = {
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


@attrs.frozen
class Operation:
    """
    One method of one resource.

    :ivar path: the path of the resource; each name in braces stands for one segment.
    :ivar answer: called with the object that implements it, the request, what else the router was given, and the
        segments.
    :ivar results: for each status of success, what it means and the types that the body can have.
    :ivar errors: the statuses of the errors that it can answer.
    :ivar body: the type of the request's body; ``None`` where it has none.
    :ivar parameters: its parameters, apart from those in the path.
    """

    method: str
    path: str
    answer: Callable[..., Answer | Deferred[Answer]]
    name: str
    summary: str
    results: Mapping[int, tuple[str, Sequence[Any]]]
    errors: Sequence[int] = ()
    body: Any = None
    parameters: Sequence[Schema] = ()


def parameter(name: str, where: str, description: str, **schema: object) -> Schema:
    """Describe a parameter."""
    return {"name": name, "in": where, "required": where == "path", "description": description, "schema": schema}


@attrs.frozen
class _Route:
    """
    One resource.

    :ivar pattern: its path; each group is an argument.
    :ivar answers: what answers each method. ``OPTIONS``, and ``HEAD`` where there is ``GET``, are answered as well.
    """

    pattern: re.Pattern[bytes]
    answers: dict[bytes, Callable[..., Answer | Deferred[Answer]]]

    @property
    def allowed(self) -> bytes:
        """The methods, as in the header field ``Allow``."""
        return b", ".join([*self.answers, *([b"HEAD"] if b"GET" in self.answers else []), b"OPTIONS"])


class Router:
    """
    Finds the operation that a request asks for.

    :param tables: for each object the operations that it implements.
    :param fault: writes an error, see :meth:`~txapns._serving.http.IApplication.fault`.
    """

    def __init__(self, tables: Mapping[object, Sequence[Operation]], fault: Callable[[int, str], Answer]) -> None:
        self._fault = fault
        routes: dict[str, _Route] = {}
        for implementation, operations in tables.items():
            for operation in operations:
                pattern = re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(operation.path))
                route = routes.setdefault(operation.path, _Route(re.compile(pattern.encode()), {}))
                route.answers[operation.method.encode()] = partial(operation.answer, implementation)
        self._routes = list(routes.values())

    def answer(self, request: Request, *arguments: object) -> Answer | Deferred[Answer]:
        """
        Answer a request.

        :param arguments: what the operation gets beside the request.
        :returns: the answer of the operation, or that there is none.
        :raises Exception: what the operation raises.
        """
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is not None:
                return self._routed(route, request, [*arguments, *map(_unquoted, match.groups())])
        return self._fault(404, "there is nothing at this path")

    def _routed(self, route: _Route, request: Request, arguments: Sequence[object]) -> Answer | Deferred[Answer]:
        if request.method == b"OPTIONS":
            return Answer(204, headers=[(b"Allow", route.allowed)])
        known = route.answers.get(b"GET" if request.method == b"HEAD" else request.method)
        if known is None:
            answer = self._fault(405, f"allowed here: {route.allowed.decode()}")
            return attrs.evolve(answer, headers=[*answer.headers, (b"Allow", route.allowed)])
        return known(request, *arguments)


def _unquoted(segment: bytes) -> str:
    text = segment.decode("latin-1")
    return unquote(text, errors="replace") if "%" in text else text
