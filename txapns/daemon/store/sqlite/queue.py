"""
The queue in SQLite.

A message is stored once, and a row for each of its devices. The rows of a request have consecutive numbers, and the
first number of a message is the message's own. Up to where numbers may have been given is kept on the disk, so that
what is forgotten takes its number along. Times are whole milliseconds. The leases are in memory, and belong to the
thread of the database's writer; see :mod:`txapns.daemon.store.sqlite.leases`.

The clock on the wall dates what is accepted and settled. What is *due* is not a date: were it one, a clock set back by
an hour would keep all that was just accepted waiting for that hour. So it has a timeline of its own, which begins with
the date at each start and which the reactor's clock moves on. Steps of the clock on the wall between two lives of the
process are met at the start: what has not been tried yet is due at once, and nothing is put off for longer than the
longest retry.

Requests that arrive together are stored together, by one statement for the messages and one for the devices; so are
outcomes. :mod:`txapns.daemon.store.sqlite.database` tells why.
"""

from __future__ import annotations

import itertools
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txapns._network.clocks import wall_clock
from txapns.daemon.errors import KeyConflict, Unavailable
from txapns.daemon.interfaces import IQueue
from txapns.daemon.store.sqlite import feedback_log as feedback
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.leases import Leases
from txapns.daemon.store.sqlite.schema import Schema, lenient
from txapns.daemon.values import (
    Content,
    Depth,
    Entry,
    Idempotency,
    Leased,
    Message,
    Outcome,
    Receipt,
    Settlement,
    State,
)

__all__ = ["SQLiteQueue"]

_log = Logger()

_R = TypeVar("_R")

_STEP = 1000  # milliseconds by which two clocks differ that somebody has set
_RESERVED = 10_000  # numbers that are written down as given at a time, since it costs a page of each transaction
_SERIES = 1000  # the rows that one run of equal tokens can have; longer ones are divided

# Only what waits is in the index of the queue, and only what failed in that of the failures: most rows leave the first
# and never come into the second. The series is what lets one statement make many rows of one.
_PART = Schema(
    "queue",
    (
        """
CREATE TABLE queue_app (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE queue_message (
    number INTEGER PRIMARY KEY,
    headers TEXT NOT NULL,
    payload BLOB NOT NULL,
    accepted_at INTEGER NOT NULL
);
CREATE TABLE queue_delivery (
    number INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    app INTEGER NOT NULL,
    token BLOB NOT NULL,
    apns_id BLOB NOT NULL,
    due INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    status INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    timestamp INTEGER,
    settled_at INTEGER
);
CREATE INDEX queue_delivery_waiting ON queue_delivery (app, due, number) WHERE state = 0;
CREATE INDEX queue_delivery_failed ON queue_delivery (state, number) WHERE state > 1;
CREATE INDEX queue_delivery_apns_id ON queue_delivery (apns_id);
CREATE TABLE queue_key (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    counts TEXT NOT NULL,
    apns_ids BLOB NOT NULL,
    noted_at INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX queue_key_noted_at ON queue_key (noted_at);
CREATE TABLE queue_series (n INTEGER PRIMARY KEY);
WITH RECURSIVE series(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < 999)
INSERT INTO queue_series SELECT n FROM series
""",
        # Numbers are never given twice, what came of a request is found again by number, and an id by app. Where it
        # cannot be told for certain which a request made, it gets negative numbers, which no notification has.
        """
CREATE TABLE queue_next (number INTEGER NOT NULL);
INSERT INTO queue_next SELECT coalesce(max(number), 0) + 1 FROM queue_delivery;
ALTER TABLE queue_key ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
UPDATE queue_key SET first = coalesce(
    (
        SELECT CASE count(*) WHEN 1 THEN min(queue_delivery.number) END FROM queue_delivery
        JOIN queue_message ON queue_message.number = queue_delivery.message
        JOIN queue_app ON queue_app.id = queue_delivery.app
        WHERE apns_id = substr(queue_key.apns_ids, 1, 16) AND accepted_at = noted_at
        AND name = substr(owner, instr(owner, '/') + 1)
    ),
    -length(apns_ids) / 16
);
CREATE INDEX queue_delivery_id ON queue_delivery (apns_id, app);
DROP INDEX queue_delivery_apns_id
""",
    ),
)

_ADD_MESSAGES = """
INSERT INTO queue_message (number, headers, accepted_at, payload)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    substr(?, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
FROM json_each(?)
"""

