"""Tests for :mod:`txapns._serving.connections`, beside those of the faces that use it."""

from __future__ import annotations

from collections.abc import Callable
from socket import socketpair

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPullProducer, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns._serving.connections import LINGER, FaceProtocol, ServerConnection, ServerConnections, _Producer
from txapns._serving.limits import ConnectionLimits, MemoryBudget

__all__ = ["FenceTests", "HandOverTests", "RoomTests", "ServerConnectionsTests", "TimeTests", "UnreadTests"]


class Pipe(StringTransport):
    """A transport that can be aborted. Like that of a UNIX socket, it knows nothing of TCP."""

    aborted = False

    def abortConnection(self) -> None:
        """Note that it is aborted."""
        self.aborted = True


class Idler(FaceProtocol):
    """A protocol that does nothing, or is busy doing nothing, or fails."""

    working = False
    unlucky = False

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def note(self, what: str) -> None:
        """Record an event, or fail."""
        self.heard.append(what)
        if self.unlucky:
            raise ValueError("unlucky\nin two lines")

    @property
    def busy(self) -> bool:
        """Whether it is busy."""
        return self.working

    def begun(self) -> None:
        """Record it."""
        self.note("begun")

    def gone(self, reason: Failure) -> None:
        """Record it."""
        self.note("gone")

    def check(self, now: float) -> None:
        """Record it."""
        self.note("check")

    def finish(self) -> None:
        """Record it."""
        self.note("finish")

    def dataReceived(self, data: bytes) -> None:
        """Record it."""
        self.note(data.decode())

    def pauseProducing(self) -> None:
        """Record it."""
        self.note("pause")

    def resumeProducing(self) -> None:
        """Record it."""
        self.note("resume")

    def stopProducing(self) -> None:
        """Record it."""
        self.note("stop")


class ConnectionsCase(SynchronousTestCase):
    """Connections to one face."""

    limits = ConnectionLimits(body=1_000, clients=2, request=30.0, idle=60.0)

    def setUp(self) -> None:
        """Make the server."""
        self.clock = Clock()
        self.server = ServerConnections(self.clock, Idler, self.limits, "a face")
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def log(self, event: LogEvent) -> None:
        """Collect what a server logs."""
        if event["log_namespace"] == "txapns._serving.failures":
            self.assertNotIn("log_failure", event)
            self.lines.append(formatEvent(event))

    def connect(self, host: str | None = None) -> tuple[ServerConnection, Pipe]:
        """Make a connection, over TCP or a UNIX socket."""
        address = UNIXAddress(None) if host is None else IPv4Address("TCP", host, 1_000)
        connection, transport = self.server.buildProtocol(address), Pipe()
        connection.makeConnection(transport)
        self.clock.advance(0.1)
        return connection, transport

    def several(self, count: int, host: str | None = None) -> tuple[list[ServerConnection], list[Pipe]]:
        """Make several."""
        connections, pipes = zip(*[self.connect(host) for _ in range(count)], strict=True)
        return list(connections), list(pipes)

    def lose(self, connection: ServerConnection) -> None:
        """Lose a connection."""
        connection.connectionLost(Failure(ConnectionDone()))


class ServerConnectionsTests(ConnectionsCase):
    """How connections begin and end."""

    def test_interfaces(self) -> None:
        """A protocol learns when the handshake is complete, and a fenced producer is a producer."""
        verifyObject(IHandshakeListener, Idler())
        connection, _ = self.connect()
        verifyObject(IPushProducer, _Producer(connection, connection.protocol))
        verifyObject(IPullProducer, _Producer(connection, connection.protocol))

    def test_no_timers_left(self) -> None:
        """Without connections there is no timer."""
        connection, _ = self.connect()
        protocol = connection.protocol
        self.clock.advance(5)
        self.lose(connection)
        self.assertEqual((protocol.heard[0], protocol.heard[-1]), ("begun", "gone"))
        self.assertEqual((self.clock.getDelayedCalls(), self.server.count), ([], 0))

    def test_close(self) -> None:
        """All are asked to finish, then cut; no new ones are accepted."""
        self.successResultOf(ServerConnections(self.clock, Idler, ConnectionLimits(), "another").close())
        connection, pipe = self.connect()
        protocol = connection.protocol
        self.server.drain()
        closed = self.server.close(2.0)
        self.assertEqual(protocol.heard, ["begun", "finish", "finish"])
        refused, other = self.connect()
        self.assertTrue(other.aborted)
        self.lose(refused)
        self.clock.advance(1.5)
        self.assertFalse(pipe.aborted)
        self.clock.advance(0.5)
        self.assertTrue(pipe.aborted)
        self.assertNoResult(closed)
        self.lose(connection)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cut(self) -> None:
        """A connection that is cut neither reads nor writes; one that is lost cannot be cut."""
        connection, pipe = self.connect()
        connection.cut()
        connection.dataReceived(b"late")
        connection.write(b"late")
        protocol = connection.protocol
        self.assertEqual((pipe.aborted, pipe.value(), protocol.heard), (True, b"", ["begun"]))
        other, another = self.connect()
        self.lose(other)
        other.cut()
        self.assertFalse(another.aborted)

    def test_end(self) -> None:
        """What arrives after the close is discarded for a moment; a peer that sends too much of it is cut at once."""
        (first, pipe), (second, other) = self.connect(), self.connect()
        for connection in (first, second):
            connection.registerProducer(connection.protocol, True)
            connection.end()
            connection.end()
            connection.dataReceived(b"late")
        second.dataReceived(b"x" * 1_001)
        self.assertEqual((pipe.disconnecting, pipe.aborted, other.aborted), (True, False, True))
        self.assertEqual([each.protocol.heard for each in (first, second)], [["begun"]] * 2)
        self.clock.pump([1.0] * int(LINGER + 1))
        self.assertTrue(pipe.aborted)

    def test_hang_up(self) -> None:
        """A hang-up does not wait for the peer, except to read what was written before."""
        connection, pipe = self.connect()
        connection.registerProducer(connection.protocol, True)
        connection.hang_up()
        self.assertEqual((pipe.disconnecting, pipe.aborted), (True, False))
        self.clock.pump([1.0] * int(LINGER + 1))
        self.assertTrue(pipe.aborted)


