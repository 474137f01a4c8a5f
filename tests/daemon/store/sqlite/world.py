"""A store in a file whose clock and workers the test runs."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.fakes import DatedClock, InlineWorker
from tests.daemon.store.contract import LONGEST, START, result
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteWorld"]


class SQLiteWorld:
    """A store in a file, without threads."""

    def __init__(self, path: Path, **options: float) -> None:
        self.options = options
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

    def restart(self) -> None:
        """Close it, and open it again."""
        self.stop()
        self.start()

    def flows(self) -> set[str]:
        """Tell the callers of the flows that are stored."""
        found = self.database.read(lambda connection: connection.execute("SELECT caller FROM queue_flow").fetchall())
        return {caller for (caller,) in result(self.clock, found)}
