"""Tests for :mod:`txapns.devices.broadcasts`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txapns.devices import Answer, Credential, Push
from txapns.devices.broadcasts import answer_broadcast
from txapns.devices.rules.refusal import ACCEPTED

__all__ = ["BroadcastTests"]

APP, CHANNEL = "com.example.app", "dHN0LXNyY2gtY2hubA=="
GOOD = {"apns-push-type": "LiveActivity", "apns-expiration": "0", "apns-priority": "10"}


class BroadcastTests(SynchronousTestCase):
    """Broadcasts and their answers."""

    def ask(self, changed: dict[str, str | None], payload: bytes = b"{}", **facts: Any) -> Answer:
        """Find the answer to a good broadcast that differs in something."""
        headers = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
        app, channel = facts.pop("app", APP), facts.pop("channel", CHANNEL)
        return answer_broadcast(
            Push(headers, payload, channel=channel), app, Credential((APP,)), **{"policy": 1, **facts}
        )

    def test_good(self) -> None:
        """A good broadcast is accepted, whichever way its push type is spelled."""
        for changed in ({}, {"apns-push-type": "liveactivity"}, {"apns-expiration": "99"}, {"apns-priority": "1"}):
            self.assertEqual(self.ask({**changed}), ACCEPTED)

    def test_faults(self) -> None:
        """Each fault has its answer, and the first one wins."""
        faults: list[tuple[dict[str, str | None], dict[str, Any], int, str]] = [
            ({}, {"channel": ""}, 400, "MissingChannelId"),
            ({}, {"channel": "?"}, 400, "BadChannelId"),
            ({}, {"channel": "A" * 132}, 400, "BadChannelId"),
            ({"apns-push-type": None}, {}, 400, "MissingPushType"),
            ({"apns-push-type": "alert"}, {}, 400, "InvalidPushType"),
            ({"apns-expiration": None}, {}, 400, "BadExpirationDate"),
            ({"apns-expiration": "5"}, {"policy": 0}, 400, "BadExpirationDate"),
            ({"apns-priority": None}, {}, 400, "BadPriority"),
            ({}, {"app": "com.other"}, 403, "TopicMismatch"),
            ({}, {"app": f"{APP}.voip"}, 400, "TopicDisallowed"),
            ({}, {"enabled": False}, 400, "FeatureNotEnabled"),
            ({}, {"policy": None}, 400, "ChannelNotRegistered"),
            ({}, {"payload": b""}, 400, "PayloadEmpty"),
            ({}, {"payload": b"x" * 5_121}, 413, "PayloadTooLarge"),
            ({}, {"payload": b"[]"}, 400, "PayloadEmpty"),
        ]
        later: dict[str, Any] = {}
        for changed, facts, status, reason in reversed(faults):
            self.assertEqual(self.ask(changed, **facts), Answer(status, reason))
            later = {**later, **facts}
            self.assertEqual(self.ask(changed, **later), Answer(status, reason))
