"""Tests for :mod:`txapns.daemon.store.postgresql.outcome_feed`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import START
from tests.daemon.store.outcome_feed_contract import OutcomeFeedContract
from tests.daemon.store.postgresql.opened import OpenedDatabase, until
from tests.daemon.store.postgresql.test_sharing import TwoNodes
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.store.postgresql.connection import Mode, connect
from txapns.daemon.store.postgresql.outcome_feed import OUTCOMES, record
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.tables import QUEUE
from txapns.daemon.values import Settlement, State

__all__ = ["AnnouncedTests", "CursorTests", "PostgreSQLOutcomeFeedTests"]

DATE = int(START * 1000)

_SETTLE = """
INSERT INTO outcome
SELECT n, n, %(date)s, %(date)s, %(date)s, NULL, app, 1, 200, 1, md5(n::text)::uuid, '1', ''
FROM unnest(%(numbers)s::bigint[], %(apps)s::integer[]) AS settled (n, app)
"""


@pytest.mark.loopback
class PostgreSQLOutcomeFeedTests(OutcomeFeedContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


def settle(connection: Connection, settled: Mapping[int, int]) -> None:
    """Settle notifications, of each of which the app is given, and record that; the caller commits."""
    values = {"numbers": list(settled), "apps": list(settled.values()), "date": DATE}
    connection.execute(_SETTLE, values)
    record(connection, list(settled), DATE, DATE)


class Reader:
    """One who reads on in the feeds of some apps, each after the last entry read."""

    def __init__(self, connection: Connection, apps: Sequence[int] = (1, 2)) -> None:
        self.cursors = dict.fromkeys(apps, 0)
        self.found: dict[int, list[int]] = {app: [] for app in apps}
        self._connection = connection

    def read(self) -> None:
        """Read on; no cursor is missing."""
        for app in self.cursors:
            rows = self._connection.execute(
                "SELECT cursor, number FROM outcome_entry WHERE app = %s AND cursor > %s ORDER BY cursor",
                [app, self.cursors[app]],
            )
            for cursor, number in rows.fetchall():
                assert cursor == self.cursors[app] + 1, (app, cursor, self.cursors)
                self.cursors[app] = cursor
                self.found[app].append(number)


@pytest.mark.loopback
class CursorTests(SynchronousTestCase):
    """Cursors of an app are in the order of the commits."""

    def setUp(self) -> None:
        """Make the tables."""
        self.opened = OpenedDatabase(self)
        for each in (QUEUE, OUTCOMES):
            self.opened.result(self.opened.database.prepare(each))
        self.pool = ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown)

    def connect(self, name: str, **mode: bool) -> Connection:
        """Connect once more."""
        connection, _ = connect(self.opened.settings, Mode(name, **mode), 0)
        self.addCleanup(connection.close)
        return connection

    def reader(self, *apps: int) -> Reader:
        """Make a reader."""
        return Reader(self.connect("reader", reads=True), apps or (1, 2))

    def settling(self, name: str, settled: Mapping[int, int]) -> Future[None]:
        """Settle in a thread, and commit."""
        connection = self.connect(name)

        def work() -> None:
            settle(connection, settled)
            connection.commit()

        return self.pool.submit(work)

    def waits(self) -> bool:
        """Whether the second transaction waits for a lock."""
        [[waiting]] = self.opened.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'txapns second' AND wait_event_type = 'Lock'"
        )
        return bool(waiting)

    def test_interleaved(self) -> None:
        """A transaction that records later waits, and its entries come later; a reader sees all of them."""
        first, reader = self.connect("first"), self.reader()
        settle(first, {10: 1})
        second = self.settling("second", {5: 1})
        until(lambda: second.done() or self.waits())
        reader.read()
        first.commit()
        second.result()
        reader.read()
        self.assertEqual(reader.found, {1: [10, 5], 2: []})

    def test_other_app(self) -> None:
        """A transaction that records outcomes of another app does not wait."""
        first, reader = self.connect("first"), self.reader()
        settle(first, {10: 1})
        self.settling("second", {5: 2}).result(timeout=60)
        reader.read()
        first.commit()
        reader.read()
        self.assertEqual(reader.found, {1: [10], 2: [5]})

    def test_rolled_back(self) -> None:
        """What is rolled back leaves no gap."""
        first, reader = self.connect("first"), self.reader()
        for number, end in ((1, first.commit), (2, first.rollback), (3, first.commit)):
            settle(first, {number: 1})
            end()
        reader.read()
        self.assertEqual(reader.found, {1: [1, 3], 2: []})

    def test_writers(self) -> None:
        """Four writers record outcomes of several apps in any order while somebody reads: each is read once."""
        transactions, each, apps = 25, 20, (1, 2, 3)

        def write(writer: int) -> list[dict[int, int]]:
            chance, done = random.Random(writer), []
            with closing(self.connect(f"writer {writer}")) as connection:
                for n in range(transactions):
                    first = (writer * transactions + n) * each
                    some = {first + m: chance.choice(apps) for m in range(each)}
                    settle(connection, some)
                    connection.commit()
                    done.append(some)
            return done

        writing = [self.pool.submit(write, writer) for writer in range(4)]
        reader = self.reader(*apps)
        while not all(future.done() for future in writing):
            reader.read()
        written = [some for future in writing for some in future.result()]
        reader.read()
        for app in apps:
            expected = sorted(number for some in written for number, its in some.items() if its == app)
            self.assertEqual(sorted(reader.found[app]), expected)


@pytest.mark.loopback
class AnnouncedTests(TwoNodes):
    """What other nodes record."""

    def live(self, count: int = 1) -> None:
        """Let the first node settle something."""
        self.accept(count)
        leased = self.lease(self.first)
        self.do(self.first, "settle", [Settlement(each.number, State.ACCEPTED, 200) for each in leased])

    def setUp(self) -> None:
        """Let both record, and listen to the second."""
        super().setUp()
        self.told: list[str] = []
        for world in (self.first, self.second):
            world.feed.keep(["chess"])
        self.leave = self.second.feed.subscribe(self.told.append)

    def test_told(self) -> None:
        """A listener is told within a second or so, and once."""
        self.live()
        self.live()
        self.first.clock.advance(INTERVAL)
        self.assertEqual(self.told, ["chess"])
        self.first.clock.advance(INTERVAL)
        self.assertEqual(self.told, ["chess"])
        self.live()
        self.first.clock.advance(INTERVAL)
        self.assertEqual(self.told, ["chess"] * 2)

    def test_late_settlement(self) -> None:
        """What another node leased and settled, and this one settles once more, is recorded once."""
        self.accept(2)
        leased = self.lease(self.first)
        settlements = [Settlement(each.number, State.ACCEPTED, 200) for each in leased]
        for world in (self.second, self.first, self.second):
            self.do(world, "settle", settlements)
        found = self.first.execute("SELECT cursor, number FROM outcome_entry ORDER BY cursor")
        self.assertEqual(found, [(n + 1, each.number) for n, each in enumerate(leased)])

    def test_nobody_listens(self) -> None:
        """Without a listener nothing is looked for; one that comes then is told of what is there."""
        self.leave()
        self.first.clock.advance(INTERVAL)
        self.live()
        self.first.clock.advance(INTERVAL)
        self.assertEqual(self.told, [])
        self.second.feed.subscribe(self.told.append)
        self.first.clock.advance(INTERVAL)
        self.assertEqual(self.told, ["chess"])
