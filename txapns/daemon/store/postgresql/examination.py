"""What an operator should know of a database in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import psycopg

from txapns.daemon.store.cluster import NodeStatus
from txapns.daemon.store.examination import Examination, Finding, Kind, megabytes
from txapns.daemon.store.postgresql.cluster_time import database_date
from txapns.daemon.store.postgresql.connection import Mode, connect
from txapns.daemon.store.postgresql.errors import Unusable, in_words
from txapns.daemon.store.postgresql.nodes import statuses
from txapns.daemon.store.postgresql.schema import Connection, Schema
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.queue_time import milliseconds

__all__ = ["CONNECTIONS", "alive", "cluster_now", "examine"]

#: How many connections a node has.
CONNECTIONS = 5

_PATIENCE = 10.0  # seconds for each statement
_CLOCK = 1.0  # seconds by which the clocks may differ
_OLD = 300.0  # seconds after which a snapshot is worth a word

_SERVER = """
SELECT current_setting('server_version'), current_user,
    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),  -- not that of this session
    current_setting('synchronous_standby_names'), current_setting('autovacuum'), pg_is_in_recovery(), pg_backend_pid()
"""

_TLS = "SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"

_CONNECTIONS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend'
"""

# What was deleted stays on the disk, and in the way, until no snapshot is left that may look at it.
_SNAPSHOTS = """
SELECT 'a transaction of process ' || pid, extract(epoch FROM now() - xact_start)::float8
FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
UNION ALL
SELECT 'the prepared transaction ' || gid, extract(epoch FROM now() - prepared)::float8 FROM pg_prepared_xacts
ORDER BY 2 DESC
"""

_TABLES = """
SELECT relname, pg_total_relation_size(pg_class.oid)::bigint,
    has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
    AND has_table_privilege(pg_class.oid, 'UPDATE') AND has_table_privilege(pg_class.oid, 'DELETE')
FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p') ORDER BY relname
"""

_MAY_CREATE = """
SELECT CASE WHEN to_regnamespace(%(name)s) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
    ELSE has_schema_privilege(to_regnamespace(%(name)s), 'CREATE') END, to_regnamespace(%(name)s) IS NULL
"""


def examine(settings: Settings, schemas: Sequence[Schema]) -> Examination:
    """
    Examine a database.

    :param settings: how to connect to it.
    :param schemas: all tables of this program.
    """
    try:
        began = time.monotonic()
        connection, warnings = connect(settings, Mode("command", reads=True), _PATIENCE)
        took = time.monotonic() - began
        with closing(connection):
            findings = [Finding("ok", f"connected to {settings.where} in {took * 1000:.0f} ms")]
            findings += [Finding("warning", warning) for warning in warnings]
            findings += [*_server(connection), *_transport(connection), *_clock(connection)]
            versions, current = _versions(connection, schemas, settings)
            findings += [*versions, *_rights(connection, settings), *_load(connection)]
            return Examination(findings, {"apps", "keys"} <= current, _nodes(connection))
    except (psycopg.Error, Unusable) as error:
        return Examination([Finding("fault", str(in_words(error, settings.where)))])


def alive(connection: Connection) -> list[str]:
    """Tell the names of the nodes that are alive, in a database that may have no tables yet."""
    return [node.name for node in _nodes(connection) if node.alive]


def cluster_now(connection: Connection) -> int:
    """Tell the cluster's time, in milliseconds."""
    [(correction,)] = connection.execute("SELECT correction FROM cluster_clock")
    return milliseconds(database_date(connection)) + int(correction)


def _server(connection: Connection) -> Iterator[Finding]:
    [(version, user, synchronous, standbys, autovacuum, standby, process)] = connection.execute(_SERVER)
    yield Finding("ok", f"PostgreSQL {version}, as the user {user}")
    if standby:
        yield Finding("fault", "the server is a standby, which cannot be written to")
    if process != connection.info.backend_pid:
        yield Finding("warning", "there is a pooler in between; it must pool sessions, not transactions")
    if synchronous == "off":
        yield Finding("warning", "synchronous_commit is off; the daemon turns it on for what it accepts and settles")
    if standbys:
        yield Finding("ok", f"what is accepted is also on a synchronous standby ({standbys})")
    else:
        yield Finding("ok", "no synchronous standby: what was accepted last is lost if the server's disk is")
    if autovacuum == "off":
        yield Finding("warning", "autovacuum is off: queues will become slower and slower")


