"""Tests for :mod:`txapns.feedback`: the feedback service, read by a client over true TLS, in memory."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.processes import started
from txapns import APNSClient, Certificate, Gateway, Session, feedback
from txapns.errors import (
    AnswerTimeout,
    APNSError,
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    CredentialRefused,
    InvalidGateway,
    PeerNotVerified,
)
from txapns.feedback import DeadToken, FeedbackProtocol
from txapns.simulator import Simulator
from txapns.simulator.authority import Authority
from txapns.simulator.feedback import Fault, FeedbackServer
from txapns.simulator.service import SimulatorService
from txapns.testing import MemorySimulator
from txapns.wire.feedback import encode

AUTHORITY = Authority()
STRANGER = Authority()
FEEDBACK = 2196
TIMESTAMP = 1_700_000_000
SINCE = datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
DAY = 86_400.0


def some(count: int, start: int = 0) -> list[DeadToken]:
    """As many dead tokens, all different, the first since ``SINCE``, and each a second after the one before."""
    return [(f"{number:064x}", SINCE + timedelta(seconds=number)) for number in range(start, start + count)]


def encoded(dead: list[DeadToken]) -> bytes:
    """The bytes of a list."""
    return b"".join(encode(int(since.timestamp()), bytes.fromhex(token)) for token, since in dead)


def cut(data: bytes, *places: int) -> list[bytes]:
    """Cut at these places."""
    return [data[start:end] for start, end in pairwise([0, *places, len(data)])]


def after(count: int, deed: Callable[[FeedbackServer, bytes], object]) -> Fault:
    """Do something else than write the next tuple, or close, after this many on a connection."""
    written: dict[FeedbackServer, int] = {}

    def fault(server: FeedbackServer, data: bytes) -> None:
        written[server] = written.get(server, -1) + 1
        if written[server] == count:
            deed(server, data)

    return fault


def trickle(server: FeedbackServer) -> None:
    """Send one byte of a tuple at long intervals, forever."""
    server.stall()

    def write() -> None:
        if server.transport.connected:
            server.transport.write(b"\xff")
            server._clock.callLater(10.0, write)

    write()


class FeedbackCase(SynchronousTestCase):
    """A client of the simulator's feedback service."""

    def setUp(self) -> None:
        """There are a simulator and a client that has not connected yet."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.client: APNSClient = self.simulator.client("binary")

    def kill(self, dead: list[DeadToken]) -> list[DeadToken]:
        """These devices no longer have the app."""
        self.simulator.inbox.dead.update({bytes.fromhex(token): since.timestamp() for token, since in dead})
        return dead

    def read(self) -> list[DeadToken]:
        """Read the list."""
        return self.simulator.result(self.client.feedback())

    def fails(self, client: APNSClient | None = None) -> APNSError:
        """The list cannot be read."""
        return self.assertRaises(APNSError, self.simulator.result, (client or self.client).feedback())

    def assert_idle(self) -> None:
        """Nothing is left."""
        self.simulator.flush()
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])
        self.assertEqual(self.open_connections(), 0)

    def open_connections(self) -> int:
        """Count the connections that the servers have."""
        sessions = self.simulator.sessions
        return sum(bool(getattr(session.transport, "connected", False)) for session in sessions)


class ListTests(FeedbackCase):
    """The list in one piece."""

    def test_pairs(self) -> None:
        """A pair is the token in lower-case hexadecimal, and a time that knows it is UTC."""
        self.simulator.inbox.dead[bytes.fromhex("AB" * 32)] = TIMESTAMP + 0.9
        self.assertEqual(self.read(), [("ab" * 32, SINCE)])

    def test_last_second(self) -> None:
        """The time is unsigned."""
        self.simulator.inbox.dead[b"\x01"] = 2.0**32 - 1
        self.assertEqual(self.read(), [("01", datetime(2106, 2, 7, 6, 28, 15, tzinfo=timezone.utc))])

    def test_nothing(self) -> None:
        """An empty list is a list."""
        self.assertEqual(self.read(), [])
        self.assert_idle()

    def test_many(self) -> None:
        """A long list comes whole and in order."""
        dead = self.kill(some(5_000))
        self.assertEqual(self.read(), dead)

    def test_once(self) -> None:
        """What was listed is not listed again; what is new is."""
        self.kill(some(3))
        self.read()
        fresh = self.kill(some(2, start=3))
        self.assertEqual(self.read(), fresh)
        self.assertEqual(self.read(), [])

    def test_one_connection(self) -> None:
        """A call makes one connection, and however it ends, no other is tried."""
        self.kill(some(3))
        for end in (None, FeedbackServer.drop, FeedbackServer.abort):
            before = self.simulator.reactor.attempts
            self.simulator.feedback_fault = end and (lambda server, _, end=end: end(server))
            self.read()
            self.simulator.advance(DAY)
            self.assertEqual(self.simulator.reactor.attempts, before + 1)
        self.assert_idle()

    def test_split_anywhere(self) -> None:
        """Two tuples that come in two pieces are two tuples, wherever they are cut."""
        dead = some(2)
        data = encoded(dead)
        for place in range(1, len(data)):
            self.simulator.feedback_fault = lambda server, _, place=place: server.finish(*cut(data, place))
            self.assertEqual(self.read(), dead)

    def test_octet_by_octet(self) -> None:
        """The same when each byte comes by itself."""
        dead = some(2)
        data = encoded(dead)
        self.simulator.feedback_fault = lambda server, _: server.finish(*cut(data, *range(1, len(data))))
        self.assertEqual(self.read(), dead)

    def test_turns(self) -> None:
        """A second call waits for the end of the first, so there are never two connections."""
        dead = self.kill(some(4))
        servers: list[FeedbackServer] = []

        def stop_half_way(server: FeedbackServer, data: bytes) -> None:
            servers.append(server)
            if len(servers) == 2:
                server.pauseProducing()

        self.simulator.feedback_fault = stop_half_way
        first, second = self.client.feedback(), self.client.feedback()
        self.simulator.flush()
        self.assertEqual(self.simulator.reactor.attempts, 1)
        servers[0].resumeProducing()
        self.assertEqual(self.simulator.result(first), dead)
        self.assertEqual(self.simulator.result(second), [])
        self.assertEqual(self.simulator.reactor.attempts, 2)


class BrokenTests(FeedbackCase):
    """Lists that come in part."""

    def read_and_log(self) -> tuple[list[DeadToken], list[LogEvent]]:
        """Read the list, and see what is logged about it."""
        with capturedLogs() as events:
            found = self.read()
        return found, [event for event in events if event["log_namespace"] == "txapns.feedback"]

    def breaks(self, count: int, deed: Callable[[FeedbackServer, bytes], object], words: str) -> None:
        """Only some of three tokens come, which is logged with the reason; the others come next time."""
        self.setUp()
        dead = self.kill(some(3))
        self.simulator.feedback_fault = after(count, deed)
        found, [event] = self.read_and_log()
        self.assertEqual(found, dead[:count])
        self.assertEqual((event["log_level"].name, event["count"]), ("warn", count))
        self.assertIn(words, event["reason"])
        self.assert_idle()
        self.simulator.feedback_fault = None
        self.assertEqual(self.read_and_log(), (dead[count:], []))

    def test_truncated(self) -> None:
        """A tuple cut short is no tuple, and those before it count."""
        for place in (1, 6, 37):
            self.breaks(2, lambda server, data, place=place: server.finish(data[:place]), "within a tuple")

    def test_no_goodbye(self) -> None:
        """After some tokens, an end without TLS's goodbye may not be the end of the list."""
        self.breaks(1, lambda server, _: server.drop(), "broke off")
        self.breaks(3, lambda server, _: server.drop(), "broke off")

    def test_cut_connection(self) -> None:
        """A connection that is cut is no end of the list."""

        def cut_later(server: FeedbackServer, data: bytes) -> None:
            server.stall()
            self.simulator.reactor.callLater(0.1, server.abort)

        self.breaks(2, cut_later, "broke off")

    def test_silence(self) -> None:
        """A server that says nothing more is left."""
        self.breaks(2, lambda server, _: server.stall(), "silent for 30 s")

    def test_no_goodbye_after_nothing(self) -> None:
        """Before any byte, an end without a closing alert is an empty list, as many old servers send it."""
        self.simulator.feedback_fault = after(0, lambda server, _: server.drop())
        self.assertEqual(self.read_and_log(), ([], []))

    def test_slow(self) -> None:
        """A server that is never silent for long may take up to ten times the timeout."""
        dead = self.kill(some(5))

        def dawdle(server: FeedbackServer, data: bytes) -> None:
            server.pauseProducing()
            self.simulator.reactor.callLater(29, server.resumeProducing)

        self.simulator.feedback_fault = dawdle
        self.assertEqual(self.simulator.result(self.client.feedback(), within=200), dead)

    def test_trickle(self) -> None:
        """One of which there is always more to come is left then, and what is whole counts."""
        dead = self.kill(some(3))
        self.simulator.feedback_fault = after(2, lambda server, _: trickle(server))
        with capturedLogs() as events:
            self.assertEqual(self.simulator.result(self.client.feedback(), 400), dead[:2])
        [words] = [event["reason"] for event in events if event["log_namespace"] == "txapns.feedback"]
        self.assertEqual(words, "the list did not end within 300 s")

    def test_trickle_before_the_first(self) -> None:
        """Where not one token was whole by then, that is an error; a loop is not bounded."""
        self.simulator.feedback_fault = lambda server, _: trickle(server)
        began = self.simulator.reactor.seconds()
        error = self.assertRaises(AnswerTimeout, self.simulator.result, self.client.feedback(), 400)
        self.assertIn("within 300 s", str(error))
        self.assertLess(self.simulator.reactor.seconds() - began, 302)
        reading = Deferred.fromCoroutine(anext(self.client.iterate_feedback()))
        self.simulator.advance(1_000)
        self.assertNoResult(reading)
        reading.cancel()
        self.failureResultOf(reading)
        self.simulator.advance(1_000)

    def test_too_many(self) -> None:
        """Of a list over the limit, that many are returned; what was read beyond comes from the next call."""
        self.patch(feedback, "MOST", 100)
        dead = self.kill(some(250))
        found, [event] = self.read_and_log()
        self.assertEqual(found, dead[:100])
        self.assertIn("iterate_feedback()", event["reason"])
        self.assert_idle()
        found += self.read_and_log()[0]
        found += self.read_and_log()[0]
        self.assertEqual(found, dead)
        self.assert_idle()

    def test_just_enough(self) -> None:
        """A list that is as long as the bound is whole."""
        self.patch(feedback, "MOST", 100)
        dead = self.kill(some(100))
        self.assertEqual(self.read(), dead)


