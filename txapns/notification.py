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

Each kind of notification has a class method, which knows the push type, the suffix of the topic, and the payload's
shape. These are defaults as well: every one of them takes the keywords of :class:`Notification` besides, and a keyword
that is given stands, be it ``None``. Two rules about the topic:

- A kind with a suffix of its own takes the app's bundle identifier first, and makes the topic of both. A client's
  default topic is used as it is, without any suffix, so it could not do here.
- A kind without one (alert, background, mdm) leaves the topic to the client, unless ``topic`` is given.

Source: Apple, "Sending notification requests to APNs".
"""

from __future__ import annotations

import enum
import math
import operator
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypedDict

import attrs

from txapns import payload as payloads
from txapns.errors import InvalidNotification

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Notification", "Priority", "PushType"]

# The clock that resolves a time "from now"; a name of its own for tests to patch.
_now = time.time

_Payload: TypeAlias = "Mapping[str, object] | str | bytes | bytearray | memoryview"

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
    """
    The kinds of notification, in the words of the ``apns-push-type`` field. Each compares equal to its text.

    :ivar suffix: what the topic has after the app's bundle identifier.
    """

    suffix: str

    def __new__(cls, word: str, suffix: str = "") -> PushType:
        """Make a member of its word, and keep the suffix beside it."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.suffix = suffix
        return member

    # Without this, str() and format() give "PushType.ALERT", the latter depending on the version of Python.
    __str__ = str.__str__

    #: Shows, sounds or badges. Also for Wallet passes and Safari.
    ALERT = "alert"
    #: Wakes the app unseen; priority 5 only.
    BACKGROUND = "background"
    #: Asks the app's location extension.
    LOCATION = "location", ".location-query"
    #: A call.
    VOIP = "voip", ".voip"
    #: Updates a watch face.
    COMPLICATION = "complication", ".complication"
    #: Tells a file provider of changes.
    FILEPROVIDER = "fileprovider", ".pushkit.fileprovider"
    #: Makes a managed device contact its server; the topic is the UID of the MDM push certificate.
    MDM = "mdm"
    #: Starts, updates or ends a Live Activity.
    LIVEACTIVITY = "liveactivity", ".push-type.liveactivity"
    #: Wakes a Push to Talk app.
    PUSHTOTALK = "pushtotalk", ".voip-ptt"
    #: Reloads widgets.
    WIDGETS = "widgets", ".push-type.widgets"
    #: Reloads controls.
    CONTROLS = "controls", ".push-type.controls"


class _Fields(TypedDict, total=False):
    """The header fields, as keywords."""

    topic: str | None
    push_type: str | None
    priority: int | None
    expiration: float | timedelta | datetime | None
    collapse_id: str | None
    apns_id: str | uuid.UUID | None


class _Keywords(payloads.Keywords, _Fields, total=False):
    """The keywords of a notification which is not given its payload whole."""


class _Text(TypedDict, total=False):
    """What an alert says, as keywords: Apple's keys with ``-`` written as ``_``."""

    title: str | None
    subtitle: str | None
    body: str | None
    launch_image: str | None
    title_loc_key: str | None
    title_loc_args: Sequence[str] | None
    subtitle_loc_key: str | None
    subtitle_loc_args: Sequence[str] | None
    loc_key: str | None
    loc_args: Sequence[str] | None


class _Alert(_Keywords, _Text, total=False):
    """The keywords of :meth:`Notification.alert`."""


class _Activity(_Fields, total=False):
    """The keywords that all notifications of a Live Activity have in common."""

    timestamp: float | timedelta | datetime | None
    stale_date: float | timedelta | datetime | None
    relevance_score: float | None
    extra: Mapping[str, object] | None


