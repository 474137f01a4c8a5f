"""
HTTP/1.1 for the faces that speak it, with limits on memory, time and work.

::

    bytes ──► _Channel ──► Request ──► IApplication.begun      the head has arrived: refuse it, or go on
                                  └──► IApplication.received   the body has arrived, too: answer

Twisted's own server spends more than twice as long on a request, makes objects for each that nobody needs here, and
reads what is refused here (``benchmarks/intake.py``). :mod:`~txapns._serving.messages` reads the bytes.

A request that is refused costs next to nothing. The application sees the head of a request first; if it refuses it
there, the body is not read. The size of a body is limited while it arrives, whether its length was announced or not,
and so is the time that it takes. While a request is being answered, no further ones are read, and the next one is not
begun before the peer has read the earlier answers. When many small requests arrive at once, two of them are answered;
then it is the turn of the other connections. A caller that is refused again and again has to connect again.

:mod:`~txapns._serving.connections` limits the number of connections, and ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from zope.interface import Interface, implementer

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
from txapns._serving.messages import BadBody, Body, ChunkedBody, Head, SizedBody
from txapns._serving.target import BadHead, CrossSite, ForeignHost, Hosts
from txapns._waiters import Waiters

__all__ = ["JSON", "Answer", "HTTPServer", "IApplication", "Request"]

#: The content type of most answers.
JSON = b"application/json"

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_TURN = 2  # pipelined requests that are answered in a row
_REFUSALS = 20  # requests refused at their heads in a row, until the connection is closed
_KEPT = 2_048  # bytes of the longest head that is kept for the next request
_AHEAD = 16_384  # bytes of further requests that are read while one is being answered
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

    def fault(status: int, message: str, request: Request | None = None) -> Answer:
        """
        Write an error that the server found in the application's format.

        :param request: the request that it is about; ``None`` if its head cannot be read.
        """


class Request:
    """
    One request.

    :param head: its head.

    :ivar path: its path, without the query.
    :ivar uri: its path with the query.
    :ivar fields: the values of its header fields, by their names in lower case.
    :ivar named: the host that it is for; ``None`` if it names none.
    :ivar length: the length of its body before decompression, in bytes; ``None`` if it is chunked.
    :ivar arriving: reads its body.
    :ivar context: what :meth:`IApplication.begun` leaves for :meth:`IApplication.received`.
    :ivar body: the decompressed body, while the application answers.
    :ivar refusal: the answer, if only the head was needed for it.
    :ivar started: whether the answer has begun.
    :ivar gone: whether the caller has disconnected.
    """

    def __init__(self, channel: _Channel, head: Head) -> None:
        self.method = head.method
        self.uri = head.uri
        self.path = head.uri.partition(b"?")[0]
        self.fields = head.fields
        self.named = head.named
        self.length = head.length
        self.context: Any = None
        self.body = b""
        self.refusal: Answer | None = None
        self.gone = self.started = False
        self.arriving: Body = ChunkedBody() if self.length is None else SizedBody(self.length)
        self._server = channel.server
        self._channel = channel
        self._connection = channel.connection  # it outlives the channel
        self._pieces: list[bytes] = []
        self._length = self._counted = 0
        self._authenticated = False
        self._decoder: Decoder | None = None
        self._chunked = head.version != b"HTTP/1.0"  # the answer, if it is a stream
        self._ended: Waiters[None] | None = None

    def decode(self) -> None:
        """Decompress the body while it arrives; raises :exc:`UnknownEncoding` if that is not possible."""
        self._decoder = body_decoder(self.fields[b"content-encoding"], self._server.limits.body)

    def texts(self, name: bytes) -> list[str]:
        """Find header fields."""
        return [value.decode("latin-1") for value in self.fields.get(name.lower(), ())]

    def single(self, name: bytes) -> bytes | None:
        """Find a header field; ``None`` if it is missing or repeated."""
        values = self.fields.get(name.lower())
        return values[0] if values is not None and len(values) == 1 else None

    @property
    def authorization(self) -> str:
        """The header field ``Authorization``; empty if there is none, or more than one."""
        return (self.single(b"Authorization") or b"").decode("latin-1")

    @property
    def blocked(self) -> float | None:
        """When the caller stopped reading; ``None`` while it reads."""
        return self._connection.paused

    def ended(self) -> Deferred[None]:
        """
        Wait for the end of the answer.

        :returns: a ``Deferred`` that fires when it is written and earlier ones are read. It fails if the connection is
            lost before.
        """
        if self._ended is None:
            self._ended = Waiters()
        return self._ended.wait()

    def mark_authenticated(self) -> None:
        """Note that the caller has shown a valid credential or, where none is required, has sent a whole request."""
        self._authenticated = True
        self._connection.mark_authenticated()

    # Its body.

    def keep(self, piece: bytes) -> None:
        """
        Take a piece of the body.

        :raises BodyTooLong: it is too long.
        :raises MalformedEncoding: it does not have the encoding that it claims.
        """
        self._counted += max(len(piece), _PIECE)
        self._length += len(piece)
        most = self._server.limits.body
        if self._length > most or self._counted > most + _PIECE:
            raise BodyTooLong
        if self._decoder is not None:
            piece = self._decoder.feed(piece)
        self._pieces.append(piece)
        if not self._authenticated:
            self._server.limits.unfinished.add(self._connection, max(len(piece), _PIECE))

    def complete(self) -> None:
        """Answer the request, now or later: all of it has arrived."""
        try:
            if self._decoder is not None and self.refusal is None:
                self._decoder.finish()
        except MalformedEncoding as error:
            self.refusal = self._server.application.fault(400, str(error), self)
        self.body = b"".join(self._pieces)
        self.release()
        try:
            result = self.refusal or self._server.application.received(self)
            if isinstance(result, Answer):
                self.answer(result)
            else:
                result.addBoth(self._answered)
        except Exception:
            self._failed(Failure())
        self.body = b""  # the answer may take long

    def release(self) -> None:
        """Release what has arrived of the body."""
        self._pieces = []
        self._server.limits.unfinished.forget(self._connection)

    # Its answer.

    def answer(self, answer: Answer) -> None:
        """Send an answer, unless the caller has disconnected."""
        if not self.gone:
            self.started = True
            self._channel.write(answer, self.method == b"HEAD")
            self._channel.answered()

    def _answered(self, result: Answer | Failure) -> None:
        try:
            if isinstance(result, Answer):
                self.answer(result)
            else:
                self._failed(result)
        except Exception:
            self._failed(Failure())

    def _failed(self, reason: Failure) -> None:
        if self.started or self.gone:
            self._connection.failed(reason)
        else:
            self._connection.report(described(reason))
            fault = self._server.application.fault(500, "something went wrong in the server; its log says more", self)
            self._channel.refuse(fault)

    def begin_stream(self, kind: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin an answer that goes on until :meth:`end_stream`."""
        self.started = True
        self._channel.begin_stream(Answer(200, b"", headers, kind), b"Transfer-Encoding: chunked\r\n" * self._chunked)

    def write_stream(self, data: bytes) -> None:
        """Send more of such an answer."""
        if not self.gone:
            self._channel.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end_stream(self) -> None:
        """End such an answer."""
        if not self.gone:
            self._channel.transport.write(b"0\r\n\r\n" * self._chunked)
            self._channel.answered()

    def drop(self) -> None:
        """Close the connection, and discard what was not read."""
        self._connection.cut()

    def over(self, reason: Failure | None) -> None:
        """The answer was sent, or the connection was lost."""
        self.gone = reason is not None
        if self._pieces:
            self.release()
        if self._ended is not None:
            self._ended.fire(reason)


