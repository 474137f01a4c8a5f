"""Tests for :mod:`txapns.daemon.faces.apple.connection`: callers that break the rules, and how a connection ends."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jwt
import ngh2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate as TrustedCertificate
from twisted.internet.ssl import trustRootFromCertificates
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer

from tests.daemon.faces.apple.face_case import ANN, BOB, PAYLOAD, AppleCase, frame
from tests.daemon.faces_world import FacesWorld
from txapns.daemon.config.sections import AppleSection
from txapns.daemon.faces.apple import connection
from txapns.daemon.faces.apple.face import Apple
from txapns.daemon.values import Lane, State

__all__ = ["GatheringTests", "HTTP1Tests", "HostileTests", "StopTests"]


class GatheringTests(AppleCase):
    """What arrives while a group is being stored."""

    def setUp(self) -> None:
        """Send a request, so that the rest is only about groups."""
        super().setUp()
        self.client = self.caller()
        self.after(self.client, self.client.begin())
        self.world.lease()
        self.world.woken.clear()

    def begin(self, count: int, **request: Any) -> list[int]:
        """Begin some requests that arrive together."""
        with self.client.together():
            return [self.client.begin(**request) for _ in range(count)]

    def statuses(self, streams: list[int]) -> set[int]:
        """Let time pass, and read the answers."""
        return {self.after(self.client, stream).status for stream in streams}

    def test_many(self) -> None:
        """Many requests gather and are stored together, in the order in which they came."""
        streams = self.begin(20) + self.begin(30) + self.begin(40, path=f"/3/device/{BOB}")
        self.assertEqual(self.statuses(streams), {200})
        self.assertEqual(self.world.woken, ["chess"] * 2)
        self.assertEqual([each.token.hex() for each in self.world.lease()], [ANN] * 50 + [BOB] * 40)
        self.assertEqual(self.statuses(self.begin(20)), {200})

    def test_few(self) -> None:
        """A few requests do not wait for the others, and are urgent."""
        streams = self.begin(20) + self.begin(30) + self.begin(1, path=f"/3/device/{BOB}")
        self.assertEqual(self.statuses(streams), {200})
        self.assertEqual(self.world.woken, ["chess"] * 3)
        lanes = {each.token.hex(): each.content.lane for each in self.world.lease()}
        self.assertEqual(lanes, {ANN: Lane.NORMAL, BOB: Lane.URGENT})

    def test_collapsing(self) -> None:
        """What supersedes others does not overtake them, however few it is."""
        score = {"apns-collapse-id": "score"}
        older, newer = b'{"aps":{"alert":"0:1"}}', b'{"aps":{"alert":"0:2"}}'
        self.begin(20)
        streams = self.begin(30, headers=score, body=older) + self.begin(1, headers=score, body=newer)
        self.assertEqual(self.statuses(streams), {200})
        self.assertEqual([each.payload for each in self.world.lease()][20:], [newer])

    def test_apps(self) -> None:
        """An app does not wait for another."""
        news = {"apns-topic": "com.example.news"}
        streams = self.begin(20, key="all") + self.begin(20, headers=news, key="all") + self.begin(20, key="all")
        self.assertEqual(self.statuses(streams), {200})
        self.assertEqual(self.world.woken, ["chess", "news", "chess"])

    def test_refused(self) -> None:
        """What is refused does not hold up what gathers, and each request has its own answer."""
        refused = self.begin(20, body=b"[")
        mixed = self.begin(11), self.begin(12, body=b"[")
        self.assertEqual(self.statuses(refused), {400})
        self.assertEqual([self.statuses(each) for each in mixed], [{200}, {400}])

    def test_dead(self) -> None:
        """Where nothing is left to be stored, what gathers goes on."""
        self.world.kill(bytes.fromhex(BOB))
        dead, alive = self.begin(20, path=f"/3/device/{BOB}"), self.begin(20)
        self.assertEqual((self.statuses(dead), self.statuses(alive)), ({410}, {200}))

    def test_lost(self) -> None:
        """If the connection is lost, what was gathered is stored all the same."""
        self.begin(20)
        self.begin(30)
        self.client.server.connectionLost(Failure(connectionDone))
        self.reactor.advance(1)
        self.assertEqual(len(self.world.lease()), 50)


class HostileTests(AppleCase):
    """Unauthenticated callers, and clients that break the rules."""

    def test_not_http2(self) -> None:
        """A connection with neither HTTP/2 nor a request of HTTP/1.1 is closed without an answer."""
        for raw in (
            b"\x16\x03\x01\x02\x00",
            b"get / HTTP/1.1\r\n\r\n",
            b"\0\0\0\4\0\0\0\0\0",
        ):
            transport = self.connect(raw)
            self.assertEqual((transport.value(), transport.disconnecting), (b"", True), raw)

    def connect(self, *pieces: bytes) -> Any:
        """Connect, and send something that is not HTTP/2; returns the transport."""
        transport: Any = StringTransport()
        transport.abortConnection = transport.loseWriteConnection = transport.loseConnection
        server: Any = self.face.factory().buildProtocol(None)
        server.makeConnection(transport)
        for piece in pieces:
            server.dataReceived(piece)
        return transport

    def test_http1(self) -> None:
        """A client of HTTP/1.1 gets an answer that it can read, once, and nothing before it."""
        for pieces in (
            [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
            [b"POST /3/device/%s HTTP/1.1\r\nContent-Length: 5\r\n\r\n" % ANN.encode(), b"hello"],
            [b"P", b"OST / HTTP/1.1\r\n"],
            [b"PRI", b"ME / HTTP/1.0\r\n"],
            [b"PUT / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"],
        ):
            transport = self.connect(*pieces)
            head, _, body = transport.value().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n"), head)
            self.assertIn(b"Content-Length: %d" % len(body), head)
            self.assertIn(b"HTTP/2", body)
            self.assertTrue(transport.disconnecting)

    def test_http1_stays(self) -> None:
        """A client of HTTP/1.1 that does not close is cut."""
        transport = self.connect(b"GET / HTTP/1.1\r\n\r\n")
        cut: list[bool] = []
        transport.abortConnection = lambda: cut.append(True)
        self.reactor.advance(2)
        self.assertEqual(cut, [])
        self.reactor.pump([1, 1])
        self.assertTrue(cut)

    def test_silent(self) -> None:
        """An idle unauthenticated client is told to close after a minute, and cut if it does not."""
        caller = self.caller()
        self.reactor.advance(59)
        self.assertFalse(caller.goaway or caller.gone)
        self.reactor.advance(2)
        caller.pump()
        self.assertTrue(caller.goaway and caller.gone)

    def test_idle(self) -> None:
        """An authenticated client may be idle for an hour."""
        caller = self.caller()
        self.after(caller, caller.begin())
        self.reactor.advance(3_500)
        self.assertEqual(self.after(caller, caller.begin()).status, 200)
        self.reactor.advance(3_602)
        caller.pump()
        self.assertTrue(caller.goaway and caller.gone)

    def test_slow(self) -> None:
        """An unfinished request is answered and dropped in time; others on the connection are not affected."""
        caller = self.caller()
        self.after(caller, caller.begin())
        stream = caller.begin(end=False)
        for _ in range(31):
            self.reactor.advance(1)
            caller.h2.send_data(stream, b" ")
            caller.pump()
        self.assertEqual(caller.said(stream).brief, (400, "IdleTimeout"))
        self.assertEqual(self.after(caller, caller.begin()).status, 200)

    def test_silent_request(self) -> None:
        """An unfinished request is answered once, and its connection closed when it is idle."""
        caller = self.caller()
        stream = caller.begin(end=False)
        for _ in range(35):
            self.reactor.advance(1)
        caller.pump()
        self.assertEqual(caller.said(stream).brief, (400, "IdleTimeout"))
        for _ in range(61):
            self.reactor.advance(60)
        caller.pump()
        self.assertTrue(caller.gone or caller.goaway)

    def test_window(self) -> None:
        """However many requests are unfinished, together they hold at most one window."""
        caller = self.caller()
        self.after(caller, caller.begin())
        self.assertGreater(caller.h2.remote_window_size, 65_535)
        for _ in range(100):
            caller.begin(body=b"x" * 10_000, end=False)
        held = sum(len(partial.body) for partial in caller.server.protocol.requests._open.values())
        self.assertLessEqual(held, connection.WINDOW)

    def test_rapid_reset(self) -> None:
        """A client that keeps beginning and cancelling requests is cut."""
        caller = self.caller()
        self.after(caller, caller.begin())
        for _ in range(3_000):
            stream = caller.begin(body=b"", end=False)
            caller.h2.reset_stream(stream, 8)
            caller.pump()
            if caller.gone or caller.goaway:
                break
        self.assertTrue(caller.goaway or caller.gone)

    def test_streams(self) -> None:
        """An unauthenticated request is answered at its header fields, and holds its stream only for a moment."""
        caller = self.caller()
        streams = [caller.begin(key=key, body=b"", end=False) for key in (None, "nobody") for _ in range(9)]
        self.assertEqual({caller.said(stream).status for stream in streams}, {403})
        self.assertEqual(caller.closed, {})
        caller.h2.send_data(streams[0], b"the rest", end_stream=True)
        caller.pump()
        self.reactor.advance(1)
        caller.pump()
        self.assertEqual(caller.closed, dict.fromkeys(streams, 0))
        self.assertEqual(caller.server.protocol.requests.unfinished, [])
        self.assertEqual(self.after(caller, caller.begin()).status, 200)

    def test_floods(self) -> None:
        """A client that sends too many frames is cut at once, with a line in the log; others are not affected."""
        other = self.caller()
        self.after(other, other.begin())
        for known, most, flood in (
            (False, 3_000, frame(6, b"12345678")),
            (False, 3_000, frame(2, b"\0\0\0\0\x10", stream=1)),
            (False, 3_000, frame(8, b"\0\0\0\1")),
            (False, 3_000, frame(0, stream=1)),
            (False, 3_000, frame(99)),
            (True, 60_000, frame(6, b"12345678")),
            (True, 60_000, frame(8, b"\0\0\0\1")),
            (True, 30, frame(4, b"\0\4\0\0\0\0")),
            (False, 30, frame(4, b"\0\4\0\0\0\0") + frame(4, b"\0\4\0\0\xff\xff")),
        ):
            caller = self.caller()
            if known:
                self.after(caller, caller.begin())
            with capturedLogs() as events:
                for _ in range(most // 10):
                    if not caller.gone:
                        caller.server.dataReceived(flood * 10)
            self.assertTrue(caller.gone, flood)
            [line] = [formatEvent(event) for event in events]
            self.assertRegex(line, "^intake.apple: the connection of .* failed: ")
            self.assertEqual(self.after(other, other.begin()).status, 200)
            caller.server.connectionLost()
            self.reactor.advance(1)

    def test_fast(self) -> None:
        """A client may send notifications as fast as they are stored, but not as many other frames or bad requests."""
        self.patch(connection, "_FRAMES", (20, 1))
        caller = self.caller()
        for _ in range(40):
            self.assertEqual(self.after(caller, caller.begin(), 0.002).status, 200)
        caller.server.dataReceived(frame(6, b"12345678") * 30)
        self.assertTrue(caller.gone)
        caller = self.caller()
        self.after(caller, caller.begin())
        bad = 0
        while not caller.gone and bad < 30:
            caller.begin(body=b"")
            bad += 1
        self.assertLess(bad, 30)

    def test_no_window(self) -> None:
        """A client that gives no window for its answers is cut."""
        caller = self.caller()
        self.after(caller, caller.begin())
        caller.h2.update_settings({ngh2.Setting.INITIAL_WINDOW_SIZE: 0})
        caller.begin(body=b"x")
        self.reactor.advance(1)
        self.assertFalse(caller.gone)
        for _ in range(31):
            self.reactor.advance(1)
        self.assertTrue(caller.gone)

    def test_given_up(self) -> None:
        """A connection that libnghttp2 has given up is cut, and not read any more."""
        field = b"\0\x01x\x7f\x85\x06" + b"y" * 900  # as HPACK writes it (RFC 7541, section 6.2.2)
        for raw in (
            frame(4, flags=1) * 10,
            frame(9, b"", 0, 1),
            frame(1, b"\x83\x87\x84" + field * 17, 0, 1) + frame(9, field * 17, 4, 1),
            frame(1, b"\x83\x87\x84" + b"\0\x01x\x01y" * 200, 4, 1),
        ):
            caller = self.caller()
            with capturedLogs() as events:
                caller.server.dataReceived(raw)
            self.assertTrue(caller.gone, raw)
            self.assertEqual(len(events), 1)
            caller.server.dataReceived(frame(6, b"12345678"))

    def test_claims(self) -> None:
        """A well-signed provider token with an impossible time is invalid; other streams are not affected."""
        ours = self.world.provider_token
        caller = self.caller()
        waiting = caller.begin(end=False)
        for issued in ("1" + "0" * 400, "NaN", "Infinity", "-Infinity", "true", "-1", "null", '"1700000000"', "1e999"):
            claims = f'{{"iss": "{ours.team_id}", "iat": {issued}}}'.encode()
            text = jwt.api_jws.encode(claims, self.world.authority.p8, "ES256", headers={"kid": ours.key_id})
            fields = {"authorization": f"bearer {text}", "apns-topic": "com.example.news"}
            self.assertEqual(caller.ask(fields, key=None).brief, (403, "InvalidProviderToken"), issued)
        caller.h2.send_data(waiting, b" ", end_stream=True)
        caller.pump()
        self.assertEqual(self.after(caller, waiting).status, 200)

    def test_header_list(self) -> None:
        """Endless header fields are refused."""
        caller = self.caller()
        more = tuple((b"x-%d" % n, b"y" * 900) for n in range(60))
        stream = caller.begin(more=more)
        self.assertIsNone(caller.said(stream))
        self.assertTrue(caller.gone or caller.closed.get(stream))

    def test_reads_nothing(self) -> None:
        """From a client that reads no answers, nothing is read; in the end it is cut."""
        caller = self.caller()
        caller.transport.producer.pauseProducing()
        self.assertEqual(caller.transport.producerState, "paused")
        self.reactor.advance(29)
        self.assertFalse(caller.gone)
        self.reactor.advance(2)
        self.assertTrue(caller.gone)

    def test_reads_again(self) -> None:
        """A client that reads again gets its answers."""
        caller = self.caller()
        caller.transport.producer.pauseProducing()
        stream = caller.begin()
        self.reactor.advance(0.02)
        self.assertIsNone(caller.said(stream))
        caller.transport.producer.resumeProducing()
        self.assertEqual(caller.said(stream).status, 200)

    def test_connections(self) -> None:
        """The number of connections is limited; the one that has been idle the longest is dropped."""
        callers = []
        for _ in range(5):
            callers.append(self.caller())
            self.reactor.advance(0.5)
        self.caller()
        self.assertEqual([each.gone for each in callers], [True, False, False, False, False])


class StopTests(AppleCase):
    """Shutdown."""

    mode = "relay"

    def test_stop(self) -> None:
        """Requests under way are answered, new ones are not accepted, and then the connection is closed."""
        caller, idle = self.caller(), self.caller()
        stream = caller.begin()
        self.reactor.advance(0.02)
        stopped = self.face.close()
        caller.pump(), idle.pump()
        self.assertTrue(caller.goaway and idle.goaway and idle.gone)
        self.assertFalse(caller.gone)
        idle.server.connectionLost()
        [leased] = self.world.lease()
        self.world.settle(leased, State.ACCEPTED, 200)
        self.assertEqual(caller.said(stream).status, 200)
        self.assertTrue(caller.gone)
        self.assertNoResult(stopped)
        caller.server.connectionLost()
        self.successResultOf(stopped)
        self.assertTrue(self.caller().gone)

    def test_left(self) -> None:
        """A client that says that it leaves gets its answers, and breaks no rule."""
        idle, caller = self.caller(), self.caller()
        with capturedLogs() as events:
            idle.h2.send_goaway(0)
            idle.pump()
            self.assertTrue(idle.gone)
            stream = caller.begin()
            self.reactor.advance(0.02)
            caller.h2.send_goaway(0)
            caller.pump()
            self.assertFalse(caller.gone)
            [leased] = self.world.lease()
            self.world.settle(leased, State.ACCEPTED, 200)
            self.assertEqual(caller.said(stream).status, 200)
            self.assertTrue(caller.gone)
            left = self.caller()
            left.server.dataReceived(frame(7, b"\0" * 8) + frame(1, b"\xff" * 30, 4, 1))
            self.assertTrue(left.gone)
        self.assertEqual(events, [])

    def test_grace(self) -> None:
        """A connection that does not finish in time is cut."""
        caller = self.caller()
        caller.begin()
        self.reactor.advance(0.02)
        stopped = self.face.close(3.0)
        self.reactor.advance(2.9)
        self.assertFalse(caller.gone)
        self.reactor.advance(0.2)
        self.assertTrue(caller.gone)
        caller.server.connectionLost()
        self.successResultOf(stopped)


class Collector(Protocol):
    """Collects the body of an answer."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._body = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece."""
        self._body += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give the body."""
        self.done.callback(self._body)


class HTTP1Tests(TestCase):
    """A client of HTTP/1.1, on the loopback interface."""

    def setUp(self) -> None:
        """Make a face."""
        world = FacesWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        self.authority = world.authority
        self.certificate = world.server_certificate
        options = AppleSection(mode="queue")
        self.face = Apple(world.reactor, world.intake, world.apps, world.keys, world.log, options, world.limits)

    async def ask(self, factory: Any, scheme: str) -> tuple[int, bytes]:
        """Send a face a request in HTTP/1.1."""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        trusted = BrowserLikePolicyForHTTPS(
            trustRootFromCertificates([TrustedCertificate.loadPEM(self.authority.ca_pem)])
        )
        agent = Agent(reactor, trusted, connectTimeout=120)
        address = f"{scheme}://localhost:{port.getHost().port}/3/device/{ANN}".encode()
        try:
            body = FileBodyProducer(io.BytesIO(PAYLOAD * 1_000))
            response = await agent.request(b"POST", address, bodyProducer=body)
            collector = Collector()
            response.deliverBody(collector)
            return response.code, await collector.done
        finally:
            await port.stopListening()
            await self.face.close()

    def test_plain(self) -> Deferred[None]:
        """In plain text it gets the whole answer, though it has not sent its whole body."""

        async def check() -> None:
            status, body = await self.ask(self.face.factory(), "http")
            self.assertEqual((status, b"HTTP/2" in body), (505, True))

        return Deferred.fromCoroutine(check())

    def test_encrypted(self) -> Deferred[None]:
        """The same over TLS, with HTTP/1.1 in ALPN, or without ALPN."""

        async def check() -> None:
            status, body = await self.ask(self.face.factory(self.certificate), "https")
            self.assertEqual((status, b"HTTP/2" in body), (505, True))

        return Deferred.fromCoroutine(check())
