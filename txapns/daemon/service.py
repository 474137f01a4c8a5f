"""
The daemon as a Twisted service: which parts it has, and in which order they start and stop.

They start from the inside out: the database, what it stores, the dispatcher; the faces last, so that nothing is
accepted before everything is ready. They stop in the opposite order. New requests are refused first, with a hint to
come back later. What is in flight to Apple is given some time, and all outcomes are stored before the database closes.
Whatever was not answered by then waits for the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.clocks import wall_clock
from txapns.daemon.apps import Apps
from txapns.daemon.config.configuration import Configuration
from txapns.daemon.identifiers import Identifiers
from txapns.daemon.intake import Intake
from txapns.daemon.keys import Keys
from txapns.daemon.listeners import FaceDependencies, Listeners
from txapns.daemon.operations.admin import Admin
from txapns.daemon.operations.app_page import AppPage
from txapns.daemon.operations.health import HealthCheck
from txapns.daemon.operations.history import History
from txapns.daemon.operations.management import Management
from txapns.daemon.operations.metrics import DaemonMetrics
from txapns.daemon.operations.nodes import NodeWatch, configuration_digest
from txapns.daemon.operations.pruning import Pruning
from txapns.daemon.operations.status_page import StatusPage
from txapns.daemon.reloading import check_apps, differences, in_effect, recorded
from txapns.daemon.secrets.master_key import Secrets
from txapns.daemon.sending.channels import AppChannels
from txapns.daemon.sending.dispatcher import Dispatcher
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.sending.webhooks import Webhooks
from txapns.daemon.store.factory import make_store
from txapns.daemon.store.retention import Retention
from txapns.daemon.values import Leased, Settlement

__all__ = ["DaemonService"]

_log = Logger()


class DaemonService(Service):
    """
    The push daemon.

    :param environment: the environment, which may contain the master key.
    :param broken: called with the reason if the daemon cannot start; the service still has to be stopped.

    :ivar ready: fires when the daemon listens, with the addresses by the keys of the configuration.
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
        clock, wall = IReactorTime(reactor), wall_clock(reactor)
        self.store = make_store(clock, configuration)
        secrets = Secrets(configuration.secrets.master_key_file, environment)
        self.apps = Apps(clock, configuration, self.store.apps, secrets, self.store.worker)
        self.keys = Keys(clock, self.store.keys)
        self.outcomes = OutcomeWaiters(clock, self.store.outcomes, shared=self.store.cluster.shared)
        self.webhooks = Webhooks(reactor, self.store.feedback, self.store.outcome_feed, self.store.cluster)
        self.webhooks.use(configuration.webhook)
        self.metrics = DaemonMetrics(clock)
        self._history = History(clock, self.metrics.totals)
        self.dispatcher = self._make_dispatcher(clock)
        self.store.cluster.in_flight = self.dispatcher.in_flight
        self.apps.changed(self._apps_changed)
        self.intake = Intake(
            self.apps,
            self.store.queue,
            Identifiers(wall),
            self.outcomes,
            self.dispatcher.wake,
            self.dispatcher.expect,
            self.dispatcher.hurry,
        )
        self.store.queue.subscribe(self._superseded)
        self._channels = AppChannels(clock, self.apps)
        self._health = self._make_health_check(clock)
        self._page = StatusPage(clock, self._health, self._history)
        self._prunings = self._make_prunings(clock)
        self._listeners = Listeners(reactor, configuration, self._face_dependencies())
        self._starting: Deferred[None] | None = None
        self._started = AsyncExitStack()
        self._recorded: frozenset[str] = frozenset()

    def _superseded(self, counts: Mapping[str, int], numbers: Sequence[int]) -> None:
        for app, count in counts.items():
            self.metrics.superseded(app, count)
        self.outcomes.superseded(numbers)

    def _make_dispatcher(self, clock: IReactorTime) -> Dispatcher:
        retries = self._configuration.retries
        return Dispatcher(
            clock,
            self.store.queue,
            self.apps,
            self.outcomes,
            retries=Retries(retries.first, retries.longest, retries.jitter),
            cluster=self.store.cluster,
            tokens=self.store.tokens,
            metrics=self.metrics.client,
            settled=self._settled,
        )

    def _make_prunings(self, clock: IReactorTime) -> list[Pruning]:
        """Forget outcomes, recorded outcomes and what is known of tokens, which are kept for different times."""

        def prune_feed(before: float) -> Deferred[int]:
            return self.store.outcome_feed.prune(before, most=self._configuration.outcomes.most)

        kept: tuple[tuple[Callable[[float], Deferred[int]], Callable[[], float]], ...] = (
            (self.store.outcomes.prune, lambda: self._configuration.database.retention),
            (prune_feed, lambda: self._configuration.outcomes.retention),
            (self.store.tokens.prune, lambda: 0.0),  # of which each has its own end
        )
        return [Pruning(clock, prune, Retention(clock, seconds), self.store.cluster) for prune, seconds in kept]

    def _make_health_check(self, clock: IReactorTime) -> HealthCheck:
        return HealthCheck(
            clock,
            self.store,
            self.apps,
            problems=self.apps.problems,
            senders=self.dispatcher,
            webhooks=self.webhooks,
        )

    def _face_dependencies(self) -> FaceDependencies:
        keys = self.keys if self._configuration.admin.keys else None
        pages = AppPage(self._health, self._history, self.store.outcomes, self.store.feedback, self.apps)
        management = Management(self.apps, self.store.outcomes, self.dispatcher.wake)
        return FaceDependencies(
            self.intake,
            self.store.outcomes,
            self.store.feedback,
            self.store.outcome_feed,
            self.apps,
            self.keys,
            self.dispatcher.wake,
            self._channels,
            self.metrics,
            Admin(self._health, self.metrics, self._page, pages, management, keys),
        )

    def startService(self) -> None:
        """Start; ``ready`` fires or ``broken`` is called when that is over."""
        Service.startService(self)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    def stopService(self) -> Deferred[None]:
        """
        Stop all parts in order.

        :returns: a ``Deferred`` that fires when everything is stored and closed.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    def reload(self, configuration: Configuration) -> Deferred[None]:
        """
        Use another configuration from now on, as far as that does not need a restart; the log says how far it does.

        The files that it names are read again.

        :raises ConfigurationError: it has no apps, and the one before had some; or it has webhooks whose secrets cannot
            be read.
        """
        check_apps(self._configuration, configuration)
        self.webhooks.check(configuration.webhook)
        changed = differences(self._configuration, configuration)
        self._configuration = in_effect(self._configuration, configuration)
        waiting = differences(self._configuration, configuration)
        now = ", ".join(key for key in changed if key not in waiting)
        _log.info("the configuration was read again; changed: {keys}", keys=now or "nothing")
        for key in waiting:
            _log.warn("{key} has changed, which takes effect at the next start", key=key)
        self._listeners.reconfigure(self._configuration)
        self.webhooks.use(self._configuration.webhook)
        self._apps_changed(frozenset())
        return self.apps.reconfigure(self._configuration)

    def drain(self) -> Deferred[None]:
        """
        Refuse new requests, and send what waits, as far as it is due and gets through.

        Where other nodes share the database, they send it.

        :returns: a ``Deferred`` that fires when that is done, or the daemon stops. The service still has to be stopped.
        """
        self._refuse()
        return self.dispatcher.drain()

    # Starting and stopping.

    async def _start(self) -> None:
        async with AsyncExitStack() as stack:  # if a part fails to start, those before it stop
            addresses = await self._start_parts(stack)
            self._started = stack.pop_all()
        _log.info("the daemon listens: {addresses}", addresses=addresses)
        self.ready.callback(addresses)

    async def _start_parts(self, stack: AsyncExitStack) -> dict[str, list[str]]:
        """Start one part after the other, and say how each is stopped; the last is stopped first."""

        def on_stop(stop: Callable[[], object]) -> None:
            stack.push_async_callback(_stop_part, stop)

        for part in (self.store, self.keys, self.apps):
            await part.start()
            on_stop(part.stop)
        self._apps_changed(frozenset())
        on_stop(self._listeners.close)  # not before the dispatcher has stopped and those who wait have their answers
        on_stop(self._channels.stop)
        on_stop(self.outcomes.stop)
        await self.dispatcher.start()
        on_stop(lambda: self.dispatcher.stop(self._configuration.limits.stop))
        nodes = NodeWatch(IReactorTime(self._reactor), self.store.cluster)
        others: list[Webhooks | History | Pruning | NodeWatch] = [self.webhooks, self._history, *self._prunings, nodes]
        for other in others:
            other.start()
            on_stop(other.stop)
        on_stop(self._refuse)
        return await self._listeners.start()

    def _start_failed(self, failure: Failure) -> None:
        failure.trap(Exception)
        # Not now: the callback will stop the service, which waits until this Deferred has fired.
        self._reactor.callLater(0, self._broken, failure.value)

    def _refuse(self) -> None:
        if self._health.stopping:
            return
        self._health.stopping = True
        self.intake.stop()
        self._listeners.refuse()
        self._page.subscribers.stop()

    async def _stop(self) -> None:
        if self._starting is not None:
            await self._starting
        await self._started.aclose()
        _log.info("the daemon has stopped")

    # Callbacks of the dispatcher and of the apps.

    def _settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        self.metrics.settled(app, leased, settlements, now)
        self._history.activity.settled(app, leased, settlements)

    def _apps_changed(self, names: frozenset[str]) -> None:
        self.store.cluster.digest = configuration_digest(self._configuration, self.apps)
        self._recorded = recorded(self._recorded, self.apps)
        self.store.outcome_feed.keep(self._recorded)


async def _stop_part(stop: Callable[[], object]) -> None:
    """Stop a part. If that fails, log it and go on: it must not keep the other parts from stopping."""
    try:
        await maybeDeferred(stop)
    except Exception:
        _log.failure("a part of the daemon could not be stopped")
