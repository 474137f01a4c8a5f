"""Tests for :mod:`txapns.daemon.store.postgresql.apps`."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.apps_contract import CERTIFICATE, AppStoreContract
from tests.daemon.store.postgresql.opened import OpenedDatabase
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.postgresql.apps import PostgreSQLAppStore

__all__ = ["PostgreSQLAppStoreTests"]

T = TypeVar("T")


@pytest.mark.loopback
class PostgreSQLAppStoreTests(AppStoreContract, SynchronousTestCase):
    """The contract, and what is particular to PostgreSQL."""

    def setUp(self) -> None:
        """Make a store."""
        self.opened = OpenedDatabase(self)
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        self.secrets = Secrets(directory / "master.key", {})
        self.secrets.create()
        self.store = PostgreSQLAppStore(self.opened.database)
        self.result(self.store.start())

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result."""
        return self.opened.result(deferred)

    def test_encrypted(self) -> None:
        """No line of a private key is in the database."""
        self.add("a", credential=CERTIFICATE)
        [[row]] = self.opened.execute("SELECT convert_from(encrypted, 'UTF8') || row_to_json(app)::text FROM app")
        self.assertIn("production", row)
        secret = CERTIFICATE.to_pem().partition("PRIVATE KEY-----\n")[2].partition("\n-----END")[0]
        for line in secret.splitlines():
            self.assertNotIn(line, row)

    def test_changed_by_hand(self) -> None:
        """Whatever an operator writes into a row by hand, it is counted as a change, and the other rows can be read."""
        self.add("a")
        self.add("b")
        before = self.read(lambda table: table.changes())
        self.opened.execute("UPDATE app SET settings = '{\"gateway\": 5}', name = chr(27) WHERE name = 'a'")
        self.assertGreater(self.read(lambda table: table.changes()), before)
        first, second = self.listed()
        self.assertEqual((first.name, second.name, second.problem), (r"\x1b", "b", ""))
        self.assertIn("its settings in the database cannot be read", first.problem)
