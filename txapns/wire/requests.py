"""
The provider API: one HTTP/2 request, one stream, for each notification, broadcast, or question about channels.

A request is a HEADERS frame and a DATA frame, the answer a HEADERS frame and, unless it is 200, a DATA frame::

    :method        POST                        :status   410
    :scheme        https                       apns-id   8a6f…
    :authority     api.push.apple.com
    :path          /3/device/<token in hex>    {"reason": "Unregistered", "timestamp": 1700000000000}
    authorization  bearer <JWT>
    apns-topic     com.example.app

    {"aps": {"alert": "Hello"}}

Of channels one also asks by GET and DELETE, whose requests have no DATA; and the answers to what is asked of them are
201 and 204 as well, and 200 with the list that was asked for as its DATA.

HTTP/2 itself (framing, HPACK, flow control) is libnghttp2's work, through ngh2; this module is the only one that
knows it. What is added here is the arithmetic that sending notifications needs, which no HTTP/2 library has:

*Room.* A request needs a free stream below the peer's MAX_CONCURRENT_STREAMS and octets in its connection window
(65,535 at Apple: some fifteen payloads of 4 KB). :meth:`RequestSender.room` tells both. A connection authenticated
by a provider token has room for a single request until one has been answered; Apple announces the full limit only
then.

*What happened to each.* Every stream ends in exactly one of four ways, and :class:`Round` sorts what a read brought
by them: *accepted* (any answer from 200 to 299), *rejected* (any other answer), *refused* (REFUSED_STREAM, or above the
last stream of a GOAWAY: not processed, by the protocol's own promise, so safe to send again) and *reset* (anything
else: nobody can say). When the connection dies, :meth:`RequestSender.abandon` makes the same distinction: a request
whose body did not leave whole cannot have been processed. (Whether one without a body has left is not known, so it is
taken to have.)

Streams are numbered 1, 3, 5 …; the items given by the caller are kept by stream and handed back, never looked into.

Source: "Sending notification requests to APNs" and "Handling notification responses from APNs"; RFC 9113 §5.1.2,
§6.8 and §8.7.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Generic, TypeVar

import attrs
import ngh2
from ngh2 import ResponseReceived, Setting, StreamClosed

from txapns.errors import WireError

__all__ = [
    "Answer",
    "FrameBudget",
    "GoAway",
    "Headers",
    "Request",
    "RequestReceiver",
    "RequestSender",
    "Round",
    "reason_of",
]

T = TypeVar("T")

#: Names and values of header fields, in order, as they stand on the wire.
Headers = Sequence[tuple[bytes, bytes]]

#: Streams used at once where the peer sets no limit of its own. Apple's has been 500 to 1,500.
DEFAULT_CONCURRENCY = 1_000
#: Streams used at once at the most, whatever the peer allows: it bounds what is in doubt when the connection dies.
MAX_CONCURRENCY = 4_096
#: An answer's body is ``{"reason": …, "timestamp": …}``; what a peer sends beyond this is dropped unread.
MAX_ANSWER = 4_096
#: That of the answer to a request without a body is what was asked for: at most the identifiers of an app's 10,000
#: channels. How long one is, Apple does not say; some twenty characters have been seen, and this has room for 400.
MAX_CONTENT = 4_194_304
#: The longest list of header fields that a server announces to take, by HTTP/2's way of counting, and how many fields
#: there may be. A request has a dozen of fields, of which a provider token is the longest.
_MAX_HEADERS, _MAX_FIELDS = 8_000, 100
#: A stream identifier has 31 bits; a connection with none left to spare is replaced.
LAST_STREAM = 2**31 - 1

#: What a client of HTTP/2 begins with (RFC 9113, section 3.4); and what one of HTTP/1.1 does.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[A-Z]+( |\Z)")

#: A frame begins with three octets of its length, one of its type, one of flags and four of the stream.
_FRAME_HEAD, _SETTINGS = 9, 4

REFUSED_STREAM = int(ngh2.ErrorCode.REFUSED_STREAM)
CANCEL = int(ngh2.ErrorCode.CANCEL)
PROTOCOL_ERROR = int(ngh2.ErrorCode.PROTOCOL_ERROR)
ENHANCE_YOUR_CALM = int(ngh2.ErrorCode.ENHANCE_YOUR_CALM)
_OK = (b":status", b"200")
#: What is raised where a stream or the connection is gone.
_GONE = (ngh2.StreamUnavailableError, ngh2.ConnectionClosingError, ngh2.ConnectionStateError)


@attrs.frozen
class Answer:
    """
    An answer other than 200 with an empty body.

    :ivar status: the HTTP status.
    :ivar headers: the header fields, ``:status`` first.
    :ivar body: the body, cut off at :data:`MAX_ANSWER` or :data:`MAX_CONTENT` octets.
    """

    status: int
    headers: Headers
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")

    @property
    def reason(self) -> str:
        """Apple's word for it; ``""`` where the body has none."""
        return reason_of(self.body)

    @property
    def page(self) -> bool:
        """Whether it is a page for people. Apple sends none, so something on the way answered instead."""
        html = dict(self.headers).get(b"content-type", b"").lower().startswith(b"text/html")
        return html or self.body.lstrip().startswith(b"<")

    @property
    def timestamp(self) -> float | None:
        """
        With 410, when APNs learned that the token is dead, in UNIX seconds; otherwise ``None``.

        On the wire it is in milliseconds. Seconds have been seen there, in 2015; a number too small for milliseconds
        of this century is taken for them.
        """
        try:
            number = float(json.loads(self.body)["timestamp"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        if not math.isfinite(number):
            return None
        return number if abs(number) < 1e11 else number / 1000

    def retry_after(self, now: float) -> float | None:
        """
        Find how long the server wants to be left alone (``Retry-After``, RFC 9110, section 10.2.3).

        :param now: the present, in UNIX seconds, since the field may hold a date.
        :returns: seconds from now, not below 0; ``None`` where it does not say, or not in a form there is.
        """
        text = dict(self.headers).get(b"retry-after", b"").decode("latin-1").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except (ValueError, TypeError, OverflowError):
            return None


@attrs.frozen
class GoAway:
    """
    The peer will take no new stream on this connection.

    :ivar last_stream_id: the last stream it did or might process.
    :ivar code: the HTTP/2 error code, 0 for an orderly end.
    :ivar reason: the word from its debug data, such as ``"BadCertificateEnvironment"``; ``""`` without one.
    """

    last_stream_id: int
    code: int
    reason: str


@attrs.define(eq=False)
class Round(Generic[T]):
    """
    What one read brought, sorted by what it means for the requests. One a read, so nothing is made per request.

    :ivar ready: the peer's first SETTINGS came: requests may be sent.
    :ivar accepted: the items answered 200 without a body, each with the answer's header fields.
    :ivar answered: the items accepted by any other answer from 200 to 299.
    :ivar rejected: the items answered otherwise.
    :ivar refused: the items that were provably not processed.
    :ivar reset: the items dropped without an answer, with the HTTP/2 error code; each may have been processed.
    :ivar unsendable: the items whose header fields HTTP/2 does not allow, so that they never left.
    :ivar goaway: the peer's GOAWAY, if one came.
    """

    ready: bool = False
    accepted: list[tuple[T, Headers]] = attrs.Factory(list)
    answered: list[tuple[T, Answer]] = attrs.Factory(list)
    rejected: list[tuple[T, Answer]] = attrs.Factory(list)
    refused: list[T] = attrs.Factory(list)
    reset: list[tuple[T, int]] = attrs.Factory(list)
    unsendable: list[T] = attrs.Factory(list)
    goaway: GoAway | None = None


@attrs.define(eq=False)
class _Partial:
    """An answer whose body has not ended yet."""

    headers: Headers
    longest: int = MAX_ANSWER
    body: bytearray = attrs.Factory(bytearray)

    @property
    def status(self) -> int:
        """The HTTP status, which libnghttp2 has seen to be three digits."""
        return int(dict(self.headers)[b":status"])


def _sort(item: T, partial: _Partial, received: Round[T]) -> None:
    """Sort by the status, which is Apple's word; the body only explains it, and may be cut off."""
    answer = Answer(partial.status, partial.headers, bytes(partial.body))
    (received.answered if 200 <= answer.status <= 299 else received.rejected).append((item, answer))


def _size(headers: Headers) -> int:
    return sum(map(len, chain.from_iterable(headers)))


def reason_of(data: bytes) -> str:
    """
    Find the reason in an answer's body or a GOAWAY's debug data.

    Apple sends JSON, but not always: ``Maximum active streams violated for this endpoint.`` has been seen, and a
    proxy may answer with a page. Such text is its own reason, shortened; so is JSON that has no text for a reason.

    :param data: the body or debug data.
    :returns: the reason; ``""`` for no data at all, and where JSON says that there is none.
    """
    try:
        reason = json.loads(data)["reason"]
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = data.decode("utf-8", "replace")
    if reason is None:
        return ""
    if not isinstance(reason, str):
        reason = data.decode("utf-8", "replace")
    # It ends up in logs and on terminals: one line, of a length that fits there, and nothing that controls them.
    return " ".join("".join(c if c.isprintable() else " " for c in reason[:200]).split())


class RequestSender(Generic[T]):
    """
    The provider's side of one connection: requests out, a :class:`Round` in for each read.

    :param authority: the host name for ``:authority``.
    :param most: how many requests there are to be; 0 for as many as there are streams.
    :param single: start with one request at a time, until the first is answered by anything but 403. Apple lets a
        connection authenticated by a provider token have one stream until a valid token was seen.
    """

    def __init__(self, authority: bytes, *, most: int = 0, single: bool = False) -> None:
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT)
        self._h2.initiate_connection({Setting.ENABLE_PUSH: 0})
        self._authority = authority
        self._single = single
        self._limit = 0  # no stream before the peer's SETTINGS
        self._ready = False
        self._closing = False
        self._broken = False  # libnghttp2 will have nothing more to do with it
        # Items by stream, in the order they were sent; None once answered, until the stream is closed as well.
        self._streams: dict[int, T | None] = {}
        self._partial: dict[int, _Partial] = {}
        self._asking: set[int] = set()  # the streams of requests without a body
        self._last_stream = 0
        self._most = most

    def __len__(self) -> int:
        """The number of requests under way."""
        return len(self._streams)

    @property
    def last_stream(self) -> int:
        """The stream of the latest request; 0 before the first."""
        return self._last_stream

    @property
    def open(self) -> bool:
        """Whether new requests may ever be sent on this connection."""
        return not self._closing and self.left > 0

    @property
    def left(self) -> int:
        """How many requests there may still be."""
        last = 2 * self._most - 1 if self._most else LAST_STREAM - 2 * MAX_CONCURRENCY
        return (last + 1 - self._last_stream) // 2

    @property
    def closed(self) -> bool:
        """Whether the connection is over as far as HTTP/2 is concerned. Ask it after :meth:`data_to_send`."""
        return self._broken or not (self._h2.want_read or self._h2.want_write)

    def room(self) -> tuple[int, int]:
        """
        Tell what may be sent now.

        :returns: how many requests, and how many octets of bodies before they would have to wait for the peer's
            window.
        """
        if not self._ready or not self.open:
            return 0, 0
        limit = min(self._limit, 1) if self._single else self._limit
        h2 = self._h2
        return min(limit - len(self._streams), self.left), h2.remote_window_size - h2.queued_body_size()

    def head(self, method: bytes) -> Headers:
        """
        Make what many requests begin with, so that it is made but once.

        :param method: their method.
        :returns: the pseudo-header fields before the path.
        """
        return ((b":method", method), (b":scheme", b"https"), (b":authority", self._authority))

    def send(self, item: T, head: Headers, path: bytes, fields: Headers, body: bytes) -> None:
        """
        Send one request. Call it only where there is :meth:`room`.

        :param item: what to hand back with its outcome.
        :param head: what :meth:`head` made.
        :param path: the path, the device token in hexadecimal included.
        :param fields: the header fields after the pseudo-header fields, ``authorization`` included.
        :param body: the payload; where it is empty, the request ends with its header fields.
        """
        h2 = self._h2
        if body:
            stream = h2.send_request([*head, (b":path", path), *fields])
            h2.send_data(stream, body, end_stream=True)
        else:
            stream = h2.send_request([*head, (b":path", path), *fields], end_stream=True)
            self._asking.add(stream)
        self._streams[stream] = item
        self._last_stream = stream

    def data_to_send(self) -> bytes:
        """
        Take the octets to write to the peer.

        :returns: the octets; ``b""`` when there are none.
        """
        if self._broken:
            return b""
        try:
            return self._h2.data_to_send()
        except ngh2.NGH2Error:
            self._closing = self._broken = True
            return b""

    def receive(self, data: bytes) -> Round[T]:
        """
        Take in what was read from the peer.

        :param data: the octets, split anywhere.
        :returns: what they mean. What comes after the end is not looked at.
        :raises WireError: they are not HTTP/2. The connection is over; :meth:`abandon` tells what became of the
            requests.
        """
        if self.closed:
            return Round()
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error as error:
            self._closing = self._broken = True
            raise WireError(f"the server does not keep to HTTP/2: {error}") from None
        return self.take()

    def take(self) -> Round[T]:
        """
        Sort the events at hand. :meth:`receive` does so; after :meth:`data_to_send` it finds the streams that ended
        by our own doing: the unsendable ones, and those given up.

        :returns: what they mean.
        """
        return Round() if self._broken else self._take()

    def _take(self) -> Round[T]:
        received: Round[T] = Round()
        streams, asking = self._streams, self._asking
        accepted = received.accepted
        for event in self._h2.events():
            if isinstance(event, ResponseReceived):
                stream, headers = event.stream_id, event.headers
                if headers[0] == _OK and event.end_stream:
                    item = streams.get(stream)
                    if item is not None:
                        streams[stream] = None
                        self._single = False
                        accepted.append((item, headers))
                else:
                    self._partial[stream] = _Partial(headers, MAX_CONTENT if stream in asking else MAX_ANSWER)
                    if event.end_stream:
                        self._answered(stream, received)
            elif isinstance(event, StreamClosed):
                item = streams.pop(event.stream_id, None)
                if item is not None:
                    self._unanswered(item, event, received)
                if asking:
                    asking.discard(event.stream_id)
            else:
                self._other(event, received)
        if not self._h2.can_send_request:
            self._closing = True
        return received

    def cancel_through(self, stream: int) -> Round[T]:
        """
        Give up the requests up to a stream: RST_STREAM(CANCEL), so that they no longer count against the limit.

        :param stream: the last stream to give up.
        :returns: what became of each. Those whose request did not leave whole are refused: they were not processed.
        """
        gone: Round[T] = Round()
        for number in [number for number in self._streams if number <= stream]:
            self._give_up(number, gone)
            with suppress(*_GONE):  # libnghttp2 may have given the connection up, and not have said so to the peer yet
                self._h2.reset_stream(number, CANCEL)
        return gone

    def abandon(self) -> Round[T]:
        """
        The connection is gone: tell what became of the requests without an answer.

        :returns: what became of each. Those whose request did not leave whole are refused: they were not processed.
        """
        gone: Round[T] = Round()
        for number in self._streams:
            self._give_up(number, gone)
        self._streams.clear()
        self._closing = True
        return gone

    def _give_up(self, stream: int, gone: Round[T]) -> None:
        """Expect nothing more on a stream."""
        item, self._streams[stream] = self._streams[stream], None
        partial = self._partial.pop(stream, None)
        if item is None:
            return
        if partial is not None:
            _sort(item, partial, gone)
        elif self._h2.queued_body_size(stream):
            gone.refused.append(item)
        else:
            gone.reset.append((item, CANCEL))

    def ping(self) -> None:
        """Ask the peer for a sign of life; any octet it sends afterwards is one."""
        with suppress(*_GONE):
            self._h2.ping()

    def goodbye(self) -> None:
        """Say GOAWAY: no request will follow."""
        with suppress(*_GONE):
            if not self._closing and self._h2.can_send_request:
                self._h2.send_goaway()
        self._closing = True

    def _answered(self, stream: int, received: Round[T]) -> None:
        """The last octet of an answer with a body is here."""
        partial = self._partial.pop(stream, None)
        item = self._streams.get(stream)
        if partial is not None and item is not None:
            self._streams[stream] = None
            self._single = self._single and partial.status == 403
            _sort(item, partial, received)

    def _unanswered(self, item: T, event: StreamClosed, received: Round[T]) -> None:
        """A stream ended before its answer did."""
        partial = self._partial.pop(event.stream_id, None)
        if event.local_error is not None:
            (received.unsendable if self.open else received.refused).append(item)
        elif event.error_code == REFUSED_STREAM:
            received.refused.append(item)
        elif partial is not None:
            _sort(item, partial, received)
        else:
            received.reset.append((item, event.error_code))

    def _other(self, event: ngh2.Event, received: Round[T]) -> None:
        """The events that are rare, or come once a connection."""
        if isinstance(event, ngh2.DataReceived):
            partial = self._partial.get(event.stream_id)
            if partial is not None:
                partial.body += event.data[: partial.longest - len(partial.body)]
                if event.end_stream:
                    self._answered(event.stream_id, received)
        elif isinstance(event, ngh2.TrailersReceived):
            self._answered(event.stream_id, received)
        elif isinstance(event, ngh2.SettingsReceived):
            default = self._limit if self._ready else DEFAULT_CONCURRENCY
            limit = event.settings.get(Setting.MAX_CONCURRENT_STREAMS, default)
            self._limit = min(limit, MAX_CONCURRENCY)
            received.ready = received.ready or not self._ready
            self._ready = True
        elif isinstance(event, ngh2.GoAwayReceived):
            self._closing = True
            received.goaway = GoAway(event.last_stream_id, event.error_code, reason_of(event.debug_data))


@attrs.frozen
class Request:
    """
    One whole request, as the server side receives it.

    :ivar stream: its stream.
    :ivar headers: the header fields in order, repeated ones included.
    :ivar body: the body, cut off at the limit given to :class:`RequestReceiver` plus one octet, so that a longer one
        can be told from one that just fits. With ``early`` it is not cut off.
    """

    stream: int
    headers: Headers = attrs.field(repr=lambda headers: f"<{len(headers)} fields>")
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")


class FrameBudget:
    """
    How many frames a client may send. libnghttp2 bounds some kinds of them, and none by the time that it takes.

    What is not used is kept, as much of it as may be used at once.
    """

    def __init__(self) -> None:
        self._skip = len(_PREFACE)  # octets until the next frame begins
        self._head = b""
        self._since = -math.inf
        self._frames = self._settings = 0.0

    def spend(self, data: bytes, now: float, frames: tuple[int, int], settings: tuple[int, int]) -> bool:
        """
        Count the frames that begin in what was read.

        :param data: the octets, split anywhere.
        :param now: the time, in seconds.
        :param frames: how many frames there may be at once, and how many in a second.
        :param settings: how many of them may be SETTINGS. Each costs as much as there are streams.
        :returns: whether there are no more than may be.
        """
        passed, self._since = now - self._since, now
        begun, changes = self._count(data)
        self._frames = min(frames[0], self._frames + passed * frames[1]) - begun
        self._settings = min(settings[0], self._settings + passed * settings[1]) - changes
        return self._frames >= 0 and self._settings >= 0

    def _count(self, data: bytes) -> tuple[int, int]:
        """Tell how many frames begin, and how many of them are SETTINGS, but for acknowledgements."""
        data, at, end = self._head + data, self._skip, len(self._head) + len(data)
        begun = settings = 0
        while at + _FRAME_HEAD <= end:
            begun += 1
            settings += data[at + 3] == _SETTINGS and not data[at + 4] & 1
            at += _FRAME_HEAD + int.from_bytes(data[at : at + 3], "big")
        self._head, self._skip = data[at:], max(0, at - end)
        return begun, settings


class RequestReceiver:
    """
    Apple's side of one connection: requests in, answers out. What comes too late, on a stream or a connection that is
    gone, is passed over.

    :param concurrency: the MAX_CONCURRENT_STREAMS to announce.
    :param max_body: how many octets of a body are kept, less one.
    :param window_updates: whether what was received is given back to the peer's window at once. Without it
        :meth:`acknowledge` does so, when the server has dealt with a request.
    :param early: whether a request is given out as soon as its body is too long, and not at its end, which may never
        come. Its body is then all that came until then, and what comes later is dropped.
    """

    def __init__(self, concurrency: int, *, max_body: int, window_updates: bool = True, early: bool = False) -> None:
        # How often streams may be reset, and how much else may be odd, libnghttp2 bounds by itself.
        configuration = ngh2.Configuration(
            auto_window_update=window_updates,
            max_inbound_header_list_size=2 * _MAX_HEADERS,
            max_inbound_header_count=_MAX_FIELDS,
        )
        self._h2 = ngh2.Connection(ngh2.Role.SERVER, configuration)
        self._h2.initiate_connection(
            {Setting.MAX_CONCURRENT_STREAMS: concurrency, Setting.MAX_HEADER_LIST_SIZE: _MAX_HEADERS}
        )
        self._max_body = max_body
        self._early = early
        self._window_updates = window_updates
        self._refused: list[int] = []
        self._open: dict[int, tuple[Headers, bytearray]] = {}
        self._held = 0
        self._opening = b""

    @property
    def begun(self) -> bool:
        """Whether the peer has begun as a client of HTTP/2 does."""
        return self._opening == _PREFACE

    @property
    def http1(self) -> bool:
        """Whether the peer began with a request of HTTP/1.1, or the beginning of one."""
        return not _PREFACE.startswith(self._opening) and _METHOD.match(self._opening) is not None

    @property
    def unsent(self) -> int:
        """How many octets of answers wait for the peer's window."""
        return self._h2.queued_body_size()

    @property
    def unfinished(self) -> list[int]:
        """The streams of the requests that have begun and are not whole."""
        return list(self._open)

    @property
    def held(self) -> int:
        """How many octets there are of the requests that are not whole, their header fields included."""
        return self._held

    def receive(self, data: bytes, screen: Callable[[Request], bool] = lambda head: True) -> list[Request]:
        """
        Take in what was read from the peer.

        :param data: the octets, split anywhere.
        :param screen: looks at a request of which only the header fields are there, and tells whether to go on; where
            it has said no, by :meth:`refuse` or :meth:`reset`, the request is not given out.
        :returns: the requests that are now whole, in the order they became so. What comes after the end is not looked
            at.
        :raises WireError: they are not HTTP/2.
        """
        if self.closed:
            return []
        self._opening += data[: len(_PREFACE) - len(self._opening)]
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error as error:
            raise WireError(f"the client broke the rules of HTTP/2: {error}") from None
        whole: list[Request] = []
        for event in self._h2.events():
            if isinstance(event, ngh2.RequestReceived):
                if screen(Request(event.stream_id, event.headers, b"")):
                    self._open[event.stream_id] = (event.headers, bytearray())
                    self._held += _size(event.headers)
                    self._ended(event.stream_id, event.end_stream, whole)
            elif isinstance(event, ngh2.DataReceived):
                self._data(event, whole)
            elif isinstance(event, ngh2.TrailersReceived):
                self._ended(event.stream_id, True, whole)
            elif isinstance(event, StreamClosed) and event.stream_id in self._open:
                self._dropped(event.stream_id, len(self._take(event.stream_id).body))
        return whole

    def _data(self, event: ngh2.DataReceived, whole: list[Request]) -> None:
        if event.stream_id not in self._open:
            self._dropped(event.stream_id, len(event.data))
            return
        body = self._open[event.stream_id][1]
        piece = event.data if self._early else event.data[: self._max_body + 1 - len(body)]
        body += piece
        self._held += len(piece)
        self._ended(event.stream_id, event.end_stream or (self._early and len(body) > self._max_body), whole)

    def _dropped(self, stream: int, octets: int) -> None:
        """Give back what nobody else will, since it is part of no request."""
        if octets and not self._window_updates:
            self.acknowledge(stream, octets)

    def _ended(self, stream: int, end_stream: bool, whole: list[Request]) -> None:
        if end_stream and stream in self._open:
            whole.append(self._take(stream))

    def _take(self, stream: int) -> Request:
        headers, body = self._open.pop(stream)
        self._held -= _size(headers) + len(body)
        return Request(stream, headers, bytes(body))

    @property
    def closed(self) -> bool:
        """Whether the connection is over as far as HTTP/2 is concerned."""
        return not (self._h2.want_read or self._h2.want_write)

    def respond(self, stream: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """
        Answer a request.

        :param stream: the request's.
        :param headers: the header fields, ``:status`` first.
        :param body: the body; empty ends the stream with the header fields.
        """
        with suppress(*_GONE):
            self._h2.send_response(stream, list(headers), end_stream=not body)
            if body:
                self._h2.send_data(stream, body, end_stream=True)

    def refuse(self, stream: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, at_once: bool = True) -> None:
        """
        Answer a request of which nothing more is wanted. Where the peer has no window for the body, it is left out.

        :param stream: the request's.
        :param headers: the header fields, ``:status`` first.
        :param body: the body.
        :param at_once: whether the stream ends with the answer, whatever the peer does. A client that is still sending
            its request may not read the answer then.
        """
        with suppress(*_GONE):
            window = min(self._h2.stream_remote_window_size(stream), self._h2.remote_window_size - self.unsent)
            self.respond(stream, headers, body if len(body) <= window else b"")
            if at_once:
                self._refused.append(stream)

    def reset(self, stream: int, code: int) -> None:
        """
        Drop a request without an answer.

        :param stream: the request's.
        :param code: the HTTP/2 error code, 7 to say that it was not processed.
        """
        with suppress(*_GONE):
            self._h2.reset_stream(stream, code)

    def goaway(self, code: int = 0, *, last_stream: int | None = None, debug: bytes = b"") -> None:
        """
        Take no further streams.

        :param code: the HTTP/2 error code.
        :param last_stream: the last stream that is dealt with; left out, the last one seen.
        :param debug: what to tell the peer.
        """
        with suppress(*_GONE):
            self._h2.send_goaway(code, last_stream_id=last_stream, debug_data=debug)

    def limit(self, concurrency: int) -> None:
        """
        Announce another MAX_CONCURRENT_STREAMS.

        :param concurrency: the new limit.
        """
        with suppress(*_GONE):
            self._h2.update_settings({Setting.MAX_CONCURRENT_STREAMS: concurrency})

    def window(self, octets: int) -> None:
        """
        Announce another window for each stream (INITIAL_WINDOW_SIZE), those that are open included.

        :param octets: the new window.
        """
        with suppress(*_GONE):
            self._h2.update_settings({Setting.INITIAL_WINDOW_SIZE: octets})

    def acknowledge(self, stream: int, octets: int) -> None:
        """
        Give octets back to the peer's window.

        :param stream: the stream on which they came.
        :param octets: how many.
        """
        with suppress(*_GONE):
            self._h2.acknowledge_received_data(octets, stream)

    def data_to_send(self) -> bytes:
        """
        Take the octets to write to the peer.

        :returns: the octets; ``b""`` when there are none.
        """
        data = b""
        with suppress(*_GONE):
            data = self._h2.data_to_send()
            for stream in self._refused:  # the rest of such a request need not come (RFC 9113, section 8.1)
                self.reset(stream, 0)
            if self._refused:
                self._refused.clear()
                data += self._h2.data_to_send()
        return data
