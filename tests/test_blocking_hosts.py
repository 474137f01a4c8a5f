"""Tests for :mod:`txapns.blocking` in each kind of program: see :mod:`tests.blocking_job`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import unittest
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.blocking_job import HOSTS, expected
from tests.command.processes import TIMEOUT, SharingSimulator, SimulatorProcess, environment
from tests.processes import started

__all__ = ["HostCase", "HostTests", "MuteTests"]

pytestmark = pytest.mark.loopback

_FORKS = {"child", "fork-pool", "forkserver-pool"}


class HostCase(SynchronousTestCase):
    """Programs that do the job."""

    def received(self) -> int:
        """Tell how many notifications the simulator has received in this test."""
        raise NotImplementedError

    def check(self, lines: list[dict[str, Any]], jobs: int) -> None:
        """Compare."""
        done = [line for line in lines if len(line) > 1]
        self.assertEqual(len(done), jobs)
        for job in done:
            self.assertGreaterEqual(job["received"], expected()["received"])
            self.assertEqual({**job, "received": expected()["received"]}, expected())
        self.assertEqual(self.received(), sum(line["received"] for line in lines))


class HostTests(SharingSimulator, HostCase):
    """A program does the job in each of its places, and exits without closing its last client."""

    def setUp(self) -> None:
        """Remember what other tests sent."""
        super().setUp()
        self._before = self.simulator.last()

    def received(self) -> int:
        """See :class:`HostCase`."""
        return self.simulator.last() - self._before

    def run_in(self, host: str, jobs: int) -> None:
        """Run a program, and compare what it got and what the simulator received."""
        if host in _FORKS and not hasattr(os, "fork"):
            raise unittest.SkipTest("there are no forks here")
        state = str(self.simulator.state.resolve())
        # From Python 3.12 on, any fork of a process with threads gets a warning.
        options = ["-X", "dev", "-W", "ignore:This process:DeprecationWarning"]
        command = [sys.executable, *options, "-m", "tests.blocking_job", host, state]
        ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        self.check(lines, jobs)

    def test_main(self) -> None:
        """The main thread."""
        self.run_in("main", 1)

    def test_threads(self) -> None:
        """Eight threads at once."""
        self.run_in("threads", 8)

    def test_child(self) -> None:
        """A forked child after use in the parent, and the parent again."""
        self.run_in("child", 3)

    def test_fork_pool(self) -> None:
        """A pool of forked processes, which inherit the client."""
        self.run_in("fork-pool", 5)

    @pytest.mark.campaign
    def test_spawn_pool(self) -> None:
        """A pool of processes that start anew, and get the client pickled."""
        self.run_in("spawn-pool", 3)

    @pytest.mark.campaign
    def test_forkserver_pool(self) -> None:
        """A pool of processes that a server forks."""
        self.run_in("forkserver-pool", 4)

    def test_asyncio(self) -> None:
        """In a running event loop, as in a notebook."""
        self.run_in("asyncio", 2)

    def test_twisted(self) -> None:
        """Beside a running reactor."""
        self.run_in("twisted", 1)

    def test_all(self) -> None:
        """Each host has a test."""
        for host in HOSTS:
            self.assertTrue(hasattr(self, f"test_{host.replace('-', '_')}"), host)


class MuteTests(SynchronousTestCase):
    """A server that takes notifications and answers none of them does not keep a program from ending."""

    def run_program(self, body: str, *, interrupt: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a program that is sending ten; Ctrl-C is pressed when it says so."""
        simulator = SimulatorProcess(self, "--delay-ms", "3600000")
        start = f"""
import threading
from tests.blocking_job import HELLO, client_of, tokens
client = client_of({str(simulator.state.resolve())!r}, timeout=600.0)
def send():
    client.send(HELLO, tokens(10))
def under_way():
    while client.status().in_flight < 10:
        pass
    print("under way", flush=True)
"""
        process = started(
            self,
            [sys.executable, "-c", start + body],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "under way\n")
        if interrupt:
            process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=TIMEOUT)
        return subprocess.CompletedProcess(process.args, process.returncode, printed, said)

    def test_exit(self) -> None:
        """An exit waits for its answers a few seconds and no longer."""
        ended = self.run_program("threading.Thread(target=send, daemon=True).start(); under_way()")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_ctrl_c(self) -> None:
        """Nor does a with statement that Ctrl-C ends."""
        body = """
from txapns.blocking import SendInterrupted
threading.Thread(target=under_way, daemon=True).start()
try:
    with client:
        send()
except SendInterrupted as error:
    print(len(error.batch.uncertain))
"""
        ended = self.run_program(body, interrupt=True)
        self.assertEqual((ended.returncode, ended.stdout), (0, "10\n"), ended.stderr)
        self.assertRegex(ended.stderr, r"\A(.*: the connection broke: .*\n)?\Z")
