"""Tests for txapns.client and txapns._session.batch: what a program sees, over the whole stack, in memory."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from txapns import Accepted, APNSClient, Batch, Certificate, Gateway, Notification, ProviderToken, Rejection, Session
from txapns._session.batch import Sending
from txapns._session.pool import Pool
from txapns._session.tokens import triples_of
from txapns.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    CredentialError,
    DeadlinePassed,
    InvalidGateway,
    InvalidNotification,
    InvalidToken,
    OutcomeUnknown,
    PeerNotVerified,
    TokensFailed,
)
from txapns.options import Options
from txapns.simulator import Authority
from txapns.testing import MemorySimulator

AUTHORITY = Authority()
DEAD = "dd" * 32
HELLO = Notification(alert="Hello")


def tokens(count: int) -> list[str]:
    """As many device tokens, all different."""
    return [f"{number:064x}" for number in range(count)]


class ClientCase(SynchronousTestCase):
    """A simulator and a client of it."""

    def setUp(self) -> None:
        """Make them."""
        self.simulator = MemorySimulator(dead=[DEAD], authority=AUTHORITY)
        self.client = self.simulator.client()

    def received(self) -> list[str]:
        """The tokens that the server accepted, in order."""
        return [reception.token.hex() for reception in self.simulator.devices.received if reception.reason is None]


class SendTests(ClientCase):
    """One notification, many devices."""

    def test_positions(self) -> None:
        """Without identifiers the position in the batch is the identifier; bytes and text are both tokens."""
        batch = self.simulator.result(self.client.send(HELLO, ["aa" * 32, DEAD, b"\xbb" * 32, bytes.fromhex(DEAD)]))
        self.assertEqual((batch.accepted, sorted(batch.failed), batch.total), (2, [1, 3], 4))
        self.assertEqual(self.received(), ["aa" * 32, "bb" * 32])

    def test_pairs(self) -> None:
        """The caller's identifiers come back, whatever they are."""
        batch = self.simulator.result(self.client.send(HELLO, [(("row", 7), DEAD), ("x", "aa" * 32)]))
        self.assertEqual(list(batch.failed), [("row", 7)])
        self.assertEqual(batch.failed["row", 7].token, DEAD)

    def test_mapping(self) -> None:
        """A mapping's keys are the identifiers."""
        batch = self.simulator.result(self.client.send(HELLO, {"anna": "aa" * 32, "ben": DEAD}))
        self.assertEqual((batch.accepted, list(batch.failed)), (1, ["ben"]))

    def test_nothing(self) -> None:
        """A batch of nothing is an empty batch, and needs no connection."""
        batch = self.successResultOf(self.client.send(HELLO, []))
        self.assertEqual((batch.total, self.simulator.reactor.attempts), (0, 0))

    def test_upper_case(self) -> None:
        """Tokens go out in lower case and come back as they were given."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD.upper()]))
        self.assertEqual(batch.failed[0].token, DEAD.upper())
        self.assertEqual(self.simulator.devices.received[0].headers[":path"], "/3/device/" + DEAD)

    def test_dead_tokens(self) -> None:
        """The tokens to delete come with the time since when they are dead; other rejections are not among them."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD, "aa" * 3]))
        self.assertEqual(batch.dead_tokens, [(DEAD, datetime(1970, 1, 1, tzinfo=timezone.utc))])
        self.assertEqual({rejection.reason for rejection in batch.failed.values()}, {"Unregistered", "BadDeviceToken"})

    def test_shared_identifiers(self) -> None:
        """Two notifications under one identifier are two: nothing of either is lost."""
        other = "ee" * 32
        self.simulator.devices.dead[bytes.fromhex(other)] = 0.0
        rows = [("anna", DEAD), ("anna", other), ("anna", "zz"), ("ben", "aa" * 32)]
        batch = self.simulator.result(self.client.send(HELLO, rows))
        self.assertEqual((batch.accepted, batch.total, len(batch.outcomes)), (1, 4, 3))
        self.assertEqual([token for token, _ in batch.dead_tokens], [DEAD, other])
        self.assertEqual((batch.failed["anna"].token, batch.unsent["anna"].token), (other, "zz"))

    def test_malformed_tokens(self) -> None:
        """What no request can carry is unsent with the reason, and harms no other."""
        bad: list[Any] = ["zz" * 32, "abc", "", None, 7, ("only one",), "ä" * 64]
        batch = self.simulator.result(self.client.send(HELLO, [*bad, "aa" * 32]))
        self.assertEqual((batch.accepted, sorted(batch.unsent)), (1, list(range(len(bad)))))  # type: ignore[type-var]
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {InvalidToken})
        self.assertIn("odd number", str(batch.unsent[1].error))
        self.assertNotIn("zz", "".join(str(unsent.error) for unsent in batch.unsent.values()))

    def test_many_malformed_tokens(self) -> None:
        """However many are malformed, no more are pulled at a time than there is room for, and the good ones arrive."""
        sending = Sending(
            self.simulator.reactor,
            Pool(self.simulator.reactor, self.simulator.gateway(), self.simulator.certificate(), Options()),
            triples_of(HELLO, ["zz"] * 5_000),
            lambda again: self.client.send_many([]),
        )
        self.assertEqual([sending.take(1_000, 2**16) for _ in range(5)], [[]] * 5)
        self.assertFalse(sending.exhausted)
        batch = self.simulator.result(self.client.send(HELLO, ["zz"] * 5_000 + ["aa" * 32]))
        self.assertEqual((batch.accepted, len(batch.unsent)), (1, 5_000))

    def test_unhashable_identifier(self) -> None:
        """An identifier that cannot be a key in the outcome is the caller's mistake, and harms no other batch."""
        other = self.client.send(HELLO, tokens(10))
        rows: Any = [("good", "aa" * 32), (["bad"], DEAD)]
        error = self.assertRaises(TokensFailed, self.simulator.result, self.client.send(HELLO, rows))
        self.assertIn("unhashable", str(error.__cause__))
        self.assertEqual((error.batch.accepted, self.simulator.result(other).accepted), (1, 10))

    def test_pulled_as_there_is_room(self) -> None:
        """Of a long iterable no more is pulled than the connection has room for."""
        self.simulator.delay = 1.0
        pulled: list[int] = []

        def rows() -> Iterator[tuple[int, str]]:
            for number, token in enumerate(tokens(5_000)):
                pulled.append(number)
                yield number, token

        sending = self.client.send(HELLO, rows())
        self.simulator.flush()
        self.assertEqual(len(pulled), 1_000)
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(pulled)), (5_000, 5_000))

    def test_two_batches_take_turns(self) -> None:
        """A long batch does not keep a short one waiting."""
        self.simulator.delay = 1.0
        long = self.client.send(HELLO, tokens(20_000))
        short = self.client.send(HELLO, tokens(100))
        self.simulator.advance(4)
        self.assertEqual(self.successResultOf(short).accepted, 100)
        self.assertNoResult(long)
        self.assertEqual(self.simulator.result(long).accepted, 20_000)

    def test_single_token_mistaken_for_many(self) -> None:
        """A text would be taken for an iterable of characters."""
        failure = self.failureResultOf(self.client.send(HELLO, DEAD), TypeError)
        self.assertIn("send_one", str(failure.value))

    def test_iterable_that_raises(self) -> None:
        """The caller's exception is reported, with the outcomes of the tokens before it."""

        def rows() -> Iterator[str]:
            yield from tokens(3)
            raise LookupError("the database went away")

        sending = self.client.send(HELLO, rows())
        error = self.assertRaises(TokensFailed, self.simulator.result, sending)
        self.assertIsInstance(error.__cause__, LookupError)
        self.assertEqual(error.batch.accepted, 3)

    def test_iterable_that_closes_the_client(self) -> None:
        """Whatever an iterable does while it is asked, each of its tokens has an outcome."""

        def rows() -> Iterator[str]:
            for number, token in enumerate(tokens(3_000)):
                if number == 1_500:
                    self.client.close()
                yield token

        batch = self.simulator.result(self.client.send(HELLO, rows()))
        self.assertEqual((batch.accepted + len(batch.unsent), batch.total), (3_000, 3_000))
        self.assertEqual(batch.accepted, len(self.received()))
        self.assertGreaterEqual(len(batch.unsent), 1_500)

    def test_iterable_that_closes_the_client_at_once(self) -> None:
        """Even its first token has the right outcome, at once."""

        def rows() -> Iterator[str]:
            self.client.close()
            yield "aa" * 32

        batch = self.simulator.result(self.client.send(HELLO, rows()), within=1)
        self.assertIsInstance(batch.unsent[0].error, ClientClosed)

    def test_iterable_that_cancels(self) -> None:
        """Nothing that comes after the cancellation is sent, even if the same hand yields it."""
        sending: list[Deferred[Batch]] = []

        def rows() -> Iterator[str]:
            for number, token in enumerate(tokens(8)):
                if number == 5:
                    sending[0].cancel()
                yield token

        sending.append(self.client.send(HELLO, rows()))
        self.simulator.advance(5)
        self.failureResultOf(sending[0], CancelledError)
        self.assertEqual(len(self.received()), 5)

    def test_database_rows(self) -> None:
        """Rows of two columns are pairs, whatever kind of sequence they are."""
        database = sqlite3.connect(":memory:")
        self.addCleanup(database.close)
        database.row_factory = sqlite3.Row
        rows = database.execute("SELECT 'anna', ? UNION SELECT 'ben', ? ORDER BY 1", ("aa" * 32, DEAD))
        batch = self.simulator.result(self.client.send(HELLO, rows))
        self.assertEqual((batch.accepted, list(batch.failed)), (1, ["ben"]))
        self.assertEqual(self.simulator.result(self.client.send(HELLO, [["x", DEAD]])).failed["x"].token, DEAD)

    def test_topic(self) -> None:
        """The client's topic is for those notifications that name none."""
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        voip = Notification(payload={"x": 1}, topic="com.example.app.voip", push_type="voip")
        self.simulator.result(self.client.send_one(voip, "aa" * 32))
        topics = [reception.headers["apns-topic"] for reception in self.simulator.devices.received]
        self.assertEqual(topics, ["com.example.app", "com.example.app.voip"])

    def test_certificate_for_several_topics(self) -> None:
        """With such a certificate the topic must be named; the first is the default."""
        pem = AUTHORITY.client_pem(topics=["com.example.app", "com.example.app.voip"])
        client = self.simulator.client(credential=Certificate.from_pem(pem), topic=None)
        self.assertIsInstance(self.simulator.result(client.send_one(HELLO, "aa" * 32)), Accepted)
        self.assertEqual(self.simulator.devices.received[0].headers["apns-topic"], "com.example.app")

    def test_provider_token(self) -> None:
        """A provider token authenticates as well as a certificate."""
        client = self.simulator.client(credential=self.simulator.provider_token())
        batch = self.simulator.result(client.send(HELLO, tokens(2_500)))
        self.assertEqual(batch.accepted, 2_500)


