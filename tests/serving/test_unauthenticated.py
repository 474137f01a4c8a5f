"""Tests of all faces: nothing that an unauthenticated caller sends is logged as an error, or affects other callers."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from tests.daemon.faces_world import FacesWorld
from tests.daemon.fakes import Connection, key_of
from tests.daemon.killed_case import GONE
from txapns._network.clocks import wall_clock
from txapns._serving.http import HTTPServer
from txapns.daemon.config.sections import (
    AppleSection,
    BinarySection,
    MatrixAppSection,
    MatrixSection,
    PyapnsSection,
)
from txapns.daemon.faces.apple.face import Apple
from txapns.daemon.faces.binary import Binary
from txapns.daemon.faces.matrix.face import Matrix
from txapns.daemon.faces.native.face import Native
from txapns.daemon.faces.pyapns import Pyapns
from txapns.simulator import Simulator

__all__ = ["FloodTests", "NonsenseTests"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
KEY = f"Authorization: Bearer {key_of('all')}\r\n".encode()
HTTP1 = (
    b"GET / HTTP/1.1\r\n",
    b"POST /v1/apps/chess/notifications HTTP/1.1\r\n",
    b"POST /_matrix/push/v1/notify HTTP/1.1\r\n",
    b"PUT /v1/apps/x HTTP/1.0\r\n",
    b"Host: gateway\r\n",
    KEY,
    b"Authorization: Basic YTpi\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: " + b"9" * 5_000 + b"\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b'{"notifications": [{"tokens": ["ab"], "payload": {"a": "\\ud800"}}]}',
    b'{"notification": {"devices": [{"app_id": "a", "pushkey": "qq==", "data": {"a": "\xff"}}]}}',
    b"<?xml version='1.0'?><methodCall><methodName>feedback</methodName></methodCall>",
)


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


HTTP2 = (
    PREFACE,
    frame(4),
    frame(4, b"\0\4\0\0\0\0"),
    frame(4, flags=1),
    frame(6, b"12345678"),
    frame(1, b"\x83\x87\x84\x41\x01x", 4, 1),
    frame(1, b"\x83\x87\x84\x41\x01x", 5, 3),
    frame(1, b"\x83\x87", 0, 5),
    frame(9, b"\x84", 4, 5),
    frame(0, b"hello", 1, 1),
    frame(3, b"\0\0\0\x08", 0, 1),
    frame(8, b"\x7f\xff\xff\xff"),
    frame(7, b"\0" * 8),
    frame(2, b"\0\0\0\1\1", 0, 1),
    HTTP1[0],
)
BINARY = (
    struct.pack(">BIIH", 1, 7, 0, 32) + b"\xab" * 32 + b"\0\2{}",
    b"\0\0\x20" + b"\xab" * 32 + b"\0\1{",
    struct.pack(">BI", 2, 2**32 - 1),
    struct.pack(">BIBH", 2, 8, 3, 5),
    b"\x03",
)


class NonsenseTests(SynchronousTestCase):
    """Any bytes sent to any face."""

    def setUp(self) -> None:
        """Make all faces."""
        world = self.world = FacesWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        clock: Any = world.reactor
        native = Native(world.intake, world.outcome_log, world.log, world.feed, world.apps, world.keys)
        apps: Any = world.apps
        pyapns = Pyapns(wall_clock(clock), world.intake, apps, world.keys, world.log, PyapnsSection())
        app_ids = {"*": MatrixAppSection(app="chess")}
        matrix = Matrix(clock, world.intake, apps, None, world.log, MatrixSection(app_ids=app_ids))
        self.apple = Apple(clock, world.intake, world.apps, world.keys, world.log, AppleSection(), world.limits)
        binary = Binary(clock, world.intake, world.apps, world.log, BinarySection(app="chess"), world.limits)
        self.native = HTTPServer(clock, native, world.limits)
        self.faces: dict[str, tuple[Any, tuple[bytes, ...]]] = {
            "native": (self.native, HTTP1),
            "pyapns": (HTTPServer(clock, pyapns, world.limits), HTTP1),
            "matrix": (HTTPServer(clock, matrix, world.limits), HTTP1),
            "apple": (self.apple.factory(), HTTP2),
            "binary": (binary.factory(), BINARY),
            "feedback": (binary.feedback_factory(), BINARY),
        }

    def send(self, face: Factory, pieces: list[bytes]) -> None:
        """Send pieces to a face, let time pass, and disconnect."""
        transport: Any = StringTransport()
        transport.abortConnection = transport.loseWriteConnection = transport.loseConnection
        connection: Any = face.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1_000))
        connection.makeConnection(transport)
        for piece in pieces:
            if not transport.disconnecting:
                connection.dataReceived(piece)
        self.world.reactor.advance(0.01)
        self.world.reactor.advance(1.0)
        connection.connectionLost(Failure(ConnectionDone()))
        self.world.reactor.advance(0.01)

    @settings(deadline=None, max_examples=300)
    @given(st.data())
    def test_any(self, data: st.DataObject) -> None:
        """It causes at most a few lines in the log, and other callers are served as before."""
        name = data.draw(st.sampled_from(sorted(self.faces)))
        face, known = self.faces[name]
        pieces = data.draw(st.lists(st.sampled_from(known) | st.binary(min_size=1, max_size=50), max_size=12))
        if name == "apple" and data.draw(st.booleans()):
            pieces.insert(0, PREFACE)
        if data.draw(st.booleans()):
            pieces = [b"".join(pieces)]
        other = Connection(self.native, self.world.reactor)
        with capturedLogs() as events:
            self.send(face, [piece for piece in pieces if piece])
        faults = [each for each in events if "log_failure" in each or each["log_level"].name in ("error", "critical")]
        self.assertEqual(faults, [])
        self.assertLessEqual(len(events), 3)
        self.assertEqual(other.request("GET", "/v1/openapi.json").status, 200)
        other.lose()


class Flood:
    """
    Endless unauthenticated callers, in a thread of their own.

    :param port: the port that they connect to.
    :param raw: what each sends; they read nothing, and do not close.
    :param rate: how many connect in a second.
    """

    def __init__(self, port: int, raw: bytes, rate: float) -> None:
        self._port = port
        self._raw = raw
        self._rate = rate
        self._over = False
        self.count = 0
        self.done = deferToThread(self._run)

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            while not self._over:
                with contextlib.suppress(OSError):
                    caller = stack.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=5))
                    caller.setblocking(False)
                    caller.send(self._raw)
                    self.count += 1
                time.sleep(1 / self._rate)

    def stop(self) -> Deferred[None]:
        """Close them all."""
        self._over = True
        return self.done


@pytest.mark.loopback
class FloodTests(TestCase):
    """A daemon in a process of its own, and more unauthenticated callers than it has places."""

    async def serve(self, halves: dict[str, bytes]) -> None:
        """Flood its listeners; authenticated callers and operators are still served."""
        directory = Path(self.mktemp())
        directory.mkdir()
        simulator = Simulator(reactor)
        port = listen(simulator)
        self.addCleanup(port.stopListening)
        more = (
            "[intake.apple]\nlisten = 'tcp:port=0:interface=127.0.0.1'\n[limits]\nclients = 40\nunauthenticated = 20\n"
        )
        daemon = DaemonProcess(configuration(directory, simulator, port.getHost().port, more))
        await daemon.start()
        floods = [Flood(daemon.port(listener), raw, 50) for listener, raw in halves.items()]
        try:
            while min(flood.count for flood in floods) < 100:
                body = {"notifications": [{"tokens": ["ab" * 32], "payload": {"aps": {"alert": "Hello"}}}]}
                status, _ = await self.ask(daemon, "POST", "/v1/apps/chess/notifications", body)
                self.assertEqual(status, 202)
                alive = await self.ask(daemon, "GET", "/healthz", listener="admin")
                self.assertEqual(alive, (200, {"alive": True}))
        finally:
            for flood in floods:
                await flood.stop()
            await daemon.end()
        self.assertNotIn("Traceback", daemon.log.read_text())

    async def ask(self, daemon: DaemonProcess, *request: Any, **options: Any) -> tuple[int, Any]:
        """
        Send a request until it is answered.

        Where a busy machine does not let the daemon run for a moment, the connection may be the oldest when it does.
        """
        while True:
            with contextlib.suppress(*GONE):
                return await daemon.ask(*request, **options)

    def test_half(self) -> Deferred[None]:
        """Half-sent requests keep nobody out."""
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
        return Deferred.fromCoroutine(
            self.serve({"intake.native": head, "admin": head[:20], "intake.apple": PREFACE + frame(4)})
        )
