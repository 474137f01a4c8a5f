"""Tests for :mod:`txapns.wire.requests.values`."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txapns.wire.requests import Answer, reason_of


class ReasonTests(SynchronousTestCase):
    """Values read from bodies."""

    def test_reason(self) -> None:
        """The reason passes through, known or not."""
        for reason in ("BadDeviceToken", "NeverHeardOf", "", "naïve"):
            self.assertEqual(reason_of(json.dumps({"reason": reason}).encode()), reason)

    def test_not_json(self) -> None:
        """Text is its own reason, on one line and shortened."""
        self.assertEqual(reason_of(b"<html>\r\n  <b>Bad\tGateway</b>"), "<html> <b>Bad Gateway</b>")
        self.assertEqual(reason_of(b"x" * 1_000), "x" * 200)
        self.assertEqual(reason_of(b""), "")

    def test_other_json(self) -> None:
        """JSON of another shape is its own reason as well."""
        for body in (b"[]", b"17", b'"text"', b"null", b"{}", b'{"error":"x"}', b"[" * 5_000):
            self.assertEqual(reason_of(body), body[:200].decode())

    def test_no_reason(self) -> None:
        """A null reason is empty, and a reason that is not text is replaced by the body."""
        self.assertEqual(reason_of(b'{"reason":null}'), "")
        for value in (b"17", b"true", b"1.5", b'["BadTopic"]', b'{"a":1}'):
            body = b'{"reason":%s}' % value
            self.assertEqual(reason_of(body), body.decode())
        self.assertEqual(len(reason_of(b'{"reason":[%s]}' % (b'"BadTopic",' * 300))), 200)

    def test_page(self) -> None:
        """An HTML page is recognized by its type, in any spelling, or by its beginning."""
        for kind in (b"text/html", b"Text/HTML; charset=utf-8"):
            self.assertTrue(Answer(200, ((b":status", b"200"), (b"content-type", kind)), b"").page)
        self.assertTrue(Answer(200, ((b":status", b"200"),), b"\r\n<!DOCTYPE html>").page)
        for fields in ((), ((b"content-type", b"application/json"),)):
            for body in (b"", b"{}", b"OK"):
                self.assertFalse(Answer(200, fields, body).page)

    def test_timestamp(self) -> None:
        """Milliseconds are the rule; seconds have been seen."""
        for number, seconds in ((1_700_000_000_000, 1_700_000_000), (1_430_000_000, 1_430_000_000), (1_500, 1_500)):
            self.assertEqual(Answer(410, (), b'{"timestamp":%d}' % number).timestamp, seconds)
        self.assertEqual(Answer(410, (), b'{"timestamp":"1700000000123"}').timestamp, 1_700_000_000.123)

    def test_no_timestamp(self) -> None:
        """Anything else is not a timestamp."""
        for body in (
            b"",
            b"{}",
            b"[]",
            b"\xff",
            b'{"timestamp":null}',
            b'{"timestamp":"yesterday"}',
            b'{"timestamp":[1]}',
            b'{"timestamp":NaN}',
            b'{"timestamp":-Infinity}',
            b'{"timestamp":1%s}' % (b"0" * 400),
            b"[" * 5_000,
        ):
            self.assertIs(Answer(410, (), body).timestamp, None, body[:30])

    @given(st.binary())
    def test_any_body(self, body: bytes) -> None:
        """No body raises an exception."""
        answer = Answer(410, (), body)
        self.assertIsInstance(answer.reason, str)
        self.assertIsInstance(answer.timestamp, float | None)
