"""Tests for :mod:`txapns.aio`."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.aio.case import ALIVE, GONE, AioCase
from tests.command.processes import DEAD
from txapns import Accepted, Notification, Rejection, StoragePolicy, result
from txapns.aio import APNSClient, Session, batch_of
from txapns.errors import (
    ClientClosed,
    ClientElsewhere,
    ConnectFailed,
    CredentialError,
    InvalidGateway,
    InvalidNotification,
    InvalidToken,
    TokensFailed,
)

__all__ = [
    "CancellationTests",
    "CloseTests",
    "ElsewhereTests",
    "FeedbackTests",
    "IterableTests",
    "SendTests",
    "SessionTests",
]

HELLO = Notification(alert="Hello")
MANY = 3_000


def tokens() -> Iterator[str]:
    """Generate different tokens without end."""
    return (f"{number:064x}" for number in itertools.count())


async def later(count: int) -> AsyncIterator[str]:
    """Generate some of them, with pauses."""
    for number, token in enumerate(tokens()):
        if number == count:
            return
        if number % 100 == 0:
            await asyncio.sleep(0)
        yield token


class SendTests(AioCase):
    """What the client sends."""

    def test_batch(self) -> None:
        """A batch has the outcome of each, over either protocol."""

        async def main(protocol: str) -> None:
            async with self.client(protocol) as client:
                batch = await client.send(HELLO, {"ann": ALIVE, "bob": DEAD, "cleo": "not a token"})
            self.assertEqual((batch.accepted, list(batch.failed), list(batch.unsent)), (1, ["bob"], ["cleo"]))
            self.assertEqual([token for token, _ in batch.dead_tokens], [DEAD] if protocol == "http2" else [])

        for protocol in ("http2", "binary"):
            self.go(main(protocol))

    def test_send_many(self) -> None:
        """Each device gets its own notification."""

        async def main() -> None:
            async with self.client() as client:
                triples = [
                    (number, Notification(alert=str(number)), token) for number, token in enumerate([ALIVE, DEAD])
                ]
                batch = await client.send_many(triples)
                self.assertEqual((batch.accepted, list(batch.failed)), (1, [1]))

        self.go(main())

    def test_retry(self) -> None:
        """What is unsent can be sent again; that is awaited as well."""

        async def main() -> None:
            async with self.client() as client:
                batch = await client.send(HELLO, itertools.islice(tokens(), 10), deadline=0.0)
                self.assertEqual(len(batch.unsent), 10)
                self.assertEqual((await batch.retry()).accepted, 10)

        self.go(main())

    def test_send_one(self) -> None:
        """One notification is accepted or rejected; what cannot be sent is raised."""

        async def main() -> None:
            async with self.client() as client:
                self.assertIsInstance(await client.send_one(HELLO, ALIVE), Accepted)
                rejection = await client.send_one(HELLO, DEAD)
                assert isinstance(rejection, Rejection)
                self.assertTrue(rejection.dead)
                with self.assertRaises(InvalidToken):
                    await client.send_one(HELLO, "odd")

        self.go(main())

    def test_many_tasks(self) -> None:
        """Many tasks send at once."""

        async def main() -> None:
            async with self.client() as client:
                each = itertools.islice(tokens(), 300)
                outcomes = await asyncio.gather(*(client.send_one(HELLO, token) for token in each))
                self.assertTrue(all(isinstance(outcome, Accepted) for outcome in outcomes))
                await client.when_ready()
                self.assertEqual(client.status().connections, ("ready",))

        self.go(main())

    def test_name(self) -> None:
        """A name is looked up; one that does not exist is told."""

        async def main() -> None:
            async with APNSClient(self.certificate(), self.gateway(host="localhost")) as client:
                self.assertIsInstance(await client.send_one(HELLO, ALIVE), Accepted)
            async with APNSClient(self.certificate(), self.gateway(host="gateway.invalid"), timeout=3.0) as client:
                with self.assertRaises(ConnectFailed) as raised:
                    await client.send_one(HELLO, ALIVE)
                self.assertIn("gateway.invalid", str(raised.exception))

        self.go(main())

    def test_channels(self) -> None:
        """Channels are made, read, listed and deleted, and broadcasts sent to them."""

        async def main() -> None:
            async with self.client() as client:
                channel = await client.channels.create(StoragePolicy.MOST_RECENT_MESSAGE_STORED)
                self.assertEqual(await client.channels.read(channel.channel_id), channel)
                self.assertEqual(await client.channels.list(), [channel.channel_id])
                update = Notification.live_activity_update("com.example.app", {"score": 1}, timestamp=0)
                outcome = await client.broadcast(update, channel.channel_id)
                self.assertIsInstance(outcome, Accepted)
                await client.channels.delete(channel.channel_id)
                self.assertEqual(await client.channels.list(), [])

        self.go(main())

    def test_settings(self) -> None:
        """Wrong arguments are told when the client is made, and that needs no loop."""
        certificate, gateway = self.certificate(), self.gateway()
        wrong: Any = "a credential"
        for error, make in (
            (CredentialError, lambda: APNSClient(wrong, gateway)),
            (InvalidGateway, lambda: APNSClient(certificate, "productoin")),
            (InvalidGateway, lambda: Session(proxy="ftp://proxy")),
            (InvalidNotification, lambda: APNSClient(certificate, gateway, topic="a\n")),
            (ValueError, lambda: APNSClient(certificate, gateway, timeout=0.0)),
            (ValueError, lambda: Session(max_connections=0)),
        ):
            self.assertRaises(error, make)
        self.assertRaises(RuntimeError, APNSClient(certificate, gateway).status)


class FeedbackTests(AioCase):
    """The feedback service, which tells of each token once."""

    def test_feedback(self) -> None:
        """It is read as a list, or token by token."""

        async def main() -> None:
            async with self.client("binary", timeout=120.0) as client:
                reading = client.iterate_feedback()
                first, _ = await anext(reading)
                await reading.aclose()  # the next call has the others
                rest = [token for token, _ in await client.feedback()]
                self.assertEqual({first, *rest}, {DEAD, GONE})
                self.assertEqual([token async for token, _ in client.iterate_feedback()], [])
            async with self.client() as client:
                with self.assertRaises(InvalidGateway):
                    await client.feedback()

        self.go(main())


class IterableTests(AioCase):
    """Where the tokens come from."""

    def test_async_iterable(self) -> None:
        """An async iterable is read in a task, which may await whatever asyncio's coroutines do."""

        async def main() -> None:
            async with self.client() as client:
                batch = await client.send(HELLO, later(MANY))
                self.assertEqual((batch.accepted, batch.total), (MANY, MANY))

        self.go(main())

    def test_exception(self) -> None:
        """An exception of an iterable is raised, with the batch of the tokens before it."""

        def failing() -> Iterator[str]:
            yield ALIVE
            raise KeyError("lost")

        async def failing_later() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            for token in failing():
                yield token

        async def main() -> None:
            async with self.client() as client:
                for iterable in (failing(), failing_later()):
                    with self.assertRaises(TokensFailed) as raised:
                        await client.send(HELLO, iterable)
                    self.assertIsInstance(raised.exception.__cause__, KeyError)
                    self.assertEqual((raised.exception.batch.accepted, raised.exception.batch.total), (1, 1))
                    self.assertEqual((await raised.exception.batch.retry()).total, 0)

        self.go(main())

    def test_context(self) -> None:
        """The iterable may itself send, and is closed when the batch is cancelled."""
        closed = []

        async def sending(client: APNSClient) -> AsyncIterator[str]:
            try:
                for token in tokens():
                    await client.send_one(HELLO, token)
                    yield token
            finally:
                closed.append(True)

        async def main() -> None:
            async with self.client() as client:
                task = asyncio.create_task(client.send(HELLO, sending(client)))
                while client.status().in_flight == 0:
                    await asyncio.sleep(0)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                while not closed:
                    await asyncio.sleep(0)

        self.go(main())


