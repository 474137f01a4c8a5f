"""Tests for :mod:`txapns.daemon.store.sqlite.outcome_feed`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.outcome_feed_contract import OutcomeFeedContract
from tests.daemon.store.sqlite.world import SQLiteWorld

__all__ = ["SQLiteOutcomeFeedTests"]


class SQLiteOutcomeFeedTests(OutcomeFeedContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))
