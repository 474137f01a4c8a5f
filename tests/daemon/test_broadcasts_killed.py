"""Broadcasts from end to end: a daemon in a process of its own is killed while it has some, and loses none."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from tests.daemon.test_killed import AUTHORITY, GONE
from txapns.simulator import Simulator

__all__ = ["BroadcastKillTests"]

#: How many requests, of how many broadcasts, how many at a time, and how often the daemon is killed.
REQUESTS, SIZE, TOGETHER, KILLS = 120, 5, 4, 4


@pytest.mark.campaign
@pytest.mark.loopback
class BroadcastKillTests(TestCase):
    """The HTTP API, with the simulator's two servers."""

    timeout = 240

    async def setUp(self) -> None:
        """Start the simulator in this process, and the daemon."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        self.simulator = Simulator(reactor, authority=AUTHORITY, delay=0.02)
        sending = listen(self.simulator)
        managing = reactor.listenTCP(0, self.simulator.tls_factory("channels"), interface="127.0.0.1")
        for port in (sending, managing):
            self.addCleanup(port.stopListening)
        path = configuration(directory, self.simulator, sending.getHost().port)
        gateway = f":port={sending.getHost().port}"
        text = path.read_text().replace(gateway, f"{gateway}:management_port={managing.getHost().port}")
        path.write_text(text)
        self.daemon = DaemonProcess(path)
        await self.daemon.start()
        self.back: Deferred[None] = Deferred()
        self.back.callback(None)
        self.accepted: dict[int, str] = {}

    async def tearDown(self) -> None:
        """Kill it if it still runs, and abort the simulator's connections."""
        if self.daemon.running:
            await self.daemon.end(signal.SIGKILL)
        for session in self.simulator.sessions:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()
        await deferLater(reactor, 0.05)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Send a request about the app."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.daemon.ask(method, f"/v1/apps/chess/{path}", body, fields)

    def broadcast(self, number: int, channel: str) -> dict[str, Any]:
        """Make a broadcast that can be told from all others."""
        state = {"event": "update", "timestamp": 1_700_000_000, "content-state": {"number": number}}
        return {"channel": channel, "payload": {"aps": state}, "headers": {"apns-priority": 5}}

    async def hand_over(self, numbers: Iterator[int], channel: str) -> None:
        """Send one request after the other, each until it is accepted."""
        for number in numbers:
            members = range(number * SIZE, (number + 1) * SIZE)
            body = {"broadcasts": [self.broadcast(each, channel) for each in members]}
            while members[0] not in self.accepted:
                waiting: Deferred[None] = Deferred()
                self.back.addCallback(lambda _, waiting=waiting: waiting.callback(None))
                await waiting
                try:
                    status, answer = await self.ask("POST", "broadcasts", body, Idempotency_Key=f"request {number}")
                except GONE:
                    await deferLater(reactor, 0.02)
                    continue
                self.assertEqual(status, 202, answer)
                ids = [each["id"] for each in answer["broadcasts"]]
                self.accepted.update(zip(members, ids, strict=True))

    async def kill(self, chance: Random) -> None:
        """Wait until a random number more are accepted; kill the daemon, and start it again."""
        enough = len(self.accepted) + chance.randint(1, REQUESTS * SIZE // (KILLS + 2))
        while len(self.accepted) < enough:
            await deferLater(reactor, 0.005)
        self.back = Deferred()
        await self.daemon.end(signal.SIGKILL)
        await self.daemon.start()
        self.back.callback(None)

    async def received(self) -> dict[int, set[str]]:
        """Wait until all broadcasts have come; returns the ids under which each came."""
        while True:
            ids: defaultdict[int, set[str]] = defaultdict(set)
            for each in self.simulator.inbox.received:
                self.assertEqual((each.protocol, each.reason), ("broadcast", None))
                number = json.loads(each.payload)["aps"]["content-state"]["number"]
                ids[number].add(each.headers["apns-request-id"])
            if len(ids) == REQUESTS * SIZE:
                return ids
            await deferLater(reactor, 0.1)

    async def test_nothing_lost(self) -> None:
        """What was answered 202 comes to Apple under the id in the answer, and its outcome is known afterwards."""
        status, made = await self.ask("POST", "channels", {"storage_policy": 1})
        self.assertEqual((status, made["storage_policy"]), (201, 1))
        numbers, channel = iter(range(REQUESTS)), made["channel"]
        posting = gatherResults(
            [Deferred.fromCoroutine(self.hand_over(numbers, channel)) for _ in range(TOGETHER)], consumeErrors=True
        )
        chance = Random(os.getpid())
        for _ in range(KILLS):
            await self.kill(chance)
        await posting
        self.assertEqual(await self.received(), {number: {apns_id} for number, apns_id in self.accepted.items()})
        waiting = {"broadcasts": [self.broadcast(-1, channel)], "wait": True}
        status, answer = await self.ask("POST", "broadcasts", waiting)
        self.assertEqual((status, answer["broadcasts"][0]["outcome"]["state"]), (200, "accepted"))
        found = {"state": "waiting"}
        while found["state"] == "waiting":
            _, found = await self.daemon.ask("GET", f"/v1/notifications/{self.accepted[0]}")
        self.assertEqual((found["state"], found["status"]), ("accepted", 200))
        self.simulator.channels.delete(self.simulator.topic, channel)
        status, answer = await self.ask("GET", f"channels/{quote(channel, safe='')}")
        self.assertEqual((status, answer["error"]["code"]), (404, "unknown_channel"))
        _, answer = await self.ask("POST", "broadcasts", waiting)
        self.assertEqual(answer["broadcasts"][0]["outcome"]["reason"], "ChannelNotRegistered")
        self.assertEqual(await self.daemon.end(), 0)
