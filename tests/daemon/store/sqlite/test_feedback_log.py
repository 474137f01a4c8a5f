"""Tests for :mod:`txapns.daemon.store.sqlite.feedback_log`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.feedback_contract import FeedbackLogContract
from tests.daemon.store.sqlite.world import SQLiteWorld

__all__ = ["SQLiteFeedbackLogTests"]


class SQLiteFeedbackLogTests(FeedbackLogContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))
