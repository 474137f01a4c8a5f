"""
How much each statement of the store does where much is kept.

SQLite executes a statement in steps. Where there is an index for it, their number does not depend on how many rows a
table has. Its plan does not tell: it says SEARCH, too, of what reads a whole table from some row on. See
:mod:`tests.daemon.store.statements`.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.daemon.store.crowd import Crowd
from tests.daemon.store.statements import Statements
from txapns.daemon.store.sqlite.copying import copying
from txapns.daemon.store.sqlite.tables import array

__all__ = ["ALLOWED", "STATEMENTS", "STEPS", "Costs", "RecordingConnection", "attempt", "check", "crowded"]

#: The statements of all stores of this process.
STATEMENTS = Statements()
#: How many rows of each kind there are, and the most steps that a statement may take.
SIZE, STEPS = 12_000, 32_000

_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
_PAGE = re.compile(r"LIMIT \?\d*[\s)]*\Z")  # a page, whose size is the last parameter
_EVERY = 10  # steps at a time are counted
_ROWS = 500  # in a page, at most
_ITEMS = 100  # in an array, or in a range of numbers, at most

#: Statements that may take longer, by a part of their text, and why.
ALLOWED: Mapping[str, str] = {
    "UPDATE queue_delivery SET flow = ": "a step of the schema, which is done once",
    "SELECT id, 1, 'anybody' FROM queue_app": "likewise",
    ") AS dead JOIN queue_app": "dead letters are counted up to 25,000",
    "UPDATE queue_delivery SET due = CASE attempts": "a thousand at a time, once at the start",
    "FROM sqlite_schema": "a row for each table and index",
    "SELECT flow, count(*) FROM queue_delivery WHERE state = 0": "once at the start: 80 ms for a million that wait",
    "ORDER BY number DESC LIMIT 100000)": "among the latest, since an index of all tokens costs more than all the rest",
    "UPDATE queue_delivery SET due = not_before": "up to the end of a part, which another statement has found",
}


class RecordingConnection(sqlite3.Connection):
    """A connection that notes the statements of the program."""

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Note and execute one."""
        if _STATEMENT.match(statement):
            STATEMENTS.note(statement, parameters)
        return super().execute(statement, parameters)

    def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        """Note one with the first of its parameters, and execute it."""
        rows = list(parameters)
        if rows and _STATEMENT.match(statement):
            STATEMENTS.note(statement, rows[0])
        return super().executemany(statement, rows)


class Costs:
    """
    What statements cost in a database.

    :param connection: to the database, which stays as it is.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._steps = 0

    def steps(self, statement: str, parameters: Any) -> int:
        """Count the steps of a statement, and undo what it did. To count the rows of a table is no step for each."""
        connection = self._connection
        operations = [row[1] for row in connection.execute(f"EXPLAIN {statement}", parameters)]
        self._steps = operations.count("Count") * (STEPS + 1)
        connection.execute("BEGIN")
        connection.set_progress_handler(self._step, _EVERY)
        try:
            connection.execute(statement, parameters).fetchall()
        finally:
            connection.set_progress_handler(None, 0)
            connection.execute("ROLLBACK")
        return self._steps

    def plan(self, statement: str, parameters: Any) -> list[str]:
        """Explain a statement."""
        return [row[3] for row in self._connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]

    def _step(self) -> int:
        self._steps += _EVERY
        return 0


@cache
def crowded(size: int = SIZE, apps: int = 200) -> Costs:
    """Make a database in which much is kept, once in a process."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    memory.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    with tempfile.TemporaryDirectory(prefix="tests-crowd-") as directory:
        path = Path(directory) / "crowd"
        with copying(path) as target:
            Crowd(size, apps).fill(target)
        with closing(sqlite3.connect(path)) as connection:
            connection.backup(memory)
    return Costs(memory)


def check() -> None:
    """
    Try the statements that are new.

    :raises AssertionError: one of them takes longer the more is kept.
    """
    for statement, parameters in STATEMENTS.new():
        attempt(crowded(), statement, parameters, STEPS)


def attempt(costs: Costs, statement: str, parameters: Any, most: int) -> None:
    """
    Try a statement.

    :param most: how many steps it may take.
    """
    if any(part in statement for part in ALLOWED):
        return
    if _PAGE.search(statement) and parameters[-1] > _ROWS:  # a page of many rows takes steps for each
        parameters = [*parameters[:-1], _ROWS]
    parameters = [_shortened(each) for each in parameters]
    with suppress(sqlite3.IntegrityError):  # what it adds is there
        steps = costs.steps(statement, parameters)
        if steps > most:
            plan = "\n".join(costs.plan(statement, parameters))
            raise AssertionError(f"{steps} steps, since much is kept: {statement}\n{parameters}\n{plan}")


def _shortened(parameter: object) -> object:
    """Leave so many items of an array, and numbers of each range in it, since each of them takes steps."""
    if isinstance(parameter, str) and parameter.startswith("["):
        with suppress(msgspec.DecodeError):  # it may be other text
            return array([_narrowed(each) for each in msgspec.json.decode(parameter)[:_ITEMS]])
    return parameter


def _narrowed(item: object) -> object:
    match item:
        case [int(first), int(end)]:
            return [first, min(end, first + _ITEMS)]
    return item
