"""
How requests are stored: one statement for all that arrive together, and two more if some of them have keys.

A key that two nodes insert at the same time is one's: the other waits until the first is committed, and then finds it.
Keys are inserted in ascending order, so two transactions with the same keys do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from txapns.daemon.errors import KeyConflict
from txapns.daemon.store.acceptance import Acceptance, laid_out, repeated
from txapns.daemon.store.postgresql.arrays import bigints, byteas, text, texts
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.values import Idempotency, Receipt

__all__ = ["BLOCK", "BLOCK_LIFE", "Numbers", "add", "find_apps", "recognize"]

#: How many numbers are taken from the sequence at a time.
BLOCK = 10_000
#: For how many seconds they are used. So the numbers of all nodes increase with time, give or take this.
BLOCK_LIFE = 60.0

_KNOWN = """
SELECT known.* FROM unnest(%(owners)s, %(keys)s) AS wanted (owner, key) CROSS JOIN LATERAL (
    SELECT owner, key, digest, counts, apns_ids, first FROM idempotency
    WHERE idempotency.owner = wanted.owner AND idempotency.key = wanted.key LIMIT 1
) AS known
"""

_ADD_KEYS = """
INSERT INTO idempotency (owner, key, digest, counts, apns_ids, noted_at, first)
SELECT owner, key, digest, counts::integer[], apns_ids, noted_at, first
FROM unnest(%(owners)s, %(keys)s, %(digests)s, %(counts)s, %(apns_ids)s, %(dates)s, %(firsts)s)
    AS new (owner, key, digest, counts, apns_ids, noted_at, first)
ORDER BY owner, key
ON CONFLICT DO NOTHING
RETURNING owner, key
"""

_ADD = """
WITH stored_message AS (
    INSERT INTO message (number, accepted_at, since, headers, payload)
    SELECT
        number, accepted_at, since, headers,
        substr(%(payloads)s, (place >> 32)::integer, (place & 4294967295)::integer)
    FROM unnest(%(m_number)s, %(m_headers)s, %(m_accepted_at)s, %(m_place)s, %(m_since)s)
        AS new (number, headers, accepted_at, place, since)
),
stored AS (
    INSERT INTO queue (number, message, due, accepted_at, app, apns_id, token, not_before, flow, collapse)
    SELECT
        number + n, first + (number + n - first) / each * each, due + n * step / 1000, accepted_at, app,
        encode(substr(%(ids)s, id::integer + n * 16, 16), 'hex')::uuid,
        substr(%(tokens)s, token::integer + n * width::integer, width::integer),
        nullif(not_before, 0) + n * step / 1000, flow, nullif(collapse, 0)
    FROM unnest(
        %(number)s, %(first)s, %(each)s, %(app)s, %(due)s, %(count)s, %(token)s, %(width)s, %(id)s, %(accepted_at)s,
        %(not_before)s, %(step)s, %(flow)s, %(collapse)s
    ) AS run (
        number, first, each, app, due, count, token, width, id, accepted_at, not_before, step, flow, collapse
    ),
        generate_series(0, count::integer - 1) AS n
)
INSERT INTO queue_count (app, node, settling, waiting)
SELECT app, %(node)s, false, waiting FROM unnest(%(c_app)s, %(c_waiting)s) AS added (app, waiting)
ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting
"""

# The columns of runs; see Layout.
_RUN = (
    *("number", "first", "each", "app", "due", "count", "token", "width", "id", "accepted_at", "not_before", "step"),
    *("flow", "collapse"),
)

#: Owner and key.
_Key = tuple[str, str]
#: The digest, the counts, the ids and the first number of a request.
_Record = Sequence[Any]


@attrs.define(eq=False)
class Numbers:
    """
    The numbers that a node gives. It belongs to the thread that accepts.

    They come from a sequence, in blocks, since other nodes give numbers at the same time. A transaction that is rolled
    back wastes those that it took. A server that has crashed may give a block again of which no number was committed,
    so a block is only used on the connection on which it was taken.
    """

    _next: int = 1
    _end: int = 1
    _taken: float = 0.0
    _connection: Connection | None = None

    def take(self, connection: Connection, count: int, now: float) -> int:
        """Take numbers that follow one another, and return the first."""
        used = connection is self._connection and now < self._taken + BLOCK_LIFE
        if not used or self._end - self._next < count:
            self._next = self._blocks(connection, max(1, -(-count // BLOCK)))
            self._taken, self._connection = now, connection
        first = self._next
        self._next += count
        return first

    def _blocks(self, connection: Connection, count: int) -> int:
        """Take blocks that follow one another; another node may take one between them."""
        while True:
            rows = connection.execute(
                "SELECT nextval('queue_number') FROM generate_series(1, %s)", [count], prepare=True
            ).fetchall()
            [(first,), *_, (last,)] = [*rows, *rows[-1:]]
            self._end = last + BLOCK
            if last == first + (count - 1) * BLOCK:
                return int(first)


def find_apps(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Find the ids of apps, and give some to those that have none."""
    wanted = texts(sorted(names))
    connection.execute(
        "INSERT INTO queue_app (name) SELECT name FROM unnest(%(names)s) AS new (name)"
        " WHERE NOT EXISTS (SELECT FROM queue_app WHERE queue_app.name = new.name)"
        " ORDER BY name ON CONFLICT DO NOTHING",
        {"names": wanted},
    )
    return dict(connection.execute("SELECT name, id FROM queue_app WHERE name = ANY(%s)", [wanted]).fetchall())


