"""Copying everything from or to a store in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from zope.interface import implementer

from txapns.daemon.store.copying import (
    KEPT,
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
from txapns.daemon.store.sqlite.api_keys import KeyTable
from txapns.daemon.store.sqlite.apps import AppTable
from txapns.daemon.store.sqlite.feedback_log import FEEDBACK
from txapns.daemon.store.sqlite.file import DatabaseFile
from txapns.daemon.store.sqlite.outcome_feed import OUTCOMES
from txapns.daemon.store.sqlite.schema import prepare
from txapns.daemon.store.sqlite.tables import QUEUE, array
from txapns.daemon.store.sqlite.token_environments import TOKENS

__all__ = ["SQLiteCopy", "copying", "migrated"]

_Row = TypeVar("_Row", bound=tuple[Any, ...])

_PATIENCE = 10.0  # seconds to wait for another program that has the file locked
_SCHEMAS = (QUEUE, OUTCOMES, FEEDBACK, TOKENS, AppTable.schema, KeyTable.schema)
_DAMAGED = object()  # in place of a text that is not UTF-8: no kind of row takes it


class _Statements(NamedTuple):
    """
    How rows of a kind are read and written.

    :ivar json: the positions of the columns that are JSON.
    """

    table: str
    read: str
    write: str
    json: tuple[int, ...] = ()


def _plain(table: str, kind: type[Any], *, json: tuple[int, ...] = ()) -> _Statements:
    """Make the statements of a table whose columns are the fields of a kind, and whose first ones are its key."""
    names = ", ".join(kind._fields)
    read = f"SELECT {names} FROM {table} ORDER BY 1, 2"  # noqa: S608 - ours
    write = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(kind._fields))})"  # noqa: S608 - ours
    return _Statements(table, read, write, json)


_STATEMENTS: Mapping[type[Any], _Statements] = {
    AppRow: _plain("app", AppRow),
    SandboxRow: _plain("app_sandbox", SandboxRow),
    PauseRow: _plain("app_pause", PauseRow),
    APIKeyRow: _plain("api_key", APIKeyRow, json=(3, 4)),
    QueueRow: _Statements(
        "queue_app", "SELECT name FROM queue_app ORDER BY id", "INSERT INTO queue_app (name) VALUES (?)"
    ),
    MessageRow: _plain("queue_message", MessageRow, json=(1,)),
    NotificationRow: _Statements(
        "queue_delivery",
        """
SELECT queue_delivery.number, message, name, token, apns_id, due, state, attempts, status, reason, timestamp,
    accepted_at, settled_at, unique_id, not_before, coalesce(lane, 1), coalesce(caller, 'anybody'),
    collapse, superseded, environment
FROM queue_delivery
LEFT JOIN queue_flow ON queue_flow.id = queue_delivery.flow
LEFT JOIN queue_app ON queue_app.id = queue_delivery.app
LEFT JOIN queue_message ON queue_message.number = queue_delivery.message
ORDER BY queue_delivery.number
""",
        """
INSERT INTO queue_delivery (
    number, message, app, token, apns_id, due, state, attempts, status, reason, timestamp, settled_at, unique_id,
    not_before, flow, collapse, superseded, environment
)
SELECT
    number, message, queue_app.id, token, apns_id, due, state, attempts, status, reason, timestamp, settled_at,
    unique_id, not_before, queue_flow.id, collapse, superseded, environment
FROM (
    SELECT ? AS number, ? AS message, ? AS app, ? AS token, ? AS apns_id, ? AS due, ? AS state, ? AS attempts,
        ? AS status, ? AS reason, ? AS timestamp, ? AS accepted_at, ? AS settled_at,
        ? AS unique_id, ? AS not_before, ? AS lane, ? AS caller, ? AS collapse, ? AS superseded,
        ? AS environment
) AS copied JOIN queue_app ON queue_app.name = copied.app
JOIN queue_flow ON queue_flow.app = queue_app.id AND queue_flow.lane = copied.lane
    AND queue_flow.caller = copied.caller
""",
    ),
    IdempotencyRow: _plain("queue_key", IdempotencyRow, json=(3,)),
    # As the log reads them, whatever another program may have written there.
    DeadTokenRow: _Statements(
        "feedback_token",
        """
SELECT cursor, CAST(app AS TEXT), CAST(token AS BLOB), CAST(reason AS TEXT),
    max(0.0, min(CAST(timestamp AS REAL), 253402300799.0)), max(0.0, min(CAST(noted_at AS REAL), 253402300799.0))
FROM feedback_token ORDER BY cursor
""",
        "INSERT INTO feedback_token VALUES (?, ?, ?, ?, ?, ?)",
    ),
    ReaderRow: _plain("feedback_reader", ReaderRow),
    FeedRow: _Statements(
        "outcome_head",
        "SELECT name, cursor, first FROM outcome_head JOIN queue_app ON id = app ORDER BY name",
        "INSERT INTO outcome_head SELECT id, ?2, ?3 FROM queue_app WHERE name = ?1",
    ),
    FeedEntryRow: _Statements(
        "outcome_entry",
        """
SELECT name, cursor, number, token, apns_id, state, status, reason, timestamp, attempts, accepted_at, settled_at,
    unique_id, environment, headers
