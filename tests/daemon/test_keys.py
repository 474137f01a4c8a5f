"""Tests for :mod:`txapns.daemon.keys`."""

from __future__ import annotations

import contextlib
import hmac

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.world import world_of
from txapns.daemon.errors import NotAuthenticated
from txapns.daemon.interfaces import IKeys
from txapns.daemon.keys import add_key, remove_key
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.store.sqlite.api_keys import KeyTable

__all__ = ["KeysTests"]


class KeysTests(SynchronousTestCase):
    """Keys in the daemon's memory."""

    def setUp(self) -> None:
        """Add two keys."""
        self.world = world_of(self)
        with self.world.visiting() as connection:
            self.first = add_key(KeyTable(connection), "first", send=["a"], now=1)
            self.second = add_key(KeyTable(connection), "second", send=None, feedback=None, now=2)
        self.keys = self.world.keys()
        self.world.result(self.keys.start())

    def test_interface(self) -> None:
        """The registry provides its interface."""
        verifyObject(IKeys, self.keys)

    def test_known(self) -> None:
        """A key identifies its caller."""
        caller = self.keys.check(self.first)
        self.assertEqual((caller.name, caller.may_send("a"), caller.may_send("b")), (self.first[7:15], True, False))
        self.assertTrue(self.keys.check(self.second).may_read("b"))

    def test_unknown(self) -> None:
        """Everything else is refused with the same message."""
        swapped = self.first[:16] + self.second[16:]
        made_up = "txapns_00000000_" + "0" * 64
        texts = ["", "txapns", self.first[:-1], self.first + "0", self.first.upper(), swapped, made_up, "\udcff", "\0"]
        said = {str(self.assertRaises(NotAuthenticated, self.keys.check, text)) for text in texts}
        self.assertEqual(said, {"the key is not known"})

    def test_compared_in_constant_time(self) -> None:
        """Digests are compared, completely, whatever the key and even if its id is unknown."""
        compared = []

        def compare(left: bytes, right: bytes) -> bool:
            compared.append((len(left), len(right)))
            return left == right

        self.patch(hmac, "compare_digest", compare)
        for text in (self.first, self.first[:-1] + "x", "txapns_00000000_" + "0" * 64, "short"):
            with contextlib.suppress(NotAuthenticated):
                self.keys.check(text)
        self.assertEqual(compared, [(32, 32)] * 4)

    def test_changes(self) -> None:
        """Changes by another process are seen within the interval."""
        with self.world.visiting() as connection:
            third = add_key(KeyTable(connection), "third", now=3)
            remove_key(KeyTable(connection), "first")
        self.keys.check(self.first)
        self.assertRaises(NotAuthenticated, self.keys.check, third)
        self.world.clock.advance(INTERVAL)
        self.assertIs(self.keys.check(third), self.keys.check(third))
        self.assertRaises(NotAuthenticated, self.keys.check, self.first)

    def test_unchanged(self) -> None:
        """While nothing changes, the keys are not read again."""
        statements: list[str] = []
        self.world.result(self.world.database.read(lambda connection: connection.set_trace_callback(statements.append)))
        self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual(statements, ["SELECT number FROM api_key_changes"] * 3)

    def test_refreshed(self) -> None:
        """A refresh shows changes at once."""
        with self.world.visiting() as connection:
            third = add_key(KeyTable(connection), "third", now=3)
        self.world.result(self.keys.refresh())
        self.keys.check(third)

    def test_damaged(self) -> None:
        """An invalid row allows nothing and is logged; the other keys and their changes are served."""
        for number, change in enumerate(
            (
                "send = 'null'",
                "send = '{'",
                "feedback = '[1]'",
                "feedback = x'ff'",
                "manage = 'yes'",
                "label = CAST(x'ff' AS TEXT), digest = 'x'",
                "created_at = 9e999",
            )
        ):
            with self.world.visiting() as connection:
                bad = add_key(KeyTable(connection), "bad", send=None, now=1)
                connection.execute(f"UPDATE api_key SET {change} WHERE label = 'bad'")
                other = add_key(KeyTable(connection), f"other{number}", now=1)
                remove_key(KeyTable(connection), "first") if number == 0 else None
                (told,) = [key.problem for key in KeyTable(connection).listed() if key.problem]
            with capturedLogs() as events:
                self.world.clock.advance(INTERVAL)
            self.assertEqual([event["reason"] for event in events if "reason" in event], [told], change)
            self.keys.check(other)
            for gone in (bad, self.first):
                self.assertRaises(NotAuthenticated, self.keys.check, gone)
            with self.world.visiting() as connection:
                connection.execute("DELETE FROM api_key WHERE label NOT LIKE 'other%'")

    def test_log(self) -> None:
        """The log says which keys were added and removed, but not at the start."""
        with self.world.visiting() as connection:
            key = add_key(KeyTable(connection), "third", now=1)
            remove_key(KeyTable(connection), "first")
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 2)
            self.world.result(self.world.keys().start())
        expected = [("added", key.split("_")[1], "third"), ("removed", self.first.split("_")[1], "first")]
        self.assertEqual([(event["action"], event["key"], event["label"]) for event in events], expected)
        self.assertNotIn(key, "".join(map(formatEvent, events)))

    def test_trouble(self) -> None:
        """While the table cannot be read the keys stay, and that is logged once; afterwards changes are seen again."""
        with self.world.visiting() as connection:
            connection.execute("ALTER TABLE api_key RENAME TO gone")
            connection.execute("UPDATE api_key_changes SET number = 100")
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual([event["reason"] for event in events], ["the database is damaged"])
        self.keys.check(self.first)
        with self.world.visiting() as connection:
            connection.execute("ALTER TABLE gone RENAME TO api_key")
            remove_key(KeyTable(connection), "first")
        self.world.clock.advance(INTERVAL)
        self.assertRaises(NotAuthenticated, self.keys.check, self.first)

    def test_unavailable(self) -> None:
        """A database that cannot be read is logged once, however long that lasts."""
        self.world.result(self.world.database.stop())
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual(len(events), 1)
        self.keys.check(self.first)

    def test_stopped(self) -> None:
        """After it is stopped, no timer is left."""
        self.world.result(self.keys.stop())
        self.assertEqual(self.world.clock.getDelayedCalls(), [])
