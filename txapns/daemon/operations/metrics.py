"""
What the daemon does, for Prometheus.

Counters are counted as things happen: once for each request that is accepted and each chunk that is settled, never for
each notification. What is a state is taken from an :class:`~txapns.daemon.operations.health.Overview` when Prometheus
asks.

Labels have few values: names of apps and webhooks are the operator's, and of the reasons that a gateway may give only
the known ones stand for themselves. ``docs/daemon-operations.rst`` has a table of all names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

import txapns
from txapns.daemon.errors import RequestRefused
from txapns.daemon.interfaces import IIntake
from txapns.daemon.operations.health import Overview
from txapns.daemon.serving.http import Answer, IApplication, Request
from txapns.daemon.values import Draft, Idempotency, Leased, Outcome, Receipt, Settlement, State
from txapns.errors import APNSError
from txapns.interfaces import IMetrics
from txapns.metrics import ClientMetrics, Durations, histogram, totals
from txapns.reasons import Reason

__all__ = ["BUCKETS", "CONTENT_TYPE", "DaemonMetrics", "Totals"]

#: The bounds of the histogram, in seconds.
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
#: What :meth:`DaemonMetrics.render` gives.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "apns_daemon_"
_TOTALS = {
    "accepted": ("Notifications accepted from callers.", ("app", "face")),
    "refused": ("Requests that were refused.", ("face", "status")),
    "outcomes": ("Notifications by what became of them.", ("app", "state", "reason")),
    "retries": ("Attempts after which another is made later.", ("app", "reason")),
}
_OTHER = "other"
_CONDITIONS = ("working", "open", "tripped", "unusable")
# Names in a module are found faster than members of an enumeration.
_ACCEPTED, _REJECTED, _WAITING = State.ACCEPTED, State.REJECTED, State.WAITING


def _names(kind: type[APNSError]) -> Iterator[str]:
    yield kind.__name__
    for each in kind.__subclasses__():
        yield from _names(each)


# Where Apple did not answer, the reason is the name of our exception.
_REASONS = frozenset({"", *(reason.value for reason in Reason), *_names(APNSError)})


def _listed(reason: str) -> str:
    return reason if reason in _REASONS else _OTHER


@attrs.define
class Totals:
    """
    How many notifications there were since the start.

    :ivar taken: accepted from callers.
    :ivar delivered: accepted by Apple.
    :ivar refused: refused by Apple for good, expired or given up.
    :ivar retried: put off to be tried again.
    """

    taken: int = 0
    delivered: int = 0
    refused: int = 0
    retried: int = 0


class DaemonMetrics:
    """
    The metrics of a gateway.

    :param registry: where they are registered; left out, one of their own.

    :ivar registry: it.
    :ivar totals: how many there were, for who does not want to read metrics.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.totals = Totals()
        self._counts: Counter[tuple[str, ...]] = Counter()  # by name and labels
        self._seconds: dict[str, Durations] = {}
        self._overview: Overview | None = None
        self._clients = ClientMetrics(None)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    # What is counted.

    def client(self, app: str) -> IMetrics:
        """
        Make who counts what an app's client does.

        :param app: the app's name.
        """
        return self._clients.listener(app)

    def intake(self, face: str, intake: IIntake, *, refusals: bool = False) -> IIntake:
        """
        Count what comes in by a face.

        :param face: what it is called in the metrics, such as ``"native"``.
        :param intake: the intake.
        :param refusals: whether what the intake refuses is counted here, since the face does not answer it with an
            HTTP status that :meth:`application` sees.
        :returns: what to give to the face as its intake.
        """
        return _CountedIntake(face, intake, self, refusals)

    def application(self, face: str, application: IApplication) -> IApplication:
        """
        Count what an HTTP face refuses.

        :param face: what it is called in the metrics.
        :param application: the face.
        :returns: what to serve in its place.
        """
        return _CountedApplication(face, application, self)

    def accepted(self, face: str, app: str, count: int) -> None:
        """
        A request was accepted.

        :param face: by which face it came.
        :param app: the app's name.
        :param count: how many notifications it had.
        """
        self.totals.taken += count
        self._counts["accepted", app, face] += count

    def refused(self, face: str, status: int) -> None:
        """
        A request was refused.

        :param face: by which face it came.
        :param status: the HTTP status that says why, or the one that would.
        """
        self._counts["refused", face, str(status)] += 1

    def settled(self, app: str, leased: Sequence[Leased], settlements: Sequence[Settlement], now: float) -> None:
        """
        An attempt was made, for notifications that were under way together.

        :param app: the app's name.
        :param leased: the notifications.
        :param settlements: what became of them.
        :param now: when, by the reactor's clock.
        """
        others = [each for each in settlements if each.state is not _ACCEPTED]
        delivered = len(settlements) - len(others)
        if delivered:
            self.totals.delivered += delivered
            self._counts["outcomes", app, "accepted", ""] += delivered
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
        counts = Counter([(each.state, _listed(each.reason), each.due is not None) for each in settlements])
        for (state, reason, counted), count in counts.items():
            if state is not _WAITING:
                self.totals.refused += count
                self._counts["outcomes", app, state.name.lower(), reason] += count
            elif counted:
                self.totals.retried += count
                self._counts["retries", app, reason] += count

    # What Prometheus is told.

    def render(self, overview: Overview) -> bytes:
        """
        Write all of it down.

        :param overview: how the daemon fares.
        :returns: Prometheus' text format.
        """
        self._overview = overview
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """
        Give what is a state, as it was when :meth:`render` was last called; Prometheus' library calls this.

        :returns: the counters, the histogram, the gauges, and what the clients count.
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
            yield from _gateway_gauges(self._overview)


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float | None]]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for label_values, value in values:
        if value is not None:
            family.add_metric(label_values, value)
    return family


def _app_gauges(overview: Overview) -> Iterator[Metric]:
    apps, label = overview.apps, ["app"]
    yield _gauge("queue", "Notifications that wait.", label, (([each.name], each.waiting) for each in apps))
    yield _gauge(
        "queue_oldest_seconds", "How long the first has been due.", label, (([each.name], each.oldest) for each in apps)
    )
    yield _gauge("in_flight", "Notifications under way.", label, (([each.name], each.state.in_flight) for each in apps))
    yield _gauge(
        "connections",
        "Connections to Apple.",
        ["app", "state"],
        (([each.name, state], n) for each in apps for state, n in Counter(each.state.connections).items()),
    )
    yield _gauge(
        "app_condition",
        "1 for the condition that the app is in.",
        ["app", "condition"],
        (([each.name, condition], each.condition == condition) for each in apps for condition in _CONDITIONS),
    )
    yield _gauge(
        "certificate_expiry_timestamp_seconds",
        "When the app's certificate expires.",
        label,
        (([each.name], each.expires) for each in apps),
    )


def _gateway_gauges(overview: Overview) -> Iterator[Metric]:
    hooks, label = [([each.state.name], each) for each in overview.webhooks], ["webhook"]
    backlogs = ((name, each.backlog) for name, each in hooks)
    failing = ((name, each.lasting or 0.0) for name, each in hooks)
    yield _gauge("webhook_backlog", "Dead tokens still to be told.", label, backlogs)
    yield _gauge("webhook_failing_seconds", "How long it could not be told.", label, failing)
    yield _gauge("database_trouble", "Whether nothing can be stored.", [], [([], bool(overview.trouble))])
    yield _gauge("ready", "Whether the daemon can do its work.", [], [([], not overview.faults)])


@implementer(IIntake)
class _CountedIntake:
    """
    An intake that counts.

    :param face: the face's name in the metrics.
    :param intake: the intake.
    :param metrics: where to count.
    :param refusals: whether refusals are counted, too.
    """

    def __init__(self, face: str, intake: IIntake, metrics: DaemonMetrics, refusals: bool) -> None:
        self._face = face
        self._intake = intake
        self._metrics = metrics
        self._refusals = refusals

    def check(self, app: str, drafts: Sequence[Draft]) -> None:
        """See :meth:`IIntake.check`."""
        self._intake.check(app, drafts)

    def accept(
        self, app: str, drafts: Sequence[Draft], idempotency: Idempotency | None = None
    ) -> Deferred[list[Receipt]]:
        """See :meth:`IIntake.accept`."""

        def accepted(receipts: list[Receipt]) -> list[Receipt]:
            new = [len(receipt.numbers) for receipt in receipts if not receipt.earlier]
            self._metrics.accepted(self._face, app, sum(new))
            return receipts

        def refused(failure: Failure) -> Failure:
            if self._refusals and isinstance(failure.value, RequestRefused):
                self._metrics.refused(self._face, failure.value.status)
            return failure

        return self._intake.accept(app, drafts, idempotency).addCallbacks(accepted, refused)

    def wait(self, receipts: Sequence[Receipt], timeout: float) -> Deferred[Mapping[int, Outcome]]:
        """See :meth:`IIntake.wait`."""
        return self._intake.wait(receipts, timeout)


@implementer(IApplication)
class _CountedApplication:
    """
    An HTTP face of which the refusals are counted.

    :param face: its name in the metrics.
    :param application: the face.
    :param metrics: where to count.
    """

    def __init__(self, face: str, application: IApplication, metrics: DaemonMetrics) -> None:
        self._face = face
        self._application = application
        self._metrics = metrics

    def begun(self, request: Request) -> Answer | None:
        """See :meth:`IApplication.begun`."""
        answer = self._application.begun(request)
        return None if answer is None else self._seen(answer)

    def received(self, request: Request) -> Answer | Deferred[Answer]:
        """See :meth:`IApplication.received`."""
        answer = self._application.received(request)
        return self._seen(answer) if isinstance(answer, Answer) else answer.addCallback(self._seen)

    def fault(self, status: int, message: str) -> Answer:
        """See :meth:`IApplication.fault`."""
        return self._seen(self._application.fault(status, message))

    def _seen(self, answer: Answer) -> Answer:
        if answer.status >= 400:
            self._metrics.refused(self._face, answer.status)
        return answer
