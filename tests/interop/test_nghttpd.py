"""The client against nghttpd, the HTTP/2 server of the nghttp2 project: a file server, in C, that is nobody's mock."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from twisted.internet import error, reactor
from twisted.internet.protocol import ClientCreator, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.programs import Program
from tests.ports import reserve
from txapns import APNSClient, Batch, Certificate, Gateway, Notification, ProviderToken
from txapns.credentials import Credential
from txapns.simulator import Authority

__all__ = ["NghttpdTests"]

HOST = "127.0.0.1"
#: Debian keeps servers where not every user's PATH leads.
PROGRAM = shutil.which("nghttpd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
TOKENS = {number: f"{number + 1:064x}" for number in range(1_000)}
#: Every tenth device is gone: there is no file of its name.
GONE = set(range(0, 1_000, 10))
SHORT, LONG = Notification(alert="Grüße"), Notification(alert="x" * 4_000)
REQUEST = re.compile(rb"recv \(stream_id=\d+\) :path: /3/device/([0-9a-f]+)\n")


@pytest.mark.interop
class NghttpdTests(TestCase):
    """Each device is a file, which is the answer to what comes for it."""

    timeout = 300

    def setUp(self) -> None:
        """There are files, but none for a device that is gone."""
        if PROGRAM is None:
            raise SkipTest("nghttpd is not installed: on Debian, apt-get install nghttp2-server")
        self.authority = Authority()
        self.state = Path(self.mktemp()).absolute()
        devices = self.state / "3/device"
        devices.mkdir(parents=True)
        for number in TOKENS.keys() - GONE:
            (devices / TOKENS[number]).write_text("accepted")
        (self.state / "server.pem").write_bytes(self.authority.server_certificate())

    def provider_token(self) -> ProviderToken:
        """Make a provider token, which means nothing to nghttpd."""
        return ProviderToken.from_p8(self.authority.p8, self.authority.key_id, self.authority.team_id)

    async def serve(self, *options: str) -> None:
        """Start nghttpd."""
        pem, [self.port] = str(self.state / "server.pem"), reserve()
        fixed = ["--verbose", "--address", HOST, "--htdocs", str(self.state)]
        self.program = Program(reactor, [PROGRAM, *fixed, *options, str(self.port), pem, pem])
        self.addCleanup(self.program.stop)
        while not await self.listens():
            self.assertFalse(self.program.ended.called, self.program.complained.decode())
            await deferLater(reactor, 0.01)

    async def listens(self) -> bool:
        """Tell whether one can connect."""
        try:
            protocol = await ClientCreator(reactor, Protocol).connectTCP(HOST, self.port)
        except error.ConnectionRefusedError:
            return False
        protocol.transport.abortConnection()
        return True

    async def send(self, notification: Notification, credential: Credential, **options: int) -> Batch:
        """Send a batch, and stop the server."""
        gateway = Gateway.http2(HOST, self.port, trust_root=self.authority.ca_pem)
        client = APNSClient(reactor, credential, gateway, topic="com.example.app", **options)
        self.addCleanup(client.close)
        batch = await client.send(notification, TOKENS)
        await client.close()
        self.program.stop()
        await self.program.ended
        return batch

    async def check(self, *options: str, credential: Credential | None = None, **more: int) -> None:
        """Send short and long payloads: each request arrives once, and each device without a file is named."""
        for notification in (SHORT, LONG):
            await self.serve(*options)
            batch = await self.send(notification, credential or self.provider_token(), **more)
            found = Counter(token.decode() for token in REQUEST.findall(self.program.printed))
            self.assertEqual(found, Counter(TOKENS.values()))
            self.assertEqual((batch.accepted, batch.unsent, batch.uncertain), (len(TOKENS) - len(GONE), {}, {}))
            self.assertEqual(set(batch.failed), GONE)
            for number, rejection in batch.failed.items():
                self.assertEqual((rejection.token, rejection.status), (TOKENS[number], 404))
                self.assertIn("404 Not Found", rejection.reason)

    async def test_provider_token(self) -> None:
        """With a provider token, which goes with each request."""
        await self.check()

    async def test_certificate(self) -> None:
        """With a certificate, which the server asks for."""
        certificate = Certificate.from_pem(self.authority.client_pem())
        await self.check("--verify-client", credential=certificate)

    async def test_connections(self) -> None:
        """Over several connections."""
        await self.check(max_connections=4)

    async def test_single(self) -> None:
        """One request at a time, where the server takes no more."""
        await self.check("--max-concurrent-streams=1")

    async def test_window(self) -> None:
        """Bodies are longer than the window of a stream."""
        await self.check("--window-bits=8")

    async def test_early(self) -> None:
        """The answer comes before the whole request has left."""
        await self.check("--early-response", "--window-bits=8")

    async def test_trailers(self) -> None:
        """Answers end with trailers, and all frames are padded."""
        await self.check("--trailer=more: less", "--padding=255")
