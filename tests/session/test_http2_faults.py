"""The provider API from the batch down to a server that does wrong: true TLS and true HTTP/2, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, HeadersFrame, SettingsFrame
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.checks import check_batch
from txapns import Action, errors
from txapns._credentials.bearer import BearerToken
from txapns._session.backlog import MAX_POSTPONED
from txapns.client import APNSClient
from txapns.credentials import Certificate, ProviderToken
from txapns.notification import Notification
from txapns.result import Batch
from txapns.simulator.http2 import ProviderAPIServer
from txapns.simulator.requests import Response
from txapns.testing import MemorySimulator
from txapns.wire.requests import Request

HTTP2 = 2197
REFUSED, INTERNAL, CALM = 7, 2, 11
ALERT = Notification(alert="Hi")
BIG = Notification(payload={"aps": {"alert": "x" * 4_000}})


def some(count: int, start: int = 0) -> dict[int, str]:
    """Give that many identifiers a token each."""
    return {number: f"{number + 1:064x}" for number in range(start, start + count)}


def token_of(request: Request) -> bytes:
    """Find the token that a request is for."""
    return bytes.fromhex(dict(request.headers)[b":path"].decode().removeprefix("/3/device/"))


class FaultCase(SynchronousTestCase):
    """A client of the simulator's HTTP/2 server, with whatever goes wrong there."""

    def setUp(self) -> None:
        """There are a simulator and a client with a certificate that has not connected yet."""
        self.simulator = MemorySimulator(concurrency=100)
        self.reactor = self.simulator.reactor
        self.client: APNSClient = self.simulator.client()

    def tearDown(self) -> None:
        """Whatever happened, nothing is left: no request, nothing queued, no timer."""
        status = self.client.status()
        self.assertEqual((status.in_flight, status.queued), (0, 0))
        self.simulator.result(self.client.close())
        self.assertEqual(self.client.status().connections[0], "stopped")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def connect(self, credential: Certificate | ProviderToken | None = None, **options: object) -> None:
        """Make another client."""
        self.client = self.simulator.client(credential=credential, **options)

    def send(self, tokens: Mapping[int, str], notification: Notification = ALERT, within: float = 120.0) -> Batch:
        """Send to these, and hold what comes of it against the server's record."""
        batch = self.simulator.result(self.client.send(notification, tokens), within)
        check_batch(self, batch, tokens, self.simulator)
        return batch

    def fault(self, play: Callable[[ProviderAPIServer, Request, Response, int, int], Response | None]) -> None:
        """Play a fault that receives the numbers of the connection and of the request on it, both from 0."""
        seen: Counter[ProviderAPIServer] = Counter()

        def fault(server: ProviderAPIServer, request: Request, response: Response) -> Response | None:
            seen[server] += 1
            return play(server, request, response, list(seen).index(server), seen[server] - 1)

        self.simulator.http2_fault = fault

    def take(self, request: Request) -> None:
        """Record that the server accepted a notification, without an answer."""
        self.simulator.inbox.note("http2", token_of(request), request.body, {}, None)

    def replace_server(self, build: Callable[[], IProtocol], alpn: tuple[bytes, ...] = (b"h2",)) -> None:
        """Put another server with the same certificate in the place of the simulator's."""
        factory = Factory.forProtocol(build)
        options = self.simulator.authority.server_options(alpn)
        self.reactor.servers[HTTP2] = TLSMemoryBIOFactory(options, False, factory, self.reactor)

    def attempts(self) -> list[float]:
        """Record when connections are tried."""
        times: list[float] = []
        connect = self.reactor.connectTCP

        def connect_tcp(*arguments: object, **more: object) -> object:
            times.append(self.reactor.seconds())
            return connect(*arguments, **more)

        self.reactor.connectTCP = connect_tcp
        return times


class GoAwayTests(FaultCase):
    """Servers that end the connection and say so."""

    def goaway(self, at: int, last: int, code: int = 0, debug: bytes = b"") -> None:
        """On the first connection, say GOAWAY at one request, and deal with nothing above a stream."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if connection == 0 and number == at:
                server.requests.goaway(code, last_stream=last, debug=debug)
            return None if connection == 0 and number >= at and request.stream > last else response

        self.fault(play)

    def test_mid_burst(self) -> None:
        """What is above the last stream arrives over another connection, what is below is answered on the old one."""
        for delay in (0.0, 0.5):
            self.setUp()
            self.simulator.delay = delay
            self.goaway(at=20, last=81)
            self.assertEqual(self.send(some(300)).accepted, 300)
            self.assertEqual(self.simulator.inbox.connections, 2)

    def test_each_time_at_once(self) -> None:
        """A server that ends each connection after one answer is not connected to in quick succession."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if number == 0:
                server.requests.goaway(last_stream=request.stream)
            return response if number == 0 else None

        self.fault(play)
        times = self.attempts()
        self.assertEqual(self.send(some(8)).accepted, 8)
        delays = [later - earlier for earlier, later in pairwise(times)]
        self.assertEqual(len(delays), 7)
        self.assertLess(delays[0], 0.1)
        self.assertGreater(min(delays[1:]), 0.79)

    def test_at_once_elsewhere(self) -> None:
        """The next connection does not wait for the answers that the old one still owes."""
        self.simulator.delay = 10.0
        self.goaway(at=0, last=1)
        batch = self.simulator.result(self.client.send(ALERT, some(50)))
        check_batch(self, batch, some(50), self.simulator)
        self.assertEqual(batch.accepted, 50)
        self.assertLess(self.reactor.seconds(), 25)

    def test_text(self) -> None:
        """Debug data that is text is reported."""
        text = b"Maximum active streams violated for this endpoint."
        self.goaway(at=10, last=21, code=REFUSED, debug=text)
        self.assertEqual(self.send(some(200)).accepted, 200)
        error = self.client.status().last_error
        self.assertIsInstance(error, errors.GatewayShutdown)
        self.assertIn(text.decode(), str(error))

    def test_broken_text(self) -> None:
        """So does debug data that is no text at all."""
        self.goaway(at=10, last=21, code=CALM, debug=b"\xff\xfe{")
        self.assertEqual(self.send(some(200)).accepted, 200)

    def test_every_connection(self) -> None:
        """A server that takes one request a connection gets through all of them."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if number == 0:
                server.requests.goaway(last_stream=request.stream)
            return response if number == 0 else None

        self.fault(play)
        self.assertEqual(self.send(some(8)).accepted, 8)
        self.assertEqual(self.simulator.inbox.connections, 8)

    def test_never_processes(self) -> None:
        """A server that processes nothing, time and again, leaves everything unsent, and in finite time."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.goaway(last_stream=0)

        self.fault(play)
        batch = self.send(some(20), within=1_000)
        self.assertEqual(len(batch.unsent), 20)
        self.assertLess(self.simulator.inbox.connections, 15)


