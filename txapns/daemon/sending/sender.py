"""
The way of one app's notifications from the queue to Apple and back.

::

    queue ──lease──► chunk ──send_many──► client ──► APNs
      ▲                                     │
      └─────settle───── attempt ◄──── batch ┘

A chunk is leased, sent and settled as one. Several are under way at a time, up to the app's limit. Of that a part is
kept free for what is urgent, which goes out before what the client has been given already. Every app has its own
sender with its own client, so no app waits for another's gateway; what senders share is the
:class:`~txapns.daemon.sending.budget.Budget`.

A sender acts when it is woken (:meth:`AppSender.wake`), when a chunk is done, and when something that was put off is
due; there is one timer for that. With nothing to send it costs nothing.

Nothing is settled before Apple answered. A chunk stays under way until its outcomes are stored, and its leases are
renewed until then. So a full disk stops the sender, and does not make it send anything twice.

The leases of a node end with its life; see :mod:`txapns.daemon.store.cluster`. Just before that, the sender breaks off
what is unanswered, since another node will send it. What is answered is still stored, however late, if that is final:
whatever is to be tried again, another node tries now.

Where nothing gets through, the app's :class:`~txapns.daemon.sending.breaker.CircuitBreaker` opens: what comes back goes
back into the queue, and after a pause a few notifications are tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from math import ceil
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._network.backoff import Backoff
from txapns._waiters import Waiters
from txapns.client import ClientStatus
from txapns.daemon.errors import RequestRefused, Unavailable, in_words
from txapns.daemon.sending.breaker import CircuitBreaker, Trouble
from txapns.daemon.sending.context import AppState, Client, SenderContext, SideState
from txapns.daemon.sending.handing import send
from txapns.daemon.sending.preparing import Prepared, prepare
from txapns.daemon.sending.settling import Attempt, SidedBatch
from txapns.daemon.sending.sides import SidedClient
from txapns.daemon.store.cluster import HALF_OPEN, Circuit
from txapns.daemon.values import App, Lane, Lease, Leased, Limits, Settlement, State
from txapns.errors import APNSError, ClientClosed
from txapns.result import Batch

__all__ = ["AppSender"]

_log = Logger()

#: The most notifications that are leased, sent and settled together: this many, or a quarter of the limit if that is
#: more, up to the larger number.
CHUNK, LARGEST = 500, 1_000
#: The fewest that are leased together while there is little room, except for apps with a low limit.
SMALLEST = 25
#: How many notifications more may be under way if they are urgent: this many, and this part of the limit at most.
RESERVED, RESERVED_PART = 100, 20
#: For how many seconds what is due waits for more, so that it is sent together.
TOGETHER = 0.25


@attrs.define(eq=False)
class _Chunk:
    """
    Notifications that are under way together: first being sent, then being settled.

    :ivar accepted: the numbers of those that were accepted, with nothing else to say of them.
    :ivar settlements: of the others.
    :ivar again: the next attempt to settle them, if one failed.
    :ivar late: whether the leases have ended with a life of the node.
    """

    leased: list[Leased]
    client: Client
    limits: Limits
    sending: Deferred[Batch] | Deferred[SidedBatch] | None = None
    accepted: list[int] = attrs.Factory(list)
    settlements: list[Settlement] = attrs.Factory(list)
    again: IDelayedCall | None = None
    late: bool = False

    @property
    def urgent(self) -> bool:
        """Whether it is urgent; a chunk is of one lane."""
        return self.leased[0].content.lane is Lane.URGENT

    def settled(self, settlements: Sequence[Settlement]) -> list[Leased]:
        """Tell which notifications are settled, given these settlements: all of them, unless it was late."""
        if not self.late:
            return self.leased
        settled = {*self.accepted, *[each.number for each in settlements]}
        return [each for each in self.leased if each.number in settled]


class AppSender:
    """Sends one app's notifications."""

    def __init__(self, name: str, context: SenderContext) -> None:
        self.name = name
        self._context = context
        self._clock = context.reactor
        self._queue = context.queue
        self._app: App | None = None
        self._client: Client | None = None
        self._draining: set[Client] = set()
        self._chunks: set[_Chunk] = set()
        self._under_way = 0
        self._leasing = self._advancing = False
        self._life = 0  # in which of its node's lives it is
        self._more = False  # something may be due now
        self._urgent = False  # something urgent may be due now
        self._full_until = 0.0  # until when the nodes together leave no room, as far as known
        self._failed_until = 0.0  # until when nothing is leased, since the queue could not be read
        self._unsure = True  # something may become due before the alarm rings
        self._alarm = Alarm(context.reactor, self.expect)
        report = partial(context.cluster.report, name)
        self._breaker = CircuitBreaker(name, context.reactor, context.retries.random, report)
        self._counts: Counter[str] = Counter()
        self._stopping = False
        self._abandoned = False
        self._idle: Waiters[None] = Waiters()

    # Called by the dispatcher.

    def wake(self, urgent: bool = False) -> None:
        """Look for something to send: there may be something new, and some of it urgent."""
        self._more = True
        self._urgent = self._urgent or urgent
        self._advance()

    def expect(self) -> None:
        """Look for something to send now, and for when there will be more."""
        self._unsure = True
        self.wake()

    def changed(self) -> None:
        """Take up a change of the app. The new connections are opened first; then the old ones are closed."""
        before, old = self._app, self._client
        if self._stopping or not self._find_app():
            self._close(old)
            return
        app = self._app
        assert app is not None
        if before is None or old is None or _client_key(before) != _client_key(app):
            self._client = None
            if old is not None:
                self._connected()
                self._close(old)
            self._breaker.close()
        self.wake()

    def adopt(self, circuit: Circuit | None) -> None:
        """Take note of the app's circuit, as another node reports it."""
        self._breaker.adopt(circuit)
        self.wake()

    def suspend(self) -> None:
        """Break off what is not answered, and lease nothing more: the leases are about to end."""
        self._life += 1
        self._alarm.cancel()
        self._break_off([chunk for chunk in self._chunks if chunk.sending is not None])
        for chunk in self._chunks:
            chunk.late = True
            chunk.settlements = [each for each in chunk.settlements if each.state is not State.WAITING]
        for client in {self._client, *self._draining}:
            self._close(client, abort=True)

    def hurry(self) -> None:
        """Store at once what could not be stored: soon somebody leases it again."""
        self._unsure = True
        for chunk in self._chunks:
            if chunk.again is not None and chunk.again.active():
                chunk.again.reset(0.0)

    def state(self) -> AppState:
        """Tell what is known of the app."""
        breaker, statuses = self._breaker, self._statuses()
        status = statuses.get(self._client)
        return AppState(
            self.name,
            breaker.tripped,
            breaker.reason,
            breaker.since,
            None if breaker.closed else breaker.until,
            sum(each.in_flight for each in statuses.values()),
            self.under_way,
            () if status is None else status.connections,
            "" if status is None or status.last_error is None else str(status.last_error),
            **self._counts,
            sides=_sides(self._client),
        )

    @property
    def unknown(self) -> bool:
        """Whether there is no such app, and nothing of it is under way."""
        return self._app is None and not self._under_way

    @property
    def stuck(self) -> bool:
        """Whether nothing of what waits can be sent for the moment."""
        return self._app is None or self._app.pause is not None or not self._breaker.closed

    @property
    def under_way(self) -> int:
        """How many notifications are leased: waiting for a connection, in flight, or being settled."""
        return self._under_way

    @property
    def in_flight(self) -> int:
        """How many notifications a connection has sent that are not answered."""
        if not self._under_way:
            return 0  # each node counts this at each heartbeat, for thousands of apps
        return sum(status.in_flight for status in self._statuses().values())

    def _statuses(self) -> dict[Client | None, ClientStatus]:
        """Tell the status of each client."""
        clients = self._draining if self._client is None else {self._client, *self._draining}
        return {client: client.status() for client in clients}

    def held(self) -> list[int]:
        """List the numbers of the notifications that are under way and leased."""
        return [each.number for chunk in self._chunks if not chunk.late for each in chunk.leased]

    def stop(self) -> Deferred[None]:
        """
        Lease nothing more, and wait for the answers to what is under way. What waits for a connection is given back.

        :returns: a ``Deferred`` that fires when everything is settled and the connections are closed.
        """
        self._stopping = True
        self._alarm.cancel()
        self._close(self._client)
        idle = self._idle.wait()
        self._check_idle()
        return idle

    def abandon(self) -> None:
        """Forget what is under way. It stays leased, and is sent again after the leases end."""
        self._stopping = self._abandoned = True
        self._alarm.cancel()
        self._break_off(list(self._chunks))
        self._check_idle()

    def _break_off(self, chunks: Iterable[_Chunk]) -> None:
        """Forget chunks, whatever comes of them."""
        for chunk in chunks:
            self._end(chunk)
            if chunk.sending is not None:
                chunk.sending.cancel()
            if chunk.again is not None and chunk.again.active():
                chunk.again.cancel()

    # Leasing.

    def _advance(self) -> None:
        """Lease chunks, as long as something may be due and there is room."""
        if not self._advancing:
            self._advancing = True
            try:
                while self._lease():
                    pass
            finally:
                self._advancing = False

    def _lease(self) -> bool:
        """Lease a chunk, if something may be due and there is room; returns whether it is leased already."""
        due = self._more or self._urgent
        if self._leasing or not due or not (self._app or self._find_app()) or not self._sends:
            return False
        until = max(self._breaker.until, self._failed_until)
        if self._clock.seconds() < until:
            self._wake_at(until)
            return False
        count, only = self._room() if self._more else 0, None
        if not count and self._urgent:
            count, only = self._room_for_urgent(), Lane.URGENT
        if not count or self._connected() is None:
            return False
        urgent, self._urgent = self._urgent, False
        if only is None:
            self._more = False
        self._leasing = True
        self._context.budget.take(count)
        until = self._clock.seconds() + self._context.lease
        # Only the others need counting.
        most = self._limit(only) if self._context.cluster.shared else None
        assert self._app is not None
        leasing = self._queue.lease(self.name, count, until, most, only, self._app.limits.rate)
        leasing.addBoth(self._leased, count, only, urgent, self._life).addErrback(self._broken, None)
        return not self._leasing

    @property
    def _sends(self) -> bool:
        """Whether anything may be leased and sent."""
        paused = self._app is not None and self._app.pause is not None
        return not self._stopping and not paused and self._context.sends()

    def _limit(self, only: Lane | None) -> int:
        """Tell how many notifications may be under way, whatever their lane, or if they are urgent."""
        assert self._app is not None
        limit = self._app.limits.in_flight
        return limit - min(RESERVED, limit // RESERVED_PART) if only is None else limit

    def _room(self) -> int:
        """
        Find out how many notifications to lease.

        Chunks that fill whatever room there is get smaller and smaller. So all are of one size, of which some fill the
        limit, and none is leased before there is room for it, or for a quarter of the limit. An app that has little
        waiting always finds that. What other nodes leave is known from the last lease, until something of this node's
        is settled.
        """
        limit = self._limit(None)
        if self._breaker.limited:
            return 0 if self._chunks else min(HALF_OPEN, limit)
        free, least = limit - self._under_way, max(1, limit // 4)
        most = max(CHUNK, min(ceil(limit / 4), LARGEST))
        chunk = limit // ceil(limit / most)
        if free < min(chunk, least) or (self._chunks and self._clock.seconds() < self._full_until):
            return 0
        room = min(free, chunk, self._context.budget.room(self._under_way))
        if room < min(SMALLEST, least):
            self._context.budget.wait(self._advance)
            return 0
        return room

    def _room_for_urgent(self) -> int:
        """Find out how many urgent notifications to lease where there is no room for others."""
        if self._breaker.limited:
            return 0
        held = sum([len(chunk.leased) for chunk in self._chunks if chunk.urgent])
        free = self._limit(Lane.URGENT) - self._under_way
        return max(0, min(CHUNK, free, self._context.budget.room(held)))

    def _leased(self, result: Lease | Failure, count: int, only: Lane | None, urgent: bool, life: int) -> None:
        self._leasing = False
        taken = 0
        if isinstance(result, Failure):
            self._urgent = self._urgent or urgent
            if result.check(Unavailable) is None:
                _log.failure("{app}: notifications cannot be leased", result, app=self.name)
            self._failed_until = self._clock.seconds() + _retry_after(result)
            self._wake_at(self._failed_until)
        else:
            if result:
                taken = self._take(result, life)
            if only is None:
                self._more = self._more or result.more
                self._full_until = self._clock.seconds() + TOGETHER if result.full else 0.0
            if result.more or (only is None and result.full):
                self._urgent = self._urgent or urgent
            if self._app is not None and self._app.limits.rate is not None:
                self._unsure = True  # something may be due that only the rate holds up
            if not self._more:
                self._look_ahead()
        self._context.budget.give_back(count - taken)
        self._advance()
        self._check_idle()

    def _take(self, leased: list[Leased], life: int) -> int:
        """Send what was leased and return how many that is; if that is not possible any more, release it."""
        if life != self._life:
            self._more = True
            return 0  # the lease has ended with that life, and by now may be another's
        client = self._connected() if self._sends and self._app is not None else None
        if client is None or self._app is None:
            releasing = self._queue.release([each.number for each in leased])
            releasing.addErrback(lambda _: self._wake_after(self._context.lease))
            return 0
        self._under_way += len(leased)
        self._send(_Chunk(leased, client, self._app.limits), self._app.topic)
        return len(leased)

    def _look_ahead(self) -> None:
        """Nothing more is due now. Find out when something will be, unless that is known."""
        if self._stopping or not self._unsure or self._queue.waiting(self.name).count <= self._under_way:
            return
        self._unsure = False

        def found(due: float | None) -> None:
            if due is not None:
                self._wake_at(due)

        looking = self._queue.next_due(self.name)
        looking.addCallbacks(found, lambda failure: self._wake_after(_retry_after(failure)))

    def _wake_at(self, due: float) -> None:
        """Look for something to send at a time of the reactor's clock, if not before."""
        self._wake_after(due - self._clock.seconds())

    def _wake_after(self, delay: float) -> None:
        if not self._stopping:
            self._alarm.set(max(delay, TOGETHER))

    # Sending.

    def _send(self, chunk: _Chunk, topic: str | None) -> None:
        self._chunks.add(chunk)
        prepared = prepare(chunk.leased, topic, self._context.wall.now())
        if not prepared.ready:
            self._settle(chunk, prepared.settlements)
            return
        self._counts["sent"] += len(prepared.ready)
        sending: Deferred[Any]
        if isinstance(chunk.client, SidedClient):
            sending = chunk.client.send(prepared, chunk.urgent)
        else:
            sending = send(chunk.client, prepared, chunk.urgent)
        chunk.sending = sending
        sending.addBoth(self._sent, chunk, prepared).addErrback(self._broken, chunk)

    def _sent(self, result: Batch | SidedBatch | Failure, chunk: _Chunk, prepared: Prepared) -> None:
        chunk.sending = None
        if chunk not in self._chunks:
            return
        now, date = self._clock.seconds(), self._context.wall.now()
        attempt = Attempt(now, date, self._context.retries, chunk.limits.attempts)
        if isinstance(result, Failure):
            settlements = self._failed(result, prepared.ready, attempt)
        else:
            settled = attempt.settle(prepared.ready, result)
            chunk.accepted, settlements = settled.accepted, settled.settlements
            if chunk.client is self._client:
                self._breaker.record(settled.works, settled.trouble)
        self._settle(chunk, prepared.settlements + settlements)

    def _failed(self, failure: Failure, ready: Iterable[Leased], attempt: Attempt) -> list[Settlement]:
        """Settle without a batch: the client was closed, or it failed and it is unknown how far it got."""
        if failure.check(ClientClosed) is not None:
            return [Settlement(each.number, State.WAITING) for each in ready]
        _log.failure("{app}: sending broke off", failure, app=self.name)
        reason = type(failure.value).__name__
        self._breaker.open(Trouble(reason, trips=False))
        return [attempt.retry(each, 0, reason) for each in ready]

    # Settling.

    def _settle(self, chunk: _Chunk, settlements: list[Settlement]) -> None:
        """Store the outcomes of a chunk, and try again for as long as they cannot be stored."""
        chunk.settlements = settlements
        self._store(chunk, Backoff(1.0, 30.0, random=self._context.retries.random))

    def _store(self, chunk: _Chunk, pauses: Backoff) -> None:
        now, date, settlements = self._clock.seconds(), self._context.wall.now(), chunk.settlements

        def failed(failure: Failure) -> None:
            if failure.check(Unavailable) is None:
                _log.failure("{app}: outcomes cannot be stored", failure, app=self.name)
            if chunk in self._chunks:
                chunk.again = self._clock.callLater(pauses.next_delay(), self._store, chunk, pauses)

        storing = maybeDeferred(self._queue.settle, settlements, chunk.accepted)
        storing.addCallbacks(lambda _: self._settled(chunk, settlements, now, date), failed)
        storing.addErrback(self._broken, chunk)

    def _settled(self, chunk: _Chunk, settlements: list[Settlement], now: float, date: float) -> None:
        if not self._end(chunk):
            return
        states = Counter([each.state for each in settlements])
        states[State.ACCEPTED] += len(chunk.accepted)
        for state, name in _COUNTED.items():
            self._counts[name] += states[state]
        if states[State.WAITING]:
            self._expect(settlements)
        if self._context.cluster.shared and self._queue.waiting(self.name).count > self._under_way:
            self._more = True  # of the limit for all nodes there may have been too little left before
        leased = chunk.settled(settlements)
        if not chunk.late:  # another node may have settled it first, and those who wait look up what is stored
            self._context.outcomes.settled(self.name, leased, settlements, date)  # before anything else, tell who waits
        self._advance()
        self._context.settled(self.name, leased, settlements, now)
        self._check_idle()

    def _end(self, chunk: _Chunk) -> bool:
        """Count a chunk as no longer under way; returns whether it was."""
        if chunk not in self._chunks:
            return False
        self._chunks.remove(chunk)
        self._full_until = 0.0
        self._under_way -= len(chunk.leased)
        self._context.budget.give_back(len(chunk.leased))
        return True

    def _expect(self, settlements: Iterable[Settlement]) -> None:
        """Look again when what waits for another attempt is due."""
        dues = [each.due for each in settlements if each.state is State.WAITING]
        later = [due for due in dues if due is not None]
        self._counts["retried"] += len(later)
        if later:
            self._wake_at(min(later))
        self._more = self._more or len(later) < len(dues)

    # The app and its client.

    def _find_app(self) -> bool:
        try:
            self._app = self._context.apps.get(self.name)
        except RequestRefused as error:
            self._app = None
            self._breaker.trip(str(error))
            return False
        return True

    def _connected(self) -> Client | None:
        """Give the app's client, made if there is none; ``None`` if it cannot be made."""
        if self._client is None:
            assert self._app is not None
            try:
                self._client = self._context.connect(self._app)
            except Exception as error:
                if not isinstance(error, APNSError):
                    _log.failure("{app}: no client can be made", app=self.name)
                self._breaker.open(Trouble(in_words(error), trips=True))
                self._wake_at(self._breaker.until)
        return self._client

    def _close(self, client: Client | None, *, abort: bool = False) -> None:
        """Close a client when what is under way is answered, or at once."""
        if client is None:
            return
        if self._client is client:
            self._client = None
        self._draining.add(client)

        def closed(result: object) -> None:
            self._draining.discard(client)
            self._check_idle()

        (client.abort() if abort else client.close()).addBoth(closed)

    # The end.

    def _check_idle(self) -> None:
        if self._idle and not self._leasing and not self._chunks and (self._abandoned or not self._draining):
            self._idle.fire(None)

    def _broken(self, failure: Failure, chunk: _Chunk | None) -> None:
        """Log what should never be raised. The notifications can be leased again when their leases end."""
        if failure.check(CancelledError) is not None:
            return
        _log.failure("{app}: a bug in the dispatcher", failure, app=self.name)
        if chunk is not None:
            self._end(chunk)
        self._wake_after(self._context.lease)
        self._check_idle()


_COUNTED = {State.ACCEPTED: "accepted", State.REJECTED: "rejected", State.EXPIRED: "expired", State.DEAD: "dead"}


def _client_key(app: App) -> tuple[object, ...]:
    """If this changes, an app needs another client."""
    sides = [(side.gateway, side.credential.fingerprint) for side in app.sides.values()]
    return app.gateway, app.credential.fingerprint, app.topic, app.limits.connections, sides


def _sides(client: Client | None) -> tuple[SideState, ...]:
    """Tell which sides of an app let nothing through."""
    breakers = client.breakers().items() if isinstance(client, SidedClient) else ()
    return tuple(
        SideState(environment.name.lower(), each.tripped, each.reason, each.since, each.until)
        for environment, each in breakers
        if not each.closed
    )


def _retry_after(failure: Failure) -> float:
    return getattr(failure.value, "retry_after", None) or 1.0
