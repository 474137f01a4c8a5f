"""Tests for :mod:`txapns.daemon.outcomes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.dispatch_world import START, DispatchWorld
from txapns.daemon.outcomes import Outcomes
from txapns.daemon.values import Outcome, State

__all__ = ["OutcomesTests"]


def outcome(apns_id: str, app: str = "chess") -> Outcome:
    """Make an outcome."""
    return Outcome(apns_id, app, State.ACCEPTED, 200, "", None, 1, START, START + 1)


class OutcomesTests(SynchronousTestCase):
    """Those who wait."""

    def setUp(self) -> None:
        """Nobody waits."""
        self.world = DispatchWorld()
        self.world.start()
        self.addCleanup(self.world.close)
        self.outcomes = self.world.outcomes

    def wait(self, *apns_ids: str, timeout: float = 10.0, **options: Any) -> list[Mapping[str, Outcome]]:
        """Wait; the list has the result once there is one."""
        results: list[Mapping[str, Outcome]] = []
        self.outcomes.wait("chess", apns_ids, timeout, **options).addCallback(results.append)
        return results

    def test_told(self) -> None:
        """The result is there when the last outcome is, for each who waits; one told twice is the same."""
        both, one = self.wait("a", "b", fresh=True), self.wait("a", fresh=True)
        self.outcomes.tell([outcome("a"), outcome("c"), outcome("a")])
        self.assertEqual((both, one), ([], [{"a": outcome("a")}]))
        self.outcomes.tell([outcome("b")])
        self.assertEqual(both, [{"a": outcome("a"), "b": outcome("b")}])
        self.assertEqual(len(self.outcomes), 0)

    def test_other_app(self) -> None:
        """Where another app's notification has the same id, its outcome is told to nobody who does not wait for it."""
        chess = self.wait("a", fresh=True)
        self.outcomes.tell([outcome("a", "go")])
        self.assertEqual(chess, [])
        self.outcomes.tell([outcome("a")])
        self.assertEqual(chess, [{"a": outcome("a")}])

    def test_timeout(self) -> None:
        """When the time is over there is what there is."""
        results = self.wait("a", "b", timeout=5.0, fresh=True)
        self.outcomes.tell([outcome("b")])
        self.world.advance(4.9)
        self.assertEqual(results, [])
        self.world.advance(0.2)
        self.assertEqual(results, [{"b": outcome("b")}])
        self.assertEqual(len(self.outcomes), 0)

    def test_nothing(self) -> None:
        """Who waits for nothing has it at once."""
        self.assertEqual(self.wait(), [{}])

    def test_settled_before(self) -> None:
        """What was settled before is found in the spool, and the rest is told."""
        [first] = self.world.accept()
        self.world.drain()
        results = self.wait(first, "00000000-0000-0000-0000-000000000000")
        self.world.advance(1.0)
        self.assertEqual(results, [])
        self.outcomes.tell([outcome("00000000-0000-0000-0000-000000000000")])
        self.assertEqual([set(each) for each in results], [{first, "00000000-0000-0000-0000-000000000000"}])

    def test_dispatched(self) -> None:
        """What is under way is told when it is settled, as the spool has it."""
        [good] = self.world.accept()
        results = self.wait(good)
        self.world.drain()
        [found] = results
        stored = self.world.outcome(good)
        assert stored.settled_at is not None
        self.assertAlmostEqual(found[good].settled_at or 0.0, stored.settled_at, 3)
        self.assertEqual({good: attrs.evolve(found[good], settled_at=stored.settled_at)}, {good: stored})

    def test_cancelled(self) -> None:
        """Who is not interested any more is forgotten."""
        waiting: Deferred[Mapping[str, Outcome]] = self.outcomes.wait("chess", ["a"], 10.0, fresh=True)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(self.outcomes), 0)
        self.assertNotIn(("chess", "a"), self.outcomes)
        self.outcomes.tell([outcome("a")])

    def test_capacity(self) -> None:
        """Where there is no room, only what is stored is found, and at once."""
        [first] = self.world.accept()
        self.world.drain()
        self.outcomes = Outcomes(self.world.clock, self.world.spool, capacity=2)
        waiting, late = self.wait("a", "b", fresh=True), self.wait(first, "c")
        self.world.advance(0.0)
        self.assertEqual([set(each) for each in late], [{first}])
        self.assertEqual((waiting, len(self.outcomes)), ([], 2))

    def test_stop(self) -> None:
        """At the end all are told what there is."""
        results = self.wait("a", "b", fresh=True)
        self.outcomes.tell([outcome("b")])
        self.outcomes.stop()
        self.assertEqual(results, [{"b": outcome("b")}])

    def test_spool_stopped(self) -> None:
        """A spool that cannot be asked leaves them waiting."""
        self.world.result(self.world.spool.stop())
        results = self.wait("00000000-0000-0000-0000-000000000000", timeout=1.0)
        self.world.advance(0.5)
        self.assertEqual(results, [])
        self.world.advance(0.6)
        self.assertEqual(results, [{}])
