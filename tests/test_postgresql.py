"""The PostgreSQL servers of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import PROJECT, postgresql

psycopg = pytest.importorskip("psycopg")

pytestmark = pytest.mark.loopback

_FOREVER = """
import sys, time
from tests import postgresql
postgresql.shared()
[server] = postgresql._servers
print(server.pid, server.directory, flush=True)
time.sleep(600)
"""


class SharedTests(SynchronousTestCase):
    """The one server of a process."""

    def test_schemas_are_apart(self) -> None:
        """Two worlds have the same table without seeing each other's, and a dropped schema is gone."""
        one, two = postgresql.schema(self), postgresql.schema(self)
        for place in (one, two):
            postgresql.execute(place.url, f"CREATE SCHEMA {place.name}")
            postgresql.execute(place.url, f"CREATE TABLE {place.name}.said (what text)")
            postgresql.execute(place.url, f"INSERT INTO {place.name}.said VALUES (%s)", place.name)
        self.assertEqual([(one.name,)], postgresql.execute(one.url, f"SELECT what FROM {one.name}.said"))
        one.drop()
        found = "SELECT count(*) FROM pg_namespace WHERE nspname = ANY(%s)"
        self.assertEqual([(1,)], postgresql.execute(two.url, found, [one.name, two.name]))

    def test_killed(self) -> None:
        """When the process that started it is killed, the server ends and its data is removed."""
        if os.environ.get("TXAPNS_TEST_POSTGRESQL", "/").startswith("postgresql:"):
            self.skipTest("the server is another's")
        postgresql.programs()
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": postgresql.TEMPORARY}
        with subprocess.Popen([sys.executable, "-c", _FOREVER], stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            pid, directory = process.stdout.readline().decode().split()
            process.kill()
        deadline = time.monotonic() + postgresql.PATIENCE
        while Path(directory).exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertRaises(ProcessLookupError, os.kill, int(pid), 0)


class ServerTests(SynchronousTestCase):
    """A server of a test's own."""

    def test_kill(self) -> None:
        """What was committed is there after a kill and a start; meanwhile there is no server."""
        server = postgresql.started(self)
        server.execute("CREATE TABLE said (what text)")
        server.execute("INSERT INTO said VALUES ('hello')")
        server.kill()
        self.assertRaises(psycopg.OperationalError, postgresql.execute, server.tcp_url, "SELECT 1")
        server.start()
        self.assertEqual([("hello",)], server.execute("SELECT what FROM said"))

    def test_silence(self) -> None:
        """A stopped server takes connections and says nothing; continued, it goes on."""
        server = postgresql.started(self)
        server.signal(signal.SIGSTOP)
        silent = f"{server.tcp_url}?connect_timeout=2"
        self.assertRaises(psycopg.errors.ConnectionTimeout, postgresql.execute, silent, "SELECT 1")
        server.signal(signal.SIGCONT)
        self.assertEqual([(1,)], server.execute("SELECT 1"))

    def test_standby(self) -> None:
        """The standby has what the primary has confirmed; promoted, it takes writes."""
        primary, standby = postgresql.pair(self)
        primary.execute("CREATE TABLE said (what text)")
        primary.execute("INSERT INTO said VALUES ('hello')")
        self.assertRaises(psycopg.errors.ReadOnlySqlTransaction, standby.execute, "DELETE FROM said")
        primary.kill()
        standby.promote()
        both = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
        url = f"{both}?target_session_attrs=read-write"
        postgresql.execute(url, "INSERT INTO said VALUES ('again')")
        self.assertEqual([("hello",), ("again",)], standby.execute("SELECT what FROM said"))
