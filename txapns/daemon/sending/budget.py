"""
How many notifications may be under way for all apps together, which bounds the memory they take.

A sender that finds no room waits for its turn. An app that has few notifications under way always finds room, so apps
whose gateway is slow cannot take it from the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.logger import Logger

__all__ = ["Budget"]

_log = Logger()

#: How many notifications each app may have under way, whatever the others have.
RESERVED = 100


class Budget:
    """
    The notifications that are under way, counted.

    :param reserved: how many each app may have beyond that.
    """

    def __init__(self, most: int, reserved: int = RESERVED) -> None:
        self._most = most
        self._reserved = reserved
        self._used = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def room(self, held: int) -> int:
        """Find out how many more notifications an app may have under way."""
        return max(self._most - self._used, self._reserved - held)

    def take(self, count: int) -> None:
        """Count more notifications as under way."""
        self._used += count

    def give_back(self, count: int) -> None:
        """Count notifications as no longer under way, and call those who wait while there is room."""
        self._used -= count
        # Each is called once at most: a caller that finds no room again goes to the end.
        for _ in range(len(self._waiting)):
            if not self._waiting or self._used >= self._most:
                break  # a caller may have given something back, and so have emptied the list
            try:
                self._waiting.popleft()()
            except Exception:
                _log.failure("A callback failed that waited for room")

    def wait(self, ready: Callable[[], None]) -> None:
        """
        Wait for room.

        :param ready: called once when there is some.
        """
        if ready not in self._waiting:
            self._waiting.append(ready)
