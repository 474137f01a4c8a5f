"""
The flows of the queue in PostgreSQL: what one caller sends for one app in one lane.

A flow comes with its first notification, and is forgotten a while after nothing of it waits any more and nothing is a
dead letter, which might be tried again. Each node remembers the ids of flows, and another one may have forgotten them
meanwhile. So a transaction that accepts holds its flows until it ends, and makes those again that are gone. Flows that
are held are not forgotten, and others only if there is still nothing of them once nobody can hold them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from txapns.daemon.store.acceptance import FlowKey
from txapns.daemon.store.postgresql.arrays import bigints, text, texts
from txapns.daemon.store.postgresql.schema import Connection

__all__ = ["find_flows", "forget_flows", "hold_flows"]

#: How many flows a node remembers; if there are more, it forgets all and begins again.
MOST = 100_000

_HOLD = "SELECT id FROM flow WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"

_ADD = """
INSERT INTO flow (app, lane, caller)
SELECT app, lane, caller FROM unnest(%(apps)s, %(lanes)s, %(callers)s) AS new (app, lane, caller)
WHERE NOT EXISTS (
    SELECT FROM flow WHERE flow.app = new.app AND flow.lane = new.lane AND flow.caller = new.caller
)
ORDER BY app, lane, caller ON CONFLICT DO NOTHING
"""

_FIND = """
SELECT flow.app, flow.lane, flow.caller, flow.id
FROM unnest(%(apps)s, %(lanes)s, %(callers)s) AS wanted (app, lane, caller)
JOIN flow ON flow.app = wanted.app AND flow.lane = wanted.lane AND flow.caller = wanted.caller
ORDER BY flow.id FOR KEY SHARE OF flow
"""

# Scalar subqueries, since with each of them the server looks once into the index for each flow.
_UNUSED = """
(SELECT number FROM queue WHERE flow = flow.id ORDER BY flow, due LIMIT 1) IS NULL
AND (
    SELECT number FROM outcome WHERE state > 1 AND state = 4 AND app = flow.app AND flow = flow.id
    ORDER BY app, flow LIMIT 1
) IS NULL
"""

_WINDOW = "SELECT max(id), count(*) FROM (SELECT id FROM flow WHERE id > %s ORDER BY id LIMIT %s) AS part"

_SEIZE = f"SELECT id FROM flow WHERE id > %s AND id <= %s AND {_UNUSED} ORDER BY id FOR UPDATE SKIP LOCKED"

_FORGET = f"DELETE FROM flow WHERE id = ANY(%s) AND {_UNUSED}"


def hold_flows(
    connection: Connection, keys: Collection[FlowKey], apps: Mapping[str, int], known: dict[FlowKey, int]
) -> dict[FlowKey, int]:
    """
    Find the ids of flows of apps that have an id, give some to those that have none, and hold all of them.

    :param known: those that the node remembers.
    :returns: those that it may remember now, among them all with these keys.
    """
    ids = sorted({known[key] for key in keys if key in known})
    held = {flow for (flow,) in connection.execute(_HOLD, [bigints(ids)], prepare=True).fetchall()} if ids else set()
    missing = {key for key in keys if known.get(key) not in held}
    if not missing:
        return known
    return {**(known if len(known) < MOST else {}), **find_flows(connection, missing, apps)}


def find_flows(connection: Connection, keys: Collection[FlowKey], apps: Mapping[str, int]) -> dict[FlowKey, int]:
    """Find the ids of flows of apps that have an id, give some to those that have none, and hold all of them."""
    rows = {key: (apps[key[0]], key[1], text(key[2])) for key in keys}
    found: dict[tuple[object, ...], int] = {}
    while missing := set(rows.values()) - found.keys():  # what was there may be forgotten before it is held
        numbers, lanes, callers = zip(*sorted(missing), strict=True)
        values = {"apps": bigints(numbers), "lanes": bigints(lanes), "callers": texts(callers)}
        connection.execute(_ADD, values)
        found.update({tuple(row): flow for *row, flow in connection.execute(_FIND, values).fetchall()})
    return {key: found[row] for key, row in rows.items()}


def forget_flows(connection: Connection, after: int, limit: int) -> tuple[int, int]:
    """
    Look at the next few flows, and forget those of which there is nothing, in a transaction of its own.

    :param after: the id of the flow last looked at.
    :returns: the id of the last one, or 0 at the end; and how many were looked at.
    """
    row = connection.execute(_WINDOW, [after, limit]).fetchone()
    assert row is not None
    last, count = row
    if not count:
        return 0, 0
    seized = [flow for (flow,) in connection.execute(_SEIZE, [after, last]).fetchall()]
    if seized:
        connection.execute(_FORGET, [bigints(seized)])
    return last if count == limit else 0, count
