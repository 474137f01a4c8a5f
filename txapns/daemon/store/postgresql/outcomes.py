"""The outcome log in PostgreSQL: a view of the queue and of the table of outcomes, and what operators do there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.store.outcomes import latest_failures, outcome_of
from txapns.daemon.store.postgresql.arrays import bigints, texts
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.flows import forget_flows
from txapns.daemon.store.postgresql.leases import ENDED
from txapns.daemon.store.postgresql.pruning import forget_messages, prune
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.state import QueueState
from txapns.daemon.store.queue import MOST_COUNTED, SCANNED, stopped
from txapns.daemon.values import Entry, Outcome, State

__all__ = ["PostgreSQLOutcomeLog"]

_R = TypeVar("_R")
_T = TypeVar("_T")

_WAITING = """
SELECT number, token, due, apns_id, app, 0 AS state, status, reason, NULL::bigint AS timestamp, attempts, accepted_at,
    NULL::bigint AS settled_at, NULL::text AS unique_id, NULL::smallint AS environment, message
FROM queue
"""

_SETTLED = """
SELECT number, token, due, apns_id, app, state, status, reason, timestamp, attempts, accepted_at, settled_at, unique_id,
    environment, message
FROM outcome
"""

_ENTRIES = """
SELECT number, token, due, apns_id::text, name, state, status, reason, timestamp, attempts, accepted_at, settled_at,
    coalesce(unique_id, ''), environment,
    CASE WHEN token = '' THEN (SELECT headers FROM message WHERE message.number = found.message) END
