"""
The statements of a store, with the parameters with which tests had them executed.

They are collected while the tests of a store run, and tried in a store in which much is kept; see
:mod:`tests.daemon.store.crowd`. So a new statement is tried as soon as a test needs it.
"""

from __future__ import annotations

import sys
import unittest
from collections.abc import Iterator
from copy import copy
from types import ModuleType
from typing import Any

from tests.daemon.store.contract import StoreContract

__all__ = ["Statements", "run"]

_EACH = 5  # with how many different parameters each of them is tried


class Statements:
    """Statements of the program itself, each with some of its parameters."""

    def __init__(self) -> None:
        self._found: dict[Any, list[Any]] = {}
        self._new: list[tuple[Any, Any]] = []

    def note(self, statement: object, parameters: Any) -> None:
        """Note a statement that is about to be executed, unless a test executes it by itself."""
        known = self._found.setdefault(statement, [])
        if len(known) < _EACH and _by_the_program() and parameters not in known:
            parameters = copy(parameters)  # which may be changed for the next statement
            known.append(parameters)
            self._new.append((statement, parameters))

    def all(self) -> Iterator[tuple[Any, Any]]:
        """Tell all that were noted."""
        return ((statement, each) for statement, some in self._found.items() for each in some)

    def new(self) -> Iterator[tuple[Any, Any]]:
        """Take those that were noted since the last time."""
        while self._new:
            yield self._new.pop()


def run(*modules: ModuleType) -> list[str]:
    """Run the contract tests of some modules; returns what went wrong."""
    suite, outcome = unittest.TestSuite(), unittest.TestResult()
    for module in modules:
        for name in module.__all__:
            if issubclass(case := getattr(module, name), StoreContract):
                suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    suite.run(outcome)
    return [problem for _, problem in outcome.errors + outcome.failures]


def _by_the_program() -> bool:
    """Tell whether what executes a statement is the program, or else a test."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        name = frame.f_globals["__name__"]
        if name.startswith("txapns."):
            return True
        if name.startswith("tests.") and not name.endswith(".crowded"):
            return False
        frame = frame.f_back
    return False
