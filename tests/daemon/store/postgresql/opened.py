"""A database in a schema of its own, for the tests of what it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import TestCase

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import result
from tests.postgresql import execute, schema
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.postgresql.settings import Settings

__all__ = ["OpenedDatabase", "until"]

T = TypeVar("T")


def until(condition: Callable[[], object], patience: float = 60.0) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it is not met"
        time.sleep(0.005)


class OpenedDatabase:
    """A database without threads, which is open as long as the test lasts."""

    def __init__(self, case: TestCase, **options: Any) -> None:
        self.place = schema(case)
        self.clock = Clock()
        self.clock.rightNow = time.time()  # certificates are made for the present
        self.settings = Settings(self.place.url, schema=self.place.name)
        self.database = Database(self.settings, self.clock, lambda name: InlineWorker(), **options)
        self.result(self.database.start())
        case.addCleanup(lambda: self.result(self.database.stop()))

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result, and return or raise it."""
        found: T = result(self.clock, deferred)
        return found

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute one statement in the schema, as another program does."""
        url = f"{self.place.url}&options=-csearch_path%3D{self.place.name}"
        return execute(url, statement, *parameters)
