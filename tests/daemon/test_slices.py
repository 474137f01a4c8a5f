"""Tests for :mod:`txapns.daemon.slices`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.slices import in_slices

__all__ = ["SlicesTests"]


class SlicesTests(SynchronousTestCase):
    """Long work in slices."""

    def test_slices(self) -> None:
        """All items come in order, with a turn of the reactor between two slices and none before the first."""
        clock = Clock()
        found: list[object] = []

        async def work() -> None:
            async for part in in_slices(clock, range(7), 3):
                clock.callLater(0, found.append, "turn")
                found.extend(part)

        done = Deferred.fromCoroutine(work())
        self.assertEqual(found, [0, 1, 2])
        self.assertNoResult(done)
        clock.advance(0)
        self.assertEqual(found, [0, 1, 2, "turn", 3, 4, 5, "turn", 6, "turn"])
        self.successResultOf(done)
