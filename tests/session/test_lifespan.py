"""Tests for txapns._session.lifespan."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns._session.lifespan import ENOUGH, Lifespan


class LifespanTests(SynchronousTestCase):
    """What is learned from the ends of connections."""

    def learned(self, *requests: int) -> int:
        """End connections after this many requests; return how many the next one sends."""
        lifespan = Lifespan()
        for each in requests:
            lifespan.ended(each)
        return lifespan.most

    def test_twice_the_same(self) -> None:
        """Two ends after the same number are believed, one is not."""
        self.assertEqual(self.learned(), 0)
        self.assertEqual(self.learned(1_000), 0)
        self.assertEqual(self.learned(1_000, 1_000), 1_000)
        self.assertEqual(self.learned(1_000, 1_000, 1_000), 1_000)

    def test_different(self) -> None:
        """An end after another number, or without an announcement, has it forgotten."""
        self.assertEqual(self.learned(1_000, 1_000, 700), 0)
        self.assertEqual(self.learned(1_000, 1_000, 0), 0)
        self.assertEqual(self.learned(1_000, 1_000, 0, 1_000), 0)
        self.assertEqual(self.learned(1_000, 700, 1_000, 700), 0)

    def test_few(self) -> None:
        """A server that ends each connection after a few requests is not given one after the other by our own wish."""
        self.assertEqual(self.learned(ENOUGH - 1, ENOUGH - 1), 0)
        self.assertEqual(self.learned(ENOUGH, ENOUGH), ENOUGH)
        self.assertEqual(self.learned(1, 1, 1), 0)
