"""Tests for :mod:`txapns.daemon.store.postgresql.circuits`."""

from __future__ import annotations

import pytest
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.test_cluster import Node, Nodes
from txapns.daemon.errors import Unavailable
from txapns.daemon.store.cluster import Circuit
from txapns.daemon.store.postgresql.circuits import POLL

__all__ = ["CircuitsTests"]

_LANE = """
CREATE TABLE queue_app (
    name text, rest_until bigint DEFAULT 0, since bigint DEFAULT 0, trips boolean DEFAULT false, trouble text DEFAULT ''
)
"""


@pytest.mark.loopback
class CircuitsTests(SynchronousTestCase):
    """What two nodes tell each other."""

    def setUp(self) -> None:
        """Start them; their clocks differ."""
        self.nodes = Nodes(self)
        self.a = self.nodes.start("a")
        self.nodes.execute(_LANE)
        self.nodes.execute("INSERT INTO queue_app (name) VALUES ('chess'), ('go')")
        self.b = self.nodes.start("b")
        self.b.clock.rightNow += 500.0
        self.told: dict[Node, list[tuple[str, Circuit | None]]] = {self.a: [], self.b: []}
        for node in self.a, self.b:
            node.cluster.watch(lambda app, circuit, node=node: self.told[node].append((app, circuit)))
        self.nodes.advance(5.0)

    def report(self, node: Node, app: str, reason: str, *, trips: bool = False, pause: float = 30.0) -> Circuit:
        """Report that a circuit has opened."""
        now = node.clock.seconds()
        circuit = Circuit(reason, trips, now - 1.0, now + pause)
        node.cluster.report(app, circuit)
        return circuit

    def rows(self) -> dict[str, tuple[str, bool]]:
        """What is stored of circuits that are not closed."""
        rows = self.nodes.execute("SELECT name, trouble, trips FROM queue_app WHERE rest_until > 0")
        return {name: (trouble, trips) for name, trouble, trips in rows}

    def test_told(self) -> None:
        """One node's report is stored at once, and the other is told, once, in its own time; so is the end."""
        self.report(self.a, "chess", "down")
        self.nodes.advance(0.01)
        self.assertEqual(self.rows(), {"chess": ("down", False)})
        self.nodes.advance(10 * POLL)
        [(app, circuit)] = self.told[self.b]
        assert circuit is not None
        self.assertEqual((app, circuit.reason, circuit.trips), ("chess", "down", False))
        self.assertApproximates(circuit.since - self.b.clock.seconds(), -11.0, 0.05)
        self.assertApproximates(circuit.until - self.b.clock.seconds(), 20.0, 0.05)
        self.a.cluster.report("chess", None)
        self.nodes.advance(10 * POLL)
        self.assertEqual((self.rows(), self.told[self.b][1:]), ({}, [("chess", None)]))
        self.assertEqual(self.told[self.a], [])

    def test_same_trouble(self) -> None:
        """Of two nodes that find the same, the first is believed, and the other is told; a trip is always stored."""
        self.report(self.a, "chess", "down", pause=30.0)
        self.nodes.advance(0.01)
        self.report(self.b, "chess", "down too", pause=60.0)
        self.nodes.advance(2 * POLL)
        self.assertEqual(self.rows(), {"chess": ("down", False)})
        self.assertEqual([circuit and circuit.reason for _, circuit in self.told[self.b]], ["down"])
        self.report(self.b, "chess", "refused", trips=True, pause=60.0)
        self.nodes.advance(2 * POLL)
        self.assertEqual(self.rows(), {"chess": ("refused", True)})
        self.assertEqual([circuit and circuit.reason for _, circuit in self.told[self.a]], ["refused"])
        self.nodes.advance(60.0)
        self.report(self.a, "chess", "down again")
        self.nodes.advance(2 * POLL)
        self.assertEqual(self.rows(), {"chess": ("down again", False)})

    def test_late(self) -> None:
        """While the database is away reports are kept, of each app the last; then they are stored."""
        write = self.a.database.write
        self.patch(self.a.database, "write", lambda function: fail(Unavailable("away", 1.0)))
        for reason in "one", "two":
            self.report(self.a, "chess", reason, pause=100.0)
        self.report(self.a, "go", "three", pause=100.0)
        self.nodes.advance(10.0)
        self.a.cluster.report("go", None)
        self.report(self.b, "go", "four", pause=100.0)
        self.nodes.advance(0.01)
        self.patch(self.a.database, "write", write)
        self.nodes.advance(2 * POLL)
        self.assertEqual(self.rows(), {"chess": ("two", False)})

    def test_before(self) -> None:
        """One who begins to watch is told what was reported before; nobody is told any more after the end."""
        self.report(self.a, "chess", "down", pause=100.0)
        self.nodes.advance(2 * POLL)
        later: list[str] = []
        end = self.b.cluster.watch(lambda app, circuit: later.append(app))
        self.assertEqual(later, ["chess"])
        end()
        self.a.cluster.report("chess", None)
        self.nodes.advance(2 * POLL)
        self.assertEqual(later, ["chess"])

    def test_unreadable(self) -> None:
        """A read that fails is tried again; anything but a database that is away is logged."""
        read = self.b.database.read
        for error in Unavailable("away", 1.0), ZeroDivisionError():
            self.patch(self.b.database, "read", lambda function, error=error: fail(error))
            self.nodes.advance(POLL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.patch(self.b.database, "read", read)
        self.report(self.a, "chess", "down")
        self.nodes.advance(2 * POLL)
        self.assertEqual(len(self.told[self.b]), 1)
