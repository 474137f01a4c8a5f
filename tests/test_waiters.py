"""Tests for :mod:`txapns._waiters`."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txapns._waiters import Result, Waiters

__all__ = ["ResultTests", "WaitersTests"]


class ResultTests(SynchronousTestCase):
    """The ``Deferred`` of a caller."""

    async def waits(self, deferred: Deferred[int]) -> int:
        """Await it."""
        return await deferred

    def test_awaited(self) -> None:
        """In coroutines of Twisted's it is awaited as any ``Deferred``, with its result or exception."""
        for exception in (None, RuntimeError("a fault")):
            deferred: Deferred[Any] = Result()
            waiting = Deferred.fromCoroutine(self.waits(deferred))
            if exception is None:
                deferred.callback(7)
                self.assertEqual(self.successResultOf(waiting), 7)
            else:
                deferred.errback(exception)
                self.assertIs(self.failureResultOf(waiting, RuntimeError).value, exception)

    def test_asyncio(self) -> None:
        """In a task of asyncio it says what to do instead, unless it has fired."""
        error = self.assertRaises(RuntimeError, asyncio.run, self.waits(Result()))
        self.assertIn("txapns.aio", str(error))
        fired: Deferred[int] = Result()
        fired.callback(7)
        self.assertEqual(asyncio.run(self.waits(fired)), 7)


class WaitersTests(SynchronousTestCase):
    """All who wait for one event."""

    def setUp(self) -> None:
        """Begin with nobody waiting."""
        self.waiters: Waiters[int] = Waiters()

    def test_all(self) -> None:
        """Each of them gets the result, and nobody waits after that."""
        first, second = self.waiters.wait(), self.waiters.wait()
        self.assertEqual(len(self.waiters), 2)
        self.waiters.fire(7)
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (7, 7))
        self.assertFalse(self.waiters)
        self.waiters.fire(8)

    def test_failure(self) -> None:
        """A failure is a result, too."""
        waiting = self.waiters.wait()
        self.waiters.fire(Failure(ZeroDivisionError("a fault")))
        self.failureResultOf(waiting, ZeroDivisionError)

    def test_again(self) -> None:
        """One who waits again from a callback waits for the next event."""
        results: list[int] = []

        def again(result: int) -> None:
            results.append(result)
            self.waiters.wait().addCallback(results.append)

        self.waiters.wait().addCallback(again)
        self.waiters.fire(1)
        self.assertEqual(results, [1])
        self.waiters.fire(2)
        self.assertEqual(results, [1, 2])

    def test_cancelled(self) -> None:
        """One who cancels no longer waits, and the others do."""
        first, second = self.waiters.wait(), self.waiters.wait()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(self.waiters), 1)
        self.waiters.fire(7)
        self.assertEqual(self.successResultOf(second), 7)

    def test_cancelled_by_another(self) -> None:
        """A callback may cancel one whose turn would be next."""
        first: Deferred[int] = self.waiters.wait()
        second = self.waiters.wait()
        first.addCallback(lambda _: second.cancel())
        self.waiters.fire(7)
        self.failureResultOf(second, CancelledError)
