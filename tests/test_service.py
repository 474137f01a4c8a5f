"""Tests for :mod:`txapns.service`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from twisted.application.service import IService, MultiService
from zope.interface.verify import verifyObject

from tests import PROJECT
from tests.client_case import DEAD, HELLO, ClientCase, tokens
from tests.command.processes import TIMEOUT, WithSimulator
from tests.ports import reserve
from tests.processes import started
from txapns import APNSService
from txapns.errors import ClientClosed, InvalidGateway

__all__ = ["ExampleTests", "ServiceTests"]


class ServiceTests(ClientCase):
    """The service in an application."""

    def setUp(self) -> None:
        """Make an application."""
        super().setUp()
        self.application = MultiService()
        self.service = APNSService(self.simulator.reactor, timeout=5.0)
        self.service.setServiceParent(self.application)
        self.app = (self.simulator.certificate(), self.simulator.gateway())

    def test_interface(self) -> None:
        """It is a service."""
        verifyObject(IService, self.service)

    def test_runs(self) -> None:
        """While it runs, it has one client for each credential; at its end they are closed."""
        self.application.startService()
        client = self.service.client(*self.app)
        self.assertIs(self.service.client(*self.app), client)
        self.assertEqual(self.simulator.result(client.send(HELLO, [DEAD, *tokens(2)])).accepted, 2)
        self.simulator.result(self.application.stopService())
        self.failureResultOf(client.send_one(HELLO, DEAD), ClientClosed)
        self.assertRaises(ClientClosed, self.service.client, *self.app)

    def test_runs_again(self) -> None:
        """It can be started again, and stopped without ever having been used."""
        for _ in range(2):
            self.application.startService()
            self.assertEqual(self.simulator.result(self.service.client(*self.app).send(HELLO, tokens(2))).accepted, 2)
            self.simulator.result(self.application.stopService())
        self.application.startService()
        self.successResultOf(self.application.stopService())

    def test_not_started(self) -> None:
        """Before that there is no client, but arguments are checked."""
        self.assertRaises(ClientClosed, self.service.client, *self.app)
        self.assertRaises(ValueError, APNSService, self.simulator.reactor, timeout=0)
        self.assertRaises(InvalidGateway, APNSService, self.simulator.reactor, proxy="socks5://localhost:1080")


class ExampleTests(WithSimulator):
    """examples/service.tac."""

    def test_twistd(self) -> None:
        """It serves while twistd runs it."""
        [port] = reserve()
        twistd = Path(sys.executable).with_name("twistd")
        command = [twistd, "-noy", PROJECT / "examples/service.tac", "--pidfile="]
        environment = {**os.environ, "PORT": str(port), "SIMULATOR": str(self.simulator.state.resolve())}
        process = started(self, command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        for line in process.stdout:
            if "Site starting" in line:
                break
        answers = [self.post(port, token) for token in ("aa" * 32, DEAD, "not a token")]
        self.assertEqual(answers, [(200, "accepted"), (410, "Unregistered"), (400, "InvalidToken")])
        process.terminate()
        printed, _ = process.communicate(timeout=TIMEOUT)
        self.assertIn(process.returncode, (0, -signal.SIGTERM), printed)  # newer versions of twistd pass the signal on
        _, counters = self.simulator.stop()
        self.assertEqual((counters["received"], counters["connections"]), (2, 1))

    def post(self, port: int, token: str) -> tuple[int, str]:
        """Ask for a notification; returns the status and the answer."""
        url = f"http://127.0.0.1:{port}/{urllib.request.quote(token)}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, b"Dinner is ready"), timeout=TIMEOUT) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode().strip()
