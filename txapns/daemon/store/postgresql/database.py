"""
The daemon's database on a PostgreSQL server: five connections, each with a thread of its own.

::

    reactor's thread                              connections
    write with a size     ──gather──►  accepting    BEGIN, all the writes, COMMIT
    write without a size  ──gather──►  settling     BEGIN, all the writes, COMMIT
    between               ──────────►  leasing      BEGIN, one function, COMMIT (not waiting for the disk)
    read                  ──────────►  reading      one function, each statement by itself
    beat                  ──────────►  beating      BEGIN, one function, COMMIT

Writes are gathered and committed together; see :mod:`txapns.daemon.store.group_commit`. Acceptance and settlement have
a connection each, so that neither waits until the other is on the disk. The heartbeat waits for none of them: when it
ends, so does the right to send.

Every function may be called several times, on a new connection; see :mod:`txapns.daemon.store.postgresql.connection`.
While one of the writers has no connection, new data is refused at once, and both are tried once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import psycopg
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns.daemon.errors import Unavailable
from txapns.daemon.store.group_commit import CAPACITY, GroupCommit
from txapns.daemon.store.postgresql.connection import RETRY, DatabaseConnection, Mode
from txapns.daemon.store.postgresql.errors import FULL, Unusable, explained, in_words
from txapns.daemon.store.postgresql.health import Health
from txapns.daemon.store.postgresql.schema import Connection, Schema, create_schema, prepare
from txapns.daemon.store.postgresql.settings import Settings
from txapns.daemon.store.workers import IWorker, ThreadWorker

__all__ = ["PATIENCE", "Database"]

_log = Logger()

_R = TypeVar("_R")
_T = TypeVar("_T")

#: How many seconds a transaction may take; then the database counts as silent.
PATIENCE = 10.0

# A heartbeat is short. If its connection is silent, a new one has to succeed before the node's life ends.
_PATIENCE_BEAT = 4.0

_MODES = (Mode("accept"), Mode("settle"), Mode("lease", durable=False), Mode("read", reads=True), Mode("beat"))


@attrs.define(eq=False)
class _Link:
    """A connection, and the worker in whose thread it is used."""

    connection: DatabaseConnection
    worker: IWorker

    def run(self, function: Callable[[Connection], _R], *, limited: bool = True) -> Deferred[_R]:
        return self.worker.run(lambda: self.connection.transact(function, limited=limited))

    def stop(self) -> Deferred[None]:
        """Finish what was submitted, and close."""
        return self.worker.run(self.connection.close).addBoth(lambda _: self.worker.stop())


class Database:
    """
    A database on a PostgreSQL server.

    :param settings: how to connect to it.
    :param clock: the reactor, or a ``Clock``.
    :param workers: makes a worker, given a name; threads of the reactor by default.
    :param capacity: how many bytes may wait to be written.
    :param patience: how many seconds a transaction may take; then the database counts as silent.

    :ivar health: whether new data can be stored.
    :ivar alone: tells in a transaction whether no other node is alive; then tables of an older version are brought up
        to date at the start.
    """

    def __init__(
        self,
        settings: Settings,
        clock: IReactorTime,
        workers: Callable[[str], IWorker] | None = None,
        capacity: int = CAPACITY,
        patience: float = PATIENCE,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.health = Health(settings.where)
        self.alone: Callable[[Connection], bool] = lambda connection: True
        self._workers = workers or (lambda name: ThreadWorker(clock, name))
        self._patience = patience
        self._links: dict[str, _Link] = {}
        self._watched: list[DatabaseConnection] = []
        self._accepting = _Transactions(self)
        self._settling = _Transactions(self)
        self._acceptances = GroupCommit(clock, self._accepting, capacity)
        self._settlements = GroupCommit(clock, self._settling, capacity)
        self._open = False
        self._trying = False
        self._watch = LoopingCall(self._look)
        self._watch.clock = clock

    @property
    def trouble(self) -> str:
        """Why nothing new can be stored now, as text for an operator; empty if it can."""
        return self.health.trouble

    @property
    def warnings(self) -> list[str]:
        """What an operator should change about the server or the connection."""
        found = [warning for link in self._links.values() for warning in link.connection.warnings]
        return list(dict.fromkeys(found))

    def worker(self, name: str) -> IWorker:
        """Make a worker like the database's own, for other slow work."""
        return self._workers(name)

    def start(self) -> Deferred[None]:
        """Connect, and create the schema; :class:`DatabaseError` if it cannot be used, and nothing is left open."""
        for mode in _MODES:
            patience = min(self._patience, _PATIENCE_BEAT) if mode.name == "beat" else self._patience
            connection = DatabaseConnection(self.settings, self.clock, mode, patience)
            self._links[mode.name] = _Link(connection, self._workers(f"txapns-{mode.name}"))
        self._watched = [link.connection for link in self._links.values()]
        self._watch.start(RETRY, now=False)
        self._accepting.connection = self._links["accept"].connection
        self._settling.connection = self._links["settle"].connection
        self._acceptances.worker = self._links["accept"].worker
        self._settlements.worker = self._links["settle"].worker
        starting = self._links["settle"].run(lambda connection: create_schema(connection, self.settings.schema))
        return starting.addCallbacks(self._opened, self._not_opened)

    def _opened(self, _: None) -> None:
        if not self._links:
            return  # it was stopped in the meantime
        self._open = True
        self.health.back()
        for warning in self.warnings:
            _log.warn("{warning}", warning=warning)

    def _not_opened(self, failure: Failure) -> Deferred[None]:
        return self._close().addCallback(lambda _: self._failed(failure))

    def _failed(self, failure: Failure) -> Failure:
        if isinstance(failure.value, psycopg.Error | Unusable):
            return Failure(in_words(failure.value, self.settings.where))
        return failure

    def stop(self) -> Deferred[None]:
        """Finish the work submitted so far, and close the connections."""
        self._open = False
        return self.flush().addCallback(lambda _: self._close())

    def _close(self) -> Deferred[None]:
        links, self._links = self._links, {}
        self._acceptances.worker = self._settlements.worker = None

        def closed(_: object) -> None:
            if links:
                self._watch.stop()

        return gatherResults([link.stop() for link in links.values()]).addCallback(closed)

    # Reading and writing.

    def prepare(self, schema: Schema) -> Deferred[None]:
        """
        Create the tables of a schema, or bring them up to date if no other node is alive.

        :returns: a ``Deferred`` that fires when they are there.
        :raises DatabaseVersion: another version of this program made them.
        :raises DatabaseError: the database cannot be written to.
        """

        def create(connection: Connection) -> None:
            connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            prepare(connection, schema, self.settings.where, alone=self.alone(connection))

        if not self._open:
            return fail(_closed())
        return self._links["settle"].run(create, limited=False).addErrback(self._failed)

    def write(self, function: Callable[[Connection], _R], size: int = 0) -> Deferred[_R]:
        """
        Write in a transaction that is shared with other writes.

        :param function: does it, in the writer's thread. If it or another write raises, its work is rolled back and it
            may be called again, so it must change nothing but the database.
        :param size: how many bytes of new data it adds; 0 for a write that must be tried whatever the store's health.
        :returns: a ``Deferred`` of its result, which fires when the write is on the disk.
        :raises Unavailable: it cannot be stored now. If the connection was lost at that very moment, it may have been
            stored all the same.
        """
        return self.write_together(lambda connection, items: [function(connection)], None, size)

    def write_together(
        self,
        function: Callable[[Connection, list[_T]], Sequence[_R | Exception]],
        item: _T,
        size: int = 0,
        committed: Callable[[list[_T]], None] | None = None,
        rows: int = 1,
        durable: bool = True,
        ordered: bool = False,
    ) -> Deferred[_R]:
        """
        Write in a transaction, with one call for all items that wait for the same function.

        Writes with a size are on another connection than those without: one may be committed before the other whichever
        was submitted first.

        :param function: does it, as for :meth:`write`. It is called with the items and returns a result for each; an
            exception among the results fails only its item.
        :param size: how many bytes of new data it adds; 0 for a write that must be tried however much is waiting, and
            whatever the store's health.
        :param committed: called in the writer's thread with the items that are on the disk, before anything else is
            done there; the same for all items of a function. It must not raise.
        :param rows: about how many rows it changes.
        :param durable: makes no difference here: every commit waits for the disk.
        :param ordered: whether it is done before others of this kind that come later, though it is large.
        :returns: a ``Deferred`` of the item's result, which fires when it is on the disk.
        :raises Unavailable: it cannot be stored now; see :meth:`write`.
        """
        if not self._open:
            return fail(_closed())
        if size and self.health.refusal:
            return fail(Unavailable(self.health.refusal, 2 * RETRY))
        writes = self._acceptances if size else self._settlements
        return writes.write_together(function, item, size, committed, rows, ordered=ordered)

    def on_disk(self) -> Deferred[None]:
        """Do nothing: every commit but those of leases has waited for the disk."""
        return succeed(None)

    def between(self, function: Callable[[Connection], _R]) -> Deferred[_R]:
        """
        Do a transaction of its own, for leases and the like.

        Its commit does not wait for the disk: if the server crashes, the last of them may be lost.

        :param function: does it.
        :returns: a ``Deferred`` of its result.
        :raises Unavailable: the database cannot be used now.
        """
        return self._run("lease", function)

    def read(self, function: Callable[[Connection], _R]) -> Deferred[_R]:
        """
        Read, while others write.

        :param function: does it. Each of its statements sees everything that was committed when it began.
        :returns: a ``Deferred`` of its result.
        :raises Unavailable: the database cannot be read now.
        """
        return self._run("read", function)

    def beat(self, function: Callable[[Connection], _R]) -> Deferred[_R]:
        """
        Do a transaction that no other work of this node delays, for the heartbeat.

        :param function: does it; it must be short.
        :returns: a ``Deferred`` of its result, which fires when it is on the disk.
        :raises Unavailable: the database cannot be used now.
        """
        return self._run("beat", function)

    def _run(self, name: str, function: Callable[[Connection], _R]) -> Deferred[_R]:
        if not self._open:
            return fail(_closed())
        return self._links[name].run(function).addErrback(self.explained)

    def flush(self) -> Deferred[None]:
        """Write everything that is waiting, at once; fires when nothing is waiting."""
        return gatherResults([self._acceptances.flush(), self._settlements.flush()]).addCallback(lambda _: None)

    # Health.

    def probe(self) -> Deferred[str]:
        """Try a small write to see whether new data can be stored now; returns what :attr:`trouble` says after it."""
        if not self._open:
            return succeed(str(_closed()))
        return self.write(_touch).addErrback(lambda failure: failure.getErrorMessage()).addCallback(self._probed)

    def _probed(self, trouble: str | None) -> str:
        return self.trouble or trouble or ""

    def explained(self, failure: Failure) -> Failure:
        """Translate PostgreSQL's exceptions to :class:`Unavailable`, unless a statement is at fault."""
        found = explained(failure.value)
        if found is None:
            return failure
        self.health.detail = found.detail
        return Failure(Unavailable(found.text, found.retry_after))

    def concluded(self, trouble: str, new: bool, connected: bool) -> None:
        """Take note of the end of a transaction, in the reactor's thread."""
        if trouble and not connected:
            self.health.away(trouble)
        self.health.concluded(trouble, new, self.clock.seconds())
        self.health.tell()

    def _look(self) -> None:
        """Cut connections that are silent; while the database is away, try to connect."""
        now = self.clock.seconds()
        for connection in self._watched:
            if connection.cut(now):
                _log.warn("{where} is silent; connecting again", where=self.settings.where)
        if self._open and self.health.refusal and not self._trying:
            self._trying = True
            accept, settle = self._links["accept"], self._links["settle"]
            trying = accept.run(_touch).addCallback(lambda _: settle.run(_touch))
            trying.addErrback(self.explained).addBoth(self._tried)

    def _tried(self, result: object) -> None:
        self._trying = False
        if not self._open:
            return
        if isinstance(result, Failure):
            self.health.away(result.getErrorMessage())
        else:
            self.health.back()
        self.health.tell()


class _Transactions:
    """Transactions of one connection; see :class:`~txapns.daemon.store.group_commit.Transactions`."""

    connection: DatabaseConnection

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, work: Callable[[Connection], None], new: bool, durable: bool) -> None:
        self.connection.transact(work)

    def sync(self) -> str:
        return ""  # the commit has waited

    def explained(self, failure: Failure) -> Failure:
        return self._database.explained(failure)

    def divisible(self, failure: Failure) -> bool:
        return not failure.check(Unavailable) or failure.getErrorMessage() == FULL

    def concluded(self, trouble: str, new: bool) -> None:
        self._database.concluded(trouble, new, self.connection.connected)


def _closed() -> Unavailable:
    return Unavailable("the daemon is shutting down", 10.0)


def _touch(connection: Connection) -> None:
    """Change a row of the schema's, so that something has to be committed."""
    connection.execute("INSERT INTO schema_version VALUES ('probe', 0, 0) ON CONFLICT (name) DO UPDATE SET version = 0")
