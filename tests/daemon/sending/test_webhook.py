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
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http import Request
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.daemon.dispatch_world import AUTHORITY, DEAD, START, DispatchWorld, token
from txapns._network.http_client import http_agent
from txapns._network.trust import given_trust
from txapns.daemon.errors import Unavailable
from txapns.daemon.sending.webhook import Webhook, WebhookConfig, WebhookState, read_secret, sign
from txapns.daemon.store.sqlite import feedback_log as feedback
from txapns.daemon.store.sqlite.database import Database

__all__ = ["SignatureTests", "TLSTests", "WebhookTests"]

SECRET = b"correct horse battery staple"
PORT = 8080


class Receiver(Resource):
    """
    The other program.

    :ivar posts: what came: the time, the header fields, the tokens, the body.
    :ivar answer: the status it answers with; ``None`` for no answer.
    """

    isLeaf = True

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._seconds = seconds
        self.posts: list[tuple[float, dict[str, str], list[dict[str, Any]], bytes]] = []
        self.answer: int | None = 204
        self.location = b""

    def render_POST(self, request: Request) -> Any:
        """Remember it, and answer."""
        assert request.content is not None
        body = request.content.read()
        fields = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.posts.append((self._seconds(), fields, json.loads(body)["dead_tokens"], body))
        if self.answer is None:
            return NOT_DONE_YET
        request.setResponseCode(self.answer)
        if self.location:
            request.setHeader(b"location", self.location)
        return b"" if self.answer == 204 else b"x" * 100_000

    def told(self) -> list[int]:
        """The cursors that came, in order."""
        return [each["cursor"] for _, _, tokens, _ in self.posts for each in tokens]


class SignatureTests(SynchronousTestCase):
    """How it is signed."""

    def test_signature(self) -> None:
        """It is over the time, a full stop and the body."""
        expected = hmac.new(SECRET, b"1700000000.{}", hashlib.sha256).hexdigest()
        self.assertEqual(sign(SECRET, 1_700_000_000, b"{}"), f"v1={expected}")

    def test_secrets(self) -> None:
        """Neither the secret nor the address is in what is printed."""
        text = repr(WebhookConfig("crm", "https://example.com/hook?key=hush", lambda: SECRET))
        self.assertNotIn("horse", text)
        self.assertNotIn("hush", text)