FROM outcome_entry JOIN queue_app ON id = app ORDER BY app, cursor
""",
        "INSERT INTO outcome_entry SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15"
        " FROM queue_app WHERE name = ?1",
    ),
    FeedReaderRow: _Statements(
        "outcome_reader",
        "SELECT reader, name, cursor FROM outcome_reader JOIN queue_app ON id = app ORDER BY reader, name",
        "INSERT INTO outcome_reader SELECT ?1, id, ?3 FROM queue_app WHERE name = ?2",
    ),
    TokenRow: _plain("token_environment", TokenRow),
}


_ADD_FLOW = """
INSERT OR IGNORE INTO queue_flow (app, lane, caller) SELECT id, ?, ? FROM queue_app WHERE name = ?
"""


@implementer(ICopy)
class SQLiteCopy(Reading):
    """
    A database of SQLite, to copy from or to.

    :param connection: in a transaction, with all tables there.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    # ICopySource

    def counters(self) -> Counters:
        """See :meth:`ICopySource.counters`."""
        [(number,)] = self._connection.execute("SELECT number FROM queue_next")
        rows = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'feedback_token'")
        return Counters(number, next((cursor for (cursor,) in rows), 0))

    def count(self, kind: type[Any]) -> int:
        """See :meth:`ICopySource.count`."""
        [(count,)] = self._connection.execute(f"SELECT count(*) FROM {_STATEMENTS[kind].table}")  # noqa: S608 - ours
        return int(count)

    def rows(self, kind: type[_Row]) -> Iterator[_Row]:
        """See :meth:`ICopySource.rows`."""
        statements = _STATEMENTS[kind]
        return self.rows_of(kind, self._connection.execute(statements.read), statements.json)

    # ICopyTarget

    def occupied(self) -> list[str]:
        """See :meth:`ICopyTarget.occupied`."""
        found = []
        for kind, name in KINDS.items():
            [(occupied,)] = self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM {_STATEMENTS[kind].table})")  # noqa: S608 - ours
            if occupied:
                found.append(name)
        return found

    def add(self, kind: type[_Row], rows: Sequence[_Row]) -> None:
        """See :meth:`ICopyTarget.add`."""
        statements = _STATEMENTS[kind]
        if kind is NotificationRow:
            self._add_messages(rows)
            self._add_flows(rows)
        self._connection.executemany(statements.write, (_encoded(row, statements.json) for row in rows))

    def _add_messages(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add the messages that came without a row, since nothing of them can be sent again: here each has a row."""
        found = map(NotificationRow._make, rows)
        settled = {(row.message, row.accepted_at) for row in found if row.state not in KEPT}
        self._connection.executemany("INSERT OR IGNORE INTO queue_message VALUES (?, '{}', x'', ?)", sorted(settled))

    def _add_flows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        flows = {(row.lane, row.caller, row.app) for row in map(NotificationRow._make, rows)}
        self._connection.executemany(_ADD_FLOW, sorted(flows))

    def finish(self, counters: Counters) -> None:
        """See :meth:`ICopyTarget.finish`."""
        before = self.counters()
        number, cursor = map(max, before, counters)
        self._connection.execute("UPDATE queue_next SET number = ?", [number])
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'feedback_token'")
        self._connection.execute("INSERT INTO sqlite_sequence VALUES ('feedback_token', ?)", [cursor])


def _encoded(row: Sequence[Any], json: Sequence[int]) -> list[Any]:
    return [array(value) if n in json and value is not None else value for n, value in enumerate(row)]


def _text(octets: bytes) -> object:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return _DAMAGED


@contextmanager
def copying(path: Path) -> Iterator[SQLiteCopy]:
    """
    Open a database, with the locks of a daemon, to copy from it or to it.

    :returns: a context in one transaction, which is committed at its end, or rolled back if the context raises.
    :raises DatabaseError: the database cannot be used.
    """
    with _opened(path) as connection:
        connection.text_factory = _text
        yield SQLiteCopy(connection)


def migrated(path: Path) -> list[tuple[str, int, int]]:
    """
    Create all tables, or bring them up to date, while no daemon has the database open.

    :returns: of each module whose tables were changed the name, the version before and the version now.
    :raises DatabaseError: the database cannot be used.
    """
    with _opened(path, prepared=False) as connection:
        before = dict(connection.execute("SELECT name, version FROM schema_version"))
        for schema in _SCHEMAS:
            prepare(connection, schema, path)
    versions = [(schema.name, before.get(schema.name, 0), len(schema.steps)) for schema in _SCHEMAS]
    return [(name, old, new) for name, old, new in versions if old != new]


@contextmanager
def _opened(path: Path, *, prepared: bool = True) -> Iterator[sqlite3.Connection]:
    file = DatabaseFile(path)
    try:
        file.open(_PATIENCE)
        file.writing.execute("BEGIN IMMEDIATE")
        for schema in _SCHEMAS if prepared else ():
            prepare(file.writing, schema, path)
        yield file.writing
        file.writing.execute("COMMIT")
    except sqlite3.Error as error:
        raise file.in_words(error) from error
    finally:
        file.close()
