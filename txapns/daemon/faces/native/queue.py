"""
The part of the native face that is for operators: what waits, what was given up, and what to do about it.

::

    GET  /v1/apps/<app>/queue?state=&after=&limit=     list notifications; the tokens are shortened
    POST /v1/apps/<app>/queue/retry                    have dead letters tried again
    POST /v1/apps/<app>/queue/purge                    delete notifications

All of it needs a key that may manage. An app that was removed still has a queue, so each that was ever seen can be
named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from twisted.internet.defer import Deferred, succeed

from txapns.daemon.errors import Malformed, Unavailable, UnknownApp
from txapns.daemon.faces.native.json_api import (
    MAX_PAGE,
    STATES,
    Seconds,
    decoded,
    encode,
    is_json,
    json_body,
    must_manage,
    no_json,
    operation,
    page,
    paging,
    parameter,
    parameters,
    refused_later,
)
from txapns.daemon.interfaces import IApps, IQueue
from txapns.daemon.serving.http import Answer, Request
from txapns.daemon.values import Caller, Depth, Entry, State
from txapns.errors import redact

__all__ = ["BODIES", "DEAD", "LISTED", "Queue", "Queued", "paths", "queued"]

#: The states of what can be listed and purged: all but what Apple accepted, which is nobody's trouble.
LISTED = {STATES[state]: state for state in (State.DEAD, State.WAITING, State.REJECTED, State.EXPIRED)}
#: The state that is meant where none is named.
DEAD = STATES[State.DEAD]

_Listed = Literal["dead", "waiting", "rejected", "expired"]
# To JSON 10.0 is as whole a number as 10.
_Limit = Annotated[
    float,
    Meta(
        ge=1,
        le=MAX_PAGE,
        description="How many at the most, those accepted first. If there were so many, there may be more.",
        multiple_of=1,
    ),
]


class Queued(Struct, omit_defaults=True):
    """A notification as it stands in the queue."""

    cursor: int
    id: Annotated[str, Meta(description="Its apns-id.")]
    token: Annotated[str, Meta(description="The first and the last digits of the device token.")]
    state: _Listed
    attempts: int
    accepted_at: Seconds
    due: Annotated[float, Meta(description="When it is, or was, to be tried next, in UNIX seconds.")]
    status: Annotated[int, Meta(description="The HTTP status of Apple's last answer.")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Apple's last reason, or what kept us from asking.")] | UnsetType = UNSET
    settled_at: Seconds | UnsetType = UNSET


class _Queue(Struct):
    """Some of the notifications."""

    notifications: list[Queued]
    cursor: Annotated[int, Meta(description="Where to read on: give it as 'after'.")]


class _Retry(Struct, forbid_unknown_fields=True):
    """A request to have dead letters tried again."""

    limit: _Limit = MAX_PAGE


class _Purge(Struct, forbid_unknown_fields=True):
    """A request to delete notifications."""

    state: _Listed
    limit: _Limit = MAX_PAGE


class _Count(Struct):
    """How many notifications it was done to."""

    count: int


#: What :func:`paths` speaks of.
BODIES = (_Queue, _Retry, _Purge, _Count)

_retry = msgspec.json.Decoder(_Retry)
_purge = msgspec.json.Decoder(_Purge)


def queued(entry: Entry) -> Queued:
    """
    Write a notification of the queue.

    :param entry: the notification.
    """
    outcome = entry.outcome
    return Queued(
        outcome.number,
        outcome.apns_id,
        redact(entry.token),
        STATES[outcome.state],
        outcome.attempts,
        outcome.accepted_at,
        entry.due,
        outcome.status or UNSET,
        outcome.reason or UNSET,
        UNSET if outcome.settled_at is None else outcome.settled_at,
    )


class Queue:
    """
    Answers what operators ask.

    :param queue: the queue.
    :param apps: the apps.
    :param wake: called with an app's name when there is something to be sent again.
    """

    def __init__(self, queue: IQueue, apps: IApps, wake: Callable[[str], None]) -> None:
        self._queue = queue
        self._apps = apps
        self._wake = wake

    def read(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """
        List notifications.

        :param request: the request.
        :param caller: who asks.
        :param app: the app's name.
        :raises RequestRefused: why not.
        """
        must_manage(caller)
        given = parameters(request, "state", "after", "limit")
        cursor, limit = page(given)
        state = LISTED.get(given.get("state", DEAD))
        if state is None:
            raise Malformed(f"state has to be one of {', '.join(LISTED)}", path="state")

        def answer(entries: list[Entry]) -> Answer:
            last = entries[-1].outcome.number if entries else cursor
            return Answer(200, encode(_Queue([queued(entry) for entry in entries], last)))

        known = self._known(app)
        return known.addCallback(lambda _: self._queue.listed(app, state, limit, cursor)).addCallbacks(
            answer, refused_later
        )

    def retry(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """
        Have dead letters tried again.

        :param request: the request.
        :param caller: who asks.
        :param app: the app's name.
        :raises RequestRefused: why not.
        """
        must_manage(caller)
        parameters(request)
        if not is_json(request):
            return succeed(no_json())
        limit = int(decoded(_retry, request.body).limit)

        def retried(count: int) -> Answer:
            self._wake(app)
            return _counted(count)

        return (
            self._known(app).addCallback(lambda _: self._queue.retry(app, limit)).addCallbacks(retried, refused_later)
        )

    def purge(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """
        Delete notifications; of those that wait, none that is under way.

        :param request: the request.
        :param caller: who asks.
        :param app: the app's name.
        :raises RequestRefused: why not.
        """
        must_manage(caller)
        parameters(request)
        if not is_json(request):
            return succeed(no_json())
        asked = decoded(_purge, request.body)
        limit = int(asked.limit)
        return (
            self._known(app)
            .addCallback(lambda _: self._queue.purge(app, LISTED[asked.state], limit))
            .addCallbacks(_counted, refused_later)
        )

    def _known(self, app: str) -> Deferred[None]:
        """Refuse what was never the name of an app: it would only seem to have nothing in its queue."""
        try:
            self._apps.get(app)
        except Unavailable:
            return succeed(None)  # its credential is of no use; its queue is there
        except UnknownApp as unknown:
            refusal = unknown
        else:
            return succeed(None)

        def found(depths: list[Depth]) -> None:
            if app not in {depth.app for depth in depths}:
                raise refusal

        return self._queue.depths().addCallback(found)


def _counted(count: int) -> Answer:
    return Answer(200, encode(_Count(count)))


def paths(app: dict[str, object]) -> dict[str, object]:
    """
    Describe it.

    :param app: the description of the parameter that names the app.
    :returns: the paths for the OpenAPI document.
    """
    state = parameter("state", "query", "In which state they are.", type="string", enum=[*LISTED], default=DEAD)
    errors = (400, 401, 403, 404, 413, 415, 503)
    return {
        "/v1/apps/{app}/queue": {
            "parameters": [app],
            "get": operation(
                "queue",
                "List what was given up, or waits.",
                {200: ("Those after the cursor.", "Queue")},
                (400, 401, 403, 404, 503),
                parameters=[state, *paging()],
            ),
        },
        "/v1/apps/{app}/queue/retry": {
            "parameters": [app],
            "post": operation(
                "retry",
                "Have what was given up tried again.",
                {200: ("So many are due now.", "Count")},
                errors,
                requestBody={"required": True, **json_body("Retry")},
            ),
        },
        "/v1/apps/{app}/queue/purge": {
            "parameters": [app],
            "post": operation(
                "purge",
                "Delete notifications, waiting ones too, but for those under way.",
                {200: ("So many are deleted.", "Count")},
                errors,
                requestBody={"required": True, **json_body("Purge")},
            ),
        },
    }
