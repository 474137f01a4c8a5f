"""
What three layouts of the queue cost on PostgreSQL: ``python benchmarks/layouts.py [--help]``.

Prototypes, on a server of their own, tuned alike: the same requests, packed parameters and results, prepared
statements, indexes for the same questions, and room in the pages for updates in place where there are updates:

- rows: one table, in which a row is leased and settled in place; rows are claimed by SKIP LOCKED;
- move: the same leases, but what is settled moves to a table that is only appended to;
- chunk: what is settled moves, too, and a chunk is leased by one row of a table of leases. Whoever claims locks the row
  of the app first.

A cycle is a notification accepted, leased and settled. Of a hundred, one token is dead, which is noted in the feedback
log in the transaction of the settlement, and one notification is tried again; of ten requests, one has an idempotency
key. A request has 100 tokens. Each process is a node with three connections: one accepts, ten requests at a time; one
leases 500 notifications of four apps in turn, without waiting for the disk; and one settles them.

The layouts take turns, and each turn ends with a VACUUM of the layout's tables, which counts. CPU times are those of
all processes of the server, and of the nodes, for each cycle.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import statistics
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import psycopg
from database_server import DatabaseServer, database_server

HEADERS = '{"apns-topic":"com.example.chess","apns-push-type":"alert"}'
PAYLOAD = (
    b'{"aps":{"alert":{"title":"Your move","body":"Queen takes d5. It is your turn."},"badge":1,"sound":"default"}}'
)
APPS = 4
#: How many tokens a request has, how many requests are accepted together, and how many notifications leased.
TOKENS, REQUESTS, CHUNK = 100, 10, 500
#: How many numbers a node takes from the sequence at a time.
BLOCK = 10_000
#: How many notifications of each node may wait before it stops accepting.
AHEAD = 20_000
ACCEPTED, DEAD = 1, 3
#: Settings of each connection. A plan is made once; without these, one that was made while the table was nearly empty
#: reads all of it, and keeps doing so when there are a million rows. What is "off" costs 10 billion more, which would
#: be reason enough to compile.
SESSION = (
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_sort = off",
    "plan_cache_mode = force_generic_plan",
    "jit = off",
)

_COMMON = f"""
CREATE SEQUENCE numbers INCREMENT BY {BLOCK};
CREATE TABLE lane (id int PRIMARY KEY, rest_until bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE lane_count (
    app int, node int, settled bool, waiting bigint NOT NULL, PRIMARY KEY (app, node, settled)
) WITH (fillfactor = 10);
CREATE TABLE message (
    number bigint PRIMARY KEY, accepted_at bigint NOT NULL, headers text NOT NULL, payload bytea NOT NULL
);
CREATE TABLE idempotency (
    owner text, key text, digest bytea NOT NULL, apns_ids bytea NOT NULL,
    first bigint NOT NULL, noted_at bigint NOT NULL, PRIMARY KEY (owner, key)
);
CREATE INDEX ON idempotency (noted_at);
CREATE TABLE feedback_head (cursor bigint NOT NULL) WITH (fillfactor = 10);
CREATE TABLE feedback_token (
    cursor bigint PRIMARY KEY, app int NOT NULL, token bytea NOT NULL, noted_at bigint NOT NULL
);
INSERT INTO feedback_head VALUES (0);
INSERT INTO lane SELECT generate_series(1, {APPS});
"""


_OUTCOME = """
CREATE TABLE outcome (
    number bigint NOT NULL, message bigint NOT NULL, settled_at bigint NOT NULL, app int NOT NULL,
    state smallint NOT NULL, attempts smallint NOT NULL, status smallint NOT NULL,
    token bytea NOT NULL, apns_id bytea NOT NULL, reason text NOT NULL
);
CREATE INDEX ON outcome (apns_id);
CREATE INDEX ON outcome (state, number) WHERE state > 1;
"""


#: What a lease returns: all that was found as one row, which costs less than a row of each.
_PACKED = (
    "count(*), string_agg(int8send(number), ''), string_agg(int8send(message), ''), string_agg(token, ''), "
    "string_agg(apns_id, ''), string_agg(int2send(attempts), '')"
)


def milliseconds() -> int:
    """Return the time."""
    return time.time_ns() // 1_000_000


@attrs.frozen
class Chunk:
    """What was leased of an app: the lease, the numbers of the notifications, and how often each was tried."""

    app: int
    lease: int
    numbers: Sequence[int]
    attempts: Sequence[int]


class Layout:
    """A layout, as the node with a number uses it."""

    tables = ""
    delivery = "queue"

    def __init__(self, node: int) -> None:
        self.node = node
        self._number = self._end = 0
        self._keys = itertools.count()

    # Accepting.

    def accept(self, connection: psycopg.Connection) -> None:
        """Accept ten requests in a transaction."""
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            if self._end - self._number < REQUESTS * TOKENS:
                [(self._number,)] = cursor.execute("SELECT nextval('numbers')")
                self._end = self._number + BLOCK
            first, now = self._number, milliseconds()
            self._number += REQUESTS * TOKENS
            numbers = list(range(first, first + REQUESTS * TOKENS, TOKENS))
            ids, tokens = os.urandom(10 * REQUESTS * TOKENS), os.urandom(32 * REQUESTS * TOKENS)
            apps = [1 + next(self._keys) % APPS for _ in numbers]
            cursor.execute(
                "INSERT INTO idempotency VALUES ('caller', %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING first",
                [f"{self.node}-{first}", os.urandom(32), ids[:1600], first, now],
            )
            cursor.execute(
                "INSERT INTO message SELECT number, %s, headers, substr(%s, at, length) "
                "FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::int[]) AS m (number, headers, at, length)",
                [
                    now,
                    PAYLOAD * REQUESTS,
                    numbers,
                    [HEADERS] * REQUESTS,
                    [1 + len(PAYLOAD) * at for at in range(REQUESTS)],
                    [len(PAYLOAD)] * REQUESTS,
                ],
            )
            self._add(cursor, numbers, apps, tokens, ids, now)
            self._count(cursor, {app: TOKENS * apps.count(app) for app in set(apps)}, settled=False)

    def _add(
        self, cursor: psycopg.Cursor, numbers: list[int], apps: list[int], tokens: bytes, ids: bytes, now: int
    ) -> None:
        """Store the deliveries; an id has the time in front, as txapns' own."""
        cursor.execute(
            f"INSERT INTO {self.delivery} (number, message, app, due, token, apns_id) "
            "SELECT number + n, number, app, %s, substr(%s, 1 + (at + n) * 32, 32), "
            "%s || substr(%s, 1 + (at + n) * 10, 10) "
            "FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS run (number, app, at), "
            f"generate_series(0, {TOKENS - 1}) AS n",
            [now, tokens, now.to_bytes(6, "big"), ids, numbers, apps, list(range(0, REQUESTS * TOKENS, TOKENS))],
        )

    def _count(self, cursor: psycopg.Cursor, counts: dict[int, int], *, settled: bool) -> None:
        """Add to the counts of what waits. Each connection has its own, or one would wait for the other's commit."""
        cursor.execute(
            "INSERT INTO lane_count SELECT app, %s, %s, n FROM unnest(%s::int[], %s::bigint[]) AS c (app, n) "
            "ON CONFLICT (app, node, settled) DO UPDATE SET waiting = lane_count.waiting + EXCLUDED.waiting",
            [self.node, settled, sorted(counts), [counts[app] for app in sorted(counts)]],
        )

    # Sending.

    def lease(self, connection: psycopg.Connection, app: int, count: int) -> Chunk | None:
        """Lease a chunk."""
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            rows = self._claim(cursor, app, count, milliseconds()).fetchall()
        if not rows or not rows[0][1]:
            return None
        [(lease, found, numbers, _, _, _, attempts)] = rows
        return Chunk(app, lease, struct.unpack(f">{found}q", numbers), struct.unpack(f">{found}h", attempts))

    def _claim(self, cursor: psycopg.Cursor, app: int, count: int, now: int) -> psycopg.Cursor:
        raise NotImplementedError

    def settle(self, connection: psycopg.Connection, chunk: Chunk) -> int:
        """Settle a chunk; returns how many notifications are final."""
        now = milliseconds()
        retried = [
            n for n, attempts in zip(chunk.numbers, chunk.attempts, strict=True) if n % 100 == 7 and not attempts
        ]
        rest = list(set(chunk.numbers).difference(retried))
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            final, dead = self._conclude(cursor, chunk, rest, now)
            self._retry(cursor, retried, now + 10)
            self._count(cursor, {chunk.app: -final}, settled=True)
            if dead:
                self._note(cursor, dead, now)
        return final

    def _conclude(
        self, cursor: psycopg.Cursor, chunk: Chunk, numbers: list[int], now: int
    ) -> tuple[int, list[tuple[int, bytes]]]:
        raise NotImplementedError

    def _retry(self, cursor: psycopg.Cursor, numbers: list[int], due: int) -> None:
        raise NotImplementedError

    def _note(self, cursor: psycopg.Cursor, dead: list[tuple[int, bytes]], now: int) -> None:
        """Note dead tokens, as the last step of the transaction."""
        [(last,)] = cursor.execute("UPDATE feedback_head SET cursor = cursor + %s RETURNING cursor", [len(dead)])
        cursor.execute(
            "INSERT INTO feedback_token SELECT cursor, app, token, %s "
            "FROM unnest(%s::bigint[], %s::int[], %s::bytea[]) AS t (cursor, app, token)",
            [now, list(range(last - len(dead) + 1, last + 1)), [app for app, _ in dead], [token for _, token in dead]],
        )


class Rows(Layout):
    """One table; a row is leased and settled in place."""

    delivery = "delivery"
    tables = """
CREATE TABLE delivery (
    number bigint PRIMARY KEY, message bigint NOT NULL, due bigint NOT NULL, leased_until bigint NOT NULL DEFAULT 0,
    settled_at bigint NOT NULL DEFAULT 0, app int NOT NULL, node int NOT NULL DEFAULT 0,
    state smallint NOT NULL DEFAULT 0, attempts smallint NOT NULL DEFAULT 0, status smallint NOT NULL DEFAULT 0,
    token bytea NOT NULL, apns_id bytea NOT NULL, reason text NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE INDEX ON delivery (app, due, number) WHERE state = 0;
CREATE INDEX ON delivery (apns_id);
CREATE INDEX ON delivery (state, number) WHERE state > 1;
"""
    _where = "WHERE state = 0 AND app = %s AND due <= %s AND leased_until <= %s"

    def _claim(self, cursor: psycopg.Cursor, app: int, count: int, now: int) -> psycopg.Cursor:
        return cursor.execute(
            f"WITH c AS MATERIALIZED (SELECT number FROM {self.delivery} {self._where} "
            "ORDER BY app, due, number LIMIT %s FOR UPDATE SKIP LOCKED), "
            f"l AS (UPDATE {self.delivery} SET leased_until = %s, node = %s "
            "WHERE number = ANY(ARRAY(SELECT number FROM c)) "
            "RETURNING number, message, token, apns_id, attempts) "
            f"SELECT 0, {_PACKED} FROM l",
            [app, now, now, count, now + 15_000, self.node],
        )

    def _conclude(
        self, cursor: psycopg.Cursor, chunk: Chunk, numbers: list[int], now: int
    ) -> tuple[int, list[tuple[int, bytes]]]:
        dead, accepted = [n for n in numbers if n % 100 == 13], [n for n in numbers if n % 100 != 13]
        cursor.execute(
            "UPDATE delivery SET state = %s, status = 200, settled_at = %s, attempts = attempts + 1 "
            "WHERE state + 0 = 0 AND number = ANY(%s)",
            [ACCEPTED, now, accepted],
        )
        count = cursor.rowcount
        cursor.execute(
            "UPDATE delivery SET state = %s, status = 410, settled_at = %s, attempts = attempts + 1, "
            "reason = 'Unregistered' WHERE state + 0 = 0 AND number = ANY(%s) RETURNING app, token",
            [DEAD, now, dead],
        )
        found = cursor.fetchall()
        return count + len(found), found

    def _retry(self, cursor: psycopg.Cursor, numbers: list[int], due: int) -> None:
        cursor.execute(
            f"UPDATE {self.delivery} SET due = %s, attempts = attempts + 1, leased_until = 0 WHERE number = ANY(%s)",
            [due, numbers],
        )


class Moving(Layout):
    """What is settled moves."""

    _clean = ""

    def _conclude(
        self, cursor: psycopg.Cursor, chunk: Chunk, numbers: list[int], now: int
    ) -> tuple[int, list[tuple[int, bytes]]]:
        cursor.execute(
            "WITH gone AS (DELETE FROM queue WHERE number = ANY(%s) RETURNING *), "
            "noted AS (INSERT INTO outcome SELECT number, message, %s, app, "
            "CASE WHEN number = ANY(%s) THEN 3 ELSE 1 END, attempts + 1, "
            "CASE WHEN number = ANY(%s) THEN 410 ELSE 200 END, "
            "token, apns_id, CASE WHEN number = ANY(%s) THEN 'Unregistered' ELSE '' END FROM gone) "
            "SELECT count(*), array_agg(app) FILTER (WHERE number = ANY(%s)), "
            "array_agg(token) FILTER (WHERE number = ANY(%s)) FROM gone",
            [numbers, now, *[[n for n in numbers if n % 100 == 13]] * 5],
        )
        [(count, apps, tokens)] = cursor.fetchall()
        return count, list(zip(apps or (), tokens or (), strict=True))


class Move(Moving, Rows):
    """Rows are leased in place; what is settled moves."""

    delivery = "queue"
    _where = "WHERE app = %s AND due <= %s AND leased_until <= %s"
    tables = f"""
CREATE TABLE queue (
    number bigint PRIMARY KEY, message bigint NOT NULL, due bigint NOT NULL, leased_until bigint NOT NULL DEFAULT 0,
    app int NOT NULL, node int NOT NULL DEFAULT 0, attempts smallint NOT NULL DEFAULT 0,
    token bytea NOT NULL, apns_id bytea NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX ON queue (app, due, number);
CREATE INDEX ON queue (apns_id);
{_OUTCOME}
"""


class ChunkLayout(Moving):
    """A chunk is leased by one row; what is settled moves."""

    tables = f"""
CREATE TABLE queue (
    number bigint PRIMARY KEY, message bigint NOT NULL, due bigint NOT NULL,
    app int NOT NULL, attempts smallint NOT NULL DEFAULT 0, token bytea NOT NULL, apns_id bytea NOT NULL
);
CREATE INDEX ON queue (app, due, number);
CREATE INDEX ON queue (apns_id);
CREATE TABLE lease (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, until bigint NOT NULL, app int NOT NULL, node int NOT NULL,
    numbers bigint[] NOT NULL
);
CREATE INDEX ON lease (app);
{_OUTCOME}
"""
    claim = """
WITH c AS MATERIALIZED (
    SELECT number, message, token, apns_id, attempts FROM queue WHERE app = %s AND due <= %s
    AND number NOT IN (SELECT unnest(numbers) FROM lease WHERE app = %s AND until > %s)
    ORDER BY app, due, number LIMIT %s
), l AS (
    INSERT INTO lease (app, node, until, numbers) SELECT %s, %s, %s, array_agg(number) FROM c HAVING count(*) > 0
    RETURNING id
)
"""
    result = f"SELECT l.id, {_PACKED} FROM c, l GROUP BY l.id"

    def _claim(self, cursor: psycopg.Cursor, app: int, count: int, now: int) -> psycopg.Cursor:
        cursor.execute("SELECT rest_until FROM lane WHERE id = %s FOR UPDATE", [app])
        return cursor.execute(self.claim + self.result, [app, now, app, now, count, app, self.node, now + 15_000])

    def _retry(self, cursor: psycopg.Cursor, numbers: list[int], due: int) -> None:
        cursor.execute("UPDATE queue SET due = %s, attempts = attempts + 1 WHERE number = ANY(%s)", [due, numbers])

    def _conclude(
        self, cursor: psycopg.Cursor, chunk: Chunk, numbers: list[int], now: int
    ) -> tuple[int, list[tuple[int, bytes]]]:
        found = super()._conclude(cursor, chunk, numbers, now)
        cursor.execute("DELETE FROM lease WHERE id = %s", [chunk.lease])
        return found


class Unpacked(ChunkLayout):
    """The same, but a leased notification is a row."""

    result = "SELECT l.id, c.* FROM c, l"

    def lease(self, connection: psycopg.Connection, app: int, count: int) -> Chunk | None:
        """Lease a chunk."""
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            rows = self._claim(cursor, app, count, milliseconds()).fetchall()
        return Chunk(app, rows[0][0], [row[1] for row in rows], [row[5] for row in rows]) if rows else None


class Copied(ChunkLayout):
    """The same, but deliveries are stored by COPY."""

    def _add(
        self, cursor: psycopg.Cursor, numbers: list[int], apps: list[int], tokens: bytes, ids: bytes, now: int
    ) -> None:
        pack, when = struct.Struct(">hiqiqiqii").pack, now.to_bytes(6, "big")
        pieces = [b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"]
        at = 0
        for number, app in zip(numbers, apps, strict=True):
            for each in range(number, number + TOKENS):
                pieces += (
                    pack(6, 8, each, 8, number, 8, now, 4, app),
                    b"\0\0\0\x20",
                    tokens[at * 32 : at * 32 + 32],
                    b"\0\0\0\x10",
                    when,
                    ids[at * 10 : at * 10 + 10],
                )
                at += 1
        pieces.append(b"\xff\xff")
        with cursor.copy("COPY queue (number, message, due, app, token, apns_id) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(b"".join(pieces))


LAYOUTS: dict[str, type[Layout]] = {
    "rows": Rows,
    "move": Move,
    "chunk": ChunkLayout,
    "unpacked": Unpacked,
    "copied": Copied,
}


@attrs.frozen
class Node:
    """One node's part of a run."""

    url: str
    layout: type[Layout]
    schema: str
    number: int
    count: int
    waits: bool

    def connect(self) -> psycopg.Connection:
        """Connect to the layout's tables."""
        connection = psycopg.connect(self.url, autocommit=True, prepare_threshold=0)
        connection.execute(f"SET search_path = {self.schema}")
        for setting in SESSION:
            connection.execute(f"SET {setting}")
        return connection

    def run(self, started: Any, settled: Any, total: int, spent: Any) -> None:
        """Accept this node's part, and lease and settle until all parts are settled."""
        layout = self.layout(self.number)
        accepted = 0

        def accept() -> None:
            nonlocal accepted
            with self.connect() as connection:
                while accepted < self.count:
                    if accepted * total // self.count - settled.value > AHEAD:
                        time.sleep(0.001)
                        continue
                    layout.accept(connection)
                    accepted += REQUESTS * TOKENS

        started.wait()
        before = time.process_time()
        accepting = threading.Thread(target=accept)
        accepting.start()
        with self.connect() as claiming, self.connect() as connection:
            claiming.execute(f"SET synchronous_commit = {'on' if self.waits else 'off'}")
            apps = itertools.cycle(range(1, APPS + 1))
            while settled.value < total:
                chunk = layout.lease(claiming, next(apps), CHUNK)
                if chunk is None:
                    time.sleep(0.0005)
                    continue
                final = layout.settle(connection, chunk)
                with settled.get_lock():
                    settled.value += final
        accepting.join()
        with spent.get_lock():
            spent.value += time.process_time() - before


@attrs.frozen
class Figures:
    """Cycles a second; CPU µs of the server and the nodes each; octets of the log, and of the tables, each."""

    rate: float
    server: float
    nodes: float
    written: float
    growth: float


def size_of(server: DatabaseServer, schema: str) -> int:
    """Return how many octets the tables of a schema take, with their indexes."""
    with psycopg.connect(server.url) as connection:
        [(size,)] = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = %s::regnamespace",
            [schema],
        )
        return int(size)


def vacuum(server: DatabaseServer, schema: str) -> None:
    """Vacuum the tables of a schema. The server would do so at some time, perhaps while another layout is measured."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for (table,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
        ).fetchall():
            connection.execute(f"VACUUM ANALYZE {schema}.{table}")


def measure(server: DatabaseServer, name: str, schema: str, nodes: int, count: int, *, waits: bool = False) -> Figures:
    """Run cycles on some nodes."""
    context = multiprocessing.get_context("fork")
    settled, spent, started = context.Value("q", 0), context.Value("d", 0.0), context.Barrier(nodes + 1)
    parts = [Node(server.url, LAYOUTS[name], schema, number, count // nodes, waits) for number in range(nodes)]
    total = sum(part.count for part in parts)
    processes = [context.Process(target=part.run, args=(started, settled, total, spent)) for part in parts]
    for process in processes:
        process.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    size, written, cpu = size_of(server, schema), server.written(), server.cpu_time()
    started.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a node ended with {process.exitcode}")
    took = time.perf_counter() - began
    vacuum(server, schema)
    cpu = server.cpu_time() - cpu
    return Figures(
        total / took,
        cpu / total * 1e6,
        spent.value / total * 1e6,
        (server.written() - written) / total,
        (size_of(server, schema) - size) / total,
    )


def prepare(server: DatabaseServer, name: str, schema: str, waiting: int) -> None:
    """Make the tables of a layout, with notifications that wait."""
    layout = LAYOUTS[name]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}")
        connection.execute(_COMMON + layout.tables)
        if not waiting:
            return
        connection.execute(
            f"INSERT INTO message SELECT -n, 0, %s, %s FROM generate_series(1, {waiting // TOKENS}) AS n",
            [HEADERS, PAYLOAD],
        )
        connection.execute(
            f"INSERT INTO {layout.delivery} (number, message, app, due, token, apns_id) "
            f"SELECT -n, -1 - n / {TOKENS}, 1 + n / {TOKENS} %% {APPS}, 1000 + n / {TOKENS}, "
            "sha256(int4send(n)), int8send(n) || substr(sha256(int4send(n)), 1, 8) FROM generate_series(1, %s) AS n",
            [waiting],
        )
        connection.execute("VACUUM ANALYZE")


def rounds(given: argparse.Namespace, server: DatabaseServer) -> Iterator[tuple[int, int, str, Figures]]:
    """Run everything in turn."""
    for waiting in given.waiting:
        for name in given.layout:
            prepare(server, name, f"{name}{waiting}", waiting)
        for _ in range(given.rounds):
            for nodes in given.nodes:
                for name in random.sample(given.layout, len(given.layout)):
                    yield (
                        waiting,
                        nodes,
                        name,
                        measure(server, name, f"{name}{waiting}", nodes, given.count, waits=given.sync),
                    )


def show(waiting: int, nodes: int, name: str, found: Sequence[Figures]) -> None:
    """Print the medians."""
    middle = {
        field.name: statistics.median(getattr(each, field.name) for each in found) for field in attrs.fields(Figures)
    }
    print(
        f"{waiting:9,} {nodes:5} {name:10} {middle['rate']:10,.0f} {middle['server']:8.1f} {middle['nodes']:8.1f} "
        f"{middle['written']:8,.0f} {middle['growth']:8,.0f}",
        flush=True,
    )


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0].strip())
    parser.add_argument("--layout", nargs="*", choices=LAYOUTS, default=["rows", "move", "chunk"])
    parser.add_argument("--nodes", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--waiting", nargs="*", type=int, default=[0, 2_000_000], help="how many wait all the time")
    parser.add_argument("--count", type=int, default=200_000, help="cycles of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sync", action="store_true", help="let the transaction of a lease wait for the disk, too")
    parser.add_argument("--directory", type=Path, help="where to make the database, on a disk")
    parser.add_argument("--binaries", type=Path, help="the directory of the server's programs")
    given = parser.parse_args()
    results: dict[tuple[int, int, str], list[Figures]] = {}
    with database_server(given.directory, given.binaries, autovacuum="off") as server:
        for waiting, nodes, name, found in rounds(given, server):
            results.setdefault((waiting, nodes, name), []).append(found)
            show(waiting, nodes, name, [found])
    print("\nMedians\n  waiting nodes layout       cycles/s server µs nodes µs WAL octets table octets")
    for key in sorted(results):
        show(*key, results[key])


if __name__ == "__main__":
    main()
