"""
Requests to the daemon, without I/O: generators that yield requests and delays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from datetime import datetime, timezone
from itertools import count
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import attrs
import httpx

from txapns._network.backoff import Backoff
from txapns.errors import APNSError, ConnectFailed, DaemonRefused, OutcomeUnknown, redact

__all__ = [
    "Attempt",
    "Daemon",
    "DaemonOutcome",
    "DeadDevice",
    "RecordedOutcome",
    "Request",
    "Steps",
    "outcome_of",
    "shown",
]

T = TypeVar("T")

#: How many dead tokens or outcomes are asked for at a time.
PAGE = 1_000
#: For how many seconds an answer is waited for at least, however little patience is left, and at most.
SHORTEST, LONGEST = 5.0, 60.0
#: The part of that for which the daemon may wait for outcomes; the rest is for its answer.
_HELD = 0.8
#: The statuses that ask to try again.
_AGAIN = (429, 502, 503, 504)
#: Those of a proxy that has lost the daemon's answer.
_GATEWAY = (502, 504)


@attrs.frozen
class DaemonOutcome:
    """
    What the daemon knows of one notification.

    :ivar apns_id: its id.
    :ivar app: the app it is for.
    :ivar state: ``"waiting"``, ``"accepted"``, ``"rejected"``, ``"expired"``, ``"dead"``, which was given up, or
        ``"superseded"`` by a newer one.
    :ivar status: the HTTP status that Apple answered with, if it did.
    :ivar reason: Apple's reason, or why Apple was not asked.
    :ivar timestamp: since when the token is dead, in UTC.
    :ivar attempts: how often it was sent.
    :ivar unique_id: Apple's ``apns-unique-id``, for its developer console; sandbox only.
    :ivar environment: the environment whose answer it is, ``"production"`` or ``"sandbox"``, if the app has two sides.
    :ivar channel: the channel that a broadcast was for.
    """

    apns_id: str
    app: str
    state: str
    status: int | None = None
    reason: str | None = None
    timestamp: datetime | None = None
    attempts: int = 0
    unique_id: str | None = None
    environment: str | None = None
    channel: str | None = None


@attrs.frozen
class RecordedOutcome:
    """
    What became of a notification, in the order in which the daemon learned it.

    :ivar token: the device token, in hexadecimal; ``""`` for a broadcast, of which the outcome has the channel.
    :ivar settled_at: when that was stored, in UTC.
    :ivar cursor: pass it as ``after`` to go on after this one. The cursors of an app are 1, 2, 3 and so on: one that is
        missing was forgotten before it was read.
    """

    outcome: DaemonOutcome
    token: str = attrs.field(repr=redact)
    settled_at: datetime
    cursor: int


@attrs.frozen
class DeadDevice:
    """
    A device token that is no longer in use.

    :ivar token: in hexadecimal.
    :ivar since: since when, in UTC. Keep a token that registered again after that.
    :ivar reason: Apple's reason.
    :ivar cursor: pass it as ``after`` to go on after this one.
    """

    token: str = attrs.field(repr=redact)
    since: datetime
    reason: str
    cursor: int


@attrs.frozen
class Request:
    """
    A request to the daemon.

    :ivar parameters: those in the query.
    :ivar content: the body, which is JSON.
    :ivar key: the idempotency key.
    :ivar once: whether it must not be repeated if it may have been done.
    :ivar deadline: until when it waits for outcomes at the daemon, by the monotonic clock.
    """

    method: str
    path: str
    parameters: dict[str, int | str] = attrs.Factory(dict)
    content: bytes | None = attrs.field(default=None, repr=False)
    key: str | None = None
    once: bool = False
    deadline: float = math.inf


@attrs.frozen
class Attempt:
    """
    One attempt to send a request.

    :ivar address: the node that is asked.
    :ivar timeout: for how many seconds an answer is waited for.
    :ivar held: for how many seconds the daemon may wait for outcomes before it answers.
    """

    request: Request
    address: str
    timeout: float
    held: int


#: What a client does: attempts, whose answers it is sent, and delays in seconds.
Steps: TypeAlias = Generator["Attempt | float", Any, T]


@attrs.define
class Daemon:
    """
    Where the daemon is.

    :ivar addresses: its nodes.
    :ivar patience: for how long a request is tried, in seconds.
    :ivar turn: which of the nodes is asked next.
    """

    addresses: Sequence[str]
    app: str
    patience: float
    turn: int = 0

    def ask(self, request: Request) -> Steps[Any]:
        """
        Ask until there is an answer.

        :returns: the JSON of the answer; ``None`` if it has no body.
        :raises DaemonRefused: the daemon refused.
        :raises ConnectFailed: there was no connection to any of the nodes.
        :raises OutcomeUnknown: an answer was lost, and asking again did not help.
        """
        end = time.monotonic() + self.patience
        backoff, nodes = Backoff(), len(self.addresses)
        lost = False
        for attempt in count():
            problem: Exception
            address = self.addresses[self.turn % nodes]
            try:
                response = yield _attempt(request, address, end)
            except httpx.TransportError as error:
                lost = lost or not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
                problem, wait = error, 0.0
            else:
                lost = lost or response.status_code in _GATEWAY
                if response.status_code < 300:
                    return _content(response, address)
                problem, wait = _refusal(response, address), _retry_after(response)
                if response.status_code not in _AGAIN:
                    raise _given_up(problem, lost, address)
            if lost and request.once:
                raise _given_up(problem, lost, address)
            self.turn += 1
            tried_all = (attempt + 1) % nodes == 0
            delay = max(wait, backoff.delay(attempt // nodes)) if tried_all else 0.0
            if time.monotonic() + delay > end:
                raise _given_up(problem, lost, address)
            yield delay
        raise AssertionError("it asks until it raises or returns")

    def accept(self, body: bytes, key: str, deadline: float = math.inf) -> Steps[list[Any]]:
        """
        Hand notifications over.

        :param deadline: until when outcomes are waited for, by the monotonic clock.
        :returns: an entry for each of the body's.
        """
        request = Request("POST", self.path("notifications"), content=body, key=key, deadline=deadline)
        answer = yield from self.ask(request)
        return list(answer["notifications"])

    def outcome(self, apns_id: str) -> Steps[DaemonOutcome | None]:
        """Ask for the outcome of a notification."""
        try:
            return outcome_of((yield from self.ask(Request("GET", f"/v1/notifications/{quote(apns_id, safe='')}"))))
        except DaemonRefused as refused:
            if refused.code == "not_found":
                return None
            raise

    def dead(self, after: int) -> Steps[list[DeadDevice]]:
        """Read a page of the feedback log."""
        answer = yield from self.ask(Request("GET", self.path("feedback"), {"after": after, "limit": PAGE}))
        return [
            DeadDevice(each["token"], _utc(each["timestamp"]), each["reason"], each["cursor"])
            for each in answer["tokens"]
        ]

    def outcomes(self, after: int) -> Steps[list[RecordedOutcome]]:
        """Read a page of the outcome feed."""
        answer = yield from self.ask(Request("GET", self.path("outcomes"), {"after": after, "limit": PAGE}))
        return [
            RecordedOutcome(outcome_of(each), each["token"], _utc(each["settled_at"]), each["cursor"])
            for each in answer["outcomes"]
        ]

    def path(self, what: str) -> str:
        """Return the path of something of the app."""
        return f"/v1/apps/{quote(self.app, safe='')}/{what}"


def shown(address: str) -> str:
    """Leave out of a URL what may be a password."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _attempt(request: Request, address: str, end: float) -> Attempt:
    now = time.monotonic()
    timeout = min(max(SHORTEST, end - now), LONGEST)
    return Attempt(request, address, timeout, math.ceil(max(0.0, min(_HELD * timeout, request.deadline - now))))


