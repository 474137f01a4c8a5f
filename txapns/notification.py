"""
What is sent: one payload and the header fields that go with it, the same for every device it is sent to.

A :class:`Notification` is a value. It is encoded once, when it is made, and may then be sent to any number of device
tokens, compared, pickled, or put into a task queue as JSON (:meth:`Notification.to_dict`).

Its fields are those of a provider API request::

    apns-topic       the app, with a suffix for some push types
    apns-push-type   what kind of notification it is: PushType
    apns-priority    how urgently the device is to be woken: Priority; the gateway takes an absent one for 10
    apns-expiration  UNIX seconds until which it is stored and retried; 0 is one attempt; absent is Apple's own choice
    apns-collapse-id replaces an earlier notification with the same identifier; 64 bytes at most
    apns-id          a UUID that comes back with the answer; the gateway makes one if it is absent

Nothing here refuses what APNs itself can refuse. An unknown push type, a priority of 7 or a malformed topic goes out as
it is, so that what Apple adds next year works today. Only what cannot stand in a request at all is an error here.

Source: Apple, "Sending notification requests to APNs".
"""

from __future__ import annotations

import enum
import math
import operator
import re
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs

from txapns import payload as payloads
from txapns.errors import InvalidNotification

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Notification", "Priority", "PushType"]

# The clock that resolves an expiration "from now"; a name of its own for tests to patch.
_now = time.time

# RFC 9113, section 8.2.1: a value with one of these makes the request malformed, and many a peer then closes the
# connection, with everyone's notifications on it. Surrogates have no encoding in UTF-8.
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|\A | \Z")


class Priority(enum.IntEnum):
    """How urgently a notification is delivered, in the numbers of the ``apns-priority`` field."""

    #: At once; it must show, sound or badge. What the gateway assumes where no priority is given.
    IMMEDIATE = 10
    #: When it suits the device's power; may be grouped or delayed. The only one that a background push may have.
    CONSIDERATE = 5
    #: The device's power comes first; the device is never woken for it.
    LOW = 1


class PushType(str, enum.Enum):
    """The kinds of notification, in the words of the ``apns-push-type`` field. Each compares equal to its text."""

    # Without this, str() and format() give "PushType.ALERT", the latter depending on the version of Python.
    __str__ = str.__str__

    #: Shows, sounds or badges. Also for Wallet passes and Safari.
    ALERT = "alert"
    #: Wakes the app unseen; priority 5 only.
    BACKGROUND = "background"
    #: Asks the app's location extension; topic with ``.location-query``.
    LOCATION = "location"
    #: A call; topic with ``.voip``.
    VOIP = "voip"
    #: Updates a watch face; topic with ``.complication``.
    COMPLICATION = "complication"
    #: Tells a file provider of changes; topic with ``.pushkit.fileprovider``.
    FILEPROVIDER = "fileprovider"
    #: Makes a managed device contact its server; the topic is the UID of the MDM push certificate.
    MDM = "mdm"
    #: Starts, updates or ends a Live Activity; topic with ``.push-type.liveactivity``.
    LIVEACTIVITY = "liveactivity"
    #: Wakes a Push to Talk app; topic with ``.voip-ptt``.
    PUSHTOTALK = "pushtotalk"
    #: Reloads widgets; topic with ``.push-type.widgets``.
    WIDGETS = "widgets"
    #: Reloads controls; topic with ``.push-type.controls``.
    CONTROLS = "controls"


