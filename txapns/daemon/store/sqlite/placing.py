"""
When something is due that is not sent before a date of the wall clock.

It is placed on the queue's timeline when it is accepted. At a start, and when the wall clock was set meanwhile, what is
not leased is placed again, a part at a time. What becomes due too early nevertheless is found when it is to be leased,
and so is what has a damaged due time, which is no whole number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from txapns.daemon.store.sqlite.leases import Mark
from txapns.daemon.store.sqlite.tables import array
from txapns.daemon.store.sqlite.timeline import STEP

__all__ = ["PART", "Misplaced", "place", "place_these"]

#: How many notifications are looked at in one transaction.
PART = 1_000

# What has the date of the last one, then later dates: SQLite would not seek to (not_before, number) > (?, ?), since the
# number is the row's, but to the date, of which there may be a million. A damaged date counts as 0: it is due at once,
# and whoever leases it finds the damage.
_PART = f"""
SELECT * FROM (
    SELECT not_before, number, abs(due - not_before + ?1) >= {STEP} FROM queue_delivery
    WHERE state = 0 AND attempts = 0 AND not_before IS NOT NULL AND not_before = ?2 AND number > ?3
    ORDER BY number LIMIT ?4
)
UNION ALL
SELECT * FROM (
    SELECT not_before, number, abs(due - not_before + ?1) >= {STEP} FROM queue_delivery
    WHERE state = 0 AND attempts = 0 AND not_before IS NOT NULL AND not_before > ?2
    ORDER BY not_before, number LIMIT ?4
)
LIMIT ?4
"""  # noqa: S608 - no values but a number of our own

_PLACE_THESE = """
UPDATE queue_delivery SET due = coalesce(not_before - ?, ?)
WHERE number IN (SELECT value FROM json_each(?)) AND state = 0
"""


class Misplaced(Exception):
    """
    Notifications are not at their places in the queue.

    :ivar numbers: which.
    """

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(numbers)
        self.numbers = numbers


def place_these(connection: sqlite3.Connection, numbers: list[int], lead: int, now: int) -> None:
    """
    Place some again, in a transaction of the caller's.

    :param lead: by how many milliseconds the wall clock is ahead of the timeline.
    :param now: the timeline's time, at which those are due that have no date.
    """
    connection.execute(_PLACE_THESE, [lead, now, array(numbers)])


def place(connection: sqlite3.Connection, after: Mark, lead: int, leased: Iterable[int]) -> Mark | None:
    """
    Place the next few again, in a transaction of the caller's.

    :param after: the date and the number of the last one that was looked at.
    :param lead: by how many milliseconds the wall clock is ahead of the timeline.
    :param leased: the numbers of those that stay where they are.
    :returns: the last one that was looked at; ``None`` at the end.
    """
    date, number = after
    found = connection.execute(_PART, [lead, date, number, PART]).fetchall()
    staying = set(leased)
    moved = [number for _, number, is_misplaced in found if is_misplaced and number not in staying]
    place_these(connection, moved, lead, 0)  # all of these have dates
    return (found[-1][0], found[-1][1]) if len(found) == PART else None
