"""
The daemon's database: one SQLite file, one thread that writes, one that reads.

What is to be written is gathered for a moment and goes into one transaction, with one ``fsync`` for all of it: a disk
does a few hundred of these a second, and a transaction costs the same for one notification as for ten thousand. While
one is being written, the next gathers. A ``Deferred`` fires when what it stands for is on the disk.

::

    reactor's thread                        writer's thread
    write, write ──gather──►                BEGIN, all the writes, COMMIT
    between ────────────────►                 (waiting)
    write … (gathering)     ◄────────────   results of the writes
                            ◄────────────   what goes between
                        ────────────►       BEGIN …

Where one of the writes raises, the transaction is undone and the rest is done without it. Where the disk is full or
another process holds the database, all of it fails with :class:`~txapns.daemon.errors.Unavailable`, nothing is stored,
and the next transaction is tried as if nothing had been.

Python's ``sqlite3`` gives up the interpreter's lock at every step of a statement, and a busy reactor gives it back
after 5 ms. A loop over a thousand rows then takes five seconds. So whatever is done often here is one step, however
many rows it is for: arguments come as JSON arrays, and results are aggregated into one.

The file can be read by its owner only. One process has it open at a time, which two locks see to: one on a file beside
it, which tells who that is, and one on the file itself, which is there even where somebody removed the other. They end
with the process, however that ends. Reading with the ``sqlite3`` tool is possible all the time.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import Interface, implementer

from txapns.daemon.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseExposed,
    DatabaseInUse,
    DatabaseVersion,
    Unavailable,
)
from txapns.daemon.store.sqlite.health import Health

__all__ = ["Database", "IWorker", "InlineWorker", "Schema", "ThreadWorker", "lenient", "visiting"]

_log = Logger()

_R = TypeVar("_R")
_T = TypeVar("_T")

# "apns" in ASCII: what tells our files from those of other programs, SQLite's and everybody else's.
_APPLICATION = 0x61706E73

# With RETURNING and MATERIALIZED.
_SQLITE = (3, 35, 0)

# The octet of the file that is locked; SQLite's own locks are at the end of the first GiB.
_LOCKED_OCTET = 2**62

# For how many seconds a file is looked through at the start.
_LOOK_THROUGH = 10.0

# After so many octets a transaction takes nothing more that has a size; it is some tenths of a second then.
_TRANSACTION = 2 * 2**20

# What SQLite says where the fault is not with the statement, and in how many seconds it is worth another try.
_RETRY_DISK = 10.0
_TROUBLE = {
    "database or disk is full": ("the disk is full", _RETRY_DISK),
    "disk I/O error": ("the disk does not take it", _RETRY_DISK),
    "database is locked": ("another process has the database locked", 2.0),
    "database table is locked": ("another process has the database locked", 2.0),
    "attempt to write a readonly database": ("the database may not be written to", 60.0),
    "unable to open database file": ("the database cannot be opened", 60.0),
    "database disk image is malformed": ("the database is damaged", 300.0),
    "file is not a database": ("the database is damaged", 300.0),
    "no such table": ("the database is damaged", 300.0),
    "no such column": ("the database is damaged", 300.0),
    "out of memory": ("there is no memory left", 10.0),
}
_LOCKED = _TROUBLE["database is locked"][0]
_DAMAGED = _TROUBLE["file is not a database"][0]
_UNREADABLE = (_DAMAGED, _TROUBLE["disk I/O error"][0])

# The longest that SQLite leaves what is beside the file; it does not make it shorter than this.
_JOURNAL = 64 * 2**20


class IWorker(Interface):
    """Somebody who does one thing after the other, in the order asked for."""

    def run(function: Callable[[], _R]) -> Deferred[_R]:
        """
        Do something.

        :param function: what to do.
        :returns: a ``Deferred`` of what it returns.
        """

    def stop() -> None:
        """There will be nothing more to do."""


class _DaemonThread(threading.Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


@implementer(IWorker)
class ThreadWorker:
    """
    A thread of its own.

    :param reactor: the reactor, in whose thread the results arrive.
    :param name: the thread's name.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, name)
        # A program that ends without having stopped it does not wait for it: what is not on the disk was not promised.
        self._pool.threadFactory = _DaemonThread
        self._pool.start()

    def run(self, function: Callable[[], _R]) -> Deferred[_R]:
        """Do it in the thread."""
        return cast("Deferred[_R]", deferToThreadPool(self._reactor, self._pool, function))

    def stop(self) -> None:
        """End the thread."""
        self._pool.stop()


