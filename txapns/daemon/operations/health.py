"""
The daemon's health, for the metrics, the status page and ``/readyz``.

A health check costs a few database queries. However many ask, there is at most one check every second or two, whose
result they share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.clocks import wall_clock
from txapns._waiters import Waiters
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import RequestRefused, Unavailable
from txapns.daemon.interfaces import IApps
from txapns.daemon.operations.nodes import node_concerns
from txapns.daemon.sending.context import AppState
from txapns.daemon.sending.webhook import Webhook, WebhookState
from txapns.daemon.slices import APPS, in_slices
from txapns.daemon.store.cluster import NodeStatus
from txapns.daemon.store.store import IStore
from txapns.daemon.values import App, Depth, Entry
from txapns.gateway import Gateway

__all__ = [
    "IDLE",
    "AppOverview",
    "Condition",
    "HealthCheck",
    "ISenders",
    "Overview",
    "Readiness",
    "SideOverview",
    "WebhookOverview",
]

_log = Logger()

# How many of the latest failures of all apps are read.
_FAILURES = 12
# The duty of the node that exports the metrics of all nodes together.
_METRICS = "metrics"

_T = TypeVar("_T")
_Default = TypeVar("_Default")

#: The condition of an app: it works, which takes a connection as soon as there is something to send; it has none yet;
#: somebody paused it; it has two sides, and on one of them nothing gets through; its circuit is open, as nothing gets
#: through for the moment; its circuit is tripped until the app is changed; it cannot be used at all.
Condition: TypeAlias = Literal["working", "connecting", "paused", "partial", "open", "tripped", "unusable"]

# The same in a sentence. An app that works and has a reason has a renewed credential that cannot be used.
_CONCERNS: Mapping[Condition, str] = {
    "working": "app {} keeps its previous settings",
    "connecting": "app {} has no connection",
    "paused": "app {} is paused",
    "partial": "app {} works on one side only",
    "open": "the circuit of app {} is open",
    "tripped": "the circuit of app {} is tripped",
    "unusable": "app {} cannot be used",
}


#: What is known of an app that never had anything to send.
IDLE = AppState("")


class SideOverview(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    The health of one side of an app with two.

    :ivar environment: ``"production"`` or ``"sandbox"``.
    :ivar stopped: whether nothing gets through there.
    :ivar expires: when its certificate expires; ``None`` if it has none.
    :ivar key_id: the identifier of its signing key; empty if it has none.
    """

    environment: str
    stopped: bool
    expires: float | None
    key_id: str


