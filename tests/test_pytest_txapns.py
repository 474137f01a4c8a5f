"""Tests for the plugin for pytest: ``pytest_txapns``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.command.processes import TIMEOUT, environment

__all__ = ["PluginTests"]

WITHOUT = """
import sys

def test_without():
    assert "pytest_txapns" in sys.modules
    assert not {"txapns", "twisted", "OpenSSL", "cryptography"} & set(sys.modules)
"""

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def apns_topic():
    return "com.example.chess"

@pytest.fixture(scope="session")
def apns_simulator_options():
    return ["--max-concurrent-streams", "7"]
"""

WITH = """
import sys

import pytest

from txapns import Certificate, Gateway, Notification
from txapns.blocking import APNSClient

@pytest.mark.parametrize("number", range(2))
def test_with(apns_simulator, apns_device, number):
    trust_root = apns_simulator.files["ca"].read_bytes()
    gateway = Gateway.http2("localhost", apns_simulator.ports["http2"], trust_root=trust_root)
    certificate = Certificate.from_file(apns_simulator.files["certificate"])
    assert certificate.topics == ("com.example.chess",)
    with APNSClient(certificate, gateway) as client:
        assert client.send(Notification(alert="Hello"), [apns_device.token]).accepted == 1
    [push] = apns_device.wait()
    assert push["payload"] == {"aps": {"alert": "Hello"}}
    assert apns_simulator.received() == [push]
    assert "twisted.internet.reactor" not in sys.modules
"""


@pytest.mark.loopback
class PluginTests(SynchronousTestCase):
    """Runs of pytest where txapns is installed."""

    def run_tests(self, source: str, *options: str, conftest: str = "") -> str:
        """Run tests in a directory of their own, where they must pass; returns what pytest printed."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "conftest.py").write_text(conftest)
        (directory / "test_app.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", "scratch"]
        command += ["-p", "no:schemathesis", "-W", "error", *options]
        done = subprocess.run(
            command, cwd=directory, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def test_without(self) -> None:
        """Where no test asks for a fixture, nothing of txapns, Twisted or TLS is imported."""
        self.assertIn("1 passed", self.run_tests(WITHOUT))

    def test_with(self) -> None:
        """The simulator has the options of the tests' own fixtures, and each worker of pytest-xdist has its own."""
        self.assertIn("2 passed", self.run_tests(WITH, "-n", "2", conftest=CONFTEST))
