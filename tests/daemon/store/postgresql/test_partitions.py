"""Tests for :mod:`txapns.daemon.store.postgresql.partitions`."""

from __future__ import annotations

import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import START, message, result
from tests.daemon.store.postgresql.opened import until
from tests.daemon.store.postgresql.world import DAY, PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.postgresql.partitions import AHEAD, create_ahead, drop_before
from txapns.daemon.store.postgresql.partitions import DAY as TRUE_DAY
from txapns.daemon.values import Settlement, State

__all__ = ["PartitionTests"]

_LIST = """
SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = 'outcome'::regclass ORDER BY child.relname
"""


class PartitionTests(SynchronousTestCase):
    """The partitions of a store whose days last ten seconds."""

    def setUp(self) -> None:
        """Make it."""
        self.world = PostgreSQLWorld(schema(self))
        self.addCleanup(lambda: self.world.stop())
        self.date = int(START * 1000)

    def names(self) -> list[str]:
        """List the partitions."""
        return [name for (name,) in self.world.execute(_LIST)]

    def settle(self) -> int:
        """Settle a notification now, and return its number."""
        [receipt] = result(self.world.clock, self.world.queue.accept([message(self.world)]))
        number = receipt.numbers[0]
        result(self.world.clock, self.world.queue.settle([Settlement(number, State.ACCEPTED, 200)]))
        return number

    def where(self, number: int) -> str:
        """Tell in which partition an outcome is."""
        [(name,)] = self.world.execute("SELECT tableoid::regclass::text FROM outcome WHERE number = %s", number)
        return str(name)

    def test_ahead(self) -> None:
        """They are made some days ahead, once, whoever does it."""
        self.assertEqual(len(self.names()), 1 + 1 + AHEAD)
        before = self.names()
        with self.world.connect() as connection:
            create_ahead(connection, self.date, DAY)
        self.assertEqual(self.names(), before)
        with self.world.connect() as connection:
            create_ahead(connection, self.date + DAY, DAY)
        self.assertEqual(len(self.names()), len(before) + 1)

    def test_name(self) -> None:
        """A partition has the name of its day."""
        with self.world.connect() as connection:
            create_ahead(connection, self.date + 365 * TRUE_DAY)
        self.assertIn("outcome_20241113", self.names())

    def test_day(self) -> None:
        """What is settled goes to the partition of its day, and is dropped with it."""
        number = self.settle()
        self.assertEqual(self.where(number), self.names()[0])
        with self.world.connect() as connection:
            self.assertEqual(drop_before(connection, self.date + DAY - 1, DAY), 0)
            self.assertEqual(drop_before(connection, self.date + DAY, DAY), 1)
        self.assertEqual(len(self.names()), 1 + AHEAD)
        self.assertEqual(self.world.execute("SELECT count(*) FROM outcome"), [(0,)])

    def test_clock_set(self) -> None:
        """What has a date without a partition is kept elsewhere, and moves to the partition when it is made."""
        numbers = []
        for step in (86_400.0, -200_000.0):
            self.world.clock.ahead += step
            numbers.append(self.settle())
        self.assertEqual([self.where(number) for number in numbers], ["outcome_other"] * 2)
        date = int(self.world.clock.now() * 1000)
        with self.world.connect() as connection:
            create_ahead(connection, date, DAY)
        self.assertEqual(self.where(numbers[0]), "outcome_other")
        self.assertNotEqual(self.where(numbers[1]), "outcome_other")
        found = result(self.world.clock, self.world.outcome_log.outcomes(numbers))
        self.assertEqual([each.number for each in found], numbers)

    def test_meanwhile(self) -> None:
        """What is just being stored without a partition moves to the one that is being made, too."""
        number = self.settle()
        date = self.date + 100 * DAY
        with self.world.connect() as settling, self.world.connect() as connection:
            settling.execute("UPDATE outcome SET settled_at = %s", [date])
            thread = threading.Thread(target=create_ahead, args=(connection, date, DAY))
            thread.start()
            until(lambda: self.world.waits(connection.info.backend_pid))
            settling.commit()
            thread.join()
        self.assertNotEqual(self.where(number), "outcome_other")

    def test_in_use(self) -> None:
        """A partition that is in use is not dropped now, and nobody waits long."""
        self.settle()
        with self.world.connect() as reader:
            reader.execute("SELECT * FROM outcome")
            with self.world.connect() as connection:
                self.assertEqual(drop_before(connection, self.date + DAY, DAY), 0)
        with self.world.connect() as connection:
            self.assertEqual(drop_before(connection, self.date + DAY, DAY), 1)

    def test_no_date(self) -> None:
        """Dates before 1970 and after 9999 have no partition."""
        before = self.names()
        with self.world.connect() as connection:
            for date in (-(10**12), 10**15):
                create_ahead(connection, date, DAY)
                self.assertEqual(drop_before(connection, date, DAY), 0)
        self.assertEqual(self.names(), before)
