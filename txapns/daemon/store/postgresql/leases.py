"""
How notifications are leased: one row of the table of leases for each chunk.

Who claims notifications of an app locks the app's row, and then looks for what nobody has leased. These are two
statements: a statement sees what was committed before it began, so the one that looks must begin when the lock is
there. With the first one the leases that have ended are deleted. So a lease that is in the table when somebody claims
is respected, and one that is renewed meanwhile is either renewed in time or gone. Where leases leave no room, nothing
is looked for.

A flow is ordered by due time, then by number. What left it lately is still in the index until it is vacuumed, and is
passed over entry by entry. So each node remembers how far a flow is empty, the *mark*, and begins there. Another node
may add something before the mark, with a due time of a moment ago, by a transaction that takes long. So the mark stays
behind a little, and every now and then the flow is read from its very beginning. Those who only look begin at the mark,
too: as long as another program holds a snapshot, as a dump does, nothing can be vacuumed, and what is passed over grows
to millions of entries.

Behind the mark there is still what has left within the last moments, and what is leased. While a claim finds as many as
it wants, the next one of the node begins where it ended, at the *position*, and passes over neither. What is added or
given back before a position is found a moment later, since now and then a claim begins at the marks all the same, and
so does the one after a claim that found less than it wanted. What is urgent has no position.

The ids of leases are given with the app locked, so the first one that is alive is a mark that needs no slack. Only a
server that has crashed, or a standby that is promoted, may give ids again. No connection outlives that, and a mark
belongs to the connection on which it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import psycopg

from txapns.daemon.store.cluster import HALF_OPEN
from txapns.daemon.store.pace import allowed, spent
from txapns.daemon.store.postgresql.arrays import Array, bigints
from txapns.daemon.store.postgresql.lease_book import Found, LeaseKey
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.turns import Turns
from txapns.daemon.values import Lane

__all__ = ["ENDED", "FROM_MARK", "Claim", "Claimed", "Marks", "claim", "free", "places", "renew"]

_BEGINNING = -(2**62)  # earlier than any due time

_SLACK = 2_000  # milliseconds
_ANEW = 10_000  # milliseconds
_ONWARD = 250  # milliseconds after a claim that began at the marks in which others may begin at positions

#: Tells of the row of a lease whether it has ended. The parameter is the time.
ENDED = """
(lease.until <= %(now)s OR NOT EXISTS (
    SELECT FROM node WHERE node.incarnation = lease.node AND node.until > %(now)s
))
"""

_LOCK = f"""
WITH locked AS (SELECT id, rest_until, paced_until FROM queue_app WHERE name = %(app)s FOR NO KEY UPDATE),
ended AS (DELETE FROM lease USING locked WHERE lease.app = locked.id AND lease.id >= %(first)s AND {ENDED})
SELECT id, rest_until, EXISTS (SELECT FROM node WHERE incarnation = %(node)s AND until > %(now)s), paced_until
FROM locked
"""

_PACE = "UPDATE queue_app SET paced_until = %s WHERE id = %s"

#: From which due time on to look into a flow; see :class:`Marks`.
FROM_MARK = "due >= coalesce((%(marks)s::jsonb ->> flow.id::text)::bigint, %(beginning)s)"

# Six kinds of rows: the notifications, the messages that they are of, one that tells of the lease, the flows, which of
# the notifications are superseded, and when the last of each flow was due. Without room there are no flows. It chooses
# as Turn.choose() does. The notifications of a flow are in their order.
_CLAIM = f"""
WITH leased AS MATERIALIZED (SELECT numbers FROM lease WHERE app = %(app)s AND id >= %(first)s),
room AS MATERIALIZED (SELECT %(most)s - coalesce(sum(cardinality(numbers)), 0) AS size FROM leased),
wanted AS MATERIALIZED (SELECT CASE WHEN size < %(least)s THEN 0 ELSE least(%(count)s, size) END AS size FROM room),
begun AS MATERIALIZED (
    SELECT id, lane, (SELECT due FROM queue WHERE flow = flow.id AND {FROM_MARK} ORDER BY flow, due LIMIT 1) AS first
    FROM flow WHERE app = %(app)s AND (SELECT size FROM wanted) > 0
),
due AS MATERIALIZED (
    SELECT id, lane, first, free.due, free.number FROM begun LEFT JOIN LATERAL (
        SELECT due, number FROM queue
        WHERE flow = begun.id AND due >= first AND due <= %(now)s AND number NOT IN (SELECT unnest(numbers) FROM leased)
        ORDER BY flow, due, number LIMIT 1
    ) AS free ON true
),
turn AS MATERIALIZED (
    SELECT id, due, number, row_number() OVER (ORDER BY id <= (%(after)s)[lane + 1], id) AS place,
        ceil(size::numeric / least(size, count(*) OVER ()))::bigint AS part
    FROM due, wanted WHERE number IS NOT NULL AND lane = (
        SELECT lane FROM due WHERE number IS NOT NULL ORDER BY array_position(%(lanes)s, lane::bigint) LIMIT 1
    ) AND lane = ANY(%(lanes)s)
),
chosen AS MATERIALIZED (
    SELECT next.* FROM (
        SELECT * FROM turn WHERE place <= (SELECT ceil(size::numeric / part) FROM wanted) ORDER BY place
    ) AS begin
    CROSS JOIN LATERAL (
        SELECT number, message, attempts, apns_id, token, superseded, flow, due FROM queue
        WHERE flow = begin.id AND (due, number) >= (begin.due, begin.number) AND due <= %(now)s
        AND number NOT IN (SELECT unnest(numbers) FROM leased)
        ORDER BY flow, due, number LIMIT part
    ) AS next
    LIMIT (SELECT size FROM wanted)
),
made AS (
    INSERT INTO lease (app, until, node, numbers)
    SELECT %(app)s, %(until)s, %(node)s, array_agg(number) FROM chosen HAVING count(*) > 0
    RETURNING id
)
SELECT 0, number, message, attempts::bigint, apns_id::text, token FROM chosen
UNION ALL
SELECT 1, message.number, message.accepted_at, message.since, message.headers, message.payload
FROM (SELECT DISTINCT message FROM chosen) AS used
CROSS JOIN LATERAL (SELECT * FROM message WHERE message.number = used.message LIMIT 1) AS message
UNION ALL
SELECT 2, (SELECT id FROM made), (SELECT min(id) FROM lease WHERE app = %(app)s AND id >= %(first)s),
    (SELECT size::bigint FROM room), NULL, NULL
