"""
The OpenAPI document of the native face.

Each module of the face lists what it answers as a tuple of :class:`~txapns._serving.operations.Operation`, whose types
are structures. The face routes requests by these tables, and :func:`document` describes the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

import txapns
from txapns._serving import openapi
from txapns._serving.openapi import REFERENCE
from txapns._serving.operations import Operation, Schema, parameter
from txapns.daemon.faces.native.json_api import ERRORS, MAX_CURSOR, MAX_PAGE, ErrorBody, encode

__all__ = ["PAGING", "document"]

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
    _, schemas = msgspec.json.schema_components(structures, ref_template=REFERENCE)
    for structure, extra in extras.items():
        _extend(schemas[structure.__name__], extra)
    made = openapi.document("txapns daemon", txapns.__version__, operations, segments, _schema, ERRORS, ErrorBody)
    components = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": schemas}
    text = encode({**made, "security": [{"key": []}], "components": components})
    # The structures are private to their modules. The document does not show it.
    for name in schemas:
        if name.startswith("_"):
            text = text.replace(f'"{name}":'.encode(), f'"{name[1:]}":'.encode())
    return text.replace(REFERENCE.format(name="_").encode(), REFERENCE.format(name="").encode())


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


def _schema(bodies: Sequence[type]) -> Schema:
    schemas, _ = msgspec.json.schema_components(bodies, ref_template=REFERENCE)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
