"""
HTTP/1.1 for the faces that speak it: Twisted's server, with bounds on what a caller can make it hold, read and wait.

::

    octets ──► _Channel ──► Request ──► IApplication.begun      the head is there: refuse, or go on
                                   └──► IApplication.received   all of it is there: answer

What a caller may not do costs next to nothing. An application sees the head of a request first, and whom it refuses
there has no body read. A body is counted while it comes, with a length announced or without, and so is the time until
all of it is there. Who asks for more at once than one request after the other is not read until the answer is out, and
no next request is begun while the answers before are not read. Of many small requests that came in one piece a few are
answered at a time; then it is the turn of the other connections. Who is refused again and again has to connect anew.

How many connections there may be, and how they end, :mod:`~txapns.daemon.serving.connections` decides.
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
from txapns.daemon.serving.coding import ACCEPTED, Decoder, Malformed, TooLong, Unknown, decoder_of
from txapns.daemon.serving.connections import FaceProtocol, ServerConnections
from txapns.daemon.serving.failures import described
from txapns.daemon.serving.limits import ConnectionLimits
from txapns.daemon.serving.target import BadHead, CrossSite, ForeignHost, Hosts, asked_host, split_target

__all__ = ["JSON", "Answer", "HTTPServer", "IApplication", "Request"]

#: The content type of what most faces answer.
JSON = b"application/json"

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_TURN = 2  # requests that are answered in a row, if they came together
_REFUSALS = 20  # how often in a row one may be refused at the head
_FIELDS = 100  # header fields in a request
_PIECE = 256  # each piece of a body counts as many octets at the least: many small ones cost time
_STOPPING = 10.0  # seconds in which a restart should be over


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
        Look at the head of a request.

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

    :ivar named: the host that it is for; ``None`` where it names none.
    :ivar context: what :meth:`IApplication.begun` leaves for :meth:`IApplication.received`.
    :ivar body: the body, as it was before it was compressed, while the application is asked.
    :ivar refusal: what was answered when only the head was there.
    """

    channel: _Channel

    def __init__(self, channel: _Channel, queued: object = False) -> None:
        super().__init__(channel, queued)
        self.named: str | None = None
        self.context: Any = None
        self.body = b""
        self.refusal: Answer | None = None
        self._server = channel.server
        self._connection = channel.connection  # which is there for longer than the channel
        self._pieces: list[bytes] = []
        self._length = self._counted = 0
        self._authenticated = False
        self._decoder: Decoder | None = None

    def begin(self, method: bytes, target: bytes, version: bytes) -> None:
        """
        Begin, once the header fields are there.

        :param method: the method.
        :param target: what is asked for.
        :param version: the version of HTTP.
        :raises BadHead: it cannot be understood.
        """
        self.method, self.clientproto = method, version
        authority, path = split_target(target.decode("latin-1"))
        self.uri = path.encode("latin-1")
        self.path = self.uri.partition(b"?")[0]
        self.named = asked_host(self.texts(b"Host"), authority, version.decode("latin-1"))
        codings = self.texts(b"Transfer-Encoding")
        if codings and (version == b"HTTP/1.0" or [each.lower() for each in codings] != ["chunked"]):
            raise BadHead("the only Transfer-Encoding accepted is chunked, in HTTP/1.1")

    def decode(self) -> None:
        """
        Have the body unpacked while it comes.

        :raises Unknown: it is not known how.
        """
        values = self.requestHeaders.getRawHeaders(b"Content-Encoding", ())
        self._decoder = decoder_of(values, self._server.limits.body)

    def texts(self, name: bytes) -> list[str]:
        """
        Find header fields.

        :param name: their name.
        :returns: their values, each as it stands there.
        """
        return [value.decode("latin-1") for value in self.requestHeaders.getRawHeaders(name, ())]

    def single(self, name: bytes) -> bytes | None:
        """
        Find a header field.

        :param name: its name.
        :returns: its value; ``None`` where there is none, or more than one.
        """
        values = self.requestHeaders.getRawHeaders(name)
        return values[0] if values is not None and len(values) == 1 else None

    @property
    def authorization(self) -> str:
        """The header field ``Authorization``; empty where there is none, or more than one."""
        return (self.single(b"Authorization") or b"").decode("latin-1")

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return bool(self._disconnected)

    def mark_authenticated(self) -> None:
        """Note that the caller has shown a good credential, or, where none is asked for, a whole request."""
        self._authenticated = True
        self._connection.mark_authenticated()

    def gotLength(self, length: int | None) -> None:
        """The body is kept in memory, since it is bounded."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.finished:
            return  # it was refused; what had been read with the rest comes nevertheless
        self._counted += max(len(data), _PIECE)
        self._length += len(data)
        most = self._server.limits.body
        try:
            if self._length > most or self._counted > most + _PIECE:
                raise TooLong
            self._keep(data if self._decoder is None else self._decoder.feed(data))
        except TooLong:
            self._refuse(self._server.too_large())
        except Malformed as error:
            self._refuse(self._server.application.fault(400, str(error)))

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        if not self._authenticated:
            self._server.limits.unfinished.add(self._connection, max(len(piece), _PIECE))

    def _refuse(self, answer: Answer) -> None:
        self._release()
        self.channel.refuse(self, answer)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Have it answered."""
        try:
            if self._decoder is not None and self.refusal is None:
                self._decoder.finish()
        except Malformed as error:
            self.refusal = self._server.application.fault(400, str(error))
        self.body = b"".join(self._pieces)
        self._release()
        self.process()
        self.body = b""  # an answer may take long

    def connectionLost(self, reason: Failure) -> None:
        """Nobody waits for the answer; what there is of the body is not kept until the garbage is collected."""
        super().connectionLost(reason)
        self._release()

    def _release(self) -> None:
        """Hold nothing of the body any more."""
        self._pieces = []
        self._server.limits.unfinished.forget(self._connection)

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
        self.channel.answered(self)

    def _body_of(self, answer: Answer) -> bytes:
        return b"" if self.method == b"HEAD" else answer.body

    def _failed(self, reason: Failure) -> None:
        if self.startedWriting or self._disconnected:
            self._connection.failed(reason)
        else:
            self._connection.report(described(reason))
            fault = self._server.application.fault(500, "something went wrong in the daemon; its log says more")
            self.channel.refuse(self, fault)