# There is one for each app, in all checks: as structures of msgspec's, in 1 µs instead of 3.
class AppOverview(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    The health of an app.

    :ivar reason: why it is not working, or why a renewed credential is not used; for a person.
    :ivar failing: for how many seconds it has not been working; ``None`` if it works or if that is unknown.
    :ivar again: in how many seconds a few notifications are tried again; ``None`` unless the circuit is open or
        tripped.
    :ivar gateway: where it sends; ``None`` if that is unknown.
    :ivar expires: when its certificate expires; ``None`` if it has none.
    :ivar waiting: how many notifications wait, those in flight included.
    :ivar oldest: for how many seconds the oldest of them has been due; ``None`` if none waits or that is unknown.
    :ivar dead: how many dead letters there are; ``None`` if that is unknown.
    :ivar state: what its sender says; :data:`IDLE` if it has none.
    :ivar topic: the topic of notifications without one; empty if there is none or that is unknown.
    :ivar key_id: the identifier of its signing key; empty if it has none.
    :ivar sides: its sides, if it has two.
    """

    name: str
    condition: Condition
    reason: str
    failing: float | None
    again: float | None
    gateway: Gateway | None
    expires: float | None
    waiting: int
    oldest: float | None
    state: AppState
    dead: int | None = None
    topic: str = ""
    key_id: str = ""
    sides: tuple[SideOverview, ...] = ()


class ISenders(Protocol):
    """Tells what becomes of notifications, as :class:`~txapns.daemon.sending.dispatcher.Dispatcher` does."""

    def state(self, app: str) -> AppState | None:
        """Tell what is known of an app that has, or had, something to send."""

    def sending(self) -> Collection[str]:
        """List the apps of which something is under way."""


@attrs.frozen
class WebhookOverview:
    """
    The health of a webhook.

    :ivar backlog: how many dead tokens it has not delivered yet; ``None`` if that is unknown.
    :ivar failing: for how many seconds deliveries have been failing; ``None`` if they succeed.
    """

    state: WebhookState
    backlog: int | None
    failing: float | None


@attrs.frozen
class Overview:
    """
    The daemon's health.

    :ivar at: when it was checked, in UNIX seconds.
    :ivar trouble: why nothing can be stored, for a person; empty if it can.
    :ivar stopping: whether the daemon is shutting down.
    :ivar node: the name of this node; empty if no other can use the same database.
    :ivar node_trouble: why this node does not send, for a person; empty if it does.
    :ivar nodes: all nodes that share the database; none if no other can, or if that is unknown.
    :ivar warnings: what endangers what is stored, for a person.
    :ivar size: how many octets the database takes; ``None`` if that is unknown.
    :ivar failures: the latest failures of all apps, the latest first; none if they are unknown.
    """

    at: float
    apps: tuple[AppOverview, ...]
    webhooks: tuple[WebhookOverview, ...]
    trouble: str
    stopping: bool
    node: str = ""
    node_trouble: str = ""
    nodes: tuple[NodeStatus, ...] = ()
    warnings: tuple[str, ...] = ()
    size: int | None = None
    failures: tuple[Entry, ...] = ()

    @property
    def faults(self) -> list[str]:
        """Why the daemon is not ready, for a person; empty if it is."""
        faults = []
        if self.stopping:
            faults.append("the daemon is shutting down")
        if self.trouble:
            faults.append(f"notifications cannot be stored: {self.trouble}")
        if self.node_trouble:
            faults.append(f"node {self.node} does not send: {self.node_trouble}")
        if not self.apps:
            faults.append("there are no apps")
        elif all(app.condition in ("tripped", "unusable") for app in self.apps):
            faults.append("no app can be used")
        return faults

    @property
    def concerns(self) -> list[str]:
        """What is wrong with single apps, with nodes, or with the database, for a person."""
        apps = [f"{_CONCERNS[app.condition].format(app.name)}: {app.reason}" for app in self.apps if app.reason]
        return [*apps, *node_concerns(self.nodes), *self.warnings]


@attrs.frozen
class Readiness:
    """
    Whether the daemon can do its work.

    :ivar faults: why not; empty if it can.
    :ivar concerns: what is wrong with single apps, or with nodes. It works for the others.
    :ivar node: the name of this node; empty if no other can use the same database.
    """

    faults: tuple[str, ...]
    concerns: tuple[str, ...] = ()
    node: str = ""

    @property
    def ready(self) -> bool:
        """Whether the daemon can do its work."""
        return not self.faults


class _Cached(Generic[_T]):
    """
    A result that is computed on demand, shared, and kept for a while.

    :param clock: the reactor, or a ``Clock``.
    :param compute: computes it. If that fails, it fails for all who wait, and the next caller computes again.
    :param max_age: for how many seconds the result is kept.
    """

    def __init__(self, clock: IReactorTime, compute: Callable[[], Deferred[_T]], max_age: float) -> None:
        self._clock = clock
        self._compute = compute
        self._max_age = max_age
        self._kept: tuple[float, _T] | None = None
        self._computing = False
        self._waiters: Waiters[_T] = Waiters()

    def get(self) -> Deferred[_T]:
        """Return a ``Deferred`` of the result."""
        if self._kept is not None and self._clock.seconds() - self._kept[0] < self._max_age:
            return succeed(self._kept[1])
        waiting = self._waiters.wait()
        if not self._computing:
            self._computing = True
            self._compute().addBoth(self._computed)
        return waiting

    def forget(self) -> None:
        """Compute it again for the next caller."""
        self._kept = None

    def _computed(self, result: _T | Failure) -> None:
        self._computing = False
        if not isinstance(result, Failure):
            self._kept = self._clock.seconds(), result
        self._waiters.fire(result)


class HealthCheck:
    """
    Checks the daemon's health.

    :param clock: the reactor, or a ``Clock``.
    :param problems: returns which apps have a problem, and what it is.
    :param senders: the dispatcher.
    :param max_age: for how many seconds a result is used again.

    :ivar stopping: whether the daemon is shutting down; set by the service.
    """

    def __init__(
        self,
        clock: IReactorTime,
        store: IStore,
        apps: IApps,
        *,
        problems: Callable[[], Mapping[str, str]],
        senders: ISenders,
        webhooks: Iterable[Webhook] = (),
        max_age: float = 1.5,
    ) -> None:
        self.stopping = False
        self._clock = clock
        self._wall = wall_clock(clock)
        self._store = store
        self._apps = apps
        self._problems = problems
        self._senders = senders
        self._idle: dict[str, tuple[App, AppOverview]] = {}  # of apps with nothing to tell, which stay the same
        self._webhooks = webhooks
        self._overviews = _Cached(clock, lambda: Deferred.fromCoroutine(self._check()), max_age)
        self._probes = _Cached(clock, lambda: Deferred.fromCoroutine(self._try_to_store()), max_age)

    def overview(self) -> Deferred[Overview]:
        """
        Return a ``Deferred`` of the daemon's health.

        It may be a moment old, except for ``trouble``, ``stopping`` and ``node_trouble``, which are
        current.
        """

        def current(found: Overview) -> Overview:
            trouble, node_trouble = self._store.trouble, self._store.cluster.trouble
            return attrs.evolve(found, trouble=trouble, stopping=self.stopping, node_trouble=node_trouble)

        return self._overviews.get().addCallback(current)

    def expire(self) -> None:
        """Check again for whoever asks next, since something was changed."""
        self._overviews.forget()

    def speaks_for_all(self) -> bool:
        """Tell whether this node exports the metrics of all nodes together; of those that are asked, one does."""
        return self._store.cluster.owns(_METRICS)

    def readiness(self) -> Deferred[Readiness]:
        """Return a ``Deferred`` that says whether the daemon is ready. This tries to store something."""

        async def find() -> Readiness:
            trouble = await self._probes.get()
            overview = await self.overview()
            overview = attrs.evolve(overview, trouble=overview.trouble or trouble)
            return Readiness(tuple(overview.faults), tuple(overview.concerns), overview.node)

        if self.stopping:
            return succeed(Readiness(("the daemon is shutting down",)))
        return Deferred.fromCoroutine(find())

    async def _try_to_store(self) -> str:
        try:
            return await self._store.probe()
        except Exception:
            _log.failure("the database could not be probed")
            return "the database does not answer"

    async def _check(self) -> Overview:
        depths = await _or_default(self._store.queue.depths(), ())
        dead = await _or_default(self._store.outcomes.dead_letters(), None)
        backlogs = [(each, await _or_default(each.backlog(), None)) for each in self._webhooks]
        now = self._clock.seconds()
        webhooks = [
            WebhookOverview(each.state, count, _seconds_since(each.state.failing_since, now))
            for each, count in backlogs
        ]
        cluster = self._store.cluster
        nodes = await _or_default(cluster.nodes(), ()) if cluster.shared else ()
        return Overview(
            self._wall.now(),
            await self._app_overviews(depths, dead, now),
            tuple(webhooks),
            self._store.trouble,
            self.stopping,
            cluster.node if cluster.shared else "",
            cluster.trouble,
            tuple(nodes),
            tuple(self._store.warnings),
            await _or_default(self._store.size(), None),
            tuple(await _or_default(self._store.outcomes.failures(None, _FAILURES), ())),
        )

    async def _app_overviews(
        self, depths: Sequence[Depth], dead: Mapping[str, int] | None, now: float
    ) -> tuple[AppOverview, ...]:
        """Return the health of all apps, and of removed ones that still have notifications."""
        problems = self._problems()
        known = {depth.app: depth for depth in depths if depth.waiting}
        names = {*self._apps.names(), *problems, *known}
        await deferLater(self._clock, 0)
        names.update(self._senders.sending())
        await deferLater(self._clock, 0)
        overviews = []
        async for part in in_slices(self._clock, sorted(names), APPS):
            for name in part:
                count = None if dead is None else dead.get(name, 0)
                overviews.append(self._app_overview(name, known.get(name), problems.get(name, ""), count, now))
        if len(self._idle) > len(names):
            self._idle = {name: self._idle[name] for name in names if name in self._idle}
        return tuple(overviews)

    def _app_overview(self, name: str, depth: Depth | None, problem: str, dead: int | None, now: float) -> AppOverview:
        state = self._senders.state(name)
        try:
            app = self._apps.get(name)
        except RequestRefused as refusal:
            return self._made(name, None, ("unusable", problem or str(refusal)), state or IDLE, depth, dead, now)
        if state is not None or depth is not None or problem:
            condition, reason = _condition(app, state or IDLE)
            return self._made(name, app, (condition, reason or problem), state or IDLE, depth, dead, now)
        kept = self._idle.get(name)
        if kept is None or kept[0] is not app or kept[1].dead != dead:
            kept = self._idle[name] = app, self._made(name, app, _condition(app, IDLE), IDLE, None, dead, now)
        return kept[1]

    def _made(
        self,
        name: str,
        app: App | None,
        condition: tuple[Condition, str],
        state: AppState,
        depth: Depth | None,
        dead: int | None,
        now: float,
    ) -> AppOverview:
        expires = None if app is None else app.expires
        overdue = None if depth is None else _seconds_since(depth.oldest, now)
        since, until = _partial(state) if condition[0] == "partial" else (state.since, state.until)
        return AppOverview(
            name,
            *condition,
            _seconds_since(since, now),
            None if until is None else max(0.0, until - now),
            None if app is None else app.gateway,
            None if expires is None else expires.timestamp(),
            0 if depth is None and state is IDLE else self._store.queue.waiting(name).count,
            None if overdue is None else max(0.0, overdue),
            state,
            dead,
            "" if app is None else _topic(app),
            app.credential.key_id if app is not None and isinstance(app.credential, ProviderToken) else "",
            () if app is None or app.sandbox is None else _sides(app, state),
        )


def _partial(state: AppState) -> tuple[float | None, float | None]:
    """Tell since when nothing gets through on one side, and when a few notifications are tried there again."""
    since = [side.since for side in state.sides if side.since is not None]
    return min(since, default=None), min([side.until for side in state.sides], default=None)


def _sides(app: App, state: AppState) -> tuple[SideOverview, ...]:
    """Describe the sides of an app that has two."""
    stopped = {side.environment for side in state.sides}
    found = []
    for environment, credential in app.credentials.items():
        expires = credential.expires.timestamp() if isinstance(credential, Certificate) else None
        key_id = credential.key_id if isinstance(credential, ProviderToken) else ""
        found.append(SideOverview(environment, environment in stopped, expires, key_id))
    return tuple(found)


def _topic(app: App) -> str:
    """Tell the topic of notifications without one; empty if there is none."""
    if app.topic is None and isinstance(app.credential, Certificate) and not app.credential.needs_topic:
        return app.credential.topics[0]
    return app.topic or ""


def _condition(app: App, state: AppState) -> tuple[Condition, str]:
    """Tell the condition of an app that can be used, and why it is not working, for a person."""
    if app.pause is not None:
        since = datetime.fromtimestamp(app.pause.since, timezone.utc)
        return "paused", f"by {app.pause.caller} since {since:%Y-%m-%d %H:%M} UTC"
    if state.reason:
        return "tripped" if state.tripped else "open", state.reason
    if state.sides:
        return "partial", "; ".join(f"{side.environment}: {side.reason}" for side in state.sides)
    if state.under_way and "ready" not in state.connections:
        return "connecting", state.last_error
    return "working", ""


def _seconds_since(began: float | None, now: float) -> float | None:
    return None if began is None else now - began


async def _or_default(asked: Awaitable[_T], default: _Default) -> _T | _Default:
    """Wait for a query; return the default if the database cannot be read now."""
    try:
        return await asked
    except Exception:
        failure = Failure()
        if failure.check(Unavailable) is None:
            _log.failure("the daemon's health could not be checked", failure)
        return default