class CancellationTests(AioCase):
    """Tasks that are cancelled while they send."""

    def counted(self, pulled: list[str]) -> Iterator[str]:
        """Generate tokens, and keep them."""
        for token in tokens():
            pulled.append(token)
            yield token

    async def started(self, client: APNSClient, pulled: list[str]) -> asyncio.Task[Any]:
        """Begin an endless batch, and wait until some of it was accepted."""
        task = asyncio.create_task(client.send(HELLO, self.counted(pulled)))
        while len(pulled) < MANY:
            await asyncio.sleep(0)
        return task

    def test_cancel(self) -> None:
        """The exception has the outcome of each token that was pulled, and the client goes on."""

        async def main() -> None:
            async with self.client() as client:
                pulled: list[str] = []
                task = await self.started(client, pulled)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError) as raised:
                    await task
                batch = batch_of(raised.exception)
                assert batch is not None
                self.assertEqual(batch.total, len(pulled))
                self.assertEqual(batch.accepted + len(batch.uncertain), batch.total)
                self.assertGreater(batch.accepted, 0)
                self.assertIsInstance(await client.send_one(HELLO, ALIVE), Accepted)
                self.assertEqual(len(pulled), batch.total)

        self.go(main())

    def test_timeout(self) -> None:
        """A timeout's cause is that exception."""

        async def main() -> None:
            async with self.client() as client:
                await client.send_one(HELLO, ALIVE)
                pulled: list[str] = []
                with self.assertRaises(TimeoutError) as raised:
                    async with asyncio.timeout(0.2):
                        await client.send(HELLO, self.counted(pulled))
                batch = batch_of(raised.exception)
                assert batch is not None
                self.assertEqual(batch.total, len(pulled))

        if sys.version_info >= (3, 11):
            self.go(main())

    def test_done_already(self) -> None:
        """A batch that ended just before the task was cancelled is in the exception as well."""
        done = result.Batch(1, [], resend=lambda again: Deferred())
        failures: list[Exception] = [TokensFailed("lost", done), ClientClosed("closed")]

        async def cancelled(outcome: result.Batch | Failure) -> int | None:
            ended: Deferred[result.Batch] = Deferred()
            task = asyncio.create_task(self.client()._batch(ended))
            await asyncio.sleep(0)
            ended.callback(outcome)  # a Failure starts the errbacks
            task.cancel()
            with self.assertRaises(asyncio.CancelledError) as raised:
                await task
            batch = batch_of(raised.exception)
            return batch and batch.accepted

        async def main() -> None:
            outcomes = [done, *map(Failure, failures)]
            self.assertEqual([await cancelled(outcome) for outcome in outcomes], [1, 1, None])

        self.go(main())

    def test_send_one(self) -> None:
        """A single one that waits is not sent."""

        async def main() -> None:
            async with self.client() as client:
                task = asyncio.create_task(client.send_one(HELLO, ALIVE))
                await asyncio.sleep(0)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(client.status().queued, 0)

        self.go(main())


