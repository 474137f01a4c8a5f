"""Tests that what is changed on one node is soon in use on all: apps, their credentials, and keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import result
from tests.postgresql import schema
from txapns.credentials import Certificate
from txapns.daemon.apps import Apps
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import NotAuthenticated, UnknownApp
from txapns.daemon.keys import Keys, add_key, remove_key
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.store.apps import AppSettings
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.store import PostgreSQLStore
from txapns.simulator import Authority

__all__ = ["ChangesTests"]

AUTHORITY = Authority()
WITHIN = 2.0  # seconds


class Node:
    """The apps and the keys of a node."""

    def __init__(self, test: ChangesTests, name: str) -> None:
        database = Database(Settings(test.place.url, schema=test.place.name), test.clock, lambda name: InlineWorker())
        store = PostgreSQLStore(database, 900.0, name)
        configuration = Configuration.from_text("", test.directory)
        secrets = Secrets(configuration.secrets.master_key_file, {})
        self.store = store
        self.apps = Apps(test.clock, configuration, store.apps, secrets, store.worker)
        self.keys = Keys(test.clock, store.keys)
        for part in (store, self.keys, self.apps):
            test.result(part.start())
            test.addCleanup(lambda part=part: test.result(part.stop()))
        self.changed: list[str] = []
        self.apps.changed(lambda names: self.changed.extend(names))


@pytest.mark.loopback
class ChangesTests(SynchronousTestCase):
    """Two nodes."""

    def setUp(self) -> None:
        """Start them, with one master key."""
        self.place = schema(self)
        self.clock = Clock()
        self.clock.rightNow = time.time()  # certificates are made for the present
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)
        Secrets(self.directory / "master.key", {}).create()
        self.a, self.b = Node(self, "a"), Node(self, "b")

    def result(self, deferred: Deferred[Any]) -> Any:
        """Wait for a result."""
        return result(self.clock, deferred)

    def settle(self) -> None:
        """Let as much time pass as a change may take."""
        self.clock.pump([WITHIN / 4] * 4)

    def test_apps(self) -> None:
        """An app that is added, changed and removed on one node is so on the other."""
        first, second = (Certificate.from_pem(AUTHORITY.client_pem("com.example.app")) for _ in range(2))
        self.result(self.a.apps.put("chess", AppSettings(topic="com.example.app"), first, caller="ann"))
        self.settle()
        self.assertEqual((self.b.apps.get("chess").credential, self.b.changed), (first, ["chess"]))
        self.result(self.b.apps.rotate("chess", second, caller="ann"))
        self.settle()
        self.assertEqual((self.a.apps.get("chess").credential, self.a.changed), (second, ["chess"] * 2))
        self.result(self.a.apps.remove("chess", caller="ann"))
        self.settle()
        self.assertRaises(UnknownApp, self.b.apps.get, "chess")

    def test_keys(self) -> None:
        """So is a key."""
        key = self.result(self.a.store.keys.write(lambda table: add_key(table, "first", send=None, now=1)))
        self.settle()
        self.assertTrue(self.b.keys.check(key).may_send("chess"))
        self.result(self.b.store.keys.write(lambda table: remove_key(table, "first")))
        self.settle()
        self.assertRaises(NotAuthenticated, self.a.keys.check, key)
