"""The native face in memory, with apps that have channels at the simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.channels_world import ChannelsWorld
from tests.daemon.fakes import Connection, Response
from txapns._serving.http import HTTPServer
from txapns.daemon.faces.native.face import Native

__all__ = ["PATIENCE", "BroadcastCase"]

PATIENCE = 5.0


class BroadcastCase(SynchronousTestCase):
    """A face, and one connection to it. The key ``chess`` is for that app, and ``manager`` may only manage."""

    def setUp(self) -> None:
        """Start it."""
        self.world = world = ChannelsWorld(Path(self.mktemp()))
        self.addCleanup(world.stop)
        self.native = Native(
            world.intake,
            world.outcome_log,
            world.log,
            world.feed,
            world.apps,
            world.keys,
            PATIENCE,
            channels_of=world.channels.of,
        )
        self.connection = Connection(HTTPServer(world.reactor, self.native), world.reactor)
        self.addCleanup(lambda: self.connection.lose())

    def ask(self, method: str, path: str, content: Any = None, key: str = "chess", **headers: str) -> Response:
        """Send a request about an app."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None if content is None else json.dumps(content).encode()
        return self.connection.request(method, f"/v1/apps/{path}", body, key, fields)

    def make_channel(self, policy: int = 0) -> str:
        """Make a channel; returns its identifier."""
        return str(self.ask("POST", "chess/channels", {"storage_policy": policy}).json["channel"])
