"""How settlements are stored: a few statements, whatever their number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import chain

import msgspec

from txapns.daemon.store.settlement import (
    Report,
    Settled,
    chosen_of,
    dead_tokens,
    returned_of,
    row_of,
    supersede,
    superseded_of,
)
from txapns.daemon.store.sqlite import feedback_log
from txapns.daemon.store.sqlite.outcome_feed import record
from txapns.daemon.store.sqlite.tables import QueueState, array
from txapns.daemon.store.superseding import Superseded
from txapns.daemon.values import Settlement, State

__all__ = ["conclude"]

_COUNT_WAITING = """
SELECT name, count(*) FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE state = 0 AND number IN (SELECT value FROM json_each(?)) GROUP BY app
"""

_FIND_DEAD = """
SELECT json_group_array(json_array(number, name, hex(token)))
FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE state = 0 AND number IN (SELECT value FROM json_each(?))
"""

_FIND_RECORDED = """
SELECT json_group_array(number) FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE state = 0 AND number IN (SELECT value FROM json_each(?)) AND name IN (SELECT value FROM json_each(?))
"""

_FIND_SUPERSEDED = """
SELECT number, name FROM queue_delivery JOIN queue_app ON queue_app.id = queue_delivery.app
WHERE state = 0 AND superseded = 1 AND number IN (SELECT value FROM json_each(?))
"""

_SETTLE_ACCEPTED = """
UPDATE queue_delivery SET state = 1, status = 200, reason = '', settled_at = ?, attempts = attempts + 1
WHERE state = 0 AND number IN (SELECT value FROM json_each(?))
"""

_SETTLE = """
UPDATE queue_delivery SET
    state = chosen.state, status = chosen.status, reason = chosen.reason, timestamp = chosen.timestamp,
    settled_at = chosen.settled_at, due = coalesce(chosen.due, queue_delivery.due),
    attempts = queue_delivery.attempts + chosen.attempts, unique_id = chosen.unique_id,
    environment = chosen.environment
FROM (
    SELECT
        json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS state,
        json_extract(value, '$[2]') AS status, json_extract(value, '$[3]') AS reason,
        json_extract(value, '$[4]') AS timestamp, json_extract(value, '$[5]') AS settled_at,
        json_extract(value, '$[6]') AS due, json_extract(value, '$[7]') AS attempts,
        json_extract(value, '$[8]') AS unique_id, json_extract(value, '$[9]') AS environment
    FROM json_each(?)
) AS chosen
WHERE queue_delivery.number = chosen.number AND queue_delivery.state = 0
"""


def conclude(connection: sqlite3.Connection, reports: Iterable[Report], state: QueueState) -> Settled:
    """Store settlements, and note the dead tokens among them."""
    accepted, others = chosen_of(reports)
    superseded = _supersede(connection, others)
    rejected = [number for number, (each, _) in others.items() if each.state is not State.WAITING]
    final = [*chain(*accepted.values()), *rejected]
    counts = _count_waiting(connection, final, state)
    noted = _note_dead(connection, others)
    recorded, to_record = state.recording.apps & counts.keys(), ""
    if recorded:
        [(to_record,)] = connection.execute(_FIND_RECORDED, [array(final), array(sorted(recorded))])
    due = state.timeline.due
    rows = [row_of(each, now, None if each.due is None else due(each.due)) for each, now in others.values()]
    for now, numbers in accepted.items():
        if numbers:
            connection.execute(_SETTLE_ACCEPTED, [now, array(numbers)])
    if rows:
        connection.execute(_SETTLE, [array(rows)])
    if recorded:
        record(connection, to_record)
    return Settled(counts, noted, recorded, superseded)


def _count_waiting(connection: sqlite3.Connection, numbers: list[int], state: QueueState) -> dict[str, int]:
    """Count by app those that wait: what is leased does, and nearly all are."""
    counts, others = state.leased_among(numbers)
    if others:
        for app, count in connection.execute(_COUNT_WAITING, [array(others)]):
            counts[app] += count
    return dict(counts)


def _supersede(connection: sqlite3.Connection, chosen: dict[int, tuple[Settlement, int]]) -> Superseded:
    """Settle as superseded what would be tried again and was marked meanwhile."""
    returned = returned_of(chosen)
    if not returned:
        return Superseded()
    found = connection.execute(_FIND_SUPERSEDED, [array(returned)]).fetchall()
    supersede([number for number, _ in found], chosen)
    return superseded_of(found, chosen)


def _note_dead(connection: sqlite3.Connection, chosen: Mapping[int, tuple[Settlement, int]]) -> frozenset[str]:
    """Note dead tokens in the feedback log, unless their notifications are settled already; returns the apps."""
    dead = [number for number, (settlement, _) in chosen.items() if settlement.dead]
    if not dead:
        return frozenset()
    [(found,)] = connection.execute(_FIND_DEAD, [array(dead)])
    rows = [(number, app, bytes.fromhex(token)) for number, app, token in msgspec.json.decode(found)]
    tokens = dead_tokens(rows, chosen)
    feedback_log.note(connection, tokens, chosen[dead[0]][1] / 1000)
    return frozenset(app for app, *_ in tokens)