@implementer(IPushProducer)
class _Channel(FaceProtocol):
    """
    A connection.

    :param server: the server that it belongs to.

    :ivar began: when the request that is arriving began; ``None`` if none is.
    """

    def __init__(self, server: HTTPServer) -> None:
        super().__init__()
        self.server = server
        self.began: float | None = None
        self._persistent = True
        self._request: Request | None = None
        self._head: Head | None = None  # the one before
        self._busy = self._is_answered = self._full = False
        self._buffer = b""
        self._turn = 0
        self._refusals = 0
        self._next: IDelayedCall | None = None

    # FaceProtocol

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy and not self._is_answered

    @property
    def idle(self) -> bool:
        """Whether there is no request."""
        return not self._busy and self.began is None

    def begun(self) -> None:
        """Learn when the peer reads, and when it does not."""
        self.transport.registerProducer(self, True)

    def gone(self, reason: Failure) -> None:
        """Answer no further requests."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        request, self._request, self._buffer = self._request, None, b""
        if request is not None:
            request.over(reason)

    def check(self, now: float) -> None:
        """End what takes too long."""
        limits = self.server.limits
        if self.began is not None:
            if now - self.began >= limits.request:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                self._close()
        elif self.idle and now - self.connection.active >= limits.idle:
            self._close()

    def finish(self) -> None:
        """Close, after the answer if one is under way."""
        if self.idle:
            self._close()

    # IProtocol and IPushProducer

    def dataReceived(self, data: bytes) -> None:
        """Read requests, or keep what arrives before it can be read."""
        connection = self.connection
        if connection.closing is not None or connection.over:
            return
        connection.active = self.server.clock.seconds()
        if self.began is None and not self._busy:
            self.began = connection.active
        self._turn = 0
        self._buffer += data
        self._read()
        if len(self._buffer) > _AHEAD and self._busy and connection.closing is None:
            self._full = True
            self.transport.pauseProducing()

    def pauseProducing(self) -> None:
        """The peer does not read: read nothing from it."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads again."""
        if self._next is None:
            self._go_on()
        self._full = self._busy and len(self._buffer) > _AHEAD
        if not self._full and self.connection.paused is None and self.connection.closing is None:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """``connectionLost`` follows."""

    # Requests: their heads, their bodies, and when the next one is read.

    def _read(self) -> None:
        """Read until a request is being answered, or more has to arrive."""
        going, connection = True, self.connection
        while going and self._buffer and not (self._busy or connection.over or connection.closing is not None):
            going = self._read_head() if self._request is None else self._read_body(self._request)

    def _read_head(self) -> bool:
        """Read the head of a request; returns whether it was complete."""
        begin = 2 if self._buffer.startswith(b"\r\n") else 0  # some clients send an empty line after a body
        end = self._buffer.find(b"\r\n\r\n", begin)
        try:
            if (len(self._buffer) if end < 0 else end) - begin > self.server.limits.head:
                raise BadHead(f"the head of the request is longer than {self.server.limits.head} bytes")
            if end < 0:
                return False
            data = self._buffer[begin : end + 4]
            head = Head(data) if self._head is None else self._head.following(data)
        except BadHead as error:
            self.refuse(self.server.application.fault(400, str(error)))
            return False
        self._buffer = self._buffer[end + 4 :]
        self._persistent = head.persistent
        # Who has shown nothing makes us keep nothing.
        self._head = head if self.connection.authenticated and len(data) <= _KEPT else None
        request = self._request = Request(self, head)
        self._look(request, head)
        return True

    def _look(self, request: Request, head: Head) -> None:
        """Let the application look at the head, and refuse requests that need not be read."""
        answer = self.server.begun(request)
        if answer is None and request.length is not None and request.length > self.server.limits.body:
            answer = self.server.too_large(request)
        self._refusals = 0 if answer is None else self._refusals + 1
        if answer is not None and (request.length != 0 or self._refusals >= _REFUSALS):
            self.refuse(answer)
            return
        request.refusal = answer
        if request.arriving.complete:
            self._answer(request)
        elif head.expects:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, request: Request) -> bool:
        """Read the body of a request; returns whether it was complete."""
        try:
            self._buffer = request.arriving.read(self._buffer, request.keep)
        except BodyTooLong:
            self.refuse(self.server.too_large(request))
        except (BadBody, MalformedEncoding) as error:
            self.refuse(self.server.application.fault(400, str(error), request))
        else:
            if request.arriving.complete:
                self._answer(request)
                return True
        return False

    def _answer(self, request: Request) -> None:
        self._busy, self.began = True, None
        request.complete()
        if self.busy:  # others have their turns until it is answered
            self._turn = 0

    def write(self, answer: Answer, bodiless: bool = False) -> None:
        """Write an answer."""
        if answer.status >= 400 and self.server.refused is not None:
            self.server.refused(answer.status)
        if self.server.draining:
            self._persistent = False
        # All at once, since in TLS each piece would be a record.
        self.transport.write(self.server.head(answer, self._persistent) + (b"" if bodiless else answer.body))

    def begin_stream(self, answer: Answer, framing: bytes) -> None:
        """Write the head of an answer whose body follows."""
        self.transport.write(self.server.head(answer, self._persistent, framing))

    def answered(self) -> None:
        """Go on to the next request: if the peer does not read, when it does; after its turn, after the others."""
        self._is_answered = True
        self._turn += 1
        if not self._persistent or (self.connection.paused is None and self._turn < _TURN):
            self._done()
        elif self.connection.paused is None:
            self._next = self.server.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next = None
        if self._is_answered and self.connection.paused is None:
            self._turn = 0
            self.connection.fence(self._done)

    def _done(self) -> None:
        """Go on to the next request, which may have arrived already."""
        request, self._request = self._request, None
        self._busy = self._is_answered = False
        connection = self.connection
        connection.active = self.server.clock.seconds()
        if request is not None:
            request.over(None)
        if not self._persistent or self.server.draining:
            self._close()
            return
        if self._buffer:
            self.began = connection.active
            self._read()
        if self._full and len(self._buffer) <= _AHEAD and connection.paused is None and connection.closing is None:
            self._full = False
            self.transport.resumeProducing()

    def refuse(self, answer: Answer) -> None:
        """Answer, read no more, and close."""
        request = self._request
        self._persistent = False
        self.write(answer, request is not None and request.method == b"HEAD")
        self._busy = True
        self.answered()

    def _close(self) -> None:
        """Close, and give the caller time to read the last answer."""
        self._buffer = b""
        self.connection.end()


