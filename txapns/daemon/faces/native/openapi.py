"""
The table of operations, and the OpenAPI document made from it.

Each module of the native face lists what it answers as a tuple of :class:`Operation`. The face routes requests by these
tables, and :func:`document` describes the same ones, so the description cannot differ from what is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred

import txapns
from txapns._serving.http import Answer
from txapns.daemon.faces.native.json_api import ERRORS, MAX_CURSOR, MAX_PAGE, ErrorBody, encode

__all__ = ["PAGING", "Operation", "Schema", "document", "parameter"]

#: A part of the document.
Schema = Mapping[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_RETRIED = (429, 503)
_RETRY_AFTER = {"schema": {"type": "integer"}, "description": "When to try again, in seconds."}


@attrs.frozen
class Operation:
    """
    One method of one resource.

    :ivar path: the path of the resource; each name in braces stands for one segment.
    :ivar answer: called with the object that implements it, the request, the caller and the segments; it may raise
        :class:`~txapns.daemon.errors.RequestRefused`, or fail with it.
    :ivar results: for each status of success, what it means and the structures that the body can have.
    :ivar errors: the statuses of the errors that it can answer.
    :ivar body: the structure of the request's body; ``None`` where it has none.
    :ivar parameters: its parameters, apart from those in the path.
    """

    method: str
    path: str
    answer: Callable[..., Answer | Deferred[Answer]]
    name: str
    summary: str
    results: Mapping[int, tuple[str, Sequence[type]]]
    errors: Sequence[int] = ()
    body: type[Struct] | None = None
    parameters: Sequence[Schema] = ()


def parameter(name: str, where: str, description: str, **schema: object) -> Schema:
    """Describe a parameter."""
    return {"name": name, "in": where, "required": where == "path", "description": description, "schema": schema}


#: The parameters that :func:`~txapns.daemon.faces.native.json_api.page` reads.
PAGING = (
    parameter("after", "query", "The cursor of the last one read.", type="integer", minimum=0, maximum=MAX_CURSOR),
    parameter("limit", "query", "The largest number of entries.", type="integer", minimum=1, maximum=MAX_PAGE),
)


def document(operations: Iterable[Operation], segments: Mapping[str, Schema], extras: Mapping[type, Schema]) -> bytes:
    """
    Make the OpenAPI document, in JSON.

    :param segments: the parameters in paths, by name.
    :param extras: what the schemas of structures say beyond their types.
    """
    operations = tuple(operations)
    structures = [ErrorBody, *(each for operation in operations for each in _structures(operation))]
    _, schemas = msgspec.json.schema_components(structures, ref_template=_REFERENCE)
    for structure, extra in extras.items():
        _extend(schemas[structure.__name__], extra)
    paths: dict[str, dict[str, object]] = {}
    for operation in operations:
        named = [schema for name, schema in segments.items() if f"{{{name}}}" in operation.path]
        resource = paths.setdefault(operation.path, {"parameters": named} if named else {})
        resource[operation.method.lower()] = _description(operation)
    text = encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "txapns daemon", "version": txapns.__version__},
            "security": [{"key": []}],
            "paths": paths,
            "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": schemas},
        }
    )
    # The structures are private to their modules. The document does not show it.
    for name in schemas:
        if name.startswith("_"):
            text = text.replace(f'"{name}":'.encode(), f'"{name[1:]}":'.encode())
    return text.replace(_REFERENCE.format(name="_").encode(), _REFERENCE.format(name="").encode())


def _extend(schema: dict[str, Any], extra: Schema) -> None:
    for name, value in extra.items():
        if isinstance(value, Mapping) and isinstance(schema.get(name), dict):
            _extend(schema[name], value)
        else:
            schema[name] = value


def _structures(operation: Operation) -> Iterator[type]:
    """Find the structures of an operation's bodies."""
    if operation.body is not None:
        yield operation.body
    for _, bodies in operation.results.values():
        yield from bodies


def _description(operation: Operation) -> Schema:
    responses = {str(status): _response(*result) for status, result in operation.results.items()}
    for status in operation.errors:
        responses[str(status)] = _response(ERRORS[status], (ErrorBody,))
        if status in _RETRIED:
            responses[str(status)]["headers"] = {"Retry-After": _RETRY_AFTER}
    described: dict[str, object] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": responses,
    }
    if operation.parameters:
        described["parameters"] = operation.parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, **_content((operation.body,))}
    return described


def _response(description: str, bodies: Sequence[type]) -> dict[str, object]:
    return {"description": description, **(_content(bodies) if bodies else {})}


def _content(bodies: Sequence[type]) -> dict[str, object]:
    schemas, _ = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    return {"content": {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}}
