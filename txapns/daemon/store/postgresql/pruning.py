"""
How what was kept long enough is forgotten, a part at a time.

Outcomes go with their partition. The rest is deleted row by row: messages of which nothing waits and nothing is a dead
letter, which might be tried again; keys; dead tokens; and outcomes that are in no day's partition. The counts of nodes
that have ended are added up.
"""

from __future__ import annotations

from collections.abc import Sequence

from txapns.daemon.store.postgresql import feedback_log
from txapns.daemon.store.postgresql.acceptance import BLOCK_LIFE
from txapns.daemon.store.postgresql.arrays import bigints
from txapns.daemon.store.postgresql.partitions import create_ahead, drop_before
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.tables import NOBODY
from txapns.daemon.store.queue_time import milliseconds

__all__ = ["forget_messages", "prune"]

# The deliveries of a message follow its number, so the first delivery from that number on tells whether any is left.
_UNUSED = """
number IS DISTINCT FROM (
    SELECT queue.message FROM queue WHERE queue.number >= message.number ORDER BY queue.number LIMIT 1
)
AND number IS DISTINCT FROM (
    SELECT outcome.message FROM outcome WHERE state > 1 AND state = 4 AND outcome.number >= message.number
    ORDER BY outcome.number LIMIT 1
)
"""

_FORGET_THESE = f"DELETE FROM message WHERE number = ANY(%s) AND {_UNUSED}"

_WINDOW = """
SELECT max(number), count(*), (array_agg(accepted_at ORDER BY number))[1]
FROM (SELECT number, accepted_at FROM message WHERE number > %s ORDER BY number LIMIT %s) AS part
"""

_FORGET = f"DELETE FROM message WHERE number > %s AND number <= %s AND accepted_at < %s AND {_UNUSED}"

_FORGET_OTHERS = """
DELETE FROM outcome_other WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM outcome_other WHERE settled_at < %s ORDER BY settled_at LIMIT %s
))
"""

_FORGET_KEYS = """
DELETE FROM idempotency
WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency WHERE noted_at < %s ORDER BY noted_at LIMIT %s))
"""

_FOLD = """
WITH ended AS (
    DELETE FROM queue_count WHERE node <> %(nobody)s
    AND NOT EXISTS (SELECT FROM node WHERE node.incarnation = queue_count.node)
    RETURNING app, waiting
)
INSERT INTO queue_count (app, node, settling, waiting)
SELECT app, %(nobody)s, false, sum(waiting) FROM ended GROUP BY app ORDER BY app
ON CONFLICT (app, node, settling) DO UPDATE SET waiting = queue_count.waiting + excluded.waiting
"""


def prune(connection: Connection, position: int, before: float, now: float, limit: int, width: int) -> tuple[int, int]:
    """
    Forget a part, in a transaction of the caller's.

    :param position: the number of the message last looked at.
    :param before: what became final before this date is forgotten.
    :param now: the date. A row with a later date was accepted while the clock was ahead, and does not count as young.
    :param width: how long the day of a partition is, in milliseconds.
    :returns: the new position, and how many messages or notifications were looked at; 0 at the end.
    """
    time = milliseconds(before)
    feedback_log.forget(connection, before, limit)
    connection.execute(_FORGET_KEYS, [time, limit])
    connection.execute(_FOLD, {"nobody": NOBODY})
    count = connection.execute(_FORGET_OTHERS, [time, limit]).rowcount
    row = connection.execute(_WINDOW, [position, limit]).fetchone()
    assert row is not None
    last, looked, accepted_at = row
    # The numbers of nodes lie somewhat across one another; see Numbers.
    if looked and not time + milliseconds(BLOCK_LIFE) <= accepted_at <= milliseconds(now):
        connection.execute(_FORGET, [position, last, time])
        position, count = last, count + looked
    else:
        position = 0
    # Last, since nobody can settle until the transaction ends in which a partition is dropped.
    create_ahead(connection, milliseconds(now), width)
    return position, count + drop_before(connection, time, width)


def forget_messages(connection: Connection, numbers: Sequence[int]) -> None:
    """Forget those of some messages of which nothing may be sent any more."""
    if numbers:
        connection.execute(_FORGET_THESE, [bigints(sorted(set(numbers)))])
