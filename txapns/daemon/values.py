"""
The values that cross the seams of the daemon, in the order in which a notification meets them.

::

    face ──Draft──► intake ──Message──► queue ──Leased──► dispatcher ──► APNs
         ◄─────────── Receipt ────────────┘ ◄─Settlement─┘
                     Outcome, Entry, Depth ◄┘ └► FeedbackEntry (feedback log)

A notification for one device is identified by its *number*, which the queue assigns and never uses again. Its apns-id
is the id that callers and Apple use. Callers may choose one freely, and use it twice or a thousand times, so the daemon
searches by it only to answer a caller's question.

Times are UNIX seconds. Device tokens are bytes. Header fields have Apple's names and are text: ``apns-topic``,
``apns-push-type``, ``apns-priority``, ``apns-expiration`` (in UNIX seconds) and ``apns-collapse-id``, but only those
that are present; ``apns-id`` is not among them, since each device has its own. What is accepted without a push type
gets the one that follows from its payload. Payloads are JSON, as they go to Apple. A status is the HTTP status of
Apple's answer, or 0 for no answer; a reason is Apple's, or says why there was no answer; their timestamp says since
when the token is dead, if Apple said so.

A *broadcast* is a notification for a channel. Among its header fields is ``apns-channel-id``, and its device token is
empty; it is for one channel, so it has one number and one id, which Apple knows as its ``apns-request-id``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import attrs
import msgspec

from txapns.credentials import Certificate, Credential
from txapns.errors import redact
from txapns.gateway import Gateway
from txapns.reasons import Reason

__all__ = [
    "ANYBODY",
    "CHANNEL",
    "ENVIRONMENT",
    "App",
    "Caller",
    "Content",
    "Depth",
    "Draft",
    "Entry",
    "Environment",
    "Estimate",
    "FeedbackEntry",
    "Idempotency",
    "Lane",
    "Lease",
    "Leased",
    "Limits",
    "Message",
    "Outcome",
    "Pause",
    "Receipt",
    "RecordedOutcome",
    "Settlement",
    "Side",
    "State",
    "TokenEnvironment",
    "TokenKind",
    "environment_of",
    "expiration",
]

#: The header field that names the channel of a broadcast.
CHANNEL = "apns-channel-id"
#: The header field that says which environment of an app with two sides something is for. It is not sent.
ENVIRONMENT = "txapns-environment"

_DEAD = (Reason.UNREGISTERED.value, Reason.EXPIRED_TOKEN.value)


# Several of these are made for each notification: as structures of msgspec's, in 0.2 µs instead of 1.5 each.
class _Value(msgspec.Struct, frozen=True, gc=False):
    """A value of which bytes and sequences are shown by their size, and no payload: they may be private, or long."""

    def __repr__(self) -> str:
        shown = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            shown[name] = len(value) if isinstance(value, list | tuple | range | bytes) else value
        return f"{type(self).__name__}({', '.join([f'{name}={each!r}' for name, each in shown.items()])})"


class Environment(enum.IntEnum):
    """One of Apple's two environments, each of which has device tokens and channels of its own."""

    PRODUCTION = 1
    SANDBOX = 2


class TokenKind(enum.IntEnum):
    """What is known of a device token of an app with two sides. Of most nothing is known: they are of production."""

    SANDBOX = 1  #: the sandbox knows it
    REFUSED = 2  #: production refuses it, and the sandbox has not answered yet
    NEITHER = 3  #: both refuse it


class Lane(enum.IntEnum):
    """Which notifications of an app are sent first, those of the first lane before all."""

    URGENT = 0  #: somebody waits for it: a message, a call, a code
    NORMAL = 1
    BULK = 2  #: many at once, as of a campaign, none of which is in a hurry


@attrs.frozen
class Limits:
    """The limits of one app. ``contrib/apns.toml`` says what they mean."""

    queue: int = 1_000_000
    tokens: int = 10_000
    in_flight: int = 2_000
    connections: int = 1
    attempts: int = 20
    rate: int | None = None


@attrs.frozen
class Pause:
    """
    That nothing is sent for an app, since somebody wants it so. What is accepted meanwhile waits.

    :ivar caller: who paused it: the id of an API key, or the user who gave the command.
    """

    since: float
    caller: str


