"""
The store that the configuration asks for: SQLite, or PostgreSQL where there is a url.

PostgreSQL's driver is imported only where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.interfaces import IReactorTime

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError
from txapns.daemon.store.copying import ICopy
from txapns.daemon.store.examination import Examination
from txapns.daemon.store.sqlite import copying as copying_sqlite
from txapns.daemon.store.sqlite.api_keys import KeyTable
from txapns.daemon.store.sqlite.apps import AppTable
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.examination import examine
from txapns.daemon.store.sqlite.file import DatabaseFile, visiting
from txapns.daemon.store.sqlite.store import SQLiteStore
from txapns.daemon.store.store import IStore, IVisitedStore, Tables

__all__ = [
    "check_unused",
    "copying",
    "driver",
    "examined",
    "is_there",
    "make_store",
    "make_visitor",
    "migrated",
    "visiting_tables",
]


@contextmanager
def driver() -> Iterator[None]:
    """
    Run a context that imports PostgreSQL's driver.

    :raises ConfigurationError: it is not installed, or cannot be loaded.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f'database.url needs psycopg ({error}): pip install "txapns[postgresql]"') from error


def make_store(clock: IReactorTime, configuration: Configuration) -> IStore:
    """
    Make the store of a daemon.

    :param clock: the reactor, or a ``Clock``.
    :param configuration: the configuration, of which ``database`` says where the store is.
    :raises ConfigurationError: it cannot be used in this installation.
    """
    if configuration.database.url is not None:
        with driver():
            from txapns.daemon.store.postgresql import access
        return access.make_store(clock, configuration)
    return SQLiteStore(Database(configuration.database.path, clock), configuration.retries.longest)


def make_visitor(clock: IReactorTime, configuration: Configuration) -> IVisitedStore:
    """
    Make the store of a process that neither accepts nor sends. With PostgreSQL, daemons may have the same one open.

    :param clock: the reactor, or a ``Clock``.
    :raises ConfigurationError: it cannot be used in this installation.
    """
    if configuration.database.url is None:
        return make_store(clock, configuration)
    with driver():
        from txapns.daemon.store.postgresql import access
    return access.make_visitor(clock, configuration.database)


def check_unused(configuration: Configuration) -> None:
    """
    Check that no daemon has the store open, which is in a file.

    :raises DatabaseError: one has, or the store cannot be used.
    """
    DatabaseFile(configuration.database.path).check_unused()


def examined(configuration: Configuration) -> Examination:
    """
    Find out what an operator should know of the store. Nothing is changed.

    :raises ConfigurationError: it cannot be used in this installation.
    """
    if configuration.database.url is None:
        return examine(configuration.database.path)
    with driver():
        from txapns.daemon.store.postgresql import access
    return access.examined(configuration.database)


def migrated(configuration: Configuration) -> list[tuple[str, int, int]]:
    """
    Create all tables, or bring them up to date; nodes may be alive that can still use them then.

    :returns: of each part of the store whose tables were changed its name, the version before and the version now.
    :raises DatabaseError: the store cannot be used, or nodes are alive that could not use it any more.
    :raises ConfigurationError: it cannot be used in this installation.
    """
    if configuration.database.url is None:
        return copying_sqlite.migrated(configuration.database.path)
    with driver():
        from txapns.daemon.store.postgresql import access
    return access.migrated(configuration.database)


@contextmanager
def copying(configuration: Configuration) -> Iterator[ICopy]:
    """
    Open the store to copy from it or to it, while no daemon has it open.

    :returns: a context in one transaction, which is committed at its end, or rolled back if the context raises.
    :raises DatabaseError: the store cannot be used, or a daemon has it open.
    :raises ConfigurationError: it cannot be used in this installation.
    """
    if configuration.database.url is None:
        with copying_sqlite.copying(configuration.database.path) as found:
            yield found
        return
    with driver():
        from txapns.daemon.store.postgresql import access
    with access.copying(configuration.database, configuration.retries.longest) as found:
        yield found


def is_there(configuration: Configuration) -> bool:
    """Tell whether there is a store already, as far as that can be told without opening it."""
    return configuration.database.url is not None or configuration.database.path.exists()


@contextmanager
def visiting_tables(configuration: Configuration) -> Iterator[Tables]:
    """
    Run one transaction from any process, whether or not the daemon has the store open.

    :param configuration: the configuration, of which ``database`` says where the store is.
    :returns: a context with the tables. The transaction is committed at its end, or rolled back if the context raises.
    :raises DatabaseError: the store cannot be used.
    :raises ConfigurationError: it cannot be used in this installation.
    """
    if configuration.database.url is None:
        with visiting(configuration.database.path, AppTable.schema, KeyTable.schema) as connection:
            yield Tables(AppTable(connection), KeyTable(connection))
        return
    with driver():
        from txapns.daemon.store.postgresql import access
    with access.visiting_tables(configuration.database) as tables:
        yield tables
