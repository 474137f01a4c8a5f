"""
What is sent: one payload and its header fields, the same for every device.

A :class:`Notification` is a value. It is encoded once, when it is made, and may then be sent to any number of device
tokens, compared, pickled, or put into a task queue as JSON (:meth:`Notification.to_dict`).

Its fields are those of a provider API request::

    apns-topic       the app, with a suffix for some push types
    apns-push-type   what kind of notification it is: PushType
    apns-priority    how urgently to wake the device: Priority; without one, APNs assumes 10
    apns-expiration  UNIX seconds until which it is stored and retried; 0 is one attempt; if absent, Apple chooses
    apns-collapse-id replaces an earlier notification with the same identifier; at most 64 bytes
    apns-id          a UUID that comes back with the answer; APNs makes one if it is absent

Nothing that APNs itself can reject is an error here. An unknown push type, a priority of 7 or a malformed topic is sent
as it is, so that what Apple adds next year works today. Only values that no request can carry are errors.

Each kind of notification has a class method that sets the push type, the suffix of the topic, and the shape of the
payload. These are defaults: each method also takes the keywords of :class:`Notification`, and a keyword that is given
replaces the default, even if it is ``None``. Two rules about the topic:

- A kind with a suffix of its own takes the app's bundle identifier first, and builds the topic from both. A client's
  default topic is used unchanged, without any suffix, so it would be wrong here.
- A kind without one (alert, background, mdm) leaves the topic to the client, unless ``topic`` is given.

Source: Apple, "Sending notification requests to APNs".
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypedDict

import attrs

from txapns import payload as payloads
from txapns._fields import FieldKeywords, checked_integer, checked_seconds, checked_text
from txapns.errors import InvalidNotification

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Notification", "Priority", "PushType", "push_type_of", "with_body"]

_Payload: TypeAlias = "Mapping[str, object] | str | bytes | bytearray | memoryview"


class Priority(enum.IntEnum):
    """How urgently a notification is delivered, in the numbers of the ``apns-priority`` field."""

    #: At once; it must show, sound or badge. APNs assumes it if no priority is given.
    IMMEDIATE = 10
    #: With regard to the device's power; may be grouped or delayed. A background push must have this one.
    CONSIDERATE = 5
    #: Saving power comes first; it never wakes the device.
    LOW = 1


class PushType(str, enum.Enum):
    """
    The kinds of notification, as values of the ``apns-push-type`` field. Each compares equal to its text.

    :ivar suffix: what follows the app's bundle identifier in the topic.
    """

    suffix: str

    def __new__(cls, word: str, suffix: str = "") -> PushType:
        """Make a member from its text and its suffix."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.suffix = suffix
        return member

    # Without this, str() and format() give "PushType.ALERT", the latter depending on the version of Python.
    __str__ = str.__str__

    #: Shows, sounds or badges. Also for Wallet passes and Safari.
    ALERT = "alert"
    #: Wakes the app without showing anything; priority 5 only.
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


class _Keywords(payloads.Keywords, FieldKeywords, total=False):
    """The keywords of a notification that is not made from a whole payload."""


class _Text(TypedDict, total=False):
    """The texts of an alert, as keywords: Apple's keys with ``-`` written as ``_``."""

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


class _Activity(FieldKeywords, total=False):
    """The keywords that all notifications of a Live Activity share."""

    timestamp: float | timedelta | datetime | None
    stale_date: float | timedelta | datetime | None
    relevance_score: float | None
    extra: Mapping[str, object] | None


