"""
What sends: a :class:`~txapns.daemon.sending.sender.AppSender` for each app that has something to be sent.

The intake tells of what is new; at the start it is looked for once. While anything is under way its leases are renewed,
by one timer for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._network.clocks import wall_clock
from txapns.client import APNSClient
from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import IApps, IQueue
from txapns.daemon.sending.budget import Budget
from txapns.daemon.sending.sender import AppSender, AppState, SenderContext, Settled
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.values import App, Depth, Leased, Settlement
from txapns.interfaces import IMetrics

__all__ = ["Dispatcher"]

_log = Logger()

#: In how many parts the time of a lease is divided by its renewals.
RENEWALS = 3


def _nobody(app: str) -> None:
    """Nobody is told."""


def _uncounted(app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
    """Nobody counts."""


class Dispatcher:
    """
    Sends what the queue has.

    :param reactor: the reactor.
    :param queue: the queue, started.
    :param apps: the apps.
    :param outcomes: who waits for outcomes.
    :param retries: when a notification is tried again.
    :param most: how many notifications may be under way for all apps together.
    :param lease: how long a lease lasts, in seconds.
    :param timeout: how long Apple's answer may take, in seconds.
    :param metrics: makes, for an app's name, who counts what its client sends; ``None`` for nobody.
    :param noted: called with an app's name when dead tokens of it came into the feedback log.
    :param settled: called with an app's name, notifications that were under way together, what came of them, and
        when, by the reactor's clock, once that is stored.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        queue: IQueue,
        apps: IApps,
        outcomes: OutcomeWaiters,
        *,
        retries: Retries | None = None,
        most: int = 50_000,
        lease: float = 120.0,
        timeout: float = 30.0,
        metrics: Callable[[str], IMetrics] | None = None,
        noted: Callable[[str], None] = _nobody,
        settled: Settled = _uncounted,
    ) -> None:
        self._reactor = reactor
        self._queue = queue
        self._apps = apps
        self._lease = lease
        connect = partial(_connect, reactor, timeout, metrics)
        self._around = SenderContext(
            reactor,
            wall_clock(reactor),
            queue,
            apps,
            outcomes,
            Budget(most),
            retries or Retries(),
            lease,
            noted,
            settled,
            connect,
        )
        self._lanes: dict[str, AppSender] = {}
        self._forget = _nothing
        self._renewing = Alarm(reactor, self._renew)
        self._running = False

    def start(self) -> Deferred[None]:
        """
        Begin, with what waits already.

        :returns: a ``Deferred`` that fires when it is known what waits.
        :raises Unavailable: the queue cannot be read.
        """

        def found(depths: list[Depth]) -> None:
            self._running = True
            self._forget = self._apps.changed(self._changed)
            for depth in depths:
                if depth.waiting:
                    self.wake(depth.app)

        return self._queue.depths().addCallback(found)

    def wake(self, app: str) -> None:
        """
        Look for something to send, now: something was accepted.

        :param app: the app's name.
        """
        if self._running:
            _fenced(app, self._wake)

    def _wake(self, app: str) -> None:
        lane = self._lanes.get(app)
        if lane is None:
            lane = self._lanes[app] = AppSender(app, self._around)
        self._renewing.set(self._lease / RENEWALS)
        lane.wake()

    def states(self) -> list[AppState]:
        """Tell how each app fares that something was sent for, or is to be, by name."""
        lanes = [lane for name, lane in sorted(self._lanes.items()) if not lane.unknown or self._queue.depth(name)]
        return [lane.state() for lane in lanes]

    def stop(self, deadline: float) -> Deferred[None]:
        """
        Lease nothing more, let what is under way be answered, and close the connections.

        :param deadline: after how many seconds what is still under way is left: it stays leased, and is sent again
            after the next start.
        :returns: a ``Deferred`` that fires when that is done.
        """
        self._running = False
        self._forget()
        self._forget = _nothing
        lanes = list(self._lanes.values())
        late = self._reactor.callLater(deadline, self._abandon, lanes)
        # Until then leases are renewed: what is under way is not to be somebody else's as well.
        stopping = [maybeDeferred(lane.stop).addErrback(_not_stopped, lane.name) for lane in lanes]
        return gatherResults(stopping).addBoth(self._stopped, late)

    def _stopped(self, result: object, late: IDelayedCall) -> None:
        if late.active():
            late.cancel()
        self._renewing.cancel()

    def _abandon(self, lanes: list[AppSender]) -> None:
        count = sum(len(lane.held()) for lane in lanes)
        _log.warn("{count} notifications were still under way at the deadline; they are sent again", count=count)
        for lane in lanes:
            lane.abandon()

    def _changed(self, names: frozenset[str]) -> None:
        for name in sorted(names):
            _fenced(name, self._take_up)

    def _take_up(self, name: str) -> None:
        lane = self._lanes.get(name)
        if lane is not None:
            lane.changed()
        elif self._queue.depth(name):
            self.wake(name)

    def _renew(self) -> None:
        numbers = [number for lane in self._lanes.values() for number in lane.held()]
        if numbers:
            self._queue.renew(numbers, self._reactor.seconds() + self._lease).addErrback(_not_renewed)
        if numbers or any(self._queue.depth(name) for name in self._lanes):
            self._renewing.set(self._lease / RENEWALS)


def _connect(reactor: IReactorTime, timeout: float, metrics: Callable[[str], IMetrics] | None, app: App) -> APNSClient:
    """Make the client of an app. It tries nothing again by itself: the queue does, and survives a crash meanwhile."""
    return APNSClient(
        reactor,
        app.credential,
        app.gateway,
        topic=app.topic,
        metrics=None if metrics is None else metrics(app.name),
        max_connections=app.limits.connections,
        timeout=timeout,
        retries=0,
    )


def _fenced(app: str, step: Callable[[str], None]) -> None:
    """Do something for one app; whatever goes wrong with it concerns no other."""
    try:
        step(app)
    except Exception:
        _log.failure("{app}: the dispatcher has a fault of its own", app=app)


def _not_stopped(failure: Failure, app: str) -> None:
    _log.failure("{app}: the connections could not be closed in good order", failure, app=app)


def _not_renewed(failure: Failure) -> None:
    """The next renewal comes before the leases end."""
    if failure.check(Unavailable) is None:
        _log.failure("Leases cannot be renewed", failure)


def _nothing() -> None:
    """There is nothing to end."""