@implementer(IWorker)
class InlineWorker:
    """Does everything at once, for programs without a running reactor and for tests."""

    def run(self, function: Callable[[], _R]) -> Deferred[_R]:
        """Do it now."""
        return maybeDeferred(function)

    def stop(self) -> None:
        """There is nothing to end."""


@attrs.frozen
class Schema:
    """
    The tables that belong to one part of the daemon.

    :ivar name: the part.
    :ivar steps: SQL scripts, each of which makes the tables of one version into those of the next; the first makes
        them. Once released, a step is never changed: a change of the tables is another step.
    """

    name: str
    steps: tuple[str, ...] = attrs.field(repr=False)


@attrs.define(eq=False)
class _Job:
    """One thing to do, and whom to tell."""

    function: Callable[[sqlite3.Connection, list[Any]], Sequence[Any]]
    item: Any
    size: int
    committed: Callable[[list[Any]], None] | None
    done: Deferred[Any] = attrs.Factory(Deferred)
    result: Any = None


class Database:
    """
    An SQLite file.

    :param path: the file. It is made, with mode 0600, where there is none.
    :param clock: the reactor, or a ``Clock``.
    :param workers: makes a worker, given a name; left out, threads of the reactor.
    :param gather: for how many seconds writes are gathered when none are under way.
    :param capacity: how many octets of what is to be written may wait.
    :param patience: how many seconds to wait for another process that has the database locked.
    :param reserve: when the disk has less room than so many octets, only what has no size is written, so that there is
        room for the outcomes of what was accepted.

    :ivar path: the file.
    :ivar health: whether it can take what is new.
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
        self._file = _File(self.path)
        self._writer: IWorker | None = None
        self._reader: IWorker | None = None
        self._open = False
        self._stopping = False
        self._jobs: list[_Job] = []
        self._waiting = 0  # octets, those under way among them
        self._busy = False
        self._soon: IDelayedCall | None = None
        self._idle: list[Deferred[None]] = []

    @property
    def trouble(self) -> str:
        """Why nothing new can be stored now, for a person; empty if it can."""
        self.health.look()
        return self.health.trouble

    def worker(self, name: str) -> IWorker:
        """
        Make a worker of the kind that the database has, for who has other work that takes long.

        :param name: its name.
        """
        return self._workers(name)

    def start(self) -> Deferred[None]:
        """
        Open the file, or make it.

        :returns: a ``Deferred`` that fires when it can be used.
        :raises DatabaseError: it cannot; nobody has it open then.
        """
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
        """
        Do what was asked for so far, and close the file.

        :returns: a ``Deferred`` that fires when it is closed.
        """
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

        # By then the reader has done all it was asked for, and the writer has opened the file, if it was about to.
        return reader.run(lambda: None).addBoth(lambda _: writer.run(self._file.close)).addBoth(closed)

    # What can be asked for.

    def prepare(self, part: Schema) -> Deferred[None]:
        """
        Make the tables of a part, or bring them up to date.

        :param part: the part.
        :returns: a ``Deferred`` that fires when they are there.
        :raises DatabaseVersion: they are of a version that this program does not know.
        :raises DatabaseError: the database cannot be written to.
        """

        def failed(failure: Failure) -> None:
            failure.trap(Unavailable)
            raise DatabaseError(f"{self.path}: {failure.getErrorMessage()}")

        return self.write(lambda connection: _prepare(connection, part, self.path)).addErrback(failed)

    def write(self, function: Callable[[sqlite3.Connection], _R], size: int = 0) -> Deferred[_R]:
        """
        Do something in a transaction, together with what else is to be done.

        :param function: what to do, in the writer's thread. Where it or something else raises, it may be called again,
            after what it did was undone; so it changes nothing but the database.
        :param size: how many octets are new; nothing where it has to be done whatever the health of the store is.
        :returns: a ``Deferred`` of what it returns; it fires when that is on the disk.
        :raises Unavailable: it cannot be stored now; nothing was.
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
        Do something in a transaction, once for all the items that are waiting for the same function.

        :param function: what to do, as for :meth:`write`. It is called with the items, and returns what came of each;
            an exception among that is for the one item.
        :param item: the item.
        :param size: how many octets are new with it; nothing where it has to be done even if very much is waiting,
            and whatever the health of the store is.
        :param committed: called in the writer's thread, before anything else is done there, with the items that are
            on the disk; the same for all items of a function. It does not raise.
        :returns: a ``Deferred`` of what came of the item; it fires when that is on the disk.
        :raises Unavailable: it cannot be stored now; nothing was.
        """
        if size and self._waiting + size > self._capacity:
            return fail(Unavailable("more is waiting to be stored than there is room for", 1.0))
        if size and self._open:
            if self.health.refusal:  # otherwise the writer looks, before it commits
                self.health.look()
                self.health.tell()
            if self.health.refusal:
                return fail(Unavailable(self.health.refusal, _RETRY_DISK))
        return self._submit(_Job(function, item, size, committed))

    def probe(self) -> Deferred[str]:
        """
        Find out by a small write whether something new can be stored now.

        :returns: a ``Deferred`` of what :attr:`trouble` says then.
        """
        if not self._open:
            return succeed(str(_closed()))
        return self.write(_touch).addErrback(lambda failure: failure.getErrorMessage()).addCallback(self._probed)

    def _probed(self, trouble: str | None) -> str:
        return self.trouble or trouble or ""

    def flush(self) -> Deferred[None]:
        """
        Do what waits to be written, at once.

        :returns: a ``Deferred`` that fires when nothing waits any more.
        """
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._flush()
        return idle

    def between(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        """
        Read, in the writer's thread, as soon as no transaction is under way.

        :param function: what to do. It sees all that is on the disk, and nothing that is not.
        :returns: a ``Deferred`` of what it returns.
        :raises Unavailable: the database cannot be read now.
        """
        if not self._open or self._writer is None:
            return fail(_closed())
        return self._writer.run(lambda: function(self._file.writing)).addErrback(self._explained)

    def read(self, function: Callable[[sqlite3.Connection], _R]) -> Deferred[_R]:
        """
        Read, in the reader's thread, while others write.

        :param function: what to do. It sees all that was on the disk when it was called.
        :returns: a ``Deferred`` of what it returns.
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
        if not self._busy and self._soon is None:
            self._soon = self.clock.callLater(self._gather, self._flush)
        return job.done

    def _flush(self) -> None:
        """Hand over what was gathered, unless something is under way: then it is done after that."""
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None
        if self._busy:
            return
        jobs, self._jobs = _first_of(self._jobs)
        if jobs and self._writer is not None:
            self._busy = True
            self._writer.run(lambda: self._work(jobs)).addBoth(self._done, jobs)
            return
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)

    def _done(self, result: str | Failure, jobs: list[_Job]) -> None:
        if isinstance(result, Failure):  # nobody knows how far it came
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
            self._soon = self.clock.callLater(0, self._flush)

    def _explained(self, failure: Failure) -> Failure:
        """Say what SQLite's exception means; damage is remembered."""
        trouble = _trouble(failure.value)
        if trouble is None:
            return failure
        if trouble[0] == _DAMAGED:
            self.health.damaged()
        return Failure(Unavailable(*trouble))

    # The writer's side.

    def _work(self, jobs: list[_Job]) -> str:
        """
        Do a transaction.

        :returns: why it could not be done; nothing if it could.
        """
        groups: dict[Callable[..., object], list[_Job]] = {}
        for job in jobs:
            groups.setdefault(job.function, []).append(job)
        return self._perform(list(groups.values()))

    def _perform(self, groups: list[list[_Job]]) -> str:
        """Do the writes in one transaction; where that does not go, in several, to find out which of them it is."""
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
        """Look whether the file is there, and sound where somebody else has written to it: SQLite would not notice."""
        self.health.look()
        if not self.health.lost and self._file.changed() and self._file.damaged(self._patience):
            self.health.damaged()


