"""Tests for :mod:`txapns.daemon.store.sqlite.api_keys`."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.keys_contract import KeyStoreContract
from tests.daemon.world import world_of
from txapns.daemon.store.sqlite.api_keys import SQLiteKeyStore

__all__ = ["SQLiteKeyStoreTests"]

T = TypeVar("T")


class SQLiteKeyStoreTests(KeyStoreContract, SynchronousTestCase):
    """The contract, and what is particular to SQLite."""

    def setUp(self) -> None:
        """Make a store."""
        self.world = world_of(self)
        self.store = SQLiteKeyStore(self.world.database)
        self.result(self.store.start())

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result."""
        return self.world.result(deferred)

    def test_secret(self) -> None:
        """The secret of a key is nowhere in the database's files."""
        secret = self.add("a").split("_")[2].encode()
        self.assertEqual([path for path in self.world.directory.iterdir() if secret in path.read_bytes()], [])
