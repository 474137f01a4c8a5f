"""Tests of what is done about the collector of garbage."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.operations.collector import YOUNG, calm_collector

__all__ = ["CollectorTests"]


class CollectorTests(SynchronousTestCase):
    """What is done to the process."""

    def setUp(self) -> None:
        """Let the collector be as it was, in the end."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)

    def test_calm(self) -> None:
        """It looks less often, and not at what there is; but it does look at what comes after."""
        calm_collector()
        self.assertEqual(gc.get_threshold()[0], YOUNG)
        self.assertGreater(gc.get_freeze_count(), 1_000)
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        self.assertGreaterEqual(gc.collect(), 1)
