"""Tests for :mod:`txapns.daemon.store.postgresql.api_keys`."""

from __future__ import annotations

from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.keys_contract import KeyStoreContract
from tests.daemon.store.postgresql.opened import OpenedDatabase
from txapns.daemon.store.postgresql.api_keys import PostgreSQLKeyStore

__all__ = ["PostgreSQLKeyStoreTests"]

T = TypeVar("T")


@pytest.mark.loopback
class PostgreSQLKeyStoreTests(KeyStoreContract, SynchronousTestCase):
    """The contract, and what is particular to PostgreSQL."""

    def setUp(self) -> None:
        """Make a store."""
        self.opened = OpenedDatabase(self)
        self.store = PostgreSQLKeyStore(self.opened.database)
        self.result(self.store.start())

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result."""
        return self.opened.result(deferred)

    def test_secret(self) -> None:
        """The secret of a key is nowhere in the database."""
        secret = self.add("a").split("_")[2]
        [[row]] = self.opened.execute("SELECT row_to_json(api_key)::text FROM api_key")
        self.assertNotIn(secret, row)

    def test_by_hand(self) -> None:
        """A change that an operator makes by hand is counted, too."""
        self.add("a")
        before = self.result(self.store.read(lambda table: table.changes()))
        self.opened.execute("UPDATE api_key SET label = 'b'")
        self.assertEqual(self.labels(), ["b"])
        self.assertGreater(self.result(self.store.read(lambda table: table.changes())), before)
