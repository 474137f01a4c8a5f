"""
The way of one app's notifications from the queue to Apple and back.

::

    queue ──lease──► chunk ──send_many──► client ──► APNs
      ▲                                     │
      └──────────── settle ◄── judge ◄──── batch

A chunk is leased, sent and settled as one, and some are under way at a time, up to the app's limit. Every app has a
lane of its own, with its own client, so none waits for another's gateway; what they share is the :class:`Budget`.

A lane does something when it is told to (:meth:`AppSender.wake`), when a chunk is done, and when the time has come for
something that was put off; there is one timer for that. With nothing to send it costs nothing.

Nothing is settled before Apple answered. Until it is stored, the chunk stays under way, and its leases are renewed: a
disk that is full stops the lane, and nothing is sent twice for it.

Where nothing gets through, the :class:`~txapns.daemon.sending.breaker.CircuitBreaker` of the app opens: what came back
is given back, and after a while a few are tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._network.backoff import Backoff
from txapns._network.clocks import IWallClock
from txapns._waiters import Waiters
from txapns.client import APNSClient
from txapns.daemon.errors import RequestRefused, Unavailable, in_words
from txapns.daemon.interfaces import IApps, IQueue
from txapns.daemon.sending.breaker import HALF_OPEN, CircuitBreaker, Trouble
from txapns.daemon.sending.budget import Budget
from txapns.daemon.sending.settling import Judge, Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.values import App, Content, Leased, Limits, Outcome, Settlement, State
from txapns.errors import APNSError, ClientClosed
from txapns.notification import Notification
from txapns.result import Batch

__all__ = ["AppSender", "AppState", "SenderContext", "Settled"]

_log = Logger()

#: How many notifications are leased, sent and settled together at the most.
CHUNK = 500
#: How many are leased together at the least, where there is not much room, but for apps with a low limit.
SMALLEST = 25
#: What is due within so many seconds is tried together.
TOGETHER = 0.25


#: Who is told what came of notifications that were under way together: the app's name, all of them, what became of
#: each, and when, by the reactor's clock.
Settled: TypeAlias = Callable[[str, Sequence[Leased], Sequence[Settlement], float], None]


@attrs.frozen
class AppState:
    """
    How an app fares at one moment.

    :ivar name: its name.
    :ivar tripped: whether it was given up until it is changed, but for a few tries.
    :ivar reason: why nothing gets through, for a person; empty where nothing is known to be wrong.
    :ivar since: since when, by the reactor's clock.
    :ivar in_flight: how many notifications are under way.
    :ivar connections: the state of each connection, as in :class:`~txapns.ClientStatus`.
    :ivar sent: how many were handed to the client since the start, each attempt counted.
    :ivar accepted: how many of them Apple took.
    :ivar rejected: how many it refused for good.
    :ivar retried: how many were put off to be tried again.
    :ivar expired: how many were over before they could be sent.
    :ivar dead: how many were given up.
    """

    name: str
    tripped: bool = False
    reason: str = ""
    since: float | None = None
    in_flight: int = 0
    connections: tuple[str, ...] = ()
    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    retried: int = 0
    expired: int = 0
    dead: int = 0


@attrs.frozen(eq=False)
class SenderContext:
    """
    What all lanes share.

    :ivar reactor: the reactor.
    :ivar wall: tells the date.
    :ivar queue: where notifications are.
    :ivar apps: the apps.
    :ivar outcomes: who waits for outcomes.
    :ivar budget: how many may be under way.
    :ivar retries: when a notification is tried again.
    :ivar lease: how long a lease lasts, in seconds.
    :ivar noted: called with the app's name when dead tokens of it came into the feedback log.
    :ivar settled: called with the app's name, what was under way together, what came of it, and when, once that is
        stored.
    :ivar connect: makes the client of an app.
    """

    reactor: IReactorTime
    wall: IWallClock
    queue: IQueue
    apps: IApps
    outcomes: OutcomeWaiters
    budget: Budget
    retries: Retries
    lease: float
    noted: Callable[[str], None]
    settled: Settled
    connect: Callable[[App], APNSClient]


@attrs.define(eq=False)
class _Chunk:
    """Notifications that are under way together."""

    leased: list[Leased]
    client: APNSClient | None
    limits: Limits
    sending: Deferred[Batch] | None = None


class AppSender:
    """
    One app's notifications.

    :param name: the app's name.
    :param around: what all lanes share.
    """

    def __init__(self, name: str, around: SenderContext) -> None:
        self.name = name
        self._around = around
        self._clock = around.reactor
        self._wall = around.wall
        self._app: App | None = None
        self._client: APNSClient | None = None
        self._draining: set[APNSClient] = set()
        self._chunks: set[_Chunk] = set()
        self._in_flight = 0
        self._leasing = False
        self._more = False  # something may be due
        self._unsure = True  # something may be due before the timer's time, and was not when it was last looked for
        self._alarm = Alarm(around.reactor, self._due)
        self._breaker = CircuitBreaker(name, around.reactor, around.retries.random)
        self._counts: Counter[str] = Counter()
        self._stopping = False
        self._abandoned = False
        self._idle: Waiters[None] = Waiters()

    # What others do with it.

    def wake(self) -> None:
        """Look for something to send: there may be something new."""
        self._more = True
        self._advance()

    def changed(self) -> None:
        """Look at the app anew: new connections first, then the old ones are let go."""
        before, old = self._app, self._client
        if self._stopping or not self._find_app():
            self._let_go(old)
            return
        app = self._app
        assert app is not None
        if before is None or old is None or _connected_otherwise(before, app):
            self._client = None
            if old is not None:
                self._connect()
                self._let_go(old)
            self._breaker.close()
        self.wake()

    def state(self) -> AppState:
        """Tell how it fares."""
        counts = {
            field: self._counts[field] for field in ("sent", "accepted", "rejected", "retried", "expired", "dead")
        }
        return AppState(
            self.name,
            self._breaker.tripped,
            self._breaker.reason,
            self._breaker.since,
            self._in_flight,
            () if self._client is None else self._client.status().connections,
            **counts,
        )

    @property
    def unknown(self) -> bool:
        """Whether there is no such app, and nothing of it under way."""
        return self._app is None and not self._in_flight

    def held(self) -> list[int]:
        """List the numbers of what is under way."""
        return [each.number for chunk in self._chunks for each in chunk.leased]

    def stop(self) -> Deferred[None]:
        """
        Lease nothing more, and let what is under way be answered; what waits for a connection is given back.

        :returns: a ``Deferred`` that fires when all is settled and the connections are closed.
        """
        self._stopping = True
        self._alarm.cancel()
        self._let_go(self._client)
        idle = self._idle.wait()
        self._check_idle()
        return idle

    def abandon(self) -> None:
        """Forget what is under way: it stays leased, and whoever has the queue next sends it again."""
        self._stopping = self._abandoned = True
        self._alarm.cancel()
        for chunk in list(self._chunks):
            if chunk.sending is not None:
                chunk.sending.cancel()
        self._around.budget.give_back(self._in_flight)
        self._chunks.clear()
        self._in_flight = 0
        self._check_idle()

    # Leasing.

    def _advance(self) -> None:
        """Lease a chunk, if there may be something due and there is room."""
        if self._leasing or self._stopping or not self._more or not (self._app or self._find_app()):
            return
        if self._clock.seconds() < self._breaker.until:
            self._wake_at(self._breaker.until)
            return
        count = self._room()
        if not count or not (self._client or self._connect()):
            return
        self._more = False
        self._leasing = True
        self._around.budget.take(count)
        until = self._clock.seconds() + self._around.lease
        leasing = self._around.queue.lease(self.name, count, until)
        leasing.addBoth(self._leased, count).addErrback(self._broken, None)

    def _room(self) -> int:
        """
        Tell how many to lease.

        Chunks that are made of whatever place there is get smaller and smaller. So none is made before there is
        place for one of some size; where little waits, there always is.
        """
        assert self._app is not None
        limit = self._app.limits.in_flight
        if not self._breaker.closed:
            return 0 if self._chunks else min(HALF_OPEN, limit)
        free, least = limit - self._in_flight, max(1, limit // 4)
        if free < min(CHUNK, least):
            return 0
        room = min(CHUNK, free, self._around.budget.room(self._in_flight))
        if room < min(SMALLEST, least):
            self._around.budget.wait(self._advance)
            return 0
        return room

    def _leased(self, result: list[Leased] | Failure, count: int) -> None:
        self._leasing = False
        taken = 0
        if isinstance(result, Failure):
            if result.check(Unavailable) is None:
                _log.failure("{app}: nothing can be leased", result, app=self.name)
            self._wake_at(self._clock.seconds() + _retry_after(result))
        else:
            self._more = self._more or len(result) == count
            if result:
                taken = self._take(result)
            if not self._more:
                self._look_ahead()
        self._around.budget.give_back(count - taken)
        self._advance()
        self._check_idle()

    def _take(self, leased: list[Leased]) -> int:
        """
        Send what was leased, or give it back where things are not as they were when it was asked for.

        :returns: how many are under way now.
        """
        if self._stopping or self._app is None or not (self._client or self._connect()):
            giving = self._around.queue.release([each.number for each in leased])
            giving.addErrback(lambda _: self._wake_at(self._clock.seconds() + self._around.lease))
            return 0
        self._in_flight += len(leased)
        self._send(leased, self._app)
        return len(leased)

    def _look_ahead(self) -> None:
        """Nothing more is due. If there is something for later, find out when, unless that is known."""
        if self._stopping or not self._unsure or self._around.queue.depth(self.name) <= self._in_flight:
            return
        self._unsure = False

        def found(due: float | None) -> None:
            if due is not None:
                self._wake_at(due)

        self._around.queue.next_due(self.name).addCallbacks(
            found, lambda failure: self._wake_at(self._clock.seconds() + _retry_after(failure))
        )

    def _wake_at(self, due: float) -> None:
        """Look for something to send at that time, if not before."""
        if not self._stopping:
            self._alarm.set(max(due - self._clock.seconds(), TOGETHER))

    def _due(self) -> None:
        self._unsure = True
        self.wake()

    # Sending.

    def _send(self, leased: list[Leased], app: App) -> None:
        chunk = _Chunk(leased, self._client, app.limits)
        self._chunks.add(chunk)
        ready, notifications, settlements = self._prepare(leased, app.topic)
        if not ready or self._client is None:
            self._settle(chunk, settlements)
            return
        self._counts["sent"] += len(ready)
        chunk.sending = self._client.send_many(_triples(ready, notifications))
        chunk.sending.addBoth(self._sent, chunk, ready, settlements).addErrback(self._broken, chunk)

    def _prepare(
        self, leased: list[Leased], topic: str | None
    ) -> tuple[list[Leased], dict[Content, Notification], list[Settlement]]:
        """Make the notifications, one for each content; what cannot be sent is settled at once."""
        now = self._wall.now()
        notifications: dict[Content, Notification] = {}
        unfit: dict[Content, tuple[State, str]] = {}
        for content in {each.content for each in leased}:
            expires = content.expires
            if expires is not None and expires <= now:
                unfit[content] = (State.EXPIRED, "")
                continue
            try:
                notifications[content] = _notification(content, topic)
            except (APNSError, ValueError) as error:
                unfit[content] = (State.REJECTED, type(error).__name__)
        if not unfit:
            return leased, notifications, []
        ready = [each for each in leased if each.content in notifications]
        settlements = [
            Settlement(each.number, unfit[each.content][0], 0, unfit[each.content][1])
            for each in leased
            if each.content in unfit
        ]
        return ready, notifications, settlements

    def _sent(self, result: Batch | Failure, chunk: _Chunk, ready: list[Leased], settlements: list[Settlement]) -> None:
        chunk.sending = None
        if self._abandoned:
            return
        judge = Judge(self._clock.seconds(), self._wall.now(), self._around.retries, chunk.limits.attempts)
        if isinstance(result, Failure):
            settlements += self._failed(result, ready, judge)
        else:
            verdicts = judge.verdicts(ready, result)
            settlements += verdicts.settlements
            if chunk.client is self._client:
                self._breaker.record(verdicts.works, verdicts.trouble)
        self._settle(chunk, settlements)

    def _failed(self, failure: Failure, ready: list[Leased], judge: Judge) -> list[Settlement]:
        """There is no batch, for the client was closed meanwhile; or nobody knows why, nor how far it came."""
        if failure.check(ClientClosed) is not None:
            return [Settlement(each.number, State.WAITING) for each in ready]
        _log.failure("{app}: sending broke off", failure, app=self.name)
        reason = type(failure.value).__name__
        self._breaker.open(Trouble(reason, trips=False))
        return [judge.again(each, 0, reason) for each in ready]

    # Settling.

    def _settle(self, chunk: _Chunk, settlements: list[Settlement]) -> None:
        """Store what came of a chunk, however long it takes."""
        waits = Backoff(1.0, 30.0, random=self._around.retries.random)

        def attempt() -> None:
            if not self._abandoned:
                now, date = self._clock.seconds(), self._wall.now()
                settling = maybeDeferred(self._around.queue.settle, settlements)
                settling.addCallbacks(lambda _: self._settled(chunk, settlements, now, date), failed).addErrback(
                    self._broken, chunk
                )

        def failed(failure: Failure) -> None:
            if failure.check(Unavailable) is None:
                _log.failure("{app}: outcomes cannot be stored", failure, app=self.name)
            self._clock.callLater(waits.next_delay(), attempt)

        attempt()

    def _settled(self, chunk: _Chunk, settlements: list[Settlement], now: float, date: float) -> None:
        if not self._end(chunk):
            return
        states = self._count(settlements)
        if states[State.WAITING]:
            self._expect(settlements)
        self._advance()
        self._around.settled(self.name, chunk.leased, settlements, now)
        if len(self._around.outcomes):
            self._around.outcomes.tell(self._outcomes(chunk.leased, settlements, date))
        if states[State.REJECTED] and any(each.dead for each in settlements):
            self._around.noted(self.name)
        self._check_idle()

    def _end(self, chunk: _Chunk) -> bool:
        """Have a chunk no longer under way; returns whether it was."""
        if chunk not in self._chunks:
            return False
        self._chunks.remove(chunk)
        self._in_flight -= len(chunk.leased)
        self._around.budget.give_back(len(chunk.leased))
        return True

    def _count(self, settlements: Sequence[Settlement]) -> Counter[State]:
        states = Counter([each.state for each in settlements])
        for state, name in _COUNTED.items():
            self._counts[name] += states[state]
        return states

    def _expect(self, settlements: Iterable[Settlement]) -> None:
        """Come back for what waits again."""
        dues = [each.due for each in settlements if each.state is State.WAITING]
        later = [due for due in dues if due is not None]
        self._counts["retried"] += len(later)
        if later:
            self._wake_at(min(later))
        self._more = self._more or len(later) < len(dues)

    def _outcomes(self, leased: Sequence[Leased], settlements: Iterable[Settlement], date: float) -> Iterator[Outcome]:
        """Say what became of those that somebody waits for."""
        wanted = {each.number: each for each in leased if each.number in self._around.outcomes}
        for settlement in settlements:
            each = wanted.get(settlement.number)
            if each is not None and settlement.state is not State.WAITING:
                yield Outcome(
                    each.number,
                    each.apns_id,
                    self.name,
                    settlement.state,
                    settlement.status,
                    settlement.reason,
                    settlement.timestamp,
                    each.attempts + (settlement.state is not State.EXPIRED),
                    each.accepted_at,
                    round(date, 3),  # as it is stored
                    settlement.unique_id,
                )

    # The app and its client.

    def _find_app(self) -> bool:
        """Look the app up."""
        try:
            self._app = self._around.apps.get(self.name)
        except RequestRefused as error:
            self._app = None
            self._breaker.trip(str(error))
            return False
        return True

    def _connect(self) -> bool:
        assert self._app is not None
        try:
            self._client = self._around.connect(self._app)
        except Exception as error:
            if not isinstance(error, APNSError):
                _log.failure("{app}: no client can be made", app=self.name)
            self._breaker.open(Trouble(in_words(error), trips=True))
            self._wake_at(self._breaker.until)
            return False
        return True

    def _let_go(self, client: APNSClient | None) -> None:
        """Close a client once what is under way is answered."""
        if client is None:
            return
        if self._client is client:
            self._client = None
        self._draining.add(client)

        def closed(result: object) -> None:
            self._draining.discard(client)
            self._check_idle()

        client.close().addBoth(closed)

    # Ends.

    def _check_idle(self) -> None:
        if self._idle and not self._leasing and not self._chunks and (self._abandoned or not self._draining):
            self._idle.fire(None)

    def _broken(self, failure: Failure, chunk: _Chunk | None) -> None:
        """Nothing here is to raise. Should something do so, what it was about is free again when the leases end."""
        if failure.check(CancelledError) is not None:
            return
        _log.failure("{app}: the dispatcher has a fault of its own", failure, app=self.name)
        if chunk is not None:
            self._end(chunk)
        self._wake_at(self._clock.seconds() + self._around.lease)
        self._check_idle()


_COUNTED = {
    State.ACCEPTED: "accepted",
    State.REJECTED: "rejected",
    State.EXPIRED: "expired",
    State.DEAD: "dead",
}


def _connected_otherwise(before: App, after: App) -> bool:
    """Whether an app needs another client than before."""
    return (before.gateway, before.credential.fingerprint, before.topic, before.limits.connections) != (
        after.gateway,
        after.credential.fingerprint,
        after.topic,
        after.limits.connections,
    )


def _retry_after(failure: Failure) -> float:
    return getattr(failure.value, "retry_after", None) or 1.0


def _notification(content: Content, topic: str | None) -> Notification:
    """
    Make a notification of what the queue has.

    :raises ValueError: a field that has to be a number is none.
    """
    headers = content.headers
    priority, expiration = headers.get("apns-priority"), headers.get("apns-expiration")
    return Notification(
        payload=content.payload,
        topic=headers.get("apns-topic", topic),
        push_type=headers.get("apns-push-type"),
        priority=None if priority is None else int(priority),
        expiration=None if expiration is None else int(expiration),
        collapse_id=headers.get("apns-collapse-id"),
    )


def _triples(
    leased: Iterable[Leased], notifications: dict[Content, Notification]
) -> Iterator[tuple[Leased, Notification, bytes]]:
    for each in leased:
        yield each, notifications[each.content].with_apns_id(each.apns_id), each.token