def _transport(connection: Connection) -> Iterator[Finding]:
    found = connection.execute(_TLS).fetchone()
    mode = connection.info.get_parameters().get("sslmode", "prefer")
    if found is None:
        yield Finding("ok", "the connection is not encrypted: the server is on this machine, or the url allows it")
    else:
        verified = "the server is verified" if mode == "verify-full" else f"sslmode={mode}"
        yield Finding("ok", f"{found[0]} with {found[1]}; {verified}")


def _clock(connection: Connection) -> Iterator[Finding]:
    before = time.time()
    date = database_date(connection)
    after = time.time()
    offset = (before + after) / 2 - date
    text = f"this machine's clock is {abs(offset):.2f} s {'ahead of' if offset > 0 else 'behind'} the database's"
    yield Finding("warning" if abs(offset) > _CLOCK + (after - before) / 2 else "ok", text)


def _versions(connection: Connection, schemas: Sequence[Schema], settings: Settings) -> tuple[list[Finding], set[str]]:
    """Compare the tables with what this program knows; returns also the names of those that are up to date."""
    known: dict[str, tuple[int, int]] = {}
    if _exists(connection, "schema_version"):
        rows = connection.execute("SELECT name, version, needed FROM schema_version")
        known = {name: (version, needed) for name, version, needed in rows}
    findings, missing, current = [], [], set()
    for schema in schemas:
        version, needed = known.get(schema.name, (0, 0))
        if needed > schema.known:
            text = f"a later version of txapns changed the {schema.name} tables (version {version}); use that one"
            findings.append(Finding("fault", text))
        elif not version:
            missing.append(schema.name)
        elif version < schema.known:
            text = f"the {schema.name} tables have version {version} of {schema.known}: txapns database migrate"
            findings.append(Finding("warning", text))
        else:
            current.add(schema.name)
    if missing:
        text = f"the schema {settings.schema} has no tables for {', '.join(missing)} yet; the daemon makes them"
        findings.append(Finding("ok", text))
    return findings or [Finding("ok", f"the tables in the schema {settings.schema} are up to date")], current


def _rights(connection: Connection, settings: Settings) -> Iterator[Finding]:
    [(may_create, missing)] = connection.execute(_MAY_CREATE, {"name": settings.schema})
    tables = connection.execute(_TABLES, [settings.schema]).fetchall()
    forbidden = [name for name, _, allowed in tables if not allowed]
    if missing and not may_create:
        yield Finding("fault", f"the schema {settings.schema} is missing, and the user may not create it")
    elif not may_create:
        yield Finding("fault", f"the user may not create tables in the schema {settings.schema}")
    if forbidden:
        yield Finding("fault", f"the user may not read and change the tables {', '.join(forbidden)}")
    if tables:
        sizes = sorted(((size, name) for name, size, _ in tables), reverse=True)
        largest = ", ".join(f"{name} {megabytes(size)}" for size, name in sizes[:3])
        yield Finding("ok", f"{megabytes(sum(size for size, _ in sizes))} in {len(sizes)} tables: {largest}")


def _load(connection: Connection) -> Iterator[Finding]:
    [(allowed, used)] = connection.execute(_CONNECTIONS)
    kind: Kind = "warning" if allowed - used < CONNECTIONS else "ok"
    yield Finding(kind, f"{used} of {allowed} connections are in use; each node needs {CONNECTIONS}")
    for what, age in connection.execute(_SNAPSHOTS).fetchall()[:1]:
        if age is not None and age > _OLD:
            yield Finding("warning", f"{what} has a snapshot for {age / 60:.0f} min, which makes every queue slower")


def _nodes(connection: Connection) -> Sequence[NodeStatus]:
    if not (_exists(connection, "node") and _exists(connection, "cluster_clock")):
        return ()
    return statuses(connection, "", cluster_now(connection))


def _exists(connection: Connection, table: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,)
