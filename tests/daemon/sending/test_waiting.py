"""Tests for :mod:`txapns.daemon.sending.waiting`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.dispatch_world import START, DispatchWorld
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.values import Outcome, State

__all__ = ["OutcomesTests"]

ID = "0f0e0d0c-0b0a-4909-8807-060504030201"
A, B, C, NONE = 1_001, 1_002, 1_003, -1


def outcome(number: int) -> Outcome:
    """Make an outcome; all have the same id."""
    return Outcome(number, ID, "chess", State.ACCEPTED, 200, "", None, 1, START, START + 1)


class OutcomesTests(SynchronousTestCase):
    """Callers who wait."""

    def setUp(self) -> None:
        """Start without waiting callers."""
        self.world = DispatchWorld()
        self.world.start()
        self.addCleanup(self.world.close)
        self.outcomes = self.world.outcomes

    def wait(self, *numbers: int, timeout: float = 10.0, **options: Any) -> list[Mapping[int, Outcome]]:
        """Wait; returns a list that gets the result."""
        results: list[Mapping[int, Outcome]] = []
        self.outcomes.wait(numbers, timeout, **options).addCallback(results.append)
        return results

    def accept(self) -> int:
        """Accept a notification; returns its number."""
        [apns_id] = self.world.accept()
        return self.world.outcome(apns_id).number

    def test_told(self) -> None:
        """Each wait ends with its last outcome; an outcome that is told twice counts once."""
        both, one = self.wait(A, B, fresh=True), self.wait(A, fresh=True)
        self.outcomes.tell([outcome(A), outcome(C), outcome(A)])
        self.assertEqual((both, one), ([], [{A: outcome(A)}]))
        self.outcomes.tell([outcome(B)])
        self.assertEqual(both, [{A: outcome(A), B: outcome(B)}])
        self.assertEqual(len(self.outcomes), 0)

    def test_timeout(self) -> None:
        """After the timeout the result has the outcomes known by then."""
        results = self.wait(A, B, timeout=5.0, fresh=True)
        self.outcomes.tell([outcome(B)])
        self.world.advance(4.9)
        self.assertEqual(results, [])
        self.world.advance(0.2)
        self.assertEqual(results, [{B: outcome(B)}])
        self.assertEqual(len(self.outcomes), 0)

    def test_nothing(self) -> None:
        """A wait for nothing ends at once."""
        self.assertEqual(self.wait(), [{}])

    def test_settled_before(self) -> None:
        """Outcomes from before are found in the queue; the others are told."""
        first = self.accept()
        self.world.drain()
        results = self.wait(first, NONE)
        self.world.advance(1.0)
        self.assertEqual(results, [])
        self.outcomes.tell([outcome(NONE)])
        self.assertEqual([set(each) for each in results], [{first, NONE}])

    def test_dispatched(self) -> None:
        """A notification that is under way is told when it is settled, with what the queue has."""
        good = self.accept()
        results = self.wait(good)
        self.world.drain()
        [found] = results
        [stored] = self.world.result(self.world.outcome_log.outcomes([good]))
        assert stored.settled_at is not None
        self.assertAlmostEqual(found[good].settled_at or 0.0, stored.settled_at, 3)
        self.assertEqual({good: attrs.evolve(found[good], settled_at=stored.settled_at)}, {good: stored})

    def test_cancelled(self) -> None:
        """A cancelled wait is forgotten."""
        waiting: Deferred[Mapping[int, Outcome]] = self.outcomes.wait([A], 10.0, fresh=True)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(self.outcomes), 0)
        self.outcomes.tell([outcome(A)])

    def test_capacity(self) -> None:
        """Without room only stored outcomes are found, at once."""
        first = self.accept()
        self.world.drain()
        self.outcomes = OutcomeWaiters(self.world.clock, self.world.outcome_log, capacity=2)
        waiting, late = self.wait(A, B, fresh=True), self.wait(first, C)
        self.world.advance(0.0)
        self.assertEqual([set(each) for each in late], [{first}])
        self.assertEqual((waiting, len(self.outcomes)), ([], 2))
        self.assertEqual(self.wait(C, fresh=True), [{}])

    def test_stop(self) -> None:
        """When it stops all waits end with the outcomes known by then."""
        results = self.wait(A, B, fresh=True)
        self.outcomes.tell([outcome(B)])
        self.outcomes.stop()
        self.assertEqual(results, [{B: outcome(B)}])

    def test_queue_stopped(self) -> None:
        """If the queue cannot be asked the wait goes on."""
        self.world.result(self.world.queue.stop())
        results = self.wait(NONE, timeout=1.0)
        self.world.advance(0.5)
        self.assertEqual(results, [])
        self.world.advance(0.6)
        self.assertEqual(results, [{}])
