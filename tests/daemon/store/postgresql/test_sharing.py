"""What nodes that share a queue do to each other's leases."""

from __future__ import annotations

import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import message, result
from tests.daemon.store.postgresql.opened import until
from tests.daemon.store.postgresql.world import PostgreSQLWorld
from tests.postgresql import schema
from txapns.daemon.store.cluster import HALF_OPEN
from txapns.daemon.store.postgresql.leases import Claim, Marks, claim
from txapns.daemon.store.queue_time import milliseconds
from txapns.daemon.store.turns import Turns
from txapns.daemon.values import Leased, Settlement, State

__all__ = ["ClaimTests", "TwoNodesTests"]

NODE = "00000000-0000-4000-8000-000000000000"


class TwoNodes(SynchronousTestCase):
    """Two nodes with one queue."""

    def setUp(self) -> None:
        """Start both."""
        self.place = schema(self)
        self.first = PostgreSQLWorld(self.place)
        self.addCleanup(lambda: self.first.stop())
        self.second = PostgreSQLWorld(self.place, self.first)
        self.addCleanup(lambda: self.second.stop())

    def do(self, world: PostgreSQLWorld, name: str, *arguments: Any) -> Any:
        """Call a method of a node's queue, and wait for the result."""
        return result(world.clock, getattr(world.queue, name)(*arguments))

    def accept(self, count: int) -> list[int]:
        """Accept notifications, and return their numbers."""
        [receipt] = self.do(self.first, "accept", [message(self.first, count)])
        return list(receipt.numbers)

    def lease(self, world: PostgreSQLWorld, count: int = 100, seconds: float = 60.0) -> list[Leased]:
        """Lease some for some time."""
        return list(self.do(world, "lease", "chess", count, world.clock.seconds() + seconds))

    def numbers(self, world: PostgreSQLWorld, count: int = 100) -> list[int]:
        """Lease some, and return their numbers."""
        return [each.number for each in self.lease(world, count)]

    def leases(self) -> list[int]:
        """Return the numbers in all leases of the table."""
        return [each for (numbers,) in self.first.execute("SELECT numbers FROM lease") for each in numbers]


