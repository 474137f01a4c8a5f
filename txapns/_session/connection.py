"""
One connection's life: opened on demand, kept, closed when idle, opened again; after a failure not before its time.

::

                 open                connected                ready
        Idle ───────────► Connecting ─────────► Starting ─────────────► Ready
         ▲ ▲                  │ failed             │ failed               │ │
         │ │ elapsed          ▼                    ▼                      │ │
         │ └────────────── Waiting ◄───────────────┴──────── failed ──────┘ │
         └───────────────────────────────────────────────── finished ───────┘

A session *finishes* when it ended by our wish, or when it had proved itself and the server announced the end without an
error: the next may follow at once. It *fails* when it had proved nothing, or broke off: the next waits, for there may
be a reason, and each that breaks off leaves notifications in doubt. A session that drains has finished or failed
already, as far as this machine is concerned; it answers what it can while the next is opened.

Servers end each connection after a number of requests, nginx after 1,000, and a fast client is there in milliseconds.
So how brief a session was does not matter where it answered :data:`~txapns._session.lifespan.ENOUGH`. Of those that
were brief and answered less, only the first is followed at once: a server may end each connection after a single
answer. One that announces the end when it has yet to answer is taken for a failure, until its last answer has come and
it turns out that they are enough.

*Starting* lasts from the TCP connection until the session is ready, and has a deadline, so that a server that accepts
and then says nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.internet import error as neterror
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.backoff import Backoff
from txapns._network.endpoints import explain_attempt
from txapns._session.factory import APNSClientFactory
from txapns._session.lifespan import ENOUGH
from txapns._session.protocol import GatewayProtocol
from txapns.credentials import Credential
from txapns.delivery import Delivery
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

#: A session that lasted less than this is a brief one, in seconds, unless it answered enough.
BRIEF = 1.0
#: After one that lasted as long as this, in seconds, the delays begin anew, though nothing may have been asked of it:
#: however often such a session ends, there are no more attempts than the longest delay would allow.
LONG = 60.0


class _Life(Protocol):
    """The inputs of the machine."""

    def open(self) -> None:
        """There is something to send."""

    def connected(self, session: IGatewayProtocol) -> None:
        """A TCP connection was made."""

    def ready(self) -> None:
        """The session can be used."""

    def finished(self) -> None:
        """The session takes nothing more, and had proved itself."""

    def failed(self) -> None:
        """There is no session, or none that proved itself."""

    def elapsed(self) -> None:
        """The back-off is over."""

    def stop(self) -> None:
        """Never open again."""


@attrs.define(eq=False)
class _Core:
    """What the machine acts on; ``state`` is its name for where it is."""

    endpoint: IStreamClientEndpoint
    factory: APNSClientFactory
    clock: IReactorTime
    connector: Connection
    timeout: float
    state: str = "idle"
    attempt: Deferred[IProtocol] | None = None
    session: IGatewayProtocol | None = None
    deadline: IDelayedCall | None = None

    def leave(self, state: str) -> tuple[Deferred[IProtocol] | None, IGatewayProtocol | None]:
        """Enter a state without a session; returns what there was of an attempt and a session."""
        left = self.attempt, self.session
        self.state, self.attempt, self.session = state, None, None
        self.disarm()
        return left

    def disarm(self) -> None:
        """The session started, or ended."""
        if self.deadline is not None and self.deadline.active():
            self.deadline.cancel()
        self.deadline = None


def _begin(life: _Life, core: _Core) -> None:
    core.state = "connecting"
    attempt = core.attempt = core.endpoint.connect(core.factory)
    attempt.addCallbacks(core.connector.opened, core.connector.unopened)


def _start(life: _Life, core: _Core, session: IGatewayProtocol) -> None:
    core.state, core.attempt, core.session = "starting", None, session
    error = AnswerTimeout(f"the server did not become ready within {core.timeout:g} s")
    core.deadline = core.clock.callLater(core.timeout, session.abort, error)


def _use(life: _Life, core: _Core) -> None:
    core.state = "ready"
    core.disarm()


def _rest(life: _Life, core: _Core) -> None:
    core.leave("idle")


def _wait(life: _Life, core: _Core) -> None:
    core.leave("waiting")
    core.factory.retry(core.connector)


def _end(life: _Life, core: _Core) -> None:
    attempt, session = core.leave("stopped")
    core.factory.stopTrying()  # type: ignore[no-untyped-call]
    if attempt is not None:
        attempt.cancel()
    if session is not None:
        session.close()


def _too_late(life: _Life, core: _Core, session: IGatewayProtocol) -> None:
    session.abort(ConnectionLost("the client is closed"))


def _machine() -> Callable[[_Core], _Life]:
    builder = TypeMachineBuilder(_Life, _Core)
    idle = builder.state("Idle")
    connecting = builder.state("Connecting")
    starting = builder.state("Starting")
    ready = builder.state("Ready")
    waiting = builder.state("Waiting")
    stopped = builder.state("Stopped")

    idle.upon(_Life.open).to(connecting)(_begin)
    connecting.upon(_Life.connected).to(starting)(_start)
    starting.upon(_Life.ready).to(ready)(_use)
    starting.upon(_Life.finished).to(idle)(_rest)
    ready.upon(_Life.finished).to(idle)(_rest)
    waiting.upon(_Life.elapsed).to(idle)(_rest)
    for state in (connecting, starting, ready):
        state.upon(_Life.failed).to(waiting)(_wait)
    for state in (idle, connecting, starting, ready, waiting):
        state.upon(_Life.stop).to(stopped)(_end)
    # One connection at a time: an open one, one under way and one whose time has not come all serve.
    for state in (connecting, starting, ready, waiting, stopped):
        state.upon(_Life.open).loop().returns(None)
    stopped.upon(_Life.connected).loop()(_too_late)
    for late in (_Life.ready, _Life.finished, _Life.failed, _Life.elapsed, _Life.stop):
        stopped.upon(late).loop().returns(None)
    return builder.build()


_life = _machine()


@implementer(IProtocolListener, IConnector)
class Connection:
    """
    A connection to a gateway that comes and goes as it is needed.

    :param reactor: the reactor.
    :param gateway: where to connect.
    :param endpoint: what connects to it.
    :param credential: what to authenticate with.
    :param events: who is told.
    :param options: how long it waits for what.
    :param backoff: the delays between attempts, which several connections may share.
    :param lasting: whether it is kept open when it is idle.

    :ivar rested: whether its last attempt failed, and the time for the next has come.
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
    ) -> None:
        self.gateway = gateway
        self.rested = False
        self._clock = reactor
        self._events = events
        self._backoff = backoff
        self._idle_timeout = None if lasting else options.idle_timeout
        self._used = 0.0
        self._since = 0.0
        self._brief = False
        self._early: IGatewayProtocol | None = None
        self._idle: IDelayedCall | None = None
        self._leaving: set[IGatewayProtocol] = set()
        self._gone: list[Deferred[None]] = []
        factory = APNSClientFactory(
            gateway, credential, self, reactor, options.timeout, backoff, ping_interval=options.ping_interval
        )
        self._core = _Core(endpoint, factory, reactor, self, options.timeout)
        self._life = _life(self._core)

    @property
    def state(self) -> str:
        """Where it is in its life: idle, connecting, starting, ready, waiting or stopped."""
        return self._core.state

    @property
    def in_flight(self) -> int:
        """How many deliveries are under way, on this session and on those that drain."""
        session = self._core.session
        # Not the set itself, which may change meanwhile: metrics are asked for by a thread of their own.
        sessions = set(self._leaving) if session is None else self._leaving | {session}
        return sum(session.in_flight for session in sessions)

    @property
    def active(self) -> bool:
        """Whether it has a session, is about to have one, or waits for its time."""
        return self.state not in ("idle", "stopped")

    def open(self) -> None:
        """Connect, unless a connection is there, or under way, or its time has not come."""
        self.rested = False
        self._life.open()

    def room(self) -> tuple[int, int]:
        """How many deliveries, and how many octets of payload, it would take now."""
        session = self._core.session
        return session.room() if session is not None and self.state == "ready" else (0, 0)

    def deliver(self, deliveries: list[Delivery]) -> None:
        """
        Send these.

        :param deliveries: at most as many as there is room for.
        """
        session = self._core.session
        if session is None:  # an iterable closed the client while it was asked, or who was told of a batch's end did
            self._events.deliveries_returned(deliveries)
            return
        self._used = self._clock.seconds()
        session.deliver(deliveries)

    def flush(self) -> None:
        """Nothing more is waiting."""
        if self._core.session is not None:
            self._core.session.flush()

    def stop(self) -> Deferred[None]:
        """
        Let what is under way be answered, close, and never open again.

        :returns: a ``Deferred`` that fires when no session is left.
        """
        if self._core.session is not None:
            self._leaving.add(self._core.session)
        self._cancel_idle()
        self._life.stop()
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        self._check_gone()
        return gone

    # What the endpoint and the factory tell.

    def opened(self, session: IProtocol) -> None:
        """The TCP connection was made."""
        assert isinstance(session, GatewayProtocol)
        self._life.connected(session)

    def unopened(self, reason: Failure) -> None:
        """It was not."""
        if self.state != "stopped" and not reason.check(neterror.ConnectingCancelledError, CancelledError):
            error = explain_attempt(reason, self.gateway.host, self.gateway.port)
            self._life.failed()
            self._trouble(error, isinstance(error, PeerNotVerified))
            self._events.connection_changed()

    def connect(self) -> None:
        """The back-off is over; the factory calls this as it would a connector's."""
        self._life.elapsed()
        self.rested = True
        self._events.connection_changed()

    def disconnect(self) -> None:
        """Close the session, if there is one."""
        if self._core.session is not None:
            self._core.session.close()

    def stopConnecting(self) -> None:
        """An attempt under way is cancelled by the machine itself."""

    def getDestination(self) -> IAddress:
        """Tell where it connects."""
        return HostnameAddress(self.gateway.host.encode("idna"), self.gateway.port)

    # IProtocolListener

    def protocol_ready(self, session: IGatewayProtocol) -> None:
        """It can be used."""
        if session is self._core.session:
            self._life.ready()
            self._used = self._since = self._clock.seconds()
            self._watch_idle()
            self._events.connection_changed()

    def protocol_proved(self, session: IGatewayProtocol) -> None:
        """It did what it is for."""
        self._core.factory.resetDelay()

    def protocol_room(self, session: IGatewayProtocol) -> None:
        """It may have room again."""
        self._events.connection_changed()

    def protocol_returned(self, session: IGatewayProtocol, deliveries: list[Delivery]) -> None:
        """These go elsewhere."""
        self._events.deliveries_returned(deliveries)

    def protocol_rejected(self, session: IGatewayProtocol, delivery: Delivery, rejection: Rejection) -> None:
        """The pool decides whether it is sent again."""
        self._events.delivery_rejected(delivery, rejection)

    def protocol_draining(self, session: IGatewayProtocol, error: APNSError | None) -> None:
        """It takes nothing more, so another may be opened."""
        self._leaving.add(session)
        self._depart(session, error, announced=True)

    def protocol_lost(self, session: IGatewayProtocol, error: APNSError | None) -> None:
        """It is over."""
        self._leaving.discard(session)
        self._depart(session, error, announced=False)
        if session is self._early:
            self._early = None
            if session.answered >= ENOUGH:
                self._core.factory.hurry()
        self._check_gone()

    def _depart(self, session: IGatewayProtocol, error: APNSError | None, announced: bool) -> None:
        """Whichever comes first of draining and lost decides what follows."""
        hopeless = isinstance(error, (CredentialRefused, PeerNotVerified))
        if session is self._core.session:
            # It takes notifications and answers none of them, so what waits had better not follow them; unless all was
            # well until now. Then the next is given a chance.
            mute = isinstance(error, AnswerTimeout) and not session.proved
            hopeless = hopeless or (mute and not self._backoff.promising)
            self._cancel_idle()
            lasted = self._clock.seconds() - self._since
            if self.state == "ready" and lasted >= LONG:
                self._backoff.reset(proved=False)
            # One brief session is followed at once; if the next is brief as well, there is no end to it.
            brief, again = lasted < BRIEF and session.answered < ENOUGH, self._brief
            self._brief = brief and error is not None
            orderly = announced and not (isinstance(error, GatewayShutdown) and error.code)
            if error is None or (orderly and session.proved and not (brief and again)):
                self._life.finished()
            else:
                self._life.failed()
                self._early = session if orderly else None
        if error is not None:
            self._trouble(error, hopeless)
        self._events.connection_changed()

    def _trouble(self, error: APNSError, hopeless: bool) -> None:
        _log.warn("{gateway}: {error}", gateway=str(self.gateway), error=str(error))
        self._events.connection_trouble(error, hopeless)

    # Idleness.

    def _watch_idle(self) -> None:
        if self._idle_timeout is not None:
            due = self._used + self._idle_timeout - self._clock.seconds()
            self._idle = self._clock.callLater(max(due, 0.0), self._check_idle)

    def _check_idle(self) -> None:
        self._idle = None
        session = self._core.session
        assert session is not None and self._idle_timeout is not None
        if session.in_flight:
            self._used = self._clock.seconds()
        if self._used + self._idle_timeout <= self._clock.seconds():
            session.close()
        else:
            self._watch_idle()

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _check_gone(self) -> None:
        if not self._leaving and self.state == "stopped":
            gone, self._gone = self._gone, []
            for deferred in gone:
                deferred.callback(None)