class HeaderTests(FaultCase):
    """Answers whose header fields are more than anybody takes."""

    def test_too_many(self) -> None:
        """They end that connection, with an explanation; what was in flight is uncertain; the next connection works."""
        good = self.reactor.servers[HTTP2]
        for count, size in ((5_000, 0), (20, 8_000), (2, 40_000), (1, 100_000)):
            fields = [(b":status", b"200"), *((b"x-%d" % number, b"x" * size) for number in range(count))]

            class Verbose(Protocol):
                def connectionMade(self) -> None:
                    self.transport.write(SettingsFrame(0).serialize())

                def dataReceived(self, data: bytes, fields: Any = fields) -> None:
                    if b"Hi" in data:
                        self.transport.write(_headers(1, fields))

            self.replace_server(Verbose)
            batch = self.simulator.result(self.client.send(ALERT, some(2)))
            self.assertEqual(len(batch.uncertain), 2)
            self.assertIn("does not keep to HTTP/2", str(batch.uncertain[0].error))
            self.reactor.servers[HTTP2] = good
            self.assertEqual(self.simulator.result(self.client.send(ALERT, some(2))).accepted, 2)
            self.simulator.advance(700)


def _headers(stream: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write HEADERS, with as many CONTINUATION as they need."""
    block = Encoder().encode(list(fields), huffman=False)
    pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    made: list[HeadersFrame | ContinuationFrame] = [HeadersFrame(stream, pieces[0])]
    made += [ContinuationFrame(stream, piece) for piece in pieces[1:]]
    made[0].flags.add("END_STREAM")
    made[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in made)


class LifespanTests(FaultCase):
    """Servers that end each connection after a number of requests, and those that end all of them too soon."""

    def end_after(self, most: int, code: int = 0, **simulator: Any) -> None:
        """End each connection after this many requests by GOAWAY; later requests are not processed."""
        self.simulator = MemorySimulator(authority=self.simulator.authority, **simulator)
        self.reactor = self.simulator.reactor
        self.connect()

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if number == most - 1:
                server.requests.goaway(code, last_stream=request.stream)
            return response if number < most else None

        self.fault(play)

    def test_no_pause(self) -> None:
        """Each protocol is followed at once, nothing is lost or sent twice, and soon nothing is sent in vain."""
        for most, count in ((1_000, 20_000), (300, 3_000), (100, 1_000)):
            self.end_after(most)
            self.assertEqual(self.send(some(count)).accepted, count)
            self.assertEqual(self.reactor.seconds(), 0.0)
            self.assertLessEqual(self.simulator.inbox.connections, count // most + 1)

    def test_provider_token(self) -> None:
        """So it is with a provider token, where a request goes first on each connection."""
        self.end_after(1_000)
        self.connect(self.simulator.provider_token())
        self.assertEqual(self.send(some(5_000)).accepted, 5_000)
        self.assertEqual(self.reactor.seconds(), 0.0)

    def test_several_connections(self) -> None:
        """So it is over several connections."""
        self.end_after(100, delay=0.05)
        self.connect(max_connections=4)
        self.assertEqual(self.send(some(2_000)).accepted, 2_000)
        self.assertLess(self.reactor.seconds(), 1.0)

    def test_before_the_answers(self) -> None:
        """Where the end is announced before anything is answered, the next protocol follows when the answers came."""
        self.end_after(500, delay=0.05)
        self.assertEqual(self.send(some(2_000)).accepted, 2_000)
        self.assertLess(self.reactor.seconds(), 0.5)

    def test_fewer_than_under_way(self) -> None:
        """However many are in flight when a server takes a few of them, all arrive in the end."""
        for delay in (0.0, 0.05):
            self.end_after(40, delay=delay)
            self.assertEqual(self.send(some(800)).accepted, 800)
            self.assertLessEqual(self.simulator.inbox.connections, 21)

    def test_no_longer(self) -> None:
        """Where a server no longer ends its connections, they are used for as long as they last again."""
        self.end_after(100)
        self.assertEqual(self.send(some(500)).accepted, 500)
        self.simulator.http2_fault = None
        self.assertEqual(self.send(some(2_000, 500)).accepted, 2_000)
        before = self.simulator.inbox.connections
        self.assertEqual(self.send(some(2_000, 2_500)).accepted, 2_000)
        self.assertEqual(self.simulator.inbox.connections, before)

    def test_idle_before(self) -> None:
        """A protocol that becomes idle before its end is closed in an orderly way; the next one knows the number."""
        self.end_after(100)
        self.connect(idle_timeout=5.0)
        for start in range(0, 600, 60):
            self.assertEqual(self.send(some(60, start)).accepted, 60)
            self.simulator.advance(10)
        self.assertEqual(self.simulator.inbox.connections, 10)

    def test_error(self) -> None:
        """An end that is announced with an error is a failure: the next protocol waits."""
        self.end_after(1_000, CALM)
        times = self.attempts()
        self.assertEqual(self.send(some(3_000)).accepted, 3_000)
        self.assertGreater(min(later - sooner for sooner, later in pairwise(times)), 0.79)
        error = self.client.status().last_error
        assert isinstance(error, errors.GatewayShutdown)
        self.assertEqual((error.code, str(error)), (CALM, "the gateway ends this connection: HTTP/2 error 11"))

    @pytest.mark.campaign
    def test_a_few_each(self) -> None:
        """A server that takes a handful on each connection is given about one connection a second."""
        for most in (1, 5, 9):
            self.end_after(most, concurrency=100)
            sending = self.client.send(ALERT, some(20_000))
            self.simulator.advance(60)
            self.assertLess(self.simulator.inbox.connections, 80, most)
            self.assertGreater(self.simulator.inbox.accepted, 50 * most)
            sending.cancel()
            self.failureResultOf(sending)
            self.simulator.advance(60)

    def test_nothing_each(self) -> None:
        """A server that takes nothing, or takes and never answers, sees ten attempts in the first minute at most."""

        class Farewell(ProviderAPIServer):
            def handshakeCompleted(self) -> None:
                super().handshakeCompleted()
                self.requests.goaway(last_stream=0)
                self.write()

        def build() -> Farewell:
            simulator = self.simulator
            return Farewell(self.reactor, simulator.authority, simulator.inbox, simulator.topic)

        def refuse(server: ProviderAPIServer, request: Request, response: Response) -> None:
            server.requests.goaway(last_stream=0)

        def promise(server: ProviderAPIServer, request: Request, response: Response) -> None:
            server.requests.goaway(last_stream=request.stream)

        for fault in (None, refuse, promise):
            self.setUp()
            if fault is None:
                self.replace_server(build)
            self.simulator.http2_fault = fault
            times = self.attempts()
            sending = self.client.send(ALERT, some(20_000))
            self.simulator.advance(60)
            self.assertLessEqual(len(times), 10)
            batch = self.simulator.result(sending, 600)
            self.assertEqual((batch.accepted, batch.total), (0, 20_000))
            self.assertLess(len(times), 20)


class ResetTests(FaultCase):
    """Servers that drop single requests."""

    def test_refused(self) -> None:
        """What the server refuses unprocessed is sent again, and arrives once."""
        refused: set[bytes] = set()

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if number % 3 == 0 and token_of(request) not in refused:
                refused.add(token_of(request))
                server.requests.reset(request.stream, REFUSED)
                return None
            return response

        self.fault(play)
        self.assertEqual(self.send(some(300)).accepted, 300)
        self.assertEqual(self.simulator.inbox.connections, 1)
        self.assertGreater(len(refused), 50)

    def test_refused_for_ever(self) -> None:
        """What the server refuses time and again is unsent, and the others are not held up."""
        tokens = some(50)
        unlucky = bytes.fromhex(tokens[7])

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if token_of(request) == unlucky:
                server.requests.reset(request.stream, REFUSED)
                return None
            return response

        self.fault(play)
        batch = self.send(tokens)
        self.assertEqual((batch.accepted, list(batch.unsent)), (49, [7]))
        self.assertIsInstance(batch.unsent[7].error, errors.StreamRefused)

    def test_another_code(self) -> None:
        """What the server drops otherwise may have been processed, and is not sent again."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if number % 10 == 0:
                if number % 20 == 0:
                    self.take(request)
                server.requests.reset(request.stream, INTERNAL)
                return None
            return response

        self.fault(play)
        batch = self.send(some(100))
        self.assertEqual((batch.accepted, sorted(batch.uncertain)), (90, list(range(0, 100, 10))))
        self.assertIsInstance(batch.uncertain[0].error, errors.StreamReset)

    def test_send_one(self) -> None:
        """A single notification that is dropped is an error."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.reset(request.stream, INTERNAL)

        self.fault(play)
        sending = self.client.send_one(ALERT, some(1)[0])
        error = self.assertRaises(errors.OutcomeUnknown, self.simulator.result, sending)
        self.assertIsInstance(error.__cause__, errors.StreamReset)

    def test_refused_with_pauses(self) -> None:
        """A server that processes nothing is not given the same without a pause, and not forever."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.reset(request.stream, REFUSED)
            return None

        self.fault(play)
        batch = self.send(some(50))
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {errors.StreamRefused})
        self.assertGreater(self.reactor.seconds(), 9)

    def test_status_without_the_rest(self) -> None:
        """An answer that is cut off after its status is an answer."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            status = b"200" if number % 2 else b"410"
            server.requests._h2.send_response(request.stream, [(b":status", status)])
            if number % 2:
                self.take(request)
            if number == 9:
                server.write()
                server.close()
            return None

        self.fault(play)
        batch = self.simulator.result(self.client.send(ALERT, some(10)))
        self.assertEqual((batch.accepted, len(batch.failed), batch.total), (5, 5, 10))
        self.assertEqual({rejection.status for rejection in batch.failed.values()}, {410})


class LossTests(FaultCase):
    """Connections that end without a word, and words that do not come."""

    def test_abrupt_close(self) -> None:
        """What was in flight is uncertain, whether the server took it or not; the rest arrives over the next."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if connection == 0 and number >= 150:
                if number % 2:
                    self.take(request)
                if number == 180:
                    server.abort()
                return None
            return response

        self.fault(play)
        batch = self.send(some(500))
        self.assertEqual(batch.accepted + len(batch.uncertain), 500)
        self.assertGreaterEqual(len(batch.uncertain), 31)
        self.assertLessEqual(len(batch.uncertain), 100)
        self.assertEqual(self.simulator.inbox.connections, 2)

    def test_retry(self) -> None:
        """What is uncertain is sent again only on request."""
        self.fault(lambda server, request, response, connection, number: None if connection else server.abort())
        tokens = some(10)
        batch = self.send(tokens)
        self.assertEqual(len(batch.uncertain), 10)
        self.simulator.http2_fault = None
        self.simulator.advance(2)
        self.assertEqual(self.simulator.result(batch.retry()).total, 0)
        self.assertEqual(self.simulator.result(batch.retry(uncertain=True)).accepted, 10)

    def test_silence(self) -> None:
        """A server that takes everything and answers nothing leaves doubt about what it got, and nothing else."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            self.take(request)

        self.fault(play)
        batch = self.send(some(100))
        self.assertEqual(len(batch.uncertain), 100)
        self.assertIsInstance(batch.uncertain[0].error, errors.AnswerTimeout)
        self.assertLess(self.reactor.seconds(), 40)

    def test_silence_does_not_use_up_the_batch(self) -> None:
        """What such a server was not asked about stays unsent: it is not fed, window after window, to find out."""
        self.fault(lambda server, request, response, connection, number: self.take(request))
        batch = self.send(some(1_000))
        self.assertEqual((len(batch.uncertain), len(batch.unsent)), (100, 900))
        self.assertIsInstance(batch.unsent[100].error, errors.AnswerTimeout)
        self.assertLess(self.reactor.seconds(), 40)

    def test_alive_but_mute(self) -> None:
        """A server that sends all kinds of frames and no answer is as good as silent."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if number == 0:
                self.chatter(server)
            return self.take(request)

        self.fault(play)
        batch = self.send(some(1_000))
        self.assertEqual((len(batch.uncertain), len(batch.unsent)), (100, 900))
        self.simulator.advance(60)

    def chatter(self, server: ProviderAPIServer) -> None:
        """Announce the limit again and again."""
        for second in range(50):
            self.reactor.callLater(second, server.requests.limit, 100)
            self.reactor.callLater(second, server.write)

    def test_silence_after_answers(self) -> None:
        """A connection that goes silent in the middle is left, and the rest arrives over another."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            return response if connection or number < 200 else None

        self.fault(play)
        tokens = some(250)
        batch = self.send(tokens)
        self.assertEqual((batch.accepted, len(batch.uncertain)), (200, 50))
        self.assertEqual(self.send(some(50, 1_000)).accepted, 50)
        self.assertEqual(self.simulator.inbox.connections, 2)

    def test_silent_stream(self) -> None:
        """A single request without an answer neither holds the others up nor costs the connection."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            return None if number == 3 else response

        self.fault(play)
        sending = self.client.send(ALERT, some(10))
        for start in range(100, 150):
            self.assertEqual(self.send(some(1, start)).accepted, 1)
            self.simulator.advance(1)
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, list(batch.uncertain)), (9, [3]))
        self.assertEqual(self.simulator.inbox.connections, 1)

    def test_close_during_silence(self) -> None:
        """Closing the client ends, though an answer never comes."""
        self.fault(lambda server, request, response, connection, number: None if number == 3 else response)
        sending = self.client.send(ALERT, some(10))
        self.simulator.advance(1)
        closing = self.client.close()
        self.assertEqual(self.simulator.result(sending).accepted, 9)
        self.simulator.result(closing, 10)

    def test_garbage(self) -> None:
        """A server that sends garbage is left; only what was in flight is uncertain."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            if connection == 0 and number == 150:
                server.transport.write(b"garbage" * 10)
            return None if connection == 0 and number >= 150 else response

        self.fault(play)
        batch = self.send(some(500))
        self.assertGreaterEqual(batch.accepted, 400)
        self.assertEqual(batch.accepted + len(batch.uncertain), 500)
        self.assertIsInstance(next(iter(batch.uncertain.values())).error, errors.WireError)


class FlowTests(FaultCase):
    """Limits that move, and windows that fill."""

    def bursts(self, limits: Mapping[int, int]) -> list[int]:
        """Announce limits at some requests; returns how many requests came together, each time."""
        self.simulator.delay = 1.0
        together: Counter[float] = Counter()

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            together[self.reactor.seconds()] += 1
            if number in limits:
                server.requests.limit(limits[number])
            return response

        self.fault(play)
        self.assertEqual(self.send(some(1_100)).accepted, 1_100)
        self.assertEqual(self.simulator.inbox.connections, 1)
        return list(together.values())

    def test_limit(self) -> None:
        """The limit goes from 1 to 1,000 and back to 1, and is obeyed each time."""
        self.simulator.concurrency = 1
        self.assertEqual(self.bursts({4: 1_000, 1_004: 1}), [1] * 5 + [1_000] + [1] * 95)

    def test_limit_of_none(self) -> None:
        """A limit of 0 stops everything, until there is another."""
        self.fault(lambda server, request, response, connection, number: response)
        self.simulator.concurrency = 0
        sending = self.client.send(ALERT, some(10))
        self.simulator.advance(10)
        [server] = self.simulator.sessions
        server.requests.limit(3)
        server.write()
        self.assertEqual(self.simulator.result(sending).accepted, 10)

    def test_window(self) -> None:
        """Payloads of 4 KB pass a window of 64 KB, though the server updates the window only with its answers."""
        self.simulator.window_updates = False

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.acknowledge(request.stream, len(request.body))
            return response

        self.fault(play)
        self.simulator.delay = 0.05
        self.assertEqual(self.send(some(400), BIG).accepted, 400)
        self.assertEqual(self.simulator.inbox.connections, 1)

    def test_window_never_opens(self) -> None:
        """What a window that never opens again holds up is incomplete, and so unsent, not uncertain."""
        self.simulator.window_updates = False
        batch = self.send(some(50), BIG, within=400)
        self.assertEqual(batch.accepted + len(batch.unsent), 50)
        self.assertIsInstance(batch.unsent[16].error, errors.AnswerTimeout)

    def test_large_and_small(self) -> None:
        """A small payload behind large ones waits for the window, and no longer."""
        self.simulator.window_updates = False

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.acknowledge(request.stream, len(request.body))
            return response

        self.fault(play)
        large, small = some(40), some(40, 100)
        triples = [(i, BIG, token) for i, token in large.items()] + [(i, ALERT, token) for i, token in small.items()]
        batch = self.simulator.result(self.client.send_many(triples))
        check_batch(self, batch, large | small, self.simulator)
        self.assertEqual(batch.accepted, 80)


class CredentialTests(FaultCase):
    """Credentials that the server does not take."""

    def assert_all_unsent(self, batch: Batch, reason: str) -> None:
        """Everything that was not answered is unsent because of the credential, at once and without another attempt."""
        for outcome in batch.unsent.values():
            self.assertIsInstance(outcome.error, errors.CredentialRefused)
            self.assertEqual(outcome.error.reason, reason)
        self.assertEqual(self.reactor.seconds(), 0)
        self.assertEqual(self.reactor.attempts, 1)
        self.assertIsInstance(self.client.status().last_error, errors.CredentialRefused)

    def test_environment(self) -> None:
        """A certificate for the other environment is reported as such, and everything is unsent."""
        self.simulator.environment = "sandbox"
        pem = self.simulator.authority.client_pem(self.simulator.topic, environments=("production",))
        self.connect(Certificate.from_pem(pem))
        batch = self.send(some(1_000))
        self.assertEqual(len(batch.unsent), 1_000)
        self.assert_all_unsent(batch, "BadCertificateEnvironment")

    def test_environment_told_late(self) -> None:
        """That may happen after requests were sent; what the server did not process is unsent as well."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.goaway(last_stream=0, debug=b'{"reason":"BadCertificateEnvironment"}')

        self.fault(play)
        batch = self.send(some(1_000))
        self.assertEqual(len(batch.unsent), 1_000)
        self.assert_all_unsent(batch, "BadCertificateEnvironment")

    def test_again_later(self) -> None:
        """A later batch tries again, when the back-off is over."""
        self.test_environment()
        self.simulator.environment = "production"
        self.assertEqual(self.send(some(10)).accepted, 10)
        self.assertGreater(self.reactor.seconds(), 0.7)

    def test_invalid_provider_token(self) -> None:
        """One request is refused for the provider token, and the others are not even sent."""
        authority = self.simulator.authority
        self.connect(ProviderToken.from_p8(authority.p8, authority.key_id, "ANOTHERTEAM"))
        batch = self.send(some(1_000))
        self.assertEqual(list(batch.failed), [0])
        self.assertEqual((batch.failed[0].status, batch.failed[0].reason), (403, "InvalidProviderToken"))
        self.assertEqual(len(batch.unsent), 999)
        self.assert_all_unsent(batch, "InvalidProviderToken")

    def expire(self, bearers: set[str]) -> None:
        """Call some provider tokens expired."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            bearer = dict(request.headers)[b"authorization"].decode()
            claims = {each.rpartition(".")[0] for each in bearers}  # the record has no signatures
            return Response(403, "ExpiredProviderToken") if bearer.rpartition(".")[0] in claims else response

        self.fault(play)

    def test_expired(self) -> None:
        """An expired provider token is renewed, and what was refused for it is accepted under the new one."""
        expired: set[str] = set()
        self.expire(expired)
        self.connect(self.simulator.provider_token())
        self.assertEqual(self.send(some(10)).accepted, 10)
        expired.add(self.simulator.inbox.received[0].headers["authorization"])
        self.simulator.advance(21 * 60)
        self.assertEqual(self.send(some(200, 100)).accepted, 200)
        self.assertEqual(len({r.headers["authorization"] for r in self.simulator.inbox.received}), 2)

    def test_wedged(self) -> None:
        """A connection that answers 500 after more than an hour without an acceptance is replaced at once."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            return Response(500, "InternalServerError") if connection == 0 and number > 0 else response

        self.fault(play)
        self.connect(self.simulator.provider_token(), idle_timeout=None, retries=0)
        self.assertEqual(self.send(some(1)).accepted, 1)
        self.assertEqual(len(self.send(some(1, 10)).failed), 1)
        self.simulator.advance(3_700)
        self.assertEqual(self.send(some(100, 100), within=1).accepted, 100)
        self.assertEqual(self.simulator.inbox.connections, 2)

    def test_expired_at_the_first_request(self) -> None:
        """So it is when the connection is new."""
        token = self.simulator.provider_token()
        old = token.current(self.reactor.seconds()).value.decode()
        self.simulator.advance(30 * 60)
        self.expire({old})
        self.connect(token)
        self.assertEqual(self.send(some(200)).accepted, 200)
        self.assertLess(self.reactor.seconds(), 30 * 60 + 2)

    def test_expired_too_young(self) -> None:
        """A provider token too young to be renewed is an error in words, and the rest is unsent."""
        token = self.simulator.provider_token()
        self.expire({token.current(0.0).value.decode()})
        self.connect(token)
        batch = self.send(some(200))
        self.assertEqual((list(batch.failed), len(batch.unsent)), ([0], 199))
        self.assert_all_unsent(batch, "ExpiredProviderToken")
        self.assertIn("clock", str(batch.unsent[1].error))

    def test_old_connection(self) -> None:
        """A connection kept for hours goes on with newer tokens, and the server never complains."""
        self.connect(self.simulator.provider_token(), idle_timeout=None)
        for round_ in range(40):
            self.assertEqual(self.send(some(5, 100 * round_)).accepted, 5)
            self.simulator.advance(7 * 60)
        self.assertEqual(self.simulator.inbox.connections, 1)

    def test_probe(self) -> None:
        """Under a provider token one request goes first, and the others when it was answered."""
        together: Counter[float] = Counter()

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            together[self.reactor.seconds()] += 1
            return response

        self.fault(play)
        self.simulator.delay = 1.0
        self.connect(self.simulator.provider_token())
        self.assertEqual(self.send(some(150)).accepted, 150)
        self.assertEqual(list(together.values()), [1, 100, 49])