_ADD_DELIVERIES = """
WITH run(number, message, app, due, count, token, width, apns_id) AS MATERIALIZED (
    SELECT
        json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
        json_extract(value, '$[6]'), json_extract(value, '$[7]')
    FROM json_each(?)
)
INSERT INTO queue_delivery (number, message, app, due, token, apns_id)
SELECT number + n, message, app, due, substr(?, token + n * width, width), substr(?, apns_id + n * 16, 16)
FROM run CROSS JOIN queue_series WHERE n < count
"""

_FIND_DUE = """
SELECT json_group_array(json_array(number, message, hex(token), lower(hex(apns_id)), attempts, due)) FROM (
    SELECT * FROM queue_delivery
    WHERE state = 0 AND app = ? AND (due, number) > (?, ?) AND due <= ?
    AND number NOT IN (SELECT value FROM json_each(?))
    ORDER BY due, number LIMIT ?
)
"""

_FIND_NEXT = """
SELECT due FROM queue_delivery
WHERE state = 0 AND app = ? AND (due, number) > (?, ?) AND number NOT IN (SELECT value FROM json_each(?))
ORDER BY due, number LIMIT 1
"""

_FIND_MESSAGES = """
SELECT json_group_array(json_array(number, CAST(headers AS TEXT), hex(payload), accepted_at)) FROM queue_message
WHERE number IN (SELECT value FROM json_each(?))
"""

_COUNT_WAITING = """
SELECT name, count(*) FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE state = 0 AND number IN (SELECT value FROM json_each(?)) GROUP BY app
"""

_FIND_DEAD = """
SELECT json_group_array(json_array(number, name, hex(token)))
FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE state = 0 AND number IN (SELECT value FROM json_each(?))
"""

_SETTLE_ACCEPTED = """
UPDATE queue_delivery SET state = 1, status = 200, reason = '', settled_at = ?, attempts = attempts + 1
WHERE state = 0 AND number IN (SELECT value FROM json_each(?))
"""

_SETTLE = """
UPDATE queue_delivery SET
    state = told.state, status = told.status, reason = told.reason, timestamp = told.timestamp,
    settled_at = told.settled_at, due = coalesce(told.due, queue_delivery.due),
    attempts = queue_delivery.attempts + told.attempts
FROM (
    SELECT
        json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS state,
        json_extract(value, '$[2]') AS status, json_extract(value, '$[3]') AS reason,
        json_extract(value, '$[4]') AS timestamp, json_extract(value, '$[5]') AS settled_at,
        json_extract(value, '$[6]') AS due, json_extract(value, '$[7]') AS attempts
    FROM json_each(?)
) AS told
WHERE queue_delivery.number = told.number AND queue_delivery.state = 0
"""

_OUTCOMES = """
SELECT
    queue_delivery.number, token, due, lower(hex(apns_id)), name, state, status, reason, timestamp, attempts,
    accepted_at, settled_at
FROM queue_delivery
JOIN queue_app ON queue_app.id = queue_delivery.app
JOIN queue_message ON queue_message.number = queue_delivery.message
"""

_THESE = "WHERE queue_delivery.number IN (SELECT value FROM json_each(?))"

# One look into the index for each app that is asked about; what other apps have is not looked at.
_LATEST = """
SELECT max((SELECT max(number) FROM queue_delivery WHERE apns_id = ? AND app = queue_app.id)) FROM queue_app
WHERE ? IS NULL OR name IN (SELECT value FROM json_each(?))
"""

_LIST = """
WHERE state = ? AND +queue_delivery.number > ? AND coalesce(name = ?, TRUE) ORDER BY +queue_delivery.number LIMIT ?
"""

_CHOOSE = """
SELECT json_group_array(number) FROM (
    SELECT number FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
    WHERE state = ? AND coalesce(name = ?, TRUE) AND number NOT IN (SELECT value FROM json_each(?))
    ORDER BY +queue_delivery.number LIMIT ?
)
"""

_COUNT = """
SELECT name, count(*) FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE number IN (SELECT value FROM json_each(?)) GROUP BY app
"""

_RETRY = """
UPDATE queue_delivery SET state = 0, due = ?, attempts = 0, settled_at = NULL
WHERE number IN (SELECT value FROM json_each(?))
"""

