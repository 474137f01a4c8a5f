"""
What Apple gets for an event: the payloads of Sygnal, which apps for Matrix are written for.

There are three forms. ``default_payload``, in the data of a pusher, is what the app wants to be part of the first two.

*An event of which only the id is told*, because the pusher's format is ``event_id_only`` or the request has no type::

    {…default_payload, "room_id": …, "event_id": …, "unread_count": …, "missed_calls": …}

*An event*, whose text the app localizes::

    {…default_payload, "aps": {…, "alert": {"loc-key": …, "loc-args": […]}, "badge": …, "sound": …},
     "room_id": …, "event_id": …}

*Counts alone*::

    {"aps": {"badge": …}}

A payload that is too long for Apple is shortened in its texts: the longest ones are cut to the same length.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, TypeAlias

import attrs

from txapns import payload as payloads
from txapns.daemon.faces.matrix.requests import EVENT_ID_ONLY, Device, Event
from txapns.errors import InvalidPayload

__all__ = ["payload_of", "shortened"]

#: The longest name in a localized text, in characters, as in Sygnal; and the longest text, more than Apple accepts.
_LONGEST_NAME, _LONGEST_TEXT = 1_024, 5_120
#: How many texts of a payload are shortened at most.
_TEXTS = 10

_Localized: TypeAlias = tuple[str, list[str]] | None


def payload_of(event: Event, device: Device, *, counts: bool = True) -> dict[str, Any] | None:
    """
    Make the payload for a device.

    :param counts: whether the app wants counts.
    :returns: ``None`` if there is nothing to tell the device.
    :raises InvalidPayload: the data of the pusher cannot be part of a payload.
    """
    if not (event.event_id or event.type):
        # Counts that are zero should be omitted, so a request about nothing says that nothing is unread.
        return {"aps": {"badge": event.counts or 0}} if counts else None
    if not counts:
        event = attrs.evolve(event, unread=None, missed_calls=None, counts=None)
    default = _default_payload(device)
    if not event.type or (device.data or {}).get("format") == EVENT_ID_ONLY:
        return {**default, **_told(("room_id", event.room_id), ("event_id", event.event_id)), **_counts(event)}
    localized = _localized(event)
    if localized is None and event.counts is None:
        return None
    aps = default["aps"] = dict(default.get("aps") or {})
    if event.counts is not None:
        aps["badge"] = event.counts
    if localized is not None:
        aps["alert"] = _alert(aps.get("alert"), *localized)
        sound = device.tweaks.get("sound")
        if isinstance(sound, str) and sound:
            aps.setdefault("sound", sound)
        default.update(_told(("room_id", event.room_id), ("event_id", event.event_id)))
    return default


def _default_payload(device: Device) -> dict[str, Any]:
    """Copy what the app wants to be part of each payload."""
    if device.data is None:
        raise InvalidPayload("the data of the pusher is not an object")
    default = device.data.get("default_payload")
    if default is None:
        return {}
    if not isinstance(default, dict):
        raise InvalidPayload("the default_payload is not an object")
    if not isinstance(default.get("aps"), dict | None):
        raise InvalidPayload("the aps of the default_payload is not an object")
    return dict(default)


def _told(*pairs: tuple[str, str]) -> dict[str, str]:
    return {name: value for name, value in pairs if value}


def _counts(event: Event) -> dict[str, int]:
    pairs = (("unread_count", event.unread), ("missed_calls", event.missed_calls))
    return {name: value for name, value in pairs if value is not None}


def _alert(default: object, loc_key: str, loc_args: list[str]) -> dict[str, Any]:
    """Put a localized text into an alert; one that is a text itself is its body."""
    if isinstance(default, str):
        default = {"body": default}
    return {**(default if isinstance(default, dict) else {}), "loc-key": loc_key, "loc-args": loc_args}


# Localized texts.


def _localized(event: Event) -> _Localized:
    """Choose the key of a text, and its arguments; ``None`` if the event has none."""
    return _LOCALIZED.get(event.type, _of_other)(event)


def _sender(event: Event) -> str:
    return (event.sender_display_name or event.sender or " ")[:_LONGEST_NAME]


def _room(event: Event) -> str:
    return (event.room_name or event.room_alias)[:_LONGEST_NAME]


def _of_message(event: Event) -> _Localized:
    sender, room = _sender(event), _room(event)
    kind, body = event.content.get("msgtype"), event.content.get("body")
    text = body[:_LONGEST_TEXT] if "msgtype" in event.content and isinstance(body, str) else ""
    where = "_IN_ROOM" if room else ""
    if kind == "m.image" and text:
        return f"IMAGE_FROM_USER{where}", [sender, text, *([room] if room else [])]
    if kind == "m.emote" and text:
        return f"ACTION_FROM_USER{where}", [*([room] if room else []), sender, text]
    with_content = "_WITH_CONTENT" if text else ""
    return f"MSG_FROM_USER{where}{with_content}", [sender, *([room] if room else []), *([text] if text else [])]


def _of_call(event: Event) -> _Localized:
    offer = event.content.get("offer")
    sdp = offer.get("sdp") if isinstance(offer, dict) else None
    video = isinstance(sdp, str) and "m=video" in sdp
    return "VIDEO_CALL_FROM_USER" if video else "VOICE_CALL_FROM_USER", [_sender(event)]


def _of_member(event: Event) -> _Localized:
    if not (event.target and event.membership == "invite"):
        return None
    room = _room(event)
    return ("USER_INVITE_TO_NAMED_ROOM", [_sender(event), room]) if room else ("USER_INVITE_TO_CHAT", [_sender(event)])


def _of_other(event: Event) -> _Localized:
    return "MSG_FROM_USER", [_sender(event)]


_LOCALIZED: dict[str, Callable[[Event], _Localized]] = {
    "m.room.message": _of_message,
    "m.room.encrypted": _of_message,
    "m.call.invite": _of_call,
    "m.room.member": _of_member,
}


# Shortening.


def shortened(payload: dict[str, Any], most: int) -> bytes:
    """
    Encode a payload, and shorten its texts if it is too long.

    The alert, its body and its arguments are shortened, the longest first, and as little as possible.

    :param most: the most bytes that Apple accepts.
    :returns: the encoded payload, which is still too long if something else in it is.
    :raises InvalidPayload: it cannot be encoded.
    """
    encoded = payloads.encode(payload)
    if len(encoded) <= most:
        return encoded
    copy: dict[str, Any] = payloads.decode(encoded)
    places = list(islice(_places(copy.get("aps")), _TEXTS))
    texts = [place[key] for place, key in places]
    room = most - len(encoded) + sum(map(_length, texts))
    # Where each text can be cut: how many bytes it has up to each character.
    ends = [list(accumulate(map(_width, text[:most]))) for text in texts]
    level = bisect_right(range(most), room, key=lambda level: sum(_cut(each, level)[1] for each in ends)) - 1
    for (place, key), each in zip(places, ends, strict=True):
        place[key] = place[key][: _cut(each, max(level, 0))[0]]
    return payloads.encode(copy)


def _places(aps: object) -> Iterator[tuple[Any, Any]]:
    """Find the texts that may be shortened: what each is in, and under which key."""
    alert = aps.get("alert") if isinstance(aps, dict) else None
    if isinstance(aps, dict) and isinstance(alert, str):
        yield aps, "alert"
    elif isinstance(alert, dict):
        if isinstance(alert.get("body"), str):
            yield alert, "body"
        arguments = alert.get("loc-args")
        if isinstance(arguments, list):
            yield from ((arguments, n) for n, each in enumerate(arguments) if isinstance(each, str))


def _cut(ends: Sequence[int], level: int) -> tuple[int, int]:
    """Find how many characters of a text fit into some bytes, and how many bytes these have."""
    count = bisect_right(ends, level)
    return count, ends[count - 1] if count else 0


def _length(text: str) -> int:
    """Count the bytes of a text in JSON, without the quotes."""
    return len(payloads.encode({"": text})) - len(b'{"":""}')


def _width(character: str) -> int:
    """Count the bytes of a character in JSON."""
    code = ord(character)
    if code < 0x80:
        return 2 if character in '"\\\b\t\n\f\r' else 6 if code < 0x20 else 1
    return 2 if code < 0x800 else 3 if code < 0x10000 else 4
