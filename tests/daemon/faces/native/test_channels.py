"""Tests for :mod:`txapns.daemon.faces.native.channels`."""

from __future__ import annotations

from urllib.parse import quote

from twisted.logger import capturedLogs, formatEvent

from tests.daemon.channels_world import APP, UNKNOWN
from tests.daemon.faces.native.broadcast_case import BroadcastCase
from txapns.daemon.values import Side
from txapns.gateway import Gateway
from txapns.simulator import Simulator
from txapns.simulator.http2 import Response as AppleResponse

__all__ = ["ChannelOperationsTests", "RefusalTests"]


class ChannelOperationsTests(BroadcastCase):
    """``/v1/apps/<app>/channels``, and the simulator behind it."""

    def test_life(self) -> None:
        """A channel is made, listed, read and deleted."""
        made = self.ask("POST", "chess/channels", {})
        self.assertEqual(made.status, 201)
        channel = made.json["channel"]
        self.assertEqual(made.json, {"channel": channel, "storage_policy": 0, "push_type": "LiveActivity"})
        other = self.ask("POST", "chess/channels", {"storage_policy": 1, "push_type": "LiveActivity"}).json
        listed = self.ask("GET", "chess/channels")
        self.assertEqual((listed.status, listed.json), (200, {"channels": [channel, other["channel"]]}))
        read = self.ask("GET", f"chess/channels/{quote(other['channel'], safe='')}")
        self.assertEqual((read.status, read.json), (200, other))
        deleted = self.ask("DELETE", f"chess/channels/{quote(channel, safe='')}")
        self.assertEqual((deleted.status, deleted.body), (204, b""))
        self.assertEqual(self.ask("GET", "chess/channels").json, {"channels": [other["channel"]]})

    def test_log(self) -> None:
        """The log tells who made a channel, and who deleted it."""
        with capturedLogs() as logged:
            channel = self.make_channel()
            self.ask("DELETE", f"chess/channels/{quote(channel, safe='')}", key="all")
        said = [formatEvent(each) for each in logged if each["log_namespace"].startswith("txapns.daemon")]
        self.assertEqual(
            said,
            [
                f"chess made the channel {channel} of the app chess",
                f"all deleted the channel {channel} of the app chess",
            ],
        )

    def test_any_identifier(self) -> None:
        """An identifier may have all characters of base64, written as they are in a path."""
        registry = self.world.simulator.channels
        for channel in ("a+/=", "////", "++++"):
            registry._policies.setdefault(APP, {})[channel] = 1
            self.assertEqual(self.ask("GET", f"chess/channels/{quote(channel, safe='')}").json["channel"], channel)

    def test_numbers(self) -> None:
        """A policy is a whole number, however JSON writes it, and one of Apple's."""
        path = "/v1/apps/chess/channels"
        self.assertEqual(self.connection.request("POST", path, b'{"storage_policy":1.0}').status, 201)
        for policy in ("2", "-1", "0.5", '"0"', "null"):
            body = b'{"storage_policy":%b}' % policy.encode()
            response = self.connection.request("POST", path, body)
            self.assertEqual((response.status, response.json["error"]["path"]), (400, "storage_policy"))


