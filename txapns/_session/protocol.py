"""
What the two protocols have in common: how a session begins, pauses, drains and ends.

A session is the protocol object of one connection. Its life, which :mod:`txapns._session.connection` follows from
outside::

    TCP connected ─► TLS handshake ─► ready ─► draining ─► lost
                          │              └───────────────────▲
                          └──────────────────────────────────┘

It pauses when the transport does: the transport's buffers full, :meth:`GatewayProtocol.room` is nothing, and whoever
feeds the session stops pulling notifications from their source. Every end has a deadline.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network import tls
from txapns._network.clocks import timers, wall_clock
from txapns._network.tcp import closing
from txapns.credentials import Credential
from txapns.delivery import Delivery
from txapns.errors import AnswerTimeout, APNSError, ConnectFailed, ConnectionLost, StreamRefused
from txapns.interfaces import IGatewayProtocol, IProtocolListener
from txapns.result import Rejection

__all__ = ["GatewayProtocol", "ProtocolListener"]

_log = Logger()

#: How often a notification is offered again after the peer refused it unprocessed, before it is reported unsent.
MAX_REFUSALS = 10

#: How long an orderly close may take before the connection is cut, in seconds.
CLOSE_TIMEOUT = 5.0


@implementer(IGatewayProtocol, IPushProducer, IHandshakeListener)
class GatewayProtocol(Protocol, ABC):
    """
    The common part of :class:`~txapns._session.http2.ProviderAPIProtocol` and
    :class:`~txapns._session.binary.EnhancedNotificationProtocol`.

    :param events: who is told how the session fares.
    :param clock: the reactor, or a ``Clock``.
    :param timeout: how long an answer may take, in seconds.
    :param credential: what authenticates the connection.
    """

    #: The application protocol that TLS has to agree on; ``None`` for none.
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
        self._unread: IDelayedCall | None = None
        self._closing: IDelayedCall | None = None

    @property
    def proved(self) -> bool:
        """Whether it has done what it is for, at least once."""
        return self.answered > 0

    # What the protocols add.

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many deliveries are neither settled nor handed back."""

    @abstractmethod
    def started(self) -> None:
        """The handshake is over."""

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Take in what the server says."""

    @abstractmethod
    def room(self) -> tuple[int, int]:
        """How many deliveries, and how many octets of payload, it would take now."""

    @abstractmethod
    def deliver(self, deliveries: list[Delivery]) -> None:
        """Send these, in order."""

    def flush(self) -> None:
        """Nothing more is waiting. Most sessions learn their outcomes without being asked."""

    def goodbye(self) -> None:
        """Say the last word before an orderly close, where the protocol has one."""

    @abstractmethod
    def ended(self, error: APNSError) -> list[Delivery]:
        """
        The connection is gone: settle what was under way.

        :param error: why.
        :returns: what was provably not processed.
        """

    # IProtocol and IHandshakeListener

    def connectionMade(self) -> None:
        """Small frames are to leave at once, and a dead peer is to be noticed."""
        transport = self.transport
        assert transport is not None
        transport.setTcpNoDelay(True)  # type: ignore[attr-defined]
        transport.setTcpKeepAlive(True)  # type: ignore[attr-defined]
        transport.registerProducer(self, True)  # type: ignore[attr-defined]

    def fenced(self, work: Callable[..., None], *arguments: object) -> None:
        """
        Do what the server, or a timer, makes us do. Whatever that raises is the end of this connection alone.

        :param work: what to do.
        :param arguments: its arguments.
        """
        try:
            work(*arguments)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
            peer = self.transport and self.transport.getPeer()
            _log.error("{peer}: the connection was cut after a failure in it: {words}", peer=peer, words=words)
            if not self._lost:
                self.abort(ConnectionLost(f"there was a failure in the connection: {words}"))

    def later(self, delay: float, work: Callable[..., None], *arguments: object) -> IDelayedCall:
        """
        Do something later, fenced.

        :param delay: after how many seconds.
        :param work: what to do.
        :param arguments: its arguments.
        :returns: the call.
        """
        return self._clock.callLater(delay, self.fenced, work, *arguments)

    def dataReceived(self, data: bytes) -> None:
        """Take in what the server says."""
        self.fenced(self.received, data)

    def handshakeCompleted(self) -> None:
        """Begin, if the server agreed to speak our protocol."""
        chosen = getattr(self.transport, "negotiatedProtocol", None)
        if self.application_protocol is not None and chosen != self.application_protocol:
            name = self.application_protocol.decode()
            self.abort(ConnectFailed(f"the server did not agree to speak {name}; is this an APNs gateway?"))
            return
        self.fenced(self.started)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Settle what was under way, hand back what was not processed, and report the end, in this order."""
        # That an idle connection is closed is what became of it, and no failure.
        orderly = not self.in_flight and (self._draining or (self.proved and bool(reason.check(ConnectionDone))))
        error = self._error or self._explain(reason)
        self._ready, self._draining, self._lost = False, True, True
        self._stop_waiting()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        self.fenced(lambda: self.hand_back(self.ended(error)))
        self._events.protocol_lost(self, None if orderly and self._error is None else error)

    def _explain(self, reason: Failure) -> APNSError:
        if reason.check(ConnectionDone):
            return ConnectionLost("the server closed the connection without a word")
        error = tls.explain(reason, self._credential)
        if self._ready and isinstance(error, ConnectFailed):
            # It was made, and used: what was under way may have been processed.
            return ConnectionLost(f"the connection broke: {error}")
        return error

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport's buffers are full: the server reads more slowly than we write. It has ``timeout`` to go on."""
        self._paused = True
        if self._unread is None and not self._lost:
            error = AnswerTimeout(f"the gateway has not read for {self._timeout:g} s")
            self._unread = self.later(self._timeout, self._not_read, error)

    def resumeProducing(self) -> None:
        """The transport's buffers are empty again."""
        self.fenced(self.resumed)

    def resumed(self) -> None:
        """Go on writing."""
        self._paused = False
        self._stop_waiting()
        if closing(self.transport):  # the server closed meanwhile, and we would be filling a connection that is no more
            self.abort(ConnectionLost("the server closed the connection without a word"))
        elif self._ready:
            self._events.protocol_room(self)

    def _not_read(self, error: AnswerTimeout) -> None:
        self._unread = None
        self.abort(error)

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def stopProducing(self) -> None:
        """The transport is going away; ``connectionLost`` follows."""

    # IGatewayProtocol

    def close(self) -> None:
        """Take nothing more, let what is under way be answered, then close."""
        self.drain(None)
        self.flush()

    def abort(self, error: APNSError) -> None:
        """
        End the connection at once.

        :param error: why, for what was under way.
        """
        if self._error is None:
            self._error = error
        self._ready, self._draining = False, True
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    # For the protocols.

    def become_ready(self) -> None:
        """Deliveries may come."""
        self._ready = True
        self._events.protocol_ready(self)

    def prove(self, answers: int = 1) -> None:
        """
        The session did what it is for.

        :param answers: how often.
        """
        first = not self.proved
        self.answered += answers
        if first:
            self._events.protocol_proved(self)

    def drain(self, error: APNSError | None) -> None:
        """
        Take nothing more, and close as soon as nothing is under way.

        :param error: what the peer said; ``None`` where it is our own wish.
        """
        if not self._draining:
            self._draining = True
            self._events.protocol_draining(self, error)
        self.close_if_drained()

    def close_if_drained(self) -> None:
        """Close in good order once a draining session has nothing under way."""
        if self._draining and not self._lost and self._closing is None and not self.in_flight:
            assert self.transport is not None
            self._closing = self.later(CLOSE_TIMEOUT, self._cut)
            self.goodbye()
            self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self.transport.loseConnection()

    def _cut(self) -> None:
        self._closing = None
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def hand_back(self, deliveries: list[Delivery]) -> None:
        """
        Have these sent elsewhere, unless they were refused too often.

        :param deliveries: what the peer did not process.
        """
        again: list[Delivery] = []
        for delivery in deliveries:
            delivery.refusals += 1
            if delivery.refusals > MAX_REFUSALS:
                error = StreamRefused(f"the gateway refused it unprocessed {delivery.refusals} times")
                delivery.outcomes.unsent(delivery, error)
            else:
                again.append(delivery)
        if again:
            self._events.protocol_returned(self, again)