@attrs.frozen(init=False)
class Notification:
    """
    One notification, for any number of devices, made from keywords or from a whole payload.

    Where no push type is given, the payload tells: ``"alert"`` if ``aps`` has alert, badge or sound, else
    ``"background"`` if it has content-available, and then the priority is 5 unless one is given. Anything else leaves
    the push type out.

    :param payload: the whole payload: a mapping, or JSON as text or UTF-8.
    :param topic: the app's bundle identifier, with the suffix of the push type; left out, the client's default.
    :param push_type: a :class:`PushType` or any other text.
    :param priority: a :class:`Priority` or any other integer.
    :param expiration: until when the notification is stored and retried: a time from now, a datetime with a time zone,
        or UNIX seconds, of which a fraction is dropped; 0 for a single attempt.
    :param collapse_id: replaces an earlier notification with the same identifier; 64 bytes at most.
    :param apns_id: a UUID to know the notification by.
    :param keywords: ``alert``, ``badge``, ``sound``, ``extra`` and the others of :func:`txapns.payload.aps`.
    :raises InvalidPayload: if the payload is not a JSON object.
    :raises InvalidNotification: if there are both payload and keywords, or a field cannot stand in a request.

    :ivar body: the payload as it travels: a JSON object in UTF-8.
    :ivar topic: the ``apns-topic``; this field, like those that follow, is left out of the request if it is ``None``.
    :ivar push_type: the ``apns-push-type``.
    :ivar priority: the ``apns-priority``.
    :ivar expiration: the ``apns-expiration``, in UNIX seconds.
    :ivar collapse_id: the ``apns-collapse-id``.
    :ivar apns_id: the ``apns-id``.
    """

    # Payloads may hold what only the user is to read, so a log line gets the length alone.
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    topic: str | None
    push_type: str | None
    priority: int | None
    expiration: int | None
    collapse_id: str | None
    apns_id: str | None

    def __init__(
        self,
        *,
        payload: Mapping[str, object] | str | bytes | None = None,
        topic: str | None = None,
        push_type: str | None = None,
        priority: int | None = None,
        expiration: float | timedelta | datetime | None = None,
        collapse_id: str | None = None,
        apns_id: str | uuid.UUID | None = None,
        **keywords: Unpack[payloads.Keywords],
    ) -> None:
        if payload is None:
            payload = payloads.aps(**keywords)
        elif given := [name for name, value in keywords.items() if value is not None and value is not False]:
            raise InvalidNotification(f"the payload is given whole and by keyword: {', '.join(given)}")
        body = payloads.encode(payload)
        priority = _integer("priority", priority)
        if push_type is None:
            push_type = _derive_push_type(payload if isinstance(payload, Mapping) else payloads.decode(body))
            if push_type == PushType.BACKGROUND and priority is None:
                priority = Priority.CONSIDERATE.value
        self.__attrs_init__(
            body,
            _text("topic", topic),
            _text("push_type", push_type),
            priority,
            _seconds(expiration),
            _text("collapse_id", collapse_id),
            _text("apns_id", str(apns_id) if isinstance(apns_id, uuid.UUID) else apns_id),
        )

    def with_topic(self, topic: str) -> Notification:
        """
        Copy this notification for another topic.

        :param topic: the topic of the copy.
        :returns: the copy, which shares the encoded body.
        :raises InvalidNotification: if the topic cannot stand in a request.
        """
        copy = object.__new__(type(self))
        copy.__attrs_init__(
            self.body,
            _text("topic", topic),
            self.push_type,
            self.priority,
            self.expiration,
            self.collapse_id,
            self.apns_id,
        )
        return copy

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """
        Give the header fields for a provider API request.

        :returns: names and values of the fields that are set, always in the same order.
        """
        fields = (
            (b"apns-topic", self.topic),
            (b"apns-push-type", self.push_type),
            (b"apns-priority", self.priority),
            (b"apns-expiration", self.expiration),
            (b"apns-collapse-id", self.collapse_id),
            (b"apns-id", self.apns_id),
        )
        return tuple((name, str(value).encode()) for name, value in fields if value is not None)

    def to_dict(self) -> dict[str, str | int]:
        """
        Write the notification as values that JSON can hold, for a task queue.

        :returns: the payload as text, and the fields that are set; the expiration is absolute, so waiting in the queue
            does not prolong it.
        """
        fields = attrs.asdict(self, filter=lambda field, value: value is not None and field.name != "body")
        return {"payload": self.body.decode(), **fields}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Notification:
        """
        Read what :meth:`to_dict` wrote.

        :param values: the dictionary.
        :returns: an equal notification.
        :raises InvalidNotification: if there is no payload, an unknown key, or an unfit value.
        :raises InvalidPayload: if the payload is not a JSON object.
        """
        if not isinstance(values, Mapping):
            raise InvalidNotification(f"a notification is read from a mapping, not from {type(values).__name__}")
        if values.get("payload") is None:
            raise InvalidNotification("the dictionary has no payload")
        unknown = values.keys() - _DICT_KEYS
        if unknown:
            raise InvalidNotification(f"the dictionary has unknown keys: {', '.join(sorted(map(repr, unknown)))}")
        return cls(**values)


_DICT_KEYS = {"payload", "topic", "push_type", "priority", "expiration", "collapse_id", "apns_id"}


def _derive_push_type(document: Mapping[str, object]) -> str | None:
    """Guess the push type from the payload, as a watch may drop a notification which has none."""
    aps = document.get("aps")
    if not isinstance(aps, Mapping):
        return None
    if "alert" in aps or "badge" in aps or "sound" in aps:
        return PushType.ALERT
    return PushType.BACKGROUND if "content-available" in aps else None


def _text(field: str, value: object) -> str | None:
    """Check a field that travels as text."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidNotification(f"{field} must be text, not {type(value).__name__}")
    if _UNFIT.search(value):
        raise InvalidNotification(
            f"{field} has a control character, a space at an end or half of a surrogate pair; no header field can"
        )
    return str(value)


def _integer(field: str, value: Any) -> int | None:
    """Check a field that travels as a decimal number; its range is the gateway's affair."""
    if value is None:
        return None
    try:
        number = int(operator.index(value))
    except TypeError:
        raise InvalidNotification(f"{field} must be an integer, not {type(value).__name__}") from None
    # Python does not write out integers of any length, and no gateway reads more than these.
    if number.bit_length() > 64:
        raise InvalidNotification(f"{field} does not fit in 64 bits")
    return number


def _seconds(expiration: object) -> int | None:
    """Turn every way to say a time into UNIX seconds."""
    if isinstance(expiration, timedelta):
        expiration = _now() + expiration.total_seconds()
    elif isinstance(expiration, datetime):
        if expiration.utcoffset() is None:
            raise InvalidNotification("expiration is a datetime without a time zone; it must have one")
        expiration = expiration.timestamp()
    if isinstance(expiration, float):
        if not math.isfinite(expiration):
            raise InvalidNotification(f"expiration must be a time, not {expiration}")
        expiration = int(expiration)
    return _integer("expiration", expiration)
