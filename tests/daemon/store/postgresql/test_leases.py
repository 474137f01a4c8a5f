"""Tests for :mod:`txapns.daemon.store.postgresql.leases`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.postgresql.leases import Marks
from txapns.daemon.values import Lane, Settlement, State

__all__ = ["MarksTests", "QueueTests"]


class MarksTests(SynchronousTestCase):
    """Tests for :class:`Marks`. Times are milliseconds; a mark stays 2,000 behind, and holds for 10,000."""

    def setUp(self) -> None:
        """Make the marks of an app with two flows, of which the first has something due at 50,000."""
        self.marks = Marks()
        self.marks.move("chess", {}, {1: 50_000, 2: None}, 60_000)
        self.marks.move_lease("chess", 7)

    def test_unknown(self) -> None:
        """A flow without a mark is read from its beginning."""
        self.assertEqual((self.marks.of("go", 60_000), self.marks.lease("go")), ({}, 0))

    def test_holds(self) -> None:
        """A search begins a little before the first that waits, or before the last search that found nothing."""
        self.assertEqual((self.marks.of("chess", 69_999), self.marks.lease("chess")), ({1: 48_000, 2: 58_000}, 7))
        self.assertEqual(self.marks.all(69_999), {1: 48_000, 2: 58_000})

    def test_anew(self) -> None:
        """Every now and then a flow is read from its beginning."""
        self.marks.move("chess", {2: 58_000}, {1: 55_000, 2: 65_000}, 65_000)
        self.marks.move_lease("chess", None)
        self.assertEqual((self.marks.of("chess", 70_000), self.marks.lease("chess")), ({1: 53_000}, 7))
        self.assertEqual(self.marks.all(75_000), {})

    def test_stepped_back(self) -> None:
        """So it is when the time is before the mark."""
        self.assertEqual(self.marks.of("chess", 47_999), {})
        self.assertEqual(self.marks.all(50_000), {1: 48_000})

    def test_looked(self) -> None:
        """A look that began at the beginning and found nothing counts as a search; one that found something, not."""
        self.marks.move("go", {}, {3: 50_000}, 60_000)
        self.marks.looked({}, ["go"], 70_000)
        self.assertEqual(self.marks.all(70_000), {1: 68_000, 2: 68_000})
        self.marks.looked({1: 68_000}, [], 75_000)
        self.assertEqual(self.marks.all(79_999), {1: 68_000, 2: 73_000, 3: 73_000})

    def test_positions(self) -> None:
        """A position holds for a moment after the marks were moved, until a claim finds less than it wants."""
        self.assertEqual((self.marks.positions("go", 60_000), self.marks.positions("chess", 60_000)), ({}, {}))
        self.marks.reached("chess", {1: 51_000})
        self.marks.reached("chess", {2: 52_000})
        self.assertEqual(self.marks.positions("chess", 60_249), {1: 51_000, 2: 52_000})
        self.assertEqual((self.marks.positions("chess", 60_250), self.marks.positions("chess", 59_999)), ({}, {}))
        self.assertEqual(self.marks.of("chess", 60_000), {1: 48_000, 2: 58_000})
        self.marks.reached("chess", None)
        self.assertEqual(self.marks.positions("chess", 60_000), {})


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

    def lease(self, count: int, only: Lane | None = None) -> tuple[int, bool]:
        """Lease; returns how many there were, and whether there are more."""
        found = self.do("lease", "chess", count, self.world.clock.seconds() + 60, None, only)
        return len(found), found.more

    def test_position(self) -> None:
        """
        Where there is more, claims go on where the last one ended. What is added before that is found at the end, or a
        quarter of a second later.
        """
        self.do("accept", [message(self.world, 4)])
        self.assertEqual(self.lease(2), (2, True))
        self.world.clock.advance(0.01)
        self.do("accept", [message(self.world)])
        self.world.execute("UPDATE queue SET due = due - 100 WHERE number = (SELECT max(number) FROM queue)")
        self.assertEqual(self.lease(3), (2, True))
        self.assertEqual(self.lease(3), (1, False))
        self.do("accept", [message(self.world, 4)])
        self.assertEqual(self.lease(2), (2, True))
        self.do("accept", [message(self.world, 7)])
        self.world.execute("UPDATE queue SET due = due - 100 WHERE number > (SELECT max(number) - 7 FROM queue)")
        self.assertEqual(self.lease(2), (2, True))
        self.assertEqual(self.lease(2), (2, True))
        self.world.clock.advance(0.25)
        self.assertEqual(self.lease(9), (5, False))

    def test_position_urgent(self) -> None:
        """What is urgent is found at once, wherever the claims of the rest have ended."""
        self.do("accept", [message(self.world, 4)])
        self.assertEqual(self.lease(2), (2, True))
        for only in (None, Lane.URGENT):
            self.do("accept", [message(self.world, 2, lane=Lane.URGENT)])
            self.assertEqual(self.lease(1, only), (1, True))
            self.world.execute("UPDATE queue SET due = due - 100 WHERE number = (SELECT max(number) FROM queue)")
            self.assertEqual(self.lease(1, only), (1, True))
        self.assertEqual(self.lease(9), (2, True))
