"""
How accepted notifications supersede older ones: see :mod:`txapns.daemon.store.superseding`.

Whoever accepts something with a collapse id locks the app first, as those do who lease: so of two nodes that accept at
the same time, one is later and finds what the other one has stored, and nobody leases meanwhile. What is older is what
was stored before, whatever its number: nodes take their numbers in blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from txapns.daemon.store.acceptance import Acceptance, collapsing
from txapns.daemon.store.postgresql.arrays import bigints
from txapns.daemon.store.postgresql.leases import ENDED
from txapns.daemon.store.postgresql.outcome_feed import record
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.superseding import Superseded

__all__ = ["lock_apps", "supersede"]

_LOCK = "SELECT FROM queue_app WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"

# Of the new ones for one device with one collapse id the last is looked for, and supersedes the others of them as well.
_NEWEST = """
WITH newest AS MATERIALIZED (
    SELECT app, collapse, token, max(number) AS number FROM unnest(%(firsts)s, %(ends)s) AS range (first, until)
    CROSS JOIN LATERAL (
        SELECT * FROM queue WHERE number >= first AND number < until ORDER BY number LIMIT until - first
    ) AS stored
    GROUP BY app, collapse, token
)
"""

# They are locked in the order of their numbers, as those do who settle.
_FIND = f"""
{_NEWEST},
found AS MATERIALIZED (
    SELECT old.number FROM newest CROSS JOIN LATERAL (
        SELECT number FROM queue WHERE collapse IS NOT NULL
        AND app = newest.app AND collapse = newest.collapse AND token = newest.token AND number <> newest.number
        ORDER BY app, collapse, token LIMIT 1000000000
    ) AS old
)
SELECT number FROM queue WHERE number = ANY(ARRAY(SELECT number FROM found)) ORDER BY number FOR UPDATE
"""

_SUPERSEDE = f"""
WITH leased AS MATERIALIZED (
    SELECT unnest(numbers) AS number FROM lease WHERE app = ANY(%(apps)s) AND NOT {ENDED}
),
marked AS (
    UPDATE queue SET superseded = true WHERE number = ANY(ARRAY(
        SELECT number FROM leased WHERE number = ANY(%(numbers)s)
    ))
),
gone AS (
    DELETE FROM queue WHERE number = ANY(%(numbers)s) AND number NOT IN (SELECT number FROM leased) RETURNING *
),
stored AS (
    INSERT INTO outcome (
        number, message, due, accepted_at, settled_at, app, attempts, status, state, apns_id, token, reason, flow
    )
    SELECT number, message, due, accepted_at, %(date)s, app, attempts, 0, 5, apns_id, token, '', flow FROM gone
),
counted AS (
    INSERT INTO queue_count (app, node, settling, waiting)
    SELECT app, %(node)s, false, -count(*) FROM gone GROUP BY app ORDER BY app
    ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting
)
SELECT (SELECT name FROM queue_app WHERE id = app), array_agg(number) FROM gone GROUP BY app
"""

_DEAD = "state > 1 AND state = 4 AND collapse IS NOT NULL"

_ANY_DEAD = f"""
SELECT FROM unnest(%(apps)s) AS wanted (id) CROSS JOIN LATERAL (
    SELECT FROM outcome WHERE {_DEAD} AND app = wanted.id ORDER BY app, collapse, token LIMIT 1
) AS found LIMIT 1
"""

_MARK_DEAD = f"""
{_NEWEST}
UPDATE outcome SET superseded = true WHERE state > 1 AND state = 4 AND number = ANY(ARRAY(
    SELECT dead.number FROM newest CROSS JOIN LATERAL (
        SELECT number FROM outcome WHERE {_DEAD}
        AND app = newest.app AND collapse = newest.collapse AND token = newest.token
        ORDER BY app, collapse, token LIMIT 1000000000
    ) AS dead
))
"""


def lock_apps(connection: Connection, apps: Collection[int]) -> None:
    """Keep others from leasing, and from accepting, for apps of which something may be superseded, given their ids."""
    if apps:
        connection.execute(_LOCK, [bigints(sorted(apps))], prepare=True)


def supersede(
    connection: Connection, acceptances: Sequence[Acceptance], node: str, now: int, recording: frozenset[str]
) -> Superseded:
    """
    Supersede what waits for the same devices with the same collapse ids, in the transaction that stores requests.

    :param acceptances: the requests, which are stored; their apps are locked.
    :param node: the incarnation of the node.
    :param now: the cluster's time.
    :param recording: the apps of which outcomes are recorded.
    """
    new = collapsing(acceptances)
    if not new:
        return Superseded()
    firsts, ends = zip(*new, strict=True)
    apps = {each.apps[block.app] for each in acceptances for block in each.blocks if block.collapse}
    values = {"firsts": bigints(firsts), "ends": bigints(ends), "apps": bigints(sorted(apps)), "now": now, "node": node}
    if connection.execute(_ANY_DEAD, values, prepare=True).fetchone() is not None:
        connection.execute(_MARK_DEAD, values)
    numbers = [number for (number,) in connection.execute(_FIND, values, prepare=True).fetchall()]
    if not numbers:
        return Superseded()
    date = acceptances[-1].date
    values.update(numbers=bigints(numbers), date=date)
    found: dict[str, list[int]] = dict(connection.execute(_SUPERSEDE, values, prepare=True).fetchall())
    recorded = recording.intersection(found)
    record(connection, [number for app in recorded for number in found[app]], date, date)
    gone = sorted(number for some in found.values() for number in some)
    return Superseded(gone, {app: len(some) for app, some in found.items()}, recorded)
