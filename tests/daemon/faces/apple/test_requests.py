"""Tests for :mod:`txapns.daemon.faces.apple.requests`, beside those of the face."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.faces.apple.requests import (
    MAX_BODY,
    Head,
    Meant,
    authorization_of,
    draft_of,
    fields_of,
    headers_of,
)
from txapns.daemon.faces.apple.responses import ErrorResponse
from txapns.daemon.values import ANYBODY
from txapns.wire.requests import Request

__all__ = ["DraftTests", "FieldsTests"]

ID = b"8A6F0000-0000-4000-8000-000000000000"
BODY = b'{"aps":{}}'


def request(body: bytes = BODY) -> Request:
    """Make a request."""
    return Request(1, (), body)


class _Case(SynchronousTestCase):
    def refused(self, call: Callable[..., object], *arguments: object) -> tuple[int, str]:
        """Call something that refuses the request; returns the status and the reason."""
        response = self.assertRaises(ErrorResponse, call, *arguments).response
        return response.status, response.reason


def head_of(*fields: tuple[bytes, bytes], path: bytes = b"/3/device/abcd") -> Head:
    """Read the header fields of a request."""
    return Head(((b":method", b"POST"), (b":path", path), *fields))


def meant(**fields: str) -> Meant:
    """Say what requests mean."""
    return Meant({name.replace("_", "-"): value for name, value in fields.items()}, {}, "chess", ANYBODY, None, None)


class FieldsTests(_Case):
    """Header fields."""

    def test_fields(self) -> None:
        """Fields are decoded; those of the notification are found among them."""
        fields = fields_of(
            [(b"apns-topic", b"com.example"), (b"accept", b"\xff"), (b"cookie", b"a"), (b"cookie", b"b")]
        )
        self.assertEqual(headers_of(fields), {"apns-topic": "com.example"})
        self.assertNotIn("accept", fields)

    def test_shared(self) -> None:
        """Requests for different devices, of different lengths and with different ids, share the other fields."""
        topic = (b"apns-topic", b"com.example")
        first = head_of(topic, (b"apns-id", ID), (b"content-length", b"10"))
        second = head_of(topic, (b"content-length", b"11"), path=b"/3/device/ef")
        self.assertEqual((first.shared, second.shared), (((b":method", b"POST"), topic),) * 2)
        self.assertEqual((first.device, second.device), ("abcd", "ef"))
        self.assertNotEqual(first.shared, head_of().shared)

    def test_refused(self) -> None:
        """Repeated and invalid fields are refused in Apple's words."""
        self.assertEqual(self.refused(fields_of, [(b"accept", b"a"), (b"accept", b"b")]), (400, "DuplicateHeaders"))
        self.assertEqual(self.refused(fields_of, [(b"apns-collapse-id", b"\xff")]), (400, "BadCollapseId"))
        cases = [
            (head_of((b"apns-id", ID), (b"apns-id", ID)), "POST", (400, "DuplicateHeaders")),
            (head_of((b"apns-id", b"1")), "POST", (400, "BadMessageId")),
            (head_of(path=b"/4/device/abcd"), "POST", (404, "BadPath")),
            (head_of(path=b"/3/device/\xff"), "POST", (404, "BadPath")),
            (head_of(), "GET", (405, "MethodNotAllowed")),
        ]
        for each, method, expected in cases:
            self.assertEqual(self.refused(each.check, method), expected)
        for name, value, reason in (
            ("apns-topic", " a", "BadTopic"),
            ("apns-push-type", "x" * 1_025, "InvalidPushType"),
            ("apns-priority", "1.5", "BadPriority"),
            ("apns-expiration", "soon", "BadExpirationDate"),
        ):
            self.assertEqual(self.refused(headers_of, {name: value}), (400, reason))

    def test_single(self) -> None:
        """The id is in lower case, if it is valid; the credential is as it was sent."""
        self.assertEqual(head_of((b"apns-id", ID)).apns_id, ID.decode().lower())
        self.assertIsNone(head_of((b"apns-id", b"1")).apns_id)
        self.assertIsNone(head_of().apns_id)
        self.assertEqual(authorization_of([(b":path", b"/"), (b"authorization", b"bearer \xff")]), b"bearer \xff")
        self.assertEqual(authorization_of([]), b"")


class DraftTests(_Case):
    """Tokens and payloads."""

    def test_draft(self) -> None:
        """The token is binary, and a payload is decompressed."""
        head = head_of((b"apns-id", ID), path=b"/3/device/ABcd")
        draft = draft_of(request(), head, meant())
        self.assertEqual((draft.payload, draft.tokens, draft.apns_ids), (BODY, [b"\xab\xcd"], (ID.decode().lower(),)))
        draft = draft_of(request(gzip.compress(BODY)), head_of(), meant(content_encoding="gzip"))
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
            head = head_of(path=f"/3/device/{token}".encode())
            self.assertEqual(self.refused(draft_of, request(body), head, meant(content_encoding=coding)), expected)
