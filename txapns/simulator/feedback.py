"""
The feedback service, from Apple's side: it lists the dead tokens to each connection, then closes.

Reading is destructive: a token that was written to a connection is not listed again, whether it arrived or not. One
that was not written, because the provider read slowly and then left, is listed again.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.transports import transport_of
from txapns.simulator.inbox import Inbox
from txapns.wire import feedback

__all__ = ["FeedbackServer"]

#: How many tuples are written at once.
CHUNK = 500
#: The time between the writes of a fault, in seconds; with less, TLS joins them.
PAUSE = 0.01

#: A fault to inject: given the bytes of the next tuple before they are written (empty at the end of the list), it may
#: do something to the connection instead.
Fault = Callable[["FeedbackServer", bytes], None]


@implementer(IHandshakeListener, IPushProducer)
class FeedbackServer(Protocol):
    """
    One connection of a provider.

    :param clock: the reactor, or a ``Clock``.
    :param inbox: the devices.
    :param fault: what to do wrong; see :data:`Fault`.
    """

    def __init__(self, clock: IReactorTime, inbox: Inbox, *, fault: Fault | None = None) -> None:
        self._clock = clock
        self._inbox = inbox
        self._fault = fault
        self._paused = True
        self._over = False
        self._later: IDelayedCall | None = None

    def handshakeCompleted(self) -> None:
        """List the tokens that were not listed before, as fast as the provider reads."""
        self._unlisted = self._inbox.unlisted()
        transport_of(self).registerProducer(self, True)
        self.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop listing."""
        self._over = True
        if self._later is not None:
            self._later.cancel()
            self._later = None

    # IPushProducer

    def pauseProducing(self) -> None:
        """Pause: the transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Continue."""
        self._paused = False
        while not (self._paused or self._over):
            self._write_some()

    def stopProducing(self) -> None:
        """Do nothing: ``connectionLost`` follows."""

    def _write_some(self) -> None:
        assert self.transport is not None
        entries = list(islice(self._unlisted, CHUNK if self._fault is None else 1))
        data = b"".join(feedback.encode(int(since), token) for token, since in entries)
        if self._fault is not None:
            self._fault(self, data)
            if self._over:
                return
        self.transport.write(data)
        self._inbox.listed.update(token for token, _ in entries)
        if not entries:
            self._over = True
            self._close()

    # A fault can do these. Each ends the list; what was not written by then is listed to the next connection.

    def finish(self, *pieces: bytes) -> None:
        """Send these pieces in separate writes, and close."""
        self._schedule(list(pieces), self._close)

    def drop(self, *pieces: bytes) -> None:
        """Send these pieces in separate writes, and close without TLS's close_notify, as many servers do."""
        self._schedule(list(pieces), self._drop)

    def stall(self) -> None:
        """Send nothing more, and leave the connection open."""
        self._over = True

    def abort(self) -> None:
        """Abort the connection: what has not arrived may be lost."""
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
