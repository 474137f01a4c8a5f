"""
One :class:`~txapns.daemon.sending.sender.AppSender` for each app that has something to send.

The intake wakes the dispatcher when something was accepted; at the start it looks once for what waits already. It wakes
the senders at the end of the reactor's turn: by then those whose requests were stored have their answers. Once a second
it finds out whether the wall clock was set, which moves what is not sent before a date. While anything is under way its
leases are renewed, by one timer for all apps.

Where several nodes share the store, each sends what any of them accepted: once a second the dispatcher looks for apps
that have something due. When the node's life is about to end, it stops sending at once, and goes on when the node has
joined the others again, after a moment: if the database was away from all nodes, each of them may know what became of
its notifications, and has to store that before another takes them for unsent. What other nodes report of an app's
circuit goes to its sender.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.alarm import Alarm
from txapns._network.clocks import wall_clock
from txapns.daemon.errors import Unavailable
from txapns.daemon.interfaces import IApps, IQueue, ITokenEnvironments
from txapns.daemon.sending.budget import Budget
from txapns.daemon.sending.connecting import Connector
from txapns.daemon.sending.context import AppState, SenderContext, Settled
from txapns.daemon.sending.sender import AppSender
from txapns.daemon.sending.settling import Retries
from txapns.daemon.sending.waiting import OutcomeWaiters
from txapns.daemon.store.cluster import Circuit, ICluster, SingleNode
from txapns.daemon.values import Depth
from txapns.interfaces import IMetrics

__all__ = ["Dispatcher"]

_log = Logger()

#: How often a lease is renewed in the time that it lasts.
RENEWALS = 3
#: How often to look for what other nodes accepted, in seconds.
LOOK = 1.0
#: How many senders are woken in one turn of the reactor. The first time each makes a client, in half a millisecond.
WOKEN = 10
#: How many seconds after the node has joined again it begins to send. By then the others have joined, too.
GRACE = 3.0


class Dispatcher:
    """
    Sends the notifications in the queue.

    :param cluster: the nodes that share the queue; ``None`` if it cannot be shared.
    :param most: how many notifications may be under way for all apps together.
    :param timeout: how long Apple's answer may take, in seconds; a lease lasts ``lease`` seconds.
    :param tokens: which environment device tokens are of; ``None`` if no app has two sides.
    :param metrics: called with an app's name; returns what counts for its client. ``None`` to count nothing.
    :param settled: called when outcomes are stored; see :data:`~txapns.daemon.sending.context.Settled`.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        queue: IQueue,
        apps: IApps,
        outcomes: OutcomeWaiters,
        *,
        retries: Retries,
        cluster: ICluster | None = None,
        most: int = 50_000,
        lease: float = 120.0,
        timeout: float = 30.0,
        tokens: ITokenEnvironments | None = None,
        metrics: Callable[[str], IMetrics] | None = None,
        settled: Settled = lambda app, leased, settlements, now: None,
    ) -> None:
        self._reactor = reactor
        self._queue = queue
        self._apps = apps
        self._cluster = cluster or SingleNode(reactor)
        self._lease = lease
        self._context = SenderContext(
            reactor,
            wall_clock(reactor),
            queue,
            apps,
            self._cluster,
            outcomes,
            Budget(most),
            retries,
            lease,
            settled,
            Connector(reactor, tokens, retries.random, timeout, metrics),
            lambda: self._sending and self._cluster.alive,
        )
        self._senders: dict[str, AppSender] = {}
        self._subscriptions: list[Callable[[], None]] = []
        self._woken: dict[tuple[str, Callable[[AppSender], None]], None] = {}  # in this order
        self._waking = Alarm(reactor, self._wake_senders)
        self._renewing = Alarm(reactor, self._renew)
        self._dates = Alarm(reactor, self._check_clock)
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._draining = LoopingCall(self._check_drained)
        self._draining.clock = reactor
        self._running = False
        self._alive = self._sending = True
        self._joined = Alarm(reactor, self._go_on)

    def start(self) -> Deferred[None]:
        """Begin to send, at first what waits already: read the queue, which raises :exc:`Unavailable` if it cannot."""

        def found(depths: list[Depth]) -> None:
            self._running = True
            self._subscriptions = [
                self._apps.changed(self._changed),
                self._cluster.subscribe(self._cluster_changed),
                self._cluster.watch(self._adopt),
            ]
            self._cluster_changed()
            for depth in depths:
                if depth.waiting:
                    self.wake(depth.app)
            if self._cluster.shared:
                self._looking.start(LOOK, now=False).addErrback(_not_looked)
            elif any(depth.waiting for depth in depths):
                self._dates.set(LOOK)

        return self._queue.depths().addCallback(found)

    def wake(self, app: str) -> None:
        """Look for something to send."""
        self._wake_soon(app, AppSender.wake)

    def hurry(self, app: str) -> None:
        """Look for something to send: something is urgent."""
        self._wake_soon(app, _wake_urgently)

    def expect(self, app: str) -> None:
        """Look for something to send, and for when there will be more: something is for later."""
        self._wake_soon(app, AppSender.expect)
        if self._running and not self._cluster.shared and not self._dates.is_set:
            self._dates.set(LOOK)

    def _wake_soon(self, app: str, step: Callable[[AppSender], None]) -> None:
        if self._running:
            self._woken[app, step] = None
            if not self._waking.is_set:
                self._waking.set(0.0)

    def _wake_senders(self) -> None:
        woken = list(islice(self._woken, WOKEN))
        for each in woken:
            del self._woken[each]
        if not self._renewing.is_set:
            self._renewing.set(self._lease / RENEWALS)
        for app, step in woken:
            self._with_one(app, step)
        if self._woken:
            self._waking.set(0.0)

    def _sender(self, app: str) -> AppSender:
        sender = self._senders.get(app)
        if sender is None:
            sender = self._senders[app] = AppSender(app, self._context)
        return sender

    def in_flight(self) -> int:
        """Count the notifications that are sent and not answered."""
        return sum(sender.in_flight for sender in self._senders.values())

    def under_way(self) -> int:
        """Count the notifications that are leased: waiting for a connection, in flight, or being settled."""
        return sum(sender.under_way for sender in self._senders.values())

    def state(self, app: str) -> AppState | None:
        """Tell what is known of an app; ``None`` if it never had anything to send, or it was removed and has not."""
        sender = self._senders.get(app)
        if sender is None or (sender.unknown and not self._queue.waiting(app).count):
            return None
        return sender.state()

    def sending(self) -> list[str]:
        """List the apps of which something is under way."""
        return [name for name, sender in self._senders.items() if sender.under_way]

    def drain(self) -> Deferred[None]:
        """
        Wait until everything is sent that is due and gets through, or until :meth:`stop` is called.

        Where other nodes share the queue, there is nothing to wait for: they send what this one does not.
        """
        return succeed(None) if self._cluster.shared else self._draining.start(LOOK).addCallback(lambda _: None)

    def _check_drained(self) -> Deferred[None]:
        def found(apps: list[str]) -> None:
            busy = self._woken or self.under_way() or not all(self._sender(app).stuck for app in apps)
            if not busy and self._draining.running:
                self._draining.stop()

        return self._queue.due_apps().addCallbacks(found, _not_seen)

    def stop(self, deadline: float) -> Deferred[None]:
        """
        Lease nothing more, wait for the answers to what is under way, and close the connections.

        :param deadline: how long to wait for answers, in seconds. What is still under way then stays leased, and is
            sent again after the next start.
        """
        self._running = False
        for loop in (self._looking, self._draining):
            if loop.running:
                loop.stop()
        for unsubscribe in self._subscriptions:
            unsubscribe()
        self._subscriptions.clear()
        self._woken.clear()
        self._waking.cancel()
        self._joined.cancel()
        self._dates.cancel()
        senders = list(self._senders.values())
        late = self._reactor.callLater(deadline, self._abandon, senders)
        # Leases are renewed until then, so that nobody else sends what is under way.
        stopping = [maybeDeferred(sender.stop).addErrback(_not_stopped, sender.name) for sender in senders]
        return gatherResults(stopping).addBoth(self._stopped, late)

    def _stopped(self, result: object, late: IDelayedCall) -> None:
        if late.active():
            late.cancel()
        self._renewing.cancel()

    def _abandon(self, senders: list[AppSender]) -> None:
        count = sum(len(sender.held()) for sender in senders)
        _log.warn("{count} notifications were still under way at the deadline; they will be sent again", count=count)
        for sender in senders:
            sender.abandon()

    def _changed(self, names: frozenset[str]) -> None:
        for name in sorted(names):
            _fenced(name, self._take_up)

    def _take_up(self, name: str) -> None:
        sender = self._senders.get(name)
        if sender is not None:
            sender.changed()
        elif self._queue.waiting(name).count:
            self.wake(name)

    # The clock on the wall.

    def _check_clock(self) -> None:
        """Find out whether it was set, and something that has a date is due sooner or later."""

        def found(changed: bool | None) -> None:
            if changed:
                self._with_each(AppSender.expect)
            if self._running and any(self._queue.waiting(name).count for name in self._senders):
                self._dates.set(LOOK)

        self._queue.clock_set().addErrback(_not_seen).addCallback(found)

    # The other nodes.

    def _look(self) -> Deferred[None]:
        """Wake the senders of the apps that have something due, whoever accepted it."""

        def found(apps: list[str]) -> None:
            for app in apps:
                self.wake(app)

        return self._queue.due_apps().addCallbacks(found, _not_seen)

    def _cluster_changed(self) -> None:
        """Stop sending, or store what could not be stored and go on soon."""
        alive, self._alive = self._alive, self._cluster.alive
        if alive and not self._alive:
            self._sending = False
            self._joined.cancel()
            self._with_each(AppSender.suspend)
        elif self._alive and not alive:
            self._with_each(AppSender.hurry)
            self._joined.set(GRACE)

    def _go_on(self) -> None:
        self._sending = True
        self._with_each(AppSender.wake)

    def _with_each(self, step: Callable[[AppSender], None]) -> None:
        for app in list(self._senders):
            self._with_one(app, step)

    def _with_one(self, app: str, step: Callable[[AppSender], None]) -> None:
        _fenced(app, lambda app: step(self._sender(app)))

    def _adopt(self, app: str, circuit: Circuit | None) -> None:
        _fenced(app, lambda app: self._sender(app).adopt(circuit))

    def _renew(self) -> None:
        numbers = [number for sender in self._senders.values() for number in sender.held()]
        if numbers:
            self._queue.renew(numbers, self._reactor.seconds() + self._lease).addErrback(_not_renewed)
        if numbers or any(self._queue.waiting(name).count for name in self._senders):
            self._renewing.set(self._lease / RENEWALS)


def _wake_urgently(sender: AppSender) -> None:
    sender.wake(urgent=True)


def _fenced(app: str, step: Callable[[str], None]) -> None:
    """Do something for one app. If it raises, the other apps go on."""
    try:
        step(app)
    except Exception:
        _log.failure("{app}: a bug in the dispatcher", app=app)


def _not_stopped(failure: Failure, app: str) -> None:
    _log.failure("{app}: the connections could not be closed cleanly", failure, app=app)


def _not_seen(failure: Failure) -> None:
    """Leave it to the next look."""
    if failure.check(Unavailable) is None:
        _log.failure("The apps that have something due cannot be read", failure)


def _not_looked(failure: Failure) -> None:
    _log.failure("A bug in the dispatcher: it looks no longer for what other nodes accepted", failure)


def _not_renewed(failure: Failure) -> None:
    """Leave it to the next renewal, which comes before the leases end."""
    if failure.check(Unavailable) is None:
        _log.failure("Leases cannot be renewed", failure)
