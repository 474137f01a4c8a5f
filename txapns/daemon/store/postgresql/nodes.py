"""
The nodes in PostgreSQL.

Each node has a row, which it renews: it lives while ``until`` has not passed on the database's clock. The row's
*incarnation* is another with each start, also under the same name. A lease names the incarnation that has it in its
column ``node``; it is live only as long as there is a living node with this incarnation. So a node that starts again
under its name frees what its predecessor had leased, and a predecessor that still runs can lease nothing more.
"""

from __future__ import annotations

__all__ = ["NODE_STEPS"]

# Times are milliseconds of the database's clock; "since" is a date, of the node's wall clock.
#: The tables of the nodes.
NODE_STEPS = (
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
)
""",
)