def _first_of(jobs: list[_Job]) -> tuple[list[_Job], list[_Job]]:
    """Choose for one transaction what has no size, and so much of the rest that others need not wait for long."""
    chosen, left, size = [], [], 0
    for job in jobs:
        if job.size and size > _TRANSACTION:
            left.append(job)
        else:
            chosen.append(job)
            size += job.size
    return chosen, left


def _divided(groups: list[list[_Job]], failure: Failure) -> list[list[list[_Job]]]:
    """Divide a transaction into smaller ones, as far as there is hope for some of them."""
    if failure.getErrorMessage() == _LOCKED:
        return []  # each would wait as long
    if len(groups) > 1:
        return [[group] for group in groups]  # the disk may have room for the outcomes, if not for what is new
    if len(groups[0]) > 1 and not failure.check(Unavailable):
        return [[[job]] for job in groups[0]]
    return []


def _closed() -> Unavailable:
    return Unavailable("the daemon is shutting down", 10.0)


def _trouble(error: BaseException | None) -> tuple[str, float] | None:
    """Tell what SQLite's exception means, and when to try again; ``None`` where it is about the statement."""
    return _TROUBLE.get(str(error).partition(": ")[0]) if isinstance(error, sqlite3.DatabaseError) else None


def _touch(connection: sqlite3.Connection) -> None:
    """Write the first page as it is. SQLite does not compare."""
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")


