"""Tests for :mod:`txapns.daemon.faces.apple.channels`."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.daemon.channels_world import APP, UNKNOWN
from tests.daemon.faces.apple.channels_case import MANAGE, ChannelsCase
from txapns.channels import ChannelRequest
from txapns.daemon.faces.apple.channels import Question
from txapns.errors import QueueFull
from txapns.simulator.http2 import Response
from txapns.wire.requests import Request

__all__ = ["FailureTests", "ManagementTests"]

ID = "0f0e0d0c-0b0a-4909-8807-060504030201"
ALL = f"/1/apps/{APP}/all-channels"


class ManagementTests(ChannelsCase):
    """Requests that are passed on."""

    def test_life(self) -> None:
        """A channel is made, listed, read and deleted, in Apple's form."""
        one, other = self.make_channel(), self.make_channel(1)
        said = self.manage("GET", path=ALL)
        self.assertEqual((said.status, json.loads(said.body)), (200, {"channels": [one, other]}))
        self.assertEqual(said.headers["content-type"], "application/json")
        said = self.manage("GET", {"apns-channel-id": other, "apns-request-id": ID})
        expected = {"message-storage-policy": 1, "push-type": "LiveActivity"}
        self.assertEqual((said.status, json.loads(said.body)), (200, expected))
        self.assertEqual(said.headers["apns-request-id"], ID)
        said = self.manage("DELETE", {"apns-channel-id": one})
        self.assertEqual((said.status, said.body, len(said.headers["apns-request-id"])), (204, b"", 36))
        self.assertEqual(json.loads(self.manage("GET", path=ALL).body), {"channels": [other]})

    def test_passed_on(self) -> None:
        """Apple gets the id, the path and the body as they are, and not the caller's credential."""
        seen: list[Request] = []

        def see(server: Any, request: Request, response: Response) -> Response:
            seen.append(request)
            return response

        self.world.simulator.channels_fault = see
        self.manage("POST", {"apns-request-id": ID}, body=b'{"message-storage-policy": 0, "new": 1}')
        [request] = seen
        fields = dict(request.headers)
        self.assertEqual((fields[b":path"], fields[b"apns-request-id"]), (MANAGE.encode(), ID.encode()))
        self.assertEqual(request.body, b'{"message-storage-policy": 0, "new": 1}')
        self.assertNotIn(b"authorization", fields)  # the app has a certificate

    def test_long_list(self) -> None:
        """A list of ten thousand channels is passed back whole, as the caller reads it."""
        made = [self.world.simulator.channels.make(APP, 0) for _ in range(10_000)]
        stream = self.begin(ALL, {}, method="GET", body=b"")
        for _ in range(5):
            self.world.reactor.advance(0.05)
            self.caller.pump()
        self.assertEqual(json.loads(self.answer(stream).body), {"channels": made})

    def test_rejected(self) -> None:
        """What Apple rejects is passed back with its status and reason."""
        self.assertEqual(self.manage("POST", body=b'{"x": 1}').brief, (400, "BadRequestParams"))
        self.assertEqual(self.manage("POST", body=b"{").brief, (400, "BadRequestPayload"))
        for method in ("GET", "DELETE"):
            said = self.manage(method, {"apns-channel-id": UNKNOWN, "apns-request-id": ID})
            self.assertEqual((said.brief, said.headers["apns-request-id"]), ((400, "ChannelNotRegistered"), ID))

    def test_refused(self) -> None:
        """What cannot be passed on is refused in Apple's words."""
        cases = [
            ((405, "MethodNotAllowed"), "PUT", MANAGE, {}),
            ((404, "BadPath"), "POST", ALL, {}),
            ((404, "BadPath"), "GET", f"/1/apps/{APP}/channel", {}),
            ((404, "BadPath"), "GET", "/1/apps/", {}),
            ((403, "TopicMismatch"), "GET", "/1/apps/com.example.news/all-channels", {}),
            ((400, "TopicDisallowed"), "GET", f"/1/apps/{APP}.voip/all-channels", {}),
            ((400, "MissingChannelId"), "GET", MANAGE, {}),
            ((400, "MissingChannelId"), "DELETE", MANAGE, {}),
            ((400, "BadChannelId"), "GET", MANAGE, {"apns-channel-id": "ä"}),
            ((400, "BadMessageId"), "GET", ALL, {"apns-request-id": "1"}),
            ((400, "PayloadEmpty"), "POST", MANAGE, {}),
        ]
        for expected, method, path, headers in cases:
            said = self.manage(method, headers, path)
            self.assertEqual(said.brief, expected, path)
            self.assertIn("apns-request-id", said.headers)
        self.assertEqual(self.manage("GET", path=ALL, key=None).brief, (403, "MissingProviderToken"))
        self.assertEqual(self.manage("GET", path=ALL, key="manager").brief, (403, "TopicMismatch"))
        self.assertEqual(self.world.simulator.sessions, [])

    def test_gateway(self) -> None:
        """An app whose gateway has no channels."""
        said = self.manage("GET", path=f"/1/apps/{APP}.old/all-channels", key="all")
        self.assertEqual(said.brief, (400, "FeatureNotEnabled"))

    def test_any_topic(self) -> None:
        """An app without a topic is asked about the bundle id in the path."""
        self.world.simulator.topic = "com.example.golf"
        self.world.move("news", self.world.gateway(), topic=None)
        self.world.apps.drop("chess")
        self.world.apps.drop("old")
        said = self.manage("GET", path="/1/apps/com.example.golf/all-channels", key="all")
        self.assertEqual((said.status, json.loads(said.body)), (200, {"channels": []}))


class FailureTests(ChannelsCase):
    """Requests that Apple does not answer."""

    def test_our_credential(self) -> None:
        """If Apple does not accept the app's credential, that is not the caller's fault."""
        self.world.simulator.channels_fault = lambda *arguments: Response(403, "InvalidProviderToken")
        said = self.manage("GET", path=ALL)
        self.assertEqual((said.brief, said.headers["retry-after"]), ((503, "ServiceUnavailable"), "5"))

    def test_no_connection(self) -> None:
        """If the server cannot be reached, the caller may try again."""
        del self.world.reactor.servers[2198]
        said = self.answer(self.begin(ALL, {}, method="GET", body=b""), 30.0)
        self.assertEqual((said.brief, "retry-after" in said.headers), ((503, "ServiceUnavailable"), True))

    def test_no_answer(self) -> None:
        """If the answer is lost, nothing invites the caller to do it again at once."""

        def lose(server: Any, request: Request, response: Response) -> None:
            server.abort()

        self.world.simulator.channels_fault = lose
        said = self.manage("GET", path=ALL)
        self.assertEqual((said.brief, "retry-after" in said.headers), ((500, "InternalServerError"), False))

    def test_others(self) -> None:
        """Too many requests have to wait; what should never be raised is logged."""
        question = Question(
            Request(1, (), b""), b"apns-request-id", ID, "chess", ChannelRequest(b"GET", ALL.encode(), ())
        )

        def fail(error: Exception) -> Any:
            def channels_of(app: str, environment: object) -> Any:
                raise error

            return channels_of

        full = self.successResultOf(question.ask(fail(QueueFull("full"))))
        self.assertEqual((full.status, full.reason), (429, "TooManyRequests"))
        with capturedLogs() as logged:
            bug = self.successResultOf(question.ask(fail(ZeroDivisionError())))
        self.assertEqual((bug.status, bug.reason, len(logged)), (500, "InternalServerError", 1))
        self.assertIsInstance(logged[0]["log_failure"], Failure)
        self.flushLoggedErrors(ZeroDivisionError)
