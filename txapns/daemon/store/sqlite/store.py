"""The store in SQLite: one database, and everything that the daemon keeps in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.store.cluster import SingleNode
from txapns.daemon.store.sqlite.api_keys import SQLiteKeyStore
from txapns.daemon.store.sqlite.apps import SQLiteAppStore
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.feedback_log import SQLiteFeedbackLog
from txapns.daemon.store.sqlite.outcome_feed import SQLiteOutcomeFeed
from txapns.daemon.store.sqlite.outcomes import SQLiteOutcomeLog
from txapns.daemon.store.sqlite.queue import SQLiteQueue
from txapns.daemon.store.sqlite.tables import QueueState
from txapns.daemon.store.sqlite.timeline import Timeline
from txapns.daemon.store.sqlite.token_environments import SQLiteTokenEnvironments
from txapns.daemon.store.store import IStore
from txapns.daemon.store.workers import IWorker

__all__ = ["SQLiteStore"]


@implementer(IStore)
class SQLiteStore:
    """
    The store in SQLite.

    :param longest: for how many seconds a retry may be delayed over a restart.
    :param node: the name of this node; by default, the host's.
    """

    warnings = ()

    def __init__(self, database: Database, longest: float = 900.0, node: str = "") -> None:
        self.database = database
        state = QueueState(Timeline(database.clock))
        self.feedback = SQLiteFeedbackLog(database)
        self.queue = SQLiteQueue(database, state, self.feedback.announce, longest)
        self.outcomes = SQLiteOutcomeLog(database, state)
        self.outcome_feed = SQLiteOutcomeFeed(database, state.recording)
        self.tokens = SQLiteTokenEnvironments(database)
        self.apps = SQLiteAppStore(database)
        self.keys = SQLiteKeyStore(database)
        self.cluster = SingleNode(database.clock, node)

    @property
    def trouble(self) -> str:
        """See :attr:`IStore.trouble`."""
        return self.database.trouble

    def worker(self, name: str) -> IWorker:
        """See :meth:`IStore.worker`."""
        return self.database.worker(name)

    def size(self) -> Deferred[int]:
        """See :meth:`IStore.size`."""
        return self.database.read(_size)

    def probe(self) -> Deferred[str]:
        """See :meth:`IStore.probe`."""
        return self.database.probe()

    def start(self) -> Deferred[None]:
        """See :meth:`IStore.start`."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self.database.start()
        try:
            await self.feedback.start()
            await self.outcome_feed.start()
            await self.tokens.start()
            await self.queue.start()
        except BaseException:
            await self.database.stop()
            raise

    def stop(self) -> Deferred[None]:
        """See :meth:`IStore.stop`."""
        return self.queue.stop().addCallback(lambda _: self.database.stop())


def _size(connection: sqlite3.Connection) -> int:
    """Add up the file, in which pages may be free, and its log."""
    [(size,)] = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    [(_, _, path)] = connection.execute("SELECT * FROM pragma_database_list WHERE name = 'main'")
    log = Path(f"{path}-wal")
    return int(size) + (log.stat().st_size if log.exists() else 0)
