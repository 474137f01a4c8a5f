"""
The nodes in the database, and their duties.

Each node has a row, which it renews: it lives while ``until`` has not passed, in the cluster's time. The row's
*incarnation* is another one whenever the node joins, also under the same name. A lease names the incarnation that has
it in its column ``node``, and so does a duty: both are live only as long as there is a living node with this
incarnation. So a node that starts again under its name frees what its predecessor had leased, and a predecessor that
still runs can lease nothing more.

No heartbeat waits for another node: each writes its own row, and what is shared only when there is a change.

The clock
---------

The cluster's time is the database's clock plus a correction, which is 0 until that clock steps back: somebody set it,
or a standby whose clock is behind was promoted. Then all leases and everything put off would last longer by the step.
So a node that finds the clock behind what it was, by its own monotonic clock, writes the correction, for all nodes; and
a node that joins, which has nothing to compare with, finds it behind the latest heartbeat of any node. A monotonic
clock may stand still, but does not run ahead, so nothing is corrected wrongly.

A step forward cannot be told from a pause of the node, and is not corrected: lives end early, and all nodes join again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from txapns.daemon.store.cluster import NodeStatus
from txapns.daemon.store.postgresql.schema import Connection, Schema
from txapns.daemon.store.queue_time import milliseconds

__all__ = [
    "LIFE",
    "NODES",
    "Moment",
    "Node",
    "holders",
    "is_alone",
    "join",
    "leave",
    "living",
    "look",
    "reap",
    "renew",
    "resign",
    "statuses",
    "take",
]

#: How long a node lives after a heartbeat, in seconds.
LIFE = 15.0
#: A clock that is behind by less than this, in seconds, is not corrected.
TOLERANCE = 1.0
#: For how long a node that went without a farewell is listed, in seconds.
REMEMBERED = 86_400.0

# Times are milliseconds of the cluster's time; "since" is a date, of the node's wall clock.
#: The tables of the nodes.
NODES = Schema(
    "nodes",
    (
        """
CREATE TABLE node (
    name text PRIMARY KEY,
    incarnation uuid NOT NULL UNIQUE,
    version text NOT NULL,
    digest text NOT NULL,
    since bigint NOT NULL,
    heartbeat bigint NOT NULL,
    until bigint NOT NULL,
    clock_offset bigint NOT NULL,
    in_flight integer NOT NULL
);
CREATE TABLE duty (
    name text PRIMARY KEY,
    node uuid NOT NULL
);
CREATE TABLE cluster_clock (
    correction bigint NOT NULL,
    latest bigint NOT NULL
);
INSERT INTO cluster_clock VALUES (0, 0)
""",
    ),
)

_LOOK = "SELECT correction, greatest(latest, (SELECT max(heartbeat) FROM node)) FROM cluster_clock"

_JOIN = """
INSERT INTO node VALUES (
    %(name)s, %(incarnation)s, %(version)s, %(digest)s, %(since)s, %(now)s, %(until)s, %(clock_offset)s, %(in_flight)s
) ON CONFLICT (name) DO UPDATE SET
    incarnation = excluded.incarnation, version = excluded.version, digest = excluded.digest, since = excluded.since,
    heartbeat = excluded.heartbeat, until = excluded.until, clock_offset = excluded.clock_offset,
    in_flight = excluded.in_flight
"""

_RENEW = """
UPDATE node SET heartbeat = %(now)s, until = %(until)s, digest = %(digest)s, clock_offset = %(clock_offset)s,
    in_flight = %(in_flight)s
WHERE name = %(name)s AND incarnation = %(incarnation)s AND until > %(now)s
"""

_HOLDERS = """
SELECT duty.name, duty.node FROM duty JOIN node ON node.incarnation = duty.node AND node.until > %s
"""

# Three statements: one that waits for another node's transaction does not see the life that began with it, and so would
# take its duties away.
_ADD_DUTIES = (
    "INSERT INTO duty SELECT unnest(%(duties)s::text[]), %(incarnation)s ON CONFLICT DO NOTHING RETURNING name"
)

_LOCK_DUTIES = "SELECT FROM duty WHERE name = ANY(%(duties)s) ORDER BY name FOR UPDATE"

_TAKE = """
UPDATE duty SET node = %(incarnation)s WHERE name = ANY(%(duties)s)
AND NOT EXISTS (SELECT FROM node WHERE node.incarnation = duty.node AND node.until > %(now)s)
RETURNING name
"""


@attrs.frozen
class Moment:
    """
    What the database's clock showed.

    :ivar date: the clock itself, in UNIX seconds.
    :ivar correction: what is added to it, in milliseconds.
    :ivar before: when the reading began, by the reactor's clock.
    :ivar after: when it had ended.
    """

    date: float
    correction: int
    before: float
    after: float

    @property
    def now(self) -> int:
        """The cluster's time, in milliseconds."""
        return milliseconds(self.date) + self.correction


@attrs.frozen
class Node:
    """
    What a node writes of itself at each heartbeat; see :class:`~txapns.daemon.store.cluster.NodeStatus`.

    :ivar since: in milliseconds; and so is the offset of its clock.
    """

    name: str
    incarnation: str
    version: str
    digest: str
    since: int
    in_flight: int
    clock_offset: int = 0

    def row(self, now: int) -> dict[str, object]:
        """Write it as the parameters of a statement."""
        return {**attrs.asdict(self), "now": now, "until": now + milliseconds(LIFE)}


