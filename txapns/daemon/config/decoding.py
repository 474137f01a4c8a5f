"""From TOML to sections, value by value, so that every mistake is reported and not only the first."""

from __future__ import annotations

import difflib
import json
import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from txapns.daemon.config.endpoints import with_address
from txapns.daemon.config.sections import Endpoint, TableOfTables

__all__ = ["Decoder", "dotted", "fault", "shown"]

_MASTER_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_S = TypeVar("_S", bound=Struct)


class Decoder:
    """
    Decodes tables.

    :ivar faults: a line for each mistake.
    :ivar given: the dotted keys that were found, as opposed to those that have their defaults.
    """

    def __init__(self, directory: Path) -> None:
        self.faults: list[str] = []
        self.given: set[str] = set()
        self._directory = directory

    def table(self, kind: type[_S], table: Mapping[str, Any], key: str) -> _S | None:
        """
        Decode a table into a section.

        :param key: its dotted key; empty for the whole file.
        :returns: ``None`` if something is wrong in it. A :class:`TableOfTables` always has a value, with defaults for
            what is wrong, so that a mistake in one section does not keep the others from being checked as a whole.
        """
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        before = len(self.faults)
        for name in sorted(table.keys() - fields.keys()):
            self.faults.append(f"{dotted(key, name)}: there is no such key{_meant(name, fields)}")
        values = {}
        for name, field in fields.items():
            if name in table:
                self.given.add(dotted(key, name))
                values[name] = self._value(field.type, table[name], dotted(key, name))
            elif field.required:
                self.faults.append(f"{dotted(key, name)}: found nothing; allowed is {_allowed(field.type)}")
            elif isinstance(field.default, Path):
                values[name] = self._directory / field.default
            elif isinstance(field.default, Struct):
                values[name] = self.table(type(field.default), {}, dotted(key, name))
        if issubclass(kind, TableOfTables):
            return kind(**{name: value for name, value in values.items() if value is not None})
        return kind(**values) if len(self.faults) == before else None

    def _value(self, kind: Any, value: Any, key: str) -> Any:
        """Decode one value; ``None`` if that is not possible."""
        section = next((each for each in (kind, *get_args(kind)) if _is_section(each)), None)
        if section is not None and isinstance(value, dict):
            if get_origin(kind) is dict:
                items = {name: self._value(section, each, dotted(key, name)) for name, each in value.items()}
                return {name: each for name, each in items.items() if each is not None}
            return self.table(section, value, key)
        if get_origin(kind) is tuple:
            if isinstance(value, list):
                return tuple(self._value(get_args(kind)[0], each, f"{key}[{n}]") for n, each in enumerate(value))
            return (self._value(get_args(kind)[0], value, key),)
        try:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError
            found = msgspec.convert(value, kind, dec_hook=self._path)
            return with_address(found) if kind == Endpoint else found
        except (msgspec.ValidationError, ValueError):
            self.faults.append(fault(key, value, _allowed(kind)))
            return None

    def _path(self, kind: type, value: Any) -> Path:
        # A text of several lines is not a name but probably a private key; what looks like a master key is one.
        if not isinstance(value, str) or not value or not value.isprintable() or _MASTER_KEY.fullmatch(value):
            raise ValueError
        return self._directory / Path(value).expanduser()


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def dotted(key: str, name: str) -> str:
    """Write a dotted key as TOML does."""
    plain = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
    return f"{key}.{plain}" if key else plain


def fault(key: str, found: Any, allowed: str) -> str:
    """Describe a mistake in a line."""
    return f"{key}: found {shown(found)}; allowed is {allowed}"


def shown(value: Any) -> str:
    """Show a value as TOML writes it, unless it is long or has several lines: that may be a key."""
    if isinstance(value, str):
        short = len(value) <= 80 and value.isprintable() and not _MASTER_KEY.fullmatch(value)
        return json.dumps(value, ensure_ascii=False) if short else f"a text of {len(value)} characters"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a date or time"


def _meant(name: str, fields: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, fields, 1)
    return f"; did you mean {close[0]}?" if close else f"; allowed are {', '.join(fields)}"


def _allowed(kind: Any) -> str:
    """Say what a field takes."""
    origin, arguments = get_origin(kind), [each for each in get_args(kind) if each is not type(None)]
    if origin is Annotated:
        return str(arguments[1].description)
    if origin is Literal:
        return " or ".join(map(shown, arguments))
    if origin in (Union, types.UnionType):
        return _allowed(arguments[0])
    if origin is dict or _is_section(kind):
        return "a table"
    names: dict[Any, str] = {bool: "true or false", str: "a text", Path: "the name of a file"}
    return names[kind]