_BOUND = """
UPDATE queue_delivery SET due = ? WHERE state = 0 AND app IN (SELECT id FROM queue_app) AND due > ?
"""

_WINDOW = """
SELECT max(queue_delivery.number), min(message), count(*) FROM queue_delivery WHERE number IN (
    SELECT number FROM queue_delivery WHERE number > ? ORDER BY number LIMIT ?
)
"""

_FORGET = "DELETE FROM queue_delivery WHERE number > ? AND number <= ? AND state > 0 AND settled_at < ?"

# The deliveries of a message follow its number, so the first that there is after it tells whether any is left.
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


@attrs.frozen(eq=False)
class _Packed:
    """A message as it goes into the statements."""

    app: str
    headers: str
    payload: bytes
    tokens: bytes
    runs: list[tuple[int, int]]  # how many tokens of which length
    apns_ids: bytes


@attrs.define(eq=False)
class _Acceptance:
    """One request to accept messages."""

    messages: list[_Packed]
    idempotency: Idempotency | None
    date: int
    due: int
    apps: dict[str, int] = attrs.Factory(dict)  # that were found or made for it
    first: int = 0  # the number of its first delivery; 0 where nothing of it was stored

    @property
    def count(self) -> int:
        """How many deliveries it has."""
        return sum(len(message.apns_ids) for message in self.messages) // 16


@attrs.frozen(eq=False)
class _Report:
    """One request to settle."""

    settlements: Sequence[Settlement]
    date: int


@attrs.define(eq=False)
class _Choice:
    """One request of an operator's."""

    app: str | None
    state: State
    limit: int
    now: float
    apps: list[str] = attrs.Factory(list)  # that something was chosen of


