"""Tests for :mod:`txapns.daemon.faces.apple.requests`, beside those of the face."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.faces.apple.requests import (
    MAX_BODY,
    Head,
    Meant,
    Pattern,
    Submission,
    authorization_of,
    drafts_of,
    fields_of,
    headers_of,
    submission_of,
)
from txapns.daemon.faces.apple.responses import ErrorResponse
from txapns.daemon.values import ANYBODY
from txapns.wire.requests import Request

__all__ = ["DraftTests", "FieldsTests", "PatternTests", "SubmissionTests"]

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


class SubmissionTests(_Case):
    """Tokens and payloads."""

    def test_submission(self) -> None:
        """The token is binary, and a payload is decompressed."""
        head = head_of((b"apns-id", ID), path=b"/3/device/ABcd")
        found = submission_of(request(), head, meant())
        self.assertEqual((found.payload, found.token, found.apns_id), (BODY, b"\xab\xcd", ID.decode().lower()))
        found = submission_of(request(gzip.compress(BODY)), head_of(), meant(content_encoding="gzip"))
        self.assertEqual((found.payload, found.apns_id), (BODY, None))

    def test_secret(self) -> None:
        """The credential, which is among the header fields, is not shown."""
        shown = meant(authorization="bearer secret")
        self.assertNotIn("secret", f"{shown} {submission_of(request(), head_of(), shown)}")

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
            self.assertEqual(self.refused(submission_of, request(body), head, meant(content_encoding=coding)), expected)


class PatternTests(_Case):
    """Requests that are like the one before."""

    fields = ((b":method", b"POST"), (b":path", b"/3/device/abcd"), (b"apns-id", ID), (b"content-length", b"10"))

    def like(self, number: int, name: bytes, value: bytes) -> Submission | None:
        """Compare a request with the one before, of which one header field is another."""
        headers = list(self.fields)
        headers[number] = name, value
        return Pattern(self.fields, meant()).submission(Request(3, tuple(headers), BODY))

    def test_like(self) -> None:
        """A request for another device, with another length and id, is read as by itself."""
        other = b"8a6f0000-0000-4000-8000-00000000000A"
        for number, name, value in (
            (1, b":path", b"/3/device/EF01"),
            (2, b"apns-id", other),
            (3, b"content-length", b"12"),
        ):
            headers = [*self.fields[:number], (name, value), *self.fields[number + 1 :]]
            expected = submission_of(request(), Head(headers), meant())
            found = self.like(number, name, value)
            assert found is not None
            self.assertEqual(
                (found.token, found.payload, found.apns_id, found.id_field),
                (expected.token, expected.payload, expected.apns_id, expected.id_field),
            )
        found = Pattern(self.fields[:2], meant()).submission(Request(3, self.fields[:2], BODY))
        assert found is not None
        self.assertIsNone(found.apns_id)

    def test_unlike(self) -> None:
        """One that differs in anything else, or in which something is wrong, is looked at more closely."""
        for number, name, value in (
            (0, b":method", b"GET"),
            (1, b":path", b"/3/device/"),
            (1, b":path", b"/3/device/xy"),
            (1, b":path", b"/3/device/\xff"),
            (1, b":path", b"/3/device/" + b"ab" * 513),
            (1, b":path", b"/4/broadcasts/apps/abcd"),
            (1, b"apns-id", ID),
            (2, b"apns-id", b"1"),
            (2, b"apns-request-id", ID),
        ):
            self.assertIsNone(self.like(number, name, value), (number, name, value))
        for headers in (self.fields[:3], (*self.fields, (b"a", b"b"))):
            self.assertIsNone(Pattern(self.fields, meant()).submission(Request(3, headers, BODY)))

    def test_payload(self) -> None:
        """Its payload is decompressed, and refused in Apple's words."""
        pattern = Pattern(self.fields, meant(content_encoding="gzip"))
        found = pattern.submission(Request(3, self.fields, gzip.compress(BODY)))
        assert found is not None
        self.assertEqual(found.payload, BODY)
        for body, expected in ((b"", (400, "PayloadEmpty")), (b"x" * (MAX_BODY + 1), (413, "PayloadTooLarge"))):
            self.assertEqual(self.refused(pattern.submission, Request(3, self.fields, body)), expected)


class DraftTests(_Case):
    """Submissions that become notifications."""

    def test_joined(self) -> None:
        """Those that follow one another and differ in the device and the id are one; the order stays."""
        this, other, new = meant(), meant(), Request(1, (), BODY)
        given = [
            (this, b"a", b"1", None),
            (this, b"b", b"1", None),
            (this, b"c", b"2", None),
            (this, b"d", b"1", None),
            (this, b"e", b"1", "x"),
            (this, b"f", b"1", "y"),
            (other, b"g", b"1", "z"),
        ]
        drafts = drafts_of([Submission(new, each, token, payload, chosen) for each, token, payload, chosen in given])
        self.assertEqual(
            [(b"".join(draft.tokens), draft.payload, list(draft.apns_ids)) for draft in drafts],
            [(b"ab", b"1", []), (b"c", b"2", []), (b"d", b"1", []), (b"ef", b"1", ["x", "y"]), (b"g", b"1", ["z"])],
        )

    def test_private(self) -> None:
        """Neither the payload nor the token of a submission is shown."""
        shown = repr(Submission(request(), meant(), b"token", b"payload", None))
        self.assertNotIn("token", shown)
        self.assertNotIn("payload", shown)
