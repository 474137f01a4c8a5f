"""
What the two protocols have in common: how they begin, pause, drain and end.

There is one protocol object for each connection. Its life, which :mod:`txapns._session.connection` follows from
outside::

    TCP connected ─► TLS handshake ─► ready ─► draining ─► lost
                          │              └───────────────────▲
                          └──────────────────────────────────┘

It pauses when the transport does: while the transport's buffers are full, :meth:`GatewayProtocol.room` is zero, so the
pool stops pulling notifications from their source. Every end has a deadline.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network import tls
from txapns._network.alarm import Alarm
from txapns._network.clocks import timers, wall_clock
from txapns._network.tcp import closing
from txapns._network.transports import transport_of
from txapns.credentials import Credential
from txapns.delivery import Delivery, DeliveryListener
from txapns.errors import AnswerTimeout, APNSError, ConnectFailed, ConnectionLost, StreamRefused
from txapns.interfaces import IGatewayProtocol, IProtocolListener
from txapns.result import Rejection

__all__ = ["GatewayProtocol", "ProtocolListener"]

_log = Logger()

#: How often a notification is sent again after a server returned it unprocessed, before it is reported unsent.
MAX_RETURNS = 10

#: How long an orderly close may take before the connection is aborted, in seconds.
CLOSE_TIMEOUT = 5.0


@implementer(IGatewayProtocol, IPushProducer, IHandshakeListener)
class GatewayProtocol(Protocol, ABC):
    """
    The common part of :class:`~txapns._session.http2.ProviderAPIProtocol` and
    :class:`~txapns._session.binary.EnhancedNotificationProtocol`.

    :param events: receives what happens to the protocol.
    :param clock: the reactor, or a ``Clock``.
    :param timeout: how long an answer may take, in seconds.
    """

    #: The application protocol that TLS must negotiate; ``None`` for none.
    application_protocol: bytes | None = None

    def __init__(
        self, events: IProtocolListener, clock: IReactorTime, timeout: float, credential: Credential | None
    ) -> None:
        self._credential = credential
        self._events = events
        self._clock = timers(clock)
        self._wall = wall_clock(clock)
        self._timeout = timeout
        self._paused = False
        self._ready = False
        self._draining = False
        self.answered = 0
        self._lost = False
        self._error: APNSError | None = None
        self._unread = self.alarm(self._not_read)
        self._closing = self.alarm(lambda: transport_of(self).abortConnection())

    @property
    def proved(self) -> bool:
        """Whether a notification was accepted or rejected, so that the connection is known to work."""
        return self.answered > 0

    # What each protocol adds.

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many deliveries are neither settled nor handed back."""

    @abstractmethod
    def started(self) -> None:
        """The handshake is over."""

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Process what the server sends."""

    @abstractmethod
    def room(self) -> tuple[int, int]:
        """How many deliveries, and how many bytes of payload, it would take now."""

    @abstractmethod
    def deliver(self, deliveries: list[Delivery]) -> None:
        """Send these, in order."""

    @abstractmethod
    def in_flight_of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the deliveries in flight whose outcomes are received there."""

    def flush(self) -> None:
        """Nothing more is waiting. By default there is nothing to do: the outcomes come by themselves."""

    def goodbye(self) -> None:
        """Write the last message before an orderly close, if the protocol has one."""

    @abstractmethod
    def ended(self, error: APNSError) -> list[Delivery]:
        """The connection has ended: settle what was in flight."""

    # IProtocol and IHandshakeListener

    def connectionMade(self) -> None:
        """Send small frames at once; detect a dead peer."""
        transport = transport_of(self)
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)

    def fenced(self, work: Callable[..., None], *arguments: object) -> None:
        """Run what the server or a timer triggers. An exception ends this connection and nothing else."""
        try:
            work(*arguments)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
            peer = self.transport and self.transport.getPeer()
            _log.error("{peer}: the connection was aborted after an internal error: {reason}", peer=peer, reason=words)
            if not self._lost:
                self.abort(ConnectionLost(f"internal error in the connection: {words}"))

    def later(self, delay: float, work: Callable[..., None], *arguments: object) -> IDelayedCall:
        """Call a function after some seconds, :meth:`fenced`."""
        return self._clock.callLater(delay, self.fenced, work, *arguments)

    def alarm(self, work: Callable[[], None]) -> Alarm:
        """Make an alarm that calls a function, :meth:`fenced`."""
        return Alarm(self._clock, partial(self.fenced, work))

    def dataReceived(self, data: bytes) -> None:
        """Process what the server sends."""
        self.fenced(self.received, data)

    def handshakeCompleted(self) -> None:
        """Begin, if the server agreed to our protocol."""
        chosen = getattr(self.transport, "negotiatedProtocol", None)
        if self.application_protocol is not None and chosen != self.application_protocol:
            name = self.application_protocol.decode()
            self.abort(ConnectFailed(f"the server did not agree to speak {name}; is this an APNs gateway?"))
            return
        self.fenced(self.started)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Settle what was in flight, hand back what was not processed, and report the end, in this order."""
        # It is not a failure when the server closes an idle connection.
        orderly = not self.in_flight and (self._draining or (self.proved and bool(reason.check(ConnectionDone))))
        error = self._error or self._explain(reason)
        self._ready, self._draining, self._lost = False, True, True
        self._unread.cancel()
        self._closing.cancel()
        self.fenced(lambda: self.hand_back(self.ended(error)))
        self._events.protocol_lost(self, None if orderly and self._error is None else error)

    def _explain(self, reason: Failure) -> APNSError:
        if reason.check(ConnectionDone):
            return ConnectionLost("the server closed the connection without a word")
        error = tls.explain(reason, self._credential)
        if self._ready and isinstance(error, ConnectFailed):
            # The connection was in use: what was in flight may have been processed.
            return ConnectionLost(f"the connection broke: {error}")
        return error

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport's buffers are full: the server reads more slowly than we write. It has a deadline."""
        self._paused = True
        if not self._lost:
            self._unread.set(self._timeout)

    def resumeProducing(self) -> None:
        """The transport's buffers are empty again."""
        self.fenced(self.resumed)

    def resumed(self) -> None:
        """Go on writing."""
        self._paused = False
        self._unread.cancel()
        if closing(self.transport):  # the server closed meanwhile; what we write would be dropped
            self.abort(ConnectionLost("the server closed the connection without a word"))
        elif self._ready:
            self._events.protocol_room(self)

    def _not_read(self) -> None:
        self.abort(AnswerTimeout(f"the gateway read nothing for {self._timeout:g} s"))

    def stopProducing(self) -> None:
        """The transport is going away; ``connectionLost`` follows."""

    # IGatewayProtocol

    def close(self) -> None:
        """Take nothing more, wait for the answers to what is in flight, then close."""
        self.drain(None)
        self.flush()

    def abort(self, error: APNSError) -> None:
        """End the connection at once."""
        if self._error is None:
            self._error = error
        self._ready, self._draining = False, True
        transport_of(self).abortConnection()

    # Shared by the protocols.

    def become_ready(self) -> None:
        """Report that deliveries may come."""
        self._ready = True
        self._events.protocol_ready(self)

    def prove(self, answers: int = 1) -> None:
        """Notifications were accepted or rejected."""
        first = not self.proved
        self.answered += answers
        if first:
            self._events.protocol_proved(self)

    def drain(self, error: APNSError | None) -> None:
        """Take nothing more, and close when nothing is in flight; without an error, because we wish it."""
        if not self._draining:
            self._draining = True
            self._events.protocol_draining(self, error)
        self.close_if_drained()

    def close_if_drained(self) -> None:
        """Close in an orderly way once a draining protocol has nothing in flight."""
        if self._draining and not self._lost and not self._closing.is_set and not self.in_flight:
            self._closing.set(CLOSE_TIMEOUT)
            self.goodbye()
            transport = transport_of(self)
            transport.unregisterProducer()
            transport.loseConnection()

    def hand_back(self, deliveries: list[Delivery]) -> None:
        """Return these to be sent over another connection, unless that has happened too often."""
        again: list[Delivery] = []
        for delivery in deliveries:
            delivery.returns += 1
            if delivery.returns > MAX_RETURNS:
                error = StreamRefused(f"the gateway returned it unprocessed {delivery.returns} times")
                delivery.outcomes.unsent(delivery, error)
            else:
                again.append(delivery)
        if again:
            self._events.protocol_returned(self, again)


