"""
The feedback log in PostgreSQL: which device tokens are dead, and how far each reader has read.

A reader goes on after the last entry that it has read. So an entry must never appear before another one that a reader
may have read already. An identity column does not give that: it numbers rows when they are inserted, and of two
transactions the one with the later numbers may commit first::

    node A   INSERT: 1 ─────────────────────────────────► COMMIT
    node B              INSERT: 2 ──► COMMIT
    reader                                reads 2          reads on after 2: never sees 1

So the cursors come from a row of their own, the *head*. Moving it is the last step of a transaction, which then has it
locked until it is committed: the next one waits, and cursors are in the order of the commits. Because it is the last
step, the wait is short.

Once a second each node looks at the head, and tells its listeners what other nodes have noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns.daemon.interfaces import IFeedbackLog
from txapns.daemon.store.listeners import AppListeners
from txapns.daemon.store.polling import ChangePoller
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Connection, Schema
from txapns.daemon.values import FeedbackEntry

__all__ = ["FEEDBACK", "PostgreSQLFeedbackLog", "forget", "note"]

#: The tables of the feedback log.
FEEDBACK = Schema(
    "feedback",
    (
        """
CREATE TABLE feedback_head (
    cursor bigint NOT NULL
);
INSERT INTO feedback_head VALUES (0);
CREATE TABLE feedback_token (
    cursor bigint PRIMARY KEY,
    app text NOT NULL,
    token bytea NOT NULL,
    reason text NOT NULL,
    timestamp double precision NOT NULL,
    noted_at double precision NOT NULL
);
CREATE UNIQUE INDEX feedback_token_once ON feedback_token (app, token, timestamp);
CREATE INDEX feedback_token_app ON feedback_token (app, cursor);
CREATE TABLE feedback_reader (
    reader text NOT NULL,
    app text NOT NULL,
    cursor bigint NOT NULL,
    PRIMARY KEY (reader, app)
);
""",
        "CREATE INDEX feedback_token_noted_at ON feedback_token (noted_at)",
    ),
)

_ALL = ""  # stands for all apps, since NULL cannot be in a key

_POSITION = "SELECT coalesce(max(cursor), 0) FROM feedback_reader WHERE reader = %s AND app = %s"

_ROWS = """
SELECT cursor, app, token, reason,
    greatest(0, least(timestamp, 253402300799)), greatest(0, least(noted_at, 253402300799))
FROM feedback_token
"""

_READ = _ROWS + "WHERE cursor > %s ORDER BY cursor LIMIT %s"

_READ_APP = _ROWS + "WHERE app = %s AND cursor > %s ORDER BY app, cursor LIMIT %s"

_COUNT = "SELECT count(*) FROM (SELECT FROM feedback_token WHERE cursor > %s ORDER BY cursor LIMIT %s) AS entry"

_COUNT_APP = """
SELECT count(*) FROM (
    SELECT FROM feedback_token WHERE app = %s AND cursor > %s ORDER BY app, cursor LIMIT %s
) AS entry
"""

# Not in an order: the server would read all dead tokens in that.
_LOOK_UP = _ROWS + "WHERE app = %s AND token = ANY(%s)"

_CONFIRM = """
INSERT INTO feedback_reader VALUES (%s, %s, %s)
ON CONFLICT (reader, app) DO UPDATE SET cursor = greatest(feedback_reader.cursor, excluded.cursor)
"""

# The cursors of tokens that were noted before are left out.
_NOTE = """
WITH head AS (UPDATE feedback_head SET cursor = cursor + %(count)s RETURNING cursor)
INSERT INTO feedback_token (cursor, app, token, reason, timestamp, noted_at)
SELECT head.cursor - %(count)s + dead.number, dead.app, dead.token, dead.reason, dead.timestamp, %(now)s
FROM head, unnest(%(apps)s::text[], %(tokens)s::bytea[], %(reasons)s::text[], %(timestamps)s::double precision[])
    WITH ORDINALITY AS dead (app, token, reason, timestamp, number)
