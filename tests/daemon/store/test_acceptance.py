"""Tests for :mod:`txapns.daemon.store.acceptance`; those of the stores test the rest of it."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.store.acceptance import Acceptance, packed, schedule, uuid_texts
from txapns.daemon.store.queue_time import QueueTime
from txapns.daemon.values import Message

__all__ = ["IdTests", "PackingTests"]

_ID = str(uuid.UUID(int=1))


class _Time(QueueTime):
    """A timeline that begins with the clock."""

    epoch = 0.0


class PackingTests(SynchronousTestCase):
    """Requests that are stored together."""

    def packed(self, *requests: tuple[int, Message]) -> list[tuple[int, list[tuple[str, int]]]]:
        """Pack requests with these first numbers; returns the first number, and of each block the app and its size."""
        time = _Time(Clock())
        found = packed(
            [
                Acceptance([each], None, n, n, first=first, blocks=schedule([each], time))
                for n, (first, each) in enumerate(requests)
            ]
        )
        self.assertEqual({(each.date, each.due) for each in found}, {(len(requests) - 1,) * 2})
        return [(each.first, [(block.app, block.count) for block in each.blocks]) for each in found]

    def message(self, app: str = "chess", **more: Any) -> Message:
        """Make one for a device."""
        return Message(app, b"{}", {"apns-priority": "10"}, [b"t"], [_ID], **more)

    def test_alike(self) -> None:
        """What is alike is one block, of however many requests."""
        sent = [self.message(), self.message(), self.message("news"), self.message()]
        found = self.packed(*enumerate(sent, 7))
        self.assertEqual(found, [(7, [("chess", 2), ("news", 1), ("chess", 1)])])

    def test_gap(self) -> None:
        """Numbers that do not follow one another begin another block."""
        found = self.packed((7, self.message()), (9, self.message()), (10, self.message()))
        self.assertEqual(found, [(7, [("chess", 1)]), (9, [("chess", 2)])])

    def test_scheduled(self) -> None:
        """What is for later stays by itself, since each request has its own pace."""
        sent = [self.message(), self.message(rate=5), self.message(rate=5), self.message()]
        found = self.packed(*enumerate(sent, 1))
        self.assertEqual(found, [(each, [("chess", 1)]) for each in range(1, 5)])


class IdTests(SynchronousTestCase):
    """Ids as text."""

    def test_texts(self) -> None:
        """Ids are written in the form of :class:`uuid.UUID`, however many there are."""
        for count in (0, 1, 31, 32, 33, 500):
            ids = [uuid.uuid5(uuid.NAMESPACE_OID, f"{count} {n}") for n in range(count)]
            self.assertEqual(uuid_texts(b"".join([each.bytes for each in ids])), list(map(str, ids)))
