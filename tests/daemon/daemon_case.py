"""A daemon in a process of its own that sends to a simulator in this one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from txapns import Certificate
from txapns.simulator import Authority, ProviderAPIServer, Response, Simulator
from txapns.simulator.requests import fields_of
from txapns.wire.requests import Request

__all__ = ["AUTHORITY", "CERTIFICATE", "DEAD", "DaemonCase", "Withheld", "submission"]

AUTHORITY = Authority()
#: The certificate of a caller that may send.
CERTIFICATE = Certificate.from_pem(AUTHORITY.client_pem())
DEAD = "dd" * 32


class Withheld:
    """
    Answers of a simulator that come when the test says so.

    :param simulator: nobody may have connected to it yet.
    :param on: whether its answers are withheld.

    :ivar on: the same; it can be set.
    """

    def __init__(self, simulator: Simulator, on: bool = True) -> None:
        self.on = on
        self._kept: list[Callable[[], None]] = []
        simulator.http2_fault = self._keep

    def _keep(self, server: ProviderAPIServer, request: Request, response: Response) -> Response | None:
        if not self.on:
            return response
        self._kept.append(partial(self._answer, server, request, response))
        return None

    def _answer(self, server: ProviderAPIServer, request: Request, response: Response) -> None:
        server.respond(request, fields_of(request), response)
        server.write()

    async def come(self, count: int) -> None:
        """Wait for so many requests."""
        while len(self._kept) < count:
            await deferLater(reactor, 0.01)

    def give(self) -> None:
        """Give the answers, and from now on each at once."""
        self.on = False
        for answer in self._kept:
            answer()


class DaemonCase(TestCase):
    """A simulator in this process, and a daemon that sends to it."""

    timeout = 300
    #: How long Apple's answer takes, in seconds.
    delay = 0.0
    #: Whether the HTTP API takes only callers with a key.
    keys = False

    def setUp(self) -> None:
        """Write the configuration."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.simulator = Simulator(reactor, authority=AUTHORITY, dead=[bytes.fromhex(DEAD)], delay=self.delay)
        self.port, managing = listen(self.simulator), listen(self.simulator, "channels")
        for port in (self.port, managing):
            self.addCleanup(port.stopListening)
        self.config = configuration(
            self.directory,
            self.simulator,
            self.port.getHost().port,
            self.tables(),
            [CERTIFICATE.fingerprint],
            management=managing.getHost().port,
            keys=self.keys,
        )
        self.daemon = DaemonProcess(self.config)

    def tables(self) -> str:
        """Choose further tables of the configuration."""
        return ""

    async def tearDown(self) -> None:
        """Kill it if it still runs, and abort the simulator's connections."""
        if self.daemon.running:
            await self.daemon.end(signal.SIGKILL)
        self.hang_up()
        await deferLater(reactor, 0.05)

    def hang_up(self) -> None:
        """Abort the simulator's connections."""
        for session in self.simulator.sessions:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; returns its status and output."""
        command = [sys.executable, "-m", "txapns", *arguments, "--config", str(self.config)]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    async def told(self, *arguments: str) -> str:
        """Run a command that must succeed; returns what it printed."""
        status, printed, said = await self.command(*arguments)
        self.assertEqual(status, 0, said)
        return printed.strip()


def submission(*tokens: str, **more: object) -> dict[str, object]:
    """Make the body of a request."""
    return {"notifications": [{"tokens": list(tokens), "payload": {"aps": {"alert": "Hi"}}}], **more}
