"""
The outcome feed in PostgreSQL: what became of the notifications of some apps, and how far each reader has read.

Cursors come from a row for each app, the *head*, as those of dead tokens do: see
:mod:`txapns.daemon.store.postgresql.feedback_log`. Moving the heads is the last step of a transaction but for the head
of the feedback log, and they are moved in the order of their apps. So entries of an app appear in the order of their
cursors, transactions that record outcomes of other apps do not wait, and no two of them wait for each other. The
*tail* of an app is the first cursor that is not forgotten. Only what forgets entries writes it, and a reader begins
there, so that it passes over nothing that is deleted but not yet vacuumed.

Once a second each node that has listeners looks at the heads, and tells them if other nodes have recorded something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from txapns.daemon.interfaces import IOutcomeFeed
from txapns.daemon.store.outcome_feed import MOST_APPS, Recording, share
from txapns.daemon.store.outcomes import outcome_of
from txapns.daemon.store.polling import ChangePoller
from txapns.daemon.store.postgresql.arrays import bigints, texts
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Connection, Schema
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.values import RecordedOutcome

__all__ = ["OUTCOMES", "PostgreSQLOutcomeFeed", "record"]

# Entries come and go at the same rate, so they are vacuumed often.
#: The tables of the outcome feed.
OUTCOMES = Schema(
    "outcomes",
    (
        """
