"""
The strings of an app: what ``loc-key`` in a payload names.

Both forms of a ``.strings`` file are read: JSON, and the old one::

    /* What people see */
    "GAME_INVITE" = "%1$@ invites you to play";
"""

from __future__ import annotations

import re

from txapns.devices.push import json_object

__all__ = ["MalformedStrings", "parse_strings"]

_SPACE = re.compile(r"(?:\s+|/\*.*?\*/|//[^\n]*)*", re.DOTALL)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([A-Za-z0-9_.$/:-]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[uU]([0-9A-Fa-f]{4})|([0-7]{1,3})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class MalformedStrings(ValueError):
    """The text is not a ``.strings`` file. The message names the line."""


def parse_strings(text: str) -> dict[str, str]:
    """
    Read a ``.strings`` file.

    :param text: its content.
    :returns: the texts, by key.
    :raises MalformedStrings: it is malformed.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        content = json_object(text.encode("utf-8", "replace"))
        if content is None or not all(isinstance(value, str) for value in content.values()):
            raise MalformedStrings("this begins like JSON, but is not an object of texts")
        return content
    found = {}
    position = _skip(text, 0)
    while position < len(text):
        key, position = _word(text, position)
        position = _sign(text, position, "=")
        value, position = _word(text, position)
        position = _sign(text, position, ";")
        found[key] = value
    return found


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()


def _word(text: str, position: int) -> tuple[str, int]:
    match = _WORD.match(text, position)
    if match is None:
        raise _malformed(text, position, "a text in quotation marks")
    quoted, bare = match.groups()
    return (bare if quoted is None else _ESCAPE.sub(_character, quoted)), _skip(text, match.end())


def _sign(text: str, position: int, sign: str) -> int:
    if not text.startswith(sign, position):
        raise _malformed(text, position, sign)
    return _skip(text, position + 1)


def _character(escape: re.Match[str]) -> str:
    unicode, octal, other = escape.groups()
    if unicode is not None:
        return chr(int(unicode, 16))
    return chr(int(octal, 8)) if octal is not None else _CONTROLS.get(other, other)


def _malformed(text: str, position: int, expected: str) -> MalformedStrings:
    line = text.count("\n", 0, position) + 1
    return MalformedStrings(f"line {line}: {expected} is missing")
