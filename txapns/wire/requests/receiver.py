"""The server's side of the provider API: requests in, answers out."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain

import ngh2
from ngh2 import DataReceived, RequestReceived, Setting, StreamClosed

from txapns.errors import WireError
from txapns.wire.requests.values import GONE, Headers, Request

__all__ = ["FrameBudget", "RequestReceiver"]

#: The longest list of header fields that a server announces to accept, as HTTP/2 counts it, and how many fields it may
#: have. A request has a dozen fields; the longest is the provider token.
_MAX_HEADERS, _MAX_FIELDS = 8_000, 100

#: How an HTTP/2 client begins (RFC 9113, section 3.4), and how an HTTP/1.1 client does.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[A-Z]+( |\Z)")

#: A frame begins with three bytes of length, one of type, one of flags and four of the stream.
_FRAME_HEAD, _SETTINGS = 9, 4
_LENGTH_AND_TYPE_AND_FLAGS = struct.Struct(">IB")


class FrameBudget:
    """
    How many frames a client may send. libnghttp2 bounds some kinds of frames, and none by the time they take.

    An unused allowance accumulates, up to what may be used at once.
    """

    def __init__(self) -> None:
        self._skip = len(_PREFACE)  # bytes until the next frame begins
        self._head = b""
        self._since = -math.inf
        self._frames = self._settings = 0.0

    def spend(self, data: bytes, now: float, frames: tuple[int, int], settings: tuple[int, int]) -> bool:
        """
        Count the frames that begin in what was read.

        :param data: the bytes, split anywhere.
        :param now: the time, in seconds.
        :param frames: how many frames are allowed at once, and how many per second.
        :param settings: how many of them may be SETTINGS. The cost of each grows with the number of streams.
        :returns: whether the client stays within both limits.
        """
        passed, self._since = now - self._since, now
        begun, changes = self._count(data)
        self._frames = min(frames[0], self._frames + passed * frames[1]) - begun
        self._settings = min(settings[0], self._settings + passed * settings[1]) - changes
        return self._frames >= 0 and self._settings >= 0

    def give_back(self, frames: int) -> None:
        """Do not count frames that something else limits."""
        self._frames += frames

    def _count(self, data: bytes) -> tuple[int, int]:
        """Count the frames that begin, and those of them that are SETTINGS but not acknowledgements."""
        data, at, end = self._head + data, self._skip, len(self._head) + len(data)
        begun = settings = 0
        while at + _FRAME_HEAD <= end:
            begun += 1
            length_and_type, flags = _LENGTH_AND_TYPE_AND_FLAGS.unpack_from(data, at)
            if length_and_type & 0xFF == _SETTINGS and not flags & 1:
                settings += 1
            at += _FRAME_HEAD + (length_and_type >> 8)
        self._head, self._skip = data[at:], max(0, at - end)
        return begun, settings


class RequestReceiver:
    """
    Apple's side of one connection. Calls for a stream or connection that is already gone do nothing.

    :param max_body: how many bytes of a body are kept, less one.
    :param window_updates: whether received bytes are returned to the peer's window at once. Otherwise call
        :meth:`acknowledge` when the server is done with a request.
    :param window: the connection's window, in bytes, if not that of HTTP/2; a stream's is always that.
    :param early: whether a request is returned as soon as its body is too long, rather than at its end, which may never
        come. Its body is then everything received so far; later bytes are dropped.

    :ivar left: whether the peer said that it is leaving. The connection is over when its requests are answered.
    """

    def __init__(
        self, concurrency: int, *, max_body: int, window_updates: bool = True, window: int = 65_535, early: bool = False
    ) -> None:
        # libnghttp2 itself limits stream resets and other oddities.
        configuration = ngh2.Configuration(
            auto_window_update=window_updates,
            max_inbound_header_list_size=2 * _MAX_HEADERS,
            max_inbound_header_count=_MAX_FIELDS,
        )
        self._h2 = ngh2.Connection(ngh2.Role.SERVER, configuration)
        self._h2.initiate_connection(
            {Setting.MAX_CONCURRENT_STREAMS: concurrency, Setting.MAX_HEADER_LIST_SIZE: _MAX_HEADERS}
        )
        self._h2.set_local_window_size(window)
        self._max_body = max_body
        self._early = early
        self._window_updates = window_updates
        self._refused: list[int] = []
        self._open: dict[int, Request] = {}  # the latest last
        self._held = 0
        self._opening = b""
        self.left = False

    @property
    def begun(self) -> bool:
        """Whether the peer began as an HTTP/2 client does."""
        return self._opening == _PREFACE

    @property
    def http1(self) -> bool:
        """Whether the peer began with an HTTP/1.1 request, or the beginning of one."""
        return not _PREFACE.startswith(self._opening) and _METHOD.match(self._opening) is not None

    @property
    def unsent(self) -> int:
        """How many bytes of answers wait for the peer's window."""
        return self._h2.queued_body_size()

    @property
    def unfinished(self) -> list[int]:
        """The streams of requests that have begun and are incomplete."""
        return list(self._open)

    @property
    def held(self) -> int:
        """How many bytes of incomplete requests are held, header fields included."""
        for request in reversed(self._open.values()):
            if request.size:
                break  # and all before it were measured, too
            request.size = _size(request.headers)
            self._held += request.size
        return self._held

    def receive(
        self, data: bytes, screen: Callable[[int, Headers], bool] = lambda stream, headers: True
    ) -> list[Request]:
        """
        Take in what was read from the peer.

        :param data: the bytes, split anywhere.
        :param screen: receives the stream and the header fields of a request when these have come, and returns whether
            to go on.
            Before returning ``False`` it answers by :meth:`refuse` or :meth:`reset`; the request is then not returned.
        :returns: the requests that this completes, in that order. Bytes after the end of the connection are ignored.
        :raises WireError: the bytes are not HTTP/2.
        """
        if self.closed:
            return []
        self._opening += data[: len(_PREFACE) - len(self._opening)]
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error as error:
            raise WireError(f"the client broke the rules of HTTP/2: {error}") from None
        complete: list[Request] = []
        for event in self._h2.events():
            if isinstance(event, DataReceived):
                self._data(event.stream_id, event.data, event.end_stream, complete)
            elif isinstance(event, RequestReceived):
                headers = event.headers
                if screen(event.stream_id, headers):
                    self._open[event.stream_id] = Request(event.stream_id, headers, b"")
                    self._ended(event.stream_id, event.end_stream, complete)
            elif isinstance(event, StreamClosed):
                self._closed(event.stream_id)
            elif isinstance(event, ngh2.TrailersReceived):
                self._ended(event.stream_id, True, complete)
            elif isinstance(event, ngh2.GoAwayReceived):
                self.left = True
        return complete

    def _data(self, stream: int, data: bytes, end_stream: bool, complete: list[Request]) -> None:
        request = self._open.get(stream)
        if request is None:
            self._dropped(stream, len(data))
            return
        piece = data if self._early else data[: self._max_body + 1 - len(request.body)]
        request.body = request.body + piece if request.body else piece
        self._held += len(piece)
        self._ended(stream, end_stream or (self._early and len(request.body) > self._max_body), complete)

    def _closed(self, stream: int) -> None:
        if stream in self._open:  # it is incomplete
            self._dropped(stream, len(self._take(stream).body))

    def _dropped(self, stream: int, size: int) -> None:
        """Return bytes to the window that belong to no request, since no caller will acknowledge them."""
        if size and not self._window_updates:
            self.acknowledge(stream, size)

    def _ended(self, stream: int, end_stream: bool, complete: list[Request]) -> None:
        if end_stream and stream in self._open:
            complete.append(self._take(stream))

    def _take(self, stream: int) -> Request:
        request = self._open.pop(stream)
        self._held -= request.size + len(request.body)
        return request

    @property
    def closed(self) -> bool:
        """Whether HTTP/2 considers the connection over."""
        return not (self._h2.want_read or self._h2.want_write)

    def respond(self, stream: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """
        Answer a request.

        :param headers: the header fields, ``:status`` first.
        :param body: the body; if empty, the header fields end the stream.
        """
        try:
            self._h2.send_response(stream, headers, end_stream=not body)
            if body:
                self._h2.send_data(stream, body, end_stream=True)
        except GONE:
            return

    def refuse(self, stream: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, at_once: bool = True) -> None:
        """
        Answer a request without waiting for the rest of it. The body is left out if the peer's window is too small.

        :param headers: the header fields, ``:status`` first.
        :param at_once: whether the answer ends the stream, whatever the peer does. A client that is still sending its
            request may then miss the answer.
        """
        with suppress(*GONE):
            window = min(self._h2.stream_remote_window_size(stream), self._h2.remote_window_size - self.unsent)
            self.respond(stream, headers, body if len(body) <= window else b"")
            if at_once:
                self._refused.append(stream)

    def reset(self, stream: int, code: int) -> None:
        """Drop a request without an answer. The HTTP/2 error code 7 says that it was not processed."""
        with suppress(*GONE):
            self._h2.reset_stream(stream, code)

    def goaway(self, code: int = 0, *, last_stream: int | None = None, debug: bytes = b"") -> None:
        """
        Accept no further streams.

        :param code: the HTTP/2 error code.
        :param last_stream: the last stream that will be processed; left out, the last one seen.
        :param debug: the debug data for the peer.
        """
        with suppress(*GONE):
            self._h2.send_goaway(code, last_stream_id=last_stream, debug_data=debug)

    def limit(self, concurrency: int) -> None:
        """Announce another MAX_CONCURRENT_STREAMS."""
        with suppress(*GONE):
            self._h2.update_settings({Setting.MAX_CONCURRENT_STREAMS: concurrency})

    def window(self, size: int) -> None:
        """Announce another INITIAL_WINDOW_SIZE, which also applies to open streams."""
        with suppress(*GONE):
            self._h2.update_settings({Setting.INITIAL_WINDOW_SIZE: size})

    def acknowledge(self, stream: int, size: int) -> None:
        """Return bytes that came on a stream to the peer's window."""
        try:
            self._h2.acknowledge_received_data(size, stream)
        except GONE:
            return

    def data_to_send(self) -> bytes:
        """Take the bytes to write to the peer."""
        data = b""
        with suppress(*GONE):
            data = self._h2.data_to_send()
            for stream in self._refused:  # the rest of such a request is not needed (RFC 9113, section 8.1)
                self.reset(stream, 0)
            if self._refused:
                self._refused.clear()
                data += self._h2.data_to_send()
        return data


def _size(headers: Headers) -> int:
    return len(b"".join(chain.from_iterable(headers)))