class AsyncTests(ClientCase):
    """Tokens from an async iterable."""

    def test_async_iterable(self) -> None:
        """It is read as fast as APNs takes them, and no more than a little ahead."""
        self.simulator.delay = 1.0
        pulled: list[int] = []

        async def rows() -> AsyncIterator[str]:
            for number, token in enumerate(tokens(5_000)):
                pulled.append(number)
                yield token

        sending = self.client.send(HELLO, rows())
        self.simulator.flush()
        self.assertLessEqual(len(pulled), 2_001)
        self.assertEqual(self.simulator.result(sending).accepted, 5_000)

    def test_waiting_source(self) -> None:
        """A source that waits holds up nothing: what it yielded is sent, other batches go on, and it may take long."""
        more: Deferred[None] = Deferred()

        async def rows() -> AsyncIterator[tuple[str, str]]:
            yield "first", "aa" * 32
            await more
            yield "second", DEAD

        sending = self.client.send(HELLO, rows())
        self.simulator.advance(300)
        self.assertEqual(self.received(), ["aa" * 32])
        self.assertEqual(self.simulator.result(self.client.send(HELLO, tokens(5))).accepted, 5)
        more.callback(None)
        self.assertEqual(list(self.simulator.result(sending).failed), ["second"])

    def test_async_iterable_that_raises(self) -> None:
        """Its exception is reported."""

        async def rows() -> AsyncIterator[str]:
            yield "aa" * 32
            raise LookupError

        error = self.assertRaises(TokensFailed, self.simulator.result, self.client.send(HELLO, rows()))
        self.assertIsInstance(error.__cause__, LookupError)
        self.assertEqual(error.batch.accepted, 1)

    def test_async_triples(self) -> None:
        """send_many takes async iterables, too."""

        async def rows() -> AsyncIterator[tuple[int, Notification, str]]:
            for number, token in enumerate(tokens(10)):
                yield number, Notification(badge=number), token

        self.assertEqual(self.simulator.result(self.client.send_many(rows())).accepted, 10)

    def test_closed_generator(self) -> None:
        """Wherever a generator stands when its batch is cancelled, it gives back what it holds, even with a wait."""
        for ready in (1, 5_000):  # it waits for itself, or for room
            closed: list[str] = []
            never: Deferred[None] = Deferred()

            async def rows(count: int, never: Deferred[None], closed: list[str]) -> AsyncIterator[str]:
                try:
                    for token in tokens(count):
                        yield token
                    await never
                finally:
                    closed.append("begun")
                    await deferLater(self.simulator.reactor, 1)
                    closed.append("done")

            sending = self.client.send(HELLO, rows(ready, never, closed))
            self.simulator.delay = 5.0
            self.simulator.flush()
            sending.cancel()
            self.failureResultOf(sending, CancelledError)
            self.simulator.advance(10)
            self.assertEqual(closed, ["begun", "done"])

    def test_deadline_with_a_waiting_source(self) -> None:
        """After its deadline a batch waits no longer for its source than for anything else."""

        async def rows() -> AsyncIterator[str]:
            yield "aa" * 32
            await Deferred()
            yield "bb" * 32

        for end in (lambda: None, self.client.close):
            sending = self.client.send(HELLO, rows(), deadline=5)
            self.simulator.advance(1)
            end()
            error = self.assertRaises(TokensFailed, self.simulator.result, sending)
            self.assertEqual((error.batch.accepted, error.batch.total), (1, 1))
            self.assertIn("did not end within 30 s", str(error.__cause__))
        self.simulator.advance(10)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_source_that_cancels(self) -> None:
        """A source that cancels its own batch is asked for nothing more, and closed."""
        events: list[object] = []
        sending: list[Deferred[Batch]] = []

        async def rows() -> AsyncIterator[str]:
            try:
                for number, token in enumerate(tokens(5_000)):
                    if number == 10:
                        sending[0].cancel()
                    events.append(number)
                    await deferLater(self.simulator.reactor, 0)
                    yield token
            finally:
                events.append("closed")

        sending.append(self.client.send(HELLO, rows()))
        self.simulator.advance(5)
        self.failureResultOf(sending[0], CancelledError)
        self.assertEqual(events[-1], "closed")
        self.assertLess(len(events), 15)

    def test_close_waits_for_the_source(self) -> None:
        """Closing is over when every batch has ended, the one whose source stalls included."""

        async def rows() -> AsyncIterator[str]:
            yield "aa" * 32
            await Deferred()

        sending = self.client.send(HELLO, rows())
        self.simulator.advance(1)
        self.simulator.result(self.client.close())
        self.failureResultOf(sending, TokensFailed)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_barrier_beside_a_waiting_source(self) -> None:
        """A batch that waits for its source does not keep another from being confirmed by the barrier."""
        never: Deferred[None] = Deferred()

        async def rows() -> AsyncIterator[str]:
            yield "aa" * 32
            await never

        client = self.simulator.client(self.simulator.gateway("binary", barrier=True))
        waiting = client.send(HELLO, rows())
        self.assertEqual(self.simulator.result(client.send(HELLO, tokens(5)), within=5).accepted, 5)
        self.assertNoResult(waiting)

    def test_cancelled(self) -> None:
        """Cancelling ends the coroutine that reads."""
        closed: list[bool] = []
        never: Deferred[None] = Deferred()

        async def rows() -> AsyncIterator[str]:
            try:
                yield "aa" * 32
                await never
            finally:
                closed.append(True)

        sending = self.client.send(HELLO, rows())
        self.simulator.flush()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(closed, [True])


