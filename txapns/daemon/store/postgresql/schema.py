"""
The tables in the database: each module that has some brings a schema.

Nodes of two versions of this program share a database while an upgrade is under way. So a step either adds something
that older programs do not see, or it is listed as *breaking*: then programs that do not know it refuse the database.
The table ``schema_version`` says for each module which version its tables have, and which version a program must know
to use them. Its rows are locked while tables are created or changed: of several nodes that start at once, one does it.
"""

from __future__ import annotations

from typing import Any

import attrs
import psycopg
from psycopg.sql import SQL, Identifier

from txapns.daemon.errors import DatabaseVersion

__all__ = ["Connection", "Schema", "create_schema", "migrate", "pending", "prepare"]

#: A connection to the database, whose rows are tuples.
Connection = psycopg.Connection[tuple[Any, ...]]


@attrs.frozen
class Schema:
    """
    The tables of one module.

    :ivar steps: SQL scripts. The first creates the tables, and each of the others migrates them to the next version.
        Once released, a step is never changed: a change of the tables is another step.
    :ivar breaking: the versions that programs that do not know them cannot use.
    """

    name: str
    steps: tuple[str, ...] = attrs.field(repr=False)
    breaking: tuple[int, ...] = ()

    @property
    def known(self) -> int:
        """The latest version that this program knows."""
        return len(self.steps)

    @property
    def needed(self) -> int:
        """The version that a program must know to use the tables of the latest one."""
        return max(self.breaking, default=1)


def create_schema(connection: Connection, name: str) -> None:
    """Create what the tables of all modules are in, and the table of their versions, if they are missing."""
    # Looked up first, since a user without the right to create them may use those that are there.
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name]).fetchone():
        connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(name)))
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() != (None,):
        return
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version ("
        " name text PRIMARY KEY, version integer NOT NULL, needed integer NOT NULL)"
    )


def pending(connection: Connection, schema: Schema, where: str) -> int:
    """
    Count the steps that the tables lack, and lock their version.

    :param where: where the database is, for the error.
    :raises DatabaseVersion: a later version of this program changed the tables so that this one cannot use them.
    """
    name, known = schema.name, schema.known
    connection.execute("INSERT INTO schema_version VALUES (%s, 0, 0) ON CONFLICT DO NOTHING", [name])
    row = connection.execute("SELECT version, needed FROM schema_version WHERE name = %s FOR UPDATE", [name]).fetchone()
    assert row is not None
    version, needed = row
    if needed > known:
        raise DatabaseVersion(
            f"{where} has version {version} of its {name} tables, which needs a program that knows version {needed}; "
            f"this one knows versions up to {known}"
        )
    return max(known - int(version), 0)


def migrate(connection: Connection, schema: Schema, where: str) -> int:
    """
    Create the tables of a schema, or bring them up to date, in a transaction of the caller's.

    :returns: how many steps were missing.
    :raises DatabaseVersion: see :func:`pending`.
    """
    missing = pending(connection, schema, where)
    if missing:
        for script in schema.steps[schema.known - missing :]:
            connection.execute(script.encode())  # without parameters, so several statements are allowed
        connection.execute(
            "UPDATE schema_version SET version = %s, needed = %s WHERE name = %s",
            [schema.known, schema.needed, schema.name],
        )
    return missing


def prepare(connection: Connection, schema: Schema, where: str, *, alone: bool) -> None:
    """
    Create the tables of a schema if they are missing, in a transaction of the caller's.

    Tables of an older version are brought up to date only if no other node uses them. Otherwise the operator says when.

    :param alone: whether no other node is alive.
    :raises DatabaseVersion: the tables are of an older version, and other nodes use them; or see :func:`pending`.
    """
    missing = pending(connection, schema, where)
    if 0 < missing < schema.known and not alone:
        raise DatabaseVersion(
            f"{where} has version {schema.known - missing} of its {schema.name} tables, and other nodes use them; "
            f"`txapns database migrate` brings them to version {schema.known}"
        )
    migrate(connection, schema, where)
