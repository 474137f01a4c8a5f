"""The tables in the database: each module that has some brings a schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from txapns.daemon.errors import DatabaseVersion

__all__ = ["Schema", "lenient", "prepare"]


@attrs.frozen
class Schema:
    """
    The tables of one module.

    :ivar steps: SQL scripts. The first creates the tables, and each of the others migrates them to the next version.
        Once released, a step is never changed: a change of the tables is another step.
    """

    name: str
    steps: tuple[str, ...] = attrs.field(repr=False)


def prepare(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    """
    Create the tables of a schema, or bring them up to date, in a transaction of the caller's.

    :param path: the database's file, for the error.
    :raises DatabaseVersion: a later version of this program made the tables.
    """
    name, known = schema.name, len(schema.steps)
    [(version,)] = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version WHERE name = ?", [name])
    if version > known:
        raise DatabaseVersion(
            f"{path} has version {version} of its {name} tables; this program knows versions up to {known}"
        )
    if version == known:
        return
    for script in schema.steps[version:]:
        for statement in script.split(";\n"):  # executescript() would commit the transaction
            connection.execute(statement)
    connection.execute("INSERT OR REPLACE INTO schema_version VALUES (?, ?)", [name, known])


@contextmanager
def lenient(connection: sqlite3.Connection) -> Iterator[None]:
    """Read text that is not UTF-8, too, so that one damaged row does not hide the others."""
    before, connection.text_factory = connection.text_factory, lambda text: text.decode("utf-8", "backslashreplace")
    try:
        yield
    finally:
        connection.text_factory = before
