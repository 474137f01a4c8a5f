"""
HTTP/1.1 for the faces that speak it: Twisted's server, with limits on memory, time and work.

::

    bytes ──► _Channel ──► Request ──► IApplication.begun      the head has arrived: refuse it, or go on
                                  └──► IApplication.received   the body has arrived, too: answer

A request that is refused costs next to nothing. The application sees the head of a request first; if it refuses it
there, the body is not read. The size of a body is limited while it arrives, whether its length was announced or not,
and so is the time that it takes. While a request is being answered, no further ones are read, and the next one is not
begun before the peer has read the earlier answers. When many small requests arrive at once, two of them are answered;
then it is the turn of the other connections. A caller that is refused again and again has to connect again.

:mod:`~txapns._serving.connections` limits the number of connections, and ends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import Interface

from txapns._network.clocks import wall_clock
from txapns._serving.coding import (
    ACCEPTED,
    BodyTooLong,
    Decoder,
    MalformedEncoding,
    UnknownEncoding,
    body_decoder,
)
from txapns._serving.connections import FaceProtocol, ServerConnections
from txapns._serving.failures import described
from txapns._serving.limits import ConnectionLimits
from txapns._serving.target import BadHead, CrossSite, ForeignHost, Hosts, asked_host, split_target

__all__ = ["JSON", "Answer", "HTTPServer", "IApplication", "Request"]

#: The content type of most answers.
JSON = b"application/json"

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_TURN = 2  # pipelined requests that are answered in a row
_REFUSALS = 20  # requests refused at their heads in a row, until the connection is closed
_FIELDS = 100  # header fields in a request
_PIECE = 256  # bytes that each piece of a body counts for at least: many small ones cost time
_STOPPING = 10.0  # seconds in which a restart should be over


@attrs.frozen
class Answer:
    """
    An answer.

    :ivar headers: header fields, without the content type and those that HTTP itself needs.
    """

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    kind: bytes = JSON


class IApplication(Interface):
    """Answers requests."""

    def begun(request: Request) -> Answer | None:
        """
        Look at the head of a request.

        :returns: an answer, if no more of the request is to be read; ``None`` to go on.
        """

    def received(request: Request) -> Answer | Deferred[Answer]:
        """
        Answer a request.

        :returns: the answer. An exception is logged, and answered with status 500.
        """

    def fault(status: int, message: str) -> Answer:
        """Write an error that the server found in the application's format."""


class Request(http.Request):
    """
    One request.

    :ivar named: the host that it is for; ``None`` if it names none.
    :ivar context: what :meth:`IApplication.begun` leaves for :meth:`IApplication.received`.
    :ivar body: the decompressed body, while the application answers.
    :ivar refusal: the answer, if only the head was needed for it.
    """

    channel: _Channel

    def __init__(self, channel: _Channel, queued: object = False) -> None:
        super().__init__(channel, queued)
        self.named: str | None = None
        self.context: Any = None
        self.body = b""
        self.refusal: Answer | None = None
        self._server = channel.server
        self._connection = channel.connection  # it outlives the channel
        self._pieces: list[bytes] = []
        self._length = self._counted = 0
        self._authenticated = False
        self._decoder: Decoder | None = None

    def begin(self, method: bytes, target: bytes, version: bytes) -> None:
        """Read the head; raises :exc:`BadHead` if it is malformed."""
        self.method, self.clientproto = method, version
        authority, path = split_target(target.decode("latin-1"))
        self.uri = path.encode("latin-1")
        self.path = self.uri.partition(b"?")[0]
        self.named = asked_host(self.texts(b"Host"), authority, version.decode("latin-1"))
        codings = self.texts(b"Transfer-Encoding")
        if codings and (version == b"HTTP/1.0" or [each.lower() for each in codings] != ["chunked"]):
            raise BadHead("the only Transfer-Encoding accepted is chunked, in HTTP/1.1")

    def decode(self) -> None:
        """Decompress the body while it arrives; raises :exc:`UnknownEncoding` if that is not possible."""
        values = self.requestHeaders.getRawHeaders(b"Content-Encoding", ())
        self._decoder = body_decoder(values, self._server.limits.body)

    def texts(self, name: bytes) -> list[str]:
        """Find header fields."""
        return [value.decode("latin-1") for value in self.requestHeaders.getRawHeaders(name, ())]

    def single(self, name: bytes) -> bytes | None:
        """Find a header field; ``None`` if it is missing or repeated."""
        values = self.requestHeaders.getRawHeaders(name)
        return values[0] if values is not None and len(values) == 1 else None

    @property
    def authorization(self) -> str:
        """The header field ``Authorization``; empty if there is none, or more than one."""
        return (self.single(b"Authorization") or b"").decode("latin-1")

    @property
    def gone(self) -> bool:
        """Whether the caller has disconnected."""
        return bool(self._disconnected)

    def mark_authenticated(self) -> None:
        """Note that the caller has shown a valid credential or, where none is required, has sent a whole request."""
        self._authenticated = True
        self._connection.mark_authenticated()

    def gotLength(self, length: int | None) -> None:
        """Do nothing: the body is kept in memory, where its size is limited."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.finished:
            return  # the request was refused; this had been read already
        self._counted += max(len(data), _PIECE)
        self._length += len(data)
        most = self._server.limits.body
        try:
            if self._length > most or self._counted > most + _PIECE:
                raise BodyTooLong
            self._keep(data if self._decoder is None else self._decoder.feed(data))
        except BodyTooLong:
            self._refuse(self._server.too_large())
        except MalformedEncoding as error:
            self._refuse(self._server.application.fault(400, str(error)))

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        if not self._authenticated:
            self._server.limits.unfinished.add(self._connection, max(len(piece), _PIECE))

    def _refuse(self, answer: Answer) -> None:
        self._release()
        self.channel.refuse(self, answer)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer the request."""
        try:
            if self._decoder is not None and self.refusal is None:
                self._decoder.finish()
        except MalformedEncoding as error:
            self.refusal = self._server.application.fault(400, str(error))
        self.body = b"".join(self._pieces)
        self._release()
        self.process()
        self.body = b""  # the answer may take long

    def connectionLost(self, reason: Failure) -> None:
        """Release the body at once, not only when the garbage is collected."""
        super().connectionLost(reason)
        self._release()

    def _release(self) -> None:
        """Release the body."""
        self._pieces = []
        self._server.limits.unfinished.forget(self._connection)

    def process(self) -> None:
        """Answer the request, now or later."""
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
        """Send an answer, unless the caller has disconnected."""
        if self._disconnected:
            return
        if self._server.draining:
            self.channel.persistent = False
        # All at once: write() would make many small pieces, and at least two records of TLS.
        self.setResponseCode(answer.status)
        self.startedWriting = 1
        self.channel.write(self._server.head(answer, bool(self.channel.persistent)) + self._body_of(answer))
        self.channel.answered(self)

    def _body_of(self, answer: Answer) -> bytes:
        return b"" if self.method == b"HEAD" else answer.body

    def _failed(self, reason: Failure) -> None:
        if self.startedWriting or self._disconnected:
            self._connection.failed(reason)
        else:
            self._connection.report(described(reason))
            fault = self._server.application.fault(500, "something went wrong in the server; its log says more")
            self.channel.refuse(self, fault)


