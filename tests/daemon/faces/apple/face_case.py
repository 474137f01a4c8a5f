"""Callers of the face that speaks as Apple's servers do, in memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import ngh2
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces_world import FacesWorld
from tests.daemon.fakes import key_of
from txapns.daemon.config.sections import AppleSection
from txapns.daemon.faces.apple.face import Apple

__all__ = ["ANN", "BOB", "PAYLOAD", "PORT", "TOPIC", "AppleCase", "Caller", "Said", "frame"]

ANN = "aa" * 32
BOB = "bb" * 32
PORT = 8443
PAYLOAD = b'{"aps":{"alert":"Hello"}}'
TOPIC = "com.example.chess"


@attrs.frozen
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """Apple's reason."""
        return str(json.loads(self.body)["reason"]) if self.body else ""

    @property
    def brief(self) -> tuple[int, str]:
        """Status and reason."""
        return self.status, self.reason


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Caller:
    """A client over plain HTTP/2 that can break every rule."""

    def __init__(self, face: Apple) -> None:
        self.transport = StringTransport()
        self.transport.abortConnection = self.transport.loseWriteConnection = self.transport.loseConnection
        self.h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=True))
        self.h2.initiate_connection({})
        self.server: Any = face.factory().buildProtocol(None)
        self.server.makeConnection(self.transport)
        self.answers: dict[int, list[Any]] = {}
        self.limits: list[int] = []
        self.goaway: Any = None
        self.whole_before_goaway: set[int] = set()
        self.closed: dict[int, int] = {}
        self.held = False
        self.pump()

    @property
    def gone(self) -> bool:
        """Whether the face has closed the connection."""
        return bool(self.transport.disconnecting)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send the requests that are begun in the meantime at once."""
        self.held = True
        yield
        self.held = False
        self.pump()

    def pump(self) -> None:
        """Carry bytes."""
        while not self.held:
            out = self.h2.data_to_send()
            if out and not self.gone:
                self.server.dataReceived(out)
            back = self.transport.value()
            self.transport.clear()
            if back:
                self.h2.receive_data(back)
                for event in self.h2.events():
                    self._note(event)
            if not out and not back:
                return

    def _note(self, event: Any) -> None:
        if isinstance(event, ngh2.ResponseReceived):
            self.answers[event.stream_id] = [event.headers, b""]
        elif isinstance(event, ngh2.DataReceived):
            self.answers[event.stream_id][1] += event.data
        elif isinstance(event, ngh2.SettingsReceived):
            self.limits.append(event.settings.get(ngh2.Setting.MAX_CONCURRENT_STREAMS, -1))
        elif isinstance(event, ngh2.GoAwayReceived):
            self.goaway = event
            self.whole_before_goaway = {stream for stream, (_, body) in self.answers.items() if body}
        elif isinstance(event, ngh2.StreamClosed):
            self.closed[event.stream_id] = event.error_code

    def begin(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = f"/3/device/{ANN}",
        method: str = "POST",
        body: bytes = PAYLOAD,
        key: str | None = "chess",
        end: bool = True,
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> int:
        """Begin a request; returns its stream."""
        fields = {":method": method, ":scheme": "https", ":path": path, ":authority": "api.push.apple.com"}
        if key is not None:
            fields["authorization"] = f"bearer {key_of(key)}"
        fields["apns-topic"] = TOPIC
        fields.update(headers or {})
        head = [(name.encode(), value.encode()) for name, value in fields.items() if value != "-"]
        stream = self.h2.send_request([*head, *more], end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        self.pump()
        return stream

    def said(self, stream: int) -> Said | None:
        """Read the answer; ``None`` if there is none."""
        self.pump()
        if stream not in self.answers:
            return None
        headers, body = self.answers[stream]
        fields = {name.decode(): value.decode() for name, value in headers}
        return Said(int(fields.pop(":status")), fields, body)

    def ask(self, headers: Mapping[str, str] | None = None, **more: Any) -> Said:
        """Send a request, and read the answer, which must come at once."""
        said = self.said(self.begin(headers, **more))
        assert said is not None, "there is no answer"
        return said


class AppleCase(SynchronousTestCase):
    """A face with everything that it needs."""

    mode = "queue"
    keys = True

    def setUp(self) -> None:
        """Start it."""
        self.world = FacesWorld(Path(self.mktemp()))
        self.reactor = self.world.reactor
        self.addCleanup(self.world.stop)
        options = AppleSection(mode=self.mode, wait=20.0, keys=self.keys)
        world = self.world
        self.face = Apple(world.reactor, world.intake, world.apps, world.keys, world.log, options, world.limits)

    def caller(self) -> Caller:
        """Connect in plain text."""
        return Caller(self.face)

    def after(self, caller: Caller, stream: int, seconds: float = 0.02) -> Said:
        """Let time pass, and read the answer."""
        self.reactor.advance(seconds)
        said = caller.said(stream)
        assert said is not None, "there is no answer"
        return said

    def ask(self, headers: Mapping[str, str] | None = None, **more: Any) -> Said:
        """Send a request on a new connection."""
        caller = self.caller()
        return self.after(caller, caller.begin(headers, **more))
