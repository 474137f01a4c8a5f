"""
The daemon's database: one SQLite file, one thread that writes, one that reads.

Writes are gathered for a moment and committed in one transaction, with one ``fsync`` for all of them. A disk does a few
hundred of these a second, and one costs the same for a single notification as for ten thousand. While one transaction
is being written, the next one gathers. A ``Deferred`` fires when its write is on the disk.

::

    reactor's thread                        writer's thread
    write, write ──gather──►                BEGIN, all the writes, COMMIT
    between ────────────────►                 (waiting)
    write … (gathering)     ◄────────────   results of the writes
                            ◄────────────   what goes between
                        ────────────►       BEGIN …

If one of the writes raises, the transaction is rolled back and the others are committed without it. If the disk is full
or another process has the database locked, all of them fail with :class:`~txapns.daemon.errors.Unavailable`, nothing is
stored, and the next transaction is tried as usual.

Python's ``sqlite3`` releases the interpreter lock at every step of a statement, and a busy reactor takes 5 ms to give
it back. A loop over a thousand rows then takes five seconds. So every frequent operation is one step, however many rows
it touches: arguments are JSON arrays, and results are aggregated into one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._waiters import Waiters
from txapns.daemon.errors import DatabaseError, Unavailable
from txapns.daemon.store.sqlite.file import APPLICATION, DAMAGED, LOCKED, RETRY_DISK, DatabaseFile, trouble
from txapns.daemon.store.sqlite.health import Health
from txapns.daemon.store.sqlite.schema import Schema, prepare
from txapns.daemon.store.workers import IWorker, ThreadWorker

__all__ = ["Database"]

_R = TypeVar("_R")
_T = TypeVar("_T")

# A transaction with this many bytes takes some tenths of a second; further writes that have a size wait for the next.
_TRANSACTION = 2 * 2**20


@attrs.define(eq=False)
class _Job:
    """One write, and the ``Deferred`` of its result."""

    function: Callable[[sqlite3.Connection, list[Any]], Sequence[Any]]
    item: Any
    size: int
    committed: Callable[[list[Any]], None] | None
    done: Deferred[Any] = attrs.Factory(Deferred)
    result: Any = None


class Database:
    """
    An SQLite file.

    :param path: the file. If it is missing, it is created with mode 0600.
    :param clock: the reactor, or a ``Clock``.
    :param workers: makes a worker, given a name; threads of the reactor by default.
    :param gather: for how many seconds writes are gathered while the writer is idle.
    :param capacity: how many bytes may wait to be written.
    :param patience: how many seconds to wait for another process that has the database locked.
    :param reserve: with fewer free bytes than this on the disk, only writes without a size are done, which leaves room
        for the outcomes of accepted notifications.

    :ivar health: whether new data can be stored.
    """

    def __init__(
        self,
        path: Path | str,
        clock: IReactorTime,
        workers: Callable[[str], IWorker] | None = None,
        gather: float = 0.002,
        capacity: int = 64 * 2**20,
        patience: float = 1.0,
        reserve: int = 16 * 2**20,
    ) -> None:
        self.path = Path(path)
        self.clock = clock
        self._workers = workers or (lambda name: ThreadWorker(clock, name))
        self._gather = gather
        self._capacity = capacity
        self._patience = patience
        self.health = Health(self.path, reserve)
        self._file = DatabaseFile(self.path)
        self._writer: IWorker | None = None
        self._reader: IWorker | None = None
        self._open = False
        self._stopping = False
        self._jobs: list[_Job] = []
        self._waiting = 0  # bytes, including those being written
        self._busy = False
        self._soon = Alarm(clock, self._flush)
        self._idle: Waiters[None] = Waiters()

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
        writer, reader = self._writer, self._reader = self._workers("txapns-writer"), self._workers("txapns-reader")
        self._stopping = False

        def open_file() -> None:
            self._file.open(self._patience)
            self.health.opened(self._file.damaged(self._patience))

        def opened(_: None) -> None:
            self._open = not self._stopping
            self.health.tell()

        def failed(failure: Failure) -> Failure:
            self._writer = self._reader = None
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
        writer, reader = self._writer, self._reader
        if writer is None or reader is None:
            return succeed(None)
        self._writer = self._reader = None

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
    ) -> Deferred[_R]:
        """
        Write in a transaction, with one call for all items that wait for the same function.

        :param function: does it, as for :meth:`write`. It is called with the items and returns a result for each; an
            exception among the results fails only its item.
        :param size: how many bytes of new data it adds; 0 for a write that must be tried however much is waiting, and
            whatever the store's health.
        :param committed: called in the writer's thread with the items that are on the disk, before anything else is
            done there; the same for all items of a function. It must not raise.
        :returns: a ``Deferred`` of the item's result, which fires when it is on the disk.
        :raises Unavailable: it cannot be stored now; nothing was stored.
        """
        if size and self._waiting + size > self._capacity:
            return fail(Unavailable("too much is waiting to be stored", 1.0))
        if size and self._open:
            if self.health.refusal:  # otherwise the writer looks before it commits
                self.health.look()
                self.health.tell()
            if self.health.refusal:
                return fail(Unavailable(self.health.refusal, RETRY_DISK))
        return self._submit(_Job(function, item, size, committed))

    def probe(self) -> Deferred[str]:
        """Try a small write to see whether new data can be stored now; returns what :attr:`trouble` says after it."""
        if not self._open:
            return succeed(str(_closed()))
        return self.write(_touch).addErrback(lambda failure: failure.getErrorMessage()).addCallback(self._probed)

    def _probed(self, trouble: str | None) -> str:
        return self.trouble or trouble or ""

    def flush(self) -> Deferred[None]:
        """Write everything that is waiting, at once; fires when nothing is waiting."""
        idle = self._idle.wait()
        self._flush()
        return idle

    def between(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        """
        Read in the writer's thread, between two transactions.

        :param function: does it. It sees everything that is on the disk, and nothing else.
        :returns: a ``Deferred`` of its result.
        :raises Unavailable: the database cannot be read now.
        """
        if not self._open or self._writer is None:
            return fail(_closed())
        return self._writer.run(lambda: function(self._file.writing)).addErrback(self._explained)

    def read(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        """
        Read in the reader's thread, while others write.

        :param function: does it. It sees everything that was on the disk when it was called.
        :returns: a ``Deferred`` of its result.
        :raises Unavailable: the database cannot be read now.
        """
        if not self._open or self._reader is None:
            return fail(_closed())
        return self._reader.run(lambda: function(self._file.reading)).addErrback(self._explained)

    # The reactor's side.

    def _submit(self, job: _Job) -> Deferred[Any]:
        if not self._open:
            return fail(_closed())
        self._waiting += job.size
        self._jobs.append(job)
        if not self._busy and not self._soon.is_set:
            self._soon.set(self._gather)
        return job.done

    def _flush(self) -> None:
        """Hand the gathered writes to the writer; while it is busy, :meth:`_done` does so later."""
        self._soon.cancel()
        if self._busy:
            return
        jobs, self._jobs = _first_of(self._jobs)
        if jobs and self._writer is not None:
            self._busy = True
            self._writer.run(lambda: self._work(jobs)).addBoth(self._done, jobs)
            return
        self._idle.fire(None)

    def _done(self, result: str | Failure, jobs: list[_Job]) -> None:
        if isinstance(result, Failure):  # it is unknown how far the work got
            for job in jobs:
                job.result = result
            result = result.getErrorMessage()
        self.health.concluded(result, any(job.size for job in jobs), self.clock.seconds())
        if result:
            self.health.look()
        self.health.tell()
        for job in jobs:
            self._waiting -= job.size
            if isinstance(job.result, Exception | Failure):
                job.done.errback(job.result)
            else:
                job.done.callback(job.result)
        self._busy = False
        if self._idle:
            self._flush()
        elif self._jobs:
            self._soon.set(0)

    def _explained(self, failure: Failure) -> Failure:
        """Translate SQLite's exception, and remember damage."""
        found = trouble(failure.value)
        if found is None:
            return failure
        if found[0] == DAMAGED:
            self.health.damaged()
        return Failure(Unavailable(*found))

    # The writer's side.

    def _work(self, jobs: list[_Job]) -> str:
        """Do a transaction; returns why it failed, or nothing."""
        groups: dict[Callable[..., object], list[_Job]] = {}
        for job in jobs:
            groups.setdefault(job.function, []).append(job)
        return self._perform(list(groups.values()))

    def _perform(self, groups: list[list[_Job]]) -> str:
        """Do the writes in one transaction; if it fails, in smaller ones, to isolate the writes that fail."""
        try:
            self._commit(groups)
        except Exception as error:
            if self._file.writing.in_transaction:
                self._file.writing.rollback()
            failure = self._explained(Failure())
            smaller = _divided(groups, failure)
            if smaller:
                return max([self._perform(each) for each in smaller])
            for job in (job for group in groups for job in group):
                job.result = failure
            return str(failure.value) if failure.value is not error else ""
        for group in groups:
            committed = group[0].committed
            if committed is not None:
                committed([job.item for job in group if not isinstance(job.result, Exception)])
        return ""

    def _commit(self, groups: list[list[_Job]]) -> None:
        self._file.writing.execute("BEGIN IMMEDIATE")
        for group in groups:
            results = group[0].function(self._file.writing, [job.item for job in group])
            for job, result in zip(group, results, strict=True):
                job.result = result
        self._inspect()
        if any(job.size for group in groups for job in group):
            self.health.check()
        self._file.writing.execute("COMMIT")
        self._file.written()

    def _inspect(self) -> None:
        """Check that the file is in place, and undamaged if another program wrote to it: SQLite would not notice."""
        self.health.look()
        if not self.health.lost and self._file.changed() and self._file.damaged(self._patience):
            self.health.damaged()


def _first_of(jobs: list[_Job]) -> tuple[list[_Job], list[_Job]]:
    """Choose the jobs of one transaction: all that have no size, and as many others as one transaction may hold."""
    chosen, left, size = [], [], 0
    for job in jobs:
        if job.size and size > _TRANSACTION:
            left.append(job)
        else:
            chosen.append(job)
            size += job.size
    return chosen, left


def _divided(groups: list[list[_Job]], failure: Failure) -> list[list[list[_Job]]]:
    """Split a failed transaction into smaller ones, if some of them may succeed."""
    if failure.getErrorMessage() == LOCKED:
        return []  # each of them would wait as long
    if len(groups) > 1:
        return [[group] for group in groups]  # the disk may have room for outcomes, if not for new messages
    if len(groups[0]) > 1 and not failure.check(Unavailable):
        return [[[job]] for job in groups[0]]
    return []


def _closed() -> Unavailable:
    return Unavailable("the daemon is shutting down", 10.0)


def _touch(connection: sqlite3.Connection) -> None:
    """Write the first page unchanged; SQLite does not compare."""
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
