"""A table of words, and what is written to it, for the tests of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from txapns.daemon.store.sqlite.schema import Schema

__all__ = ["WORDS", "add", "add_all", "words"]

WORDS = Schema("words", ("CREATE TABLE word (word TEXT UNIQUE)",))


def add(word: str) -> Callable[[sqlite3.Connection], str]:
    """Add a word."""

    def write(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO word VALUES (?)", [word])
        return word.upper()

    return write


def add_all(connection: sqlite3.Connection, words: Sequence[str]) -> list[str | Exception]:
    """Add words, of which one fails."""
    connection.executemany("INSERT INTO word VALUES (?)", [(word,) for word in words if word != "nobody"])
    return [LookupError(word) if word == "nobody" else f"{len(words)} {word}" for word in words]


def words(connection: sqlite3.Connection) -> list[str]:
    """List the words."""
    return [word for (word,) in connection.execute("SELECT word FROM word ORDER BY rowid")]
