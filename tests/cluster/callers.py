"""Programs that hand notifications to the nodes of a cluster, one for each face, and what they were told."""

from __future__ import annotations

import uuid
import xmlrpc.client
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import RequestNotSent, ResponseFailed, ResponseNeverReceived

from tests.cluster.processes import Node
from txapns import APNSClient, Batch, Certificate, Gateway, Notification, ProviderToken

__all__ = ["CALLERS", "Book", "Caller", "Load"]

#: The errors of an HTTP client whose node is killed or not running.
GONE = (ConnectError, ConnectionDone, ConnectionLost, RequestNotSent, ResponseFailed, ResponseNeverReceived, OSError)
#: How long a program waits before it asks again, in seconds.
PAUSE = 0.05
HELLO = Notification(alert="Hi", push_type="alert")


@attrs.define
class Book:
    """
    What callers were told.

    :ivar accepted: what is accepted, by token, with its id; ``None`` where the face returns none.
    :ivar again: how many were handed over once more because no answer came, and may have been accepted twice.
    """

    accepted: dict[str, str | None] = attrs.Factory(dict)
    again: int = 0


class Caller(ABC):
    """
    A program.

    :param credentials: the directory with those of the simulator.
    :param key_id: the identifier of the key there.
    :param team_id: that of its team.
    :param book: where it keeps its book.
    """

    def __init__(self, credentials: Path, key_id: str, team_id: str, book: Book) -> None:
        self.trust = (credentials / "ca.pem").read_bytes()
        self.certificate = Certificate.from_pem((credentials / "client.pem").read_bytes())
        self.token = ProviderToken.from_p8((credentials / "AuthKey.p8").read_bytes(), key_id, team_id)
        self.book = book

    @abstractmethod
    async def deliver(self, node: Node, request: str, tokens: Sequence[str]) -> Mapping[str, str | None]:
        """
        Hand over the rest of one request.

        :param node: to whom.
        :param request: the request's name.
        :param tokens: the tokens that are not known to be accepted.
        :returns: those that are now, each with its id; ``None`` if the face returns none.
        """


class NativeCaller(Caller):
    """The HTTP API; what is not answered is posted again, to any node, under the same key."""

    async def deliver(self, node: Node, request: str, tokens: Sequence[str]) -> Mapping[str, str | None]:
        """Post it."""
        body = {"notifications": [{"tokens": tokens, "payload": {"aps": {"alert": "Hi"}}}]}
        try:
            path, key = "/v1/apps/chess/notifications", {"Idempotency-Key": request}
            status, answer = await node.ask("POST", path, body, key)
        except GONE:
            return {}
        if status == 202:
            return dict(zip(tokens, answer["notifications"][0]["ids"], strict=True))
        assert status == 503, (status, answer)
        return {}


class BroadcastCaller(Caller):
    """The HTTP API again, with a broadcast for each token, which is its channel."""

    async def deliver(self, node: Node, request: str, tokens: Sequence[str]) -> Mapping[str, str | None]:
        """Post them."""
        update = {"aps": {"event": "update", "timestamp": 1_700_000_000, "content-state": {}}}
        body = {"broadcasts": [{"channel": token, "payload": update} for token in tokens]}
        try:
            path, key = "/v1/apps/chess/broadcasts", {"Idempotency-Key": f"broadcasts {request}"}
            status, answer = await node.ask("POST", path, body, key)
        except GONE:
            return {}
        if status == 202:
            return dict(zip(tokens, [each["id"] for each in answer["broadcasts"]], strict=True))
        assert status == 503, (status, answer)
        return {}


class ClientCaller(Caller):
    """A program with our own client."""

    @abstractmethod
    def client(self, node: Node) -> APNSClient:
        """Make a client of a node."""

    def identify(self, token: str) -> str | None:
        """Choose the id of a notification; ``None`` if it has none."""

    async def deliver(self, node: Node, request: str, tokens: Sequence[str]) -> Mapping[str, str | None]:
        """Send a batch; what is uncertain is sent again."""
        client = self.client(node)
        ids = {token: self.identify(token) for token in tokens}
        notifications = {token: HELLO if each is None else HELLO.with_apns_id(each) for token, each in ids.items()}
        batch: Batch = await client.send_many((token, notifications[token], token) for token in tokens)
        await client.close()
        refused = {(each.status, each.reason) for each in batch.failed.values()}
        assert refused <= {(503, "ServiceUnavailable")}, refused
        self.book.again += len(batch.uncertain)
        missed = {*batch.failed, *batch.unsent, *batch.uncertain}
        return {token: ids[token] for token in tokens if token not in missed}


