"""
A TCP proxy that fails as networks do, in front of a database.

It runs in a thread of its own, so that it serves tests that block the reactor, and processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import TestCase

__all__ = ["DatabaseProxy"]

_T = TypeVar("_T")
_SIZE = 65_536
_NO_LINGERING = struct.pack("ii", 1, 0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset, whatever has not been written yet."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    writer.transport.abort()


class DatabaseProxy:
    """
    Passes connections on to a server, until it is told otherwise.

    :param case: the test, after which it ends.
    :param port: the server's TCP port on 127.0.0.1.

    :ivar port: its own.
    """

    def __init__(self, case: TestCase, port: int) -> None:
        self._to = port
        self._delay = 0.0
        self._refuses = False
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="database proxy", daemon=True)
        self._thread.start()
        # Bound here and not by the server: while it refuses, the port stays its own.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server = self._do(asyncio.start_server(self._accepted, sock=self._socket))
        case.addCleanup(self._end)

    def url(self, url: str) -> str:
        """Return a URL of the server with the proxy's port in place of its own."""
        return url.replace(f":{self._to}", f":{self.port}")

    def passing(self) -> None:
        """Pass on what comes, and what came while it did not."""
        self._call(lambda: (self._set(0.0, False), self._passing.set()))

    def stop(self) -> None:
        """Pass nothing on, and tell no one: connections stay open, new ones are taken."""
        self._call(self._passing.clear)

    def delay(self, seconds: float) -> None:
        """Pass on each piece this much later, in both directions."""
        self._call(lambda: self._set(seconds, False))

    def cut(self) -> None:
        """End all connections at once, by a reset; new ones are passed on as before."""
        self._call(self._abort)

    def refuse(self) -> None:
        """End all connections at once, and each new one as soon as it is there."""
        self._call(lambda: (self._set(0.0, True), self._abort()))

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._call(lambda: len(self._streams)) // 2

    def _set(self, delay: float, refuses: bool) -> None:
        self._delay, self._refuses = delay, refuses

    def _abort(self) -> None:
        for each in list(self._streams):
            _reset(each)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._streams.add(writer)
        try:
            if self._refuses:
                _reset(writer)
                return
            await self._passing.wait()
            # asyncio logs what such a task raises, also when it is cancelled at the end.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
                self._streams.add(far_writer)
                try:
                    await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
                finally:
                    self._drop(far_writer)
        finally:
            self._drop(writer)
            self._tasks.discard(task)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        self._streams.discard(writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_SIZE):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        await self._passing.wait()
        writer.write_eof()

    def _call(self, function: Callable[[], _T]) -> _T:
        async def call() -> _T:
            return function()

        return self._do(call())

    def _do(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _end(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        self._abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
