"""Tests for :mod:`txapns.simulator.servers`: what the servers share."""

from __future__ import annotations

from tests.simulator.peers import (
    DEVICE,
    HTTP2Case,
)
from txapns.notification import Notification

__all__ = ["EnvironmentTests"]


class EnvironmentTests(HTTP2Case):
    """Device tokens of one environment."""

    def test_other_environment(self) -> None:
        """A token of the other environment is invalid, over either protocol; in its own it is valid."""
        self.simulator.inbox.environments[bytes.fromhex(DEVICE)] = "sandbox"
        peer = self.connect(self.simulator.certificate())
        self.check(peer, {}, 400, "BadDeviceToken")
        self.check(peer, {":path": "/3/device/" + "ef" * 32}, 200)
        gateway = self.simulator.gateway("binary", barrier=True)
        send = self.simulator.client(gateway).send(Notification(alert="Hi"), [DEVICE])
        self.assertEqual([each.reason for each in self.simulator.result(send).failed.values()], ["InvalidToken"])
        self.simulator.environment = "sandbox"
        self.check(self.connect(self.simulator.certificate()), {}, 200)
