"""
The work of one client, and the connections that take it.

The pool pulls. Whenever a connection may have room (it became ready, answers came, its buffers emptied) the pool takes
as many deliveries as fit out of the :class:`~txapns._session.backlog.Backlog` and hands them down, so nothing is asked
of the caller's iterables before there is room for it. What came back unprocessed goes first; batches take turns.

The connections are filled one after the other, so where one is enough the others are idle, and close. Another is opened
when work waits and none has room for it, for want of streams or of window: one at a time, and where the last attempt of
one failed, no other is tried before its time has come. So however many there may be, a gateway that is in trouble sees
the attempts of one.

Work that waits has a deadline, too: when nothing at all could be handed to a connection for ``timeout`` seconds,
everything waiting is reported unsent; but not before a connection was tried at least once, which the back-off may put
off by a minute. When the gateway refuses the credential, is not who it should be, or takes notifications and answers
none of them, that happens at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from txapns._network.backoff import Backoff
from txapns._session.backlog import Backlog
from txapns._session.connection import Connection
from txapns.credentials import Credential
from txapns.delivery import Delivery
from txapns.errors import AnswerTimeout, APNSError, ClientClosed, ConnectFailed, QueueFull
from txapns.gateway import Gateway
from txapns.interfaces import IConnectionEvents, IMetrics, IWork
from txapns.options import Options
from txapns.result import Rejection

__all__ = ["Pool"]

_log = Logger()


@implementer(IConnectionEvents)
class Pool:
    """
    What waits to be sent to one gateway with one credential, and the connections it goes to.

    :param reactor: the reactor.
    :param gateway: where to send.
    :param credential: what to authenticate with.
    :param options: how many connections there may be, and how patient it is.
    :param metrics: who counts; ``None`` for nobody.
    :raises CredentialError: the gateway's protocol has no use for this credential.

    :ivar options: the same.
    :ivar metrics: the same, but whatever it raises ends in the log.
    :ivar clock: the reactor.
    :ivar last_error: the last trouble with a connection; ``None`` if there was none.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        gateway: Gateway,
        credential: Credential,
        options: Options,
        metrics: IMetrics | None = None,
    ) -> None:
        self.last_error: APNSError | None = None
        self.options = options
        self.metrics = None if metrics is None else _guarded(metrics)
        self.clock = reactor
        self._gateway = gateway
        self._backlog = Backlog(reactor, options.retries, self.feed, self._reject)
        endpoint, backoff = gateway.endpoint(reactor, credential, options.timeout), Backoff()
        self._connect = partial(Connection, reactor, gateway, endpoint, credential, self, options, backoff)
        # Those that stay, even without work. Where no connection is closed for being idle, the first is kept as well.
        self._lasting = options.min_connections or int(options.idle_timeout is None)
        self._connections: list[Connection] = []
        self._add_connection()
        self._closed = False
        self._feeding = False
        self._again = False
        self._soon: IDelayedCall | None = None
        self._progress = 0.0
        self._tried = False
        self._patience: IDelayedCall | None = None
        self._until_ready: OrderedDict[Deferred[None], None] = OrderedDict()  # any may be cancelled, as in the backlog
        self._telling = False
        self._refused = False
        if options.min_connections:
            self._soon = reactor.callLater(0, self._feed_soon)

    def _add_connection(self) -> Connection:
        self._connections.append(self._connect(lasting=len(self._connections) < self._lasting))
        return self._connections[-1]

    @property
    def states(self) -> tuple[str, ...]:
        """Each connection's state."""
        return tuple(connection.state for connection in self._connections)

    @property
    def trouble(self) -> str:
        """What keeps notifications from being sent, for the end of a sentence; ``""`` where that is not known."""
        return "" if self.last_error is None or "ready" in self.states else f": {self.last_error}"

    @property
    def in_flight(self) -> int:
        """How many deliveries are with a connection."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def queued(self) -> int:
        """How many deliveries wait; what batches have not pulled from their iterables does not count."""
        return len(self._backlog)

    @property
    def busy(self) -> bool:
        """Whether something is under way, waits, or may come from a batch."""
        return bool(self._backlog or self.in_flight)

    def submit(self, delivery: Delivery) -> None:
        """
        Send a single delivery, after those that wait already.

        :param delivery: the delivery.
        :raises QueueFull: as many wait as may.
        """
        if self._closed:
            delivery.outcomes.unsent(delivery, ClientClosed("the client was closed before it was asked"))
            return
        if self._full:
            most = self.options.max_queued
            raise QueueFull(f"{most} notifications wait to be sent already; wait for client.when_ready()")
        self._refused = False
        self._backlog.append(delivery)
        self.feed()

    @property
    def _full(self) -> bool:
        return len(self._backlog) >= self.options.max_queued

    def when_ready(self) -> Deferred[None]:
        """
        Wait until :meth:`submit` would not raise.

        :returns: a ``Deferred`` that fires when there is room, or the pool is closed.
        """
        ready: Deferred[None] = Deferred(self._until_ready.pop)
        self._until_ready[ready] = None
        self._tell_ready()
        return ready

    def _tell_ready(self) -> None:
        """One after the other, since each may fill the place there is."""
        if self._telling:
            return  # one of them sends: the loop below will see to the next
        self._telling = True
        while self._until_ready and (self._closed or not self._full):
            ready, _ = self._until_ready.popitem(last=False)
            ready.callback(None)
        self._telling = False

    def take_back(self, delivery: Delivery) -> None:
        """
        Do not send a single delivery, if it is not sent yet.

        :param delivery: the delivery, which is nobody's any more.
        """
        if self._backlog.remove(delivery) and self.metrics is not None and delivery.taken_at >= 0:
            self.metrics.unanswered(False)
        self._watch()

    def add(self, work: IWork) -> None:
        """
        Send what a batch has to offer.

        :param work: where to take deliveries from.
        """
        if self._closed:
            work.give_up(ClientClosed("the client was closed before it was asked"))
        else:
            self._refused = False
            self._backlog.add(work)
            self.feed()

    def withdraw(self, sending: object, error: APNSError) -> None:
        """
        Take nothing more from a batch, and report what still waits of it.

        :param sending: the batch.
        :param error: why.
        """
        self._backlog.withdraw(sending, error)
        self.feed()

    def give_up(self, error: APNSError) -> Deferred[list[None]]:
        """
        Report everything that waits.

        :param error: why.
        :returns: a ``Deferred`` that fires when all the batches have ended.
        """
        ended = self._backlog.give_up(error)
        self._watch()
        return ended

    def close(self, error: APNSError) -> Deferred[None]:
        """
        Give up what waits, let what is under way be answered, and close.

        :param error: what to tell of what waits.
        :returns: a ``Deferred`` that fires when the connections are closed and all the batches have ended.
        """
        self._closed = True
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        gone = gatherResults([connection.stop() for connection in self._connections])
        ended = self.give_up(error)
        return ended.addCallback(lambda _: gone).addCallback(lambda _: None)

    def feed(self) -> None:
        """Hand to the connections what they have room for, and open another where there is need."""
        self._again = True
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._feeding:
            return  # an outcome made somebody send more: the loop below will see to it
        self._feeding = True
        try:
            while self._again:
                self._again = False
                self._feed()
        finally:
            self._feeding = False
        self._watch()

    def _feed(self) -> None:
        for connection in self._connections:
            self._fill(connection)
        if self._closed:
            return
        if self._backlog.available:
            if self._soon is None:
                self._open_another()
            return
        if not self._refused and sum(connection.active for connection in self._connections) < self._lasting:
            self._open_another()
        for connection in self._connections:
            connection.flush()

    def _fill(self, connection: Connection) -> None:
        """Hand to a connection as much as it has room for."""
        while True:
            count, octets = connection.room()
            if count <= 0 or octets <= 0:
                return
            deliveries = self._backlog.take(count, octets)
            if not deliveries:
                if self._backlog.available and self._soon is None:  # malformed tokens only, and there may be very many
                    self._soon = self.clock.callLater(0, self._feed_soon)
                return
            now = self._progress = self.clock.seconds()
            if self.metrics is not None:
                self._count(self.metrics, deliveries, now)
            connection.deliver(deliveries)

    def _count(self, metrics: IMetrics, deliveries: list[Delivery], now: float) -> None:
        """Tell how many of these go to a connection for the first time."""
        fresh = [delivery for delivery in deliveries if delivery.taken_at < 0]
        for delivery in fresh:
            delivery.taken_at = now
        if fresh:
            metrics.sent(len(fresh))

    def _open_another(self) -> None:
        """There is work for which no connection has room, or there are fewer connections than there have to be."""
        states = self.states
        if "connecting" in states or "starting" in states:
            return
        waiting = "waiting" in states
        for connection in self._connections:
            # After a failure the one that failed tries again, when its time has come, and no other.
            if connection.state == "idle" and (connection.rested or not waiting):
                connection.open()
                return
        if not waiting and len(self._connections) < self.options.max_connections:
            self._add_connection().open()

    def _feed_soon(self) -> None:
        self._soon = None
        self.feed()

    # IConnectionEvents

    def connection_changed(self) -> None:
        """There may be room."""
        self.feed()

    def connection_trouble(self, error: APNSError, hopeless: bool) -> None:
        """Remember what happened; where it would happen again, do not risk the rest of the work for it."""
        self.last_error = error
        self._tried = True
        if isinstance(error, AnswerTimeout) and "ready" in self.states:
            hopeless = False  # this one answers nobody, another may
        if hopeless:
            self._refused = True  # so none is kept open either, until there is work again
            self.give_up(error)

    def deliveries_returned(self, deliveries: list[Delivery]) -> None:
        """They go first, in their order, but for those that nobody wants sent any more."""
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
        if self._until_ready:
            self._tell_ready()
        waiting = self._backlog.available
        if self._patience is None and waiting:
            self._progress = self.clock.seconds()
            self._tried = False
            self._patience = self.clock.callLater(self.options.timeout, self._lose_patience)
        elif self._patience is not None and not waiting:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        timeout = self.options.timeout
        left = self._progress + timeout - self.clock.seconds()
        if left <= 0 and self.in_flight:
            left = timeout  # what is under way has deadlines of its own, and makes room when they are over
        elif left <= 0 and "waiting" in self.states and not self._tried:
            left = timeout
        if left > 0:
            self._patience = self.clock.callLater(left, self._lose_patience)
        else:
            said = self.trouble or f" (connections: {', '.join(self.states)})"
            self.give_up(ConnectFailed(f"{self._gateway} took nothing for {timeout:g} s{said}"))


def _guarded(metrics: IMetrics) -> IMetrics:
    """Make a listener that raises nothing: no notification is to be lost for being counted."""

    def guard(method: Callable[..., None]) -> Callable[..., None]:
        def told(*arguments: Any) -> None:
            try:
                method(*arguments)
            except Exception:
                _log.failure("what counts notifications failed")

        return told

    return cast(IMetrics, SimpleNamespace(**{name: guard(getattr(metrics, name)) for name in IMetrics.names()}))