class HTTPServer(ServerConnections):
    """
    Builds the connections of a face.

    :param clock: the reactor, or a ``Clock``.
    :param face: the name of the face in the log.
    :param refused: called with the status of each answer that refuses a request.

    :ivar hosts: our hosts, where web pages are kept out; ``None`` where keys keep them out. It may be changed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        application: IApplication,
        limits: ConnectionLimits | None = None,
        face: str = "HTTP",
        hosts: Hosts | None = None,
        refused: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(clock, lambda: _Channel(self), limits or ConnectionLimits(), face)
        self.application = application
        self.hosts = hosts
        self.refused = refused
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
            answer = self.application.fault(503, "the server is shutting down", request)
            return attrs.evolve(answer, headers=[*answer.headers, (b"Retry-After", b"%d" % _STOPPING)])
        return self._cross_site(request) or self.application.begun(request) or self._undecodable(request)

    def _cross_site(self, request: Request) -> Answer | None:
        """Refuse requests that a browser sends for a web page of another site."""
        if self.hosts is None:
            return None
        try:
            self.hosts.check(request.named, request.texts(b"Origin"), request.texts(b"Sec-Fetch-Site"))
        except ForeignHost as error:
            return self.application.fault(421, str(error), request)
        except CrossSite as error:
            return self.application.fault(403, str(error), request)
        return None

    def _undecodable(self, request: Request) -> Answer | None:
        """Refuse bodies in an encoding that is not supported."""
        if b"content-encoding" not in request.fields:
            return None
        try:
            request.decode()
        except UnknownEncoding:
            wrong = f"the Content-Encoding must be one of {ACCEPTED.decode()}, or absent"
            answer = self.application.fault(415, wrong, request)
            return attrs.evolve(answer, headers=[*answer.headers, (b"Accept-Encoding", ACCEPTED)])
        return None

    def too_large(self, request: Request) -> Answer:
        """Refuse a body that is too long."""
        return self.application.fault(413, f"the body is longer than {self.limits.body} bytes", request)

    def head(self, answer: Answer, persistent: bool, framing: bytes | None = None) -> bytes:
        """
        Encode the head of an answer.

        :param framing: the header field that says where the body ends, if that is not all there yet.
        """
        fields = b"".join([b"%s: %s\r\n" % field for field in answer.headers])
        if answer.status != HTTPStatus.NO_CONTENT:
            length = b"Content-Length: %d\r\n" % len(answer.body) if framing is None else framing
            fields += b"Content-Type: %s\r\n%s" % (answer.kind, length)
        if not persistent:
            fields += b"Connection: close\r\n"
        line = answer.status, _PHRASES[answer.status], self._time()
        return b"HTTP/1.1 %d %s\r\nDate: %s\r\n%s\r\n" % (*line, fields)

    def _time(self) -> bytes:
        """Format the time as HTTP does."""
        second = int(self._wall.now())
        if self._date[0] != second:
            self._date = second, datetimeToString(second)
        return self._date[1]