ON CONFLICT (app, token, timestamp) DO NOTHING
"""

_FORGET = """
DELETE FROM feedback_token WHERE cursor = ANY(ARRAY(
    SELECT cursor FROM feedback_token WHERE noted_at < %s ORDER BY noted_at LIMIT %s
))
"""

# Statements are planned each time: a plan for any app would look for one with few entries among those of all others.
_HEAD = "SELECT cursor FROM feedback_head"

_NEWS = "SELECT DISTINCT app FROM feedback_token WHERE cursor > %s AND cursor <= %s"


def note(connection: Connection, dead: Sequence[tuple[str, bytes, str, float]], now: float) -> None:
    """
    Add dead tokens to the log, as the last step of a transaction of the caller's.

    :param dead: of each the app's name, the token, the reason, and the time at which it died.
    """
    if not dead:
        return  # the head stays free for others
    apps, tokens, reasons, timestamps = map(list, zip(*dead, strict=True))
    values = {"apps": apps, "tokens": tokens, "reasons": reasons, "timestamps": timestamps}
    connection.execute(_NOTE, {"count": len(dead), "now": now, **values})


def forget(connection: Connection, before: float, limit: int) -> None:
    """
    Forget dead tokens, in a transaction of the caller's.

    :param before: tokens noted before this date are forgotten.
    :param limit: the maximum number, the oldest first.
    """
    connection.execute(_FORGET, [before, limit])


@implementer(IFeedbackLog)
class PostgreSQLFeedbackLog(AppListeners):
    """The feedback log in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        super().__init__("dead tokens")
        self._database = database
        self._seen: int | None = None  # the last cursor of which the listeners were told
        self._poller = ChangePoller(database.clock, self._look, self._found)

    def start(self) -> Deferred[None]:
        """Create the tables if they are missing, and begin to look for what other nodes note."""
        self._seen = None
        return self._database.prepare(FEEDBACK).addCallback(lambda _: self._poller.start())

    def stop(self) -> Deferred[None]:
        """Stop looking."""
        return self._poller.stop()

    def _look(self) -> Deferred[tuple[int, list[str]]]:
        """Look for news: returns the head, and the apps of the new entries."""
        seen = self._seen

        def look(connection: Connection) -> tuple[int, list[str]]:
            head = _number(connection, _HEAD)
            if seen is None or head <= seen:
                return head, []
            return head, [app for (app,) in connection.execute(_NEWS, [seen, head])]

        return self._database.read(look)

    def _found(self, news: tuple[int, list[str]]) -> None:
        self._seen, apps = news
        self.announce(apps)

    def after(self, app: str | None, cursor: int, limit: int) -> Deferred[list[FeedbackEntry]]:
        """See :meth:`IFeedbackLog.after`."""
        return self._database.read(lambda connection: _read(connection, app, cursor, limit))

    def take(self, app: str | None, reader: str, limit: int) -> Deferred[list[FeedbackEntry]]:
        """See :meth:`IFeedbackLog.take`."""

        def read(connection: Connection) -> list[FeedbackEntry]:
            return _read(connection, app, _number(connection, _POSITION, reader, app or _ALL), limit)

        return self._database.read(read)

    def confirm(self, app: str | None, reader: str, cursor: int) -> Deferred[None]:
        """See :meth:`IFeedbackLog.confirm`."""

        def move(connection: Connection) -> None:
            connection.execute(_CONFIRM, [reader, app or _ALL, cursor])

        return self._database.write(move)

    def behind(self, app: str | None, reader: str, most: int) -> Deferred[int]:
        """See :meth:`IFeedbackLog.behind`."""

        def count(connection: Connection) -> int:
            cursor = _number(connection, _POSITION, reader, app or _ALL)
            if app is None:
                return _number(connection, _COUNT, cursor, most)
            return _number(connection, _COUNT_APP, app, cursor, most)

        return self._database.read(count)

    def known(self, app: str, tokens: Sequence[bytes]) -> Deferred[Mapping[bytes, FeedbackEntry]]:
        """See :meth:`IFeedbackLog.known`."""
        arguments = app, list(set(tokens))

        def read(connection: Connection) -> dict[bytes, FeedbackEntry]:
            found = _values(connection, _LOOK_UP, *arguments)
            return {dead.token: dead for dead in sorted(found, key=attrgetter("cursor"))}

        return self._database.read(read)


def _read(connection: Connection, app: str | None, cursor: int, limit: int) -> list[FeedbackEntry]:
    if app is None:
        return _values(connection, _READ, cursor, limit)
    return _values(connection, _READ_APP, app, cursor, limit)


def _values(connection: Connection, statement: str, *arguments: Any) -> list[FeedbackEntry]:
    return [FeedbackEntry(*row) for row in connection.execute(statement.encode(), arguments, prepare=False)]


def _number(connection: Connection, statement: str, *arguments: Any) -> int:
    row = connection.execute(statement.encode(), arguments, prepare=False).fetchone()
    assert row is not None
    return int(row[0])
