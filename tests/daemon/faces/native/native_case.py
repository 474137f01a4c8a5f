"""The native face in memory, with callers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import Apps, Connection, Keys, Response, Waiting
from tests.daemon.store.contract import result
from tests.daemon.store.sqlite.world import SQLiteWorld
from txapns._network.clocks import wall_clock
from txapns._serving.http import HTTPServer
from txapns._serving.limits import ConnectionLimits
from txapns.daemon.faces.native.face import Native
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.values import Caller, Leased, Limits, Settlement, State

__all__ = ["ANN", "BOB", "PATH", "PATIENCE", "NativeCase", "submission"]

ANN = "aa" * 32
BOB = "bb" * 32
PATH = "/v1/apps/chess/notifications"
PATIENCE = 5.0


def submission(*tokens: str, **more: Any) -> bytes:
    """Write a request for one notification."""
    headers = {"apns-topic": "com.example.chess", "apns-push-type": "alert", "apns-priority": 10}
    payload = {"aps": {"alert": "Hello"}}
    notification = {"tokens": tokens or [ANN], "headers": headers, "payload": payload}
    return json.dumps({"notifications": [notification], **more}).encode()


class NativeCase(SynchronousTestCase):
    """A face with the real intake and queue, and one connection to it."""

    keys: Keys | None = Keys(
        Caller("all", None, None, manage=True),
        Caller("sender", frozenset({"chess", "gone"}), frozenset()),
        Caller("reader", frozenset(), frozenset({"news", "gone"})),
    )

    def setUp(self) -> None:
        """Start it."""
        self.world = SQLiteWorld(Path(self.mktemp()))
        self.addCleanup(lambda: self.world.stop())
        self.clock = self.world.clock
        self.apps = apps = Apps({"chess": Limits(queue=5, tokens=3), "news": Limits()}, {"chess"})
        self.world.feed.keep(["chess"])
        self.waiting = Waiting(self.clock)
        self.intake = Intake(
            apps, self.world.queue, Identifiers(wall_clock(self.clock)), self.waiting, lambda name: None
        )
        self.native = Native(
            self.intake, self.world.outcome_log, self.world.log, self.world.feed, apps, self.keys, PATIENCE
        )
        self.server = HTTPServer(self.clock, self.native, ConnectionLimits(body=100_000))
        self.connection = Connection(self.server, self.clock)
        self.addCleanup(lambda: self.connection.lose())

    def post(self, body: bytes = b"", path: str = PATH, **more: Any) -> Response:
        """Post to the face."""
        return self.connection.request("POST", path, body or submission(), **more)

    def get(self, path: str, **more: Any) -> Response:
        """Get from it."""
        return self.connection.request("GET", path, **more)

    def result(self, deferred: Deferred[Any]) -> Any:
        """Let time pass until there is a result."""
        return result(self.clock, deferred)

    def lease(self, app: str = "chess") -> list[Leased]:
        """Lease everything that waits."""
        found: list[Leased] = []
        while some := self.result(self.world.queue.lease(app, 100, self.clock.seconds() + 60)):
            found += some
        return sorted(found, key=lambda each: each.number)

    def kill(self, *tokens: str, app: str = "chess") -> list[str]:
        """Accept notifications that Apple then rejects, since the tokens are dead; returns their ids."""
        body = json.dumps({"notifications": [{"tokens": tokens, "payload": {}}]}).encode()
        [accepted] = self.post(body, f"/v1/apps/{app}/notifications").json["notifications"]
        since = self.clock.seconds() - 60
        settlements = [Settlement(each.number, State.REJECTED, 410, "Unregistered", since) for each in self.lease(app)]
        self.result(self.world.queue.settle(settlements))
        return list(accepted["ids"])
