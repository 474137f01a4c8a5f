"""
The daemon's metrics, for Prometheus.

Counters are incremented once per request that is accepted and once per chunk that is settled, never per notification.
Gauges are read from an :class:`~txapns.daemon.operations.health.Overview` when Prometheus scrapes.

Where several nodes share a database, each exports what it does itself, so that sums over all nodes are right. What is
the same on all of them, such as the length of a queue, is exported by one node only: sums are right there, too, and an
alert fires once. If each exported it, every query would have to pick one of several values, read at different times.

Labels have few values. A gateway chooses the reason of a rejection, so only known reasons become labels; all others
count as ``other``. At most :data:`MOST_APPS` apps have a label of their own, those first that do not work or have
something to count; all others together have :data:`OTHER_APPS`, with the number of those in each condition, so that an
alert on an app fires for them, too. ``docs/daemon-operations.rst`` has a table of all names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias, get_args

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

import txapns
from txapns.daemon.errors import RequestRefused
from txapns.daemon.interfaces import IIntake
from txapns.daemon.operations.exposition import exposition
from txapns.daemon.operations.health import AppOverview, Condition, Overview, SideOverview
from txapns.daemon.slices import APPS, in_slices
from txapns.daemon.values import ANYBODY, Caller, Draft, Idempotency, Leased, Outcome, Receipt, Settlement, State
from txapns.errors import APNSError
from txapns.interfaces import IMetrics
from txapns.metrics import ClientMetrics, Durations, histogram, parts, totals
from txapns.reasons import Reason

__all__ = ["BUCKETS", "CONTENT_TYPE", "MOST_APPS", "OTHER_APPS", "DaemonMetrics", "Totals"]

#: The bounds of the histogram, in seconds.
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
#: The bounds of the histogram of the intake, in seconds.
INTAKE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
#: How many apps have a label of their own. Each has up to some forty samples, which all count when they are written.
MOST_APPS = 300
#: The label of all other apps together. No app is called so.
OTHER_APPS = "_other"
#: The content type of what :meth:`DaemonMetrics.render` returns.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "apns_daemon_"
_PART = 20  # values of a label in one part of a metric
_TOTALS = {
    "received": ("Notifications accepted from callers, by face.", ("app", "face")),
    "refused": ("Requests refused, by the HTTP status that says why.", ("face", "status")),
    "outcomes": ("Notifications with a final state, by state and reason.", ("app", "state", "reason")),
    "retries": ("Attempts after which another follows, by reason.", ("app", "reason")),
}
# Of each gauge the text, its value for an app, and how the values of several apps make one.
_Gauges: TypeAlias = Mapping[str, tuple[str, Callable[[AppOverview], float | None], Callable[[Iterable[float]], float]]]
_SHARED_APP_GAUGES: _Gauges = {
    "queue": ("Notifications that wait, with those in flight.", lambda app: app.waiting, sum),
    "queue_oldest_seconds": ("For how long the oldest of them has been due.", lambda app: app.oldest, max),
    "dead_letters": ("Notifications that were given up and can be retried.", lambda app: app.dead, sum),
}
_APP_GAUGES: _Gauges = {
    "in_flight": ("Notifications sent and not answered.", lambda app: app.state.in_flight, sum),
    "certificate_expiry_timestamp_seconds": ("When the certificate expires.", lambda app: app.expires, min),
}
# The apps with each label.
_Groups: TypeAlias = Mapping[str, Sequence[AppOverview]]
_OTHER = "other"
# A module's names are looked up faster than members of an enumeration.
_ACCEPTED, _REJECTED, _WAITING = State.ACCEPTED, State.REJECTED, State.WAITING


def _names(kind: type[APNSError]) -> Iterator[str]:
    yield kind.__name__
    for each in kind.__subclasses__():
        yield from _names(each)


# If Apple did not answer, the reason is the name of our exception.
_REASONS = frozenset({"", *(reason.value for reason in Reason), *_names(APNSError)})


def _reason_label(reason: str) -> str:
    return reason if reason in _REASONS else _OTHER


@attrs.define
class Totals:
    """
    Numbers of notifications: all since the start, those of some time, or those per second.

    :ivar failed: rejected by Apple, expired or given up.
    """

    received: float = 0
    accepted: float = 0
    failed: float = 0
    retried: float = 0


class DaemonMetrics:
    """
    The daemon's metrics.

    :param clock: the reactor, or a ``Clock``.
    :param registry: where to register them; by default a registry of their own.

    :ivar totals: the notifications since the start, over all apps.
    """

    def __init__(self, clock: IReactorTime, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.clock = clock
        self.totals = Totals()
        self._labels: dict[str, str] = {}  # of the apps that have one of their own
        self._counts: Counter[tuple[str, ...]] = Counter()  # by name and labels
        self._seconds: defaultdict[str, Durations] = defaultdict(partial(Durations, BUCKETS))
        self._intake: defaultdict[str, Durations] = defaultdict(partial(Durations, INTAKE_BUCKETS))
        self._overview: Overview | None = None
        self._groups: _Groups = {}
        self._shared = True
        self._clients = ClientMetrics(None, "app")
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    # Counters.

    def client(self, app: str) -> IMetrics:
        """Return what counts the attempts of an app's client."""
        return self._clients.listener(self._label(app))

    def _label(self, app: str) -> str:
        """Give an app a label of its own, as long as there are few."""
        label = self._labels.get(app)
        if label is None:
            if len(self._labels) >= MOST_APPS:
                return OTHER_APPS
            label = self._labels[app] = app
        return label

    def intake(self, face: str, intake: IIntake, *, refusals: bool = False) -> IIntake:
        """
        Wrap an intake so that it counts what a face receives.

        :param face: the face's name in the metrics, such as ``"native"``.
        :param refusals: whether to count the intake's refusals, because the face does not answer them with an HTTP
            status, which the server counts.
        """
        return _CountedIntake(face, intake, self, refusals)

    def received(self, face: str, app: str, count: int) -> None:
        """Count an accepted request."""
        self.totals.received += count
        self._counts["received", self._label(app), face] += count

    def stored(self, face: str, seconds: float) -> None:
        """Count how long it took to store a request."""
        self._intake[face].add(seconds)

    def refused(self, face: str, status: int) -> None:
        """Count a refused request, by the HTTP status that says why or would say it."""
        self._counts["refused", face, str(status)] += 1

    def superseded(self, app: str, count: int) -> None:
        """Count notifications that newer ones have superseded."""
        self._counts["outcomes", self._label(app), "superseded", ""] += count

    def settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        """
        Count an attempt to send a chunk.

        :param settlements: of those that were not just accepted.
        :param now: the reactor's time.
        """
        app = self._label(app)
        others = [each for each in settlements if each.state is not _ACCEPTED]
        accepted = len(leased) - len(others)
        if accepted:
            self.totals.accepted += accepted
            self._counts["outcomes", app, "accepted", ""] += accepted
        if others:
            self._count_others(app, others)
            unanswered = {each.number for each in others if each.state is not _REJECTED}
            leased = [each for each in leased if each.number not in unanswered]
        seconds = self._seconds[app]
        # Those of one request were accepted at the same time.
        for since, count in Counter([each.since for each in leased]).items():
            seconds.add(max(0.0, now - since), count)

    def _count_others(self, app: str, settlements: Iterable[Settlement]) -> None:
        counts = Counter([(each.state, _reason_label(each.reason), each.due is not None) for each in settlements])
        for (state, reason, counted), count in counts.items():
            if state is not _WAITING:
                self.totals.failed += count
                self._counts["outcomes", app, state.name.lower(), reason] += count
            elif counted:
                self.totals.retried += count
                self._counts["retries", app, reason] += count

    # Output.

    def render(self, overview: Overview, shared: bool = True) -> Deferred[bytes]:
        """
        Return all metrics in Prometheus' text format.

        :param shared: whether to export what is the same on all nodes.
        :returns: a ``Deferred`` of the text, which is made in slices.
        """

        async def render() -> bytes:
            groups = await self._grouped(overview.apps)
            self._overview, self._groups, self._shared = overview, groups, shared
            return await exposition(self.clock, self.registry)

        return Deferred.fromCoroutine(render())

    def collect(self) -> Iterator[Metric]:
        """
        Return the counters, the histogram, the clients' counters, and the gauges as of the last :meth:`render`.

        ``prometheus_client`` calls this. A metric with many samples comes in several parts.
        """
        for kind, described in _TOTALS.items():
            for some in parts({labels: count for labels, count in self._counts.items() if labels[0] == kind}, _PART):
                yield from totals(_PREFIX, {kind: described}, [((), dict(some))])
        text = "From acceptance to Apple's answer, all attempts together."
        for durations in parts(self._seconds, _PART):
            yield histogram(_PREFIX + "answer_seconds", text, "app", durations)
        text = "From the arrival of a request until it is accepted."
        yield histogram(_PREFIX + "intake_seconds", text, "face", list(self._intake.items()))
        yield from (family for family in self._clients.totals(_PART) if family.samples)
        if self._overview is not None:
            yield from _daemon_gauges(self._overview)
            yield from _app_gauges(self._groups)
            yield from _gauges_of(_APP_GAUGES, self._groups)
            if self._shared:
                yield from _gauges_of(_SHARED_APP_GAUGES, self._groups)
                yield from _shared_gauges(self._overview)

    async def _grouped(self, apps: Iterable[AppOverview]) -> _Groups:
        """Group apps by their labels."""
        groups: dict[str, list[AppOverview]] = {}
        apps = sorted(apps, key=lambda app: (app.condition == "working", not app.waiting))
        async for some in in_slices(self.clock, apps, APPS):
            for app in some:
                groups.setdefault(self._label(app.name), []).append(app)
        return groups


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float | None]]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for label_values, value in values:
        if value is not None:
            family.add_metric(label_values, value)
    return family


