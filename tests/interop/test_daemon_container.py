"""
The container of ``contrib/Containerfile``, built and run by podman: run ``make container``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from unittest import SkipTest, TestCase

import pytest

from tests.interop.test_simulator_container import PATIENCE, podman
from txapns.simulator import Authority

__all__ = ["DaemonContainerTests"]

IMAGE = os.environ.get("TXAPNS_TEST_IMAGE")
NAME = "txapns-test"
#: The user in the image.
USER = 10_001

CONFIGURATION = """
database.path = "/var/lib/txapns/apns.db"
secrets.master_key_file = "/var/lib/txapns/master.key"
intake.native = { listen = "tcp:port=8080", allow_without_tls = true }
admin = { listen = "tcp:port=8090", allow_without_tls = true, keys = true }

[apps.chess]
gateway = "http2:host=localhost:port=1"
key = "AuthKey.p8"
key_id = "ABC123DEFG"
team_id = "DEF123GHIJ"
topic = "com.example.chess"
"""


@pytest.mark.interop
class DaemonContainerTests(TestCase):
    """The daemon in a container, as its file says."""

    def setUp(self) -> None:
        """Write its configuration, for the user in the image."""
        if IMAGE is None or shutil.which("podman") is None:
            raise SkipTest("there are no containers: run make container")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.etc, self.state = Path(directory.name) / "etc", Path(directory.name) / "lib"
        for each in (Path(directory.name), self.etc, self.state):
            each.mkdir(exist_ok=True)
            each.chmod(0o755)
        for name, content in (("apns.toml", CONFIGURATION.encode()), ("AuthKey.p8", Authority().p8)):
            (self.etc / name).write_bytes(content)
            (self.etc / name).chmod(0o600)
            os.chown(self.etc / name, USER, USER)
        os.chown(self.state, USER, USER)

    def start(self) -> None:
        """Start it, and wait until it is alive."""
        assert IMAGE is not None
        guards = "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"
        volumes = f"--volume={self.etc}:/etc/txapns:ro", f"--volume={self.state}:/var/lib/txapns"
        ports = "--publish=127.0.0.1:8080:8080", "--publish=127.0.0.1:8090:8090"
        podman("run", "--detach", "--name", NAME, *guards, *volumes, *ports, IMAGE)
        self.addCleanup(podman, "rm", "--force", NAME)
        end = time.monotonic() + PATIENCE
        while ask("http://127.0.0.1:8090/healthz")[0] != 200:
            if time.monotonic() > end:
                raise AssertionError(podman("logs", NAME))
            time.sleep(0.1)

    def test_published(self) -> None:
        """It is alive and ready, accepts a notification with a key that a command made, and its end is orderly."""
        self.start()
        self.assertEqual(ask("http://127.0.0.1:8090/readyz"), (200, {"ready": True}))
        key = podman("exec", NAME, "txapns", "keys", "add", "web", "--all-apps").strip()
        body = {"notifications": [{"tokens": ["aa" * 32], "payload": {"aps": {"alert": "Hi"}}}]}
        end = time.monotonic() + PATIENCE
        while (found := ask("http://127.0.0.1:8080/v1/apps/chess/notifications", body, key))[0] == 401:
            self.assertLess(time.monotonic(), end)  # the daemon polls for keys
            time.sleep(0.1)
        self.assertEqual(found[0], 202, found)
        self.assertEqual(ask("http://127.0.0.1:8080/v1/openapi.json")[0], 401)
        self.assertEqual(self.state.joinpath("apns.db").stat().st_uid, USER)
        podman("stop", NAME)
        self.assertEqual(podman("inspect", "--format", "{{.State.ExitCode}}", NAME).strip(), "0")


def ask(url: str, body: object = None, key: str = "") -> tuple[int, Any]:
    """Send a request; returns the status and the body, 0 if nothing answers."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            content = response.read()
            return response.status, json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None
    except OSError:
        return 0, None