def look(
    connection: Connection, read: Callable[[Connection], float], seconds: Callable[[], float], epoch: float | None
) -> Moment:
    """
    Find the cluster's time, and correct it if the database's clock has stepped back.

    :param read: reads the database's clock, in UNIX seconds.
    :param seconds: reads the reactor's clock.
    :param epoch: the cluster's time when the reactor's clock was at 0, in seconds; ``None`` if that is not known yet.
    """
    [(correction, latest)] = connection.execute(_LOOK)
    # The clock is read after that, so it is not behind a heartbeat that was found, however long this takes.
    before = seconds()
    moment = Moment(read(connection), correction, before, seconds())
    least = latest if epoch is None else max(latest, milliseconds(epoch + before))
    if moment.now >= least - milliseconds(TOLERANCE):
        return moment
    correction = least - milliseconds(moment.date)
    connection.execute("UPDATE cluster_clock SET correction = greatest(correction, %s)", [correction])
    return attrs.evolve(moment, correction=correction)


def living(connection: Connection, name: str, now: int) -> str | None:
    """Tell the incarnation of the living node of a name; ``None`` if there is none."""
    row = connection.execute("SELECT incarnation FROM node WHERE name = %s AND until > %s", [name, now]).fetchone()
    return None if row is None else str(row[0])


def join(connection: Connection, node: Node, now: int) -> None:
    """Begin a node's life, in place of that of any other node of its name."""
    connection.execute(_JOIN, node.row(now))


def renew(connection: Connection, node: Node, now: int) -> bool:
    """Prolong a node's life; tell whether it had not ended yet."""
    return connection.execute(_RENEW, node.row(now)).rowcount == 1


def leave(connection: Connection, incarnations: list[str]) -> None:
    """End a node's life, and forget it, given the incarnations that it may have."""
    connection.execute(
        "UPDATE cluster_clock SET latest = greatest("
        " latest, (SELECT max(heartbeat) FROM node WHERE incarnation = ANY(%s::uuid[])))",
        [incarnations],
    )
    connection.execute("DELETE FROM node WHERE incarnation = ANY(%s::uuid[])", [incarnations])
    connection.execute("DELETE FROM duty WHERE node = ANY(%s::uuid[])", [incarnations])


def holders(connection: Connection, now: int) -> dict[str, str]:
    """Tell which duties living nodes have, by the nodes' incarnations."""
    return {name: str(node) for name, node in connection.execute(_HOLDERS, [now])}


def take(connection: Connection, incarnation: str, duties: Iterable[str], now: int) -> set[str]:
    """Take those duties that no living node has; returns them."""
    parameters = {"duties": sorted(duties), "incarnation": incarnation, "now": now}
    taken = {name for (name,) in connection.execute(_ADD_DUTIES, parameters)}
    connection.execute(_LOCK_DUTIES, parameters)
    return taken | {name for (name,) in connection.execute(_TAKE, parameters)}


def resign(connection: Connection, incarnation: str, duties: Iterable[str]) -> None:
    """Leave duties to the other nodes."""
    connection.execute("DELETE FROM duty WHERE name = ANY(%s) AND node = %s", [sorted(duties), incarnation])


def statuses(connection: Connection, name: str, now: int) -> list[NodeStatus]:
    """List the nodes, of which one asks, by name."""
    rows = connection.execute(
        "SELECT name, version, digest, since, heartbeat, clock_offset, in_flight, until FROM node ORDER BY name"
    )
    return [
        NodeStatus(
            each,
            version,
            digest,
            since=since / 1000,
            heartbeat=max(0, now - heartbeat) / 1000,
            clock_offset=clock_offset / 1000,
            in_flight=in_flight,
            alive=until > now,
            own=each == name,
        )
        for each, version, digest, since, heartbeat, clock_offset, in_flight, until in rows
    ]


def is_alone(connection: Connection, name: str, date: float) -> bool:
    """
    Tell whether no other node is alive, in a database that may have no tables yet.

    :param date: what the database's clock shows, in UNIX seconds.
    """
    if connection.execute("SELECT to_regclass('node'), to_regclass('cluster_clock')").fetchone() != (
        "node",
        "cluster_clock",
    ):
        return True
    [(count,)] = connection.execute(
        "SELECT count(*) FROM node, cluster_clock WHERE name <> %s AND until > %s + correction",
        [name, milliseconds(date)],
    )
    return not count


def reap(connection: Connection, now: int) -> None:
    """Forget the leases of nodes that are gone, and nodes that went long ago."""
    connection.execute(
        "DELETE FROM lease WHERE NOT EXISTS (SELECT FROM node WHERE incarnation = lease.node AND node.until > %s)",
        [now],
    )
    connection.execute(
        "UPDATE cluster_clock SET latest = greatest(latest, (SELECT max(heartbeat) FROM node)) WHERE EXISTS"
        " (SELECT FROM node WHERE until < %s)",
        [now - milliseconds(REMEMBERED)],
    )
    connection.execute("DELETE FROM node WHERE until < %s", [now - milliseconds(REMEMBERED)])
    connection.execute("DELETE FROM duty WHERE NOT EXISTS (SELECT FROM node WHERE incarnation = duty.node)")
