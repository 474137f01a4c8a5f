"""
The daemon's database: one SQLite file, one thread that writes, one that reads.

Writes are gathered and committed together; see :mod:`txapns.daemon.store.group_commit`. What goes between two
transactions runs in the writer's thread, too.

::

    reactor's thread                        writer's thread
    write, write ──gather──►                BEGIN, all the writes, COMMIT
    between ────────────────►                 (waiting)
    write … (gathering)     ◄────────────   results of the writes
                            ◄────────────   what goes between
                        ────────────►       BEGIN …

Python's ``sqlite3`` releases the interpreter lock at every step of a statement, and a busy reactor takes 5 ms to give
it back. A loop over a thousand rows then takes five seconds. So every frequent operation is one step, however many rows
it touches: arguments are JSON arrays, and results are aggregated into one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txapns.daemon.errors import DatabaseError, Unavailable
from txapns.daemon.store.group_commit import CAPACITY, GroupCommit
from txapns.daemon.store.sqlite.file import APPLICATION, DAMAGED, LOCKED, RETRY_DISK, DatabaseFile, trouble
from txapns.daemon.store.sqlite.health import Health
from txapns.daemon.store.sqlite.schema import Schema, prepare
from txapns.daemon.store.workers import IWorker, ThreadWorker

__all__ = ["Database"]

_R = TypeVar("_R")
_T = TypeVar("_T")


class Database:
    """
    An SQLite file.

    :param path: the file. If it is missing, it is created with mode 0600.
    :param clock: the reactor, or a ``Clock``.
    :param workers: makes a worker, given a name; threads of the reactor by default.
    :param capacity: how many bytes may wait to be written.
    :param patience: how many seconds to wait for another process that has the database locked.
    :param reserve: with fewer free bytes than this on the disk, only writes without a size are done, which leaves room
        for the outcomes of accepted notifications.
    :param factory: the class of the connections.

    :ivar health: whether new data can be stored.
    """

    def __init__(
        self,
        path: Path | str,
        clock: IReactorTime,
        workers: Callable[[str], IWorker] | None = None,
        capacity: int = CAPACITY,
        patience: float = 1.0,
        reserve: int = 16 * 2**20,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self.path = Path(path)
        self.clock = clock
        self._workers = workers or (lambda name: ThreadWorker(clock, name))
        self._patience = patience
        self.health = Health(self.path, reserve)
        self._file = DatabaseFile(self.path, factory)
        self._transactions = _Transactions(self._file, self.health, clock, patience)
        self._writes = GroupCommit(clock, self._transactions, capacity)
        self._reader: IWorker | None = None
        self._open = False
        self._stopping = False

    @property
    def trouble(self) -> str:
        """Why nothing new can be stored now, as text for an operator; empty if it can."""
        self.health.look()
        return self.health.trouble

    def worker(self, name: str) -> IWorker:
        """Make a worker like the database's own, for other slow work."""
        return self._workers(name)

    def start(self) -> Deferred[None]:
        """Open the file, or create it; :class:`DatabaseError` if it cannot be used, and nothing is left open."""
        writer, reader = self._writes.worker, self._reader = (
            self._workers("txapns-writer"),
            self._workers("txapns-reader"),
        )
        self._stopping = False

        def open_file() -> None:
            self._file.open(self._patience)
            self.health.opened(self._file.damaged(self._patience))

        def opened(_: None) -> None:
            self._open = not self._stopping
            self.health.tell()

        def failed(failure: Failure) -> Failure:
            self._writes.worker = self._reader = None
            writer.stop()
            reader.stop()
            return failure

        return writer.run(open_file).addCallbacks(opened, failed)

    def stop(self) -> Deferred[None]:
        """Finish the work submitted so far, and close the file."""
        self._open = False
        self._stopping = True
        return self.flush().addCallback(lambda _: self._close())

    def _close(self) -> Deferred[None]:
        writer, reader = self._writes.worker, self._reader
        if writer is None or reader is None:
            return succeed(None)
        self._writes.worker = self._reader = None

        def closed(result: object) -> None:
            self.health.closed()
            writer.stop()
            reader.stop()

        # The workers run in order: by then the reader has finished its reads, and the writer has opened the file if it
        # was about to.
        return reader.run(lambda: None).addBoth(lambda _: writer.run(self._file.close)).addBoth(closed)

    # Reading and writing.

    def prepare(self, schema: Schema) -> Deferred[None]:
        """
        Create the tables of a schema, or bring them up to date.

        :returns: a ``Deferred`` that fires when they are there.
        :raises DatabaseVersion: a later version of this program made them.
        :raises DatabaseError: the database cannot be written to.
        """

        def failed(failure: Failure) -> None:
            failure.trap(Unavailable)
            raise DatabaseError(f"{self.path}: {failure.getErrorMessage()}")

        return self.write(lambda connection: prepare(connection, schema, self.path)).addErrback(failed)

    def write(self, function: Callable[[sqlite3.Connection], _R], size: int = 0) -> Deferred[_R]:
        """
        Write in a transaction that is shared with other writes.

        :param function: does it, in the writer's thread. If it or another write raises, its work is rolled back and it
            may be called again, so it must change nothing but the database.
        :param size: how many bytes of new data it adds; 0 for a write that must be tried whatever the store's health.
        :returns: a ``Deferred`` of its result, which fires when the write is on the disk.
        :raises Unavailable: it cannot be stored now; nothing was stored.
        """
        return self.write_together(lambda connection, items: [function(connection)], None, size)

    def write_together(
        self,
        function: Callable[[sqlite3.Connection, list[_T]], Sequence[_R | Exception]],
        item: _T,
        size: int = 0,
        committed: Callable[[list[_T]], None] | None = None,
        rows: int = 1,
        durable: bool = True,
        ordered: bool = False,
    ) -> Deferred[_R]:
        """
        Write in a transaction, with one call for all items that wait for the same function.

        :param function: does it, as for :meth:`write`. It is called with the items and returns a result for each; an
            exception among the results fails only its item.
        :param size: how many bytes of new data it adds; 0 for a write that must be tried however much is waiting, and
            whatever the store's health.
        :param committed: called in the writer's thread with the items that are committed, before anything else is done
            there; the same for all items of a function. It must not raise.
        :param rows: about how many rows it changes.
        :param durable: whether it waits for the disk, and not only for the commit; see :meth:`on_disk`.
        :param ordered: whether it is done before others of this kind that come later, though it is large.
        :returns: a ``Deferred`` of the item's result, which fires when it is on the disk, or else when it is committed.
        :raises Unavailable: it cannot be stored now; nothing was stored.
        """
        if not self._open:
            return fail(_closed())
        if size:
            if self.health.refusal:  # otherwise the writer looks before it commits
                self.health.look()
                self.health.tell()
            if self.health.refusal:
                return fail(Unavailable(self.health.refusal, RETRY_DISK))
        return self._writes.write_together(function, item, size, committed, rows, durable, ordered)

    def on_disk(self) -> Deferred[None]:
        """
        Wait until everything is on the disk that was committed before.

        :raises Unavailable: it cannot be brought there now.
        """
        # A transaction that waits for the disk does so for all before it.
        return self.write(lambda connection: None) if self._file.behind else succeed(None)

    def probe(self) -> Deferred[str]:
        """Try a small write to see whether new data can be stored now; returns what :attr:`trouble` says after it."""
        if not self._open:
            return succeed(str(_closed()))
        return self.write(_touch).addErrback(lambda failure: failure.getErrorMessage()).addCallback(self._probed)

    def _probed(self, trouble: str | None) -> str:
        return self.trouble or trouble or ""

    def flush(self) -> Deferred[None]:
        """Write everything that is waiting, at once; fires when nothing is waiting."""
        return self._writes.flush()

    def between(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        """
        Read in the writer's thread, between two transactions.

        :param function: does it. It sees everything that is committed, and nothing else.
        :returns: a ``Deferred`` of its result.
        :raises Unavailable: the database cannot be read now.
        """
        writer = self._writes.worker
        if not self._open or writer is None:
            return fail(_closed())
        return writer.run(lambda: function(self._file.writing)).addErrback(self._transactions.explained)

    def read(self, function: Callable[[sqlite3.Connection], _R], *, durable: bool = False) -> Deferred[_R]:
        """
        Read in the reader's thread, while others write.

        :param function: does it. It sees everything that was committed when it was called.
        :param durable: whether all that it sees has to be on the disk, since a power cut must not undo what the caller
            remembers of it.
        :returns: a ``Deferred`` of its result.
        :raises Unavailable: the database cannot be read now, or the disk has not all of it.
        """
        if not self._open or self._reader is None:
            return fail(_closed())
        reading = self._reader.run(lambda: function(self._file.reading)).addErrback(self._transactions.explained)
        if durable:
            reading.addCallback(lambda found: self.on_disk().addCallback(lambda _: found))
        return reading


class _Transactions:
    """Transactions of the file; see :class:`~txapns.daemon.store.group_commit.Transactions`."""

    def __init__(self, file: DatabaseFile, health: Health, clock: IReactorTime, patience: float) -> None:
        self._file = file
        self._health = health
        self._clock = clock
        self._patience = patience

    def commit(self, work: Callable[[sqlite3.Connection], None], new: bool, durable: bool) -> None:
        connection = self._file.writing
        if self._file.gap and (new or durable):
            self._file.catch_up()
        try:
            self._file.begin(waits=durable)
            work(connection)
            self._inspect(new)
            if new:
                self._health.check()
            self._file.commit()
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        self._file.written()

    def sync(self) -> str:
        try:
            self._file.sync()
        except OSError as error:
            return f"writing to the disk failed: {error.strerror}"
        return ""

    def explained(self, failure: Failure) -> Failure:
        """Translate SQLite's exception, and remember damage."""
        found = trouble(failure.value)
        if found is None:
            return failure
        if found[0] == DAMAGED:
            self._health.damaged()
        return Failure(Unavailable(*found))

    def divisible(self, failure: Failure) -> bool:
        return failure.getErrorMessage() != LOCKED  # each of them would wait as long

    def concluded(self, trouble: str, new: bool) -> None:
        self._health.concluded(trouble, new, self._clock.seconds())
        if trouble:
            self._health.look()
        self._health.tell()

    def _inspect(self, new: bool) -> None:
        """
        Check that the file is undamaged if another program wrote to it, which SQLite would not notice; and before new
        data is stored, that it is in its place.
        """
        changed = self._file.changed()
        if new or changed:
            self._health.look()
        if changed and not self._health.lost and self._file.damaged(self._patience):
            self._health.damaged()


def _closed() -> Unavailable:
    return Unavailable("the daemon is shutting down", 10.0)


def _touch(connection: sqlite3.Connection) -> None:
    """Write the first page unchanged; SQLite does not compare."""
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
