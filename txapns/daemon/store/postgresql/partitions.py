"""
The partitions of the table of outcomes: one for each day, by the date of the settlement, in UTC.

Forgetting a day is dropping a table, which costs the same for a hundred rows as for a hundred million, and leaves
nothing to vacuum. So an outcome is forgotten up to a day later than the retention says. Partitions are made some days
ahead. What has a date for which there is none goes to ``outcome_other``: its node's clock was set, or no node has made
partitions for days. From there, rows move to a partition that is made for them, or are deleted one by one.

Only one transaction at a time makes a partition, and it keeps out no reader or writer of others. Dropping one waits for
all that use the table, and they for it; so it is tried for a moment, and again at the next prune.
"""

from __future__ import annotations

from datetime import datetime, timezone

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from txapns.daemon.store.postgresql.schema import Connection

__all__ = ["AHEAD", "DAY", "create_ahead", "drop_before"]

#: A day, in milliseconds.
DAY = 86_400_000
#: For how many days after the present one partitions are made.
AHEAD = 3

_PREFIX = "outcome_"

_END = 253_402_300_800_000  # of the year 9999, after which dates have no names

_LIST = """
SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = 'outcome'::regclass AND child.relname <> 'outcome_other'
"""


def create_ahead(connection: Connection, date: int, width: int = DAY) -> None:
    """
    Make the partitions of the day of a date, and some days after, in a transaction of the caller's.

    :param date: in milliseconds since the UNIX epoch.
    :param width: how long a day is, in milliseconds: a whole number of seconds, the same for all nodes.
    """
    day = date // width
    wanted = [each for each in range(day, day + AHEAD + 1) if 0 <= each * width < _END]
    if {_name(each, width) for each in wanted} <= _existing(connection):
        return
    connection.execute("LOCK TABLE outcome IN SHARE UPDATE EXCLUSIVE MODE")
    existing = _existing(connection)
    for each in wanted:
        if _name(each, width) not in existing:
            _create(connection, each, width)


def drop_before(connection: Connection, date: int, width: int = DAY) -> int:
    """
    Drop the partitions of days that ended before a date, in a transaction of the caller's.

    :returns: how many were dropped; 0 also if the table is in use.
    """
    if not 0 <= date < _END:
        return 0
    first = _name(date // width, width)
    names = sorted(name for name in _existing(connection) if name < first)
    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            for name in names:
                connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(name)))
    except psycopg.errors.LockNotAvailable:
        return 0
    return len(names)


def _existing(connection: Connection) -> set[str]:
    return {name for (name,) in connection.execute(_LIST).fetchall()}


def _create(connection: Connection, day: int, width: int) -> None:
    """Make a partition, and move what is of its day there. It is dropped before vacuuming it pays off."""
    name = Identifier(_name(day, width))
    first, end = Literal(day * width), Literal((day + 1) * width)
    # Whoever has just put something there commits first, and is seen; or that would be in the way of the partition.
    connection.execute("LOCK TABLE outcome_other IN ACCESS EXCLUSIVE MODE")
    create = SQL("CREATE TABLE {} (LIKE outcome) WITH (autovacuum_vacuum_insert_threshold = -1)")
    connection.execute(create.format(name))
    connection.execute(
        SQL(
            "WITH moved AS (DELETE FROM outcome_other WHERE settled_at >= {} AND settled_at < {} RETURNING *)"
            " INSERT INTO {} SELECT * FROM moved"
        ).format(first, end, name)
    )
    connection.execute(
        SQL("ALTER TABLE outcome ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(name, first, end)
    )


def _name(day: int, width: int) -> str:
    begin = datetime.fromtimestamp(day * width / 1000, timezone.utc)
    return _PREFIX + begin.strftime("%Y%m%d" if width == DAY else "%Y%m%d_%H%M%S")