@implementer(IQueue)
class SQLiteQueue:
    """
    The queue in SQLite.

    :param database: the database, started; whoever made it stops it, after the queue.
    :param longest: for how many seconds something may be put off over a restart.
    """

    def __init__(self, database: Database, longest: float = 900.0) -> None:
        self._database = database
        self._longest = longest
        self._clock = database.clock
        self._wall = wall_clock(database.clock)
        self._epoch = 0.0  # the timeline's time when the reactor's clock was at 0
        self._running = False
        self._depths: Counter[str] = Counter()
        self._pruned = 0
        # Of the writer's thread:
        self._leases = Leases()
        self._apps: dict[str, int] = {}
        self._number = 1
        self._reserved = self._reserving = 1  # up to where the numbers are written down as given, and are about to be
        # By how many milliseconds the clock on the wall was ahead of the timeline from which message on.
        self._ahead: list[tuple[int, int]] = [(0, 0)]

    def start(self) -> Deferred[None]:
        """Make the tables, where they are missing, begin the timeline, and find out what waits."""
        self._epoch = self._wall.now() - self._clock.seconds()

        def load(connection: sqlite3.Connection) -> dict[str, int]:
            with lenient(connection):
                self._apps = dict(connection.execute("SELECT CAST(name AS TEXT), id FROM queue_app"))
            [(number,)] = connection.execute("SELECT number FROM queue_next")
            self._number = self._reserved = number
            rows = connection.execute("SELECT app, count(*) FROM queue_delivery WHERE state = 0 GROUP BY app")
            names = {number: name for name, number in self._apps.items()}
            return {names[app]: count for app, count in rows if app in names}

        def loaded(depths: dict[str, int]) -> None:
            self._depths = Counter(depths)
            self._running = True

        return (
            self._database.prepare(feedback.PART)
            .addCallback(lambda _: self._database.prepare(_PART))
            .addCallback(lambda _: self._database.write(self._bound))
            .addCallback(lambda _: self._database.between(load))
            .addCallback(loaded)
        )

    def _bound(self, connection: sqlite3.Connection) -> None:
        """Put nothing off for longer than is usual, whatever the clock on the wall was in an earlier life."""
        now = self._now()
        latest = now + _milliseconds(self._longest)
        connection.execute(_BOUND, [latest, latest])
        connection.execute(f"{_BOUND} AND attempts = 0", [now, now])

    def stop(self) -> Deferred[None]:
        """Do what was asked for so far."""
        self._running = False
        return self._database.flush()

    # Accepting.

    def accept(self, messages: Sequence[Message], idempotency: Idempotency | None = None) -> Deferred[list[Receipt]]:
        """Store notifications."""
        if not self._running:
            return _stopped()
        try:
            packed = [_pack(message) for message in messages]
        except ValueError:
            return fail()
        acceptance = _Acceptance(packed, idempotency, self._date(), self._now())
        counts: dict[str, int] = {}
        for message in packed:
            counts[message.app] = counts.get(message.app, 0) + len(message.apns_ids) // 16
        self._depths.update(counts)
        size = sum(len(message.payload) + len(message.tokens) + len(message.apns_ids) for message in packed)

        def stored(earlier: list[Receipt] | None) -> list[Receipt]:
            if earlier is not None:
                self._depths.subtract(counts)
                return earlier
            return _receipts(acceptance.first, [message.apns_ids for message in messages])

        def failed(failure: Failure) -> Failure:
            self._depths.subtract(counts)
            return failure

        return self._database.write_together(self._store, acceptance, size + 1, self._stored).addCallbacks(
            stored, failed
        )

    def _store(
        self, connection: sqlite3.Connection, acceptances: list[_Acceptance]
    ) -> list[list[Receipt] | Exception | None]:
        results, new = _recognize(connection, acceptances, self._number)
        apps = self._find_apps(connection, {message.app for each in new for message in each.messages})
        number = self._number
        rows, runs = [], []
        payload_at = token_at = id_at = 1
        for acceptance in new:
            acceptance.apps = apps
            for message in acceptance.messages:
                first = number
                if message.runs:  # one that is for nobody would have the number of the next
                    rows.append((number, message.headers, acceptance.date, payload_at, len(message.payload)))
                payload_at += len(message.payload)
                for count, width in message.runs:
                    runs.append((number, first, apps[message.app], acceptance.due, count, token_at, width, id_at))
                    number += count
                    token_at += count * width
                    id_at += count * 16
        messages = [message for acceptance in new for message in acceptance.messages]
        connection.execute(_ADD_MESSAGES, [b"".join(each.payload for each in messages), _json(rows)])
        tokens, ids = b"".join(each.tokens for each in messages), b"".join(each.apns_ids for each in messages)
        connection.execute(_ADD_DELIVERIES, [_json(runs), tokens, ids])
        self._reserving = self._reserved
        if number > self._reserved:
            self._reserving = number + _RESERVED
            connection.execute("UPDATE queue_next SET number = ?", [self._reserving])
        return results

    def _find_apps(self, connection: sqlite3.Connection, names: set[str]) -> dict[str, int]:
        unknown = names - self._apps.keys()
        if not unknown:
            return self._apps
        connection.executemany("INSERT INTO queue_app (name) VALUES (?)", [(name,) for name in sorted(unknown)])
        return dict(connection.execute("SELECT name, id FROM queue_app"))

    def _stored(self, acceptances: list[_Acceptance]) -> None:
        self._reserved = self._reserving
        for acceptance in acceptances:
            if acceptance.first:
                self._apps = acceptance.apps
                number = acceptance.first
                ahead = acceptance.date - acceptance.due
                if abs(ahead - self._ahead[-1][1]) > _STEP:
                    self._ahead.append((number, ahead))
                for message in acceptance.messages:
                    self._leases.appear(message.app, acceptance.due, number)
                    number += len(message.apns_ids) // 16
                self._number = max(self._number, number)

    # Leasing.

    def lease(self, app: str, count: int, until: float) -> Deferred[list[Leased]]:
        """Lend what is due."""
        now = self._clock.seconds()

        def lent(found: list[Leased] | _Damaged) -> list[Leased] | Deferred[list[Leased]]:
            if not isinstance(found, _Damaged):
                return found
            _log.error("{app}: notifications {numbers} are damaged, and given up", app=app, numbers=found.numbers)
            given_up = [Settlement(number, State.REJECTED, 0, "Damaged") for number in found.numbers]
            return self.settle(given_up).addCallback(lambda _: self.lease(app, count, until))

        return self._between(lambda connection: self._lend(connection, app, count, until, now)).addCallback(lent)

    def _lend(
        self, connection: sqlite3.Connection, app: str, count: int, until: float, now: float
    ) -> list[Leased] | _Damaged:
        self._leases.expire(now)
        arguments = (self._apps.get(app), *self._leases.mark(app))
        passed_over = _json(self._leases.passed_over(app))
        [(found,)] = connection.execute(_FIND_DUE, [*arguments, self._due(now), passed_over, count])
        try:
            rows = _due(found)
        except msgspec.ValidationError:
            return _Damaged(
                [number for number, *rest in msgspec.json.decode(found) if not _fits(_Due, [number, *rest])]
            )
        if not rows:
            return []
        contents = self._contents(connection, app, {row[1] for row in rows})
        damaged = [number for number, message, _, apns_id, *_ in rows if message not in contents or len(apns_id) != 32]
        if damaged:
            return _Damaged(damaged)
        leased = []
        for number, message, token, apns_id, attempts, _ in rows:
            content, accepted_at, since = contents[message]
            leased.append(
                Leased(number, content, bytes.fromhex(token), _canonical(apns_id), attempts, accepted_at, since)
            )
        self._leases.lend(app, [(due, number) for number, *_, due in rows], until)
        return leased

    def _contents(
        self, connection: sqlite3.Connection, app: str, numbers: set[int]
    ) -> dict[int, tuple[Content, float, float]]:
        """Read messages: for each that is sound its content, its date, and when it came by the reactor's clock."""
        with lenient(connection):
            [(found,)] = connection.execute(_FIND_MESSAGES, [_json(list(numbers))])
        contents = {}
        try:
            for number, headers, payload, accepted_at in _messages(found):
                date = accepted_at / 1000
                content = Content(app, bytes.fromhex(payload), _headers(headers))
                contents[number] = (content, date, self._since(number, date))
        except msgspec.DecodeError:
            if len(numbers) == 1:
                return {}
            for number in numbers:
                contents.update(self._contents(connection, app, {number}))
        return contents

    def release(self, numbers: Iterable[int]) -> Deferred[None]:
        """Give leases back."""
        given = list(numbers)
        return self._between(lambda connection: self._leases.free(given))

    def renew(self, numbers: Iterable[int], until: float) -> Deferred[None]:
        """Keep leases for longer."""
        given, now = list(numbers), self._clock.seconds()

        def renew(connection: sqlite3.Connection) -> None:
            self._leases.expire(now)
            self._leases.renew(given, until)

        return self._between(renew)

    def reclaim(self) -> Deferred[None]:
        """Give back all leases."""
        return self._between(lambda connection: self._leases.free(self._leases.numbers()))

    def next_due(self, app: str) -> Deferred[float | None]:
        """Tell when there will be something to lease."""
        now = self._clock.seconds()

        def find(connection: sqlite3.Connection) -> float | None:
            self._leases.expire(now)
            arguments = (self._apps.get(app), *self._leases.mark(app))
            rows = connection.execute(_FIND_NEXT, [*arguments, _json(self._leases.passed_over(app))])
            return next((self._seconds(due) for (due,) in rows), None)

        return self._between(find)

    # Settling.

    def settle(self, settlements: Sequence[Settlement]) -> Deferred[None]:
        """Store what came of attempts."""
        if not self._running:
            return _stopped()
        report = _Report(settlements, self._date())
        return self._database.write_together(self._conclude, report, 0, self._concluded).addCallback(
            self._depths.subtract
        )

    def _conclude(self, connection: sqlite3.Connection, reports: list[_Report]) -> list[Mapping[str, int]]:
        told: dict[int, tuple[Settlement, int]] = {}
        for report in reports:
            for settlement in report.settlements:
                if settlement.state is State.WAITING and settlement.due is None:
                    continue
                before = told.get(settlement.number)
                if before is None or before[0].state is State.WAITING:
                    told[settlement.number] = (settlement, report.date)
        final = _json([number for number, (each, _) in told.items() if each.state is not State.WAITING])
        counts = dict(connection.execute(_COUNT_WAITING, [final]))
        _note_dead(connection, [(each, now) for each, now in told.values() if each.dead])
        accepted: dict[int, list[int]] = {}
        rows = []
        for number, (each, now) in told.items():
            if each.state is State.ACCEPTED and each.status == 200 and not each.reason:
                accepted.setdefault(now, []).append(number)
            else:
                rows.append(_row(each, now, None if each.due is None else self._due(each.due)))
        for now, numbers in accepted.items():
            connection.execute(_SETTLE_ACCEPTED, [now, _json(numbers)])
        if rows:
            connection.execute(_SETTLE, [_json(rows)])
        return [counts, *({} for _ in reports[1:])]

    def _concluded(self, reports: list[_Report]) -> None:
        for report in reports:
            for settlement in report.settlements:
                if settlement.state is not State.WAITING:
                    self._leases.drop(settlement.number)
                elif settlement.due is None:
                    self._leases.free([settlement.number])
                else:
                    self._leases.put_back(settlement.number, self._due(settlement.due))

    # Looking.

    def outcomes(self, numbers: Iterable[int]) -> Deferred[list[Outcome]]:
        """Tell what is known of notifications."""
        wanted = _json(list(numbers))
        return self._read(lambda connection: _found(connection, wanted))

    def outcome(self, apns_id: str, apps: Iterable[str] | None = None) -> Deferred[Outcome | None]:
        """Tell what is known of the latest notification with an id."""
        try:
            wanted = bytes.fromhex(apns_id.replace("-", ""))
        except ValueError:
            wanted = b""  # nothing was ever accepted under it
        names = None if apps is None else _json(sorted(apps))

        def look(connection: sqlite3.Connection) -> Outcome | None:
            [(number,)] = connection.execute(_LATEST, [wanted, names, names])
            return next(iter(_found(connection, _json([number]))), None)

        return self._read(look)

    def depth(self, app: str) -> int:
        """Tell how many notifications of an app wait."""
        return self._depths[app]

    def depths(self) -> Deferred[list[Depth]]:
        """Tell what waits, for each app."""
        now = self._clock.seconds()

        def look(connection: sqlite3.Connection) -> list[tuple[str, int, float | None]]:
            self._leases.expire(now)
            leased, found = self._leases.counts(), []
            for name, number in sorted(self._apps.items()):
                [(due,)] = connection.execute(
                    "SELECT min(due) FROM queue_delivery WHERE state = 0 AND app = ?", [number]
                )
                found.append((name, leased.get(name, 0), None if due is None else self._seconds(due)))
            return found

        def join(found: list[tuple[str, int, float | None]]) -> list[Depth]:
            return [Depth(name, self._depths[name], leased, oldest) for name, leased, oldest in found]

        return self._between(look).addCallback(join)

    def listed(self, app: str | None, state: State, limit: int, after: int = 0) -> Deferred[list[Entry]]:
        """List notifications."""
        statement = _OUTCOMES + _of_state(_LIST, state)
        ahead = self._date() - self._now()  # dues are shown as dates
        return self._read(lambda connection: _entries(connection, statement, [after, app, limit], ahead))

    # An operator's work.

    def retry(self, app: str | None, limit: int) -> Deferred[int]:
        """Make dead letters wait anew."""

        def retried(counts: Mapping[str, int]) -> int:
            self._depths.update(counts)
            return sum(counts.values())

        return self._choose(self._retry, _Choice(app, State.DEAD, limit, self._clock.seconds()), retried)

    def _retry(self, connection: sqlite3.Connection, choices: list[_Choice]) -> list[Mapping[str, int]]:
        results: list[Mapping[str, int]] = []
        for choice in choices:
            chosen, counts = self._chosen(connection, choice)
            connection.execute(_RETRY, [self._due(choice.now), chosen])
            results.append(counts)
        return results

    def purge(self, app: str | None, state: State, limit: int) -> Deferred[int]:
        """Delete notifications."""

        def purged(counts: Mapping[str, int]) -> int:
            if state is State.WAITING:
                self._depths.subtract(counts)
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
        if not self._running:
            return _stopped()

        def appear(choices: list[_Choice]) -> None:
            for each in choices:
                for app in each.apps:
                    self._leases.appear(app, self._due(each.now), 1)

        return self._database.write_together(function, choice, 0, appear).addCallback(done)

    def _chosen(self, connection: sqlite3.Connection, choice: _Choice) -> tuple[str, dict[str, int]]:
        self._leases.expire(choice.now)
        leased = _json(self._leases.numbers())
        [(chosen,)] = connection.execute(_of_state(_CHOOSE, choice.state), [choice.app, leased, choice.limit])
        counts = dict(connection.execute(_COUNT, [chosen]))
        choice.apps = list(counts)
        return chosen, counts

    def prune(self, before: float, limit: int = 1000) -> Deferred[int]:
        """Forget what has been kept long enough."""
        if not self._running:
            return _stopped()
        position, now = self._pruned, self._wall.now()

        def pruned(result: tuple[int, int]) -> int:
            self._pruned, count = result
            return count

        return self._database.write(lambda connection: _prune(connection, position, before, now, limit)).addCallback(
            pruned
        )

    # All of it.

    # The timeline: what is due is stored in milliseconds of it, and the reactor's clock moves it on.

    def _due(self, seconds: float) -> int:
        return _milliseconds(self._epoch + seconds)

    def _seconds(self, due: int) -> float:
        return due / 1000 - self._epoch

    def _now(self) -> int:
        return self._due(self._clock.seconds())

    def _date(self) -> int:
        return _milliseconds(self._wall.now())

    def _since(self, message: int, accepted_at: float) -> float:
        """Tell when a message was accepted, by the reactor's clock."""
        _, ahead = self._ahead[bisect_right(self._ahead, message, key=itemgetter(0)) - 1]
        return accepted_at - ahead / 1000 - self._epoch

    def _between(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        return self._database.between(function) if self._running else _stopped()

    def _read(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        return self._database.read(function) if self._running else _stopped()


def _stopped() -> Deferred[Any]:
    return fail(Unavailable("the daemon is shutting down", 10.0))


# What _FIND_DUE finds: all that is sent comes by here, and a decoder that knows what to expect takes half the time.
_Due = tuple[int, int, str, str, int, int]
_due = msgspec.json.Decoder(list[_Due]).decode
_messages = msgspec.json.Decoder(list[tuple[int, str, str, int]]).decode
_headers = msgspec.json.Decoder(dict[str, str]).decode


@attrs.frozen
class _Damaged:
    """Notifications whose rows cannot be read."""

    numbers: list[int]


def _fits(kind: Any, found: object) -> bool:
    try:
        msgspec.convert(found, kind)
    except msgspec.ValidationError:
        return False
    return True


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)  # and not down: what was stored and read has to come out the same


def _pack(message: Message) -> _Packed:
    text = "".join(message.apns_ids)
    apns_ids = bytes.fromhex(text.replace("-", ""))
    if not len(text) / 36 == len(apns_ids) / 16 == len(message.tokens):
        raise ValueError("an id that is no UUID")
    widths = list(map(len, message.tokens))
    if len(set(widths)) == 1:
        groups = [(widths[0], len(widths))]
    else:
        groups = [(width, len(list(group))) for width, group in itertools.groupby(widths)]
    runs = []
    for width, count in groups:
        runs += [(min(_SERIES, count - done), width) for done in range(0, count, _SERIES)]
    return _Packed(message.app, _json(dict(message.headers)), message.payload, b"".join(message.tokens), runs, apns_ids)


def _canonical(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _receipts(first: int, groups: Iterable[Sequence[str]], *, earlier: bool = False) -> list[Receipt]:
    """Make the receipts of a request: of its first number, and the ids of each message."""
    receipts = []
    for apns_ids in groups:
        receipts.append(Receipt(range(first, first + len(apns_ids)), list(apns_ids), earlier))
        first += len(apns_ids)
    return receipts


def _unpacked(apns_ids: bytes, counts: list[int]) -> list[list[str]]:
    digits = apns_ids.hex()
    ids = iter([_canonical(digits[at : at + 32]) for at in range(0, len(digits), 32)])
    return [list(itertools.islice(ids, count)) for count in counts]


def _recognize(
    connection: sqlite3.Connection, acceptances: list[_Acceptance], number: int
) -> tuple[list[list[Receipt] | Exception | None], list[_Acceptance]]:
    """
    Find out which requests came before, and where the numbers of the others begin.

    :param number: the next number.
    :returns: for each what came of it, with ``None`` for those to be stored; and these.
    """
    results: list[list[Receipt] | Exception | None] = []
    new = []
    for acceptance in acceptances:
        acceptance.first = number
        result = None if acceptance.idempotency is None else _earlier(connection, acceptance, acceptance.idempotency)
        results.append(result)
        if result is None:
            new.append(acceptance)
            number += acceptance.count
        else:
            acceptance.first = 0
    return results, new


def _earlier(
    connection: sqlite3.Connection, acceptance: _Acceptance, idempotency: Idempotency
) -> list[Receipt] | Exception | None:
    """Find what came of a request the first time, or remember that this is the first time."""
    owner, key, digest = idempotency.owner, idempotency.key, idempotency.digest
    rows = connection.execute(
        "SELECT digest, counts, apns_ids, first FROM queue_key WHERE owner = ? AND key = ?", [owner, key]
    )
    for known, counts, apns_ids, first in rows.fetchall():
        if known != digest:
            return KeyConflict("the idempotency key was used before, for another request")
        return _receipts(first, _unpacked(apns_ids, msgspec.json.decode(counts)), earlier=True)
    apns_ids = b"".join(message.apns_ids for message in acceptance.messages)
    counts = _json([len(message.apns_ids) // 16 for message in acceptance.messages])
    connection.execute(
        "INSERT INTO queue_key VALUES (?, ?, ?, ?, ?, ?, ?)",
        [owner, key, digest, counts, apns_ids, acceptance.date, acceptance.first],
    )
    return None


def _found(connection: sqlite3.Connection, numbers: str) -> list[Outcome]:
    """Read what is known of notifications, whose numbers are a JSON array."""
    return [entry.outcome for entry in _entries(connection, _OUTCOMES + _THESE, [numbers])]


def _note_dead(connection: sqlite3.Connection, dead: list[tuple[Settlement, int]]) -> None:
    """Note the dead tokens in the feedback log, unless their notifications are settled already."""
    if not dead:
        return
    told = {settlement.number: (settlement, now / 1000) for settlement, now in dead}
    [(found,)] = connection.execute(_FIND_DEAD, [_json(list(told))])
    tokens = []
    for number, app, token in msgspec.json.decode(found):
        settlement, now = told[number]
        timestamp = now if settlement.timestamp is None else settlement.timestamp
        tokens.append((app, bytes.fromhex(token), settlement.reason, timestamp))
    feedback.note(connection, tokens, dead[0][1] / 1000)


def _prune(connection: sqlite3.Connection, position: int, before: float, now: float, limit: int) -> tuple[int, int]:
    """
    Look at the next few deliveries.

    :param position: the number of the last one looked at before.
    :param now: the time. What has a later date was accepted while the clock was ahead: it is not young for that.
    :returns: the same after it, and how many there were; 0 and 0 at the end, which is where the young ones begin.
    """
    time = _milliseconds(before)
    feedback.forget(connection, before, now, limit)
    connection.execute(_FORGET_KEYS, [time, limit])
    [(last, first, count)] = connection.execute(_WINDOW, [position, limit])
    young = "SELECT 1 FROM queue_message WHERE number = ? AND accepted_at BETWEEN ? AND ?"
    if not count or connection.execute(young, [first, time, _milliseconds(now)]).fetchone():
        return 0, 0
    connection.execute(_FORGET, [position, last, time])
    connection.execute(_FORGET_MESSAGES, [first, last])
    return last, count


def _row(settlement: Settlement, now: int, due: int | None) -> tuple[object, ...]:
    timestamp = None if settlement.timestamp is None else _milliseconds(settlement.timestamp)
    waiting = settlement.state is State.WAITING
    attempts = 0 if settlement.state is State.EXPIRED else 1
    settled_at = None if waiting else now
    return (
        settlement.number,
        int(settlement.state),
        settlement.status,
        settlement.reason,
        timestamp,
        settled_at,
        due if waiting else None,
        attempts,
    )


def _of_state(statement: str, state: State) -> str:
    """
    Name the state in the statement itself, so that SQLite finds that state in its index and not all there is.

    It uses a partial index where the index's own condition is there word for word. In that of what waits the numbers
    are not in order, and with the plus it does not prefer to read the table in theirs.
    """
    if state is State.WAITING:
        return statement.replace("state = ?", "state = 0")
    condition = f"state = {state:d}" if state is State.ACCEPTED else f"state > 1 AND state = {state:d}"
    return statement.replace("state = ?", condition).replace("+", "")


def _entries(
    connection: sqlite3.Connection, statement: str, arguments: Sequence[object], ahead: int = 0
) -> list[Entry]:
    """Read notifications; those whose rows are damaged are left out."""
    entries = []
    with lenient(connection):
        for row in connection.execute(statement, arguments):
            with suppress(TypeError, ValueError):
                entries.append(_entry(row, ahead))
    return entries


def _entry(row: tuple[Any, ...], ahead: int = 0) -> Entry:
    number, token, due, apns_id, app, state, status, reason, timestamp, attempts, accepted_at, settled_at = row
    outcome = Outcome(
        number,
        _canonical(apns_id),
        app,
        State(state),
        status,
        reason,
        None if timestamp is None else timestamp / 1000,
        attempts,
        accepted_at / 1000,
        None if settled_at is None else settled_at / 1000,
    )
    return Entry(token, (due + ahead) / 1000, outcome)