class SendManyTests(ClientCase):
    """A notification of its own for each."""

    def test_payloads(self) -> None:
        """Each device gets its own payload and header fields."""
        triples = [(n, Notification(badge=n, collapse_id=f"c{n}"), token) for n, token in enumerate(tokens(50))]
        self.assertEqual(self.simulator.result(self.client.send_many(triples)).accepted, 50)
        received = self.simulator.devices.received
        got = [(reception.payload, reception.headers["apns-collapse-id"]) for reception in received]
        self.assertEqual(got, [(b'{"aps":{"badge":%d}}' % n, f"c{n}") for n in range(50)])

    def test_unique_ids(self) -> None:
        """In the sandbox each notification that was accepted has an id in Apple's delivery log; elsewhere none."""
        notification = Notification(alert="x")
        triples = [(n, notification, token) for n, token in enumerate(("aa" * 32, "bb" * 32))]
        self.assertEqual(self.simulator.result(self.client.send_many(triples)).unique_ids, {})
        self.simulator.environment = "sandbox"
        client = self.simulator.client()
        batch = self.simulator.result(client.send_many(triples))
        self.assertEqual((set(batch.unique_ids), len(set(batch.unique_ids.values()))), ({0, 1}, 2))


class SendOneTests(ClientCase):
    """One notification, one device."""

    def test_accepted(self) -> None:
        """The answer's ids are in the result."""
        self.simulator.environment = "sandbox"
        identifier = "123e4567-e89b-12d3-a456-426655440000"
        notification = Notification(alert="x", apns_id=identifier)
        accepted = self.simulator.result(self.client.send_one(notification, "aa" * 32))
        assert isinstance(accepted, Accepted)
        self.assertEqual((accepted.apns_id, accepted.token), (identifier, "aa" * 32))
        self.assertIsNotNone(accepted.unique_id)

    def test_rejected(self) -> None:
        """A rejection is a value, not an exception."""
        rejection = self.simulator.result(self.client.send_one(HELLO, DEAD))
        assert isinstance(rejection, Rejection)
        self.assertEqual((rejection.status, rejection.reason, rejection.dead), (410, "Unregistered", True))
        self.assertIsNotNone(rejection.apns_id)

    def test_malformed_token(self) -> None:
        """A token that no request can carry is an error, and nothing is opened."""
        self.failureResultOf(self.client.send_one(HELLO, "abc"), InvalidToken)
        self.assertEqual(self.simulator.reactor.attempts, 0)

    def test_unknown(self) -> None:
        """What was sent and not answered is distinguished from what was not sent."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        error = self.assertRaises(OutcomeUnknown, self.simulator.result, self.client.send_one(HELLO, "aa" * 32))
        self.assertIsInstance(error.__cause__, ConnectionLost)
        del self.simulator.reactor.servers[2197]
        self.assertRaises(ConnectFailed, self.simulator.result, self.client.send_one(HELLO, "aa" * 32))

    def test_cancelled_in_the_queue(self) -> None:
        """What was not yet asked is not asked."""
        sending = self.client.send_one(HELLO, "aa" * 32)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.simulator.advance(5)
        self.assertEqual(self.simulator.counters()["received"], 0)

    def test_cancelled_under_way(self) -> None:
        """What was sent already is settled without a listener."""
        self.simulator.delay = 1.0
        sending = self.client.send_one(HELLO, "aa" * 32)
        self.simulator.flush()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.simulator.advance(5)
        self.assertEqual((self.simulator.counters()["received"], self.client.status().in_flight), (1, 0))


class EndTests(ClientCase):
    """Deadlines, cancelling, closing, retrying."""

    def test_deadline(self) -> None:
        """At the batch's deadline the rest is unsent; what was asked is still answered."""
        self.simulator.delay = 1.0
        batch = self.simulator.result(self.client.send(HELLO, tokens(20_000), deadline=2.5))
        self.assertEqual(batch.total, 20_000)
        self.assertEqual(len(self.received()), batch.accepted)
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {DeadlinePassed})
        self.assertEqual(self.client.status().in_flight, 0)

    def test_cancel(self) -> None:
        """Cancelling stops the batch, and what is in flight is settled."""
        self.simulator.delay = 1.0
        sending = self.client.send(HELLO, tokens(20_000))
        self.simulator.flush()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.simulator.advance(30)
        self.assertEqual((len(self.received()), self.client.status().in_flight), (1_000, 0))

    def test_not_sent_again_after_the_end(self) -> None:
        """What the server gives back after the deadline, or after cancelling, is not sent to another connection."""
        for deadline in (0.2, None):
            self.simulator.delay = 0.5
            client = self.simulator.client("binary")
            before = self.simulator.counters()["accepted"]
            sending = client.send(HELLO, [DEAD, *tokens(7)], deadline=deadline)
            self.simulator.flush()
            if deadline is None:
                sending.cancel()
                self.failureResultOf(sending, CancelledError)
            else:
                batch = self.simulator.result(sending)
                self.assertEqual((len(batch.failed), len(batch.unsent)), (1, 7))
            self.simulator.advance(10)
            self.assertEqual((self.simulator.counters()["accepted"], client.status().queued), (before, 0))

    def test_add_timeout(self) -> None:
        """Deferred.addTimeout works as on any Deferred."""
        self.simulator.delay = 5.0
        sending = self.client.send(HELLO, tokens(3)).addTimeout(1, self.simulator.reactor)
        self.assertRaises(defer.TimeoutError, self.simulator.result, sending)

    def test_close(self) -> None:
        """Closing reports what waits as unsent, waits for the answers to what is in flight, and closes."""
        self.simulator.delay = 1.0
        sending = self.client.send(HELLO, tokens(3_000))
        self.simulator.flush()
        closing = self.client.close()
        self.assertNoResult(closing)
        batch = self.simulator.result(sending)
        self.assertEqual((batch.accepted, len(batch.unsent)), (1_000, 2_000))
        self.assertEqual({type(unsent.error) for unsent in batch.unsent.values()}, {ClientClosed})
        self.simulator.result(closing)
        self.assertEqual(
            (self.client.status().connections[0], self.simulator.reactor.getDelayedCalls()), ("stopped", [])
        )

    def test_send_while_closing(self) -> None:
        """Sending from a callback of what close() gave up fails at once: the client is closed."""
        del self.simulator.reactor.servers[2197]
        again: list[Deferred[Any]] = []
        first = self.client.send_one(HELLO, "aa" * 32)
        first.addErrback(lambda _: again.append(self.client.send_one(HELLO, "bb" * 32)))
        self.simulator.result(self.client.close())
        self.failureResultOf(again[0], ClientClosed)
        self.assertEqual(self.client.status().queued, 0)
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_closed(self) -> None:
        """A closed client says so; closing again is no error."""
        self.simulator.result(self.client.close())
        self.simulator.result(self.client.close())
        self.failureResultOf(self.client.send(HELLO, ["aa" * 32]), ClientClosed)
        self.failureResultOf(self.client.send_one(HELLO, "aa" * 32), ClientClosed)
        self.failureResultOf(self.client.send_many([]), ClientClosed)

    def test_retry(self) -> None:
        """retry() sends the unsent again, each with its own notification, and not the others."""
        del self.simulator.reactor.servers[2197]
        triples = [(n, Notification(badge=n), token) for n, token in enumerate(tokens(20))]
        batch = self.simulator.result(self.client.send_many(triples))
        self.assertEqual(len(batch.unsent), 20)
        self.simulator.advance(70)  # beyond the longest back-off
        self.simulator.reactor.servers[2197] = self.simulator.tls_factory("http2")
        again = self.simulator.result(batch.retry())
        self.assertEqual((again.accepted, again.total), (20, 20))
        payloads = {reception.payload for reception in self.simulator.devices.received}
        self.assertEqual(payloads, {notification.body for _, notification, _ in triples})

    def test_retry_uncertain(self) -> None:
        """What is uncertain is sent again only if asked for."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        batch = self.simulator.result(self.client.send(HELLO, tokens(2)))
        self.assertEqual(sorted(batch.uncertain), [0, 1])  # type: ignore[type-var]
        self.simulator.http2_fault = None
        self.assertEqual(self.simulator.result(batch.retry()).total, 0)
        self.assertEqual(self.simulator.result(batch.retry(uncertain=True)).accepted, 2)


class ConnectionTests(ClientCase):
    """The connection is opened on demand, kept, closed when idle, and opened again."""

    def test_kept(self) -> None:
        """Batches share the connection."""
        for _ in range(3):
            self.simulator.result(self.client.send(HELLO, tokens(10)))
        self.assertEqual(self.simulator.devices.connections, 1)

    def test_idle(self) -> None:
        """After idle_timeout it is closed; the next batch opens another."""
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        self.simulator.advance(599)
        self.assertEqual(self.client.status().connections[0], "ready")
        self.simulator.advance(10)
        self.assertEqual(self.client.status().connections[0], "idle")
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])
        self.assertIsInstance(self.simulator.result(self.client.send_one(HELLO, "aa" * 32)), Accepted)
        self.assertEqual(self.simulator.devices.connections, 2)

    def test_idle_at_any_moment(self) -> None:
        """However the moments of use and the timeout add up in floating point, the check comes to an end."""
        for moment in (1.001, 0.1, 2.3, 7.7):
            client = self.simulator.client(idle_timeout=3)
            self.simulator.advance(moment)
            self.simulator.result(client.send_one(HELLO, "aa" * 32))
            self.simulator.advance(3.5)
            self.assertEqual(client.status().connections[0], "idle")

    def test_never_idle(self) -> None:
        """With idle_timeout=None it is kept, and opened again when the server closes it."""
        client = self.simulator.client(idle_timeout=None)
        self.simulator.result(client.send_one(HELLO, "aa" * 32))
        self.simulator.advance(100_000)
        self.assertEqual((client.status().connections[0], self.simulator.devices.connections), ("ready", 1))
        self.simulator.sessions[-1].abort()  # type: ignore[attr-defined]
        self.simulator.advance(5)
        self.assertEqual((client.status().connections[0], self.simulator.devices.connections), ("ready", 2))

    def test_unreachable(self) -> None:
        """Nothing listens: after the timeout all is unsent with the reason, and the attempts were few."""
        client = self.simulator.client(Gateway.http2("127.0.0.1", 9, trust_root=AUTHORITY.ca_pem))
        batch = self.simulator.result(client.send(HELLO, tokens(2_500)))
        self.assertEqual(len(batch.unsent), 2_500)
        error = batch.unsent[0].error
        self.assertIsInstance(error, ConnectFailed)
        self.assertIn("nothing listens at 127.0.0.1:9", str(error))
        self.assertLessEqual(self.simulator.reactor.attempts, 6)
        self.simulator.result(client.close())
        self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_comes_back(self) -> None:
        """A batch outlives a server that is away for a while."""
        server = self.simulator.reactor.servers.pop(2197)
        sending = self.client.send(HELLO, tokens(10))
        self.simulator.advance(5)
        self.assertEqual(self.client.status().connections[0], "waiting")
        self.simulator.reactor.servers[2197] = server
        self.assertEqual(self.simulator.result(sending).accepted, 10)

    def test_wrong_authority(self) -> None:
        """A server that we do not trust ends the batch at once, with the reason."""
        gateway = Gateway.http2("127.0.0.1", 2197, trust_root=Authority().ca_pem)
        self.unverified(gateway, "not trusted")

    def test_wrong_host_name(self) -> None:
        """A server's certificate for another name ends the batch at once, with the reason."""
        self.simulator.reactor.servers[2197] = self.simulator.tls_factory("http2")
        gateway = Gateway.http2("127.0.0.9", 2197, trust_root=AUTHORITY.ca_pem)
        self.unverified(gateway, "127.0.0.9")

    def unverified(self, gateway: Gateway, words: str) -> None:
        """Send to an impostor."""
        client = self.simulator.client(gateway)
        sending = client.send(HELLO, tokens(10))
        self.simulator.flush()
        batch = self.simulator.result(sending, within=0.1)
        self.assertEqual(len(batch.unsent), 10)
        self.assertIsInstance(batch.unsent[0].error, PeerNotVerified)
        self.assertIn(words, str(batch.unsent[0].error))
        self.assertEqual((self.simulator.reactor.attempts, self.simulator.counters()["received"]), (1, 0))

    def test_dead_connection(self) -> None:
        """A connection that died unnoticed is detected before anything is sent over it."""
        for timeout in (30.0, 3.0):
            client = self.simulator.client(timeout=timeout)
            self.simulator.result(client.send_one(HELLO, "aa" * 32))
            self.simulator.sessions[-1].dataReceived = lambda data: None  # type: ignore[method-assign]
            before = self.simulator.devices.connections
            self.simulator.advance(120)
            batch = self.simulator.result(client.send(HELLO, tokens(3_000)))
            self.assertEqual(batch.accepted, 3_000)
            self.assertEqual(self.simulator.devices.connections, before + 1)

    def test_live_connection(self) -> None:
        """A connection that was silent for long and answers the PING is used on."""
        self.simulator.result(self.client.send_one(HELLO, "aa" * 32))
        self.simulator.advance(120)
        self.assertEqual(self.simulator.result(self.client.send(HELLO, tokens(3_000)), within=1).accepted, 3_000)
        self.assertEqual(self.simulator.devices.connections, 1)

    def test_closed_by_a_callback_of_its_end(self) -> None:
        """A callback at the connection's end may close the client, and nothing is left."""
        for protocol in ("http2", "binary"):
            self.simulator.delay = 1.0
            client = self.simulator.client(protocol)
            sending = client.send(HELLO, tokens(3))
            sending.addCallback(lambda _, client=client: client.close())
            self.simulator.flush()
            self.simulator.sessions[-1].abort()  # type: ignore[attr-defined]
            self.simulator.advance(30)
            self.successResultOf(sending)
            self.assertEqual(self.simulator.reactor.getDelayedCalls(), [])

    def test_status(self) -> None:
        """The status tells where things stand, and no secret."""
        self.simulator.delay = 1.0
        self.client.send(HELLO, tokens(30))
        self.assertEqual(self.client.status().connections[0], "connecting")
        self.simulator.flush()
        status = self.client.status()
        self.assertEqual((status.connections[0], status.in_flight, status.last_error), ("ready", 30, None))
        self.assertEqual(Gateway.parse(status.gateway).port, 2197)
        self.simulator.advance(5)
        self.assertEqual(self.client.status().in_flight, 0)


