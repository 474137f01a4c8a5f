"""The operator's view of a daemon in memory: a dispatcher, its health and metrics, and the admin endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from tests.daemon.dispatch_world import DispatchWorld
from tests.daemon.fakes import Connection
from txapns.daemon.intake import Intake
from txapns.daemon.interfaces import IKeys, IQueue
from txapns.daemon.operations.admin import LIMITS, Admin
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.sending.webhook import Webhook, WebhookConfig
from txapns.daemon.serving.http import HTTPServer
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.values import Draft, Leased, Settlement

__all__ = ["AdminWorld", "HealthStore", "SilentAgent"]


class SilentAgent:
    """An HTTP client that never gets an answer."""

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, body: Any = None) -> Deferred[Any]:
        """Send a request."""
        return Deferred()


@attrs.define
class HealthStore:
    """
    As much of a store as a health check needs.

    :ivar queue: its queue.
    :ivar database: what is asked for the rest.
    :ivar broken: why nothing can be stored, while a test says so.
    """

    queue: IQueue
    database: Database
    broken: str = ""

    @property
    def trouble(self) -> str:
        """Why nothing can be stored."""
        return self.broken or self.database.trouble

    def probe(self) -> Deferred[str]:
        """Try to store something."""
        return self.database.probe()


class AdminWorld(DispatchWorld):
    """
    A daemon whose time the test advances.

    :param keys: the keys of the admin endpoint; by default it asks for none.
    :param now: the time; by default some time in the past.
    :param limit: how many browsers may keep the status page open.

    :ivar problems: the problems of apps, by their names.
    :ivar intake: accepts notifications.
    :ivar server: the admin endpoint.
    """

    def __init__(self, keys: IKeys | None = None, now: float | None = None, limit: int = 32, **options: Any) -> None:
        super().__init__(**options)
        if now is not None:
            self.clock.rightNow = now
        self.problems: dict[str, str] = {}
        self.metrics = DaemonMetrics()
        self.history = History(self.clock, self.metrics.totals)
        self.start(metrics=self.metrics.client, settled=self._settled)
        hook = WebhookConfig("crm", "https://crm.invalid/?key=hush", lambda: b"correct horse battery staple")
        self.webhook = Webhook(self.clock, self.log, hook, agent=SilentAgent(), random=lambda: 0.5)  # type: ignore[arg-type]
        self.store: Any = HealthStore(self.queue, self.database)
        self.health = HealthCheck(
            self.clock,
            self.store,
            self.apps,
            problems=lambda: self.problems,
            states=lambda: self.dispatcher.states(),
            webhooks=[self.webhook],
        )
        self.status = StatusPage(self.clock, self.health, self.history, limit)
        self.admin = Admin(self.health, self.metrics, self.status, keys)
        self.server = HTTPServer(self.clock, self.admin, attrs.evolve(LIMITS, clients=100))
        intake = Intake(self.apps, self.queue, self.ids, self.outcomes, self.dispatcher.wake)
        self.intake = self.metrics.intake("native", intake)
        self.history.start()

    def _settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        self.metrics.settled(app, leased, settlements, now)
        self.history.settled(app, leased, settlements)

    def take(self, tokens: Sequence[bytes], app: str = "chess") -> None:
        """Accept a notification from a caller."""
        headers = {"apns-topic": self.simulator.topic, "apns-push-type": "alert"}
        self.result(self.intake.accept(app, [Draft(b'{"aps":{"alert":"Hello"}}', headers, tokens)]))

    def connect(self) -> Connection:
        """Connect to the admin endpoint."""
        return Connection(self.server, self.clock)

    def close(self) -> None:
        """Stop everything."""
        self.history.stop()
        self.webhook.stop()
        self.status.subscribers.stop()
        super().close()
