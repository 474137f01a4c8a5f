"""
HTTP/1.1 for the faces that speak it: Twisted's server, with bounds on what a caller can make it hold, read and wait.

::

    octets ──► _Channel ──► Request ──► IApplication.begun      the head is there: refuse, or go on
                                   └──► IApplication.received   all of it is there: answer

What a caller may not do costs next to nothing. An application sees the head of a request first, and whom it refuses
there has no body read. A body is counted while it comes, with a length announced or without, and so is the time until
all of it is there. Who asks for more at once than one request after the other is not read until the answer is out.

There is no timer for a request or a connection: once in a second all connections are looked at. A connection that is
closed by us is first closed in one direction, and what still comes is thrown away for a moment. Otherwise the answer to
a request that is not read to its end would be lost on its way (RFC 9112, section 9.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ISSLTransport, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import Interface

from txapns.clocks import wall_clock

__all__ = ["JSON", "LINGER", "Answer", "Bounds", "HTTPServer", "IApplication", "Request"]

#: The content type of what most faces answer.
JSON = b"application/json"
#: For how many seconds more is read and thrown away after the last answer on a connection.
LINGER = 3.0

_SWEEP = 1.0  # seconds between two looks at the connections
_FIELDS = 100  # header fields in a request
_PIECE = 256  # each piece of a body counts as many octets at the least: many small ones cost time
_STOPPING = 10.0  # seconds in which a restart should be over

_log = Logger()


@attrs.frozen
class Bounds:
    """
    What a caller may have of us.

    :ivar body: the longest body of a request, in octets.
    :ivar head: the longest head of a request, in octets.
    :ivar clients: how many connections there may be at a time.
    :ivar idle: after how many seconds without a request a connection is closed.
    :ivar request: how many seconds a request may take to arrive.
    """

    body: int = 4_194_304
    head: int = 16_384
    clients: int = 1_000
    idle: float = 60.0
    request: float = 30.0


@attrs.frozen
class Answer:
    """
    An answer.

    :ivar status: the status.
    :ivar body: the body.
    :ivar headers: header fields, but for the content type and what HTTP itself needs.
    :ivar kind: the content type.
    """

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    kind: bytes = JSON


class IApplication(Interface):
    """What answers requests."""

    def begun(request: Request) -> Answer | None:
        """
        Look at the head of a request. Neither method nor path are known yet.

        :param request: the request.
        :returns: an answer, and no more of the request is read; ``None`` to go on.
        """

    def received(request: Request) -> Answer | Deferred[Answer]:
        """
        Answer a request.

        :param request: the request.
        :returns: the answer. What it raises is logged; the caller is told that something went wrong here.
        """

    def fault(status: int, message: str) -> Answer:
        """
        Put a refusal that comes from here into the application's words.

        :param status: the status.
        :param message: why.
        """


class Request(http.Request):
    """
    One request.

    :ivar context: what :meth:`IApplication.begun` leaves for :meth:`IApplication.received`.
    :ivar body: the body.
    :ivar refusal: what was answered when only the head was there.
    """

    channel: _Channel

    def __init__(self, channel: _Channel, queued: object = False) -> None:
        super().__init__(channel, queued)
        self.context: Any = None
        self.body = b""
        self.refusal: Answer | None = None
        self._server = channel.server
        self._pieces: list[bytes] = []
        self._length = self._counted = 0

    def single(self, name: bytes) -> bytes | None:
        """
        Find a header field.

        :param name: its name.
        :returns: its value; ``None`` where there is none, or more than one.
        """
        values = self.requestHeaders.getRawHeaders(name)
        return values[0] if values is not None and len(values) == 1 else None

    def gotLength(self, length: int | None) -> None:
        """The body is kept in memory, since it is bounded."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.finished:
            return  # it was refused; what had been read with the rest comes nevertheless
        self._counted += max(len(data), _PIECE)
        self._length += len(data)
        most = self._server.bounds.body
        if self._length > most or self._counted > most + _PIECE:
            self._pieces = []
            self.channel.refuse(self, self._server.too_large())
        else:
            self._pieces.append(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Have it answered."""
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.body, self._pieces = b"".join(self._pieces), []
        self.process()

    def process(self) -> None:
        """Have it answered, now or later."""
        try:
            result = self._server.answer(self)
        except Exception:
            self._failed(Failure())
            return
        if isinstance(result, Answer):
            self.answer(result)
        else:
            result.addCallback(self.answer).addErrback(self._failed)

    def answer(self, answer: Answer) -> None:
        """
        Send an answer, if somebody is there still.

        :param answer: the answer.
        """
        if self._disconnected:
            return
        if self._server.draining:
            self.channel.persistent = False
        # All of it in one piece: write() would make a score of small ones, and at least two records of TLS.
        self.setResponseCode(answer.status)
        self.startedWriting = 1
        self.channel.write(self._server.head(answer, bool(self.channel.persistent)) + self._body_of(answer))
        self.finish()

    def _body_of(self, answer: Answer) -> bytes:
        return b"" if self.method == b"HEAD" else answer.body

    def _failed(self, reason: Failure) -> None:
        _log.failure("A request could not be answered", reason)
        if not self.startedWriting:
            self.answer(self._server.application.fault(500, "something went wrong in the gateway; its log says more"))


class _Channel(http.HTTPChannel):
    """
    A connection.

    :param server: whose it is.

    :ivar busy: whether a request is being answered.
    :ivar began: when the request began that is arriving; ``None`` where none is.
    :ivar active: when something was last received or answered.
    :ivar closing: since when it is closed by us; ``None`` while it is open.
    """

    requestFactory = Request  # type: ignore[assignment]  # a channel of ours makes requests of ours
    maxHeaders = _FIELDS
    timeOut = None  # see the module's docstring
    transport: Any

    def __init__(self, server: HTTPServer) -> None:
        super().__init__()
        self.server = server
        self.totalHeadersSize = server.bounds.head
        self.busy = False
        self.began: float | None = None
        self.active = server.clock.seconds()
        self.closing: float | None = None
        self._thrown_away = 0

    @property
    def idle(self) -> bool:
        """Whether there is no request."""
        return not self.busy and self.began is None

    def connectionMade(self) -> None:
        """Count it, or turn it away."""
        super().connectionMade()
        if not self.server.admit(self):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        super().connectionLost(reason)
        self.server.leave(self)

    def dataReceived(self, data: bytes) -> None:
        """Read, or throw away."""
        if self.closing is not None:
            self._thrown_away += len(data)
            if self._thrown_away > self.server.bounds.body:
                self.transport.abortConnection()
            return
        self.active = self.server.clock.seconds()
        if self.began is None and not self.busy:
            self.began = self.active
        try:
            super().dataReceived(data)
        except ValueError:  # a length of so many digits that Python does not read it
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.loseConnection()

    def allHeadersReceived(self) -> None:
        """Refuse what need not be read."""
        if self.closing is not None:
            return
        request = self.requests[-1]
        answer = self.server.begun(request)
        if answer is None and self.length is not None and self.length > self.server.bounds.body:
            answer = self.server.too_large()
        if answer is not None and self.length != 0:
            self.refuse(request, answer)
            return
        request.refusal = answer
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """The request is whole."""
        if self.closing is None:
            self.busy, self.began = True, None
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """The next may come, or has."""
        self.busy = False
        self.active = self.server.clock.seconds()
        super().requestDone(request)

    def setLineMode(self, extra: bytes = b"") -> Any:
        """Go on with what came meanwhile."""
        if extra and self.began is None:
            self.began = self.active
        return super().setLineMode(extra)

    def refuse(self, request: Request, answer: Answer) -> None:
        """
        Answer a request of which no more is to be read, and close.

        :param request: the request.
        :param answer: the answer.
        """
        self.persistent = False
        request.answer(answer)

    def loseConnection(self) -> None:
        """Close, and give the caller time to read what was said last."""
        if self.closing is not None:
            return
        self.closing = self.server.clock.seconds()
        self.clearLineBuffer()
        self.transport.unregisterProducer()
        transport = self.transport
        if ITCPTransport.providedBy(transport) and not ISSLTransport.providedBy(transport):
            transport.loseWriteConnection()
            self.transport.resumeProducing()
        else:
            transport.loseConnection()  # TLS says goodbye, and reads on until the caller has done so

    def look(self, now: float) -> None:
        """
        End what takes too long.

        :param now: the time.
        """
        bounds = self.server.bounds
        if self.closing is not None:
            if now - self.closing >= LINGER:
                self.transport.abortConnection()
        elif self.began is not None:
            if now - self.began >= bounds.request:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                self.loseConnection()
        elif self.idle and now - self.active >= bounds.idle:
            self.loseConnection()


class HTTPServer(http.HTTPFactory):
    """
    Builds the connections of a face.

    :param clock: the reactor, or a ``Clock``.
    :param application: what answers.
    :param bounds: what a caller may have.

    :ivar draining: whether everybody is sent away.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, application: IApplication, bounds: Bounds | None = None) -> None:
        super().__init__(reactor=clock)
        self.clock = clock
        self._wall = wall_clock(clock)
        self.application = application
        self.bounds = bounds or Bounds()
        self.draining = False
        self._channels: dict[_Channel, None] = {}
        self._sweep: IDelayedCall | None = None
        self._closed: list[Deferred[None]] = []
        self._date = (-1, b"")

    def startFactory(self) -> None:
        """There is no access log."""

    def stopFactory(self) -> None:
        """So there is nothing to close."""

    def log(self, request: http.Request) -> None:
        """A line for each request would cost more than the request; there are counters for that."""

    def acceptableProtocols(self) -> list[bytes]:
        """Name the protocols that TLS may negotiate."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make a connection."""
        channel = _Channel(self)
        channel.factory = self
        return channel

    def drain(self) -> None:
        """Refuse all that comes from now on, and close each connection after its answer; the others at once."""
        self.draining = True
        for channel in list(self._channels):
            if channel.idle:
                channel.loseConnection()

    def close(self) -> Deferred[None]:
        """
        Close all connections, whatever goes on there.

        :returns: a ``Deferred`` that fires when none is left, which is soon.
        """
        self.draining = True
        if not self._channels:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        for channel in list(self._channels):
            channel.loseConnection()
        return closed

    # For the connections.

    def admit(self, channel: _Channel) -> bool:
        """
        Count a connection; where there are too many, one that does nothing has to go for it.

        :param channel: the connection.
        :returns: whether there is room.
        """
        if len(self._channels) >= self.bounds.clients and not self._make_room():
            return False
        self._channels[channel] = None
        if self._sweep is None:
            self._sweep = self.clock.callLater(_SWEEP, self._look)
        return True

    def _make_room(self) -> bool:
        idle = [each for each in self._channels if each.idle or each.closing is not None]
        if idle:
            oldest = min(idle, key=lambda each: each.active)
            del self._channels[oldest]
            oldest.transport.abortConnection()
        return bool(idle)

    def leave(self, channel: _Channel) -> None:
        """
        Forget a connection.

        :param channel: the connection.
        """
        self._channels.pop(channel, None)
        if self._channels:
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
        for channel in list(self._channels):
            try:
                channel.look(now)
            except Exception:  # or the others would have no time limits any more
                _log.failure("A connection could not be looked after, and is cut")
                channel.transport.abortConnection()

    def begun(self, request: Request) -> Answer | None:
        """See :meth:`IApplication.begun`."""
        if self.draining:
            answer = self.application.fault(503, "the gateway is shutting down")
            return attrs.evolve(answer, headers=[*answer.headers, (b"Retry-After", b"%d" % _STOPPING)])
        return self.application.begun(request)

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See :meth:`IApplication.received`."""
        if request.refusal is not None:
            return request.refusal
        return self.application.received(request)

    def too_large(self) -> Answer:
        """Say that a body is too long."""
        return self.application.fault(413, f"the body is longer than {self.bounds.body} octets")

    def head(self, answer: Answer, persistent: bool) -> bytes:
        """
        Write what comes before the body of an answer.

        :param answer: the answer.
        :param persistent: whether the connection is kept.
        """
        fields = [(b"Date", self._time()), *answer.headers]
        if answer.status != http.NO_CONTENT:
            fields += [(b"Content-Type", answer.kind), (b"Content-Length", b"%d" % len(answer.body))]
        if not persistent:
            fields.append((b"Connection", b"close"))
        lines = [b"HTTP/1.1 %d %s" % (answer.status, http.RESPONSES.get(answer.status, b"?"))]
        lines += [b"%s: %s" % field for field in fields]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _time(self) -> bytes:
        """Tell the time as HTTP writes it."""
        second = int(self._wall.now())
        if self._date[0] != second:
            self._date = second, http.datetimeToString(second)
        return self._date[1]
