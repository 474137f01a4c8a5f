"""
How much each statement of the store touches where much is kept.

The server makes a plan once for each connection, and it must serve from the first row to the millionth, whatever the
statistics say. So each statement is executed with the rows in place, before and after they were counted; see
:mod:`tests.daemon.store.statements`.

Where nothing waited when the server last counted, all indexes seem to cost the same, however much waits by now. So each
statement is explained there as well, and must look only into indexes whose first column it asks for.
"""

from __future__ import annotations

import atexit
import re
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import psycopg

from tests.daemon.store.contract import LONGEST, START
from tests.daemon.store.crowd import Crowd
from tests.daemon.store.postgresql.explaining import Explained, explain
from tests.daemon.store.statements import Statements
from tests.postgresql import schema
from txapns.daemon.store.postgresql.access import SCHEMAS
from txapns.daemon.store.postgresql.arrays import Array
from txapns.daemon.store.postgresql.connection import Mode, connect
from txapns.daemon.store.postgresql.copying import copying
from txapns.daemon.store.postgresql.partitions import create_ahead
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["ALLOWED", "STATEMENTS", "Costs", "RecordingSettings", "attempt", "attempt_emptied", "check", "crowded"]

#: The statements of all stores of this process: each with whether its connection only reads.
STATEMENTS = Statements()
#: How many rows of each kind there are; the most pages that a statement may touch, and the most rows that may come to a
#: node of its plan.
SIZE, PAGES, ROWS = 10_000, 3_000, 2_500
#: Tables with one row, or one for each node, app, key, flow, reader, or chunk that is in flight: few.
SMALL = {
    "api_key",
    "api_key_changes",
    "app",
    "app_changes",
    "app_pause",
    "app_sandbox",
    "cluster_clock",
    "duty",
    "feedback_head",
    "feedback_reader",
    "flow",
    "lease",
    "node",
    "outcome_head",
    "outcome_reader",
    "outcome_tail",
    "queue_app",
    "queue_count",
    "schema_version",
}
#: Tables that are empty from time to time, and full a moment later.
EMPTIED = ("queue", "message", "idempotency")

#: Statements that may touch more, by a part of their text, and why.
ALLOWED: Mapping[str, str] = {
    ") AS dead JOIN queue_app": "dead letters are counted up to 25,000",
    "DELETE FROM message WHERE number > ": "a thousand at a time, and of each whether anything is left",
    ") AS put_off LIMIT": "ten thousand at a time, of what was put off by a clock that was ahead",
    "ORDER BY number DESC LIMIT 100000)": "among the latest, since an index of all tokens costs more than all the rest",
}

_TRIED: set[str] = set()
_ITEMS = 100  # in an array, at most
_SCANS = {"Seq Scan", "Index Scan", "Index Only Scan"}
_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


class RecordingSettings(Settings):
    """Settings whose connections note the statements of the program."""

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        """Connect, in a thread."""
        return super().connect(cursor_factory=_RecordingCursor, **more)


class _RecordingCursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else query
        if isinstance(text, str) and _STATEMENT.match(text):
            STATEMENTS.note((text, self.connection.autocommit), params)
        return super().execute(query, params, **options)


class Costs(NamedTuple):
    """Connections to a database in which much is kept, which stays as it is: one that writes, and one that reads."""

    writing: Connection
    reading: Connection

    def explained(self, statement: str, reads: bool, parameters: Any) -> Explained | None:
        """Explain a statement; ``None`` if it cannot be executed there, as where what it adds is there already."""
        connection = self.reading if reads else self.writing
        try:
            return explain(connection, statement, parameters)
        except psycopg.Error as error:
            assert isinstance(error, psycopg.errors.IntegrityError), (statement, parameters, error)
            return None
        finally:
            connection.rollback()


@cache
def crowded(counted: bool, size: int = SIZE, apps: int = 200) -> Costs:
    """
    Make a database in which much is kept, once in a process.

    :param counted: whether the server has counted the rows.
    """
    costs = _made(size, apps)
    _alone(costs, "VACUUM outcome_other")  # of what was moved to a partition
    if counted:
        _alone(costs, "ANALYZE")
    return costs