CREATE TABLE outcome_head (
    app integer PRIMARY KEY,
    cursor bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE outcome_tail (
    app integer PRIMARY KEY,
    first bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE outcome_entry (
    cursor bigint NOT NULL,
    number bigint NOT NULL,
    accepted_at bigint NOT NULL,
    settled_at bigint NOT NULL,
    timestamp bigint,
    app integer NOT NULL,
    attempts integer NOT NULL,
    status integer NOT NULL,
    state smallint NOT NULL,
    apns_id uuid NOT NULL,
    token bytea NOT NULL,
    reason text NOT NULL,
    unique_id text,
    PRIMARY KEY (app, cursor)
) WITH (
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
);
CREATE TABLE outcome_reader (
    reader text NOT NULL,
    app integer NOT NULL,
    cursor bigint NOT NULL,
    PRIMARY KEY (reader, app)
);
""",
        "ALTER TABLE outcome_entry ADD environment smallint",
        # Of a broadcast, since they name its channel; its message may be forgotten before.
        "ALTER TABLE outcome_entry ADD headers text",
    ),
)

# What was settled is in the partitions of a day or two, which the dates tell.
_RECORD = """
WITH settled AS MATERIALIZED (
    SELECT *, row_number() OVER each_app AS place, count(*) OVER (PARTITION BY app) AS count
    FROM outcome WHERE number = ANY(%(numbers)s) AND settled_at >= %(first)s AND settled_at <= %(last)s
    WINDOW each_app AS (PARTITION BY app ORDER BY number)
),
head AS (
    INSERT INTO outcome_head (app, cursor) SELECT app, count(*) FROM settled GROUP BY app ORDER BY app
    ON CONFLICT (app) DO UPDATE SET cursor = outcome_head.cursor + excluded.cursor
    RETURNING app, cursor
)
INSERT INTO outcome_entry (
    cursor, number, accepted_at, settled_at, timestamp, app, attempts, status, state, apns_id, token, reason, unique_id,
    environment, headers
)
SELECT
    head.cursor - count + place, number, accepted_at, settled_at, timestamp, app, attempts, status, state, apns_id,
    token, reason, unique_id, environment,
    CASE WHEN token = '' THEN (SELECT headers FROM message WHERE message.number = settled.message) END
FROM settled JOIN head USING (app)
"""

_COLUMNS = """
(SELECT name FROM queue_app WHERE id = entry.app), entry.cursor, number, token, apns_id::text, state, status, reason,
timestamp, attempts, accepted_at, settled_at, coalesce(unique_id, ''), environment, headers
"""

_APP_ID = "(SELECT id FROM queue_app WHERE name = %(app)s)"

_READ = f"""
SELECT {_COLUMNS} FROM outcome_entry AS entry
WHERE entry.app = {_APP_ID}
AND entry.cursor > greatest(%(cursor)s, (SELECT first - 1 FROM outcome_tail WHERE app = {_APP_ID}))
ORDER BY entry.app, entry.cursor LIMIT %(limit)s
"""

# Where a reader goes on: after what it has confirmed and what is forgotten. With scalar subqueries the server looks
# into the indexes once for each app; in a join it may go through all apps of the reader for each.
_PENDING = """
WITH pending AS (
    SELECT head.app, head.cursor, greatest(
        coalesce((SELECT cursor FROM outcome_reader WHERE reader = %(reader)s AND app = head.app), 0),
        coalesce((SELECT first FROM outcome_tail WHERE app = head.app), 1) - 1
    ) AS start
    FROM outcome_head AS head
    WHERE %(apps)s::text[] IS NULL OR head.app = ANY(ARRAY(SELECT id FROM queue_app WHERE name = ANY(%(apps)s)))
)
"""

_FIND_PENDING = _PENDING + "SELECT app, start FROM pending WHERE cursor > start ORDER BY random() LIMIT %(most)s"

_COUNT_PENDING = _PENDING + "SELECT coalesce(sum(greatest(cursor - start, 0)), 0)::bigint FROM pending"

_TAKE = f"""
SELECT {_COLUMNS} FROM unnest(%(apps)s, %(starts)s) AS pending (app, start)
CROSS JOIN LATERAL (
    SELECT * FROM outcome_entry
    WHERE outcome_entry.app = pending.app::integer AND outcome_entry.cursor > start
    AND outcome_entry.cursor <= start + %(share)s
    ORDER BY outcome_entry.app, outcome_entry.cursor LIMIT %(share)s
) AS entry
ORDER BY entry.app, entry.cursor
"""

_CONFIRM = """
INSERT INTO outcome_reader
SELECT %(reader)s, queue_app.id, read.cursor
FROM unnest(%(apps)s, %(cursors)s) AS read (name, cursor) JOIN queue_app ON queue_app.name = read.name
ORDER BY queue_app.id
ON CONFLICT (reader, app) DO UPDATE SET cursor = greatest(outcome_reader.cursor, excluded.cursor)
"""

# Some of the apps whose first entry is old or one too many; then of some entries of each, up to which one they are to
# be forgotten: the last that is old or one too many.
_FIND_OLD = """
SELECT app, cursor, first FROM (
    SELECT head.app, head.cursor, coalesce((SELECT first FROM outcome_tail WHERE app = head.app), 1) AS first
    FROM outcome_head AS head
) AS kept
WHERE first <= cursor AND (first <= cursor - %(most)s OR coalesce(
    (SELECT settled_at < %(before)s FROM outcome_entry AS entry WHERE entry.app = kept.app AND entry.cursor = first),
    true
))
ORDER BY random() LIMIT %(apps)s
"""

_FORGET = """
WITH ended AS MATERIALIZED (
    SELECT old.app::integer AS app, first, least(first + %(share)s - 1, cursor, greatest(cursor - %(most)s, coalesce((
        SELECT max(entry.cursor) FROM outcome_entry AS entry
        WHERE entry.app = old.app::integer AND entry.cursor >= first AND entry.cursor < first + %(share)s
        AND settled_at < %(before)s
    ), first))) AS last
    FROM unnest(%(old)s, %(cursors)s, %(firsts)s) AS old (app, cursor, first)
),
gone AS (
    DELETE FROM outcome_entry AS entry USING ended
    WHERE entry.app = ended.app AND entry.cursor >= ended.first AND entry.cursor <= ended.last
),
moved AS (
    INSERT INTO outcome_tail SELECT app, last + 1 FROM ended ORDER BY app
    ON CONFLICT (app) DO UPDATE SET first = greatest(outcome_tail.first, excluded.first)
)
SELECT sum(last - first + 1)::bigint FROM ended
"""

_HEADS = "SELECT coalesce(sum(cursor), 0)::bigint FROM outcome_head"


def record(connection: Connection, numbers: Sequence[int], first: int, last: int) -> None:
    """
    Record what became of notifications, as the last step of the transaction in which they became final.

    :param numbers: those that became final.
    :param first: the earliest date of their settlements, in milliseconds.
    :param last: the latest.
    """
    if numbers:  # otherwise the heads stay free for others
        values = {"numbers": bigints(sorted(numbers)), "first": first, "last": last}
        connection.execute(_RECORD, values, prepare=True)


@implementer(IOutcomeFeed)
class PostgreSQLOutcomeFeed:
    """
    The outcome feed in PostgreSQL.

    :param recording: what it shares with the queue.
    """

    def __init__(self, database: Database, recording: Recording) -> None:
        self._database = database
        self._recording = recording
        self._seen: int | None = None  # the sum of the heads when the listeners were told
        self._poller = ChangePoller(database.clock, self._look, self._found)

    def start(self) -> Deferred[None]:
        """Create the tables if they are missing, and begin to look for what other nodes record."""
        self._seen = None
        return self._database.prepare(OUTCOMES).addCallback(lambda _: self._poller.start())

    def stop(self) -> Deferred[None]:
        """Stop looking."""
        return self._poller.stop()

    def _look(self) -> Deferred[int | None]:
        """Look for news: returns the sum of the heads, or nothing if nobody wants to know."""
        if not self._recording.listened:
            return succeed(None)
        return self._database.read(lambda connection: _number(connection, _HEADS, {}))

    def _found(self, heads: int | None) -> None:
        seen, self._seen = self._seen, heads
        if heads is not None and heads != seen:
            self._recording.announce(self._recording.apps)

    def keep(self, apps: Iterable[str]) -> None:
        """See :meth:`IOutcomeFeed.keep`."""
        self._recording.apps = frozenset(apps)

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`IOutcomeFeed.subscribe`."""
        return self._recording.subscribe(listener)

    def after(self, app: str, cursor: int, limit: int) -> Deferred[list[RecordedOutcome]]:
        """See :meth:`IOutcomeFeed.after`."""
        values = {"app": app, "cursor": cursor, "limit": limit}
        return self._database.read(lambda connection: _entries(connection, _READ, values))

    def take(self, apps: Collection[str] | None, reader: str, limit: int) -> Deferred[list[RecordedOutcome]]:
        """See :meth:`IOutcomeFeed.take`."""
        values = {"apps": _names(apps), "reader": reader, "most": MOST_APPS}

        def read(connection: Connection) -> list[RecordedOutcome]:
            pending = connection.execute(_FIND_PENDING.encode(), values, prepare=False).fetchall()
            if not pending:
                return []
            found, starts = zip(*pending, strict=True)
            taken = {"apps": bigints(found), "starts": bigints(starts), "share": share(limit, len(found))}
            return _entries(connection, _TAKE, taken)

        return self._database.read(read)

    def confirm(self, reader: str, cursors: Mapping[str, int]) -> Deferred[None]:
        """See :meth:`IOutcomeFeed.confirm`."""
        values = {"reader": reader, "apps": texts(cursors), "cursors": bigints([*cursors.values()])}

        def move(connection: Connection) -> None:
            connection.execute(_CONFIRM, values)

        return self._database.write(move)

    def behind(self, apps: Collection[str] | None, reader: str) -> Deferred[int]:
        """See :meth:`IOutcomeFeed.behind`."""
        values = {"apps": _names(apps), "reader": reader}
        return self._database.read(lambda connection: _number(connection, _COUNT_PENDING, values))

    def prune(self, before: float, most: int, limit: int = 5_000) -> Deferred[int]:
        """See :meth:`IOutcomeFeed.prune`."""
        values = {"before": milliseconds(before), "most": most, "apps": MOST_APPS}

        def prune(connection: Connection) -> int:
            old = connection.execute(_FIND_OLD, values).fetchall()
            if not old:
                return 0
            columns = dict(zip(("old", "cursors", "firsts"), map(bigints, zip(*old, strict=True)), strict=True))
            return _number(connection, _FORGET, {**values, **columns, "share": share(limit, len(old))})

        return self._database.write(prune)


def _names(apps: Collection[str] | None) -> list[str] | None:
    return None if apps is None else sorted(apps)


def _number(connection: Connection, statement: str, values: Mapping[str, object]) -> int:
    row = connection.execute(statement.encode(), values, prepare=False).fetchone()
    assert row is not None
    return int(row[0])


def _entries(connection: Connection, statement: str, values: Mapping[str, object]) -> list[RecordedOutcome]:
    return [_entry(*row) for row in connection.execute(statement.encode(), values, prepare=False, binary=True)]


def _entry(app: str, cursor: int, number: int, token: bytes, apns_id: str, *columns: Any) -> RecordedOutcome:
    return RecordedOutcome(cursor, token, outcome_of(number, apns_id, app, *columns))
