"""Blocking clients in programs that run under the servers, task queues and event loops of others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SkipTest

from tests import PROJECT
from tests.aio.case import EXPECTED
from tests.command.processes import DEAD, TIMEOUT, SimulatorProcess, WithSimulator, environment
from tests.ports import reserve
from tests.processes import started
from tests.test_blocking_hosts import HostCase
from txapns import Batch

__all__ = ["CeleryTests", "GunicornTests", "ProgramTests", "UvicornTests"]

pytestmark = [pytest.mark.interop, pytest.mark.loopback]

FRAMEWORKS = PROJECT / ".venv/interop-frameworks"


class FrameworkCase(WithSimulator, HostCase):
    """Tests that need the frameworks."""

    def setUp(self) -> None:
        """Find them."""
        if not (FRAMEWORKS / "installed").exists():
            raise SkipTest("not installed: run make interop")
        super().setUp()

    def received(self) -> int:
        """Stop the simulator; returns how many notifications it received."""
        _, counters = self.simulator.stop()
        count: int = counters["received"]
        return count

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a program with the frameworks."""
        return environment(PYTHONPATH=f"{FRAMEWORKS}:{PROJECT}", SIMULATOR=str(self.simulator.state.resolve()), **more)

    def run_driver(self, driver: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a driver to its end."""
        command = [sys.executable, "-m", f"tests.interop.{driver}", *arguments]
        variables = self.variables(**more)
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    def lines(self, ended: subprocess.CompletedProcess[str]) -> list[Any]:
        """Read what a program printed; it must have ended well."""
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def ends(self, process: subprocess.Popen[Any], by: signal.Signals) -> str:
        """End a program; returns what it wrote to its standard error."""
        process.send_signal(by)
        _, said = process.communicate(timeout=TIMEOUT)
        return str(said)


class ProgramTests(FrameworkCase):
    """Programs that end by themselves."""

    def test_crochet(self) -> None:
        """Beside crochet, which still knows its own thread, and logs each message once."""
        self.check(self.lines(self.run_driver("drive_crochet", str(self.simulator.state.resolve()))), 2)

    def green(self, name: str) -> None:
        """Run under gevent or eventlet: eight green threads, while another one goes on."""
        self.check(self.lines(self.run_driver("drive_green", name, str(self.simulator.state.resolve()))), 8)

    def test_gevent(self) -> None:
        """Under gevent."""
        self.green("gevent")

    def test_eventlet(self) -> None:
        """Under eventlet."""
        self.green("eventlet")

    def test_patched_late(self) -> None:
        """If these come after Twisted, the first use says so."""
        for name in ("late-gevent", "late-eventlet"):
            ended = self.run_driver("drive_green", name, str(self.simulator.state.resolve()))
            self.assertEqual(ended.returncode, 3, ended.stderr)
            self.assertIn("patched the program after Twisted was imported", ended.stdout)


class GunicornTests(FrameworkCase):
    """Two workers of gunicorn with four threads each."""

    def serve(self, *options: str, by: signal.Signals = signal.SIGTERM, **more: str) -> None:
        """Serve 16 requests, eight at a time."""
        [port] = reserve()
        command = [sys.executable, "-m", "gunicorn", "-w2", "-b", f"127.0.0.1:{port}", *options]
        command += ["--graceful-timeout", "3600"]  # a worker that does not end by itself is not killed
        command += ["-c", "python:tests.interop.drive_gunicorn", "tests.interop.drive_gunicorn:application"]
        variables = self.variables(**more)
        process = started(self, command, env=variables, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        workers = 0
        while workers < 2:
            line = process.stderr.readline()
            self.assertTrue(line, "it ended")
            workers += "Booting worker" in line

        def ask(_: object) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT) as answer:
                return json.load(answer)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(16)))
        for answer in answers:
            del answer["process"]
        said = self.ends(process, by)
        self.assertEqual((process.returncode, "Traceback" in said), (0, False), said)
        self.assertEqual(said.count("closed\n"), 2 if "CLOSE" in more else 0, said)
        self.check([*answers, {"received": 10 if "USE" in more else 0}], 16)

    def test_threads(self) -> None:
        """Each worker has a client of its own, and closes it in the end."""
        self.serve("--threads", "4", CLOSE="1")

    def test_preload(self) -> None:
        """The workers inherit the client from the master, which has used it; Ctrl-C ends them all."""
        self.serve("--threads", "4", "--preload", by=signal.SIGINT, USE="1")

    def test_gevent(self) -> None:
        """Workers that gevent patches."""
        self.serve("-k", "gevent")


class UvicornTests(FrameworkCase):
    """An application of FastAPI under uvicorn."""

    def serve(self, loop: str) -> None:
        """Do each case in a request; the server ends while the last one still sends."""
        [port] = reserve()
        command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-m", "uvicorn", "--loop", loop]
        command += ["--port", str(port), "tests.interop.drive_uvicorn:app"]
        process = started(self, command, env=self.variables(), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        for case, outcome in EXPECTED.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{case}", timeout=TIMEOUT) as answer:
                self.assertEqual(json.load(answer), outcome, case)
        said = self.ends(process, signal.SIGINT)
        self.assertIn("Application shutdown complete", said)
        self.assertEqual([word for word in ("Traceback", "Warning", "Timeout") if word in said], [], said)

    def test_asyncio(self) -> None:
        """On asyncio's loop."""
        self.serve("asyncio")

    def test_uvloop(self) -> None:
        """On uvloop's."""
        self.serve("uvloop")


class CeleryTests(FrameworkCase):
    """A worker of Celery, with messages in files."""

    def worker(self, pool: str, **more: str) -> tuple[subprocess.Popen[Any], dict[str, str]]:
        """Start a worker."""
        place = Path(self.mktemp())
        place.mkdir()
        variables = {"QUEUE": str(place.resolve()), **more}
        command = [sys.executable, "-m", "celery", "-A", "tests.interop.drive_celery", "worker", "--pool", pool, "-c2"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
        process = started(self, command, env=self.variables(**variables), stderr=subprocess.PIPE, text=True)
        return process, variables

    def work(self, pool: str, closed: int, **more: str) -> None:
        """Have tasks done by a worker in which so many processes close their client."""
        process, variables = self.worker(pool, **more)
        *jobs, dead = self.lines(self.run_driver("drive_celery", **variables))
        said = self.ends(process, signal.SIGTERM)
        self.assertEqual((process.returncode, "Traceback" in said), (0, False), said)
        self.assertEqual(said.count("closed\n"), closed, said)
        for job in jobs:
            del job["process"]
        self.assertEqual(Batch.from_dict(dead).failed["dora"].token, DEAD)
        self.check([*jobs, {"received": 11}], 6)

    def test_prefork(self) -> None:
        """Processes that inherit the client from the parent, which has used it. Batches come back as JSON."""
        self.work("prefork", 2)

    def test_left(self) -> None:
        """The same without closing it."""
        self.work("prefork", 0, LEAVE="1")

    def test_threads(self) -> None:
        """Threads of one process."""
        self.work("threads", 0)

    def test_time_limit(self) -> None:
        """When a task has taken too long, the batch is known as far as it came, and the next task goes on."""
        self.simulator.stop()
        self.simulator = SimulatorProcess(self, "--delay-ms", "6000", "--dead", self.file(DEAD))
        process, variables = self.worker("prefork")
        [known] = self.lines(self.run_driver("drive_celery", "limited", **variables))
        self.ends(process, signal.SIGTERM)
        self.assertEqual(known, [10, 10])
