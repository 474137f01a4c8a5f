"""The apps and keys, for processes other than the daemon's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from txapns.daemon.store.sqlite.api_keys import KeyTable
from txapns.daemon.store.sqlite.apps import AppTable
from txapns.daemon.store.sqlite.file import visiting
from txapns.daemon.store.store import Tables

__all__ = ["visiting_tables"]


@contextmanager
def visiting_tables(path: Path) -> Iterator[Tables]:
    """
    Run one transaction, whether or not the daemon has the database open.

    :returns: a context with the tables. The transaction is committed at its end, or rolled back if the context raises.
    :raises DatabaseError: the database cannot be used.
    """
    with visiting(path, AppTable.schema, KeyTable.schema) as connection:
        yield Tables(AppTable(connection), KeyTable(connection))
