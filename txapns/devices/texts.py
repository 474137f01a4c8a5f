"""The texts of an alert as a device shows them: plain ones, and those that the app has in the user's language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from txapns.devices.push import Push

__all__ = ["Texts", "texts_of"]

_PLACEHOLDER = re.compile(r"%(?:(%)|(?:(\d{1,3})\$)?(?:@|[dis]|ld))")


@attrs.frozen
class Texts:
    """
    The texts of an alert.

    :ivar title: the title.
    :ivar subtitle: the subtitle.
    :ivar body: the body.
    :ivar notes: sentences on what could not be shown as it was meant.
    """

    title: str = ""
    subtitle: str = ""
    body: str = ""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any text."""
        return bool(self.title or self.subtitle or self.body)


def texts_of(push: Push, strings: Mapping[str, str] | None) -> Texts:
    """
    Find the texts of a push.

    :param push: the push.
    :param strings: the app's ``Localizable.strings``; ``None`` if they are not known.
    :returns: the texts; empty if the push has none.
    """
    alert = push.aps.get("alert")
    if isinstance(alert, str):
        return Texts(body=alert)
    if not isinstance(alert, dict):
        return Texts()
    notes: list[str] = []
    title = _text(alert, "title", "title-", strings, notes)
    subtitle = _text(alert, "subtitle", "subtitle-", strings, notes)
    body = _text(alert, "body", "", strings, notes)
    return Texts(title, subtitle, body, tuple(notes))


def _text(alert: Mapping[str, Any], name: str, prefix: str, strings: Mapping[str, str] | None, notes: list[str]) -> str:
    """Find one text, and add to the notes what could not be shown as it was meant."""
    plain, key, arguments = alert.get(name), alert.get(f"{prefix}loc-key"), alert.get(f"{prefix}loc-args")
    if isinstance(plain, dict):  # so for Live Activities
        key, arguments, plain = plain.get("loc-key"), plain.get("loc-args"), None
    if not isinstance(key, str) or not key:
        return plain if isinstance(plain, str) else ""
    if strings is None:
        notes.append(f"The app's text for {key} is not known here, so the key stands for it.")
        return key
    if key not in strings:
        notes.append(f"The app has no text for {key}; one report says that the key itself is shown then.")
        return key
    if arguments is not None and not (
        isinstance(arguments, list) and all(each is None or isinstance(each, str) for each in arguments)
    ):
        notes.append(f"Several report that the arguments for {key} are not put in: they must be an array of strings.")
        return strings[key]
    return _filled(strings[key], ["<null>" if each is None else each for each in arguments or ()])


def _filled(text: str, arguments: list[str]) -> str:
    """Put arguments in the places of a text; a place without one stays as it is."""
    following = iter(range(len(arguments)))

    def fill(match: re.Match[str]) -> str:
        percent, number = match.groups()
        if percent:
            return "%"
        index = int(number) - 1 if number else next(following, -1)
        return arguments[index] if 0 <= index < len(arguments) else match[0]

    return _PLACEHOLDER.sub(fill, text)
