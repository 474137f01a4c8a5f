"""Tests for :mod:`txapns.daemon.store.postgresql.feedback_log`."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.feedback_contract import FeedbackLogContract
from tests.daemon.store.postgresql.opened import OpenedDatabase
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.feedback_log import PostgreSQLFeedbackLog, forget, note

__all__ = ["AnnouncedTests", "ForgottenTests", "PostgreSQLFeedbackLogTests"]

MANY = """
INSERT INTO feedback_token (cursor, app, token, reason, timestamp, noted_at)
SELECT n, 'app' || n % 10, decode(md5(n::text) || md5(n::text), 'hex'),
    'Unregistered', n, n
FROM generate_series(1, 5000) AS n
"""


@pytest.mark.loopback
class PostgreSQLFeedbackLogTests(FeedbackLogContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> PostgreSQLWorld:
        """Make one in a schema of its own."""
        return PostgreSQLWorld(schema(self))


@pytest.mark.loopback
class AnnouncedTests(SynchronousTestCase):
    """What other nodes note."""

    def setUp(self) -> None:
        """Make the logs of two nodes, of which the second is listened to."""
        self.opened = OpenedDatabase(self)
        self.clock = Clock()
        database = Database(self.opened.settings, self.clock, lambda name: InlineWorker())
        self.log = PostgreSQLFeedbackLog(database)
        for each in (database.start(), self.log.start()):
            self.successResultOf(each)
        self.addCleanup(lambda: self.successResultOf(database.stop()))
        self.addCleanup(lambda: self.successResultOf(self.log.stop()))
        self.told: list[str] = []
        self.log.subscribe(self.told.append)

    def note(self, *apps: str, timestamp: float = 5.0) -> None:
        """Note a dead token of each of some apps, as another node."""
        dead = [(app, b"1", "Unregistered", timestamp) for app in apps]
        self.opened.result(self.opened.database.write(lambda connection: note(connection, dead, 5.0)))

    def test_told(self) -> None:
        """A listener is told of each app once within a second or so, and not again."""
        self.note("chess", "news", "chess")
        self.assertEqual(self.told, [])
        for _ in range(3):
            self.clock.advance(INTERVAL)
        self.assertEqual(sorted(self.told), ["chess", "news"])
        self.note("go")
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told[2:], ["go"])

    def test_known_before(self) -> None:
        """A token that was noted before is no news."""
        self.note("chess")
        self.clock.advance(INTERVAL)
        self.note("chess")
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told, ["chess"])

    def test_started_later(self) -> None:
        """What was noted before the start is no news, either."""
        self.note("chess")
        self.successResultOf(self.log.stop())
        self.successResultOf(self.log.start())
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told, [])
        self.note("news")
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told, ["news"])

    def test_nobody_died(self) -> None:
        """Nothing to note is nothing to do."""
        self.opened.result(self.opened.database.write(lambda connection: note(connection, [], 5.0)))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told, [])

    def test_stopped(self) -> None:
        """Once stopped, it asks for nothing."""
        self.successResultOf(self.log.stop())
        self.note("chess")
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told, [])


@pytest.mark.loopback
class ForgottenTests(SynchronousTestCase):
    """How dead tokens are forgotten."""

    def test_forgotten(self) -> None:
        """Forgetting goes on from where it stopped, however much was forgotten before."""
        opened = OpenedDatabase(self)
        log = PostgreSQLFeedbackLog(opened.database)
        opened.result(log.start())
        self.addCleanup(lambda: opened.result(log.stop()))
        opened.execute(MANY)
        for _ in range(3):
            opened.result(opened.database.write(lambda connection: forget(connection, 2_000.0, 1_000)))
        self.assertEqual(opened.execute("SELECT min(cursor), count(*) FROM feedback_token"), [(2_000, 3_001)])
        self.assertRaises(Unavailable, opened.result, opened.database.read(lambda c: forget(c, 1.0, 1)))
