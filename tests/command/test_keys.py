"""Tests for :mod:`txapns.command.keys`."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from tests.command.case import CommandCase
from txapns.daemon.errors import NotAuthenticated
from txapns.daemon.store.polling import INTERVAL
from txapns.daemon.values import Lane

__all__ = ["KeysTests"]


class KeysTests(CommandCase):
    """``txapns keys``."""

    def setUp(self) -> None:
        """Add apps, and let the daemon watch its keys."""
        super().setUp()
        self.config("[apps.mine]\ncertificate = 'a.pem'")
        self.txapns("apps", "add", "a", "--certificate", self.pem)
        self.keys = self.world.keys()
        self.world.result(self.keys.start())

    def add(self, *arguments: str) -> str:
        """Make a key."""
        return self.txapns("keys", "add", *arguments).removesuffix("\n")

    def test_added(self) -> None:
        """The key alone is printed, once, and the running daemon knows it within the interval."""
        key = self.add("web", "--app", "a", "--app", "mine")
        self.assertTrue(re.fullmatch("txapns_[0-9a-f]{8}_[0-9a-f]{64}", key), key)
        self.world.clock.advance(INTERVAL)
        caller = self.keys.check(key)
        self.assertEqual((caller.send, caller.feedback, caller.manage), ({"a", "mine"}, {"a", "mine"}, False))
        self.assertNotIn(key.split("_")[2], self.txapns("keys", "list") + self.txapns("keys", "list", "--json"))

    def test_permissions(self) -> None:
        """A key may be for all apps, and allow only some actions."""
        reader, sender = self.add("r", "--all-apps", "--may", "feedback"), self.add("s", "--app", "a", "--may", "send")
        manager = self.add("m", "--may", "manage")
        self.world.clock.advance(INTERVAL)
        caller = self.keys.check(reader)
        self.assertEqual((caller.send, caller.feedback, caller.manage), (frozenset(), None, False))
        caller = self.keys.check(sender)
        self.assertEqual((caller.send, caller.feedback, caller.manage), ({"a"}, frozenset(), False))
        caller = self.keys.check(manager)
        self.assertEqual((caller.send, caller.feedback, caller.manage), (frozenset(), frozenset(), True))

    def test_lane(self) -> None:
        """A key may be bound to a lane."""
        key = self.add("shop", "--app", "a", "--lane", "bulk")
        self.add("web", "--app", "a")
        self.world.clock.advance(INTERVAL)
        self.assertIs(self.keys.check(key).lane, Lane.BULK)
        self.assertEqual([row["lane"] for row in self.rows("keys", "list")], ["bulk", None])
        self.assertEqual(self.invoke("keys", "add", "b", "--app", "a", "--lane", "first").exit_code, 2)

    def test_listed(self) -> None:
        """The list shows what each key allows, in JSON or in columns."""
        self.add("web", "--app", "mine", "--app", "a")
        self.add("all", "--all-apps", "--may", "send")
        first, second = self.rows("keys", "list")
        self.assertEqual((first["label"], first["send"], first["feedback"]), ("all", "all", []))
        self.assertEqual((second["label"], second["send"], second["manage"]), ("web", ["a", "mine"], False))
        self.assertLess(abs(datetime.fromisoformat(first["created"]) - datetime.now(timezone.utc)).total_seconds(), 60)
        lines = self.txapns("keys", "list").splitlines()
        self.assertEqual(lines[0].split(), ["id", "label", "send", "feedback", "manage", "lane", "created", "problem"])
        self.assertEqual(lines[1].split()[1:5], ["all", "all", "-", "no"])

    def test_removed(self) -> None:
        """The running daemon refuses a key that was removed by label or by ID."""
        keys = [self.add("web", "--app", "a"), self.add("other", "--app", "a")]
        self.assertEqual(self.txapns("keys", "remove", "web"), "removed web\n")
        self.txapns("keys", "remove", keys[1].split("_")[1])
        self.world.clock.advance(INTERVAL)
        for key in keys:
            self.assertRaises(NotAuthenticated, self.keys.check, key)

    def test_refused(self) -> None:
        """An error is reported in a sentence."""
        self.add("web", "--app", "a")
        for arguments, words in (
            (("add", "x"), "Give either --app or --all-apps"),
            (("add", "x", "--app", "a", "--all-apps"), "Give either --app or --all-apps"),
            (("add", "x", "--app", "a", "--may", "manage"), "A key that may only manage takes neither"),
            (("add", "x", "--app", "b"), "there is no app 'b'"),
            (("add", "x", "--app", "a", "--may", "fly"), "'fly' is not one of 'send', 'feedback', 'manage'"),
            (("add", "a b", "--app", "a"), "a key's label has"),
            (("add", "web", "--app", "a"), "there is a key called web already"),
            (("remove", "x"), "there is no key of this id or label"),
        ):
            self.assertIn(words, self.refused("keys", *arguments))
        self.assertEqual(len(self.rows("keys", "list")), 1)