class RoomTests(ConnectionsCase):
    """The number of connections, and which are dropped."""

    limits = ConnectionLimits(clients=20, unauthenticated=5)

    def gone(self, pipes: list[Pipe]) -> list[int]:
        """List which are cut."""
        return [position for position, pipe in enumerate(pipes) if pipe.aborted]

    def test_unauthenticated_first(self) -> None:
        """The oldest unauthenticated connection is dropped, busy or not, before any authenticated one."""
        connections, pipes = self.several(20)
        for connection in connections[:10]:
            connection.mark_authenticated()
        connections[10].protocol.working = True
        connections[10].active = self.clock.seconds()
        self.several(7)
        self.assertEqual(self.gone(pipes), [10, 11, 12, 13, 14, 15, 16])
        self.assertEqual(self.server.count, 20)

    def test_known(self) -> None:
        """If the authenticated ones need more places than they have, the one that was idle the longest is dropped."""
        connections, pipes = self.several(20)
        for connection in connections:
            connection.protocol.working = connection is connections[0]
            connection.active = self.clock.seconds() - (connection is connections[7])
            connection.mark_authenticated()
        self.assertEqual(self.gone(pipes), [1, 7])
        self.several(5)
        self.assertEqual((self.gone(pipes), self.server.count), ([1, 7], 20))

    def test_all_busy(self) -> None:
        """No authenticated one is cut while its request is being answered, unless it does not read; others wait."""
        connections, pipes = self.several(20)
        for connection in connections:
            connection.protocol.working = True
            connection.mark_authenticated()
        self.assertEqual([each.authenticated for each in connections], [True] * 18 + [False] * 2)
        self.connect()
        self.assertEqual((self.gone(pipes), self.server.count), ([18], 20))
        connections[7].registerProducer(connections[7].protocol, True)
        pipes[7].producer.pauseProducing()
        connections[19].mark_authenticated()
        self.assertEqual((self.gone(pipes), connections[19].authenticated), ([7, 18], True))

    def test_addresses(self) -> None:
        """The number of unauthenticated connections from one address is limited; authenticated ones do not count."""
        connections, pipes = self.several(5, "192.0.2.1")
        connections[0].mark_authenticated()
        self.several(3, "192.0.2.2")
        self.several(3, "192.0.2.1")
        self.assertEqual(self.gone(pipes), [1, 2])
        _, others = self.several(8)
        self.assertEqual(self.gone(others), [])

    def test_networks(self) -> None:
        """For IPv6 the network of 64 bits counts, and an IPv4 address is the same in either notation."""
        for first, second, same in (
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("fe80::1%eth0", "fe80::2%eth0", True),
        ):
            one, other = (
                self.server.buildProtocol(IPv6Address("TCP", host, 1) if ":" in host else IPv4Address("TCP", host, 1))
                for host in (first, second)
            )
            self.assertEqual(one.origin == other.origin, same, (first, second))

    def test_flood(self) -> None:
        """However many unauthenticated ones arrive, the authenticated ones stay."""
        connections, pipes = self.several(10)
        for connection in connections:
            connection.mark_authenticated()
        self.several(500)
        self.assertEqual((self.gone(pipes), self.server.count), ([], 20))


class TimeTests(ConnectionsCase):
    """Time limits."""

    def test_not_reading(self) -> None:
        """A peer that reads nothing is cut, an unauthenticated one sooner; one that reads is not."""
        (first, pipe), (second, other) = self.connect(), self.connect()
        second.mark_authenticated()
        for connection, each in ((first, pipe), (second, other)):
            connection.registerProducer(connection.protocol, True)
            each.producer.pauseProducing()
        self.clock.pump([1.0] * 29)
        self.assertFalse(pipe.aborted)
        self.clock.pump([1.0] * 2)
        self.assertEqual((pipe.aborted, other.aborted), (True, False))
        other.producer.resumeProducing()
        other.producer.pauseProducing()
        self.clock.pump([1.0] * 58)
        self.assertFalse(other.aborted)
        self.clock.pump([1.0] * 3)
        self.assertTrue(other.aborted)
        self.assertEqual(second.protocol.heard.count("resume"), 1)


