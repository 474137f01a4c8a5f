"""Tests for :mod:`txapns.daemon.store.sqlite.copying`."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import HEADERS, PAYLOAD, message
from tests.daemon.store.copy_contract import CopyContract, MemoryCopy, filled
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.errors import DatabaseCorrupt, DatabaseInUse
from txapns.daemon.store.copying import Counters, MessageRow, NotificationRow, QueueRow, copy
from txapns.daemon.store.sqlite.copying import SQLiteCopy, copying
from txapns.daemon.values import State

__all__ = ["SQLiteCopyTests", "SQLitePlace"]


class SQLitePlace:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self) -> SQLiteWorld:
        """Start a store there."""
        return SQLiteWorld(self.path)

    def copying(self) -> AbstractContextManager[SQLiteCopy]:
        """Open it for copying."""
        return copying(self.path)


class SQLiteCopyTests(CopyContract, SynchronousTestCase):
    """The contract, and what is particular to SQLite."""

    def make_place(self) -> SQLitePlace:
        """Name a file that is not there."""
        return SQLitePlace(Path(self.mktemp()))

    def test_in_use(self) -> None:
        """A file that a daemon has open is not copied, and no daemon opens one that is being copied."""
        place = self.make_place()
        world = place.start()
        with self.assertRaises(DatabaseInUse), place.copying():
            pass
        world.stop()
        with place.copying():
            self.assertRaises(DatabaseInUse, place.start)

    def test_not_ours(self) -> None:
        """A file that is no database is told from one."""
        place = self.make_place()
        place.path.write_bytes(b"something else" * 100)
        place.path.chmod(0o600)
        with self.assertRaises(DatabaseCorrupt), place.copying():
            pass

    def test_damaged(self) -> None:
        """What cannot be read is left out and counted, and so is what could not be sent as it was accepted."""
        place = self.make_place()
        world = place.start()
        filled(world)
        world.queue.accept([message(world, 3, start=40)])
        world.clock.advance(0.01)
        world.stop()
        with closing(sqlite3.connect(place.path)) as connection, connection:
            connection.execute("UPDATE queue_message SET headers = CAST(x'ff' AS TEXT) WHERE number > 3")
            connection.execute("UPDATE queue_delivery SET apns_id = x'00' WHERE number = 1")
            connection.execute("UPDATE queue_delivery SET token = 7 WHERE number = 2")
            connection.execute("UPDATE app SET settings = 'text'")
            connection.execute("UPDATE api_key SET send = '{'")
        with place.copying() as source:
            found = copy(source, target := MemoryCopy(), lambda *step: None)
        self.assertEqual(found.damaged, {"messages": 2, "notifications": 8, "apps": 1, "keys": 1})
        self.assertEqual(found.counts["notifications"], len(target.contents[NotificationRow]))

    def test_message_of_settled(self) -> None:
        """Notifications that are settled need no message; here each gets one, since all are read together with one."""
        place = self.make_place()
        row = NotificationRow(5, 4, "chess", b"t", bytes(16), 0, State.ACCEPTED, 1, 200, "", None, 7_000, 8_000)
        rows = {QueueRow: [QueueRow("chess")], NotificationRow: [row, row._replace(number=6)]}
        with place.copying() as target:
            copy(MemoryCopy(rows, Counters(9, 0)), target, lambda *step: None)
        world = place.start()
        self.addCleanup(world.stop)
        found = self.successResultOf(world.outcome_log.outcomes([5, 6]))
        self.assertEqual(
            [(each.number, each.accepted_at, each.settled_at) for each in found], [(5, 7.0, 8.0), (6, 7.0, 8.0)]
        )

    def test_counts_on(self) -> None:
        """A store that was emptied goes on counting from where it was."""
        place = self.make_place()
        with place.copying() as target:
            target.finish(Counters(50, 60))
            target.finish(Counters(40, 70))
            self.assertEqual(target.counters(), (50, 70))

    def test_many(self) -> None:
        """Many rows are copied a batch at a time."""
        place, other = self.make_place(), self.make_place()
        messages = [MessageRow(n, HEADERS, PAYLOAD, 0) for n in range(1, 2_501)]
        with place.copying() as target:
            copy(MemoryCopy({MessageRow: messages}), target, lambda *step: None)
        steps: list[tuple[str, int, int]] = []
        with place.copying() as source, other.copying() as target:
            copy(source, target, lambda *step: steps.append(step))
        self.assertEqual(steps, [("messages", n, 2_500) for n in (1_000, 2_000, 2_500)])
