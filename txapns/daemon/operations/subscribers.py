"""
The browsers that keep a status page open, and the server-sent events that update it.

Every other second each subscriber gets an event, made once for all who look at the same: what is on the page that it
shows, and no more. A slow reader skips events, and is dropped if it stays slow. A reader that skipped some is up to
date again with the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._serving.event_stream import EventStream
from txapns._serving.http import Request
from txapns._serving.pages import FORMS

__all__ = ["Subscribers"]

_log = Logger()

_Query = TypeVar("_Query")

_INTERVAL = 2.0  # seconds from one event to the next
_HEARTBEAT = 15.0  # seconds without an event after which a comment keeps the connection alive
_PATIENCE = 10.0  # seconds after which a subscriber that does not read is dropped


class Subscribers(Generic[_Query]):
    """
    The browsers that show the page.

    :param clock: the reactor, or a ``Clock``.
    :param find: makes the data of the next event for those who look at the same.
    :param limit: how many subscribers there may be.
    """

    def __init__(self, clock: IReactorTime, find: Callable[[_Query], Deferred[bytes]], limit: int = 32) -> None:
        self._clock = clock
        self._find = find
        self._limit = limit
        self._subscribers: dict[EventStream, _Query] = {}
        self._alarm = Alarm(clock, self._tick)
        self._finding: set[_Query] = set()
        self._last_write = 0.0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._subscribers)

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return len(self._subscribers) >= self._limit

    def add(self, request: Request, query: _Query) -> None:
        """
        Answer a request with events, the first at once, until its connection closes.

        :param query: what the browser looks at.
        """
        subscriber = EventStream(request, FORMS)
        self._subscribers[subscriber] = query
        request.ended().addBoth(lambda _: self._remove(subscriber))
        self._update(query)
        self._alarm.set(_INTERVAL)

    def stop(self) -> None:
        """End all responses."""
        for subscriber in list(self._subscribers):
            subscriber.end()

    def _remove(self, subscriber: EventStream) -> None:
        self._subscribers.pop(subscriber, None)
        if not self._subscribers:
            self._alarm.cancel()

    def _tick(self) -> None:
        self._alarm.set(_INTERVAL)
        now = self._clock.seconds()
        for subscriber in list(self._subscribers):
            if subscriber.blocked is not None and now - subscriber.blocked >= _PATIENCE:
                subscriber.drop()
        for query in set(self._subscribers.values()):
            self._update(query)
        if now - self._last_write >= _HEARTBEAT:
            self._last_write = now
            self._write(b": still here\n\n", list(self._subscribers))

    def _update(self, query: _Query) -> None:
        """Make an event, unless it is being made."""
        if query not in self._finding:
            self._finding.add(query)
            self._find(query).addBoth(self._found, query)

    def _found(self, result: bytes | Failure, query: _Query) -> None:
        self._finding.discard(query)
        if isinstance(result, Failure):
            _log.failure("the status page could not be updated", result)
        else:
            self._last_write = self._clock.seconds()
            self._write(b"data: " + result + b"\n\n", [each for each, at in self._subscribers.items() if at == query])

    def _write(self, data: bytes, subscribers: list[EventStream]) -> None:
        for subscriber in subscribers:
            subscriber.write(data)
