"""Tests for :mod:`txapns.daemon.faces.native.broadcasts`."""

from __future__ import annotations

import json
from typing import Any

from tests.daemon.channels_world import UNKNOWN, UPDATE
from tests.daemon.faces.native.broadcast_case import PATIENCE, BroadcastCase
from tests.daemon.fakes import Response, key_of
from txapns.daemon.values import Environment, Side, State

__all__ = ["BroadcastOperationsTests"]

ID = "0f0e0d0c-0b0a-4909-8807-060504030201"


class BroadcastOperationsTests(BroadcastCase):
    """``POST /v1/apps/<app>/broadcasts``."""

    def cast(self, *broadcasts: Any, app: str = "chess", key: str = "chess", **more: Any) -> Response:
        """Ask to broadcast."""
        again = {"Idempotency_Key": more.pop("again")} if "again" in more else {}
        given = broadcasts or ({"channel": UNKNOWN, "payload": json.loads(UPDATE)},)
        return self.ask("POST", f"{app}/broadcasts", {"broadcasts": given, **more}, key, **again)

    def test_accepted(self) -> None:
        """Broadcasts are on the disk when the answer comes, each under its own id, with header fields and payload."""
        headers = {"apns-topic": "com.example.chess", "apns-priority": 5.0, "apns-expiration": 0}
        one = {"channel": "AbCd", "payload": {"b": 1, "a": 2}, "headers": {**headers, "apns-request-id": ID.upper()}}
        response = self.cast(one, {"channel": UNKNOWN, "payload": {}})
        self.assertEqual(response.status, 202)
        first, second = response.json["broadcasts"]
        self.assertEqual((list(first), first["id"]), (["id"], ID))
        leased = self.world.lease()
        self.assertEqual([each.apns_id for each in leased], [ID, second["id"]])
        self.assertEqual([each.content.channel for each in leased], ["AbCd", UNKNOWN])
        self.assertEqual([each.token for each in leased], [b"", b""])
        expected = {**headers, "apns-priority": "5", "apns-expiration": "0", "apns-channel-id": "AbCd"}
        self.assertEqual((dict(leased[0].content.headers), leased[0].payload), (expected, b'{"b": 1, "a": 2}'))

    def test_outcome(self) -> None:
        """With wait the answer has the outcomes; later they are found by their ids."""
        body = json.dumps({"broadcasts": [{"channel": UNKNOWN, "payload": {}}], "wait": True}).encode()
        head = f"POST /v1/apps/chess/broadcasts HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('chess')}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.write(head.encode() + body)
        self.world.reactor.advance(0.1)
        [leased] = self.world.lease()
        self.world.settle(leased, State.REJECTED, 400, "ChannelNotRegistered")
        response = self.connection.answer()
        self.assertEqual(response.status, 200)
        [accepted] = response.json["broadcasts"]
        self.assertEqual(accepted["outcome"]["reason"], "ChannelNotRegistered")
        found = self.connection.request("GET", f"/v1/notifications/{accepted['id']}", key="chess").json
        self.assertEqual((found["state"], found["status"], found["attempts"]), ("rejected", 400, 1))
        self.assertEqual(found, accepted["outcome"])
        [listed] = self.ask("GET", "chess/queue?state=rejected", key="manager").json["notifications"]
        self.assertEqual((listed["id"], listed["token"]), (accepted["id"], ""))
        self.assertEqual({found["channel"], listed["channel"]}, {UNKNOWN})

    def test_no_outcome(self) -> None:
        """Without outcomes after a while, or after the time that the caller prefers, what was accepted waits."""
        body = json.dumps({"broadcasts": [{"channel": UNKNOWN, "payload": {}}], "wait": True}).encode()
        for prefer, seconds in (("", PATIENCE + 1), ("Prefer: wait=1\r\n", 1.1)):
            head = f"POST /v1/apps/chess/broadcasts HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key_of('chess')}\r\n"
            head += f"{prefer}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.connection.write(head.encode() + body)
            self.world.reactor.advance(seconds)
            [response] = self.connection.read()
            self.assertEqual((response.status, response.json["broadcasts"][0]["outcome"]["state"]), (202, "waiting"))

    def test_environment(self) -> None:
        """A broadcast of an app with two sides may name the sandbox; one of another app may not."""
        named = {"channel": "AbCd", "payload": json.loads(UPDATE), "environment": "sandbox"}
        self.assertEqual(self.ask("POST", "chess/broadcasts", {"broadcasts": [named]}).status, 409)
        app = self.world.apps.get("chess")
        self.world.add("chess", app.credential, gateway=app.gateway, sandbox=Side(app.gateway, app.credential))
        said = self.ask(
            "POST", "chess/broadcasts", {"broadcasts": [named, {"channel": "AbCd", "payload": json.loads(UPDATE)}]}
        )
        self.assertEqual(said.status, 202)
        found = [each.content.environment for each in self.world.lease()]
        self.assertEqual(found, [Environment.SANDBOX, Environment.PRODUCTION])
        for change in ({"environment": "both"}, {"headers": {"txapns-environment": "sandbox"}}):
            said = self.ask("POST", "chess/broadcasts", {"broadcasts": [{**named, **change}]})
            self.assertEqual(said.status, 400)

    def test_not_before(self) -> None:
        """A broadcast may be for later."""
        date = self.world.reactor.wall.now()
        self.assertEqual(self.cast(not_before=date + 10**9).json["error"]["path"], "not_before")
        self.assertEqual(self.cast(not_before=date + 60).status, 202)
        self.assertEqual(self.world.lease(), [])
        self.world.reactor.advance(61.0)
        self.assertEqual(len(self.world.lease()), 1)

    def test_again(self) -> None:
        """A repeated request with its key is accepted once; another one with that key is refused."""
        first, second = (self.cast(again="goal 1") for _ in range(2))
        self.assertEqual((first.status, first.json), (202, second.json))
        self.assertEqual(len(self.world.lease()), 1)
        other = self.cast({"channel": "AbCd", "payload": {}}, again="goal 1")
        self.assertEqual((other.status, other.code), (409, "key_conflict"))

    def test_validate_only(self) -> None:
        """It is said what is wrong with broadcasts, and nothing is stored."""
        good, bad = {"channel": UNKNOWN, "payload": json.loads(UPDATE)}, {"channel": "?", "payload": {"aps": {}}}
        response = self.cast(good, validate_only=True)
        self.assertEqual((response.status, response.json), (200, {"valid": True, "findings": []}))
        findings = self.cast(good, bad, validate_only=True).json["findings"]
        self.assertIn((1, "CHANNEL_FORM"), [(each["notification"], each["code"]) for each in findings])
        self.assertEqual(self.cast({"channel": "a b", "payload": {}}, validate_only=True).status, 400)
        self.assertEqual(self.world.lease(), [])

    def test_refused(self) -> None:
        """Callers without permission, unknown apps, and apps whose gateway has no broadcasts."""
        self.assertEqual(self.cast(key="manager").code, "not_allowed")
        self.assertEqual(self.cast(app="news").code, "not_allowed")
        self.assertEqual(self.cast(app="golf", key="all").code, "unknown_app")
        response = self.cast(app="old", key="all")
        self.assertEqual((response.status, response.code), (409, "not_supported"))

    def test_faults(self) -> None:
        """An error names the path of what is wrong; all or nothing is accepted."""
        good: dict[str, Any] = {"channel": UNKNOWN, "payload": {}}
        cases: list[tuple[dict[str, Any], str]] = [
            ({"channel": 1}, ".channel"),
            ({"channel": ""}, ".channel"),
            ({"channel": "ä"}, ".channel"),
            ({"payload": []}, ".payload"),
            ({"tokens": ["aa"]}, ""),
            ({"headers": {"apns-priority": 1.5}}, ".headers.apns-priority"),
            ({"headers": {"apns-id": ID}}, ".headers"),
            ({"headers": {"apns-request-id": "x"}}, ".headers.apns-request-id"),
            ({"headers": {"apns-collapse-id": "x"}}, ".headers.apns-collapse-id"),
            ({"headers": {"apns-channel-id": "AbCd"}}, ".headers.apns-channel-id"),
        ]
        for changes, path in cases:
            response = self.cast(good, {**good, **changes})
            self.assertEqual((response.status, response.json["error"]["path"]), (400, f"broadcasts[1]{path}"), changes)
        message = self.cast({**good, "headers": {"apns-id": ID}}).json["error"]["message"]
        self.assertRegex(message, "allowed are apns-expiration, .*, apns-request-id, apns-topic$")
        self.assertEqual(self.ask("POST", "chess/broadcasts", {"broadcasts": []}).json["error"]["path"], "broadcasts")
        self.assertEqual(self.ask("POST", "chess/broadcasts", {}).status, 400)
        self.assertEqual(self.world.lease(), [])
