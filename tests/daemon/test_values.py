"""Tests for :mod:`txapns.daemon.values`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.values import Caller, Content, FeedbackEntry, Leased, Message, Settlement, State

__all__ = ["ValuesTests"]

TOKEN = bytes(range(32))


class ValuesTests(SynchronousTestCase):
    """The values that have behaviour."""

    def test_no_secrets(self) -> None:
        """Neither payloads nor whole tokens are in a repr."""
        message = Message("chess", b'{"aps":{}}', {}, [TOKEN], ["id"])
        leased = Leased(1, Content("chess", {}), b'{"aps":{}}', TOKEN, "id", 0, 0.0, 0.0)
        for value in (message, leased, FeedbackEntry(1, "chess", TOKEN, "Unregistered", 0.0, 0.0)):
            self.assertNotIn('"aps"', repr(value))
            self.assertNotIn(TOKEN.hex(), repr(value))
            self.assertNotIn(repr(TOKEN), repr(value))

    def test_ids(self) -> None:
        """A message has as many ids as tokens."""
        self.assertRaises(ValueError, Message, "chess", b"{}", {}, [TOKEN], [])

    def test_expires(self) -> None:
        """Only a time is an expiration: 0, and what is not a number, are passed on to Apple unread."""
        found = [Content("chess", {"apns-expiration": value}).expires for value in ("1700000000", "0", "00", "-1", "x")]
        self.assertEqual(found, [1_700_000_000.0, None, None, None, None])
        self.assertIsNone(Content("chess", {}).expires)

    def test_dead(self) -> None:
        """A token is dead if Apple rejected it with one of two reasons."""
        cases = [(State.REJECTED, "Unregistered"), (State.REJECTED, "ExpiredToken"), (State.REJECTED, "BadDeviceToken")]
        found = [Settlement(1, state, 410, reason).dead for state, reason in [*cases, (State.DEAD, "Unregistered")]]
        self.assertEqual(found, [True, True, False, False])

    def test_permissions(self) -> None:
        """A caller may do what its key allows, for the listed apps or, without a list, for all."""
        caller = Caller("7", frozenset({"chess"}), None)
        found = [
            caller.may_send("chess"),
            caller.may_send("news"),
            caller.may_read("news"),
            Caller("8").may_read("news"),
        ]
        self.assertEqual(found, [True, False, True, False])