class CloseTests(AioCase):
    """The end of a client."""

    def test_close(self) -> None:
        """A client can be closed twice, at the same time, and without having been used; then it sends nothing."""

        async def main() -> None:
            client = self.client()
            await client.send_one(HELLO, ALIVE)
            await asyncio.gather(client.close(), client.close())
            await client.close()
            with self.assertRaises(ClientClosed):
                await client.send(HELLO, [ALIVE])
            with self.assertRaises(ClientClosed):
                await client.send_one(HELLO, ALIVE)
            await self.client().close()

        self.go(main())

    def test_waiting(self) -> None:
        """What a closed client had not sent is unsent."""

        async def main() -> None:
            client = self.client()
            task = asyncio.create_task(client.send(HELLO, itertools.islice(tokens(), MANY)))
            await asyncio.sleep(0)
            await client.close()
            batch = await task
            self.assertEqual(batch.total, MANY)
            self.assertEqual({type(outcome.error) for outcome in batch.unsent.values()}, {ClientClosed})

        self.go(main())

    def test_no_close(self) -> None:
        """The loop's end closes a client that is open, idle or while it sends."""

        async def main() -> list[Any]:
            client = self.client()
            await client.send_one(HELLO, ALIVE)
            sending = asyncio.create_task(client.send(HELLO, tokens()))
            reading = asyncio.create_task(client.send(HELLO, later(10**9)))
            while client.status().in_flight < 100:
                await asyncio.sleep(0)
            return [client, sending, reading]

        _, *tasks = self.go(main())
        self.assertTrue(all(task.cancelled() for task in tasks))


