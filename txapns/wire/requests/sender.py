"""The provider's side of the provider API: requests out, outcomes in."""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, TypeVar

import attrs
import ngh2
from ngh2 import ResponseReceived, Setting, StreamClosed

from txapns.errors import WireError
from txapns.wire.requests.values import CANCEL, GONE, REFUSED_STREAM, Answer, GoAway, Headers, Round, reason_of

__all__ = ["RequestSender"]

T = TypeVar("T")

#: Streams used at once if the peer sets no limit of its own. Apple's has been 500 to 1,500.
DEFAULT_CONCURRENCY = 1_000
#: The upper limit of streams used at once, whatever the peer allows. It bounds how many requests have an unknown
#: outcome when the connection dies.
MAX_CONCURRENCY = 4_096
#: An answer's body is ``{"reason": …, "timestamp": …}``; more than this is dropped unread.
MAX_ANSWER = 4_096
#: The answer to a request without a body is the content it asked for: at most the identifiers of an app's 10,000
#: channels. Apple does not say how long one is; about twenty characters have been seen, and this allows 400.
MAX_CONTENT = 4_194_304
#: A stream identifier has 31 bits; a connection that runs out of them is replaced.
LAST_STREAM = 2**31 - 1

_OK = (b":status", b"200")


@attrs.define(eq=False)
class _Partial:
    """An answer whose body is incomplete."""

    headers: Headers
    longest: int
    body: bytearray = attrs.Factory(bytearray)


