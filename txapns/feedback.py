"""
The feedback service of the binary protocol: which devices no longer have the app.

The server lists the dead tokens to whoever connects, closes, and forgets what it has listed. So there is never more
than one connection, a list is read once, and what was read is kept until it is handed over:

- *Read* are the tuples that have arrived completely. They wait in the queue of the client's :class:`FeedbackReader`.
- *Handed over* are those that an iteration has yielded, or that were in the list of a ``Deferred``.
- Whatever ends a reading in between (the server, the network, ``cancel``, a consumer that leaves, ``close``), what was
  read and not handed over comes first from the next call.

The end of the connection is the only mark at the end of a list. With TLS's closing alert the list is complete. Without
it may be: many old servers close the bare TCP connection. So if no byte came, a connection that just ends counts as an
empty list; if some did, its end counts as broken off.

Source: Apple, *Local and Remote Notification Programming Guide* (archived), appendix "Binary Provider API".
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timezone

from twisted.internet import error as neterror
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network import tls
from txapns._network.alarm import Alarm
from txapns._network.clocks import timers
from txapns._network.endpoints import explain_attempt
from txapns._network.transports import transport_of
from txapns.credentials import Credential
from txapns.errors import AnswerTimeout, APNSError, ClientClosed, ConnectFailed, ConnectionLost, LocalError
from txapns.gateway import Gateway
from txapns.wire.feedback import FeedbackParser

__all__ = ["DeadToken", "FeedbackProtocol", "FeedbackReader"]

#: A device token in hexadecimal, and when the service found the app gone.
DeadToken = tuple[str, datetime]

_log = Logger()

#: How many dead tokens a list in memory may have: about 125 MB.
MOST = 500_000
#: Reading the list may take this many times ``timeout``, even if the server is never silent for that long.
PATIENCE = 10


@implementer(IHandshakeListener)
class FeedbackProtocol(Protocol):
    """
    One connection to the feedback service: it reads until the server closes, and writes nothing.

    :param clock: the reactor, or a ``Clock``.
    :param received: called with the dead tokens, a few at a time, as they arrive.
    :param ended: called once when the connection has ended: with the error, or ``None`` if there was none.
    :param credential: what authenticates the connection.
    :param timeout: how long the server may be silent, in seconds.

    :ivar paused: whether it does not read at the moment.
    """

    def __init__(
        self,
        clock: IReactorTime,
        received: Callable[[list[DeadToken]], None],
        ended: Callable[[APNSError | None], None],
        credential: Credential | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._clock = timers(clock)
        self._received = received
        self._ended = ended
        self._credential = credential
        self._timeout = timeout
        self._parser = FeedbackParser()
        self._secure = False
        self._empty = True
        self.paused = False
        self._error: APNSError | None = None
        self._silence: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for the handshake."""
        self._wait()

    def handshakeCompleted(self) -> None:
        """Wait for the list."""
        self._secure = True
        self._wait()

    def dataReceived(self, data: bytes) -> None:
        """Pass on the tuples that are complete."""
        self._empty = False
        self._wait()
        tuples = self._parser.receive(data)
        if tuples:
            self._received([(each.token.hex(), _utc(each.timestamp)) for each in tuples])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report how it ended."""
        self._stop_waiting()
        self._ended(self._explain(reason))

    def pause(self) -> None:
        """Stop reading for now; meanwhile the server's silence does not count."""
        self.paused = True
        self._stop_waiting()
        transport_of(self).pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self.paused = False
        self._wait()
        transport_of(self).resumeProducing()

    def abort(self, error: APNSError) -> None:
        """
        End the connection at once.

        :param error: why.
        """
        self._error = error
        transport_of(self).abortConnection()

    def _explain(self, reason: Failure) -> APNSError | None:
        """Return the error, if there was one."""
        if self._error is not None:
            return self._error
        if self._parser.pending:
            return ConnectionLost(f"the list broke off within a tuple, after {self._parser.pending} bytes of it")
        if not self._secure:
            return tls.explain(reason, self._credential)
        if reason.check(neterror.ConnectionDone) or (self._empty and reason.check(neterror.ConnectionLost)):
            return None
        error = tls.explain(reason, self._credential)
        return ConnectionLost(f"the list broke off: {error}") if isinstance(error, ConnectFailed) else error

    # The deadline for the server's silence.

    def _wait(self) -> None:
        self._stop_waiting()
        if not self.paused:
            self._silence = self._clock.callLater(self._timeout, self._read_first)

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _read_first(self) -> None:
        """Let the reactor read first: it may be this process that was busy for so long."""
        self._silence = self._clock.callLater(0, self._give_up)

    def _give_up(self) -> None:
        self._silence = None
        self.abort(AnswerTimeout(f"the feedback service was silent for {self._timeout:g} s"))