class WrongClockTests(FaultCase):
    """Provider tokens that are signed while our clock is wrong, and a server whose clock is right."""

    def setUp(self) -> None:
        """The server takes tokens of the last hour, and none from the future."""
        super().setUp()
        self.reactor.rightNow = 1_800_000_000.0
        self.ages: list[float] = []

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            token = BearerToken.parse(dict(request.headers)[b"authorization"].decode().removeprefix("bearer "))
            assert token is not None
            self.ages.append(self.reactor.seconds() - token.issued_at)
            if self.ages[-1] > 3_600:
                return Response(403, "ExpiredProviderToken")
            return Response(403, "InvalidProviderToken") if self.ages[-1] < -60 else Response(200)

        self.fault(play)
        self.connect(self.simulator.provider_token(), idle_timeout=None)

    def succeeds(self, tokens: dict[int, str]) -> bool:
        """Send; tell whether all were accepted."""
        return self.simulator.result(self.client.send(ALERT, tokens)).accepted == len(tokens)

    def test_set_right(self) -> None:
        """As soon as the clock is set right, all is accepted, however wrong it was."""
        for wrong in (-86_400, -7_200, -4_200, 600, 1_800, 3_600, 86_400):
            self.setUp()
            self.simulator.wall.step(wrong)
            before = self.succeeds(some(20))
            self.simulator.wall.step(-wrong)
            self.assertTrue(self.succeeds(some(20, 100)), wrong)
            self.assertTrue(self.succeeds(some(20, 200)), wrong)
            self.assertTrue(before or self.simulator.inbox.connections > 1, wrong)

    def test_wrong_for_a_while(self) -> None:
        """A connection that took up a token from the future is replaced when the clock is right; nothing is lost."""
        for wrong in (3_600, 10_800, 86_400):
            self.setUp()
            self.assertTrue(self.succeeds(some(5)))
            self.simulator.advance(40 * 60)
            self.simulator.wall.step(wrong)
            self.assertFalse(self.succeeds(some(5, 100)), self.ages)
            self.simulator.advance(60)
            self.simulator.wall.step(-wrong)
            self.assertTrue(self.succeeds(some(50, 200)), self.ages)
            self.assertTrue(self.succeeds(some(50, 300)), self.ages)

    def test_not_again_and_again(self) -> None:
        """While the clock is wrong, one connection after the other is not tried in quick succession."""
        self.simulator.wall.step(7_200)
        times = self.attempts()
        for start in range(0, 1_000, 10):
            self.succeeds(some(5, start))
        self.assertGreater(self.reactor.seconds() - times[0], 0.8 * 60 * (len(times) - 7))