class _Channel(FaceProtocol, http.HTTPChannel):
    """
    A connection.

    :param server: whose it is.

    :ivar began: when the request began that is arriving; ``None`` where none is.
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

    # A session's.

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy and self._answered is None

    @property
    def idle(self) -> bool:
        """Whether there is no request."""
        return not self._busy and self.began is None

    def gone(self, reason: Failure) -> None:
        """Nobody asks for the next answer."""
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
        """Close after the answer, if one is under way."""
        if self.idle:
            self.loseConnection()

    # A protocol's.

    def getHost(self) -> Any:
        """Tell to which address the peer came. Each request asks, and the system is asked once."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def dataReceived(self, data: bytes) -> None:
        """Read."""
        connection = self.connection
        if connection.closing is not None or connection.over:
            return
        connection.active = self.server.clock.seconds()
        if self.began is None and not self._busy:
            self.began = connection.active
        self._turn = 0
        try:
            super().dataReceived(data)
        except ValueError:  # a length of so many digits that Python does not read it
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.loseConnection()

    def allHeadersReceived(self) -> None:
        """Refuse what need not be read."""
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
        """The request is whole."""
        if self.connection.closing is None:
            self._busy, self.began = True, None
            super().allContentReceived()

    def answered(self, request: Request) -> None:
        """
        Go on to the next request; if the peer does not read, when it does; if it has had many, after the others.

        :param request: what was answered.
        """
        self._turn += 1
        if self.persistent and (self.connection.paused is not None or self._turn >= _TURN):
            self._answered = request
            if self.connection.paused is None:
                self._next = self.server.clock.callLater(0, self._go_on)
        else:
            request.finish()

    def resumeProducing(self) -> None:
        """The peer reads."""
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
        """The next may come, or has."""
        self._busy = False
        self.connection.active = self.server.clock.seconds()
        super().requestDone(request)

    def setLineMode(self, extra: bytes = b"") -> Any:
        """Go on with what came meanwhile."""
        if extra and self.began is None:
            self.began = self.connection.active
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
        self.clearLineBuffer()
        self.connection.end()


class HTTPServer(ServerConnections):
    """
    Builds the connections of a face.

    :param clock: the reactor, or a ``Clock``.
    :param application: what answers.
    :param limits: what a caller may have.
    :param face: what the face is called in the log.
    :param hosts: which hosts are ours, where no web page must get in; ``None`` where keys see to that.
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
        self._hosts = hosts
        self._wall = wall_clock(clock)
        self._date = (-1, b"")

    def acceptableProtocols(self) -> list[bytes]:
        """Name the protocols that TLS may negotiate."""
        return [b"http/1.1"]

    # For the connections.

    def admits(self) -> bool:
        """Who comes late is told to come again later."""
        return True

    def begun(self, request: Request) -> Answer | None:
        """See :meth:`IApplication.begun`."""
        if self.draining:
            answer = self.application.fault(503, "the daemon is shutting down")
            return attrs.evolve(answer, headers=[*answer.headers, (b"Retry-After", b"%d" % _STOPPING)])
        return self._led_astray(request) or self.application.begun(request) or self._not_decoded(request)

    def _led_astray(self, request: Request) -> Answer | None:
        """Refuse what a web page has a browser send."""
        if self._hosts is None:
            return None
        try:
            self._hosts.check(request.named, request.texts(b"Origin"), request.texts(b"Sec-Fetch-Site"))
        except ForeignHost as error:
            return self.application.fault(421, str(error))
        except CrossSite as error:
            return self.application.fault(403, str(error))
        return None

    def _not_decoded(self, request: Request) -> Answer | None:
        """Refuse what comes in an encoding that is not known."""
        try:
            request.decode()
        except Unknown:
            answer = self.application.fault(415, f"the Content-Encoding can be one of {ACCEPTED.decode()}, or none")
            return attrs.evolve(answer, headers=[*answer.headers, (b"Accept-Encoding", ACCEPTED)])
        return None

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See :meth:`IApplication.received`."""
        if request.refusal is not None:
            return request.refusal
        return self.application.received(request)

    def too_large(self) -> Answer:
        """Say that a body is too long."""
        return self.application.fault(413, f"the body is longer than {self.limits.body} octets")

    def head(self, answer: Answer, persistent: bool) -> bytes:
        """
        Write what comes before the body of an answer.

        :param answer: the answer.
        :param persistent: whether the connection is kept.
        """
        fields = b"".join([b"%s: %s\r\n" % field for field in answer.headers])
        if answer.status != http.NO_CONTENT:
            fields += b"Content-Type: %s\r\nContent-Length: %d\r\n" % (answer.kind, len(answer.body))
        if not persistent:
            fields += b"Connection: close\r\n"
        line = answer.status, _PHRASES[answer.status], self._time()
        return b"HTTP/1.1 %d %s\r\nDate: %s\r\n%s\r\n" % (*line, fields)

    def _time(self) -> bytes:
        """Tell the time as HTTP writes it."""
        second = int(self._wall.now())
        if self._date[0] != second:
            self._date = second, http.datetimeToString(second)
        return self._date[1]
