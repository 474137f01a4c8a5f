"""Nodes and the database's primary are killed while all faces are in use: nothing that was accepted is lost."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.cluster.case import ClusterCase

__all__ = ["DeathTests"]


@pytest.mark.cluster
class DeathTests(ClusterCase):
    """Programs send while nodes die."""

    @property
    def ready(self) -> list[str]:
        """The nodes that take notifications."""
        return [name for name, node in self.nodes.items() if node.ready]

    async def kill_one(self, accepted: int) -> None:
        """Wait until so many are accepted, kill a node if another one is left, and start it again a little later."""
        await self.until_accepted(accepted)
        while len(self.ready) < 2:
            await deferLater(reactor, 0.005)
        name = self.chance.choice(self.ready)
        await self.kill(name)
        await deferLater(reactor, self.chance.uniform(0, 1))
        await self.start(name)

    async def test_nothing_lost(self) -> None:
        """Of 90,000 notifications none is lost when nodes are killed five times, and then the primary."""
        load = self.load(requests=150)
        moments = sorted(self.chance.sample(range(1, load.total * 3 // 4), 5))
        sending = [load.run(), *(Deferred.fromCoroutine(self.kill_one(moment)) for moment in moments)]
        await self.until_accepted(self.chance.randrange(load.total * 3 // 4, load.total))
        await self.fail_over()
        await gatherResults(sending, consumeErrors=True)
        self.assertEqual(load.total, len(self.book.accepted))
        await self.settled()
        await self.check_books()
        await self.stop_nodes()
