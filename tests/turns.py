"""
What is done in each turn of the reactor: while it lasts, nothing else is answered.

Counted are the calls of functions, which no other load changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from tests.hot_paths import Calls

__all__ = ["MOST", "Turns"]

#: How many functions may be called in one turn, which takes some 4 ms.
MOST = 18_000


class Turns:
    """
    Counts what is called in each turn of the reactor.

    :param clock: the reactor. Each of its timers makes a turn of its own.

    :ivar found: how many functions were called in each turn.
    """

    def __init__(self, clock: Clock) -> None:
        self.found: list[int] = []
        self._call_later: Callable[..., IDelayedCall] = clock.callLater
        self._clock: Any = clock

    def begin(self, step: Callable[[], object]) -> None:
        """Do something, and all that it puts off."""
        self._clock.callLater = self._later
        self._take(step)
        self._clock.pump([0.0] * 50)
        self._clock.callLater = self._call_later

    def _later(self, delay: float, function: Callable[..., object], *arguments: Any, **named: Any) -> IDelayedCall:
        return self._call_later(delay, self._take, partial(function, *arguments, **named))

    def _take(self, step: Callable[[], object]) -> None:
        calls = Calls()
        with calls.counting():
            step()
        self.found.append(calls.total)
