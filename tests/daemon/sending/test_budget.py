"""Tests for :mod:`txapns.daemon.sending.budget`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.sending.budget import Budget

__all__ = ["BudgetTests"]


class BudgetTests(SynchronousTestCase):
    """How many notifications may be under way."""

    def test_turns(self) -> None:
        """Those who wait are called in turn, as long as there is room."""
        budget = Budget(10, reserved=2)
        called: list[str] = []

        def waiter(name: str) -> Callable[[], None]:
            def ready() -> None:
                called.append(name)
                budget.take(5)

            return ready

        budget.take(10)
        self.assertEqual((budget.room(5), budget.room(1)), (0, 1))
        for name in "abc":
            budget.wait(waiter(name))
        budget.give_back(5)
        self.assertEqual(called, ["a"])
        budget.give_back(10)
        self.assertEqual(called, ["a", "b", "c"])

    def test_once(self) -> None:
        """One who waits twice is called once."""
        budget = Budget(1)
        called: list[int] = []

        def ready() -> None:
            called.append(1)

        budget.take(1)
        budget.wait(ready)
        budget.wait(ready)
        budget.give_back(1)
        budget.give_back(0)
        self.assertEqual(called, [1])

    def test_given_back_at_once(self) -> None:
        """One who gives back at once lets the next go on, and is not called again."""
        budget = Budget(10)
        called: list[str] = []

        def waiter(name: str) -> Callable[[], None]:
            def ready() -> None:
                called.append(name)
                budget.take(5)
                budget.give_back(5)

            return ready

        budget.take(10)
        for name in "abc":
            budget.wait(waiter(name))
        budget.give_back(10)
        self.assertEqual(called, ["a", "b", "c"])

    def test_failure(self) -> None:
        """One that raises is in the log, and the next is called."""
        budget = Budget(10)
        called: list[str] = []
        budget.take(10)
        budget.wait(lambda: 1 // 0)
        budget.wait(lambda: called.append("b"))
        budget.give_back(10)
        self.assertEqual(called, ["b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
