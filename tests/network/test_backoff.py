"""Tests for :mod:`txapns._network.backoff`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns._network.backoff import Backoff


class BackoffTests(SynchronousTestCase):
    """Delays with a memory."""

    def test_doubles_up_to_the_maximum(self) -> None:
        """Each delay is twice the one before, from a second to a minute."""
        backoff = Backoff(jitter=0.0)
        self.assertEqual([backoff.next_delay() for _ in range(9)], [1, 2, 4, 8, 16, 32, 60, 60, 60])

    def test_reset(self) -> None:
        """After a session has proved itself, the next failure counts as the first."""
        backoff = Backoff(jitter=0.0)
        for _ in range(5):
            backoff.next_delay()
        backoff.reset()
        self.assertEqual([backoff.next_delay(), backoff.next_delay()], [1, 2])

    def test_custom(self) -> None:
        """First delay, factor and maximum are configurable."""
        backoff = Backoff(initial=0.5, maximum=10.0, factor=3.0, jitter=0.0)
        self.assertEqual([backoff.next_delay() for _ in range(5)], [0.5, 1.5, 4.5, 10.0, 10.0])

    def test_jitter_is_not_remembered(self) -> None:
        """Jitter shortens one delay, and does not affect the next."""
        backoff = Backoff(jitter=0.5, random=lambda: 0.5)
        self.assertEqual([backoff.next_delay() for _ in range(3)], [0.75, 1.5, 3.0])

    @given(chance=st.floats(0.0, 1.0, exclude_max=True), failures=st.integers(1, 40))
    def test_bounds(self, chance: float, failures: int) -> None:
        """For any random number, a delay is shortened by at most the jitter, and never lengthened."""
        exact, varied = Backoff(jitter=0.0), Backoff(random=lambda: chance)
        for _ in range(failures):
            delay = exact.next_delay()
            self.assertTrue(0.8 * delay <= varied.next_delay() <= delay)

    def test_ten_in_the_first_minute(self) -> None:
        """For any random numbers, there are at most ten attempts in the first minute."""
        backoff, time, attempts = Backoff(random=lambda: 0.999), 0.0, 0
        while time < 60.0:
            attempts += 1
            time += backoff.next_delay()
        self.assertLessEqual(attempts, 10)

    def test_promising(self) -> None:
        """True only after a session has proved itself and before the next failure; lasting long is no proof."""
        backoff = Backoff()
        backoff.reset(proved=False)
        self.assertFalse(backoff.promising)
        backoff.reset()
        self.assertTrue(backoff.promising)
        backoff.next_delay()
        self.assertFalse(backoff.promising)
        backoff.reset(proved=False)
        self.assertTrue(backoff.promising)
