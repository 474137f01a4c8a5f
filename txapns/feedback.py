"""
The feedback service of the binary protocol: whose device no longer has the app.

The server lists the dead tokens to whoever connects, closes, and forgets what it listed. So there is never more than
one connection, a list is read once, and what was read is kept until it is handed over:

- *Read* are the tuples that have arrived and are whole. They wait in one queue of the client's :class:`FeedbackReader`.
- *Handed over* are those that an iteration has yielded, or that were in a list that a ``Deferred`` fired with.
- Whatever ends a reading in between (the server, the network, ``cancel``, a consumer that leaves, ``close``), what was
  read and not handed over comes first from the next call.

A list has no mark at its end but the end of the connection. With TLS's closing alert it is complete. Without, it may
be: many old servers close the bare TCP connection. So where not an octet came, a connection that just ends counts as
an empty list, and where some did, the end is told as a broken one.

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
from txapns.credentials import Credential
from txapns.errors import AnswerTimeout, APNSError, ClientClosed, ConnectFailed, ConnectionLost, LocalError
from txapns.gateway import Gateway
from txapns.wire.feedback import FeedbackParser

__all__ = ["DeadToken", "FeedbackProtocol", "FeedbackReader"]

#: A device token in hexadecimal, and when the service found the app gone.
DeadToken = tuple[str, datetime]

_log = Logger()

#: How many dead tokens a list in memory may have: some 125 MB.
MOST = 500_000
#: How many times ``timeout`` it may take to read it, though something always comes in time.
PATIENCE = 10


@implementer(IHandshakeListener)
class FeedbackProtocol(Protocol):
    """
    One connection to the feedback service: it reads until the server closes, and writes nothing.

    :param clock: the reactor, or a ``Clock``.
    :param received: called with the dead tokens, a few at a time, as they arrive.
    :param ended: called once, when the connection is gone: with what went wrong, or ``None`` if nothing did.
    :param credential: what authenticates the connection.
    :param timeout: for how long the server may be silent, in seconds.

    :ivar paused: whether it does not read for the time being.
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
        """The handshake comes first."""
        self._wait()

    def handshakeCompleted(self) -> None:
        """The list follows."""
        self._secure = True
        self._wait()

    def dataReceived(self, data: bytes) -> None:
        """Hand on the tuples that are whole."""
        self._empty = False
        self._wait()
        tuples = self._parser.receive(data)
        if tuples:
            self._received([(each.token.hex(), _utc(each.timestamp)) for each in tuples])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell how it ended."""
        self._stop_waiting()
        self._ended(self._judge(reason))

    def pause(self) -> None:
        """Read no more for the time being; the server's silence is not held against it meanwhile."""
        self.paused = True
        self._stop_waiting()
        assert self.transport is not None
        self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        self._wait()
        assert self.transport is not None
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    def abort(self, error: APNSError) -> None:
        """
        End the connection at once.

        :param error: what to tell as the reason.
        """
        self._error = error
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def _judge(self, reason: Failure) -> APNSError | None:
        """What went wrong, if anything did."""
        if self._error is not None:
            return self._error
        if self._parser.pending:
            return ConnectionLost(f"the list broke off within a tuple, after {self._parser.pending} octets of it")
        if not self._secure:
            return tls.explain(reason, self._credential)
        if reason.check(neterror.ConnectionDone) or (self._empty and reason.check(neterror.ConnectionLost)):
            return None
        error = tls.explain(reason, self._credential)
        return ConnectionLost(f"the list broke off: {error}") if isinstance(error, ConnectFailed) else error

    # The server's silence.

    def _wait(self) -> None:
        self._stop_waiting()
        if not self.paused:
            self._silence = self._clock.callLater(self._timeout, self._read_first)

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _read_first(self) -> None:
        """It may be this process that was busy for so long. The reactor reads before it makes the next call."""
        self._silence = self._clock.callLater(0, self._give_up)

    def _give_up(self) -> None:
        self._silence = None
        self.abort(AnswerTimeout(f"the feedback service was silent for {self._timeout:g} s"))


class _Reading:
    """
    One reading of the list: the attempt to connect, the connection, its end.

    :param clock: the reactor, or a ``Clock``.
    :param found: where to put what is read.
    :param enough: how many there may be of these, before it reads on only when :meth:`more` asks for it.

    :ivar over: whether there is no connection any more, and none will be.
    :ivar gone: fires when it is over, after whoever waited for :meth:`more`.
    :ivar error: what went wrong, once it is over; ``None`` if nothing did.
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
        """Read on; the ``Deferred`` fires when enough was read, or it is over."""
        if self._protocol is not None and self._protocol.paused:
            self._protocol.resume()
        self._waiting = Deferred()
        return self._waiting

    def stop(self, error: APNSError) -> None:
        """Close the connection, or drop the attempt, unless it is over."""
        if self.over:
            return
        if self._protocol is not None:
            self._protocol.abort(error)
        elif self._attempt is not None:
            self.error = error
            self._attempt.cancel()

    def leave(self) -> None:
        """Nobody waits for more; close the connection."""
        self._waiting = None
        self.stop(LocalError("nobody reads on"))

    def end(self, error: APNSError | None) -> None:
        """It is over."""
        self.over = True
        self.error = self.error or error
        self._wake()
        self.gone.callback(None)

    def _received(self, dead: list[DeadToken]) -> None:
        self._found.extend(dead)
        assert self._protocol is not None
        if len(self._found) >= self._enough and not self._protocol.paused:
            self._protocol.pause()
            # Not now: there may be more in what the transport has read, and whoever is woken may end the connection.
            self._waking.set(0)

    def _wake(self) -> None:
        self._waking.cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class FeedbackReader:
    """
    What a client has of the feedback service: one connection at a time, and a queue of what was read and not yet
    handed over.

    :param reactor: the reactor.
    :param gateway: whose feedback service.
    :param credential: the certificate to present.
    :param timeout: how long connecting may take, and for how long the server may be silent, in seconds.
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
        """Whether somebody reads."""
        return self._turn.locked

    async def read(self) -> list[DeadToken]:
        """
        Read the whole list, within the bounds.

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
                "{gateway}: feedback ended after {count} dead tokens, and there may be more: {error}",
                gateway=str(self._gateway),
                count=len(found),
                error=str(trouble),
            )
        return found

    async def iterate(self) -> AsyncGenerator[DeadToken, None]:
        """
        Read the list as fast as it is consumed.

        :returns: an iterator over what was kept, and what the service lists.
        :raises APNSError: it could not be read, or not to its end; but only after all that was read.
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
        End the reading under way, and begin no other. What was read can still be had.

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
        Let the next have its turn, once the connection is gone.

        Nothing in here waits: a generator that is thrown away has no time to.
        """
        reading.leave()
        reading.gone.addCallback(lambda _: self._turn.release())


def _utc(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
