"""
The guarded connection under all faces. It limits how many connections there are, how long each may take and how much
each may leave unread; and a failure of one ends that one alone.

::

    TCP ◄──► ServerConnection ◄──► TLS, if any ◄──► FaceProtocol, made by the face
                │
              ServerConnections, one for each face
                │
              MemoryBudget, for all faces

*Number.* A caller is *unauthenticated* until it has shown a credential. When the face is full, a new connection takes
the place of the oldest unauthenticated one, however far that one's request has come. Authenticated callers can take
nine places of ten, so a new caller always finds a place for a moment. When those are taken, the authenticated
connection that has been idle the longest is closed for another; when none is idle, the caller that authenticated last
is served but keeps its unauthenticated place. So no authenticated caller is cut while its request is being answered.

One address (for IPv6, one network of 64 bits) can have only so many unauthenticated connections; a further one replaces
the oldest of them. Authenticated ones do not count, so a reverse proxy can have as many as it needs. UNIX sockets have
no addresses.

*Time.* No connection has a timer of its own: a sweep looks at all of them once a second. When we close a connection, we
close our direction first, and discard what still arrives for a moment. Otherwise the last answer could be lost on its
way (RFC 9112, section 9.6).

*Memory.* A peer that does not read makes us hold answers; a peer that does not finish its request makes us hold the
part that has arrived. Each kind has one budget for all peers together; only requests without a credential count towards
the second. Over budget, the connections that have held memory the longest are cut, unauthenticated ones first.

*The fence.* An exception from a handshake, from received data, from a callback or from the sweep is logged as one line
and ends that connection. The number of lines in a second is limited.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IPullProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from txapns._network.alarm import Alarm
from txapns._network.endpoints import url_host
from txapns._serving.descriptors import are_left
from txapns._serving.failures import FailureLog, described, openssl_reasons
from txapns._serving.limits import ConnectionLimits
from txapns._serving.tls import fingerprint
from txapns._waiters import Waiters

__all__ = ["LINGER", "FaceProtocol", "ServerConnection", "ServerConnections"]

#: How many seconds we go on reading, and discard what is read, after we have closed a connection.
LINGER = 3.0

_SWEEP = 1.0  # seconds between two sweeps
_FULL = 65_536  # bytes that a transport holds when it pauses its producer
_NEW = 10  # one place of this many is kept for new callers


@implementer(IHandshakeListener)
class FaceProtocol(Protocol, ABC):
    """
    The protocol that a face speaks on a connection.

    :ivar fingerprint: that of the certificate that the peer showed; ``None`` if it showed none.
    """

    connection: ServerConnection
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint: str | None = None

    def handshakeCompleted(self) -> None:
        """Note the peer's certificate, and begin."""
        shown = self.transport.getPeerCertificate()
        if shown is not None:
            self.fingerprint = fingerprint(shown)
        self.connection.begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the face; or, if the handshake failed, the log."""
        super().connectionLost(reason)
        if self.connection.ready:
            self.gone(self.connection.ended or reason)
        elif reason.check(SSL.Error):
            self.connection.report(f"the TLS handshake failed: {openssl_reasons(reason)}")

    # Each face implements these.

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether the peer waits for an answer."""

    def begun(self) -> None:
        """The connection can be used."""

    def gone(self, reason: Failure) -> None:
        """
        The connection is lost.

        :param reason: how TCP ended. Many programs close it without closing TLS first.
        """

    @abstractmethod
    def check(self, now: float) -> None:
        """End what takes too long."""

    @abstractmethod
    def finish(self) -> None:
        """Accept nothing more, finish what is under way, and close."""


