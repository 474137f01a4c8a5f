"""Tests for :mod:`txapns.simulator.process`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.command.processes import TIMEOUT, environment
from tests.ports import reserve
from txapns import Certificate, Gateway, Notification, ProviderToken
from txapns.blocking import APNSClient
from txapns.simulator.process import HOST, PASSPHRASE, SimulatorProcess

__all__ = ["SimulatorProcessTests"]

# A program that is killed while its simulator runs.
KILLED = """
import os, signal, sys
from txapns.simulator import process
simulator = process.SimulatorProcess(options=["--http2", sys.argv[1]])
simulator.start()
print("twisted.internet.reactor" in sys.modules, flush=True)
print(simulator.files["ca"].parent.parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.loopback
class SimulatorProcessTests(SynchronousTestCase):
    """A simulator for tests."""

    def test_sent_to(self) -> None:
        """A program sends with what it is told of ports, files and identifiers; the files are gone in the end."""
        before = os.environ.copy()
        with SimulatorProcess("com.example.chess") as simulator:
            files = dict(simulator.files)
            gateway = Gateway.http2(HOST, simulator.ports["http2"], trust_root=files["ca"].read_bytes())
            key = ProviderToken.from_file(files["key"], simulator.key_id, simulator.team_id)
            for credential in (
                Certificate.from_file(files["certificate"]),
                Certificate.from_file(files["rsa_pkcs12"], PASSPHRASE),
                key,
            ):
                with APNSClient(credential, gateway, topic=simulator.topic) as client:
                    batch = client.send(Notification(alert="Hello"), ["aa" * 32])
                    self.assertEqual(batch.accepted, 1)
        self.assertEqual([path for path in files.values() if path.exists()], [])
        self.assertFalse(files["ca"].parent.parent.exists())
        self.assertEqual(os.environ.copy(), before)

    def test_refused(self) -> None:
        """What the command says of its options is told, and nothing is left; then it can be ended, but not again."""
        simulator = SimulatorProcess(options=["--fault", "none-such"])
        error = self.assertRaises(RuntimeError, simulator.start)
        self.assertIn("none-such", str(error))
        simulator.stop()

    def test_twice(self) -> None:
        """It is started once at a time. When a test has killed it, the next question says so, and it can be stopped."""
        simulator = SimulatorProcess()
        simulator.start()
        self.addCleanup(simulator.stop)
        self.assertRaises(RuntimeError, simulator.start)
        assert simulator._process is not None
        simulator._process.kill()
        error = self.assertRaises(RuntimeError, simulator.clear)
        self.assertEqual(str(error), "txapns simulate has ended, with status -9: it printed nothing")
        simulator.stop()
        self.assertRaises(OSError, simulator.clear)

    def test_killed(self) -> None:
        """It ends with its program, even if that is killed; and the program gets no reactor."""
        [port] = reserve()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(port)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(done.returncode, -signal.SIGKILL)
        reactor, directory = done.stdout.splitlines()
        self.assertEqual(reactor, "False")
        shutil.rmtree(directory)
        deadline = time.monotonic() + TIMEOUT
        while listens(port):
            self.assertLess(time.monotonic(), deadline, "it goes on")
            time.sleep(0.05)


def listens(port: int) -> bool:
    """Tell whether anybody listens at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
    except OSError:
        return False
    return True
