"""Notifications that were just accepted, as whoever leases them takes them: without a look into the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from txapns.daemon.store.acceptance import Block
from txapns.daemon.values import Content, Leased, Message

__all__ = ["Arrival"]

_OBJECTS = 1_000  # bytes that the objects of a notification take, about


class Arrival:
    """
    The notifications of a block that are not leased yet.

    :param messages: the messages of the block.
    :param number: the number of its first notification.
    :param accepted_at: the date when it was accepted.
    :param since: the same by the reactor's clock.

    :ivar due: when they are due, in milliseconds of the queue's time.
    :ivar number: the number of the first.
    :ivar count: how many there are.
    :ivar size: about how many bytes they took at first.
    """

    def __init__(
        self, block: Block, messages: Sequence[Message], due: int, number: int, accepted_at: float, since: float
    ) -> None:
        self.due = due
        self.number = number
        self.count = len(block.widths)
        self.size = sum(map(len, block.payloads)) + self.count * _OBJECTS
        self._headers = block.headers
        self._messages = messages
        self._times = 0, accepted_at, since  # no attempt was made yet
        self._message = self._device = 0

    def take(self, most: int, headers: dict[str, Mapping[str, str]]) -> list[Leased]:
        """
        Take the first few away.

        :param headers: header fields by their text, which notifications that are leased together share.
        """
        found: list[Leased] = []
        number, times, messages = self.number, self._times, self._messages
        shared = headers.setdefault(self._headers, messages[0].headers)
        while most and self._message < len(messages):
            message, first = messages[self._message], self._device
            content = Content(message.app, message.payload, shared, message.lane)
            tokens, apns_ids = message.tokens, message.apns_ids
            end = min(first + most, len(tokens))
            for n in range(first, end):
                found.append(Leased(number, content, tokens[n], apns_ids[n], *times))
                number += 1
            most -= end - first
            self._message, self._device = (self._message, end) if end < len(tokens) else (self._message + 1, 0)
        self.count -= len(found)
        self.number = number
        return found
