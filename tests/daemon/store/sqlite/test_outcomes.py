"""Tests for :mod:`txapns.daemon.store.sqlite.outcomes`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import result
from tests.daemon.store.outcomes_contract import OutcomeLogContract
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.store.queue import SCANNED
from txapns.daemon.values import Entry

__all__ = ["ManyTests", "SQLiteOutcomeLogTests"]

COUNT = 3 * SCANNED // 2

# Of two apps, one in a thousand to the same device, and every tenth failed.
_LOAD = """
WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < ?)
INSERT INTO queue_delivery (number, message, app, token, apns_id, due, state, settled_at)
SELECT n, 1, 1 + n % 2, iif(n % 1001, n, x'dd'), n, 0, iif(n / 2 % 10, 1, 2 + n / 20 % 3), n FROM series
"""


class SQLiteOutcomeLogTests(OutcomeLogContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class ManyTests(SynchronousTestCase):
    """What is looked for among many notifications."""

    def setUp(self) -> None:
        """Store more than are ever looked at."""
        self.world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(lambda: self.world.stop())
        self.steps = 0

        def load(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO queue_app VALUES (1, 'chess'), (2, 'news')")
            connection.execute("INSERT INTO queue_message VALUES (1, '{}', '{}', 0)")
            connection.execute(_LOAD, [COUNT])

        result(self.world.clock, self.world.database.write(load))

    def count(self) -> int:
        """Count a thousand steps of SQLite's."""
        self.steps += 1_000
        return 0

    def ask(self, name: str, *arguments: object) -> list[Entry]:
        """Ask, and count what SQLite does for it."""
        database = self.world.database
        result(self.world.clock, database.read(lambda found: found.set_progress_handler(self.count, 1_000)))
        self.steps = 0
        found = result(self.world.clock, getattr(self.world.outcome_log, name)(*arguments))
        assert isinstance(found, list)
        return found

    def test_failures(self) -> None:
        """The latest failures of an app, or of all, are read from an index of them."""
        found = self.ask("failures", "chess", 12)
        self.assertEqual(len(found), 12)
        self.assertTrue(all(each.outcome.app == "chess" and each.outcome.state > 1 for each in found))
        self.assertLess(self.steps, 5_000)
        self.assertEqual(len(self.ask("failures", None, 12)), 12)
        self.assertLess(self.steps, 5_000)

    def test_of_device(self) -> None:
        """All that failed for a device is found, and of the rest what is among the latest; no more is looked at."""
        found = [each.outcome for each in self.ask("of_device", "chess", b"\xdd", COUNT)]
        all_of_it = range(2002 * (COUNT // 2002), 0, -2002)
        failed = [number for number in all_of_it if not number // 2 % 10]
        self.assertEqual([each.number for each in found if each.state > 1], failed)
        others = [number for number in all_of_it if number // 2 % 10 and number > COUNT - SCANNED]
        self.assertEqual([each.number for each in found if each.state == 1], others)
        self.assertGreater(min(len(failed), len(others)), 5)
        self.assertLess(self.steps, 15 * SCANNED)
