"""The outcome log in SQLite: a view of the queue's tables, and what operators do there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns.daemon.interfaces import IOutcomeLog
from txapns.daemon.store.acceptance import uuid_text
from txapns.daemon.store.outcomes import latest_failures, outcome_of
from txapns.daemon.store.queue import MOST_COUNTED, SCANNED, stopped
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.sqlite import feedback_log
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.flows import forget_flows, unused_flows
from txapns.daemon.store.sqlite.schema import lenient
from txapns.daemon.store.sqlite.tables import ID_BITS, QueueState, array
from txapns.daemon.values import Entry, Outcome, State

__all__ = ["SQLiteOutcomeLog"]

_R = TypeVar("_R")

_OUTCOMES = """
SELECT
    queue_delivery.number, token, due, lower(hex(apns_id)), name, state, status, reason, timestamp, attempts,
    accepted_at, settled_at, coalesce(unique_id, ''), environment,
    CASE WHEN token = x'' THEN CAST(headers AS TEXT) END
FROM queue_delivery
JOIN queue_app ON queue_app.id = queue_delivery.app
JOIN queue_message ON queue_message.number = queue_delivery.message
"""

_THESE = "WHERE queue_delivery.number IN (SELECT value FROM json_each(?))"

# The index of ids is divided by numbers; see QUEUE. The latest part that has an id has the latest notification.
_PARTS = f"""
WITH RECURSIVE part(n) AS (
    SELECT max(number) >> {ID_BITS} FROM queue_delivery
    UNION ALL
    SELECT (SELECT max(number) FROM queue_delivery WHERE number < part.n << {ID_BITS}) >> {ID_BITS}
    FROM part WHERE part.n IS NOT NULL
)
"""  # noqa: S608 - a number of our own

_WITH_ID = f"SELECT max(number) FROM queue_delivery WHERE number >> {ID_BITS} = part.n AND apns_id = ?"  # noqa: S608 - likewise

_LATEST = f"{_PARTS} SELECT ({_WITH_ID}) AS found FROM part WHERE found IS NOT NULL LIMIT 1"  # noqa: S608 - likewise

# One look into a part for each app in question; the notifications of other apps are not touched.
_LATEST_OF = f"""
{_PARTS}, wanted(app) AS MATERIALIZED (SELECT id FROM queue_app WHERE name IN (SELECT value FROM json_each(?)))
SELECT (SELECT max(({_WITH_ID} AND app = wanted.app)) FROM wanted) AS found FROM part WHERE found IS NOT NULL LIMIT 1
"""  # noqa: S608 - likewise

_APP = "(SELECT id FROM queue_app WHERE name = ?)"

_LIST = f"""
{_OUTCOMES} WHERE state = ? AND app = {_APP} AND queue_delivery.number > ? ORDER BY queue_delivery.number LIMIT ?
"""

_FAILED = "state > 1 AND state < 5"
_FAILED_OF = f"app = {_APP} AND {_FAILED}"

_LATEST_FAILURES = f"""
{_OUTCOMES} WHERE queue_delivery.number IN (
    SELECT number FROM queue_delivery {{}} ORDER BY settled_at DESC LIMIT ?
)
"""  # noqa: S608 - no values

_FAILURES = _LATEST_FAILURES.format(f"INDEXED BY queue_delivery_failed_last WHERE {_FAILED}")
_FAILURES_OF = _LATEST_FAILURES.format(f"WHERE {_FAILED_OF}")

_OF_DEVICE = f"""
SELECT number FROM (SELECT number FROM queue_delivery WHERE {_FAILED_OF} AND token = ? ORDER BY number DESC LIMIT ?)
UNION
SELECT number FROM (SELECT number, app, token FROM queue_delivery ORDER BY number DESC LIMIT {SCANNED})
WHERE app = {_APP} AND token = ?
ORDER BY number DESC LIMIT ?
"""  # noqa: S608 - no values but a number of our own

_CHOOSE = f"""
SELECT json_group_array(number) FROM (
    SELECT number FROM queue_delivery
    WHERE state = ? AND app = {_APP} AND number NOT IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT ?
)
"""  # noqa: S608 - no values

_COUNT = """
SELECT name, count(*) FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE number IN (SELECT value FROM json_each(?)) GROUP BY app
"""

_FLOWS = "SELECT DISTINCT flow FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?))"

_RETRY = """
UPDATE queue_delivery SET state = 0, due = ?, attempts = 0, settled_at = NULL, not_before = NULL, environment = NULL
WHERE number IN (SELECT value FROM json_each(?))
"""

_WINDOW = """
SELECT max(queue_delivery.number), min(message), count(*) FROM queue_delivery WHERE number IN (
    SELECT number FROM queue_delivery WHERE number > ? ORDER BY number LIMIT ?
)
"""

_FORGET = "DELETE FROM queue_delivery WHERE number > ? AND number <= ? AND state > 0 AND settled_at < ?"

# The deliveries of a message follow its number, so the first delivery from that number on tells whether any is left.
_FORGET_MESSAGES = """
DELETE FROM queue_message WHERE number >= ? AND number <= ? AND number IS NOT (
    SELECT message FROM queue_delivery WHERE queue_delivery.number >= queue_message.number
    ORDER BY queue_delivery.number LIMIT 1
)
"""

_MESSAGES_OF = """
SELECT json_group_array(DISTINCT message) FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?))
"""

_FORGET_THESE_MESSAGES = _FORGET_MESSAGES.replace(
    "number >= ? AND number <= ?", "number IN (SELECT value FROM json_each(?))"
)

_FORGET_KEYS = """
DELETE FROM queue_key WHERE rowid IN (SELECT rowid FROM queue_key WHERE noted_at < ? ORDER BY noted_at LIMIT ?)
"""


@attrs.define(eq=False)
class _Choice:
    """One request of an operator."""

    app: str
    state: State
    limit: int
    now: float
    flows: list[int] = attrs.Factory(list)  # the flows of the chosen notifications


_DEAD_LETTERS = """
SELECT name, count FROM (
    SELECT app, count(*) AS count
    FROM (SELECT app FROM queue_delivery WHERE state > 1 AND state = 4 LIMIT ?) GROUP BY app
) AS dead JOIN queue_app ON queue_app.id = dead.app
"""


@implementer(IOutcomeLog)
class SQLiteOutcomeLog:
    """
    The outcome log in SQLite.

    :param state: what it shares with the queue, which starts and stops both.
    """

    def __init__(self, database: Database, state: QueueState) -> None:
        self._database = database
        self._state = state
        self._clock = database.clock
        self._wall = wall_clock(database.clock)
        self._pruned = 0  # the number up to which the present round of pruning has come
        self._flow = 0  # the flow, likewise

    # Looking.

    def outcomes(self, numbers: Iterable[int]) -> Deferred[list[Outcome]]:
        """See :meth:`IOutcomeLog.outcomes`."""
        wanted = array(list(numbers))
        return self._read(lambda connection: _found(connection, wanted))

    def latest(self, apns_id: str, apps: Iterable[str] | None = None) -> Deferred[Outcome | None]:
        """See :meth:`IOutcomeLog.latest`."""
        try:
            wanted = bytes.fromhex(apns_id.replace("-", ""))
        except ValueError:
            wanted = b""  # no notification has it
        statement, arguments = (_LATEST, [wanted]) if apps is None else (_LATEST_OF, [array(sorted(apps)), wanted])

        def look(connection: sqlite3.Connection) -> Outcome | None:
            rows = connection.execute(statement, arguments).fetchall()
            return next(iter(_found(connection, array([number for (number,) in rows]))), None)

        return self._read(look)

    def seen(self, app: str) -> Deferred[bool]:
        """See :meth:`IOutcomeLog.seen`."""
        return self._read(
            lambda connection: bool(connection.execute("SELECT 1 FROM queue_app WHERE name = ?", [app]).fetchall())
        )

    def listed(self, app: str, state: State, limit: int, after: int = 0) -> Deferred[list[Entry]]:
        """See :meth:`IOutcomeLog.listed`."""
        statement, lead = _of_state(_LIST, state), self._lead()
        return self._read(lambda connection: _entries(connection, statement, [app, after, limit], lead))

    def failures(self, app: str | None, limit: int) -> Deferred[list[Entry]]:
        """See :meth:`IOutcomeLog.failures`."""
        statement, values = (_FAILURES, [limit]) if app is None else (_FAILURES_OF, [app, limit])
        lead = self._lead()
        reading = self._read(lambda connection: _entries(connection, statement, values, lead))
        return reading.addCallback(latest_failures)

    def of_device(self, app: str, token: bytes, limit: int) -> Deferred[list[Entry]]:
        """See :meth:`IOutcomeLog.of_device`."""
        lead = self._lead()

        def look(connection: sqlite3.Connection) -> list[Entry]:
            rows = connection.execute(_OF_DEVICE, [app, token, limit, app, token, limit]).fetchall()
            found = _entries(connection, _OUTCOMES + _THESE, [array([number for (number,) in rows])], lead)
            return sorted(found, key=lambda each: -each.outcome.number)

        return self._read(look)

    def _lead(self) -> int:
        """Tell what makes dates of due times."""
        return self._state.timeline.date() - self._state.timeline.now()

    def dead_letters(self) -> Deferred[Mapping[str, int]]:
        """See :meth:`IOutcomeLog.dead_letters`."""
        return self._read(lambda connection: dict(connection.execute(_DEAD_LETTERS, [MOST_COUNTED]).fetchall()))

    # Changing.

    def retry(self, app: str, limit: int) -> Deferred[int]:
        """See :meth:`IOutcomeLog.retry`."""

        def retried(counts: Mapping[str, int]) -> int:
            self._state.waiting.update(counts)
            return sum(counts.values())

        return self._choose(self._retry, _Choice(app, State.DEAD, limit, self._clock.seconds()), retried)

    def _retry(self, connection: sqlite3.Connection, choices: list[_Choice]) -> list[Mapping[str, int]]:
        results: list[Mapping[str, int]] = []
        for choice in choices:
            chosen, counts = self._chosen(connection, choice)
            connection.execute(_RETRY, [self._state.timeline.due(choice.now), chosen])
            results.append(counts)
        return results

    def purge(self, app: str, state: State, limit: int) -> Deferred[int]:
        """See :meth:`IOutcomeLog.purge`."""

        def purged(counts: Mapping[str, int]) -> int:
            if state is State.WAITING:
                self._state.waiting.subtract(counts)
            return sum(counts.values())

        return self._choose(self._purge, _Choice(app, state, limit, self._clock.seconds()), purged)

    def _purge(self, connection: sqlite3.Connection, choices: list[_Choice]) -> list[Mapping[str, int]]:
        results: list[Mapping[str, int]] = []
        for choice in choices:
            chosen, counts = self._chosen(connection, choice)
            [(messages,)] = connection.execute(_MESSAGES_OF, [chosen])
            connection.execute("DELETE FROM queue_delivery WHERE number IN (SELECT value FROM json_each(?))", [chosen])
            connection.execute(_FORGET_THESE_MESSAGES, [messages])
            results.append(counts)
        return results

    def _choose(
        self,
        function: Callable[[sqlite3.Connection, list[_Choice]], list[Mapping[str, int]]],
        choice: _Choice,
        done: Callable[[Mapping[str, int]], int],
    ) -> Deferred[int]:
        if not self._state.running:
            return stopped()

        def appear(choices: list[_Choice]) -> None:
            with self._state.lock:
                for each in choices:
                    for flow in each.flows:
                        self._state.leases.appear(flow, self._state.timeline.due(each.now), 1)

        return self._database.write_together(function, choice, 0, appear).addCallback(done)

    def _chosen(self, connection: sqlite3.Connection, choice: _Choice) -> tuple[str, dict[str, int]]:
        leases = self._state.leases
        with self._state.lock:
            leases.expire(choice.now)
            leases.look_again()  # so that nobody leases what is chosen
            arguments = [choice.app, array(leases.numbers()), choice.limit]
        [(chosen,)] = connection.execute(_of_state(_CHOOSE, choice.state), arguments)
        counts = dict(connection.execute(_COUNT, [chosen]))
        choice.flows = [flow for (flow,) in connection.execute(_FLOWS, [chosen])]
        return chosen, counts

    def prune(self, before: float, limit: int = 1000) -> Deferred[int]:
        """See :meth:`IOutcomeLog.prune`."""
        if not self._state.running:
            return stopped()
        return Deferred.fromCoroutine(self._prune(before, limit))

    async def _prune(self, before: float, limit: int) -> int:
        position, now = self._pruned, self._wall.now()
        self._pruned, count = await self._database.write(
            lambda connection: _prune(connection, position, before, now, limit)
        )
        state, after = self._state, self._flow
        self._flow, looked, unused = await self._database.between(
            lambda connection: unused_flows(connection, state, after, limit)
        )
        if unused:
            await self._database.write(lambda connection: forget_flows(connection, unused))
        return count + looked if self._flow else count

    def _read(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        return self._database.read(function) if self._state.running else stopped()


def _found(connection: sqlite3.Connection, numbers: str) -> list[Outcome]:
    """Read the outcomes of notifications, whose numbers are a JSON array."""
    return [entry.outcome for entry in _entries(connection, _OUTCOMES + _THESE, [numbers])]


def _prune(connection: sqlite3.Connection, position: int, before: float, now: float, limit: int) -> tuple[int, int]:
    """
    Look at the next few deliveries, and forget the old ones.

    :param position: the number of the delivery last looked at.
    :param now: the date. A row with a later date was accepted while the clock was ahead, and does not count as young.
    :returns: the new position, and how many deliveries were looked at; 0 and 0 at the end, where the young ones begin.
    """
    time = milliseconds(before)
    feedback_log.forget(connection, before, limit)
    connection.execute(_FORGET_KEYS, [time, limit])
    [(last, first, count)] = connection.execute(_WINDOW, [position, limit])
    young = "SELECT 1 FROM queue_message WHERE number = ? AND accepted_at BETWEEN ? AND ?"
    if not count or connection.execute(young, [first, time, milliseconds(now)]).fetchone():
        return 0, 0
    connection.execute(_FORGET, [position, last, time])
    connection.execute(_FORGET_MESSAGES, [first, last])
    return last, count


def _of_state(statement: str, state: State) -> str:
    """
    Write the state into the statement itself, so that SQLite reads that state in its index and not the whole table.

    It uses a partial index only if the statement repeats the index's condition word for word.
    """
    return statement.replace("state = ?", f"state > 1 AND state = {state:d}" if state > 1 else f"state = {state:d}")


def _entries(connection: sqlite3.Connection, statement: str, arguments: Sequence[object], lead: int = 0) -> list[Entry]:
    """Read notifications, leaving out damaged rows."""
    entries = []
    with lenient(connection):
        for row in connection.execute(statement, arguments):
            with suppress(TypeError, ValueError):
                entries.append(_entry(row, lead))
    return entries


def _entry(row: tuple[Any, ...], lead: int = 0) -> Entry:
    number, token, due, apns_id, app, *columns = row
    return Entry(token, (due + lead) / 1000, outcome_of(number, uuid_text(apns_id), app, *columns))
