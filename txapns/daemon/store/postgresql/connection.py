"""
A connection to the database that is made again after it was lost. It belongs to one thread.

A transaction is tried again in two cases: if it met another one in the same rows (a serialization failure, a deadlock),
and if the connection broke before COMMIT was sent, since then it was surely rolled back; the server may have been
restarted, or another one promoted, since the connection was last used. If the connection breaks during COMMIT, nobody
knows whether it was committed, and it counts as failed.

::

          no connection ◄──────────────────────────────┐
                │  connect, inspect the server         │ lost: silent, closed, read-only …
                ▼                                      │
    ┌──►    connected ──► BEGIN, statements ───────────┤
    │                             │   ▲                │
    │                             │   └── again: met   │
    │                             ▼       another one  │
    └────────────────────────── COMMIT ────────────────┘

While a server is away, an attempt to connect is made once in :data:`RETRY` seconds; in between, each transaction fails
at once with the same error.

A peer that falls silent, as after a cable is cut, is noticed by a deadline: :meth:`DatabaseConnection.cut` may be
called in any thread, and shuts the socket, so that the call that waits for it returns.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TypeVar

import attrs
import psycopg
from twisted.internet.interfaces import IReactorTime

from txapns.daemon.errors import ConfigurationError, DatabaseError
from txapns.daemon.store.postgresql.errors import Unusable, explained, retried
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["RETRY", "DatabaseConnection", "Mode", "connect"]

_R = TypeVar("_R")

#: How many seconds after a failed attempt to connect the next one is made.
RETRY = 1.0

_ATTEMPTS = 5  # to get a transaction through that met others
_OLDEST = 130_000  # PostgreSQL 13

# statement_timeout ends a slow statement; the connection is cut only if the server does not even say so.
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "jit": "off",  # it takes longer than our statements, and a plan without a way around what is "off" counts as dear
    "lock_timeout": "5s",
    "timezone": "UTC",
    # A plan that reads all of a table is right for one that is nearly empty, and takes 250 ms for a chunk when a
    # million wait; what the server knows of the tables lags behind. Every statement of ours finds what it needs by an
    # index, row by row.
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "work_mem": "64MB",  # a limit; by estimates it decides whether what is leased may be looked up in a hash table
}

_INSPECT = """
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
    current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes')
"""


@attrs.frozen
class Mode:
    """
    What a connection is for.

    :ivar name: for the list of connections that the server shows.
    :ivar durable: whether a commit waits until it is on the disk, and on synchronous standbys.
    :ivar reads: whether it only reads, each statement by itself.
    """

    name: str
    durable: bool = True
    reads: bool = False


class DatabaseConnection:
    """
    A connection that is made again after it was lost.

    :param patience: how many seconds a transaction may take, and a statement on the server; 0 for no limit.

    :ivar warnings: what an operator should know of the server's settings.
    """

    def __init__(self, settings: Settings, clock: IReactorTime, mode: Mode, patience: float) -> None:
        self.mode = mode
        self.warnings: list[str] = []
        self._settings = settings
        self._clock = clock
        self._patience = patience
        self._connection: Connection | None = None
        self._since: float | None = None  # when the transaction under way began
        self._failure: psycopg.Error | None = None  # of the last attempt to connect
        self._failed_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as known."""
        return self._connection is not None

    def transact(self, function: Callable[[Connection], _R], *, limited: bool = True) -> _R:
        """
        Do a transaction.

        :param function: does it. It may be called several times, so it must change nothing but the database.
        :param limited: whether it may take no longer than patience allows. Otherwise the function has to see to it that
            the server does not end its statements.
        :returns: its result, once it is committed.
        :raises psycopg.Error: nothing was committed, unless the connection was lost during COMMIT.
        :raises Unusable: there is no connection, and an operator has to see to it.
        """
        for left in reversed(range(_ATTEMPTS)):
            fresh = self._connection is None
            connection = self._connected()
            committing = False
            try:
                self._since = self._clock.seconds() if limited else None
                result = function(connection)
                committing = True
                connection.commit()
            except psycopg.Error as error:
                lost = self._give_up(connection, error)
                again = retried(error) or (lost and not fresh and not committing)
                if not again or not left:
                    raise
            except BaseException:
                self._roll_back(connection)
                raise
            else:
                return result
            finally:
                self._since = None
        raise AssertionError("unreachable")

    def cut(self, now: float) -> bool:
        """Shut the connection if a transaction takes too long, in any thread; tell whether it did."""
        since, connection = self._since, self._connection
        if not self._patience or since is None or connection is None or now < since + self._patience:
            return False
        try:
            # A copy of the descriptor: the other thread may close its own, and the number may be used again.
            with socket.socket(fileno=os.dup(connection.fileno())) as copy:
                if self._since != since or self._connection is not connection:
                    return False
                copy.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg.Error):
            return False  # it was closed in the meantime
        return True

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        now = self._clock.seconds()
        if self._failure is not None and now < self._failed_at + RETRY:
            raise self._failure.with_traceback(None)
        try:
            connection, self.warnings = connect(self._settings, self.mode, self._patience)
        except psycopg.Error as error:
            self._failure, self._failed_at = error, self._clock.seconds()
            raise
        self._failure = None
        self._connection = connection
        return connection

    def _give_up(self, connection: Connection, error: psycopg.Error) -> bool:
        """Roll back, or close a connection that is lost; tell whether it was."""
        found = explained(error)
        if connection.closed or (found is not None and found.lost):
            self.close()
            return True
        self._roll_back(connection)
        return self._connection is None

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except psycopg.Error:
            self.close()


