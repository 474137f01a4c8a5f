"""A node that is cut off from the database while it sends."""

from __future__ import annotations

import time

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.cluster.callers import NativeCaller
from tests.cluster.case import ClusterCase
from txapns.daemon.store.postgresql.nodes import LIFE

__all__ = ["CutOffTests"]


@pytest.mark.cluster
class CutOffTests(ClusterCase):
    """The answers are so slow that it has something to send for longer than it may."""

    delay, streams = 1.0, 40
    #: What it has to have leased for that.
    enough = int(streams * (LIFE + 5) / delay)

    async def post(self, request: str, first: int, count: int) -> None:
        """Hand notifications to the node until they are accepted."""
        simulator = self.simulator
        caller = NativeCaller(simulator.directory, simulator.key_id, simulator.team_id, self.book)
        tokens = [f"{serial:064x}" for serial in range(first, first + count)]
        while tokens[0] not in self.book.accepted:
            self.book.accepted.update(await caller.deliver(self.nodes["n1"], request, tokens))
            await deferLater(reactor, 0.1)

    async def test_cut_off(self) -> None:
        """It stops in time, the others take over, and when it is back it settles nothing twice."""
        await self.post("first", 0, 1_000)
        while await self.in_flight("n1") < self.enough:
            await deferLater(reactor, 0.05)
        self.hosts.cut("n1")
        cut = time.monotonic()
        self.under_way = await self.in_flight("n1")
        self.say(f"cut off with {self.under_way} in flight")
        await self.settled()
        healed = time.monotonic()
        self.hosts.heal("n1")
        await self.post("second", 1_000, 100)
        await self.settled()
        await self.check_stop(cut, healed)
        self.assertEqual(1_100, await self.count("outcome"))
        await self.check_books()
        await self.stop_nodes()

    async def check_stop(self, cut: float, healed: float) -> None:
        """The node has sent after the cut, but not for longer than its life; then others sent what was left."""
        self.simulator.look()
        receptions = [each for found in self.simulator.received.values() for each in found]
        late = [each.at - cut for each in receptions if each.node == "n1" and cut < each.at < healed]
        self.say(f"sent {len(late)} in the {max(late, default=0.0):.1f} s after the cut")
        self.assertTrue(late, "it sent nothing after the cut, which shows nothing")
        self.assertLess(max(late), LIFE)
        taken = [found for found in self.simulator.received.values() if len({each.node for each in found}) > 1]
        self.assertTrue(all(found[0].node == "n1" for found in taken), "taken over before it was to be had")
        self.assertTrue(any(each.node != "n1" for each in receptions), "nobody took over")
