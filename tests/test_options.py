"""Tests for :mod:`txapns.options`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.testing import MemorySimulator


class OptionTests(SynchronousTestCase):
    """The options of a client."""

    def setUp(self) -> None:
        """There is a simulator."""
        self.simulator = MemorySimulator()

    def test_out_of_range(self) -> None:
        """Options out of range or of the wrong type are reported by name."""
        for name, value in {
            "timeout": 0,
            "idle_timeout": -1,
            "ping_interval": float("inf"),
            "min_connections": -1,
            "max_connections": 0,
            "retries": -1,
            "max_queued": 0,
        }.items():
            for wrong in (value, float("nan"), "2"):
                error = self.assertRaises(ValueError, self.simulator.client, **{name: wrong})
                self.assertIn(name, str(error))
        for name in ("min_connections", "max_connections", "retries", "max_queued"):
            self.assertIn(name, str(self.assertRaises(ValueError, self.simulator.client, **{name: 2.5})))
        error = self.assertRaises(ValueError, self.simulator.client, min_connections=2)
        self.assertIn("max_connections", str(error))
