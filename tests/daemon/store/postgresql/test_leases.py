"""Tests for :mod:`txapns.daemon.store.postgresql.leases`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.postgresql.leases import Marks
from txapns.daemon.values import Settlement, State

__all__ = ["MarksTests", "QueueTests"]


class MarksTests(SynchronousTestCase):
    """Tests for :class:`Marks`. Times are milliseconds; a mark stays 2,000 behind, and holds for 10,000."""

    def setUp(self) -> None:
        """Make the marks of an app with two flows, of which the first has something due at 50,000."""
        self.marks = Marks()
        self.marks.move("chess", {}, {1: 50_000, 2: None}, 7, 60_000)

    def test_unknown(self) -> None:
        """A flow without a mark is read from its beginning."""
        self.assertEqual((self.marks.of("go", 60_000), self.marks.lease("go")), ({}, 0))

    def test_holds(self) -> None:
        """A search begins a little before the first that waits, or before the last search that found nothing."""
        self.assertEqual((self.marks.of("chess", 69_999), self.marks.lease("chess")), ({1: 48_000, 2: 58_000}, 7))
        self.assertEqual(self.marks.all(69_999), {1: 48_000, 2: 58_000})

    def test_anew(self) -> None:
        """Every now and then a flow is read from its beginning."""
        self.marks.move("chess", {2: 58_000}, {1: 55_000, 2: 65_000}, None, 65_000)
        self.assertEqual((self.marks.of("chess", 70_000), self.marks.lease("chess")), ({1: 53_000}, 7))
        self.assertEqual(self.marks.all(75_000), {})

    def test_stepped_back(self) -> None:
        """So it is when the time is before the mark."""
        self.assertEqual(self.marks.of("chess", 47_999), {})
        self.assertEqual(self.marks.all(50_000), {1: 48_000})

    def test_looked(self) -> None:
        """A look that began at the beginning and found nothing counts as a search; one that found something, not."""
        self.marks.move("go", {}, {3: 50_000}, None, 60_000)
        self.marks.looked({}, ["go"], 70_000)
        self.assertEqual(self.marks.all(70_000), {1: 68_000, 2: 68_000})
        self.marks.looked({1: 68_000}, [], 75_000)
        self.assertEqual(self.marks.all(79_999), {1: 68_000, 2: 73_000, 3: 73_000})


class QueueTests(SynchronousTestCase):
    """Tests of a queue with marks."""

    def setUp(self) -> None:
        """Make a store from which something was sent, so that the app has a mark."""
        self.world = PostgreSQLWorld(schema(self))
        self.addCleanup(self.world.stop)
        self.do("accept", [message(self.world)])
        self.settle()
        self.world.clock.advance(5)

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments))

    def settle(self) -> int:
        """Lease and settle; returns how many there were."""
        leased = self.do("lease", "chess", 100, self.world.clock.seconds() + 60)
        self.do("settle", [Settlement(each.number, State.ACCEPTED, 200) for each in leased])
        return len(leased)

    def test_late(self) -> None:
        """What a slow transaction of another node's adds before the mark is found within ten seconds."""
        self.assertEqual(self.settle(), 0)
        self.do("accept", [message(self.world)])
        self.world.execute("UPDATE queue SET due = due - 4000")
        found = []
        for _ in range(10):
            found.append(self.do("due_apps"))
            self.world.clock.advance(1)
        self.assertEqual([found[0], found[-1]], [[], ["chess"]])
        self.assertEqual(self.settle(), 1)
        self.assertEqual(self.do("due_apps"), [])

    def test_released(self) -> None:
        """What was leased for long and given back is found at once."""
        self.do("accept", [message(self.world, 2)])
        leased = self.do("lease", "chess", 1, self.world.clock.seconds() + 60)
        for _ in range(8):
            self.world.clock.advance(1)
            self.do("accept", [message(self.world)])
            self.settle()
        self.do("release", [each.number for each in leased])
        self.assertEqual(self.do("due_apps"), ["chess"])
        self.assertLess(self.do("next_due", "chess"), self.world.clock.seconds() - 7)
        self.assertEqual(self.settle(), 1)
