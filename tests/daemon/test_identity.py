"""Callers send everything under one apns-id, to a daemon in a process of its own: each gets its own outcomes."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from txapns import APNSClient, Gateway, Notification, ProviderToken
from txapns.simulator import Authority, Simulator

__all__ = ["NativeTests", "RelayTests"]

AUTHORITY = Authority()
ID = str(uuid.UUID(int=7))
FACE = """
[intake.apple]
listen = "tcp:port=0:interface=127.0.0.1"
mode = "relay"
tls.certificate = "server.pem"
"""


def token(number: int) -> str:
    """Make a device token; every tenth device no longer has the app."""
    return f"{number:064x}"


class IdentityCase(TestCase):
    """A daemon, and a simulator in this process."""

    timeout = 300

    async def setUp(self) -> None:
        """Start them."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        dead = [bytes.fromhex(token(number)) for number in range(0, 1_000, 10)]
        self.simulator = Simulator(reactor, authority=AUTHORITY, dead=dead)
        port = listen(self.simulator)
        self.addCleanup(port.stopListening)
        self.daemon = DaemonProcess(configuration(directory, self.simulator, port.getHost().port, FACE))
        await self.daemon.start()

    async def tearDown(self) -> None:
        """Stop it, and the simulator's connections."""
        if self.daemon.running:
            await self.daemon.end(signal.SIGKILL)
        for session in self.simulator.sessions:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()
        await deferLater(reactor, 0.05)


@pytest.mark.loopback
class RelayTests(IdentityCase):
    """The Apple-compatible face in relay mode."""

    notification = Notification(alert="Hi", push_type="alert", apns_id=ID)

    def client(self) -> APNSClient:
        """Make a client of the daemon, with the app's own key."""
        credential = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        port = self.daemon.port("intake.apple")
        gateway = Gateway.http2("127.0.0.1", port, trust_root=AUTHORITY.ca_pem)
        return APNSClient(reactor, credential, gateway, topic=self.simulator.topic)

    async def test_campaign(self) -> None:
        """A thousand devices over four connections: only the callers of dead devices get a 410."""
        clients = [self.client() for _ in range(4)]
        parts = [{number: token(number) for number in range(part, 1_000, 4)} for part in range(4)]
        batches = await gatherResults(
            [client.send(self.notification, part) for client, part in zip(clients, parts, strict=True)]
        )
        await gatherResults([client.close() for client in clients])
        for batch, part in zip(batches, parts, strict=True):
            self.assertEqual(batch.failed.keys(), {number for number in part if number % 10 == 0})
            self.assertEqual({each.status for each in batch.failed.values()} | {410}, {410})
            self.assertEqual((batch.total, batch.unsent, batch.uncertain), (250, {}, {}))
        received = self.simulator.inbox.received
        self.assertEqual(len({each.token for each in received}), len(received))
        self.assertEqual({each.headers["apns-id"] for each in received}, {ID})

    async def test_unique_id(self) -> None:
        """The caller gets the unique id that Apple's sandbox assigns."""
        self.simulator.environment = "sandbox"
        client = self.client()
        batch = await client.send(self.notification, [token(1), token(10), token(2)])
        await client.close()
        self.assertEqual((batch.failed.keys(), batch.unique_ids.keys()), ({1}, {0, 2}))
        self.assertEqual(len({*batch.unique_ids.values()}), 2)


@pytest.mark.loopback
class NativeTests(IdentityCase):
    """The HTTP API."""

    async def wait(self, *numbers: int, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Send to devices and wait; returns the answer."""
        fields = {"apns-id": ID, "apns-push-type": "alert"}
        notifications = [{"tokens": [token(n)], "payload": {"aps": {"badge": 1}}, "headers": fields} for n in numbers]
        body = {"notifications": notifications, "wait": True}
        status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", body, headers)
        self.assertEqual(status, 200, answer)
        found: dict[str, Any] = answer
        return found

    def statuses(self, answer: Mapping[str, Any]) -> list[int]:
        """Return Apple's statuses, in the order of the request."""
        return [each["outcomes"][0]["status"] for each in answer["notifications"]]

    async def test_requests(self) -> None:
        """Requests at the same time, and notifications of one request, get their own outcomes."""
        groups = [range(start, start + 10) for start in range(0, 200, 10)]
        answers = await gatherResults([Deferred.fromCoroutine(self.wait(*group)) for group in groups])
        for group, answer in zip(groups, answers, strict=True):
            self.assertEqual(self.statuses(answer), [200 if number % 10 else 410 for number in group])
        status, latest = await self.daemon.ask("GET", f"/v1/notifications/{ID}")
        self.assertEqual((status, latest["id"]), (200, ID))

    async def test_repeated_at_once(self) -> None:
        """A request repeated while the first is in flight gets the same outcomes, and sends nothing."""
        self.simulator.delay = 0.5
        key = {"Idempotency-Key": "order 8"}
        asked = [self.wait(10, 11, headers=key), self.wait(20, 21), self.wait(10, 11, headers=key), self.wait(22, 30)]
        answers = await gatherResults([Deferred.fromCoroutine(each) for each in asked])
        self.assertEqual([self.statuses(each) for each in answers], [[410, 200], [410, 200], [410, 200], [200, 410]])
        self.assertEqual(len(self.simulator.inbox.received), 6)

    async def test_repeated(self) -> None:
        """A request repeated with its key gets the outcomes of the first, even after a restart."""
        key = {"Idempotency-Key": "order 7"}
        first = await self.wait(10, 11, headers=key)
        await self.wait(12, 20)
        again = [await self.wait(10, 11, headers=key)]
        self.assertEqual(await self.daemon.end(), 0)
        await self.daemon.start()
        await self.wait(21, 30)
        again.append(await self.wait(10, 11, headers=key))
        self.assertEqual([self.statuses(answer) for answer in [first, *again]], [[410, 200]] * 3)
        self.assertEqual(len(self.simulator.inbox.received), 6)
