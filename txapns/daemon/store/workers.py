"""Where the database's blocking calls run: in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
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


class _DaemonThread(threading.Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


@implementer(IWorker)
class ThreadWorker:
    """
    Runs them in a thread of its own.

    :param reactor: the reactor, in whose thread the ``Deferred`` objects fire.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, name)
        # A program that exits without stopping the worker does not wait for it: nothing unwritten was acknowledged.
        self._pool.threadFactory = _DaemonThread
        self._pool.start()

    def run(self, function: Callable[[], _R]) -> Deferred[_R]:
        """Run a function in the thread."""
        return cast("Deferred[_R]", deferToThreadPool(self._reactor, self._pool, function))

    def stop(self) -> None:
        """End the thread."""
        self._pool.stop()
