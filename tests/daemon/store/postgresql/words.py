"""A table of words, and what is written to it, for the tests of the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txapns.daemon.store.postgresql.schema import Connection, Schema

__all__ = ["KILL_AT_COMMIT", "WORDS", "add", "add_all", "words"]

WORDS = Schema("words", ("CREATE TABLE word (number serial, word text UNIQUE)",))


# Whoever adds a word loses the connection during COMMIT.
KILL_AT_COMMIT = """
CREATE FUNCTION killed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid());
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER killed AFTER INSERT ON word DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION killed();
"""


def add(word: str) -> Callable[[Connection], str]:
    """Add a word."""

    def write(connection: Connection) -> str:
        connection.execute("INSERT INTO word (word) VALUES (%s)", [word])
        return word.upper()

    return write


def add_all(connection: Connection, words: Sequence[str]) -> list[str | Exception]:
    """Add words, of which one fails."""
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO word (word) VALUES (%s)", [(word,) for word in words if word != "nobody"])
    return [LookupError(word) if word == "nobody" else f"{len(words)} {word}" for word in words]


def words(connection: Connection) -> list[str]:
    """List the words."""
    return [word for (word,) in connection.execute("SELECT word FROM word ORDER BY number")]
