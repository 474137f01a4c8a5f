"""A database of an earlier version is used as it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.daemon.daemon_process import DaemonProcess, configuration, listen
from txapns.simulator import Simulator

__all__ = ["EarlierDatabaseTests"]

_EARLIER = Path(__file__).with_name("earlier.sql")
_KEY = "txapns_43a5b386_1138cac307980b4ec4f389cbe814c815200002a8060220255daabbe0a12c7a30"
_MASTER_KEY = "URM-LBAlZT9sWQNNH-4WxuWwlp3QGj2USHv9PFEIwwk="
_ACCEPTED = "01a22a37-7f19-7000-bcc3-eeeff84be008"
_REJECTED = "01a22a37-7f19-7001-811c-a0d3d1d834db"
_DEAD = "01a22a37-7f19-7002-aebe-c3d150a09891"
_WAITING = ["01a22a37-8709-7000-83f1-cc8030a6999f", "01a22a37-8709-7001-aba0-2cd565ed7bb4"]


@pytest.mark.loopback
class EarlierDatabaseTests(TestCase):
    """What the daemon finds there after an upgrade."""

    timeout = 300

    async def setUp(self) -> None:
        """Start the daemon with the database, and with a simulator in place of the one that there was."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        with closing(sqlite3.connect(directory / "apns.db")) as connection:
            connection.executescript(_EARLIER.read_text())
        (directory / "apns.db").chmod(0o600)
        (directory / "master.key").touch(mode=0o600)
        (directory / "master.key").write_text(_MASTER_KEY)
        self.simulator = Simulator(reactor)
        port = listen(self.simulator)
        self.addCleanup(port.stopListening)
        more = "[database]\nretention = 1e9\n"
        path = configuration(directory, self.simulator, port.getHost().port, more, keys=True)
        self.daemon = DaemonProcess(path)
        await self.daemon.start()

    async def tearDown(self) -> None:
        """Stop it, and abort the simulator's connections."""
        self.assertEqual(0, await self.daemon.end())
        for session in self.simulator.sessions:
            if session.transport is not None and session.transport.connected:
                session.transport.abortConnection()
        await deferLater(reactor, 0.05)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Send a request that must succeed; returns the answer."""
        fields = {name.replace("_", "-"): text for name, text in headers.items()}
        fields["Authorization"] = f"Bearer {_KEY}"
        status, answer = await self.daemon.ask(method, f"/v1{path}", body, fields)
        self.assertIn(status, (200, 202), answer)
        return answer

    async def received(self, count: int) -> dict[str, str]:
        """Wait until the simulator has received so many; returns their ids, by token."""
        while len(self.simulator.inbox.received) < count:
            await deferLater(reactor, 0.02)
        return {each.token.hex(): each.headers["apns-id"] for each in self.simulator.inbox.received}

    async def test_everything_is_there(self) -> None:
        """
        What waited is sent under its ids, what was given up can be sent again, and outcomes, dead tokens, keys of
        idempotency, API keys and apps are known.
        """
        waiting = {"bb" * 32: _WAITING[0], "cc" * 32: _WAITING[1]}
        self.assertEqual(waiting, await self.received(2))
        outcomes = [await self.ask("GET", f"/notifications/{each}") for each in (_ACCEPTED, _REJECTED, _DEAD)]
        self.assertEqual(["accepted", "rejected", "dead"], [each["state"] for each in outcomes])
        feedback = await self.ask("GET", "/apps/chess/feedback")
        self.assertEqual([(1, "dd" * 32)], [(each["cursor"], each["token"]) for each in feedback["tokens"]])
        notification = {"tokens": list(waiting), "payload": {"aps": {"alert": "Dinner is ready"}}}
        again = {"wait": False, "notifications": [notification]}
        answer = await self.ask("POST", "/apps/chess/notifications", again, Idempotency_Key="dinner of Friday")
        self.assertEqual([{"ids": _WAITING}], answer["notifications"])
        await self.ask("POST", "/apps/chess/queue/retry", {})
        self.assertEqual({**waiting, "5e" * 32: _DEAD}, await self.received(3))
        apps = {each["name"]: each["source"] for each in (await self.ask("GET", "/apps"))["apps"]}
        self.assertEqual({"chess": "file", "mail": "database"}, apps)
