"""Tests for :mod:`txapns.daemon.store.polling`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.errors import Unavailable
from txapns.daemon.store.polling import INTERVAL, ChangePoller

__all__ = ["ChangePollerTests"]


class ChangePollerTests(SynchronousTestCase):
    """Polling a store."""

    def setUp(self) -> None:
        """Make a store with one value."""
        self.clock = Clock()
        self.results: list[Deferred[int]] = []
        self.found: list[int] = []
        self.poller = ChangePoller(self.clock, lambda: self.results.pop(0), self.found.append)

    def test_interval(self) -> None:
        """It polls at the start, at regular intervals, and on request, until it is stopped."""
        self.results = [succeed(number) for number in range(3)]
        self.successResultOf(self.poller.start())
        self.clock.advance(INTERVAL)
        self.successResultOf(self.poller.poll())
        self.assertEqual(self.found, [0, 1, 2])
        self.successResultOf(self.poller.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_started(self) -> None:
        """If the first poll fails, polling does not start."""
        self.results = [fail(Unavailable("no"))]
        self.failureResultOf(self.poller.start(), Unavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failures(self) -> None:
        """The same failure is logged once, until a poll succeeds."""
        failures = [fail(Unavailable("no")) for _ in range(3)]
        self.results = [succeed(0), *failures[:2], succeed(1), failures[2]]
        self.successResultOf(self.poller.start())
        with capturedLogs() as events:
            self.clock.pump([INTERVAL] * 4)
        self.assertEqual([event["reason"] for event in events], ["no", "no"])
        self.assertEqual([event["log_level"] for event in events], [LogLevel.warn] * 2)

    def test_fault_of_our_own(self) -> None:
        """An unexpected failure is logged with its traceback, and polling goes on."""
        self.results = [succeed(0), fail(ZeroDivisionError()), succeed(1)]
        self.successResultOf(self.poller.start())
        self.clock.pump([INTERVAL] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.found, [0, 1])

    def test_stopped_while_polling(self) -> None:
        """Stopping waits for the poll that is under way."""
        last: Deferred[int] = Deferred()
        self.results = [succeed(0), last]
        self.successResultOf(self.poller.start())
        self.clock.advance(INTERVAL)
        stopped = self.poller.stop()
        self.assertNoResult(stopped)
        last.callback(1)
        self.successResultOf(stopped)
