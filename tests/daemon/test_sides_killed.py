"""An app with two sides from end to end: a daemon in a process of its own is killed while it finds out about tokens."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from txapns.simulator import Simulator

__all__ = ["SidesKillTests"]

#: How many tokens, how many of them in a request, and how often the daemon is killed.
TOKENS, SIZE, KILLS = 240, 20, 3
_KINDS = ("production", "sandbox", "neither")


def _token(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.campaign
@pytest.mark.loopback
class SidesKillTests(TestCase):
    """Two simulators, of which each knows a third of the tokens."""

    timeout = 300

    async def setUp(self) -> None:
        """Start the simulators in this process, and the daemon."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        self.production = Simulator(reactor, delay=0.01)
        self.sandbox = Simulator(reactor, authority=self.production.authority, delay=0.02)
        self.sandbox.environment = "sandbox"
        ports = []
        for simulator, other in ((self.production, "sandbox"), (self.sandbox, "production")):
            for number in range(TOKENS):
                kind = self.kind(number)
                simulator.inbox.environments[_token(number)] = other if kind == "neither" else kind
            port = listen(simulator)
            self.addCleanup(port.stopListening)
            ports.append(port.getHost().port)
        path = configuration(directory, self.production, ports[0])
        side = f'environment = "auto"\n[apps.chess.sandbox]\ngateway = "http2:host=127.0.0.1:port={ports[1]}"\n'
        path.write_text(path.read_text() + side)
        self.daemon = DaemonProcess(path)
        await self.daemon.start()

    async def tearDown(self) -> None:
        """Kill it if it still runs, and abort the simulators' connections."""
        if self.daemon.running:
            await self.daemon.end(signal.SIGKILL)
        for session in [*self.production.sessions, *self.sandbox.sessions]:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()
        await deferLater(reactor, 0.05)

    def kind(self, number: int) -> str:
        """Tell which side knows a token."""
        return _KINDS[number % 3]

    async def send(self, numbers: range) -> dict[int, str]:
        """Hand over notifications; returns their ids."""
        tokens = [_token(number).hex() for number in numbers]
        body = {"notifications": [{"tokens": tokens, "payload": {"aps": {"badge": 1}}}]}
        status, answer = await self.daemon.ask("POST", "/v1/apps/chess/notifications", body, {})
        self.assertEqual(status, 202, answer)
        return dict(zip(numbers, answer["notifications"][0]["ids"], strict=True))

    async def outcome(self, apns_id: str) -> Any:
        """Wait for the outcome of a notification."""
        while True:
            status, found = await self.daemon.ask("GET", f"/v1/notifications/{apns_id}", None, {})
            self.assertEqual(status, 200, found)
            if found["state"] != "waiting":
                return found
            await deferLater(reactor, 0.02)

    async def test_killed(self) -> None:
        """
        Everything has the outcome that its token deserves, from the side that knows it, whenever the daemon is killed;
        what is sent again has the same id. Afterwards each token goes where it is known, at once.
        """
        ids: dict[int, str] = {}
        steps = [range(first, first + SIZE) for first in range(0, TOKENS, SIZE)]
        for count, numbers in enumerate(steps):
            ids.update(await self.send(numbers))
            if count % (len(steps) // KILLS) == 1:
                await self.daemon.end(signal.SIGKILL)
                await self.daemon.start()
        for number, apns_id in ids.items():
            found, kind = await self.outcome(apns_id), self.kind(number)
            state, environment = ("rejected", "production") if kind == "neither" else ("accepted", kind)
            self.assertEqual((found["state"], found["environment"]), (state, environment), json.dumps(found))
        for simulator in (self.production, self.sandbox):
            pairs = {(each.token, each.headers["apns-id"]) for each in simulator.inbox.received}
            self.assertLessEqual(pairs, {(_token(number), apns_id) for number, apns_id in ids.items()})
            asked = Counter(each.token for each in simulator.inbox.received)
            self.assertLessEqual(max(asked.values()), 1 + KILLS)
            simulator.inbox.received.clear()
        again = await self.send(range(TOKENS))
        for apns_id in again.values():
            await self.outcome(apns_id)
        for simulator, kinds in ((self.production, ("production", "neither")), (self.sandbox, ("sandbox",))):
            expected = Counter([_token(number) for number in range(TOKENS) if self.kind(number) in kinds])
            self.assertEqual(Counter(each.token for each in simulator.inbox.received), expected)
