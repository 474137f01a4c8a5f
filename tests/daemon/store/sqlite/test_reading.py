"""Tests for :mod:`txapns.daemon.store.sqlite.reading`; the contract of the queue tests it, too."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.store.contract import START, result
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns.daemon.values import Leased, Message, Settlement, State

__all__ = ["ReadingTests"]


class ReadingTests(SynchronousTestCase):
    """What is leased, as it was accepted."""

    def setUp(self) -> None:
        """Open a store."""
        self.world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(self.world.stop)

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the queue, and return its result."""
        return result(self.world.clock, getattr(self.world.queue, name)(*arguments))

    def accept(self, *messages: Message) -> list[int]:
        """Accept messages, and return the numbers of their notifications."""
        return [number for receipt in self.do("accept", messages) for number in receipt.numbers]

    def lease(self) -> list[Leased]:
        """Lease all that is due."""
        return list(self.do("lease", "chess", 100, START + 60))

    def message(self, n: int, *tokens: bytes, **options: Any) -> Message:
        """Make a message with a payload and ids of its own."""
        ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"{n} {place}")) for place in range(len(tokens))]
        return Message("chess", b'{"aps":{"n":%d}}' % n, {"n": str(n % 3)}, tokens, ids, **options)

    def harm(self, statement: str) -> None:
        """Change rows as another program might."""
        result(self.world.clock, self.world.database.write(lambda connection: connection.execute(statement)))

    def test_each_its_own(self) -> None:
        """Tokens of any length and octets, payloads, header fields and ids come back as they were accepted."""
        widths = [32] * 20 + [0, 1, 31, 33, 100, 32, 256] * 3
        tokens = [bytes((n + place) * 37 % 256 for place in range(width)) for n, width in enumerate(widths)]
        messages = [self.message(n, *tokens[:n]) for n in range(1, 9)]
        messages.append(self.message(9, *tokens))
        self.accept(*messages)
        found = [(each.payload, each.content.headers, each.token, each.apns_id) for each in self.lease()]
        sent = [
            (each.payload, each.headers, token, apns_id)
            for each in messages
            for token, apns_id in zip(each.tokens, each.apns_ids, strict=True)
        ]
        self.assertEqual(found, sent)

    def test_tried_before(self) -> None:
        """The attempts of each are told, whichever of those leased together were tried."""
        numbers = self.accept(self.message(1, *[b"t" * 32] * 6))
        self.lease()
        now = self.world.clock.seconds()
        self.do("settle", [Settlement(number, State.WAITING, 500, due=now) for number in numbers[1::2]])
        self.do("release", numbers[::2])
        self.world.clock.advance(1)
        found = sorted([(each.number, each.attempts) for each in self.lease()])
        self.assertEqual(found, [(number, place % 2) for place, number in enumerate(numbers)])

    def test_damaged(self) -> None:
        """One damaged row changes nothing of those around it."""
        for table, change in (
            ("queue_delivery", "token = 'żółw'"),
            ("queue_delivery", "message = 'none'"),
            ("queue_delivery", "apns_id = CAST(substr(apns_id, 3) AS TEXT)"),
            ("queue_delivery", "attempts = 0.5"),
            ("queue_delivery", "superseded = 'no'"),
            ("queue_delivery", "not_before = 'now'"),
            ("queue_message", "payload = 'żółw'"),
            ("queue_message", "accepted_at = 'now'"),
        ):
            messages = [self.message(n, bytes([n]) * (30 + n)) for n in range(1, 5)]
            numbers = self.accept(*messages)
            self.harm(f"UPDATE {table} SET {change} WHERE number = {numbers[1]}")
            self.do("next_due", "chess")  # which looks into the database; otherwise what was accepted is in memory
            found = self.lease()
            sent = [(each.payload, each.tokens[0], each.apns_ids[0]) for each in messages if each is not messages[1]]
            self.assertEqual([(each.payload, each.token, each.apns_id) for each in found], sent, change)
            self.assertEqual(len(self.flushLoggedErrors()), 0)
            self.do("settle", [Settlement(number, State.ACCEPTED, 200) for number in numbers])
