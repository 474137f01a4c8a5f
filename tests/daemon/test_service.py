"""The gateway as a whole, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import RequestNotSent, ResponseFailed, ResponseNeverReceived

from tests.daemon.gateway_process import Gateway, configuration, listen
from txapns.simulator import Authority, Simulator

__all__ = ["LifeTests", "StartTests"]

AUTHORITY = Authority()
DEAD = "dd" * 32
#: What a caller sees of a gateway that is killed, or not there.
GONE = (ConnectError, ConnectionDone, ConnectionLost, RequestNotSent, ResponseFailed, ResponseNeverReceived)


class GatewayCase(TestCase):
    """A simulator in this process, and a gateway to it."""

    timeout = 300

    def setUp(self) -> None:
        """Write the configuration."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.simulator = Simulator(reactor, authority=AUTHORITY, dead=[bytes.fromhex(DEAD)])
        self.port = listen(self.simulator)
        self.addCleanup(self.port.stopListening)
        self.config = configuration(self.directory, self.simulator, self.port.getHost().port)
        self.gateway = Gateway(self.config)

    async def tearDown(self) -> None:
        """End it, if it is still there; and the simulator's connections."""
        if self.gateway.running:
            await self.gateway.end(signal.SIGKILL)
        for session in self.simulator.sessions:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()
        await deferLater(reactor, 0.05)


def submission(*tokens: str, **more: object) -> dict[str, object]:
    """What is posted for some tokens."""
    return {"notifications": [{"tokens": list(tokens), "payload": {"aps": {"alert": "Hi"}}}], **more}


@pytest.mark.loopback
@pytest.mark.slow
class LifeTests(GatewayCase):
    """A life in good order."""

    async def test_life(self) -> None:
        """It takes, sends, tells, remembers over a restart, and ends with status 0."""
        await self.gateway.start()
        posted = submission("aa" * 32, DEAD, wait=True)
        status, answer = await self.gateway.ask("POST", "/v1/apps/chess/notifications", posted)
        self.assertEqual(status, 200)
        [notification] = answer["notifications"]
        self.assertEqual([each["state"] for each in notification["outcomes"]], ["accepted", "rejected"])
        self.assertEqual(notification["outcomes"][1]["reason"], "Unregistered")
        self.assertEqual(await self.gateway.end(), 0)
        await self.gateway.start()
        status, answer = await self.gateway.ask("GET", f"/v1/notifications/{notification['ids'][0]}")
        self.assertEqual((status, answer["state"]), (200, "accepted"))
        status, answer = await self.gateway.ask("GET", "/v1/apps/chess/feedback")
        self.assertEqual([each["token"] for each in answer["tokens"]], [DEAD])
        self.assertEqual(await self.gateway.end(signal.SIGINT), 0)
        log = self.gateway.log.read_text()
        self.assertNotIn("Traceback", log)
        self.assertNotIn(DEAD, log)
        self.assertTrue(all("message" in json.loads(line) for line in log.splitlines()))

    async def test_watched(self) -> None:
        """Whoever looks after it is told how it fares; while it is stopped it is alive, but not ready."""
        self.simulator.delay = 2.0
        await self.gateway.start()
        self.assertEqual(await self.look("/readyz"), (200, {"ready": True, "reasons": []}))
        await self.gateway.ask("POST", "/v1/apps/chess/notifications", submission("aa" * 32))
        await deferLater(reactor, 0.3)
        ending = Deferred.fromCoroutine(self.gateway.end())
        await deferLater(reactor, 0.3)
        ready = {"ready": False, "reasons": ["the gateway is shutting down"]}
        self.assertEqual(await self.look("/readyz"), (503, ready))
        self.assertEqual(await self.look("/healthz"), (200, {"alive": True}))
        self.assertEqual(await ending, 0)

    async def look(self, path: str) -> tuple[int, object]:
        """Ask the admin endpoint."""
        return await self.gateway.ask("GET", path, listener="admin")

    async def test_stopped_while_apple_is_slow(self) -> None:
        """What is under way at the end is answered, and nothing is sent a second time after the next start."""
        self.simulator.delay = 1.0
        await self.gateway.start()
        tokens = [f"{number:064x}" for number in range(500)]
        status, _ = await self.gateway.ask("POST", "/v1/apps/chess/notifications", submission(*tokens))
        self.assertEqual(status, 202)
        await deferLater(reactor, 0.5)
        self.assertEqual(await self.gateway.end(), 0)
        received = Counter(reception.token.hex() for reception in self.simulator.devices.received)
        await self.gateway.start()
        while len(received) < 500:
            await deferLater(reactor, 0.1)
            received = Counter(reception.token.hex() for reception in self.simulator.devices.received)
        self.assertEqual(await self.gateway.end(), 0)
        self.assertEqual(set(received.values()), {1})


@pytest.mark.loopback
@pytest.mark.slow
class StartTests(GatewayCase):
    """What keeps it from starting is told in a sentence, with status 2."""

    async def refused(self, *arguments: str) -> str:
        """Try to start it; returns what it said."""
        command = [sys.executable, "-m", "txapns.cli", "serve", "--config", str(self.config), *arguments]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    async def test_address_in_use(self) -> None:
        """Somebody else listens there."""
        text = self.config.read_text()
        self.config.write_text(text.replace("port=0", f"port={self.port.getHost().port}", 1))
        said = await self.refused()
        self.assertIn("intake.native.listen", said)
        self.assertIn("in use", said)

    async def test_database_in_use(self) -> None:
        """Another gateway has the database."""
        await self.gateway.start()
        said = await self.refused()
        self.assertIn("apns.db", said)

    async def test_database_exposed(self) -> None:
        """Others can read the database."""
        await self.gateway.start()
        await self.gateway.end()
        (self.directory / "apns.db").chmod(0o644)
        self.assertIn("apns.db", await self.refused())

    async def test_configuration(self) -> None:
        """The configuration has a mistake, or is not there."""
        self.config.write_text("[limits]\nbody = '4k'\n")
        self.assertIn('limits.body: found "4k"', await self.refused())
        self.config.unlink()
        self.assertIn("apns.toml", await self.refused())

    async def test_twist(self) -> None:
        """It runs as a plugin of Twisted's as well."""
        command = [sys.executable, "-m", "twisted", "apns", "--config", str(self.config)]
        log = self.directory / "twist.log"
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while "the gateway listens" not in log.read_text() and process.poll() is None:
            await deferLater(reactor, 0.1)
        process.send_signal(signal.SIGTERM)
        await deferToThread(process.wait, 60)
        self.assertIn("the gateway has stopped", log.read_text())
