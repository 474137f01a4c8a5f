"""
A store in a schema of its own, whose clock and workers the test runs.

When it is closed, its statements are tried where much is kept; see :mod:`tests.daemon.store.postgresql.crowded`.
"""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from tests.daemon.fakes import DatedClock, InlineWorker
from tests.daemon.store.contract import LONGEST, START, result
from tests.daemon.store.postgresql.crowded import RecordingSettings, check
from tests.postgresql import Schema, execute
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.feedback_log import PostgreSQLFeedbackLog
from txapns.daemon.store.postgresql.nodes import NODES
from txapns.daemon.store.postgresql.outcome_feed import PostgreSQLOutcomeFeed
from txapns.daemon.store.postgresql.outcomes import PostgreSQLOutcomeLog
from txapns.daemon.store.postgresql.queue import PostgreSQLQueue
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.state import QueueState
from txapns.daemon.store.postgresql.token_environments import PostgreSQLTokenEnvironments

#: How long a day is here, in milliseconds: outcomes are forgotten by the day.
DAY = 10_000

__all__ = ["PostgreSQLWorld"]


class PostgreSQLWorld:
    """
    A store without threads. Its node lives for ever.

    The database's clock moves with the test's. If the world is the only one of its schema, it is the wall clock as it
    was at the last start; otherwise it is never set.

    :param other: another world of the same schema.
    """

    def __init__(self, place: Schema, other: PostgreSQLWorld | None = None, **options: float) -> None:
        self.place = place
        self.node = "first" if other is None else "second"
        self.options = options
        self.clock = DatedClock(START) if other is None else other.clock
        self.alone = other is None
        self.ahead = self.clock.ahead
        if other is not None:
            other.alone = False
        self.start()

    def settings(self) -> Settings:
        """How to connect."""
        return RecordingSettings(self.place.url, schema=self.place.name)

    def start(self) -> None:
        """Open it."""
        self.database = Database(self.settings(), self.clock, lambda name: InlineWorker(), **self.options)
        result(self.clock, self.database.start())
        if self.alone:
            self.ahead = self.clock.ahead
        ahead = self.ahead
        time = ClusterTime(self.clock, lambda connection: self.clock.seconds() + ahead)
        time.measured(self.clock.seconds() + ahead, self.clock.seconds(), self.clock.seconds())
        self.incarnation = str(uuid.uuid4())
        state = QueueState(time, self.incarnation, DAY)
        self.log = PostgreSQLFeedbackLog(self.database)
        self.queue = PostgreSQLQueue(self.database, state, self.log.announce, LONGEST)
        self.outcome_log = PostgreSQLOutcomeLog(self.database, state)
        self.feed = PostgreSQLOutcomeFeed(self.database, state.recording)
        self.tokens = PostgreSQLTokenEnvironments(self.database)
        result(self.clock, self.database.prepare(NODES))
        result(self.clock, self.database.write(lambda connection: _live(connection, self.node, state.incarnation)))
        result(self.clock, self.log.start())
        result(self.clock, self.feed.start())
        result(self.clock, self.tokens.start())
        result(self.clock, self.queue.start())

    def stop(self) -> None:
        """Close it."""
        result(self.clock, self.log.stop())
        result(self.clock, self.feed.stop())
        result(self.clock, self.queue.stop())
        result(self.clock, self.database.stop())
        check()

    def restart(self) -> None:
        """Close it, and open it again."""
        self.stop()
        self.start()

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute one statement in the schema, as another program does."""
        return execute(f"{self.place.url}&options=-csearch_path%3D{self.place.name}", statement, *parameters)

    def flows(self) -> set[str]:
        """Tell the callers of the flows that are stored."""
        return {caller for (caller,) in self.execute("SELECT caller FROM flow")}

    def connect(self) -> Connection:
        """Connect to the schema, as a store does."""
        return psycopg.connect(self.place.url, options=f"-csearch_path={self.place.name}")

    def waits(self, pid: int) -> bool:
        """Tell whether a connection's process waits for another's lock."""
        return self.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", pid) == [(True,)]

    def execute_all(self, script: str) -> None:
        """Execute several statements, without parameters."""
        with psycopg.connect(self.place.url, autocommit=True, options=f"-csearch_path={self.place.name}") as connection:
            connection.execute(script.encode())


def _live(connection: Connection, node: str, incarnation: str) -> None:
    """Let a node live for ever."""
    connection.execute(
        "INSERT INTO node VALUES (%(node)s, %(incarnation)s, '', '', 0, 0, 9e15, 0, 0)"
        " ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation",
        {"node": node, "incarnation": incarnation},
    )
