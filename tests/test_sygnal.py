"""Tests for :mod:`txapns.sygnal`, in a Sygnal of its own, by its HTTP API."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool

from tests.command.processes import environment
from tests.connect_proxy import ConnectProxy
from tests.ports import reserve
from tests.processes import started
from txapns.simulator import Simulator
from txapns.simulator.requests import Request, RequestServer, Response
from txapns.simulator.service import SimulatorService

__all__ = ["PushkinTests", "RunTests"]

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.skipif(find_spec("sygnal") is None, reason="Sygnal is not installed"),
]

PUSHKIN = "txapns.sygnal.ApnsPushkin"
TOPIC = "com.example.app"
TOKENS = [f"{number + 1:064x}" for number in range(500)]
DEAD = TOKENS[::10]


def pushkey_of(token: str) -> str:
    """Encode a token as apps for Matrix do."""
    return base64.b64encode(bytes.fromhex(token)).decode()


class Goaway:
    """
    A fault: each connection ends with GOAWAY after so many requests, and what follows on it is not processed.

    :param count: after how many.
    :param then: called each time.
    """

    def __init__(self, count: int, then: Callable[[], object]) -> None:
        self._count = count
        self._then = then
        self._counts: Counter[RequestServer] = Counter()
        self._last: dict[RequestServer, int] = {}

    def __call__(self, server: RequestServer, request: Request, response: Response) -> Response | None:
        """Count a request."""
        if request.stream > self._last.get(server, request.stream):
            return None
        self._counts[server] += 1
        if self._counts[server] == self._count:
            self._last[server] = request.stream
            server.requests.goaway(0, last_stream=request.stream, debug=b"")
            self._then()
        return response


class _Body(Protocol):
    """The body of an answer, which may have no length."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self._parts.append(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It is whole."""
        self.whole.callback(b"".join(self._parts))


