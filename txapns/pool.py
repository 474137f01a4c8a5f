"""
The work of one client, and the connections that take it.

The pool pulls. Whenever a connection may have room (it became ready, answers came, its buffers emptied) the pool
takes as many deliveries as fit from where they wait and hands them down, so nothing is asked of the caller's iterables
before there is room for it. What came back unprocessed goes first; batches take turns.

The connections are filled one after the other, so where one is enough the others are idle, and close. Another is opened
when work waits and none has room for it: one at a time, and where the last attempt of one failed, no other is tried
before its time has come. So however many there may be, a gateway that is in trouble sees the attempts of one.

Work that waits has a deadline, too: when nothing at all could be handed to a connection for ``timeout`` seconds,
everything waiting is reported unsent; but not before a connection was tried at least once, which the back-off may put
off by a minute. When the gateway refuses the credential, is not who it should be, or takes notifications and answers
none of them, that happens at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import partial

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from txapns.backoff import Backoff
from txapns.connection import Connection
from txapns.credentials import Credential
from txapns.delivery import Delivery
from txapns.errors import AnswerTimeout, APNSError, ClientClosed, ConnectFailed
from txapns.gateway import Gateway
from txapns.interfaces import IConnectionEvents, IWork

__all__ = ["Pool"]


@implementer(IConnectionEvents)
class Pool:
    """
    What waits to be sent to one gateway with one credential, and the connections it goes to.

    :param reactor: the reactor.
    :param gateway: where to send.
    :param credential: what to authenticate with.
    :param timeout: how long connecting, each answer, and waiting without any progress may take, in seconds.
    :param idle_timeout: after how many seconds without work a connection is closed; ``None`` for never.
    :param max_connections: how many connections there may be.
    :raises CredentialError: the gateway's protocol has no use for this credential.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        gateway: Gateway,
        credential: Credential,
        timeout: float,
        idle_timeout: float | None,
        max_connections: int = 1,
    ) -> None:
        self.last_error: APNSError | None = None
        self.timeout = timeout
        self._clock = reactor
        self._gateway = gateway
        self._stay = idle_timeout is None
        self._max_connections = max_connections
        endpoint, backoff = gateway.endpoint(reactor, credential, timeout), Backoff()
        self._connect = partial(
            Connection, reactor, gateway, endpoint, credential, self, timeout, idle_timeout, backoff
        )
        self._connections = [self._connect()]
        self._closed = False
        # In the order in which they go out. One can be taken out of the middle: cancelling ten thousand that wait must
        # not take ten thousand times ten thousand steps.
        self._deliveries: OrderedDict[Delivery, None] = OrderedDict()
        self._works: deque[IWork] = deque()
        self._feeding = False
        self._again = False
        self._soon: IDelayedCall | None = None
        self._progress = 0.0
        self._tried = False
        self._patience: IDelayedCall | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Each connection's state."""
        return tuple(connection.state for connection in self._connections)

    @property
    def in_flight(self) -> int:
        """How many deliveries are with a connection."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def queued(self) -> int:
        """How many deliveries wait; what batches have not pulled from their iterables does not count."""
        return len(self._deliveries)

    @property
    def busy(self) -> bool:
        """Whether something is under way, waits, or may come from a batch."""
        return bool(self._deliveries or self._works or self.in_flight)

    @property
    def waiting(self) -> bool:
        """Whether there is something to hand to a connection now."""
        return bool(self._deliveries) or any(work.available for work in self._works)

    def submit(self, delivery: Delivery) -> None:
        """
        Send a single delivery, after those that wait already.

        :param delivery: the delivery.
        """
        if self._closed:
            delivery.outcomes.unsent(delivery, ClientClosed("the client was closed before it was asked"))
        else:
            self._deliveries[delivery] = None
            self.feed()

    def take_back(self, delivery: Delivery) -> None:
        """
        Do not send a single delivery, if it is not sent yet.

        :param delivery: the delivery, which is nobody's any more.
        """
        if self._deliveries.pop(delivery, delivery) is None:
            self._watch()

    def add(self, work: IWork) -> None:
        """
        Send what a batch has to offer.

        :param work: where to take deliveries from.
        """
        if self._closed:
            work.give_up(ClientClosed("the client was closed before it was asked"))
        else:
            self._works.append(work)
            self.feed()

    def withdraw(self, sending: object, error: APNSError) -> None:
        """
        Take nothing more from a batch, and report what still waits of it as unsent.

        :param sending: the batch.
        :param error: why.
        """
        withdrawn = [delivery for delivery in self._deliveries if delivery.outcomes is sending]
        for delivery in withdrawn:
            del self._deliveries[delivery]
        self._works = deque(work for work in self._works if work is not sending)
        for delivery in withdrawn:
            delivery.outcomes.unsent(delivery, error)
        self.feed()

    def give_up(self, error: APNSError) -> Deferred[list[None]]:
        """
        Report everything that waits as unsent.

        :param error: why.
        :returns: a ``Deferred`` that fires when all the batches have ended.
        """
        deliveries, self._deliveries = self._deliveries, OrderedDict()
        works, self._works = self._works, deque()
        for delivery in deliveries:
            delivery.outcomes.unsent(delivery, error)
        ended = gatherResults([work.give_up(error) for work in works])
        self._watch()
        return ended

    def close(self, error: APNSError) -> Deferred[None]:
        """
        Give up what waits, let what is under way be answered, and close.

        :param error: what to tell of what waits.
        :returns: a ``Deferred`` that fires when the connections are closed and all the batches have ended.
        """
        self._closed = True
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
        if self.waiting and self._soon is None:
            self._open_another()
        elif self._stay and not any(connection.active for connection in self._connections):
            self._connections[0].open()
        if not self.waiting:
            for connection in self._connections:
                connection.flush()

    def _fill(self, connection: Connection) -> None:
        """Hand to a connection as much as it has room for."""
        while True:
            count, octets = connection.room()
            if count <= 0 or octets <= 0:
                return
            deliveries = self._take(count, octets)
            if not deliveries:
                if self.waiting and self._soon is None:  # malformed tokens only, so far: there may be very many
                    self._soon = self._clock.callLater(0, self._feed_soon)
                return
            self._progress = self._clock.seconds()
            connection.deliver(deliveries)

    def _open_another(self) -> None:
        """There is work for which no connection has room."""
        states = self.states
        if self._closed or "connecting" in states or "starting" in states:
            return
        waiting = "waiting" in states
        for connection in self._connections:
            # After a failure the one that failed tries again, when its time has come, and no other.
            if connection.state == "idle" and (connection.rested or not waiting):
                connection.open()
                return
        if not waiting and len(self._connections) < self._max_connections:
            self._connections.append(self._connect())
            self._connections[-1].open()

    def _feed_soon(self) -> None:
        self._soon = None
        self.feed()

    def _take(self, count: int, octets: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._deliveries and len(taken) < count and octets > 0:
            delivery, _ = self._deliveries.popitem(last=False)
            ended = delivery.outcomes.ended
            if ended is None:
                octets -= len(delivery.notification.body)
                taken.append(delivery)
            else:  # cancelled after it had come back
                delivery.outcomes.unsent(delivery, ended)
        for _ in range(len(self._works)):
            # Taking may complete a batch, and whoever is told may close the client, so that nothing is left.
            if len(taken) >= count or octets <= 0 or not self._works:
                break
            work = self._works[0]
            more = work.take(count - len(taken), octets)
            taken.extend(more)
            if len(self._works) > 1:
                octets -= sum(len(delivery.notification.body) for delivery in more)
            if self._works and self._works[0] is work:
                self._works.rotate(-1)
                if work.exhausted:
                    self._works.pop()
        return taken

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
            self.give_up(error)

    def deliveries_returned(self, deliveries: list[Delivery]) -> None:
        """They go first, in their order, but for those that nobody wants sent any more."""
        stopped = ClientClosed("the client was closed before it was processed") if self._closed else None
        for delivery in reversed(deliveries):
            error = stopped or delivery.outcomes.ended
            if error is None:
                self._deliveries[delivery] = None
                self._deliveries.move_to_end(delivery, last=False)
            else:
                delivery.outcomes.unsent(delivery, error)
        self.feed()

    # The deadline for what waits.

    def _watch(self) -> None:
        if self._patience is None and self.waiting:
            self._progress = self._clock.seconds()
            self._tried = False
            self._patience = self._clock.callLater(self.timeout, self._lose_patience)
        elif self._patience is not None and not self.waiting:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        left = self._progress + self.timeout - self._clock.seconds()
        if left <= 0 and self.in_flight:
            left = self.timeout  # what is under way has deadlines of its own, and makes room when they are over
        elif left <= 0 and "waiting" in self.states and not self._tried:
            left = self.timeout
        if left > 0:
            self._patience = self._clock.callLater(left, self._lose_patience)
        else:
            said = (
                f": {self.last_error}" if self.last_error is not None else f" (connections: {', '.join(self.states)})"
            )
            self.give_up(ConnectFailed(f"{self._gateway} took nothing for {self.timeout:g} s{said}"))
