"""Tests for :mod:`txapns.daemon.store.pace`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.pace import BURST, allowed, spent

__all__ = ["PaceTests"]

_RATES = st.integers(1, 100_000)
_STEPS = st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 5_000)), max_size=50)


class PaceTests(SynchronousTestCase):
    """What may be leased."""

    def test_burst(self) -> None:
        """After a pause what half a second allows may be leased at once, and one more."""
        for rate, count in ((1, 1), (2, 2), (10, 6), (5_000, 2_501)):
            self.assertEqual(allowed(0, 10**12, rate), count)
            self.assertEqual(allowed(spent(0, 10**12, rate, count), 10**12, rate), 0)

    def test_clock_set_back(self) -> None:
        """If the clock was set back by an hour, nothing waits for an hour."""
        until = spent(0, 10**12, 10, 6)
        now = 10**12 - 3_600_000_000
        self.assertEqual(allowed(until, now, 10), 6)
        self.assertEqual(allowed(spent(until, now, 10, 6), now, 10), 0)

    @given(_RATES, _STEPS)
    def test_never_more(self, rate: int, steps: list[tuple[int, int]]) -> None:
        """In no time are more leased than the rate allows and what half a second allows before."""
        now = start = 10**15
        until = leased = 0
        for pause, wanted in steps:
            now += pause
            count = min(wanted, allowed(until, now, rate))
            self.assertGreaterEqual(count, 0)
            until = spent(until, now, rate, count)
            leased += count
            self.assertLessEqual(leased, rate * ((now - start) / 1e6 + BURST) + 1)

    @given(st.integers(1, 2_000))
    def test_as_many(self, rate: int) -> None:
        """Who leases four times a second gets as many as the rate says."""
        now = 10**15
        until = leased = 0
        for _ in range(80):
            now += 250_000
            count = allowed(until, now, rate)
            until = spent(until, now, rate, count)
            leased += count
        self.assertGreaterEqual(leased, 19.4 * rate - 1)
