"""Tests for :mod:`txapns.daemon.store.sqlite.store`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.fakes import DatedClock, InlineWorker
from tests.daemon.store.contract import message, result
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.errors import DatabaseInUse, Unavailable
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.store.store import IStore

__all__ = ["SQLiteStoreTests"]


class SQLiteStoreTests(SynchronousTestCase):
    """How a store starts and stops."""

    def setUp(self) -> None:
        """Start one."""
        self.path = Path(self.mktemp())
        self.world = SQLiteWorld(self.path)
        self.addCleanup(lambda: self.world.stop())

    def test_interface(self) -> None:
        """It has everything of the interface."""
        verifyObject(IStore, self.world.store)

    def test_size(self) -> None:
        """Its size is that of the file and its log, and grows with what is stored."""
        size = result(self.world.clock, self.world.store.size())
        result(self.world.clock, self.world.queue.accept([message(self.world, 1_000)]))
        files = [self.path, self.path.with_name(f"{self.path.name}-wal")]
        found = result(self.world.clock, self.world.store.size())
        self.assertGreater(found, size + 32_000)
        self.assertLess(abs(found - sum(each.stat().st_size for each in files)), found / 2)

    def test_in_use(self) -> None:
        """A store that cannot start leaves the database free for others."""
        clock = DatedClock()
        other = SQLiteStore(Database(self.path, clock, lambda name: InlineWorker()))
        self.failureResultOf(other.start(), DatabaseInUse)
        self.world.stop()
        result(clock, other.start())
        result(clock, other.stop())
        self.world.start()

    def test_stopped(self) -> None:
        """Work that was submitted before the stop is finished; after it, requests fail."""
        accepting = self.world.queue.accept([message(self.world)])
        result(self.world.clock, self.world.store.stop())
        self.assertEqual(len(self.successResultOf(accepting)), 1)
        self.failureResultOf(self.world.queue.accept([message(self.world)]), Unavailable)
        self.failureResultOf(self.world.outcome_log.outcomes([1]), Unavailable)
        self.failureResultOf(self.world.log.after(None, 0, 1), Unavailable)
        self.assertNotEqual(self.successResultOf(self.world.store.probe()), "")

    def test_trouble(self) -> None:
        """Trouble with the file is reported, by the probe too."""
        self.assertEqual((self.world.store.trouble, result(self.world.clock, self.world.store.probe())), ("", ""))
        self.path.rename(f"{self.path}.away")
        self.assertIn("was removed", self.world.store.trouble)
        self.assertIn("was removed", result(self.world.clock, self.world.store.probe()))