@attrs.frozen
class Side:
    """Where an app sends in one of Apple's environments, and with which credential."""

    gateway: Gateway
    credential: Credential


@attrs.frozen
class App:
    """
    An app that notifications are sent to.

    An app may have two sides, of which ``gateway`` and ``credential`` are those of production.

    :ivar topic: the topic of notifications without one; ``None`` for that of the credential.
    :ivar push_type: the push type of notifications from faces that know none; ``None`` to infer it from the payload.
    :ivar callers: the SHA-256 fingerprints of client certificates whose owners may send for it. The app's own
        certificate need not be listed.
    :ivar pause: ``None`` unless it is paused.
    :ivar outcomes: whether what becomes of its notifications is recorded in the outcome feed.
    :ivar supersede: whether a newer notification supersedes what waits for the same device with the same collapse id.
    :ivar sandbox: its side in the sandbox; ``None`` if it has only one side, whichever that is.
    """

    name: str
    gateway: Gateway
    credential: Credential
    topic: str | None = None
    push_type: str | None = None
    callers: frozenset[str] = frozenset()
    limits: Limits = Limits()
    source: Literal["file", "database"] = "file"
    pause: Pause | None = None
    outcomes: bool = False
    supersede: bool = True
    sandbox: Side | None = None

    @property
    def sides(self) -> Mapping[Environment, Side]:
        """Its sides by their environments; none if it has only one, whose environment its gateway tells."""
        if self.sandbox is None:
            return {}
        return {Environment.PRODUCTION: Side(self.gateway, self.credential), Environment.SANDBOX: self.sandbox}

    @property
    def credentials(self) -> Mapping[str, Credential]:
        """Its credentials: ``"production"`` and ``"sandbox"``, or the only one under an empty name."""
        if self.sandbox is None:
            return {"": self.credential}
        return {environment.name.lower(): side.credential for environment, side in self.sides.items()}

    @property
    def expires(self) -> datetime | None:
        """When its certificate expires, or the first of two, in UTC; ``None`` if it has only signing keys."""
        return min([each.expires for each in self.credentials.values() if isinstance(each, Certificate)], default=None)


@attrs.frozen
class Caller:
    """
    The holder of an API key, and what the key allows.

    :ivar name: the key's id, which is not secret.
    :ivar send: the names of the apps to which it may send; ``None`` for all.
    :ivar feedback: the names of the apps of which it may read outcomes and dead tokens; ``None`` for all.
    :ivar manage: whether it may manage apps and their queues.
    :ivar lane: the lane of everything that it sends, whatever a request asks for; ``None`` if the key is not bound.
    """

    name: str
    send: frozenset[str] | None = frozenset()
    feedback: frozenset[str] | None = frozenset()
    manage: bool = False
    lane: Lane | None = None

    def may_send(self, app: str) -> bool:
        """Tell whether it may send to an app."""
        return self.send is None or app in self.send

    def may_read(self, app: str) -> bool:
        """Tell whether it may read the outcomes and dead tokens of an app."""
        return self.feedback is None or app in self.feedback


#: The caller of every request where no keys are required.
ANYBODY = Caller("anybody", None, None, manage=True)


class Draft(_Value, frozen=True, gc=False):
    """
    A notification as a caller submits it, for one or more devices: with one payload, or with one for each of them.

    :ivar apns_ids: the ids that the caller chose, one for each token; empty if the daemon chooses.
    :ivar not_before: the date before which it is not sent; ``None`` to send it now.
    :ivar rate: to how many devices a second the request is sent, from then on; ``None`` for as fast as possible.
    :ivar lane: the lane that the caller asks for; ``None`` if the daemon chooses.
    :ivar environment: the side that it is for, of an app with two; ``None`` for that of each device token, or for
        production if it is a broadcast.
    :ivar decoded: whether the face has decoded what is sent, which nobody does twice, and found the push type.
    :ivar payloads: the payload of each device, if they differ, instead of ``payload``. The face has decoded them.
    """

    payload: bytes
    headers: Mapping[str, str]
    tokens: Sequence[bytes]
    apns_ids: Sequence[str] = ()
    not_before: float | None = None
    rate: int | None = None
    lane: Lane | None = None
    environment: Environment | None = None
    decoded: bool = False
    payloads: Sequence[bytes] = ()


