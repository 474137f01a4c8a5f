"""
How the daemon fares at one moment: what the metrics, the status page and the answer to "are you ready?" share.

A look costs a few questions to the database. So there is at most one in a second or two, however many ask: the others
are given what it found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, Literal, TypeAlias, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.clocks import wall_clock
from txapns.daemon.apps import expiry
from txapns.daemon.errors import RequestRefused, Unavailable
from txapns.daemon.interfaces import IApps, IQueue
from txapns.daemon.sending.sender import AppState
from txapns.daemon.sending.webhook import Webhook, WebhookState
from txapns.daemon.values import App, Depth

__all__ = ["AppOverview", "Condition", "HealthCheck", "Overview", "Readiness", "WebhookOverview"]

_log = Logger()

_T = TypeVar("_T")
_Otherwise = TypeVar("_Otherwise")

#: The condition of an app: it works; its circuit is open, as nothing gets through for the moment; its circuit is
#: tripped until the app is changed; it cannot be used at all.
Condition: TypeAlias = Literal["working", "open", "tripped", "unusable"]

# The same in a sentence. One that works and has a reason has a renewed credential that is of no use.
_CONDITIONS: Mapping[Condition, str] = {
    "working": "goes on as it was",
    "open": "gets nothing through",
    "tripped": "is tripped",
    "unusable": "cannot be used",
}


@attrs.frozen
class AppOverview:
    """
    How an app fares.

    :ivar name: its name.
    :ivar condition: in one word.
    :ivar reason: why it is not working, or what is wrong with a renewed credential that is not used; for a person.
    :ivar lasting: for how many seconds it has not been working, where that is known.
    :ivar gateway: where it sends; empty where that is not known.
    :ivar expires: when its certificate does; ``None`` where there is none.
    :ivar waiting: how many notifications wait, those under way among them.
    :ivar oldest: for how many seconds the first of them has been due; ``None`` where none waits or nobody knows.
    :ivar state: what the dispatcher says.
    """

    name: str
    condition: Condition
    reason: str
    lasting: float | None
    gateway: str
    expires: float | None
    waiting: int
    oldest: float | None
    state: AppState


@attrs.frozen
class WebhookOverview:
    """
    How a webhook fares.

    :ivar state: what it says.
    :ivar backlog: how many dead tokens it has still to be told; ``None`` where nobody knows.
    :ivar lasting: for how many seconds it could not be told; ``None`` where it can.
    """

    state: WebhookState
    backlog: int | None
    lasting: float | None


@attrs.frozen
class Overview:
    """
    How the daemon fares.

    :ivar at: when that was, in UNIX seconds.
    :ivar apps: the apps, by name.
    :ivar webhooks: the webhooks.
    :ivar trouble: why nothing can be stored, for a person; empty if it can.
    :ivar stopping: whether the daemon is shutting down.
    """

    at: float
    apps: tuple[AppOverview, ...]
    webhooks: tuple[WebhookOverview, ...]
    trouble: str
    stopping: bool

    @property
    def faults(self) -> list[str]:
        """Why the daemon is not ready, for a person; empty if it is."""
        faults = []
        if self.stopping:
            faults.append("the daemon is shutting down")
        if self.trouble:
            faults.append(f"nothing can be stored: {self.trouble}")
        if not self.apps:
            faults.append("there is no app")
        elif all(app.condition in ("tripped", "unusable") for app in self.apps):
            faults.append("no app can be used")
        return faults

    @property
    def concerns(self) -> list[str]:
        """What is amiss with single apps, for a person; empty if nothing is."""
        return [f"the app {app.name} {_CONDITIONS[app.condition]}: {app.reason}" for app in self.apps if app.reason]


@attrs.frozen
class Readiness:
    """
    Whether the daemon can do its work.

    :ivar faults: why not; empty if it can.
    :ivar concerns: what is amiss with single apps, whose notifications it takes or refuses; it works for the others.
    """

    faults: tuple[str, ...]
    concerns: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it can."""
        return not self.faults


class _Kept(Generic[_T]):
    """
    What was found lately, or is just being found.

    :param clock: the time.
    :param find: finds it. Where that fails, it does so for all who wait, and nothing is kept.
    :param fresh: for how many seconds it is kept.
    """

    def __init__(self, clock: IReactorTime, find: Callable[[], Deferred[_T]], fresh: float) -> None:
        self._clock = clock
        self._find = find
        self._fresh = fresh
        self._found: tuple[float, _T] | None = None
        self._asking: list[Deferred[_T]] | None = None

    def get(self) -> Deferred[_T]:
        """Give what there is, or find it."""
        if self._found is not None and self._clock.seconds() - self._found[0] < self._fresh:
            return succeed(self._found[1])
        mine: Deferred[_T] = Deferred()
        if self._asking is not None:
            self._asking.append(mine)
            return mine
        self._asking = [mine]
        self._find().addBoth(self._tell)
        return mine

    def _tell(self, result: _T | Failure) -> None:
        if not isinstance(result, Failure):
            self._found = self._clock.seconds(), result
        asking, self._asking = self._asking or [], None
        for each in asking:
            if not each.called:  # who asked may have gone
                each.callback(result)  # a failure, too