class _Channel(FaceProtocol, http.HTTPChannel):
    """
    A connection.

    :param server: the server that it belongs to.

    :ivar began: when the request that is arriving began; ``None`` if none is.
    """

    requestFactory = Request  # type: ignore[assignment]  # a channel of ours makes requests of ours
    maxHeaders = _FIELDS
    timeOut = None  # see the module's docstring
    persistent: Any

    def __init__(self, server: HTTPServer) -> None:
        super().__init__()
        self.server = server
        self.totalHeadersSize = server.limits.head
        self.began: float | None = None
        self._busy = False
        self._host: Any = None
        self._turn = 0
        self._refusals = 0
        self._answered: Request | None = None
        self._next: IDelayedCall | None = None

    # FaceProtocol

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy and self._answered is None

    @property
    def idle(self) -> bool:
        """Whether there is no request."""
        return not self._busy and self.began is None

    def gone(self, reason: Failure) -> None:
        """Answer no further requests."""
        self._answered = None
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def check(self, now: float) -> None:
        """End what takes too long."""
        limits = self.server.limits
        if self.began is not None:
            if now - self.began >= limits.request:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                self.loseConnection()
        elif self.idle and now - self.connection.active >= limits.idle:
            self.loseConnection()

    def finish(self) -> None:
        """Close, after the answer if one is under way."""
        if self.idle:
            self.loseConnection()

    # IProtocol and HTTPChannel

    def getHost(self) -> Any:
        """Tell our address. Each request asks for it; the system is asked once."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def dataReceived(self, data: bytes) -> None:
        """Read requests."""
        connection = self.connection
        if connection.closing is not None or connection.over:
            return
        connection.active = self.server.clock.seconds()
        if self.began is None and not self._busy:
            self.began = connection.active
        self._turn = 0
        try:
            super().dataReceived(data)
        except ValueError:  # a length with more digits than Python reads
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.loseConnection()

    def allHeadersReceived(self) -> None:
        """Let the application look at the head, and refuse requests that need not be read."""
        if self.connection.closing is not None:
            return
        request = self.requests[-1]
        try:
            request.begin(self._command, self._path, self._version)
        except BadHead as error:
            self.refuse(request, self.server.application.fault(400, str(error)))
            return
        answer = self.server.begun(request)
        if answer is None and self.length is not None and self.length > self.server.limits.body:
            answer = self.server.too_large()
        self._refusals = 0 if answer is None else self._refusals + 1
        if answer is not None and (self.length != 0 or self._refusals >= _REFUSALS):
            self.refuse(request, answer)
            return
        request.refusal = answer
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """The request is complete."""
        if self.connection.closing is None:
            self._busy, self.began = True, None
            super().allContentReceived()

    def answered(self, request: Request) -> None:
        """Go on to the next request: if the peer does not read, when it does; after its turn, after the others."""
        self._turn += 1
        if self.persistent and (self.connection.paused is not None or self._turn >= _TURN):
            self._answered = request
            if self.connection.paused is None:
                self._next = self.server.clock.callLater(0, self._go_on)
        else:
            request.finish()

    def resumeProducing(self) -> None:
        """The peer reads again."""
        super().resumeProducing()
        if self._next is None:
            self._go_on()

    def _go_on(self) -> None:
        self._next = None
        if self._answered is not None and self.connection.paused is None:
            request, self._answered = self._answered, None
            self._turn = 0
            self.connection.fence(request.finish)

    def requestDone(self, request: Request) -> None:
        """Go on to the next request, which may have arrived already."""
        self._busy = False
        self.connection.active = self.server.clock.seconds()
        super().requestDone(request)

    def setLineMode(self, extra: bytes = b"") -> Any:
        """Go on with what has arrived in the meantime."""
        if extra and self.began is None:
            self.began = self.connection.active
        return super().setLineMode(extra)

    def refuse(self, request: Request, answer: Answer) -> None:
        """Answer a request, read no more of it, and close."""
        self.persistent = False
        request.answer(answer)

    def loseConnection(self) -> None:
        """Close, and give the caller time to read the last answer."""
        self.clearLineBuffer()
        self.connection.end()


class HTTPServer(ServerConnections):
    """
    Builds the connections of a face.

    :param clock: the reactor, or a ``Clock``.
    :param face: the name of the face in the log.
    :ivar hosts: our hosts, where web pages are kept out; ``None`` where keys keep them out. It may be changed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        application: IApplication,
        limits: ConnectionLimits | None = None,
        face: str = "HTTP",
        hosts: Hosts | None = None,
    ) -> None:
        super().__init__(clock, lambda: _Channel(self), limits or ConnectionLimits(), face)
        self.application = application
        self.hosts = hosts
        self._wall = wall_clock(clock)
        self._date = (-1, b"")

    def acceptableProtocols(self) -> list[bytes]:
        """List the protocols that TLS may negotiate."""
        return [b"http/1.1"]

    # For the connections.

    def admits(self) -> bool:
        """Accept connections even while draining: their requests are answered with status 503."""
        return True

    def begun(self, request: Request) -> Answer | None:
        """See :meth:`IApplication.begun`."""
        if self.draining:
            answer = self.application.fault(503, "the server is shutting down")
            return attrs.evolve(answer, headers=[*answer.headers, (b"Retry-After", b"%d" % _STOPPING)])
        return self._cross_site(request) or self.application.begun(request) or self._undecodable(request)

    def _cross_site(self, request: Request) -> Answer | None:
        """Refuse requests that a browser sends for a web page of another site."""
        if self.hosts is None:
            return None
        try:
            self.hosts.check(request.named, request.texts(b"Origin"), request.texts(b"Sec-Fetch-Site"))
        except ForeignHost as error:
            return self.application.fault(421, str(error))
        except CrossSite as error:
            return self.application.fault(403, str(error))
        return None

    def _undecodable(self, request: Request) -> Answer | None:
        """Refuse bodies in an encoding that is not supported."""
        try:
            request.decode()
        except UnknownEncoding:
            answer = self.application.fault(415, f"the Content-Encoding must be one of {ACCEPTED.decode()}, or absent")
            return attrs.evolve(answer, headers=[*answer.headers, (b"Accept-Encoding", ACCEPTED)])
        return None

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See :meth:`IApplication.received`."""
        if request.refusal is not None:
            return request.refusal
        return self.application.received(request)

    def too_large(self) -> Answer:
        """Refuse a body that is too long."""
        return self.application.fault(413, f"the body is longer than {self.limits.body} bytes")

    def head(self, answer: Answer, persistent: bool) -> bytes:
        """Encode the head of an answer."""
        fields = b"".join([b"%s: %s\r\n" % field for field in answer.headers])
        if answer.status != http.NO_CONTENT:
            fields += b"Content-Type: %s\r\nContent-Length: %d\r\n" % (answer.kind, len(answer.body))
        if not persistent:
            fields += b"Connection: close\r\n"
        line = answer.status, _PHRASES[answer.status], self._time()
        return b"HTTP/1.1 %d %s\r\nDate: %s\r\n%s\r\n" % (*line, fields)

    def _time(self) -> bytes:
        """Format the time as HTTP does."""
        second = int(self._wall.now())
        if self._date[0] != second:
            self._date = second, http.datetimeToString(second)
        return self._date[1]
