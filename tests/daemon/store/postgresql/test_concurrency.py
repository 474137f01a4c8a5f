"""Several nodes at the same time, in threads: whatever meets whatever, nothing is lost, and all counts are exact."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message
from tests.daemon.store.postgresql.world import DAY, PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.acceptance import Acceptance, flow_of, packed
from txapns.daemon.store.postgresql.acceptance import Numbers, add, find_apps, recognize
from txapns.daemon.store.postgresql.cluster_time import ClusterTime
from txapns.daemon.store.postgresql.connection import DatabaseConnection, Mode
from txapns.daemon.store.postgresql.flows import find_flows
from txapns.daemon.store.postgresql.lease_book import LeaseBook
from txapns.daemon.store.postgresql.leases import Claim, Marks, claim, free
from txapns.daemon.store.postgresql.pruning import prune
from txapns.daemon.store.postgresql.schema import Connection
from txapns.daemon.store.postgresql.settlement import conclude
from txapns.daemon.store.postgresql.superseding import lock_apps, supersede
from txapns.daemon.store.settlement import Report
from txapns.daemon.store.superseding import Superseded
from txapns.daemon.store.turns import Turns
from txapns.daemon.values import Idempotency, Settlement, State

__all__ = ["ConcurrencyTests"]

_T = TypeVar("_T")

APPS = ("chess", "go", "news")
RECORDED = frozenset(["chess", "go"])
NODES, ROUNDS = 4, 25


class _Node:
    """
    What a node does, in a thread and in any order.

    :param held: the notifications that any node has leased, for all nodes.
    """

    def __init__(self, world: PostgreSQLWorld, seed: int, held: set[int]) -> None:
        self.random = random.Random(seed)
        self.accepted: list[int] = []
        self.held = held
        self.settled = 0
        self.failure: BaseException | None = None
        self._world = world
        self._node = world.incarnation
        self._time = ClusterTime(world.clock)
        self._connection = DatabaseConnection(world.settings(), world.clock, Mode("node"), 0.0)
        self._numbers, self._book = Numbers(), LeaseBook()
        self._marks, self._turns = Marks(), Turns()

    def run(self) -> None:
        """Do everything a number of times."""
        try:
            for _ in range(ROUNDS):
                self.accept()
                self.send(self.random.choice(APPS))
            self.transact(lambda connection: prune(connection, 0, 0.0, self._world.clock.now(), 10, DAY))
        except BaseException as failure:
            self.failure = failure
        finally:
            self._connection.close()

    def transact(self, function: Callable[[Connection], _T]) -> _T:
        """Do a transaction, which may meet others."""
        return self._connection.transact(function)

    def accept(self) -> None:
        """Accept a few requests together, of which some have keys that others use, too."""
        requests = []
        for _ in range(self.random.randint(1, 4)):
            sent = message(self._world, self.random.randint(1, 9), self.random.choice(APPS))
            messages = [msgspec.structs.replace(sent, collapse_id=self.random.choice(["score", None]))]
            key = Idempotency("caller", str(self.random.randint(0, 20)), b"digest")
            requests.append(Acceptance(messages, self.random.choice([key, None]), self._time.date(), self._time.now()))
        messages = [each for request in requests for each in request.messages]

        def store(connection: Connection) -> tuple[list[Acceptance], Superseded]:
            apps = find_apps(connection, APPS)
            flows = find_flows(connection, set(map(flow_of, messages)), apps)
            lock_apps(connection, {apps[each.app] for each in messages if each.collapse_id is not None})
            new = packed(recognize(connection, requests, self._numbers, 0.0)[1])
            for each in new:
                each.apps, each.flows = apps, flows
            add(connection, new, self._node)
            return new, supersede(connection, new, self._node, self._time.now(), RECORDED)

        new, superseded = self.transact(store)
        assert self.held.isdisjoint(superseded.numbers), "superseded while leased"
        self.settled += len(superseded.numbers)
        for each in new:
            self.accepted += range(each.first, each.first + each.count)

    def send(self, app: str) -> None:
        """Lease some and settle them in any way, with some that others may have."""
        now = self._time.now()
        wanted = Claim(app, self.random.randint(1, 30), now + 10**6, now, None, self._node)
        found = self.transact(lambda connection: claim(connection, wanted, self._marks, self._turns))
        numbers: list[int] = []
        if found.key is not None:
            numbers = [number for _, number, *_ in found.notifications]
            assert self.held.isdisjoint(numbers), "leased twice"
            self.held.update(numbers)
            self._book.lend(found.key, numbers, 10**6 + now, 0.0)
        foreign = self.random.sample(self.accepted, min(2, len(self.accepted)))
        states = [State.ACCEPTED, State.REJECTED, State.DEAD, State.EXPIRED]
        settlements = [
            Settlement(number, self.random.choice(states), 410, "Unregistered") for number in {*numbers, *foreign}
        ]
        self.random.shuffle(settlements)
        kept = settlements[:3]
        self.give_back([each.number for each in kept])
        report = Report(settlements[3:], self._time.date())

        def settle(connection: Connection) -> Any:
            freed = self._book.find([each.number for each in report.settlements], 0.0)
            return conclude(connection, [report], freed, self._time, self._node, RECORDED)

        self.held.difference_update(each.number for each in report.settlements)
        done = self.transact(settle)
        self._book.drop(done.freed.known.items())
        self.settled += sum(done.counts.values())

    def give_back(self, numbers: list[int]) -> None:
        """Release some, if they are this node's."""
        found = self._book.find(numbers, 0.0)
        for some in found.known.values():
            self.held.difference_update(some)
        self.transact(lambda connection: free(connection, found))
        self._book.drop(found.known.items())


