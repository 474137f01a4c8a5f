"""Tables that count their changes by triggers, so that a reader sees with one row whether there is anything new."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from twisted.internet.defer import Deferred

from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Connection, Schema

__all__ = ["CountedStore", "CountedTable", "counted", "counting"]

_R = TypeVar("_R")
_T = TypeVar("_T", bound="CountedTable")

# The function names the table in full, since whoever changes a row by hand may have another search_path.
_COUNTED = """
{create};
CREATE TABLE {table}_changes (number bigint NOT NULL);
INSERT INTO {table}_changes VALUES (0);
CREATE FUNCTION {table}_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('UPDATE %I.{table}_changes SET number = number + 1', TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
{counting};
"""


def counted(name: str, table: str, create: str, *steps: str) -> Schema:
    """
    Make the schema of a table that counts its changes.

    :param steps: the scripts that migrate it; see :class:`Schema`.
    """
    script = _COUNTED.format(table=table, create=create.strip(), counting=counting(table, table))
    return Schema(name, (script, *steps))


def counting(table: str, counter: str) -> str:
    """
    Write the statement that makes changes of a table count.

    :param counter: the table that counts its changes, and from now on those of the other one, too.
    """
    return (
        f"CREATE TRIGGER {table}_changed AFTER INSERT OR UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION {counter}_changed()"
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

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    def locked(cls: type[_T], connection: Connection) -> _T:
        """Make one that no other transaction changes until this one ends, as the first step of it."""
        connection.execute(f"SELECT number FROM {cls.table}_changes FOR UPDATE".encode())
        return cls(connection)

    def changes(self) -> int:
        """Return how often it has changed."""
        row = self._connection.execute(f"SELECT number FROM {self.table}_changes".encode()).fetchone()
        assert row is not None
        return int(row[0])


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
        return self._database.write(lambda connection: function(self._kind.locked(connection)), 1)
