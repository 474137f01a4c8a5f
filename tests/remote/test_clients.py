"""Tests for :mod:`txapns.remote`: both clients against a daemon in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT
from tests.daemon.fakes import key_of
from tests.ports import reserve
from tests.processes import ForClass, started
from tests.remote.front import Front
from txapns import Accepted, Notification, Rejection
from txapns.errors import ConnectFailed, DaemonRefused, InvalidNotification, InvalidToken, OutcomeUnknown, TokensFailed
from txapns.remote import AsyncDaemonClient, DaemonClient, DaemonOutcome, asking, clients
from txapns.remote.asking import Daemon, Steps

__all__ = ["AsyncClientTests", "ClientTests", "RetryTests"]

HELLO = Notification(alert="Hello", topic="com.example.chess", expiration=2_000_000_000, priority=10)
ALIVE, DEAD = "aa" * 32, "dd" * 32


class DaemonCase(SynchronousTestCase):
    """A daemon that plays Apple as well, for which one token is dead."""

    url: str

    @classmethod
    def setUpClass(cls) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.daemon.serve_native", "--dead", DEAD]
        process = started(ForClass(cls), command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert process.stdout is not None
        cls.url = process.stdout.readline().strip()

    def setUp(self) -> None:
        """Find the end of its feedback log, and hand over little at a time."""
        self.patch(clients, "CHUNK", 10)
        *_, self.since = [0, *(dead.cursor for dead in self.client().feedback())]

    def client(self, *addresses: str, **options: Any) -> DaemonClient:
        """Make a client, which is closed when the test ends."""
        client = DaemonClient(addresses or self.url, **{"app": "chess", "key": key_of("all"), **options})
        self.addCleanup(client.close)
        return client


class ClientTests(DaemonCase):
    """:class:`txapns.remote.DaemonClient`."""

    def test_send(self) -> None:
        """A batch has the same outcomes as one that is sent directly."""
        found = self.client().send(HELLO, {"ann": ALIVE, "bob": DEAD, "cleo": "not a token"})
        self.assertEqual((found.accepted, list(found.failed), list(found.unsent)), (1, ["bob"], ["cleo"]))
        self.assertEqual(list(found.unique_ids), ["ann"])
        [(token, since)] = found.dead_tokens
        self.assertEqual(token, DEAD)
        assert since is not None
        self.assertIsInstance(found.unsent["cleo"].error, InvalidToken)

    def test_many(self) -> None:
        """More than fit into a request are handed over in several, each with its outcome."""
        tokens = (DEAD if number == 15 else f"{number:064x}" for number in range(21))
        found = self.client().send(HELLO, tokens)
        self.assertEqual((found.accepted, list(found.failed), found.total), (20, [15], 21))
        self.assertEqual(self.client().send(HELLO, []).total, 0)

    def test_send_many(self) -> None:
        """Each device gets its own notification, and a notification may have an id."""
        apns_id = "123e4567-e89b-12d3-a456-426655440000"
        named = Notification(alert="Hi", topic="com.example.chess", apns_id=apns_id)
        client = self.client()
        found = client.send_many([("a", HELLO, ALIVE), ("b", HELLO, DEAD), ("c", named, ALIVE), ("d", HELLO, ALIVE)])
        self.assertEqual((found.accepted, list(found.failed)), (3, ["b"]))
        outcome = client.outcome(apns_id)
        assert outcome is not None
        self.assertEqual(
            (outcome.apns_id, outcome.app, outcome.state, outcome.status), (apns_id, "chess", "accepted", 200)
        )

    def test_send_one(self) -> None:
        """A single one is accepted or rejected; what cannot be sent is raised."""
        client = self.client()
        accepted = client.send_one(HELLO, bytes.fromhex(ALIVE))
        assert isinstance(accepted, Accepted)
        self.assertEqual(accepted.token, bytes.fromhex(ALIVE))
        outcome = client.outcome(str(accepted.apns_id))
        assert isinstance(outcome, DaemonOutcome)
        self.assertEqual((accepted.unique_id, outcome.unique_id), (f"of {accepted.apns_id}",) * 2)
        rejection = client.send_one(HELLO, DEAD)
        assert isinstance(rejection, Rejection)
        self.assertTrue(rejection.dead)
        self.assertRaises(InvalidToken, client.send_one, HELLO, "odd")

    def test_environment(self) -> None:
        """The side of an app with two can be named; an app with one has none."""
        client = self.client(app="play")
        client.send(HELLO, [ALIVE], environment="sandbox")
        client.send_many([(0, HELLO, ALIVE)], environment="production")
        client.send_one(HELLO, ALIVE, environment="sandbox")
        client.submit(HELLO, [ALIVE], environment="sandbox")
        client.send(HELLO, [ALIVE])
        named = [each.outcome.environment for each in client.outcomes()]
        self.assertEqual(named, ["sandbox", "production", "sandbox", "sandbox", None])
        [unsent] = self.client().send(HELLO, [ALIVE], environment="sandbox").unsent.values()
        assert isinstance(unsent.error, DaemonRefused)
        self.assertEqual((unsent.error.status, unsent.error.code), (409, "not_supported"))

    def test_submit(self) -> None:
        """What is submitted is on the disk, and has ids by which its outcomes can be asked for."""
        client = self.client()
        submission = client.submit(HELLO, {"ann": ALIVE, "bob": "odd"})
        self.assertEqual(
            (list(submission.ids), list(submission.unsent), dict(submission.uncertain)), (["ann"], ["bob"], {})
        )
        self.assertIsNotNone(client.outcome(submission.ids["ann"]))
        self.assertIsNone(client.outcome("123e4567-e89b-12d3-a456-426655440999"))

    def test_submit_for_later(self) -> None:
        """A batch has one date and one rate, in however many requests it is handed over."""
        bodies: list[dict[str, Any]] = []

        def noted(daemon: Daemon, body: bytes, *rest: Any) -> Steps[list[Any]]:
            bodies.append(json.loads(body))
            return (yield from accept(daemon, body, *rest))

        accept = Daemon.accept
        self.patch(Daemon, "accept", noted)
        date = datetime.now(timezone.utc) + timedelta(days=1)
        submission = self.client().submit(HELLO, [ALIVE] * 25, not_before=date, rate=5, lane="bulk")
        self.assertEqual(len(submission.ids), 25)
        start = bodies[0]["not_before"]
        self.assertEqual([each["not_before"] - start for each in bodies], [0.0, 2.0, 4.0])
        self.assertEqual((start, {each["rate"] for each in bodies}), (date.timestamp(), {5}))
        begun = time.time()
        self.client().submit(HELLO, [ALIVE] * 11, rate=10)
        self.assertNotIn("not_before", bodies[3])
        self.assertEqual([each.get("lane") for each in bodies[:4]], ["bulk"] * 3 + [None])
        self.assertGreaterEqual(bodies[4]["not_before"], begun + 1.0)
        late = self.client().submit(HELLO, [ALIVE], not_before=timedelta(days=40))
        [unsent] = late.unsent.values()
        self.assertIsInstance(unsent.error, DaemonRefused)
        self.assertRaises(InvalidNotification, self.client().submit, HELLO, [ALIVE], rate=0)

    def test_feedback(self) -> None:
        """The dead tokens are read on from a cursor."""
        client = self.client()
        self.assertEqual(list(client.feedback(self.since)), [])
        client.send(HELLO, [DEAD])
        [dead] = client.feedback(self.since)
        self.assertEqual((dead.token, dead.reason), (DEAD, "Unregistered"))
        self.assertNotIn(DEAD, repr(dead))
        self.assertEqual(list(client.feedback(dead.cursor)), [])

    def test_outcomes(self) -> None:
        """What became of notifications is read on, page after page."""
        self.patch(asking, "PAGE", 3)
        client = self.client()
        *_, since = [0, *(each.cursor for each in client.outcomes())]
        client.send(HELLO, [DEAD if n == 3 else f"{n:064x}" for n in range(7)])
        found = list(client.outcomes(since))
        self.assertEqual([each.cursor - since for each in found], list(range(1, 8)))
        self.assertEqual([each.token for each in found if each.outcome.state == "rejected"], [DEAD])
        self.assertEqual(found[0].outcome, client.outcome(found[0].outcome.apns_id))
        self.assertLess(abs(found[0].settled_at.timestamp() - time.time()), 600)
        self.assertNotIn(DEAD, repr(found))

    def test_refused(self) -> None:
        """What the daemon refuses is unsent; questions raise."""
        client = self.client(key="txapns_wrong")
        found = client.send(HELLO, [ALIVE])
        [unsent] = found.unsent.values()
        assert isinstance(unsent.error, DaemonRefused)
        self.assertEqual((unsent.error.status, unsent.error.code), (401, "not_authenticated"))
        self.assertRaises(DaemonRefused, client.outcome, "123e4567-e89b-12d3-a456-426655440999")
        other = self.client(app="checkers")
        self.assertEqual(self.assertRaises(DaemonRefused, list, other.feedback()).code, "unknown_app")

    def test_failing_tokens(self) -> None:
        """The exception of an iterable is raised, when what came before it has been sent."""

        def failing() -> Iterator[str]:
            yield from (f"{number:064x}" for number in range(15))
            raise KeyError("lost")

        failed = self.assertRaises(TokensFailed, self.client().send, HELLO, failing())
        self.assertIsInstance(failed.__cause__, KeyError)
        self.assertEqual(failed.batch.accepted, 15)

    def test_not_a_notification(self) -> None:
        """What is no notification is refused, as by the other clients."""
        wrong: Any = {"aps": {"alert": "Hello"}}
        for send in (self.client().send_one, lambda what, token: self.client().send(what, [token])):
            error = self.assertRaises(TypeError, send, wrong, ALIVE)
            self.assertEqual(str(error), "expected a Notification, not dict")
        failed = self.assertRaises(TokensFailed, self.client().send_many, [(0, HELLO, ALIVE), (1, wrong, ALIVE)])
        self.assertIsInstance(failed.__cause__, TypeError)
        self.assertEqual(failed.batch.accepted, 1)

    def test_key(self) -> None:
        """The key may be in a file, and is in no repr."""
        path = Path(self.mktemp())
        path.write_text(key_of("all") + "\n")
        client = self.client(key=None, key_file=path)
        self.assertEqual(client.send(HELLO, [ALIVE]).accepted, 1)
        self.assertNotIn(key_of("all"), repr(client))
        self.assertIn("chess", repr(client))

    def test_arguments(self) -> None:
        """Wrong arguments are told when the client is made."""
        for wrong in ({"addresses": []}, {"addresses": "127.0.0.1:8080"}, {"addresses": self.url, "key_file": "x"}):
            arguments: dict[str, Any] = {"app": "chess", "key": "k", **wrong}
            self.assertRaises(ValueError, DaemonClient, **arguments)

        async def tokens() -> AsyncIterator[str]:
            yield ALIVE

        self.assertRaises(TypeError, self.client().send, HELLO, tokens())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_forked(self) -> None:
        """A forked process makes its own connections."""
        client = self.client()
        client.send(HELLO, [ALIVE])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, if another test has left a thread
            child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if client.send(HELLO, [ALIVE]).accepted == 1 else 2
            finally:
                os._exit(status)
        self.assertEqual(client.send(HELLO, [ALIVE]).accepted, 1)
        self.assertEqual(os.waitpid(child, 0), (child, 0))


class RetryTests(DaemonCase):
    """Requests that are asked again."""

    def front(self, *faults: Any) -> Front:
        """Put a front before the daemon."""
        front = Front(self.url)
        front.start(self)
        front.faults.extend(faults)
        return front

    def received(self) -> int:
        """Count what Apple got: each dead token is noted once for each notification."""
        return len(list(self.client().feedback(self.since)))

    def test_lost(self) -> None:
        """When an answer is lost, the same request is asked again; nothing is sent twice."""
        front = self.front("lose", "lose")
        found = self.client(front.url).send(HELLO, [DEAD])
        self.assertEqual(list(found.failed), [0])
        self.assertEqual((len(front.keys), len(set(front.keys))), (3, 1))
        self.assertEqual(self.received(), 1)

    def test_busy(self) -> None:
        """When the daemon asks to wait, the client does."""
        front = self.front(503, 429)
        self.assertEqual(self.client(front.url).send(HELLO, [ALIVE]).accepted, 1)
        self.assertEqual(len(set(front.keys)), 1)

    def test_given_up(self) -> None:
        """After its patience, what may have been taken is uncertain, and the rest unsent."""
        front = self.front(*["lose"] * 9)
        client = self.client(front.url, patience=0.1)
        found = client.send(HELLO, (DEAD if number == 0 else f"{number:064x}" for number in range(15)))
        self.assertEqual((len(found.uncertain), len(found.unsent), found.total), (10, 5, 15))
        self.assertIsInstance(found.uncertain[0].error, OutcomeUnknown)
        front.faults.clear()
        front.faults.extend(["lose", 503])
        self.assertRaises(OutcomeUnknown, client.send_one, HELLO, ALIVE)
        front.faults.clear()
        front.faults.append(503)
        self.assertRaises(DaemonRefused, client.send_one, HELLO, ALIVE)

    def test_own_key(self) -> None:
        """A program that sends a batch again with its own key sends nothing twice."""
        client = self.client()
        for _ in range(2):
            self.assertEqual(list(client.send(HELLO, [DEAD], key="move 12").failed), [0])
        self.assertEqual(self.received(), 1)

    def test_nodes(self) -> None:
        """If a node cannot be reached or is busy, the next is asked at once."""
        [port] = reserve()
        front = self.front(503)
        client = self.client(f"http://127.0.0.1:{port}", front.url, self.url)
        self.assertEqual(client.send(HELLO, [ALIVE]).accepted, 1)
        self.assertEqual(len(front.keys), 1)
        nobody = self.client(f"http://127.0.0.1:{port}", patience=0.1)
        self.assertRaises(ConnectFailed, nobody.send_one, HELLO, ALIVE)


class AsyncClientTests(DaemonCase):
    """:class:`txapns.remote.AsyncDaemonClient`."""

    def go(self, work: Callable[[AsyncDaemonClient], Coroutine[Any, Any, None]], *addresses: str) -> None:
        """Run a coroutine with a client."""

        async def main() -> None:
            async with AsyncDaemonClient(addresses or self.url, app="chess", key=key_of("all")) as client:
                await asyncio.wait_for(work(client), 30)

        asyncio.run(main())

    def test_send(self) -> None:
        """Its methods have the same results."""

        async def work(client: AsyncDaemonClient) -> None:
            found = await client.send(HELLO, [ALIVE, DEAD])
            self.assertEqual((found.accepted, list(found.failed)), (1, [1]))
            accepted = await client.send_one(HELLO, ALIVE)
            assert isinstance(accepted, Accepted)
            self.assertIsNotNone(await client.outcome(str(accepted.apns_id)))
            *_, last = [each async for each in client.outcomes()]
            self.assertEqual(last.outcome, await client.outcome(last.outcome.apns_id))
            self.assertEqual(len((await client.submit(HELLO, [ALIVE])).ids), 1)
            self.assertEqual([dead.token async for dead in client.feedback(self.since)], [DEAD])

        self.go(work)

    def test_iterables(self) -> None:
        """Tokens come from iterables of either kind, in chunks."""

        async def tokens() -> AsyncIterator[str]:
            for number in range(21):
                yield f"{number:064x}"

        async def failing() -> AsyncIterator[str]:
            yield ALIVE
            raise KeyError("lost")

        async def work(client: AsyncDaemonClient) -> None:
            self.assertEqual((await client.send(HELLO, tokens())).accepted, 21)
            self.assertEqual((await client.send_many([(0, HELLO, ALIVE)])).accepted, 1)
            with self.assertRaises(TokensFailed) as raised:
                await client.send(HELLO, failing())
            self.assertEqual(raised.exception.batch.accepted, 1)

        self.go(work)

    def test_lost(self) -> None:
        """An answer that is lost is asked for again."""
        front = Front(self.url)
        front.start(self)
        front.faults.append("lose")

        async def work(client: AsyncDaemonClient) -> None:
            self.assertEqual(list((await client.send(HELLO, [DEAD])).failed), [0])
            self.assertEqual(len([dead async for dead in client.feedback(self.since)]), 1)

        self.go(work, front.url, self.url)
        self.assertEqual(len(front.keys), 1)
