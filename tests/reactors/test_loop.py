"""Tests for :mod:`txapns._reactors.loop`."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txapns._reactors.awaiting import result_of
from txapns._reactors.loop import LoopReactor

__all__ = ["NameTests", "ReactorTests"]


@implementer(IResolutionReceiver)
class Receiver:
    """Receives the addresses of a name."""

    def __init__(self) -> None:
        self.found: list[IAddress] = []
        self.complete: Deferred[list[IAddress]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """It begins."""
        self.resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        """One was found."""
        self.found.append(address)

    def resolutionComplete(self) -> None:
        """There are no others."""
        self.complete.callback(self.found)


class ReactorTests(SynchronousTestCase):
    """The reactor on a loop."""

    def on_loop(self, check: Callable[[LoopReactor], Any]) -> None:
        """Run a coroutine function with a reactor."""

        async def main() -> None:
            reactor = LoopReactor(asyncio.get_running_loop())
            await check(reactor)
            reactor.end()

        asyncio.run(main(), debug=True)

    def test_timers(self) -> None:
        """Its timers ring, and do no more after the end."""
        rung: list[str] = []

        async def check(reactor: LoopReactor) -> None:
            first: Deferred[None] = Deferred()
            reactor.callLater(0, rung.append, "at once")
            reactor.callLater(0.001, first.callback, None)
            await result_of(first)
            reactor.callLater(0, rung.append, "never")
            reactor.end()
            await asyncio.sleep(0.01)

        self.on_loop(check)
        self.assertEqual(rung, ["at once"])

    def test_connection(self) -> None:
        """The end closes its connections, and tells their protocols."""
        lost: Deferred[str] = Deferred()
        made: Deferred[Any] = Deferred()

        class Connected(Protocol):
            def connectionMade(self) -> None:
                made.callback(None)

            def connectionLost(self, reason: Any = None) -> None:
                lost.callback(reason.type.__name__)

        async def check(reactor: LoopReactor) -> None:
            port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
            from twisted.internet.endpoints import TCP4ClientEndpoint

            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            await result_of(endpoint.connect(Factory.forProtocol(Connected)))
            await result_of(made)

        self.on_loop(check)
        self.assertEqual(self.successResultOf(lost), "ConnectionLost")

    def test_quiet(self) -> None:
        """It leaves signals, the thread for I/O and the number of threads as they are."""
        before = signal.getsignal(signal.SIGINT), threadable.ioThread, threading.active_count()

        async def check(reactor: LoopReactor) -> None:
            self.assertTrue(reactor.running)
            self.assertIsNone(reactor.waker)

        self.on_loop(check)
        self.assertEqual((signal.getsignal(signal.SIGINT), threadable.ioThread, threading.active_count()), before)


class NameTests(SynchronousTestCase):
    """How names are looked up."""

    def look_up(self, name: str, cancel: bool = False) -> list[IAddress]:
        """Look a name up."""

        async def main() -> list[IAddress]:
            reactor, receiver = LoopReactor(asyncio.get_running_loop()), Receiver()
            verifyObject(IHostnameResolver, reactor.nameResolver)
            resolution = reactor.nameResolver.resolveHostName(receiver, name, 443)
            verifyObject(IHostResolution, resolution)
            self.assertIs(receiver.resolution, resolution)
            if cancel:
                resolution.cancel()
            return await result_of(receiver.complete)

        return asyncio.run(main())

    def test_name(self) -> None:
        """A name has the addresses that the system finds."""
        expected = {address[0] for *_, address in socket.getaddrinfo("localhost", 443)}
        found = self.look_up("localhost")
        self.assertEqual({address.host for address in found}, expected)  # type: ignore[attr-defined]

    def test_address(self) -> None:
        """An address is its own; no thread is needed for it."""
        threads = threading.active_count()
        self.assertEqual(self.look_up("127.0.0.1"), [IPv4Address("TCP", "127.0.0.1", 443)])
        self.assertEqual(threading.active_count(), threads)

    def test_unknown(self) -> None:
        """A name that does not exist has no addresses, and neither has one that no query can carry."""
        for name in ("gateway.invalid", "a" * 64 + ".example"):
            self.assertEqual(self.look_up(name), [])

    def test_cancelled(self) -> None:
        """A look-up that is cancelled finds nothing."""
        self.assertEqual(self.look_up("localhost", cancel=True), [])
        self.assertEqual(self.look_up("127.0.0.1", cancel=True), [IPv4Address("TCP", "127.0.0.1", 443)])
