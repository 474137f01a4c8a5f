"""What is urgent, while there is much that is not."""

from __future__ import annotations

from typing import Any

from tests.daemon.dispatch_world import DispatcherCase
from tests.daemon.fakes import Cluster
from txapns.daemon.sending.sender import RESERVED
from txapns.daemon.values import Lane, Limits

__all__ = ["LanesTests"]


class LanesTests(DispatcherCase):
    """An app with a campaign."""

    def order(self) -> list[str]:
        """The ids that came to the simulator, in order."""
        return [each.headers["apns-id"] for each in self.world.simulator.inbox.received]

    def test_slow_gateway(self) -> None:
        """What is urgent is sent at once while the limit in flight is used by bulk, and as much as is kept free."""
        self.world.add_app("chess", limits=Limits(in_flight=800))
        self.world.simulator.delay = 5.0
        self.world.accept(3_000, lane=Lane.BULK)
        self.world.advance(1.0)
        self.assertEqual(self.world.state().under_way, 800 - 40)
        urgent = self.world.accept(60, lane=Lane.URGENT)
        self.world.advance(0.1)
        self.assertEqual(self.world.state().under_way, 800)
        self.world.advance(5.0)
        self.assertLessEqual(set(urgent[:40]), set(self.order()))
        self.world.drain()
        self.assertEqual(len(self.order()), 3_060)

    def test_before_what_waits_for_a_connection(self) -> None:
        """What is urgent goes out before what was handed to the client already."""
        self.world.simulator.delay = 1.0
        self.world.accept(2_500, lane=Lane.BULK)
        self.world.advance(0.5)
        self.assertEqual((self.world.state().in_flight, self.world.state().under_way), (1_000, 1_900))
        [urgent] = self.world.accept(1, lane=Lane.URGENT)
        self.world.advance(2.6)
        self.assertEqual(self.order().index(urgent), 1_000)

    def test_kept_free(self) -> None:
        """With any limit something can be sent, and of a large one no more is kept free than is stated."""
        for limit, free in ((1, 0), (19, 0), (20, 1), (50_000, RESERVED)):
            name = f"limit{limit}"
            self.world.add_app(name, limits=Limits(in_flight=limit))
            self.world.simulator.delay = 1.0
            self.world.accept(min(limit, 3_000), name, lane=Lane.BULK)
            self.world.advance(0.5)
            self.assertEqual(self.world.state(name).under_way, min(3_000, limit - free))
            self.world.drain(app=name)

    def test_one_lease_after_another(self) -> None:
        """Nothing of any lane is forgotten when several have something due."""
        for lane in (Lane.BULK, Lane.NORMAL, Lane.URGENT):
            self.world.accept(7, lane=lane)
        self.world.advance(1.0)
        self.assertEqual(len(self.order()), 21)

    def test_one_lease(self) -> None:
        """What is urgent takes one lease if nothing else waits, however often the sender was woken in a turn."""
        leases: list[Lane | None] = []
        lease = self.world.queue.lease

        def counted(app: str, count: int, until: float, most: int | None, only: Lane | None, rate: int | None) -> Any:
            leases.append(only)
            return lease(app, count, until, most, only, rate)

        self.patch(self.world.queue, "lease", counted)
        for cluster in (self.world.cluster, Cluster()):  # alone, and where others may lease, too
            self.world.cluster = cluster
            self.world.start()
            urgent = self.world.accept(3, lane=Lane.URGENT)
            self.world.dispatcher.hurry("chess")
            self.assertEqual(leases, [])
            self.world.drain()
            self.assertEqual((sorted(self.order()[-3:]), leases), (sorted(urgent), [None]))
            leases.clear()
