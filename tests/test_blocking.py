"""Tests for :mod:`txapns.blocking`: with a simulator in another process."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from twisted.internet.defer import succeed

from tests.blocking_case import DEAD, HELLO, BlockingCase, descriptors, threads, tokens
from txapns import Accepted, Gateway, Notification, Rejection
from txapns.blocking import APNSClient, SendInterrupted, Session
from txapns.errors import (
    ClientClosed,
    ConnectFailed,
    CredentialError,
    DeadlinePassed,
    InvalidGateway,
    InvalidToken,
    RequestRejected,
    TokensFailed,
)

__all__ = [
    "EndTests",
    "InterruptTests",
    "OtherRequestsTests",
    "SendTests",
    "SessionTests",
    "ThreadTests",
    "TokensTests",
]

pytestmark = pytest.mark.loopback


class SendTests(BlockingCase):
    """What calls return."""

    def test_send(self) -> None:
        """A batch is returned, with its outcomes."""
        batch = self.client().send(HELLO, {"ann": "aa" * 32, "dora": DEAD, "emil": "not a token"})
        self.assertEqual((batch.accepted, list(batch.failed), list(batch.unsent)), (1, ["dora"], ["emil"]))
        self.assertEqual([token for token, _ in batch.dead_tokens], [DEAD])
        self.assertEqual(batch.retry().total, 1)
        self.assertEqual(self.received(), 2)

    def test_send_many(self) -> None:
        """Each device gets its own notification."""
        batch = self.client().send_many([(name, HELLO, DEAD) for name in ("ann", "bob")])
        self.assertEqual(list(batch.failed), ["ann", "bob"])

    def test_send_one(self) -> None:
        """One outcome is returned, and errors are raised."""
        client = self.client()
        self.assertIsInstance(client.send_one(HELLO, "aa" * 32), Accepted)
        rejection = client.send_one(HELLO, bytes.fromhex(DEAD))
        assert isinstance(rejection, Rejection)
        self.assertTrue(rejection.dead)
        self.assertRaises(InvalidToken, client.send_one, HELLO, "xyz")
        self.assertRaises(TypeError, client.send_one, "Hello", "aa" * 32)

    def test_errors_at_once(self) -> None:
        """What is wrong with the arguments is raised where they are given."""
        self.assertRaises(ValueError, self.client, timeout=-1)
        self.assertRaises(CredentialError, APNSClient, self.provider_token, Gateway.binary("localhost"))
        self.assertRaises(TypeError, self.client().send, HELLO, DEAD)
        self.assertRaises(ValueError, self.client().send, HELLO, [DEAD], deadline=-1)

    def test_errors_of_their_own(self) -> None:
        """Threads that wait for the same connection get exceptions of their own."""
        self.silence()
        client = self.client(timeout=0.2)

        def error(_: object) -> Exception:
            try:
                client.send_one(HELLO, "aa" * 32)
            except ConnectFailed as error:
                return error
            raise AssertionError

        with ThreadPoolExecutor(4) as pool:
            errors = list(pool.map(error, range(4)))
        self.assertEqual(len(set(map(id, errors))), 4)
        self.assertTrue(all(error.__traceback__ for error in errors))

    def test_deadline(self) -> None:
        """What is not sent by the deadline is unsent, and the calling thread stops waiting for room."""
        self.silence()
        batch = self.client().send(HELLO, tokens(10_000), deadline=0.2)
        self.assertEqual((batch.total, len(batch.unsent)), (10_000, 10_000))
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {DeadlinePassed})

    def test_status(self) -> None:
        """The status is that of this process's client."""
        client = self.client()
        client.send_one(HELLO, "aa" * 32)
        self.assertEqual(client.status().connections, ("ready",))
        client.close()
        self.assertEqual(client.status().connections, ("stopped",))


