"""Tests for :mod:`txapns.daemon.store.postgresql.lease_book`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.postgresql.lease_book import LeaseBook

__all__ = ["LeaseBookTests"]


class LeaseBookTests(SynchronousTestCase):
    """Two rows of leases: one of three notifications, and one of two."""

    def setUp(self) -> None:
        """Make them."""
        self.book = LeaseBook()
        self.book.lend((1, 1), [1, 2, 3], 60.0, 0.0)
        self.book.lend((1, 2), [4, 5], 90.0, 0.0)

    def test_find(self) -> None:
        """It is told which rows are wholly among some notifications, which in part, and what is in none."""
        found = self.book.find([1, 2, 4, 5, 9], 0.0)
        self.assertEqual((found.whole, found.parts, found.unknown), ({(1, 2): {4, 5}}, {(1, 1): {1, 2}}, [9]))
        self.assertEqual(found.known, {(1, 1): {1, 2}, (1, 2): {4, 5}})

    def test_drop(self) -> None:
        """What is left of a row after some are gone is the whole row."""
        self.book.drop([((1, 1), {1, 2})])
        self.assertEqual((self.book.find([3], 0.0).whole, len(self.book)), ({(1, 1): {3}}, 3))
        self.book.drop([((1, 1), {3}), ((7, 7), {8})])
        self.assertEqual((self.book.find([3], 0.0).unknown, len(self.book)), ([3], 2))

    def test_drop_what_has_moved(self) -> None:
        """A notification that was leased again meanwhile stays in its new row."""
        self.book.lend((1, 3), [1], 60.0, 0.0)
        self.book.drop([((1, 1), {1, 2, 3})])
        self.assertEqual(self.book.find([1, 2], 0.0).whole, {(1, 3): {1}})

    def test_end(self) -> None:
        """A row that has ended is not known any more, and is forgotten when the next is made."""
        self.assertEqual(sorted(self.book.find([1, 2, 3], 60.0).unknown), [1, 2, 3])
        self.book.lend((1, 4), [6], 120.0, 60.0)
        self.assertEqual((len(self.book), self.book.find([1], 0.0).unknown), (3, [1]))

    def test_renew(self) -> None:
        """The end of a row may move."""
        self.book.renew([(1, 1), (7, 7)], 100.0)
        self.assertEqual(self.book.find([1, 2, 3], 99.0).whole, {(1, 1): {1, 2, 3}})

    def test_clear(self) -> None:
        """In another life nothing is known."""
        self.book.clear()
        self.assertEqual((self.book.find([1], 0.0).unknown, len(self.book)), ([1], 0))