class FailedTests(FeedbackCase):
    """Lists of which nothing comes, so that nothing can be lost."""

    def test_unreachable(self) -> None:
        """Nothing listens."""
        del self.simulator.reactor.servers[FEEDBACK]
        error = self.fails()
        self.assertIsInstance(error, ConnectFailed)
        self.assertEqual(str(error), "nothing listens at 127.0.0.1:2196; check host and port")

    def test_credential_refused(self) -> None:
        """A refused certificate is not an empty list, though with TLS 1.3 the alert comes after the handshake."""
        stranger = Certificate.from_pem(STRANGER.client_pem(self.simulator.topic))
        for tls12 in (False, True):
            self.simulator.reactor.servers[FEEDBACK] = self.simulator.tls_factory("feedback", tls12=tls12)
            self.assertIsInstance(self.fails(self.simulator.client("binary", stranger)), CredentialRefused)

    def test_stranger(self) -> None:
        """A server that we do not trust is not read."""
        dead = self.kill(some(1))
        gateway = Gateway.parse(self.simulator.gateway("binary"), trust_root=STRANGER.ca_pem)
        self.assertIsInstance(self.fails(self.simulator.client(gateway)), PeerNotVerified)
        self.assertEqual(self.read(), dead)

    def test_silence(self) -> None:
        """A server that says nothing at all is left after ``timeout``, be it before or after the handshake."""
        self.client = self.simulator.client("binary", timeout=7.0)
        self.simulator.feedback_fault = lambda server, _: server.stall()
        for _ in range(2):
            failing = self.client.feedback()
            self.simulator.advance(6.9)
            self.assertNoResult(failing)
            self.simulator.advance(0.2)
            self.failureResultOf(failing, AnswerTimeout)
            self.simulator.reactor.servers[FEEDBACK] = Factory.forProtocol(Protocol)
        self.assert_idle()

    def test_no_tls(self) -> None:
        """Whatever listens there, it does not speak TLS, and hangs up."""

        class Greeter(Protocol):
            def connectionMade(self) -> None:
                """Send garbage."""
                self.transport.write(b"220 mail.example.com\r\n")
                self.transport.loseConnection()

        self.simulator.reactor.servers[FEEDBACK] = Factory.forProtocol(Greeter)
        self.assertIsInstance(self.fails(), ConnectFailed)

    def test_hangs_up(self) -> None:
        """An end before the handshake is over is no empty list."""

        class Shy(Protocol):
            def connectionMade(self) -> None:
                """Leave."""
                self.transport.loseConnection()

        self.simulator.reactor.servers[FEEDBACK] = Factory.forProtocol(Shy)
        self.assertIsInstance(self.fails(), ConnectFailed)

    def test_truncated(self) -> None:
        """A part of a single tuple is nothing to return."""
        self.simulator.feedback_fault = lambda server, _: server.finish(encoded(some(1))[:-1])
        error = self.fails()
        self.assertIsInstance(error, ConnectionLost)
        self.assertEqual(str(error), "the list broke off within a tuple, after 37 bytes of it")

    def test_http2(self) -> None:
        """An HTTP/2 gateway has no feedback service, and the error says what to use instead."""
        client = self.simulator.client("http2")
        iterating = Deferred.fromCoroutine(anext(client.iterate_feedback()))
        for failing in (client.feedback(), iterating):
            error = self.failureResultOf(failing, InvalidGateway).value
            self.assertIn("batch.dead_tokens", str(error))
        self.assertEqual(self.simulator.reactor.attempts, 0)


