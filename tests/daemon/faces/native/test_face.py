"""Tests for :mod:`txapns.daemon.faces.native.face`."""

from __future__ import annotations

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.faces.native.native_case import PATH, NativeCase, submission
from tests.daemon.fakes import key_of
from txapns.daemon.faces.native.face import openapi

__all__ = ["DescriptionTests", "NoKeysTests", "PermissionTests"]


class PermissionTests(NativeCase):
    """Authentication, permissions and routes."""

    def test_no_key(self) -> None:
        """Without a known key everything is answered with 401, which tells how to give one."""
        paths = [("POST", PATH), ("GET", "/v1/openapi.json"), ("GET", "/"), ("OPTIONS", PATH), ("HEAD", "/x")]
        for method, path in paths:
            for headers in (
                {},
                {"Authorization": "Basic YTpi"},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer x y"},
            ):
                response = self.connection.request(method, path, key=None, headers=headers)
                self.assertEqual(response.status, 401)
                self.assertEqual(response.headers["www-authenticate"], 'Bearer realm="txapns"')

    def test_two_keys(self) -> None:
        """Two keys at once are refused."""
        keys = "".join(f"Authorization: Bearer {key_of(name)}\r\n" for name in ("all", "sender"))
        self.connection.write(f"GET /v1/openapi.json HTTP/1.1\r\nHost: h\r\n{keys}\r\n".encode())
        self.assertEqual(self.connection.answer().status, 401)

    def test_scheme(self) -> None:
        """The name of the scheme is compared without case."""
        headers = {"Authorization": f"BEARER {key_of('all')}"}
        self.assertEqual(self.get("/v1/openapi.json", key=None, headers=headers).status, 200)

    def test_no_key_body_unread(self) -> None:
        """The body of a request without a valid key is not read: the answer comes at once, and nothing after it."""
        self.connection.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n")
        [response] = self.connection.read()
        self.assertEqual((response.status, response.headers["connection"]), (401, "close"))
        self.assertTrue(self.connection.closed)

    def test_wrong_app(self) -> None:
        """A key for other apps is refused, whether the app exists or not; only permitted keys learn whether it does."""
        paths = {
            "sender": {
                "chess/notifications": 202,
                "gone/notifications": 404,
                "news/notifications": 403,
                "x/notifications": 403,
            },
            "reader": {"news/feedback": 200, "gone/feedback": 404, "chess/feedback": 403, "x/feedback": 403},
        }
        for key, cases in paths.items():
            for path, status in cases.items():
                method, body = ("POST", submission()) if key == "sender" else ("GET", None)
                response = self.connection.request(method, f"/v1/apps/{path}", body, key)
                self.assertEqual(response.status, status, path)
                if status != 202 and status != 200:
                    self.assertEqual(response.code, {403: "not_allowed", 404: "unknown_app"}[status])

    def test_permissions_are_apart(self) -> None:
        """Permission to send is not permission to read, and the other way round."""
        self.assertEqual(self.get("/v1/apps/chess/feedback", key="sender").status, 403)
        self.assertEqual(self.post(path="/v1/apps/news/notifications", key="reader").status, 403)

    def test_methods(self) -> None:
        """Each resource lists its methods; HEAD is GET without the body."""
        response = self.connection.request("DELETE", PATH)
        self.assertEqual(
            (response.status, response.code, response.headers["allow"]), (405, "method_not_allowed", "POST, OPTIONS")
        )
        response = self.connection.request("OPTIONS", "/v1/openapi.json")
        self.assertEqual((response.status, response.headers["allow"], response.body), (204, "GET, HEAD, OPTIONS", b""))
        whole = self.get("/v1/openapi.json")
        head = self.connection.request("HEAD", "/v1/openapi.json")
        self.assertEqual((head.status, head.body, head.headers["content-length"]), (200, b"", str(len(whole.body))))
        self.assertEqual(self.connection.request("GET", PATH).status, 405)

    def test_unknown_paths(self) -> None:
        """Other paths are not found."""
        for path in (
            "/",
            "/v1",
            "/v1/",
            "*",
            "/v1/apps/a/b/notifications",
            PATH + "/",
            "/v1/apps//notifications",
            "/v2/x?y",
        ):
            response = self.get(path)
            self.assertEqual((response.status, response.code), (404, "not_found"), path)


class NoKeysTests(NativeCase):
    """A face that requires no keys."""

    keys = None

    def test_anybody(self) -> None:
        """Everything is allowed."""
        self.assertEqual(self.post(key=None).status, 202)
        self.assertEqual(self.get("/v1/apps/chess/feedback", key=None).status, 200)


class DescriptionTests(SynchronousTestCase):
    """The OpenAPI document."""

    def test_complete(self) -> None:
        """It has every resource, and every reference in it can be resolved."""
        document = json.loads(openapi())
        paths = [
            "/v1/apps/{app}/notifications",
            "/v1/apps/{app}/broadcasts",
            "/v1/apps/{app}/channels",
            "/v1/apps/{app}/channels/{channel}",
            "/v1/notifications/{id}",
            "/v1/apps/{app}/feedback",
            "/v1/apps/{app}/queue",
            "/v1/apps/{app}/queue/retry",
            "/v1/apps/{app}/queue/purge",
            "/v1/apps",
            "/v1/apps/{app}/credential",
            "/v1/apps/{app}/outcomes",
            "/v1/apps/{app}/pause",
            "/v1/apps/{app}/resume",
            "/v1/apps/{app}/sandbox/credential",
            "/v1/apps/{app}",
            "/v1/openapi.json",
        ]
        self.assertEqual(sorted(document["paths"]), sorted(paths))
        references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
        self.assertLessEqual(references, set(document["components"]["schemas"]))
        names = {
            "Submission",
            "Notification",
            "Acceptance",
            "OutcomeBody",
            "Feedback",
            "FeedbackToken",
            "Error",
            "SubmittedCredential",
        }
        self.assertLessEqual(names, references | {"Submission"})
