"""
The flows of the queue in SQLite: what one caller sends for one app in one lane.

A flow comes with its first notification, and is forgotten a while after nothing of it waits any more and nothing is a
dead letter, which might be tried again. It is forgotten in memory first. So a request that comes meanwhile finds it on
the disk again, and then it stays.
"""

from __future__ import annotations

import sqlite3

from txapns.daemon.store.acceptance import FlowKey
from txapns.daemon.store.sqlite.tables import QueueState, array

__all__ = ["find_flows", "forget_flows", "unused_flows"]

_ADD = """
INSERT INTO queue_flow (app, lane, caller) VALUES (?, ?, ?)
ON CONFLICT (app, lane, caller) DO UPDATE SET lane = excluded.lane RETURNING id
"""

_WINDOW = "SELECT max(id), count(*) FROM (SELECT id FROM queue_flow WHERE id > ? ORDER BY id LIMIT ?)"

_NEXT = "SELECT id FROM queue_flow WHERE id > ? AND id <= ?"
_THESE = "DELETE FROM queue_flow WHERE id IN (SELECT value FROM json_each(?))"

# What waits is most of the table, or none of it, and so may be what is dead: each has an index by flow.
_UNUSED = """
AND NOT EXISTS (SELECT 1 FROM queue_delivery WHERE state = 0 AND flow = queue_flow.id)
AND NOT EXISTS (
    SELECT 1 FROM queue_delivery INDEXED BY queue_delivery_flow_dead WHERE state = 4 AND flow = queue_flow.id
)
"""


def find_flows(
    connection: sqlite3.Connection, state: QueueState, keys: set[FlowKey], apps: dict[str, int]
) -> dict[FlowKey, int]:
    """Find the ids of flows of apps that have an id, and give some to those that have none; returns all flows."""
    added = {}
    for name, lane, caller in sorted(keys - state.flows.keys()):
        [(number,)] = connection.execute(_ADD, [apps[name], lane, caller])
        added[name, lane, caller] = number
    return {**state.flows, **added} if added else state.flows


def unused_flows(
    connection: sqlite3.Connection, state: QueueState, after: int, limit: int
) -> tuple[int, int, list[int]]:
    """
    Look at the next few flows, and forget in memory those of which there is nothing, between two transactions.

    :param after: the id of the flow last looked at.
    :returns: the id of the last one, or 0 at the end; how many were looked at; and the ids of those forgotten.
    """
    [(last, count)] = connection.execute(_WINDOW, [after, limit])
    if not count:
        return 0, 0, []
    unused = [flow for (flow,) in connection.execute(_NEXT + _UNUSED, [after, last])]
    state.forget(unused)
    return last if count == limit else 0, count, unused


def forget_flows(connection: sqlite3.Connection, unused: list[int]) -> None:
    """Forget flows that are forgotten in memory, in a transaction of the caller's."""
    connection.execute(_THESE + _UNUSED, [array(unused)])
