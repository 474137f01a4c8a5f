"""
What lives on an event loop of the program's.

It is made on the loop that runs when it is first needed, so a program may make its client before any loop runs. It ends
with :meth:`OnLoop.close`, or with the loop: before a loop is closed, ``loop.shutdown_asyncgens()`` closes all
asynchronous generators that were begun on it, and awaits what they do then. ``asyncio.run`` calls it, and so do servers
such as uvicorn. So each has such a generator; the loop holds it by a timer that never rings.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from txapns._reactors.awaiting import future_of, result_of
from txapns._reactors.logs import forward_logs
from txapns._reactors.loop import LoopReactor
from txapns.errors import ClientElsewhere

__all__ = ["LAST", "OnLoop"]

#: The delay of a timer that never rings, in seconds.
_YEAR = 365 * 86_400.0
#: How long the end of an event loop waits for the answers to what is in flight, in seconds.
LAST = 1.0


class _Closable(Protocol):
    def close(self) -> Deferred[None]: ...


C = TypeVar("C", bound=_Closable)


class OnLoop(Generic[C]):
    """
    A client or session of Twisted's kind, on an event loop.

    :param make: makes it, given the reactor.
    """

    def __init__(self, make: Callable[[LoopReactor], C]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> C:
        """
        Return it, for use on the running event loop.

        :raises ClientElsewhere: it lives on another loop, or in another process.
        :raises RuntimeError: no event loop runs.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        return self._made

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            self._refuse()
        forward_logs()
        reactor = LoopReactor(loop)
        self._made = self._make(reactor)
        self._pid = os.getpid()
        self._loop = loop
        self._life = _life(reactor, self._made)
        with suppress(StopIteration):
            self._life.asend(None).send(None)  # up to its yield
        self._held = loop.call_later(_YEAR, partial(self._life.asend, None))

    def _refuse(self) -> None:
        assert self._loop is not None
        if os.getpid() != self._pid:
            raise ClientElsewhere(
                "the client was used in another process, from which this one was forked; make one in each process"
            )
        gone = "has ended" if self._loop.is_closed() else "is not the one that runs here"
        raise ClientElsewhere(
            f"the client belongs to the event loop that ran when it was first used, which {gone}; make one in each loop"
        )

    async def close(self) -> None:
        """Close it, wait for that, and leave nothing on the loop."""
        await result_of(self.get().close())
        await self._life.aclose()
        self._held.cancel()


async def _life(reactor: LoopReactor, made: _Closable) -> AsyncGenerator[None, None]:
    """Yield once; when closed, close what was made."""
    try:
        yield
    finally:
        closed = made.close()
        if not closed.called:
            await asyncio.wait([future_of(closed)], timeout=LAST)
        reactor.end()
