"""Where the database's blocking calls run: in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

__all__ = ["IWorker", "ThreadWorker"]

_R = TypeVar("_R")


class IWorker(Interface):
    """Runs functions one after the other, in order."""

    def run(function: Callable[[], _R]) -> Deferred[_R]:
        """
        Run a function.

        :returns: a ``Deferred`` of its result.
        """

    def stop() -> None:
        """End the worker. Nothing may be run after that."""


@implementer(IWorker)
class ThreadWorker:
    """
    Runs them in a thread of its own.

    A thread pool would do it, too, but takes a hundred calls for each function, most of them while the other thread
    waits for Python's interpreter lock.

    :param reactor: the reactor, in whose thread the ``Deferred`` objects fire.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        # A program that exits without stopping the worker does not wait for it: nothing unwritten was acknowledged.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, function: Callable[[], _R]) -> Deferred[_R]:
        """Run a function in the thread."""
        done: Deferred[_R] = Deferred()
        self._jobs.put((function, done))
        return done

    def stop(self) -> None:
        """End the thread, when it has run what was given to it."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            del job  # and with it what the function holds

    def _do(self, function: Callable[[], _R], done: Deferred[_R]) -> None:
        result: _R | Failure
        try:
            result = function()
        except BaseException:
            result = Failure()
        self._reactor.callFromThread(done.callback, result)
