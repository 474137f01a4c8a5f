"""
What each statement of a store costs where a million notifications wait.

    python benchmarks/statements.py [--size 1000000] [--apps 5000] [--postgresql] [--least 1]

The tests of the store's contracts run first, and their statements are noted with their parameters. Then each is
executed, and undone, in a database with so many rows of each kind, and so many apps, which takes some minutes to make;
see ``tests/daemon/store/crowd.py``. Those that take at least so many milliseconds are printed with their plans, the
longest first: CPU time with SQLite, and with PostgreSQL the time that the server tells, and the pages that it touches.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from sqlite3 import IntegrityError
from typing import NamedTuple

from tests.daemon.store.statements import run


class Cost(NamedTuple):
    """What a statement took, in milliseconds, the longest of a few; and what else is to be said of it."""

    milliseconds: float
    statement: str
    said: Sequence[str]


def of_sqlite(size: int, apps: int) -> Iterator[Cost]:
    """Try those of SQLite."""
    from tests.daemon.store.sqlite import crowded, test_crowded

    print(*run(*test_crowded.CONTRACTS))
    costs = crowded.crowded(size, apps)
    for statement, parameters in crowded.STATEMENTS.all():
        with suppress(IntegrityError):
            costs.steps(statement, parameters)  # so that what it reads is in memory
            started = time.thread_time()
            steps = costs.steps(statement, parameters)
            took = (time.thread_time() - started) * 1e3
            yield Cost(took, statement, [f"{steps} steps", *costs.plan(statement, parameters)])


def of_postgresql(size: int, apps: int) -> Iterator[Cost]:
    """Try those of PostgreSQL."""
    from tests.daemon.store.postgresql import crowded, test_crowded

    print(*run(*test_crowded.CONTRACTS))
    for (statement, reads), parameters in crowded.STATEMENTS.all():
        found = crowded.crowded(True, size, apps).explained(statement, reads, parameters)
        if found is not None:
            nodes = [f"{node['Node Type']} {node.get('Index Name', '')}" for node in found.nodes]
            yield Cost(found.milliseconds, statement, [f"{found.pages} pages", *nodes])


def main() -> None:
    """Try them, and print those that take long."""
    parser = argparse.ArgumentParser(description="Find the statements of a store that take long where much is kept.")
    parser.add_argument("--size", type=int, default=1_000_000, help="how many rows of each kind")
    parser.add_argument("--apps", type=int, default=5_000)
    parser.add_argument("--least", type=float, default=1.0, help="print those that take so many milliseconds")
    parser.add_argument("--postgresql", action="store_true", help="those of PostgreSQL instead of SQLite")
    given = parser.parse_args()
    found: dict[str, Cost] = {}
    os.chdir(tempfile.mkdtemp())  # where tests make files
    for cost in (of_postgresql if given.postgresql else of_sqlite)(given.size, given.apps):
        found[cost.statement] = max(cost, found.get(cost.statement, cost))
    for cost in sorted(found.values(), reverse=True):
        if cost.milliseconds >= given.least:
            print(f"{cost.milliseconds:9.2f} ms  {' '.join(cost.statement.split())[:400]}")
            print(*(f"{'':14}{each}" for each in cost.said), sep="\n", flush=True)
    print(f"{len(found)} statements")


if __name__ == "__main__":
    main()
