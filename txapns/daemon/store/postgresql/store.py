"""
The store in PostgreSQL: one database, which several nodes share, and everything that they keep in it.

A node's leases belong to one of its incarnations; see :mod:`txapns.daemon.store.postgresql.cluster`. When the node
begins another life, the queue forgets what it had leased.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.store.postgresql.api_keys import PostgreSQLKeyStore
from txapns.daemon.store.postgresql.apps import PostgreSQLAppStore
from txapns.daemon.store.postgresql.cluster import PostgreSQLCluster
from txapns.daemon.store.postgresql.cluster_time import ClusterTime, database_date
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.feedback_log import PostgreSQLFeedbackLog
from txapns.daemon.store.postgresql.outcome_feed import PostgreSQLOutcomeFeed
from txapns.daemon.store.postgresql.outcomes import PostgreSQLOutcomeLog
from txapns.daemon.store.postgresql.queue import PostgreSQLQueue
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.state import QueueState
from txapns.daemon.store.postgresql.token_environments import PostgreSQLTokenEnvironments
from txapns.daemon.store.store import IStore
from txapns.daemon.store.workers import IWorker

__all__ = ["PostgreSQLStore"]


_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'm')
"""


@implementer(IStore)
class PostgreSQLStore:
    """
    The store in PostgreSQL.

    :param longest: for how many seconds a retry may be delayed over a restart.
    :param node: the name of this node, which no other node may have; by default, the host's.
    :param read: reads the database's clock, in UNIX seconds.
    """

    def __init__(
        self,
        database: Database,
        longest: float = 900.0,
        node: str = "",
        read: Callable[[Connection], float] = database_date,
    ) -> None:
        self.database = database
        time = ClusterTime(database.clock, read)
        self.cluster = PostgreSQLCluster(database, time, node or socket.gethostname())
        self._state = QueueState(time, self.cluster.incarnation)
        self.feedback = PostgreSQLFeedbackLog(database)
        self.queue = PostgreSQLQueue(database, self._state, self.feedback.announce, longest)
        self.outcomes = PostgreSQLOutcomeLog(database, self._state)
        self.outcome_feed = PostgreSQLOutcomeFeed(database, self._state.recording)
        self.tokens = PostgreSQLTokenEnvironments(database)
        self.apps = PostgreSQLAppStore(database)
        self.keys = PostgreSQLKeyStore(database)
        self.cluster.subscribe(self._changed)

    def _changed(self) -> None:
        if self._state.incarnation != self.cluster.incarnation:
            self._state.incarnation = self.cluster.incarnation
            self.queue.joined()

    @property
    def trouble(self) -> str:
        """See :attr:`IStore.trouble`."""
        return self.database.trouble

    @property
    def warnings(self) -> list[str]:
        """See :attr:`IStore.warnings`."""
        return self.database.warnings

    def worker(self, name: str) -> IWorker:
        """See :meth:`IStore.worker`."""
        return self.database.worker(name)

    def size(self) -> Deferred[int]:
        """See :meth:`IStore.size`. It is that of the tables, their indexes included."""
        return self.database.read(lambda connection: int(connection.execute(_SIZE).fetchall()[0][0]))

    def probe(self) -> Deferred[str]:
        """See :meth:`IStore.probe`."""
        return self.database.probe()

    def start(self) -> Deferred[None]:
        """See :meth:`IStore.start`."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self.database.start()
        try:
            await self.cluster.start()
            await self.feedback.start()
            await self.outcome_feed.start()
            await self.tokens.start()
            await self.queue.start()
        except BaseException:
            await self._stop()
            raise

    def stop(self) -> Deferred[None]:
        """See :meth:`IStore.stop`. The node's leases end with it."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.queue.stop()
        await self.feedback.stop()
        await self.outcome_feed.stop()
        await self.cluster.stop()
        await self.database.stop()