class AppleCaller(ClientCaller):
    """HTTP/2, as Apple serves it; answered when a notification is stored."""

    def client(self, node: Node) -> APNSClient:
        """Make a client with the app's own key."""
        gateway = Gateway.http2(node.host.address, node.port("intake.apple"), trust_root=self.trust)
        return APNSClient(reactor, self.token, gateway, topic="com.example.app", timeout=5.0, retries=0)

    def identify(self, token: str) -> str | None:
        """Choose the same id each time."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, token))


class BinaryCaller(ClientCaller):
    """The enhanced binary protocol, confirmed by a barrier."""

    def client(self, node: Node) -> APNSClient:
        """Make a client with a certificate that the nodes know."""
        port = node.port("intake.binary")
        gateway = Gateway.binary(node.host.address, port, trust_root=self.trust, barrier=True)
        return APNSClient(reactor, self.certificate, gateway, timeout=5.0)


class PyapnsCaller(Caller):
    """XML-RPC; a call that is not answered may have been accepted, and is made again."""

    async def deliver(self, node: Node, request: str, tokens: Sequence[str]) -> Mapping[str, str | None]:
        """Call notify."""
        address = f"http://{node.host.address}:{node.port('intake.pyapns')}/"

        def notify() -> None:
            with xmlrpc.client.ServerProxy(address, allow_none=True) as server:
                server.notify("chess", list(tokens), [{"aps": {"alert": "Hi"}}] * len(tokens))

        try:
            await deferToThread(notify)
        except (xmlrpc.client.Fault, xmlrpc.client.ProtocolError) as error:
            code = error.faultCode if isinstance(error, xmlrpc.client.Fault) else error.errcode
            assert code == 503, error
            return {}
        except OSError:  # refused ones, too: the library has tried again by itself
            self.book.again += len(tokens)
            return {}
        return dict.fromkeys(tokens)


class MatrixCaller(Caller):
    """A homeserver; what is not answered with a list is sent again, to any node, and is recognized by its event."""

    async def deliver(self, node: Node, request: str, tokens: Sequence[str]) -> Mapping[str, str | None]:
        """Notify the devices."""
        devices = [{"app_id": "com.example.app", "pushkey": token} for token in tokens]
        body = {"notification": {"event_id": f"${request}", "room_id": "!1", "devices": devices}}
        try:
            status, answer = await node.ask("POST", "/_matrix/push/v1/notify", body, listener="intake.matrix")
        except GONE:
            return {}
        if status == 503:
            return {}
        assert (status, answer) == (200, {"rejected": []}), (status, answer)
        return dict.fromkeys(tokens)


CALLERS = (NativeCaller, BroadcastCaller, AppleCaller, BinaryCaller, PyapnsCaller, MatrixCaller)


class Load:
    """
    Requests to all faces of whichever nodes run.

    :param callers: the programs, each of which makes as many requests.
    :param nodes: the nodes; those that run are asked.
    :param chance: chooses among them.
    :param requests: how many requests each program makes.
    :param size: how many tokens each of them has.
    :param together: how many requests a program makes at a time.
    """

    def __init__(
        self,
        callers: Sequence[Caller],
        nodes: Mapping[str, Node],
        chance: Random,
        requests: int,
        size: int = 100,
        together: int = 2,
    ) -> None:
        self._callers = callers
        self._nodes = nodes
        self._chance = chance
        self._requests = requests
        self._size = size
        self._together = together
        self.total = requests * size * len(callers)

    def run(self) -> Deferred[object]:
        """Make all requests; the result is there when everything is accepted."""
        lines = []
        for place, caller in enumerate(self._callers):
            numbers = iter(range(self._requests))
            lines += [self._hand_over(place, caller, numbers) for _ in range(self._together)]
        return gatherResults([Deferred.fromCoroutine(line) for line in lines], consumeErrors=True)

    async def _hand_over(self, place: int, caller: Caller, numbers: Iterator[int]) -> None:
        """Make one request after the other, each until all of it is accepted."""
        for number in numbers:
            first = number * self._size
            left = [f"{place:08x}{serial:056x}" for serial in range(first, first + self._size)]
            while left:
                running = [node for node in self._nodes.values() if node.ready]
                accepted: Mapping[str, str | None] = {}
                if running:
                    node = self._chance.choice(running)
                    accepted = await caller.deliver(node, f"{place}-{number}", left)
                caller.book.accepted.update(accepted)
                left = [token for token in left if token not in accepted]
                if left:
                    await deferLater(reactor, PAUSE)
