"""The store that the configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.interfaces import IReactorTime

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.store.sqlite.api_keys import KeyTable
from txapns.daemon.store.sqlite.apps import AppTable
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.file import DatabaseFile, visiting
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.store.store import IStore, Tables

__all__ = ["check_unused", "make_store", "visiting_tables"]


def make_store(clock: IReactorTime, configuration: Configuration) -> IStore:
    """
    Make the store of a daemon.

    :param clock: the reactor, or a ``Clock``.
    :param configuration: the configuration, of which ``database`` says where the store is.
    """
    if configuration.database.url is not None:
        raise ConfigurationError("database.url: PostgreSQL cannot be used yet")
    return SQLiteStore(Database(configuration.database.path, clock), configuration.retries.longest)


def check_unused(configuration: Configuration) -> None:
    """
    Check that no daemon has the store open.

    :raises DatabaseError: one has, or the store cannot be used.
    """
    DatabaseFile(configuration.database.path).check_unused()


@contextmanager
def visiting_tables(configuration: Configuration) -> Iterator[Tables]:
    """
    Run one transaction from any process, whether or not the daemon has the store open.

    :param configuration: the configuration, of which ``database`` says where the store is.
    :returns: a context with the tables. The transaction is committed at its end, or rolled back if the context raises.
    :raises DatabaseError: the store cannot be used.
    """
    with visiting(configuration.database.path, AppTable.schema, KeyTable.schema) as connection:
        yield Tables(AppTable(connection), KeyTable(connection))
