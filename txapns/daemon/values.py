"""
The values that cross the seams of the daemon, in the order in which a notification meets them.

::

    face ──Draft──► intake ──Message──► queue ──Leased──► dispatcher ──► APNs
         ◄─────────── Receipt ────────────┘ ◄─Settlement─┘
                     Outcome, Entry, Depth ◄┘ └► FeedbackEntry (feedback log)

A notification for one device is known by its *number*, which the queue gives it and never gives again. Its apns-id is
what callers and Apple call it. Callers may choose one as they like, twice or a thousand times, so nothing is looked
for by it but what a caller asks about by it.

Times are UNIX seconds. Device tokens are octets. Header fields have Apple's names and are text: ``apns-topic``,
``apns-push-type``, ``apns-priority``, ``apns-expiration`` (in UNIX seconds) and ``apns-collapse-id``, and of these only
the ones present; ``apns-id`` is not among them, since each device has its own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from txapns.credentials import Credential
from txapns.errors import redact
from txapns.gateway import Gateway
from txapns.reasons import Reason

__all__ = [
    "App",
    "Caller",
    "Content",
    "Depth",
    "Draft",
    "Entry",
    "Estimate",
    "FeedbackEntry",
    "Idempotency",
    "Leased",
    "Limits",
    "Message",
    "Outcome",
    "Receipt",
    "Settlement",
    "State",
]

_DEAD = (Reason.UNREGISTERED.value, Reason.EXPIRED_TOKEN.value)


def _size(found: Sequence[object] | bytes) -> str:
    return str(len(found))


@attrs.frozen
class Limits:
    """
    What is allowed for one app.

    :ivar queue: how many notifications may wait.
    :ivar tokens: how many device tokens one request may have.
    :ivar in_flight: how many notifications may be under way to Apple at a time.
    :ivar connections: how many connections there may be.
    :ivar attempts: after how many failed attempts a notification is given up.
    """

    queue: int = 1_000_000
    tokens: int = 10_000
    in_flight: int = 2_000
    connections: int = 1
    attempts: int = 20


@attrs.frozen
class App:
    """
    An app that notifications are sent to.

    :ivar name: what callers name it by.
    :ivar gateway: where to send.
    :ivar credential: what authenticates us there.
    :ivar topic: the topic of notifications that name none; ``None`` for that of the credential.
    :ivar push_type: the push type where the way in knows none; ``None`` for what the payload tells.
    :ivar callers: the fingerprints (SHA-256) of client certificates whose owners may send for it; that of its own
        certificate need not be among them.
    :ivar limits: what is allowed.
    :ivar source: where it is kept.
    """

    name: str
    gateway: Gateway
    credential: Credential
    topic: str | None = None
    push_type: str | None = None
    callers: frozenset[str] = frozenset()
    limits: Limits = Limits()
    source: Literal["file", "database"] = "file"


@attrs.frozen
class Caller:
    """
    Whoever holds a key, and what that allows.

    :ivar name: the key's id, which is no secret.
    :ivar send: the names of the apps that it may send to; ``None`` for all.
    :ivar feedback: the names of the apps whose outcomes and dead tokens it may read; ``None`` for all.
    :ivar manage: whether it may look after the apps and their queues.
    """

    name: str
    send: frozenset[str] | None = frozenset()
    feedback: frozenset[str] | None = frozenset()
    manage: bool = False

    def may_send(self, app: str) -> bool:
        """
        Tell whether it may send to an app.

        :param app: the app's name.
        """
        return self.send is None or app in self.send

    def may_read(self, app: str) -> bool:
        """
        Tell whether it may read the outcomes and dead tokens of an app.

        :param app: the app's name.
        """
        return self.feedback is None or app in self.feedback


@attrs.frozen
class Draft:
    """
    A notification as a caller hands it in: one payload for one device or more.

    :ivar payload: JSON, as it goes to Apple.
    :ivar headers: its header fields.
    :ivar tokens: the devices.
    :ivar apns_ids: the ids that the caller chose, as many as there are tokens; empty where the daemon chooses.
    """

    payload: bytes = attrs.field(repr=_size)
    headers: Mapping[str, str]
    tokens: Sequence[bytes] = attrs.field(repr=_size)
    apns_ids: Sequence[str] = attrs.field(default=(), repr=_size)


@attrs.frozen
class Message:
    """
    A notification as it is stored: one payload for one device or more.

    :ivar app: the app's name.
    :ivar payload: JSON, as it goes to Apple.
    :ivar headers: its header fields.
    :ivar tokens: the devices.
    :ivar apns_ids: the id for each of them, in their order: UUIDs in lower case. The id is chosen once, is the same in
        all attempts, and is how the notification is known from outside. Two may have the same.
    """

    app: str
    payload: bytes = attrs.field(repr=_size)
    headers: Mapping[str, str]
    tokens: Sequence[bytes] = attrs.field(repr=_size)
    apns_ids: Sequence[str] = attrs.field(repr=_size)

    def __attrs_post_init__(self) -> None:
        """Each device has an id, and each id a device."""
        if len(self.tokens) != len(self.apns_ids):
            raise ValueError(f"{len(self.tokens)} tokens with {len(self.apns_ids)} ids")


@attrs.frozen
class Receipt:
    """
    What the queue says of a message that it has stored.

    :ivar numbers: the number of each device's notification, in the order of the devices.
    :ivar apns_ids: its id, likewise.
    :ivar earlier: whether an earlier request with the same idempotency key had it stored, so that there may be outcomes
        already.
    """

    numbers: Sequence[int] = attrs.field(repr=_size)
    apns_ids: Sequence[str] = attrs.field(repr=_size)
    earlier: bool = False


@attrs.frozen
class Idempotency:
    """
    What makes the second of two equal requests known as such.

    :ivar owner: whose key it is: the keys of different callers have nothing to do with each other.
    :ivar key: the key, which the caller chose for the request.
    :ivar digest: a digest of the request, by which it is found out when a key is used for another.
    """

    owner: str
    key: str
    digest: bytes = attrs.field(repr=False)


@attrs.frozen(eq=False)
class Content:
    """
    What the deliveries of one message share. For those leased together it is one object.

    :ivar app: the app's name.
    :ivar payload: JSON, as it goes to Apple.
    :ivar headers: the header fields.
    """

    app: str
    payload: bytes = attrs.field(repr=_size)
    headers: Mapping[str, str]

    @property
    def expires(self) -> float | None:
        """
        When it is of no use any more; ``None`` for never.

        An ``apns-expiration`` of 0 is no time long ago: it asks Apple not to store the notification.
        """
        value = self.headers.get("apns-expiration", "0")
        return float(value) if value.isdecimal() and int(value) else None


@attrs.frozen(eq=False)
class Leased:
    """
    One notification for one device, lent to whoever sends it.

    :ivar number: what the queue knows it by.
    :ivar content: what to send.
    :ivar token: the device.
    :ivar apns_id: its id.
    :ivar attempts: how many attempts there were before.
    :ivar accepted_at: when it was accepted.
    :ivar since: the same by the reactor's clock, to measure from.
    """

    number: int
    content: Content
    token: bytes = attrs.field(repr=redact)
    apns_id: str
    attempts: int
    accepted_at: float
    since: float


class State(enum.IntEnum):
    """What became of a notification."""

    WAITING = 0  #: it is to be sent, perhaps for the second time, or is under way
    ACCEPTED = 1  #: Apple took it
    REJECTED = 2  #: Apple refused it for good
    EXPIRED = 3  #: its time was over before it could be sent
    DEAD = 4  #: given up after too many attempts; it can be listed, and tried again


@attrs.frozen
class Settlement:
    """
    What came of one attempt.

    :ivar number: which notification.
    :ivar state: what became of it. ``WAITING`` is for another attempt: with ``due`` this one counts; without, the lease
        is given back as if there had been none.
    :ivar status: the HTTP status that Apple answered with; 0 for no answer.
    :ivar reason: Apple's reason, or what kept us from asking.
    :ivar timestamp: since when the token is dead, where Apple said so.
    :ivar due: when to try again, by the reactor's clock.
    :ivar unique_id: Apple's ``apns-unique-id``, which it gives in the sandbox alone. It is not stored.
    """

    number: int
    state: State
    status: int = 0
    reason: str = ""
    timestamp: float | None = None
    due: float | None = None
    unique_id: str = ""

    @property
    def dead(self) -> bool:
        """Whether Apple says that the token is no longer in use."""
        return self.state is State.REJECTED and self.reason in _DEAD


@attrs.frozen
class Outcome:
    """
    What is known of one notification.

    :ivar number: what the queue knows it by.
    :ivar apns_id: its id.
    :ivar app: the app's name.
    :ivar state: what became of it.
    :ivar status: the HTTP status of the last answer; 0 for none.
    :ivar reason: Apple's last reason, or what kept us from asking.
    :ivar timestamp: since when the token is dead, where Apple said so.
    :ivar attempts: how many attempts there were.
    :ivar accepted_at: when it was accepted.
    :ivar settled_at: when its state became final; ``None`` while it is waiting.
    :ivar unique_id: Apple's ``apns-unique-id``, known to those who wait for the outcome and to nobody later.
    """

    number: int
    apns_id: str
    app: str
    state: State
    status: int
    reason: str
    timestamp: float | None
    attempts: int
    accepted_at: float
    settled_at: float | None
    unique_id: str = ""


@attrs.frozen
class Entry:
    """
    One notification as an operator sees it in the queue.

    :ivar token: the device.
    :ivar due: when it is, or was, to be tried next.
    :ivar outcome: all else.
    """

    token: bytes = attrs.field(repr=redact)
    due: float
    outcome: Outcome


@attrs.frozen
class Estimate:
    """
    About how many notifications of an app wait.

    :ivar count: how many.
    :ivar age: how many seconds ago they were counted; 0 in a store that counts each change.
    """

    count: int
    age: float


@attrs.frozen
class Depth:
    """
    How much of an app's waits.

    :ivar app: the app's name.
    :ivar waiting: how many notifications wait, those under way among them.
    :ivar leased: how many of these are under way.
    :ivar oldest: since when, by the reactor's clock, the first in the queue is due, which may lie ahead; ``None`` where
        nothing waits.
    """

    app: str
    waiting: int
    leased: int
    oldest: float | None


@attrs.frozen
class FeedbackEntry:
    """
    A device token that Apple says is no longer in use.

    :ivar cursor: its position in the feedback log; it only grows.
    :ivar app: the app's name.
    :ivar token: the device.
    :ivar reason: Apple's reason: ``Unregistered`` or ``ExpiredToken``.
    :ivar timestamp: since when, by Apple's word; where there is none, when we learnt of it.
    :ivar noted_at: when we learnt of it.
    """

    cursor: int
    app: str
    token: bytes = attrs.field(repr=redact)
    reason: str
    timestamp: float
    noted_at: float
