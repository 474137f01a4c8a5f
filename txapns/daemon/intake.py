"""
The only way in. All faces submit notifications here, so that all of them keep the same limits.

A whole request is checked before anything of it is stored: it is accepted, or refused with the first fault found. What
Apple may reject is not a fault; a fault is what could not be sent to Apple at all, or is absurdly large. So a request
is refused before it is accepted, never afterwards.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from txapns._fields import FORBIDDEN
from txapns.daemon import payloads
from txapns.daemon.broadcasts import check_broadcast, side_of
from txapns.daemon.errors import AppQueueFull, Malformed, TooLarge, Unavailable
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.interfaces import IApps, IIntake, IQueue
from txapns.daemon.values import (
    ANYBODY,
    CHANNEL,
    ENVIRONMENT,
    App,
    Caller,
    Draft,
    Environment,
    Idempotency,
    Lane,
    Message,
    Outcome,
    Receipt,
    expiration,
)
from txapns.errors import InvalidPayload
from txapns.notification import push_type_of

__all__ = [
    "BULK_DEVICES",
    "FURTHEST",
    "MAX_HEADER",
    "MAX_PAYLOAD",
    "MAX_TOKEN",
    "URGENT_DEVICES",
    "Intake",
    "Waiting",
    "header_fault",
    "lane_of",
    "schedule_fault",
]

#: The longest payload, header field and device token that are accepted, in bytes. Apple accepts far less: 5,120, 64 and
#: 100. What lies between, Apple rejects, so that what Apple allows next year works today.
MAX_PAYLOAD, MAX_HEADER, MAX_TOKEN = 65_536, 1_024, 512

_FIELDS = frozenset({"apns-topic", "apns-push-type", "apns-priority", "apns-expiration", "apns-collapse-id", CHANNEL})
# The fields that callers may set, of a notification and of a broadcast. The channel is not one of them.
_NAMES = sorted(_FIELDS - {CHANNEL} | {"apns-id"})
_BROADCAST_NAMES = sorted(_FIELDS - {CHANNEL, "apns-collapse-id"} | {"apns-request-id"})
_PUSH_TYPE = "apns-push-type"
_NUMBERS = frozenset({"apns-priority", "apns-expiration"})
_NUMBER = re.compile(r"-?[0-9]{1,18}")

#: A request for this many devices or fewer is urgent, and for this many or more is bulk, unless the caller chooses.
URGENT_DEVICES, BULK_DEVICES = 10, 1_000
_PROMPT = "10"  # Apple's default priority: deliver it at once

#: How far ahead the date may be before which a notification is not sent, in seconds.
FURTHEST = 30 * 86_400.0

_BUSY = 5.0  # in how many seconds a caller may retry when the queue is full
_STOPPING = 10.0  # in how many seconds a restart should be over


class Waiting(Protocol):
    """Passes outcomes to the callers that wait for them."""

    def wait(self, numbers: Sequence[int], timeout: float, *, fresh: bool) -> Deferred[Mapping[int, Outcome]]:
        """Wait until notifications have a final state; ``fresh`` ones cannot have one yet. This never fails."""


@implementer(IIntake)
class Intake:
    """
    Checks notifications, assigns ids and stores them.

    :param wake: called with an app's name when new notifications are stored for it.
    :param expect: called instead when some of them are for later; ``None`` for ``wake``.
    :param hurry: called instead when some of them are urgent; ``None`` for ``wake``.
    """

    def __init__(
        self,
        apps: IApps,
        queue: IQueue,
        identifiers: Identifiers,
        waiting: Waiting,
        wake: Callable[[str], None],
        expect: Callable[[str], None] | None = None,
        hurry: Callable[[str], None] | None = None,
    ) -> None:
        self._apps = apps
        self._queue = queue
        self._identifiers = identifiers
        self._waiting = waiting
        self._wake = wake
        self._expect = expect or wake
        self._hurry = hurry or wake
        self._stopping = False

    def stop(self) -> None:
        """Refuse new requests. Those being stored are finished."""
        self._stopping = True

    def check(self, app: str, drafts: Sequence[Draft]) -> None:
        """See :meth:`IIntake.check`."""
        self._check(app, drafts, _tokens(drafts))

    def _check(self, app: str, drafts: Sequence[Draft], tokens: Sequence[bytes]) -> list[Mapping[str, str]]:
        """Refuse a request for these devices that is not valid; returns the header fields of each notification."""
        if self._stopping:
            raise Unavailable("the daemon is shutting down", _STOPPING)
        found = self._apps.get(app)
        limits, devices = found.limits, len(tokens)
        if not devices:
            raise Malformed("the request has no device tokens", path="notifications")
        most = min(limits.tokens, limits.queue)
        if devices > most:
            raise TooLarge(f"the request has {devices} device tokens; {most} are allowed", path="notifications")
        checked: Mapping[str, str] = {}  # the header fields that were checked last; mostly all have the same
        stored, headers = _StoredHeaders(), []
        fitting = all(tokens) and max(map(len, tokens)) <= MAX_TOKEN
        for position, draft in enumerate(drafts):
            document = _check(draft, position, found, checked, fitting)
            checked = draft.headers
            headers.append(stored.of(draft, document))
            if draft.not_before is not None:
                fault = schedule_fault(draft.not_before, draft.headers, self._identifiers.wall.now())
                if fault is not None:
                    raise _malformed("not_before", fault)
        if self._queue.waiting(app).count + devices > limits.queue:
            raise AppQueueFull(
                f"the app's queue may hold {limits.queue} notifications; with these there would be more", _BUSY
            )
        return headers

    def accept(
        self,
        app: str,
        drafts: Sequence[Draft],
        idempotency: Idempotency | None = None,
        caller: Caller = ANYBODY,
        *,
        awaited: bool = False,
    ) -> Deferred[list[Receipt]]:
        """See :meth:`IIntake.accept`."""
        tokens = _tokens(drafts)
        try:
            every = self._check(app, drafts, tokens)
        except Exception:
            return fail()
        supersede, devices = self._apps.get(app).supersede, len(tokens)
        own = self._identifiers.take(devices - sum([len(draft.apns_ids) for draft in drafts]))
        wake = self._wake
        messages, given = [], 0
        for draft, headers in zip(drafts, every, strict=True):
            if draft.apns_ids:
                ids = [each.lower() for each in draft.apns_ids]
            else:
                ids = own[given : given + len(draft.tokens)]
                given += len(ids)
            lane = lane_of(draft, devices, caller)
            if draft.not_before is not None or draft.rate is not None:
                wake = self._expect
            elif lane is Lane.URGENT and wake is self._wake:
                wake = self._hurry
            content = draft.payload, headers, draft.tokens, ids, draft.not_before, draft.rate
            collapse_id = _collapse_id(draft) if supersede else None
            messages.append(Message(app, *content, lane, caller.name, collapse_id, draft.payloads))

        def stored(receipts: list[Receipt]) -> list[Receipt]:
            wake(app)
            return receipts

        return self._queue.accept(messages, idempotency, durable=not awaited).addCallback(stored)

    def wait(self, receipts: Sequence[Receipt], timeout: float) -> Deferred[Mapping[int, Outcome]]:
        """See :meth:`IIntake.wait`."""
        numbers = [number for receipt in receipts for number in receipt.numbers]
        fresh = not any(receipt.earlier or receipt.superseded for receipt in receipts)
        waiting = self._waiting.wait(numbers, timeout, fresh=fresh)

        def waited(found: Mapping[int, Outcome]) -> Mapping[int, Outcome] | Deferred[Mapping[int, Outcome]]:
            if fresh and len(found) == len(numbers):
                return found  # nothing is settled before it is on the disk
            return self._queue.on_disk().addCallback(lambda _: found)

        return waiting.addCallback(waited)


def _tokens(drafts: Iterable[Draft]) -> list[bytes]:
    """List the device tokens of a request."""
    return [token for draft in drafts for token in draft.tokens]


def lane_of(draft: Draft, devices: int, caller: Caller) -> Lane:
    """
    Choose the lane of a notification.

    :param devices: how many devices the whole request is for.
    """
    chosen = draft.lane if caller.lane is None else caller.lane
    if chosen is not None:
        return chosen
    if devices >= BULK_DEVICES:
        return Lane.BULK
    prompt = devices <= URGENT_DEVICES and draft.headers.get("apns-priority", _PROMPT) == _PROMPT
    return Lane.URGENT if prompt else Lane.NORMAL


def _collapse_id(draft: Draft) -> str | None:
    """Find the collapse id of a notification; ``None`` if it has none, or is a broadcast, which waits for no device."""
    return None if CHANNEL in draft.headers else draft.headers.get("apns-collapse-id")


class _StoredHeaders:
    """Finds the header fields that are stored. Where drafts share theirs, so do the notifications."""

    def __init__(self) -> None:
        # By the identity of a draft's, and what is added.
        self._known: dict[tuple[int, str | None, Environment | None], Mapping[str, str]] = {}

    def of(self, draft: Draft, document: Mapping[str, object] | None) -> Mapping[str, str]:
        """
        Add the push type that follows from the payload, and the side.

        :param document: the decoded payload; ``None`` if the face has decoded it, and found the push type.
        """
        headers, environment = draft.headers, draft.environment
        push_type = None if document is None or _PUSH_TYPE in headers else push_type_of(document)
        if push_type is None and environment is None:
            return headers
        key = id(headers), push_type, environment
        found = self._known.get(key)
        if found is None:
            side = {} if environment is None else {ENVIRONMENT: environment.name.lower()}
            found = self._known[key] = {**headers, **({} if push_type is None else {_PUSH_TYPE: push_type}), **side}
        return found


def _check(
    draft: Draft, position: int, app: App, checked: Mapping[str, str], fitting: bool
) -> Mapping[str, object] | None:
    """
    Refuse what cannot be sent to Apple, or is absurdly large.

    :param checked: header fields that are checked already.
    :param fitting: whether the lengths of all device tokens are checked already.
    :returns: the decoded payload; ``None`` if the face has decoded it.
    """
    size = max(map(len, draft.payloads), default=len(draft.payload))
    if size > MAX_PAYLOAD:
        path = f"{_path(draft, position)}.payload"
        raise TooLarge(f"{path}: {size} bytes; {MAX_PAYLOAD} are allowed", path=path)
    try:
        document = None if draft.decoded else payloads.decode(draft.payload)
    except InvalidPayload as error:
        raise _malformed(f"{_path(draft, position)}.payload", str(error)) from None
    if draft.headers is not checked and draft.headers != checked:
        _check_fields(draft.headers, f"{_path(draft, position)}.headers")
    if draft.environment is not None:
        side_of(app, draft.environment)
    is_broadcast = CHANNEL in draft.headers
    if is_broadcast:
        check_broadcast(app, draft, _path(draft, position))
    elif not draft.tokens:
        raise _malformed(f"{_path(draft, position)}.tokens", "there are no device tokens")
    elif not fitting:
        _check_lengths(draft.tokens, f"{_path(draft, position)}.tokens")
    if draft.apns_ids:
        name = "apns-request-id" if is_broadcast else "apns-id"
        _check_ids(draft, f"{_path(draft, position)}.headers.{name}")
    return document


def _path(draft: Draft, position: int) -> str:
    """Name a notification of the request."""
    kind = "broadcasts" if CHANNEL in draft.headers and not any(draft.tokens) else "notifications"
    return f"{kind}[{position}]"


@lru_cache(1_024)  # most notifications have the same few
def header_fault(name: str, value: str) -> str | None:
    """Say what is wrong with a header field of a notification; ``None`` if nothing is."""
    if len(value) > MAX_HEADER:
        return f"it has {len(value)} characters; {MAX_HEADER} are allowed"
    if FORBIDDEN.search(value):
        return "it has a control character, a space at either end or half of a surrogate pair"
    if name in _NUMBERS and not _NUMBER.fullmatch(value):
        return "it is not a whole number"
    return None


def schedule_fault(not_before: float, headers: Mapping[str, str], date: float) -> str | None:
    """
    Say what is wrong with a date before which a notification is not sent; ``None`` if nothing is.

    :param headers: the notification's header fields.
    :param date: the present date.
    """
    if not_before > date + FURTHEST:
        return f"it is more than {FURTHEST / 86_400:.0f} days ahead"
    expires = expiration(headers)
    if expires is not None and expires <= not_before:
        return "the notification expires before it is sent"
    return None


def _check_fields(headers: Mapping[str, str], path: str) -> None:
    for name, value in headers.items():
        if name not in _FIELDS:
            names = _BROADCAST_NAMES if CHANNEL in headers else _NAMES
            raise _malformed(path, f"unknown header field {name[:40]!a}; allowed are {', '.join(names)}")
        fault = header_fault(name, value)
        if fault is not None:
            raise _malformed(f"{path}.{name}", fault)


def _check_lengths(tokens: Sequence[bytes], path: str) -> None:
    for position, token in enumerate(tokens):
        if not token:
            raise _malformed(f"{path}[{position}]", "the device token is empty")
        if len(token) > MAX_TOKEN:
            raise _malformed(f"{path}[{position}]", f"the device token has {len(token)} bytes; {MAX_TOKEN} are allowed")


def _check_ids(draft: Draft, path: str) -> None:
    if len(draft.apns_ids) != len(draft.tokens):
        raise _malformed(path, f"{len(draft.apns_ids)} ids with {len(draft.tokens)} device tokens; each has its own")
    if not all(map(_is_uuid, draft.apns_ids)):
        raise _malformed(path, "an id must be a UUID of the form 8-4-4-4-12")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _malformed(path: str, fault: str) -> Malformed:
    return Malformed(f"{path}: {fault}", path=path)