def _content(response: httpx.Response, address: str) -> Any:
    """Read the answer to a request that was done, if it is the daemon that says so."""
    try:
        return response.json() if response.content else None
    except ValueError:
        raise OutcomeUnknown(_foreign(response, address)) from None


def _refusal(response: httpx.Response, address: str) -> DaemonRefused:
    try:
        error = response.json()["error"]
        code, message, reason = str(error["code"]), str(error["message"]), str(error.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        code = reason = ""
        message = _foreign(response, address)
    return DaemonRefused(message, response.status_code, code, reason)


def _foreign(response: httpx.Response, address: str) -> str:
    return f"{shown(address)} answers {response.status_code}, but not as the daemon does; is this its address?"


def _retry_after(response: httpx.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return float(seconds[:9]) if seconds.isascii() and seconds.isdigit() else 0.0


def _given_up(problem: Exception, lost: bool, address: str) -> APNSError:
    """Tell what it comes to; if an attempt was lost, the daemon may have done it, whatever came afterwards."""
    if isinstance(problem, DaemonRefused) and not lost:
        return problem
    said = f"{type(problem).__name__}: {problem}".removesuffix(": ")
    if lost:
        error: APNSError = OutcomeUnknown(f"an answer of the daemon was lost, and then: {said}")
    else:
        error = ConnectFailed(f"no connection to the daemon at {shown(address)}: {said}")
    error.__cause__ = problem
    return error


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def outcome_of(found: dict[str, Any]) -> DaemonOutcome:
    """Read an outcome as the daemon writes it."""
    timestamp = found.get("timestamp")
    return DaemonOutcome(
        found["id"],
        found["app"],
        found["state"],
        found.get("status"),
        found.get("reason"),
        None if timestamp is None else _utc(timestamp),
        found.get("attempts", 0),
        found.get("unique_id"),
        found.get("environment"),
        found.get("channel"),
    )