class ArgumentTests(ClientCase):
    """Bad arguments fail at once."""

    def test_gateway(self) -> None:
        """An unknown gateway."""
        self.assertRaises(InvalidGateway, APNSClient, self.simulator.reactor, self.simulator.certificate(), "prod")

    def test_credential(self) -> None:
        """What is no credential is refused at once, and not shown: it may be a key."""
        pem = AUTHORITY.client_pem().decode()
        for credential in (pem, pem.encode(), None):
            error = self.assertRaises(CredentialError, APNSClient, self.simulator.reactor, credential)
            self.assertNotIn("PRIVATE", str(error))
        error = self.assertRaises(InvalidGateway, APNSClient, self.simulator.reactor, self.simulator.certificate(), pem)
        self.assertNotIn("PRIVATE", str(error))

    def test_timeouts(self) -> None:
        """A timeout is a positive number of seconds, a deadline a non-negative one."""
        for options in ({"timeout": 0}, {"timeout": float("nan")}, {"idle_timeout": -1}):
            self.assertRaises(ValueError, self.simulator.client, **options)
        for deadline in (-0.5, float("nan"), float("inf")):
            self.failureResultOf(self.client.send(HELLO, [DEAD], deadline=deadline), ValueError)
        self.failureResultOf(self.client.send(HELLO, [DEAD], deadline="soon"), TypeError)  # type: ignore[arg-type]
        batch = self.simulator.result(self.client.send(HELLO, tokens(5), deadline=0))
        self.assertEqual(len(batch.unsent), 5)

    def test_wrong_kinds(self) -> None:
        """Arguments of the wrong type, or in the wrong order, are reported as such."""
        wrong: list[Any] = [("Hello", [DEAD]), (HELLO, None), (HELLO, 7)]
        for notification, many in wrong:
            self.failureResultOf(self.client.send(notification, many), TypeError)
        self.failureResultOf(self.client.send_many(None), TypeError)  # type: ignore[arg-type]
        self.failureResultOf(self.client.send_one(DEAD, HELLO), TypeError)  # type: ignore[arg-type]

    def test_impossible_topic(self) -> None:
        """A topic that no request can carry."""
        self.assertRaises(InvalidNotification, self.simulator.client, topic="com.example\n")

    def test_provider_token_for_the_binary_protocol(self) -> None:
        """The binary protocol knows no provider tokens."""
        credential = self.simulator.provider_token()
        error = self.assertRaises(CredentialError, self.simulator.client, "binary", credential)
        self.assertIn("certificate", str(error))

    def test_results_hide_tokens(self) -> None:
        """Outcomes shorten the token where they are shown."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD]))
        self.assertNotIn(DEAD, repr(batch) + repr(batch.failed) + str(batch.failed[0]))
        self.assertIn("dddd…dddd", repr(batch.failed))

    def test_outcomes_pickle(self) -> None:
        """Outcomes travel through task queues."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD, "abc"]))
        for outcome in (batch.failed[0], batch.unsent[1]):
            self.assertEqual(pickle.loads(pickle.dumps(outcome)).token, outcome.token)


