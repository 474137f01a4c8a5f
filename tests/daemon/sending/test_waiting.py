"""Tests for :mod:`txapns.daemon.sending.waiting`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.dispatch_world import START, DispatchWorld
from txapns.daemon.errors import Unavailable
from txapns.daemon.sending.waiting import LOOK, MOST, OutcomeWaiters
from txapns.daemon.values import Outcome, State

__all__ = ["OutcomesTests", "SharedTests"]

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
        self.assertApproximates(found[good].settled_at or 0.0, stored.settled_at, 0.001)
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


class SharedTests(SynchronousTestCase):
    """Callers who wait for what other nodes send, too."""

    def setUp(self) -> None:
        """Start without waiting callers; what the log is asked for is noted."""
        self.clock = Clock()
        self.asked: list[list[int]] = []
        self.stored: dict[int, Outcome] = {}
        self.failure: Exception | None = None
        self.answers: list[Deferred[list[Outcome]]] = []
        self.slow = False
        log: Any = self  # only its method outcomes is called
        self.outcomes_waiters = OutcomeWaiters(self.clock, log, shared=True)

    def outcomes(self, numbers: Iterable[int]) -> Deferred[list[Outcome]]:
        """Look up notifications."""
        self.asked.append(list(numbers))
        if self.failure is not None:
            return fail(self.failure)
        if self.slow:
            self.answers.append(Deferred())
            return self.answers[-1]
        waiting = [attrs.evolve(outcome(number), state=State.WAITING) for number in self.asked[-1]]
        return succeed([self.stored.get(each.number, each) for each in waiting])

    def wait(self, *numbers: int) -> list[Mapping[int, Outcome]]:
        """Wait for something just accepted; returns a list that gets the result."""
        results: list[Mapping[int, Outcome]] = []
        self.outcomes_waiters.wait(numbers, 10.0, fresh=True).addCallback(results.append)
        return results

    def test_sent_elsewhere(self) -> None:
        """What another node settled is found within a moment, by one query for all that wait."""
        first, second = self.wait(A, B), self.wait(B, C)
        self.assertEqual(self.asked, [])
        self.stored[B] = outcome(B)
        self.clock.advance(LOOK)
        self.assertEqual([sorted(each) for each in self.asked], [[A, B, C]])
        self.stored.update({A: outcome(A), C: outcome(C)})
        self.clock.advance(LOOK)
        self.assertEqual(first, [{A: outcome(A), B: outcome(B)}])
        self.assertEqual(second, [{B: outcome(B), C: outcome(C)}])
        self.assertEqual([sorted(each) for each in self.asked[1:]], [[A, C]])

    def test_nobody(self) -> None:
        """The log is not asked while nobody waits, nor before it has answered."""
        self.wait(A)
        self.outcomes_waiters.tell([outcome(A)])
        self.clock.advance(10 * LOOK)
        self.assertEqual((self.asked, self.clock.getDelayedCalls()), ([], []))
        self.slow = True
        found = self.wait(A)
        self.clock.pump([LOOK] * 10)
        self.wait(B)
        self.clock.pump([LOOK] * 10)
        self.assertEqual(self.asked, [[A]])
        self.answers[0].callback([outcome(A)])
        self.assertEqual(found, [{A: outcome(A)}])
        self.clock.advance(LOOK)
        self.assertEqual(self.asked, [[A], [B]])
        self.outcomes_waiters.stop()
        self.answers[1].callback([])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """Each of very many is asked for in its turn; one query has a bounded size."""
        self.wait(*range(2 * MOST + 5))
        self.clock.pump([LOOK] * 4)
        self.assertEqual([len(each) for each in self.asked], [MOST, MOST, 5, MOST])
        self.assertEqual(sorted(number for each in self.asked[:3] for number in each), list(range(2 * MOST + 5)))

    def test_log_away(self) -> None:
        """A log that cannot be asked is asked again; anything but a database that is away is logged."""
        results = self.wait(A)
        for self.failure in Unavailable("away", 1.0), ZeroDivisionError():
            self.clock.advance(LOOK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.failure, self.stored = None, {A: outcome(A)}
        self.clock.advance(LOOK)
        self.assertEqual(results, [{A: outcome(A)}])
