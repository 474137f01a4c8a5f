"""
The database's file: its mode, its locks, and what SQLite's exceptions mean.

Only the owner can read the file. One process has it open at a time, which two locks ensure: one on a file beside it,
which names that process, and one on the file itself, which holds even if somebody removes the other. Both end with the
process, however that ends. The ``sqlite3`` tool can read the file at any time.

What is committed is in the log beside the file at first. A commit can wait until the log is on the disk, or leave that
to :meth:`DatabaseFile.sync`: then a power cut may undo it, but nothing that happens to this process.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from txapns.daemon.errors import DatabaseCorrupt, DatabaseError, DatabaseExposed, DatabaseInUse, DatabaseVersion
from txapns.daemon.store.sqlite.schema import Schema, prepare

__all__ = ["APPLICATION", "DAMAGED", "LOCKED", "RETRY_DISK", "DatabaseFile", "trouble", "visiting"]

#: "apns" in ASCII; marks the file as ours.
APPLICATION = 0x61706E73

# The first with RETURNING and MATERIALIZED.
_SQLITE = (3, 35, 0)

# The byte of the file that is locked; SQLite's own locks are at the end of the first GiB.
_LOCKED_BYTE = 2**62

# How many seconds a check of the whole file may take.
_CHECK = 10.0

#: In how many seconds to retry after trouble with the disk.
RETRY_DISK = 10.0
# SQLite's messages for faults outside the statement: what they mean, and in how many seconds to retry.
_TROUBLE = {
    "database or disk is full": ("the disk is full", RETRY_DISK),
    "disk I/O error": ("writing to the disk failed", RETRY_DISK),
    "database is locked": ("another process has the database locked", 2.0),
    "database table is locked": ("another process has the database locked", 2.0),
    "attempt to write a readonly database": ("the database is read-only", 60.0),
    "unable to open database file": ("the database cannot be opened", 60.0),
    "database disk image is malformed": ("the database is damaged", 300.0),
    "file is not a database": ("the database is damaged", 300.0),
    "no such table": ("the database is damaged", 300.0),
    "no such column": ("the database is damaged", 300.0),
    "out of memory": ("out of memory", 10.0),
}
#: What :func:`trouble` says of a lock, and of damage.
LOCKED = _TROUBLE["database is locked"][0]
DAMAGED = _TROUBLE["file is not a database"][0]
_UNREADABLE = (DAMAGED, _TROUBLE["disk I/O error"][0])

# To how many bytes SQLite may cut the journal beside the file; it is never shorter once it was longer.
_JOURNAL = 64 * 2**20

_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has none


def trouble(error: BaseException | None) -> tuple[str, float] | None:
    """
    Explain SQLite's exception.

    :returns: what it means, and in how many seconds to retry; ``None`` if the statement is at fault.
    """
    return _TROUBLE.get(str(error).partition(": ")[0]) if isinstance(error, sqlite3.DatabaseError) else None


class DatabaseFile:
    """
    The file, its mode and its locks.

    :param factory: the class of its connections.

    :ivar writing: the connection for writing, while the file is open.
    :ivar behind: whether something may be committed that is not on the disk.
    :ivar gap: whether what is behind may stay so, though the disk works again.
    """

    writing: sqlite3.Connection
    reading: sqlite3.Connection

    def __init__(self, path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        self._path = path
        self._factory = factory
        self._beside = f"{path}-wal"
        self._locks: list[int] = []  # descriptors
        self._log = -1  # that of the journal, while the file is open
        self._waits = True  # whether a commit waits for the disk
        self.behind = self.gap = False
        self._changed_at = self._length_beside = 0

    def open(self, patience: float) -> None:
        """Open it twice, for writing and for reading; :class:`DatabaseError` if it cannot be used."""
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
            self._log = os.open(self._beside, os.O_WRONLY | os.O_CLOEXEC)
            self._waits, self.behind, self.gap = True, True, False
            with suppress(OSError):  # then there is a gap
                self.sync()  # a process that was killed may have committed what is not on the disk
            self.written()
        except Exception as error:
            self.close()
            if isinstance(error, OSError):
                raise DatabaseError(f"{self._path}: {error.strerror}") from error
            if isinstance(error, sqlite3.Error):
                raise self.in_words(error) from error
            raise

    def check_unused(self) -> None:
        """Check that no process has it open, by its lock; :class:`DatabaseError` if one has, or if that is unknown."""
        try:
            self._take_lock()
        except OSError as error:
            raise DatabaseError(f"{self._path}: {error.strerror}") from error
        finally:
            self.close()

    def visit(self, patience: float) -> sqlite3.Connection:
        """Open it without the locks, beside the process that has them."""
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
        """Close the connections and release the locks. The file can be opened again."""
        try:
            for name in ("reading", "writing"):
                if hasattr(self, name):
                    getattr(self, name).close()
        finally:
            if self._log >= 0:
                os.close(self._log)  # SQLite has no locks on this file that would end with it
                self._log = -1
            while self._locks:
                os.close(self._locks.pop())

    # The disk.

    def begin(self, *, waits: bool) -> None:
        """
        Begin a transaction for writing.

        :param waits: whether its commit waits for the disk; otherwise :meth:`sync` has to follow it.
        """
        if waits is not self._waits:
            # Not by execute(), which would find the statement prepared, and it acts when it is.
            self.writing.executescript(f"PRAGMA synchronous = {'FULL' if waits else 'NORMAL'}")
            self._waits = waits
        self.writing.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit the transaction."""
        if not self._waits:
            self.behind = True
        self.writing.execute("COMMIT")

    def sync(self) -> None:
        """Wait until what is committed is on the disk; :class:`OSError` if that fails, which leaves a gap."""
        try:
            _fdatasync(self._log)
        except OSError:
            self.gap = True
            raise
        self.behind = self.gap

    def catch_up(self) -> None:
        """
        Bring to the disk what is committed, if there is a gap; :class:`sqlite3.Error` if that fails, too.

        To wait again would prove nothing: the operating system may have given up what it could not write. So all of it
        is copied into the file, which SQLite waits for. And the log begins anew, since nothing after a gap would count.
        That takes a moment when nobody reads from the log; otherwise the database is locked.
        """
        [(busy, *_)] = self.writing.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        if busy:
            raise sqlite3.OperationalError("database is locked")
        self.behind = self.gap = False

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
        Lock the file itself, in case somebody removes the lock file.

        The lock belongs to the open descriptor and lies far from SQLite's locks. Those belong to the process and end
        when any descriptor of the file is closed, so this one stays open longer than SQLite's own. On platforms without
        such locks, the lock file has to suffice.
        """
        self._locks.append(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return
        byte = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
        try:
            fcntl.fcntl(self._locks[-1], fcntl.F_OFD_SETLK, byte)
        except BlockingIOError:
            raise DatabaseInUse(f"{self._path} is in use by another process; its lock file was removed") from None

    def written(self) -> None:
        """Remember the state of the file after a write of our own."""
        self._changed_at = os.fstat(self._locks[-1]).st_mtime_ns
        self._length_beside = self._measure_beside()

    def changed(self) -> bool:
        """
        Whether another program has written to it since, or cut it.

        New data is at first in the journal beside the file. Others may append to that, but never cut it.
        """
        if os.fstat(self._locks[-1]).st_mtime_ns != self._changed_at:
            return True
        return self._measure_beside() < min(self._length_beside, _JOURNAL)

    def _measure_beside(self) -> int:
        try:
            return os.stat(self._beside).st_size  # noqa: PTH116 - for each commit, and a Path takes four calls
        except OSError:
            return 0  # it was removed: Health reports that, and outcomes are still stored

    def damaged(self, patience: float) -> bool:
        """
        Check the file on the disk, as far as time allows.

        :param patience: how many seconds to wait for another process that has it locked.
        """
        try:
            with closing(self._connect(patience)) as connection:
                late = threading.Timer(_CHECK, connection.interrupt)
                late.daemon = True
                late.start()
                try:
                    return connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]
                finally:
                    late.cancel()
                    late.join()
        except sqlite3.DatabaseError as error:
            found = trouble(error)
            return found is not None and found[0] in _UNREADABLE

    def _check_mode(self) -> None:
        """Refuse a file that others can read. Do not fix its mode: the operator has to know that they could."""
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        else:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(directory)  # otherwise a power cut might remove the file with everything in it
            os.close(directory)
        for suffix in ("", "-wal", "-shm"):
            path = Path(f"{self._path}{suffix}")
            if not path.exists():
                continue
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise DatabaseError(f"{path} is not a regular file")
            if mode & 0o077:
                raise DatabaseExposed(
                    f"{path} has mode {stat.S_IMODE(mode):04o}, which lets other users read it: chmod 600 {path}"
                )

    def _connect(self, patience: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=patience, isolation_level=None, check_same_thread=False, factory=self._factory
        )
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
        if application != APPLICATION:
            if tables:
                raise DatabaseCorrupt(f"{self._path} is the database of another program")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'part'").fetchall():
            raise DatabaseVersion(
                f"{self._path} is from a version before the first release, and its tables have other names; send what "
                "waits in it with that version, then move the file away"
            )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )

    def in_words(self, error: sqlite3.Error) -> DatabaseError:
        """Translate SQLite's exception into one of ours."""
        found = trouble(error)
        if found is None or found[0] == DAMAGED:
            return DatabaseCorrupt(f"{self._path} is damaged, or not a database: {error}")
        if found[0] == LOCKED:
            return DatabaseInUse(f"{self._path} is locked by another process")
        return DatabaseError(f"{self._path}: {found[0]}")


@contextmanager
def visiting(path: Path, *schemas: Schema, patience: float = 10.0) -> Iterator[sqlite3.Connection]:
    """
    Run one transaction from another process, whether or not the daemon has the database open.

    :param path: the file. If it is missing, it is created with mode 0600.
    :param schemas: the schemas whose tables are needed.
    :param patience: how many seconds to wait for the daemon's transaction to end.
    :returns: a context with a connection in a transaction, which is committed at its end, or rolled back if the context
        raises.
    :raises DatabaseError: the database cannot be used.
    """
    file = DatabaseFile(path)
    try:
        with closing(file.visit(patience)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for schema in schemas:
                prepare(connection, schema, path)
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise file.in_words(error) from error
