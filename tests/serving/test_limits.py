"""Tests for :mod:`txapns._serving.limits`, beside those of the connections."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from txapns._serving.limits import MemoryBudget

__all__ = ["MemoryBudgetTests"]


@attrs.define(eq=False)
class _Connection:
    """A connection that is only counted."""

    authenticated: bool = False
    over: bool = False

    def cut(self) -> None:
        """Close it."""
        self.over = True


class MemoryBudgetTests(SynchronousTestCase):
    """What all connections together may hold."""

    def test_oldest(self) -> None:
        """Over budget, those that have held memory the longest are cut, unauthenticated ones first."""
        known, first, second = _Connection(authenticated=True), _Connection(), _Connection()
        budget = MemoryBudget(100)
        for connection in (known, first, second):
            budget.add(connection, 30)
        budget.add(second, 10)
        self.assertEqual([each.over for each in (known, first, second)], [False, False, False])
        budget.add(second, 1)
        self.assertEqual([each.over for each in (known, first, second)], [False, True, False])
        budget.add(known, 100)
        self.assertEqual([each.over for each in (known, first, second)], [True, True, True])
        self.assertEqual((budget._sum, budget._held), (0, {}))

    def test_forget(self) -> None:
        """What is forgotten does not count, and nothing is counted for a connection that is over."""
        budget = MemoryBudget(100)
        first, second = _Connection(), _Connection(over=True)
        budget.add(first, 100)
        budget.forget(first)
        budget.forget(first)
        budget.add(second, 1_000)
        budget.add(first, 100)
        self.assertEqual((budget._sum, first.over), (100, False))