@attrs.frozen(init=False)
class Notification:
    """
    One notification, for any number of devices, made from keywords or from a whole payload, or by the class method for
    its kind.

    If no push type is given, it follows from the payload: ``"alert"`` if ``aps`` has alert, badge or sound, else
    ``"background"`` if it has content-available. Otherwise the push type is left out. A background push, given or
    derived, has priority 5 unless one is given.

    :param payload: the whole payload: a mapping, or JSON as text or UTF-8.
    :param topic: the app's bundle identifier, with the suffix of the push type; left out, the client's default.
    :param push_type: a :class:`PushType` or any other text.
    :param priority: a :class:`Priority` or any other integer.
    :param expiration: until when the notification is stored and retried: a time from now, a datetime with a time zone,
        or UNIX seconds, truncated to an integer; 0 for a single attempt.
    :param collapse_id: replaces an earlier notification with the same identifier; at most 64 bytes.
    :param apns_id: a UUID that identifies the notification.
    :param keywords: ``alert``, ``badge``, ``sound``, ``extra`` and the others of :class:`txapns.payload.Keywords`.
    :raises InvalidPayload: the payload is not a JSON object.
    :raises InvalidNotification: there are both payload and keywords, or a field that no request can carry.

    :cvar method: the method of its requests.
    :cvar path: their path, before the device token.
    :ivar body: the encoded payload: a JSON object in UTF-8.
    :ivar topic: the ``apns-topic``. If this field, or one of those below, is ``None``, the request leaves it out.
    :ivar push_type: the ``apns-push-type``.
    :ivar priority: the ``apns-priority``.
    :ivar expiration: the ``apns-expiration``, in UNIX seconds.
    :ivar collapse_id: the ``apns-collapse-id``.
    :ivar apns_id: the ``apns-id``.
    """

    method: ClassVar[bytes] = b"POST"
    path: ClassVar[bytes] = b"/3/device/"

    # Payloads may hold private content, so a log line gets the length alone.
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
            raise InvalidNotification(f"give either a payload or its keywords, not both: {', '.join(given)}")
        body = payloads.encode(payload)
        priority = None if priority is None else checked_integer("priority", priority)
        if push_type is not None:
            push_type = checked_text("push_type", push_type)
        else:
            push_type = push_type_of(payload if isinstance(payload, payloads.MAPPING) else payloads.decode(body))
        # Without a priority APNs assumes 10, which is an error for these.
        if priority is None and push_type == _BACKGROUND:
            priority = Priority.CONSIDERATE.value
        self.__attrs_init__(
            body,
            None if topic is None else checked_text("topic", topic),
            push_type,
            priority,
            None if expiration is None else checked_seconds("expiration", expiration),
            None if collapse_id is None else checked_text("collapse_id", collapse_id),
            None if apns_id is None else _checked_id(apns_id),
        )

    def with_topic(self, topic: str) -> Notification:
        """
        Copy this notification for another topic.

        :param topic: the topic of the copy.
        :returns: the copy, which shares the encoded body.
        :raises InvalidNotification: no request can carry the topic.
        """
        return self._copy(checked_text("topic", topic), self.apns_id)

    def with_apns_id(self, apns_id: str | uuid.UUID) -> Notification:
        """
        Copy this notification for one device, under an identifier of its own.

        :param apns_id: the ``apns-id`` of the copy, a UUID.
        :returns: the copy, which shares the encoded body.
        :raises InvalidNotification: no request can carry the identifier.
        """
        return self._copy(self.topic, _checked_id(apns_id))

    def _copy(self, topic: str | None, apns_id: str | None) -> Notification:
        return _copied(self, self.body, topic, apns_id)

    def headers(self, topic: str | None = None) -> tuple[tuple[bytes, bytes], ...]:
        """
        Build the header fields of a provider API request.

        :param topic: the topic, if the notification has none.
        :returns: names and values of the fields that are set, always in the same order.
        """
        topic = topic if self.topic is None else self.topic
        fields = _fields(topic, self.push_type, self.priority, self.expiration, self.collapse_id)
        return fields if self.apns_id is None else (*fields, (b"apns-id", self.apns_id.encode()))

    def to_dict(self) -> dict[str, str | int]:
        """
        Convert the notification to values that JSON can hold, for a task queue.

        :returns: the payload as text, and the fields that are set. The expiration is absolute, so waiting in the queue
            does not prolong it.
        """
        fields = attrs.asdict(self, filter=lambda field, value: value is not None and field.name != "body")
        return {"payload": self.body.decode(), **fields}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Notification:
        """
        Make a notification from the result of :meth:`to_dict`.

        :param values: the dictionary.
        :returns: an equal notification.
        :raises InvalidNotification: there is no payload, an unknown key, or an invalid value.
        :raises InvalidPayload: the payload is not a JSON object.
        """
        if not isinstance(values, Mapping):
            raise InvalidNotification(f"from_dict() takes a mapping, not {type(values).__name__}")
        if values.get("payload") is None:
            raise InvalidNotification("the dictionary has no payload")
        unknown = values.keys() - _DICT_KEYS
        if unknown:
            raise InvalidNotification(f"the dictionary has unknown keys: {', '.join(sorted(map(repr, unknown)))}")
        return cls(**values)

    @classmethod
    def alert(cls, **keywords: Unpack[_Alert]) -> Notification:
        """
        Make a notification that the user sees or hears. Source: Apple, "Generating a remote notification".

        :param title: the first line; ``subtitle`` the second, ``body`` the text.
        :param title_loc_key: the key of a title in the app's ``Localizable.strings``; ``subtitle_loc_key`` and
            ``loc_key`` those of subtitle and body.
        :param title_loc_args: the texts for the placeholders of that title; ``subtitle_loc_args`` and ``loc_args``
            those of subtitle and body.
        :param launch_image: the launch screen to show when the user opens the app from it.
        :param sound: a file in the app, ``"default"``, or for a critical alert a mapping such as ``{"critical": 1,
            "name": "default", "volume": 1.0}``.
        :param keywords: ``badge``, ``thread_id``, ``topic`` and the other keywords of :class:`Notification`.
        """
        given: dict[str, Any] = {**keywords}
        text = {name.replace("_", "-"): given.pop(name, None) for name in _Text.__annotations__}
        alert = {key: value for key, value in text.items() if value is not None}
        return cls._of(PushType.ALERT, given, alert=alert or None)

    @classmethod
    def background(cls, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Wake the app in the background, to fetch new content; at most two or three times an hour, with priority 5.

        Source: Apple, "Pushing background updates to your App".

        :param keywords: ``extra`` for the app's own data, and the other keywords of :class:`Notification`.
        """
        return cls._of(PushType.BACKGROUND, keywords, content_available=True)

    @classmethod
    def location(cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Ask the app's location extension where the device is. Needs a provider token.

        Source: Apple, "Creating a location push service extension".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: a whole payload, instead of keywords.
        :param keywords: those of :class:`Notification`; ``priority`` 5 if it is not urgent.
        """
        return cls._for_app(PushType.LOCATION, bundle_id, keywords, payload=payload)

    @classmethod
    def voip(cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Announce a call, with priority 10 and a single attempt, since a call is soon over.

        Source: Apple, "Responding to VoIP Notifications from PushKit".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: data about the call for the app, in any form; up to 5120 bytes.
        :param keywords: those of :class:`Notification`; an ``expiration`` of some seconds allows more than one attempt.
        """
        return cls._for_app(PushType.VOIP, bundle_id, keywords, payload=payload, **_AT_ONCE)

    @classmethod
    def complication(
        cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]
    ) -> Notification:
        """
        Update the app's complication on a watch face; at most 50 times a day.

        Source: Apple, "Keeping your complications up to date".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: data for the app, in any form.
        :param keywords: those of :class:`Notification`.
        """
        return cls._for_app(PushType.COMPLICATION, bundle_id, keywords, payload=payload)

    @classmethod
    def fileprovider(
        cls, bundle_id: str, container_identifier: str, domain: str, **fields: Unpack[FieldKeywords]
    ) -> Notification:
        """
        Tell a file provider that its server has changes. Needs a provider token.

        Source: Apple, "Using push notifications to signal changes".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param container_identifier: the folder, or ``"NSFileProviderWorkingSetContainerItemIdentifier"``.
        :param domain: the identifier of the file provider's domain.
        :param fields: the header fields of :class:`Notification`.
        """
        payload = {"container-identifier": container_identifier, "domain": domain}
        return cls._for_app(PushType.FILEPROVIDER, bundle_id, fields, payload=payload)

    @classmethod
    def mdm(cls, push_magic: str, **fields: Unpack[FieldKeywords]) -> Notification:
        """
        Have a managed device contact its server. Source: Apple, "Sending MDM commands to a device".

        :param push_magic: the ``PushMagic`` of the device's TokenUpdate message.
        :param fields: the header fields of :class:`Notification`. The topic is the UID in the subject of the MDM push
            certificate; APNs takes it from there if neither notification nor client has one.
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
        :param attributes: the values that stay the same while the Live Activity lasts.
        :param content_state: the values that change.
        :param alert: announces the start to the user; a text or a mapping, which may have a ``sound``. Apple requires
            it.
        :param input_push_token: ask for a token for updates of this Live Activity.
        :param input_push_channel: the channel for its updates, instead of a token.
        :param keywords: ``timestamp``, when the state was current (default: now), and ``stale_date``, when it will be
            out of date, each as a datetime with a time zone, a time from now or UNIX seconds; ``relevance_score``;
            ``extra``; and the header fields of :class:`Notification`. Priority 5 does not count against the device's
            budget.
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
        :param alert: a text or a mapping, to alert the user.
        :param keywords: as for :meth:`live_activity_start`.
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
        :param content_state: the final state, which Apple recommends to give.
        :param dismissal_date: when it disappears, in the same forms as ``timestamp``: up to four hours from now, or in
            the past for at once; left out, the system chooses.
        :param alert: a text or a mapping, to alert the user.
        :param keywords: as for :meth:`live_activity_start`.
        """
        return cls._live_activity(
            "end", bundle_id, keywords, content_state=content_state, dismissal_date=dismissal_date, alert=alert
        )

    @classmethod
    def push_to_talk(
        cls, bundle_id: str, payload: _Payload | None = None, **keywords: Unpack[_Keywords]
    ) -> Notification:
        """
        Tell a Push to Talk app who is speaking, with priority 10 and a single attempt.

        Source: Apple, "Creating a Push to Talk app".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param payload: data for the app, in any form.
        :param keywords: those of :class:`Notification`; ``ptt_push_type="service-update"`` for news of the channel.
        """
        return cls._for_app(PushType.PUSHTOTALK, bundle_id, keywords, payload=payload, **_AT_ONCE)

    @classmethod
    def widgets(cls, bundle_id: str, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Reload the app's widgets. Source: Apple, "Updating widgets with WidgetKit push notifications".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param keywords: those of :class:`Notification`.
        """
        return cls._for_app(PushType.WIDGETS, bundle_id, keywords, content_changed=True)

    @classmethod
    def controls(cls, bundle_id: str, **keywords: Unpack[_Keywords]) -> Notification:
        """
        Reload the app's controls. Source: Apple, "Updating controls locally and remotely".

        :param bundle_id: the app's bundle identifier, without suffix.
        :param keywords: those of :class:`Notification`.
        """
        return cls._for_app(PushType.CONTROLS, bundle_id, keywords, content_changed=True)

    @classmethod
    def _of(cls, push_type: PushType, given: Mapping[str, Any], **defaults: Any) -> Notification:
        """Make a notification of a kind from its defaults and the keywords that replace them."""
        return cls(**{"push_type": push_type, **defaults, **given})

    @classmethod
    def _for_app(cls, push_type: PushType, bundle_id: str, given: Mapping[str, Any], **defaults: Any) -> Notification:
        """Like :meth:`_of`, for a kind whose topic has a suffix."""
        return cls._of(push_type, given, topic=bundle_id + push_type.suffix, **defaults)

    @classmethod
    def _live_activity(cls, event: str, bundle_id: str, given: Mapping[str, Any], **defaults: Any) -> Notification:
        """Like :meth:`_for_app`, for an event of a Live Activity, whose times travel in the payload."""
        values = {"event": event, "timestamp": timedelta(0), **defaults, **given}
        for name in ("timestamp", "stale_date", "dismissal_date"):
            values[name] = checked_seconds(name, values.get(name))
        return cls._for_app(PushType.LIVEACTIVITY, bundle_id, values)


_DICT_KEYS = {"payload", *FieldKeywords.__annotations__}

# Reading a member of an enumeration takes longer than reading its text.
_ALERT, _BACKGROUND = str(PushType.ALERT), str(PushType.BACKGROUND)

# A call, or live speech, is useless later.
_AT_ONCE = {"priority": Priority.IMMEDIATE, "expiration": 0}


# Programs send notifications that differ in nothing but the payload and the id.
@lru_cache(maxsize=16)
def _fields(
    topic: str | None, push_type: str | None, priority: int | None, expiration: int | None, collapse_id: str | None
) -> tuple[tuple[bytes, bytes], ...]:
    """Encode the header fields that are set, in order."""
    fields = (
        (b"apns-topic", topic),
        (b"apns-push-type", push_type),
        (b"apns-priority", priority),
        (b"apns-expiration", expiration),
        (b"apns-collapse-id", collapse_id),
    )
    return tuple([(name, str(value).encode()) for name, value in fields if value is not None])


def _checked_id(apns_id: str | uuid.UUID) -> str | None:
    return checked_text("apns_id", str(apns_id) if isinstance(apns_id, uuid.UUID) else apns_id)


def with_body(notification: Notification, body: bytes) -> Notification:
    """
    Copy a notification with another payload, which nobody looks at again.

    :param body: the encoded payload, from which the same push type would follow.
    """
    return _copied(notification, body, notification.topic, notification.apns_id)


def _copied(notification: Notification, body: bytes, topic: str | None, apns_id: str | None) -> Notification:
    """Copy a notification; by the names of the fields, as attrs does it, this takes twice as long."""
    copy = object.__new__(type(notification))
    set_body, set_topic, set_push_type, set_priority, set_expiration, set_collapse_id, set_apns_id = _SETTERS
    set_body(copy, body)
    set_topic(copy, topic)
    set_push_type(copy, notification.push_type)
    set_priority(copy, notification.priority)
    set_expiration(copy, notification.expiration)
    set_collapse_id(copy, notification.collapse_id)
    set_apns_id(copy, apns_id)
    return copy


_SETTERS = [getattr(Notification, field.name).__set__ for field in attrs.fields(Notification)]


def push_type_of(document: Mapping[str, object]) -> str | None:
    """Derive the push type from the payload, since a watch may drop a notification without one."""
    aps = document.get("aps")
    if not isinstance(aps, payloads.MAPPING):
        return None
    if "alert" in aps or "badge" in aps or "sound" in aps:
        return _ALERT
    return _BACKGROUND if "content-available" in aps else None