FROM ({}) AS found JOIN queue_app ON queue_app.id = found.app ORDER BY number
"""

_THESE = _ENTRIES.format(
    f"{_WAITING} WHERE number = ANY(%(numbers)s) UNION ALL {_SETTLED} WHERE number = ANY(%(numbers)s)"
)

# Left to itself, the server would look for the largest number, and read the tables backwards.
_LATEST = """
SELECT max(number) FROM (
    SELECT number FROM (SELECT number FROM queue WHERE apns_id = %(id)s::uuid OFFSET 0) AS waiting
    UNION ALL
    SELECT number FROM (SELECT number FROM outcome WHERE apns_id = %(id)s::uuid OFFSET 0) AS settled
) AS found
"""

# One look into the indexes for each app in question; the notifications of other apps are not touched. With an array,
# only the index that begins with the id has the rows in their order.
_LATEST_OF = """
SELECT max(greatest(
    (
        SELECT number FROM queue WHERE apns_id = ANY(ARRAY[%(id)s::uuid]) AND app = queue_app.id
        ORDER BY apns_id DESC, app DESC, number DESC LIMIT 1
    ),
    (SELECT max(number) FROM outcome WHERE apns_id = %(id)s::uuid AND app = queue_app.id)
)) FROM queue_app WHERE name = ANY(%(apps)s)
"""

_APP = "app = (SELECT id FROM queue_app WHERE name = %(app)s)"

_PAGE = f"number > %(after)s AND {_APP} ORDER BY app, number LIMIT %(limit)s"

# Likewise the index that begins with the app.
_WAITING_APP = "app = ANY(ARRAY(SELECT id FROM queue_app WHERE name = %(app)s))"

_LIST_WAITING = _ENTRIES.format(
    f"{_WAITING} WHERE number > %(after)s AND {_WAITING_APP} ORDER BY app, number LIMIT %(limit)s"
)

_LIST_SETTLED = _ENTRIES.format(f"{_SETTLED} WHERE {{}} AND {_PAGE}")

_FAILED = "state > 1 AND state < 5"
_FAILED_OF = f"{_APP} AND {_FAILED}"

_LATEST_FAILURES = _ENTRIES.format(f"{_SETTLED} WHERE {{}} ORDER BY settled_at DESC LIMIT %(limit)s")

_FAILURES, _FAILURES_OF = _LATEST_FAILURES.format(_FAILED), _LATEST_FAILURES.format(_FAILED_OF)

_FAILED_OF_DEVICE = f"""
SELECT number FROM outcome WHERE {_FAILED_OF} AND token = %(token)s ORDER BY number DESC LIMIT %(limit)s
"""

_LATEST_NUMBERS = f"""
SELECT number FROM (SELECT number, app, token FROM {{}} ORDER BY number DESC LIMIT {SCANNED}) AS latest
WHERE {_APP} AND token = %(token)s ORDER BY number DESC LIMIT %(limit)s
"""

_LATEST_OF_DEVICE = _LATEST_NUMBERS.format("queue"), _LATEST_NUMBERS.format("outcome")

_LOCK_APP = "SELECT FROM queue_app WHERE name = %(app)s FOR NO KEY UPDATE"

_PURGE_WAITING = f"""
WITH chosen AS MATERIALIZED (
    SELECT number FROM queue
    WHERE {_WAITING_APP} AND number NOT IN (SELECT unnest(numbers) FROM lease WHERE {_APP} AND NOT {ENDED})
    ORDER BY app, number LIMIT %(limit)s
),
gone AS (DELETE FROM queue WHERE number = ANY(ARRAY(SELECT number FROM chosen)) RETURNING app, message),
counted AS (
    INSERT INTO queue_count (app, node, settling, waiting)
    SELECT app, %(node)s, true, -count(*) FROM gone GROUP BY app ORDER BY app
    ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting
)
SELECT (SELECT name FROM queue_app WHERE id = app), count(*), array_agg(message) FROM gone GROUP BY app
"""

_PURGE_SETTLED = f"""
WITH chosen AS MATERIALIZED (
    SELECT number FROM outcome WHERE {{}} AND {_APP} ORDER BY app, number LIMIT %(limit)s
),
gone AS (DELETE FROM outcome WHERE number = ANY(ARRAY(SELECT number FROM chosen)) RETURNING app, message)
SELECT (SELECT name FROM queue_app WHERE id = app), count(*), array_agg(message) FROM gone GROUP BY app
"""

_RETRY = f"""
WITH chosen AS MATERIALIZED (
    SELECT number FROM outcome WHERE state > 1 AND state = 4 AND {_APP} ORDER BY app, number LIMIT %(limit)s
),
gone AS (DELETE FROM outcome WHERE number = ANY(ARRAY(SELECT number FROM chosen)) RETURNING *),
stored AS (
    INSERT INTO queue (
        number, message, due, accepted_at, app, attempts, status, apns_id, token, reason, flow, collapse, superseded
    )
    SELECT
        number, message, %(due)s, accepted_at, app, 0, status, apns_id, token, reason, flow, collapse, superseded
    FROM gone
),
counted AS (
    INSERT INTO queue_count (app, node, settling, waiting)
    SELECT app, %(node)s, true, count(*) FROM gone GROUP BY app ORDER BY app
    ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting
)
SELECT (SELECT name FROM queue_app WHERE id = app), count(*) FROM gone GROUP BY app
"""


_DEAD_LETTERS = """
SELECT name, count FROM (
    SELECT app, count(*) AS count FROM (SELECT app FROM outcome WHERE state > 1 AND state = 4 LIMIT %s) AS dead
    GROUP BY app
) AS dead JOIN queue_app ON queue_app.id = dead.app
"""


@implementer(IOutcomeLog)
class PostgreSQLOutcomeLog:
    """
    The outcome log in PostgreSQL.

    :param state: what it shares with the queue, which starts and stops both.
    """

    def __init__(self, database: Database, state: QueueState) -> None:
        self._database = database
        self._state = state
        self._wall = wall_clock(database.clock)
        self._pruned = 0  # the number up to which the present round of pruning has come
        self._flow = 0  # the flow, likewise

    # Looking.

    def outcomes(self, numbers: Iterable[int]) -> Deferred[list[Outcome]]:
        """See :meth:`IOutcomeLog.outcomes`."""
        wanted = list(numbers)
        return self._read(lambda connection: _found(connection, wanted))

    def latest(self, apns_id: str, apps: Iterable[str] | None = None) -> Deferred[Outcome | None]:
        """See :meth:`IOutcomeLog.latest`."""
        try:
            wanted = bytes.fromhex(apns_id.replace("-", ""))
        except ValueError:
            wanted = b""
        names = None if apps is None else texts(sorted(apps))

        def look(connection: Connection) -> Outcome | None:
            if len(wanted) != 16:  # no notification has it
                return None
            statement = _LATEST if names is None else _LATEST_OF
            row = connection.execute(statement, {"id": wanted.hex(), "apps": names}, prepare=True).fetchone()
            return next(iter(_found(connection, [row[0]])), None) if row and row[0] is not None else None

        return self._read(look)

    def seen(self, app: str) -> Deferred[bool]:
        """See :meth:`IOutcomeLog.seen`."""
        return self._read(
            lambda connection: connection.execute("SELECT FROM queue_app WHERE name = %s", [app]).fetchone() is not None
        )

    def listed(self, app: str, state: State, limit: int, after: int = 0) -> Deferred[list[Entry]]:
        """See :meth:`IOutcomeLog.listed`."""
        statement = _LIST_WAITING if state is State.WAITING else _LIST_SETTLED.format(_of_state(state))
        values, lead = {"app": app, "limit": limit, "after": after}, self._lead()
        return self._read(lambda connection: _entries(connection, statement, values, lead))

    def failures(self, app: str | None, limit: int) -> Deferred[list[Entry]]:
        """See :meth:`IOutcomeLog.failures`."""
        statement = _FAILURES if app is None else _FAILURES_OF
        values, lead = {"app": app, "limit": limit}, self._lead()
        reading = self._read(lambda connection: _entries(connection, statement, values, lead))
        return reading.addCallback(latest_failures)

    def of_device(self, app: str, token: bytes, limit: int) -> Deferred[list[Entry]]:
        """See :meth:`IOutcomeLog.of_device`."""
        values, lead = {"app": app, "token": token, "limit": limit}, self._lead()

        def look(connection: Connection) -> list[Entry]:
            numbers = {number for (number,) in connection.execute(_FAILED_OF_DEVICE, values, prepare=True).fetchall()}
            for statement in _LATEST_OF_DEVICE:  # planned each time: what is best depends on how many rows there are
                numbers |= {number for (number,) in connection.execute(statement, values, prepare=False).fetchall()}
            wanted = bigints(sorted(numbers)[-limit:])
            return _entries(connection, _THESE, {"numbers": wanted}, lead)[::-1]

        return self._read(look)

    def _lead(self) -> int:
        """Tell what makes dates of due times."""
        return self._state.time.date() - self._state.time.now()

    def dead_letters(self) -> Deferred[Mapping[str, int]]:
        """See :meth:`IOutcomeLog.dead_letters`."""
        return self._read(lambda connection: dict(connection.execute(_DEAD_LETTERS, [MOST_COUNTED]).fetchall()))

    # Changing.

    def retry(self, app: str, limit: int) -> Deferred[int]:
        """See :meth:`IOutcomeLog.retry`."""
        values = {"app": app, "limit": limit, "due": self._state.time.now()}

        def retry(connection: Connection) -> dict[str, int]:
            return dict(connection.execute(_RETRY, {**values, "node": self._state.incarnation}).fetchall())

        def retried(counts: dict[str, int]) -> int:
            self._state.waiting.update(counts)
            return sum(counts.values())

        return self._write(retry, retried)

    def purge(self, app: str, state: State, limit: int) -> Deferred[int]:
        """See :meth:`IOutcomeLog.purge`."""
        waits = state is State.WAITING
        statement = _PURGE_WAITING if waits else _PURGE_SETTLED.format(_of_state(state))
        values = {"app": app, "limit": limit, "now": self._state.time.now()}

        def purge(connection: Connection) -> dict[str, int]:
            if waits:  # nobody leases meanwhile
                connection.execute(_LOCK_APP, values)
            rows = connection.execute(statement, {**values, "node": self._state.incarnation}).fetchall()
            forget_messages(connection, [message for _, _, messages in rows for message in messages])
            return {name: count for name, count, _ in rows}

        def purged(counts: dict[str, int]) -> int:
            if waits:
                self._state.waiting.subtract(counts)
            return sum(counts.values())

        return self._write(purge, purged)

    def prune(self, before: float, limit: int = 1000) -> Deferred[int]:
        """See :meth:`IOutcomeLog.prune`."""
        if not self._state.running:
            return stopped()
        return Deferred.fromCoroutine(self._prune(before, limit))

    async def _prune(self, before: float, limit: int) -> int:
        position, now, width = self._pruned, self._wall.now(), self._state.day
        # A node whose clock is ahead must not forget what the others have just stored.
        before -= max(0.0, now - self._state.time.now() / 1000)
        self._pruned, count = await self._database.write(
            lambda connection: prune(connection, position, before, now, limit, width)
        )
        after = self._flow
        self._flow, looked = await self._database.between(lambda connection: forget_flows(connection, after, limit))
        return count + looked if self._flow else count

    def _write(self, function: Callable[[Connection], _T], done: Callable[[_T], int]) -> Deferred[int]:
        if not self._state.running:
            return stopped()
        return self._state.waiting.during(self._database.write(function).addCallback(done))

    def _read(self, function: Callable[[Connection], _R]) -> Deferred[_R]:
        return self._database.read(function) if self._state.running else stopped()


def _of_state(state: State) -> str:
    """Write a condition that PostgreSQL finds in the index of those that failed, if the state is one of theirs."""
    return f"state > 1 AND state = {state:d}" if state > 1 else f"state = {state:d}"


def _found(connection: Connection, numbers: Sequence[int]) -> list[Outcome]:
    """Read the outcomes of notifications."""
    return [entry.outcome for entry in _entries(connection, _THESE, {"numbers": bigints(numbers)})]


def _entries(connection: Connection, statement: str, values: Mapping[str, object], lead: int = 0) -> list[Entry]:
    rows = connection.execute(statement, values, prepare=True, binary=True).fetchall()
    return [_entry(row, lead) for row in rows]


def _entry(row: tuple[Any, ...], lead: int) -> Entry:
    number, token, due, apns_id, app, *columns = row
    return Entry(token, (due + lead) / 1000, outcome_of(number, apns_id, app, *columns))
