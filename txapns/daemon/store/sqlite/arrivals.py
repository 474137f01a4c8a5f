"""Notifications that were just accepted, as whoever leases them takes them: without a look into the database."""

from __future__ import annotations

from itertools import count, repeat

from txapns.daemon.store.acceptance import Block
from txapns.daemon.values import Content, Leased

__all__ = ["Arrival"]

_MESSAGE, _DEVICE = 450, 200  # bytes that the objects of each take, about, with a token of 32 bytes and an id


class Arrival:
    """
    The notifications of a block that are not leased yet.

    :param number: the number of its first notification.
    :param accepted_at: the date when it was accepted.
    :param since: the same by the reactor's clock.

    :ivar due: when they are due, in milliseconds of the queue's time.
    :ivar number: the number of the first.
    :ivar count: how many there are.
    :ivar size: about how many bytes they took at first.
    """

    def __init__(self, block: Block, due: int, number: int, accepted_at: float, since: float) -> None:
        self.due = due
        self.number = number
        self.count = len(block.widths)
        self.size = sum(map(len, block.payloads)) + len(block.messages) * _MESSAGE + self.count * _DEVICE
        self._headers = block.headers
        self._messages = block.messages
        self._times = 0, accepted_at, since  # no attempt was made yet
        self._message = self._device = 0

    def take(self, most: int, contents: dict[str, Content]) -> list[Leased]:
        """
        Take the first few away.

        :param contents: what notifications that are leased together share, by the text of their header fields.
        """
        found: list[Leased] = []
        messages = self._messages
        like = messages[0]
        content = contents.setdefault(self._headers, Content(like.app, like.headers, like.lane))
        while most and self._message < len(messages):
            message, first = messages[self._message], self._device
            end = min(first + most, len(message.tokens))
            payloads = message.payloads[first:end] or repeat(message.payload)
            own = count(self.number), repeat(content), payloads, message.tokens[first:end], message.apns_ids[first:end]
            found += map(Leased, *own, *map(repeat, self._times))
            self.number += end - first
            most -= end - first
            self._message, self._device = (self._message, end) if end < len(message.tokens) else (self._message + 1, 0)
        self.count -= len(found)
        return found
