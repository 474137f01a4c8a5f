"""
Copying everything from or to a store in PostgreSQL.

The rows with the tables' versions stay locked meanwhile, so no node starts, and so do the counters of changes, so no
command changes apps or keys. Rows are read through a cursor on the server, and written through COPY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Identifier
from zope.interface import implementer

from txapns.daemon.errors import DatabaseInUse
from txapns.daemon.store.acceptance import FlowKey
from txapns.daemon.store.copying import (
    KINDS,
    APIKeyRow,
    AppRow,
    Counters,
    DeadTokenRow,
    FeedEntryRow,
    FeedReaderRow,
    FeedRow,
    ICopy,
    IdempotencyRow,
    MessageRow,
    NotificationRow,
    PauseRow,
    QueueRow,
    ReaderRow,
    Reading,
    SandboxRow,
    TokenRow,
)
from txapns.daemon.store.postgresql.acceptance import BLOCK, find_apps
from txapns.daemon.store.postgresql.api_keys import KeyTable
from txapns.daemon.store.postgresql.apps import AppTable
from txapns.daemon.store.postgresql.examination import alive, cluster_now
from txapns.daemon.store.postgresql.flows import find_flows
from txapns.daemon.store.postgresql.partitions import DAY, create_ahead
from txapns.daemon.store.postgresql.schema import Connection, Schema, migrate, pending
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.tables import NOBODY
from txapns.daemon.store.postgresql.visiting import visiting
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.values import State

__all__ = ["PostgreSQLCopy", "copying"]

_Row = TypeVar("_Row", bound=tuple[Any, ...])

_FETCHED = 1_000  # rows at a time
_DAYS = 100  # for how many days before the present outcomes get partitions of their own


class _Table(NamedTuple):
    """Where rows of a kind are, and how they are read; ``json`` are the positions of columns that are JSON."""

    name: str
    columns: Sequence[str]
    read: str
    json: Sequence[int] = ()


def _plain(name: str, kind: type[Any]) -> _Table:
    """Describe a table whose columns are the fields of a kind, and whose first ones are its key."""
    return _Table(name, kind._fields, f"SELECT {', '.join(kind._fields)} FROM {name} ORDER BY 1, 2")


_NOTIFICATION = ["number", "message", "app", "token", "apns_id", "due", "attempts", "status", "reason", "accepted_at"]
_NOTIFICATION += ["flow", "collapse", "superseded"]
_WAITING = [*_NOTIFICATION, "not_before"]
_OUTCOME = [*_NOTIFICATION, "state", "timestamp", "settled_at", "unique_id", "environment"]

_TABLES: Mapping[type[Any], _Table] = {
    AppRow: _Table(
        "app",
        AppRow._fields,
        """
SELECT name, convert_to(settings::text, 'UTF8'), encrypted, kind, fingerprint, expires, created_at, changed_at
FROM app ORDER BY name
""",
    ),
    SandboxRow: _plain("app_sandbox", SandboxRow),
    PauseRow: _plain("app_pause", PauseRow),
    APIKeyRow: _Table(
        "api_key",
        APIKeyRow._fields,
        "SELECT id, label, digest, send, feedback, manage::integer, created_at, lane FROM api_key ORDER BY id",
    ),
    QueueRow: _Table("queue_app", ["name"], "SELECT name FROM queue_app ORDER BY id"),
    MessageRow: _Table(
        "message",
        ["number", "headers", "payload", "accepted_at", "since"],
        "SELECT number, headers, payload, accepted_at FROM message ORDER BY number",
        json=(1,),
    ),
    NotificationRow: _Table(
        "queue",
        _NOTIFICATION,
        """
SELECT number, message, name, token, uuid_send(apns_id), due, state, attempts, status, reason, timestamp, accepted_at,
    settled_at, unique_id, not_before, coalesce(lane, 1), coalesce(caller, 'anybody'),
    collapse, superseded::integer, environment
FROM (
    SELECT number, message, app, token, apns_id, due, 0 AS state, attempts, status, reason, NULL::bigint AS timestamp,
        accepted_at, NULL::bigint AS settled_at, NULL::text AS unique_id, not_before, flow,
        collapse, superseded, NULL::smallint AS environment
    FROM queue
    UNION ALL
    SELECT number, message, app, token, apns_id, due, state, attempts, status, reason, timestamp, accepted_at,
        settled_at, unique_id, NULL::bigint, flow, collapse, superseded, environment
    FROM outcome
) AS notification JOIN queue_app ON queue_app.id = notification.app LEFT JOIN flow ON flow.id = notification.flow
ORDER BY number
""",
    ),
    IdempotencyRow: _plain("idempotency", IdempotencyRow),
    DeadTokenRow: _Table(
        "feedback_token",
        DeadTokenRow._fields,
        """