class ServerConnection(ProtocolWrapper):
    """
    One connection.

    :param server: the connections that it belongs to.
    :param wrapped: the same protocol, or the TLS transport above which it is.

    :ivar encrypted: whether the connection is over TLS.
    :ivar authenticated: whether the peer has shown a credential, and has a place among the authenticated callers.
    :ivar active: when the peer last was active.
    :ivar paused: when the peer stopped reading; ``None`` while it reads.
    :ivar closing: when we began to close the connection; ``None`` before.
    :ivar over: whether the connection is cut or lost.
    :ivar ended: how TCP ended; ``None`` before.
    """

    transport: Any

    def __init__(
        self, server: ServerConnections, protocol: FaceProtocol, wrapped: IProtocol, address: IAddress | None
    ) -> None:
        super().__init__(cast("WrappingFactory[ServerConnection]", server), wrapped)  # of which it uses nothing
        self.server = server
        self.protocol: Any = protocol
        self.wrappedProtocol: Any = wrapped
        self.encrypted = wrapped is not protocol
        self.origin = _origin(address)
        self.authenticated = self.ready = self.over = False
        self.active = self.since = server.clock.seconds()
        self.paused: float | None = None
        self.closing: float | None = None
        self.ended: Failure | None = None
        self._address: object = address
        self._discarded = 0
        protocol.connection = self

    # IProtocol

    def makeConnection(self, transport: Any) -> None:
        """Count the connection, or refuse it."""
        if not self.server.admit(self):
            self.transport, self.over = transport, True
            transport.abortConnection()
            return
        if hasattr(transport, "setTcpNoDelay"):  # UNIX sockets do not have it
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        directlyProvides(self, providedBy(transport))
        self.transport, self.connected = transport, True
        self.fence(self.wrappedProtocol.makeConnection, self)
        if not self.encrypted:
            self.fence(self.begin)

    def dataReceived(self, data: bytes) -> None:
        """Pass data on, or discard it."""
        if self.over or (self.closing is not None and self._is_discarded(data)):
            return
        try:
            self.wrappedProtocol.dataReceived(data)
        except Exception:
            self.failed(Failure())

    def _is_discarded(self, data: bytes) -> bool:
        """Whether data that arrives after the close is discarded. TLS needs it, to see the peer close."""
        self._discarded += len(data)
        if self._discarded > self.server.limits.body:
            self.cut()
        return self.over or not self.encrypted

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection."""
        self.over, self.ended = True, reason
        self.server.leave(self)
        if self.connected:
            self.connected = False
            self.fence(self.wrappedProtocol.connectionLost, reason)
        self.protocol = None  # breaks the reference cycle
        self.wrappedProtocol = None

    # ITransport and IConsumer

    def write(self, data: bytes) -> None:
        """Write, and count what the peer does not read."""
        if self.over:
            return
        rest = _hand_over(self.transport, data)
        if rest:
            self.transport.write(rest)
            if self.paused is not None:
                self.server.limits.unread.add(self, len(rest))

    def writeSequence(self, data: Any) -> None:
        """Write all at once."""
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Register a producer whose calls are fenced, too."""
        self.transport.registerProducer(_Producer(self, producer), streaming)

    # For the protocol.

    def begin(self) -> None:
        """The connection can be used."""
        if not self.over:
            self.ready = True
            self.active = self.server.clock.seconds()
            self.protocol.begun()

    def mark_authenticated(self) -> None:
        """Note that the peer has shown a credential or, where none is required, has sent a whole request."""
        if not self.authenticated and not self.over and self.closing is None:
            self.server.mark_authenticated(self)

    def end(self) -> None:
        """Close, and give the peer a moment to read the last answer."""
        if self._begin_to_close():
            transport: Any = self.transport
            if ITCPTransport.providedBy(self.transport) and not self.encrypted:
                transport.loseWriteConnection()
                transport.resumeProducing()
            else:
                self.protocol.transport.loseConnection()  # TLS closes, and reads on until the peer does

    def hang_up(self) -> None:
        """Close as soon as what was written has been sent, and read nothing more."""
        if self._begin_to_close():
            self.protocol.transport.loseConnection()
            self.transport.loseConnection()

    def _begin_to_close(self) -> bool:
        if self.over or self.closing is not None:
            return False
        self.closing = self.server.clock.seconds()
        self.authenticated = False
        self.server.place(self)
        self.protocol.transport.unregisterProducer()  # otherwise the transport would wait for it
        return True

    def cut(self) -> None:
        """Close at once."""
        if not self.over:
            self.over = True
            self.transport.abortConnection()

    def failed(self, reason: Failure) -> None:
        """Log a failure, and cut the connection. It is the last errback of every ``Deferred`` of the connection."""
        self.report(described(reason))
        self.cut()

    def fence(self, call: Callable[..., object], *arguments: object) -> None:
        """Call something; an exception ends this connection alone."""
        try:
            call(*arguments)
        except Exception:
            self.failed(Failure())

    def report(self, what: str) -> None:
        """Log what went wrong on this connection."""
        self.server.failures.add(str(self), what)

    def __str__(self) -> str:
        """The peer's address."""
        if not isinstance(self._address, (IPv4Address, IPv6Address)):
            return "a UNIX socket"
        return f"{url_host(self._address.host)}:{self._address.port}"

    # For the server.

    def check(self, now: float) -> None:
        """End what takes too long."""
        limits = self.server.limits
        if self.closing is not None:
            if now - self.closing >= LINGER:
                self.cut()
        elif not self.ready:
            if now - self.since >= limits.request:
                self.cut()
        elif self.paused is not None:
            if now - self.paused >= (limits.idle if self.authenticated else limits.request):
                self.cut()
        else:
            self.protocol.check(now)


