"""The feedback log in SQLite: which device tokens are dead, and how far each reader has read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.interfaces import IFeedbackLog
from txapns.daemon.store.acceptance import PLACE
from txapns.daemon.store.listeners import AppListeners
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import Schema, lenient
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.store.sqlite.tokens import THESE, packed
from txapns.daemon.values import FeedbackEntry

__all__ = ["FEEDBACK", "SQLiteFeedbackLog", "forget", "note"]

# AUTOINCREMENT: a cursor is not used again, even if the last rows were forgotten.
#: The tables of the feedback log.
FEEDBACK = Schema(
    "feedback",
    (
        """
CREATE TABLE feedback_token (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    token BLOB NOT NULL,
    reason TEXT NOT NULL,
    timestamp REAL NOT NULL,
    noted_at REAL NOT NULL
);
CREATE UNIQUE INDEX feedback_token_once ON feedback_token (app, token, timestamp);
CREATE INDEX feedback_token_app ON feedback_token (app, cursor);
CREATE TABLE feedback_reader (
    reader TEXT NOT NULL,
    app TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    PRIMARY KEY (reader, app)
) WITHOUT ROWID
""",
        "CREATE INDEX feedback_token_noted_at ON feedback_token (noted_at)",
    ),
)

_ALL = ""  # stands for all apps, since NULL cannot be a key

_POSITION = "SELECT coalesce(max(cursor), 0) FROM feedback_reader WHERE reader = ? AND app = ?"

# The casts make sure of the types, whatever another program may have written there.
_ROWS = """
SELECT cursor, CAST(app AS TEXT), CAST(token AS BLOB), CAST(reason AS TEXT),
    max(0.0, min(CAST(timestamp AS REAL), 253402300799.0)), max(0.0, min(CAST(noted_at AS REAL), 253402300799.0))
FROM feedback_token
"""

_READ = _ROWS + "WHERE cursor > ? ORDER BY cursor LIMIT ?"

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM feedback_token WHERE cursor > ? LIMIT ?)"

_COUNT_APP = "SELECT count(*) FROM (SELECT 1 FROM feedback_token WHERE app = ? AND cursor > ? LIMIT ?)"

_READ_APP = _ROWS + "WHERE app = ? AND cursor > ? ORDER BY cursor LIMIT ?"

# The plus keeps SQLite from reading all dead tokens of the app in the order of their cursors.
_LOOK_UP = f"{_ROWS} WHERE app = ? AND token IN ({THESE}) ORDER BY +cursor"

_NOTE = f"""
INSERT OR IGNORE INTO feedback_token (app, token, reason, timestamp, noted_at)
SELECT
    json_extract(value, '$[1]'),
    substr(?, json_extract(value, '$[0]') / {PLACE}, json_extract(value, '$[0]') % {PLACE}),
    json_extract(value, '$[2]'), json_extract(value, '$[3]'), ?
FROM json_each(?)
"""  # noqa: S608 - ours


def note(connection: sqlite3.Connection, dead: Sequence[tuple[str, bytes, str, float]], now: float) -> None:
    """
    Add dead tokens to the log, in a transaction of the caller's.

    :param dead: of each the app's name, the token, the reason, and the time at which it died.
    """
    blob, places = packed([token for _, token, _, _ in dead])
    rows = [(place, app, reason, timestamp) for place, (app, _, reason, timestamp) in zip(places, dead, strict=True)]
    connection.execute(_NOTE, [blob, now, array(rows)])


def forget(connection: sqlite3.Connection, before: float, limit: int) -> None:
    """
    Forget dead tokens, in a transaction of the caller's.

    :param before: tokens noted before this date are forgotten.
    :param limit: the maximum number, the oldest first.
    """
    connection.execute(
        "DELETE FROM feedback_token WHERE cursor IN"
        " (SELECT cursor FROM feedback_token WHERE noted_at < ? ORDER BY noted_at LIMIT ?)",
        [before, limit],
    )


@implementer(IFeedbackLog)
class SQLiteFeedbackLog(AppListeners):
    """The feedback log in SQLite."""

    def __init__(self, database: Database) -> None:
        super().__init__("dead tokens")
        self._database = database

    def start(self) -> Deferred[None]:
        """Create the tables if they are missing."""
        return self._database.prepare(FEEDBACK)

    def after(self, app: str | None, cursor: int, limit: int) -> Deferred[list[FeedbackEntry]]:
        """See :meth:`IFeedbackLog.after`."""
        return self._database.read(lambda connection: _read(connection, app, cursor, limit), durable=True)

    def take(self, app: str | None, reader: str, limit: int) -> Deferred[list[FeedbackEntry]]:
        """See :meth:`IFeedbackLog.take`."""

        def read(connection: sqlite3.Connection) -> list[FeedbackEntry]:
            [(cursor,)] = connection.execute(_POSITION, [reader, app or _ALL])
            return _read(connection, app, cursor, limit)

        return self._database.read(read, durable=True)

    def confirm(self, app: str | None, reader: str, cursor: int) -> Deferred[None]:
        """See :meth:`IFeedbackLog.confirm`."""

        def move(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO feedback_reader VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET cursor = max(cursor, excluded.cursor)",
                [reader, app or _ALL, cursor],
            )

        return self._database.write(move)

    def behind(self, app: str | None, reader: str, most: int) -> Deferred[int]:
        """See :meth:`IFeedbackLog.behind`."""

        def count(connection: sqlite3.Connection) -> int:
            [(cursor,)] = connection.execute(_POSITION, [reader, app or _ALL])
            statement, arguments = (_COUNT, [cursor, most]) if app is None else (_COUNT_APP, [app, cursor, most])
            [(number,)] = connection.execute(statement, arguments)
            return int(number)

        return self._database.read(count)

    def known(self, app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, FeedbackEntry]]:
        """See :meth:`IFeedbackLog.known`."""
        blob, places = packed(tokens)
        arguments = [app, blob, array(places)]
        return self._database.read(
            lambda connection: {dead.token: dead for dead in _values(connection, _LOOK_UP, arguments)}
        )


def _read(connection: sqlite3.Connection, app: str | None, cursor: int, limit: int) -> list[FeedbackEntry]:
    if app is None:
        return _values(connection, _READ, [cursor, limit])
    return _values(connection, _READ_APP, [app, cursor, limit])


def _values(connection: sqlite3.Connection, statement: str, arguments: Sequence[object]) -> list[FeedbackEntry]:
    with lenient(connection):
        return [FeedbackEntry(*row) for row in connection.execute(statement, arguments)]
