"""
The feedback service, from Apple's side: on connection it lists the dead tokens, then closes.

Reading is destructive: a token that was written to a connection is not listed again, whether it arrived or not. One
that was not written, because the provider reads slowly and then leaves, is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.transports import transport_of
from txapns.simulator.devices import Devices
from txapns.wire import feedback

__all__ = ["FeedbackServer"]

#: How many tuples go into one write.
CHUNK = 500
#: How long there is between the writes of a fault, in seconds; less, and TLS makes one of them.
PAUSE = 0.01

#: A fault to play: given the next tuple's octets before they are written, and none at the end of the list, it may do
#: something to the connection instead.
Fault = Callable[["FeedbackServer", bytes], None]


@implementer(IHandshakeListener, IPushProducer)
class FeedbackServer(Protocol):
    """
    One connection of a provider.

    :param clock: the reactor, or a ``Clock``.
    :param devices: the devices.
    :param fault: what to do wrong; see :data:`Fault`.
    """

    def __init__(self, clock: IReactorTime, devices: Devices, *, fault: Fault | None = None) -> None:
        self._clock = clock
        self._devices = devices
        self._fault = fault
        self._paused = True
        self._over = False
        self._later: IDelayedCall | None = None

    def handshakeCompleted(self) -> None:
        """List what was not listed before, as fast as the provider reads."""
        self._unlisted = self._devices.unlisted()
        transport_of(self).registerProducer(self, True)
        self.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is nobody to list anything to."""
        self._over = True
        if self._later is not None:
            self._later.cancel()
            self._later = None

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._paused = False
        while not (self._paused or self._over):
            self._write_some()

    def stopProducing(self) -> None:
        """The transport is going away; ``connectionLost`` follows."""

    def _write_some(self) -> None:
        assert self.transport is not None
        entries = list(islice(self._unlisted, CHUNK if self._fault is None else 1))
        octets = b"".join(feedback.encode(int(since), token) for token, since in entries)
        if self._fault is not None:
            self._fault(self, octets)
            if self._over:
                return
        self.transport.write(octets)
        self._devices.listed.update(token for token, _ in entries)
        if not entries:
            self._over = True
            self._close()

    # What a fault can do. Each ends the list, and what was not written by then is listed to the next connection.

    def finish(self, *pieces: bytes) -> None:
        """
        Send these, in separate writes, and close.

        :param pieces: what to send.
        """
        self._schedule(list(pieces), self._close)

    def drop(self, *pieces: bytes) -> None:
        """
        Send these, in separate writes, and close without TLS's goodbye, as many servers do.

        :param pieces: what to send.
        """
        self._schedule(list(pieces), self._drop)

    def stall(self) -> None:
        """Say nothing more, and leave the connection open."""
        self._over = True

    def abort(self) -> None:
        """Cut the connection: what is on its way may be lost."""
        self._over = True
        transport_of(self).transport.abortConnection()  # TCP's, below TLS

    def _schedule(self, pieces: list[bytes], end: Callable[[], None]) -> None:
        self._over = True
        self._later = self._clock.callLater(PAUSE, self._play, pieces, end)

    def _play(self, pieces: list[bytes], end: Callable[[], None]) -> None:
        assert self.transport is not None
        self._later = None
        if pieces:
            self.transport.write(pieces[0])
            self._schedule(pieces[1:], end)
        else:
            end()

    def _close(self) -> None:
        transport = transport_of(self)
        transport.unregisterProducer()
        transport.loseConnection()

    def _drop(self) -> None:
        transport = transport_of(self)
        transport.unregisterProducer()
        transport.transport.loseConnection()  # TCP's, below TLS