@cache
def emptied() -> tuple[Costs, Mapping[str, str]]:
    """Make a database that was counted when it was empty, once in a process; returns the first column of each index."""
    costs = _made(0, 0)
    _alone(costs, "VACUUM ANALYZE")
    firsts = costs.writing.execute(
        "SELECT relname, pg_get_indexdef(oid, 1, true) FROM pg_class"
        " WHERE relkind = 'i' AND relnamespace = current_schema()::regnamespace"
    ).fetchall()
    costs.writing.rollback()
    return costs, dict(firsts)


def _made(size: int, apps: int) -> Costs:
    place = schema()
    atexit.register(place.drop)
    settings = Settings(place.url, schema=place.name)
    with copying(settings, SCHEMAS, LONGEST) as target:
        if size:
            Crowd(size, apps).fill(target)
    writing, _ = connect(settings, Mode("crowd"), 0)
    create_ahead(writing, int(START * 1000))
    writing.commit()
    reading, _ = connect(settings, Mode("crowd"), 0)
    reading.execute("SET plan_cache_mode = force_custom_plan")
    reading.commit()
    for connection in (writing, reading):
        connection.prepare_threshold = None
        atexit.register(connection.close)
    return Costs(writing, reading)


def _alone(costs: Costs, statement: str) -> None:
    """Execute a statement that no transaction may have around it."""
    costs.writing.autocommit = True
    costs.writing.execute(statement.encode())
    costs.writing.autocommit = False


def check() -> None:
    """
    Try the statements that are new.

    :raises AssertionError: one of them touches more the more is kept.
    """
    for (statement, reads), parameters in STATEMENTS.new():
        for counted in (False, True):
            attempt(crowded(counted), statement, reads, parameters)
        if statement not in _TRIED:  # its plan there is the same whatever the parameters
            _TRIED.add(statement)
            attempt_emptied(statement, reads, parameters)


def attempt(costs: Costs, statement: str, reads: bool, parameters: Any) -> None:
    """Try a statement."""
    if any(part in statement for part in ALLOWED):
        return
    parameters = _shortened(parameters)
    found = costs.explained(statement, reads, parameters)
    if found is not None and any(problems(found)):  # what others added and undid is passed over the next time
        found = costs.explained(statement, reads, parameters)
    if found is not None and (problem := "; ".join(problems(found))):
        raise AssertionError(f"{problem}, since much is kept: {parameters}\n{found}")


def attempt_emptied(statement: str, reads: bool, parameters: Any) -> None:
    """Try a statement where nothing waited when the server counted."""
    if any(part in statement for part in ALLOWED):
        return
    costs, firsts = emptied()
    found = costs.explained(statement, reads, parameters)
    _alone(costs, f"VACUUM {', '.join(EMPTIED)}")  # of what it added, or the server would take them for full
    for node in () if found is None else found.nodes:
        if node.get("Relation Name") in EMPTIED and node["Node Type"] in _SCANS:
            index = node.get("Index Name", "")
            if firsts.get(index, "no index") not in node.get("Index Cond", ""):
                raise AssertionError(f"it would read all of {index or 'a table'} if more waited\n{found}")


def _shortened(parameter: Any) -> Any:
    """Leave so many items of each array, since each of them takes pages."""
    match parameter:
        case dict():
            return {name: _shortened(each) for name, each in parameter.items()}
        case list() | tuple():
            return [_shortened(each) for each in parameter[:_ITEMS]]
        case Array(data=data):
            _, _, element, count, _ = struct.unpack_from(">iiIii", data)
            begin = end = 20
            for _ in range(min(count, _ITEMS)):
                [length] = struct.unpack_from(">i", data, end)
                end += 4 + length
            return Array(element, min(count, _ITEMS), data[begin:end])
    return parameter


def problems(found: Explained) -> Iterator[str]:
    """Tell what is wrong with a plan."""
    if found.scanned - SMALL:
        yield f"it reads all of {', '.join(sorted(found.scanned - SMALL))}"
    if found.pages > PAGES:
        yield f"it touches {found.pages} pages"
    if found.rows > ROWS:
        yield f"{found.rows} rows come to a node"
