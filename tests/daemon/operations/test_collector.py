"""Tests for :mod:`txapns.daemon.operations.collector`."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.operations.collector import YOUNG, calm_collector

__all__ = ["CollectorTests"]


class CollectorTests(SynchronousTestCase):
    """The garbage collector of this process."""

    def setUp(self) -> None:
        """Restore the collector afterwards."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)

    def test_calm(self) -> None:
        """It runs less often and ignores existing objects, but still collects later ones."""
        calm_collector()
        self.assertEqual(gc.get_threshold()[0], YOUNG)
        self.assertGreater(gc.get_freeze_count(), 1_000)
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        self.assertGreaterEqual(gc.collect(), 1)
