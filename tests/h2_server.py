"""
A server of the provider API, whose HTTP/2 is python-hyper's ``h2``.

It shares no code with txapns, which it tests, and its HTTP/2 shares none with the library that txapns and its simulator
use: a mistake that both of these make shows here. ``h2`` checks that the client keeps to the announced limits: a stream
or a byte too many is an error, and ends the connection.

What the server does to a connection is in its script, which is plain data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["Entry", "H2Server", "Script", "Session"]


@dataclass
class Entry:
    """
    A request.

    :ivar held: the bytes of the connection's window that it occupies.
    :ivar reason: why it was rejected; ``None`` if it was accepted.
    """

    headers: dict[str, str]
    payload: bytearray = field(default_factory=bytearray)
    held: int = 0
    reason: str | None = None

    @property
    def token(self) -> str:
        """The device token in the path."""
        return self.headers[":path"].removeprefix("/3/device/")


@dataclass(frozen=True)
class Script:
    """
    What to do with a connection. Requests are counted from 1.

    :ivar concurrency: the first MAX_CONCURRENT_STREAMS.
    :ivar limits: later ones, by the number of the request at which they are announced.
    :ivar window: INITIAL_WINDOW_SIZE: the bytes of a body that the client may send before the server asks for more.
    :ivar delay: how long responses take, in seconds. Those that are due together are sent in random order.
    :ivar refused: the requests that are reset with REFUSED_STREAM.
    :ivar goaway: the request at which GOAWAY is sent; ``None`` for never.
    :ivar beyond: how many of the requests before that one are not processed.
    """

    concurrency: int = 1_000
    limits: Mapping[int, int] = field(default_factory=dict)
    window: int = 65_535
    delay: float = 0.01
    refused: frozenset[int] = frozenset()
    goaway: int | None = None
    beyond: int = 0


class Session(Protocol):
    """
    One connection.

    :ivar most: the maximum of requests under way at once, by the limit that the client knew.
    :ivar error: the rule that the client broke, if any.
    :ivar lost: whether the connection is over.
    """

    def __init__(self, server: H2Server, script: Script) -> None:
        self.most: dict[int, int] = {}
        self.error: ProtocolError | None = None
        self.lost = False
        self._server = server
        self._script = script
        self._open: dict[int, Entry] = {}
        self._processed = 0
        self._last = 2**31 - 1
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        limits = {
            SettingCodes.MAX_CONCURRENT_STREAMS: script.concurrency,
            SettingCodes.INITIAL_WINDOW_SIZE: script.window,
        }
        self._h2.local_settings = Settings(client=False, initial_values=limits)

    def connectionMade(self) -> None:
        """Announce the first limits."""
        self._h2.initiate_connection()
        self._write()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Send no more responses."""
        self.lost = True

    def dataReceived(self, data: bytes) -> None:
        """Receive requests, and respond to the complete ones after the delay."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:
            self.error = error
            self._write()
            self.transport.loseConnection()
            return
        whole = [stream for event in events if (stream := self._take(event)) is not None]
        if whole:
            self._server.clock.callLater(self._script.delay, self._answer, whole)
        self._write()

    def _take(self, event: Event) -> int | None:
        """Process an event; returns the stream of a request that is complete now."""
        if isinstance(event, RequestReceived):
            self._begun(event.stream_id, dict(event.headers))
        elif isinstance(event, DataReceived):
            self._more(event)
        elif isinstance(event, StreamEnded) and event.stream_id in self._open:
            return event.stream_id
        return None

    def _begun(self, stream: int, headers: dict[str, str]) -> None:
        number = (stream + 1) // 2
        limit = self._h2.local_settings.max_concurrent_streams
        self.most[limit] = max(self.most.get(limit, 0), self._h2.open_inbound_streams)
        if number in self._script.limits:
            self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._script.limits[number]})
        if number in self._script.refused:
            self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif stream <= self._last:
            self._open[stream] = Entry(headers)
        if number == self._script.goaway:
            self._go_away(stream)

    def _more(self, event: DataReceived) -> None:
        """Ask for more of a body. The bytes of its last frame are given back to the window with the response."""
        size = event.flow_controlled_length
        entry = self._open.get(event.stream_id)
        if entry is not None:
            entry.payload += event.data
        if entry is not None and event.stream_ended is not None:
            entry.held = size
            return
        self._give_back(size)
        if size and entry is not None:
            self._h2.increment_flow_control_window(size, event.stream_id)

    def _give_back(self, size: int) -> None:
        if size:
            self._h2.increment_flow_control_window(size)

    def _go_away(self, stream: int) -> None:
        """Send GOAWAY without ``h2``, which would take it for the end of the connection."""
        self._last = max(stream - 2 * self._script.beyond, self._processed)
        self._write()
        self.transport.write(GoAwayFrame(0, self._last, additional_data=b'{"reason":"Shutdown"}').serialize())
        for beyond in [stream for stream in self._open if stream > self._last]:
            self._give_back(self._open.pop(beyond).held)

    def _answer(self, streams: list[int]) -> None:
        """Process requests, in any order."""
        self._server.random.shuffle(streams)
        for stream in streams:
            entry = self._open.pop(stream, None)
            if entry is not None and not self.lost:
                self._processed = max(self._processed, stream)
                self._server.record.append(entry)
                self._give_back(entry.held)
                self._respond(stream, *self._server.response_to(entry))
        self._write()

    def _respond(self, stream: int, status: int, content: dict[str, object] | None) -> None:
        self._h2.send_headers(stream, [(":status", str(status))], end_stream=content is None)
        if content is not None:
            self._h2.send_data(stream, json.dumps(content).encode(), end_stream=True)

    def _write(self) -> None:
        self.transport.write(self._h2.data_to_send())


class H2Server(Factory):
    """
    The server, without its TLS.

    :param clock: the reactor, or a ``Clock``.
    :param scripts: what to do with each connection, in order; the last one also holds for later ones.
    :param dead: the tokens that are dead, and since when, in milliseconds.
    :param seed: the seed of randomness.

    :ivar record: the requests that were processed, in order.
    :ivar sessions: the connections, in order.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        scripts: Sequence[Script] = (Script(),),
        *,
        dead: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = clock
        self.random = Random(seed)
        self.record: list[Entry] = []
        self.sessions: list[Session] = []
        self._scripts = scripts
        self._dead = dead or {}

    def buildProtocol(self, addr: IAddress | None) -> Session:
        """Accept a connection."""
        session = Session(self, self._scripts[min(len(self.sessions), len(self._scripts) - 1)])
        self.sessions.append(session)
        return session

    def response_to(self, entry: Entry) -> tuple[int, dict[str, object] | None]:
        """Find the response to a request, as Apple would."""
        if len(entry.token) != 64:
            entry.reason = "BadDeviceToken"
            return 400, {"reason": entry.reason}
        if entry.token in self._dead:
            entry.reason = "Unregistered"
            return 410, {"reason": entry.reason, "timestamp": self._dead[entry.token]}
        return 200, None

    def answers(self) -> Iterable[tuple[bytes, str | None]]:
        """Return what it did with each token."""
        return [(bytes.fromhex(entry.token), entry.reason) for entry in self.record]