class _Reading:
    """
    One reading of the list: the attempt to connect, the connection, its end.

    :param clock: the reactor, or a ``Clock``.
    :param found: the queue for what is read.
    :param enough: with this many in the queue, it reads on only when :meth:`more` is called.

    :ivar over: whether it has ended, so that there is no connection and will be none.
    :ivar gone: fires when it has ended, after what :meth:`more` returned.
    :ivar error: the error, once it has ended; ``None`` if there was none.
    """

    def __init__(self, clock: IReactorTime, found: deque[DeadToken], enough: int) -> None:
        self.gone: Deferred[None] = Deferred()
        self.over = False
        self.error: APNSError | None = None
        self._clock = clock
        self._found = found
        self._enough = enough
        self._attempt: Deferred[None] | None = None
        self._protocol: FeedbackProtocol | None = None
        self._waking = Alarm(clock, self._wake)
        self._waiting: Deferred[None] | None = None

    def start(self, gateway: Gateway, endpoint: IStreamClientEndpoint, credential: Credential, timeout: float) -> None:
        """Connect."""

        def connected(protocol: FeedbackProtocol) -> None:
            self._protocol = protocol

        def failed(reason: Failure) -> None:
            assert gateway.feedback_host is not None and gateway.feedback_port is not None
            self.end(explain_attempt(reason, gateway.feedback_host, gateway.feedback_port))

        factory = Factory.forProtocol(
            lambda: FeedbackProtocol(self._clock, self._received, self.end, credential, timeout)
        )
        factory.noisy = False
        self._attempt = endpoint.connect(factory).addCallbacks(connected, failed)

    def more(self) -> Deferred[None]:
        """Read on; the ``Deferred`` fires when enough was read, or the reading has ended."""
        if self._protocol is not None and self._protocol.paused:
            self._protocol.resume()
        self._waiting = Deferred()
        return self._waiting

    def stop(self, error: APNSError) -> None:
        """Close the connection or cancel the attempt, unless the reading has ended."""
        if self.over:
            return
        if self._protocol is not None:
            self._protocol.abort(error)
        elif self._attempt is not None:
            self.error = error
            self._attempt.cancel()

    def leave(self) -> None:
        """Close the connection, since the consumer has left."""
        self._waiting = None
        self.stop(LocalError("the reading was left"))

    def end(self, error: APNSError | None) -> None:
        """The reading has ended."""
        self.over = True
        self.error = self.error or error
        self._wake()
        self.gone.callback(None)

    def _received(self, dead: list[DeadToken]) -> None:
        self._found.extend(dead)
        assert self._protocol is not None
        if len(self._found) >= self._enough and not self._protocol.paused:
            self._protocol.pause()
            # Not now: the transport may have read more, and the consumer may end the connection.
            self._waking.set(0)

    def _wake(self) -> None:
        self._waking.cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class FeedbackReader:
    """
    A client's reader of the feedback service: one connection at a time, and a queue of what was read and not yet handed
    over.

    :param reactor: the reactor.
    :param gateway: the gateway whose feedback service to read.
    :param credential: the certificate to present.
    :param timeout: how long connecting may take, and how long the server may be silent, in seconds.
    """

    def __init__(self, reactor: IReactorTime, gateway: Gateway, credential: Credential, timeout: float) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._credential = credential
        self._timeout = timeout
        self._kept: deque[DeadToken] = deque()
        self._turn = DeferredLock()
        self._reading: _Reading | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether there is a reading."""
        return self._turn.locked

    async def read(self) -> list[DeadToken]:
        """
        Read the whole list, up to the limits of size and time.

        :returns: what was kept, and what the service lists.
        :raises APNSError: it could not be read, and there is nothing to return.
        """
        reading = await self._begin(MOST)
        within = PATIENCE * self._timeout
        error = AnswerTimeout(f"the list did not end within {within:g} s")
        deadline = self._reactor.callLater(within, reading.stop, error)
        try:
            while not reading.over and len(self._kept) < MOST:
                await reading.more()
            found = [self._kept.popleft() for _ in range(min(len(self._kept), MOST))]
            trouble = reading.error if reading.over else LocalError(f"at most {MOST:,}; iterate_feedback() reads all")
        finally:
            if deadline.active():
                deadline.cancel()
            self._leave(reading)
        if trouble is not None:
            if not found:
                raise trouble
            _log.warn(
                "{gateway}: feedback ended after {count} dead tokens, and there may be more: {reason}",
                gateway=str(self._gateway),
                count=len(found),
                reason=str(trouble),
            )
        return found

    async def iterate(self) -> AsyncGenerator[DeadToken, None]:
        """
        Read the list as fast as it is consumed.

        :returns: an iterator over what was kept, and what the service lists.
        :raises APNSError: it could not be read to its end; raised after everything that was read.
        """
        reading = await self._begin(1)
        try:
            while True:
                while self._kept:
                    yield self._kept.popleft()
                if reading.over:
                    break
                await reading.more()
        finally:
            self._leave(reading)
        if reading.error is not None:
            raise reading.error

    def close(self) -> Deferred[None]:
        """
        End the current reading, and start no other. What was read is still handed over by the next call.

        :returns: a ``Deferred`` that fires when there is no connection any more.
        """
        self._closed = True
        for waiting in list(self._turn.waiting):
            waiting.cancel()
        if self._reading is None:
            return succeed(None)
        self._reading.stop(ClientClosed("the client was closed while it read the feedback service"))
        gone: Deferred[None] = Deferred()
        self._reading.gone.addCallback(lambda _: gone.callback(None))
        return gone

    async def _begin(self, enough: int) -> _Reading:
        """Wait for our turn, and connect."""
        endpoint = self._gateway.feedback_endpoint(self._reactor, self._credential, self._timeout)
        try:
            await self._turn.acquire()
        except CancelledError:
            if self._closed:
                raise ClientClosed("the client is closed") from None
            raise
        self._reading = reading = _Reading(self._reactor, self._kept, enough)
        if self._closed:
            reading.end(ClientClosed("the client is closed"))
        else:
            reading.start(self._gateway, endpoint, self._credential, self._timeout)
        return reading

    def _leave(self, reading: _Reading) -> None:
        """
        Let the next reading start once the connection has ended.

        Nothing here waits, since a generator that is being discarded cannot.
        """
        reading.leave()
        reading.gone.addCallback(lambda _: self._turn.release())


def _utc(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
