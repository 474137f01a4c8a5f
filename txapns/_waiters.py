"""Deferreds for callers: for one who waits for a result, and for all who wait for one event."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Result", "Waiters"]

T = TypeVar("T")


class Result(Deferred[T]):
    """A ``Deferred`` that, when it is awaited in a task of asyncio, says what to do instead."""

    def __await__(self) -> Generator[Deferred[T], Any, T]:
        if self.called and not self.paused:
            return (yield from super().__iter__())
        try:
            result: T = yield self  # what awaits it sends the result
        except RuntimeError as error:
            if not str(error).startswith("Task got bad yield"):
                raise
            said = "a task of asyncio cannot await a Deferred; use the APNSClient of txapns.aio"
            raise RuntimeError(said) from None
        return result


class Waiters(Generic[T]):
    """
    The Deferreds of all who wait for one event.

    A ``Deferred`` can have only one owner, so each caller gets one of their own. Cancelling it ends that wait and no
    other. Whoever waits from within a callback waits for the next event.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []

    def __len__(self) -> int:
        """Count those who wait."""
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """
        Wait for the event.

        :returns: a ``Deferred`` of the next result that is given to :meth:`fire`.
        """
        waiting: Deferred[T] = Deferred(self._leave)
        self._waiting.append(waiting)
        return waiting

    def fire(self, result: T | Failure) -> None:
        """
        Give all who wait the result.

        :param result: the result, or what went wrong.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # a callback of one may cancel another
                each.callback(result)  # a Failure starts the errbacks

    def _leave(self, waiting: Deferred[T]) -> None:
        self._waiting = [each for each in self._waiting if each is not waiting]