class SessionTests(ClientCase):
    """One client for an equal credential."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.session = Session(self.simulator.reactor)
        self.gateway = self.simulator.gateway()

    def token(self, key_id: str = AUTHORITY.key_id) -> ProviderToken:
        """Load the credential again."""
        return ProviderToken.from_p8(AUTHORITY.p8, key_id, AUTHORITY.team_id)

    def test_shared(self) -> None:
        """A credential loaded again is the same credential; another gateway, key or topic is another client."""
        client = self.session.client(self.token(), self.gateway)
        self.assertIs(self.session.client(self.token(), self.gateway), client)
        self.assertIsNot(self.session.client(self.token("OTHERKEY12"), self.gateway), client)
        self.assertIsNot(self.session.client(self.token(), "sandbox"), client)
        self.assertIsNot(self.session.client(self.token(), self.gateway, topic="com.example.app"), client)

    def test_asked_for_is_used(self) -> None:
        """A client that was just asked for is not closed."""
        client = self.session.client(self.token(), self.gateway, topic="com.example.app")
        self.simulator.advance(1_150)
        client = self.session.client(self.token(), self.gateway, topic="com.example.app")
        self.simulator.advance(300)
        self.assertIsInstance(self.simulator.result(client.send_one(HELLO, "aa" * 32)), Accepted)

    def test_waiting_for_its_source_is_used(self) -> None:
        """A client whose batch waits for its source is in use, however long that takes."""
        more: Deferred[None] = Deferred()

        async def rows() -> AsyncIterator[str]:
            yield "aa" * 32
            await more
            yield "bb" * 32

        sending = self.session.client(self.token(), self.gateway, topic="com.example.app").send(HELLO, rows())
        self.simulator.advance(5_000)
        more.callback(None)
        self.assertEqual(self.simulator.result(sending).accepted, 2)

    def test_unused_are_closed(self) -> None:
        """A client without use for idle_timeout is closed; a used one is not."""
        used = self.session.client(self.token(), self.gateway, topic="com.example.app")
        unused = self.session.client(self.token("OTHERKEY12"), self.gateway)
        for _ in range(13):
            self.simulator.advance(100)
            self.simulator.result(used.send_one(HELLO, "aa" * 32))
        self.assertEqual((used.status().connections[0], unused.status().connections[0]), ("ready", "stopped"))
        self.assertIs(self.session.client(self.token(), self.gateway, topic="com.example.app"), used)
        self.assertIsNot(self.session.client(self.token("OTHERKEY12"), self.gateway), unused)

    def test_close(self) -> None:
        """Closing the session closes its clients and leaves no timer."""
        client = self.session.client(self.token(), self.gateway, topic="com.example.app")
        self.simulator.result(client.send_one(HELLO, "aa" * 32))
        self.simulator.result(self.session.close())
        self.assertRaises(ClientClosed, self.session.client, self.token(), self.gateway)
        self.assertEqual((client.status().connections[0], self.simulator.reactor.getDelayedCalls()), ("stopped", []))