class CancelTests(FeedbackCase):
    """A list that is not wanted any more."""

    def test_kept(self) -> None:
        """What was read when the call was cancelled comes first from the next, and the connection is closed."""
        dead = self.kill(some(4))
        self.simulator.feedback_fault = after(2, lambda server, _: server.stall())
        reading = self.client.feedback()
        self.simulator.flush()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assert_idle()
        self.simulator.feedback_fault = None
        self.assertEqual(self.read(), dead)
        self.assertEqual(self.read(), [])

    def test_kept_from_the_iterator(self) -> None:
        """It comes first from either form of the call."""
        dead = self.kill(some(4))
        self.simulator.feedback_fault = after(2, lambda server, _: server.stall())
        reading = self.client.feedback()
        self.simulator.flush()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.simulator.feedback_fault = None
        self.assertEqual(self.simulator.result(collect(self.client)), dead)

    def test_kept_whatever_comes(self) -> None:
        """What was kept is handed over even if the next call reads nothing, which is logged."""
        dead = self.kill(some(2))
        self.simulator.feedback_fault = after(2, lambda server, _: server.stall())
        reading = self.client.feedback()
        self.simulator.flush()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        del self.simulator.reactor.servers[FEEDBACK]
        with capturedLogs() as events:
            self.assertEqual(self.read(), dead)
        self.assertIn("nothing listens", next(event["reason"] for event in events if "count" in event))
        self.assertIsInstance(self.fails(), ConnectFailed)

    def test_next_waits_for_the_end(self) -> None:
        """The next call connects only when the connection is gone."""
        self.kill(some(4))
        self.simulator.feedback_fault = after(2, lambda server, _: server.stall())
        reading = self.client.feedback()
        self.simulator.flush()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        following = self.client.feedback()
        self.assertEqual(self.simulator.reactor.attempts, 1)
        self.simulator.feedback_fault = None
        self.assertEqual(len(self.simulator.result(following)), 4)

    def test_before_the_connection(self) -> None:
        """An attempt to connect is dropped."""
        dead = self.kill(some(1))
        reading = self.client.feedback()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assert_idle()
        self.assertEqual(self.read(), dead)

    def test_while_it_waits(self) -> None:
        """A call that waits for its turn gives up only its own turn."""
        dead = self.kill(some(1))
        first, second, third = (self.client.feedback() for _ in range(3))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.simulator.result(first), dead)
        self.assertEqual(self.simulator.result(third), [])
        self.assert_idle()

    def test_forgotten(self) -> None:
        """A program that forgets a reading, with all that it hangs on, hears nothing of it."""
        simulator = MemorySimulator(authority=AUTHORITY)
        simulator.client("binary").feedback()
        del simulator
        gc.collect()
        gc.collect()  # a Deferred with an unhandled failure logs it when it is collected
        self.assertEqual(self.flushLoggedErrors(), [])