def _app_gauges(groups: _Groups) -> Iterator[Metric]:
    states = {name: Counter(state for app in apps for state in app.state.connections) for name, apps in groups.items()}
    counts = (([name, state], count) for name, found in states.items() for state, count in found.items())
    yield _gauge("connections", "Connections to Apple, by state.", ["app", "state"], counts)
    found = Counter((name, app.condition) for name, apps in groups.items() for app in apps)
    text = "1 for the condition that the app is in; of _other, how many apps are in it."
    yield _gauge("app_condition", text, ["app", "condition"], found.items())
    sides: dict[tuple[str, str], list[SideOverview]] = {}
    for name, apps in groups.items():
        for side in (side for app in apps for side in app.sides):
            sides.setdefault((name, side.environment), []).append(side)
    if sides:
        both = ["app", "environment"]
        text = "1 if nothing gets through on this side of an app with two; of _other, of how many apps."
        stopped = ((names, sum(side.stopped for side in some)) for names, some in sides.items())
        yield _gauge("side_stopped", text, both, stopped)
        text = "When the certificate of this side of an app with two expires; of _other, the first."
        expires = ((n, [each.expires for each in some if each.expires is not None]) for n, some in sides.items())
        first = ((names, min(dates, default=None)) for names, dates in expires)
        yield _gauge("side_certificate_expiry_timestamp_seconds", text, both, first)


