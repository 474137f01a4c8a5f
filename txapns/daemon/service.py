"""
The daemon put together: what there is of it, in which order it starts, and in which it stops.

It starts from the inside: the database, what is in it, the dispatcher; the faces last, so that nobody is told yes
before everything is there. It stops from the outside: first nobody new is let in and who asks is told to come again
later, then what is under way to Apple is awaited for a while, and then all that was learnt is on the disk. What was not
answered by then waits for the next start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.clocks import wall_clock
from txapns.daemon.apps import Apps
from txapns.daemon.config import Configuration, WebhookSection
from txapns.daemon.errors import Unavailable
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.keys import Keys
from txapns.daemon.listeners import FaceDependencies, Listeners
from txapns.daemon.operations.admin import Admin
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.sending.dispatcher import Dispatcher
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.sending.webhook import Webhook, WebhookConfig, read_secret
from txapns.daemon.store.retention import Retention
from txapns.daemon.store.sqlite.database import Database
from txapns.daemon.store.sqlite.feedback_log import SQLiteFeedbackLog
from txapns.daemon.store.sqlite.queue import SQLiteQueue
from txapns.daemon.values import Leased, Settlement

__all__ = ["DaemonService"]

_log = Logger()

#: How often what was settled long ago is forgotten, and how soon a next part of it, in seconds.
PRUNE_EVERY, PRUNE_AGAIN = 60.0, 0.1


class DaemonService(Service):
    """
    The push daemon.

    :param reactor: the reactor.
    :param configuration: its configuration.
    :param environment: the environment, which may hold the master key.
    :param broken: called with the reason when it cannot start; it still has to be stopped.

    :ivar ready: fires when it listens, with the addresses by the keys of the configuration.
    """

    name = "apns"

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        environment: Mapping[str, str],
        broken: Callable[[Exception], None],
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._broken = broken
        self.ready: Deferred[dict[str, list[str]]] = Deferred()
        clock, self._wall = IReactorTime(reactor), wall_clock(reactor)
        self.database = Database(configuration.database.path, clock)
        self.queue = SQLiteQueue(self.database, configuration.retries.longest)
        self.feedback = SQLiteFeedbackLog(self.database)
        secrets = Secrets(configuration.secrets.master_key_file, environment)
        self.apps = Apps(clock, configuration, self.database, secrets)
        self.keys = Keys(clock, self.database)
        self.outcomes = OutcomeWaiters(clock, self.queue)
        self.webhooks = [
            Webhook(reactor, self.feedback, _hook(name, section)) for name, section in configuration.webhook.items()
        ]
        self.metrics = DaemonMetrics()
        self._history = History(clock, self.metrics.totals)
        retries = configuration.retries
        self.dispatcher = Dispatcher(
            clock,
            self.queue,
            self.apps,
            self.outcomes,
            retries=Retries(retries.first, retries.longest, retries.jitter),
            metrics=self.metrics.client,
            settled=self._settled,
            noted=self._noted,
        )
        self.intake = Intake(self.apps, self.queue, Identifiers(self._wall), self.outcomes, self.dispatcher.wake)
        self._health = HealthCheck(
            clock,
            self.queue,
            self.apps,
            problems=self.apps.problems,
            states=self.dispatcher.states,
            trouble=lambda: self.database.trouble,
            probe=self.database.probe,
            webhooks=self.webhooks,
        )
        self._page = StatusPage(clock, self._health, self._history)
        self._front = Listeners(
            reactor, configuration, self._collaborators(), datetime.fromtimestamp(self._wall.now(), timezone.utc)
        )
        self._retention = Retention(clock, configuration.database.retention)
        self._pruning: IDelayedCall | None = None
        self._starting: Deferred[None] | None = None
        self._undo: list[Callable[[], Awaitable[object]]] = []

    def _collaborators(self) -> FaceDependencies:
        keys = self.keys if self._configuration.admin.keys else None
        return FaceDependencies(
            self.intake,
            self.queue,
            self.feedback,
            self.apps,
            self.keys,
            self.dispatcher.wake,
            self.metrics,
            Admin(self._health, self.metrics, self._page, keys),
        )

    def startService(self) -> None:
        """Begin to start; ``ready`` and ``broken`` tell how that ends."""
        super().startService()  # type: ignore[no-untyped-call]
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._not_started)

    def stopService(self) -> Deferred[None]:
        """
        Stop in good order.

        :returns: a ``Deferred`` that fires when all is on the disk and closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    # Starting.

    async def _start(self) -> None:
        """Each step that was done is noted with what undoes it."""
        await self.database.start()
        self._undo.append(self.database.stop)
        await self.feedback.start()
        for part in (self.queue, self.keys, self.apps):
            await part.start()
            self._undo.append(part.stop)
        await self.dispatcher.start()
        self._undo.append(lambda: self.dispatcher.stop(self._configuration.limits.stop))
        for webhook in self.webhooks:
            webhook.start()
        self._history.start()
        self._prune()
        addresses = await self._front.start()
        _log.info("the daemon listens: {addresses}", addresses=addresses)
        self.ready.callback(addresses)

    def _not_started(self, failure: Failure) -> None:
        failure.trap(Exception)
        # Not now: who is told will stop the service, and that waits until the start is over.
        self._reactor.callLater(0, self._broken, failure.value)

    # Stopping.

    async def _stop(self) -> None:
        """What fails on the way does not keep the rest from being closed."""
        if self._starting is not None:
            await self._starting
        self._health.stopping = True
        self.intake.stop()
        self._front.refuse()
        self._history.stop()
        self._page.subscribers.stop()
        if self._pruning is not None:
            self._pruning.cancel()
            self._pruning = None
        for webhook in self.webhooks:
            webhook.stop()
        *inner, dispatcher = self._undo or [_nothing]
        await _done(dispatcher)
        self.outcomes.stop()
        await _done(self._front.close)
        for undo in reversed(inner):
            await _done(undo)
        _log.info("the daemon has stopped")

    # Housekeeping.

    def _settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        self.metrics.settled(app, leased, settlements, now)
        self._history.settled(app, leased, settlements)

    def _noted(self, app: str) -> None:
        for webhook in self.webhooks:
            webhook.wake(app)

    def _prune(self) -> None:
        """Forget a little of what was settled long ago; the more there is, the sooner again."""
        self._pruning = None
        self.queue.prune(self._retention.begin()).addCallbacks(self._pruned, self._not_pruned)

    def _pruned(self, count: int) -> None:
        if self.running:
            self._pruning = self._reactor.callLater(PRUNE_AGAIN if count else PRUNE_EVERY, self._prune)

    def _not_pruned(self, failure: Failure) -> None:
        if failure.check(Unavailable) is None:
            _log.failure("What was settled long ago could not be forgotten", failure)
        self._pruned(0)


def _hook(name: str, section: WebhookSection) -> WebhookConfig:
    secret = partial(read_secret, section.secret_file)
    return WebhookConfig(name, section.url, secret, section.apps, section.batch, section.timeout, section.give_up)


async def _nothing() -> None:
    """There is nothing to undo."""


async def _done(step: Callable[[], Awaitable[object]]) -> None:
    """Take a step of stopping; what goes wrong is logged."""
    try:
        await maybeDeferred(step)
    except Exception:
        _log.failure("A part of the daemon could not be stopped")
