"""
The work of one client, and the connections that take it.

The pool pulls. Whenever a connection may have room (it became ready, answers came, its buffers emptied) the pool takes
as many deliveries as fit out of the :class:`~txapns._session.backlog.Backlog` and hands them to the connection, so
nothing is pulled from the caller's iterables before there is room for it. What came back unprocessed goes first;
batches take turns.

Connections are filled one after the other: while one is enough, the others are idle, and close. Another one is opened
when work waits and no connection has room for it, for lack of streams or of flow-control window. They are opened one at
a time, and after an attempt has failed, no other connection is tried before the delay is over. So however many
connections are allowed, a gateway in trouble sees the attempts of one.

Work that waits has a deadline as well: when nothing at all could be handed to a connection for ``timeout`` seconds,
everything that waits is reported unsent; but not before a connection was tried at least once, which the back-off may
delay by a minute. When the gateway refuses the credential, is not who it should be, or takes notifications and answers
none of them, that happens at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from txapns._network.alarm import Alarm
from txapns._network.backoff import Backoff
from txapns._session.backlog import Backlog
from txapns._session.connection import Connection
from txapns._session.waiting import Admission, Patience
from txapns.credentials import Credential
from txapns.delivery import Delivery, DeliveryListener
from txapns.errors import AnswerTimeout, APNSError, ClientClosed, ConnectFailed, QueueFull
from txapns.gateway import Gateway
from txapns.interfaces import IConnectionEvents, IMetrics, IWork
from txapns.options import Options
from txapns.result import Rejection

__all__ = ["Pool"]

D = TypeVar("D", bound=Delivery)

_log = Logger()

#: What part of a connection's room is kept for batches that go first, once there was one.
_KEPT = 20


@implementer(IConnectionEvents)
class Pool:
    """
    What waits to be sent to one gateway with one credential, and the connections that take it.

    :param metrics: counts what is sent, or ``None``.
    :param topic: the topic of notifications without one.
    :raises CredentialError: the gateway's protocol cannot use this credential.

    :ivar metrics: the same, but exceptions from it are only logged.
    :ivar used: when something was last sent or settled.
    :ivar last_error: the last error of a connection; ``None`` if there was none.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        gateway: Gateway,
        credential: Credential,
        options: Options,
        metrics: IMetrics | None = None,
        topic: str | None = None,
    ) -> None:
        self.last_error: APNSError | None = None
        self.options = options
        self.metrics = None if metrics is None else _guarded(metrics)
        self.clock = reactor
        self.used = 0.0
        self._gateway = gateway
        self._backlog = Backlog(reactor, options.retries, self.feed, self._reject)
        endpoint, backoff = gateway.endpoint(reactor, credential, options.timeout), Backoff()
        self._connect = partial(Connection, reactor, gateway, endpoint, credential, self, options, backoff, topic=topic)
        # How many connections stay open without work. If idle ones are never closed, that goes for the first as well.
        self._lasting = options.min_connections or int(options.idle_timeout is None)
        self._connections: list[Connection] = []
        self._add_connection()
        self._closed = False
        self._feeding = False
        self._again = False
        self._soon = Alarm(reactor, self.feed)
        self._most = options.max_queued
        self._admission = Admission(self._most, self._backlog.__len__)
        self._patience = Patience(reactor, options.timeout, self._may_wait_longer, self._lose_patience)
        self._hopeless = False
        if options.min_connections:
            self._soon.set(0)

    def _add_connection(self) -> Connection:
        self._connections.append(self._connect(lasting=len(self._connections) < self._lasting))
        return self._connections[-1]

    @property
    def states(self) -> tuple[str, ...]:
        """Each connection's state."""
        return tuple(connection.state for connection in self._connections)

    @property
    def trouble(self) -> str:
        """Why notifications are not sent, to end a sentence with; ``""`` if that is not known."""
        return "" if self.last_error is None or "ready" in self.states else f": {self.last_error}"

    @property
    def in_flight(self) -> int:
        """How many deliveries are in flight."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def queued(self) -> int:
        """How many deliveries wait, without what batches have not pulled from their iterables."""
        return len(self._backlog)

    @property
    def busy(self) -> bool:
        """Whether something is in flight, waits, or may come from a batch."""
        return bool(self._backlog or self.in_flight)

    def submit(self, delivery: D) -> D:
        """
        Send a single delivery, after those that wait already. If too many wait, it is unsent, with ``QueueFull``.

        :returns: the delivery.
        """
        if self._closed:
            delivery.outcomes.unsent(delivery, ClientClosed("the client was closed before it was sent"))
        elif len(self._backlog) >= self._most:
            full = QueueFull(f"{self._most} notifications are waiting already; wait for client.when_ready()")
            delivery.outcomes.unsent(delivery, full)
        else:
            self._hopeless = False
            # If others wait already, no connection has room; whichever gets some asks for them.
            if self._backlog.append(delivery):
                self.feed()
        return delivery

    def when_ready(self) -> Deferred[None]:
        """
        Wait until another single delivery may wait.

        :returns: a ``Deferred`` that fires when there is room, or the pool is closed.
        """
        return self._admission.when_ready()

    def take_back(self, delivery: Delivery) -> bool:
        """Do not send a single delivery, if it has not been sent yet, and return whether that is so."""
        waited = self._backlog.remove(delivery)
        if waited and self.metrics is not None and delivery.taken_at >= 0:
            self.metrics.unanswered(False)
        self._watch()
        return waited

    def add(self, work: IWork, first: bool = False) -> None:
        """Send the deliveries of a batch, if ``first``, before the other batches."""
        if self._closed:
            work.give_up(ClientClosed("the client was closed before it was sent"))
        else:
            self._hopeless = False
            self._backlog.add(work, first)
            self.feed()

    def resume(self, work: IWork) -> None:
        """A batch that was added has something to take again."""
        self._backlog.resume(work)
        self.feed()

    def withdraw(self, sending: object, error: APNSError) -> None:
        """Take nothing more from a batch, and report what still waits from it."""
        self._backlog.withdraw(sending, error)
        self.feed()

    def in_flight_of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the deliveries in flight whose outcomes are received there."""
        return [delivery for connection in self._connections for delivery in connection.in_flight_of(outcomes)]

    def give_up(self, error: APNSError) -> Deferred[list[None]]:
        """
        Report everything that waits.

        :returns: a ``Deferred`` that fires when all the batches have ended.
        """
        ended = self._backlog.give_up(error)
        self._watch()
        return ended

    def close(self, error: APNSError) -> Deferred[None]:
        """
        Give up what waits, wait for the answers to what is in flight, and close.

        :param error: the reason reported for what waits.
        :returns: a ``Deferred`` that fires when the connections are closed and all the batches have ended.
        """
        self._closed = self._admission.closed = True
        self._soon.cancel()
        gone = gatherResults([connection.stop() for connection in self._connections])
        ended = self.give_up(error)
        return ended.addCallback(lambda _: gone).addCallback(lambda _: None)

    def abort(self, error: APNSError) -> None:
        """
        End the connections at once, after :meth:`close`.

        :param error: the reason reported for what is in flight.
        """
        for connection in self._connections:
            connection.abort(error)

    def feed(self) -> None:
        """Hand the connections what they have room for, and open another one if needed."""
        self._again = True
        if self._feeding:
            return  # a listener sends more: the loop below continues
        self._soon.cancel()
        self._feeding = True
        try:
            while self._again:
                self._again = False
                self._feed()
                self._admission.admit()
        finally:
            self._feeding = False
        self._watch()

    def _feed(self) -> None:
        for connection in self._connections:
            self._fill(connection)
        if self._closed:
            return
        if self._backlog.available:
            if not self._soon.is_set:
                self._open_another()
            return
        if not self._hopeless and sum(connection.active for connection in self._connections) < self._lasting:
            self._open_another()
        for connection in self._connections:
            connection.flush()

    def _fill(self, connection: Connection) -> None:
        """Hand a connection as much as it has room for."""
        while True:
            count, size = connection.room()
            kept = (count + connection.in_flight) // _KEPT if self._backlog.keeps else 0
            if size <= 0 or count <= (0 if self._backlog.pressing else kept):
                return
            deliveries = self._backlog.take(count, size, kept)
            if not deliveries:
                if self._backlog.available:  # only malformed tokens, of which there may be many
                    self._soon.set(0)
                return
            now = self._patience.progress = self.clock.seconds()
            if self.metrics is not None:
                self._count(self.metrics, deliveries, now)
            connection.deliver(deliveries)

    def _count(self, metrics: IMetrics, deliveries: list[Delivery], now: float) -> None:
        """Count those that go to a connection for the first time."""
        fresh = [delivery for delivery in deliveries if delivery.taken_at < 0]
        for delivery in fresh:
            delivery.taken_at = now
        if fresh:
            metrics.sent(len(fresh))

    def _open_another(self) -> None:
        """No connection has room for work that waits, or there are fewer connections than required: open one."""
        states = self.states
        if "connecting" in states or "starting" in states:
            return
        waiting = "waiting" in states
        for connection in self._connections:
            # After a failure, the connection that failed tries again once its delay is over, and no other.
            if connection.state == "idle" and (connection.rested or not waiting):
                connection.open()
                return
        if not waiting and len(self._connections) < self.options.max_connections:
            self._add_connection().open()

    # IConnectionEvents

    def connection_round(self, settle: Callable[[], None]) -> None:
        """Feed once for all that is sent in answer to the outcomes, and not for each."""
        held, self._feeding = self._feeding, True
        try:
            settle()
        finally:
            self._feeding = held
        if self._again:
            self.feed()

    def connection_changed(self) -> None:
        """There may be room."""
        self.feed()

    def connection_trouble(self, error: APNSError, hopeless: bool) -> None:
        """Remember the error; if another connection would fail in the same way, give up what waits."""
        self.last_error = error
        self._patience.tried = True
        if isinstance(error, AnswerTimeout) and "ready" in self.states:
            hopeless = False  # this one does not answer, another may
        if hopeless:
            self._hopeless = True  # so that none is kept open either, until there is work again
            self.give_up(error)

    def deliveries_returned(self, deliveries: list[Delivery]) -> None:
        """They go first, in their order, except for those that are not wanted any more."""
        stopped = ClientClosed("the client was closed before it was processed") if self._closed else None
        for delivery in reversed(deliveries):
            error = stopped or delivery.outcomes.ended
            if error is None:
                self._backlog.put_back(delivery)
            else:
                delivery.outcomes.unsent(delivery, error)
        self.feed()

    def delivery_rejected(self, delivery: Delivery, rejection: Rejection) -> None:
        """Send it again later if the rejection calls for that and it is still wanted; else report it."""
        wanted = not self._closed and delivery.outcomes.ended is None
        if not wanted or not self._backlog.postpone(delivery, rejection):
            self._reject(delivery, rejection)
        elif self.metrics is not None:
            self.metrics.retried(rejection.reason)

    def _reject(self, delivery: Delivery, rejection: Rejection) -> None:
        """Report a final rejection."""
        if self.metrics is not None:
            self.metrics.rejected(rejection.status, rejection.reason, self.clock.seconds() - delivery.taken_at)
        delivery.outcomes.rejected(delivery, rejection)

    # The deadline for what waits.

    def _watch(self) -> None:
        self.used = self.clock.seconds()
        self._admission.admit()
        self._patience.watch(self._backlog.available)

    def _may_wait_longer(self) -> bool:
        # What is in flight has deadlines of its own, and makes room when they are over. During a back-off, a connection
        # is tried first.
        return bool(self.in_flight) or ("waiting" in self.states and not self._patience.tried)

    def _lose_patience(self) -> None:
        said = self.trouble or f" (connections: {', '.join(self.states)})"
        self.give_up(ConnectFailed(f"{self._gateway} took nothing for {self.options.timeout:g} s{said}"))


def _guarded(metrics: IMetrics) -> IMetrics:
    """Wrap metrics so that they raise nothing: counting must not cost a notification."""

    def guard(method: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: Any) -> None:
            try:
                method(*arguments)
            except Exception:
                _log.failure("the metrics of notifications failed")

        return guarded

    return cast(IMetrics, SimpleNamespace(**{name: guard(getattr(metrics, name)) for name in IMetrics.names()}))