def connect(settings: Settings, mode: Mode, patience: float) -> tuple[Connection, list[str]]:
    """
    Connect, and set the session up.

    :param patience: how many seconds a statement may take; 0 for no limit.
    :returns: the connection, and what an operator should know of the server's settings.
    :raises psycopg.Error: that is not possible now.
    :raises Unusable: the server cannot be used, or the password not be read.
    """
    try:
        connection = settings.connect(autocommit=True)
    except ConfigurationError as error:
        raise Unusable(error) from error
    try:
        synchronous, warnings = _inspect(connection, settings)
        milliseconds = str(round(patience * 800))
        program = connection.info.get_parameters().get("application_name", "txapns")
        values = {
            **_SETTINGS,
            "search_path": f'"{settings.schema}"',
            "synchronous_commit": synchronous if mode.durable else "off",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "application_name": f"{program} {mode.name}",
        }
        # Those that write are planned once for a connection, and those that read, which run seldom, each time.
        values["plan_cache_mode"] = "force_custom_plan" if mode.reads else "force_generic_plan"
        if mode.reads:
            values["default_transaction_read_only"] = "on"
        calls = ", ".join(["set_config(%s, %s, false)"] * len(values))
        connection.execute(f"SELECT {calls}".encode(), [text for pair in values.items() for text in pair])
        connection.autocommit = mode.reads
    except BaseException:
        connection.close()
        raise
    return connection, [*settings.warnings, *warnings]


def _inspect(connection: Connection, settings: Settings) -> tuple[str, list[str]]:
    """Look at a server's settings: returns the ``synchronous_commit`` to use, and what an operator should know."""
    row = connection.execute(_INSPECT).fetchone()
    assert row is not None
    version, encoding, synchronous, fsync, full_page_writes = row
    where = settings.where
    if version < _OLDEST:
        raise Unusable(DatabaseError(f"{where} is PostgreSQL {version // 10_000}; 13 is needed"))
    if encoding != "UTF8":
        raise Unusable(DatabaseError(f"{where} has the encoding {encoding}; create a database with the encoding UTF8"))
    warnings = [
        f"{name} is off at {where}: a power cut there may lose accepted notifications"
        for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes))
        if value == "off"
    ]
    if synchronous == "local":
        warnings.append(f"synchronous_commit is local at {where}: a promoted standby may lack accepted notifications")
    # What was acknowledged must not be lost in a crash, whatever the server's, the role's or the url's setting is.
    return "on" if synchronous == "off" else synchronous, warnings