class AnswerTests(FaultCase):
    """What the server says is passed on as it is."""

    def test_too_many_provider_token_updates(self) -> None:
        """The same provider token is used on another connection; what was refused for that arrives there."""
        self.connect(self.simulator.provider_token())

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            refused = connection == 0 and number >= 20
            return Response(429, "TooManyProviderTokenUpdates") if refused else response

        self.fault(play)
        tokens = some(300)
        batch = self.simulator.result(self.client.send(ALERT, tokens))
        self.assertEqual((batch.accepted, batch.total), (300, 300))
        bearers = {reception.headers["authorization"] for reception in self.simulator.inbox.received}
        self.assertEqual((len(bearers), self.simulator.inbox.connections), (1, 2))

    @pytest.mark.campaign
    def test_nothing_but_500(self) -> None:
        """Where the server answers 500 to everything, a batch ends in time: each was asked once and repeated thrice."""
        count = 2_000
        self.fault(lambda server, request, response, connection, number: Response(500, "InternalServerError"))
        batch = self.send(some(count))
        self.assertEqual((len(batch.failed), batch.total), (count, count))
        self.assertEqual({rejection.action for rejection in batch.failed.values()}, {Action.RETRY})
        self.assertEqual(len(self.simulator.inbox.received), 4 * count)
        self.assertEqual(self.simulator.inbox.connections, 1)
        # As many at a time as may be postponed, each of which takes up to seven seconds.
        self.assertLess(self.reactor.seconds(), 7.5 * count / MAX_POSTPONED)

    def test_unknown_reasons(self) -> None:
        """Undocumented reasons and statuses are failures like others."""
        responses = [
            Response(418, "Teapot"),
            Response(400, "Ünknown"),
            Response(599, "Whatever"),
            Response(302, "Elsewhere"),
        ]
        self.fault(lambda server, request, response, connection, number: responses[number])
        self.connect(retries=0)
        batch = self.send(some(4))
        found = [(rejection.status, rejection.reason) for rejection in batch.failed.values()]
        self.assertEqual(found, [(response.status, response.reason) for response in responses])

    def test_body_without_json(self) -> None:
        """An answer that is not JSON is its own reason."""

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            server.requests.respond(request.stream, [(b":status", b"502")], b"<h1>Bad\nGateway</h1>" * (1 - number))

        self.fault(play)
        self.connect(retries=0)
        batch = self.simulator.result(self.client.send(ALERT, some(2)))
        self.assertEqual([batch.failed[i].reason for i in range(2)], ["<h1>Bad Gateway</h1>", ""])

    def test_unknown_push_type(self) -> None:
        """A push type and keys that are unknown to us reach the server, which may refuse or take them."""
        notification = Notification(
            payload={"aps": {"alert": "x", "never-heard-of": [1]}, "more": None}, push_type="telepathy", priority=7
        )
        batch = self.send(some(1), notification)
        self.assertEqual(batch.failed[0].reason, "InvalidPushType")
        self.simulator.result(self.client.close())
        self.connect()
        self.fault(lambda server, request, response, connection, number: Response(200))
        self.assertEqual(self.send(some(1, 10), notification).accepted, 1)
        [_, reception] = self.simulator.inbox.received
        self.assertEqual(reception.headers["apns-push-type"], "telepathy")
        self.assertEqual(reception.headers["apns-priority"], "7")
        self.assertEqual(reception.payload, notification.body)

    def test_too_large(self) -> None:
        """A payload beyond the limit is refused, those beside it are not."""
        sizes = [10, 4_000, 5_000, 100_000, 20]
        triples = [
            (i, Notification(payload={"aps": {"alert": "x" * size}}), f"{i:064x}") for i, size in enumerate(sizes)
        ]
        batch = self.simulator.result(self.client.send_many(triples))
        self.assertEqual(batch.accepted, 3)
        self.assertEqual({i: each.reason for i, each in batch.failed.items()}, dict.fromkeys([2, 3], "PayloadTooLarge"))

    def test_unsendable(self) -> None:
        """Notifications that HTTP/2 cannot carry are unsent, however many there are, and the others arrive."""
        fat = Notification(alert="x", collapse_id="x" * 70_000)
        tokens = some(500)
        triples = [(i, ALERT if i % 10 == 0 else fat, token) for i, token in tokens.items()]
        batch = self.simulator.result(self.client.send_many(triples))
        check_batch(self, batch, tokens, self.simulator)
        self.assertEqual((batch.accepted, len(batch.unsent)), (50, 450))
        self.assertEqual(self.reactor.seconds(), 0)


