"""
From a dictionary to the bytes of a notification.

The body of a notification is one JSON object. Its key ``aps`` holds what the system acts on (text, badge, sound); the
keys beside it are the app's own::

    {"aps":{"alert":{"title":"Chess","body":"Your move"},"badge":3},"game":"4711"}

:func:`aps` builds such a dictionary from keywords whose names are the keys of Apple's table with ``-`` written as
``_``. :func:`encode` makes the bytes: compact, and in UTF-8 rather than ``\\u`` escapes, because the gateways count
bytes. Lengths and values are not checked: the gateway decides whether a payload is too long or a key unknown.

A character beyond U+FFFF may come as the two halves of a UTF-16 surrogate pair; it is sent as one character. Half a
pair is not a character: some program cut a text in the middle of one. JSON's grammar allows it as an escape, but UTF-8
has no bytes for it, and devices may show anything; so it is an error, and the message has the path to it.

Sources: Apple, "Generating a remote notification" (the table of keys), "Starting and updating Live Activities with
ActivityKit push notifications", "Updating widgets with WidgetKit push notifications", and for ``ptt-push-type`` its
developer forums.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from txapns._texts import encoding_of
from txapns.errors import InvalidPayload

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Keywords", "aps", "decode", "encode", "half_character", "is_deep", "joined", "may_be_deep"]

#: What a JSON object may be made of. Asking an abstract class alone takes six times as long.
MAPPING = (dict, Mapping)

#: How deeply objects and arrays may be nested. Foundation's parser, which devices have, reads no more.
MAX_DEPTH = 512


class Keywords(TypedDict, total=False):
    """
    The keywords of :func:`aps` and so of :class:`~txapns.Notification`: Apple's keys with ``-`` written as ``_``.

    :ivar alert: the text, or a mapping with the keys ``title``, ``subtitle``, ``body``, ``launch-image``, their
        ``…loc-key`` and ``…loc-args``; sent as it is.
    :ivar badge: the number on the app's icon; 0 removes it.
    :ivar sound: a file in the app, ``"default"``, or for a critical alert a mapping with ``critical``, ``name`` and
        ``volume``.
    :ivar thread_id: groups notifications with the same value.
    :ivar category: the registered category, which determines the actions offered.
    :ivar content_available: wake the app in the background.
    :ivar mutable_content: let the app's service extension change the notification before it is shown.
    :ivar target_content_id: the window to bring forward.
    :ivar interruption_level: ``"passive"``, ``"active"``, ``"time-sensitive"`` or ``"critical"``.
    :ivar relevance_score: from 0 to 1, for the summary; any number for a Live Activity.
    :ivar filter_criteria: the value that a Focus filter compares.
    :ivar stale_date: when a Live Activity is out of date, in UNIX seconds.
    :ivar content_state: a Live Activity's new state.
    :ivar timestamp: when a Live Activity's state was current, in UNIX seconds; older ones are ignored.
    :ivar event: ``"start"``, ``"update"`` or ``"end"`` of a Live Activity.
    :ivar dismissal_date: when an ended Live Activity disappears, in UNIX seconds.
    :ivar attributes_type: the type of a Live Activity's attributes, at its start.
    :ivar attributes: a Live Activity's attributes, at its start.
    :ivar input_push_token: ask the started Live Activity for a token of its own.
    :ivar input_push_channel: the channel that updates the started Live Activity.
    :ivar content_changed: reload widgets or controls.
    :ivar url_args: the values for the placeholders of a Safari website push.
    :ivar ptt_push_type: ``"service-update"`` if a Push to Talk notification is about the channel, not a speaker.
    :ivar extra: the app's own keys, beside ``aps``. A mapping under its key ``aps`` adds keys to ``aps`` that have no
        keyword here.
    """

    alert: str | Mapping[str, object] | None
    badge: int | None
    sound: str | Mapping[str, object] | None
    thread_id: str | None
    category: str | None
    content_available: bool
    mutable_content: bool
    target_content_id: str | None
    interruption_level: str | None
    relevance_score: float | None
    filter_criteria: str | None
    stale_date: int | None
    content_state: Mapping[str, object] | None
    timestamp: int | None
    event: str | None
    dismissal_date: int | None
    attributes_type: str | None
    attributes: Mapping[str, object] | None
    input_push_token: bool
    input_push_channel: str | None
    content_changed: bool
    url_args: Sequence[str] | None
    ptt_push_type: str | None
    extra: Mapping[str, object] | None


# Each keyword with its key, and its place in sending order, so that equal keywords make equal bytes.
_KEYS = {name: name.replace("_", "-") for name in Keywords.__annotations__ if name != "extra"}
_PLACES = {name: place for place, name in enumerate(Keywords.__annotations__)}

# The value sent for a true keyword: Apple requires a number for some and a boolean for others.
_FLAGS = {"content_available": 1, "mutable_content": 1, "input_push_token": 1, "content_changed": True}

# Half a surrogate pair: in a text, and as an escape in JSON whose escaped backslashes have been removed.
_HALF = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
_ESCAPED_HALF = re.compile(
    rb"\\u[Dd][89ABab][0-9A-Fa-f]{2}(?!\\u[Dd][C-Fc-f])|(?<!\\u[Dd][89ABab][0-9A-Fa-f]{2})\\u[Dd][C-Fc-f]"
)
#: How much of a key is shown in a path, in characters.
_LONGEST_KEY = 40


def aps(**keywords: Unpack[Keywords]) -> dict[str, object]:
    """
    Build a payload from keywords. A keyword that is ``None``, or a flag that is false, leaves its key out.

    :param keywords: those of :class:`Keywords`.
    :returns: the payload, ready for :func:`encode`.
    :raises InvalidPayload: ``extra`` holds an ``aps`` that is not a mapping, or repeats a key.
    :raises TypeError: a keyword is unknown.
    """
    extra = keywords.pop("extra", None)
    values: Mapping[str, object] = keywords
    known = {}
    try:
        for name in values if len(values) < 2 else sorted(values, key=_PLACES.__getitem__):
            value = values[name]
            if value is not None and (value or name not in _FLAGS):
                known[_KEYS[name]] = _FLAGS.get(name, value)
    except KeyError as error:
        raise TypeError(f"aps() got an unexpected keyword argument {error}") from None
    if not extra:
        return {"aps": known}
    own = dict(extra)
    added = own.pop("aps", {})
    if not isinstance(added, Mapping):
        raise InvalidPayload(f"the aps in extra must be a mapping, not {type(added).__name__}; it would replace aps")
    twice = sorted(known.keys() & added.keys())
    if twice:
        raise InvalidPayload(f"given both by keyword and in the aps of extra: {', '.join(twice)}")
    return {"aps": {**known, **added}, **own}


def encode(payload: Mapping[str, object] | str | bytes | bytearray | memoryview) -> bytes:
    """
    Encode a payload.

    :param payload: a mapping; or JSON, which is checked to be an object and passed through unchanged.
    :returns: the JSON object in UTF-8.
    :raises InvalidPayload: it is not a JSON object, or holds values that JSON cannot express. The message has the
        position or the type, never the content.
    """
    if isinstance(payload, MAPPING):
        try:
            body = "".join(_write(payload, 0)).encode()
        except (RecursionError, TypeError, ValueError):
            body = _utf8(_json(payload))  # or an error that says why not
        if not may_be_deep(body):
            return body
    elif isinstance(payload, str):
        body = _utf8(payload)
    elif isinstance(payload, (bytes, bytearray, memoryview)):
        body = _whole(bytes(payload))
    else:
        raise InvalidPayload(f"the payload must be a mapping, str or bytes, not {type(payload).__name__}")
    decode(body)
    return body


def decode(body: bytes) -> dict[str, object]:
    """
    Read a payload back from its bytes.

    :param body: a JSON object in UTF-8.
    :returns: the object.
    :raises InvalidPayload: it is anything else. The message has the position, never the content.
    """
    try:
        document = _decoder.decode(body.decode())
    except UnicodeDecodeError as error:
        raise InvalidPayload(f"the payload is not UTF-8: {error.reason} at byte {error.start}{_mark(body)}") from None
    except RecursionError:
        raise InvalidPayload("the payload is nested too deeply") from None
    except ValueError as error:
        raise InvalidPayload(f"the payload is not JSON: {error}{_mark(body)}") from None
    if not isinstance(document, dict):
        raise InvalidPayload("the payload is JSON, but not an object: it does not begin with a brace")
    if is_deep(document, body):
        raise InvalidPayload("the payload is nested too deeply")
    if b"\\u" in body and _ESCAPED_HALF.search(body.replace(b"\\\\", b"__")) is not None:
        raise _half_refused(half_character(body) or "an escape")
    return document


def is_deep(document: Mapping[str, object], body: bytes) -> bool:
    """
    Tell whether objects and arrays are nested more deeply than :data:`MAX_DEPTH`.

    :param document: the object.
    :param body: the JSON from which it was read.
    """
    if not may_be_deep(body):
        return False
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        values = [value for each in level for value in (each.values() if isinstance(each, dict) else each)]
        level = [value for value in values if isinstance(value, dict | list)]
    return bool(level)


def may_be_deep(body: bytes) -> bool:
    """
    Tell whether JSON has so many braces and brackets that :func:`is_deep` has to look.

    :param body: the JSON.
    """
    return len(body) > 2 * MAX_DEPTH and body.count(b"{") + body.count(b"[") > MAX_DEPTH


def joined(text: str) -> str:
    """
    Join the surrogate pairs in a text into characters.

    :param text: the text.
    :returns: the text with those characters; half a pair stays as it is.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def half_character(document: str | bytes) -> str | None:
    """
    Find half a surrogate pair in JSON.

    :param document: any JSON, such as a payload or a request that contains payloads.
    :returns: the path to the text with the first one, such as ``"aps.alert.title"``, or to the object if it is in a
        key; ``None`` if there is none, or if the document is not JSON.
    """
    try:
        return next(_halves(_reader.decode(document if isinstance(document, str) else document.decode()), ""), None)
    except (ValueError, RecursionError):
        return None


