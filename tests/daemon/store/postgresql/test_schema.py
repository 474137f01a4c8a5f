"""Tests for :mod:`txapns.daemon.store.postgresql.schema`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.postgresql.opened import OpenedDatabase
from tests.postgresql import schema
from txapns.daemon.errors import DatabaseError, DatabaseVersion
from txapns.daemon.store.postgresql.connection import DatabaseConnection, Mode
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.schema import Schema, create_schema, migrate, prepare
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["CreationTests", "SchemaTests"]

FIRST = "CREATE TABLE word (word text);\nINSERT INTO word VALUES ('first');\n"
SECOND = "ALTER TABLE word ADD COLUMN number integer"
THIRD = "ALTER TABLE word DROP COLUMN word"


@pytest.mark.loopback
class SchemaTests(SynchronousTestCase):
    """Tables of several versions."""

    def setUp(self) -> None:
        """Open a database."""
        self.opened = OpenedDatabase(self)
        self.where = self.opened.settings.where

    def prepare(self, found: Schema, *, alone: bool = True) -> None:
        """Create the tables of a schema, or bring them up to date."""
        self.opened.database.alone = lambda connection: alone
        self.opened.result(self.opened.database.prepare(found))

    def migrate(self, found: Schema) -> int:
        """Bring the tables of a schema up to date."""
        return self.opened.result(self.opened.database.write(lambda connection: migrate(connection, found, self.where)))

    def columns(self) -> list[str]:
        """List the columns of the table."""
        rows = self.opened.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = 'word'"
            " ORDER BY ordinal_position",
            self.opened.place.name,
        )
        return [name for (name,) in rows]

    def versions(self) -> list[tuple[int, int]]:
        """Tell the version of the words, and which one a program must know."""
        return [
            (a, b) for a, b in self.opened.execute("SELECT version, needed FROM schema_version WHERE name = 'words'")
        ]

    def test_created(self) -> None:
        """Missing tables are created, once, also while other nodes are alive."""
        for _ in range(2):
            self.prepare(Schema("words", (FIRST,)), alone=False)
        self.assertEqual((self.columns(), self.versions()), (["word"], [(1, 1)]))
        self.assertEqual(self.opened.execute("SELECT * FROM word"), [("first",)])

    def test_alone(self) -> None:
        """A node that is alone brings older tables up to date."""
        self.prepare(Schema("words", (FIRST,)))
        self.prepare(Schema("words", (FIRST, SECOND)))
        self.assertEqual((self.columns(), self.versions()), (["word", "number"], [(2, 1)]))

    def test_not_alone(self) -> None:
        """While others are alive the operator says when, and then they go on."""
        old, new = Schema("words", (FIRST,)), Schema("words", (FIRST, SECOND))
        self.prepare(old)
        error = self.assertRaises(DatabaseVersion, self.prepare, new, alone=False)
        self.assertIn("version 1 of its words tables", str(error))
        self.assertIn("txapns database migrate", str(error))
        self.assertEqual(self.columns(), ["word"])
        self.assertEqual((self.migrate(new), self.migrate(new)), (1, 0))
        for each in (old, new):
            self.prepare(each, alone=False)
        self.assertEqual((self.columns(), self.versions()), (["word", "number"], [(2, 1)]))

    def test_breaking(self) -> None:
        """After a step that older programs cannot live with, they refuse the database."""
        new = Schema("words", (FIRST, SECOND, THIRD), (3,))
        self.prepare(new)
        self.assertEqual(self.versions(), [(3, 3)])
        for known in (Schema("words", (FIRST,)), Schema("words", (FIRST, SECOND))):
            error = self.assertRaises(DatabaseVersion, self.prepare, known)
            self.assertIn(
                f"needs a program that knows version 3; this one knows versions up to {known.known}", str(error)
            )
        self.prepare(Schema("words", (FIRST, SECOND, THIRD, "CREATE TABLE later (n int)"), (3,)))
        self.assertEqual(self.versions(), [(4, 3)])
        self.prepare(new)

    def test_fails(self) -> None:
        """A step that fails leaves everything as it was."""
        self.prepare(Schema("words", (FIRST,)))
        with self.assertRaises(DatabaseError):
            self.prepare(Schema("words", (FIRST, SECOND, "ALTER TABLE none ADD COLUMN n int")))
        self.assertEqual((self.columns(), self.versions()), (["word"], [(1, 1)]))


@pytest.mark.loopback
class CreationTests(SynchronousTestCase):
    """An empty database."""

    def test_together(self) -> None:
        """Several nodes that start at once create the tables once."""
        place = schema(self)
        settings = Settings(place.url, schema=place.name)
        words = Schema("words", (FIRST,))

        def start(number: int) -> None:
            connection = DatabaseConnection(settings, Clock(), Mode(f"node {number}"), 10.0)
            try:
                connection.transact(lambda c: create_schema(c, place.name))
                connection.transact(lambda c: prepare(c, words, settings.where, alone=True))
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(start, number) for number in range(8)]:
                done.result()
        connection = DatabaseConnection(settings, Clock(), Mode("test"), 10.0)
        self.addCleanup(connection.close)
        self.assertEqual(connection.transact(lambda c: c.execute("SELECT * FROM word").fetchall()), [("first",)])

    def test_no_right(self) -> None:
        """A user without the right to create anything is told so, and can use what is there."""
        opened = OpenedDatabase(self)
        opened.result(opened.database.prepare(Schema("words", (FIRST,))))
        role = f"role_{opened.place.name}"
        opened.execute(f"CREATE ROLE {role} LOGIN")
        self.addCleanup(opened.execute, f"DROP ROLE {role}")
        settings = Settings(opened.place.url.replace("postgres@", f"{role}@"), schema=opened.place.name)
        database = Database(settings, opened.clock, lambda name: InlineWorker())
        error = self.assertRaises(DatabaseError, opened.result, database.start())
        self.assertIn("or its user may not use it", str(error))
        opened.execute(f"GRANT USAGE ON SCHEMA {opened.place.name} TO {role}")
        opened.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {opened.place.name} TO {role}")
        self.addCleanup(opened.execute, f"DROP OWNED BY {role}")
        opened.result(database.start())
        opened.result(database.prepare(Schema("words", (FIRST,))))
        opened.result(database.stop())
