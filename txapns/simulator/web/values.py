"""The values of :mod:`txapns.devices` as JSON, and back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from txapns.devices.push import Push
from txapns.simulator.web.json_api import Refused

__all__ = ["changed", "plain"]

#: The greatest number that a field may be set to; all are seconds or shares.
_MOST = 2.0**40
# The type of fields that are from a payload.
_JSON = Mapping[str, Any]

V = TypeVar("V", bound=attrs.AttrsInstance)


def plain(value: Any) -> Any:
    """
    Make something that JSON can write.

    :param value: a value made of attrs classes, enums and containers.
    :returns: dictionaries, lists and scalars. Sets are sorted. What is from a payload is JSON already, and left as it
        is, since it may be nested deeply.
    """
    if isinstance(value, Push):
        payload = b64encode(value.payload).decode()
        return {"headers": dict(value.headers), "payload": value.content, "payload_base64": payload}
    if attrs.has(type(value)):
        kind: Any = type(value)
        fields, hints = attrs.asdict(value, recurse=False), _hints(kind)
        return {name: each if hints[name] == _JSON else plain(each) for name, each in fields.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(plain(each) for each in value)
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def changed(value: V, changes: Any, path: str = "") -> V:
    """
    Change some fields of a value.

    :param value: an instance of an attrs class.
    :param changes: the new content of fields, by name, as JSON. Fields that are objects are changed likewise.
    :param path: where in the request the changes are.
    :returns: the changed value.
    :raises Refused: a field is unknown, or its content is not of its type.
    """
    if not isinstance(changes, dict):
        raise Refused("this must be an object", path)
    hints = _hints(type(value))
    new: dict[str, Any] = {}
    for name, content in changes.items():
        where = f"{path}.{name}" if path else name
        if name not in hints:
            raise Refused(f"this is unknown; known: {', '.join(sorted(hints))}", where)
        old = getattr(value, name)
        is_value = attrs.has(type(old)) and attrs.has(hints[name])
        new[name] = changed(old, content, where) if is_value else _read(hints[name], content, where)
    evolved: V = attrs.evolve(value, **new)  # type: ignore[misc]  # a variable is no attrs class to mypy
    return evolved


@lru_cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, content: Any, path: str) -> Any:
    """Read a value of a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if content is None and NoneType in arguments:
            return None
        return _read(next(each for each in arguments if each is not NoneType), content, path)
    if origin is not None and issubclass(origin, frozenset) and isinstance(content, list):
        return frozenset(_read(arguments[0], each, f"{path}[{number}]") for number, each in enumerate(content))
    if origin is tuple and isinstance(content, list) and (arguments[1:] == (...,) or len(arguments) == len(content)):
        return tuple(_read(arguments[0], each, f"{path}[{number}]") for number, each in enumerate(content))
    if origin is not None and issubclass(origin, Mapping) and isinstance(content, dict):
        return {key: _read(arguments[1], each, f"{path}.{key}") for key, each in content.items()}
    if isinstance(kind, type):
        return _scalar(kind, content, path)
    raise Refused("this cannot be of such a type", path)


def _scalar(kind: type, content: Any, path: str) -> Any:
    if issubclass(kind, Enum):
        known = [each.value for each in kind]
        if content not in known:
            raise Refused(f"this must be one of {', '.join(known)}", path)
        return kind(content)
    if kind is float and isinstance(content, int | float) and not isinstance(content, bool):
        if not abs(content) <= _MOST:
            raise Refused(f"this must be a number from {-_MOST:g} to {_MOST:g}", path)
        return float(content)
    if kind not in (bool, int, str) or type(content) is not kind:
        names = {bool: "true or false", int: "a whole number", str: "a text", float: "a number"}
        raise Refused(f"this must be {names.get(kind, 'something else; it cannot be set')}", path)
    return content
