"""Tests for :mod:`txapns.daemon.store.retention`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import DatedClock
from txapns.daemon.store.retention import Retention

__all__ = ["RetentionTests"]

KEPT = 1_000
STEPS = st.lists(st.tuples(st.integers(0, 300), st.integers(-100_000, 100_000)), max_size=40)


class RetentionTests(SynchronousTestCase):
    """Whatever the wall clock does, outcomes are kept for their time."""

    def test_steady(self) -> None:
        """While the clock is not set, it is the date minus the duration."""
        clock = DatedClock()
        retention = Retention(clock, lambda: KEPT)
        for _ in range(5):
            self.assertApproximates(retention.begin(), clock.now() - KEPT, 1.0)
            clock.advance(KEPT)

    @given(STEPS)
    def test_not_too_soon(self, steps: list[tuple[int, int]]) -> None:
        """Nothing is forgotten too early, whatever steps the clock takes."""
        clock = DatedClock()
        retention = Retention(clock, lambda: KEPT)
        dated: list[tuple[float, float]] = []
        for seconds, step in steps:
            begin = retention.begin()
            dated.append((clock.seconds(), clock.now()))
            for at, date in dated:
                self.assertTrue(date >= begin or clock.seconds() - at >= KEPT)
            clock.advance(seconds)
            clock.ahead += step

    def test_not_for_ever(self) -> None:
        """Once a step is old enough, it is the date minus the duration again."""
        for step in (86_400.0, -86_400.0):
            clock = DatedClock()
            retention = Retention(clock, lambda: KEPT)
            retention.begin()
            clock.ahead += step
            for _ in range(11):
                clock.advance(KEPT / 10)
                begin = retention.begin()
            self.assertApproximates(begin, clock.now() - KEPT, 1.0)
