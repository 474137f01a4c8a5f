"""
The daemon as one of several nodes on PostgreSQL, from end to end: ``python benchmarks/cluster.py [--help]``.

As ``benchmarks/daemon.py``, with the same caller and the same server in C. One, two and four nodes share a PostgreSQL
server of the benchmark's own, with ``fsync`` on; the caller's connections are spread over them. In turn with them, one
daemon stores in SQLite. Everything is on one machine: more nodes share the same cores, and what counts is the CPU time
of a notification.

- batches: requests of 100 tokens, as fast as they are accepted;
- single: requests of one token at concurrency 64.

Each run has new tables. Medians are printed, and the goals.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs
import psycopg
from daemon import LOADS, TXAPNS, Daemon, Figures, add_key, configure, running, serve, show
from database_server import DatabaseServer, database_server
from http2 import ENVIRONMENT, HERE, SCENARIOS, Server, serving

#: The goals: the rate in batches and of single requests, and the CPU time of node and database, as multiples of what
#: SQLite takes; and the CPU time of the database, in µs.
RATE, SINGLE_RATE, CPU, DATABASE = 0.6, 0.5, 1.8, 20.0
SQLITE = "SQLite"

CONFIGURATION = """
[database]
url = "{url}"
schema = "{schema}"

[node]
name = "{node}"
"""


class PostgreSQLOutcomes:
    """
    The outcomes in a schema of a server; see ``Outcomes`` in ``benchmarks/daemon.py``.

    :param server: the server.
    :param schema: the schema.
    """

    def __init__(self, server: DatabaseServer, schema: str) -> None:
        self._server = server
        self._database = psycopg.connect(server.url, autocommit=True, options=f"-c search_path={schema}")
        self._first = 0

    def mark(self) -> None:
        """Count nothing that is in the database now."""
        self._database.execute("CHECKPOINT")  # or one run would write the pages of another
        [(self._first,)] = self._database.execute("SELECT coalesce(max(settled_at), 0) FROM outcome")

    def pending(self) -> bool:
        """Tell whether something is not settled."""
        return bool(self._database.execute("SELECT 1 FROM queue LIMIT 1").fetchone())

    def accepted(self) -> int:
        """Count those that Apple accepted."""
        [(count,)] = self._database.execute(
            "SELECT count(*) FROM outcome WHERE state = 1 AND settled_at > %s", [self._first]
        )
        return int(count)

    def rows(self) -> list[tuple[int, int, int]]:
        """Return when each was settled and when accepted, in ms, and its state, by the time when it was settled."""
        return self._database.execute(
            "SELECT settled_at, accepted_at, state FROM outcome WHERE settled_at > %s ORDER BY settled_at",
            [self._first],
        ).fetchall()

    def spent(self) -> tuple[float, int]:
        """Return the server's CPU seconds so far, and how many octets of the write-ahead log it wrote."""
        return self._server.cpu_time(), self._server.written()

    def close(self) -> None:
        """Drop the schema."""
        [(schema,)] = self._database.execute("SELECT current_schema()")
        self._database.execute(f'DROP SCHEMA "{schema}" CASCADE')
        self._database.close()


@attrs.frozen
class Setup:
    """
    What is measured.

    :ivar nodes: how many nodes share a database; 0 for one daemon with SQLite.
    :ivar more: more of the configuration of each node on PostgreSQL.
    """

    nodes: int
    more: str = ""

    def __str__(self) -> str:
        return f"PostgreSQL, {self.nodes} node{'s' if self.nodes > 1 else ''}" if self.nodes else SQLITE

    @contextmanager
    def running(
        self, server: Server, database: DatabaseServer, directory: Path, program: list[str]
    ) -> Iterator[Daemon]:
        """Run it, with new tables."""
        if not self.nodes:
            with running(server, directory) as daemon:
                yield daemon
            return
        schema = f"run_{random.getrandbits(40):x}"
        with tempfile.TemporaryDirectory(dir=directory) as name, ExitStack() as stack:
            configs = []
            for number in range(self.nodes):
                home = Path(name) / f"node{number}"
                home.mkdir()
                node = CONFIGURATION.format(url=database.url, schema=schema, node=home.name)
                configs.append(configure(home, server, node + self.more))
            key = add_key(configs[0])
            # Closed last, after the nodes: it drops their tables.
            outcomes = stack.enter_context(closing(PostgreSQLOutcomes(database, schema)))
            nodes = [stack.enter_context(serve(config, program)) for config in configs]
            yield Daemon(server, [process for process, _ in nodes], [address for _, address in nodes], key, outcomes)


def middle(found: list[Figures]) -> Figures:
    """Return the medians of several runs."""
    names = ("rate", "requests", "written", "others")
    medians = {name: statistics.median(getattr(each, name) for each in found) for name in names}
    for name in ("stored", "answered"):
        medians[name] = tuple(map(statistics.median, zip(*(getattr(each, name) for each in found), strict=True)))
    cpu = {name: statistics.median(each.cpu[name] for each in found) for name in found[0].cpu}
    lost = sum(each.lost for each in found)
    return attrs.evolve(found[0], **medians, cpu=cpu, memory={}, lost=lost)