class RefusalTests(BroadcastCase):
    """Requests that are refused, here or by Apple."""

    def test_permission(self) -> None:
        """The key must allow sending for the app; to manage the daemon is something else."""
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/AbCd"), ("DELETE", "/AbCd")):
            for app, key in (("chess", "manager"), ("news", "chess"), ("golf", "chess")):
                response = self.ask(method, f"{app}/channels{path}", {} if method == "POST" else None, key)
                self.assertEqual((response.status, response.code), (403, "not_allowed"))
        self.assertEqual(self.world.simulator.sessions, [])

    def test_environment(self) -> None:
        """The sandbox of an app with two sides has channels of its own."""
        self.assertEqual(self.ask("GET", "chess/channels?environment=sandbox").status, 409)
        self.assertEqual(self.ask("GET", "chess/channels?environment=both").status, 400)
        app, sandbox = self.world.apps.get("chess"), Simulator(self.world.reactor, authority=self.world.authority)
        self.world.reactor.servers[2298] = sandbox.tls_factory("channels")
        sandbox.topic = self.world.simulator.topic
        side = Side(self.world.gateway(management_port=2298), app.credential)
        self.world.add("chess", app.credential, gateway=app.gateway, topic=app.topic, sandbox=side)
        made = self.ask("POST", "chess/channels?environment=sandbox", {})
        self.assertEqual(made.status, 201)
        listed = [self.ask("GET", f"chess/channels{query}").json for query in ("?environment=sandbox", "")]
        self.assertEqual([each["channels"] for each in listed], [[made.json["channel"]], []])

    def test_apps(self) -> None:
        """An app that does not exist, or whose gateway has no channels."""
        self.assertEqual(self.ask("GET", "golf/channels", key="all").code, "unknown_app")
        response = self.ask("GET", "old/channels", key="all")
        self.assertEqual((response.status, response.code), (409, "not_supported"))

    def test_unknown(self) -> None:
        """A channel that Apple does not know is 404, with Apple's reason."""
        for method in ("GET", "DELETE"):
            response = self.ask(method, f"chess/channels/{quote(UNKNOWN, safe='')}")
            self.assertEqual((response.status, response.code), (404, "unknown_channel"))
            self.assertEqual(response.json["error"]["reason"], "ChannelNotRegistered")

    def test_malformed(self) -> None:
        """An identifier that is none is the request's fault, whether we say so or Apple."""
        for channel in ("a%20b", "%C3%A4", "%3D"):
            response = self.ask("GET", f"chess/channels/{channel}")
            self.assertEqual((response.status, response.code), (400, "malformed"))
            self.assertEqual(response.json["error"]["path"], "channel")
        self.assertEqual(self.ask("GET", "chess/channels?x=1").status, 400)

    def test_rejected(self) -> None:
        """What Apple rejects is 422 with its reason."""
        self.world.simulator.channels.limit = 0
        response = self.ask("POST", "chess/channels", {})
        error = response.json["error"]
        self.assertEqual((response.status, error["code"]), (422, "rejected_by_apple"))
        self.assertEqual(error["reason"], "CannotCreateChannelConfig")
        self.assertTrue(error["message"].startswith("CannotCreateChannelConfig: "))
        self.assertEqual(
            self.ask("POST", "chess/channels", {"push_type": "Alert"}).json["error"]["reason"], "InvalidPushType"
        )

    def test_not_now(self) -> None:
        """What may succeed later, or is the fault of the app's credential, is 503 with a time to ask again."""
        given = [(429, "TooManyRequests"), (503, "ServiceUnavailable"), (403, "InvalidProviderToken")]
        self.world.simulator.channels_fault = lambda server, request, response: AppleResponse(*given[0])
        while given:
            response = self.ask("POST", "chess/channels", {})
            self.assertEqual((response.status, response.code), (503, "unavailable"), given.pop(0))
            self.assertGreater(int(response.headers["retry-after"]), 0)

    def test_no_connection(self) -> None:
        """If the server cannot be reached, nothing was done, and the answer says so."""
        del self.world.reactor.servers[2198]
        body = b"{}"
        self.connection.write(
            b"POST /v1/apps/chess/channels HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer txapns_chess_secret\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.world.reactor.advance(20.0)
        [response] = self.connection.read()
        self.assertEqual((response.status, response.code), (503, "unavailable"))

    def test_no_answer(self) -> None:
        """If the answer is lost, a channel may have been made: that is 504, and not to be repeated blindly."""

        def lose(server: object, request: object, response: AppleResponse) -> None:
            server.abort()  # type: ignore[attr-defined]

        self.world.simulator.channels_fault = lose  # type: ignore[assignment]
        response = self.ask("POST", "chess/channels", {})
        self.assertEqual((response.status, response.code), (504, "no_answer"))
        self.world.simulator.channels_fault = None
        self.world.reactor.advance(5.0)
        self.assertEqual(len(self.ask("GET", "chess/channels").json["channels"]), 1)

    def test_no_topic(self) -> None:
        """An app whose bundle id is not known."""
        self.world.move("news", self.world.gateway(), topic=None)
        response = self.ask("GET", "news/channels", key="all")
        self.assertEqual((response.status, response.code), (409, "not_supported"))

    def test_no_such_gateway(self) -> None:
        """A gateway whose server of channels is not known."""
        self.world.move("chess", Gateway.http2("127.0.0.1", 2197))
        response = self.ask("GET", "chess/channels")
        self.assertEqual((response.status, response.code), (409, "not_supported"))
        self.assertIn("management_port", response.json["error"]["message"])
