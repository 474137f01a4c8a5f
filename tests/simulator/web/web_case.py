"""A simulator in memory, and requests to its control API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon.fakes import Connection, Response
from tests.simulator.peers import AUTHORITY
from txapns import Notification
from txapns.client import APNSClient
from txapns.testing import MemorySimulator

__all__ = ["WebCase"]

_WEB = 8025


class WebCase(SynchronousTestCase):
    """A simulator, whose clock shows some hour, and a client of it."""

    def setUp(self) -> None:
        """Make them."""
        self.simulator = MemorySimulator(authority=AUTHORITY)
        self.simulator.advance(100_000.0)
        self.inbox = self.simulator.inbox
        self.connections: list[Connection] = []
        self.clients: list[APNSClient] = []

    def tearDown(self) -> None:
        """All connections can be lost; then no timers are left, and nothing was logged."""
        for client in self.clients:
            self.simulator.result(client.close())
        for connection in self.connections:
            connection.lose()
        self.simulator.flush()
        self.assertEqual((self.simulator.reactor.getDelayedCalls(), self.flushLoggedErrors()), ([], []))
        self.assertEqual(self.inbox.listeners, [])

    def connect(self) -> Connection:
        """Connect to the control API."""
        self.connections.append(Connection(self.simulator.reactor.servers[_WEB], self.simulator.reactor))
        return self.connections[-1]

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
        """Send a request over a new connection."""
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Host": "localhost:8025", **(headers or {})}
        return self.connect().request(method, path, content, None, fields)

    def get(self, path: str) -> Any:
        """Get what is there."""
        response = self.ask("GET", path)
        self.assertEqual(response.status, 200, response.body)
        return response.json

    def send(self, *tokens: str, client: APNSClient | None = None, **options: Any) -> None:
        """Send a notification to these tokens."""
        if client is None:
            client = self.simulator.client(credential=self.simulator.provider_token())
            self.clients.append(client)
        options.setdefault("alert", "Hi")
        self.simulator.result(client.send(Notification(**options), tokens))
