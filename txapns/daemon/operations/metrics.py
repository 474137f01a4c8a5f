"""
The daemon's metrics, for Prometheus.

Counters are incremented once per request that is accepted and once per chunk that is settled, never per notification.
Gauges are read from an :class:`~txapns.daemon.operations.health.Overview` when Prometheus scrapes.

Where several nodes share a database, each exports what it does itself, so that sums over all nodes are right. What is
the same on all of them, such as the length of a queue, is exported by one node only: sums are right there, too, and an
alert fires once. If each exported it, every query would have to pick one of several values, read at different times.

Labels have few values. Operators name apps and webhooks. A gateway chooses the reason of a rejection, so only known
reasons become labels; all others count as ``other``. ``docs/daemon-operations.rst`` has a table of all names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, get_args

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

import txapns
from txapns._serving.http import Answer, IApplication, Request
from txapns.daemon.errors import RequestRefused
from txapns.daemon.interfaces import IIntake
from txapns.daemon.operations.health import AppOverview, Condition, Overview
from txapns.daemon.values import Draft, Idempotency, Leased, Outcome, Receipt, Settlement, State
from txapns.errors import APNSError
from txapns.interfaces import IMetrics
from txapns.metrics import ClientMetrics, Durations, histogram, totals
from txapns.reasons import Reason

__all__ = ["BUCKETS", "CONTENT_TYPE", "DaemonMetrics", "Totals"]

#: The bounds of the histogram, in seconds.
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
#: The content type of what :meth:`DaemonMetrics.render` returns.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "apns_daemon_"
_TOTALS = {
    "received": ("Notifications received from callers.", ("app", "face")),
    "refused": ("Requests refused.", ("face", "status")),
    "outcomes": ("Notifications by their outcome.", ("app", "state", "reason")),
    "retries": ("Attempts after which another follows.", ("app", "reason")),
}
_Gauges: TypeAlias = Mapping[str, tuple[str, Callable[[AppOverview], float | None]]]
_SHARED_APP_GAUGES: _Gauges = {
    "queue": ("Notifications waiting, those in flight included.", lambda app: app.waiting),
    "queue_oldest_seconds": ("How long the oldest of them has been due.", lambda app: app.oldest),
}
_APP_GAUGES: _Gauges = {
    "in_flight": ("Notifications in flight.", lambda app: app.state.in_flight),
    "certificate_expiry_timestamp_seconds": ("When the app's certificate expires.", lambda app: app.expires),
}
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

    :param registry: where to register them; by default a registry of their own.

    :ivar totals: the notifications since the start, over all apps.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.totals = Totals()
        self._counts: Counter[tuple[str, ...]] = Counter()  # by name and labels
        self._seconds: dict[str, Durations] = {}
        self._overview: Overview | None = None
        self._shared = True
        self._clients = ClientMetrics(None)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    # Counters.

    def client(self, app: str) -> IMetrics:
        """Return what counts the attempts of an app's client."""
        return self._clients.listener(app)

    def intake(self, face: str, intake: IIntake, *, refusals: bool = False) -> IIntake:
        """
        Wrap an intake so that it counts what a face receives.

        :param face: the face's name in the metrics, such as ``"native"``.
        :param refusals: whether to count the intake's refusals, because the face does not answer them with an HTTP
            status that :meth:`application` sees.
        """
        return _CountedIntake(face, intake, self, refusals)

    def application(self, face: str, application: IApplication) -> IApplication:
        """Wrap an HTTP face so that it counts its refusals."""
        return _CountedApplication(face, application, self)

    def received(self, face: str, app: str, count: int) -> None:
        """Count an accepted request."""
        self.totals.received += count
        self._counts["received", app, face] += count

    def refused(self, face: str, status: int) -> None:
        """Count a refused request, by the HTTP status that says why or would say it."""
        self._counts["refused", face, str(status)] += 1

    def settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        """Count an attempt to send a chunk; ``now`` is the reactor's time."""
        others = [each for each in settlements if each.state is not _ACCEPTED]
        accepted = len(settlements) - len(others)
        if accepted:
            self.totals.accepted += accepted
            self._counts["outcomes", app, "accepted", ""] += accepted
        if others:
            self._count_others(app, others)
            answered = {each.number for each in settlements if each.state is _ACCEPTED or each.state is _REJECTED}
            leased = [each for each in leased if each.number in answered]
        seconds = self._seconds.get(app)
        if seconds is None:
            seconds = self._seconds[app] = Durations(BUCKETS)
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

    def render(self, overview: Overview, shared: bool = True) -> bytes:
        """
        Return all metrics in Prometheus' text format.

        :param shared: whether to export what is the same on all nodes.
        """
        self._overview, self._shared = overview, shared
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """
        Return the counters, the histogram, the clients' counters, and the gauges as of the last :meth:`render`.

        ``prometheus_client`` calls this.
        """
        yield from totals(_PREFIX, _TOTALS, [((), self._counts)])
        yield histogram(
            _PREFIX + "answer_seconds",
            "From acceptance to Apple's answer, all attempts together.",
            "app",
            list(self._seconds.items()),
        )
        yield from (family for family in self._clients.totals() if family.samples)
        yield InfoMetricFamily("apns_daemon", "The daemon.", value={"version": txapns.__version__})
        if self._overview is not None:
            yield from _app_gauges(self._overview)
            yield from _daemon_gauges(self._overview)
            if self._shared:
                yield from _shared_gauges(self._overview)


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float | None]]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for label_values, value in values:
        if value is not None:
            family.add_metric(label_values, value)
    return family


