"""Clients of the HTTP/2 provider API, unmodified, against the simulator on loopback."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.interop.programs import Program, command
from txapns.simulator import Simulator

__all__ = ["AioapnsTests", "Apns2Tests", "NodeApnTests"]

HOST = "127.0.0.1"
TOPIC = "com.example.app"
COUNT = 1_000
TOKENS = [f"{number + 1:064x}" for number in range(COUNT)]
#: Every tenth device is gone, each since another second.
DEAD = {token: 1_700_000_000 + place for place, token in enumerate(TOKENS[::10])}
ALIVE = [token for token in TOKENS if token not in DEAD]
IDENTIFIERS = {token: str(uuid.UUID(token[-32:])) for token in TOKENS}
EXPIRATION = 2_000_000_000
TIME_TO_LIVE = 3_600
ALERT = "Grüße, Ольга! 🦊"
PAYLOAD = {"aps": {"alert": ALERT, "badge": 3, "sound": "default"}}
FIELDS = {
    "apns-topic": TOPIC,
    "apns-push-type": "alert",
    "apns-priority": "5",
    "apns-collapse-id": "dinner",
}
SENT = {
    "topic": TOPIC,
    "alert": ALERT,
    "badge": 3,
    "sound": "default",
    "push_type": "alert",
    "priority": 5,
    "expiration": EXPIRATION,
    "time_to_live": TIME_TO_LIVE,
    "collapse_id": "dinner",
    "tokens": list(IDENTIFIERS.items()),
}


class ClientTests(TestCase):
    """
    What the tests of all clients have in common.

    :cvar driver: the file of its driver.
    """

    timeout = 300
    driver: ClassVar[str]

    def setUp(self) -> None:
        """Start the server, where the client is installed."""
        self.command = command(self.driver)
        self.simulator = Simulator(reactor, topic=TOPIC)
        self.simulator.inbox.dead = {bytes.fromhex(token): float(since) for token, since in DEAD.items()}
        self.factory = self.simulator.tls_factory("http2")
        self.factory.noisy = False
        self.port = reactor.listenTCP(0, self.factory, interface=HOST)
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Stop listening, and cut the connections that are left."""
        await self.port.stopListening()
        for connection in list(self.factory.protocols):
            connection.abortConnection()
        while self.factory.protocols:
            await deferLater(reactor, 0.01)

    def about(self) -> dict[str, object]:
        """Tell where the server is, and write the credentials for it."""
        state, authority = Path(self.mktemp()), self.simulator.authority
        state.mkdir()
        files = {
            "ca": authority.ca_pem,
            "certificate": authority.client_pem(TOPIC, key_type="rsa"),
            "p8": authority.p8,
        }
        for name, content in files.items():
            (state / name).write_bytes(content)
        places: dict[str, object] = {name: str(state / name) for name in files}
        identity = {"key_id": authority.key_id, "team_id": authority.team_id}
        return {"host": HOST, "http2": self.port.getHost().port, **places, **identity}

    async def send(self, mode: str) -> dict[str, Any]:
        """Send to all tokens, with a certificate or a provider token; returns what the client says."""
        about = self.about()
        program = Program(reactor, self.command, {"NODE_EXTRA_CA_CERTS": str(about["ca"])})
        self.addCleanup(program.stop)
        program.transport.write(json.dumps({**about, **SENT, "mode": mode}).encode() + b"\n")
        status = await program.ended
        self.assertEqual(status, 0, f"{self.simulator.counters()}, and {program.complained.decode()}")
        return json.loads(program.printed)

    def check_said(self, said: dict[str, Any]) -> None:
        """The client names the dead tokens, each with its time, and takes the others for accepted."""
        self.assertEqual(sorted(said["accepted"]), ALIVE)
        dead = [[token, 410, "Unregistered", 1_000 * since] for token, since in DEAD.items()]
        self.assertEqual(sorted(said["refused"]), dead)

    def check_received(self, *, bearer: bool) -> None:
        """Each token came exactly once, with header fields and payload as given, and with a provider token or not."""
        received = self.simulator.inbox.received
        reasons = sorted((reception.token.hex(), reception.reason) for reception in received)
        self.assertEqual(reasons, [(token, "Unregistered" if token in DEAD else None) for token in TOKENS])
        for reception in received:
            self.assertEqual({name: reception.headers.get(name) for name in FIELDS}, FIELDS)
            self.assertEqual(json.loads(reception.payload), PAYLOAD)
            self.assertEqual("authorization" in reception.headers, bearer)
            self.check_expiration(int(reception.headers["apns-expiration"]))

    def check_expiration(self, expiration: int) -> None:
        """It is as given."""
        self.assertEqual(expiration, EXPIRATION)


@pytest.mark.interop
class AioapnsTests(ClientTests):
    """aioapns 4.0 of PyPI."""

    driver = "drive_aioapns.py"

    async def check(self, mode: str) -> None:
        """It takes identifiers as well, and gives them back."""
        self.begun = int(time.time())
        said = await self.send(mode)
        self.check_said(said)
        self.assertEqual(dict(said["identifiers"]), IDENTIFIERS)
        self.check_received(bearer=mode == "token")
        for reception in self.simulator.inbox.received:
            self.assertEqual(reception.headers["apns-id"], IDENTIFIERS[reception.token.hex()])

    def check_expiration(self, expiration: int) -> None:
        """It takes a time to live instead."""
        self.assertTrue(self.begun + TIME_TO_LIVE <= expiration <= time.time() + TIME_TO_LIVE)

    async def test_provider_token(self) -> None:
        """It authenticates with a provider token."""
        await self.check("token")

    async def test_certificate(self) -> None:
        """It authenticates with a certificate."""
        await self.check("certificate")


@pytest.mark.interop
class NodeApnTests(ClientTests):
    """@parse/node-apn 8.1.0 of npm."""

    driver = "drive_node_apn.js"

    async def test_provider_token(self) -> None:
        """It authenticates with a provider token."""
        self.check_said(await self.send("token"))
        self.check_received(bearer=True)

    async def test_certificate(self) -> None:
        """It authenticates with a certificate."""
        self.check_said(await self.send("certificate"))
        self.check_received(bearer=False)


@pytest.mark.interop
class Apns2Tests(ClientTests):
    """apns2 12.2.0 of npm, which knows provider tokens only."""

    driver = "drive_apns2.js"

    async def test_provider_token(self) -> None:
        """It authenticates with a provider token."""
        self.check_said(await self.send("token"))
        self.check_received(bearer=True)
