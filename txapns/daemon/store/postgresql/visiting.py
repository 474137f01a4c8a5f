"""One transaction from a process that is not a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from txapns.daemon.store.postgresql.connection import Mode, connect
from txapns.daemon.store.postgresql.errors import Unusable, in_words
from txapns.daemon.store.postgresql.schema import Connection, Schema, create_schema, prepare
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["visiting"]


@contextmanager
def visiting(settings: Settings, *schemas: Schema, patience: float = 0.0) -> Iterator[Connection]:
    """
    Run one transaction from another process, whether or not daemons have the database open.

    :param schemas: the schemas whose tables are needed. Missing tables are created; old ones are not changed.
    :param patience: how many seconds a statement may take; 0 for no limit.
    :returns: a context with a connection in a transaction, which is committed at its end, or rolled back if the context
        raises.
    :raises DatabaseError: the database cannot be used.
    """
    try:
        connection, _ = connect(settings, Mode("command"), patience)
        with closing(connection):
            create_schema(connection, settings.schema)
            for schema in schemas:
                prepare(connection, schema, settings.where, alone=False)
            yield connection
            connection.commit()
    except (psycopg.Error, Unusable) as error:
        raise in_words(error, settings.where) from error