class TwoNodesTests(TwoNodes):
    """What one of them leased, and the other one releases, renews or settles."""

    def test_settled(self) -> None:
        """A lease ends with the settlement of all that is in it, and leaves no row."""
        numbers = self.accept(4)
        self.assertEqual(self.numbers(self.first, 3), numbers[:3])
        self.assertEqual(self.numbers(self.second), numbers[3:])
        self.do(self.first, "settle", [Settlement(number, State.ACCEPTED, 200) for number in numbers[:3]])
        self.assertEqual(self.leases(), numbers[3:])
        self.do(self.second, "settle", [Settlement(numbers[3], State.WAITING)])
        self.assertEqual(self.first.execute("SELECT count(*) FROM lease"), [(0,)])

    def test_released_elsewhere(self) -> None:
        """What a node has leased is not freed by another one, which does not know whether it is being sent."""
        numbers = self.accept(4)
        self.lease(self.first)
        self.do(self.second, "release", numbers[1:3])
        later = [Settlement(numbers[3], State.WAITING, 503, due=self.first.clock.seconds())]
        self.do(self.second, "settle", [Settlement(numbers[0], State.WAITING), *later])
        self.assertEqual(self.lease(self.second), [])
        self.do(self.first, "release", numbers)
        self.assertEqual([(each.number, each.attempts) for each in self.lease(self.second)][3], (numbers[3], 1))

    def test_dead_letter_elsewhere(self) -> None:
        """What is settled by another node and tried again is free."""
        numbers = self.accept(2)
        self.lease(self.first)
        self.do(self.second, "settle", [Settlement(numbers[0], State.DEAD)])
        result(self.first.clock, self.second.outcome_log.retry("chess", 10))
        self.assertEqual(self.numbers(self.second), numbers[:1])

    def test_renewed_elsewhere(self) -> None:
        """A node does not renew another one's leases."""
        numbers = self.accept(3)
        self.lease(self.first, seconds=10)
        self.do(self.second, "renew", numbers[:1], self.first.clock.seconds() + 100)
        self.do(self.first, "renew", numbers[1:2], self.first.clock.seconds() + 100)
        self.first.clock.advance(11)
        self.assertEqual(self.numbers(self.second), [numbers[0], numbers[2]])

    def test_node_gone(self) -> None:
        """The leases of a node end with it. What it settles late counts, and the first final state stays."""
        numbers = self.accept(3)
        self.lease(self.first)
        self.assertEqual(self.lease(self.second), [])
        self.first.execute("UPDATE node SET until = 0 WHERE name = 'first'")
        self.assertEqual(self.do(self.second, "depths")[0].leased, 0)
        self.assertEqual(self.numbers(self.second), numbers)
        self.do(self.first, "settle", [Settlement(number, State.ACCEPTED, 200) for number in numbers[:2]])
        self.do(self.second, "settle", [Settlement(number, State.REJECTED, 410, "Unregistered") for number in numbers])
        found = result(self.first.clock, self.first.outcome_log.outcomes(numbers))
        self.assertEqual([each.state for each in found], [State.ACCEPTED, State.ACCEPTED, State.REJECTED])
        noted = result(self.first.clock, self.first.log.after(None, 0, 10))
        self.assertEqual((len(noted), self.leases()), (1, []))

    def test_another_life(self) -> None:
        """What a node claims for a life that has ended is leased by nobody."""
        numbers = self.accept(2)
        leasing = self.first.queue.lease("chess", 2, self.first.clock.seconds() + 60)
        self.first.execute("UPDATE node SET incarnation = %s WHERE name = 'first'", NODE)
        self.assertEqual(len(result(self.first.clock, leasing)), 2)
        self.assertEqual(self.numbers(self.second), numbers)

    def test_replaced(self) -> None:
        """A node whose name another process has taken leases nothing, or it would lease the same again and again."""
        numbers = self.accept(2)
        self.first.execute("UPDATE node SET incarnation = %s WHERE name = 'first'", NODE)
        self.assertEqual(self.lease(self.first), [])
        self.assertEqual(self.numbers(self.second), numbers)

    def test_circuit(self) -> None:
        """While an app's circuit is open nothing is leased, and while it is half-open a few by all together."""
        numbers = self.accept(20)
        now = milliseconds(self.first.clock.now())
        self.first.execute("UPDATE queue_app SET rest_until = %s", now + 5_000)
        self.assertEqual((self.lease(self.first), self.lease(self.second)), ([], []))
        self.first.clock.advance(6)
        self.assertEqual(self.numbers(self.first, 3), numbers[:3])
        self.assertEqual(self.numbers(self.second, 10), numbers[3:HALF_OPEN])
        self.assertEqual(self.lease(self.first), [])
        self.do(self.first, "release", numbers[:2])
        self.assertEqual(self.numbers(self.second, 10), numbers[:2])
        self.first.execute("UPDATE queue_app SET rest_until = 0")
        self.assertEqual(self.numbers(self.second), numbers[HALF_OPEN:])


class ClaimTests(TwoNodes):
    """Nodes that claim at the same time."""

    def test_one_after_the_other(self) -> None:
        """Who claims waits for the one before, and does not get the same."""
        numbers = self.accept(5)
        now = milliseconds(self.first.clock.now())
        wanted = Claim("chess", 3, now + 60_000, now, None, self.first.incarnation)
        with self.first.connect() as one, self.first.connect() as other:
            first = claim(one, wanted, Marks(), Turns())
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(claim(other, wanted, Marks(), Turns())))
            thread.start()
            until(lambda: self.first.waits(other.info.backend_pid))
            one.commit()
            thread.join()
            other.commit()
        [second] = found
        assert first is not None
        leased = [number for claimed in (first, second) for _, number, *_ in claimed.notifications]
        self.assertEqual(leased, numbers)

    def test_server_crashed(self) -> None:
        """A lease is respected whose id a server gave once more after a crash: so no mark outlives a connection."""
        numbers, marks = self.accept(6), Marks()
        now = milliseconds(self.first.clock.now())
        wanted = Claim("chess", 2, now + 60_000, now, None, self.first.incarnation)
        number_from = "SELECT setval(pg_get_serial_sequence('lease', 'id'), %s)"
        self.first.execute(number_from, 100)
        with self.first.connect() as connection:
            claim(connection, wanted, marks, Turns())
        self.first.execute("DELETE FROM lease")
        self.first.execute(number_from, 1)
        self.assertEqual(self.numbers(self.second, 2), numbers[:2])
        with self.first.connect() as connection:
            claimed = claim(connection, wanted, marks, Turns())
        assert claimed is not None
        self.assertEqual([number for _, number, *_ in claimed.notifications], numbers[2:4])