@implementer(IProtocolListener)
class ProtocolListener:
    """
    A listener for programs that use a protocol by itself, without a pool behind it.

    Override what you need. What the server did not process, and a pool would send over another connection, is reported
    unsent.
    """

    def protocol_ready(self, protocol: IGatewayProtocol) -> None:
        """The protocol can be used."""

    def protocol_proved(self, protocol: IGatewayProtocol) -> None:
        """A notification was accepted or rejected for the first time."""

    def protocol_round(self, protocol: IGatewayProtocol, settle: Callable[[], None]) -> None:
        """Several deliveries are settled at once."""
        settle()

    def protocol_room(self, protocol: IGatewayProtocol) -> None:
        """It may have room again."""

    def protocol_returned(self, protocol: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """The server did not process these."""
        error = StreamRefused("the gateway did not process it; it can be sent again over another connection")
        for delivery in deliveries:
            delivery.outcomes.unsent(delivery, error)

    def protocol_rejected(self, protocol: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """APNs rejected a notification. It is reported at once, even if it could be sent again later."""
        delivery.outcomes.rejected(delivery, rejection)

    def protocol_draining(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It takes nothing more; without an error, because we wish it."""

    def protocol_lost(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It has ended, without an error in an orderly way, and each delivery has its outcome."""