UNION ALL
SELECT 3, id, first, lane, number::text, NULL FROM due
UNION ALL
SELECT 4, number, NULL, NULL, NULL, NULL FROM chosen WHERE superseded
UNION ALL
SELECT 5, flow, max(due), NULL, NULL, NULL FROM chosen GROUP BY flow
"""

_END = """
DELETE FROM lease USING unnest(%(apps)s, %(ids)s) AS ended (app, id)
WHERE lease.app = ended.app::integer AND lease.id = ended.id
"""

_TAKE = """
UPDATE lease SET numbers = ARRAY(SELECT unnest(numbers) EXCEPT SELECT unnest(%(numbers)s))
"""

_OF_ROWS = """
FROM unnest(%(apps)s, %(ids)s) AS known (app, id) WHERE lease.app = known.app::integer AND lease.id = known.id
"""

_WITH_SOME = "WHERE EXISTS (SELECT unnest(lease.numbers) INTERSECT SELECT unnest(%(numbers)s))"

_MOVE_END = f"UPDATE lease SET until = %(until)s {_OF_ROWS} AND NOT {ENDED} RETURNING lease.app, lease.id"

# What is renewed alone gets a row of its own.
_DIVIDE = f"""
WITH found AS MATERIALIZED (
    SELECT lease.app, lease.id, node, ARRAY(SELECT unnest(numbers) INTERSECT SELECT unnest(%(numbers)s)) AS taken
    FROM lease, unnest(%(apps)s, %(ids)s) AS known (app, id)
    WHERE lease.app = known.app::integer AND lease.id = known.id AND NOT {ENDED}
    ORDER BY lease.app, lease.id FOR UPDATE OF lease
),
rest AS (
    UPDATE lease SET numbers = ARRAY(SELECT unnest(numbers) EXCEPT SELECT unnest(found.taken))
    FROM found WHERE lease.app = found.app AND lease.id = found.id
)
INSERT INTO lease (app, until, node, numbers) SELECT app, %(until)s, node, taken FROM found
RETURNING app, id, numbers
"""


@attrs.define(eq=False)
class _Mark:
    due: int  # nothing that is due before waits
    read: int  # when the flow was last read from its beginning

    def holds(self, now: int) -> bool:
        """Tell whether to begin there."""
        return self.due <= now < self.read + _ANEW


@attrs.define(eq=False)
class _App:
    lease: int = 0  # no lease before is alive
    flows: dict[int, _Mark] = attrs.Factory(dict)
    positions: dict[int, int] = attrs.Factory(dict)
    moved: int = 0  # when the marks were last moved


class Marks:
    """How far the flows of apps are empty, and where this node's claims ended. They belong to the claiming thread."""

    def __init__(self) -> None:
        self._apps: dict[str, _App] = {}
        self._connection: Connection | None = None

    def follow(self, connection: Connection) -> None:
        """Begin at the beginning, if the marks were found on another connection."""
        if connection is not self._connection:
            self._apps.clear()
            self._connection = connection

    def lease(self, app: str) -> int:
        """Tell from which id on to look for leases of an app."""
        return self._apps[app].lease if app in self._apps else 0

    def of(self, app: str, now: int) -> dict[int, int]:
        """Tell from which due time on to look for notifications, of the flows of an app that have a mark."""
        flows = self._apps[app].flows if app in self._apps else {}
        return {flow: mark.due for flow, mark in flows.items() if mark.holds(now)}

    def all(self, now: int) -> dict[int, int]:
        """Tell the same of the flows of all apps."""
        return {flow: due for app in self._apps for flow, due in self.of(app, now).items()}

    def looked(self, begun: Mapping[int, int], found: Collection[str], now: int) -> None:
        """
        Note of which apps something was due, leased or not.

        :param begun: what :meth:`all` told before.
        """
        for app in self._apps.keys() - set(found):
            for flow, mark in self._apps[app].flows.items():
                if flow not in begun:
                    mark.due, mark.read = now - _SLACK, now

    def move(self, app: str, begun: Mapping[int, int], firsts: Mapping[int, int | None], now: int) -> None:
        """
        Note what was found by a search that began at the marks.

        :param begun: where it began, of the flows that had a mark.
        :param firsts: of each flow of the app when the first that waits is due, leased or not; ``None`` for nothing.
        """
        known = self._apps.setdefault(app, _App())
        known.moved, known.positions = now, {}
        known.flows = {flow: mark for flow, mark in known.flows.items() if flow in firsts}
        for flow, due in firsts.items():
            mark = known.flows.setdefault(flow, _Mark(0, now))
            if flow not in begun:
                mark.read = now
            mark.due = (now if due is None else min(due, now)) - _SLACK

    def move_lease(self, app: str, first: int | None) -> None:
        """Note the id of the first lease of an app that is alive; ``None`` for none."""
        if first is not None:
            self._apps.setdefault(app, _App()).lease = first

    def positions(self, app: str, now: int) -> dict[int, int]:
        """Tell up to which due time this node has leased notifications, of the flows of an app that have a position."""
        known = self._apps.get(app)
        return known.positions if known is not None and known.moved <= now < known.moved + _ONWARD else {}

    def reached(self, app: str, lasts: Mapping[int, int] | None) -> None:
        """
        Note where the next claims of an app may begin.

        :param lasts: when the last that was leased of some flows is due; ``None`` for all to begin at their marks.
        """
        known = self._apps.setdefault(app, _App())
        known.positions = {} if lasts is None else {**known.positions, **lasts}