class ConcurrencyTests(SynchronousTestCase):
    """Nodes that do everything at once."""

    def test_nothing_is_lost(self) -> None:
        """Everything that was accepted waits or is settled, once; and counts and leases agree."""
        world = PostgreSQLWorld(schema(self))
        self.addCleanup(lambda: world.stop())
        seed = time.monotonic_ns()
        held: set[int] = set()
        nodes = [_Node(world, seed + n, held) for n in range(NODES)]
        threads = [threading.Thread(target=node.run) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([node.failure for node in nodes], [None] * NODES, seed)
        accepted = sorted(number for node in nodes for number in node.accepted)
        settled = sum(node.settled for node in nodes)
        self.assertEqual(len(set(accepted)), len(accepted))
        rows = world.execute("SELECT number FROM queue UNION ALL SELECT number FROM outcome ORDER BY number")
        self.assertEqual([number for (number,) in rows], accepted)
        counts = "SELECT app, sum(waiting)::bigint FROM queue_count GROUP BY app ORDER BY app"
        waiting = world.execute("SELECT app, count(*) FROM queue GROUP BY app ORDER BY app")
        self.assertEqual([row for row in world.execute(counts) if row[1]], waiting)
        self.assertEqual(sum(count for _, count in waiting), len(accepted) - settled)
        self.assertEqual((world.execute("SELECT unnest(numbers) FROM lease"), held), ([], set()))
        self.assertGreater(world.execute("SELECT count(*) FROM feedback_token"), [(0,)])
        self.check_recorded(world)

    def check_recorded(self, world: PostgreSQLWorld) -> None:
        """Each outcome of the apps that ask for it is recorded once, with cursors of its app without gaps."""
        settled = "SELECT name, number FROM outcome JOIN queue_app ON id = app WHERE name = ANY(%s) ORDER BY 1, 2"
        recorded = "SELECT name, number FROM outcome_entry JOIN queue_app ON id = app ORDER BY name, number"
        expected = world.execute(settled, sorted(RECORDED))
        self.assertEqual(world.execute(recorded), expected)
        self.assertEqual({name for name, _ in expected}, RECORDED)
        cursors = "SELECT app, count(*), min(cursor), max(cursor) FROM outcome_entry GROUP BY app ORDER BY app"
        heads = "SELECT app, cursor, 1::bigint, cursor FROM outcome_head ORDER BY app"
        self.assertEqual(world.execute(cursors), world.execute(heads))
