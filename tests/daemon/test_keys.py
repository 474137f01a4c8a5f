"""Tests for :mod:`txapns.daemon.keys`."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.daemon.world import world_of
from txapns.daemon.errors import Malformed, NotAuthenticated
from txapns.daemon.interfaces import IKeys
from txapns.daemon.keys import add_key, remove_key
from txapns.daemon.store.keys import IKeyStore, IKeyTable
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.store.sqlite.api_keys import KeyTable, SQLiteKeyStore
from txapns.daemon.values import Caller

__all__ = ["KeysTests", "StoredKeysTests"]


class StoredKeysTests(SynchronousTestCase):
    """Keys in the database."""

    def setUp(self) -> None:
        """Make a database."""
        self.world = world_of(self)

    def add(self, label: str, **more: Any) -> str:
        """Make a key."""
        with self.world.visiting() as connection:
            return add_key(KeyTable(connection), label, now=1e9, **more)

    def labels(self) -> list[str]:
        """List the labels."""
        with self.world.visiting() as connection:
            return [stored.label for stored in KeyTable(connection).listed()]

    def test_interfaces(self) -> None:
        """The store and its table have what the daemon needs."""
        verifyObject(IKeyStore, SQLiteKeyStore(self.world.database))
        with self.world.visiting() as connection:
            verifyObject(IKeyTable, KeyTable(connection))

    def test_form(self) -> None:
        """A key consists of a prefix, its id, and 256 random bits."""
        first, second = self.add("a"), self.add("b")
        for key in (first, second):
            self.assertTrue(re.fullmatch("txapns_[0-9a-f]{8}_[0-9a-f]{64}", key))
        self.assertNotEqual(first.split("_")[1:], second.split("_")[1:])

    def test_listed(self) -> None:
        """Keys are listed by label, with their ids and what they allow."""
        key = self.add("web", send=["b", "a"], feedback=None, manage=True)
        self.add("all", send=None)
        with self.world.visiting() as connection:
            other, stored = KeyTable(connection).listed()
        self.assertEqual(stored.caller, Caller(key.split("_")[1], frozenset("ab"), None, True))
        self.assertEqual((stored.label, stored.created_at), ("web", 1e9))
        self.assertEqual((other.caller.send, other.caller.feedback, other.caller.manage), (None, frozenset(), False))

    def test_hashed(self) -> None:
        """The database has a key's SHA-256, but nowhere the key or its secret."""
        key = self.add("a")
        (stored,) = self.world.result(SQLiteKeyStore(self.world.database).read(KeyTable.listed))
        self.assertEqual(stored.digest, self.digest(key))
        files = [path.read_bytes() for path in self.world.directory.iterdir()]
        self.assertFalse([content for content in files if key.split("_")[2].encode() in content])

    def digest(self, key: str) -> bytes:
        """Compute a key's digest."""
        return hashlib.sha256(key.encode()).digest()

    def test_label(self) -> None:
        """A label is unique, and can be shown in a log."""
        self.add("a")
        with self.assertRaisesRegex(Malformed, "called a already"):
            self.add("a")
        for label in ("", "a b", "é", "-a", "a" * 101):
            self.assertRaises(Malformed, self.add, label)
        self.assertEqual(self.labels(), ["a"])

    def test_removed(self) -> None:
        """A key is removed by its id or its label; an unknown one is an error that does not repeat it."""
        first = self.add("a")
        self.add("b")
        with self.world.visiting() as connection:
            remove_key(KeyTable(connection), first.split("_")[1])
        self.assertEqual(self.labels(), ["b"])
        with self.world.visiting() as connection:
            remove_key(KeyTable(connection), "b")
        self.assertEqual(self.labels(), [])
        with self.assertRaisesRegex(Malformed, "^there is no key of this id or label$"), self.world.visiting() as again:
            remove_key(KeyTable(again), first)


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
        self.assertRaises(NotAuthenticated, self.keys.check, third)
        self.world.clock.advance(INTERVAL)
        self.keys.check(third)
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
            self.assertEqual([event["problem"] for event in events], [told], change)
            self.keys.check(other)
            for gone in (bad, self.first):
                self.assertRaises(NotAuthenticated, self.keys.check, gone)
            with self.world.visiting() as connection:
                connection.execute("DELETE FROM api_key WHERE label NOT LIKE 'other%'")

    def test_trouble(self) -> None:
        """While the table cannot be read the keys stay, and that is logged once; afterwards changes are seen again."""
        with self.world.visiting() as connection:
            connection.execute("ALTER TABLE api_key RENAME TO gone")
            connection.execute("UPDATE api_key_changes SET number = 100")
        with capturedLogs() as events:
            self.world.clock.pump([INTERVAL] * 3)
        self.assertEqual([event["complaint"] for event in events], ["the database is damaged"])
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

    def test_repr(self) -> None:
        """No representation shows a digest."""
        with self.world.visiting() as connection:
            shown = repr(KeyTable(connection).listed())
        self.assertNotIn(repr(hashlib.sha256(self.first.encode()).digest())[2:10], shown)
