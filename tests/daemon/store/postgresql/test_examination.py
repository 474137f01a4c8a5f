"""Tests for :mod:`txapns.daemon.store.postgresql.examination` and :mod:`txapns.daemon.store.postgresql.access`."""

from __future__ import annotations

import re

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.postgresql import execute, pair, schema, started
from txapns.daemon.config.sections import DatabaseSection
from txapns.daemon.errors import DatabaseInUse
from txapns.daemon.store.examination import Examination, Kind
from txapns.daemon.store.postgresql import access
from txapns.daemon.store.postgresql import schema as schemas

__all__ = ["ExaminationTests", "MigrationTests", "ServerTests"]

NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class ExaminationCase(SynchronousTestCase):
    """A place for a database, and its examination."""

    def setUp(self) -> None:
        """Find a place."""
        self.place = schema(self)
        self.section = DatabaseSection(url=self.place.url, schema=self.place.name)

    def execute(self, statement: str) -> None:
        """Execute a statement in the schema, as another program does."""
        execute(f"{self.place.url}&options=-csearch_path%3D{self.place.name}", statement)

    def live(self, name: str, seconds: int = 15) -> None:
        """Have a node that lives for some time."""
        self.execute(
            f"INSERT INTO node VALUES ('{name}', gen_random_uuid(), '0.1', 'c0ffee', {NOW}, {NOW},"
            f" {NOW} + {seconds * 1000}, 0, 7)"
        )

    def check(self, found: Examination, kind: Kind, *patterns: str) -> None:
        """Check that findings of a kind are exactly these, in any order."""
        texts = [text for each, text in found.findings if each == kind]
        self.assertEqual(len(texts), len(patterns), texts)
        for pattern in patterns:
            self.assertTrue(any(re.search(pattern, text) for text in texts), f"{pattern}: {texts}")


@pytest.mark.loopback
class ExaminationTests(ExaminationCase):
    """What is told of a database."""

    def test_empty(self) -> None:
        """A database without tables can be used; nothing is made."""
        found = access.examined(self.section)
        self.assertEqual((found.faults, found.prepared, found.nodes), ([], False, ()))
        self.assertIn(f"the schema {self.place.name} has no tables for nodes, queue, ", str(found.findings))
        rows = execute(self.place.url, "SELECT 1 FROM pg_namespace WHERE nspname = %s", self.place.name)
        self.assertEqual(rows, [])

    def test_prepared(self) -> None:
        """One with tables is up to date, and its size and its nodes are told."""
        access.migrated(self.section)
        self.live("push-1")
        self.live("push-2", -3)
        found = access.examined(self.section)
        self.assertEqual((found.faults, found.prepared), ([], True))
        self.assertEqual([(node.name, node.alive) for node in found.nodes], [("push-1", True), ("push-2", False)])
        text = str(found.findings)
        for words in (
            "PostgreSQL 1",
            "are up to date",
            "MB in ",
            "connections are in use; each node needs 5",
            "clock is",
        ):
            self.assertIn(words, text)

    def test_versions(self) -> None:
        """Older tables are to be migrated; those of a later version that this one cannot use are a fault."""
        access.migrated(self.section)
        keys = access.SCHEMAS[-1]
        later = schemas.Schema(keys.name, (*keys.steps, "ALTER TABLE api_key ADD COLUMN note text"))
        self.patch(access, "SCHEMAS", (*access.SCHEMAS[:-1], later))
        found = access.examined(self.section)
        self.assertEqual((found.faults, found.prepared), ([], False))
        versions = f"version {keys.known} of {later.known}"
        self.assertIn(f"the keys tables have {versions}: txapns database migrate", str(found.findings))
        self.execute("UPDATE schema_version SET version = 9, needed = 8 WHERE name = 'keys'")
        [fault] = access.examined(self.section).faults
        self.assertIn("a later version of txapns changed the keys tables (version 9)", fault)

    def test_away(self) -> None:
        """A server that cannot be reached is the only finding."""
        found = access.examined(DatabaseSection(url="postgresql://x@127.0.0.1:1/x?connect_timeout=2"))
        self.assertEqual(len(found.findings), 1)
        self.assertIn("postgresql://127.0.0.1:1/x", found.faults[0])


@pytest.mark.loopback
class ServerTests(ExaminationCase):
    """What is told of a server, which a test changes."""

    def setUp(self) -> None:
        """Nothing is shared here."""

    def test_settings(self) -> None:
        """Settings by which something is lost, slow or refused are told, but the daemon can work with them."""
        server = started(self, max_connections="7", superuser_reserved_connections="3", autovacuum="off")
        section = DatabaseSection(url=server.url)
        expected = ["autovacuum is off", "1 of 4 connections are in use; each node needs 5"]
        self.check(access.examined(section), "warning", *expected)
        server.set(synchronous_commit="off", fsync="off")
        found = access.examined(section)
        self.check(found, "warning", *expected, "synchronous_commit is off", "fsync is off")
        self.assertEqual(found.faults, [])

    def test_rights(self) -> None:
        """A user that may not make or change the tables is a fault."""
        server = started(self)
        server.execute("CREATE ROLE push LOGIN")
        url = server.url.replace("postgres@", "push@")
        self.assertNotEqual(url, server.url)
        section = DatabaseSection(url=url)
        self.check(access.examined(section), "fault", "the schema txapns is missing, and the user may not create it")
        access.migrated(DatabaseSection(url=server.url))
        server.execute("GRANT USAGE ON SCHEMA txapns TO push")
        server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA txapns TO push")
        faults = (
            "the user may not create tables in the schema",
            "the user may not read and change the tables api_key, ",
        )
        self.check(access.examined(section), "fault", *faults)

    def test_standby(self) -> None:
        """A synchronous standby is told; by itself it cannot be used."""
        primary, standby = pair(self)
        text = str(access.examined(DatabaseSection(url=primary.url)).findings)
        self.assertIn("what is accepted is also on a synchronous standby (*)", text)
        [fault] = access.examined(DatabaseSection(url=standby.url)).faults
        self.assertIn("read-only", fault)
        [fault] = access.examined(DatabaseSection(url=f"{standby.url}&target_session_attrs=any")).faults
        self.assertIn("the server is a standby", fault)


@pytest.mark.loopback
class MigrationTests(ExaminationCase):
    """``txapns database migrate``."""

    def test_made(self) -> None:
        """All tables are made at once; a second time nothing is missing."""
        made = access.migrated(self.section)
        self.assertEqual(made, [(each.name, 0, each.known) for each in access.SCHEMAS])
        self.assertEqual(access.migrated(self.section), [])

    def test_alive(self) -> None:
        """While nodes are alive, only steps are done after which they can still use the tables."""
        access.migrated(self.section)
        self.live("push-1")
        keys = access.SCHEMAS[-1]
        later = schemas.Schema(keys.name, (*keys.steps, "ALTER TABLE api_key ADD COLUMN note text"), (keys.known + 1,))
        self.patch(access, "SCHEMAS", (*access.SCHEMAS[:-1], later))
        with self.assertRaisesRegex(DatabaseInUse, "could not use the keys tables any more; stop them first: push-1"):
            access.migrated(self.section)
        self.patch(access, "SCHEMAS", (*access.SCHEMAS[:-1], schemas.Schema(keys.name, later.steps)))
        self.assertEqual(access.migrated(self.section), [("keys", keys.known, later.known)])
