"""What an operator should know of a database in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from txapns.daemon.errors import DatabaseError, DatabaseInUse
from txapns.daemon.store.examination import Examination, Finding, megabytes
from txapns.daemon.store.sqlite.file import DatabaseFile

__all__ = ["examine"]

_PATIENCE = 10.0  # seconds to wait for another program that has the file locked


def examine(path: Path) -> Examination:
    """
    Examine a database.

    :param path: the file, which is not made if it is missing.
    """
    if not path.parent.is_dir():
        return Examination([Finding("fault", f"there is no directory {path.parent}")])
    if not path.exists():
        return Examination([Finding("ok", f"there is no file {path} yet; the daemon makes it when it starts")])
    file = DatabaseFile(path)
    try:
        with closing(file.visit(_PATIENCE)) as connection:
            findings = [Finding("ok", f"{path} can be used, with SQLite {sqlite3.sqlite_version}")]
            findings += [*_size(path), *_use(file)]
            [(tables,)] = connection.execute("SELECT count(*) FROM schema_version")
            return Examination(findings, prepared=tables > 0)
    except DatabaseError as error:
        return Examination([Finding("fault", str(error))])
    except sqlite3.Error as error:
        return Examination([Finding("fault", str(file.in_words(error)))])


def _size(path: Path) -> Iterator[Finding]:
    journal = Path(f"{path}-wal")
    size = journal.stat().st_size if journal.exists() else 0
    yield Finding("ok", f"{megabytes(path.stat().st_size)}, and {megabytes(size)} in its journal")


def _use(file: DatabaseFile) -> Iterator[Finding]:
    try:
        file.check_unused()
        yield Finding("ok", "no daemon has it open")
    except DatabaseInUse as error:
        yield Finding("ok", str(error))
