"""A daemon as its operator sees it: a dispatcher in memory with all that watches it, and the admin endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from tests.daemon.dispatch_world import DispatchWorld
from tests.daemon.fakes import Connection
from txapns.daemon.intake import Intake
from txapns.daemon.interfaces import IKeys
from txapns.daemon.operations.admin import LIMITS, Admin
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.sending.webhook import Webhook, WebhookConfig
from txapns.daemon.serving.http import HTTPServer
from txapns.daemon.values import Draft, Leased, Settlement

__all__ = ["AdminWorld", "SilentAgent"]


class SilentAgent:
    """Asks, and gets no answer."""

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, body: Any = None) -> Deferred[Any]:
        """Ask."""
        return Deferred()


class AdminWorld(DispatchWorld):
    """
    All of it. Time passes when it is said to.

    :param keys: the keys that callers of the admin endpoint show.
    :param now: the time; left out, some time in the past.
    :param most: how many may look at the page.

    :ivar problems: what is wrong with which app.
    :ivar intake: where notifications come in.
    :ivar server: the admin endpoint.
    """

    def __init__(self, keys: IKeys | None = None, now: float | None = None, most: int = 32, **options: Any) -> None:
        super().__init__(**options)
        if now is not None:
            self.clock.rightNow = now
        self.problems: dict[str, str] = {}
        self.metrics = DaemonMetrics()
        self.history = History(self.clock, self.metrics.totals)
        self.start(metrics=self.metrics.client, settled=self._settled)
        hook = WebhookConfig("crm", "https://crm.invalid/?key=hush", lambda: b"correct horse battery staple")
        self.webhook = Webhook(self.clock, self.log, hook, agent=SilentAgent(), random=lambda: 0.5)  # type: ignore[arg-type]
        self.health = HealthCheck(
            self.clock,
            self.queue,
            self.apps,
            problems=lambda: self.problems,
            states=lambda: self.dispatcher.states(),
            trouble=lambda: self.database.trouble,
            probe=self.database.probe,
            webhooks=[self.webhook],
        )
        self.status = StatusPage(self.clock, self.health, self.history, most)
        self.admin = Admin(self.health, self.metrics, self.status, keys)
        self.server = HTTPServer(self.clock, self.admin, attrs.evolve(LIMITS, clients=100))
        intake = Intake(self.apps, self.queue, self.ids, self.outcomes, self.dispatcher.wake)
        self.intake = self.metrics.intake("native", intake)
        self.history.start()

    def _settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        self.metrics.settled(app, leased, settlements, now)
        self.history.settled(app, leased, settlements)

    def take(self, tokens: Sequence[bytes], app: str = "chess") -> None:
        """Have a caller hand in a notification, by the intake."""
        headers = {"apns-topic": self.simulator.topic, "apns-push-type": "alert"}
        self.result(self.intake.accept(app, [Draft(b'{"aps":{"alert":"Hello"}}', headers, tokens)]))

    def connect(self) -> Connection:
        """Make a connection to the admin endpoint."""
        return Connection(self.server, self.clock)

    def close(self) -> None:
        """Stop all."""
        self.history.stop()
        self.webhook.stop()
        self.status.subscribers.stop()
        super().close()