class RequestSender(Generic[T]):
    """
    The provider's side of one connection: requests out, a :class:`~txapns.wire.requests.Round` in for each read.

    :param authority: the host name for ``:authority``.
    :param most: how many requests may be sent; 0 for as many as there are streams.
    :param single: send one request at a time until one is answered by anything but 403. Apple allows a connection
        authenticated by a provider token one stream until it has seen a valid token.

    :ivar last_stream: the stream of the latest request; 0 before the first.
    """

    def __init__(self, authority: bytes, *, most: int = 0, single: bool = False) -> None:
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT)
        self._h2.initiate_connection({Setting.ENABLE_PUSH: 0})
        self._authority = authority
        self._single = single
        self._limit = 0  # no stream before the peer's SETTINGS
        self._ready = False
        self._closing = False
        self._broken = False  # libnghttp2 gave up on the connection
        # Items by stream, in the order they were sent; None from the answer until the stream is closed.
        self._streams: dict[int, T | None] = {}
        self._partial: dict[int, _Partial] = {}
        self._asking: set[int] = set()  # the streams of requests without a body
        self._most = most
        self.last_stream = 0

    def __len__(self) -> int:
        """The number of requests under way."""
        return len(self._streams)

    def items(self) -> list[T]:
        """List what is in flight."""
        return [item for item in self._streams.values() if item is not None]

    @property
    def open(self) -> bool:
        """Whether this connection still accepts new requests."""
        return not self._closing and self.left > 0

    @property
    def left(self) -> int:
        """How many more requests this connection can carry."""
        last = 2 * self._most - 1 if self._most else LAST_STREAM - 2 * MAX_CONCURRENCY
        return (last + 1 - self.last_stream) // 2

    @property
    def closed(self) -> bool:
        """Whether HTTP/2 considers the connection over. Read it after :meth:`data_to_send`."""
        return self._broken or not (self._h2.want_read or self._h2.want_write)

    def room(self) -> tuple[int, int]:
        """Tell how many requests may be sent now, and how many bytes of bodies fit into the peer's window."""
        if not self._ready or not self.open:
            return 0, 0
        limit = min(self._limit, 1) if self._single else self._limit
        h2 = self._h2
        return min(limit - len(self._streams), self.left), h2.remote_window_size - h2.queued_body_size()

    def head(self, method: bytes) -> Headers:
        """Build the pseudo-header fields before the path, which many requests share, once for all of them."""
        return ((b":method", method), (b":scheme", b"https"), (b":authority", self._authority))

    def send(self, item: T, head: Headers, path: bytes, fields: Headers, body: bytes) -> None:
        """
        Send one request. Call it only when there is :meth:`room`.

        :param item: what to hand back with its outcome.
        :param head: the result of :meth:`head`.
        :param path: the path, the device token in hexadecimal included.
        :param fields: the header fields after the pseudo-header fields, ``authorization`` included.
        :param body: the payload; if empty, the header fields end the request.
        """
        h2 = self._h2
        if body:
            stream = h2.send_request([*head, (b":path", path), *fields])
            h2.send_data(stream, body, end_stream=True)
        else:
            stream = h2.send_request([*head, (b":path", path), *fields], end_stream=True)
            self._asking.add(stream)
        self._streams[stream] = item
        self.last_stream = stream

    def data_to_send(self) -> bytes:
        """Take the bytes to write to the peer."""
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

        :param data: the bytes, split anywhere.
        :returns: what they mean. Bytes after the end of the connection are ignored.
        :raises WireError: the bytes are not HTTP/2. The connection is over; :meth:`abandon` tells what became of the
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
        Sort the events that are waiting. :meth:`receive` does so; after :meth:`data_to_send` it finds the streams that
        we ended ourselves: the unsendable ones, and those given up.
        """
        received: Round[T] = Round()
        streams, asking = self._streams, self._asking
        accepted = received.accepted
        for event in () if self._broken else self._h2.events():
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
        self._closing = self._closing or not self._h2.can_send_request
        return received

    def cancel_through(self, stream: int) -> Round[T]:
        """
        Give up the requests up to a stream: RST_STREAM(CANCEL), so that they no longer count against the limit.

        :param stream: the last stream to give up.
        :returns: what became of each. Requests that did not leave completely are refused: they were not processed.
        """
        gone: Round[T] = Round()
        for number in [number for number in self._streams if number <= stream]:
            self._give_up(number, gone)
            with suppress(*GONE):  # libnghttp2 may have given up on the connection without saying GOAWAY yet
                self._h2.reset_stream(number, CANCEL)
        return gone

    def abandon(self) -> Round[T]:
        """
        The connection is gone: tell what became of the requests without an answer.

        :returns: what became of each. Requests that did not leave completely are refused: they were not processed.
        """
        gone: Round[T] = Round()
        for number in self._streams:
            self._give_up(number, gone)
        self._streams.clear()
        self._closing = True
        return gone

    def _give_up(self, stream: int, gone: Round[T]) -> None:
        """Stop waiting for an answer on a stream."""
        item, self._streams[stream] = self._streams[stream], None
        partial = self._partial.pop(stream, None)
        if item is None:
            return
        if partial is not None:
            self._sort(item, partial, gone)
        elif self._h2.queued_body_size(stream):
            gone.refused.append(item)
        else:
            gone.reset.append((item, CANCEL))

    def ping(self) -> None:
        """Send a PING. Any byte that the peer sends afterwards proves that it is alive."""
        with suppress(*GONE):
            self._h2.ping()

    def goodbye(self) -> None:
        """Send GOAWAY: no more requests will follow."""
        with suppress(*GONE):
            if not self._closing and self._h2.can_send_request:
                self._h2.send_goaway()
        self._closing = True

    def _answered(self, stream: int, received: Round[T]) -> None:
        """An answer with a body is complete."""
        partial = self._partial.pop(stream, None)
        item = self._streams.get(stream)
        if partial is not None and item is not None:
            self._streams[stream] = None
            self._sort(item, partial, received)

    def _sort(self, item: T, partial: _Partial, received: Round[T]) -> None:
        """Sort by the status, which is Apple's answer; the body only explains it, and may be truncated."""
        status = int(dict(partial.headers)[b":status"])  # libnghttp2 has checked that it has three digits
        self._single = self._single and status == 403
        answer = Answer(status, partial.headers, bytes(partial.body))
        (received.answered if 200 <= status <= 299 else received.rejected).append((item, answer))

    def _unanswered(self, item: T, event: StreamClosed, received: Round[T]) -> None:
        """A stream ended before its answer did."""
        partial = self._partial.pop(event.stream_id, None)
        if event.local_error is not None:
            (received.unsendable if self.open else received.refused).append(item)
        elif event.error_code == REFUSED_STREAM:
            received.refused.append(item)
        elif partial is not None:
            self._sort(item, partial, received)
        else:
            received.reset.append((item, event.error_code))

    def _other(self, event: ngh2.Event, received: Round[T]) -> None:
        """Handle the events that are rare, or come once per connection."""
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
