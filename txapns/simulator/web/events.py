"""
What browsers are told at once, as server-sent events.

::

    event: received     data: {"received": [entries as of GET /v1/received], "missed": 0}     id: that of the last one
    event: changed      data: {"received": [entries]}     they were told before; now there is another verdict
    event: cleared      data: {"id": N}     what has an id up to N was removed

What comes within a tenth of a second is one event, and no event has more than a hundred entries. Nothing is kept for a
browser but the number of the last notification that it was told of. One that reads too slowly is told the rest when it
has read, and ``missed`` counts what the inbox no longer keeps by then.
"""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime

from txapns._network.alarm import Alarm
from txapns._serving.event_stream import EventStream
from txapns._serving.http import Request
from txapns._serving.pages import SECURITY
from txapns.simulator.phones import Phones
from txapns.simulator.servers import Simulator
from txapns.simulator.web.entries import listing

__all__ = ["Events"]

_INTERVAL = 0.1  # seconds from one event to the next
_ENTRIES = 100  # entries in an event
_HEARTBEAT = 15.0  # seconds after which a comment keeps a connection alive
_PATIENCE = 10.0  # seconds after which a browser that does not read is dropped


@attrs.define(eq=False)
class _Subscriber:
    """A browser: its response, and the last notification, removal and revision that it was told of."""

    stream: EventStream
    last: int
    cleared: int
    revisions: int


class Events:
    """
    The browsers that watch an inbox.

    :param clock: the reactor, or a ``Clock``.
    :param limit: how many there may be.
    """

    def __init__(self, clock: IReactorTime, simulator: Simulator, limit: int = 16) -> None:
        self._clock = clock
        self._inbox = simulator.inbox
        self._phones: Phones = simulator.phones
        self._limit = limit
        self._subscribers: dict[_Subscriber, None] = {}
        self._next = Alarm(clock, self._tell)
        self._heartbeat = Alarm(clock, self._keep_alive)

    @property
    def full(self) -> bool:
        """Whether there is no room for another browser."""
        return len(self._subscribers) >= self._limit

    def add(self, request: Request, last: int | None) -> None:
        """
        Answer a request with events until its connection closes.

        :param last: the number of the last notification that the browser knows of; ``None`` to begin with the next.
        """
        stream = EventStream(request, SECURITY)
        inbox = self._inbox
        last = inbox.last_id if last is None else min(last, inbox.last_id)
        subscriber = _Subscriber(stream, last, inbox.cleared, inbox.revisions)
        if not self._subscribers:
            inbox.listeners.append(self._changed)
            self._heartbeat.set(_HEARTBEAT)
        self._subscribers[subscriber] = None
        request.ended().addBoth(lambda _: self._remove(subscriber))
        self._changed()

    def stop(self) -> None:
        """End all responses."""
        for subscriber in list(self._subscribers):
            subscriber.stream.end()

    def _remove(self, subscriber: _Subscriber) -> None:
        self._subscribers.pop(subscriber, None)
        if not self._subscribers:
            self._inbox.listeners.remove(self._changed)
            self._next.cancel()
            self._heartbeat.cancel()

    def _changed(self) -> None:
        self._next.set(_INTERVAL)

    def _tell(self) -> None:
        """Tell each browser what is new; if something is left, the rest later."""
        self._phones.judge()
        for subscriber in list(self._subscribers):
            if subscriber.stream.blocked is None and self._tell_one(subscriber):
                self._changed()

    def _tell_one(self, subscriber: _Subscriber) -> bool:
        """Tell one browser; returns whether something is left."""
        inbox, stream = self._inbox, subscriber.stream
        if subscriber.cleared < inbox.cleared:
            subscriber.cleared = inbox.cleared
            subscriber.last = max(subscriber.last, inbox.cleared)
            stream.write(b'event: cleared\ndata: {"id":%d}\n\n' % inbox.cleared)
        revised = min(inbox.revisions - subscriber.revisions, len(inbox.revised))
        subscriber.revisions = inbox.revisions
        changed = [each for each in list(inbox.revised)[-revised:] if inbox.cleared < each.id <= subscriber.last]
        if revised and changed:
            stream.write(b'event: changed\ndata: {"received":%s}\n\n' % listing(changed))
        new = inbox.after(subscriber.last)
        if new:
            told = new[:_ENTRIES]
            missed = told[0].id - subscriber.last - 1
            subscriber.last = told[-1].id
            data = b'{"received":%s,"missed":%d}' % (listing(told), missed)
            stream.write(b"event: received\nid: %d\ndata: %s\n\n" % (subscriber.last, data))
        return len(new) > _ENTRIES

    def _keep_alive(self) -> None:
        self._heartbeat.set(_HEARTBEAT)
        now = self._clock.seconds()
        for subscriber in list(self._subscribers):
            blocked = subscriber.stream.blocked
            if blocked is not None and now - blocked >= _PATIENCE:
                subscriber.stream.drop()
            else:
                subscriber.stream.write(b": still here\n\n")
        self._changed()  # for those who read again