class Silent(Protocol):
    """Accepts, and says nothing."""


class Babbling(Protocol):
    """Says what is not HTTP/2, as soon as it hears something."""

    def dataReceived(self, data: bytes) -> None:
        """Babble."""
        self.transport.write(b"220 smtp.example.com ESMTP\r\n")


class StartTests(FaultCase):
    """Servers that do not let a protocol begin."""

    def test_other_protocol(self) -> None:
        """A server that does not choose HTTP/2 is reported as such."""
        self.replace_server(Silent, alpn=())
        batch = self.send(some(10))
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(self.client.status().last_error, errors.ConnectFailed)
        self.assertIn("h2", str(batch.unsent[0].error))

    def test_silent(self) -> None:
        """A server that says nothing after the handshake, or not even in it, is left when its time is over."""
        for tls in (True, False):
            self.setUp()
            if tls:
                self.replace_server(Silent)
            else:
                self.reactor.servers[HTTP2] = Factory.forProtocol(Silent)
            self.connect(timeout=10.0)
            batch = self.send(some(10))
            self.assertEqual(len(batch.unsent), 10)
            self.assertLess(self.reactor.seconds(), 11)
            self.assertIsInstance(self.client.status().last_error, errors.AnswerTimeout)
            if tls:
                self.tearDown()

    def test_babbling(self) -> None:
        """A server that speaks something else is left at once, and tried again less and less often."""
        self.replace_server(Babbling)
        times = self.attempts()
        batch = self.send(some(10))
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(self.client.status().last_error, errors.WireError)
        self.assertLess(len(times), 7)

    def test_mad_after_the_settings(self) -> None:
        """A server that begins well and then babbles is not connected to again and again."""

        class Mad(ProviderAPIServer):
            def handshakeCompleted(self) -> None:
                super().handshakeCompleted()
                self.transport.write(b"garbage" * 10)

        def build() -> Mad:
            simulator = self.simulator
            return Mad(self.reactor, simulator.authority, simulator.inbox, simulator.topic)

        self.replace_server(build)
        times = self.attempts()
        batch = self.send(some(10))
        self.assertEqual(batch.accepted, 0)
        self.assertLess(len(times), 7)

    def test_refused_then_up(self) -> None:
        """The delays between attempts double from one second to a minute, and what waits arrives when one succeeds."""
        server = self.reactor.servers.pop(HTTP2)
        times = self.attempts()
        self.connect(timeout=1_000.0)
        sending = self.client.send(ALERT, some(10))
        self.simulator.advance(400)
        delays = [later - earlier for earlier, later in pairwise(times)]
        for delay, expected in zip(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=False):
            self.assertTrue(0.8 * expected <= delay <= expected + 0.5, delays)
        self.assertGreater(len(delays), 8)
        self.assertEqual(self.client.status().connections[0], "waiting")
        self.assertIsInstance(self.client.status().last_error, errors.ConnectFailed)
        self.reactor.servers[HTTP2] = server
        self.assertEqual(self.simulator.result(sending, 61).accepted, 10)

    def test_what_resets_the_delay(self) -> None:
        """A protocol that proved itself resets the delay, though it breaks off; one that did not, does not."""
        dropping = True

        def play(
            server: ProviderAPIServer, request: Request, response: Response, connection: int, number: int
        ) -> Response | None:
            return server.abort() if dropping else response

        self.fault(play)
        times = self.attempts()
        self.connect(timeout=1_000.0)
        for start in range(5):
            self.simulator.result(self.client.send(ALERT, some(1, start)), 100)
        delays = [later - earlier for earlier, later in pairwise(times)]
        for delay, expected in zip(delays, [1, 2, 4, 8], strict=True):
            self.assertTrue(0.8 * expected <= delay <= expected + 0.25, delays)
        dropping = False
        self.assertEqual(self.send(some(1, 100), within=100).accepted, 1)
        dropping = True
        times[:] = [self.reactor.seconds()]
        for start in range(200, 203):
            self.simulator.result(self.client.send(ALERT, some(1, start)), 100)
        delays = [later - earlier for earlier, later in pairwise(times)]
        for delay, expected in zip(delays, [1, 2], strict=True):
            self.assertTrue(0.8 * expected <= delay <= expected + 0.25, delays)

    def test_settings_and_close(self) -> None:
        """A server that begins well and closes each time is not connected to again and again."""

        class Brief(ProviderAPIServer):
            def handshakeCompleted(self) -> None:
                super().handshakeCompleted()
                self.close()

        def build() -> Brief:
            simulator = self.simulator
            return Brief(self.reactor, simulator.authority, simulator.inbox, simulator.topic)

        self.replace_server(build)
        times = self.attempts()
        batch = self.send(some(10))
        self.assertEqual(batch.accepted, 0)
        self.assertLess(len(times), 7)


