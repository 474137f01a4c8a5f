"""The daemon is killed again and again while each of its faces is in use: nothing that it accepted is lost."""

from __future__ import annotations

import base64
import uuid
import xmlrpc.client
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.daemon.daemon_case import AUTHORITY, CERTIFICATE
from tests.daemon.killed_case import GONE, KilledCase
from txapns import APNSClient, Batch, Gateway, Notification, ProviderToken

__all__ = ["AppleKillTests", "BinaryKillTests", "MatrixKillTests", "NativeKillTests", "PyapnsKillTests"]

HELLO = Notification(alert="Hi", push_type="alert")
FACES = """
[intake.apple]
listen = "tcp:port=0:interface=127.0.0.1"
mode = "queue"
tls.certificate = "server.pem"

[intake.binary]
listen = "tcp:port=0:interface=127.0.0.1"
feedback = "tcp:port=0:interface=127.0.0.1"
tls.certificate = "server.pem"

[intake.pyapns]
listen = "tcp:port=0:interface=127.0.0.1"
keys = false

[intake.matrix]
listen = "tcp:port=0:interface=127.0.0.1"
app_ids."com.example.app".app = "chess"
"""


class KillCase(KilledCase):
    """Requests to a daemon that is killed five times meanwhile."""

    delay = 0.02
    #: How many requests, of how many tokens, how many at a time, and how often the daemon is killed.
    requests, size, together, kills = 200, 100, 4, 5
    #: How many notifications may be in flight at a time: as many may be sent twice for each kill.
    in_flight = 2_000

    def setUp(self) -> None:
        """Nothing is accepted yet."""
        super().setUp()
        self.accepted: dict[str, str | None] = {}
        self.again = 0

    def tables(self) -> str:
        """Have all faces."""
        return FACES

    @abstractmethod
    async def deliver(self, number: int, tokens: Sequence[str]) -> dict[str, str | None]:
        """
        Send the rest of one request.

        :param number: the request's number.
        :param tokens: the tokens that are not known to be accepted.
        :returns: those that are now, each with its id; ``None`` if the face returns none.
        """

    async def hand_over(self, numbers: Iterator[int]) -> None:
        """Send one request after the other, each until all of it is accepted."""
        for number in numbers:
            left = [f"{number * self.size + place:064x}" for place in range(self.size)]
            while left:
                await self.running()
                accepted = await self.deliver(number, left)
                self.accepted.update(accepted)
                left = [token for token in left if token not in accepted]
                if left:
                    await deferLater(reactor, 0.02)

    async def kill_later(self) -> None:
        """Wait until a random number more are accepted; kill the daemon, and start it again."""
        enough = len(self.accepted) + self.chance.randint(0, self.requests * self.size // (self.kills + 2))
        while len(self.accepted) < enough:
            await deferLater(reactor, 0.005)
        await self.kill()

    async def lose_nothing(self) -> None:
        """Each accepted notification arrives, under one id; only those in flight may arrive twice."""
        await self.daemon.start()
        numbers = iter(range(self.requests))
        posting = gatherResults(
            [Deferred.fromCoroutine(self.hand_over(numbers)) for _ in range(self.together)], consumeErrors=True
        )
        for _ in range(self.kills):
            await self.kill_later()
        await posting
        self.assertEqual(len(self.accepted), self.requests * self.size)
        ids: defaultdict[str, list[str]] = defaultdict(list)
        while len(ids) < len(self.accepted):
            await deferLater(reactor, 0.1)
            ids.clear()
            for reception in self.simulator.inbox.received:
                ids[reception.token.hex()].append(reception.headers["apns-id"])
        twice = sum(len(found) - 1 for found in ids.values())
        self.say(f"{twice} of {len(ids)} arrived twice, {self.again} were sent twice")
        self.assertLessEqual(twice, self.kills * self.in_flight + self.again, "more than can have been under way")
        for token, apns_id in self.accepted.items():
            if apns_id is not None:
                self.assertEqual(set(ids[token]), {apns_id})
        self.assertLessEqual(sum(len(set(found)) - 1 for found in ids.values()), self.again)
        await self.check_recorded()
        self.assertEqual(await self.daemon.end(), 0)

    async def check_recorded(self) -> None:
        """Each notification has one outcome in the feed, however often the daemon sent it; no cursor is missing."""
        found: list[dict[str, Any]] = []
        while len({each["token"] for each in found}) < len(self.accepted):
            status, page = await self.daemon.ask("GET", f"/v1/apps/chess/outcomes?after={len(found)}&limit=10000")
            self.assertEqual(status, 200, page)
            found += page["outcomes"]
        self.assertEqual([each["cursor"] for each in found], list(range(1, len(found) + 1)))
        self.assertEqual({each["state"] for each in found}, {"accepted"})
        self.assertLessEqual(len(found) - len(self.accepted), self.again)
        recorded = {(each["token"], each["id"]) for each in found}
        self.assertLessEqual({(token, each) for token, each in self.accepted.items() if each is not None}, recorded)


@pytest.mark.loopback
@pytest.mark.campaign
class NativeKillTests(KillCase):
    """The HTTP API."""

    async def deliver(self, number: int, tokens: Sequence[str]) -> dict[str, str | None]:
        """Post it; an unanswered request is posted again under the same key."""
        body = {"notifications": [{"tokens": tokens, "payload": {"aps": {"alert": "Hi"}}}]}
        key = {"Idempotency-Key": f"request-{number}"}
        try:
            status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", body, key)
        except GONE:
            return {}
        self.assertEqual(status, 202, answer)
        return dict(zip(tokens, answer["notifications"][0]["ids"], strict=True))

    async def test_nothing_lost(self) -> None:
        """What was answered 202 arrives, under the id in the answer."""
        await self.lose_nothing()


@pytest.mark.campaign
@pytest.mark.loopback
class MatrixKillTests(KillCase):
    """The push gateway of Matrix."""

    async def deliver(self, number: int, tokens: Sequence[str]) -> dict[str, str | None]:
        """Notify the devices of an event, with every second pushkey in base64; an unanswered request is repeated."""
        pushkeys = [base64.b64encode(bytes.fromhex(each)).decode() if n % 2 else each for n, each in enumerate(tokens)]
        devices = [{"app_id": "com.example.app", "pushkey": pushkey} for pushkey in pushkeys]
        body = {"notification": {"event_id": f"${number}", "room_id": "!1", "devices": devices}}
        try:
            status, answer = await self.daemon.ask("POST", "/_matrix/push/v1/notify", body, listener="intake.matrix")
        except GONE:
            return {}
        self.assertEqual((status, answer), (200, {"rejected": []}))
        return dict.fromkeys(tokens)

    async def test_nothing_lost(self) -> None:
        """What was answered arrives, and nothing twice because its homeserver repeated a request."""
        await self.lose_nothing()


class ClientKillCase(KillCase):
    """Faces used by our own client."""

    @abstractmethod
    def client(self) -> APNSClient:
        """Make a client of the running daemon."""

    def identify(self, token: str) -> str | None:
        """Choose the id of a notification; ``None`` if it has none."""

    async def deliver(self, number: int, tokens: Sequence[str]) -> dict[str, str | None]:
        """Send a batch; what is uncertain is sent again, and may arrive twice."""
        client = self.client()
        ids = {token: self.identify(token) for token in tokens}
        notifications = {token: HELLO if each is None else HELLO.with_apns_id(each) for token, each in ids.items()}
        batch: Batch = await client.send_many((token, notifications[token], token) for token in tokens)
        await client.close()
        self.assertEqual(batch.failed, {})
        self.again += len(batch.uncertain)
        return {token: ids[token] for token in tokens if token not in batch.unsent and token not in batch.uncertain}


@pytest.mark.campaign
@pytest.mark.loopback
class AppleKillTests(ClientKillCase):
    """HTTP/2, as Apple serves it; answered when a notification is on disk."""

    def client(self) -> APNSClient:
        """Make a client with the app's own key."""
        token = ProviderToken.from_p8(AUTHORITY.p8, AUTHORITY.key_id, AUTHORITY.team_id)
        gateway = Gateway.http2("127.0.0.1", self.daemon.port("intake.apple"), trust_root=AUTHORITY.ca_pem)
        return APNSClient(reactor, token, gateway, topic=self.simulator.topic, timeout=2.0)

    def identify(self, token: str) -> str | None:
        """Choose the same id each time."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, token))

    async def test_nothing_lost(self) -> None:
        """What was answered 200 arrives, under the client's id."""
        await self.lose_nothing()


@pytest.mark.campaign
@pytest.mark.loopback
class BinaryKillTests(ClientKillCase):
    """The enhanced binary protocol, confirmed by a barrier."""

    def client(self) -> APNSClient:
        """Make a client with a certificate that the daemon knows."""
        port = self.daemon.port("intake.binary")
        gateway = Gateway.binary("127.0.0.1", port, trust_root=AUTHORITY.ca_pem, barrier=True)
        return APNSClient(reactor, CERTIFICATE, gateway, timeout=2.0)

    async def test_nothing_lost(self) -> None:
        """What came before the barrier's refusal arrives."""
        await self.lose_nothing()


@pytest.mark.campaign
@pytest.mark.loopback
class PyapnsKillTests(KillCase):
    """XML-RPC."""

    async def deliver(self, number: int, tokens: Sequence[str]) -> dict[str, str | None]:
        """Call notify; an unanswered call may have been accepted, and is made again."""
        address = f"http://127.0.0.1:{self.daemon.port('intake.pyapns')}/"

        def notify() -> None:
            with xmlrpc.client.ServerProxy(address, allow_none=True) as server:
                server.notify("chess", list(tokens), [{"aps": {"alert": "Hi"}}] * len(tokens))

        try:
            await deferToThread(notify)
        except (OSError, xmlrpc.client.ProtocolError):
            self.again += len(tokens)
            return {}
        return dict.fromkeys(tokens)

    async def test_nothing_lost(self) -> None:
        """What notify returned for arrives."""
        await self.lose_nothing()
