"""The programs of docs/migrating.rst as they were, with the libraries that they were for, against the simulator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.interop.programs import Program, command
from tests.test_docs import blocks
from txapns.simulator import Simulator

__all__ = ["BeforeTests"]

HOST = "127.0.0.1"
TOKENS = ["aa" * 32, "dd" * 32, "bb" * 32]
DEAD = TOKENS[1]
#: What the program of each library imports, and where the library is installed.
LIBRARIES = {
    "apns-client": ("from apnsclient import", "interop"),
    "aioapns": ("from aioapns import", "interop"),
    "PyAPNs2": ("from apns2.client import", "interop-apns2"),
    "django-push-notifications": ("from push_notifications.models import", "interop-apns2"),
}


@pytest.mark.interop
class BeforeTests(TestCase):
    """They do what the page says that they did."""

    timeout = 300

    def setUp(self) -> None:
        """Start the servers."""
        self.simulator = Simulator(reactor, dead=[bytes.fromhex(DEAD)])
        self.factories = {name: self.simulator.tls_factory(name) for name in ("binary", "http2")}
        self.ports = {name: reactor.listenTCP(0, each, interface=HOST) for name, each in self.factories.items()}
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Stop listening, and cut the connections that are left."""
        for port in self.ports.values():
            await port.stopListening()
        for factory in self.factories.values():
            for connection in list(factory.protocols):
                connection.abortConnection()
            while factory.protocols:
                await deferLater(reactor, 0.01)

    async def run_program(self, library: str) -> list[str]:
        """Run the program that is for a library; returns which tokens it forgot."""
        imports, environment = LIBRARIES[library]
        driver = command("drive_migrating.py", environment)
        [program] = [block.text for block in blocks("docs/migrating.rst") if imports in block.text]
        directory, authority = Path(self.mktemp()).absolute(), self.simulator.authority
        directory.mkdir()
        (directory / "ca.pem").write_bytes(authority.ca_pem)
        (directory / "chess.pem").write_bytes(authority.client_pem(key_type="rsa"))
        (directory / "AuthKey.p8").write_bytes(authority.p8)
        names = {"p8": authority.p8.decode(), "key_id": authority.key_id, "team_id": authority.team_id}
        request = {
            "library": library,
            "program": program,
            "names": {"tokens": TOKENS, "token": TOKENS[0], **names},
            "directory": str(directory),
            "host": HOST,
            "ca": str(directory / "ca.pem"),
            **{name: port.getHost().port for name, port in self.ports.items()},
        }
        process = Program(reactor, driver, {"SSL_CERT_FILE": str(directory / "ca.pem")})
        self.addCleanup(process.stop)
        process.transport.write(json.dumps(request).encode() + b"\n")
        status = await process.ended
        self.assertEqual(status, 0, process.complained.decode())
        return list(json.loads(process.printed))

    async def check(self, library: str, forgotten: Sequence[str] = (DEAD,), twice: Sequence[str] = ()) -> None:
        """The dead token was forgotten, and each of the others came once, or twice."""
        self.assertEqual(await self.run_program(library), [*forgotten])
        received = [reception.token.hex() for reception in self.simulator.inbox.received if not reception.reason]
        self.assertEqual(sorted(received), sorted([*(set(TOKENS) - {DEAD}), *twice]))

    async def test_apns_client(self) -> None:
        """apns-client 0.2."""
        await self.check("apns-client")

    async def test_aioapns(self) -> None:
        """aioapns 4.0."""
        await self.check("aioapns")

    async def test_pyapns2(self) -> None:
        """PyAPNs2 0.7.2."""
        await self.check("PyAPNs2", twice=[TOKENS[0]])

    async def test_django_push_notifications(self) -> None:
        """django-push-notifications 3.3.0, which does not understand what PyAPNs2 0.7 says of a dead token."""
        await self.check("django-push-notifications", forgotten=[])