def goals(load: str, results: dict[str, Figures]) -> Iterator[tuple[str, float, bool]]:
    """Yield each goal, the figure, and whether it is reached."""
    one, sqlite = results.get(str(Setup(1))), results.get(SQLITE)
    if one is None or sqlite is None:
        return
    least, rate = RATE if load == "batches" else SINGLE_RATE, one.rate / sqlite.rate
    yield f"{load}: one node's rate, of SQLite's: at least {least}", rate, rate >= least
    if load == "batches":
        cpu = (one.cpu["daemon"] + one.cpu["database"]) / sqlite.cpu["daemon"]
        yield f"CPU of node and database, of SQLite's: at most {CPU}", cpu, cpu <= CPU
        yield f"CPU of the database, µs: at most {DATABASE:.0f}", one.cpu["database"], one.cpu["database"] <= DATABASE


def table(load: str, results: dict[str, Figures]) -> Iterator[str]:
    """Yield the lines of the table in ``docs/daemon-performance.rst``."""
    for name, found in results.items():
        cpu = found.cpu
        yield f"   * - {name}" + (", single" if load == "single" else "")
        yield f"     - {found.rate:,.0f}/s"
        yield f"     - {cpu['daemon']:.0f} ({cpu['reactor']:.0f}) µs"
        yield f"     - {cpu['database']:.0f} µs" if cpu["database"] else "     - in the daemon"
        yield f"     - {cpu['caller']:.0f} µs"
        yield f"     - {found.written:,.0f}" if found.written else "     -"


def statements(database: DatabaseServer, count: int) -> None:
    """Print the dearest statements: µs, calls and octets of the write-ahead log for each notification; forget them."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        rows = connection.execute(
            "SELECT total_exec_time * 1000 / %(count)s, calls / %(count)s::float, wal_bytes / %(count)s, query "
            "FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 12",
            {"count": count},
        ).fetchall()
        for took, calls, written, query in rows:
            print(f"  {took:7.2f} µs {calls:8.5f} calls {written:5.0f} octets  {' '.join(query.split())[:100]}")
        connection.execute("SELECT pg_stat_statements_reset()")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0].strip())
    parser.add_argument("--load", nargs="*", choices=LOADS, default=["batches", "single"])
    parser.add_argument("--nodes", nargs="*", type=int, default=[0, 1, 2, 4], help="0 stands for SQLite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=200_000, help="how many notifications in batches; fewer in others")
    parser.add_argument("--directory", type=Path, default=ENVIRONMENT, help="where to make the databases, on a disk")
    parser.add_argument("--binaries", type=Path, help="the directory of the PostgreSQL server's programs")
    parser.add_argument("--statements", action="store_true", help="print on what the database spent its time")
    parser.add_argument("--profile", type=Path, help="profile the first node's Python, and write it to this file")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def measure(given: argparse.Namespace, setups: list[Setup]) -> dict[str, dict[str, list[Figures]]]:
    """Run everything in turn; returns the results by load and setup."""
    program, settings = TXAPNS, {}
    if given.profile:
        program = [sys.executable, str(HERE / "peers/profiled.py"), str(given.profile)]
    if given.statements:
        settings["shared_preload_libraries"] = "pg_stat_statements"
    results: dict[str, dict[str, list[Figures]]] = {load: {str(each): [] for each in setups} for load in given.load}
    with (
        serving(SCENARIOS["plain"]) as server,
        database_server(given.directory, given.binaries, **settings) as database,
    ):
        for number, load in itertools.product(range(given.rounds), given.load):
            count = int(given.count * LOADS[load].share)
            for setup in random.sample(setups, len(setups)):
                with setup.running(server, database, given.directory, program) as daemon:
                    found = daemon.measure(LOADS[load], count)
                results[load][str(setup)].append(found)
                show(f"round {number + 1}, {setup}, {LOADS[load].says}", found)
                if given.statements:
                    statements(database, count)
    return results


def main() -> None:
    """Measure, and print the results."""
    given = arguments()
    results = measure(given, [Setup(nodes) for nodes in given.nodes])
    medians = {load: {name: middle(runs) for name, runs in each.items()} for load, each in results.items()}
    print("\nMedians")
    for load, each in medians.items():
        print(*table(load, each), sep="\n")
    for load, each in medians.items():
        for goal, figure, reached in goals(load, each):
            print(f"{goal}: {figure:.2f}{'' if reached else ', NOT REACHED'}")
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        given.json.write_text(json.dumps({"machine": machine, "results": results}, default=attrs.asdict, indent=1))


if __name__ == "__main__":
    main()
