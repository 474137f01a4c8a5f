"""
Tests that no page holds the reactor: however many apps there are, little is done in one turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.admin_world import AdminWorld
from tests.daemon.dispatch_world import HEADERS, PAYLOAD, token
from tests.daemon.operations.test_app_list import NOW, overview
from tests.turns import MOST, Turns
from txapns.daemon.operations.app_list import digest_of
from txapns.daemon.operations.health import Overview
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.values import Message
from txapns.gateway import Gateway

__all__ = ["ManyTests", "PageTests"]

#: How many apps a daemon has that all have something waiting: enough for some slices, and for two pages of the list.
APPS = 300
#: How many apps there are where they need no daemon.
MANY = 3_000
PAGES = ("/", "/?page=2", "/?search=app1", "/apps/app001", "/metrics", "/readyz")


class PageTests(SynchronousTestCase):
    """Every page of the admin endpoint, of a daemon whose apps all have something waiting."""

    def setUp(self) -> None:
        """Add the apps. No server answers, so what waits stays."""
        self.world = AdminWorld()
        self.addCleanup(self.world.close)
        names = [f"app{number:03}" for number in range(APPS)]
        credential, nowhere = self.world.simulator.provider_token(), Gateway.http2("localhost", 1)
        for name in names:
            self.world.add_app(name, gateway=nowhere, credential=credential)
        messages = [Message(name, PAYLOAD, HEADERS, [token(0)], self.world.ids.take(1)) for name in names]
        self.world.result(self.world.queue.accept(messages))
        for name in names:
            self.world.dispatcher.wake(name)
        self.world.advance(0.5)

    def test_turns(self) -> None:
        """No turn is long; each page is answered."""
        for path in PAGES:
            self.world.health.expire()
            connection, turns = self.world.connect(), Turns(self.world.clock)
            turns.begin(partial(connection.write, f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()))
            self.assertEqual([response.status for response in connection.read()], [200], path)
            self.assertLess(max(turns.found), MOST, path)


class ManyTests(SynchronousTestCase):
    """What is done with the health of all apps."""

    def setUp(self) -> None:
        """Make the health of many apps."""
        self.apps = tuple(overview(f"app{number:04}", waiting=number) for number in range(MANY))

    def longest(self, clock: Clock, work: Callable[[], Deferred[Any]]) -> int:
        """Return how many functions are called in the longest turn."""
        found: list[object] = []
        turns = Turns(clock)
        turns.begin(lambda: work().addCallback(found.append))
        self.assertEqual(len(found), 1)
        return max(turns.found)

    def test_digest(self) -> None:
        """All apps are looked at, with turns between."""
        clock = Clock()
        digest = lambda: Deferred.fromCoroutine(digest_of(clock, self.apps, NOW))  # noqa: E731
        self.assertLess(self.longest(clock, digest), MOST)

    def test_metrics(self) -> None:
        """The metrics are written, with turns between."""
        metrics = DaemonMetrics(Clock())
        for app in self.apps:
            metrics.client(app.name).accepted(0.1)
            metrics.received("native", app.name, 1)
        health = Overview(NOW, self.apps, (), "", stopping=False)
        self.assertLess(self.longest(metrics.clock, lambda: metrics.render(health)), MOST)
