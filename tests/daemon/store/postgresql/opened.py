"""A database in a schema of its own, for the tests of what it is made of."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from unittest import TestCase

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.daemon.fakes import InlineWorker
from tests.daemon.store.contract import result
from tests.daemon.store.postgresql.crowded import RecordingSettings, check
from tests.postgresql import execute, schema
from txapns.daemon.store.postgresql.database import Database
from txapns.daemon.store.workers import IWorker

__all__ = ["OpenedDatabase", "ThreadWorkers", "until"]

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
        self.settings = RecordingSettings(self.place.url, schema=self.place.name)
        self.database = Database(self.settings, self.clock, lambda name: InlineWorker(), **options)
        self.result(self.database.start())
        case.addCleanup(check)
        case.addCleanup(lambda: self.result(self.database.stop()))

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result, and return or raise it."""
        found: T = result(self.clock, deferred)
        return found

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute one statement in the schema, as another program does."""
        url = f"{self.place.url}&options=-csearch_path%3D{self.place.name}"
        return execute(url, statement, *parameters)


@implementer(IWorker)
class _ThreadWorker:
    """Runs functions in a thread of its own."""

    def __init__(self, done: queue.SimpleQueue[Callable[[], None]]) -> None:
        self._done = done
        self._pool = ThreadPoolExecutor(1)

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """Run a function in the thread."""
        deferred: Deferred[T] = Deferred()

        def finished(future: Future[T]) -> None:
            error = future.exception()
            fire = partial(deferred.callback, future.result()) if error is None else partial(deferred.errback, error)
            self._done.put(fire)

        self._pool.submit(function).add_done_callback(finished)
        return deferred

    def stop(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False)


class ThreadWorkers:
    """
    Workers with threads, as in the daemon.

    Results arrive in the thread of the test, while it waits for one. While there are none, the clock goes on: slowly,
    so that nobody loses patience with a busy machine, or as fast as the test says.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def make(self, name: str) -> _ThreadWorker:
        """Make a worker."""
        return _ThreadWorker(self._done)

    def until(self, condition: Callable[[], object], step: float = 0.002) -> None:
        """Let time pass until a condition is met, so many seconds in each hundredth of one."""
        deadline = time.monotonic() + 60.0
        while not condition():
            assert time.monotonic() < deadline, "it is not met"
            try:
                self._done.get(timeout=0.01)()
            except queue.Empty:
                self.clock.advance(step)

    def result(self, deferred: Deferred[T], step: float = 0.002) -> T:
        """Wait for a result, and return or raise it."""
        found: list[Any] = []
        deferred.addBoth(found.append)
        self.until(lambda: found, step)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        value: T = found[0]
        return value
