"""
Parameters with thousands of values, as PostgreSQL's binary protocol takes them.

An array is a header and its elements, each with its length in front; all numbers are big-endian::

    00000001  00000000  00000014  00000002  00000001  00000008 0000000000000005  00000008 0000000000000006
    dimensions no NULLs type      elements  first     length   5                 length   6
                        (bigint)            index

psycopg converts the elements one by one. Here the bytes of all numbers are made by one call, and the lengths come in
between by slices with a step, eight for an array of any size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

__all__ = ["Array", "bigints", "byteas", "text", "texts"]

_BIGINT, _TEXT, _BYTEA = 20, 25, 17  # the types of elements in pg_type
_ARRAYS = {_BIGINT: 1016, _TEXT: 1009, _BYTEA: 1001}
_HEADER = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i").pack


class Array:
    """
    An array as a parameter.

    :param element: the type of its elements.
    """

    __slots__ = ("data", "oid")

    def __init__(self, element: int, count: int, data: bytes) -> None:
        self.oid = _ARRAYS[element]
        self.data = _HEADER.pack(1, 0, element, count, 1) + data


class _ArrayDumper(Dumper):
    """Tells psycopg what an array is."""

    format = Format.BINARY

    def __init__(self, cls: type, context: Any = None) -> None:
        super().__init__(cls, context)
        self.oid = 0

    def get_key(self, obj: Array, wanted: Any) -> Any:
        return (self.cls, obj.oid)

    def upgrade(self, obj: Array, wanted: Any) -> _ArrayDumper:
        found = _ArrayDumper(self.cls)
        found.oid = obj.oid
        return found

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def bigints(values: Sequence[int]) -> Array:
    """Make a ``bigint[]``."""
    count = len(values)
    numbers = struct.pack(f">{count}q", *values)
    data = bytearray(b"\0\0\0\x08\0\0\0\0\0\0\0\0" * count)
    for at in range(8):
        data[at + 4 :: 12] = numbers[at::8]
    return Array(_BIGINT, count, bytes(data))


def text(value: str) -> str:
    """Make a text that PostgreSQL takes: without NUL, and without halves of characters."""
    return value.replace("\0", "").encode("utf-8", "replace").decode()


def texts(values: Iterable[str]) -> Array:
    """Make a ``text[]``, as :func:`text` does it."""
    return _of(_TEXT, [value.replace("\0", "").encode("utf-8", "replace") for value in values])


def byteas(values: Iterable[bytes]) -> Array:
    """Make a ``bytea[]``."""
    return _of(_BYTEA, list(values))


def _of(element: int, values: list[bytes]) -> Array:
    return Array(element, len(values), b"".join([part for value in values for part in (_LENGTH(len(value)), value)]))
