"""Tests for :mod:`txapns.daemon.store.sqlite.outcomes`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.outcomes_contract import OutcomeLogContract
from tests.daemon.store.sqlite.world import SQLiteWorld

__all__ = ["SQLiteOutcomeLogTests"]


class SQLiteOutcomeLogTests(OutcomeLogContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))
