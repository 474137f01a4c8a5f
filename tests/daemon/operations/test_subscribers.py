"""Tests for :mod:`txapns.daemon.operations.subscribers`."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld
from tests.daemon.dispatch_world import token

__all__ = ["SubscribersTests"]


class SubscribersTests(SynchronousTestCase):
    """Browsers that keep the page open."""

    def setUp(self) -> None:
        """There is a daemon with one app."""
        self.world = AdminWorld(delay=0.03)
        self.addCleanup(self.world.close)

    def listen(self, query: bytes = b"") -> Any:
        """Subscribe."""
        connection = self.world.connect()
        connection.write(b"GET /events" + query + b" HTTP/1.1\r\nHost: daemon\r\n\r\n")
        self.world.advance(0.01)
        return connection

    def events(self, connection: Any) -> list[Any]:
        """Read the events that came since."""
        text = connection.transport.value()
        connection.transport.clear()
        return [json.loads(line[6:]) for line in text.split(b"\n") if line.startswith(b"data: ")]

    def test_fails(self) -> None:
        """A health check that fails is logged, and the next event still comes."""

        def names() -> list[str]:
            raise ValueError("unlucky")

        connection = self.listen()
        self.events(connection)
        working, self.world.apps.names = self.world.apps.names, names  # type: ignore[method-assign]
        self.world.clock.pump([1.0] * 4)
        self.assertEqual((self.events(connection), len(self.flushLoggedErrors(ValueError)) > 0), ([], True))
        self.world.apps.names = working  # type: ignore[method-assign]
        self.world.clock.pump([1.0] * 4)
        self.assertNotEqual(self.events(connection), [])

    def test_events(self) -> None:
        """One event comes at once, then one every other second; each has the whole page."""
        connection = self.listen()
        self.assertIn(b"text/event-stream", connection.transport.value())
        [event] = self.events(connection)
        self.assertEqual(event["tables"]["apps"][0][0]["text"], "chess")
        self.world.take([token(1)])
        for _ in range(10):
            self.world.advance(1.0)
        events = self.events(connection)
        self.assertEqual(len(events), 5)
        self.assertEqual(events[-1]["tables"]["apps"][0][8]["text"], "1")

    def test_shown(self) -> None:
        """An event has only what the page of its subscriber shows."""
        self.world.add_app("news")
        self.world.advance(2.0)
        for query, names in ((b"?search=NEW", ["news"]), (b"?search=none", []), (b"", ["chess", "news"])):
            connection = self.listen(query)
            self.world.advance(2.0)
            for event in self.events(connection):
                self.assertEqual([row[0]["text"] for row in event["tables"]["apps"]], names)

    def test_nobody(self) -> None:
        """Without subscribers nothing is checked."""
        connection = self.listen()
        self.assertEqual(len(self.world.status.subscribers), 1)
        connection.lose()
        self.assertEqual(len(self.world.status.subscribers), 0)
        calls: list[None] = []
        self.world.queue.depths = lambda: calls.append(None)  # type: ignore[assignment, method-assign, func-returns-value]
        self.world.advance(60.0)
        self.assertEqual(calls, [])

    def test_shared(self) -> None:
        """All subscribers share one check."""
        connections = [self.listen() for _ in range(20)]
        for each in connections:
            self.events(each)
        self.world.advance(2.0)
        self.assertEqual(len({json.dumps(self.events(each)) for each in connections}), 1)

    def test_slow(self) -> None:
        """A slow reader skips events, and is dropped if it stays slow; others are not."""
        slow, other, recovering = (self.listen() for _ in range(3))
        for each in (slow, recovering):
            each.transport.producer.pauseProducing()
            self.events(each)
        self.world.advance(2.0)
        self.world.advance(2.0)
        self.assertEqual((self.events(slow), self.events(recovering)), ([], []))
        recovering.transport.producer.resumeProducing()
        for _ in range(6):
            self.world.advance(2.0)
        self.assertTrue(self.events(recovering))
        self.assertEqual([each.transport.disconnected for each in (slow, other, recovering)], [True, False, False])

    def test_heartbeat(self) -> None:
        """If no event comes for some time, a comment keeps the connection alive."""
        connection = self.listen()
        self.events(connection)
        self.world.queue.depths = Deferred  # type: ignore[method-assign]
        for _ in range(20):
            self.world.advance(1.0)
        self.assertIn(b": still here", connection.transport.value())
        self.assertEqual(self.events(connection), [])

    def test_stop(self) -> None:
        """When the daemon stops, the responses end and the connections can be reused."""
        connection = self.listen()
        self.world.status.subscribers.stop()
        self.assertTrue(connection.transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(len(self.world.status.subscribers), 0)
