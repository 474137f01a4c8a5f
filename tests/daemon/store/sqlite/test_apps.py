"""Tests for :mod:`txapns.daemon.store.sqlite.apps`."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.apps_contract import CERTIFICATE, AppStoreContract
from tests.daemon.world import world_of
from txapns.daemon.store.sqlite.apps import SQLiteAppStore

__all__ = ["SQLiteAppStoreTests"]

T = TypeVar("T")


class SQLiteAppStoreTests(AppStoreContract, SynchronousTestCase):
    """The contract, and what is particular to SQLite."""

    def setUp(self) -> None:
        """Make a store."""
        self.world = world_of(self)
        self.secrets = self.world.secrets
        self.store = SQLiteAppStore(self.world.database)
        self.result(self.store.start())

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result."""
        return self.world.result(deferred)

    def test_encrypted(self) -> None:
        """No line of a private key is in the database's files."""
        self.add("a", credential=CERTIFICATE)
        files = b"".join(path.read_bytes() for path in self.world.directory.glob("apns.db*"))
        self.assertIn(b"production", files)
        secret = CERTIFICATE.to_pem().partition("PRIVATE KEY-----\n")[2].partition("\n-----END")[0]
        for line in secret.splitlines():
            self.assertNotIn(line.encode(), files)
