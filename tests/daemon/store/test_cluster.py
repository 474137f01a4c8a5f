"""Tests for :mod:`txapns.daemon.store.cluster`."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import txapns
from tests.daemon.fakes import DatedClock
from txapns.daemon.store.cluster import Circuit, ICluster, NodeStatus, SingleNode

__all__ = ["SingleNodeTests"]


class SingleNodeTests(SynchronousTestCase):
    """A store with one node."""

    def setUp(self) -> None:
        """Make the node."""
        self.clock = DatedClock()
        self.cluster = SingleNode(self.clock, "a")

    def test_interface(self) -> None:
        """It has everything of the interface."""
        verifyObject(ICluster, self.cluster)

    def test_alone(self) -> None:
        """It lives, has all duties, and hears of no circuits and no changes."""
        told: list[object] = []
        ends = [
            self.cluster.subscribe(lambda: told.append("changed")),
            self.cluster.watch(lambda app, circuit: told.append((app, circuit))),
        ]
        self.cluster.report("chess", Circuit("the gateway is down", False, 1.0, 2.0))
        self.cluster.report("chess", None)
        self.cluster.resign("pruning")
        self.assertEqual((self.cluster.shared, self.cluster.alive, self.cluster.owns("pruning")), (False, True, True))
        self.assertEqual(told, [])
        for end in ends:
            end()

    def test_nodes(self) -> None:
        """It lists itself, with what the daemon says of it."""
        since = self.clock.now()
        self.clock.advance(10.0)
        self.cluster.digest, self.cluster.in_flight = "d", lambda: 7
        status = NodeStatus("a", txapns.__version__, "d", since, 0.0, 0.0, 7, alive=True, own=True)
        self.assertEqual(self.successResultOf(self.cluster.nodes()), [status])

    def test_name(self) -> None:
        """Without a name it has the host's."""
        self.assertEqual(SingleNode(self.clock).node, socket.gethostname())
