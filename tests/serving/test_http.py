"""Tests for :mod:`txapns._serving.http`."""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from typing import Any, cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.daemon.fakes import Connection, DatedClock, Response
from txapns._serving.connections import LINGER
from txapns._serving.event_stream import EventStream
from txapns._serving.http import Answer, HTTPServer, IApplication, Request
from txapns._serving.limits import ConnectionLimits, MemoryBudget
from txapns._serving.target import Hosts
from txapns.simulator import Authority

__all__ = [
    "BodyTests",
    "ClosingTests",
    "ConnectionsTests",
    "EncodingTests",
    "HeadTests",
    "LoopbackTests",
    "PageTests",
    "ParserTests",
    "StreamTests",
    "TimeTests",
]

LIMITS = ConnectionLimits(body=1_000, head=500, clients=3, idle=60.0, request=30.0)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@implementer(IApplication)
class Echo:
    """
    Answers with the body of the request; later, if the request asks for that.

    :ivar seen: the heads and bodies of the requests.
    :ivar late: the answers that are still to be given.
    :ivar streams: the answers that go on.
    """

    def __init__(self) -> None:
        self.heads = 0
        self.seen: list[bytes] = []
        self.late: list[Deferred[Answer]] = []
        self.streams: list[EventStream] = []

    def begun(self, request: Request) -> Answer | None:
        """Refuse requests with ``X-Bad``."""
        self.heads += 1
        if request.single(b"X-Key"):
            request.mark_authenticated()
        return self.fault(403, "no") if request.single(b"X-Bad") else None

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """Answer the request."""
        self.seen.append(request.body)
        if request.path == b"/large":
            return Answer(200, bytes(4_000_000))
        if request.path == b"/stream":
            self.streams.append(EventStream(request, [(b"A", b"b")]))
            return Deferred()
        if request.path == b"/late":
            self.late.append(Deferred())
            return self.late[-1]
        return Answer(200, request.body)

    def fault(self, status: int, message: str, request: Request | None = None) -> Answer:
        """Answer with the message."""
        return Answer(status, message.encode())


class HTTPCase(SynchronousTestCase):
    """A server."""

    def setUp(self) -> None:
        """Make the server."""
        self.clock = DatedClock()
        self.echo = Echo()
        self.server = HTTPServer(self.clock, self.echo, LIMITS)
        self.connections: list[Connection] = []

    def tearDown(self) -> None:
        """All connections can be lost; then no timers are left, and nothing was logged."""
        for connection in self.connections:
            connection.lose()
        self.assertEqual((self.clock.getDelayedCalls(), self.flushLoggedErrors()), ([], []))

    def connect(self) -> Connection:
        """Make a connection."""
        self.connections.append(Connection(self.server, self.clock))
        return self.connections[-1]

    def send(self, *pieces: bytes) -> tuple[Connection, list[Response]]:
        """Send pieces on a new connection."""
        connection = self.connect()
        for piece in pieces:
            if not connection.closed:
                connection.write(piece)
        self.clock.advance(0.0)
        return connection, connection.read()


