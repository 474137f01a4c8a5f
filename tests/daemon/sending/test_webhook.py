"""Tests for :mod:`txapns.daemon.sending.webhook`."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http import Request
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.daemon.dispatch_world import AUTHORITY, DEAD, START, DispatchWorld, token
from tests.daemon.fakes import Cluster
from txapns._network.http_client import http_agent
from txapns._network.trust import given_trust
from txapns.daemon.errors import Unavailable
from txapns.daemon.sending.webhook import Webhook, WebhookConfig, WebhookState, events_of, read_secret, sign
from txapns.daemon.sending.webhook_events import DeadTokens, Report
from txapns.daemon.store.cluster import ICluster
from txapns.daemon.store.sqlite import feedback_log as feedback
from txapns.daemon.store.sqlite.database import Database

__all__ = ["OutcomesTests", "SignatureTests", "TLSTests", "WebhookTests"]

SECRET = b"correct horse battery staple"
PORT = 8080


class Receiver(Resource):
    """
    The program that receives the tokens.

    :ivar posts: the requests: the time, the header fields, the tokens, the body.
    :ivar answer: the status of answers; ``None`` for no answer.
    :ivar held: the requests without one.
    """

    isLeaf = True

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._seconds = seconds
        self.posts: list[tuple[float, dict[str, str], list[dict[str, Any]], bytes]] = []
        self.answer: int | None = 204
        self.held: list[Request] = []
        self.location = b""

    def render_POST(self, request: Request) -> Any:
        """Remember it, and answer."""
        assert request.content is not None
        body = request.content.read()
        fields = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.posts.append((self._seconds(), fields, self.noted(body), body))
        if self.answer is None:
            self.held.append(request)
            return NOT_DONE_YET
        request.setResponseCode(self.answer)
        if self.location:
            request.setHeader(b"location", self.location)
        return b"" if self.answer == 204 else b"x" * 100_000

    def noted(self, body: bytes) -> list[dict[str, Any]]:
        """Read the entries of a body."""
        tokens: list[dict[str, Any]] = json.loads(body)["dead_tokens"]
        return tokens

    def cursors(self) -> list[int]:
        """The cursors that came, in order."""
        return [each["cursor"] for _, _, tokens, _ in self.posts for each in tokens]


class OutcomeReceiver(Receiver):
    """The same, which keeps what comes, by kind."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__(seconds)
        self.reports: list[tuple[str, list[dict[str, Any]]]] = []

    def noted(self, body: bytes) -> list[dict[str, Any]]:
        """Keep the entries of a body."""
        [(kind, entries)] = json.loads(body).items()
        self.reports.append((kind, entries))
        return list(entries)

    def kinds(self) -> list[tuple[str, int]]:
        """The kind of each report, and how many entries it had."""
        return [(kind, len(entries)) for kind, entries in self.reports]