def collect(client: APNSClient, found: list[DeadToken] | None = None, delay: float = 0.0) -> Deferred[list[DeadToken]]:
    """Iterate, with a pause for each token if so wanted."""

    async def iterate() -> list[DeadToken]:
        collected = [] if found is None else found
        async for pair in client.iterate_feedback():
            collected.append(pair)
            if delay:
                await deferLater(client._reactor, delay)
        return collected

    return Deferred.fromCoroutine(iterate())


def take(client: APNSClient, count: int) -> Deferred[list[DeadToken]]:
    """Iterate over this many, and leave."""

    async def iterate() -> list[DeadToken]:
        async with aclosing(client.iterate_feedback()) as dead:
            return [await anext(dead) for _ in range(count)]

    return Deferred.fromCoroutine(iterate())


class IterateTests(FeedbackCase):
    """The list token by token."""

    def test_pairs(self) -> None:
        """The pairs are those of the list."""
        dead = self.kill(some(5_000))
        self.assertEqual(self.simulator.result(collect(self.client)), dead)
        self.assert_idle()

    def test_nothing(self) -> None:
        """An empty list has no pairs."""
        self.assertEqual(self.simulator.result(collect(self.client)), [])

    def test_slow_consumer(self) -> None:
        """A consumer may take its time, far more than the server has."""
        dead = self.kill(some(5))
        reading = collect(self.client, delay=100.0)
        self.assertEqual(self.simulator.result(reading, within=1_000), dead)

    def test_begins_with_the_first(self) -> None:
        """There is no connection before somebody asks for the first pair."""
        iterator = self.client.iterate_feedback()
        self.simulator.flush()
        self.assertEqual(self.simulator.reactor.attempts, 0)
        self.kill(some(1))
        self.assertEqual(self.simulator.result(Deferred.fromCoroutine(anext(iterator))), some(1)[0])

    def test_leaves(self) -> None:
        """Leaving closes the connection; what was read and not handed over comes next, and nothing comes twice."""
        dead = self.kill(some(10))
        self.simulator.feedback_fault = after(6, lambda server, _: server.stall())
        self.assertEqual(self.simulator.result(take(self.client, 2)), dead[:2])
        self.assert_idle()
        self.simulator.feedback_fault = None
        self.assertEqual(self.simulator.result(take(self.client, 5)), dead[2:7])
        self.assertEqual(self.read(), dead[7:])

    def test_leaves_in_the_middle(self) -> None:
        """What the transport had read by then counts as read, though it was not yet out of TLS."""
        dead = self.kill(some(5_000))
        self.assertEqual(self.simulator.result(take(self.client, 2)), dead[:2])
        self.assertEqual(self.read(), dead[2:])

    def test_break(self) -> None:
        """So it is without more ado when the loop is left and nothing else holds the iterator."""
        dead = self.kill(some(10))
        self.simulator.feedback_fault = after(6, lambda server, _: server.stall())

        async def first() -> DeadToken | None:
            async for pair in self.client.iterate_feedback():
                return pair
            return None

        self.assertEqual(self.simulator.result(Deferred.fromCoroutine(first())), dead[0])
        self.assert_idle()
        self.simulator.feedback_fault = None
        self.assertEqual(self.read(), dead[1:])

    def test_consumer_fails(self) -> None:
        """A consumer that fails with one pair has had that one."""
        dead = self.kill(some(3))

        async def fail_with_the_first() -> None:
            async for _ in self.client.iterate_feedback():
                raise KeyError

        self.assertRaises(KeyError, self.simulator.result, Deferred.fromCoroutine(fail_with_the_first()))
        self.assertEqual(self.read(), dead[1:])

    def test_cancelled(self) -> None:
        """A consumer that is cancelled while it waits, for its own business or for more, leaves as well."""
        for delay in (0.0, 10.0):
            self.setUp()
            dead = self.kill(some(4))
            self.simulator.feedback_fault = after(3, lambda server, _: server.stall())
            found: list[DeadToken] = []
            reading = collect(self.client, found, delay)
            self.simulator.advance(1.0)
            reading.cancel()
            self.failureResultOf(reading, CancelledError)
            self.assert_idle()
            self.simulator.feedback_fault = None
            self.assertEqual(found + self.read(), dead)

    def test_broken(self) -> None:
        """All that was read is yielded, and then the reason why there is no more is raised."""
        dead = self.kill(some(3))
        self.simulator.feedback_fault = after(2, lambda server, data: server.finish(data[:10]))
        found: list[DeadToken] = []
        reading = collect(self.client, found)
        error = self.assertRaises(ConnectionLost, self.simulator.result, reading)
        self.assertIn("after 10 bytes", str(error))
        self.assertEqual(found, dead[:2])
        self.simulator.feedback_fault = None
        self.assertEqual(self.read(), dead[2:])

    def test_failed(self) -> None:
        """Where there is nothing, the error is all there is."""
        self.simulator.feedback_fault = lambda server, _: server.stall()
        self.assertRaises(AnswerTimeout, self.simulator.result, collect(self.client))
        self.assert_idle()

    def test_turns(self) -> None:
        """Other calls wait until the iterator is left, however long that takes."""
        dead = self.kill(some(3))
        iterator = self.client.iterate_feedback()
        self.assertEqual(self.simulator.result(Deferred.fromCoroutine(anext(iterator))), dead[0])
        reading = self.client.feedback()
        self.simulator.advance(1_000)
        self.assertNoResult(reading)
        self.assertEqual(self.simulator.reactor.attempts, 1)
        self.simulator.result(Deferred.fromCoroutine(iterator.aclose()))
        self.assertEqual(self.simulator.result(reading), dead[1:])


