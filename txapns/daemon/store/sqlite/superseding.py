"""How accepted notifications supersede older ones: see :mod:`txapns.daemon.store.superseding`."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Sequence

from txapns.daemon.store.acceptance import Acceptance, collapsing
from txapns.daemon.store.sqlite.outcome_feed import record
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.store.superseding import Superseded

__all__ = ["supersede"]

# Of the new ones for one device with one collapse id only the last counts: a thousand of them in a request look once.
_NEWEST = """
WITH newest AS MATERIALIZED (
    SELECT app, collapse, token, max(number) AS number FROM json_each(?) AS range CROSS JOIN queue_delivery
    WHERE number >= json_extract(range.value, '$[0]') AND number < json_extract(range.value, '$[1]')
    GROUP BY app, collapse, token
)
"""

# SQLite takes a partial index only if the statement has its condition, word for word.
_FIND = f"""
{_NEWEST}
SELECT old.number, name
FROM newest
CROSS JOIN queue_delivery AS old
CROSS JOIN queue_app
WHERE old.state = 0 AND old.collapse IS NOT NULL
AND old.app = newest.app AND old.collapse = newest.collapse AND old.token = newest.token AND old.number < newest.number
AND queue_app.id = old.app
ORDER BY old.number
"""  # noqa: S608 - no values

_SUPERSEDE = """
UPDATE queue_delivery SET state = 5, status = 0, reason = '', settled_at = ?
WHERE number IN (SELECT value FROM json_each(?))
"""

_MARK = "UPDATE queue_delivery SET superseded = 1 WHERE number IN (SELECT value FROM json_each(?))"

_ANY_DEAD = "SELECT 1 FROM queue_delivery WHERE state = 4 AND collapse IS NOT NULL LIMIT 1"

_MARK_DEAD = f"""
{_NEWEST}
UPDATE queue_delivery SET superseded = 1 WHERE number IN (
    SELECT old.number
    FROM newest
    CROSS JOIN queue_delivery AS old
    WHERE old.state = 4 AND old.collapse IS NOT NULL
    AND old.app = newest.app AND old.collapse = newest.collapse AND old.token = newest.token
)
"""  # noqa: S608 - no values


def supersede(
    connection: sqlite3.Connection,
    acceptances: Sequence[Acceptance],
    leased: Container[int],
    recording: frozenset[str],
) -> Superseded:
    """
    Supersede what waits for the same devices with the same collapse ids, in the transaction that stores requests.

    :param acceptances: the requests, which are stored.
    :param leased: the notifications that are leased.
    :param recording: the apps of which outcomes are recorded.
    """
    new = array(collapsing(acceptances))
    if new == "[]":
        return Superseded()
    found = connection.execute(_FIND, [new]).fetchall()
    connection.execute(_MARK, [array([number for number, _ in found if number in leased])])
    if connection.execute(_ANY_DEAD).fetchone():
        connection.execute(_MARK_DEAD, [new])
    gone = [(number, app) for number, app in found if number not in leased]
    if not gone:
        return Superseded()
    connection.execute(_SUPERSEDE, [acceptances[-1].date, array([number for number, _ in gone])])
    counts: dict[str, int] = {}
    for _, app in gone:
        counts[app] = counts.get(app, 0) + 1
    recorded = recording & counts.keys()
    if recorded:
        record(connection, array([number for number, app in gone if app in recorded]))
    return Superseded([number for number, _ in gone], counts, recorded)
