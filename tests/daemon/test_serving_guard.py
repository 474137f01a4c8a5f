"""Tests for :mod:`txapns.daemon.serving.guard`, beside those of the faces that use it."""

from __future__ import annotations

import contextlib

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns.credentials import Certificate
from txapns.daemon.serving.guard import Peer, Peers, ServerTLS
from txapns.daemon.serving.http import Bounds
from txapns.simulator import Authority

__all__ = ["PeersTests", "ServerTLSTests"]

AUTHORITY = Authority()
SERVER = Certificate.from_pem(AUTHORITY.server_certificate())
KNOWN, UNKNOWN = (Certificate.from_pem(AUTHORITY.client_pem()) for _ in range(2))


class Pipe(StringTransport):
    """A transport that can be cut; as a UNIX socket's, it knows nothing of TCP."""

    aborted = False

    def abortConnection(self) -> None:
        """It is cut."""
        self.aborted = True


class Idler(Peer):
    """A connection that does nothing, or is busy with it."""

    working = False

    def __init__(self, peers: Peers) -> None:
        super().__init__(peers)
        self.heard: list[str] = []

    @property
    def busy(self) -> bool:
        """Whether it is."""
        return self.working

    def begun(self) -> None:
        """It can be used."""
        self.heard.append("begun")

    def gone(self, reason: Failure) -> None:
        """It cannot any more."""
        self.heard.append("gone")

    def check(self, now: float) -> None:
        """It may take as long as it likes."""

    def finish(self) -> None:
        """It is to finish."""
        self.heard.append("finish")


class PeersTests(SynchronousTestCase):
    """How many there may be, and how they end."""

    def setUp(self) -> None:
        """Have room for two."""
        self.clock = Clock()
        self.peers = Peers(self.clock, Idler, Bounds(clients=2, request=30.0))

    def connect(self) -> tuple[Idler, Pipe]:
        """Have one."""
        peer, transport = self.peers.buildProtocol(None), Pipe()
        assert isinstance(peer, Idler)
        peer.makeConnection(transport)
        self.clock.advance(0.1)
        return peer, transport

    def lose(self, peer: Idler) -> None:
        """Lose one."""
        peer.connectionLost(Failure(ConnectionDone()))

    def test_interface(self) -> None:
        """It wants to know when the handshake is over."""
        verifyObject(IHandshakeListener, Idler(self.peers))

    def test_room(self) -> None:
        """The one that is not busy has to go for another; where all are, the other is turned away."""
        (first, pipe), (second, other) = self.connect(), self.connect()
        first.working = True
        third, another = self.connect()
        self.assertEqual([each.aborted for each in (pipe, other, another)], [False, True, False])
        self.lose(second)
        third.working = True
        fourth, refused = self.connect()
        self.assertEqual((refused.aborted, fourth.heard, len(self.peers)), (True, [], 2))
        self.lose(fourth)
        self.assertEqual((fourth.heard, fourth.lost, len(self.peers)), ([], True, 2))

    def test_no_timers_left(self) -> None:
        """Where there is no connection, there is no timer."""
        peer, _ = self.connect()
        self.clock.advance(5)
        self.lose(peer)
        self.assertEqual((peer.heard, self.clock.getDelayedCalls()), (["begun", "gone"], []))

    def test_one_that_fails(self) -> None:
        """One that cannot be looked after is cut; the others are looked after all the same."""

        def fail(now: float) -> None:
            raise ValueError("unlucky")

        (first, pipe), (second, other) = self.connect(), self.connect()
        looks: list[float] = []
        first.check, second.check = fail, looks.append
        self.clock.advance(1.0)
        self.assertEqual([each.aborted for each in (pipe, other)], [True, False])
        self.assertEqual(len(looks), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_close(self) -> None:
        """All are asked to finish, then cut; nobody new is let in."""
        self.successResultOf(Peers(self.clock, Idler, Bounds()).close())
        peer, pipe = self.connect()
        self.peers.drain()
        closed = self.peers.close(2.0)
        self.assertEqual(peer.heard, ["begun", "finish", "finish"])
        self.assertTrue(self.connect()[1].aborted)
        self.clock.advance(1.5)
        self.assertFalse(pipe.aborted)
        self.clock.advance(0.5)
        self.assertTrue(pipe.aborted)
        self.assertNoResult(closed)
        self.lose(peer)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cut_twice(self) -> None:
        """What is gone cannot be cut."""
        peer, pipe = self.connect()
        self.lose(peer)
        peer.cut()
        self.assertFalse(pipe.aborted)


class ServerTLSTests(SynchronousTestCase):
    """Who gets through the handshake."""

    def shake(self, shown: Certificate | None, *, newest: int = SSL.TLS1_3_VERSION, **options: bool) -> SSL.Connection:
        """Shake hands in memory; returns the client's side."""
        tls = ServerTLS(
            SERVER, lambda found: found == KNOWN.fingerprint, protocols=[b"h2"], **{"required": True, **options}
        )
        verifyObject(IOpenSSLServerConnectionCreator, tls)
        server = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
        server.set_accept_state()
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(newest)
        context.set_alpn_protos([b"http/1.1", b"h2"])
        if shown is not None:
            context.use_certificate(shown.certificate)
            context.use_privatekey(shown.private_key)
        client = SSL.Connection(context)
        client.set_connect_state()
        for _ in range(5):
            for side, other in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    side.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(side.bio_read(65_536))
        with contextlib.suppress(SSL.WantReadError):
            client.recv(1)  # an alert, if there is one
        return client

    def test_known(self) -> None:
        """Who is known gets through, with HTTP/2."""
        self.assertEqual(self.shake(KNOWN).get_alpn_proto_negotiated(), b"h2")

    def test_unknown(self) -> None:
        """Who is not is refused, and so is who shows nothing, unless nothing has to be shown."""
        for shown in (UNKNOWN, None):
            with self.assertRaises(SSL.Error):
                self.shake(shown)
        with self.assertRaises(SSL.Error):
            self.shake(UNKNOWN, required=False)
        self.shake(None, required=False)

    def test_versions(self) -> None:
        """The newest version is TLS 1.2 on demand; nothing older is spoken."""
        self.assertEqual(self.shake(KNOWN).get_protocol_version_name(), "TLSv1.3")
        self.assertEqual(self.shake(KNOWN, tls12=True).get_protocol_version_name(), "TLSv1.2")
        with self.assertRaises(SSL.Error):
            self.shake(KNOWN, newest=SSL.TLS1_1_VERSION)
