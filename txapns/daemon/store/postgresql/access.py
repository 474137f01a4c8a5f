"""What other processes than the daemon do with a database, and how the daemon's store is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.interfaces import IReactorTime

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.config.sections import DatabaseSection
from txapns.daemon.errors import DatabaseInUse
from txapns.daemon.store.copying import ICopy
from txapns.daemon.store.examination import Examination
from txapns.daemon.store.postgresql import copying as copying_postgresql
from txapns.daemon.store.postgresql.api_keys import KeyTable
from txapns.daemon.store.postgresql.apps import AppTable
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.examination import alive, examine
from txapns.daemon.store.postgresql.feedback_log import FEEDBACK
from txapns.daemon.store.postgresql.nodes import NODES
from txapns.daemon.store.postgresql.outcome_feed import OUTCOMES
from txapns.daemon.store.postgresql.schema import migrate, pending
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.postgresql.store import PostgreSQLStore
from txapns.daemon.store.postgresql.tables import QUEUE
from txapns.daemon.store.postgresql.token_environments import TOKENS
from txapns.daemon.store.postgresql.visiting import visiting
from txapns.daemon.store.postgresql.visitor import Visitor
from txapns.daemon.store.store import IStore, IVisitedStore, Tables

__all__ = ["SCHEMAS", "copying", "examined", "make_store", "make_visitor", "migrated", "settings_of", "visiting_tables"]

#: All tables.
SCHEMAS = (NODES, QUEUE, OUTCOMES, FEEDBACK, TOKENS, AppTable.schema, KeyTable.schema)


def settings_of(section: DatabaseSection) -> Settings:
    """
    Tell how to connect.

    :raises ConfigurationError: the url cannot be used.
    """
    assert section.url is not None
    return Settings(section.url, section.password_file, section.schema)


def make_store(clock: IReactorTime, configuration: Configuration) -> IStore:
    """Make the store of a node; see :func:`txapns.daemon.store.factory.make_store`."""
    database = Database(settings_of(configuration.database), clock)
    return PostgreSQLStore(database, configuration.retries.longest, configuration.node_name)


def make_visitor(clock: IReactorTime, section: DatabaseSection) -> IVisitedStore:
    """Make the store of a process that is not a node; see :func:`txapns.daemon.store.factory.make_visitor`."""
    return Visitor(Database(settings_of(section), clock))


@contextmanager
def visiting_tables(section: DatabaseSection) -> Iterator[Tables]:
    """Run one transaction; see :func:`txapns.daemon.store.factory.visiting_tables`."""
    with visiting(settings_of(section), AppTable.schema, KeyTable.schema) as connection:
        yield Tables(AppTable.locked(connection), KeyTable.locked(connection))


def examined(section: DatabaseSection) -> Examination:
    """Examine a database; see :func:`~txapns.daemon.store.postgresql.examination.examine`."""
    return examine(settings_of(section), SCHEMAS)


@contextmanager
def copying(section: DatabaseSection, longest: float) -> Iterator[ICopy]:
    """Open a database for copying; see :func:`~txapns.daemon.store.postgresql.copying.copying`."""
    with copying_postgresql.copying(settings_of(section), SCHEMAS, longest) as found:
        yield found


def migrated(section: DatabaseSection) -> list[tuple[str, int, int]]:
    """
    Create all tables, or bring them up to date, in one transaction.

    :returns: of each module whose tables were changed the name, the version before and the version now.
    :raises DatabaseError: the database cannot be used, or nodes are alive that could not use it any more.
    """
    settings = settings_of(section)
    with visiting(settings) as connection:
        missing = [(schema, pending(connection, schema, settings.where)) for schema in SCHEMAS]  # all are locked now
        names = alive(connection)
        for schema, count in missing:
            version = schema.known - count
            if version and names and any(each > version for each in schema.breaking):
                raise DatabaseInUse(
                    f"nodes of an earlier version could not use the {schema.name} tables any more; stop them first: "
                    + ", ".join(names)
                )
        for schema, _ in missing:
            migrate(connection, schema, settings.where)
    return [(schema.name, schema.known - count, schema.known) for schema, count in missing if count]
