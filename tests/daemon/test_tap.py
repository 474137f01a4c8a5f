"""Tests for :mod:`txapns.daemon.tap`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.daemon.daemon_case import DaemonCase
from tests.processes import started

__all__ = ["TwistTests"]


@pytest.mark.loopback
@pytest.mark.campaign
class TwistTests(DaemonCase):
    """What ``twist apns`` runs."""

    async def test_twist(self) -> None:
        """The daemon runs as a plugin of Twisted, and ends with status 0 when it is asked to stop."""
        twistd = "from twisted.scripts.twistd import run; run()"
        command = [sys.executable, "-c", twistd, "--nodaemon", f"--pidfile={self.directory}/pid", "apns"]
        command += ["--config", str(self.config)]
        log = self.directory / "twist.log"
        with log.open("w") as file:
            process = started(self, command, stdout=file, stderr=subprocess.STDOUT)
        while "the daemon listens" not in log.read_text() and process.poll() is None:
            await deferLater(reactor, 0.1)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            await deferLater(reactor, 0.01)
        self.assertEqual(await deferToThread(process.wait, 120), 0)
        text = log.read_text()
        self.assertIn("the daemon has stopped", text)
        self.assertNotIn("Traceback", text)

    async def test_unusable(self) -> None:
        """A configuration that cannot be used is reported in a line, by ``twistd`` as well as by ``twist``."""
        twistd = "from twisted.scripts.twistd import run; run()"
        arguments = ["apns", "--config", "none.toml"]
        for command in (["-m", "twisted", *arguments], ["-c", twistd, "--nodaemon", *arguments]):
            process = started(self, [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            output, errors = await deferToThread(process.communicate, timeout=120)
            self.assertEqual((process.returncode, output), (2, b""))
            self.assertEqual(errors, b"none.toml: No such file or directory\n")
