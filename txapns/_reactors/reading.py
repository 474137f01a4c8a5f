"""Tokens from an async iterable of asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from txapns._reactors.awaiting import translated
from txapns._session.tokens import ReadAhead

__all__ = ["TaskReadAhead"]

T = TypeVar("T")


class TaskReadAhead(ReadAhead[T]):
    """A source that reads an async iterable ahead, in a task of its own."""

    def start(self, arrived: Callable[[], None]) -> None:
        """Start reading."""
        self._arrived = arrived
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._task.cancel()

    async def _run(self) -> None:
        await translated(self._read())
