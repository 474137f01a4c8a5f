"""Tests for :mod:`txapns.daemon.store.postgresql.connection`: transactions that fail, and servers that go away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.opened import OpenedDatabase, until
from tests.daemon.store.postgresql.words import KILL_AT_COMMIT, WORDS, add, words
from tests.database_proxy import DatabaseProxy
from tests.postgresql import Server, pair, started
from txapns.daemon.store.postgresql.connection import RETRY, DatabaseConnection, Mode
from txapns.daemon.store.postgresql.errors import Unusable, explained
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["ServerTests", "SettingsOfServersTests", "SilenceTests", "TransactionTests"]


def one(connection: Connection) -> Any:
    """Ask for something."""
    return connection.execute("SELECT 1").fetchall()


def setting(name: str) -> Callable[[Connection], Any]:
    """Ask for a setting of the session."""

    def ask(connection: Connection) -> Any:
        [[value]] = connection.execute("SELECT current_setting(%s)", [name])
        return value

    return ask


@pytest.mark.loopback
class TransactionTests(SynchronousTestCase):
    """Transactions, on the server that all tests share."""

    def setUp(self) -> None:
        """Make a table."""
        self.opened = OpenedDatabase(self)
        self.opened.result(self.opened.database.prepare(WORDS))
        self.calls = 0

    def make(self, name: str = "test", patience: float = 0.0, **mode: bool) -> DatabaseConnection:
        """Make a connection."""
        made = DatabaseConnection(self.opened.settings, Clock(), Mode(name, **mode), patience)
        self.addCleanup(made.close)
        return made

    def test_committed(self) -> None:
        """What a function does is committed, and its result returned."""
        connection = self.make()
        self.assertEqual(connection.transact(add("a")), "A")
        self.assertEqual(self.make(reads=True).transact(words), ["a"])

    def test_rolled_back(self) -> None:
        """If it raises, nothing of it is stored, and the connection can be used."""
        connection = self.make()

        def fail(connection: Connection) -> None:
            add("a")(connection)
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, connection.transact, fail)
        self.assertEqual((connection.connected, connection.transact(words)), (True, []))

    def test_lost_while_idle(self) -> None:
        """A connection that was lost since its last use is made anew, and nobody notices."""
        connection = self.make("idle")
        connection.transact(one)
        self.opened.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'txapns idle'"
        )
        self.assertEqual(connection.transact(add("a")), "A")
        self.assertEqual(connection.transact(words), ["a"])

    def kill_once(self, connection: Connection) -> None:
        """Add a word; the first time, lose the connection afterwards."""
        self.calls += 1
        add("a")(connection)
        if self.calls == 1:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def test_lost_in_between(self) -> None:
        """If it is lost before COMMIT, the function is called again on a new one: nothing was committed."""
        connection = self.make()
        connection.transact(one)
        connection.transact(self.kill_once)
        self.assertEqual((self.calls, connection.transact(words)), (2, ["a"]))

    def test_lost_at_commit(self) -> None:
        """If it is lost during COMMIT, the transaction is not tried again, since it may have been committed."""
        self.opened.execute(KILL_AT_COMMIT)
        connection = self.make()
        connection.transact(one)

        def count(connection: Connection) -> None:
            self.calls += 1
            add("a")(connection)

        error = self.assertRaises(psycopg.OperationalError, connection.transact, count)
        found = explained(error)
        assert found is not None
        self.assertEqual((self.calls, connection.connected, found.lost), (1, False, True))

    def test_deadlock(self) -> None:
        """Two transactions that lock the same rows in different order both get through."""
        for word in "ab":
            self.make().transact(add(word))
        both = threading.Barrier(2)
        calls: list[str] = []

        def lock(first: str, second: str) -> Callable[[Connection], None]:
            def lock(connection: Connection) -> None:
                connection.execute("SET LOCAL deadlock_timeout = '10ms'")
                connection.execute("UPDATE word SET number = number + 1 WHERE word = %s", [first])
                calls.append(first)
                if calls.count(first) == 1:
                    both.wait()
                connection.execute("UPDATE word SET number = number + 1 WHERE word = %s", [second])

            return lock

        connections = self.make(), self.make()
        with ThreadPoolExecutor(2) as pool:
            for done in [
                pool.submit(connection.transact, lock(*order))
                for connection, order in zip(connections, ("ab", "ba"), strict=True)
            ]:
                done.result()
        self.assertGreater(len(calls), 2)
        self.assertEqual(self.opened.execute("SELECT min(number), max(number) FROM word"), [(3, 4)])

    def test_serialization(self) -> None:
        """A transaction that cannot be serialized is tried a few times, then it fails."""

        def collide(connection: Connection) -> None:
            self.calls += 1
            connection.execute("DO $$ BEGIN RAISE EXCEPTION 'met another' USING ERRCODE = '40001'; END $$")

        connection = self.make()
        error = self.assertRaises(psycopg.errors.SerializationFailure, connection.transact, collide)
        found = explained(error)
        assert found is not None
        self.assertEqual((self.calls, connection.connected, found.retry_after), (5, True, 1.0))

    def test_tables_changed(self) -> None:
        """When a table is changed under a statement that was prepared for it, that is prepared anew."""
        connection = self.make()

        def everything(connection: Connection) -> Any:
            return connection.execute("SELECT * FROM word").fetchall()

        for _ in range(10):
            connection.transact(everything)
        self.opened.execute("ALTER TABLE word ADD COLUMN language text")
        self.opened.execute("INSERT INTO word (word) VALUES ('a')")
        self.assertEqual(connection.transact(everything), [(1, "a", None)])

    def test_slow(self) -> None:
        """A statement that takes too long is ended by the server, and the connection can be used."""
        connection = self.make(patience=1.5)
        error = self.assertRaises(
            psycopg.errors.QueryCanceled, connection.transact, lambda c: c.execute("SELECT pg_sleep(60)")
        )
        found = explained(error)
        assert found is not None
        self.assertEqual((found.text, connection.connected), ("the database is too slow", True))
        connection.transact(one)

    def test_session(self) -> None:
        """The session is set up: names, limits, and whether a commit waits for the disk."""
        found = {
            durable: [
                self.make("lease", 10.0, durable=durable).transact(setting(name))
                for name in ("application_name", "statement_timeout", "search_path", "synchronous_commit", "jit")
            ]
            for durable in (True, False)
        }
        path = f'"{self.opened.place.name}"'
        self.assertEqual(found[True], ["txapns lease", "8s", path, "on", "off"])
        self.assertEqual(found[False], ["txapns lease", "8s", path, "off", "off"])


@pytest.mark.loopback
@pytest.mark.campaign
class ServerTests(SynchronousTestCase):
    """Servers that go away and come back."""

    def make(self, url: str) -> DatabaseConnection:
        """Make a connection."""
        self.clock = Clock()
        made = DatabaseConnection(Settings(url), self.clock, Mode("test"), 10.0)
        self.addCleanup(made.close)
        return made

    def fails(self, connection: DatabaseConnection) -> str:
        """Try a transaction, and tell what is wrong."""
        error = self.assertRaises(psycopg.Error, connection.transact, one)
        found = explained(error)
        assert found is not None and found.lost
        return f"{found.text}: {found.detail}"

    def test_restarted(self) -> None:
        """After a restart of the server the next transaction is done; while it is stopped, each fails."""
        server = started(self)
        connection = self.make(server.tcp_url)
        connection.transact(one)
        for end in (server.stop, server.kill):
            end()
            server.start()
            connection.transact(one)
            end()
            self.assertIn("the database is away", self.fails(connection))
            self.assertIn("Connection refused", self.fails(connection))
            server.start()
            self.fails(connection)  # it was tried just now
            self.clock.advance(RETRY)
            connection.transact(one)

    def test_promoted(self) -> None:
        """Of several servers the one that takes writes is used, also when that changes."""
        primary, standby = pair(self)
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        connection = self.make(f"postgresql://postgres@{hosts}/postgres")
        self.assertEqual(connection.transact(setting("port")), str(primary.port))
        primary.kill()
        self.assertIn("read-only", self.fails(connection))
        standby.set(synchronous_standby_names="")
        standby.promote()
        self.clock.advance(RETRY)
        self.assertEqual(connection.transact(setting("port")), str(standby.port))

    def test_demoted(self) -> None:
        """A server that takes no more writes is left for one that does."""
        first, second = started(self), started(self)
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        connection = self.make(f"postgresql://postgres@{hosts}/postgres")

        def write(connection: Connection) -> Any:
            connection.execute("CREATE TABLE IF NOT EXISTS public.t (n int)")
            return setting("port")(connection)

        self.assertEqual(connection.transact(write), str(first.port))
        first.set(default_transaction_read_only="on")
        self.assertEqual(connection.transact(write), str(second.port))

    def test_read_only(self) -> None:
        """A server that takes no writes cannot be used."""
        server = started(self, default_transaction_read_only="on")
        self.assertIn("the database is read-only", self.fails(self.make(server.tcp_url)))

    def test_full(self) -> None:
        """A server without a free connection says so."""
        server = started(self, max_connections="4", superuser_reserved_connections="1", max_wal_senders="0")
        server.execute("CREATE ROLE daemon LOGIN")
        url = server.tcp_url.replace("postgres@", "daemon@")
        taken = [psycopg.connect(url) for _ in range(3)]
        connection = self.make(url)
        self.assertIn("the database has no connection left (max_connections)", self.fails(connection))
        for each in taken:
            each.close()
        self.clock.advance(RETRY)
        until(lambda: server.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'daemon'") == [(0,)])
        connection.transact(one)


@pytest.mark.loopback
@pytest.mark.campaign
class SilenceTests(SynchronousTestCase):
    """A server, or a network, that says nothing any more."""

    def setUp(self) -> None:
        """Connect to a server through a proxy."""
        self.server = started(self)
        self.proxy = DatabaseProxy(self, self.server.port)
        self.clock = Clock()
        settings = Settings(self.proxy.url(self.server.tcp_url) + "?connect_timeout=2")
        self.connection = DatabaseConnection(settings, self.clock, Mode("test"), 10.0)
        self.addCleanup(self.connection.close)
        self.connection.transact(one)

    def asked(self, silence: Callable[[], None]) -> BaseException | None:
        """Ask after the silence has begun, and cut the connection when patience has ended."""
        began = threading.Event()

        def ask(connection: Connection) -> Any:
            connection.execute("SELECT 1")
            silence()
            began.set()
            return one(connection)

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(self.connection.transact, ask)
            self.assertTrue(began.wait(120))
            self.assertFalse(self.connection.cut(self.clock.seconds()))
            self.clock.advance(10.0)
            self.assertTrue(self.connection.cut(self.clock.seconds()))
            return asking.exception(120)

    def test_network(self) -> None:
        """When the network says nothing, the connection is cut, and a new one fails in time, until it is back."""
        error = self.asked(self.proxy.stop)
        found = explained(error)
        assert found is not None
        self.assertIn("the database is away", found.text)
        self.proxy.passing()
        self.clock.advance(RETRY)
        self.connection.transact(one)

    def test_server(self) -> None:
        """The same holds for a server whose processes are stopped."""
        error = self.asked(lambda: self.server.signal(signal.SIGSTOP))
        self.assertIsInstance(error, psycopg.OperationalError)
        self.server.signal(signal.SIGCONT)
        self.clock.advance(RETRY)
        self.connection.transact(one)

    def test_cut_by_network(self) -> None:
        """A connection that the network ended is made anew."""
        self.proxy.cut()
        self.connection.transact(one)

    def test_nothing_under_way(self) -> None:
        """While nothing is asked, nothing is cut."""
        self.clock.advance(100.0)
        self.assertFalse(self.connection.cut(self.clock.seconds()))


@pytest.mark.loopback
@pytest.mark.campaign
class SettingsOfServersTests(SynchronousTestCase):
    """Servers whose settings endanger what they store."""

    def connected(self, server: Server) -> DatabaseConnection:
        """Connect to one."""
        made = DatabaseConnection(Settings(server.tcp_url), Clock(), Mode("test"), 10.0)
        self.addCleanup(made.close)
        made.transact(one)
        return made

    def test_synchronous_commit(self) -> None:
        """Commits wait for the disk although the server's or the role's setting is off; other settings are kept."""
        server = started(self)
        server.set(synchronous_commit="off")
        self.assertEqual(self.connected(server).transact(setting("synchronous_commit")), "on")
        server.set(synchronous_commit="on")
        for value, warned in (("off", False), ("remote_apply", False), ("local", True)):
            server.execute(f"ALTER ROLE postgres SET synchronous_commit = {value}")
            connection = self.connected(server)
            expected = "on" if value == "off" else value
            self.assertEqual(connection.transact(setting("synchronous_commit")), expected)
            self.assertEqual(
                [warning for warning in connection.warnings if "synchronous_commit" in warning] != [], warned
            )

    def test_forgetful(self) -> None:
        """A server that does not wait for its disk is warned of."""
        server = started(self, fsync="off", full_page_writes="off")
        found = self.connected(server).warnings
        self.assertEqual([warning.split()[0] for warning in found], ["fsync", "full_page_writes"])

    def test_encoding(self) -> None:
        """A database that cannot store every text is refused."""
        server = started(self)
        server.execute("CREATE DATABASE old ENCODING 'SQL_ASCII' TEMPLATE template0")
        settings = Settings(server.tcp_url.removesuffix("postgres") + "old")
        connection = DatabaseConnection(settings, Clock(), Mode("test"), 10.0)
        error = self.assertRaises(Unusable, connection.transact, one)
        self.assertIn("has the encoding SQL_ASCII", str(error))
        self.assertFalse(connection.connected)
