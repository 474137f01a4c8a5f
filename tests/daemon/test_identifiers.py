"""Tests for :mod:`txapns.daemon.identifiers`."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txapns._network.clocks import IWallClock
from txapns.daemon import identifiers
from txapns.daemon.identifiers import Identifiers

__all__ = ["IdentifiersTests"]

# Until the year 10889, when the 48 bits overflow.
TIMES = st.integers(min_value=0, max_value=2**48 - 10**6).map(lambda milliseconds: milliseconds / 1000)


@implementer(IWallClock)
class _Stopped:
    """A wall clock that shows the same date until it is set."""

    def __init__(self, date: float = 1_700_000_000.0) -> None:
        self.date = date

    def now(self) -> float:
        """Tell the date."""
        return self.date


class IdentifiersTests(SynchronousTestCase):
    """A source of ids."""

    @given(TIMES, st.integers(min_value=0, max_value=50), st.randoms(use_true_random=False))
    def test_format(self, now: float, count: int, random: object) -> None:
        """Ids are UUIDs of version 7 in canonical form, with the time in their first 48 bits."""
        found = Identifiers(_Stopped(now), random.randbytes).take(count)  # type: ignore[attr-defined]
        self.assertEqual(len(found), count)
        for text in found:
            parsed = uuid.UUID(text)
            self.assertEqual((str(parsed), parsed.version, parsed.variant), (text, 7, uuid.RFC_4122))
            self.assertEqual(parsed.int >> 80, int(now * 1000))

    @given(st.lists(st.tuples(TIMES, st.integers(min_value=0, max_value=5000)), max_size=5))
    def test_growing(self, steps: list[tuple[float, int]]) -> None:
        """Each id is greater than all before, whatever the clock does, however many there are in a millisecond."""
        clock = _Stopped()
        source = Identifiers(clock)
        found = []
        for clock.date, count in steps:
            found += source.take(count)
        self.assertEqual(found, sorted(set(found)))

    def test_random(self) -> None:
        """Two sources make different ids in the same millisecond: all bits but version and variant are used."""
        first, second = (Identifiers(_Stopped()).take(100) for _ in range(2))
        self.assertEqual(set(first) & set(second), set())
        self.assertEqual({text[19] for text in first}, set("89ab"))

    def test_drawing(self) -> None:
        """The id in the module's docstring follows from its time and random bytes."""
        random = bytes.fromhex("8a3c5d6e7f809112")
        [text] = Identifiers(_Stopped(), lambda count: random).take(1)
        self.assertEqual(text, "018bcfe5-6800-7000-8a3c-5d6e7f809112")
        self.assertIn(text, identifiers.__doc__ or "")
