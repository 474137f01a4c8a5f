"""
A store in a file whose clock and workers the test runs.

When it is closed, its statements are tried where much is kept; see :mod:`tests.daemon.store.sqlite.crowded`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.daemon.fakes import DatedClock, InlineWorker
from tests.daemon.store.contract import LONGEST, START, result
from tests.daemon.store.sqlite.crowded import RecordingConnection, check
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteWorld"]


class SQLiteWorld:
    """A store in a file, without threads."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.options = {"factory": RecordingConnection, **options}
        self.clock = DatedClock(START)
        self.path = path
        self.start()

    def start(self) -> None:
        """Open it."""
        self.database = Database(self.path, self.clock, lambda name: InlineWorker(), **self.options)
        self.store = SQLiteStore(self.database, LONGEST)
        self.queue, self.outcome_log, self.log = self.store.queue, self.store.outcomes, self.store.feedback
        self.feed, self.tokens = self.store.outcome_feed, self.store.tokens
        result(self.clock, self.store.start())

    def stop(self) -> None:
        """Close it."""
        result(self.clock, self.database.stop())
        check()

    def restart(self) -> None:
        """Close it, and open it again."""
        self.stop()
        self.start()

    def flows(self) -> set[str]:
        """Tell the callers of the flows that are stored."""
        found = self.database.read(lambda connection: connection.execute("SELECT caller FROM queue_flow").fetchall())
        return {caller for (caller,) in result(self.clock, found)}