SELECT cursor, app, token, reason,
    greatest(0, least(timestamp, 253402300799)), greatest(0, least(noted_at, 253402300799))
FROM feedback_token ORDER BY cursor
""",
    ),
    ReaderRow: _plain("feedback_reader", ReaderRow),
    FeedRow: _Table(
        "outcome_head",
        ["app", "cursor"],
        """
SELECT name, cursor, coalesce(first, 1)
FROM outcome_head JOIN queue_app ON queue_app.id = app LEFT JOIN outcome_tail USING (app) ORDER BY name
""",
    ),
    FeedEntryRow: _Table(
        "outcome_entry",
        FeedEntryRow._fields,
        """
SELECT name, cursor, number, token, uuid_send(apns_id), state, status, reason, timestamp, attempts, accepted_at,
    settled_at, unique_id, environment, headers
FROM outcome_entry JOIN queue_app ON queue_app.id = app ORDER BY app, cursor
""",
    ),
    FeedReaderRow: _Table(
        "outcome_reader",
        FeedReaderRow._fields,
        "SELECT reader, name, cursor FROM outcome_reader JOIN queue_app ON queue_app.id = app ORDER BY reader, name",
    ),
    TokenRow: _plain("token_environment", TokenRow),
}


@implementer(ICopy)
class PostgreSQLCopy(Reading):
    """
    A database of PostgreSQL, to copy from or to.

    :param connection: in a transaction, with all tables there.
    :param now: the cluster's time, in milliseconds.
    :param longest: for how many seconds from now a retry may be put off.
    """

    def __init__(self, connection: Connection, now: int, longest: float) -> None:
        super().__init__()
        self._connection = connection
        self._now = now
        self._latest = now + milliseconds(longest)
        self._apps: dict[str, int] = {}
        self._flows: dict[FlowKey, int] = {}
        self._days: set[int] = set()

    # ICopySource

    def counters(self) -> Counters:
        """See :meth:`ICopySource.counters`."""
        [(last, called)] = self._connection.execute("SELECT last_value, is_called FROM queue_number")
        [(cursor,)] = self._connection.execute("SELECT cursor FROM feedback_head")
        return Counters(last + BLOCK if called else last, cursor)

    def count(self, kind: type[Any]) -> int:
        """See :meth:`ICopySource.count`."""
        [(count,)] = self._connection.execute(f"SELECT count(*) FROM ({_TABLES[kind].read}) AS found".encode())
        return int(count)

    def rows(self, kind: type[_Row]) -> Iterator[_Row]:
        """See :meth:`ICopySource.rows`."""
        table = _TABLES[kind]
        return self.rows_of(kind, self._read(table.read), table.json)

    def _read(self, statement: str) -> Iterator[Sequence[Any]]:
        with self._connection.cursor("copy") as cursor:
            cursor.itersize = _FETCHED
            yield from cursor.execute(statement.encode())

    # ICopyTarget

    def occupied(self) -> list[str]:
        """See :meth:`ICopyTarget.occupied`."""
        return [
            name
            for kind, name in KINDS.items()
            if self._connection.execute(f"{_TABLES[kind].read} LIMIT 1".encode()).fetchone()
        ]

    def add(self, kind: type[_Row], rows: Sequence[_Row]) -> None:
        """See :meth:`ICopyTarget.add`."""
        if kind is QueueRow:
            self._apps.update(find_apps(self._connection, [name for (name,) in rows]))
        elif kind is NotificationRow:
            self._add_notifications([NotificationRow._make(row) for row in rows])
        elif kind is FeedRow:
            feeds = [(self._app(app), cursor, first) for app, cursor, first in rows]
            self._write("outcome_head", ["app", "cursor"], ((app, cursor) for app, cursor, _ in feeds))
            self._write("outcome_tail", ["app", "first"], ((app, first) for app, _, first in feeds))
        elif kind in _OF_FEEDS:
            self._write_rows(kind, (_OF_FEEDS[kind](self._app, row) for row in rows))
        else:
            self._write_rows(kind, map(_WRITTEN.get(kind, list), rows))

    def _write_rows(self, kind: type[Any], rows: Iterable[Sequence[Any]]) -> None:
        table = _TABLES[kind]
        self._write(table.name, table.columns, rows)

    def _add_notifications(self, rows: Sequence[NotificationRow]) -> None:
        if unknown := {_flow_of(row) for row in rows} - self._flows.keys():
            self._flows.update(find_flows(self._connection, unknown, self._apps))
        waiting: list[list[Any]] = []
        settled: list[list[Any]] = []
        for row in rows:
            # Nothing is put off for longer than usual or asked for, whatever the clock said where it comes from.
            if row.attempts:
                due = min(row.due, self._latest)
            else:
                due = min(row.due, self._now) if row.not_before is None else row.not_before
            values = [row.number, row.message, self._app(row.app), row.token, UUID(bytes=row.apns_id)]
            values += [due, row.attempts, row.status, row.reason, row.accepted_at]
            values += [self._flows[_flow_of(row)], row.collapse, bool(row.superseded)]
            if row.state == State.WAITING:
                waiting.append([*values, row.not_before])
            else:
                settled_at = row.accepted_at if row.settled_at is None else row.settled_at
                self._make_partition(settled_at)
                settled.append([*values, row.state, row.timestamp, settled_at, row.unique_id, row.environment])
        self._write("queue", _WAITING, waiting)
        self._write("outcome", _OUTCOME, settled)

    def _app(self, app: str) -> int:
        return self._apps[_without_nul(app)]

    def _make_partition(self, date: int) -> None:
        day = date // DAY
        if day not in self._days:
            self._days.add(day)
            if self._now // DAY - _DAYS <= day <= self._now // DAY:
                create_ahead(self._connection, date)

    def _write(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        names = SQL(", ").join(map(Identifier, columns))
        statement = SQL("COPY {} ({}) FROM STDIN").format(Identifier(table), names)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([_without_nul(value) if isinstance(value, str) else value for value in row])

    def finish(self, counters: Counters) -> None:
        """See :meth:`ICopyTarget.finish`."""
        number, cursor = map(max, self.counters(), counters)
        self._connection.execute("SELECT setval('queue_number', %s, false)", [number])
        self._connection.execute("UPDATE feedback_head SET cursor = %s", [cursor])
        self._connection.execute(
            "INSERT INTO queue_count (app, node, settling, waiting)"
            " SELECT app, %s, false, count(*) FROM queue GROUP BY app"
            " ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting",
            [NOBODY],
        )
        self._connection.execute("ANALYZE queue, message, outcome")


def _flow_of(row: NotificationRow) -> FlowKey:
    return _without_nul(row.app), row.lane, row.caller


def _without_nul(text: str) -> str:
    """PostgreSQL has no NUL characters in texts."""
    return text.replace("\0", "")


# How rows are written where their values are not those of the columns.
_WRITTEN: Mapping[type[Any], Any] = {
    AppRow: lambda row: [row.name, row.settings.decode(), *row[2:]],
    MessageRow: lambda row: [
        row.number,
        msgspec.json.encode(row.headers).decode(),
        row.payload,
        row.accepted_at,
        row.accepted_at,
    ],
}

# The same for rows of outcome feeds, which have the ids of apps.
_OF_FEEDS: Mapping[type[Any], Callable[[Callable[[str], int], Any], Sequence[Any]]] = {
    FeedEntryRow: lambda app, row: row._replace(app=app(row.app), apns_id=UUID(bytes=row.apns_id)),
    FeedReaderRow: lambda app, row: row._replace(app=app(row.app)),
}


@contextmanager
def copying(settings: Settings, schemas: Sequence[Schema], longest: float) -> Iterator[PostgreSQLCopy]:
    """
    Open a database to copy from it or to it, while no node is alive.

    :param schemas: all tables.
    :param longest: for how many seconds a retry may be put off.
    :returns: a context in one transaction, which is committed at its end, or rolled back if the context raises.
    :raises DatabaseError: the database cannot be used, or a node is alive.
    """
    with visiting(settings) as connection:
        for schema in schemas:
            pending(connection, schema, settings.where)  # which locks it
        if names := alive(connection):
            raise DatabaseInUse(f"{settings.where} is in use by {', '.join(names)}; stop these nodes first")
        for schema in schemas:
            migrate(connection, schema, settings.where)
        AppTable.locked(connection)
        KeyTable.locked(connection)
        yield PostgreSQLCopy(connection, cluster_now(connection), longest)
