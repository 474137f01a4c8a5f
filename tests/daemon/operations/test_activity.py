"""Tests for :mod:`txapns.daemon.operations.activity`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.operations.activity import STEP, WINDOW, Activity, AppActivity
from txapns.daemon.values import Content, Leased, Settlement, State

__all__ = ["ActivityTests"]

CONTENT = Content("chess", {})


class ActivityTests(SynchronousTestCase):
    """How busy apps are."""

    def setUp(self) -> None:
        """Nothing has happened yet."""
        self.clock = Clock()
        self.clock.advance(WINDOW)
        self.activity = Activity(self.clock)

    def settle(self, *seconds: float, state: State = State.ACCEPTED, app: str = "chess") -> None:
        """Settle notifications that were accepted so many seconds ago."""
        now = self.clock.seconds()
        leased = [Leased(n, CONTENT, b"{}", b"", "", 0, 0.0, now - each) for n, each in enumerate(seconds)]
        self.activity.settled(app, leased, [Settlement(n, state) for n in range(len(seconds))])

    def test_nothing(self) -> None:
        """An app of which nothing was answered has no durations; attempts without an answer do not count."""
        self.settle(1.0, state=State.WAITING)
        self.settle(1.0, state=State.EXPIRED)
        self.assertEqual(self.activity.of("chess"), AppActivity(0.0, None, None))

    def test_percentiles(self) -> None:
        """Percentiles are at most a fifth too high, and never too low."""
        for seconds in (0.0001, 0.004, 0.05, 3.0, 86_400.0):
            self.settle(*[seconds] * 98, 10 * seconds, 10 * seconds, app=str(seconds))
            found = self.activity.of(str(seconds))
            assert found.median is not None
            assert found.p99 is not None
            least = max(seconds, 0.001)
            self.assertTrue(least * 0.999 <= found.median <= least * 1.201, found)
            self.assertTrue(max(10 * seconds, 0.001) * 0.999 <= found.p99 <= max(10 * seconds, 0.001) * 1.201, found)

    def test_rate(self) -> None:
        """The rate is that of the last ten seconds or so, and falls to nothing."""
        for _ in range(30):
            self.settle(*[0.1] * 4)
            self.settle(0.1, state=State.REJECTED)
            self.clock.advance(1.0)
        self.assertApproximates(self.activity.of("chess").rate, 5.0, 1e-6)
        self.clock.advance(STEP / 2)
        self.assertTrue(0.0 < self.activity.of("chess").rate < 5.0)
        self.clock.advance(2 * STEP)
        self.assertEqual(self.activity.of("chess").rate, 0.0)

    def test_forgotten(self) -> None:
        """Durations are forgotten after two windows, and so is an app of which nothing is answered any more."""
        self.settle(0.1)
        self.clock.advance(WINDOW)
        self.settle(0.1, app="news")
        self.assertIsNotNone(self.activity.of("chess").median)
        self.clock.advance(WINDOW)
        self.assertIsNone(self.activity.of("chess").median)
        self.clock.advance(WINDOW + 1)
        self.settle(0.1, app="notes")
        self.assertEqual(list(self.activity._counts), ["notes"])
