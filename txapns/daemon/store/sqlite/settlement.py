"""How settlements are stored: a few statements, whatever their number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import attrs
import msgspec

from txapns.daemon.store.sqlite import feedback_log
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.store.sqlite.timeline import Timeline, milliseconds
from txapns.daemon.values import Settlement, State

__all__ = ["Report", "Settled", "conclude"]

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
    state = chosen.state, status = chosen.status, reason = chosen.reason, timestamp = chosen.timestamp,
    settled_at = chosen.settled_at, due = coalesce(chosen.due, queue_delivery.due),
    attempts = queue_delivery.attempts + chosen.attempts
FROM (
    SELECT
        json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS state,
        json_extract(value, '$[2]') AS status, json_extract(value, '$[3]') AS reason,
        json_extract(value, '$[4]') AS timestamp, json_extract(value, '$[5]') AS settled_at,
        json_extract(value, '$[6]') AS due, json_extract(value, '$[7]') AS attempts
    FROM json_each(?)
) AS chosen
WHERE queue_delivery.number = chosen.number AND queue_delivery.state = 0
"""


@attrs.frozen(eq=False)
class Report:
    """One request to settle."""

    settlements: Sequence[Settlement]
    date: int


@attrs.frozen(eq=False)
class Settled:
    """
    What a transaction of settlements changed.

    :ivar counts: how many notifications of which apps became final.
    :ivar noted: the apps of which tokens were noted as dead.
    """

    counts: Mapping[str, int] = attrs.Factory(dict)
    noted: frozenset[str] = frozenset()


def conclude(connection: sqlite3.Connection, reports: Iterable[Report], timeline: Timeline) -> Settled:
    """Store settlements, and note the dead tokens among them."""
    chosen = _merged(reports)
    final = array([number for number, (each, _) in chosen.items() if each.state is not State.WAITING])
    counts = dict(connection.execute(_COUNT_WAITING, [final]))
    noted = _note_dead(connection, [(each, now) for each, now in chosen.values() if each.dead])
    accepted: dict[int, list[int]] = {}
    rows = []
    for number, (each, now) in chosen.items():
        if each.state is State.ACCEPTED and each.status == 200 and not each.reason:
            accepted.setdefault(now, []).append(number)
        else:
            rows.append(_row(each, now, None if each.due is None else timeline.due(each.due)))
    for now, numbers in accepted.items():
        connection.execute(_SETTLE_ACCEPTED, [now, array(numbers)])
    if rows:
        connection.execute(_SETTLE, [array(rows)])
    return Settled(counts, noted)


def _merged(reports: Iterable[Report]) -> dict[int, tuple[Settlement, int]]:
    """Choose one settlement for each notification: the first that is final, if there is one."""
    chosen: dict[int, tuple[Settlement, int]] = {}
    for report in reports:
        for settlement in report.settlements:
            if settlement.state is State.WAITING and settlement.due is None:
                continue
            before = chosen.get(settlement.number)
            if before is None or before[0].state is State.WAITING:
                chosen[settlement.number] = (settlement, report.date)
    return chosen


def _note_dead(connection: sqlite3.Connection, dead: list[tuple[Settlement, int]]) -> frozenset[str]:
    """Note dead tokens in the feedback log, unless their notifications are settled already; returns the apps."""
    if not dead:
        return frozenset()
    chosen = {settlement.number: (settlement, now / 1000) for settlement, now in dead}
    [(found,)] = connection.execute(_FIND_DEAD, [array(list(chosen))])
    tokens = []
    for number, app, token in msgspec.json.decode(found):
        settlement, now = chosen[number]
        timestamp = now if settlement.timestamp is None else settlement.timestamp
        tokens.append((app, bytes.fromhex(token), settlement.reason, timestamp))
    feedback_log.note(connection, tokens, dead[0][1] / 1000)
    return frozenset(app for app, *_ in tokens)


def _row(settlement: Settlement, now: int, due: int | None) -> tuple[object, ...]:
    timestamp = None if settlement.timestamp is None else milliseconds(settlement.timestamp)
    waiting = settlement.state is State.WAITING
    attempts = 0 if settlement.state is State.EXPIRED else 1
    settled_at, due = (None, due) if waiting else (now, None)
    state, status, reason = int(settlement.state), settlement.status, settlement.reason
    return settlement.number, state, status, reason, timestamp, settled_at, due, attempts
