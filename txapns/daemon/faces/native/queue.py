"""
The queue, for operators: what waits, what was given up, and what can be done about it.

::

    GET  /v1/apps/<app>/queue?state=&after=&limit=     list notifications; the tokens are shortened
    POST /v1/apps/<app>/queue/retry                    make dead letters due again
    POST /v1/apps/<app>/queue/purge                    delete notifications

Every request needs a key that allows ``manage``. An app that was removed still has a queue, so the name of any app
that ever had one is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, parameter
from txapns.daemon.errors import Malformed, Unavailable, UnknownApp
from txapns.daemon.faces.native.json_api import (
    MAX_PAGE,
    STATES,
    ChannelName,
    EnvironmentName,
    Seconds,
    UniqueId,
    encode,
    environment_name,
    json_body,
    must_manage,
    page,
    parameters,
)
from txapns.daemon.faces.native.openapi import PAGING
from txapns.daemon.interfaces import IApps, IOutcomeLog
from txapns.daemon.values import Caller, Entry, State
from txapns.errors import redact

__all__ = ["DEAD", "LISTED", "OPERATIONS", "QueueOperations", "Queued", "queued"]

_log = Logger()

#: The states in which notifications can be listed and purged: all but those that Apple accepted.
LISTED = {
    STATES[state]: state for state in (State.DEAD, State.WAITING, State.REJECTED, State.EXPIRED, State.SUPERSEDED)
}
#: The default state.
DEAD = STATES[State.DEAD]

_Listed = Literal["dead", "waiting", "rejected", "expired", "superseded"]
# A float, because 10.0 is a whole number in JSON, too.
_Limit = Annotated[
    float,
    Meta(
        ge=1,
        le=MAX_PAGE,
        description="The largest number, the oldest first. If the count reaches it, there may be more.",
        multiple_of=1,
    ),
]


class Queued(Struct, omit_defaults=True):
    """A notification in the queue."""

    cursor: int
    id: Annotated[str, Meta(description="Its apns-id.")]
    token: Annotated[str, Meta(description="The first and the last digits of the device token; empty for a broadcast.")]
    state: _Listed
    attempts: int
    accepted_at: Seconds
    due: Annotated[float, Meta(description="When it is, or was, due next, in UNIX seconds.")]
    status: Annotated[int, Meta(description="The HTTP status of Apple's last answer.")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Apple's last reason, or why Apple was not asked.")] | UnsetType = UNSET
    settled_at: Seconds | UnsetType = UNSET
    unique_id: UniqueId | UnsetType = UNSET
    environment: EnvironmentName | UnsetType = UNSET
    channel: ChannelName | UnsetType = UNSET


class _Queue(Struct):
    """Some of the notifications."""

    notifications: list[Queued]
    cursor: Annotated[int, Meta(description="Where to continue: give it as 'after'.")]


class _Retry(Struct, forbid_unknown_fields=True):
    """A request to make dead letters due again."""

    limit: _Limit = MAX_PAGE


class _Purge(Struct, forbid_unknown_fields=True):
    """A request to delete notifications."""

    state: _Listed
    limit: _Limit = MAX_PAGE


class _Count(Struct):
    """How many notifications were changed."""

    count: int


_retry = msgspec.json.Decoder(_Retry)
_purge = msgspec.json.Decoder(_Purge)


def queued(entry: Entry) -> Queued:
    """Describe a notification in the queue."""
    outcome = entry.outcome
    return Queued(
        outcome.number,
        outcome.apns_id,
        redact(entry.token) if entry.token else "",
        STATES[outcome.state],
        outcome.attempts,
        outcome.accepted_at,
        entry.due,
        outcome.status or UNSET,
        outcome.reason or UNSET,
        UNSET if outcome.settled_at is None else outcome.settled_at,
        outcome.unique_id or UNSET,
        environment_name(outcome),
        outcome.channel or UNSET,
    )


class QueueOperations:
    """
    The operations of the queue.

    :param wake: called with an app's name when notifications of the app are due again.
    """

    def __init__(self, outcomes: IOutcomeLog, apps: IApps, wake: Callable[[str], None]) -> None:
        self._outcomes = outcomes
        self._apps = apps
        self._wake = wake

    def read(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """List notifications."""
        must_manage(caller)
        given = parameters(request, "state", "after", "limit")
        cursor, limit = page(given)
        state = LISTED.get(given.get("state", DEAD))
        if state is None:
            raise Malformed(f"state must be one of {', '.join(LISTED)}", path="state")

        def answer(entries: list[Entry]) -> Answer:
            last = entries[-1].outcome.number if entries else cursor
            return Answer(200, encode(_Queue([queued(entry) for entry in entries], last)))

        existing = self._existing(app)
        return existing.addCallback(lambda _: self._outcomes.listed(app, state, limit, cursor)).addCallback(answer)

    def retry(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Make dead letters due again."""
        must_manage(caller)
        parameters(request)
        limit = int(json_body(_retry, request).limit)

        def retried(count: int) -> Answer:
            self._wake(app)
            _log.info("{caller} retried {count} dead letters of {app}", caller=caller.name, count=count, app=app)
            return _counted(count)

        return self._existing(app).addCallback(lambda _: self._outcomes.retry(app, limit)).addCallback(retried)

    def purge(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Delete notifications that are not being sent right now."""
        must_manage(caller)
        parameters(request)
        asked = json_body(_purge, request)
        state, limit = LISTED[asked.state], int(asked.limit)

        def purged(count: int) -> Answer:
            facts = {"caller": caller.name, "count": count, "state": asked.state, "app": app}
            _log.info("{caller} purged {count} notifications of {app}: {state}", **facts)
            return _counted(count)

        return self._existing(app).addCallback(lambda _: self._outcomes.purge(app, state, limit)).addCallback(purged)

    def _existing(self, app: str) -> Deferred[None]:
        """Refuse a name that no app ever had: otherwise its queue would only look empty."""
        try:
            self._apps.get(app)
        except Unavailable:
            return succeed(None)  # its credential cannot be used; its queue is there
        except UnknownApp as unknown:
            refusal = unknown
        else:
            return succeed(None)

        def found(seen: bool) -> None:
            if not seen:
                raise refusal

        return self._outcomes.seen(app).addCallback(found)


def _counted(count: int) -> Answer:
    return Answer(200, encode(_Count(count)))


_STATE = parameter("state", "query", "Their state.", type="string", enum=[*LISTED], default=DEAD)
_ERRORS = (400, 401, 403, 404, 413, 415, 503)

#: What :class:`QueueOperations` answers.
OPERATIONS = (
    Operation(
        "GET",
        "/v1/apps/{app}/queue",
        QueueOperations.read,
        "queue",
        "List the notifications of one state.",
        {200: ("Those after the cursor.", (_Queue,))},
        (400, 401, 403, 404, 503),
        parameters=(_STATE, *PAGING),
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/queue/retry",
        QueueOperations.retry,
        "retry",
        "Make dead letters due again.",
        {200: ("How many are due now.", (_Count,))},
        _ERRORS,
        body=_Retry,
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/queue/purge",
        QueueOperations.purge,
        "purge",
        "Delete notifications of one state, except those being sent right now.",
        {200: ("How many are deleted.", (_Count,))},
        _ERRORS,
        body=_Purge,
    ),
)
