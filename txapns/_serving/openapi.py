"""The OpenAPI document of an API, made from the table of its operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from txapns._serving.operations import Operation, Schema

__all__ = ["REFERENCE", "document"]

#: How a schema is named elsewhere in a document.
REFERENCE = "#/components/schemas/{name}"
_RETRIED = (429, 503)
_RETRY_AFTER = {"schema": {"type": "integer"}, "description": "When to try again, in seconds."}

#: Makes the schema of a body that has one of several types.
SchemaOf = Callable[[Sequence[Any]], Schema]


def document(
    title: str,
    version: str,
    operations: Iterable[Operation],
    segments: Mapping[str, Schema],
    schema_of: SchemaOf,
    errors: Mapping[int, str],
    error_body: Any,
) -> dict[str, Any]:
    """
    Make the document, without its components.

    :param title: the name of the API.
    :param version: its version.
    :param segments: the parameters in paths, by name.
    :param schema_of: makes the schema of a body, given the types that it can have.
    :param errors: what each status of an error means.
    :param error_body: the type of the body of every error.
    :returns: the document, to be completed with the schemas that it names.
    """
    paths: dict[str, dict[str, object]] = {}
    for operation in operations:
        named = [schema for name, schema in segments.items() if f"{{{name}}}" in operation.path]
        resource = paths.setdefault(operation.path, {"parameters": named} if named else {})
        resource[operation.method.lower()] = _description(operation, schema_of, errors, error_body)
    return {"openapi": "3.1.0", "info": {"title": title, "version": version}, "paths": paths}


def _description(
    operation: Operation, schema_of: SchemaOf, errors: Mapping[int, str], error_body: Any
) -> dict[str, object]:
    responses = {str(status): _response(schema_of, *result) for status, result in operation.results.items()}
    for status in operation.errors:
        responses[str(status)] = _response(schema_of, errors[status], (error_body,))
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
        described["requestBody"] = {"required": True, **_content(schema_of, (operation.body,))}
    return described


def _response(schema_of: SchemaOf, description: str, bodies: Sequence[Any]) -> dict[str, object]:
    return {"description": description, **(_content(schema_of, bodies) if bodies else {})}


def _content(schema_of: SchemaOf, bodies: Sequence[Any]) -> dict[str, object]:
    return {"content": {"application/json": {"schema": schema_of(bodies)}}}
