"""Tests for the cursor of :mod:`txapns.daemon.store.postgresql.feedback_log`, with several writers on one database."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.opened import OpenedDatabase, until
from txapns.daemon.store.postgresql.connection import Mode, connect
from txapns.daemon.store.postgresql.feedback_log import FEEDBACK, note
from txapns.daemon.store.postgresql.schema import Connection

__all__ = ["CursorTests"]

IDENTITY = """
CREATE TABLE identity_token (
    cursor bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, app text, token bytea, timestamp double precision
);
"""


def note_with_identity(connection: Connection, dead: list[tuple[str, bytes, str, float]], now: float) -> None:
    """Note dead tokens in the way that the feedback log does not: an identity column gives the cursors."""
    for app, token, _, timestamp in dead:
        connection.execute(
            "INSERT INTO identity_token (app, token, timestamp) VALUES (%s, %s, %s)", [app, token, timestamp]
        )


class Reader:
    """One who reads on after the last entry read."""

    def __init__(self, connection: Connection, table: str) -> None:
        self.cursor = 0
        self.found: list[bytes] = []
        self._connection = connection
        self._table = table

    def read(self) -> None:
        """Read on."""
        statement = f"SELECT cursor, token FROM {self._table} WHERE cursor > %s ORDER BY cursor"
        for cursor, token in self._connection.execute(statement.encode(), [self.cursor]):
            self.cursor = cursor
            self.found.append(token)


@pytest.mark.loopback
class CursorTests(SynchronousTestCase):
    """Cursors are in the order of the commits."""

    def setUp(self) -> None:
        """Make the tables."""
        self.opened = OpenedDatabase(self)
        self.opened.result(self.opened.database.prepare(FEEDBACK))
        self.opened.execute(IDENTITY)
        self.pool = ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown)

    def connect(self, name: str, **mode: bool) -> Connection:
        """Connect once more."""
        connection, _ = connect(self.opened.settings, Mode(name, **mode), 0)
        self.addCleanup(connection.close)
        return connection

    def interleave(self, table: str, note: Callable[..., None]) -> Reader:
        """
        Let a first transaction note a token, then a second one, which commits as soon as it can, then the first.

        :returns: a reader who read as soon as the second one was committed or waits, and again at the end.
        """
        first, second = self.connect("first"), self.connect("second")
        reader = Reader(self.connect("reader", reads=True), table)
        note(first, [("chess", b"1", "Unregistered", 5.0)], 5.0)

        def note_second() -> None:
            note(second, [("chess", b"2", "Unregistered", 5.0)], 5.0)
            second.commit()

        noting = self.pool.submit(note_second)
        until(lambda: noting.done() or self.waits())
        reader.read()
        first.commit()
        noting.result()
        reader.read()
        return reader

    def waits(self) -> bool:
        """Whether the second transaction waits for a lock."""
        [[waiting]] = self.opened.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'txapns second' AND wait_event_type = 'Lock'"
        )
        return bool(waiting)

    def test_interleaved(self) -> None:
        """A transaction that began to note later waits, and its tokens come later; a reader sees all of them."""
        reader = self.interleave("feedback_token", note)
        self.assertEqual(reader.found, [b"1", b"2"])

    def test_identity(self) -> None:
        """With an identity column in place of the head, a reader misses what was numbered first but committed last."""
        reader = self.interleave("identity_token", note_with_identity)
        self.assertEqual(reader.found, [b"2"])
        self.assertEqual(self.opened.execute("SELECT count(*) FROM identity_token"), [(2,)])

    def test_rolled_back(self) -> None:
        """What is rolled back leaves no entry, and the next one goes on with greater cursors."""
        first = self.connect("first")
        for token, end in ((b"1", first.commit), (b"2", first.rollback), (b"3", first.commit)):
            note(first, [("chess", token, "Unregistered", 5.0)], 5.0)
            end()
        reader = Reader(self.connect("reader", reads=True), "feedback_token")
        reader.read()
        self.assertEqual(reader.found, [b"1", b"3"])

    def test_writers(self) -> None:
        """Four writers note thousands of tokens while somebody reads: each is read once, in the cursors' order."""
        transactions, each = 40, 25

        def write(writer: int) -> None:
            with closing(self.connect(f"writer {writer}")) as connection:
                for n in range(transactions):
                    tokens = [b"%d %d %d" % (writer, n, m) for m in range(each)]
                    note(connection, [("chess", token, "Unregistered", 5.0) for token in tokens], 5.0)
                    connection.commit()

        writing = [self.pool.submit(write, writer) for writer in range(4)]
        reader = Reader(self.connect("reader", reads=True), "feedback_token")
        while not all(future.done() for future in writing):
            reader.read()
        for future in writing:
            future.result()
        reader.read()
        self.assertEqual(len(reader.found), 4 * transactions * each)
        [(all_tokens,)] = self.opened.execute("SELECT array_agg(token ORDER BY cursor) FROM feedback_token")
        self.assertEqual(reader.found, all_tokens)