class OtherRequestsTests(BlockingCase):
    """Broadcasts, channels, and the feedback service."""

    def test_channels(self) -> None:
        """Channels are made, listed, used and deleted."""
        ports = self.simulator.ready
        gateway = Gateway.http2(
            "localhost", ports["http2"], trust_root=self.gateway.trust_root, management_port=ports["channels"]
        )
        with APNSClient(self.certificate, gateway) as client:
            channel = client.channels.create()
            self.assertEqual(client.channels.list(), [channel.channel_id])
            self.assertEqual(client.channels.read(channel.channel_id), channel)
            update = Notification.live_activity_update("com.example.app", {"score": 1})
            self.assertIsInstance(client.broadcast(update, channel.channel_id), Accepted)
            client.channels.delete(channel.channel_id)
            self.assertRaises(RequestRejected, client.channels.read, channel.channel_id)

    def test_feedback(self) -> None:
        """The list of dead tokens comes whole, or one by one; after an early end the rest comes next."""
        ports = self.simulator.ready
        gateway = Gateway.binary(
            "localhost", ports["binary"], trust_root=self.gateway.trust_root, feedback_port=ports["feedback"]
        )
        with APNSClient(self.certificate, gateway) as client:
            client.send(HELLO, [DEAD])
            self.assertEqual([token for token, _ in client.iterate_feedback()], [DEAD])
            self.assertEqual(client.feedback(), [])
        client = APNSClient(self.certificate, self.gateway)
        self.assertRaises(InvalidGateway, list, client.iterate_feedback())
        client.close()


class TokensTests(BlockingCase):
    """The iterable of tokens."""

    def test_in_the_calling_thread(self) -> None:
        """Tokens are pulled in the thread that calls: a cursor of sqlite3 refuses any other."""
        database = sqlite3.connect(":memory:")
        self.addCleanup(database.close)
        database.execute("CREATE TABLE device (id INTEGER PRIMARY KEY, token TEXT)")
        database.executemany("INSERT INTO device (token) VALUES (?)", ((token,) for token in tokens(5_000)))
        batch = self.client().send(HELLO, database.execute("SELECT id, token FROM device"))
        self.assertEqual((batch.accepted, self.received()), (5_000, 5_000))

    def test_none(self) -> None:
        """A batch of nothing needs no connection."""
        client = self.client()
        self.assertEqual((client.send(HELLO, ()).total, client.status().connections), (0, ("idle",)))

    def test_one_at_a_time(self) -> None:
        """A token is sent while the iterable takes its time for the next."""
        client = self.client()
        accepted = threading.Event()

        class Metrics:
            def sent(self, count: int) -> None: ...
            def accepted(self, latency: float) -> None:
                accepted.set()

            def rejected(self, status: int, reason: str, latency: float) -> None: ...
            def retried(self, reason: str) -> None: ...
            def unanswered(self, uncertain: bool) -> None: ...

        def slow() -> Iterator[str]:
            for token in tokens(5):
                yield token
                assert accepted.wait(120)
                accepted.clear()

        client = self.client(metrics=Metrics())
        self.assertEqual(client.send(HELLO, slow()).accepted, 5)

    def test_raises(self) -> None:
        """An exception of the iterable is the cause of ours, which has the batch of what came before."""

        def rows(count: int) -> Iterator[str]:
            yield from tokens(count)
            raise LookupError("gone")

        for count in (0, 1, 5_000):
            with self.assertRaises(TokensFailed) as raised:
                self.client().send(HELLO, rows(count))
            self.assertEqual(raised.exception.batch.accepted, count)
            self.assertIsInstance(raised.exception.__cause__, LookupError)
            self.assertEqual(raised.exception.batch.retry().total, 0)

    def test_asynchronous(self) -> None:
        """An async iterable belongs elsewhere, and the error says where."""

        async def rows() -> AsyncIterator[str]:
            yield DEAD

        self.assertRaisesRegex(TypeError, "txapns.aio", self.client().send, HELLO, cast(Any, rows()))

    def test_sends_itself(self) -> None:
        """An iterable may use the client while it is asked."""
        client = self.client()

        def rows() -> Iterator[str]:
            for token in tokens(10):
                client.send_one(HELLO, DEAD)
                yield token

        self.assertEqual((client.send(HELLO, rows()).accepted, self.received()), (10, 20))


