"""The store that the configuration asks for."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from txapns.daemon.config import Configuration
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.store import SQLiteStore

__all__ = ["make_store"]


def make_store(clock: IReactorTime, configuration: Configuration) -> SQLiteStore:
    """
    Make the store of a daemon.

    :param clock: the reactor, or a ``Clock``.
    :param configuration: the configuration, of which ``database`` says where the store is.
    :returns: the store, not started.
    """
    return SQLiteStore(Database(configuration.database.path, clock), configuration.retries.longest)