@pytest.mark.loopback
class TLSTests(TestCase):
    """HTTPS, over loopback."""

    async def post(self, agent: IAgent | None = None) -> tuple[Receiver, WebhookState]:
        """Tell one token to a receiver whose certificate only we trust; returns it, and how the webhook fares."""
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
        webhook = Webhook(reactor, log, hook, agent)
        webhook.start()
        end = time.monotonic() + 30
        while not (webhook.state.told or webhook.state.reason) and time.monotonic() < end:
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        webhook.stop()
        return receiver, webhook.state

    async def test_trusted(self) -> None:
        """A receiver that shows a certificate that is trusted is told."""
        receiver, state = await self.post(http_agent(reactor, given_trust(AUTHORITY.ca_pem), 10.0))
        self.assertEqual((state.told, receiver.told()), (1, [1]))

    async def test_not_trusted(self) -> None:
        """One that does not, is not; the log has no line for each attempt."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        receiver, state = await self.post()
        self.assertEqual([event for event in events if event["log_namespace"].startswith("twisted.web.client")], [])
        self.assertEqual((state.told, receiver.posts), (0, []))
        self.assertTrue(state.reason)


class WebhookTests(SynchronousTestCase):
    """Dead tokens, told over HTTP."""

    def setUp(self) -> None:
        """A receiver that listens, and a log with nothing in it."""
        self.world = DispatchWorld()
        self.world.start()
        self.addCleanup(self.world.close)
        self.receiver = Receiver(self.world.clock.seconds)
        self.world.clock.servers[PORT] = Site(self.receiver, reactor=self.world.clock)
        self.webhook = self.make()

    def make(self, **fields: Any) -> Webhook:
        """Make a webhook of the receiver."""
        hook = attrs.evolve(WebhookConfig("crm", f"http://127.0.0.1:{PORT}/hook?key=hush", lambda: SECRET), **fields)
        webhook = Webhook(self.world.clock, self.world.log, hook, random=lambda: 0.0)
        self.addCleanup(webhook.stop)
        return webhook

    def note(self, count: int = 1, app: str = "chess", first: int = 0) -> None:
        """Note dead tokens."""
        dead = [(app, token(first + n), "Unregistered", START - 60) for n in range(count)]
        self.world.result(self.world.database.write(lambda connection: feedback.note(connection, dead, START)))

    def test_post(self) -> None:
        """A token is told with all that is known of it, and signed."""
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
        self.assertEqual(self.webhook.state, WebhookState("crm", told=1))

    def test_woken(self) -> None:
        """What the dispatcher notes is told when it says so, once."""
        self.webhook.start()
        self.world.accept(tokens=[token(1), DEAD])
        self.world.drain()
        self.webhook.wake("chess")
        self.world.advance(1.0)
        self.webhook.wake("chess")
        self.world.advance(1.0)
        self.assertEqual(self.receiver.told(), [1])

    def test_secret(self) -> None:
        """A secret that cannot be read is told of at once, and keeps it back until it can be."""
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
        self.assertEqual((webhook.state, self.receiver.told()), (WebhookState("crm", told=1), [1]))

    def test_damaged(self) -> None:
        """A row of the log that makes no sense does not keep the others from being told."""
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
        self.assertEqual((self.receiver.told(), self.webhook.state), ([1, 2, 3, 4, 5, 6], WebhookState("crm", told=6)))

    def test_backlog(self) -> None:
        """What is still to be told is counted, of its own apps alone, as long as the database can be read."""
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
        """Many are told in several posts, in order, and no more is told than there is."""
        self.webhook = self.make(batch=10)
        self.note(25)
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual([len(tokens) for _, _, tokens, _ in self.receiver.posts], [10, 10, 5])
        self.assertEqual(self.receiver.told(), list(range(1, 26)))

    def test_apps(self) -> None:
        """One for some apps is told of these only."""
        self.webhook = self.make(apps=("chess", "go"))
        self.note(2, "chess")
        self.note(2, "shogi")
        self.note(2, "go")
        self.webhook.start()
        self.world.advance(1.0)
        self.webhook.wake("shogi")
        self.world.advance(1.0)
        self.assertEqual(self.receiver.told(), [1, 2, 5, 6])

    def test_again(self) -> None:
        """What is not answered with yes is told again, after growing pauses, also if something new comes meanwhile."""
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
        self.assertEqual(self.receiver.told(), [1, 1, 1, 1, 1, 1, 2])
        self.assertEqual(self.webhook.state, WebhookState("crm", told=2))

    def test_restart(self) -> None:
        """What was told is not told again after a restart, and what was not is."""
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
        self.assertEqual(self.receiver.told(), [1, 2, 3, 4, 5, 4, 5])

    def test_redirect(self) -> None:
        """A redirect is not followed."""
        self.receiver.answer, self.receiver.location = 307, f"http://127.0.0.1:{PORT}/other".encode()
        self.note()
        self.webhook.start()
        self.world.advance(1.0)
        self.assertEqual(len(self.receiver.posts), 1)
        self.assertIn("redirects are not followed", self.webhook.state.reason)

    def test_silent(self) -> None:
        """A receiver that does not answer is given up after the timeout, and tried again."""
        self.receiver.answer = None
        self.note()
        self.webhook.start()
        self.world.advance(10.5)
        self.assertEqual(self.webhook.state.reason, "the receiver did not answer within 10 s")
        self.receiver.answer = 200
        self.world.advance(2.0)
        self.assertEqual(self.webhook.state.told, 1)

    def test_unreachable(self) -> None:
        """So is one that is not there; the address stands nowhere."""
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
        """After a long time without success it is not tried any more, until the next start."""
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
        """What is told is dated by the clock on the wall; for how long it could not be told is not."""
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
        self.assertEqual(self.webhook.state, WebhookState("crm", told=1))
        timestamp = int(self.receiver.posts[-1][1]["txapns-timestamp"])
        self.assertLess(abs(self.world.simulator.wall.now() - timestamp), 1_001)

    def test_stop(self) -> None:
        """It can be stopped while it waits for an answer or for its time, and then does nothing more."""
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