class OtherConnection(Connection):
    """A transport of a Twisted that keeps elsewhere what waits."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Let it wait."""
        self.waiting.append(data)

    def writeSomeData(self, data: bytes) -> int:
        """Overtake it."""
        raise AssertionError(f"{data!r} was written before {self.waiting}")


class HandOverTests(ConnectionsCase):
    """What is handed to the network at once."""

    def test_at_once(self) -> None:
        """What is written goes out without a turn of the reactor, unless something waits to be written before it."""
        ours, theirs = socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        theirs.setblocking(False)
        connection, _ = self.connect()
        connection.transport = Connection(ours, connection, MemoryReactorClock())
        connection.transport.connected = True
        connection.write(b"at once")
        self.assertEqual(theirs.recv(100), b"at once")
        connection.transport.write(b"waits")
        connection.write(b" behind it")
        self.assertRaises(BlockingIOError, theirs.recv, 100)
        connection.transport.doWrite()
        self.assertEqual(theirs.recv(100), b"waits behind it")

    def test_unknown(self) -> None:
        """Where nothing tells whether something waits, Twisted writes."""
        connection, _ = self.connect()
        connection.transport = OtherConnection()
        connection.write(b"first")
        connection.write(b"second")
        self.assertEqual(connection.transport.waiting, [b"first", b"second"])


class UnreadTests(ConnectionsCase):
    """What is written and not read."""

    limits = ConnectionLimits(clients=100, unread=MemoryBudget(400_000))

    def stall(self, connection: ServerConnection, pipe: Pipe) -> None:
        """Stop reading."""
        connection.registerProducer(connection.protocol, True)
        pipe.producer.pauseProducing()

    def test_bound(self) -> None:
        """If too much is unread, the peer that has read nothing the longest is cut, unauthenticated ones first."""
        connections, pipes = self.several(6)
        connections[0].mark_authenticated()
        for connection, pipe in zip(connections, pipes, strict=True):
            self.stall(connection, pipe)
        connections[5].writeSequence([b"x" * 10_000, b"x" * 5_000])
        self.assertEqual([pipe.aborted for pipe in pipes], [False, True, False, False, False, False])
        pipes[2].producer.resumeProducing()
        connections[5].write(b"x" * 60_000)
        self.assertEqual([pipe.aborted for pipe in pipes], [False, True, False, False, False, False])
        for connection in connections:
            self.lose(connection)
        self.assertEqual((self.limits.unread._sum, self.limits.unread._held), (0, {}))

    def test_known_too(self) -> None:
        """If all are authenticated, one of these is cut."""
        connections, pipes = self.several(7)
        for connection, pipe in zip(connections, pipes, strict=True):
            connection.mark_authenticated()
            self.stall(connection, pipe)
        self.assertEqual([pipe.aborted for pipe in pipes], [True] + [False] * 6)
        for connection in connections:
            self.lose(connection)


class FenceTests(ConnectionsCase):
    """Exceptions on one connection."""

    def test_each(self) -> None:
        """Every exception is one line in the log and ends that connection; other connections are not affected."""

        def provoke(connection: ServerConnection, pipe: Pipe, what: str) -> None:
            if what == "check":
                self.clock.advance(1.0)
            elif what == "finish":
                self.server.drain()
                self.server.draining = False
            elif what == "gone":
                self.lose(connection)
            elif what == "callback":
                fail(connection.failed)
            elif what == "data":
                connection.dataReceived(b"data")
            else:
                connection.registerProducer(connection.protocol, True)
                getattr(pipe.producer, f"{what}Producing")()

        def fail(errback: Callable[[Failure], None]) -> None:
            errback(Failure(ValueError("unlucky\nin two lines")))

        other, safe = self.connect("192.0.2.7")
        for what in ("check", "finish", "gone", "callback", "data", "pause", "resume", "stop"):
            connection, pipe = self.connect("192.0.2.1")
            connection.protocol.unlucky = True
            provoke(connection, pipe, what)
            [line] = self.lines
            self.lines.clear()
            self.assertTrue(
                line.startswith("a face: the connection of 192.0.2.1:1000 failed: ValueError: unlucky "), line
            )
            self.assertNotIn("\n", line)
            self.assertTrue(connection.over)
            self.assertEqual((pipe.aborted, safe.aborted, other.over), (what != "gone", False, False), what)
            if what != "gone":
                connection.protocol.unlucky = False
                self.lose(connection)
            self.clock.advance(1.0)

    def test_begun(self) -> None:
        """An exception may happen at the beginning; the line names the place in the program."""
        Idler.unlucky = True
        self.addCleanup(setattr, Idler, "unlucky", False)
        _, pipe = self.connect()
        self.assertTrue(pipe.aborted)
        self.assertIn("a UNIX socket", self.lines[0])
        self.assertIn("connections.py, ", self.lines[0])
