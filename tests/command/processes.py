"""The command in processes of its own, with a simulator or without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests import PROJECT
from tests.checks import invoke
from tests.processes import ForClass, started
from txapns.command.streams import UNUSABLE
from txapns.simulator.control import SimulatorControl

__all__ = ["ANN", "BOB", "DEAD", "SHORT", "TIMEOUT", "TXAPNS", "SharingSimulator", "SimulatorProcess", "WithSimulator"]
__all__ += ["environment", "refused", "run_without", "txapns"]

TXAPNS = (sys.executable, "-m", "txapns")
#: The longest that a command may take, in seconds.
TIMEOUT = 120

ANN, BOB, DEAD, SHORT = "aa" * 32, "bb" * 32, "dd" * 32, "cc" * 20


def environment(**more: str) -> dict[str, str]:
    """Make the environment of commands: this checkout, and no terminal's features."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TXAPNS_PASSPHRASE")}
    return {**inherited, "PYTHONPATH": str(PROJECT), **more}


def txapns(*arguments: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*TXAPNS, *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, env=environment(**more), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def refused(*arguments: str | Path) -> str:
    """Run the command in this process, where it must fail before it starts the reactor; returns its output."""
    result = invoke(*arguments, env={"TXAPNS_PASSPHRASE": None})
    assert result.exit_code == UNUSABLE, result.output
    return result.output


@attrs.frozen
class Running:
    """
    A simulator that runs.

    :ivar state: its state directory.
    :ivar ready: what it said when it was ready.
    """

    state: Path
    ready: dict[str, Any]

    @property
    def control(self) -> SimulatorControl:
        """Its control API."""
        return SimulatorControl(f"http://127.0.0.1:{self.ready['web']}")

    def last(self) -> int:
        """Tell the number of the last notification that it received, which are counted from 1."""
        latest = self.control.ask("GET", "/v1/received?limit=1")["received"]
        return int(latest[0]["id"]) if latest else 0


class SimulatorProcess:
    """
    ``txapns simulate``, listening.

    :ivar running: what tests have of it that do not stop it.
    """

    def __init__(self, case: TestCase | ForClass, *arguments: str) -> None:
        self.state = state = Path(case.mktemp())
        command = [*TXAPNS, "simulate", "--state", str(state), *arguments]
        self._process = started(case, command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self._process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.running = Running(state, self.ready)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, dict[str, Any]]:
        """Stop it; returns the exit status and the counters."""
        self._process.send_signal(by)
        output, _ = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, json.loads(output)


class _WithGateway(SynchronousTestCase):
    """Tests that send to a simulator."""

    simulator: Running | SimulatorProcess

    def file(self, content: str) -> str:
        """Write a file."""
        path = Path(self.mktemp())
        path.write_text(content)
        return str(path)

    def gateway(self, protocol: str) -> tuple[str, ...]:
        """Return the options that name the simulator and its authority."""
        where = f"{protocol}:host=127.0.0.1:port={self.simulator.ready[protocol]}"
        return "--gateway", where, "--trust-root", str(self.simulator.state / "ca.pem")

    def http2(self) -> tuple[str, ...]:
        """Return the options for the provider API, with a provider token."""
        ready = self.simulator.ready
        key = "--key", str(self.simulator.state / "AuthKey.p8"), "--key-id", ready["key_id"]
        return *self.gateway("http2"), *key, "--team-id", ready["team_id"], "--topic", ready["topic"]

    def binary(self) -> tuple[str, ...]:
        """Return the options for the binary protocol, with a certificate."""
        return *self.gateway("binary"), "--certificate", str(self.simulator.state / "client.pem"), "--barrier"


class WithSimulator(_WithGateway):
    """Tests with a simulator, for which :data:`DEAD` is dead."""

    simulator: SimulatorProcess

    def setUp(self) -> None:
        """Start it."""
        self.simulator = SimulatorProcess(self, "--dead", self.file(DEAD))
        self.addCleanup(self.simulator.stop)


class SharingSimulator(_WithGateway):
    """Tests that have one simulator together: none of them can stop it, and none counts what it received."""

    simulator: Running

    @classmethod
    def setUpClass(cls) -> None:
        """Start it."""
        case = ForClass(cls)
        dead = Path(case.mktemp())
        dead.write_text(DEAD)
        cls.simulator = SimulatorProcess(case, "--dead", str(dead)).running


def run_without(package: str, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a process that cannot import a package; returns exit status, standard output and error."""
    hidden = f"import sys; sys.modules[{package!r}] = None"
    program = f"{hidden}; from txapns.command.main import main; main({list(arguments)!r})"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    return result.returncode, result.stdout, result.stderr
