"""Tests for :mod:`txapns.daemon.store.sqlite.placing`: a wall clock that is set while something waits for a date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import result
from tests.daemon.store.schedule_contract import ScheduleContract
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.store.sqlite import placing
from txapns.daemon.values import State

__all__ = ["ClockSetTests", "SQLiteScheduleTests"]


class SQLiteScheduleTests(ScheduleContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class ClockSetTests(ScheduleContract, SynchronousTestCase):
    """The same, and the wall clock is set."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))

    def test_unchanged(self) -> None:
        """While nobody sets the clock, nothing is written."""
        self.accept_later(1, 50.0)
        self.world.clock.ahead += 0.9
        self.case.assertIs(self.do("clock_set"), False)
        self.world.clock.ahead += 0.2
        self.case.assertIs(self.do("clock_set"), True)
        self.case.assertIs(self.do("clock_set"), False)

    def test_set_forward(self) -> None:
        """After the clock was set forward, what has come is due, in parts if there is much of it."""
        self.patch(placing, "PART", 3)
        first, second = self.accept_later(10, 1_000.0), self.accept_later(1, 5_000.0)
        self.world.clock.ahead += 2_000.0
        self.do("clock_set")
        self.assertEqual(self.leased(), first)
        self.assertApproximates(self.next_due(), 3_000.0, 0.05)
        self.world.clock.advance(3_000.0)
        self.assertEqual(self.leased(), second)

    def test_same_date(self) -> None:
        """Of notifications with the same date, no part is read from the first of that date on."""
        self.accept_later(300, 1_000.0)
        steps: list[None] = []

        def placed(connection: sqlite3.Connection) -> object:
            [last] = connection.execute("SELECT max(not_before), max(number) FROM queue_delivery").fetchall()
            connection.set_progress_handler(lambda: steps.append(None), 10)
            try:
                return placing.place(connection, last, 0, [])
            finally:
                connection.set_progress_handler(None, 10)

        self.assertIs(result(self.world.clock, self.world.database.write(placed)), None)
        self.assertLess(len(steps), 50)

    def test_set_back(self) -> None:
        """After the clock was set back, nothing is leased too early, and nothing else is held up."""
        ids = self.accept_later(10, 10.0)
        self.world.clock.ahead -= 100.0
        self.world.clock.advance(20.0)
        now = self.accept(1)
        self.assertEqual([each.apns_id for each in self.lease(2)], now)
        self.assertApproximates(self.next_due(), 90.0, 0.05)
        self.do("clock_set")
        self.world.clock.advance(89.9)
        self.assertEqual([each for each in self.leased() if each in ids], [])
        self.world.clock.advance(0.2)
        self.assertEqual([each for each in self.leased() if each in ids], ids)

    def test_set_while_leased(self) -> None:
        """What was leased when the clock was set and comes back untried is sent at its date, and once."""
        ids = self.accept_later(3, 10.0)
        self.world.clock.advance(11.0)
        first, second, third = self.lease(seconds=5.0)
        for step in (-100.0, 50.0, -50.0):
            self.world.clock.ahead += step
            self.do("clock_set")
        self.assertEqual(self.lease(), [])
        self.do("release", [first.number])
        self.settle([second], State.WAITING, 503, "Shutdown", None, self.now + 1.0)
        self.world.clock.advance(6.0)
        self.assertEqual(self.leased(), ids[1:2])
        self.world.clock.advance(100.0)
        self.assertEqual(self.leased(), [ids[0], ids[2]])
        self.settle([first, second, third], State.ACCEPTED, 200)
        self.assertEqual(self.lease(), [])
