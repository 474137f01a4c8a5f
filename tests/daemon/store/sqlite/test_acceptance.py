"""Tests for :mod:`txapns.daemon.store.sqlite.acceptance`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.acceptance_contract import AcceptanceContract
from tests.daemon.store.sqlite.world import SQLiteWorld

__all__ = ["SQLiteAcceptanceTests"]


class SQLiteAcceptanceTests(AcceptanceContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))