class ThreadTests(BlockingCase):
    """Threads, and the one of the reactor."""

    def test_eight_threads(self) -> None:
        """Any number of threads share the client and its connection."""
        client = self.client()
        with ThreadPoolExecutor(8) as pool:
            batches = list(pool.map(lambda _: client.send(HELLO, [*tokens(500), DEAD]), range(8)))
            ones = list(pool.map(lambda token: client.send_one(HELLO, token), tokens(80)))
        self.assertEqual([(batch.accepted, list(batch.failed)) for batch in batches], [(500, [500])] * 8)
        self.assertEqual((len(ones), self.received()), (80, 8 * 501 + 80))

    def test_nothing_left(self) -> None:
        """A closed client leaves no thread and no descriptor."""
        with self.client() as client:  # the first one makes what Twisted makes once
            client.send_one(HELLO, DEAD)
        before = descriptors()
        for _ in range(10):
            with self.client() as client:
                client.send_one(HELLO, DEAD)
                self.assertIn("txapns", threads())
        self.assertEqual((threads(), descriptors()), ([], before))

    def test_forgotten(self) -> None:
        """A client that nobody can use any more is closed."""
        client = APNSClient(self.certificate, self.gateway)
        client.send_one(HELLO, DEAD)
        del client
        gc.collect()
        end = time.monotonic() + 120
        while threads() and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(threads(), [])

    def test_made_and_closed_at_once(self) -> None:
        """Threads that make and close clients at the same time do not disturb one another."""

        def use(_: object) -> int:
            with APNSClient(self.certificate, self.gateway) as client:
                return client.send(HELLO, ["aa" * 32, DEAD]).total

        with ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(use, range(60))), [2] * 60)
        self.assertEqual((threads(), self.received()), ([], 120))


class EndTests(BlockingCase):
    """Closing."""

    def test_closed(self) -> None:
        """A closed client raises at once, and can be closed again."""
        client = self.client()
        client.send_one(HELLO, DEAD)
        client.close()
        client.close()
        self.assertRaises(ClientClosed, client.send_one, HELLO, DEAD)
        self.assertRaises(ClientClosed, client.send, HELLO, tokens(10))

    def test_never_used(self) -> None:
        """A client that was never used has nothing to close."""
        self.client().close()
        self.assertEqual(threads(), [])

    def test_closed_meanwhile(self) -> None:
        """When another thread closes the client, the batch ends with the rest unsent."""
        client = self.client()
        inner = client._place.run(succeed)

        def rows() -> Iterator[str]:
            for number, token in enumerate(tokens(10_000)):
                if number == 5_000:
                    closing.start()
                    while inner._closed is None:
                        time.sleep(0.001)
                yield token

        closing = threading.Thread(target=client.close)
        batch = client.send(HELLO, rows())
        closing.join()
        self.assertEqual(batch.accepted + len(batch.unsent), 10_000)
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {ClientClosed})
        self.assertEqual(self.received(), batch.accepted)


