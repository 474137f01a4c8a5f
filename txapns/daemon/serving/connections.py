"""
The guarded connection, the same under all faces: how many there may be, how long each may take, how much it may leave
unread, and that what goes wrong on one ends that one alone.

::

    TCP ◄──► ServerConnection ◄──► TLS, if any ◄──► FaceProtocol, which the face makes
                │
              ServerConnections, of all connections to a face
                │
              MemoryBudget, of all faces

*Room.* Callers are *strangers* until they have shown a credential; then they are *known*. Where there are as many
connections as may be, one has to go for the new one: the stranger that came first, however far its request has come.
Those who are known have nine places of ten, so whoever comes anew always finds one for a moment. Where they are more,
the one among them goes that has done nothing for the longest; and where none is idle, whoever has shown a credential
last is served, but keeps a stranger's place. So no known caller is cut whose request is being answered.

Of one address (of IPv6, one network of 64 bits) there are only so many strangers at a time; where there are more, the
first of these has to go. Those who are known do not count, so a reverse proxy may have as many connections as it needs.
UNIX sockets have no addresses.

*Time.* There is no timer for a connection: once in a second all are looked at. A connection that is closed by us is
closed in one direction first, and what still comes is thrown away for a moment. Otherwise the last answer could be lost
on its way (RFC 9112, section 9.6).

*What is held.* A peer that does not read makes us hold the answers; one that does not end its request makes us hold
what there is of it. Both are bounded for all peers together; of the requests those count that show no credential.
Beyond the bound the peers go for which something has been held for the longest, strangers first.

*The fence.* Whatever exception comes out of a handshake, of what was received, of a callback or a look at the time, is
one line in the log and the end of that connection. There are only so many lines in a second.
"""

from __future__ import annotations

import ipaddress
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import attrs
from OpenSSL import SSL
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
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from txapns._network.alarm import Alarm
from txapns._waiters import Waiters
from txapns.daemon.serving.descriptors import are_left
from txapns.daemon.serving.tls import fingerprint

__all__ = [
    "LINGER",
    "ConnectionLimits",
    "FaceProtocol",
    "MemoryBudget",
    "ServerConnection",
    "ServerConnections",
    "described",
]

#: For how many seconds more is read and thrown away after the last word on a connection.
LINGER = 3.0

_SWEEP = 1.0  # seconds between two looks at the connections
_LINES = 10  # lines in the log in a second, of each face
_LONG = 300  # characters of an exception in such a line
_FULL = 65_536  # octets that a transport has taken when it wants no more for now
_FRESH = 10  # one of so many places is for those who come anew

_log = Logger()


class MemoryBudget:
    """
    What is held in memory for peers, on all connections together.

    :param most: how many octets that may be.
    """

    def __init__(self, most: int = 67_108_864) -> None:
        self._most = most
        self._sum = 0
        self._held: dict[ServerConnection, int] = {}

    def add(self, connection: ServerConnection, octets: int) -> None:
        """
        Count what is held for a peer; where it is too much, cut the one for which something is held for the longest.

        :param connection: the peer's.
        :param octets: how many there are more.
        """
        if connection.over:
            return
        self._held[connection] = self._held.get(connection, 0) + octets
        self._sum += octets
        while self._sum > self._most and self._held:
            worst = next((each for each in self._held if not each.authenticated), next(iter(self._held)))
            self.forget(worst)
            worst.cut()

    def forget(self, connection: ServerConnection) -> None:
        """
        Count nothing any more for a peer: nothing is held for it, or it is gone.

        :param connection: the peer's.
        """
        self._sum -= self._held.pop(connection, 0)


@attrs.frozen
class ConnectionLimits:
    """
    What a caller may have of us.

    :ivar body: the longest body of a request, in octets.
    :ivar head: the longest head of a request, in octets.
    :ivar clients: how many connections there may be at a time.
    :ivar unauthenticated: how many of them may come from one address without having shown a credential.
    :ivar idle: after how many seconds without a request a connection is closed.
    :ivar request: how many seconds a request may take to arrive.
    :ivar unread: counts what is written and not read; faces that have the same one count together.
    :ivar unfinished: counts what there is of requests that are not whole and show no credential, likewise.
    :ivar last: whether it may have the last file descriptors.
    """

    body: int = 4_194_304
    head: int = 16_384
    clients: int = 1_000
    unauthenticated: int = 250
    idle: float = 60.0
    request: float = 30.0
    unread: MemoryBudget = attrs.Factory(MemoryBudget)
    unfinished: MemoryBudget = attrs.Factory(MemoryBudget)
    last: bool = False


