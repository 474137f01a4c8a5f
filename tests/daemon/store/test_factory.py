"""Tests for :mod:`txapns.daemon.store.factory`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests import PROJECT
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError, DatabaseError, DatabaseInUse
from txapns.daemon.store.factory import check_unused, driver, is_there, make_store, make_visitor, visiting_tables
from txapns.daemon.store.sqlite.file import DatabaseFile
from txapns.daemon.store.store import IStore, IVisitedStore

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
        verifyObject(IVisitedStore, make_visitor(Clock(), self.configuration))
        self.assertFalse(self.path.exists())
        self.assertFalse(is_there(self.configuration))

    def test_postgresql(self) -> None:
        """Where there is a url, it is a store in PostgreSQL; nothing is connected to before it starts."""
        configuration = Configuration.from_text("database.url = 'postgresql://127.0.0.1:1/x'", self.path.parent)
        store = make_store(Clock(), configuration)
        verifyObject(IStore, store)
        self.assertTrue(store.cluster.shared)
        verifyObject(IVisitedStore, make_visitor(Clock(), configuration))
        self.assertTrue(is_there(configuration))

    def test_no_driver(self) -> None:
        """Where PostgreSQL's driver cannot be imported, it is said what to install."""
        with self.assertRaises(ConfigurationError) as caught, driver():
            raise ImportError("No module named 'psycopg'", name="psycopg")
        expected = "database.url needs psycopg (No module named 'psycopg'): pip install \"txapns[postgresql]\""
        self.assertEqual(str(caught.exception), expected)

    def test_driver_not_needed(self) -> None:
        """PostgreSQL's driver is not imported for the rest of the daemon."""
        code = "import sys, txapns.daemon.service, txapns.command.database; sys.exit('psycopg' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode, 0)

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