class Message(_Value, frozen=True, gc=False):
    """
    A notification as it is stored, for one or more devices: with one payload, or with one for each of them.

    :ivar apns_ids: the id for each device, in order: UUIDs in lower case. An id is chosen once and is the same in all
        attempts. Callers and Apple know the notification by it. Two notifications may have the same.
    :ivar not_before: the date before which it is not sent; ``None`` to send it now.
    :ivar rate: to how many devices a second it is sent, from then on; ``None`` for as fast as possible. The messages of
        a request that have a rate follow one another.
    :ivar caller: the name of the caller it is from. Callers take turns in each lane.
    :ivar collapse_id: what waits for the same devices of the app with the same one is superseded; ``None`` for nothing.
    :ivar payloads: the payload of each device, in order, if they differ, instead of ``payload``.
    """

    app: str
    payload: bytes
    headers: Mapping[str, str]
    tokens: Sequence[bytes]
    apns_ids: Sequence[str]
    not_before: float | None = None
    rate: int | None = None
    lane: Lane = Lane.NORMAL
    caller: str = ANYBODY.name
    collapse_id: str | None = None
    payloads: Sequence[bytes] = ()

    def __post_init__(self) -> None:
        """Check that there is one id for each device, and one payload or none of its own."""
        if len(self.tokens) != len(self.apns_ids):
            raise ValueError(f"{len(self.tokens)} tokens with {len(self.apns_ids)} ids")
        if self.payloads and len(self.payloads) != len(self.tokens):
            raise ValueError(f"{len(self.tokens)} tokens with {len(self.payloads)} payloads")


class Receipt(_Value, frozen=True, gc=False):
    """
    The queue's answer for a stored message: the number and the id of each device's notification, in order.

    :ivar earlier: whether the request repeats an earlier one with the same idempotency key, and may have outcomes.
    :ivar superseded: whether some of them are superseded already, by others that were accepted together with them.
    """

    numbers: Sequence[int]
    apns_ids: Sequence[str]
    earlier: bool = False
    superseded: bool = False


@attrs.frozen
class Idempotency:
    """
    Identifies a request, so that a repetition is recognized.

    :ivar owner: whose key it is: each caller has its own keys.
    :ivar key: the key that the caller chose for the request.
    :ivar digest: a digest of the request; it reveals a key that is used for a different request.
    """

    owner: str
    key: str
    digest: bytes = attrs.field(repr=False)


def expiration(headers: Mapping[str, str]) -> float | None:
    """
    Find out when a notification expires, given its header fields; ``None`` for never.

    An ``apns-expiration`` of 0 is not a time: it asks Apple not to store the notification.
    """
    value = headers.get("apns-expiration", "0")
    return float(value) if value.isdecimal() and int(value) else None


def environment_of(headers: Mapping[str, str]) -> Environment | None:
    """Find out which environment something is for; ``None`` for that of the device token, or of the only side."""
    name = headers.get(ENVIRONMENT)
    if name is not None:
        return Environment.SANDBOX if name == "sandbox" else Environment.PRODUCTION
    return Environment.PRODUCTION if CHANNEL in headers else None


class Content(_Value, frozen=True, eq=False, gc=False):
    """What notifications share that differ in their payloads alone. Those that are leased together share the object."""

    app: str
    headers: Mapping[str, str]
    lane: Lane = Lane.NORMAL

    @property
    def expires(self) -> float | None:
        """When the notification expires; ``None`` for never."""
        return expiration(self.headers)

    @property
    def channel(self) -> str | None:
        """The channel of a broadcast; ``None`` for what goes to devices."""
        return self.headers.get(CHANNEL)

    @property
    def environment(self) -> Environment | None:
        """Which environment it is for; ``None`` for that of the device token."""
        return environment_of(self.headers)


