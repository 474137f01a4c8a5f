"""Tests for :mod:`txapns._session.batch`: the batches of a client, over the whole stack, in memory."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.client_case import DEAD, HELLO, ClientCase, tokens
from txapns import Batch, Notification
from txapns._session.batch import SendCancelled, Sending
from txapns._session.pool import Pool
from txapns._session.tokens import triples_of
from txapns.delivery import Delivery
from txapns.errors import (
    ClientClosed,
    InvalidNotification,
    InvalidToken,
    TokensFailed,
)
from txapns.options import Options


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

    def test_ids(self) -> None:
        """Devices that share a notification can have ids and payloads of their own, also when they are sent again."""
        names = ["aa", "bb"]
        own = {name: (f"3fa85f64-5717-4562-b3fc-2c963f66af{name}", b'{"to":"%s"}' % name.encode()) for name in names}
        triples = [*[(name, HELLO, name * 32) for name in names], ("odd", HELLO, "odd")]
        own["odd"] = own["aa"]
        self.simulator.delay = 1.0
        batch = self.simulator.result(self.client.send_many(triples, own=own.__getitem__))
        received = self.simulator.inbox.received
        sent = {each.headers[":path"][-2:]: (each.headers["apns-id"], each.payload) for each in received}
        self.assertEqual((batch.accepted, sent), (2, {name: own[name] for name in names}))
        self.assertEqual(
            {name: (each.notification.apns_id, each.notification.body) for name, each in batch.unsent.items()},
            {"odd": own["odd"]},
        )
        sending = self.client.send_many(triples, own=own.__getitem__)
        self.simulator.reactor.advance(0.5)
        sending.cancel()
        batch = self.failureResultOf(sending, SendCancelled).value.batch  # type: ignore[attr-defined]
        self.assertEqual(
            {name: (each.notification.apns_id, each.notification.body) for name, each in batch.uncertain.items()},
            {n: own[n] for n in names},
        )

    def test_wrong_ids(self) -> None:
        """An id that no request can carry ends the batch, as an iterable does that raises an exception."""
        sending = self.client.send_many([(0, HELLO, "aa" * 32)], own=lambda identifier: ("a\nb", b"{}"))
        error = self.assertRaises(TokensFailed, self.simulator.result, sending)
        self.assertIsInstance(error.__cause__, InvalidNotification)

    def test_nothing(self) -> None:
        """A batch of nothing is an empty batch, and needs no connection."""
        batch = self.successResultOf(self.client.send(HELLO, []))
        self.assertEqual((batch.total, self.simulator.reactor.attempts), (0, 0))

    def test_upper_case(self) -> None:
        """Tokens go out in lower case and come back as they were given."""
        batch = self.simulator.result(self.client.send(HELLO, [DEAD.upper()]))
        self.assertEqual(batch.failed[0].token, DEAD.upper())
        self.assertEqual(self.simulator.inbox.received[0].headers[":path"], "/3/device/" + DEAD)

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


class GarbageTests(ClientCase):
    """What sending leaves to Python's garbage collector."""

    def test_nothing(self) -> None:
        """Each delivery is gone with its outcome, without the collector."""
        notification = Notification(alert="Hello", topic="com.example.app")
        outcomes: list[object] = []
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for number in range(20):
            self.client.send_one(notification, f"{number:064x}").addCallback(outcomes.append)
        self.client.send(notification, tokens(20)).addCallback(outcomes.append)
        self.simulator.advance(1)
        self.assertEqual(len(outcomes), 21)
        self.assertEqual(self.left(notification), [])

    def test_refused(self) -> None:
        """So it is where too many wait, where it is cancelled, and where the client is closed."""
        notification = Notification(alert="Hello", topic="com.example.app")
        client = self.simulator.client(max_queued=2)
        outcomes: list[object] = []
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        sent = [client.send_one(notification, f"{number:064x}").addBoth(outcomes.append) for number in range(4)]
        sent.pop(0).cancel()
        self.simulator.advance(1)
        sent.append(client.send_one(notification, "ab" * 32).addBoth(outcomes.append))
        self.simulator.flush()
        sent.pop().cancel()  # in flight
        sent.append(client.send_one(notification, "ab" * 32).addBoth(outcomes.append))
        client.close()
        self.simulator.advance(1)
        self.assertEqual(len(outcomes), 6)
        outcomes.clear()
        sent.clear()
        self.assertEqual(self.left(notification), [])

    def left(self, notification: Notification) -> list[object]:
        """List the deliveries of a notification that are left."""
        return [each for each in gc.get_objects() if isinstance(each, Delivery) and each.notification is notification]


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
