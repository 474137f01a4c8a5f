"""Tests for :mod:`txapns.simulator.control`, against ``txapns simulate``."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from txapns import Certificate, Gateway, Notification
from txapns.blocking import APNSClient
from txapns.simulator.control import ControlRefused, NotReceived, SimulatorControl
from txapns.simulator.process import HOST, SimulatorProcess

__all__ = ["PagesTests", "SimulatorControlTests"]

HELLO = Notification(alert="Hello")


class PagesTests(SynchronousTestCase):
    """What has more than one page."""

    def test_received(self) -> None:
        """All pages are read."""
        pages = [{"received": [1, 2], "after": 2, "more": True}, {"received": [3], "after": 9, "more": False}]
        asked = []

        class Paged(SimulatorControl):
            def ask(self, method: str, path: str, body: object = None) -> Any:
                """Return the next page."""
                asked.append(path)
                return pages[len(asked) - 1]

        self.assertEqual(Paged("").received(topic="a"), [1, 2, 3])
        self.assertEqual(asked, [f"/v1/received?topic=a&after={after}&limit=2000" for after in (0, 2)])


@pytest.mark.loopback
class SimulatorControlTests(SynchronousTestCase):
    """A program sends to a simulator, and its test looks and interferes."""

    simulator: ClassVar[SimulatorProcess]

    @classmethod
    def setUpClass(cls) -> None:
        """Start one for all tests."""
        cls.simulator = SimulatorProcess()
        cls.simulator.start()
        cls.addClassCleanup(cls.simulator.stop)

    def setUp(self) -> None:
        """Connect a client, and forget what came in other tests."""
        self.simulator.clear()
        files = self.simulator.files
        gateway = Gateway.http2(HOST, self.simulator.ports["http2"], trust_root=files["ca"].read_bytes())
        self.client = APNSClient(Certificate.from_file(files["certificate"]), gateway)
        self.addCleanup(self.client.close)

    def test_received(self) -> None:
        """What came is told whole, or of one device, topic or push type; once cleared, no more."""
        ann, bob = self.simulator.device("AA" * 32), self.simulator.device()
        self.client.send(HELLO, [ann.token, bob.token])
        self.client.send(Notification.background(), [bob.token])
        control = SimulatorControl(self.simulator.url)
        self.assertEqual(len(control.received()), 3)
        self.assertEqual([push["push_type"] for push in bob.received()], ["alert", "background"])
        self.assertEqual([push["token"] for push in ann.received()], ["aa" * 32])
        self.assertEqual(control.received(topic="com.example.other"), [])
        [push] = control.received(topic=self.simulator.topic, push_type="background")
        self.assertEqual(push["payload"], {"aps": {"content-available": 1}})
        control.clear()
        self.assertEqual(control.received(), [])

    def test_wait(self) -> None:
        """It is waited for as many as are asked for, and those that came before are counted."""
        device = self.simulator.device()
        self.client.send(HELLO, [device.token, self.simulator.device().token])
        sending = threading.Timer(0.2, self.client.send, (HELLO, [device.token]))
        sending.start()
        self.addCleanup(sending.join)
        first, second = device.wait(2)
        self.assertEqual(first["token"], second["token"])
        self.assertLess(first["id"], second["id"])
        self.assertEqual(len(device.wait(1)), 1)

    def test_in_vain(self) -> None:
        """Where too few come in time, the test fails, and is told how many came."""
        device = self.simulator.device()
        self.client.send(HELLO, [device.token])
        begun = time.monotonic()
        failure = self.assertRaises(NotReceived, device.wait, 2, timeout=0.3)
        self.assertGreaterEqual(time.monotonic() - begun, 0.3)
        self.assertEqual(str(failure), "1 of 2 notifications came within 0.3 s")
        self.assertIsInstance(failure, AssertionError)
        self.simulator.clear()
        self.assertRaises(NotReceived, self.simulator.wait, timeout=0)

    def test_devices(self) -> None:
        """A device that is offline gets a push later; one without the app gets none, and Apple says so."""
        device = self.simulator.device()
        device.offline()
        self.assertEqual(device.facts()["state"], "offline")
        self.assertEqual(self.client.send(HELLO, [device.token]).accepted, 1)
        self.assertEqual(device.received()[0]["outcome"], "stored")
        self.assertEqual(device.change(badge=3, permission="provisional")["badge"], 3)
        self.assertEqual(device.change(permission="authorized")["settings"]["permission"], "authorized")
        device.online()
        self.assertEqual(device.received()[0]["outcome"], "banner")
        device.uninstall()
        refused = self.client.send(HELLO, [device.token]).failed[0]
        self.assertEqual((refused.status, refused.reason), (410, "Unregistered"))

    def test_answers(self) -> None:
        """A push is answered as a test wants, so many times, and no longer once cleared."""
        device, other = self.simulator.device(), self.simulator.device()
        device.answer(400, "DeviceTokenNotForTopic", times=1)
        self.assertEqual(self.client.send(HELLO, [other.token]).accepted, 1)
        refused = self.client.send(HELLO, [device.token]).failed[0]
        self.assertEqual((refused.status, refused.reason), (400, "DeviceTokenNotForTopic"))
        self.assertEqual(self.client.send(HELLO, [device.token]).accepted, 1)
        self.simulator.answer(400, "BadTopic")
        self.simulator.clear()
        self.assertEqual(self.client.send(HELLO, [device.token]).accepted, 1)

    def test_refused(self) -> None:
        """What the simulator does not understand is an error that says why."""
        refused = self.assertRaises(ControlRefused, self.simulator.answer, 42)
        self.assertEqual(refused.status, 400)
        self.assertIn("status", str(refused))
        self.assertEqual(self.assertRaises(ControlRefused, self.simulator.ask, "GET", "/v1/none").status, 404)
