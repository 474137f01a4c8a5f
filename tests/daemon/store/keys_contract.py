"""What every store of keys does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from txapns.daemon.errors import Malformed
from txapns.daemon.keys import add_key, remove_key
from txapns.daemon.store.keys import IKeyStore, IKeyTable, StoredKey
from txapns.daemon.values import Caller

__all__ = ["KeyStoreContract"]

T = TypeVar("T")


class KeyStoreContract:
    """
    The tests of a store of keys, for a test case.

    :ivar store: the store, started.
    """

    store: IKeyStore
    assertEqual: Any
    assertRaises: Any
    assertRaisesRegex: Any
    assertTrue: Any
    assertNotEqual: Any
    assertNotIn: Any

    def result(self, deferred: Deferred[T]) -> T:
        """Wait for a result, and return or raise it."""
        raise NotImplementedError

    def write(self, function: Callable[[IKeyTable], T]) -> T:
        """Write."""
        return self.result(self.store.write(function))

    def add(self, label: str, **more: Any) -> str:
        """Make a key."""
        return self.write(lambda table: add_key(table, label, now=1e9, **more))

    def remove(self, key: str) -> None:
        """Remove a key."""
        self.write(lambda table: remove_key(table, key))

    def listed(self) -> list[StoredKey]:
        """List the keys."""
        return list(self.result(self.store.read(lambda table: table.listed())))

    def labels(self) -> list[str]:
        """List the labels."""
        return [stored.label for stored in self.listed()]

    def test_interfaces(self) -> None:
        """The store and its table provide their interfaces."""
        verifyObject(IKeyStore, self.store)
        self.write(lambda table: verifyObject(IKeyTable, table))

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
        other, stored = self.listed()
        self.assertEqual(stored.caller, Caller(key.split("_")[1], frozenset("ab"), None, True))
        self.assertEqual((stored.label, stored.created_at), ("web", 1e9))
        self.assertEqual((other.caller.send, other.caller.feedback, other.caller.manage), (None, frozenset(), False))

    def test_hashed(self) -> None:
        """The store has a key's SHA-256, which no representation shows."""
        key = self.add("a")
        (stored,) = self.listed()
        self.assertEqual(stored.digest, hashlib.sha256(key.encode()).digest())
        self.assertNotIn(repr(stored.digest)[2:10], repr(stored))

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
        self.remove(first.split("_")[1])
        self.assertEqual(self.labels(), ["b"])
        self.remove("b")
        self.assertEqual(self.labels(), [])
        with self.assertRaisesRegex(Malformed, "^there is no key of this id or label$"):
            self.remove(first)

    def test_id_before_label(self) -> None:
        """A label that is the id of another key does not protect that key from being removed."""
        first = self.add("a").split("_")[1]
        self.add(first)
        self.remove(first)
        self.assertEqual(self.labels(), [first])

    def test_changes(self) -> None:
        """Each change is counted, and nothing else."""
        numbers = []
        for change in (lambda: None, lambda: self.add("a"), self.listed, lambda: self.remove("a")):
            change()
            numbers.append(self.result(self.store.read(lambda table: table.changes())))
        self.assertEqual([number - numbers[0] for number in numbers], [0, 1, 1, 2])