def recognize(
    connection: Connection, acceptances: list[Acceptance], numbers: Numbers, now: float
) -> tuple[list[list[Receipt] | KeyConflict | None], list[Acceptance]]:
    """
    Find the requests that repeat earlier ones, and give the others their numbers.

    :returns: the result of each request, ``None`` for those to be stored; and the requests to be stored.
    """
    firsts: dict[_Key, Acceptance] = {}  # the first request with each key
    for each in acceptances:
        if each.idempotency is not None:
            firsts.setdefault(_key_of(each.idempotency), each)
    known, added = _known(connection, firsts), set[_Key]()
    while new := {key: each for key, each in firsts.items() if key not in known}:
        for each in new.values():
            each.first = numbers.take(connection, each.count, now)
        stored = _add_keys(connection, new)
        added |= stored
        known |= {key: _record_of(new[key]) for key in stored}
        # With the others another node was faster. What it stored may be forgotten by now, if it is long ago.
        known |= _known(connection, new.keys() - stored)
    results: list[list[Receipt] | KeyConflict | None] = []
    chosen = []
    for each in acceptances:
        if each.idempotency is not None:
            key = _key_of(each.idempotency)
            if key not in added or firsts[key] is not each:
                each.first = 0
                results.append(repeated(each.idempotency, *known[key]))
                continue
        else:
            each.first = numbers.take(connection, each.count, now)
        results.append(None)
        chosen.append(each)
    return results, chosen


def _key_of(idempotency: Idempotency) -> _Key:
    return text(idempotency.owner), text(idempotency.key)


def _record_of(acceptance: Acceptance) -> _Record:
    assert acceptance.idempotency is not None
    return acceptance.idempotency.digest, acceptance.counts, acceptance.apns_ids, acceptance.first


def _known(connection: Connection, keys: Collection[_Key]) -> dict[_Key, _Record]:
    """Find the requests before with some keys."""
    if not keys:
        return {}
    owners, names = zip(*sorted(keys), strict=True)
    rows = connection.execute(_KNOWN, {"owners": texts(owners), "keys": texts(names)}, prepare=True, binary=True)
    return {(owner, key): record for owner, key, *record in rows.fetchall()}


def _add_keys(connection: Connection, new: Mapping[_Key, Acceptance]) -> set[_Key]:
    """Store keys; returns those that nobody else has stored before."""
    if not new:
        return set()
    keys = sorted(new)
    digests, counts, apns_ids, firsts = zip(*(_record_of(new[key]) for key in keys), strict=True)
    values = {
        "owners": texts(owner for owner, _ in keys),
        "keys": texts(key for _, key in keys),
        "digests": byteas(digests),
        "counts": texts(str(each).replace("[", "{").replace("]", "}") for each in counts),
        "apns_ids": byteas(apns_ids),
        "dates": bigints([new[key].date for key in keys]),
        "firsts": bigints(firsts),
    }
    return set(connection.execute(_ADD_KEYS, values, prepare=True).fetchall())


def add(connection: Connection, acceptances: list[Acceptance], node: str) -> None:
    """
    Store new requests, which have numbers and whose apps and flows have ids.

    :param node: the incarnation of the node.
    """
    layout = laid_out(acceptances)
    if not layout.runs:
        return
    counts: dict[int, int] = {}
    for _, _, _, app, _, count, *_ in layout.runs:
        counts[app] = counts.get(app, 0) + count
    messages = [
        (first + position * each, headers, accepted_at, place, since)
        for first, each, headers, accepted_at, since, places in layout.messages
        for position, place in enumerate(places)
    ]
    number, headers, accepted_at, place, since = zip(*messages, strict=True)
    values: dict[str, object] = {
        "payloads": layout.payloads,
        "m_headers": texts(headers),
        "m_number": bigints(number),
        "m_accepted_at": bigints(accepted_at),
        "m_place": bigints(place),
        "m_since": bigints(since),
        "tokens": layout.tokens,
        "ids": layout.apns_ids,
        **{name: bigints(column) for name, column in zip(_RUN, zip(*layout.runs, strict=True), strict=True)},
        "node": node,
        "c_app": bigints(sorted(counts)),
        "c_waiting": bigints([counts[app] for app in sorted(counts)]),
    }
    connection.execute(_ADD, values, prepare=True)
