"""
How long to wait before the next attempt to connect: a delay with a memory.

To Apple, opening connections in quick succession looks like an attack, and it blocks the address for a while. So each
failure doubles the delay, from one second to a minute. Only a session that proved itself, or lasted for a minute,
resets it: a TCP connection alone proves nothing, since a certificate is rejected later.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random

import attrs

__all__ = ["Backoff"]


@attrs.define
class Backoff:
    """
    Exponential delays with jitter.

    :ivar initial: the first delay, in seconds.
    :ivar maximum: the longest delay, in seconds.
    :ivar factor: how much longer each delay is than the one before.
    :ivar jitter: the random part of the delay, 0 to 1, so that many clients do not return at once. It only shortens
        a delay.
    :ivar random: returns a random number from 0 to 1, excluding 1.
    """

    initial: float = 1.0
    maximum: float = 60.0
    factor: float = 2.0
    jitter: float = 0.2
    random: Callable[[], float] = attrs.field(default=random, repr=False)
    _failures: int = attrs.field(default=0, init=False)
    _proved: bool = attrs.field(default=False, init=False)

    def next_delay(self) -> float:
        """Count one more failure, and return the seconds to wait before the next attempt."""
        delay = self.delay(self._failures)
        self._failures += 1
        return delay

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after the given number of earlier failures, without counting one."""
        delay = self.initial
        for _ in range(failures):
            delay = min(delay * self.factor, self.maximum)
            if delay == self.maximum:
                break
        return delay * (1.0 - self.jitter * self.random())

    def reset(self, proved: bool = True) -> None:
        """
        Start again: the next failure counts as the first.

        :param proved: whether a session proved itself, rather than only lasting long.
        """
        self._failures = 0
        self._proved = self._proved or proved

    @property
    def promising(self) -> bool:
        """Whether a session has proved itself, and the next failure is the first."""
        return self._proved and not self._failures
