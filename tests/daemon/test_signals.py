"""Tests for :mod:`txapns.daemon.signals`."""

from __future__ import annotations

import os
import re
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.daemon_case import AUTHORITY, DaemonCase, submission
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import Unavailable
from txapns.daemon.signals import heed_signals

__all__ = ["RepeatedTests", "SignalTests"]

_FACES = """
[intake.apple]
listen = "tcp:port=0:interface=127.0.0.1"
tls.certificate = "server.pem"
"""


class _Daemon:
    """A daemon that is asked for something, and never done with it."""

    def __init__(self) -> None:
        self.running = True
        self.ready: Deferred[object] = Deferred()
        self.asked: list[Deferred[None]] = []

    def drain(self) -> Deferred[None]:
        """See :meth:`DaemonService.drain`."""
        self.asked.append(Deferred())
        return self.asked[-1]

    def reload(self, configuration: Configuration) -> Deferred[None]:
        """See :meth:`DaemonService.reload`."""
        return self.drain()


class _Reactor:
    """A reactor that is stopped."""

    stopped = 0

    def callFromThread(self, function: Callable[[], object]) -> None:
        """Call it at once."""
        function()

    def stop(self) -> None:
        """Note it."""
        self.stopped += 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the platform does not have these signals")
class RepeatedTests(SynchronousTestCase):
    """Signals that come while the daemon drains or stops."""

    def setUp(self) -> None:
        """Heed signals for a daemon."""
        for number in (signal.SIGHUP, signal.SIGUSR1):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        path = Path(self.mktemp())
        path.write_text("")
        self.daemon, self.reactor = _Daemon(), _Reactor()
        heed_signals(self.reactor, cast(Any, self.daemon), str(path))
        signal.raise_signal(signal.SIGHUP)

    def test_starting(self) -> None:
        """What is asked for before the daemon listens is done as soon as it does, if it does not stop before."""
        self.assertEqual(self.daemon.asked, [])
        self.daemon.ready.callback({})
        self.assertEqual(len(self.daemon.asked), 1)

    def test_drained_once(self) -> None:
        """However often it is asked to, the daemon drains once, and the reactor is stopped when that is done."""
        self.daemon.ready.callback({})
        for _ in range(3):
            signal.raise_signal(signal.SIGUSR1)
        self.assertEqual((len(self.daemon.asked), self.reactor.stopped), (2, 0))
        self.daemon.asked[1].callback(None)
        self.assertEqual(self.reactor.stopped, 1)

    def test_stopping(self) -> None:
        """A daemon that stops heeds neither, and what fails because of that is not logged."""
        self.daemon.ready.callback({})
        self.daemon.running = False
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual(len(self.daemon.asked), 1)
        self.daemon.asked[0].errback(Unavailable("the daemon is shutting down"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_failed(self) -> None:
        """What fails otherwise is logged."""
        self.daemon.ready.callback({})
        self.daemon.asked[0].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


@pytest.mark.loopback
@pytest.mark.campaign
class SignalTests(DaemonCase):
    """A daemon that gets signals."""

    async def signaled(self, number: int, text: str) -> None:
        """Send a signal, and wait for a text in what the log says after that."""
        said = len(self.daemon.log.read_text())
        os.kill(self.daemon.pid, number)
        while text not in self.daemon.log.read_text()[said:]:
            await deferLater(reactor, 0.05)

    async def shown(self) -> Any:
        """Return the certificate that a listener shows."""
        return await deferToThread(ssl.get_server_certificate, ("127.0.0.1", self.daemon.port("intake.apple")))

    async def start_signaled(self, number: int) -> None:
        """Start the daemon, and send it a signal as soon as it runs as far as that does not end it."""
        starting = Deferred.fromCoroutine(self.daemon.start())
        status = Path(f"/proc/{self.daemon.pid}/status")
        if status.exists():
            while not int(re.findall(r"SigBlk:\s*(\w+)", status.read_text())[0], 16) & 1 << number - 1:
                await deferLater(reactor, 0.001)
            os.kill(self.daemon.pid, number)
        await starting
        if status.exists():
            while "the configuration was read again" not in self.daemon.log.read_text():
                await deferLater(reactor, 0.05)

    async def test_reloaded(self) -> None:
        """
        SIGHUP before the daemon is even imported is heeded when it listens. After SIGHUP limits, apps, webhooks and the
        certificates of listeners are what the configuration now says, and the log names what needs a restart. A
        configuration that cannot be used, or that has lost its apps, changes nothing.
        """
        text = self.config.read_text().replace("\n[intake.native]", f"{_FACES}[intake.native]")
        self.config.write_text(text)
        await self.start_signaled(signal.SIGHUP)
        before = await self.shown()
        (self.directory / "server.pem").write_bytes(AUTHORITY.server_certificate())
        changed = text.replace("apps.chess", "apps.go").replace("outcomes = true", "outcomes = false")
        self.config.write_text(f"limits.tokens = 1\nretries.first = 5\n{changed}")
        await self.signaled(signal.SIGHUP, "by another node: chess, go")
        self.assertNotEqual(await self.shown(), before)
        for app, status in (("go", 413), ("chess", 404)):
            path = f"/v1/apps/{app}/notifications"
            self.assertEqual((await self.daemon.ask("POST", path, submission("aa" * 32, "bb" * 32)))[0], status)
        self.assertEqual((await self.daemon.ask("GET", "/v1/apps/go/outcomes"))[0], 409)
        log = self.daemon.log.read_text()
        self.assertRegex(log, "changed: .*limits.tokens.*apps.chess, apps.go")
        self.assertIn("retries.first has changed, which takes effect at the next start", log)
        hook = '[webhook.crm]\nurl = "http://127.0.0.1:9/"\nsecret_file = "hook.secret"\n'
        self.config.write_text(f"limits.tokens = 1\nretries.first = 5\n{changed}{hook}")
        await self.signaled(signal.SIGHUP, "the configuration stays as it was: webhook.crm.secret_file: ")
        (self.directory / "hook.secret").touch(0o600)
        (self.directory / "hook.secret").write_text("correct horse battery staple")
        await self.signaled(signal.SIGHUP, "the configuration was read again; changed: webhook.crm")
        self.assertIn("crm", await self.daemon.read("/"))
        self.config.write_text("limits.tokens = 0")
        await self.signaled(signal.SIGHUP, "the configuration stays as it was: apns.toml: limits.tokens: found 0")
        self.config.write_text(text.partition("[apps.")[0])
        await self.signaled(signal.SIGHUP, "the configuration stays as it was: it has no apps any more")
        self.assertEqual((await self.daemon.ask("GET", "/v1/apps/go/outcomes"))[0], 409)
        self.assertEqual(await self.daemon.end(), 0)

    async def test_drained(self) -> None:
        """After SIGUSR1 everything that waits is sent before the daemon stops, with status 0."""
        await self.daemon.start()
        tokens = [f"{number:064x}" for number in range(3_000)]
        status, _ = await self.daemon.ask("POST", "/v1/apps/chess/notifications", submission(*tokens))
        self.assertEqual(status, 202)
        self.assertEqual(await self.daemon.end(signal.SIGUSR1), 0)
        self.assertEqual(sorted(each.token.hex() for each in self.simulator.inbox.received), tokens)
