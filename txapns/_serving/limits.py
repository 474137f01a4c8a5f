"""
What a caller may use of the daemon: connections, time, and memory.
"""

from __future__ import annotations

from typing import Protocol

import attrs

__all__ = ["ConnectionLimits", "Holder", "MemoryBudget"]


class Holder(Protocol):
    """A connection, as far as a :class:`MemoryBudget` is concerned."""

    authenticated: bool
    over: bool

    def cut(self) -> None:
        """Close the connection at once."""


class MemoryBudget:
    """
    Counts the memory that peers make the daemon hold, on all connections together.

    :ivar most: the largest number of bytes. It may be changed.
    """

    def __init__(self, most: int = 67_108_864) -> None:
        self.most = most
        self._sum = 0
        self._held: dict[Holder, int] = {}

    def add(self, connection: Holder, size: int) -> None:
        """Count more bytes for a connection. While the sum is too large, cut the one that has held some the longest."""
        if connection.over:
            return
        self._held[connection] = self._held.get(connection, 0) + size
        self._sum += size
        while self._sum > self.most and self._held:
            worst = next((each for each in self._held if not each.authenticated), next(iter(self._held)))
            self.forget(worst)
            worst.cut()

    def forget(self, connection: Holder) -> None:
        """Count nothing for a connection any longer: it holds nothing, or is gone."""
        self._sum -= self._held.pop(connection, 0)


@attrs.frozen
class ConnectionLimits:
    """
    The limits of the connections to one face.

    :ivar body: the longest body of a request, in bytes.
    :ivar head: the longest head of a request, in bytes.
    :ivar unauthenticated: the largest number of them from one address that have not shown a credential.
    :ivar idle: after how many seconds without a request a connection is closed.
    :ivar request: how many seconds a request may take to arrive.
    :ivar unread: counts what was written and has not been read. Faces may share it.
    :ivar unfinished: counts the parts of unfinished requests without a credential. Faces may share it.
    :ivar last: whether the face may use the last file descriptors.
    """

    body: int = 4_194_304
    head: int = 16_384
    clients: int = 1_000
    unauthenticated: int = 250
    idle: float = 60.0
    request: float = 30.0
    unread: MemoryBudget = attrs.Factory(MemoryBudget)
    unfinished: MemoryBudget = attrs.Factory(MemoryBudget)
    last: bool = False
