"""The operator's view of a daemon in memory: a dispatcher, its health and metrics, and the admin endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.web.http_headers import Headers

from tests.daemon.dispatch_world import DispatchWorld
from tests.daemon.fakes import Connection
from txapns._serving.http import HTTPServer
from txapns._serving.target import Hosts
from txapns.daemon.errors import Unavailable
from txapns.daemon.intake import Intake
from txapns.daemon.interfaces import IKeys, IOutcomeLog, IQueue
from txapns.daemon.operations.admin import LIMITS, Admin
from txapns.daemon.operations.app_page import AppPage
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.management import Management
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.sending.context import AppState
from txapns.daemon.sending.webhook import Webhook, WebhookConfig
from txapns.daemon.sending.webhook_events import DeadTokens
from txapns.daemon.store.cluster import ICluster, NodeStatus, SingleNode
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.values import Draft, Leased, Settlement

__all__ = ["AdminWorld", "HealthStore", "Nodes", "SilentAgent", "node_status"]


class SilentAgent:
    """An HTTP client that never gets an answer."""

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, body: Any = None) -> Deferred[Any]:
        """Send a request."""
        return Deferred()


def node_status(name: str, **others: Any) -> NodeStatus:
    """Say of a node that it lives and is as it should be, but for what is given."""
    return attrs.evolve(NodeStatus(name, "0.1", "c0ffee" * 9, 1.7e9, 2.0, 0.0, 5, True, False), **others)


class Nodes(SingleNode):
    """
    A node among others.

    :ivar found: what it knows of all nodes; ``None`` if the database cannot be read.
    :ivar duties: what it does for all.
    """

    shared = True

    def __init__(self, clock: Any, *found: NodeStatus) -> None:
        super().__init__(clock, "push-1")
        self.found: list[NodeStatus] | None = list(found) or [node_status("push-1", own=True), node_status("push-2")]
        self.duties = {"metrics"}

    def nodes(self) -> Deferred[list[NodeStatus]]:
        """List the nodes."""
        return fail(Unavailable("the database is away", 5.0)) if self.found is None else succeed(self.found)

    def owns(self, duty: str) -> bool:
        """Tell whether it has a duty."""
        return duty in self.duties


@attrs.define
class HealthStore:
    """
    As much of a store as a health check needs.

    :ivar queue: its queue.
    :ivar outcomes: its outcome log.
    :ivar database: what is asked for the rest.
    :ivar cluster: the nodes that share it.
    :ivar broken: why nothing can be stored, while a test says so.
    :ivar warnings: what endangers what is stored.
    """

    queue: IQueue
    outcomes: IOutcomeLog
    database: Database
    cluster: ICluster
    broken: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def trouble(self) -> str:
        """Why nothing can be stored."""
        return self.broken or self.database.trouble

    def size(self) -> Deferred[int]:
        """Tell how large it is."""
        return succeed(4_096)

    def probe(self) -> Deferred[str]:
        """Try to store something."""
        return self.database.probe()


class _Senders:
    """The dispatcher of the moment."""

    def __init__(self, world: DispatchWorld) -> None:
        self._world = world

    def state(self, app: str) -> AppState | None:
        """Tell what is known of an app."""
        return self._world.dispatcher.state(app)

    def sending(self) -> list[str]:
        """List the apps of which something is under way."""
        return self._world.dispatcher.sending()


class AdminWorld(DispatchWorld):
    """
    A daemon whose time the test advances.

    :param keys: the keys of the admin endpoint; by default it asks for none.
    :param now: the time; by default some time in the past.
    :param limit: how many browsers may keep the status page open.
    :param cluster: makes the cluster, given the clock; by default there is only one node.

    :ivar problems: the problems of apps, by their names.
    :ivar intake: accepts notifications.
    :ivar server: the admin endpoint.
    """

    def __init__(
        self,
        keys: IKeys | None = None,
        now: float | None = None,
        limit: int = 32,
        cluster: Callable[[Any], ICluster] = SingleNode,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if now is not None:
            self.clock.rightNow = now
        self.problems: dict[str, str] = {}
        self.metrics = DaemonMetrics(self.clock)
        self.history = History(self.clock, self.metrics.totals)
        self.start(metrics=self.metrics.client, settled=self._settled)
        hook = WebhookConfig("crm", "https://crm.invalid/?key=hush", lambda: b"correct horse battery staple")
        self.webhook = Webhook(
            self.clock, [DeadTokens(self.log, hook.reader, (), 500)], hook, agent=SilentAgent(), random=lambda: 0.5
        )  # type: ignore[arg-type]
        self.store: Any = HealthStore(self.queue, self.outcome_log, self.database, cluster(self.clock))
        self.health = HealthCheck(
            self.clock,
            self.store,
            self.apps,
            problems=lambda: self.problems,
            senders=_Senders(self),
            webhooks=[self.webhook],
        )
        self.status = StatusPage(self.clock, self.health, self.history, limit)
        pages = AppPage(self.health, self.history, self.outcome_log, self.log, self.apps)
        management = Management(self.apps, self.outcome_log, lambda app: self.dispatcher.wake(app))
        self.admin = Admin(self.health, self.metrics, self.status, pages, management, keys)
        limits = attrs.evolve(LIMITS, clients=100)
        self.server = HTTPServer(self.clock, self.admin, limits, hosts=Hosts(["gateway", "daemon"]))
        intake = Intake(self.apps, self.queue, self.ids, self.outcomes, self.dispatcher.wake)
        self.intake = self.metrics.intake("native", intake)
        self.history.start()

    def _settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        self.metrics.settled(app, leased, settlements, now)
        self.history.activity.settled(app, leased, settlements)

    def take(self, tokens: Sequence[bytes], app: str = "chess") -> None:
        """Accept a notification from a caller."""
        headers = {"apns-topic": self.simulator.topic, "apns-push-type": "alert"}
        self.result(self.intake.accept(app, [Draft(b'{"aps":{"alert":"Hello"}}', headers, tokens)]))

    def scrape(self, *, shared: bool = True) -> bytes:
        """Read the metrics."""
        overview = self.result(self.health.overview())
        text = self.result(self.metrics.render(overview, shared), 0.0)
        assert isinstance(text, bytes)
        return text

    def connect(self) -> Connection:
        """Connect to the admin endpoint."""
        return Connection(self.server, self.clock)

    def close(self) -> None:
        """Stop everything."""
        self.history.stop()
        self.webhook.stop()
        self.status.subscribers.stop()
        super().close()
