"""
The life of one connection: opened on demand, kept, closed when idle, opened again; after a failure, not before a delay.

::

                 open                opened                ready
        Idle ───────────► Connecting ──────► Starting ───────────► Ready
         ▲ ▲                  │ unopened        │ failed             │ │
         │ │ delay over       ▼                 ▼                    │ │
         │ └────────────── Waiting ◄────────────┴────── failed ──────┘ │
         └──────────────────────────────────────────────── finished ───┘

A protocol *finishes* when it ends because we wished it, or when it had proved itself and the server announced the end
without an error: the next may follow at once. It *fails* when it had proved nothing, or broke off: the next one waits,
since the cause may persist, and each connection that breaks off leaves notifications uncertain. A draining protocol
has already finished or failed in these terms; it still receives answers while the next one is opened.

Servers end each connection after a number of requests, nginx after 1,000, and a fast client gets there within
milliseconds. So a short life does not count against a protocol that received
:data:`~txapns._session.lifespan.ENOUGH` answers. Among those that were brief and received fewer, only the first is
followed at once, since a server may end each connection after a single answer. A server that announces the end while
it still owes answers counts as a failure, until its last answer has arrived and there turn out to be enough of them.

*Starting* lasts from the TCP connection until the protocol is ready. It has a deadline, so that we leave a server that
accepts the connection and then says nothing.

Each state is a value that holds what only this state has, and the connection holds the current one: there is no other
record of where it is. Automat, which Twisted's ``ClientService`` uses, was tried here. It does not tell which state it
is in, so the state had to be kept a second time beside it. It can be asked by an input that every state answers, but
it finds each transition by a linear search, 4 to 12 µs, and the pool asks several times for each read.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.backoff import Backoff
from txapns._network.endpoints import explain_attempt
from txapns._session.factory import APNSClientFactory
from txapns._session.lifespan import ENOUGH
from txapns._session.protocol import GatewayProtocol
from txapns._waiters import Waiters
from txapns.credentials import Credential
from txapns.delivery import Delivery, DeliveryListener
from txapns.errors import (
    AnswerTimeout,
    APNSError,
    ConnectionLost,
    CredentialRefused,
    GatewayShutdown,
    PeerNotVerified,
)
from txapns.gateway import Gateway
from txapns.interfaces import IConnectionEvents, IGatewayProtocol, IProtocolListener
from txapns.options import Options
from txapns.result import Rejection

__all__ = ["Connection"]

_log = Logger()

#: A protocol that lasted less than this is brief, in seconds, unless it received enough answers.
BRIEF = 1.0
#: After a protocol that lasted this long, in seconds, the delays start over, even if nothing was asked of it: however
#: often such protocols end, there are no more attempts than the longest delay would allow.
LONG = 60.0


@attrs.define(eq=False)
class _State:
    """
    One of the states in the drawing, or ``stopped``, with what only this one has.

    :ivar name: the state's name, in lower case.
    :ivar attempt: while it is connecting, what the endpoint has returned.
    :ivar protocol: while it is starting or ready, the protocol.
    :ivar timer: while it is starting, the deadline to become ready; while it is ready, what closes it when it is idle.
    """

    name: str
    attempt: Deferred[IProtocol] | None = None
    protocol: IGatewayProtocol | None = None
    timer: IDelayedCall | None = None


@implementer(IProtocolListener)
class Connection:
    """
    A connection to a gateway that comes and goes as needed.

    :param backoff: the delays between attempts, which several connections may share.
    :param lasting: whether it stays open when idle.
    :param topic: the topic of notifications without one.

    :ivar rested: whether its last attempt failed and the delay after that is over.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        gateway: Gateway,
        endpoint: IStreamClientEndpoint,
        credential: Credential,
        events: IConnectionEvents,
        options: Options,
        backoff: Backoff,
        lasting: bool,
        topic: str | None = None,
    ) -> None:
        self.gateway = gateway
        self.rested = False
        self._clock = reactor
        self._endpoint = endpoint
        self._events = events
        self._timeout = options.timeout
        self._name = options.name
        self._backoff = backoff
        self._idle_timeout = None if lasting else options.idle_timeout
        self._now = _State("idle")
        self._used = 0.0
        self._since = 0.0
        self._brief = False
        self._early: IGatewayProtocol | None = None
        self._leaving: set[IGatewayProtocol] = set()
        self._gone: Waiters[None] = Waiters()
        self._factory = APNSClientFactory(
            gateway,
            credential,
            self,
            reactor,
            options.timeout,
            backoff,
            ping_interval=options.ping_interval,
            topic=topic,
        )

    @property
    def state(self) -> str:
        """Its state: idle, connecting, starting, ready, waiting or stopped."""
        return self._now.name

    @property
    def in_flight(self) -> int:
        """How many deliveries are in flight."""
        return sum(protocol.in_flight for protocol in self._protocols)

    def in_flight_of(self, outcomes: DeliveryListener) -> list[Delivery]:
        """List the deliveries in flight whose outcomes are received there."""
        return [delivery for protocol in self._protocols for delivery in protocol.in_flight_of(outcomes)]

    @property
    def _protocols(self) -> set[IGatewayProtocol]:
        """The current protocol and those that drain: a copy, since metrics are collected by another thread."""
        protocol = self._now.protocol
        return set(self._leaving) if protocol is None else self._leaving | {protocol}

    @property
    def active(self) -> bool:
        """Whether it has a protocol, is about to have one, or waits for a delay to end."""
        return self._now.name not in ("idle", "stopped")

    def open(self) -> None:
        """Connect, if it is idle. In any other state it already is on its way, or must not."""
        self.rested = False
        if self.state == "idle":
            attempt = self._endpoint.connect(self._factory)
            self._now = _State("connecting", attempt=attempt)
            attempt.addCallbacks(self._opened, self._unopened)

    def room(self) -> tuple[int, int]:
        """How many deliveries, and how many bytes of payload, it would take now."""
        protocol = self._now.protocol
        return (0, 0) if protocol is None else protocol.room()

    def deliver(self, deliveries: list[Delivery]) -> None:
        """
        Send these.

        :param deliveries: at most as many as there is room for.
        """
        protocol = self._now.protocol
        if protocol is None:  # an iterable closed the client while it yielded, or a callback did when a batch ended
            self._events.deliveries_returned(deliveries)
            return
        self._used = self._clock.seconds()
        protocol.deliver(deliveries)

    def flush(self) -> None:
        """Nothing more is waiting."""
        if self._now.protocol is not None:
            self._now.protocol.flush()

    def stop(self) -> Deferred[None]:
        """
        Let what is in flight be answered, close, and never open again.

        :returns: a ``Deferred`` that fires when no protocol is left.
        """
        left = self._now
        if left.protocol is not None:
            self._leaving.add(left.protocol)
        self._enter(_State("stopped"))
        self._factory.stopTrying()  # type: ignore[no-untyped-call]
        if left.attempt is not None:
            left.attempt.cancel()
        if left.protocol is not None:
            left.protocol.close()
        gone = self._gone.wait()
        self._check_gone()
        return gone

    def abort(self, error: APNSError) -> None:
        """End at once what is left after :meth:`stop`, and report what is in flight as uncertain."""
        for protocol in list(self._leaving):
            protocol.abort(error)

    def _enter(self, state: _State) -> None:
        """Go on to another state, and cancel the timer of the one before."""
        left, self._now = self._now, state
        if left.timer is not None and left.timer.active():
            left.timer.cancel()

    def _wait(self) -> None:
        self._enter(_State("waiting"))
        self._factory.retry(self)

    # The attempt.

    def _opened(self, protocol: IProtocol) -> None:
        """The TCP connection is established."""
        assert isinstance(protocol, GatewayProtocol)
        if self.state == "stopped":
            protocol.abort(ConnectionLost("the client is closed"))
            return
        error = AnswerTimeout(f"the server did not become ready within {self._timeout:g} s")
        deadline = self._clock.callLater(self._timeout, protocol.abort, error)
        self._now = _State("starting", protocol=protocol, timer=deadline)

    def _unopened(self, reason: Failure) -> None:
        """The attempt failed."""
        if self.state != "stopped":  # which has cancelled it
            error = explain_attempt(reason, self.gateway.host, self.gateway.port)
            self._wait()
            self._trouble(error, isinstance(error, PeerNotVerified))
            self._events.connection_changed()

    def connect(self) -> None:
        """The delay is over; the factory calls this as it would call a connector's."""
        self._enter(_State("idle"))
        self.rested = True
        self._events.connection_changed()

    # IProtocolListener

    def protocol_ready(self, protocol: IGatewayProtocol) -> None:
        """It can be used."""
        if protocol is self._now.protocol:
            self._enter(_State("ready", protocol=protocol))
            self._used = self._since = self._clock.seconds()
            self._close_if_idle()
            self._events.connection_changed()

    def protocol_proved(self, protocol: IGatewayProtocol) -> None:
        """The delays start over."""
        self._factory.resetDelay()

    def protocol_round(self, protocol: IGatewayProtocol, settle: Callable[[], None]) -> None:
        """The pool hands out what is sent meanwhile at the end."""
        self._events.connection_round(settle)

    def protocol_room(self, protocol: IGatewayProtocol) -> None:
        """It may have room again."""
        self._events.connection_changed()

    def protocol_returned(self, protocol: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """The pool sends these over another connection."""
        self._events.deliveries_returned(deliveries)

    def protocol_rejected(self, protocol: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """The pool decides whether it is sent again."""
        self._events.delivery_rejected(delivery, rejection)

    def protocol_draining(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It takes nothing more, so another may be opened."""
        self._leaving.add(protocol)
        self._depart(protocol, error, announced=True)

    def protocol_lost(self, protocol: IGatewayProtocol, error: APNSError | None) -> None:
        """It has ended."""
        self._leaving.discard(protocol)
        self._depart(protocol, error, announced=False)
        if protocol is self._early:
            self._early = None
            if protocol.answered >= ENOUGH:
                self._factory.hurry()
        self._check_gone()

    def _depart(self, protocol: IGatewayProtocol, error: APNSError | None, announced: bool) -> None:
        """Decide what follows; draining or lost, whichever comes first, decides."""
        hopeless = isinstance(error, (CredentialRefused, PeerNotVerified))
        if protocol is self._now.protocol:
            # The server takes notifications and answers none of them, so what waits should not follow them; but if all
            # was well until now, the next connection is given a chance.
            mute = isinstance(error, AnswerTimeout) and not protocol.proved
            hopeless = hopeless or (mute and not self._backoff.promising)
            lasted = self._clock.seconds() - self._since
            if self.state == "ready" and lasted >= LONG:
                self._backoff.reset(proved=False)
            # One brief protocol is followed at once; after a second one there might be no end to it.
            brief, again = lasted < BRIEF and protocol.answered < ENOUGH, self._brief
            self._brief = brief and error is not None
            orderly = announced and not (isinstance(error, GatewayShutdown) and error.code)
            if error is None or (orderly and protocol.proved and not (brief and again)):
                self._enter(_State("idle"))
            else:
                self._wait()
                self._early = protocol if orderly else None
        if error is not None:
            self._trouble(error, hopeless)
        self._events.connection_changed()

    def _trouble(self, error: APNSError, hopeless: bool) -> None:
        text = "{app}: {gateway}: {reason}" if self._name else "{gateway}: {reason}"
        _log.warn(text, app=self._name or None, gateway=str(self.gateway), reason=str(error))
        self._events.connection_trouble(error, hopeless)

    def _close_if_idle(self) -> None:
        """Close the protocol if it has not been used for long, or look again when that may be so."""
        protocol, timeout = self._now.protocol, self._idle_timeout
        if protocol is None or timeout is None:
            return
        if protocol.in_flight:
            self._used = self._clock.seconds()
        left = self._used + timeout - self._clock.seconds()
        if left > 0:
            self._now.timer = self._clock.callLater(left, self._close_if_idle)
        else:
            protocol.close()

    def _check_gone(self) -> None:
        if not self._leaving and self.state == "stopped":
            self._gone.fire(None)