class CloseTests(FeedbackCase):
    """A client that is closed."""

    def stall(self, count: int) -> list[DeadToken]:
        """The server lists only the first few, and then is silent."""
        self.simulator.feedback_fault = after(count, lambda server, _: server.stall())
        return self.kill(some(count + 2))[:count]

    def test_ends_the_reading(self) -> None:
        """Closing ends the current reading, which returns what came before."""
        dead = self.stall(2)
        reading = self.client.feedback()
        self.simulator.flush()
        with capturedLogs() as events:
            self.successResultOf(self.flushed(self.client.close()))
        self.assertEqual(self.successResultOf(reading), dead)
        self.assertEqual([event["count"] for event in events if "count" in event], [2])
        self.assert_idle()

    def flushed(self, deferred: Deferred[None]) -> Deferred[None]:
        """Let happen what takes no time."""
        self.simulator.flush()
        return deferred

    def test_nothing_read(self) -> None:
        """If nothing came before, there is nothing to return, connected or not."""
        for flush in (True, False):
            self.setUp()
            self.stall(0)
            reading = self.client.feedback()
            if flush:
                self.simulator.flush()
            self.successResultOf(self.flushed(self.client.close()))
            self.failureResultOf(reading, ClientClosed)
            self.assert_idle()

    def test_waiting(self) -> None:
        """A call that waits for its turn ends as well, even if the current reading stays."""
        dead = self.stall(2)
        iterator = self.client.iterate_feedback()
        self.assertEqual(self.simulator.result(Deferred.fromCoroutine(anext(iterator))), dead[0])
        waiting = self.client.feedback()
        self.successResultOf(self.flushed(self.client.close()))
        self.failureResultOf(waiting, ClientClosed)
        self.assertEqual(self.simulator.result(Deferred.fromCoroutine(anext(iterator))), dead[1])

    def test_iterating(self) -> None:
        """An iterator yields what was read, and then tells."""
        dead = self.stall(5)
        found: list[DeadToken] = []
        reading = collect(self.client, found, 10.0)
        self.simulator.advance(1.0)
        self.successResultOf(self.flushed(self.client.close()))
        self.assertEqual(found, dead[:1])
        self.assertRaises(ClientClosed, self.simulator.result, reading)
        self.assertEqual(found, dead)

    def test_kept(self) -> None:
        """What a cancelled call read can be had of a closed client, too, once; then it is closed."""
        dead = self.stall(2)
        reading = self.client.feedback()
        self.simulator.flush()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.simulator.result(self.client.close())
        self.assertEqual(self.read(), dead)
        self.assertIsInstance(self.fails(), ClientClosed)
        self.assertRaises(ClientClosed, self.simulator.result, collect(self.client))
        self.assertEqual(self.simulator.reactor.attempts, 1)

    def test_twice(self) -> None:
        """Closing again, before and after the end, is of no harm."""
        self.stall(1)
        self.client.feedback()
        self.simulator.flush()
        closing = [self.client.close(), self.client.close()]
        self.simulator.flush()
        for closed in [*closing, self.client.close()]:
            self.successResultOf(closed)


