"""The outcome feed in SQLite: what became of the notifications of some apps, and how far each reader has read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.interfaces import IOutcomeFeed
from txapns.daemon.store.acceptance import uuid_text
from txapns.daemon.store.outcome_feed import MOST_APPS, Recording, share
from txapns.daemon.store.outcomes import outcome_of
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import Schema, lenient
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.values import RecordedOutcome

__all__ = ["OUTCOMES", "SQLiteOutcomeFeed", "record"]

# The head of an app has the last cursor that was given, and the first that is not forgotten.
#: The tables of the outcome feed.
OUTCOMES = Schema(
    "outcomes",
    (
        """
CREATE TABLE outcome_head (
    app INTEGER PRIMARY KEY,
    cursor INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE outcome_entry (
    app INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    number INTEGER NOT NULL,
    token BLOB NOT NULL,
    apns_id BLOB NOT NULL,
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    reason TEXT NOT NULL,
    timestamp INTEGER,
    attempts INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    settled_at INTEGER NOT NULL,
    unique_id TEXT,
    PRIMARY KEY (app, cursor)
) WITHOUT ROWID;
CREATE TABLE outcome_reader (
    reader TEXT NOT NULL,
    app INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    PRIMARY KEY (reader, app)
) WITHOUT ROWID
""",
        "ALTER TABLE outcome_entry ADD COLUMN environment INTEGER",
        # Of a broadcast, since they name its channel; its message may be forgotten before.
        "ALTER TABLE outcome_entry ADD COLUMN headers TEXT",
    ),
)

_BEGIN = """
INSERT OR IGNORE INTO outcome_head (app, cursor)
SELECT DISTINCT app, 0 FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?))
"""

_RECORD = """
INSERT INTO outcome_entry
SELECT
    delivery.app, outcome_head.cursor + row_number() OVER (PARTITION BY delivery.app ORDER BY delivery.number),
    delivery.number, token, apns_id, state, status, reason, timestamp, attempts, accepted_at, settled_at, unique_id,
    environment, CASE WHEN token = x'' THEN headers END
FROM queue_delivery AS delivery
JOIN queue_message ON queue_message.number = delivery.message
JOIN outcome_head ON outcome_head.app = delivery.app
WHERE delivery.number IN (SELECT value FROM json_each(?))
"""

_MOVE_HEADS = """
UPDATE outcome_head SET cursor = (SELECT max(cursor) FROM outcome_entry WHERE outcome_entry.app = outcome_head.app)
WHERE app IN (SELECT DISTINCT app FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?)))
"""

_ROWS = """
SELECT
    name, entry.cursor, number, token, lower(hex(apns_id)), state, status, reason, timestamp, attempts, accepted_at,
    settled_at, coalesce(unique_id, ''), environment, CAST(headers AS TEXT)
