"""Tests for :mod:`txapns.daemon.store.postgresql.leases`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.postgresql.leases import BEGINNING, Marks
from txapns.daemon.values import Settlement, State

__all__ = ["MarksTests", "QueueTests"]


class MarksTests(SynchronousTestCase):
    """Tests for :class:`Marks`. Times are milliseconds; a mark stays 2,000 behind, and holds for 10,000."""

    def setUp(self) -> None:
        """Make the mark of an app whose first notification is due at 50,000."""
        self.marks = Marks()
        self.marks.move("chess", BEGINNING, 50_000, 7, 60_000)

    def test_unknown(self) -> None:
        """The queue of an app without a mark is read from its beginning."""
        self.assertEqual(self.marks.mark("go", 60_000), (BEGINNING, 0))

    def test_holds(self) -> None:
        """A search begins a little before the first that waits."""
        self.assertEqual(self.marks.mark("chess", 69_999), (48_000, 7))
        self.assertEqual(self.marks.all(69_999), {"chess": 48_000})

    def test_anew(self) -> None:
        """Every now and then the queue is read from its beginning."""
        self.assertEqual(self.marks.mark("chess", 70_000), (BEGINNING, 7))
        self.assertEqual(self.marks.all(70_000), {})

    def test_stepped_back(self) -> None:
        """So it is when the time is before the mark."""
        self.assertEqual(self.marks.mark("chess", 47_999), (BEGINNING, 7))
        self.assertEqual(self.marks.all(47_999), {})

    def test_looked(self) -> None:
        """A look that began at the beginning and found nothing counts as a search; one that found something, not."""
        self.marks.move("go", BEGINNING, 50_000, None, 60_000)
        self.marks.looked({}, ["go"], 70_000)
        self.assertEqual(self.marks.all(70_000), {"chess": 68_000})
        self.marks.looked({"chess": 68_000}, [], 75_000)
        self.assertEqual(self.marks.all(79_999), {"chess": 68_000, "go": 73_000})


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
