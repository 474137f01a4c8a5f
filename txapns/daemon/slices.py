"""Long work in slices: between two of them the reactor does what else there is to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

__all__ = ["APPS", "in_slices"]

#: How many apps are looked at in one turn of the reactor. Whatever is done for one should take less than 50 µs.
APPS = 100

_T = TypeVar("_T")


async def in_slices(clock: IReactorTime, items: Sequence[_T], size: int) -> AsyncIterator[Sequence[_T]]:
    """
    Split a sequence into slices, with a turn of the reactor between two of them.

    :param clock: the reactor, or a ``Clock``.
    :param size: the length of a slice. Work on one of them should take a few milliseconds.
    """
    for start in range(0, len(items), size):
        if start:
            await deferLater(clock, 0)
        yield items[start : start + size]
