"""Tests for :mod:`txapns.simulator.web.devices`."""

from __future__ import annotations

from typing import Any

from tests.simulator.web.web_case import WebCase

__all__ = ["DeviceTests"]

A, B = "aa" * 32, "bb" * 32


class DeviceTests(WebCase):
    """``/v1/devices``."""

    def put(self, token: str, **changes: Any) -> Any:
        """Change a device; returns it."""
        response = self.ask("PUT", f"/v1/devices/{token}", changes)
        self.assertEqual(response.status, 200, response.body)
        return response.json

    def last(self) -> Any:
        """Return what came last."""
        return self.get("/v1/received")["received"][-1]

    def test_removed(self) -> None:
        """The token of an app that is removed is dead, for the sender and the feedback service, until it is back."""
        self.assertEqual(self.put(A, state="removed")["state"], "removed")
        self.send(A)
        entry = self.last()
        self.assertEqual((entry["answer"], entry["outcome"]), ({"status": 410, "reason": "Unregistered"}, "refused"))
        self.assertEqual([token for token, _ in self.inbox.unlisted()], [bytes.fromhex(A)])
        self.assertEqual(self.put(A, state="online")["state"], "online")
        self.send(A)
        self.assertEqual(self.last()["outcome"], "banner")

    def test_bounded(self) -> None:
        """The list has not much over 8 MB, and says that it is longer."""
        self.send(*(f"{number:064x}" for number in range(20)))
        self.assertEqual((len(self.get("/v1/devices")["devices"]), self.get("/v1/devices")["more"]), (20, False))
        self.ask("POST", "/v1/strings", {"strings": {"TEXT": "x" * 1_000_000}})
        response = self.ask("GET", "/v1/devices")
        self.assertLess(len(response.body), 9_500_000)
        self.assertEqual((len(response.json["devices"]), response.json["more"]), (8, True))

    def test_huge(self) -> None:
        """What is kept of thousands of devices is short."""
        response = self.ask("PUT", f"/v1/devices/{A}", {"topic": "x" * 40_000})
        self.assertEqual((response.status, self.get(f"/v1/devices/{A}")["topic"]), (413, ""))
        self.assertEqual(self.ask("POST", "/v1/answers", {"status": 500, "topic": "x" * 40_000}).status, 413)

    def test_environment(self) -> None:
        """A token of the other environment is refused."""
        self.put(A, environment="sandbox")
        self.send(A)
        self.assertEqual(self.last()["answer"], {"status": 400, "reason": "BadDeviceToken"})
        self.assertEqual(self.get(f"/v1/devices/{A}")["environment"], "sandbox")

    def test_offline(self) -> None:
        """What comes while a device is offline waits, and what becomes of it is told when it is back."""
        self.put(A, state="offline")
        self.send(A, expiration=int(self.simulator.wall.now()) + 3_600)
        self.assertEqual((self.last()["outcome"], self.last()["device"]["stored"]), ("stored", 1))
        self.put(A, state="online")
        entry = self.last()
        self.assertEqual((entry["outcome"], entry["presentation"]["body"]), ("banner", "Hi"))
        self.assertEqual((entry["device"]["shown"], entry["answer"]["status"]), (1, 200))

    def test_settings(self) -> None:
        """Fields of the device, its settings and its app are changed by name, or as objects."""
        self.put(A, permission="denied")
        self.send(A)
        self.assertNotEqual(self.last()["outcome"], "banner")
        device = self.put(A, permission="authorized", badge=3, settings={"focus": True}, app={"categories": ["INVITE"]})
        self.assertEqual(
            (device["badge"], device["settings"]["focus"], device["app"]["categories"]), (3, True, ["INVITE"])
        )
        self.assertEqual(device["settings"]["permission"], "authorized")
        self.assertEqual(self.get(f"/v1/devices/{A.upper()}"), device)

    def test_refused(self) -> None:
        """What is unknown, or not of its type, is refused, and the path says where it is; nothing is changed."""
        for changes, path in (
            ({"colour": "red"}, "colour"),
            ({"badge": "3"}, "badge"),
            ({"badge": True}, "badge"),
            ({"locked": 1}, "locked"),
            ({"permission": "perhaps"}, "settings.permission"),
            ({"settings": {"focus": None}}, "settings.focus"),
            ({"settings": 3}, "settings"),
            ({"state": "lost"}, "state"),
            ({"version": [17]}, "version"),
            ({"shown": [{}]}, "shown[0]"),
            ({"sounds": {"a.caf": "long"}}, "app.sounds.a.caf"),
        ):
            response = self.ask("PUT", f"/v1/devices/{A}", changes)
            self.assertEqual((response.status, response.json["error"]["path"]), (400, path), changes)
        self.assertEqual(self.ask("PUT", "/v1/devices/zz", {}).status, 400)
        self.assertEqual(self.ask("PUT", f"/v1/devices/{A}", b"{}", {"Content-Type": "text/plain"}).status, 415)
        self.assertEqual(self.inbox.devices, {})

    def test_not_finite(self) -> None:
        """A time that is no number, or too great a one, changes nothing."""
        for number in (float("nan"), float("inf"), float("-inf"), 10**400):
            for changes in ({"removed_since": number}, {"background_pushes": [number]}):
                response = self.ask("PUT", f"/v1/devices/{A}", changes)
                self.assertEqual((response.status, response.json["error"]["code"]), (400, "malformed"), changes)
        self.assertEqual(self.get(f"/v1/devices/{A}")["state"], "online")

    def test_listed(self) -> None:
        """Devices are listed that something was sent to, or that were changed."""
        self.put(B, badge=1)
        self.send(A)
        tokens = {device["token"] for device in self.get("/v1/devices")["devices"]}
        self.assertEqual(tokens, {A, B})

    def test_activity(self) -> None:
        """A push that starts a Live Activity makes a token, whose updates reach the same device."""
        aps = {
            "event": "start",
            "timestamp": int(self.simulator.wall.now()),
            "attributes-type": "Delivery",
            "attributes": {},
            "content-state": {"stops": 3},
            "alert": {"title": "On its way", "body": "Three stops"},
        }
        headers = {"apns-push-type": "liveactivity", "apns-topic": "com.example.app.push-type.liveactivity"}
        self.ask("POST", "/v1/push", {"token": A, "headers": headers, "payload": {"aps": aps}})
        activity = self.last()["presentation"]["activity"]
        self.assertEqual((self.last()["outcome"], activity["state"]), ("activity started", "active"))
        aps = {"event": "update", "timestamp": aps["timestamp"] + 1, "content-state": {"stops": 2}}
        self.ask("POST", "/v1/push", {"token": activity["token"], "headers": headers, "payload": {"aps": aps}})
        self.assertEqual(self.last()["outcome"], "activity updated")
        self.assertEqual(self.get(f"/v1/devices/{A}")["activities"][0]["content"], {"stops": 2})
        self.assertEqual(self.last()["device"]["activities"], 1)
