"""Tests for :mod:`txapns.daemon.store.sqlite.leases`; the model in ``queue_contract`` tests them with the queue."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import HEADERS, PAYLOAD
from txapns.daemon.store.acceptance import Block
from txapns.daemon.store.sqlite.arrivals import Arrival
from txapns.daemon.store.sqlite.leases import KEPT, Leases
from txapns.daemon.values import Message

__all__ = ["ArrivalsTests", "LeasesTests"]


class LeasesTests(SynchronousTestCase):
    """Leases of a flow."""

    def setUp(self) -> None:
        """Make three leases at the front of the queue."""
        self.leases = Leases()
        self.start = self.leases.mark(1)
        self.leases.lend(1, [1000, 1000, 2000], [1, 2, 5], 60.0)

    def test_mark(self) -> None:
        """The search begins after the last lease, with nothing to skip."""
        self.assertLess(self.start, (0, 1))
        self.assertEqual((self.leases.mark(1), self.leases.passed_over(1)), ((2000, 5), []))
        self.assertEqual(self.leases.mark(2), self.start)

    def test_nothing_lent(self) -> None:
        """Leasing nothing changes nothing."""
        self.leases.lend(1, [], [], 60.0)
        self.leases.lend(2, [], [], 60.0)
        self.assertEqual((self.leases.mark(1), self.leases.counts()), ((2000, 5), {1: 3}))

    def test_free(self) -> None:
        """A freed notification moves the mark back, and leased ones after it are skipped."""
        self.leases.free([2, 99])
        self.assertLess(self.leases.mark(1), (1000, 2))
        self.assertGreaterEqual(self.leases.mark(1), (1000, 1))
        self.assertEqual(self.leases.passed_over(1), [1, 5])
        self.assertNotIn(2, self.leases.numbers())
        self.leases.lend(1, [1000], [2], 60.0)
        self.assertEqual(self.leases.passed_over(1), [1, 5, 2])  # 5 is behind the mark
        self.leases.lend(1, [2000], [6], 60.0)
        self.assertEqual(self.leases.passed_over(1), [])

    def test_dropped(self) -> None:
        """A settlement leaves the mark where it is."""
        self.leases.drop([1, 99])
        self.assertEqual((self.leases.mark(1), self.leases.numbers()), ((2000, 5), [2, 5]))

    def test_among(self) -> None:
        """Those that are leased are counted by flow, and the others are listed."""
        self.leases.lend(2, [1000], [4], 60.0)
        found = [self.leases.among(numbers) for numbers in ([1, 4, 5], [2, 3, 99], [])]
        self.assertEqual(found, [({1: 2, 2: 1}, []), ({1: 1}, [3, 99]), ({}, [])])

    def test_put_back(self) -> None:
        """A notification put back before the mark moves the mark; one put back after it does not."""
        self.leases.put_back(1, 3000)
        self.assertEqual(self.leases.mark(1), (2000, 5))
        self.leases.put_back(2, 500)
        self.assertEqual(self.leases.mark(1), (500, 1))

    def test_put_back_late(self) -> None:
        """One whose lease has ended may lie before any mark."""
        self.leases.put_back(99, 100)
        self.assertEqual((self.leases.mark(1), self.leases.passed_over(1)), (self.start, [1, 2, 5]))

    def test_expire(self) -> None:
        """Leases end at their time, even if it was moved."""
        self.leases.renew([2], 30.0)
        self.leases.renew([5, 99], 90.0)
        ended = []
        for now in (29.9, 30.0, 60.0, 90.0):
            self.leases.expire(now)
            ended.append(self.leases.numbers())
        self.assertEqual(ended, [[1, 2, 5], [1, 5], [5], []])


class ArrivalsTests(SynchronousTestCase):
    """What was just accepted of a flow of which it is known that nothing is due before 5,000."""

    def setUp(self) -> None:
        """Know it."""
        self.leases = Leases()
        self.leases.know(1, 5_000)

    def arrive(self, due: int, number: int, devices: int = 1, messages: int = 1, payload: bytes = PAYLOAD) -> None:
        """Let messages arrive."""
        tokens = [str(number + n).encode() for n in range(devices)]
        some = [Message("chess", payload, HEADERS, tokens, ["id"] * devices)] * messages
        widths = list(map(len, tokens)) * messages
        block = Block(some, ("chess", 1, "a"), "{}", devices, [payload] * messages, b"", widths, b"")
        self.leases.arrive(1, Arrival(block, due, number, 1.0, 2.0))

    def take(self, count: int = 100) -> list[int]:
        """Lease some, and return their numbers."""
        return [each.number for each in self.leases.take(1, count, 60.0, {})]

    def test_first(self) -> None:
        """The first arrival is next; without one, nothing is until the time that is known."""
        self.assertEqual([self.leases.first(1, 4_999), self.leases.first(1, 5_000)], [5_000, None])
        self.assertIsNone(self.leases.first(2, 0))
        self.arrive(3_000, 7)
        self.assertEqual(self.leases.first(1, 3_000), 3_000)
        self.assertEqual(self.take(), [7])
        self.assertEqual(self.leases.first(1, 3_000), 5_000)

    def test_next(self) -> None:
        """What is due before something else is next, and what is due after an arrival is behind it."""
        self.assertEqual([self.leases.are_next(1, due) for due in (1_000, 4_999, 5_000)], [True, True, False])
        self.assertFalse(self.leases.are_next(2, 1_000))
        self.arrive(3_000, 7)
        self.assertEqual([self.leases.are_next(1, due) for due in (2_999, 3_000)], [False, True])

    def test_parts(self) -> None:
        """They are leased in order, in parts that need not end with a message."""
        self.arrive(1_000, 1, devices=3, messages=2)
        self.arrive(2_000, 7)
        parts = [self.leases.take(1, count, 60.0, {}) for count in (1, 3, 1)]
        self.assertEqual([[each.number for each in part] for part in parts], [[1], [2, 3, 4], [5]])
        self.assertEqual([each.token for part in parts for each in part], [b"1", b"2", b"3", b"1", b"2"])
        self.assertEqual((self.leases.mark(1), self.leases.counts()), ((1_000, 5), {1: 5}))
        self.assertEqual(self.take(), [6, 7])
        self.assertEqual(self.leases.mark(1), (2_000, 7))

    def test_something_before(self) -> None:
        """What becomes free before an arrival has to be looked for, and no arrival behind it is leased."""
        self.arrive(1_000, 1)
        self.arrive(3_000, 2)
        self.leases.appear(1, 2_000, 9)
        self.assertEqual(self.leases.first(1, 1_500), 1_000)
        self.assertEqual(self.take(), [1])
        self.assertIsNone(self.leases.first(1, 3_000))
        self.assertEqual(self.leases.mark(1), (1_000, 1))

    def test_looked_for(self) -> None:
        """After the database was asked, and after a lease of what it tells, arrivals are as all others."""
        for look, known in (
            (lambda: self.leases.know(1, 4_000), 4_000),
            (lambda: self.leases.lend(1, [1_000], [1], 60.0), None),
            (self.leases.rewind, None),
            (lambda: self.leases.forget([1]), None),
        ):
            self.leases.know(1, 5_000)
            self.arrive(1_000, 1)
            look()
            self.assertEqual(self.leases.first(1, 2_000), known)

    def test_looked_for_again(self) -> None:
        """Arrivals of which the database may change something have to be looked for, and so may what was settled."""
        for look in (self.leases.look_again, lambda: self.leases.drop([1])):
            self.leases.know(1, 5_000)
            self.arrive(1_000, 1)
            look()
            self.assertEqual([self.leases.first(1, due) for due in (999, 1_000)], [1_000, None])

    def test_bounded(self) -> None:
        """Up to so many bytes of them are kept that it does not matter; leased ones do not count any more."""
        for number in (1, 2, 3, 4):
            self.assertTrue(self.leases.are_next(1, 1_000))
            self.arrive(1_000, number, payload=bytes(KEPT // 4))
        self.assertFalse(self.leases.are_next(1, 1_000))
        self.leases.appear(1, 1_001, 5)
        self.assertEqual(self.take(), [1, 2, 3, 4])
        self.assertIsNone(self.leases.first(1, 1_001))
        self.leases.know(1, 5_000)
        self.assertTrue(self.leases.are_next(1, 1_002))
