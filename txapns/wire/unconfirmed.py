"""
What was written to one binary connection and is not yet known to be accepted.

The binary protocol is silent about success. The server takes notifications in the order they were written; at the
first one it refuses it names that one in an error packet, discards everything written after it, and closes. By then
hundreds more may be under way. So a client must remember, in order, what it wrote, until it knows better::

    written:       1   2   3   4   5   6   7
                   └─ settled ─┘   └─ retained ─┘
    error packet "8, identifier 5":     4 accepted, 5 refused, 6 and 7 to be resent on another connection

There are three ways to know better. *Settling*: enough time went by without an answer, so the caller takes everything
up to some notification as accepted and the window forgets it. *An answer*: the error packet sorts what is retained
into accepted, refused and to be resent. *An unanswered close*: nobody can say; what is retained may or may not have
been delivered.

The answer can also come too late, and name a notification already settled: then some of what was settled was in fact
refused or discarded, which :attr:`ErrorResult.late` tells. Settle later if it happens.

On the wire a notification is named by a 32-bit identifier, which counts from 1 for each connection. Apple's servers
answer with identifier 0 when they do not know which notification was at fault; so 0 is never given out, and the
counter goes from 2**32-1 back to 1. CompactUnconfirmed notifications have consecutive identifiers, hence finding one is
arithmetic on the distance to the next identifier, and pushing one is an append.

Source: Apple, *Local and Remote Notification Programming Guide* (archived), appendix "Binary Provider API"; for what
identifier 0 means, experience of several clients' authors.
"""

from __future__ import annotations

__all__ = ["ErrorResult", "Unconfirmed"]

from collections import deque
from typing import Generic, TypeVar

import attrs

from txapns.reasons import Status

T = TypeVar("T")

_LAST_IDENTIFIER = 0xFFFFFFFF

# These name the last notification that was accepted, the others the one that was refused. Apple says so of 10,
# shutdown. 0, no error, was never seen in practice: but who has no error to report cannot have refused the
# notification named.
_NAMES_LAST_ACCEPTED = frozenset({Status.NO_ERROR, Status.SHUTDOWN})


@attrs.frozen
class ErrorResult(Generic[T]):
    """
    What an error packet says about the notifications that were retained; each is in exactly one of the four places.

    :ivar accepted: those the server accepted, in order.
    :ivar refused: the one it refused, or ``None``.
    :ivar resend: those it provably discarded, in order: a resend duplicates nothing.
    :ivar uncertain: those nobody can say anything about, in order.
    :ivar late: whether some notification settled before was in fact refused or discarded.
    """

    accepted: list[T] = attrs.field(factory=list)
    refused: T | None = None
    resend: list[T] = attrs.field(factory=list)
    uncertain: list[T] = attrs.field(factory=list)
    late: bool = False


class Unconfirmed(Generic[T]):
    """
    What was written to one connection and is not yet known to be accepted, in order.

    The length of a window is the number of items retained. It sets no bound of its own; whoever writes does.

    :param first_identifier: the identifier of the first item, 1 to 2**32-1.
    """

    __slots__ = ("_forgotten", "_items", "_next")

    def __init__(self, first_identifier: int = 1) -> None:
        self._items: deque[T] = deque()
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

        :param item: whatever stands for the notification.
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
        :returns: the items, in order; none if the identifier is not retained, or no longer.
        """
        position = self._position(identifier)
        if position is None:
            return []
        settled = [self._items.popleft() for _ in range(position + 1)]
        self._forgotten += len(settled)
        return settled

    def refuse(self, status: int, identifier: int) -> ErrorResult[T]:
        """
        Apply an error packet, and forget everything: the connection is over.

        :param status: the packet's status.
        :param identifier: the packet's identifier.
        :returns: what became of each item retained.
        """
        position = self._position(identifier)
        items = self._empty()
        if position is None:
            return ErrorResult(uncertain=items)
        # Where what was accepted ends; below 0 it ends among the items settled before.
        end = position + 1 if status in _NAMES_LAST_ACCEPTED else position
        if position < 0:
            return ErrorResult(resend=items, late=end < 0)
        refused = items[position] if end == position else None
        return ErrorResult(accepted=items[:end], refused=refused, resend=items[position + 1 :])

    def abandon(self) -> list[T]:
        """
        Forget everything, as uncertain: the connection ended without an answer.

        :returns: the items, in order.
        """
        return self._empty()

    def _position(self, identifier: int) -> int | None:
        """
        Find an identifier, counted from the oldest item retained.

        :returns: its position; negative if it was given out on this connection and is forgotten; ``None`` if it was
            never given out.
        """
        # Without 0 there are 2**32-1 identifiers to a round, and the distance back from the next one is exact however
        # often the counter has wrapped. 0 itself would look like 2**32-1.
        distance = (self._next - identifier) % _LAST_IDENTIFIER
        if identifier == 0 or not 0 < distance <= self._forgotten + len(self._items):
            return None
        return len(self._items) - distance

    def _empty(self) -> list[T]:
        items = list(self._items)
        self._items.clear()
        self._forgotten += len(items)
        return items