class SessionTests(FeedbackCase):
    """The client of a session."""

    def test_reading_is_use(self) -> None:
        """A client that reads is not idle, however long it takes."""
        session = Session(self.simulator.reactor, idle_timeout=5.0)
        client = session.client(self.simulator.certificate(), self.simulator.gateway("binary"))
        dead = self.kill(some(2))
        self.simulator.feedback_fault = after(2, lambda server, _: server.stall())
        reading = client.feedback()
        self.simulator.advance(20)
        self.assertNoResult(reading)
        self.assertEqual(self.simulator.result(reading), dead)
        self.assertIs(session.client(client.credential, client.gateway), client)
        self.simulator.advance(11)
        self.assertIsNot(session.client(client.credential, client.gateway), client)


class FeedbackProtocolTests(SynchronousTestCase):
    """One connection, without TLS."""

    def setUp(self) -> None:
        """The handshake is over."""
        self.clock = Clock()
        self.found: list[DeadToken] = []
        self.errors: list[APNSError | None] = []
        self.protocol = FeedbackProtocol(self.clock, self.found.extend, self.errors.append)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.protocol.handshakeCompleted()

    def test_interface(self) -> None:
        """It has to know when the handshake is over."""
        verifyObject(IHandshakeListener, self.protocol)

    @given(st.integers(0, 20), st.lists(st.integers(0, 20 * 38)))
    def test_any_split(self, count: int, places: list[int]) -> None:
        """However the stream is cut, the pairs are the same, and the connection's end is the list's."""
        self.setUp()
        dead = some(count)
        data = encoded(dead)
        for piece in cut(data, *sorted(place for place in places if place < len(data))):
            self.protocol.dataReceived(piece)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.found, self.errors), (dead, [None]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_writes_nothing(self) -> None:
        """The provider has nothing to say."""
        self.protocol.dataReceived(encoded(some(3)))
        self.assertEqual(self.transport.value(), b"")

    def test_pause(self) -> None:
        """While it does not read, it does not wait for the server either, even if there is more to hand on."""
        self.protocol.pause()
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.dataReceived(encoded(some(1)))
        self.clock.advance(1_000)
        self.protocol.resume()
        self.assertEqual(self.transport.producerState, "producing")
        self.clock.pump([29.9, 0.0])
        self.assertFalse(self.transport.disconnected)
        self.clock.pump([0.2, 0.0])
        self.assertTrue(self.transport.disconnected)

    def test_busy_process(self) -> None:
        """What came while this process was busy for long is read before the server counts as silent."""
        self.clock.rightNow += 31  # nothing was read, and no call made
        self.clock.callLater(0, self.protocol.dataReceived, encoded(some(1)))
        self.clock.advance(0)
        self.assertFalse(self.transport.disconnected)

    def test_silence(self) -> None:
        """A silent server is left, for that reason."""
        self.clock.pump([30.0, 0.0])
        self.assertTrue(self.transport.disconnected)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIsInstance(self.errors[0], AnswerTimeout)


class CampaignTests(FeedbackCase):
    """Chance as an adversary."""

    def random_faults(self, random: Random) -> Fault:
        """Do what is right, mostly. Whatever else is done, a tuple is written whole or listed again."""
        rate = random.choice((0.0, 0.01, 0.1))
        deeds: list[Callable[[FeedbackServer, bytes], object]] = [
            lambda server, data: server.finish(data[: random.randrange(len(data) or 1)]),
            lambda server, data: server.drop(data[: random.randrange(len(data) or 1)]),
            lambda server, _: self.simulator.reactor.callLater(random.random(), server.abort),
            lambda server, _: server.stall(),
        ]

        def fault(server: FeedbackServer, data: bytes) -> None:
            if random.random() < rate:
                server.stall()
                random.choice(deeds)(server, data)
            elif random.random() < 0.05:
                server.pauseProducing()
                self.simulator.reactor.callLater(random.random() * 5, server.resumeProducing)

        return fault

    def campaign(self, seed: int) -> None:
        """Read a list in many ways from a mischievous server until nothing is left of it."""
        random = Random(seed)
        self.setUp()
        dead = self.kill(some(random.choice((0, 10, 300))))
        self.simulator.feedback_fault = self.random_faults(random)
        found: list[DeadToken] = []

        async def consume() -> None:
            async with aclosing(self.client.iterate_feedback()) as iterator:
                async for pair in iterator:
                    found.append(pair)
                    if random.random() < 0.05:
                        await deferLater(self.simulator.reactor, random.random() * 50)
                    if random.random() < 0.02:
                        break

        for _ in range(8):
            reading: list[Deferred[object]] = []
            for _ in range(random.choice((1, 1, 3))):
                if random.random() < 0.5:
                    reading.append(self.client.feedback().addCallback(found.extend))
                else:
                    reading.append(Deferred.fromCoroutine(consume()))
            self.simulator.advance(random.choice((0.0, 1.0, 100.0)))
            if random.random() < 0.5:
                reading[0].cancel()
            for deferred in reading:
                deferred.addErrback(lambda reason: reason.trap(APNSError, CancelledError))
                self.simulator.result(deferred, within=3_000)
        self.simulator.feedback_fault = None
        found += self.read()
        self.simulator.advance(10)
        self.assert_idle()
        self.assertEqual(sorted(found), dead, f"seed {seed}")

    def test_few(self) -> None:
        """Whatever server and consumer do, each token that arrived is handed over once."""
        for seed in range(100, 120):
            self.campaign(seed)

    @pytest.mark.campaign
    def test_hundred_seeds(self) -> None:
        """The same, for longer."""
        for seed in range(100):
            self.campaign(seed)


@pytest.mark.loopback
class LoopbackTests(TestCase):
    """Real sockets."""

    timeout = 300

    def start(self, dead: list[DeadToken]) -> tuple[Simulator, APNSClient]:
        """Start the simulator, and make a client of it, both to be stopped with the test."""
        simulator = Simulator(reactor, authority=AUTHORITY)
        simulator.inbox.dead.update({bytes.fromhex(token): since.timestamp() for token, since in dead})
        service = SimulatorService(reactor, simulator, self.mktemp())
        service.startService()
        self.addCleanup(service.stopService)
        ports = service.description()
        gateway = Gateway.binary(
            "localhost", ports["binary"], trust_root=AUTHORITY.ca_pem, feedback_port=ports["feedback"]
        )
        client = APNSClient(reactor, Certificate.from_pem(AUTHORITY.client_pem()), gateway)
        self.addCleanup(client.close)
        return simulator, client

    async def test_list(self) -> None:
        """A list comes whole, and once."""
        dead = some(2_000)
        _, client = self.start(dead)
        self.assertEqual(await client.feedback(), dead)
        self.assertEqual(await client.feedback(), [])

    async def test_reset(self) -> None:
        """What came before the connection was reset counts."""
        dead = some(3)
        simulator, client = self.start(dead)

        def reset(server: FeedbackServer, data: bytes) -> None:
            server.stall()
            reactor.callLater(0.1, server.abort)

        simulator.feedback_fault = after(2, reset)
        with capturedLogs() as events:
            self.assertEqual(await client.feedback(), dead[:2])
        self.assertIn("broke off", next(event["reason"] for event in events if event.get("count") == 2))

    async def test_no_goodbye(self) -> None:
        """A bare end of the TCP connection is the end of an empty list."""
        simulator, client = self.start([])
        simulator.feedback_fault = lambda server, _: server.drop()
        self.assertEqual(await client.feedback(), [])

    async def test_what_was_not_written_is_not_forgotten(self) -> None:
        """The simulator writes as fast as the client reads; what it had no time to write is listed the next time."""
        dead = some(300_000)
        simulator, client = self.start(dead)
        async with aclosing(client.iterate_feedback()) as iterator:
            self.assertEqual(await anext(iterator), dead[0])
            await deferLater(reactor, 0.5)
            listed = len(simulator.inbox.listed)
        self.assertLess(listed, len(dead))
        rest = [int(token, 16) for token, _ in await client.feedback()]
        self.assertEqual((rest[0], rest[-1]), (1, len(dead) - 1))
        [gap] = [following for number, following in pairwise(rest) if following != number + 1]  # what was on its way
        self.assertGreaterEqual(gap, listed)


#: How many tokens there are, and how much memory they may take on their way, in bytes; one takes 250.
MANY, MEMORY = 100_000, 2 * 2**20

PROGRAM = """
import json, sys, tracemalloc
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from txapns import APNSClient, Certificate, Gateway

async def main(reactor, state):
    about = json.loads((state / "simulator.json").read_text())
    gateway = Gateway.binary(
        "localhost", about["binary"], trust_root=(state / "ca.pem").read_bytes(), feedback_port=about["feedback"]
    )
    client = APNSClient(reactor, Certificate.from_file(state / "client.pem"), gateway)
    count = 0
    async for token, since in client.iterate_feedback():
        assert token == f"{count:064x}", (token, count)
        count += 1
        if count == 1:
            tracemalloc.start()
        if count in (1, 50_000):
            await deferLater(reactor, 0.5)  # meanwhile a server without back-pressure sends all it has
    await client.close()
    print(json.dumps([count, tracemalloc.get_traced_memory()[1]]))

react(lambda reactor: Deferred.fromCoroutine(main(reactor, Path(sys.argv[1]))))
"""


@pytest.mark.campaign
@pytest.mark.loopback
class ScaleTests(SynchronousTestCase):
    """The simulator and the reader are processes of their own."""

    def test_long_list(self) -> None:
        """A hundred thousand tokens pass through the memory that a few take."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        dead = directory / "dead.txt"
        dead.write_text("".join(f"{number:064x}\n" for number in range(MANY)))
        ports = [argument for name in ("http2", "binary", "feedback") for argument in (f"--{name}", "0")]
        command = [sys.executable, "-m", "txapns", "simulate", *ports]
        state = directory / "simulator"
        simulator = started(
            self, [*command, "--state", str(state), "--dead", str(dead)], stdout=subprocess.PIPE, text=True
        )
        assert simulator.stdout is not None
        self.assertTrue(json.loads(simulator.stdout.readline())["ready"])
        program = [sys.executable, "-c", PROGRAM, str(state)]
        done = subprocess.run(program, stdout=subprocess.PIPE, timeout=300, check=True)
        count, peak = json.loads(done.stdout)
        self.assertEqual(count, MANY)
        self.assertLess(peak, MEMORY)