def post(body: bytes, *headers: bytes) -> bytes:
    """Write a request."""
    lines = [b"POST / HTTP/1.1", b"Host: h", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """Write a request with a chunked body."""
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


class BodyTests(HTTPCase):
    """Heads and bodies."""

    def test_answers(self) -> None:
        """A connection is kept open, and an answer has the fields that HTTP requires."""
        connection, [response] = self.send(post(b"x" * 1_000))
        self.assertEqual((response.status, len(response.body), connection.closed), (200, 1_000, False))
        self.assertEqual(response.headers["date"], "Tue, 14 Nov 2023 22:13:20 GMT")
        self.assertNotIn("server", response.headers)
        connection.write(chunked(b"a", b"b" * 900))
        [response] = connection.read()
        self.assertEqual(response.body, b"a" + b"b" * 900)

    def test_clock_set(self) -> None:
        """An answer has the date of the wall clock, even after it is set."""
        connection, _ = self.send(GET)
        for step, date in ((3_600, "Tue, 14 Nov 2023 23:13:20 GMT"), (-7_200, "Tue, 14 Nov 2023 21:13:20 GMT")):
            self.clock.ahead += step
            connection.write(GET)
            [response] = connection.read()
            self.assertEqual(response.headers["date"], date)

    def test_announced(self) -> None:
        """A body that is announced as too long is neither read nor asked for."""
        for length in (b"1001", b"9" * 18):
            head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %s\r\n\r\n" % length
            connection, [response] = self.send(head)
            self.assertEqual((response.status, response.headers["connection"], connection.closed), (413, "close", True))
            self.assertIn("1000", response.body.decode())
        self.assertEqual(self.echo.seen, [])

    def test_expected(self) -> None:
        """A body that is sent only if it is asked for is asked for, unless it has come already."""
        head, _, body = post(b"x" * 9, b"Expect: 100-continue").partition(b"\r\n\r\n")
        connection = self.connect()
        connection.write(head + b"\r\n\r\n")
        self.assertEqual([each.status for each in connection.read()], [100])
        connection.write(body)
        self.assertEqual([each.body for each in connection.read()], [b"x" * 9])
        old = head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n\r\n"
        self.assertEqual([each.status for each in self.send(old, body)[1]], [200])

    def test_unannounced(self) -> None:
        """A chunked body is refused as soon as it is too long, before its end."""
        connection = self.connect()
        connection.write(chunked(b"x" * 600)[:-5])
        self.assertEqual(connection.read(), [])
        connection.write(b"400\r\n" + b"x" * 700)
        [response] = connection.read()
        self.assertEqual((response.status, connection.closed), (413, True))
        connection.write(b"x" * 324 + b"\r\n0\r\n\r\n" + GET)
        self.assertEqual((connection.read(), self.echo.seen), ([], []))
        for chunks in ([b"x" * 1_001], [b"x" * 1_000, b"x"], [b"x" * 3_000, b"x" * 3_000]):
            connection, [response] = self.send(chunked(*chunks) + GET)
            self.assertEqual((response.status, connection.closed, self.echo.seen), (413, True, []))

    def test_many_small_chunks(self) -> None:
        """Very many chunks are too long a body, even if they are small."""
        _, [response] = self.send(chunked(*[b"x"] * 4))
        self.assertEqual(response.body, b"xxxx")
        request = chunked(*[b"x"] * 100)
        _, [response] = self.send(request)
        self.assertEqual(response.body, b"x" * 100)
        _, [response] = self.send(*[request[begin : begin + 6] for begin in range(0, len(request), 6)])
        self.assertEqual(response.status, 413)

    def test_unfinished(self) -> None:
        """The memory for unfinished bodies without a credential is limited, decompressed, for all callers together."""
        held = MemoryBudget(10_000)
        self.server = HTTPServer(self.clock, self.echo, ConnectionLimits(clients=20, body=10_000, unfinished=held))
        packed = gzip.compress(b"x" * 3_000) + b"x"
        gone = [self.connect() for _ in range(3)]
        for connection in gone:
            connection.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 9999\r\n\r\n")
            connection.write(packed[:-9])
        late, keyed, whole = self.connect(), self.connect(), self.connect()
        keyed.write(post(b"x" * 9_000, b"X-Key: 1")[:-1])
        self.assertFalse(any(each.closed for each in self.connections))
        late.write(post(b"x" * 3_000)[:-1])
        self.assertEqual([each.closed for each in self.connections], [True, False, False, False, False, False])
        whole.write(post(b"x" * 3_000)[:-1])
        self.assertEqual([each.closed for each in gone], [True, True, False])
        for connection in (late, keyed, whole):
            connection.write(b"x")
            self.assertEqual([each.status for each in connection.read()], [200])
        request = gone[2].channel.protocol._request
        gone[2].lose()
        self.connections.remove(gone[2])
        self.assertEqual(request._pieces, [])
        self.assertEqual((held._sum, held._held), (0, {}))

    def test_head_first(self) -> None:
        """The application refuses a request before its body is read; without a body the connection is kept open."""
        connection, [response] = self.send(b"POST / HTTP/1.1\r\nHost: h\r\nX-Bad: 1\r\nContent-Length: 9\r\n\r\n")
        self.assertEqual((response.status, response.headers["connection"], connection.closed), (403, "close", True))
        connection, [response] = self.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-Bad: 1\r\n\r\n")
        self.assertEqual((response.status, connection.closed), (403, False))
        self.assertEqual(self.echo.seen, [])

    def test_unfit(self) -> None:
        """Malformed or ambiguous requests are refused, the connection is closed, and nothing is logged."""
        unfit = [
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: " + b"x" * 600 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n",
            b"GET /" + b"x" * 20_000,
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nx",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 5_000,
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 50_000,
        ]
        for raw in unfit:
            connection, responses = self.send(raw)
            self.assertTrue(connection.closed, raw[:60])
            self.assertEqual([each.status for each in responses if each.status != 400], [], raw[:60])
        self.assertEqual(self.echo.seen, [])

    def test_huge_length(self) -> None:
        """A length with more digits than Python reads is refused."""
        self.server = HTTPServer(self.clock, self.echo, ConnectionLimits(head=16_384))
        connection, [response] = self.send(b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 9_000 + b"\r\n\r\n")
        self.assertEqual((response.status, connection.closed), (400, True))

    def test_old(self) -> None:
        """After an answer in HTTP/1.0 the connection is closed, and also if the caller asks for that."""
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"):
            connection, [response] = self.send(request)
            self.assertEqual((response.status, response.headers["connection"], connection.closed), (200, "close", True))


class HeadTests(HTTPCase):
    """Targets and hosts."""

    def status(self, request: bytes) -> int:
        """Send a request that ends with its head, or has a body of its own."""
        connection, answers = self.send(request)
        self.assertEqual(len(answers), 1)
        self.assertEqual(connection.closed, answers[0].status == 400 or b" HTTP/1.0" in request)
        return answers[0].status

    def test_whole_address(self) -> None:
        """A target that is a URL, as sent to a proxy, is served by its path."""
        late = b"GET http://gateway.example:8080/late?x=y HTTP/1.1\r\nHost: h\r\n\r\n"
        _, answers = self.send(late)
        self.assertEqual((answers, len(self.echo.late)), ([], 1))
        for target in (b"HTTPS://h", b"http://[::1]/x", b"http://h?x", b"*", b"//h/x"):
            self.assertEqual(self.status(b"OPTIONS %s HTTP/1.1\r\nHost: h\r\n\r\n" % target), 200, target)
        for target in (b"h:80", b"ftp://h/", b"x/y", b"http://u@h/", b"http:///x"):
            self.assertEqual(self.status(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % target), 400, target)

    def test_host(self) -> None:
        """A request in HTTP/1.1 must name one host; no request may name more."""
        for head, status in (
            (b"GET / HTTP/1.1\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h,h\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: h h\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h/x\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost:\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
            (b"GET http://h/ HTTP/1.1\r\n", 400),
            (b"GET / HTTP/1.0\r\n", 200),
            (b"GET / HTTP/1.0\r\nHost: h\r\nHost: x\r\n", 400),
        ):
            self.assertEqual(self.status(head + b"\r\n"), status, head)

    def test_framing(self) -> None:
        """Requests that two servers could read with different lengths are refused."""
        for head, status in (
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: identity\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 0\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +0\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 0\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost : h\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nX-Long: a\r\n b\r\nContent-Length: 0\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 200),
        ):
            self.assertEqual(self.status(head + b"\r\n"), status, head)

    def test_refused_head(self) -> None:
        """An answer to HEAD has no body, even if it is an error."""
        _, answers = self.send(b"HEAD / HTTP/1.1\r\nHost: h\r\nX-Bad: 1\r\n\r\n")
        self.assertEqual([(each.status, each.body) for each in answers], [(403, b"")])


class EncodingTests(HTTPCase):
    """Compressed bodies."""

    def ask(self, body: bytes, *codings: bytes) -> Response:
        """Post a body."""
        fields = [b"Content-Encoding: " + coding for coding in codings]
        _, [answer] = self.send(post(body, *fields))
        return answer

    def test_taken(self) -> None:
        """A compressed body is read like any other, at once or in chunks."""
        for coding, body in ((b"gzip", gzip.compress(b"hello")), (b"deflate", zlib.compress(b"hello"))):
            self.assertEqual(self.ask(body, coding).body, b"hello")
        self.assertEqual(self.ask(b"hello", b"identity").body, b"hello")
        head, _, rest = chunked(*[bytes([octet]) for octet in gzip.compress(b"hello", mtime=0)]).partition(b"\r\n")
        request = head + b"\r\nContent-Encoding: gzip\r\n" + rest
        self.server.limits = attrs.evolve(LIMITS, body=100_000)
        _, [answer] = self.send(request)
        self.assertEqual(answer.body, b"hello")

    def test_unknown(self) -> None:
        """Unsupported encodings are refused with a list of the supported ones, after the caller is authenticated."""
        for codings in ((b"br",), (b"gzip, gzip",), (b"gzip", b"gzip")):
            answer = self.ask(b"hello", *codings)
            self.assertEqual((answer.status, answer.headers["accept-encoding"]), (415, "gzip, deflate"))
        _, [answer] = self.send(post(b"hello", b"X-Bad: 1", b"Content-Encoding: br"))
        self.assertEqual(answer.status, 403)

    def test_too_long(self) -> None:
        """The limit applies to the decompressed body."""
        self.assertEqual(self.ask(gzip.compress(bytes(1_000)), b"gzip").status, 200)
        self.assertEqual(self.ask(gzip.compress(bytes(1_001)), b"gzip").status, 413)
        self.assertEqual(self.ask(gzip.compress(bytes(900_000)), b"gzip").status, 413)

    def test_damaged(self) -> None:
        """A body that does not have the encoding that it claims is refused."""
        for body in (b"hello", gzip.compress(b"hello")[:-1], gzip.compress(b"hello") + b"x"):
            answer = self.ask(body, b"gzip")
            self.assertEqual(answer.status, 400)
        self.assertEqual((self.ask(b"", b"gzip").status, self.echo.seen), (200, [b""]))


class PageTests(HTTPCase):
    """Requests that browsers send for web pages, where these are kept out."""

    def setUp(self) -> None:
        """Give the server its hosts."""
        super().setUp()
        self.server = HTTPServer(self.clock, self.echo, LIMITS, hosts=Hosts(["gateway.example"]))

    def status(self, host: bytes, *fields: bytes, target: bytes = b"/", body: bytes = b"") -> int:
        """Send a request."""
        lines = [b"POST %s HTTP/1.1" % target, b"Host: " + host, *fields, b"Content-Length: %d" % len(body)]
        _, [answer] = self.send(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return answer.status

    def test_ours(self) -> None:
        """Programs and our own pages are served."""
        self.assertEqual(self.status(b"localhost:8090"), 200)
        self.assertEqual(self.status(b"gateway.example"), 200)
        self.assertEqual(
            self.status(b"127.0.0.1:8090", b"Origin: http://127.0.0.1:8090", b"Sec-Fetch-Site: same-origin"), 200
        )
        self.assertEqual(self.status(b"evil.example", target=b"http://localhost/"), 200)
        self.assertEqual(self.send(b"GET / HTTP/1.0\r\n\r\n")[1][0].status, 200)

    def test_foreign(self) -> None:
        """Pages of other sites are refused in every way, and their bodies are not read."""
        self.assertEqual(self.status(b"evil.example", body=b"x" * 500), 421)
        self.assertEqual(self.status(b"localhost", target=b"http://evil.example/"), 421)
        self.assertEqual(self.status(b"localhost", b"Origin: https://evil.example", body=b"x" * 500), 403)
        self.assertEqual(self.status(b"localhost", b"Origin: null"), 403)
        self.assertEqual(self.status(b"localhost", b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: no-cors"), 403)
        self.assertEqual(self.status(b"localhost", b"Upgrade: websocket", b"Origin: http://evil.example"), 403)
        preflight = b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
        preflight += b"Access-Control-Request-Method: POST\r\n\r\n"
        _, [answer] = self.send(preflight)
        self.assertEqual(answer.status, 403)
        self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertEqual((self.echo.heads, self.echo.seen), (0, []))


class StreamTests(HTTPCase):
    """Answers that go on."""

    def test_stream(self) -> None:
        """In HTTP/1.1 it comes in chunks, and other requests follow; in HTTP/1.0 it ends with the connection."""
        for version, written, closed in (
            (b"1.1", b"d\r\nretry: 5000\n\n\r\n3\r\nabc\r\n0\r\n\r\n", False),
            (b"1.0", b"retry: 5000\n\nabc", True),
        ):
            connection = self.connect()
            connection.write(b"GET /stream HTTP/%s\r\nHost: h\r\n\r\n" % version + GET)
            stream = self.echo.streams[-1]
            stream.write(b"abc")
            stream.end()
            head, _, rest = connection.transport.value().partition(b"\r\n\r\n")
            self.assertIn(b"\r\nA: b\r\nContent-Type: text/event-stream", head)
            self.assertEqual((b"chunked" in head, b"Content-Length" in head), (not closed, False))
            self.assertEqual(rest.partition(b"HTTP/1.1 200")[0], written)
            self.assertEqual((b"HTTP/1.1 200" in rest, connection.closed), (not closed, closed))

    def test_slow(self) -> None:
        """What is written while the caller does not read is left out; after the caller has gone nothing is written."""
        connection = self.connect()
        connection.write(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        [stream] = self.echo.streams
        connection.transport.producer.pauseProducing()
        stream.write(b"abc")
        self.assertEqual(stream.blocked, self.clock.seconds())
        connection.transport.producer.resumeProducing()
        self.assertIsNone(stream.blocked)
        stream.write(b"def")
        connection.lose()
        self.connections.remove(connection)
        stream.write(b"ghi")
        stream.end()
        written = connection.transport.value()
        self.assertEqual(
            [text in written for text in (b"abc", b"def", b"ghi", b"0\r\n\r\n")], [False, True, False, False]
        )

    def test_drain(self) -> None:
        """When the server stops, the connection is closed after the end."""
        connection = self.connect()
        connection.write(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        self.server.drain()
        self.assertFalse(connection.closed)
        self.echo.streams[0].end()
        self.assertTrue(connection.closed)


class TimeTests(HTTPCase):
    """Time limits."""

    def test_slow(self) -> None:
        """A request must arrive in time, head and body together, even if bytes keep arriving."""
        whole = post(b"x" * 900, b"A: b")
        for begins, pause in ((1, 1), (20, 1), (len(whole) - 890, 12)):
            connection = self.connect()
            connection.write(whole[:begins])
            for octet in whole[begins : begins + 31 // pause + 1]:
                self.clock.pump([1.0] * pause)
                if not connection.closed:
                    connection.write(bytes([octet]))
            [response] = connection.read()
            self.assertEqual((response.status, response.headers["connection"], connection.closed), (408, "close", True))
            connection.lose()
            self.connections.remove(connection)

    def test_idle(self) -> None:
        """An idle connection is closed without an answer; one that is used is kept open."""
        idle, used = self.connect(), self.connect()
        for _ in range(3):
            self.clock.pump([1.0] * 30)
            used.write(GET)
            self.assertEqual(used.read()[0].status, 200)
        self.assertEqual((idle.closed, idle.read(), used.closed), (True, [], False))

    def test_late_answers(self) -> None:
        """An answer may take any time, and the connection is kept open after it."""
        connection, _ = self.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        self.clock.pump([1.0] * 100)
        self.assertFalse(connection.closed)
        self.echo.late[0].callback(Answer(200, b"late"))
        self.assertEqual(connection.read()[0].body, b"late")
        self.clock.pump([1.0] * 30)
        self.assertFalse(connection.closed)

    def test_lingering(self) -> None:
        """A peer that does not close after the last answer is cut, and at once if it keeps sending too much."""
        connection, _ = self.send(post(b"", b"X-Bad: 1").replace(b"Length: 0", b"Length: 9"))
        connection.write(b"x" * 900)
        self.assertFalse(connection.transport.disconnected)
        self.clock.pump([1.0] * int(LINGER + 1))
        self.assertTrue(connection.transport.disconnected)
        connection, _ = self.send(post(b"", b"X-Bad: 1").replace(b"Length: 0", b"Length: 9"))
        connection.write(b"x" * 1_001)
        self.assertTrue(connection.transport.disconnected)


class ConnectionsTests(HTTPCase):
    """Pipelining, and the number of connections."""

    def test_pipelined(self) -> None:
        """Requests are answered one by one, in order; little more is read until one is answered."""
        connection, responses = self.send(post(b"1") + b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n" + post(b"3") + GET[:9])
        self.assertEqual([each.body for each in responses], [b"1"])
        connection.write(GET[9:])
        self.assertEqual(len(self.echo.seen), 2)
        self.echo.late[0].callback(Answer(200, b"2"))
        self.assertEqual([each.body for each in connection.read()], [b"2", b"3"])
        self.clock.advance(0.0)
        self.assertEqual([each.body for each in connection.read()], [b""])
        connection.write(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n" + GET * 1_000)
        self.assertEqual(connection.transport.producerState, "paused")
        self.echo.late[1].callback(Answer(200))
        self.clock.advance(0.0)
        self.assertEqual((len(connection.read()), connection.transport.producerState), (1_001, "producing"))

    def test_heads(self) -> None:
        """Each request has its own head and length, also where the head before is kept: a short one, with a key."""
        connection = self.connect()
        for length, *fields in ((1, b"X-Key: 1"), (1, b"X-Key: 1"), (1, b"X-Key: 1"), (30, b"X-Key: 1"), (2, b"A: b")):
            connection.write(post(b"x" * length, *fields))
            self.assertEqual([each.body for each in connection.read()], [b"x" * length])
        connection.write(post(b"x", b"X-Key: 1", b"X-Bad: 1"))
        self.assertEqual([each.status for each in connection.read()], [403])

    def test_turns(self) -> None:
        """Of many requests that arrive together a few are answered; then it is the turn of other connections."""
        connection, another = self.connect(), self.connect()
        connection.write(GET * 25)
        another.write(GET)
        self.assertEqual((len(connection.read()), len(another.read())), (2, 1))
        self.clock.advance(0.0)
        self.assertEqual(len(connection.read()), 23)
        connection.write(GET * 25)
        connection.lose()
        self.connections.remove(connection)
        self.assertEqual(len(self.echo.seen), 28)

    def test_refused_often(self) -> None:
        """A caller that is refused again and again is disconnected."""
        refused = b"GET / HTTP/1.1\r\nHost: h\r\nX-Bad: 1\r\n\r\n"
        connection = self.connect()
        connection.write(refused * 19 + GET + refused * 25)
        self.clock.advance(0.0)
        responses = connection.read()
        self.assertEqual([each.status for each in responses], [403] * 19 + [200] + [403] * 20)
        self.assertEqual((responses[-1].headers["connection"], connection.closed), ("close", True))

    def test_not_read(self) -> None:
        """While the peer does not read answers, no further request is begun."""
        connection = self.connect()
        connection.write(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n" + GET * 15)
        connection.transport.producer.pauseProducing()
        self.echo.late[0].callback(Answer(200))
        self.clock.advance(0.0)
        self.assertEqual((len(connection.read()), len(self.echo.seen)), (1, 1))
        connection.transport.producer.resumeProducing()
        self.assertEqual(len(connection.read()), 2)
        connection.transport.producer.pauseProducing()
        self.clock.advance(0.0)
        self.assertEqual(len(connection.read()), 0)
        connection.transport.producer.resumeProducing()
        self.clock.advance(0.0)
        self.assertEqual(len(connection.read()), 13)

    def test_read_ahead(self) -> None:
        """While a request is being answered and the peer does not read, little is read ahead; then reading goes on."""
        connection = self.connect()
        verifyObject(IPushProducer, connection.channel.protocol)
        connection.write(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n" + GET * 1_000)
        connection.transport.producer.pauseProducing()
        connection.transport.producer.resumeProducing()
        self.assertEqual(connection.transport.producerState, "paused")
        connection.transport.producer.pauseProducing()
        self.echo.late[0].callback(Answer(200))
        connection.transport.producer.resumeProducing()
        self.clock.advance(0.0)
        self.assertEqual((len(connection.read()), connection.transport.producerState), (1_001, "producing"))

    def test_unread(self) -> None:
        """From a peer that does not read answers, no more requests are read."""
        connection = self.connect()
        connection.transport.producer.pauseProducing()
        self.assertEqual(connection.transport.producerState, "paused")
        self.clock.pump([1.0] * int(LIMITS.idle + LINGER + 2))
        self.assertTrue(connection.transport.disconnected)

    def test_too_many(self) -> None:
        """If there are too many connections, an unauthenticated one is dropped, however far its request has come."""
        known = self.connect()
        known.write(b"POST / HTTP/1.1\r\nHost: h\r\nX-Key: 1\r\nContent-Length: 9\r\n\r\n")
        half, late = self.connect(), self.connect()
        half.write(GET[:5])
        late.write(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        self.connect()
        self.assertEqual([each.transport.disconnected for each in (known, half, late)], [False, True, False])
        self.connect()
        self.assertEqual([each.transport.disconnected for each in (known, late)], [False, True])
        known.write(b"123456789")
        self.assertEqual(known.read()[0].body, b"123456789")

    def test_gone(self) -> None:
        """A caller that has disconnected gets no answer, which is not an error."""
        connection, _ = self.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        connection.lose()
        self.connections.remove(connection)
        self.echo.late[0].callback(Answer(200))
        another, _ = self.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        another.lose()
        self.connections.remove(another)
        with capturedLogs() as events:
            self.echo.late[1].errback(ValueError("unlucky"))
        self.assertEqual(["ValueError: unlucky" in formatEvent(event) for event in events], [True])
        partial, _ = self.send(post(b"x" * 10)[:-5])
        partial.lose()
        self.connections.remove(partial)


class ClosingTests(HTTPCase):
    """Shutdown."""

    def test_drain(self) -> None:
        """Idle connections are closed, requests under way are answered, and later ones get status 503."""
        idle, busy, begun = self.connect(), self.connect(), self.connect()
        busy.write(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        begun.write(GET[:20])
        self.server.drain()
        self.assertEqual([each.closed for each in (idle, busy, begun)], [True, False, False])
        begun.write(GET[20:])
        [response] = begun.read()
        self.assertEqual((response.status, response.headers["connection"], begun.closed), (503, "close", True))
        self.assertGreater(int(response.headers["retry-after"]), 0)
        self.echo.late[0].callback(Answer(200, b"late"))
        [response] = busy.read()
        self.assertEqual((response.body, response.headers["connection"], busy.closed), (b"late", "close", True))

    def test_close(self) -> None:
        """It ends when all connections are closed; those that stay are cut."""
        self.successResultOf(self.server.close())
        self.server.draining = False
        connection, _ = self.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        idle = self.connect()
        closed = self.server.close()
        self.assertEqual((connection.closed, idle.closed), (False, True))
        self.assertNoResult(closed)
        self.clock.pump([1.0] * int(LINGER + 1))
        self.assertTrue(connection.transport.disconnected)
        for each in (connection, idle):
            each.lose()
            self.connections.remove(each)
        self.successResultOf(closed)


class ParserTests(HTTPCase):
    """Requests split in any way."""

    @settings(deadline=None)
    @given(st.lists(st.sampled_from([post(b"abc"), chunked(b"de", b"f"), GET]), min_size=1, max_size=3), st.data())
    def test_split(self, requests: list[bytes], data: Any) -> None:
        """The answers are the same however requests are split."""
        raw = b"".join(requests)
        places = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
        pieces = [raw[begin:end] for begin, end in zip([0, *places], [*places, len(raw)], strict=True)]
        connection, responses = self.send(*pieces)
        bodies = {post(b"abc"): b"abc", chunked(b"de", b"f"): b"def", GET: b""}
        self.assertEqual([each.body for each in responses], [bodies[each] for each in requests])
        connection.lose()
        self.connections.remove(connection)

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=5))
    def test_anything(self, pieces: list[bytes]) -> None:
        """No input makes it fail."""
        connection, _ = self.send(post(b"")[:-2], *pieces)
        connection.lose()
        self.connections.remove(connection)


@pytest.mark.loopback
class LoopbackTests(TestCase):
    """Real sockets, in plain text and with TLS."""

    def setUp(self) -> None:
        """Listen, with time for requests."""
        self.authority = Authority()
        self.listen(request=120.0)

    def listen(self, request: float) -> None:
        """Listen with and without TLS."""
        server = HTTPServer(cast("IReactorTime", reactor), Echo(), attrs.evolve(LIMITS, request=request))
        self.addCleanup(server.close)
        options = self.authority.server_options((b"http/1.1",))
        self.ports = {}
        for secure in (False, True):
            factory = server.encrypted(options) if secure else server
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
            self.ports[secure] = port.getHost().port
            self.addCleanup(port.stopListening)

    def call(self, raw: bytes, secure: bool) -> bytes:
        """Send everything, then read until the end, as a simple client does."""
        context = ssl.create_default_context(cadata=self.authority.ca_pem.decode())
        with socket.create_connection(("127.0.0.1", self.ports[secure]), timeout=120) as plain:
            connection = context.wrap_socket(plain, server_hostname="localhost") if secure else plain
            connection.sendall(raw)
            found = b""
            while data := connection.recv(65_536):
                found += data
            connection.close()
            return found

    @inlineCallbacks
    def test_refused_in_the_middle(self) -> Any:
        """A client that sends everything before it reads gets the answer and no reset, though its body was not read."""
        for secure in (False, True):
            found = yield deferToThread(self.call, post(b"x" * 1_900), secure)
            self.assertTrue(found.startswith(b"HTTP/1.1 413 "), found)
            self.assertTrue(found.endswith(b"bytes"), found)

    @inlineCallbacks
    def test_slow(self) -> Any:
        """A client that never sends the rest gets an error, and the connection is closed."""
        self.listen(request=1.0)
        for secure in (False, True):
            found = yield deferToThread(self.call, post(b"x" * 900)[:-1], secure)
            self.assertTrue(found.startswith(b"HTTP/1.1 408 "), found)

    @inlineCallbacks
    def test_large(self) -> Any:
        """An answer that is larger than the system takes at once is sent whole, and so are the next ones."""
        large = b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"
        for secure in (False, True):
            found = yield deferToThread(self.call, large + GET + post(b"x" * 9, b"Connection: close"), secure)
            self.assertEqual((found.count(b"HTTP/1.1 200 "), found.count(b"\0")), (3, 4_000_000))
            self.assertTrue(found.endswith(b"x" * 9))

    @inlineCallbacks
    def test_answered(self) -> Any:
        """A client gets an answer, and then the close that it asked for."""
        for secure in (False, True):
            found = yield deferToThread(self.call, post(b"x" * 900, b"Connection: close"), secure)
            self.assertTrue(found.startswith(b"HTTP/1.1 200 ") and found.endswith(b"x" * 900), found)