@implementer(IProtocolListener)
class ProtocolListener:
    """
    What a session tells a program that uses it by itself, without a pool behind it.

    Override what is of interest. What the peer did not process, and a pool would send over another connection, is
    reported unsent.
    """

    def protocol_ready(self, session: IGatewayProtocol) -> None:
        """
        It can be used.

        :param session: the protocol object.
        """

    def protocol_proved(self, session: IGatewayProtocol) -> None:
        """
        Something was answered, or settled.

        :param session: the protocol object.
        """

    def protocol_room(self, session: IGatewayProtocol) -> None:
        """
        It may have room again.

        :param session: the protocol object.
        """

    def protocol_returned(self, session: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """
        The peer did not process these.

        :param session: the protocol object.
        :param deliveries: the deliveries, in order.
        """
        error = StreamRefused("the gateway did not process it; it can be sent again over another connection")
        for delivery in deliveries:
            delivery.outcomes.unsent(delivery, error)

    def protocol_rejected(self, session: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """
        APNs rejected a notification. It is reported at once, also where it could be sent again later.

        :param session: the protocol object.
        :param delivery: the delivery.
        :param rejection: what APNs said.
        """
        delivery.outcomes.rejected(delivery, rejection)

    def protocol_draining(self, session: IGatewayProtocol, error: APNSError | None) -> None:
        """
        It takes nothing more.

        :param session: the protocol object.
        :param error: why; ``None`` where it was our own wish.
        """

    def protocol_lost(self, session: IGatewayProtocol, error: APNSError | None) -> None:
        """
        It is over, and each delivery has its outcome.

        :param session: the protocol object.
        :param error: why; ``None`` for an orderly end.
        """
