"""Tests for :mod:`txapns.daemon.faces.apple.requests`, beside those of the face."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.faces.apple.requests import (
    MAX_BODY,
    apns_id_of,
    authorization_of,
    draft_of,
    fields_of,
    headers_of,
)
from txapns.daemon.faces.apple.responses import ErrorResponse
from txapns.wire.requests import Request

__all__ = ["DraftTests", "FieldsTests"]

ID = b"8A6F0000-0000-4000-8000-000000000000"
BODY = b'{"aps":{}}'


def request(*fields: tuple[bytes, bytes], path: bytes = b"/3/device/abcd", body: bytes = BODY) -> Request:
    """Make a request."""
    return Request(1, ((b":method", b"POST"), (b":path", path), *fields), body)


class _Case(SynchronousTestCase):
    def refused(self, call: Callable[..., object], *arguments: object) -> tuple[int, str]:
        """Call something that refuses the request; returns the status and the reason."""
        response = self.assertRaises(ErrorResponse, call, *arguments).response
        return response.status, response.reason


class FieldsTests(_Case):
    """Header fields."""

    def test_fields(self) -> None:
        """Fields are decoded; those of the notification are found among them."""
        fields = fields_of(
            request((b"apns-topic", b"com.example"), (b"accept", b"\xff"), (b"cookie", b"a"), (b"cookie", b"b"))
        )
        self.assertEqual(headers_of(fields), {"apns-topic": "com.example"})
        self.assertNotIn("accept", fields)

    def test_refused(self) -> None:
        """Repeated and invalid fields are refused in Apple's words."""
        cases = [
            (request((b"accept", b"a"), (b"accept", b"b")), (400, "DuplicateHeaders")),
            (request((b"apns-collapse-id", b"\xff")), (400, "BadCollapseId")),
            (request((b"apns-id", b"1")), (400, "BadMessageId")),
            (request(path=b"/4/device/abcd"), (404, "BadPath")),
            (Request(1, ((b":method", b"GET"), (b":path", b"/3/device/abcd")), b""), (405, "MethodNotAllowed")),
        ]
        for each, expected in cases:
            self.assertEqual(self.refused(fields_of, each), expected)
        for name, value, reason in (
            ("apns-topic", " a", "BadTopic"),
            ("apns-push-type", "x" * 1_025, "InvalidPushType"),
            ("apns-priority", "1.5", "BadPriority"),
            ("apns-expiration", "soon", "BadExpirationDate"),
        ):
            self.assertEqual(self.refused(headers_of, {name: value}), (400, reason))

    def test_single(self) -> None:
        """The id is in lower case, if it is valid; the credential is as it was sent."""
        self.assertEqual(apns_id_of(request((b"apns-id", ID))), ID.decode().lower())
        self.assertIsNone(apns_id_of(request((b"apns-id", b"1"))))
        self.assertIsNone(apns_id_of(request()))
        self.assertEqual(authorization_of(request((b"authorization", b"bearer \xff"))), b"bearer \xff")
        self.assertEqual(authorization_of(request()), b"")


class DraftTests(_Case):
    """Tokens and payloads."""

    def test_draft(self) -> None:
        """The token is binary, and a payload is decompressed."""
        draft = draft_of(request(), {":path": "/3/device/ABcd"}, {}, "id")
        self.assertEqual((draft.payload, draft.tokens, draft.apns_ids), (BODY, [b"\xab\xcd"], ("id",)))
        fields = {":path": "/3/device/abcd", "content-encoding": "gzip"}
        draft = draft_of(request(body=gzip.compress(BODY)), fields, {}, None)
        self.assertEqual((draft.payload, draft.apns_ids), (BODY, ()))

    def test_refused(self) -> None:
        """Invalid ones are refused in Apple's words."""
        cases = [
            ("", BODY, "", (400, "MissingDeviceToken")),
            ("abc", BODY, "", (400, "BadDeviceToken")),
            ("ab" * 513, BODY, "", (400, "BadDeviceToken")),
            ("abcd", b"", "", (400, "PayloadEmpty")),
            ("abcd", b"x" * (MAX_BODY + 1), "", (413, "PayloadTooLarge")),
            ("abcd", gzip.compress(b"x" * (MAX_BODY + 1)), "gzip", (413, "PayloadTooLarge")),
            ("abcd", BODY, "gzip", (400, "PayloadEmpty")),
            ("abcd", BODY, "br", (415, "UnsupportedMediaType")),
        ]
        for token, body, coding, expected in cases:
            fields = {":path": f"/3/device/{token}", "content-encoding": coding}
            self.assertEqual(self.refused(draft_of, request(body=body), fields, {}, None), expected)