class _SlowTokens(DeadTokens):
    """Dead tokens that are read when the test says so."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.read: Deferred[None] = Deferred()

    async def take(self) -> Report | None:
        """Read them, and wait."""
        found = await super().take()
        await self.read
        return found


class SignatureTests(SynchronousTestCase):
    """The signature of a request."""

    def test_signature(self) -> None:
        """It covers the time, a full stop and the body."""
        expected = hmac.new(SECRET, b"1700000000.{}", hashlib.sha256).hexdigest()
        self.assertEqual(sign(SECRET, 1_700_000_000, b"{}"), f"v1={expected}")

    def test_secrets(self) -> None:
        """The representation shows neither the secret nor the URL."""
        text = repr(WebhookConfig("crm", "https://example.com/hook?key=hush", lambda: SECRET))
        self.assertNotIn("horse", text)
        self.assertNotIn("hush", text)


@pytest.mark.loopback
class TLSTests(TestCase):
    """HTTPS, over loopback."""

    async def post(self, agent: IAgent | None = None) -> tuple[Receiver, WebhookState]:
        """Send one token to a receiver whose certificate only the test trusts; returns it, and the webhook's state."""
        receiver = Receiver(time.time)
        factory = TLSMemoryBIOFactory(AUTHORITY.server_options(()), False, Site(receiver))
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        database = Database(self.mktemp(), reactor)  # type: ignore[arg-type]
        await database.start()
        self.addCleanup(database.stop)
        log = feedback.SQLiteFeedbackLog(database)
        await log.start()
        await database.write(
            lambda connection: feedback.note(connection, [("chess", DEAD, "Unregistered", START)], START)
        )
        hook = WebhookConfig("crm", f"https://127.0.0.1:{port.getHost().port}/", lambda: SECRET)
        webhook = Webhook(reactor, [DeadTokens(log, hook.reader, (), 500)], hook, agent)
        webhook.start()
        end = time.monotonic() + 120
        while not (webhook.state.sent or webhook.state.reason) and time.monotonic() < end:
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        webhook.stop()
        return receiver, webhook.state

    async def test_trusted(self) -> None:
        """A receiver with a trusted certificate gets tokens."""
        receiver, state = await self.post(http_agent(reactor, given_trust(AUTHORITY.ca_pem), 120.0))
        self.assertEqual((state.sent, receiver.cursors()), (1, [1]))

    async def test_not_trusted(self) -> None:
        """A receiver without one gets nothing; the log has no line for each attempt."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        receiver, state = await self.post()
        self.assertEqual([event for event in events if event["log_namespace"].startswith("twisted.web.client")], [])
        self.assertEqual((state.sent, receiver.posts), (0, []))
        self.assertTrue(state.reason)


class WebhookTests(SynchronousTestCase):
    """Dead tokens, sent over HTTP."""

    def setUp(self) -> None:
        """Start a receiver, with an empty feedback log."""
        self.world = DispatchWorld()
        self.world.start()
        self.addCleanup(self.world.close)
        self.receiver = Receiver(self.world.clock.seconds)
        self.world.clock.servers[PORT] = Site(self.receiver, reactor=self.world.clock)
        self.webhook = self.make()

    def make(self, cluster: ICluster | None = None, **fields: Any) -> Webhook:
        """Make a webhook for the receiver."""
        hook = attrs.evolve(WebhookConfig("crm", f"http://127.0.0.1:{PORT}/hook?key=hush", lambda: SECRET), **fields)
        events = events_of(hook, self.world.log, self.world.feed)
        webhook = Webhook(self.world.clock, events, hook, random=lambda: 0.0, cluster=cluster)
        self.addCleanup(webhook.stop)
        return webhook

    def note(self, count: int = 1, app: str = "chess", first: int = 0) -> None:
        """Put dead tokens into the feedback log."""
        dead = [(app, token(first + n), "Unregistered", START - 60) for n in range(count)]
        self.world.result(self.world.database.write(lambda connection: feedback.note(connection, dead, START)))

    def test_post(self) -> None:
        """A token is sent with all that is known about it, and signed."""
        self.note()
        self.webhook.start()
        self.world.advance(0.1)
        [(_, fields, tokens, body)] = self.receiver.posts
        expected = {
            "cursor": 1,
            "app": "chess",
            "token": token(0).hex(),
            "reason": "Unregistered",
            "timestamp": START - 60,
            "noted_at": START,
        }
        self.assertEqual(tokens, [expected])
        self.assertEqual(fields["content-type"], "application/json")
        timestamp = int(fields["txapns-timestamp"])
        self.assertIn(timestamp - int(START), (0, 1))
        self.assertEqual(fields["txapns-signature"], sign(SECRET, timestamp, body))
        self.assertEqual(self.webhook.state, WebhookState("crm", sent=1))

    def test_woken(self) -> None:
        """What comes into the log is sent at once, and once, until the webhook stops."""
        self.webhook.start()
        self.world.accept(tokens=[token(1), DEAD])
        self.world.drain()
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [1])
        self.webhook.wake("chess")
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [1])
        self.webhook.stop()
        self.note()
        self.world.log.announce(["chess"])
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [1])

    def test_duty(self) -> None:
        """Of two nodes one sends; the other goes on where that one stopped, and does not wait out its pauses."""
        nodes = [Cluster(), Cluster()]
        first, second = (self.make(cluster=node) for node in nodes)
        self.note(3)
        for webhook in first, second:
            webhook.start()
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [])
        [duty] = nodes[0].asked
        nodes[0].become(duties=[duty])
        self.world.advance(0.1)
        self.assertEqual(self.receiver.cursors(), [1, 2, 3])
        self.receiver.answer = 500
        self.note(2, first=3)
        self.world.log.announce(["chess"])
        self.world.advance(0.1)
        self.assertEqual((first.state.reason != "", second.state.reason), (True, ""))
        self.receiver.answer = 204
        nodes[0].become(alive=False)
        nodes[1].become(duties=[duty])
        self.world.advance(0.1)
        self.assertEqual(self.receiver.cursors(), [1, 2, 3, 4, 5, 4, 5])
        self.assertEqual(first.state, WebhookState("crm", sent=3))
        self.world.advance(3_600.0)
        self.assertEqual(len(self.receiver.posts), 3)
        for webhook in first, second:
            webhook.stop()
        self.assertEqual([node.listeners for node in nodes], [[], []])

    def test_duty_lost(self) -> None:
        """A request that is under way when the duty is lost is broken off, and does not count as a failure."""
        node = Cluster()
        webhook = self.make(cluster=node)
        webhook.start()
        node.become(duties=node.asked)
        self.receiver.answer = None
        self.note()
        self.world.log.announce(["chess"])
        self.world.advance(1.0)
        node.become(alive=False)
        self.world.advance(60.0)
        self.assertEqual((webhook.state, self.receiver.cursors()), (WebhookState("crm"), [1]))
        self.receiver.answer = 204
        node.become(duties=node.asked)
        self.world.advance(0.1)
        self.assertEqual((webhook.state, self.receiver.cursors()), (WebhookState("crm", sent=1), [1, 1]))

    def test_retired(self) -> None:
        """One that is retired while it reads what there is to send sends nothing of it."""
        events = _SlowTokens(self.world.log, "webhook:crm", (), 500)
        hook = WebhookConfig("crm", f"http://127.0.0.1:{PORT}/", lambda: SECRET)
        webhook = Webhook(self.world.clock, [events], hook)
        self.note()
        webhook.start()
        ended = webhook.retire()
        events.read.callback(None)
        self.world.advance(1.0)
        self.assertEqual((self.receiver.posts, webhook.state), ([], WebhookState("crm")))
        self.successResultOf(ended)

    def test_secret(self) -> None:
        """A secret that cannot be read is reported at once; nothing is sent until it can be read."""
        path = Path(self.mktemp())
        webhook = self.make(secret=partial(read_secret, path))
        webhook.start()
        self.assertEqual(webhook.state.reason, f"{path}: No such file or directory")
        path.touch(0o600)
        self.note()
        self.world.advance(60.0)
        self.assertEqual((webhook.state.reason, self.receiver.posts), (f"{path} is empty", []))
        path.write_bytes(SECRET + b"\n")
        self.world.clock.pump([60.0] * 30)
        self.assertEqual((webhook.state, self.receiver.cursors()), (WebhookState("crm", sent=1), [1]))

    def test_damaged(self) -> None:
        """An invalid row in the feedback log does not stop the others."""
        self.note(6)
        changes = (
            "app = x'ff'",
            "token = 'text'",
            "reason = CAST(x'ff' AS TEXT)",
            "timestamp = 9e999",
            "noted_at = 'soon'",
        )

        def damage(connection: sqlite3.Connection) -> None:
            for cursor, change in enumerate(changes, 1):
                connection.execute(f"UPDATE feedback_token SET {change} WHERE cursor = ?", [cursor])

        self.world.result(self.world.database.write(damage))
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.webhook.state, WebhookState("crm", sent=6))

    def test_backlog(self) -> None:
        """Tokens not yet sent are counted, of the webhook's own apps only, while the database can be read."""
        self.note(3)
        self.note(2, "go", 10)
        some = self.make(name="some", apps=("go", "news"))
        self.assertEqual([self.world.result(each.backlog()) for each in (self.webhook, some)], [5, 2])
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual([self.world.result(each.backlog()) for each in (self.webhook, some)], [0, 2])
        self.world.result(self.world.database.stop())
        self.failureResultOf(some.backlog(), Unavailable)

    def test_batches(self) -> None:
        """Many tokens are sent in several requests, in order, each once."""
        self.webhook = self.make(batch=10)
        self.note(25)
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual([len(tokens) for _, _, tokens, _ in self.receiver.posts], [10, 10, 5])
        self.assertEqual(self.receiver.cursors(), list(range(1, 26)))

    def test_apps(self) -> None:
        """A webhook for some apps sends their tokens only."""
        self.webhook = self.make(apps=("chess", "go"))
        self.note(2, "chess")
        self.note(2, "shogi")
        self.note(2, "go")
        self.webhook.start()
        self.world.advance(1.0)
        self.webhook.wake("shogi")
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [1, 2, 5, 6])

    def test_again(self) -> None:
        """Tokens that are not confirmed are sent again after growing pauses, even if there are new ones."""
        self.receiver.answer = 500
        self.note()
        self.webhook.start()
        self.world.advance(10.0)
        self.webhook.wake()
        self.world.advance(21.0)
        times = [moment - START for moment, *_ in self.receiver.posts]
        for moment, expected in zip(times, (0.0, 2.0, 6.0, 14.0, 30.0), strict=True):
            self.assertLess(abs(moment - expected), 0.2)
        self.assertEqual(self.webhook.state.reason, "the receiver answered 500")
        self.assertLess(abs((self.webhook.state.failing_since or 0.0) - START), 0.1)
        self.receiver.answer = 200
        self.note(1, first=1)
        self.world.advance(40.0)
        self.assertEqual(self.receiver.cursors(), [1, 1, 1, 1, 1, 1, 2])
        self.assertEqual(self.webhook.state, WebhookState("crm", sent=2))

    def test_restart(self) -> None:
        """After a restart only tokens that were not confirmed are sent again."""
        self.note(3)
        self.webhook.start()
        self.world.advance(1.0)
        self.receiver.answer = 503
        self.note(2, first=3)
        self.webhook.wake()
        self.world.advance(1.0)
        self.webhook.stop()
        self.receiver.answer = 200
        self.webhook = self.make()
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual(self.receiver.cursors(), [1, 2, 3, 4, 5, 4, 5])

    def test_redirect(self) -> None:
        """A redirect is not followed."""
        self.receiver.answer, self.receiver.location = 307, f"http://127.0.0.1:{PORT}/other".encode()
        self.note()
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual(len(self.receiver.posts), 1)
        self.assertIn("redirects are not followed", self.webhook.state.reason)

    def test_silent(self) -> None:
        """A request without an answer fails after the timeout, and is sent again."""
        self.receiver.answer = None
        self.note()
        self.webhook.start()
        self.world.advance(10.5)
        self.assertEqual(self.webhook.state.reason, "the receiver did not answer within 10 s")
        self.receiver.answer = 200
        self.world.advance(2.0)
        self.assertEqual(self.webhook.state.sent, 1)

    def test_unreachable(self) -> None:
        """So is one to a receiver that cannot be reached; the URL appears nowhere."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        del self.world.clock.servers[PORT]
        self.note()
        self.webhook.start()
        self.world.advance(100.0)
        self.assertIn("cannot be reached", self.webhook.state.reason)
        warnings = [event for event in events if event.get("log_namespace") == "txapns.daemon.sending.webhook"]
        self.assertEqual([event["log_level"] for event in warnings], [LogLevel.warn])
        self.assertNotIn("hush", str(warnings) + repr(self.webhook.state))

    def test_gave_up(self) -> None:
        """After a long time without success the webhook gives up until the next start."""
        self.receiver.answer = 500
        self.webhook = self.make(give_up=3_600.0)
        self.note()
        self.webhook.start()
        self.world.advance(5_000.0)
        self.assertTrue(self.webhook.state.gave_up)
        count = len(self.receiver.posts)
        self.webhook.wake()
        self.world.advance(5_000.0)
        self.assertEqual(len(self.receiver.posts), count)

    def test_clock_set(self) -> None:
        """Timestamps come from the wall clock; how long the webhook has failed does not."""
        self.receiver.answer = 500
        self.webhook = self.make(give_up=3_600.0)
        self.note()
        self.webhook.start()
        for step in (86_400.0, -2 * 86_400.0):
            self.world.simulator.wall.step(step)
            count = len(self.receiver.posts)
            self.world.advance(1_000.0)
            self.assertFalse(self.webhook.state.gave_up)
            self.assertGreater(len(self.receiver.posts), count)
        self.receiver.answer = 200
        self.world.advance(1_000.0)
        self.assertEqual(self.webhook.state, WebhookState("crm", sent=1))
        timestamp = int(self.receiver.posts[-1][1]["txapns-timestamp"])
        self.assertLess(abs(self.world.simulator.wall.now() - timestamp), 1_001)

    def test_stop(self) -> None:
        """It can be stopped while it waits for an answer or for a pause, and does nothing after that."""
        self.receiver.answer = None
        self.note()
        self.webhook.start()
        self.world.advance(1.0)
        self.webhook.stop()
        self.world.advance(100.0)
        self.assertEqual((len(self.receiver.posts), self.webhook.state), (1, WebhookState("crm")))
        self.receiver.answer = 500
        self.webhook = self.make()
        self.webhook.start()
        self.world.advance(1.0)
        self.webhook.stop()
        self.webhook.wake()
        self.world.advance(100.0)
        self.assertEqual(len(self.receiver.posts), 2)


class OutcomesTests(SynchronousTestCase):
    """Outcomes, sent over HTTP, alone or with dead tokens."""

    def setUp(self) -> None:
        """Start a receiver and a dispatcher, and record the outcomes of an app."""
        self.world = DispatchWorld()
        self.world.start()
        self.addCleanup(self.world.close)
        self.world.feed.keep(["chess"])
        self.receiver = OutcomeReceiver(self.world.clock.seconds)
        self.world.clock.servers[PORT] = Site(self.receiver, reactor=self.world.clock)

    def make(self, cluster: ICluster | None = None, **fields: Any) -> Webhook:
        """Make a webhook for the receiver, and start it."""
        fields = {"events": ("outcomes",), **fields}
        hook = attrs.evolve(WebhookConfig("crm", f"http://127.0.0.1:{PORT}/hook", lambda: SECRET), **fields)
        events = events_of(hook, self.world.log, self.world.feed)
        webhook = Webhook(self.world.clock, events, hook, random=lambda: 0.0, cluster=cluster)
        self.addCleanup(webhook.stop)
        webhook.start()
        return webhook

    def send(self, *tokens: bytes) -> list[str]:
        """Send to some devices, and wait until Apple has answered."""
        ids = self.world.accept(tokens=tokens)
        self.world.advance(2.0)
        return ids

    def test_reported(self) -> None:
        """Each outcome is sent with its token, signed, soon after Apple has answered, and once."""
        webhook = self.make()
        ids = self.send(token(1), DEAD)
        [(_, fields, found, body)] = self.receiver.posts
        self.assertEqual(
            [(each["id"], each["state"]) for each in found], list(zip(ids, ("accepted", "rejected"), strict=True))
        )
        self.assertEqual([each["token"] for each in found], [token(1).hex(), DEAD.hex()])
        self.assertEqual(fields["txapns-signature"], sign(SECRET, int(fields["txapns-timestamp"]), body))
        self.world.advance(100.0)
        self.assertEqual((self.receiver.kinds(), webhook.state), ([("outcomes", 2)], WebhookState("crm", sent=2)))

    def test_both(self) -> None:
        """Dead tokens and outcomes take turns, each from a position of its own."""
        self.send(*[token(n) for n in range(5)], DEAD)
        webhook = self.make(events=("feedback", "outcomes"), batch=2)
        self.assertEqual(self.world.result(webhook.backlog()), 7)
        self.world.advance(1.0)
        expected = [("dead_tokens", 1), ("outcomes", 2), ("outcomes", 2), ("outcomes", 2)]
        self.assertEqual(self.receiver.kinds(), expected)
        self.assertEqual((webhook.state.sent, self.world.result(webhook.backlog())), (7, 0))

    def test_not_confirmed(self) -> None:
        """What is not confirmed is sent again after a pause, over a restart, and what is new after it."""
        self.receiver.answer = 500
        webhook = self.make()
        self.send(token(1))
        self.world.advance(1.0)
        webhook.stop()
        self.assertIn(("outcomes", 1), self.receiver.kinds())
        self.receiver.reports.clear()
        self.receiver.answer = 200
        self.make()
        self.world.advance(1.0)
        self.send(token(2))
        self.assertEqual([[each["cursor"] for each in found] for _, found in self.receiver.reports], [[1], [2]])

    def test_other_node(self) -> None:
        """Of several nodes the one with the duty sends, and another goes on where it stopped."""
        nodes = Cluster(), Cluster()
        nodes[0].duties.add("webhook:crm")
        first, second = (self.make(node) for node in nodes)
        self.send(token(1))
        self.assertEqual((first.state.sent, second.state.sent), (1, 0))
        nodes[0].become(alive=False)
        self.send(token(2))
        nodes[1].become(duties=["webhook:crm"])
        self.world.advance(1.0)
        self.assertEqual((first.state.sent, second.state.sent, self.receiver.cursors()), (1, 1, [1, 2]))