def _json(payload: Mapping[str, object]) -> str:
    """Write a mapping as JSON, with an encoder that keeps a record of what it is in, and so finds a circle."""
    try:
        return _encoder.encode(payload)
    except RecursionError:
        raise InvalidPayload("the payload is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise InvalidPayload(f"the payload cannot be written as JSON: {error}") from None


def _utf8(text: str) -> bytes:
    """Encode JSON text. An error does not show the text, as the exception of :meth:`str.encode` would."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        text = joined(text)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _half_refused(half_character(text) or f"character {error.start}") from None


def _whole(body: bytes) -> bytes:
    """Join characters whose halves were encoded separately, as Java and some databases do (CESU-8)."""
    if b"\xed" not in body:  # the first byte of each half
        return body
    try:
        return _utf8(body.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        return body


def _half_refused(where: str) -> InvalidPayload:
    return InvalidPayload(
        f"the payload has half of a surrogate pair at {where}, which UTF-8 cannot express: "
        "a text was cut in the middle of a character"
    )


class _Object(list[tuple[str, object]]):
    """A JSON object as a list of its members, with repeated keys."""


def _halves(value: object, path: str) -> Iterator[str]:
    """Yield the path of each text that has half of a surrogate pair."""
    if isinstance(value, str):
        if _HALF.search(value) is not None:
            yield path
    elif isinstance(value, _Object):
        for key, inner in value:
            if _HALF.search(key) is not None:
                yield path or "the top level"
            name = key[:_LONGEST_KEY] if key.isprintable() else ascii(key[:_LONGEST_KEY])
            yield from _halves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _halves(inner, f"{path}[{position}]")


def _mark(body: bytes) -> str:
    """Explain why a text that looks right on a screen cannot be read."""
    if encoding_of(body) == "utf-8":
        return ""
    return "; it begins with a byte order mark, or is UTF-16, and must be UTF-8 without a mark"


def _plain(value: object) -> object:
    """Convert any mapping to a dictionary, since :mod:`json` accepts only dictionaries."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it holds a value of type {type(value).__name__}")


def _refuse_constant(name: str) -> NoReturn:
    """Refuse ``NaN`` and the infinities, which :mod:`json` reads although they are not JSON."""
    raise ValueError(f"{name} is not a number in JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
# An encoder makes this function anew for each payload, which takes longer than writing a small one. It keeps no record
# of what it is in, so it finds a circle only by the depth. Where there is none in C, the encoder itself is as good.
_make = getattr(json.encoder, "c_make_encoder", None) or (lambda *_: lambda payload, _: _encoder.iterencode(payload))
_write = _make(None, _plain, json.encoder.encode_basestring, None, ":", ",", False, False, False)
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_reader = json.JSONDecoder(object_pairs_hook=_Object)
