"""
What webhooks report: the dead tokens, and the outcomes of the apps that have them recorded.

::

    {"dead_tokens": [{"cursor": 17, "app": "chess", "token": "0a1b…", "reason": "Unregistered",
                      "timestamp": 1699990000.0, "noted_at": 1700000000.0}]}

    {"outcomes": [{"cursor": 5, "app": "chess", "token": "0a1b…", "id": "…", "state": "accepted", "status": 200,
                   "attempts": 1, "accepted_at": 1699999999.0, "settled_at": 1700000000.0}]}

Each kind has positions of its own, which the log keeps for the webhook, and which move on when a report is confirmed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from txapns.daemon.interfaces import IFeedbackLog, IOutcomeFeed
from txapns.daemon.values import FeedbackEntry, Outcome, RecordedOutcome

__all__ = ["COUNTED", "DeadTokens", "IEvents", "Outcomes", "Report"]

#: The most dead tokens of an app that are counted as not yet sent.
COUNTED = 100_000


@attrs.frozen
class Report:
    """
    What is sent in one request.

    :ivar body: JSON.
    :ivar count: how many entries are in it.
    :ivar confirm: moves the position on; its ``Deferred`` fires when that is on the disk.
    """

    body: bytes = attrs.field(repr=False)
    count: int
    confirm: Callable[[], Deferred[None]] = attrs.field(repr=False)


class IEvents(Interface):
    """One kind of what is reported."""

    def subscribe(listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a function with an app's name whenever there may be something new of the app; returns what ends that."""

    async def take() -> Report | None:
        """
        Make the next report. Until it is confirmed, the same entries come again.

        :returns: ``None`` if there is nothing to report.
        :raises Unavailable: the database cannot be read now.
        """

    async def behind() -> int:
        """
        Count what is not confirmed.

        :raises Unavailable: the database cannot be read now.
        """


@implementer(IEvents)
class DeadTokens:
    """
    The dead tokens.

    :param reader: whose positions these are.
    :param apps: the apps of which they are reported; none for all.
    :param batch: how many are in a report at most.
    """

    def __init__(self, log: IFeedbackLog, reader: str, apps: Sequence[str], batch: int) -> None:
        self._log = log
        self._reader = reader
        self._apps: deque[str | None] = deque(apps or (None,))
        self._batch = batch

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`IEvents.subscribe`."""
        return self._log.subscribe(listener)

    async def take(self) -> Report | None:
        """See :meth:`IEvents.take`. The apps take turns."""
        for _ in range(len(self._apps)):
            app = self._apps[0]
            dead = await self._log.take(app, self._reader, self._batch)
            self._apps.rotate(-1)
            if dead:
                confirm = partial(self._log.confirm, app, self._reader, dead[-1].cursor)
                return Report(_json("dead_tokens", map(_dead_token, dead)), len(dead), confirm)
        return None

    async def behind(self) -> int:
        """See :meth:`IEvents.behind`. Of each app at most :data:`COUNTED` are counted."""
        return sum([await self._log.behind(app, self._reader, COUNTED) for app in list(self._apps)])


@implementer(IEvents)
class Outcomes:
    """
    The outcomes, with the arguments of :class:`DeadTokens`.
    """

    def __init__(self, feed: IOutcomeFeed, reader: str, apps: Sequence[str], batch: int) -> None:
        self._feed = feed
        self._reader = reader
        self._apps: Collection[str] | None = frozenset(apps) or None
        self._batch = batch

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`IEvents.subscribe`."""
        return self._feed.subscribe(listener)

    async def take(self) -> Report | None:
        """See :meth:`IEvents.take`. Each app has its share of the report."""
        found = await self._feed.take(self._apps, self._reader, self._batch)
        if not found:
            return None
        cursors = {each.outcome.app: each.cursor for each in found}  # the last of each
        return Report(
            _json("outcomes", map(_recorded, found)), len(found), partial(self._feed.confirm, self._reader, cursors)
        )

    async def behind(self) -> int:
        """See :meth:`IEvents.behind`."""
        return await self._feed.behind(self._apps, self._reader)


def _json(name: str, entries: Any) -> bytes:
    return json.dumps({name: list(entries)}, separators=(",", ":")).encode()


def _dead_token(dead: FeedbackEntry) -> dict[str, Any]:
    return {**attrs.asdict(dead), "token": dead.token.hex()}


def _recorded(recorded: RecordedOutcome) -> dict[str, Any]:
    outcome = recorded.outcome
    fields = {"cursor": recorded.cursor, "app": outcome.app, "token": recorded.token.hex(), "id": outcome.apns_id}
    return {**fields, **_known(outcome)}


def _known(outcome: Outcome) -> dict[str, Any]:
    """List what is known of an outcome, as the HTTP API does."""
    known = {
        "state": outcome.state.name.lower(),
        "status": outcome.status or None,
        "reason": outcome.reason or None,
        "timestamp": outcome.timestamp,
        "attempts": outcome.attempts,
        "accepted_at": outcome.accepted_at,
        "settled_at": outcome.settled_at,
        "unique_id": outcome.unique_id or None,
        "environment": None if outcome.environment is None else outcome.environment.name.lower(),
        "channel": outcome.channel,
    }
    return {name: value for name, value in known.items() if value is not None}
