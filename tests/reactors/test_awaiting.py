"""Tests for :mod:`txapns._reactors.awaiting`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from txapns._reactors.awaiting import future_of, iterated, result_of, translated

__all__ = ["IterationTests", "ResultTests", "TranslationTests"]


def soon(value: Any) -> Deferred[Any]:
    """Make a ``Deferred`` that fires in the loop's next turn."""
    deferred: Deferred[Any] = Deferred()
    end = deferred.errback if isinstance(value, Exception) else deferred.callback
    asyncio.get_running_loop().call_soon(end, value)
    return deferred


class ResultTests(SynchronousTestCase):
    """A ``Deferred`` in a task."""

    def test_result(self) -> None:
        """Its result or its exception is the task's, whether it has fired before or fires later."""

        async def main() -> None:
            self.assertEqual(await result_of(succeed(1)), 1)
            self.assertEqual(await result_of(soon(2)), 2)
            self.assertEqual(await future_of(soon(3)), 3)
            for failing in (fail(KeyError("lost")), soon(KeyError("lost"))):
                with self.assertRaises(KeyError):
                    await result_of(failing)

        asyncio.run(main(), debug=True)

    def test_cancelled(self) -> None:
        """It is cancelled with the task; a result that comes nevertheless is dropped."""
        causes: list[str] = []

        async def main() -> None:
            deferred: Deferred[int] = Deferred(lambda each: (causes.append("cancelled"), each.callback(7)))
            task = asyncio.create_task(result_of(deferred))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertTrue(deferred.called)

        asyncio.run(main(), debug=True)
        self.assertEqual(causes, ["cancelled"])


class TranslationTests(SynchronousTestCase):
    """A coroutine that awaits both kinds."""

    def test_both(self) -> None:
        """It gets the results and the exceptions of either."""

        async def work() -> list[Any]:
            found: list[Any] = [await soon(1), await asyncio.sleep(0, 2), await succeed(3)]
            await asyncio.sleep(0.001)
            for failing in (soon(KeyError("lost")), asyncio.wait_for(asyncio.Event().wait(), 0.001)):
                try:
                    await failing
                except (KeyError, asyncio.TimeoutError) as error:
                    found.append(type(error))
            return found

        async def main() -> list[Any]:
            return await translated(work())

        self.assertEqual(asyncio.run(main()), [1, 2, 3, KeyError, asyncio.TimeoutError])

    def test_cancelled(self) -> None:
        """It is cancelled with its task, whichever it waits for, and so is the ``Deferred``."""

        async def main() -> None:
            deferred: Deferred[None] = Deferred(cancelled.append)
            for waits_for in (deferred, asyncio.Event().wait()):

                async def work(waits_for: Any, ended: list[bool]) -> None:
                    try:
                        await waits_for
                    finally:
                        ended.append(True)

                ended: list[bool] = []
                task = asyncio.create_task(_task(work(waits_for, ended)))
                await asyncio.sleep(0)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(ended, [True])
            self.assertEqual(cancelled, [deferred])

        cancelled: list[Deferred[None]] = []
        asyncio.run(main())


async def _task(work: Any) -> Any:
    return await translated(work)


class IterationTests(SynchronousTestCase):
    """An asynchronous generator that awaits Deferreds."""

    def test_iterated(self) -> None:
        """It is iterated to its end, or closed before."""
        closed: list[bool] = []

        async def numbers() -> AsyncGenerator[int, None]:
            try:
                for number in range(3):
                    yield await soon(number)
            finally:
                await soon(None)
                closed.append(True)

        async def main() -> None:
            self.assertEqual([number async for number in iterated(numbers())], [0, 1, 2])
            iterator = iterated(numbers())
            self.assertEqual(await anext(iterator), 0)
            await iterator.aclose()

        asyncio.run(main(), debug=True)
        self.assertEqual(closed, [True, True])