class HealthCheck:
    """
    Looks around in the daemon.

    :param clock: the reactor, or a ``Clock``.
    :param queue: what waits.
    :param apps: the apps.
    :param problems: tells which apps have something wrong, and what.
    :param states: tells what the dispatcher knows of its apps.
    :param trouble: tells why nothing can be stored, at once.
    :param probe: finds out whether something can be stored, by trying.
    :param webhooks: the webhooks.
    :param fresh: for how many seconds one look is good.

    :ivar stopping: whether the daemon is shutting down; to be set by who shuts it down.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        apps: IApps,
        *,
        problems: Callable[[], Mapping[str, str]],
        states: Callable[[], Iterable[AppState]],
        trouble: Callable[[], str],
        probe: Callable[[], Deferred[str]],
        webhooks: Sequence[Webhook] = (),
        fresh: float = 1.5,
    ) -> None:
        self.stopping = False
        self._clock = clock
        self._wall = wall_clock(clock)
        self._queue = queue
        self._apps = apps
        self._problems = problems
        self._states = states
        self._trouble = trouble
        self._probe = probe
        self._webhooks = webhooks
        self._looks = _Kept(clock, lambda: Deferred.fromCoroutine(self._look()), fresh)
        self._probes = _Kept(clock, lambda: Deferred.fromCoroutine(self._try()), fresh)

    def take(self) -> Deferred[Overview]:
        """
        Look, unless somebody did a moment ago; but whether something can be stored is always what is known now.

        :returns: a ``Deferred`` of what there is to see.
        """
        return self._looks.get().addCallback(
            lambda found: attrs.evolve(found, trouble=self._trouble(), stopping=self.stopping)
        )

    def ready(self) -> Deferred[Readiness]:
        """
        Find out whether the daemon can do its work. That it can store something is tried.

        :returns: a ``Deferred`` of the answer.
        """

        async def find() -> Readiness:
            trouble = await self._probes.get()
            overview = await self.take()
            overview = attrs.evolve(overview, trouble=overview.trouble or trouble)
            return Readiness(tuple(overview.faults), tuple(overview.concerns))

        if self.stopping:
            return succeed(Readiness(("the daemon is shutting down",)))
        return Deferred.fromCoroutine(find())

    async def _try(self) -> str:
        try:
            return await self._probe()
        except Exception:
            _log.failure("It cannot be found out whether the database can be written to")
            return "the database does not answer"

    async def _look(self) -> Overview:
        depths = await _unless_unavailable(self._queue.depths(), ())
        backlogs = [(each, await _unless_unavailable(each.backlog(), None)) for each in self._webhooks]
        now = self._clock.seconds()
        webhooks = [
            WebhookOverview(each.state, count, _since(each.state.failing_since, now)) for each, count in backlogs
        ]
        apps = self._app_overviews(depths, now)
        return Overview(self._wall.now(), apps, tuple(webhooks), self._trouble(), self.stopping)

    def _app_overviews(self, depths: Sequence[Depth], now: float) -> tuple[AppOverview, ...]:
        problems = self._problems()
        states = {state.name: state for state in self._states()}
        known = {depth.app: depth for depth in depths}
        waiting = {name for name, depth in known.items() if depth.waiting}
        names = {*self._apps.names(), *problems, *waiting, *(name for name, state in states.items() if state.in_flight)}
        return tuple(
            self._overview(name, states.get(name, AppState(name)), known.get(name), problems.get(name, ""), now)
            for name in sorted(names)
        )

    def _overview(self, name: str, state: AppState, depth: Depth | None, problem: str, now: float) -> AppOverview:
        condition: Condition
        app: App | None
        try:
            app = self._apps.get(name)
        except RequestRefused as refusal:
            app, condition, reason = None, "unusable", problem or str(refusal)
        else:
            condition = "tripped" if state.tripped else "open" if state.reason else "working"
            reason = state.reason or problem
        expires = None if app is None else expiry(app)
        overdue = None if depth is None else _since(depth.oldest, now)
        return AppOverview(
            name,
            condition,
            reason,
            _since(state.since, now),
            "" if app is None else str(app.gateway),
            None if expires is None else expires.timestamp(),
            self._queue.depth(name),
            None if overdue is None else max(0.0, overdue),
            state,
        )


def _since(began: float | None, now: float) -> float | None:
    """Tell for how long something has been so, where that is known."""
    return None if began is None else now - began


async def _unless_unavailable(asked: Awaitable[_T], otherwise: _Otherwise) -> _T | _Otherwise:
    """Wait for an answer; where there can be none now, for the database cannot be read, do without."""
    try:
        return await asked
    except Exception:
        failure = Failure()
        if failure.check(Unavailable) is None:
            _log.failure("The daemon cannot be looked at", failure)
        return otherwise
