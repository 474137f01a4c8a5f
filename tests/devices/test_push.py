"""Tests for :mod:`txapns.devices.push`."""

from __future__ import annotations

import json
import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.devices import Push
from txapns.devices.push import is_identifier, json_object, token_bytes

__all__ = ["IdentifierTests", "PushTests"]

_JSON = st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))


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
            (b' {"a": "\xc3\xa9"}\r\n\t', {"a": "é"}, {}),
            (b'{"a": 1} {}', None, {}),
            ('{"a": 1}\u00a0'.encode(), None, {}),
            ('\ufeff{"a": 1}'.encode(), None, {}),
            ('{"a": 1}'.encode("utf-16"), None, {}),
        ):
            push = Push({}, payload)
            self.assertEqual((push.content, push.aps), (content, aps))

    def test_numbers(self) -> None:
        """No number is infinite, and none is not a number."""
        for number, expected in (
            ("-1.5e300", {"a": -1.5e300}),
            ("1e-999", {"a": 0.0}),
            ("NaN", None),
            ("Infinity", None),
            ("-Infinity", None),
            ("1e999", None),
            ("-1e999", None),
            ("9" * 5_000, None),
        ):
            self.assertEqual(json_object(b'{"a":%s}' % number.encode()), expected, number)

    def test_depth(self) -> None:
        """Nothing is nested more deeply than devices read it, however it is nested and whatever is in texts."""
        for opening, closing, levels in (b"[", b"]", 1), (b'{"a":', b"}", 1), (b'[0, {"{":', b"}]", 2):
            for more in 0, 1:
                times = (511 // levels) + more
                payload = b'{"a":%b1%b}' % (opening * times, closing * times)
                self.assertEqual(json_object(payload) is None, times * levels + 1 > 512, (opening, times))
        self.assertIsNotNone(json_object(b'{"a":"%b"}' % (b"[" * 4_000)))
        self.assertIsNotNone(json_object(b'{"a":[%b[]]}' % (b"[]," * 1_000)))
        for payload in b"[" * 100_000, b'{"a":%b1%b}' % (b"[" * 100_000, b"]" * 100_000):
            self.assertIsNone(json_object(payload))

    @given(st.binary() | st.builds(lambda value: json.dumps(value).encode(), _JSON))
    def test_writable(self, payload: bytes) -> None:
        """What is read is what Python reads, and JSON can be made of it."""
        found = json_object(payload)
        if found is None:
            return
        self.assertEqual(json.loads(payload), found)
        json.dumps(found, allow_nan=False)

    def test_fields(self) -> None:
        """Fields that were not sent are empty, but Apple assumes a priority."""
        self.assertEqual((Push({}, b"").push_type, Push({}, b"").topic, Push({}, b"").priority), ("", "", "10"))
        push = Push({"apns-push-type": "voip", "apns-topic": "com.example.app.voip", "apns-priority": "5"}, b"")
        self.assertEqual((push.push_type, push.topic, push.priority), ("voip", "com.example.app.voip", "5"))

    def test_secret(self) -> None:
        """A push does not show its token."""
        self.assertNotIn("ab" * 32, repr(Push({}, b"", "ab" * 32)))


class IdentifierTests(SynchronousTestCase):
    """Identifiers of notifications and devices."""

    @given(st.text() | st.uuids().map(str) | st.uuids().map(lambda each: each.hex))
    def test_uuid(self, text: str) -> None:
        """They are what the standard library prints for a UUID, in either case."""
        try:
            expected = str(uuid.UUID(text)) == text.lower()
        except ValueError:
            expected = False
        self.assertEqual(is_identifier(text), expected)
        self.assertEqual(is_identifier(text.upper()), is_identifier(text.lower()))

    def test_token(self) -> None:
        """A device token is hexadecimal, in either case, and nothing else."""
        for text, expected in (("aB0f", b"\xab\x0f"), ("", b""), ("abc", None), ("ab 0f", None), ("äb", None)):
            self.assertEqual(token_bytes(text), expected)