@attrs.frozen(init=False)
class Notification:
    """
    One notification, for any number of devices, made from keywords or from a whole payload; or of a kind, by one of
    the class methods.

    Where no push type is given, the payload tells: ``"alert"`` if ``aps`` has alert, badge or sound, else
    ``"background"`` if it has content-available. Anything else leaves the push type out. A background push, given or
    told, has priority 5 unless one is given.

    :param payload: the whole payload: a mapping, or JSON as text or UTF-8.
    :param topic: the app's bundle identifier, with the suffix of the push type; left out, the client's default.
    :param push_type: a :class:`PushType` or any other text.
    :param priority: a :class:`Priority` or any other integer.
    :param expiration: until when the notification is stored and retried: a time from now, a datetime with a time zone,
        or UNIX seconds, of which a fraction is dropped; 0 for a single attempt.
    :param collapse_id: replaces an earlier notification with the same identifier; 64 bytes at most.
    :param apns_id: a UUID to know the notification by.
    :param keywords: ``alert``, ``badge``, ``sound``, ``extra`` and the others of :class:`txapns.payload.Keywords`.
    :raises InvalidPayload: if the payload is not a JSON object.
    :raises InvalidNotification: if there are both payload and keywords, or a field cannot stand in a request.

    :cvar method: the method of the requests that it travels in.
    :cvar path: their path, which the device token follows.
    :ivar body: the payload as it travels: a JSON object in UTF-8.
    :ivar topic: the ``apns-topic``; this field, like those that follow, is left out of the request if it is ``None``.
    :ivar push_type: the ``apns-push-type``.
    :ivar priority: the ``apns-priority``.
    :ivar expiration: the ``apns-expiration``, in UNIX seconds.
    :ivar collapse_id: the ``apns-collapse-id``.
    :ivar apns_id: the ``apns-id``.
    """

    method: ClassVar[bytes] = b"POST"
    path: ClassVar[bytes] = b"/3/device/"

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
        payload: _Payload | None = None,
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
        # The gateway takes an absent priority for 10, which is an error for these.
        if push_type == PushType.BACKGROUND and priority is None:
            priority = Priority.CONSIDERATE.value
        self.__attrs_init__(
            body,
            _text("topic", topic),
            _text("push_type", push_type),
            priority,
            _seconds("expiration", expiration),
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
        return self._copy(_text("topic", topic), self.apns_id)

    def with_apns_id(self, apns_id: str | uuid.UUID) -> Notification:
        """
        Copy this notification for one device, under an identifier to know it by.

        :param apns_id: the ``apns-id`` of the copy, a UUID.
        :returns: the copy, which shares the encoded body.
        :raises InvalidNotification: if the identifier cannot stand in a request.
        """
        return self._copy(self.topic, _text("apns_id", str(apns_id) if isinstance(apns_id, uuid.UUID) else apns_id))

    def _copy(self, topic: str | None, apns_id: str | None) -> Notification:
        copy = object.__new__(type(self))
        copy.__attrs_init__(self.body, topic, self.push_type, self.priority, self.expiration, self.collapse_id, apns_id)
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
        return tuple([(name, str(value).encode()) for name, value in fields if value is not None])

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

    @classmethod
    def alert(cls, **keywords: Unpack[_Alert]) -> Notification:
        """
        Make what the user sees or hears. Source: Apple, "Generating a remote notification".

        :param title: the first line; ``subtitle`` the second, ``body`` the text.
        :param title_loc_key: the key of a title in the app's ``Localizable.strings``; ``subtitle_loc_key`` and
            ``loc_key`` those of subtitle and body.
        :param title_loc_args: the texts for the placeholders of that title; ``subtitle_loc_args`` and ``loc_args``
            those of subtitle and body.
        :param launch_image: the launch screen to show when the user opens the app by it.
        :param sound: a file in the app, ``"default"``, or for a critical alert a mapping such as ``{"critical": 1,
            "name": "default", "volume": 1.0}``.
        :param keywords: ``badge``, ``thread_id``, ``topic`` and the others of :class:`Notification`.
        :returns: the notification.
        """
        given: dict[str, Any] = {**keywords}
        text = {name.replace("_", "-"): given.pop(name, None) for name in _Text.__annotations__}
        alert = {key: value for key, value in text.items() if value is not None}
        return cls._of(PushType.ALERT, given, alert=alert or None)

    @classmethod
    def background(cls, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Wake the app unseen, to fetch what is new; two or three times an hour at most, and with priority 5.

        Source: Apple, "Pushing background updates to your App".

        :param keywords: ``extra`` for what the app is to know, and the others of :class:`Notification`.
        :returns: the notification.
        """
        return cls._of(PushType.BACKGROUND, keywords, content_available=True)

    @classmethod
    def location(cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Ask the app's location extension where the device is. Needs a provider token.

        Source: Apple, "Creating a location push service extension".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: any payload, if it is given whole.
        :param keywords: those of :class:`Notification`; ``priority`` 5 if it need not be at once.
        :returns: the notification.
        """
        return cls._for_app(PushType.LOCATION, bundle_id, keywords, payload=payload)

    @classmethod
    def voip(cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Announce a call, with priority 10 and a single attempt, as a call is soon over.

        Source: Apple, "Responding to VoIP Notifications from PushKit".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: what the app is to know of the call, in any form; up to 5120 bytes.
        :param keywords: those of :class:`Notification`; ``expiration`` some seconds for more than one attempt.
        :returns: the notification.
        """
        return cls._for_app(PushType.VOIP, bundle_id, keywords, payload=payload, **_AT_ONCE)

    @classmethod
    def complication(
        cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]
    ) -> Notification:
        """
        Update the app's complication on a watch face; 50 times a day at most.

        Source: Apple, "Keeping your complications up to date".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: what the app is to know, in any form.
        :param keywords: those of :class:`Notification`.
        :returns: the notification.
        """
        return cls._for_app(PushType.COMPLICATION, bundle_id, keywords, payload=payload)

    @classmethod
    def fileprovider(
        cls, bundle_id: str, container_identifier: str, domain: str, **fields: Unpack[_Fields]
    ) -> Notification:
        """
        Tell a file provider that its server has changes. Needs a provider token.

        Source: Apple, "Using push notifications to signal changes".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param container_identifier: the folder, or ``"NSFileProviderWorkingSetContainerItemIdentifier"``.
        :param domain: the identifier of the file provider's domain.
        :param fields: the header fields of :class:`Notification`.
        :returns: the notification.
        """
        payload = {"container-identifier": container_identifier, "domain": domain}
        return cls._for_app(PushType.FILEPROVIDER, bundle_id, fields, payload=payload)

    @classmethod
    def mdm(cls, push_magic: str, **fields: Unpack[_Fields]) -> Notification:
        """
        Make a managed device contact its server. Source: Apple, "Sending MDM commands to a device".

        :param push_magic: the ``PushMagic`` of the device's TokenUpdate message.
        :param fields: the header fields of :class:`Notification`. The topic is the UID in the subject of the MDM push
            certificate, from where the gateway takes it if neither notification nor client has one.
        :returns: the notification.
        """
        return cls._of(PushType.MDM, fields, payload={"mdm": push_magic})

    @classmethod
    def live_activity_start(
        cls,
        bundle_id: str,
        *,
        attributes_type: str,
        attributes: Mapping[str, object],
        content_state: Mapping[str, object],
        alert: str | Mapping[str, object] | None,
        input_push_token: bool = False,
        input_push_channel: str | None = None,
        **keywords: Unpack[_Activity],
    ) -> Notification:
        """
        Start a Live Activity, on a push-to-start token. Needs a provider token.

        Source, here and for updates and ends: Apple, "Starting and updating Live Activities with ActivityKit push
        notifications".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param attributes_type: the name of the Swift type of the attributes.
        :param attributes: the values that stay for the Live Activity's life.
        :param content_state: the values that change.
        :param alert: tells the user of the start; a text or a mapping, which may have a ``sound``. Apple requires it.
        :param input_push_token: ask for a token to update the Live Activity by.
        :param input_push_channel: the channel to update the Live Activity by, instead of a token.
        :param keywords: ``timestamp``, when the state was current (now), ``stale_date``, when it will be out of date,
            each as a datetime with a time zone, a time from now or UNIX seconds; ``relevance_score``; ``extra``; and
            the header fields of :class:`Notification`. Priority 5 does not count against the device's budget.
        :returns: the notification.
        """
        return cls._live_activity(
            "start",
            bundle_id,
            keywords,
            attributes_type=attributes_type,
            attributes=attributes,
            content_state=content_state,
            alert=alert,
            input_push_token=input_push_token,
            input_push_channel=input_push_channel,
        )

    @classmethod
    def live_activity_update(
        cls,
        bundle_id: str,
        content_state: Mapping[str, object],
        *,
        alert: str | Mapping[str, object] | None = None,
        **keywords: Unpack[_Activity],
    ) -> Notification:
        """
        Update a Live Activity, on its own token.

        :param bundle_id: the app's bundle identifier, without suffix.
        :param content_state: the new state.
        :param alert: a text or a mapping, if the user is to be told.
        :param keywords: as for :meth:`live_activity_start`.
        :returns: the notification.
        """
        return cls._live_activity("update", bundle_id, keywords, content_state=content_state, alert=alert)

    @classmethod
    def live_activity_end(
        cls,
        bundle_id: str,
        content_state: Mapping[str, object] | None = None,
        *,
        dismissal_date: float | timedelta | datetime | None = None,
        alert: str | Mapping[str, object] | None = None,
        **keywords: Unpack[_Activity],
    ) -> Notification:
        """
        End a Live Activity, on its own token.

        :param bundle_id: the app's bundle identifier, without suffix.
        :param content_state: the last state, which Apple advises to give.
        :param dismissal_date: when it disappears, in the forms of a timestamp: up to four hours from now, or in the
            past for at once; left out, the system chooses.
        :param alert: a text or a mapping, if the user is to be told.
        :param keywords: as for :meth:`live_activity_start`.
        :returns: the notification.
        """
        return cls._live_activity(
            "end", bundle_id, keywords, content_state=content_state, dismissal_date=dismissal_date, alert=alert
        )

    @classmethod
    def push_to_talk(
        cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]
    ) -> Notification:
        """
        Tell a Push to Talk app who speaks, with priority 10 and a single attempt.

        Source: Apple, "Creating a Push to Talk app".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: what the app is to know, in any form.
        :param keywords: those of :class:`Notification`; ``ptt_push_type="service-update"`` for news of the channel.
        :returns: the notification.
        """
        return cls._for_app(PushType.PUSHTOTALK, bundle_id, keywords, payload=payload, **_AT_ONCE)

    @classmethod
    def widgets(cls, bundle_id: str, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Reload the app's widgets. Source: Apple, "Updating widgets with WidgetKit push notifications".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param keywords: those of :class:`Notification`.
        :returns: the notification.
        """
        return cls._for_app(PushType.WIDGETS, bundle_id, keywords, content_changed=True)

    @classmethod
    def controls(cls, bundle_id: str, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Reload the app's controls. Source: Apple, "Updating controls locally and remotely".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param keywords: those of :class:`Notification`.
        :returns: the notification.
        """
        return cls._for_app(PushType.CONTROLS, bundle_id, keywords, content_changed=True)

    @classmethod
    def _of(cls, push_type: PushType, given: Mapping[str, Any], **defaults: Any) -> Notification:
        """Make a notification of a kind from its defaults and what the caller has given instead."""
        return cls(**{"push_type": push_type, **defaults, **given})

    @classmethod
    def _for_app(cls, push_type: PushType, bundle_id: str, given: Mapping[str, Any], **defaults: Any) -> Notification:
        """Do the same for a kind whose topic has a suffix."""
        return cls._of(push_type, given, topic=bundle_id + push_type.suffix, **defaults)

    @classmethod
    def _live_activity(cls, event: str, bundle_id: str, given: Mapping[str, Any], **defaults: Any) -> Notification:
        """Do the same for an event of a Live Activity, whose times travel in the payload."""
        values = {"event": event, "timestamp": timedelta(0), **defaults, **given}
        for name in ("timestamp", "stale_date", "dismissal_date"):
            values[name] = _seconds(name, values.get(name))
        return cls._for_app(PushType.LIVEACTIVITY, bundle_id, values)


_DICT_KEYS = {"payload", *_Fields.__annotations__}

# A call, or what somebody says, is of no use later.
_AT_ONCE = {"priority": Priority.IMMEDIATE, "expiration": 0}


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
    # The expression is slow, and each notification of the gateway has an id: what is printable is fit but for its ends.
    if value.isprintable() and value.strip(" ") == value:
        return str(value)
    value = payloads.joined(value)
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


def _seconds(field: str, moment: object) -> int | None:
    """Turn every way to say a time into UNIX seconds."""
    if isinstance(moment, timedelta):
        moment = _now() + moment.total_seconds()
    elif isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise InvalidNotification(f"{field} is a datetime without a time zone; it must have one")
        moment = moment.timestamp()
    if isinstance(moment, float):
        if not math.isfinite(moment):
            raise InvalidNotification(f"{field} must be a time, not {moment}")
        moment = int(moment)
    return _integer(field, moment)
