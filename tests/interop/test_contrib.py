"""
What is in contrib: HAProxy runs with its configuration, the manifests fit their schemas, and the programs for which the
alerts and the unit are find nothing wrong with them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests import PROJECT
from tests.daemon.admin_world import AdminWorld, Nodes
from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from tests.daemon.dispatch_world import DEAD, token
from tests.interop.programs import Program
from tests.interop.test_frameworks import FRAMEWORKS
from tests.ports import reserve
from txapns.daemon.config.configuration import Configuration
from txapns.simulator import Simulator

__all__ = ["HAProxyTests", "ManifestTests", "PrometheusTests", "UnitTests"]

ALERTS = PROJECT / "contrib/alerts.yaml"
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
BODY = {"wait": True, "notifications": [{"tokens": ["aa" * 32], "payload": {"aps": {"badge": 1}}}]}

# Validates what is on its standard input, by the schemas of others.
VALIDATE = """
import importlib.util, json, pathlib, sys, jsonschema, kubernetes_validate
found = json.load(sys.stdin)
for each in found["kubernetes"]:
    kubernetes_validate.validate(each, "1.30", strict=True)
schemas = pathlib.Path(importlib.util.find_spec("check_jsonschema").origin).parent / "builtin_schemas/vendor"
for each in found["compose"]:
    jsonschema.validate(each, json.loads((schemas / "compose-spec.json").read_text()))
