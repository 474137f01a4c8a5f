"""Tests for :mod:`txapns.blocking` in each kind of program: see :mod:`tests.blocking_job`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from typing import Any

import pytest

from tests.blocking_job import HOSTS, expected
from tests.command.processes import TIMEOUT, WithSimulator, environment

__all__ = ["HostCase", "HostTests"]

pytestmark = pytest.mark.loopback

_FORKS = {"child", "fork-pool", "forkserver-pool"}


class HostCase(WithSimulator):
    """Programs that do the job."""

    def check(self, lines: list[dict[str, Any]], jobs: int) -> None:
        """Compare."""
        done = [line for line in lines if len(line) > 1]
        self.assertEqual(len(done), jobs)
        for job in done:
            self.assertGreaterEqual(job["received"], expected()["received"])
            self.assertEqual({**job, "received": expected()["received"]}, expected())
        _, counters = self.simulator.stop()
        self.assertEqual(counters["received"], sum(line["received"] for line in lines))


class HostTests(HostCase):
    """A program does the job in each of its places, and exits without closing its last client."""

    def run_in(self, host: str, jobs: int) -> None:
        """Run a program, and compare what it got and what the simulator received."""
        if host in _FORKS and not hasattr(os, "fork"):
            raise unittest.SkipTest("there are no forks here")
        state = str(self.simulator.state.resolve())
        command = [sys.executable, "-X", "dev", "-m", "tests.blocking_job", host, state]
        ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
        told = [line for line in ended.stderr.splitlines() if "DeprecationWarning" not in line]
        self.assertEqual((ended.returncode, told), (0, []), ended.stderr)
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

    def test_spawn_pool(self) -> None:
        """A pool of processes that start anew, and get the client pickled."""
        self.run_in("spawn-pool", 5)

    def test_forkserver_pool(self) -> None:
        """A pool of processes that a server forks."""
        self.run_in("forkserver-pool", 2)

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