@implementer(IHandshakeListener)
class FaceProtocol(Protocol, ABC):
    """
    What a face makes of a connection.

    :ivar connection: the connection.
    :ivar fingerprint: that of the certificate which the peer showed; ``None`` where it showed none.
    """

    connection: ServerConnection
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint: str | None = None

    def handshakeCompleted(self) -> None:
        """See who it is."""
        shown = self.transport.getPeerCertificate()
        if shown is not None:
            self.fingerprint = fingerprint(shown)
        self.connection.begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        super().connectionLost(reason)
        if self.connection.ready:
            self.gone(self.connection.ended or reason)
        elif reason.check(SSL.Error):
            self.connection.report(f"the TLS handshake failed: {_words(reason)}")

    # What the faces differ in.

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether an answer is under way that we owe the peer."""

    def begun(self) -> None:
        """The connection can be used."""

    def gone(self, reason: Failure) -> None:
        """
        It cannot any more.

        :param reason: how TCP ended. Many programs close it without TLS's goodbye.
        """

    @abstractmethod
    def check(self, now: float) -> None:
        """
        End what takes too long.

        :param now: the time.
        """

    @abstractmethod
    def finish(self) -> None:
        """Take nothing more, finish what is under way, and close."""


class ServerConnection(ProtocolWrapper):
    """
    One connection.

    :param server: to which it belongs.
    :param protocol: what the face makes of it.
    :param wrapped: the protocol, or TLS above which it is.
    :param address: where the peer is.

    :ivar encrypted: whether it is over TLS.
    :ivar authenticated: whether the peer has shown a credential, and has a place among those who have.
    :ivar ready: whether it can be used: the handshake is over.
    :ivar active: when the peer last did something that counts.
    :ivar paused: since when the peer has read nothing of what was written; ``None`` where it reads.
    :ivar closing: since when it is closed by us; ``None`` while it is open.
    :ivar over: whether it is cut or gone.
    :ivar ended: how TCP ended; ``None`` before.
    """

    transport: Any

    def __init__(
        self, server: ServerConnections, protocol: FaceProtocol, wrapped: IProtocol, address: IAddress | None
    ) -> None:
        super().__init__(server, wrapped)  # type: ignore[arg-type]  # a server is no factory of Twisted's that wraps
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
        self._address = address
        self._thrown_away = 0
        protocol.connection = self

    # A protocol's.

    def makeConnection(self, transport: Any) -> None:
        """Count it, or turn it away."""
        if not self.server.admit(self):
            self.transport, self.over = transport, True
            transport.abortConnection()
            return
        if hasattr(transport, "setTcpNoDelay"):  # a UNIX socket has nothing of the kind
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        directlyProvides(self, providedBy(transport))
        self.transport, self.connected = transport, True
        self.fence(self.wrappedProtocol.makeConnection, self)
        if not self.encrypted:
            self.fence(self.begin)

    def dataReceived(self, data: bytes) -> None:
        """Read, or throw away."""
        if self.over or (self.closing is not None and self._is_enough(data)):
            return
        try:
            self.wrappedProtocol.dataReceived(data)
        except Exception:
            self.failed(Failure())

    def _is_enough(self, data: bytes) -> bool:
        """Whether nobody need see what comes after the last word: TLS may, which waits for the peer's goodbye."""
        self._thrown_away += len(data)
        if self._thrown_away > self.server.limits.body:
            self.cut()
        return self.over or not self.encrypted

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self.over, self.ended = True, reason
        self.server.leave(self)
        if self.connected:
            self.connected = False
            self.fence(self.wrappedProtocol.connectionLost, reason)
        self.protocol = None  # which knows this one
        self.wrappedProtocol = None

    # A transport's.

    def write(self, data: bytes) -> None:
        """Write, and note what is not read."""
        if self.over:
            return
        self.transport.write(data)
        if self.paused is not None:
            self.server.limits.unread.add(self, len(data))

    def writeSequence(self, data: Any) -> None:
        """Write all in one piece."""
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have a producer; what goes wrong there is fenced, too."""
        self.transport.registerProducer(_Producer(self, producer), streaming)

    # For the protocol.

    def begin(self) -> None:
        """The connection can be used."""
        if not self.over:
            self.ready = True
            self.active = self.server.clock.seconds()
            self.protocol.begun()

    def mark_authenticated(self) -> None:
        """The peer has shown a credential, or, where none is asked for, a whole request."""
        if not self.authenticated and not self.over and self.closing is None:
            self.server.mark_authenticated(self)

    def end(self) -> None:
        """Close, and give the peer a moment to read what was said last."""
        if self._is_to_close():
            transport: Any = self.transport
            if ITCPTransport.providedBy(self.transport) and not self.encrypted:
                transport.loseWriteConnection()
                transport.resumeProducing()
            else:
                self.protocol.transport.loseConnection()  # TLS says goodbye, and reads on until the peer has done so

    def hang_up(self) -> None:
        """Close as soon as what was written has left, and read nothing more."""
        if self._is_to_close():
            self.protocol.transport.loseConnection()
            self.transport.loseConnection()

    def _is_to_close(self) -> bool:
        if self.over or self.closing is not None:
            return False
        self.closing = self.server.clock.seconds()
        self.authenticated = False
        self.server.place(self)
        self.protocol.transport.unregisterProducer()  # or the transport would wait for it
        return True

    def cut(self) -> None:
        """Close at once."""
        if not self.over:
            self.over = True
            self.transport.abortConnection()

    def failed(self, reason: Failure) -> None:
        """
        Say in the log what went wrong, and cut the connection: the last errback of whatever is done for it.

        :param reason: what went wrong.
        """
        self.report(described(reason))
        self.cut()

    def fence(self, call: Callable[..., object], *arguments: object) -> None:
        """
        Do something for this connection that may go wrong.

        :param call: what to call.
        :param arguments: with what.
        """
        try:
            call(*arguments)
        except Exception:
            self.failed(Failure())

    def report(self, what: str) -> None:
        """
        Say something about this connection in the log.

        :param what: what.
        """
        self.server.report(str(self), what)

    def __str__(self) -> str:
        """Say who the peer is."""
        host: str | None = getattr(self._address, "host", None)
        if host is None:
            return "a UNIX socket"
        return f"[{host}]:{self._address.port}" if ":" in host else f"{host}:{self._address.port}"  # type: ignore[union-attr]

    # For the server.

    def look(self, now: float) -> None:
        """
        End what takes too long.

        :param now: the time.
        """
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
    """A protocol's, or TLS's, as the transport sees it."""

    def __init__(self, connection: ServerConnection, producer: Any) -> None:
        self._connection = connection
        self._producer = producer

    def pauseProducing(self) -> None:
        """The peer does not read."""
        connection = self._connection
        if connection.paused is None:
            connection.paused = connection.server.clock.seconds()
            connection.server.limits.unread.add(connection, _FULL)
        connection.fence(self._producer.pauseProducing)

    def resumeProducing(self) -> None:
        """It has read all."""
        connection = self._connection
        connection.paused = None
        connection.server.limits.unread.forget(connection)
        connection.fence(self._producer.resumeProducing)

    def stopProducing(self) -> None:
        """It is gone."""
        self._connection.fence(self._producer.stopProducing)


class ServerConnections(Factory):
    """
    All connections to a face.

    :param clock: the reactor, or a ``Clock``.
    :param build: makes a protocol.
    :param limits: what a caller may have.
    :param face: what the face is called in the log.

    :ivar draining: whether everybody is sent away.
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
        self._face = face
        self._unauthenticated: dict[ServerConnection, None] = {}  # in the order in which they came
        self._authenticated: dict[ServerConnection, None] = {}
        self._origins: dict[str, dict[ServerConnection, None]] = {}
        self._sweep = Alarm(clock, self._look)
        self._closed: Waiters[None] = Waiters()
        self._lines = (-1, 0)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._unauthenticated) + len(self._authenticated)

    def encrypted(self, tls: IOpenSSLServerConnectionCreator | CertificateOptions) -> IProtocolFactory:
        """
        Make a factory for an endpoint whose connections are over TLS.

        :param tls: what makes the TLS connections.
        """
        return _Encrypted(self, tls)

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        """Make a connection, if there is a file descriptor left for it."""
        if self._is_short():
            return None
        protocol = self._build()
        return ServerConnection(self, protocol, protocol, addr)

    def build_encrypted(self, over: TLSMemoryBIOFactory, addr: IAddress | None) -> ServerConnection | None:
        """
        Make a connection over TLS, likewise.

        :param over: makes the TLS.
        :param addr: where the peer is.
        """
        if self._is_short():
            return None
        protocol = self._build()
        return ServerConnection(self, protocol, BufferingTLSTransport(over, protocol), addr)

    def _is_short(self) -> bool:
        """Whether there is no descriptor left. A stranger has to go then, so that whoever comes next finds one."""
        if self.limits.last or are_left():
            return False
        if self._unauthenticated:
            self._drop(next(iter(self._unauthenticated)))
        return True

    def drain(self) -> None:
        """Take nothing more; each connection finishes what is under way, and closes."""
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
        :returns: a ``Deferred`` that fires when none is left.
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
        """Whether anybody new is let in."""
        return not self.draining

    def admit(self, connection: ServerConnection) -> bool:
        """
        Count a connection; where there are too many, another one has to go for it.

        :param connection: the connection.
        :returns: whether anybody is let in.
        """
        if not self.admits():
            return False
        alike = self._origins.get(connection.origin, {})
        if len(alike) >= self.limits.unauthenticated:
            self._drop(next(iter(alike)))
        if self.count >= self.limits.clients:
            self._drop(
                next(iter(self._unauthenticated))
            )  # there is one: those who are known do not have all the places
        self.place(connection)
        self._sweep.set(_SWEEP)
        return True

    def mark_authenticated(self, connection: ServerConnection) -> None:
        """
        Count a connection among those of known callers, if there is room among them, or somebody there is idle.

        :param connection: the connection.
        """
        if len(self._authenticated) >= self.limits.clients - max(1, self.limits.clients // _FRESH):
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
        """
        Note whether a connection is a stranger's or a known caller's.

        :param connection: the connection.
        """
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
        """
        Forget a connection.

        :param connection: the connection.
        """
        self.limits.unread.forget(connection)
        self.limits.unfinished.forget(connection)
        self._displace(connection)
        if self.count:
            return
        self._sweep.cancel()
        self._closed.fire(None)

    def _look(self) -> None:
        self._sweep.set(_SWEEP)
        now = self.clock.seconds()
        for connection in self._all():
            connection.fence(connection.look, now)

    def report(self, peer: str, what: str) -> None:
        """
        Say in the log what happened to a connection, unless much has been said already in this second.

        :param peer: whose it was.
        :param what: what happened.
        """
        second = int(self.clock.seconds())
        since, lines = self._lines
        if since != second:
            if lines > _LINES:
                _log.warn("{face}: {count} more connections failed", face=self._face, count=lines - _LINES)
            lines = 0
        self._lines = second, lines + 1
        if lines < _LINES:
            _log.warn("{face}: the connection of {peer} failed: {what}", face=self._face, peer=peer, what=what)


class _Encrypted(Factory):
    """Builds the connections to a face that are over TLS."""

    noisy = False

    def __init__(self, server: ServerConnections, tls: IOpenSSLServerConnectionCreator | CertificateOptions) -> None:
        self._guard = server
        self._over = TLSMemoryBIOFactory(tls, False, server, server.clock)

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        return self._guard.build_encrypted(self._over, addr)


def _origin(address: IAddress | None) -> str:
    """Tell whose strangers are counted together: those of an address, or of a network of IPv6; nothing for others."""
    host: str = getattr(address, "host", None) or ""
    if ":" not in host:
        return host
    found = ipaddress.IPv6Address(host)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found.packed, 64), strict=False))


def described(reason: Failure) -> str:
    """
    Say in a line what went wrong, and where in our own code.

    :param reason: what went wrong.
    """
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(reason.getTracebackObject())]
    ours = [each for each in frames if "/txapns/" in each[0].co_filename.replace("\\", "/")] or frames
    where = "".join(f" (line {line} of {code.co_filename}, {code.co_name})" for code, line in ours[-1:])
    return f"{type(reason.value).__name__}: {reason.getErrorMessage()[:_LONG]}{where}".replace("\n", " ")


def _words(reason: Failure) -> str:
    """Say what OpenSSL says."""
    arguments = getattr(reason.value, "args", ())
    causes = arguments[0] if arguments and isinstance(arguments[0], list) else []
    return "; ".join(str(cause[-1]) for cause in causes) or "the peer has gone"
