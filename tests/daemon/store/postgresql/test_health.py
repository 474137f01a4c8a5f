"""Tests for :mod:`txapns.daemon.store.postgresql.health`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.postgresql.health import Health

__all__ = ["HealthTests"]


class HealthTests(SynchronousTestCase):
    """The health of a database on a server."""

    def test_away(self) -> None:
        """While it is away new data is refused, whatever else succeeds; when it is back nothing is wrong."""
        health = Health("postgresql://db/push")
        health.away("the database is away")
        health.concluded("the database is away", True, 5.0)
        health.concluded("", True, 6.0)
        self.assertEqual((health.refusal, health.trouble), ("the database is away", "the database is away"))
        health.concluded("the database is too slow", True, 7.0)
        health.back()
        self.assertEqual((health.refusal, health.trouble), ("", ""))
        health.concluded("the database is too slow", False, 8.0)
        self.assertEqual((health.refusal, health.trouble), ("", "the database is too slow"))