"""

_READ = f"""
{_ROWS} FROM queue_app CROSS JOIN outcome_entry AS entry
WHERE name = ? AND entry.app = queue_app.id AND entry.cursor > ? ORDER BY entry.cursor LIMIT ?
"""

# Where a reader goes on: after what it has confirmed and what is forgotten.
_PENDING = """
WITH pending AS (
    SELECT app, cursor, max(first - 1, coalesce(
        (SELECT cursor FROM outcome_reader WHERE reader = ? AND outcome_reader.app = outcome_head.app), 0
    )) AS start
    FROM outcome_head JOIN queue_app ON queue_app.id = outcome_head.app
    WHERE ? IS NULL OR name IN (SELECT value FROM json_each(?))
)
"""

_SOME_PENDING = """
SELECT json_group_array(json_array(app, start)) FROM (
    SELECT app, start FROM pending WHERE cursor > start ORDER BY random() LIMIT ?
)
"""

_COUNT_PENDING = "SELECT coalesce(sum(max(cursor - start, 0)), 0) FROM pending"

_TAKE = f"""
{_ROWS} FROM json_each(?) AS pending
CROSS JOIN outcome_entry AS entry
JOIN queue_app ON queue_app.id = entry.app
WHERE entry.app = json_extract(value, '$[0]') AND entry.cursor > json_extract(value, '$[1]')
AND entry.cursor <= json_extract(value, '$[1]') + ?
"""

_CONFIRM = """
INSERT INTO outcome_reader
SELECT ?, queue_app.id, json_each.value FROM json_each(?) JOIN queue_app ON name = json_each.key WHERE TRUE
ON CONFLICT DO UPDATE SET cursor = max(cursor, excluded.cursor)
"""

# The apps whose first entry is old or one too many.
_FIND_OLD = """
SELECT json_group_array(json_array(app, cursor, first)) FROM (
    SELECT app, cursor, first FROM outcome_head AS head
    WHERE first <= cursor AND (first <= cursor - ? OR coalesce(
        (SELECT settled_at < ? FROM outcome_entry AS entry WHERE entry.app = head.app AND entry.cursor = head.first),
        TRUE
    ))
    ORDER BY random() LIMIT ?
)
"""

# Of some entries of each, up to which one they are to be forgotten: the last that is old or one too many.
_FIND_END = """
SELECT json_group_array(json_array(app, first, end)) FROM (
    SELECT app, first, min(first + ? - 1, cursor, max(cursor - ?, coalesce((
        SELECT max(entry.cursor) FROM outcome_entry AS entry
        WHERE entry.app = old.app AND entry.cursor >= first AND entry.cursor < first + ? AND settled_at < ?
    ), first))) AS end
    FROM (
        SELECT json_extract(value, '$[0]') AS app, json_extract(value, '$[1]') AS cursor,
            json_extract(value, '$[2]') AS first
        FROM json_each(?)
    ) AS old
)
"""

_FORGET = """
DELETE FROM outcome_entry WHERE (app, cursor) IN (
    SELECT entry.app, entry.cursor FROM json_each(?) AS old CROSS JOIN outcome_entry AS entry
    WHERE entry.app = json_extract(value, '$[0]') AND entry.cursor >= json_extract(value, '$[1]')
    AND entry.cursor <= json_extract(value, '$[2]')
)
"""

_MOVE_FIRST = """
UPDATE outcome_head SET first = json_extract(value, '$[2]') + 1 FROM json_each(?)
WHERE app = json_extract(value, '$[0]')
"""


def record(connection: sqlite3.Connection, numbers: str) -> None:
    """
    Record what became of notifications, in the transaction in which they became final.

    :param numbers: their numbers, as a JSON array.
    """
    for statement in (_BEGIN, _RECORD, _MOVE_HEADS):
        connection.execute(statement, [numbers])


@implementer(IOutcomeFeed)
class SQLiteOutcomeFeed:
    """
    The outcome feed in SQLite.

    :param recording: what it shares with the queue.
    """

    def __init__(self, database: Database, recording: Recording) -> None:
        self._database = database
        self._recording = recording

    def start(self) -> Deferred[None]:
        """Create the tables if they are missing."""
        return self._database.prepare(OUTCOMES)

    def keep(self, apps: Iterable[str]) -> None:
        """See :meth:`IOutcomeFeed.keep`."""
        self._recording.apps = frozenset(apps)

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`IOutcomeFeed.subscribe`."""
        return self._recording.subscribe(listener)

    def after(self, app: str, cursor: int, limit: int) -> Deferred[list[RecordedOutcome]]:
        """See :meth:`IOutcomeFeed.after`."""
        return self._database.read(lambda connection: _entries(connection, _READ, [app, cursor, limit]), durable=True)

    def take(self, apps: Collection[str] | None, reader: str, limit: int) -> Deferred[list[RecordedOutcome]]:
        """See :meth:`IOutcomeFeed.take`."""
        names = _names(apps)

        def read(connection: sqlite3.Connection) -> list[RecordedOutcome]:
            [(found,)] = connection.execute(_PENDING + _SOME_PENDING, [reader, names, names, MOST_APPS])
            pending = sorted(msgspec.json.decode(found))
            return _entries(connection, _TAKE, [array(pending), share(limit, len(pending))])

        return self._database.read(read, durable=True)

    def confirm(self, reader: str, cursors: Mapping[str, int]) -> Deferred[None]:
        """See :meth:`IOutcomeFeed.confirm`."""

        def move(connection: sqlite3.Connection) -> None:
            connection.execute(_CONFIRM, [reader, array(cursors)])

        return self._database.write(move)

    def behind(self, apps: Collection[str] | None, reader: str) -> Deferred[int]:
        """See :meth:`IOutcomeFeed.behind`."""
        names = _names(apps)

        def count(connection: sqlite3.Connection) -> int:
            [(number,)] = connection.execute(_PENDING + _COUNT_PENDING, [reader, names, names])
            return int(number)

        return self._database.read(count)

    def prune(self, before: float, most: int, limit: int = 5_000) -> Deferred[int]:
        """See :meth:`IOutcomeFeed.prune`."""
        date = milliseconds(before)

        def find(connection: sqlite3.Connection) -> str:
            [(found,)] = connection.execute(_FIND_OLD, [most, date, MOST_APPS])
            return str(found)

        def forget(found: str) -> Deferred[int] | int:
            if found == "[]":
                return 0
            return self._database.write(lambda connection: _forget(connection, found, date, most, limit))

        # To look at thousands of apps takes milliseconds, for which nobody who writes should wait.
        return self._database.read(find).addCallback(forget)


def _names(apps: Collection[str] | None) -> str | None:
    return None if apps is None else array(sorted(apps))


def _forget(connection: sqlite3.Connection, found: str, before: int, most: int, limit: int) -> int:
    each = share(limit, len(msgspec.json.decode(found)))
    [(ends,)] = connection.execute(_FIND_END, [each, most, each, before, found])
    connection.execute(_FORGET, [ends])
    connection.execute(_MOVE_FIRST, [ends])
    return sum(end - first + 1 for _, first, end in msgspec.json.decode(ends))


def _entries(connection: sqlite3.Connection, statement: str, arguments: Sequence[object]) -> list[RecordedOutcome]:
    """Read entries, leaving out damaged rows."""
    entries = []
    with lenient(connection):
        for row in connection.execute(statement, arguments):
            with suppress(TypeError, ValueError):
                entries.append(_entry(*row))
    return entries


def _entry(app: str, cursor: int, number: int, token: bytes, apns_id: str, *columns: Any) -> RecordedOutcome:
    return RecordedOutcome(cursor, token, outcome_of(number, uuid_text(apns_id), app, *columns))
