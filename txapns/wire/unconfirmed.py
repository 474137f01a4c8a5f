"""
What was written to one binary connection and is not yet known to be accepted.

The binary protocol is silent about success. The server reads notifications in the order in which they were written. At
the first one it rejects, it names that one in an error packet, discards everything written after it, and closes. By
then hundreds more may be in flight. So a client must remember what it wrote, in order, until it knows the outcome::

    written:       1   2   3   4   5   6   7
                   └─ settled ─┘   └─ retained ─┘
    error packet "8, identifier 5":     4 accepted, 5 rejected, 6 and 7 to be sent again on another connection

There are three ways to learn the outcome. *Settling*: enough time passed without an answer, so the caller takes
everything up to some notification as accepted, and it is forgotten here. *An answer*: the error packet sorts what is
retained into accepted, rejected and discarded. *A close without an answer*: the outcome is unknown; what is retained
may or may not have been delivered.

The answer can also come too late and name a notification that was already settled. Then some of what was settled was
in fact rejected or discarded, and :attr:`ErrorResult.late` says so. If that happens, settle later.

On the wire a notification is named by a 32-bit identifier, which counts from 1 for each connection. Apple's servers
answer with identifier 0 when they do not know which notification was at fault; so 0 is never given out, and after
2**32-1 the counter continues with 1. Kept notifications have consecutive identifiers, so finding one takes only the
distance to the next identifier, and pushing one is an append.

Source: Apple, *Local and Remote Notification Programming Guide* (archived), appendix "Binary Provider API"; for the
meaning of identifier 0, the experience of several clients' authors.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

import attrs

from txapns.reasons import Status

__all__ = ["ErrorResult", "Unconfirmed"]

T = TypeVar("T")

_LAST_IDENTIFIER = 0xFFFFFFFF

# These name the last notification that was accepted; the others name the one that was rejected. Apple documents this
# for 10, shutdown. 0, no error, was never seen in practice, but a server without an error to report cannot have
# rejected the notification that it names.
_NAMES_LAST_ACCEPTED = frozenset({Status.NO_ERROR, Status.SHUTDOWN})


@attrs.frozen
class ErrorResult(Generic[T]):
    """
    What an error packet says about the notifications that were retained; each is in exactly one of the first four.

    :ivar accepted: those that the server accepted, in order.
    :ivar rejected: the one that it rejected, or ``None``.
    :ivar resend: those that it provably discarded, in order: sending them again duplicates nothing.
    :ivar uncertain: those whose outcome is unknown, in order.
    :ivar late: whether some notification that was settled before was in fact rejected or discarded.
    """

    accepted: list[T] = attrs.field(factory=list)
    rejected: T | None = None
    resend: list[T] = attrs.field(factory=list)
    uncertain: list[T] = attrs.field(factory=list)
    late: bool = False


class _Queue(Protocol[T]):
    def __len__(self) -> int: ...
    def append(self, item: T, /) -> None: ...
    def popleft(self) -> T: ...


class Unconfirmed(Generic[T]):
    """
    What was written to one connection and is not yet known to be accepted, in order.

    Its length is the number of items retained. It has no limit of its own; the protocol that writes sets one.

    :param items: the empty queue to retain them in; by default a ``deque``.
    :param first_identifier: the identifier of the first item, 1 to 2**32-1.
    """

    __slots__ = ("_forgotten", "_items", "_next")

    def __init__(self, items: _Queue[T] | None = None, first_identifier: int = 1) -> None:
        self._items: _Queue[T] = deque() if items is None else items
        self._next = first_identifier
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def next_identifier(self) -> int:
        """The identifier that the next item will get."""
        return self._next

    def push(self, item: T) -> int:
        """
        Retain an item that is about to be written.

        :returns: its identifier on this connection, 1 to 2**32-1.
        """
        self._items.append(item)
        identifier = self._next
        self._next = identifier + 1 if identifier < _LAST_IDENTIFIER else 1
        return identifier

    def settle_through(self, identifier: int) -> list[T]:
        """
        Forget everything up to and including one item, as accepted.

        :param identifier: the identifier of the last item to settle.
        :returns: the items, in order; none if the identifier is not, or no longer, retained.
        """
        position = self._position(identifier)
        return [] if position is None else self._take(position + 1)

    def apply(self, status: int, identifier: int) -> ErrorResult[T]:
        """Apply an error packet and forget everything: the connection has ended."""
        position = self._position(identifier)
        items = self.abandon()
        if position is None:
            return ErrorResult(uncertain=items)
        # Where the accepted items end; below 0, that is among the items settled before.
        end = position + 1 if status in _NAMES_LAST_ACCEPTED else position
        if position < 0:
            return ErrorResult(resend=items, late=end < 0)
        rejected = items[position] if end == position else None
        return ErrorResult(accepted=items[:end], rejected=rejected, resend=items[position + 1 :])

    def abandon(self) -> list[T]:
        """Forget everything, as uncertain: the connection ended without an answer."""
        return self._take(len(self._items))

    def _position(self, identifier: int) -> int | None:
        """
        Find the position of an identifier, counted from the oldest item retained.

        :returns: the position; negative if the identifier was given out and is forgotten; ``None`` if it was never
            given out.
        """
        # Without 0 a full cycle has 2**32-1 identifiers, and the distance back from the next one is exact however often
        # the counter has wrapped. 0 itself would look like 2**32-1.
        distance = (self._next - identifier) % _LAST_IDENTIFIER
        if identifier == 0 or not 0 < distance <= self._forgotten + len(self._items):
            return None
        return len(self._items) - distance

    def _take(self, count: int) -> list[T]:
        taken = [self._items.popleft() for _ in range(count)]
        self._forgotten += len(taken)
        return taken