def _prepare(connection: sqlite3.Connection, part: Schema, path: Path) -> None:
    [(version,)] = connection.execute("SELECT coalesce(max(version), 0) FROM part WHERE name = ?", [part.name])
    if version > len(part.steps):
        raise DatabaseVersion(
            f"{path} has version {version} of its part {part.name}; this program knows those up to {len(part.steps)}"
        )
    if version == len(part.steps):
        return
    for script in part.steps[version:]:
        for statement in script.split(";\n"):  # executescript would end the transaction
            connection.execute(statement)
    connection.execute("INSERT OR REPLACE INTO part VALUES (?, ?)", [part.name, len(part.steps)])


class _File:
    """
    The file, its mode, and the locks on it and beside it.

    :param path: the file.

    :ivar writing: the connection to write with, while it is open.
    :ivar reading: the connection to read with.
    """

    writing: sqlite3.Connection
    reading: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = Path(f"{path}-wal")
        self._locks: list[int] = []  # descriptors
        self._changed_at = self._length_beside = 0

    def open(self, patience: float) -> None:
        """
        Open it twice, for writing and for reading.

        :param patience: how many seconds to wait for another process that has it locked.
        :raises DatabaseError: it cannot be used.
        """
        if sqlite3.sqlite_version_info < _SQLITE:
            raise DatabaseError(f"SQLite {sqlite3.sqlite_version} is too old; 3.35 is needed")
        try:
            self._take_lock()
            self._check_mode()
            self._lock_itself()
            self.writing = self._connect(patience)
            self._recognize(self.writing)
            self.reading = self._connect(patience)
            self.reading.execute("PRAGMA query_only = ON")
            self.written()
        except Exception as error:
            self.close()
            if isinstance(error, OSError):
                raise DatabaseError(f"{self._path}: {error.strerror}") from error
            if isinstance(error, sqlite3.Error):
                raise self.in_words(error) from error
            raise

    def visit(self, patience: float) -> sqlite3.Connection:
        """
        Open it beside whoever has it.

        :param patience: how many seconds to wait for another process that has it locked.
        :raises DatabaseError: it cannot be used.
        """
        try:
            self._check_mode()
        except OSError as error:
            raise DatabaseError(f"{self._path}: {error.strerror}") from error
        connection = self._connect(patience)
        try:
            self._recognize(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close what is open of it. It can be opened again."""
        try:
            for name in ("reading", "writing"):
                if hasattr(self, name):
                    getattr(self, name).close()
        finally:
            while self._locks:
                os.close(self._locks.pop())

    def _take_lock(self) -> None:
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode("ascii", "replace")
            os.close(lock)
            raise DatabaseInUse(f"{self._path} is in use by another process, number {owner}") from None
        self._locks.append(lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)

    def _lock_itself(self) -> None:
        """
        Lock the file, for who has removed that beside it.

        The lock belongs to the open descriptor, and is far from those of SQLite. These belong to the process, and end
        when any descriptor of the file is closed, so this one stays open for longer than SQLite's own. Where there are
        no such locks, the one beside the file has to do.
        """
        self._locks.append(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return
        octet = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_OCTET, 1, 0)
        try:
            fcntl.fcntl(self._locks[-1], fcntl.F_OFD_SETLK, octet)
        except BlockingIOError:
            raise DatabaseInUse(f"{self._path} is in use by another process; its lock file was removed") from None

    def written(self) -> None:
        """Remember when the file was written to: all until now was to be."""
        self._changed_at = os.fstat(self._locks[-1]).st_mtime_ns
        self._length_beside = self._measure_beside()

    def changed(self) -> bool:
        """
        Whether it was written to since, or cut.

        Most of what is stored is at first not in this file, but beside it. There others may write, and nobody cuts.
        """
        if os.fstat(self._locks[-1]).st_mtime_ns != self._changed_at:
            return True
        return self._measure_beside() < min(self._length_beside, _JOURNAL)

    def _measure_beside(self) -> int:
        try:
            return self._beside.stat().st_size
        except OSError:
            return 0  # it was removed, which the health knows; outcomes are stored all the same

    def damaged(self, patience: float) -> bool:
        """
        Look through the file as it is on the disk, as far as time allows.

        :param patience: how many seconds to wait for another process that has it locked.
        :returns: whether it is damaged.
        """
        try:
            with closing(self._connect(patience)) as connection:
                late = threading.Timer(_LOOK_THROUGH, connection.interrupt)
                late.daemon = True
                late.start()
                try:
                    return connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]
                finally:
                    late.cancel()
                    late.join()
        except sqlite3.DatabaseError as error:
            trouble = _trouble(error)
            return trouble is not None and trouble[0] in _UNREADABLE

    def _check_mode(self) -> None:
        """Refuse what others can read, and do not mend it: the operator has to know that they could."""
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        else:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(directory)  # or a power cut might take the file away with all that is in it
            os.close(directory)
        for suffix in ("", "-wal", "-shm"):
            path = Path(f"{self._path}{suffix}")
            if not path.exists():
                continue
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise DatabaseError(f"{path} is no file")
            if mode & 0o077:
                raise DatabaseExposed(
                    f"{path} has mode {stat.S_IMODE(mode):04o}, which lets others in: chmod 600 {path}"
                )

    def _connect(self, patience: float) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=patience, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages of 4 KiB
            connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL}")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def _recognize(self, connection: sqlite3.Connection) -> None:
        [(application,)] = connection.execute("PRAGMA application_id")
        [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema")
        if application != _APPLICATION:
            if tables:
                raise DatabaseCorrupt(f"{self._path} is the database of another program")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute("CREATE TABLE IF NOT EXISTS part (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")

    def in_words(self, error: sqlite3.Error) -> DatabaseError:
        """
        Say what SQLite's exception means.

        :param error: the exception.
        """
        trouble = _trouble(error)
        if trouble is None or trouble[0] == _DAMAGED:
            return DatabaseCorrupt(f"{self._path} is damaged, or no database: {error}")
        if trouble[0] == _LOCKED:
            return DatabaseInUse(f"{self._path} is locked by another process")
        return DatabaseError(f"{self._path}: {trouble[0]}")


@contextmanager
def lenient(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Have text that is not UTF-8 read all the same, so that a damaged row does not keep the others from being read.

    :param connection: to the database.
    """
    before, connection.text_factory = connection.text_factory, lambda text: text.decode("utf-8", "backslashreplace")
    try:
        yield
    finally:
        connection.text_factory = before


@contextmanager
def visiting(path: Path, *parts: Schema, patience: float = 10.0) -> Iterator[sqlite3.Connection]:
    """
    Do something in one transaction, in a process of its own, whether or not the daemon has the database open.

    :param path: the file. It is made, with mode 0600, where there is none.
    :param parts: the parts whose tables have to be there.
    :param patience: how many seconds to wait for the daemon's transaction to end.
    :returns: a context with a connection in a transaction, which ends with the context: committed, or undone where the
        context raises.
    :raises DatabaseError: the database cannot be used.
    """
    file = _File(path)
    try:
        with closing(file.visit(patience)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for part in parts:
                _prepare(connection, part, path)
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise file.in_words(error) from error