def places(marks: Mapping[int, int]) -> dict[str, object]:
    """Make the parameters of :data:`FROM_MARK`."""
    return {"marks": msgspec.json.encode(marks).decode(), "beginning": _BEGINNING}


@attrs.frozen
class Claim:
    """
    What to lease. Times are milliseconds of the cluster's time.

    :ivar most: how many of the app's notifications may be leased at a time; ``None`` for any number.
    :ivar node: the incarnation of the node.
    :ivar only: the lane to lease from; ``None`` for that whose turn it is.
    :ivar rate: how many of the app's notifications may be leased a second; ``None`` for any number.
    """

    app: str
    count: int
    until: int
    now: int
    most: int | None
    node: str
    only: Lane | None = None
    rate: int | None = None


@attrs.frozen(eq=False)
class Claimed:
    """
    What was leased.

    :ivar key: the row of the lease; ``None`` if nothing was leased.
    :ivar lane: the lane that the notifications are in.
    :ivar more: whether more are due.
    :ivar full: whether there is no room for more, of all nodes.
    :ivar notifications: 0, the number, the message, the attempts, the id and the token of each.
    :ivar messages: 1, the number, the date, when it was accepted, the headers and the payload of each.
    :ivar marked: 4 and the number of each that is superseded.
    """

    key: LeaseKey | None = None
    lane: Lane = Lane.NORMAL
    more: bool = False
    full: bool = False
    notifications: Sequence[tuple[int, int, int, int, str, bytes]] = ()
    messages: Sequence[tuple[int, int, int, int, str, bytes]] = ()
    marked: Sequence[tuple[int, int, None, None, None, None]] = ()