def _gauges_of(gauges: _Gauges, groups: _Groups) -> Iterator[Metric]:
    for name, (text, value, together) in gauges.items():
        values = {label: [each for each in map(value, apps) if each is not None] for label, apps in groups.items()}
        yield _gauge(name, text, ["app"], (([label], together(found)) for label, found in values.items() if found))


def _shared_gauges(overview: Overview) -> Iterator[Metric]:
    backlogs = (([each.state.name], each.backlog) for each in overview.webhooks)
    yield _gauge("webhook_backlog", "Dead tokens and outcomes not delivered yet.", ["webhook"], backlogs)
    yield _gauge("database_bytes", "What the database takes on its disk.", [], [([], overview.size)])
    if overview.node:
        states = Counter("alive" if each.alive else "gone" for each in overview.nodes)
        counts = (([state], states[state]) for state in ("alive", "gone"))
        yield _gauge("nodes", "Nodes that share the database.", ["state"], counts)


def _daemon_gauges(overview: Overview) -> Iterator[Metric]:
    name = {"node": overview.node} if overview.node else {}
    yield InfoMetricFamily("apns_daemon", "The daemon.", value={"version": txapns.__version__, **name})
    conditions = Counter(app.condition for app in overview.apps)
    counts = (([condition], conditions[condition]) for condition in get_args(Condition))
    yield _gauge("apps", "Apps, by the condition that they are in.", ["condition"], counts)
    failing = (([each.state.name], each.failing or 0.0) for each in overview.webhooks)
    yield _gauge("webhook_failing_seconds", "For how long deliveries have been failing.", ["webhook"], failing)
    for node in overview.nodes:
        if node.own:
            text = "By how much the clock is ahead of the database's."
            yield _gauge("clock_offset_seconds", text, [], [([], node.clock_offset)])
    yield _gauge(
        "database_trouble", "1 if the database cannot store notifications.", [], [([], bool(overview.trouble))]
    )
    yield _gauge("ready", "1 if the daemon is ready.", [], [([], not overview.faults)])


@implementer(IIntake)
class _CountedIntake:
    """See :meth:`DaemonMetrics.intake`."""

    def __init__(self, face: str, intake: IIntake, metrics: DaemonMetrics, refusals: bool) -> None:
        self._face = face
        self._intake = intake
        self._metrics = metrics
        self._refusals = refusals

    def check(self, app: str, drafts: Sequence[Draft]) -> None:
        self._intake.check(app, drafts)

    def accept(
        self,
        app: str,
        drafts: Sequence[Draft],
        idempotency: Idempotency | None = None,
        caller: Caller = ANYBODY,
        *,
        awaited: bool = False,
    ) -> Deferred[list[Receipt]]:
        """See :meth:`IIntake.accept`."""
        began = self._metrics.clock.seconds()
        accepting = self._intake.accept(app, drafts, idempotency, caller, awaited=awaited)
        accepting.addCallback(self._accepted, app, began)
        return accepting.addErrback(self._refused) if self._refusals else accepting

    def _accepted(self, receipts: list[Receipt], app: str, began: float) -> list[Receipt]:
        self._metrics.stored(self._face, self._metrics.clock.seconds() - began)
        new = [len(receipt.numbers) for receipt in receipts if not receipt.earlier]
        self._metrics.received(self._face, app, sum(new))
        return receipts

    def _refused(self, failure: Failure) -> Failure:
        if isinstance(failure.value, RequestRefused):
            self._metrics.refused(self._face, failure.value.status)
        return failure

    def wait(self, receipts: Sequence[Receipt], timeout: float) -> Deferred[Mapping[int, Outcome]]:
        return self._intake.wait(receipts, timeout)
