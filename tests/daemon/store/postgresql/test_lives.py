"""Whatever happens to nodes and to the database's clock, no node sends when another may, and all come back."""

from __future__ import annotations

import random

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.postgresql.test_cluster import Node, Nodes
from txapns.daemon.store.postgresql.cluster import AGAIN, BEAT
from txapns.daemon.store.postgresql.nodes import LIFE

__all__ = ["CampaignTests"]

DUTIES = ["one", "two", "three"]
STEPS = 50

_ALIVE = "SELECT incarnation::text FROM node, cluster_clock WHERE until > %s + correction"


@pytest.mark.loopback
class CampaignTests(SynchronousTestCase):
    """Four nodes, to which things happen at random."""

    def begin(self, seed: int) -> None:
        """Start them."""
        self.chance = random.Random(seed)
        self.nodes = Nodes(self)
        self.running = {name: self.start(name) for name in "abcd"}
        self.still: dict[Node, float] = {}

    def start(self, name: str) -> Node:
        """Start a node, which asks for all duties."""
        node = self.nodes.start(name)
        node.duties = DUTIES
        return node

    def happen(self) -> None:
        """Let something happen."""
        name = self.chance.choice(sorted(self.running))
        node = self.running[name]
        match self.chance.randrange(6):
            case 0:
                node.cut = not node.cut
            case 1 if node not in self.still:
                self.still[node] = 0.0
            case 2 if node in self.still:
                node.clock.rightNow += self.still.pop(node)
            case 3:  # killed, and started again
                self.still.pop(node, None)
                self.nodes.nodes.remove(node)
                self.running[name] = self.start(name)
            case 4 if node not in self.still and not node.cut:  # stopped, and started again
                node.do(node.cluster.stop())
                self.nodes.nodes.remove(node)
                self.running[name] = self.start(name)
            case 5:
                self.nodes.clock.ahead -= self.chance.choice([0.3, 2.0, 20.0, 4_000.0])

    def advance(self, seconds: float) -> None:
        """Let time pass, and look at everything on the way."""
        for _ in range(int(seconds)):
            self.nodes.advance(1.0, *self.still)
            for node in self.still:
                self.still[node] += 1.0
            self.check()

    def check(self) -> None:
        """A node that takes itself for alive is so in the database, and a duty has one owner at most."""
        found = self.nodes.execute(_ALIVE, self.nodes.clock.now() * 1000)
        alive = {incarnation for (incarnation,) in found}
        awake = [node for node in self.running.values() if node not in self.still and node.cluster.alive]
        for node in awake:
            self.assertIn(node.cluster.incarnation, alive)
        owned = [duty for node in awake for duty in node.owned]
        self.assertEqual(len(owned), len(set(owned)))

    def test_lives(self) -> None:
        """At last, when nothing happens any more, all are alive, and each duty has an owner."""
        for seed in range(2):
            self.begin(seed)
            for _ in range(STEPS):
                self.happen()
                self.advance(self.chance.choice([0.0, 1.0, 3.0, 8.0]))
            for node in self.running.values():
                node.cut = False
                node.clock.rightNow += self.still.pop(node, 0.0)
            self.advance(LIFE + BEAT + AGAIN)
            self.assertEqual([node.cluster.alive for node in self.running.values()], [True] * 4, seed)
            self.assertEqual(sorted(duty for node in self.running.values() for duty in node.owned), sorted(DUTIES))
            self.doCleanups()