@implementer(IPushProducer, IPullProducer)
class _Producer:
    """The producer of a protocol, or of TLS, as the transport sees it."""

    def __init__(self, connection: ServerConnection, producer: Any) -> None:
        self._connection = connection
        self._producer = producer

    def pauseProducing(self) -> None:
        """The peer has stopped reading."""
        connection = self._connection
        if connection.paused is None:
            connection.paused = connection.server.clock.seconds()
            connection.server.limits.unread.add(connection, _FULL)
        connection.fence(self._producer.pauseProducing)

    def resumeProducing(self) -> None:
        """The peer has read everything."""
        connection = self._connection
        connection.paused = None
        connection.server.limits.unread.forget(connection)
        connection.fence(self._producer.resumeProducing)

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._connection.fence(self._producer.stopProducing)


class ServerConnections(Factory):
    """
    All connections to a face.

    :param clock: the reactor, or a ``Clock``.
    :param face: the name of the face in the log.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        build: Callable[[], FaceProtocol],
        limits: ConnectionLimits,
        face: str,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.draining = False
        self._build = build
        self.failures = FailureLog(clock, face)
        self._unauthenticated: dict[ServerConnection, None] = {}  # the oldest first
        self._authenticated: dict[ServerConnection, None] = {}
        self._origins: dict[str, dict[ServerConnection, None]] = {}
        self._sweep = Alarm(clock, self._check)
        self._closed: Waiters[None] = Waiters()

    @property
    def count(self) -> int:
        """The number of connections."""
        return len(self._unauthenticated) + len(self._authenticated)

    def encrypted(self, tls: IOpenSSLServerConnectionCreator | CertificateOptions) -> IProtocolFactory:
        """Make a factory for an endpoint with TLS."""
        return _Encrypted(self, tls)

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        """Make a connection, if there is a file descriptor left for it."""
        if self._is_short():
            return None
        protocol = self._build()
        return ServerConnection(self, protocol, protocol, addr)

    def build_encrypted(self, over: TLSMemoryBIOFactory, addr: IAddress | None) -> ServerConnection | None:
        """Do the same over TLS."""
        if self._is_short():
            return None
        protocol = self._build()
        return ServerConnection(self, protocol, BufferingTLSTransport(over, protocol), addr)

    def _is_short(self) -> bool:
        """Whether no descriptor is left. Then the oldest unauthenticated connection goes, for the next caller."""
        if self.limits.last or are_left():
            return False
        if self._unauthenticated:
            self._drop(next(iter(self._unauthenticated)))
        return True

    def drain(self) -> None:
        """Accept nothing more; each connection finishes what is under way, and closes."""
        self.draining = True
        for connection in self._all():
            if connection.ready:
                connection.fence(connection.protocol.finish)
            else:
                connection.cut()

    def close(self, grace: float = LINGER) -> Deferred[None]:
        """
        Close all connections.

        :param grace: how long what is under way may take, in seconds.
        :returns: a ``Deferred`` that fires when all are closed.
        """
        self.drain()
        if not self.count:
            return succeed(None)
        closed = self._closed.wait()
        cut = self.clock.callLater(grace, self._cut)

        def done(result: None) -> None:
            if cut.active():
                cut.cancel()

        return closed.addCallback(done)

    def _cut(self) -> None:
        for connection in self._all():
            connection.cut()

    def _all(self) -> list[ServerConnection]:
        return [*self._unauthenticated, *self._authenticated]

    # For the connections.

    def admits(self) -> bool:
        """Whether new connections are accepted."""
        return not self.draining

    def admit(self, connection: ServerConnection) -> bool:
        """Count a new connection; if there are too many, drop another one."""
        if not self.admits():
            return False
        alike = self._origins.get(connection.origin, {})
        if len(alike) >= self.limits.unauthenticated:
            self._drop(next(iter(alike)))
        if self.count >= self.limits.clients:
            self._drop(next(iter(self._unauthenticated)))  # there is one: the authenticated ones cannot fill all places
        self.place(connection)
        self._sweep.set(_SWEEP)
        return True

    def mark_authenticated(self, connection: ServerConnection) -> None:
        """Count a connection among the authenticated ones, if there is room for it, or another one is idle."""
        if len(self._authenticated) >= self.limits.clients - max(1, self.limits.clients // _NEW):
            idle = [each for each in self._authenticated if not each.protocol.busy or each.paused is not None]
            if not idle:
                return
            self._drop(min(idle, key=lambda each: each.active))
        connection.authenticated = True
        self.place(connection)

    def _drop(self, connection: ServerConnection) -> None:
        self._displace(connection)
        connection.cut()

    def place(self, connection: ServerConnection) -> None:
        """Put a connection among the authenticated or the unauthenticated ones."""
        self._displace(connection)
        if connection.authenticated:
            self._authenticated[connection] = None
            return
        self._unauthenticated[connection] = None
        if connection.origin:
            self._origins.setdefault(connection.origin, {})[connection] = None

    def _displace(self, connection: ServerConnection) -> None:
        self._authenticated.pop(connection, None)
        self._unauthenticated.pop(connection, None)
        alike = self._origins.get(connection.origin)
        if alike is not None:
            alike.pop(connection, None)
            if not alike:
                del self._origins[connection.origin]

    def leave(self, connection: ServerConnection) -> None:
        """Forget a connection."""
        self.limits.unread.forget(connection)
        self.limits.unfinished.forget(connection)
        self._displace(connection)
        if self.count:
            return
        self._sweep.cancel()
        self._closed.fire(None)

    def _check(self) -> None:
        self._sweep.set(_SWEEP)
        now = self.clock.seconds()
        for connection in self._all():
            connection.fence(connection.check, now)


class _Encrypted(Factory):
    """Builds the connections over TLS."""

    noisy = False

    def __init__(self, server: ServerConnections, tls: IOpenSSLServerConnectionCreator | CertificateOptions) -> None:
        self._server = server
        self._over = TLSMemoryBIOFactory(tls, False, server, server.clock)

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        return self._server.build_encrypted(self._over, addr)


def _hand_over(transport: Any, data: bytes) -> bytes:
    """
    Hand data to the network at once, if nothing was written before it that waits; returns what is left.

    Twisted would ask the operating system to say when there is room, which there nearly always is, and then not to say
    so any more: two system calls and an event of the reactor's for each answer. A pull producer is asked for more only
    when Twisted has sent what it wrote, so that stays with Twisted.

    Only a private attribute tells whether something waits. Without it, in another version of Twisted, Twisted writes.
    """
    if not isinstance(transport, Connection) or transport.dataBuffer or getattr(transport, "_tempDataBuffer", True):
        return data
    if transport.producer is not None and not transport.streamingProducer:
        return data
    written = transport.writeSomeData(data)
    return data[written:] if isinstance(written, int) else data  # if it failed, the reactor finds that out in its way


def _origin(address: IAddress | None) -> str:
    """Name the address, or the network of IPv6, whose connections are counted together; empty for a UNIX socket."""
    host: str = getattr(address, "host", None) or ""
    if ":" not in host:
        return host
    found = ipaddress.IPv6Address(host)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found.packed, 64), strict=False))