class ReentrancyTests(FaultCase):
    """Callbacks that use the client."""

    def test_chain(self) -> None:
        """The callback of a batch may send the next, a thousand times over."""
        batches: list[Batch] = []
        done: Deferred[None] = Deferred()

        def again(batch: Batch) -> None:
            batches.append(batch)
            if len(batches) == 1_000:
                done.callback(None)
            else:
                self.client.send(ALERT, some(3, 3 * len(batches))).addCallback(again)

        self.client.send(ALERT, some(3)).addCallback(again)
        self.simulator.result(done)
        self.assertEqual({batch.accepted for batch in batches}, {3})
        self.assertEqual(len(self.simulator.inbox.received), 3_000)

    def test_batches_side_by_side(self) -> None:
        """A batch ends while others are in flight, and its callback sends more."""
        ended: list[str] = []
        sent: list[tuple[Deferred[Batch], dict[int, str]]] = []

        def send(name: str, tokens: dict[int, str], then: Callable[[], None] = lambda: None) -> None:
            def end(batch: Batch) -> Batch:
                ended.append(name)
                then()
                return batch

            sent.append((self.client.send(ALERT, tokens).addCallback(end), tokens))

        send("long", some(500))
        send("short", some(10, 1_000), lambda: send("third", some(10, 2_000)))
        send("empty", {}, lambda: send("fourth", some(10, 3_000)))
        self.simulator.flush()
        self.assertEqual(sorted(ended), ["empty", "fourth", "long", "short", "third"])
        self.assertLess(ended.index("short"), ended.index("long"))
        for deferred, tokens in sent:
            check_batch(self, self.successResultOf(deferred), tokens, self.simulator)

    def test_close_in_a_callback(self) -> None:
        """A callback may close the client: the other batch's notifications each have an outcome."""
        for size in (0, 10, 100):
            self.setUp()
            first = self.client.send(ALERT, some(300))
            second = self.client.send(ALERT, some(size, 1_000))
            third = self.client.send(ALERT, some(300, 2_000))
            single = self.client.send_one(ALERT, f"{9_999:064x}")
            second.addCallback(lambda batch: (batch, self.client.close()))
            batch, closing = self.simulator.result(second)
            self.assertEqual(batch.accepted, size)
            self.simulator.result(closing)
            for deferred, tokens in ((first, some(300)), (third, some(300, 2_000))):
                check_batch(self, self.simulator.result(deferred), tokens, self.simulator)
            single.addErrback(lambda reason: reason.trap(errors.ClientClosed))
            self.simulator.result(single)

    def test_cancel_in_a_callback(self) -> None:
        """A callback may cancel another batch."""
        first = self.client.send(ALERT, some(300))
        second = self.client.send(ALERT, some(10, 1_000))
        second.addCallback(lambda batch: first.cancel())
        self.simulator.result(second)
        self.assertEqual(self.send(some(10, 2_000)).accepted, 10)
        self.failureResultOf(first)
        self.assertLess(len(self.simulator.inbox.received), 300)


class PatienceTests(FaultCase):
    """How long what waits waits."""

    def test_withdrawn(self) -> None:
        """The deadline of a cancelled notification does not pass to the next one."""
        server = self.reactor.servers.pop(HTTP2)
        cancelled = self.client.send_one(ALERT, some(1)[0])
        self.simulator.advance(5)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.simulator.advance(20)
        sending = self.client.send(ALERT, some(10))
        self.simulator.advance(8)
        self.assertNoResult(sending)
        self.reactor.servers[HTTP2] = server
        self.assertEqual(self.simulator.result(sending).accepted, 10)

    def test_deadline(self) -> None:
        """After a batch's own deadline nothing of it is asked any more, however much there is."""
        self.simulator.delay = 1.0
        tokens = some(5_000)
        batch = self.simulator.result(self.client.send(ALERT, tokens, deadline=5.5))
        check_batch(self, batch, tokens, self.simulator)
        self.assertEqual((batch.accepted, len(batch.unsent)), (600, 4_400))
        self.assertIsInstance(batch.unsent[4_999].error, errors.DeadlinePassed)
