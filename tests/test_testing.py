"""Tests for :mod:`txapns.testing`."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.client_case import AUTHORITY, DEAD, HELLO, tokens
from txapns import Accepted, Rejection
from txapns._network.clocks import IWallClock
from txapns.testing import MemoryReactor, MemorySimulator

__all__ = ["MemoryReactorTests", "MemorySimulatorTests"]


class Attempt(ClientFactory):
    """Records how an attempt to connect ends."""

    protocol = Protocol
    failure: Failure | None = None

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Record it."""
        self.failure = reason


class MemoryReactorTests(SynchronousTestCase):
    """The reactor in memory."""

    def setUp(self) -> None:
        """Make one."""
        self.reactor = MemoryReactor()

    def test_wall_clock(self) -> None:
        """The wall clock follows the reactor's time; when it is set, no time passes."""
        verifyObject(IWallClock, self.reactor.wall)
        self.assertIs(IWallClock(self.reactor), self.reactor.wall)
        self.reactor.advance(5)
        self.assertEqual(self.reactor.wall.now(), 5)
        self.reactor.wall.step(-3)
        self.assertEqual((self.reactor.wall.now(), self.reactor.seconds()), (2, 5))
        self.reactor.advance(1)
        self.assertEqual(self.reactor.wall.now(), 3)

    def test_advance(self) -> None:
        """Each call is made at its time, and so are the calls that it makes."""
        made: list[float] = []

        def call() -> None:
            made.append(self.reactor.seconds())
            if len(made) < 3:
                self.reactor.callLater(2, call)

        self.reactor.callLater(1, call)
        self.reactor.advance(10)
        self.assertEqual((made, self.reactor.seconds()), ([1, 3, 5], 10))

    def test_no_server(self) -> None:
        """A connection to a port without a server is refused, and counted."""
        attempt = Attempt()
        verifyObject(IConnector, self.reactor.connectTCP("127.0.0.1", 1, attempt))
        self.assertIsNone(attempt.failure)
        self.reactor.flush()
        assert attempt.failure is not None
        self.assertIsNotNone(attempt.failure.check(error.ConnectionRefusedError))
        self.assertEqual(self.reactor.attempts, 1)

    def test_stop_connecting(self) -> None:
        """A stopped attempt does not end."""
        attempt = Attempt()
        connector = self.reactor.connectTCP("127.0.0.1", 1, attempt)
        connector.stopConnecting()
        connector.stopConnecting()
        self.reactor.advance(100)
        self.assertIsNone(attempt.failure)


class MemorySimulatorTests(SynchronousTestCase):
    """The simulator in memory."""

    def setUp(self) -> None:
        """Make one with two dead tokens, of which one is raw."""
        self.simulator = MemorySimulator(dead=[DEAD, b"\xcc" * 32], authority=AUTHORITY)

    def test_client(self) -> None:
        """Its clients speak both protocols, with either credential."""
        for gateway, credential in (
            ("http2", None),
            ("http2", self.simulator.provider_token()),
            ("binary", self.simulator.certificate()),
            (self.simulator.gateway("binary", barrier=True), None),
        ):
            client = self.simulator.client(gateway, credential)
            batch = self.simulator.result(client.send(HELLO, [*tokens(3), DEAD, "cc" * 32]))
            self.assertEqual(sorted(batch.failed), [3, 4])
            self.simulator.result(client.close())

    def test_delay(self) -> None:
        """Responses take as long as it was asked to; advance() lets the time pass."""
        simulator = MemorySimulator(authority=AUTHORITY, delay=3.0)
        sending = simulator.client().send_one(HELLO, "aa" * 32)
        simulator.advance(2.9)
        self.assertNoResult(sending)
        simulator.advance(0.2)
        self.assertIsInstance(self.successResultOf(sending), Accepted)

    def test_result(self) -> None:
        """It returns a result and raises an error; a Deferred that does not fire in time fails the test."""
        rejection = self.simulator.result(self.simulator.client().send_one(HELLO, DEAD))
        self.assertIsInstance(rejection, Rejection)
        failed: Deferred[None] = Deferred()
        self.simulator.reactor.callLater(5, failed.errback, LookupError("x"))
        self.assertRaises(LookupError, self.simulator.result, failed)
        late = self.assertRaises(AssertionError, self.simulator.result, Deferred(), within=7)
        self.assertEqual(str(late), "the Deferred did not fire within 7 s")
