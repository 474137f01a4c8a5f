"""Tests for :mod:`tests.daemon.store.crowd`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.crowd import Crowd
from txapns.daemon.store.copying import KINDS

__all__ = ["CrowdTests"]


class CrowdTests(SynchronousTestCase):
    """What it has."""

    def test_kinds(self) -> None:
        """There are rows of every kind, those that are new as well."""
        crowd = Crowd(1_000)
        self.assertEqual([name for kind, name in KINDS.items() if not any(crowd.rows(kind))], [])
