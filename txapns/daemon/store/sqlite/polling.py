"""
A look into the database again and again, since others change it: ``txapns apps`` and ``txapns keys`` are processes of
their own. A trigger counts the changes, so that a look at a table that is as it was costs one row.
"""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Connection
from typing import Annotated, Generic, TypeAlias, TypeVar

from msgspec import Meta
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns.daemon.errors import DaemonError
from txapns.daemon.store.sqlite.database import Database

__all__ = ["INTERVAL", "ChangePoller", "Instant", "changes", "counted"]

_log = Logger()

#: How many seconds pass between two looks.
INTERVAL = 1.0

#: When something in a row happened, in UNIX seconds of the first ten thousand years.
Instant: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799)]

T = TypeVar("T")


def counted(table: str) -> list[str]:
    """
    Give the statements that count the changes of a table.

    :param table: its name.
    :returns: SQL, for a new database.
    """
    return [
        f"CREATE TABLE {table}_changes (number INTEGER NOT NULL)",
        f"INSERT INTO {table}_changes VALUES (0)",  # noqa: S608 - names of our own
        *(
            f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} "  # noqa: S608 - names of our own
            f"BEGIN UPDATE {table}_changes SET number = number + 1; END"
            for event in ("insert", "update", "delete")
        ),
    ]


def changes(connection: Connection, table: str) -> int:
    """
    Tell how often a table has changed.

    :param connection: to the database.
    :param table: its name.
    """
    (number,) = connection.execute(f"SELECT number FROM {table}_changes").fetchone()  # noqa: S608 - a name of our own
    return int(number)


class ChangePoller(Generic[T]):
    """
    Looks now and again.

    :param clock: tells when.
    :param database: where.
    :param look: what to look for: called in the thread that reads, with a connection.
    :param found: called in the reactor's thread with what ``look`` returned.
    """

    def __init__(
        self, clock: IReactorTime, database: Database, look: Callable[[Connection], T], found: Callable[[T], None]
    ) -> None:
        self._database = database
        self._look = look
        self._found = found
        self._complaint = ""
        self._loop = LoopingCall(self._again)
        self._loop.clock = clock
        self._ended: Deferred[None] = succeed(None)

    def start(self) -> Deferred[None]:
        """
        Look for the first time, and then every :data:`INTERVAL`.

        :raises DaemonError: the first look came to nothing; there will be no other.
        """
        return self.look().addCallback(self._go_on)

    def stop(self) -> Deferred[None]:
        """
        Look no more.

        :returns: a ``Deferred`` that fires when the last look is over.
        """
        if self._loop.running:
            self._loop.stop()
        return self._ended

    def look(self) -> Deferred[None]:
        """Look at once, which is for who has changed something."""
        return self._database.read(self._look).addCallback(self._found)

    def _go_on(self, _: None) -> None:
        self._ended = self._loop.start(INTERVAL, now=False).addCallback(lambda _: None)

    def _again(self) -> Deferred[None]:
        return self.look().addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, _: None) -> None:
        self._complaint = ""

    def _failed(self, failure: Failure) -> None:
        """Say so once, and go on: what was found before still counts."""
        complaint, self._complaint = self._complaint, failure.getErrorMessage()
        if self._complaint == complaint:
            return
        if failure.check(DaemonError):
            _log.warn("changes of the database are not seen: {complaint}", complaint=self._complaint)
        else:
            _log.failure("changes of the database are not seen", failure)
