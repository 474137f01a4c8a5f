"""Deferreds in coroutines of asyncio."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["future_of", "iterated", "result_of", "translated"]

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

T = TypeVar("T")


def future_of(deferred: Deferred[T]) -> asyncio.Future[T]:
    """
    Make a future of the running loop that has a ``Deferred``'s result. Cancelling it does not cancel the ``Deferred``.

    :param deferred: the ``Deferred``, whose result goes nowhere else from now on.
    :returns: the future.
    """
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    deferred.addCallbacks(partial(_succeed, future), partial(_fail, future))
    return future


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # by being cancelled
        future.set_result(result)


def _fail(future: asyncio.Future[Any], failure: Failure) -> None:
    if not future.done():
        assert failure.value is not None
        future.set_exception(failure.value)


async def result_of(deferred: Deferred[T]) -> T:
    """
    Wait for a ``Deferred`` in a task.

    :param deferred: the ``Deferred``, which is cancelled with the task.
    :returns: its result.
    :raises Exception: what it failed with.
    """
    try:
        return await future_of(deferred)
    except asyncio.CancelledError:
        deferred.cancel()
        raise


@types.coroutine
def translated(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """
    Let a coroutine await Deferreds as well as what asyncio's coroutines await.

    :param coroutine: the coroutine.
    :returns: an awaitable of its result, for a task.
    """
    from twisted.internet.defer import Deferred

    advance = partial(coroutine.send, None)
    while True:
        try:
            awaited = advance()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            if isinstance(awaited, Deferred):
                yield from _fired(awaited)
                advance = partial(coroutine.send, None)  # it takes the result out of the Deferred itself
            else:
                advance = partial(coroutine.send, (yield awaited))
        except BaseException as error:  # as a rule, the task is cancelled
            if isinstance(awaited, Deferred):
                awaited.addErrback(lambda _: None)
                awaited.cancel()
            advance = partial(coroutine.throw, error)


def _fired(deferred: Deferred[Any]) -> asyncio.Future[None]:
    """Make a future that is done when a ``Deferred`` fires, with whatever result."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fired(result: object) -> object:
        if not future.done():
            future.set_result(None)
        return result

    deferred.addBoth(fired)
    return future


async def iterated(generator: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """
    Let a task iterate over an asynchronous generator that awaits Deferreds.

    :param generator: the generator. It is closed with this one.
    """
    try:
        while True:
            try:
                item = await translated(generator.asend(None))
            except StopAsyncIteration:
                return
            yield item
    finally:
        await translated(generator.aclose())
