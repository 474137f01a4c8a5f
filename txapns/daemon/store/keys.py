"""API keys in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from txapns.daemon.values import Caller

__all__ = ["IKeyStore", "IKeyTable", "StoredKey"]

_T = TypeVar("_T")


@attrs.frozen
class StoredKey:
    """
    A key as it is stored.

    :ivar caller: the caller it identifies, named by the key's id, and what it may do.
    :ivar created_at: when it was made, in UNIX seconds.
    :ivar digest: the SHA-256 of the key.
    :ivar problem: why the rest cannot be read, in which case it allows nothing; empty if it can.
    """

    caller: Caller
    label: str
    created_at: float
    digest: bytes = attrs.field(repr=False)
    problem: str = ""


class IKeyTable(Interface):
    """The keys, within one transaction."""

    def changes() -> int:
        """Return a number that grows with each change of the keys."""

    def listed() -> Sequence[StoredKey]:
        """Read the keys, by label."""

    def add(key: StoredKey) -> None:
        """
        Add a key.

        :raises Malformed: there is a key with this label already.
        """

    def remove(key: str) -> bool:
        """Delete the key with an id or, if there is none, a label; tell whether there was one."""


class IKeyStore(Interface):
    """The keys in the daemon's store."""

    def start() -> Deferred[None]:
        """
        Create the table if necessary.

        :raises DatabaseError: the store cannot be used.
        """

    def read(function: Callable[[IKeyTable], _T]) -> Deferred[_T]:
        """Call a function in a thread, with the table to read from."""

    def write(function: Callable[[IKeyTable], _T]) -> Deferred[_T]:
        """Call a function in a thread and a transaction, with the table to change."""
