"""
Connections of the faces that do not speak HTTP/1.1: how many there may be, how long they may take, and TLS that tells
who is calling.

There is no timer for a connection: once in a second all are looked at. A connection that is not ready in time, because
its peer does not go on with the handshake, is cut. Where there are too many, the one that has done nothing for the
longest has to go.

TLS asks for a client certificate and takes any that the face knows by its fingerprint; an unknown one is refused in the
handshake already, as Apple does. Sessions are never resumed, so that a certificate is looked at each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns.credentials import Certificate
from txapns.daemon.serving.http import LINGER, Bounds

__all__ = ["Peer", "Peers", "ServerTLS"]

_log = Logger()

_SWEEP = 1.0  # seconds between two looks at the connections


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """
    What makes the TLS connections of a face.

    :param certificate: what the face shows.
    :param known: tells whether a client certificate is known, by its fingerprint.
    :param required: whether a client without a certificate is turned away.
    :param protocols: what it speaks, by ALPN; a client that names nothing of it is not turned away for that.
    :param tls12: whether TLS 1.2 is the newest version. A server of TLS 1.3 writes to the client at once (tickets),
        which a client that takes whatever can be read for an error does not survive.
    """

    def __init__(
        self,
        certificate: Certificate,
        known: Callable[[str], bool],
        *,
        required: bool,
        protocols: Sequence[bytes] = (),
        tls12: bool = False,
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        if tls12:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.private_key)
        for issuer in certificate.chain:
            context.add_extra_chain_cert(issuer)

        def verify(connection: SSL.Connection, shown: crypto.X509, code: int, depth: int, ok: int) -> bool:
            # Who issued it is of no interest.
            return depth > 0 or known(_fingerprint(shown))

        context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0), verify)
        context.set_alpn_select_callback(
            lambda _, offered: next((each for each in protocols if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL side of one connection."""
        return SSL.Connection(self._context)


def _fingerprint(shown: crypto.X509) -> str:
    return shown.to_cryptography().fingerprint(hashes.SHA256()).hex()


class _TLSTransport(BufferingTLSTransport):
    """
    TLS, which also tells how TCP ended: many programs close it without TLS's goodbye.

    :ivar ended: what TCP said; ``None`` while it is open.
    """

    ended: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note how TCP ended."""
        self.ended = reason
        super().connectionLost(reason)


class _TLSFactory(TLSMemoryBIOFactory):
    protocol = _TLSTransport


@implementer(IHandshakeListener)
class Peer(Protocol, ABC):
    """
    One connection.

    :param peers: to which it belongs.

    :ivar fingerprint: that of the certificate which the peer showed; ``None`` where it showed none.
    :ivar encrypted: whether it is over TLS.
    :ivar active: when the peer last did something that counts.
    """

    transport: Any

    def __init__(self, peers: Peers) -> None:
        self.fingerprint: str | None = None
        self.encrypted = False
        self.active = peers.clock.seconds()
        self.peers = peers
        self._ready = False
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self._lost

    def connectionMade(self) -> None:
        """Count it, or turn it away."""
        if hasattr(self.transport, "setTcpNoDelay"):  # a UNIX socket has nothing of the kind, over TLS or not
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.encrypted = ISSLTransport.providedBy(self.transport)
        if not self.peers.admit(self):
            self.cut()
        elif not self.encrypted:
            self._begin()

    def handshakeCompleted(self) -> None:
        """See who it is."""
        shown = self.transport.getPeerCertificate()
        if shown is not None:
            self.fingerprint = _fingerprint(shown)
        if not self._lost:
            self._begin()

    def _begin(self) -> None:
        self._ready = True
        self.active = self.peers.clock.seconds()
        self.begun()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._lost = True
        self.peers.leave(self)
        ended = getattr(self.transport, "ended", None) or reason
        if self._ready:
            self.gone(ended)

    def cut(self) -> None:
        """Close the connection at once."""
        if not self._lost:
            self.transport.abortConnection()

    def look(self, now: float) -> None:
        """
        End what takes too long.

        :param now: the time.
        """
        if not self._ready:
            if now - self.active >= self.peers.bounds.request:
                self.cut()
        else:
            self.check(now)

    def shut(self) -> None:
        """Take nothing more, finish what is under way, and close."""
        if self._ready:
            self.finish()
        else:
            self.cut()

    # What the protocols differ in.

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether something is under way."""

    @abstractmethod
    def begun(self) -> None:
        """The connection can be used."""

    @abstractmethod
    def gone(self, reason: Failure) -> None:
        """
        It cannot any more.

        :param reason: how TCP ended.
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


class Peers(Factory):
    """
    The connections of one kind.

    :param clock: the reactor, or a ``Clock``.
    :param build: makes one.
    :param bounds: what a caller may have.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, build: Callable[[Peers], Peer], bounds: Bounds) -> None:
        self.clock = clock
        self.bounds = bounds
        self._build = build
        self._peers: dict[Peer, None] = {}
        self._sweep: IDelayedCall | None = None
        self._closed: list[Deferred[None]] = []
        self._stopping = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._peers)

    def encrypted(self, tls: ServerTLS) -> IProtocolFactory:
        """
        Make a factory for an endpoint.

        :param tls: what makes its TLS connections.
        """
        return _TLSFactory(tls, False, self, self.clock)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Make a connection."""
        return self._build(self)

    def drain(self) -> None:
        """Take nothing more; each connection finishes what is under way, and closes."""
        self._stopping = True
        for peer in list(self._peers):
            peer.shut()

    def close(self, grace: float = LINGER) -> Deferred[None]:
        """
        Close all connections.

        :param grace: how long what is under way may take, in seconds.
        :returns: a ``Deferred`` that fires when none is left.
        """
        self.drain()
        if not self._peers:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        cut = self.clock.callLater(grace, self._cut)

        def done(result: None) -> None:
            if cut.active():
                cut.cancel()

        return closed.addCallback(done)

    def _cut(self) -> None:
        for peer in list(self._peers):
            peer.cut()

    # For the connections.

    def admit(self, peer: Peer) -> bool:
        """
        Count a connection; where there are too many, one that does nothing has to go for it.

        :param peer: the connection.
        :returns: whether there is room.
        """
        if self._stopping or (len(self._peers) >= self.bounds.clients and not self._make_room()):
            return False
        self._peers[peer] = None
        if self._sweep is None:
            self._sweep = self.clock.callLater(_SWEEP, self._look)
        return True

    def _make_room(self) -> bool:
        idle = [each for each in self._peers if not each.busy]
        if idle:
            oldest = min(idle, key=lambda each: each.active)
            del self._peers[oldest]
            oldest.cut()
        return bool(idle)

    def leave(self, peer: Peer) -> None:
        """
        Forget a connection.

        :param peer: the connection.
        """
        self._peers.pop(peer, None)
        if self._peers:
            return
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        closed, self._closed = self._closed, []
        for each in closed:
            each.callback(None)

    def _look(self) -> None:
        self._sweep = self.clock.callLater(_SWEEP, self._look)
        now = self.clock.seconds()
        for peer in list(self._peers):
            try:
                peer.look(now)
            except Exception:  # or the others would have no time limits any more
                _log.failure("A connection could not be looked after, and is cut")
                peer.cut()
