"""Tests for :mod:`txapns.daemon.store.health`; those of the databases are beside them."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.health import StoreHealth

__all__ = ["StoreHealthTests"]


class StoreHealthTests(SynchronousTestCase):
    """What becomes of transactions."""

    def setUp(self) -> None:
        """Make one."""
        self.health = StoreHealth("apns.db")

    def test_sound(self) -> None:
        """Nothing is wrong at first."""
        self.assertEqual((self.health.refusal, self.health.trouble), ("", ""))

    def test_new(self) -> None:
        """A failure to store new data stands for a while, unless some is stored."""
        for now, new, found in ((5.0, False, "no room"), (15.0, False, ""), (5.0, True, "")):
            self.health.concluded("no room", True, 5.0)
            self.health.concluded("", new, now)
            self.assertEqual((self.health.refusal, self.health.trouble), ("", found))

    def test_told(self) -> None:
        """The beginning, the change and the end of trouble are logged."""
        with capturedLogs() as events:
            for failure in ("", "no room", "no room", "locked", ""):
                self.health.concluded(failure, True, 0.0)
                self.health.tell()
        expected = ["Nothing can be stored in apns.db: no room", "Nothing can be stored in apns.db: locked"]
        self.assertEqual([formatEvent(event) for event in events], [*expected, "apns.db can be used again"])
