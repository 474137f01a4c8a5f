"""Tests for :mod:`txapns.daemon.spool` and :mod:`txapns.daemon.feedback`, beside those in ``spool_contract``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import DatedClock
from tests.daemon.spool_contract import LONGEST, START, SpoolContract, SpoolMachine, result
from txapns.daemon.database import Database, InlineWorker
from txapns.daemon.feedback import SQLiteFeedbackLog
from txapns.daemon.spool import SQLiteSpool

__all__ = ["ModelTests", "SQLiteSpoolMachine", "SQLiteSpoolTests", "SQLiteWorld"]


class SQLiteWorld:
    """A spool in a file, without threads."""

    def __init__(self, path: Path, **options: float) -> None:
        self.options = options
        self.clock = DatedClock(START)
        self.path = path
        self.start()

    def start(self) -> None:
        """Open it."""
        self.database = Database(self.path, self.clock, lambda name: InlineWorker(), **self.options)
        self.spool, self.log = SQLiteSpool(self.database, LONGEST), SQLiteFeedbackLog(self.database)
        for each in (self.database, self.log, self.spool):
            result(self.clock, each.start())

    def stop(self) -> None:
        """Close it."""
        result(self.clock, self.database.stop())

    def restart(self) -> None:
        """Close it, and open it again."""
        self.stop()
        self.start()


class SQLiteSpoolTests(SpoolContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class TemporaryWorld(SQLiteWorld):
    """One in memory, as far as there are file systems in memory: hundreds are made, and each syncs many times."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.directory = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        super().__init__(Path(self.directory.name) / "spool")

    def stop(self) -> None:
        """Close it for good."""
        super().stop()
        self.directory.cleanup()

    def restart(self) -> None:
        """Close it, and open it again."""
        super().stop()
        self.start()


class SQLiteSpoolMachine(SpoolMachine):
    """The machine with one of these."""

    def make_world(self) -> TemporaryWorld:
        """Make one."""
        return TemporaryWorld()


ModelTests = SQLiteSpoolMachine.TestCase
ModelTests.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