"""


@pytest.mark.interop
class HAProxyTests(TestCase):
    """``contrib/haproxy.cfg`` in front of two daemons."""

    def setUp(self) -> None:
        """Skip this where there is no HAProxy."""
        if HAPROXY is None:
            raise SkipTest("haproxy is not installed")

    async def test_killed(self) -> None:
        """After one daemon is killed, callers notice nothing: the other gets all requests."""
        simulator = Simulator(reactor)
        port = listen(simulator)
        self.addCleanup(port.stopListening)
        daemons = [await self.daemon(simulator, port.getHost().port) for _ in range(2)]
        front = await self.front(daemons)
        for _ in range(20):
            self.assertEqual(await self.send(front), 200)
        killed, other = daemons
        await killed.end(signal.SIGKILL)
        for _ in range(40):
            self.assertEqual(await self.send(front), 200)
        self.assertEqual(len(simulator.inbox.received), 61)
        self.assertEqual(json.loads(await other.read("/readyz")), {"ready": True, "reasons": []})

    async def daemon(self, simulator: Simulator, port: int) -> DaemonProcess:
        """Start a daemon, which ends with the test."""
        directory = Path(self.mktemp())
        directory.mkdir()
        daemon = DaemonProcess(configuration(directory, simulator, port))
        await daemon.start()
        self.addCleanup(lambda: daemon.end() if daemon.running else None)
        return daemon

    async def front(self, daemons: list[DaemonProcess]) -> int:
        """Start HAProxy in front of daemons, and send one notification; returns the port of the HTTP API."""

        def server(found: re.Match[str]) -> str:
            daemon = daemons[int(found[1]) - 1]
            return f"127.0.0.1:{daemon.port('intake.native')} check port {daemon.port('admin')}"

        text = (PROJECT / "contrib/haproxy.cfg").read_text()
        text, count = re.subn(r"10\.0\.0\.(\d):\d+ check port 8090", server, text)
        self.assertEqual(count, 12)
        # A node that a busy machine does not let run for some seconds is not down.
        text = text.replace("default-server", "timeout check 120s\n    default-server")
        ports = dict(zip(re.findall(r"bind :(\d+)", text), reserve(6), strict=True))
        text = re.sub(r"bind :(\d+)", lambda found: f"bind 127.0.0.1:{ports[found[1]]}", text)
        config = Path(self.mktemp())
        config.write_text(text)
        assert HAPROXY is not None
        program = Program(reactor, [HAPROXY, "-db", "-f", str(config)])
        self.addCleanup(lambda: program.ended)
        self.addCleanup(program.stop)
        while await self.send(ports["8080"]) != 200:
            self.assertFalse(program.ended.called, program.complained)
            await deferLater(reactor, 0.1)
        return ports["8080"]

    async def send(self, port: int) -> int:
        """Send a notification; returns the status, 0 if nothing listens."""
        status: int = await deferToThread(_send, port)
        return status


def _send(port: int) -> int:
    url, headers = f"http://127.0.0.1:{port}/v1/apps/chess/notifications", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(BODY).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.mark.interop
class ManifestTests(SynchronousTestCase):
    """``contrib/kubernetes.yaml``, ``contrib/compose.yaml`` and ``contrib/compose-simulator.yaml``."""

    def setUp(self) -> None:
        """Read them."""
        yaml = pytest.importorskip("yaml")
        self.kubernetes: list[Any] = list(yaml.safe_load_all((PROJECT / "contrib/kubernetes.yaml").read_text()))
        self.compose: Any = yaml.safe_load((PROJECT / "contrib/compose.yaml").read_text())
        self.tests: Any = yaml.safe_load((PROJECT / "contrib/compose-simulator.yaml").read_text())

    def test_schemas(self) -> None:
        """They fit the schemas of Kubernetes and of Compose."""
        if not (FRAMEWORKS / "installed").exists():
            raise SkipTest("not installed: run make interop")
        found = json.dumps({"kubernetes": self.kubernetes, "compose": [self.compose, self.tests]})
        environment = {**os.environ, "PYTHONPATH": str(FRAMEWORKS)}
        command = [sys.executable, "-c", VALIDATE]
        done = subprocess.run(command, input=found, capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_configurations(self) -> None:
        """Their configurations are valid: nodes that share a database, with what their probes ask at where they ask."""
        [node] = [each for each in self.kubernetes if each["kind"] == "Deployment"]
        [table] = [each for each in self.kubernetes if each["kind"] == "ConfigMap"]
        [container] = node["spec"]["template"]["spec"]["containers"]
        self.assertEqual([port["containerPort"] for port in container["ports"]], [8080, 8090])
        for text in (table["data"]["apns.toml"], self.compose["configs"]["apns.toml"]["content"]):
            found = Configuration.from_text(text, Path("/etc/txapns"))
            self.assertTrue(str(found.database.url).startswith("postgresql://txapns@"))
            self.assertEqual((found.intake.native.listen, found.admin.listen), (("tcp:port=8080",), ("tcp:port=8090",)))
        self.assertLess(30.0, node["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])


@pytest.mark.interop
class PrometheusTests(SynchronousTestCase):
    """What ``promtool`` says."""

    def setUp(self) -> None:
        """Skip this where there is no Prometheus."""
        if shutil.which("promtool") is None:
            raise SkipTest("promtool is not installed: on Debian, apt-get install prometheus")

    def check(self, *arguments: str, given: bytes = b"") -> None:
        """Check something, in which nothing must be found."""
        command = ["promtool", "check", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done.stdout)

    def test_alerts(self) -> None:
        """``contrib/alerts.yaml`` can be used."""
        self.check("rules", str(ALERTS))

    def test_partial(self) -> None:
        """An app with two sides of which one is stopped is alerted after a while, but not one that is paused."""
        name = "apns_daemon_side_stopped"
        series = [
            f'{name}{{app="{app}", environment="{side}", instance="push-1"}}'
            for app in ("chess", "news")
            for side in ("production", "sandbox")
        ]
        series += [
            'apns_daemon_app_condition{app="chess", condition="partial", instance="push-1"}',
            'apns_daemon_app_condition{app="news", condition="paused", instance="push-1"}',
        ]
        values = [f"{stopped}+0x20" for stopped in (0, 1, 0, 1, 1, 1)]
        labels = {"severity": "warning", "app": "chess", "environment": "sandbox", "instance": "push-1"}
        [description] = re.findall("description: (The other side works.*)", ALERTS.read_text())
        summary = "Nothing gets through on the sandbox side of the app chess"
        fired = {"exp_labels": labels, "exp_annotations": {"summary": summary, "description": description}}
        cases = [("4m", []), ("6m", [fired])]
        tests = {
            "rule_files": [str(ALERTS)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": n, "values": v} for n, v in zip(series, values, strict=True)],
                    "alert_rule_test": [
                        {"eval_time": time, "alertname": "PushSideStopped", "exp_alerts": found}
                        for time, found in cases
                    ],
                }
            ],
        }
        path = Path(self.mktemp())
        path.write_text(json.dumps(tests))  # which is YAML, too
        done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_metrics(self) -> None:
        """The metrics have names and texts after the conventions."""
        world = AdminWorld(cluster=Nodes)
        self.addCleanup(world.close)
        world.take([token(number) for number in range(20)] + [DEAD])
        world.drain()
        world.metrics.refused("native", 400)
        self.check("metrics", given=world.scrape())


@pytest.mark.interop
class UnitTests(SynchronousTestCase):
    """``contrib/txapns.service``."""

    def analyze(self, *arguments: str) -> str:
        """Let systemd analyze the unit, with this program in the place of the one that it names."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        unit = Path(self.mktemp()).absolute() / "txapns.service"
        unit.parent.mkdir()
        program = Path(sys.executable).with_name("txapns")
        text = (PROJECT / "contrib/txapns.service").read_text()
        unit.write_text(text.replace("/opt/txapns/bin/txapns", str(program)))
        done = subprocess.run(["systemd-analyze", *arguments, str(unit)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_verified(self) -> None:
        """There is nothing in it that systemd does not know."""
        self.assertNotIn("txapns.service", self.analyze("verify"))

    def test_security(self) -> None:
        """Its exposure is at most 2, of 10."""
        found = re.search(r"exposure level for txapns.service: ([0-9.]+)", self.analyze("security", "--offline=true"))
        assert found is not None
        self.assertLessEqual(float(found[1]), 2.0)
