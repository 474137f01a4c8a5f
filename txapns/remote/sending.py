"""
A batch on its way to the daemon, in chunks.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Literal, TypeAlias

import attrs

from txapns._fields import checked_integer, checked_seconds
from txapns._session.tokens import Token, Triple, device_of, settled
from txapns.errors import APNSError, InvalidNotification, InvalidToken, LocalError, OutcomeUnknown, TokensFailed
from txapns.notification import Notification
from txapns.remote.asking import Daemon, DaemonOutcome, Steps, outcome_of
from txapns.result import Accepted, Outcomes, Rejection, Uncertain, Unsent

__all__ = ["Environment", "Lane", "Schedule", "Sending", "Submission", "described", "entry"]

#: What goes first at the daemon.
Lane: TypeAlias = Literal["urgent", "normal", "bulk"]
#: The side of an app that has two.
Environment: TypeAlias = Literal["production", "sandbox"]


@attrs.frozen
class Submission:
    """
    What the daemon took.

    :ivar ids: the ``apns-id`` of each notification on its disk, by identifier.
    :ivar unsent: what it did not take, by identifier.
    :ivar uncertain: what it may have taken, since no answer came, by identifier.
    """

    ids: Mapping[Hashable, str] = attrs.field(repr=lambda ids: str(len(ids)))
    unsent: Mapping[Hashable, Unsent]
    uncertain: Mapping[Hashable, Uncertain]


@attrs.frozen
class Schedule:
    """
    When the daemon sends a batch.

    :ivar not_before: the date before which it sends none of it, in UNIX seconds; ``None`` for now.
    :ivar rate: to how many devices a second it sends it; ``None`` for as fast as possible.
    """

    not_before: float | None = None
    rate: int | None = None
    begun: float = attrs.field(factory=time.time, repr=False)

    @classmethod
    def of(cls, not_before: float | timedelta | datetime | None, rate: int | None) -> Schedule:
        """
        Make one of what a program gives.

        :raises InvalidNotification: that is not a time, or not a number of devices.
        """
        seconds: float | None = checked_seconds("not_before", not_before)
        if isinstance(not_before, datetime):  # to the fraction of a second, so that nothing is sent before
            seconds = not_before.timestamp()
        elif isinstance(not_before, timedelta):
            seconds = time.time() + not_before.total_seconds()
        elif isinstance(not_before, float):
            seconds = not_before
        number = checked_integer("rate", rate)
        if number is not None and number < 1:
            raise InvalidNotification(f"rate must be at least 1, not {number}")
        return cls(seconds, number)

    def fields(self, handed: int) -> dict[str, object]:
        """
        Say in a request when it is sent.

        :param handed: how many devices the requests before were for.
        """
        not_before = self.not_before
        if self.rate is not None and handed:
            not_before = (self.begun if not_before is None else not_before) + handed / self.rate
        found = {"not_before": not_before, "rate": self.rate}
        return {name: value for name, value in found.items() if value is not None}


class Sending:
    """
    A batch, which is handed over in chunks.

    :param wait: whether the outcomes are waited for.
    :param key: identifies the batch; ``None`` for a new one.
    :param lane: the lane; ``None`` to leave it to the daemon.
    :param environment: the side that it is for; ``None`` to leave it to the daemon.
    :param deadline: for how long outcomes are waited for, in seconds; ``None`` for as long as it takes.
    :param schedule: when the daemon sends it.
    """

    def __init__(
        self,
        daemon: Daemon,
        wait: bool,
        key: str | None,
        lane: Lane | None,
        environment: Environment | None,
        deadline: float | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.ids: dict[Hashable, str] = {}
        self._daemon = daemon
        self._wait = wait
        self._key = key or uuid.uuid4().hex
        self._end = float("inf") if deadline is None else time.monotonic() + deadline
        self._chunks = count(1)
        self._schedule = schedule or Schedule()
        self._fields: dict[str, object] = {"wait": wait} if lane is None else {"wait": wait, "lane": lane}
        self._environment = environment
        self._handed = 0
        self._accepted = 0
        self._unique_ids: dict[Hashable, str] = {}
        self._others: list[Rejection | Unsent | Uncertain] = []
        self._failure: APNSError | None = None

    def hand_over(self, chunk: Iterable[Triple]) -> Steps[None]:
        """Hand a chunk over; once one has failed, the others are unsent."""
        valid: list[Triple] = []
        for identifier, notification, token in chunk:
            try:
                device_of(token)
            except InvalidToken as error:
                self._others.append(Unsent(identifier, settled(token), error, notification))
            else:
                valid.append((identifier, notification, token))
        key = f"{self._key}/{next(self._chunks)}"
        if self._failure is None and valid:
            try:
                fields = {**self._fields, **self._schedule.fields(self._handed)}
                self._handed += len(valid)
                yield from self._ask(valid, _body(valid, fields, self._environment), key)
                return
            except APNSError as error:
                self._failure = error
                if isinstance(error, OutcomeUnknown):
                    self._others += [Uncertain(each, settled(token), error, what) for each, what, token in valid]
                    return
        if self._failure is not None:
            self._others += [Unsent(each, settled(token), self._failure, what) for each, what, token in valid]

    def _ask(self, chunk: list[Triple], body: bytes, key: str) -> Steps[None]:
        """Hand a chunk over, and ask again, which does not send it again, until all of it has an outcome."""
        while True:
            entries = yield from self._daemon.accept(body, key, self._end)
            found = [outcome_of(each) for entry in entries for each in entry.get("outcomes", ())]
            if time.monotonic() >= self._end or all(outcome.state != "waiting" for outcome in found):
                break
            yield 0.0
        ids = [apns_id for entry in entries for apns_id in entry["ids"]]
        self.ids.update((identifier, apns_id) for (identifier, _, _), apns_id in zip(chunk, ids, strict=True))
        for triple, outcome in zip(chunk, found, strict=self._wait):
            if outcome.state == "accepted":
                self._accepted += 1
                if outcome.unique_id is not None:
                    self._unique_ids[triple[0]] = outcome.unique_id
            else:
                self._others.append(described(triple, outcome))

    def outcomes(self) -> Outcomes:
        """What is known of all."""
        return Outcomes(self._accepted, self._others, self._unique_ids)

    def submission(self) -> Submission:
        """What the daemon took."""
        outcomes = self.outcomes()
        return Submission(self.ids, outcomes.unsent, outcomes.uncertain)

    def single(self, token: Token) -> Accepted | Rejection:
        """The outcome of the only one."""
        if not self._others:
            return Accepted(0, settled(token), self.ids[0], self._unique_ids.get(0))
        [found] = self._others
        if isinstance(found, Rejection):
            return found
        raise found.error

    def failed(self, error: Exception) -> TokensFailed:
        """The iterable of tokens raised an exception."""
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        failed = TokensFailed(f"the iterable of tokens raised {what}", self.outcomes())
        failed.__cause__ = error
        return failed


def described(triple: Triple, outcome: DaemonOutcome) -> Rejection | Unsent | Uncertain:
    """Describe the outcome of a notification that was not accepted, as the clients that send directly do."""
    identifier, notification, token = triple
    if outcome.state == "waiting":
        waiting = OutcomeUnknown(f"the daemon still has it; ask for the outcome of {outcome.apns_id} later")
        return Uncertain(identifier, settled(token), waiting, notification)
    if outcome.state == "rejected" and outcome.status:
        reason = outcome.reason or ""
        return Rejection(identifier, settled(token), outcome.status, reason, outcome.timestamp, outcome.apns_id)
    said = f"{outcome.state}: {outcome.reason}".removesuffix(": None")
    return Unsent(identifier, settled(token), LocalError(f"the daemon does not send it: {said}"), notification)


def entry(fields: Mapping[str, object], notification: Notification, environment: Environment | None) -> bytes:
    """Write what a request says of a notification; the payload stays as it is, byte for byte."""
    if environment is not None:
        fields = {**fields, "environment": environment}
    written = json.dumps(fields, separators=(",", ":")).encode().removesuffix(b"}")
    return b'%b,"payload":%b}' % (written, notification.body)


def _entry(notification: Notification, tokens: Iterable[Token], environment: Environment | None) -> bytes:
    headers = {name.decode(): value.decode() for name, value in notification.headers()}
    return entry(
        {"tokens": [device_of(token).hex() for token in tokens], "headers": headers}, notification, environment
    )


def _body(triples: Sequence[Triple], fields: Mapping[str, object], environment: Environment | None) -> bytes:
    """Write a request; consecutive tokens of the same notification share an entry."""
    entries: list[bytes] = []
    start = 0
    for end in range(1, len(triples) + 1):
        notification = triples[start][1]
        if end == len(triples) or triples[end][1] is not notification or notification.apns_id is not None:
            entries.append(_entry(notification, (token for _, _, token in triples[start:end]), environment))
            start = end
    written = json.dumps(fields, separators=(",", ":")).encode().removesuffix(b"}")
    return b'%b,"notifications":[%b]}' % (written, b",".join(entries))
