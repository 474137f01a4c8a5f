"""What the tests of apps and keys have in common: a daemon's database in a directory of its own, without threads."""

from __future__ import annotations

import sqlite3
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.sqlite.crowded import RecordingConnection, check
from txapns.daemon.apps import Apps
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.keys import Keys
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.sqlite.api_keys import KeyTable, SQLiteKeyStore
from txapns.daemon.store.sqlite.apps import AppTable, SQLiteAppStore
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.file import visiting
from txapns.daemon.store.sqlite.store import SQLiteStore

__all__ = ["World", "world_of"]

T = TypeVar("T")


class World:
    """
    A directory with a database, open.

    :param directory: is created, readable by its owner only.
    :param text: the configuration.
    """

    def __init__(self, directory: Path, text: str = "") -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self.clock = Clock()
        self.clock.rightNow = time.time()  # certificates are made for the present
        self.configure(text)
        path = self.configuration.database.path
        self.database = Database(path, self.clock, lambda name: InlineWorker(), factory=RecordingConnection)
        self.store = SQLiteStore(self.database)
        self.result(self.store.start())

    def close(self) -> None:
        """Close the database."""
        self.result(self.database.stop())
        check()

    def configure(self, text: str) -> None:
        """Replace the configuration."""
        self.configuration = Configuration.from_text(text, self.directory)
        self.secrets = Secrets(self.configuration.secrets.master_key_file, {})
        self.secrets.create()

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that only its owner can read."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(content)
        return path

    def visiting(self) -> AbstractContextManager[sqlite3.Connection]:
        """Open the database as another process does."""
        return visiting(self.database.path, AppTable.schema, KeyTable.schema)

    def apps(self) -> Apps:
        """Make a registry of its apps."""
        store = SQLiteAppStore(self.database)
        return Apps(self.clock, self.configuration, store, self.secrets, self.database.worker)

    def keys(self) -> Keys:
        """Make a registry of its keys."""
        return Keys(self.clock, SQLiteKeyStore(self.database))

    def result(self, deferred: Deferred[T]) -> T:
        """Let time pass until there is a result, and return or raise it."""
        found: list[T | Failure] = []
        deferred.addBoth(found.append)
        if not found:
            self.clock.advance(0.01)
        (result,) = found
        if isinstance(result, Failure):
            result.raiseException()
        return result


def world_of(test: SynchronousTestCase, text: str = "") -> World:
    """Make one in the test's directory; it is closed when the test ends."""
    world = World(Path(test.mktemp()), text)
    test.addCleanup(world.close)
    return world
