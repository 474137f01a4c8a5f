"""
The daemon is killed again and again while it has notifications for later, and newer ones supersede older ones.

Nothing that it accepted is lost, nothing is sent before its date, and nothing superseded is sent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from tests.daemon.test_killed import GONE
from txapns.simulator import Simulator

__all__ = ["LaterKillTests"]

#: How many requests, of how many devices each, of how many in all, and how often the daemon is killed.
REQUESTS, SIZE, DEVICES, KILLS = 150, 20, 120, 8


@attrs.define
class _Accepted:
    """A notification that was accepted, in which life of the daemon, and the life in which a newer one was."""

    token: str
    not_before: float
    life: int
    newer: int | None = None


@pytest.mark.campaign
@pytest.mark.loopback
class LaterKillTests(TestCase):
    """One caller, one daemon."""

    timeout = 300

    async def setUp(self) -> None:
        """Start the simulator in this process, and the daemon."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        self.simulator = Simulator(reactor, delay=0.05)
        port = listen(self.simulator)
        self.addCleanup(port.stopListening)
        more = "[limits]\nrate = 400\n"
        self.daemon = DaemonProcess(configuration(directory, self.simulator, port.getHost().port, more))
        await self.daemon.start()
        self.kills: list[float] = []
        self.accepted: dict[str, _Accepted] = {}
        self.latest: dict[str, str] = {}  # the last id of each device
        self.back: Deferred[None] = Deferred()
        self.back.callback(None)

    async def tearDown(self) -> None:
        """Kill it if it still runs, and abort the simulator's connections."""
        if self.daemon.running:
            await self.daemon.end(signal.SIGKILL)
        for session in self.simulator.sessions:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()
        await deferLater(reactor, 0.05)

    async def submit(self, number: int, chance: Random) -> None:
        """Submit a request, again and again under the same key until it is answered."""
        tokens = [f"{chance.randrange(DEVICES):064x}" for _ in range(SIZE)]
        headers = {"apns-collapse-id": "score"}
        body: dict[str, Any] = {"notifications": [{"tokens": tokens, "payload": {"n": number}, "headers": headers}]}
        not_before = 0.0
        if chance.random() < 0.5:
            not_before = body["not_before"] = time.time() + chance.uniform(0.0, 3.0)
        if chance.random() < 0.3:
            body["rate"] = 50
        while True:
            try:
                path, key = "/v1/apps/chess/notifications", {"Idempotency-Key": f"request-{number}"}
                status, answer = await self.daemon.ask("POST", path, body, key)
                break
            except GONE:
                await deferLater(reactor, 0.02)
        self.assertEqual(status, 202, answer)
        life = len(self.kills)
        for token, apns_id in zip(tokens, answer["notifications"][0]["ids"], strict=True):
            older = self.latest.get(token)
            if older is not None:
                self.accepted[older].newer = life
            self.latest[token] = apns_id
            self.accepted[apns_id] = _Accepted(token, not_before, life)

    async def kill(self, chance: Random) -> None:
        """Kill it after a moment, and start it again."""
        await deferLater(reactor, chance.uniform(0.2, 1.5))
        self.kills.append(time.time())
        await self.daemon.end(signal.SIGKILL)
        await self.daemon.start()

    async def states(self) -> dict[str, str]:
        """Ask for the state of each, until none waits."""
        found: dict[str, str] = {}
        while len(found) < len(self.accepted):
            for apns_id in [each for each in self.accepted if each not in found]:
                status, outcome = await self.daemon.ask("GET", f"/v1/notifications/{apns_id}")
                self.assertEqual(status, 200, outcome)
                if outcome["state"] != "waiting":
                    found[apns_id] = outcome["state"]
            await deferLater(reactor, 0.1)
        return found

    async def test_killed(self) -> None:
        """Each has an outcome; the last of each device arrives, and what is superseded only if it was in flight."""
        chance = Random(os.getpid())

        async def submit_all() -> None:
            for number in range(REQUESTS):
                await self.submit(number, chance)
                await deferLater(reactor, 0.03)

        submitting = Deferred.fromCoroutine(submit_all())
        other = Random(os.getpid() + 1)
        for _ in range(KILLS):
            await self.kill(other)
        await submitting
        states = await self.states()
        self.assertEqual(await self.daemon.end(), 0)
        arrived: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        lives: dict[int, int] = {}  # of connections
        for reception in self.simulator.inbox.received:
            life = sum(kill < reception.at for kill in self.kills)
            life = lives.setdefault(id(reception.connection), life)
            arrived[reception.headers["apns-id"]].append((reception.at, life))
        self.assertEqual(set(states.values()), {"accepted", "superseded"})
        self.assertEqual(set(arrived) - set(self.accepted), set())
        for apns_id, each in self.accepted.items():
            for at, life in arrived[apns_id]:
                self.assertGreaterEqual(at, each.not_before - 0.001)
                if states[apns_id] == "superseded":
                    assert each.newer is not None
                    self.assertLessEqual(life, each.newer)
                    self.assertLess(life, len(self.kills), "it was not in flight when the daemon was killed")
            if states[apns_id] == "accepted":
                self.assertTrue(arrived[apns_id])
        self.assertEqual({states[apns_id] for apns_id in self.latest.values()}, {"accepted"})
        twice = sum(len(found) - 1 for found in arrived.values() if found)
        superseded = sum(state == "superseded" for state in states.values())
        sys.stdout.write(f"{len(states)} accepted, {superseded} superseded, {twice} arrived twice\n")
        self.assertGreater(superseded, 0)
