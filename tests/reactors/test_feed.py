"""Tests for :mod:`txapns._reactors.feed`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txapns._reactors.feed import AHEAD, Feed
from txapns._session.tokens import Pending

__all__ = ["FeedTests", "PaceTests"]


class FeedTests(SynchronousTestCase):
    """One thread at a time."""

    def setUp(self) -> None:
        """Remember how often something arrived."""
        self.calls: list[Any] = []

    def fill(self, items: Iterator[int]) -> Feed[int]:
        """Fill a feed with few items."""
        feed = Feed(items)
        feed.start(lambda: self.calls.append("arrived"))
        feed.run(lambda function: function())
        return feed

    def test_order(self) -> None:
        """Items come out in order, and then there are no more."""
        self.assertEqual(list(self.fill(iter(range(10)))), list(range(10)))

    def test_announced(self) -> None:
        """The first item is announced, and the end; not each."""
        self.fill(iter(range(10)))
        self.assertEqual(self.calls, ["arrived", "arrived"])

    def test_first(self) -> None:
        """A first item is pulled on its own."""
        feed = Feed(iter("ab"))
        self.assertFalse(feed.available)
        self.assertRaises(Pending, next, feed)
        self.assertTrue(feed.pull())
        self.assertEqual((feed.available, next(feed)), (True, "a"))
        self.assertRaises(Pending, next, feed)

    def test_none(self) -> None:
        """Without a first item it has ended."""
        feed: Feed[int] = Feed(iter(()))
        self.assertFalse(feed.pull())
        self.assertEqual((feed.available, list(feed)), (True, []))

    def test_raises(self) -> None:
        """An exception of the iterator comes after the items before it."""

        def items() -> Iterator[int]:
            yield 1
            raise LookupError("gone")

        feed = self.fill(items())
        self.assertEqual(next(feed), 1)
        self.assertRaises(LookupError, next, feed)

    def test_raises_at_once(self) -> None:
        """So does one before the first item."""
        feed = Feed(map(int, ["x"]))
        self.assertFalse(feed.pull())
        self.assertRaises(ValueError, next, feed)

    def test_closed(self) -> None:
        """Once it is closed, no more is pulled, and what is left can be told."""
        pulled: list[int] = []

        def items() -> Iterator[int]:
            for number in range(10):
                pulled.append(number)
                if number == 3:
                    feed.close()
                yield number

        feed = Feed(items())
        feed.run(lambda function: function())
        self.assertEqual((pulled, list(feed.left())), ([0, 1, 2, 3], [0, 1, 2, 3]))

    def test_opened_again(self) -> None:
        """After it was closed too early, it goes on with the next item."""
        feed = Feed(iter(range(5)))
        feed.close()
        feed.run(lambda function: function())
        feed.open()
        feed.run(lambda function: function())
        self.assertEqual(list(feed), list(range(5)))


class PaceTests(SynchronousTestCase):
    """Two threads."""

    def until(self, condition: Any) -> None:
        """Wait until something is so."""
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.001)

    def test_no_further(self) -> None:
        """So many are pulled ahead, and more only when half of them are gone."""
        pulled = 0

        def items() -> Iterator[int]:
            nonlocal pulled
            for number in range(3 * AHEAD):
                pulled += 1
                yield number

        feed = Feed(items())
        filling = threading.Thread(target=feed.run, args=(lambda function: function(),))
        filling.start()
        self.addCleanup(filling.join)
        self.addCleanup(feed.close)
        self.until(lambda: feed._waiting)
        self.assertEqual(pulled, AHEAD)
        self.assertEqual([next(feed) for _ in range(AHEAD // 2 - 1)], list(range(AHEAD // 2 - 1)))
        self.assertEqual((pulled, feed._waiting), (AHEAD, True))
        next(feed)
        self.until(lambda: feed._waiting)
        self.assertEqual(pulled, AHEAD + AHEAD // 2)

    def test_all(self) -> None:
        """However the two threads take turns, everything arrives, in order."""
        arrived = threading.Event()
        feed = Feed(iter(range(100_000)))
        feed.start(arrived.set)
        filling = threading.Thread(target=feed.run, args=(lambda function: function(),))
        filling.start()
        self.addCleanup(filling.join)
        taken: list[int] = []
        ended = False
        while not ended:
            try:
                taken.append(next(feed))
            except Pending:
                self.assertTrue(arrived.wait(60))
                arrived.clear()
            except StopIteration:
                ended = True
        self.assertEqual(taken, list(range(100_000)))