class Leased(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    One notification for one device, leased for an attempt.

    :ivar attempts: how many attempts were made before.
    :ivar since: the same by the reactor's clock, for measuring durations.
    """

    number: int
    content: Content
    payload: bytes
    token: bytes
    apns_id: str
    attempts: int
    accepted_at: float
    since: float

    def __repr__(self) -> str:
        return f"Leased(number={self.number}, token={redact(self.token)}, content={self.content}, …)"


class Lease(list[Leased]):
    """
    Notifications that were leased together, all of one lane.

    :ivar more: whether more are due.
    :ivar full: whether, of as many as may be leased at a time, too few are left for another lease.
    """

    def __init__(self, leased: Iterable[Leased] = (), more: bool = False, full: bool = False) -> None:
        super().__init__(leased)
        self.more = more
        self.full = full


class State(enum.IntEnum):
    """What became of a notification."""

    WAITING = 0  #: it waits for an attempt, the first or another, or is in flight
    ACCEPTED = 1  #: Apple accepted it
    REJECTED = 2  #: Apple rejected it for good
    EXPIRED = 3  #: it expired before it could be sent
    DEAD = 4  #: a dead letter: too many attempts failed; it can be listed, and retried
    SUPERSEDED = 5  #: a newer one for the device with the same collapse id was accepted before it could be sent


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """
    The result of one attempt.

    :ivar state: its new state. ``WAITING`` asks for another attempt: with ``due`` this one counts; without, the lease
        is given back and no attempt is counted.
    :ivar due: when to try again, by the reactor's clock.
    :ivar unique_id: Apple's ``apns-unique-id``, which only the sandbox returns; empty without.
    :ivar environment: the environment whose answer it is, if the app has two sides.
    :ivar counted: whether the attempt counts, if there is to be another one at ``due``.
    """

    number: int
    state: State
    status: int = 0
    reason: str = ""
    timestamp: float | None = None
    due: float | None = None
    unique_id: str = ""
    environment: Environment | None = None
    counted: bool = True

    @property
    def dead(self) -> bool:
        """Whether Apple says that the token is no longer in use."""
        return self.state is State.REJECTED and self.reason in _DEAD


@attrs.frozen
class Outcome:
    """
    What became of one notification.

    :ivar settled_at: when its state became final; ``None`` while it waits.
    :ivar unique_id: Apple's ``apns-unique-id``, under which its developer console has the notification; empty without.
    :ivar environment: the environment whose answer it is, once it is final, if the app has two sides.
    :ivar channel: the channel of a broadcast, as long as its message is kept; ``None`` for what goes to devices.
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
    environment: Environment | None = None
    channel: str | None = None


@attrs.frozen
class Entry:
    """One notification in an operator's list, with the time at which the next attempt is, or was, due."""

    token: bytes = attrs.field(repr=redact)
    due: float
    outcome: Outcome

    @property
    def place(self) -> str:
        """Where it goes, for a person: the channel, or the shortened token."""
        return self.outcome.channel or (redact(self.token) if self.token else "")


@attrs.frozen
class Estimate:
    """
    About how many notifications of an app wait.

    :ivar age: how many seconds ago they were counted; 0 in a store that counts each change.
    """

    count: int
    age: float


# There is one for each app, in all checks: as structures of msgspec's, in 0.2 µs instead of 0.7.
class Depth(msgspec.Struct, frozen=True, gc=False):
    """
    How much waits for an app.

    :ivar waiting: how many notifications wait, including those in flight.
    :ivar leased: how many of them are in flight.
    :ivar oldest: when the first in the queue is due, by the reactor's clock; it may be in the future. ``None`` if
        nothing waits.
    """

    app: str
    waiting: int
    leased: int
    oldest: float | None


@attrs.frozen
class RecordedOutcome:
    """
    One final state of a notification, in the outcome feed of its app.

    :ivar cursor: its position in the feed of its app: 1, 2, 3 and so on, without gaps.
    """

    cursor: int
    token: bytes = attrs.field(repr=redact)
    outcome: Outcome


@attrs.frozen
class TokenEnvironment:
    """
    What is known of a device token.

    :ivar until: the date until which that counts. After it, the token is tried as one of which nothing is known.
    """

    kind: TokenKind
    until: float


@attrs.frozen
class FeedbackEntry:
    """
    A device token that Apple says is no longer in use.

    :ivar cursor: its position in the feedback log. Positions only grow.
    :ivar reason: Apple's reason: ``Unregistered`` or ``ExpiredToken``.
    :ivar timestamp: since when, if Apple said so; otherwise the same as ``noted_at``.
    """

    cursor: int
    app: str
    token: bytes = attrs.field(repr=redact)
    reason: str
    timestamp: float
    noted_at: float
