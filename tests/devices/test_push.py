"""Tests for :mod:`txapns.devices.push`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.devices import Push

__all__ = ["PushTests"]


class PushTests(SynchronousTestCase):
    """A push as it was sent."""

    def test_content(self) -> None:
        """The payload is parsed if it is an object, and ``aps`` if it is one in it."""
        for payload, content, aps in (
            (b'{"aps": {"badge": 1}, "game": 7}', {"aps": {"badge": 1}, "game": 7}, {"badge": 1}),
            (b'{"aps": []}', {"aps": []}, {}),
            (b"{}", {}, {}),
            (b"[]", None, {}),
            (b"\xff", None, {}),
            (b"", None, {}),
            (b"[" * 100_000, None, {}),
        ):
            push = Push({}, payload)
            self.assertEqual((push.content, push.aps), (content, aps))

    def test_fields(self) -> None:
        """Fields that were not sent are empty, but Apple assumes a priority."""
        self.assertEqual((Push({}, b"").push_type, Push({}, b"").topic, Push({}, b"").priority), ("", "", "10"))
        push = Push({"apns-push-type": "voip", "apns-topic": "com.example.app.voip", "apns-priority": "5"}, b"")
        self.assertEqual((push.push_type, push.topic, push.priority), ("voip", "com.example.app.voip", "5"))

    def test_secret(self) -> None:
        """A push does not show its token."""
        self.assertNotIn("ab" * 32, repr(Push({}, b"", "ab" * 32)))