def _app_gauges(overview: Overview) -> Iterator[Metric]:
    apps = overview.apps
    yield from _gauges_of(_APP_GAUGES, apps)
    counts = (([each.name, state], n) for each in apps for state, n in Counter(each.state.connections).items())
    yield _gauge("connections", "Connections to Apple.", ["app", "state"], counts)
    current = (
        ([each.name, condition], each.condition == condition) for each in apps for condition in get_args(Condition)
    )
    text = "1 for the app's current condition, 0 for the others."
    yield _gauge("app_condition", text, ["app", "condition"], current)


def _gauges_of(gauges: _Gauges, apps: Sequence[AppOverview]) -> Iterator[Metric]:
    for name, (text, value) in gauges.items():
        yield _gauge(name, text, ["app"], (([each.name], value(each)) for each in apps))


def _shared_gauges(overview: Overview) -> Iterator[Metric]:
    yield from _gauges_of(_SHARED_APP_GAUGES, overview.apps)
    backlogs = (([each.state.name], each.backlog) for each in overview.webhooks)
    yield _gauge("webhook_backlog", "Dead tokens not delivered yet.", ["webhook"], backlogs)
    if overview.node:
        states = Counter("alive" if each.alive else "gone" for each in overview.nodes)
        counts = (([state], states[state]) for state in ("alive", "gone"))
        yield _gauge("nodes", "Nodes that share the database.", ["state"], counts)


def _daemon_gauges(overview: Overview) -> Iterator[Metric]:
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
        self, app: str, drafts: Sequence[Draft], idempotency: Idempotency | None = None
    ) -> Deferred[list[Receipt]]:
        """See :meth:`IIntake.accept`."""

        def accepted(receipts: list[Receipt]) -> list[Receipt]:
            new = [len(receipt.numbers) for receipt in receipts if not receipt.earlier]
            self._metrics.received(self._face, app, sum(new))
            return receipts

        def refused(failure: Failure) -> Failure:
            if self._refusals and isinstance(failure.value, RequestRefused):
                self._metrics.refused(self._face, failure.value.status)
            return failure

        return self._intake.accept(app, drafts, idempotency).addCallbacks(accepted, refused)

    def wait(self, receipts: Sequence[Receipt], timeout: float) -> Deferred[Mapping[int, Outcome]]:
        return self._intake.wait(receipts, timeout)


@implementer(IApplication)
class _CountedApplication:
    """See :meth:`DaemonMetrics.application`."""

    def __init__(self, face: str, application: IApplication, metrics: DaemonMetrics) -> None:
        self._face = face
        self._application = application
        self._metrics = metrics

    def begun(self, request: Request) -> Answer | None:
        answer = self._application.begun(request)
        return None if answer is None else self._count(answer)

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        answer = self._application.received(request)
        return self._count(answer) if isinstance(answer, Answer) else answer.addCallback(self._count)

    def fault(self, status: int, message: str) -> Answer:
        return self._count(self._application.fault(status, message))

    def _count(self, answer: Answer) -> Answer:
        if answer.status >= 400:
            self._metrics.refused(self._face, answer.status)
        return answer
