"""Tables that count their changes by triggers, so that a reader sees with one row whether there is anything new."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from twisted.internet.defer import Deferred

from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.schema import Schema

__all__ = ["CountedStore", "CountedTable", "counted", "counting"]

_R = TypeVar("_R")
_T = TypeVar("_T", bound="CountedTable")


def counted(name: str, table: str, create: str, *steps: str) -> Schema:
    """
    Make the schema of a table that counts its changes.

    :param steps: the scripts that migrate it; see :class:`Schema`.
    """
    statements = [
        create,
        f"CREATE TABLE {table}_changes (number INTEGER NOT NULL)",
        f"INSERT INTO {table}_changes VALUES (0)",  # noqa: S608 - a name of our own
        counting(table, table),
    ]
    return Schema(name, (";\n".join(statements), *steps))


def counting(table: str, counter: str) -> str:
    """
    Write the statements that make changes of a table count.

    :param counter: the table that counts its changes, and from now on those of the other one, too.
    """
    return ";\n".join(
        f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} "  # noqa: S608 - a name of our own
        f"BEGIN UPDATE {counter}_changes SET number = number + 1; END"
        for event in ("insert", "update", "delete")
    )


class CountedTable:
    """
    A table that counts its changes.

    :param connection: to the database, in a transaction where something is written.

    :cvar schema: how to create it.
    :cvar table: its name.
    """

    schema: ClassVar[Schema]
    table: ClassVar[str]

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def changes(self) -> int:
        """Return how often it has changed."""
        (number,) = self._connection.execute(f"SELECT number FROM {self.table}_changes").fetchone()  # noqa: S608 - ours
        return int(number)


class CountedStore(Generic[_T]):
    """Such a table in the daemon's database."""

    def __init__(self, database: Database, kind: type[_T]) -> None:
        self._database = database
        self._kind = kind

    def start(self) -> Deferred[None]:
        """Create the table if necessary."""
        return self._database.prepare(self._kind.schema)

    def read(self, function: Callable[[_T], _R]) -> Deferred[_R]:
        """Call a function in the reader's thread."""
        return self._database.read(lambda connection: function(self._kind(connection)))

    def write(self, function: Callable[[_T], _R]) -> Deferred[_R]:
        """Call a function in the writer's thread, in a transaction."""
        return self._database.write(lambda connection: function(self._kind(connection)), 1)
