"""
Requests of homeservers, read and checked.

What a homeserver writes itself has to be of the right type: the devices, the ids and the counts. Everything else comes
from users, and homeservers pass it on as it is: the content of events, the names of rooms and people, the data of
pushers and the tweaks of push rules. If one of these is not what it should be, it counts as missing. Otherwise a user
could make a request fail; the homeserver would repeat it for a day, and hold back what follows.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec
from msgspec import Meta, Raw, Struct

from txapns.daemon.errors import Malformed, TooLarge

__all__ = ["EVENT_ID_ONLY", "MAX_BODY", "MAX_DATA", "MAX_DEVICES", "Device", "Event", "NotJSON", "Request", "read"]

#: The longest body, in bytes. An event has 65,536 at most.
MAX_BODY = 524_288
#: The largest number of devices in a request. Homeservers send one, or those of one user.
MAX_DEVICES = 100
#: The longest data of a pusher that are read, in bytes: as long as a payload that Apple accepts, all of it in escapes.
MAX_DATA = 32_768
#: The format of pushers whose app fetches the event itself.
EVENT_ID_ONLY = "event_id_only"

_MAX_COUNT = 2**31 - 1
_ID: TypeAlias = Annotated[str, Meta(max_length=1_024)]  # those of Matrix have 255 bytes at most


class NotJSON(Malformed):
    """The body is not JSON."""


class _Counts(Struct):
    unread: int | None = None
    missed_calls: int | None = None


class _Device(Struct):
    app_id: str
    pushkey: str
    pushkey_ts: Any = None
    data: Raw = Raw(b"{}")
    tweaks: Raw = Raw(b"{}")


class _Notification(Struct):
    devices: list[_Device]
    event_id: _ID | None = None
    room_id: _ID | None = None
    counts: _Counts | None = None
    type: Any = None
    sender: Any = None
    sender_display_name: Any = None
    room_name: Any = None
    room_alias: Any = None
    user_is_target: Any = None
    membership: Any = None
    prio: Any = None
    content: Raw = Raw(b"{}")


class _Body(Struct):
    notification: _Notification


_decoder = msgspec.json.Decoder(_Body)


@attrs.frozen(eq=False, repr=False)  # private texts stay out of the log
class Event:
    """
    What a request is about. Texts are empty if they are missing.

    :ivar event_id: empty if it is about counts only.
    :ivar target: whether the user is the subject of the event, which is about a member of a room.
    :ivar urgent: whether it has high priority.
    :ivar unread: the number of unread messages; ``None`` if it is missing. So is ``missed_calls``.
    :ivar counts: the sum of both, where a missing one is 0; ``None`` if the request has no counts at all.
    """

    event_id: str
    room_id: str
    type: str
    sender: str
    sender_display_name: str
    room_name: str
    room_alias: str
    membership: str
    target: bool
    urgent: bool
    content: dict[str, Any]
    unread: int | None
    missed_calls: int | None
    counts: int | None


@attrs.frozen(eq=False, repr=False)
class Device:
    """
    A device that is to be notified.

    :ivar since: when its pushkey was last updated, in UNIX seconds; ``None`` if that is not known.
    :ivar data: the data of the pusher; ``None`` if they are not an object, or longer than :data:`MAX_DATA`.
    """

    app_id: str
    pushkey: str
    since: float | None
    data: dict[str, Any] | None
    tweaks: dict[str, Any]

    def identity(self, event_id: str) -> bytes:
        """
        Identify a notification of an event: a homeserver that repeats a request repeats all of this.

        The counts are not among it, since a homeserver may count again. The data are, since they tell apart the
        accounts that a user has on one device.
        """
        named = (self.app_id, self.pushkey, event_id, self.data)
        return hashlib.sha256(msgspec.json.encode(named, order="deterministic")).digest()


@attrs.frozen(eq=False)
class Request:
    """A request: an event, and the devices to be notified of it, each once."""

    event: Event
    devices: list[Device]


def read(body: bytes) -> Request:
    """
    Read the body of a request.

    :raises NotJSON: it is not JSON.
    :raises Malformed: it is not a request. The message names the part that is wrong.
    :raises TooLarge: it has more than :data:`MAX_BODY` bytes or :data:`MAX_DEVICES` devices.
    """
    if len(body) > MAX_BODY:
        raise TooLarge(f"the body has {len(body)} bytes; {MAX_BODY} are allowed")
    notification = _decoded(body).notification
    if len(notification.devices) > MAX_DEVICES:
        raise TooLarge(
            f"the request has {len(notification.devices)} devices; {MAX_DEVICES} are allowed",
            path="notification.devices",
        )
    devices = {(each.app_id, each.pushkey): each for each in notification.devices}
    return Request(_event(notification), [_device(each) for each in devices.values()])


def _decoded(body: bytes) -> _Body:
    try:
        return _decoder.decode(body)
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise NotJSON("the body is not UTF-8") from None
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        path = path.strip("`").removeprefix("$").removeprefix(".")
        raise Malformed(f"{path}: {message}" if path else message, path=path) from None
    except msgspec.DecodeError as error:
        raise NotJSON(f"the body is not JSON: {error}") from None


def _event(found: _Notification) -> Event:
    counts = found.counts
    unread = None if counts is None else _count(counts.unread)
    missed_calls = None if counts is None else _count(counts.missed_calls)
    return Event(
        event_id=found.event_id or "",
        room_id=found.room_id or "",
        type=_text(found.type),
        sender=_text(found.sender),
        sender_display_name=_text(found.sender_display_name),
        room_name=_text(found.room_name),
        room_alias=_text(found.room_alias),
        membership=_text(found.membership),
        target=found.user_is_target is True,
        urgent=found.prio != "low",
        content=_object(found.content) or {},
        unread=unread,
        missed_calls=missed_calls,
        counts=None if counts is None else (unread or 0) + (missed_calls or 0),
    )


def _device(found: _Device) -> Device:
    since = found.pushkey_ts
    known = isinstance(since, int | float) and not isinstance(since, bool)
    data = _object(found.data) if len(bytes(found.data)) <= MAX_DATA else None
    return Device(found.app_id, found.pushkey, since if known else None, data, _object(found.tweaks) or {})


def _count(given: int | None) -> int | None:
    return None if given is None else min(max(given, 0), _MAX_COUNT)


def _text(given: object) -> str:
    return given if isinstance(given, str) else ""


def _object(raw: Raw) -> dict[str, Any] | None:
    """Decode what should be an object; ``None`` if it is anything else but null."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return {} if found is None else found if isinstance(found, dict) else None
