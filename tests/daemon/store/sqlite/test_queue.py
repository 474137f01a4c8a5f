"""Tests for :mod:`txapns.daemon.store.sqlite.queue` beside its contract."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import HEADERS, PAYLOAD, START, message, result
from tests.daemon.store.lanes_contract import LanesContract
from tests.daemon.store.lanes_machine import LanesMachine
from tests.daemon.store.queue_contract import QueueContract
from tests.daemon.store.queue_machine import QueueMachine
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.values import Lane, Leased, Message, Settlement, State

__all__ = [
    "ArrivalTests",
    "CostTests",
    "DamagedTests",
    "LanesModelTests",
    "ModelTests",
    "NumberTests",
    "SQLiteLanesMachine",
    "SQLiteLanesTests",
    "SQLiteQueueMachine",
    "SQLiteQueueTests",
    "TogetherTests",
]


class SQLiteQueueTests(QueueContract, SynchronousTestCase):
    """The contract."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class SQLiteLanesTests(LanesContract, SynchronousTestCase):
    """The contract of lanes and callers."""

    def make_world(self) -> SQLiteWorld:
        """Make one in a file of its own."""
        return SQLiteWorld(Path(self.mktemp()))


class WorldCase(SynchronousTestCase):
    """Tests of what only this queue has."""

    def setUp(self) -> None:
        """Make one in a file of its own."""
        self.world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(lambda: self.world.stop())

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue, and wait for the result."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments))

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the outcome log, and wait for the result."""
        return result(self.world.clock, getattr(self.world.outcome_log, name)(*arguments))


class NumberTests(WorldCase):
    """How numbers are reserved on the disk."""

    def reserved(self) -> int:
        """Read the end of the reserved numbers from the disk."""
        with closing(sqlite3.connect(self.world.path)) as connection:
            [(number,)] = connection.execute("SELECT number FROM queue_next")
        return int(number)

    def accept(self) -> list[int]:
        """Accept two notifications, and return their numbers."""
        [receipt] = self.do("accept", [message(self.world, 2)])
        return list(receipt.numbers)

    def test_ahead(self) -> None:
        """Many are reserved at a time, always ahead of those in use."""
        self.accept()
        before = self.reserved()
        self.assertGreater(before, 1_000)
        self.accept()
        self.assertEqual(self.reserved(), before)
        self.world.restart()
        self.assertGreaterEqual(self.accept()[0], before)
        self.assertGreater(self.reserved(), before)

    def test_undone(self) -> None:
        """If the transaction that reserves them is rolled back, the next one reserves them."""

        def fail(connection: sqlite3.Connection) -> None:
            raise ValueError

        accepting = self.world.queue.accept([message(self.world, 2)])
        failing = self.world.database.write(fail)
        [receipt] = result(self.world.clock, accepting)
        self.failureResultOf(failing, ValueError)
        self.assertGreater(self.reserved(), receipt.numbers[-1])


class TogetherTests(WorldCase):
    """Requests that are stored in one transaction."""

    def test_one_date(self) -> None:
        """They are accepted at the same time, in their order, so that they can be one block, whenever they came."""
        accepting = []
        for n in range(5):
            accepting.append(self.world.queue.accept([message(self.world, 2, start=2 * n)]))
            self.world.clock.rightNow += 0.01  # without a turn of the reactor
        numbers = [number for each in accepting for number in result(self.world.clock, each)[0].numbers]
        leased = self.do("lease", "chess", 100, self.world.clock.seconds() + 60)
        self.assertEqual([each.number for each in leased], numbers)
        self.assertEqual([int.from_bytes(each.token, "big") for each in leased], list(range(10)))
        self.assertEqual({each.accepted_at for each in leased}, {leased[-1].accepted_at})
        [later] = self.do("accept", [message(self.world)])
        self.assertEqual([each.number for each in self.do("lease", "chess", 9, START + 60)], [*later.numbers])


class DamagedTests(WorldCase):
    """Rows that cannot be read."""

    def harm(self, table: str, column: str, value: str, number: int) -> None:
        """Change a row."""
        statement = f"UPDATE {table} SET {column} = {value} WHERE number = {number}"
        result(self.world.clock, self.world.database.write(lambda connection: connection.execute(statement)))

    def test_lease(self) -> None:
        """A damaged notification is rejected, with a line in the log, and those around it are leased."""
        for table, column, value in (
            ("queue_message", "headers", "'{'"),
            ("queue_message", "headers", "'[1]'"),
            ("queue_message", "headers", "'{\"apns-priority\":5}'"),
            ("queue_message", "headers", "x'7b22ff223a317d'"),
            ("queue_message", "headers", "CAST(x'7b22ff223a317d' AS TEXT)"),
            ("queue_message", "accepted_at", "'yesterday'"),
            ("queue_message", "number", "1000000"),
            ("queue_delivery", "attempts", "'none'"),
            ("queue_delivery", "apns_id", "x'01'"),
            ("queue_delivery", "message", "'none'"),
            ("queue_delivery", "superseded", "'no'"),
            ("queue_delivery", "not_before", "'soon'"),
        ):
            before, bad, after = (self.do("accept", [message(self.world)])[0].numbers[0] for _ in range(3))
            self.harm(table, column, value, bad)  # a message has the number of its first delivery
            self.world.restart()  # so that nothing of it is in memory
            with capturedLogs() as events:
                leased = self.do("lease", "chess", 10, self.world.clock.seconds() + 60)
            self.assertEqual([each.number for each in leased], [before, after], value)
            self.assertEqual([event["numbers"] for event in events], [[bad]], value)
            self.assertEqual(self.world.queue.waiting("chess").count, 2)
            self.do("settle", [Settlement(each.number, State.ACCEPTED, 200) for each in leased])

    def test_due(self) -> None:
        """If only the time when it is due is damaged, a notification is due once it is found, or at the next start."""
        for value in ("'soon'", "x'ff'", "1e300", "9e999", "due - 0.5"):
            for restart in (False, True):
                numbers = list(self.do("accept", [message(self.world, 3)])[0].numbers)
                for number in numbers[1:]:
                    self.harm("queue_delivery", "due", value, number)
                if restart:
                    self.world.restart()
                self.assertLessEqual(self.do("depths")[0].oldest, self.world.clock.seconds())
                found: list[int] = []
                for _ in range(3):
                    self.assertLess(self.do("next_due", "chess"), self.world.clock.seconds())
                    [leased] = self.do("lease", "chess", 1, self.world.clock.seconds() + 60)
                    found.append(leased.number)
                self.assertEqual(sorted(found), numbers, value)
                self.assertIsNone(self.do("next_due", "chess"))
                self.do("settle", [Settlement(number, State.ACCEPTED, 200) for number in found])

    def test_due_with_date(self) -> None:
        """What has a date is due then, whatever has become of the time when it is due."""
        sent = msgspec.structs.replace(message(self.world), not_before=self.world.clock.now() + 50.0)
        [number] = self.do("accept", [sent])[0].numbers
        self.harm("queue_delivery", "due", "'soon'", number)
        self.world.restart()
        self.assertEqual(self.do("lease", "chess", 10, self.world.clock.seconds() + 60), [])
        self.harm("queue_delivery", "due", "'soon'", number)
        self.assertApproximates(self.do("next_due", "chess") - self.world.clock.seconds(), 50.0, 0.05)

    def test_due_while_leased(self) -> None:
        """If it is damaged while it is leased, the notification is not leased again before that ends."""
        numbers = list(self.do("accept", [message(self.world, 2)])[0].numbers)
        self.assertEqual(len(self.do("lease", "chess", 10, self.world.clock.seconds() + 60)), 2)
        self.harm("queue_delivery", "due", "'soon'", numbers[0])
        [later] = self.do("accept", [message(self.world)])[0].numbers
        leased = self.do("lease", "chess", 10, self.world.clock.seconds() + 90)
        self.assertEqual([each.number for each in leased], [later])
        self.assertEqual(self.do("lease", "chess", 10, self.world.clock.seconds() + 60), [])
        self.assertIsNone(self.do("next_due", "chess"))
        self.world.clock.advance(61.0)
        leased = [self.do("lease", "chess", 10, self.world.clock.seconds() + 60) for _ in range(2)]
        self.assertEqual([each.number for each in chain(*leased)], [*reversed(numbers)])

    def test_entries(self) -> None:
        """A damaged notification is not listed, and does not hide the others."""
        numbers = list(self.do("accept", [message(self.world, 4)])[0].numbers)
        self.do("settle", [Settlement(number, State.DEAD) for number in numbers])
        self.harm("queue_delivery", "settled_at", "'today'", numbers[0])
        self.harm("queue_delivery", "state", "9", numbers[1])
        self.harm("queue_delivery", "reason", "CAST(x'ff' AS TEXT)", numbers[2])
        found = self.ask("listed", "chess", State.DEAD, 10)
        self.assertEqual([entry.outcome.number for entry in found], numbers[2:])
        self.assertEqual([each.number for each in self.ask("outcomes", numbers)], numbers[2:])


class ArrivalTests(WorldCase):
    """What is leased at once, without a look into the database, since nothing is due before it."""

    def setUp(self) -> None:
        """Lease all that waits, so that it is known that nothing does."""
        super().setUp()
        self.accept()
        self.assertEqual(self.lease(), [1])
        self.looks = 0
        between = self.world.database.between

        def look(function: Any) -> Any:
            self.looks += 1
            return between(function)

        self.patch(self.world.database, "between", look)

    def accept(self, count: int = 1, **more: Any) -> list[int]:
        """Accept a message, and return the numbers of its notifications."""
        [receipt] = self.do("accept", [message(self.world, count, **more)])
        return list(receipt.numbers)

    def leasing(self, count: int = 10) -> Any:
        """Lease, without waiting."""
        return self.world.queue.lease("chess", count, self.world.clock.seconds() + 60)

    def lease(self, count: int = 10) -> list[int]:
        """Lease, and return the numbers."""
        return [each.number for each in result(self.world.clock, self.leasing(count))]

    def test_at_once(self) -> None:
        """It is the same as what the database would tell."""
        headers = {**HEADERS, "apns-priority": "5"}
        self.do("accept", [message(self.world, 2), Message("chess", b"{}", headers, [b"9"], [str(uuid.UUID(int=9))])])
        found = self.successResultOf(self.leasing())
        self.world.restart()
        told = self.do("lease", "chess", 10, self.world.clock.seconds() + 60)[1:]  # the first was leased before
        self.assertEqual(*([_described(each) for each in leased] for leased in (found, told)))
        self.assertIs(found[0].payload, found[1].payload)
        self.assertFalse(found.more)
        self.assertEqual(self.looks, 0)

    def test_nothing(self) -> None:
        """That nothing waits is known, too."""
        self.assertEqual((self.lease(), self.looks), ([], 0))

    def test_turns(self) -> None:
        """What is urgent goes first, and callers get equal parts."""
        for lane, caller in ((Lane.NORMAL, "a"), (Lane.NORMAL, "b"), (Lane.URGENT, "a")):  # flows become known
            self.accept(lane=lane, caller=caller)
            self.lease()
        self.looks = 0
        many, few, urgent = (
            self.accept(4, lane=Lane.NORMAL, caller="a"),
            self.accept(2, lane=Lane.NORMAL, caller="b"),
            self.accept(lane=Lane.URGENT, caller="a"),
        )
        leases = [self.successResultOf(self.leasing(count)) for count in (4, 4, 4)]
        self.assertEqual([lease.more for lease in leases], [True, True, False])
        self.assertEqual(self.looks, 0)
        self.assertEqual([[each.number for each in lease] for lease in leases], [urgent, many[:2] + few, many[2:]])

    def test_something_before(self) -> None:
        """What was given back goes first, and is looked for."""
        self.accept()
        self.do("release", [1])
        self.looks = 0
        self.assertEqual((self.lease(), self.looks), ([1, 2], 1))
        self.assertEqual((self.accept(), self.looks), (self.lease(), 1))

    def test_later(self) -> None:
        """What is not sent before a date is looked for at that date."""
        [later] = self.accept(not_before=START + 5)
        self.assertEqual((self.accept(), self.looks), (self.lease(), 0))
        self.world.clock.advance(6)
        self.assertEqual((self.lease(), self.looks), ([later], 1))

    def test_looked_for(self) -> None:
        """While another thread looks for what is next, so does everybody."""
        numbers = self.accept()
        later: Deferred[None] = Deferred()
        between = self.world.database.between
        self.patch(self.world.database, "between", lambda function: later.addCallback(lambda _: between(function)))
        with self.world.queue._state.lock:
            leasing = self.leasing()
        self.assertNoResult(leasing)
        later.callback(None)
        self.assertEqual([each.number for each in result(self.world.clock, leasing)], numbers)

    def test_superseded(self) -> None:
        """What a transaction may supersede or purge is not leased meanwhile."""
        for change in (
            lambda: self.world.queue.accept([message(self.world, collapse_id="score")]),
            lambda: self.world.outcome_log.purge("chess", State.WAITING, 10),
        ):
            [number] = self.accept(collapse_id="score")
            between = []
            changing = change()
            commit = self.world.database._transactions.commit

            def committing(
                work: Any, new: bool, durable: bool, commit: Any = commit, between: list[Any] = between
            ) -> None:
                def watched(connection: sqlite3.Connection) -> None:
                    work(connection)
                    between.append(self.leasing())

                commit(watched, new, durable)

            self.patch(self.world.database._transactions, "commit", committing)
            result(self.world.clock, changing)
            self.patch(self.world.database._transactions, "commit", commit)
            leased = [each.number for each in result(self.world.clock, between[0])]
            self.assertNotIn(number, leased)
            self.do("settle", [Settlement(each, State.ACCEPTED, 200) for each in leased])


def _described(leased: Leased) -> tuple[object, ...]:
    content = leased.content
    what = content.app, leased.payload, dict(content.headers), content.lane
    return (what, leased.number, leased.token, leased.apns_id, leased.attempts, leased.accepted_at, leased.since)


class CostTests(WorldCase):
    """What statements cost, whatever waits or has the same id."""

    def test_urgent_beside_thousands(self) -> None:
        """To lease what is urgent takes as many steps whether one other or thousands wait, in however many flows."""
        found = []
        for count in (1, 20_000):
            for lane in (Lane.NORMAL, Lane.BULK):
                self.do("accept", [message(self.world, count, lane=lane, caller=f"caller {lane}")])
            self.do("accept", [message(self.world, lane=Lane.URGENT)])
            found.append(
                [self.steps_of(name, "chess", *more) for name, *more in (("lease", 9, START + 60), ("next_due",))]
            )
            self.assertEqual(len(self.do("lease", "chess", 1, START + 60, None, Lane.BULK)), 1)
        self.assertLessEqual(max(found[1]), 2 * max(found[0]))

    def steps_of(self, name: str, *arguments: Any) -> int:
        """Count SQLite's steps in a method of the queue."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        between = self.world.database.between
        result(self.world.clock, between(lambda connection: connection.set_progress_handler(step, 1)))
        self.do(name, *arguments)
        result(self.world.clock, between(lambda connection: connection.set_progress_handler(None, 1)))
        return count

    def test_an_id_of_thousands(self) -> None:
        """Searching an id takes as many steps whether one, thousands or only another app's notifications have it."""
        none, one, many, foreign = (str(uuid.UUID(int=n)) for n in range(4))
        for app, apns_id, count in (("chess", one, 1), ("chess", many, 5_000), ("news", foreign, 5_000)):
            self.do("accept", [Message(app, PAYLOAD, HEADERS, [b"token"] * count, [apns_id] * count)])
        self.steps(none)  # the first of a connection prepares more than the statement
        steps = {apns_id: self.steps(apns_id) for apns_id in (none, one, many, foreign)}
        self.assertEqual(steps[foreign], steps[none])
        self.assertEqual(steps[many], steps[one])
        self.assertLess(steps[many], 300)

    def steps(self, apns_id: str) -> int:
        """Count SQLite's steps to find the latest notification of an app with an id."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        result(self.world.clock, self.world.database.read(lambda connection: connection.set_progress_handler(step, 1)))
        self.ask("latest", apns_id, ["chess"])
        result(self.world.clock, self.world.database.read(lambda connection: connection.set_progress_handler(None, 1)))
        return count


class TemporaryWorld(SQLiteWorld):
    """A store in memory, if there is a file system in memory: hundreds are made, and each syncs many times."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.directory = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        super().__init__(Path(self.directory.name) / "queue")

    def stop(self) -> None:
        """Close it for good."""
        super().stop()
        self.directory.cleanup()

    def restart(self) -> None:
        """Close it, and open it again."""
        super().stop()
        self.start()


class SQLiteQueueMachine(QueueMachine):
    """The machine with one of these."""

    def make_world(self) -> TemporaryWorld:
        """Make one."""
        return TemporaryWorld()


ModelTests = SQLiteQueueMachine.TestCase
ModelTests.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class SQLiteLanesMachine(LanesMachine):
    """The machine of lanes and callers with one of these."""

    def make_world(self) -> TemporaryWorld:
        """Make one."""
        return TemporaryWorld()


LanesModelTests = SQLiteLanesMachine.TestCase
LanesModelTests.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
