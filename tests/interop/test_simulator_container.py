"""
The container of ``contrib/Containerfile.simulator``, built and run by podman: run ``make container``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from unittest import SkipTest, TestCase

import pytest

from txapns import Gateway, Notification, ProviderToken
from txapns.blocking import APNSClient
from txapns.simulator.control import SimulatorControl

__all__ = ["SimulatorContainerTests"]

IMAGE = os.environ.get("TXAPNS_TEST_IMAGE")
NAME = "apns-simulator-test"
PATIENCE = 60.0
#: What the tests beside it run, in a container of their own.
ASK = "import urllib.request as u; print(u.urlopen('http://simulator:8025/v1/received').read().decode())"
SHAKE_HANDS = (
    "import socket, ssl; context = ssl.create_default_context(cafile='/credentials/ca.pem');"
    "context.wrap_socket(socket.create_connection(('simulator', 2197)), server_hostname='simulator')"
)


def podman(*arguments: str) -> str:
    """Run podman."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise AssertionError(f"podman {' '.join(arguments)}: {done.stderr}")
    return done.stdout


@pytest.mark.interop
class SimulatorContainerTests(TestCase):
    """The simulator in a container, with published ports."""

    def setUp(self) -> None:
        """Make its volume, and its network."""
        if IMAGE is None or shutil.which("podman") is None:
            raise SkipTest("there are no containers: run make container")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = Path(directory.name)
        podman("network", "create", NAME)
        self.addCleanup(podman, "network", "rm", "--force", NAME)

    def start(self) -> None:
        """Start it as the file says, and wait until it listens."""
        assert IMAGE is not None
        ports = "--publish=127.0.0.1:2197:2197", "--publish=127.0.0.1:8025:8025"
        where = "--network", f"{NAME}:alias=simulator", "--volume", f"{self.state}:/state"
        podman("run", "--detach", "--name", NAME, "--cap-drop=all", *ports, *where, IMAGE, "--name", "simulator")
        self.addCleanup(podman, "rm", "--force", NAME)
        end = time.monotonic() + PATIENCE
        while not (self.state / "simulator.json").exists():
            if time.monotonic() > end:
                raise AssertionError(podman("logs", NAME))
            time.sleep(0.1)

    def test_published(self) -> None:
        """Programs of this machine and of other containers reach it, and its end is orderly."""
        self.start()
        simulator = SimulatorControl("http://127.0.0.1:8025")
        about = simulator.about()
        self.assertEqual((about["names"], about["ports"]["http2"]), (["localhost", "simulator"], 2197))
        with urllib.request.urlopen(f"{simulator.url}/") as page:
            self.assertIn("<title>Inbox", page.read().decode())

        gateway = Gateway.http2("localhost", 2197, trust_root=about["ca"])
        key = ProviderToken.from_file(self.state / "AuthKey.p8", about["key_id"], about["team_id"])
        with APNSClient(key, gateway, topic=about["topic"]) as client:
            self.assertEqual(client.send(Notification(alert="Hello"), ["aa" * 32]).accepted, 1)
        self.assertEqual(simulator.received()[0]["outcome"], "banner")

        assert IMAGE is not None
        beside = "run", "--rm", "--network", NAME, "--volume", f"{self.state}:/credentials:ro", "--entrypoint=python"
        self.assertEqual(json.loads(podman(*beside, IMAGE, "-c", ASK)), simulator_answer(simulator))
        podman(*beside, IMAGE, "-c", SHAKE_HANDS)

        podman("stop", NAME)
        last = podman("logs", NAME).splitlines()[-1]
        self.assertEqual(json.loads(last)["accepted"], 1)
        self.assertEqual(podman("inspect", "--format", "{{.State.ExitCode}}", NAME).strip(), "0")


def simulator_answer(simulator: SimulatorControl) -> object:
    """Ask what came."""
    return simulator.ask("GET", "/v1/received")
