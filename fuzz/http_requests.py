"""HTTP/1.1, as the faces read it."""

from __future__ import annotations

import re

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from fuzz import pieces
from txapns._serving.http import Answer, HTTPServer, IApplication, Request
from txapns._serving.limits import ConnectionLimits

__all__ = ["SEEDS", "check"]

SEEDS = [
    b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n" * 3,
    b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nbody\r\n0\r\nA: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n",
    b"GET http://gateway/ HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
]
_BODY = 1_024


@implementer(IApplication)
class _Application:
    """Answers with the length of the body."""

    def begun(self, request: Request) -> Answer | None:
        """Accept every request."""
        return None

    def received(self, request: Request) -> Answer:
        """Answer."""
        assert len(request.body) <= _BODY
        return Answer(200, str(len(request.body)).encode())

    def fault(self, status: int, message: str, request: Request | None = None) -> Answer:
        """Make an error response."""
        return Answer(status, message.encode())


def check(data: bytes) -> None:
    """Check that only HTTP/1.1 answers are written, that the connection ends, and that nothing is logged."""
    events: list[LogEvent] = []
    clock = Clock()
    connection = HTTPServer(
        clock, _Application(), ConnectionLimits(body=_BODY, request=5.0, idle=5.0), "face"
    ).buildProtocol(None)
    transport = StringTransport()
    globalLogPublisher.addObserver(events.append)
    try:
        connection.makeConnection(transport)
        for piece in pieces(data):
            connection.dataReceived(piece)
        clock.pump([0.5] * 40)
    finally:
        globalLogPublisher.removeObserver(events.append)
    written = transport.value()
    assert not written or re.match(rb"HTTP/1\.[01] [1-5]\d\d ", written), written
    assert transport.disconnected or transport.disconnecting, written
    assert not [event for event in events if event["log_level"] >= LogLevel.warn], events