class ElsewhereTests(AioCase):
    """A client where it does not belong."""

    def test_other_loop(self) -> None:
        """Another loop is told at once, whether the client's has ended or runs in another thread."""
        client = self.client()

        async def first() -> None:
            await client.send_one(HELLO, ALIVE)
            with ThreadPoolExecutor(1) as executor:
                await asyncio.get_running_loop().run_in_executor(executor, asyncio.run, self.refused(client, "is not"))

        asyncio.run(first())
        asyncio.run(self.refused(client, "has ended"))

    async def refused(self, client: APNSClient, words: str) -> None:
        """Nothing of the client can be used."""
        for use in (
            lambda: client.send(HELLO, [ALIVE]),
            lambda: client.send_one(HELLO, ALIVE),
            client.close,
            client.when_ready,
            client.channels.list,
        ):
            with self.assertRaises(ClientElsewhere) as raised:
                await use()
            self.assertIn(words, str(raised.exception))
        self.assertRaises(ClientElsewhere, client.status)

    def test_several_loops(self) -> None:
        """Each thread may have a loop, with a client for each."""

        def send(number: int) -> int:
            async def main() -> int:
                async with self.client() as client:
                    return (await client.send(HELLO, itertools.islice(tokens(), 200))).accepted

            return asyncio.run(main())

        with ThreadPoolExecutor(4) as executor:
            self.assertEqual(list(executor.map(send, range(8))), [200] * 8)


class SessionTests(AioCase):
    """:class:`txapns.aio.Session`."""

    def test_shared(self) -> None:
        """Clients for the same credential share their connections, and are closed with the session."""

        async def main() -> None:
            async with Session() as session:
                one, other = (session.client(self.certificate(), self.gateway()) for _ in range(2))
                await one.send_one(HELLO, ALIVE)
                self.assertEqual(other.status().connections, ("ready",))
                binary = session.client(self.certificate(), self.gateway("binary"))
                self.assertEqual((await binary.send(HELLO, later(10))).accepted, 10)
            with self.assertRaises(ClientClosed):
                await one.send_one(HELLO, ALIVE)
            self.assertRaises(ClientClosed, session.client, self.certificate(), self.gateway())

        self.go(main())

    def test_one_closed(self) -> None:
        """A client can be closed by itself."""

        async def main() -> None:
            async with Session() as session, session.client(self.certificate(), self.gateway()) as client:
                await client.send_one(HELLO, ALIVE)

        self.go(main())

    def test_other_loop(self) -> None:
        """A session belongs to its loop, and so do its clients."""

        async def first() -> tuple[Session, APNSClient]:
            session = Session()
            return session, session.client(self.certificate(), self.gateway())

        session, client = self.go(first())

        async def second() -> None:
            self.assertRaises(ClientElsewhere, session.client, self.certificate(), self.gateway())
            with self.assertRaises(ClientElsewhere):
                await client.send_one(HELLO, ALIVE)

        self.go(second())
