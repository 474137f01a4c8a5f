"""
The store as seen by a process that is not a node: what became of notifications, and the apps.

It neither accepts nor sends, so it needs no life of its own, and takes no name away from a node. What it puts back into
the queue, or deletes there, is counted in the row of nobody; see :mod:`txapns.daemon.store.postgresql.tables`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.store.postgresql.apps import PostgreSQLAppStore
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.nodes import NODES, Moment, look
from txapns.daemon.store.postgresql.outcomes import PostgreSQLOutcomeLog
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.state import QueueState
from txapns.daemon.store.postgresql.tables import NOBODY, QUEUE
from txapns.daemon.store.store import IVisitedStore

__all__ = ["Visitor"]


@implementer(IVisitedStore)
class Visitor:
    """The store, for a process that is not a node."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._time = ClusterTime(database.clock)
        self._state = QueueState(self._time, NOBODY)
        self.outcomes = PostgreSQLOutcomeLog(database, self._state)
        self.apps = PostgreSQLAppStore(database)

    def start(self) -> Deferred[None]:
        """See :meth:`IVisitedStore.start`."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._database.start()
        try:
            self._database.alone = lambda connection: False
            for schema in NODES, QUEUE:
                await self._database.prepare(schema)
            moment = await self._database.beat(self._look)
        except BaseException:
            await self._database.stop()
            raise
        self._time.measured(moment.now / 1000, moment.before, moment.after)
        self._state.running = True

    def _look(self, connection: Connection) -> Moment:
        return look(connection, self._time.read, self._database.clock.seconds, None)

    def stop(self) -> Deferred[None]:
        """See :meth:`IVisitedStore.stop`."""
        self._state.running = False
        return self._database.stop()