class SygnalCase(TestCase):
    """A simulator, and a Sygnal that reaches it through a proxy."""

    timeout = 300

    async def setUp(self) -> None:
        """Start them."""
        self.simulator = Simulator(reactor, topic=TOPIC, dead=map(bytes.fromhex, DEAD))
        state = Path(self.mktemp())
        service = SimulatorService(reactor, self.simulator, state)
        service.startService()
        self.addCleanup(service.stopService)
        self.proxy = ConnectProxy(reactor)
        proxy = reactor.listenTCP(0, self.proxy, interface="127.0.0.1")
        self.addCleanup(proxy.stopListening)
        told = json.loads((state / "simulator.json").read_text())
        where = {
            "type": PUSHKIN,
            "gateway": f"http2:host=localhost:port={told['http2']}",
            "trust_root": str(state.resolve() / "ca.pem"),
        }
        key = {name: told[name] for name in ("key_id", "team_id", "topic")}
        key["keyfile"] = str(state.resolve() / "AuthKey.p8")
        self.port, self.metrics = reserve(2)
        await self.start_sygnal(
            {
                "proxy": f"http://127.0.0.1:{proxy.getHost().port}",
                "http": {"port": self.port, "bind_addresses": ["127.0.0.1"]},
                "log": {"setup": {"version": 1, "disable_existing_loggers": False}},
                "metrics": {"prometheus": {"enabled": True, "address": "127.0.0.1", "port": self.metrics}},
                "apps": {
                    TOPIC: {**where, **key},
                    "hexadecimal": {**where, **key, "convert_device_token_to_hex": False, "push_type": "background"},
                    "certificate": {**where, "certfile": str(state.resolve() / "client.pem")},
                },
            }
        )

    async def start_sygnal(self, configuration: dict[str, Any]) -> None:
        """Start Sygnal with a configuration, and wait until it answers."""
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = 50
        self.agent = Agent(reactor, pool=pool)
        self.addCleanup(pool.closeCachedConnections)
        path, log = Path(self.mktemp()), Path(self.mktemp())
        path.write_text(json.dumps(configuration))  # YAML, too
        with log.open("w") as file:
            process = started(
                self,
                [sys.executable, "-m", "sygnal.sygnal"],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(SYGNAL_CONF=os.fspath(path.resolve())),
            )
        while True:
            try:
                await self.request("GET", self.port, "/health")
                return
            except ConnectError:
                self.assertIsNone(process.poll(), log.read_text())
            await deferLater(reactor, 0.1)

    async def request(self, method: str, port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Make a request; returns the status and the body of the answer."""
        url = f"http://127.0.0.1:{port}{path}"
        producer = None if body is None else FileBodyProducer(BytesIO(body))
        response = await self.agent.request(method.encode(), url.encode(), None, producer)
        body_of_answer = _Body()
        response.deliverBody(body_of_answer)
        return response.code, await body_of_answer.whole

    async def notify(self, pushkey: str, app_id: str = TOPIC, **more: Any) -> tuple[int, Any]:
        """Send one notification as Synapse does; returns the status and what is rejected."""
        notification = {
            "event_id": "$event",
            "room_id": "!room:example.com",
            "type": "m.room.message",
            "sender_display_name": "Ann",
            "room_name": "Kitchen",
            "content": {"msgtype": "m.text", "body": "Dinner is ready"},
            "counts": {"unread": 2},
            "prio": "high",
            "devices": [{"app_id": app_id, "pushkey": pushkey, "data": {"default_payload": {"aps": {"sound": "x"}}}}],
            **more,
        }
        status, body = await self.request(
            "POST", self.port, "/_matrix/push/v1/notify", json.dumps({"notification": notification}).encode()
        )
        return status, json.loads(body)["rejected"] if status == 200 else None


class RunTests(SygnalCase):
    """Five hundred notifications."""

    async def test_run(self) -> None:
        """
        Each arrives once, under an id of its own, and the dead tokens are rejected, though midway connections end and
        the proxy refuses the next one.
        """
        refused = []

        def refuse(client: Any) -> None:
            self.proxy.answer = None
            refused.append(client)
            client.say(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

        def arm() -> None:
            if not refused:
                self.proxy.answer = refuse

        self.simulator.http2_fault = Goaway(100, arm)
        turns = DeferredSemaphore(50)
        answers = await gatherResults([turns.run(self.notify_later, token) for token in TOKENS])
        self.assertEqual(
            dict(zip(TOKENS, answers, strict=True)),
            {token: (200, [pushkey_of(token)] if token in DEAD else []) for token in TOKENS},
        )
        self.assertEqual(len(refused), 1)
        received = self.simulator.inbox.received
        self.assertEqual(sorted(each.token.hex() for each in received), TOKENS)
        self.assertEqual(len({uuid.UUID(each.headers["apns-id"]) for each in received}), len(TOKENS))
        _, metrics = await self.request("GET", self.metrics, "/metrics")
        for code, count in ((200, len(TOKENS) - len(DEAD)), (410, len(DEAD))):
            self.assertIn(
                f'sygnal_apns_status_codes_total{{code="{code}",pushkin="{TOPIC}"}} {count}.0', metrics.decode()
            )
        self.assertIn(f"sygnal_apns_request_time_count {len(TOKENS)}.0", metrics.decode())

    def notify_later(self, token: str) -> Deferred[tuple[int, Any]]:
        """Send one, as a ``Deferred``."""
        return Deferred.fromCoroutine(self.notify(pushkey_of(token)))


class PushkinTests(SygnalCase):
    """The pushkin by itself."""

    async def test_request(self) -> None:
        """What Apple gets is what Sygnal's own pushkin sends."""
        self.assertEqual(await self.notify(pushkey_of(TOKENS[1])), (200, []))
        self.assertEqual(await self.notify(pushkey_of(TOKENS[2]), prio="low"), (200, []))
        first, second = self.simulator.inbox.received
        arguments = ["Ann", "Kitchen", "Dinner is ready"]
        alert = {"loc-key": "MSG_FROM_USER_IN_ROOM_WITH_CONTENT", "loc-args": arguments}
        expected = {"aps": {"sound": "x", "alert": alert, "badge": 2}, "room_id": "!room:example.com"}
        self.assertEqual(json.loads(first.payload), {**expected, "event_id": "$event"})
        self.assertEqual((first.headers["apns-topic"], first.headers["apns-push-type"]), (TOPIC, "alert"))
        self.assertEqual((first.headers.get("apns-priority", "10"), second.headers["apns-priority"]), ("10", "5"))

    async def test_apps(self) -> None:
        """Options are those of Sygnal's own pushkin: a certificate, hexadecimal tokens, another push type."""
        self.assertEqual(await self.notify(pushkey_of(TOKENS[1]), "certificate"), (200, []))
        self.assertEqual(await self.notify(TOKENS[2], "hexadecimal"), (200, []))
        self.assertEqual(await self.notify("not hexadecimal", "hexadecimal"), (200, ["not hexadecimal"]))
        first, second = self.simulator.inbox.received
        self.assertNotIn("authorization", first.headers)
        self.assertEqual((second.headers["apns-push-type"], second.headers["apns-priority"]), ("background", "5"))

    async def test_rejected(self) -> None:
        """Only what says that a token is useless rejects it; of the rest Synapse is told to try again."""
        pushkey = pushkey_of(TOKENS[1])
        rejected, again = (200, [pushkey]), (502, None)
        expected = {
            Response(400, "BadDeviceToken"): rejected,
            Response(400, "DeviceTokenNotForTopic"): rejected,
            Response(400, "TopicDisallowed"): rejected,
            Response(410, "Unregistered"): rejected,
            Response(410, "ExpiredToken"): again,
            Response(400, "PayloadEmpty"): again,
            Response(413, "PayloadTooLarge"): again,
            Response(403, "Forbidden"): again,
        }
        answers = iter(expected)
        self.simulator.http2_fault = lambda server, request, response: next(answers)
        self.assertEqual({response: await self.notify(pushkey) for response in expected}, expected)

    async def test_hexadecimal(self) -> None:
        """A pushkey in hexadecimal is not read as base64; one that is neither is rejected, and nothing is sent."""
        self.assertEqual(await self.notify(TOKENS[1]), (200, []))
        self.assertEqual(await self.notify("not a token!"), (200, ["not a token!"]))
        self.assertEqual([each.token.hex() for each in self.simulator.inbox.received], [TOKENS[1]])

    async def test_sent_again(self) -> None:
        """What Apple could not process is sent again under the same id."""
        seen: Counter[bytes] = Counter()

        def fail_once(server: RequestServer, request: Request, response: Response) -> Response:
            identifier = dict(request.headers)[b"apns-id"]
            seen[identifier] += 1
            return Response(500, "InternalServerError") if seen[identifier] == 1 else response

        self.simulator.http2_fault = fail_once
        self.assertEqual(await self.notify(pushkey_of(TOKENS[1])), (200, []))
        self.assertEqual(list(seen.values()), [2])

    @pytest.mark.campaign
    async def test_refused(self) -> None:
        """While the proxy refuses, Synapse is told to try again; when it does so, the notification goes out."""
        self.proxy.answer = lambda client: client.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(await self.notify(pushkey_of(TOKENS[1])), (502, None))
        self.proxy.answer = None
        self.assertEqual(await self.notify(pushkey_of(TOKENS[1])), (200, []))
        self.assertEqual(self.simulator.counters()["received"], 1)
