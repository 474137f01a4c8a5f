"""
Clients of others, unmodified, against ``txapns simulate``: what came of it is asked of the control API alone, as tests
in any language would.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from typing import Any, ClassVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.programs import NODE_ENVIRONMENT, command
from txapns.simulator.process import SimulatorProcess

__all__ = ["AioapnsTests", "Apns2Tests", "NodeApnTests"]

ALERT = "Grüße, Ольга! 🦊"
SENT = {
    "alert": ALERT,
    "badge": 3,
    "sound": "default",
    "push_type": "alert",
    "priority": 5,
    "expiration": 2_000_000_000,
    "time_to_live": 3_600,
    "collapse_id": "dinner",
}
TIMEOUT = 120


class ClientTests(SynchronousTestCase):
    """
    What the tests of all clients have in common.

    :cvar driver: the file of its driver.
    """

    driver: ClassVar[str]
    simulator: ClassVar[SimulatorProcess]

    @classmethod
    def setUpClass(cls) -> None:
        """Start the simulator, where the client is installed."""
        cls.command = command(cls.driver)
        cls.simulator = SimulatorProcess()
        cls.simulator.start()
        cls.addClassCleanup(cls.simulator.stop)

    def setUp(self) -> None:
        """Forget what the others sent."""
        self.simulator.clear()

    def send(self, mode: str, *tokens: str) -> dict[str, Any]:
        """Have the client send; returns what it says."""
        simulator = self.simulator
        given = {
            **SENT,
            "host": "127.0.0.1",
            "http2": simulator.ports["http2"],
            "topic": simulator.topic,
            "mode": mode,
            "ca": str(simulator.files["ca"]),
            "certificate": str(simulator.files["rsa_certificate"]),
            "p8": str(simulator.files["key"]),
            "key_id": simulator.key_id,
            "team_id": simulator.team_id,
            "tokens": [(token, str(uuid.uuid4())) for token in tokens],
        }
        variables = {"NODE_PATH": str(NODE_ENVIRONMENT / "node_modules"), "NODE_EXTRA_CA_CERTS": str(given["ca"])}
        done = subprocess.run(
            self.command,
            input=json.dumps(given) + "\n",
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def check(self, mode: str) -> None:
        """Two phones get a notification, one of them later; the client learns which device has no app any longer."""
        shown, away, gone, other = (self.simulator.device() for _ in range(4))
        away.offline()
        begun = time.time()
        gone.uninstall()
        other.answer(400, "DeviceTokenNotForTopic", times=1)
        said = self.send(mode, shown.token, away.token, gone.token, other.token)
        self.assertEqual(sorted(said["accepted"]), sorted([shown.token, away.token]))
        self.check_refused(said["refused"], gone.token, other.token, begun)
        answers = [200, 200, 410, 400]
        for device, status in zip((shown, away, gone, other), answers, strict=True):
            [push] = device.received()
            self.assertEqual(push["answer"]["status"], status)
            self.check_push(push, mode)
        self.assertEqual(len(self.simulator.received()), 4)
        self.assertEqual([push["outcome"] for push in shown.received()], ["banner"])
        self.assertEqual([push["outcome"] for push in away.received()], ["stored"])
        away.online()
        self.assertEqual([push["outcome"] for push in away.received()], ["banner"])
        self.assertEqual(self.send(mode, other.token)["accepted"], [other.token])

    def check_refused(self, refused: list[list[Any]], gone: str, other: str, begun: float) -> None:
        """The client tells both refusals, and that of the one without the app with its time, in milliseconds."""
        told = {token: (status, reason, at) for token, status, reason, at in refused}
        self.assertEqual(told.keys(), {gone, other})
        self.assertEqual(told[other][:2], (400, "DeviceTokenNotForTopic"))
        status, reason, at = told[gone]
        self.assertEqual((status, reason), (410, "Unregistered"))
        self.assertTrue(begun - 1 <= at / 1_000 <= time.time() + 1)

    def check_push(self, push: dict[str, Any], mode: str) -> None:
        """It came as it was given."""
        simulator = self.simulator
        self.assertEqual(push["payload"], {"aps": {"alert": ALERT, "badge": 3, "sound": "default"}})
        self.assertEqual((push["topic"], push["push_type"]), (simulator.topic, "alert"))
        fields = {name: push["headers"].get(name) for name in ("apns-priority", "apns-collapse-id")}
        self.assertEqual(fields, {"apns-priority": "5", "apns-collapse-id": "dinner"})
        if push["answer"]["status"] == 200:
            self.assertEqual([each for each in push["findings"] if each["severity"] == "error"], [])
        if mode == "token":
            claims = push["provider_token"]
            self.assertEqual((claims["key_id"], claims["team_id"]), (simulator.key_id, simulator.team_id))
            self.assertIsNone(push["client"]["certificate"])
        else:
            self.assertIsNone(push["provider_token"])
            self.assertEqual(push["client"]["certificate"]["topics"], [simulator.topic])


@pytest.mark.interop
class AioapnsTests(ClientTests):
    """aioapns 4.0 of PyPI."""

    driver = "drive_aioapns.py"

    def test_provider_token(self) -> None:
        """It authenticates with a provider token."""
        self.check("token")

    def test_certificate(self) -> None:
        """It authenticates with a certificate."""
        self.check("certificate")


@pytest.mark.interop
class NodeApnTests(ClientTests):
    """@parse/node-apn 8.1.0 of npm."""

    driver = "drive_node_apn.js"

    def test_provider_token(self) -> None:
        """It authenticates with a provider token."""
        self.check("token")

    def test_certificate(self) -> None:
        """It authenticates with a certificate."""
        self.check("certificate")


@pytest.mark.interop
class Apns2Tests(ClientTests):
    """apns2 12.2.0 of npm, which knows provider tokens only."""

    driver = "drive_apns2.js"

    def test_provider_token(self) -> None:
        """It authenticates with a provider token."""
        self.check("token")