def claim(connection: Connection, wanted: Claim, marks: Marks, turns: Turns) -> Claimed:
    """
    Lease notifications that are due, if there are some, and the node is alive.

    A lease of a node that another process has replaced would have ended at once, and the next claim would find the same
    notifications again.
    """
    marks.follow(connection)
    cursor = connection.cursor(binary=True)
    first = marks.lease(wanted.app)
    values: dict[str, Any] = {"app": wanted.app, "first": first, "now": wanted.now, "node": wanted.node}
    cursor.execute(_LOCK, values, prepare=True)
    app, rest_until, alive, paced = cursor.fetchone() or (0, 0, False, 0)
    now, count = wanted.now * 1000, wanted.count
    if wanted.rate is not None:
        count = min(count, allowed(paced, now, wanted.rate))
    if not alive or rest_until > wanted.now or count <= 0:
        return Claimed()
    most = wanted.most
    if rest_until:
        most = HALF_OPEN if most is None else min(most, HALF_OPEN)
    # Chunks that fill whatever room the other nodes leave get smaller and smaller.
    least = 0 if most is None or wanted.only is not None else min(count, max(1, most // 4))
    turn = turns.next(wanted.app, count, wanted.only)
    values.update(app=app, count=count, most=most, least=least, until=wanted.until)
    values.update(lanes=bigints(turn.lanes), after=bigints(turn.after))
    found, onward = _look(cursor, wanted, values, marks)
    notifications, messages, [(_, lease, first_lease, room, *_)], flows, marked, lasts = found
    full = room is not None and room - len(notifications) < max(least, 1)
    if lease is not None:
        first_lease = lease if first_lease is None else min(first_lease, lease)
    marks.move_lease(wanted.app, first_lease)
    if lease is None:
        return Claimed(full=full)
    if wanted.rate is not None:
        cursor.execute(_PACE, [spent(paced, now, wanted.rate, len(notifications) - len(marked)), app], prepare=True)
    due = {flow: lane for _, flow, _, lane, number, _ in flows if number is not None}
    filled = len(notifications) == count
    more = filled or onward or len([lane for lane in due.values() if wanted.only in (None, lane)]) > 1
    ended = {flow: last for _, flow, last, *_ in lasts if due[flow] != Lane.URGENT}
    marks.reached(wanted.app, ended if filled else None)
    chosen = turn.choose(due, min(count, len(notifications)))
    turns.took(wanted.app, due[chosen[0]], len(notifications), chosen[-1], due.values())
    return Claimed((app, lease), Lane(due[chosen[0]]), more, full, notifications, messages, marked)


def _look(
    cursor: psycopg.Cursor[Any], wanted: Claim, values: dict[str, Any], marks: Marks
) -> tuple[tuple[list[Any], ...], bool]:
    """
    Look for notifications and lease them: from the positions on, if there are some, and if nothing is there, anew.

    :returns: the rows of each kind, and whether they were found from positions on.
    """
    begun, positions = marks.of(wanted.app, wanted.now), marks.positions(wanted.app, wanted.now)
    while True:
        cursor.execute(_CLAIM, {**values, **places({**begun, **positions})}, prepare=True)
        found: tuple[list[Any], ...] = ([], [], [], [], [], [])
        for row in cursor.fetchall():
            found[row[0]].append(row)
        notifications, _, _, flows, *_ = found
        if not positions and flows:
            marks.move(wanted.app, begun, {flow: due for _, flow, due, *_ in flows}, wanted.now)
        if notifications or not flows or not positions:
            return found, bool(positions)
        positions = {}


def free(connection: Connection, found: Found, settled: Callable[[int], bool] = lambda number: False) -> None:
    """
    End this node's leases of notifications.

    What another node has leased it may be sending, so it stays leased, unless its state is final.

    :param settled: tells whether the state of a notification is final.
    """
    if found.whole:
        connection.execute(_END, _keys(found.whole), prepare=True)
    if found.parts:
        connection.execute(_TAKE + _OF_ROWS, {**_keys(found.parts), "numbers": _numbers(found.parts)})
    elsewhere = [number for number in found.unknown if settled(number)]
    if elsewhere:
        connection.execute(_TAKE + _WITH_SOME, {"numbers": bigints(elsewhere)})


def renew(
    connection: Connection, found: Found, until: int, now: int
) -> tuple[list[LeaseKey], list[tuple[LeaseKey, list[int]]]]:
    """
    Move the end of this node's leases that have not ended.

    :returns: the rows of which the end has moved, and those that were made, with their notifications.
    """
    moved: list[Any] = []
    made: list[Any] = []
    times = {"until": until, "now": now}
    if found.whole:
        moved = connection.execute(_MOVE_END, {**_keys(found.whole), **times}, prepare=True).fetchall()
    if found.parts:
        values = {**_keys(found.parts), "numbers": _numbers(found.parts)}
        made = connection.execute(_DIVIDE, {**values, **times}).fetchall()
    return moved, [((app, lease), numbers) for app, lease, numbers in made]


def _keys(rows: dict[LeaseKey, set[int]]) -> dict[str, Any]:
    keys = sorted(rows)
    return {"apps": bigints([app for app, _ in keys]), "ids": bigints([lease for _, lease in keys])}


def _numbers(rows: dict[LeaseKey, set[int]]) -> Array:
    return bigints([number for some in rows.values() for number in some])
