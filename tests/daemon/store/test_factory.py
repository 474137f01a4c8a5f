"""Tests for :mod:`txapns.daemon.store.factory`."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import DatabaseError, DatabaseInUse
from txapns.daemon.store.factory import check_unused, make_store, visiting_tables
from txapns.daemon.store.sqlite.file import DatabaseFile
from txapns.daemon.store.store import IStore

__all__ = ["FactoryTests"]


class FactoryTests(SynchronousTestCase):
    """The store of a configuration."""

    def setUp(self) -> None:
        """Write the configuration."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "kept.db"
        self.configuration = Configuration.from_text("database.path = 'kept.db'", directory)

    def test_store(self) -> None:
        """It is a store, and nothing is created before it starts."""
        verifyObject(IStore, make_store(Clock(), self.configuration))
        self.assertFalse(self.path.exists())

    def test_visiting(self) -> None:
        """The tables can be read without a daemon; that creates the database."""
        with visiting_tables(self.configuration) as tables:
            self.assertEqual((tables.apps.listed(), tables.keys.listed()), ([], []))
        self.assertTrue(self.path.exists())

    def test_unused(self) -> None:
        """A store can be checked for a daemon that has it open; that creates no database."""
        check_unused(self.configuration)
        self.assertFalse(self.path.exists())
        file = DatabaseFile(self.path)
        file.open(1.0)
        self.addCleanup(file.close)
        self.assertRaises(DatabaseInUse, check_unused, self.configuration)
        file.close()
        check_unused(self.configuration)
        elsewhere = Configuration.from_text("database.path = 'none/kept.db'", self.path.parent)
        self.assertIn("No such file", str(self.assertRaises(DatabaseError, check_unused, elsewhere)))