class InterruptTests(BlockingCase):
    """Ctrl-C."""

    def setUp(self) -> None:
        """See that Ctrl-C is what it usually is."""
        super().setUp()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def interrupted(self, at: int) -> tuple[APNSClient, SendInterrupted]:
        """Interrupt a batch when so many tokens were pulled."""
        client = self.client()

        def rows() -> Iterator[str]:
            for number, token in enumerate(tokens(1_000_000)):
                if number == at:
                    os.kill(os.getpid(), signal.SIGINT)
                yield token

        with self.assertRaises(SendInterrupted) as raised:
            client.send(HELLO, rows())
        return client, raised.exception

    def test_while_pulling(self) -> None:
        """It ends the call, which tells what is known of each token that was pulled; the client goes on."""
        client, error = self.interrupted(20_000)
        batch = error.batch
        assert batch is not None
        self.assertEqual((batch.total, len(batch.failed)), (20_000, 0))
        self.assertGreater(batch.accepted, 10_000)
        self.assertEqual(client.send(HELLO, tokens(10)).accepted, 10)
        client.close()
        self.assertEqual(self.received() - 10, batch.accepted + len(batch.uncertain))
        self.assertEqual(str(error), "the batch was interrupted")

    def test_while_waiting(self) -> None:
        """It ends a call that waits for answers."""
        self.silence()

        def rows() -> Iterator[str]:
            yield from tokens(10)
            timer.start()

        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        with self.assertRaises(SendInterrupted) as raised:
            self.client().send(HELLO, rows())
        timer.join()
        assert raised.exception.batch is not None
        self.assertEqual(len(raised.exception.batch.unsent), 10)

    def test_send_one(self) -> None:
        """It ends a call for one notification."""
        self.silence()
        client = self.client()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        with self.assertRaises(KeyboardInterrupt):
            timer.start()
            client.send_one(HELLO, "aa" * 32)
        timer.join()

    def test_other_exceptions(self) -> None:
        """Another exception of a signal handler is raised as it is, and has the batch."""

        class TimeLimit(BaseException):
            """A task took too long."""

        def limit(*_: object) -> None:
            raise TimeLimit

        def rows() -> Iterator[str]:
            yield from tokens(10)
            signal.setitimer(signal.ITIMER_REAL, 0.1)

        self.silence()
        before = signal.signal(signal.SIGALRM, limit)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with self.assertRaises(TimeLimit) as raised:
            self.client().send(HELLO, rows())
        self.assertEqual(len(cast(Any, raised.exception).batch.unsent), 10)


class SessionTests(BlockingCase):
    """Sessions."""

    def test_shared(self) -> None:
        """Equal credentials share a connection, however often the client is asked for."""
        with Session() as session:
            for _ in range(3):
                self.assertEqual(session.client(self.certificate, self.gateway).send(HELLO, tokens(5)).accepted, 5)
            batch = session.client(self.provider_token, self.gateway, topic="com.example.app").send(HELLO, [DEAD])
            self.assertEqual(len(batch.failed), 1)
        self.assertRaises(ClientClosed, session.client, self.certificate, self.gateway)
        self.assertEqual(threads(), [])
        self.assertEqual((self.received(), self.connections()), (16, 2))

    def test_idle(self) -> None:
        """A client whose connections were closed for idleness gets others."""
        with Session(idle_timeout=0.05) as session:
            client = session.client(self.certificate, self.gateway)
            client.send_one(HELLO, DEAD)
            patience = time.monotonic() + 120
            while "ready" in client.status().connections:
                self.assertLess(time.monotonic(), patience)
                time.sleep(0.01)
            self.assertIsInstance(client.send_one(HELLO, "aa" * 32), Accepted)
        self.assertEqual(self.connections(), 2)

    def test_pickled(self) -> None:
        """Sessions and clients are pickled as what they were made with."""
        with Session(timeout=60.0) as session, pickle.loads(pickle.dumps(session)) as other:
            client = session.client(self.certificate, self.gateway)
            for each in (client, pickle.loads(pickle.dumps(client)), other.client(self.certificate, self.gateway)):
                self.assertEqual((each.gateway, each.credential), (self.gateway, self.certificate))
                self.assertEqual(each.send(HELLO, tokens(2)).accepted, 2)
        with pickle.loads(pickle.dumps(self.client(timeout=60.0))) as alone:
            self.assertEqual(alone.send(HELLO, tokens(2)).accepted, 2)

    def test_closed(self) -> None:
        """A client that was closed is made anew when the session is asked again."""
        with Session() as session:
            client = session.client(self.certificate, self.gateway)
            client.send_one(HELLO, DEAD)
            client.close()
            self.assertIsInstance(session.client(self.certificate, self.gateway).send_one(HELLO, "aa" * 32), Accepted)
