"""
Metrics of clients, for Prometheus. They require the extra ``metrics``: ``pip install 'txapns[metrics]'``.

::

    metrics = ClientMetrics()
    client = APNSClient(reactor, credential, metrics=metrics.listener("shop"))
    metrics.watch("shop", client)

Counting a notification takes a few additions. The objects that Prometheus' library needs are made from the counters
when Prometheus asks, and so are the gauges. The names, each with the label ``client``:

=======================================================  ===========================================================
``apns_notifications_sent_total``                        handed to a connection
``apns_notifications_accepted_total``                    accepted
``apns_notifications_rejected_total``                    rejected, by ``status`` and ``reason``
``apns_notifications_retried_total``                     sent again later, by ``reason``
``apns_notifications_unanswered_total``                  ended without an answer, by ``outcome``
``apns_notification_seconds``                            the time until the answer: a histogram
``apns_connections``                                     by ``state``
``apns_notifications_in_flight``                         in flight
``apns_notifications_queued``                            waiting
``apns_certificate_expiry_timestamp_seconds``            when the certificate expires, in UNIX seconds
=======================================================  ===========================================================
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from zope.interface import implementer

from txapns.client import APNSClient
from txapns.credentials import Certificate
from txapns.interfaces import IMetrics
from txapns.reasons import Reason, Status, status_name

__all__ = ["BUCKETS", "ClientListener", "ClientMetrics", "Durations", "histogram", "parts", "totals"]

_K = TypeVar("_K")
_V = TypeVar("_V")

#: The bounds of the histogram, in seconds.
BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Undocumented reasons are counted under one name, so that a server cannot create any number of time series.
OTHER = "other"
_REASONS = frozenset({*(reason.value for reason in Reason), *(status_name(status) for status in Status)})


def _listed(reason: str) -> str:
    return reason if reason in _REASONS else OTHER


class Durations:
    """
    Durations, counted in buckets: one label's part of a histogram.

    :param bounds: the upper bounds of the buckets, in seconds, in ascending order.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count durations of this many seconds each."""
        self._counts[bisect_left(self._bounds, seconds)] += count
        self._sum += seconds * count

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Return the buckets in Prometheus' format, and the sum."""
        bounds = [*map(str, self._bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum


def parts(counted: Mapping[_K, _V], size: int | None) -> Iterator[Sequence[tuple[_K, _V]]]:
    """
    Split what is counted for each value of a label, so that not all of a metric is made at once.

    :param size: how many values there are in each part; ``None`` for all.
    """
    items = list(counted.items())  # more may be counted meanwhile
    count = max(1, len(items))
    for start in range(0, count, size or count):
        yield items[start : start + (size or count)]


def histogram(name: str, text: str, label: str, found: Iterable[tuple[str, Durations]]) -> Metric:
    """
    Make a histogram for Prometheus.

    :param name: its name.
    :param text: its description.
    :param label: the name of its label.
    :param found: the durations for each value of the label.
    """
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, durations in found:
        buckets, total = durations.buckets()
        family.add_metric([value], buckets, total)
    return family


def totals(
    prefix: str,
    kinds: Mapping[str, tuple[str, Sequence[str]]],
    counted: Iterable[tuple[Sequence[str], Mapping[tuple[str, ...], int]]],
    *labels: str,
) -> Iterator[Metric]:
    """
    Make counters for Prometheus.

    :param prefix: the prefix of their names.
    :param kinds: the rest of each name, with its description and its own labels.
    :param counted: values of the common labels, and the counts for them by name and own labels. Those with other names
        are left out.
    :param labels: the names of the common labels.
    """
    families = {
        name: CounterMetricFamily(prefix + name, text, labels=[*labels, *own]) for name, (text, own) in kinds.items()
    }
    for values, counts in counted:
        for (name, *own), count in list(counts.items()):
            if name in families:
                families[name].add_metric([*values, *own], count)
    yield from families.values()


@implementer(IMetrics)
class ClientListener:
    """
    Counts what one client sends; :meth:`ClientMetrics.listener` makes it.

    :ivar counts: the counts by metric and labels, except for accepted notifications.
    :ivar taken: how many were accepted.
    :ivar seconds: the times until the answers.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.taken = 0
        self.seconds = Durations(BUCKETS)

    def sent(self, count: int) -> None:
        """Notifications were handed to a connection."""
        self.counts["sent",] += count

    def accepted(self, seconds: float) -> None:
        """APNs accepted one."""
        self.taken += 1
        self.seconds.add(seconds)

    def rejected(self, status: int, reason: str, seconds: float) -> None:
        """APNs rejected one."""
        self.counts["rejected", str(status), _listed(reason)] += 1
        self.seconds.add(seconds)

    def retried(self, reason: str) -> None:
        """One is sent again later."""
        self.counts["retried", _listed(reason)] += 1

    def unanswered(self, uncertain: bool) -> None:
        """One ended without an answer."""
        self.counts["unanswered", "uncertain" if uncertain else "unsent"] += 1


_TOTALS = {
    "sent": ("Notifications handed to a connection.", ()),
    "accepted": ("Notifications that APNs accepted.", ()),
    "rejected": ("Notifications that APNs rejected.", ("status", "reason")),
    "retried": ("Notifications that are sent again later.", ("reason",)),
    "unanswered": ("Notifications that ended without an answer.", ("outcome",)),
}


class ClientMetrics:
    """
    The metrics of all clients of a program.

    :param registry: where to register them; by default the registry of Prometheus' library; ``None`` for none.
    :param label: the name of the label that tells the clients apart.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY, label: str = "client") -> None:
        self._label = label
        self._listeners: dict[str, ClientListener] = {}
        self._clients: dict[str, APNSClient] = {}
        if registry is not None:
            registry.register(self)

    def listener(self, name: str) -> ClientListener:
        """
        Return the listener that counts for a client.

        :param name: the client's name in the metrics, such as the app. Clients with the same name are counted together.
        :returns: the ``metrics`` argument for the client.
        """
        return self._listeners.setdefault(name, ClientListener())

    def watch(self, name: str, client: APNSClient) -> None:
        """
        Include a client's status in the metrics.

        :param name: its name; it replaces another client with this name.
        :param client: the client.
        """
        self._clients[name] = client

    def forget(self, name: str) -> None:
        """Exclude a client's status from the metrics. Its counters stay."""
        self._clients.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """
        Return all metrics. Prometheus' library may call this from any thread.

        :returns: the counters, the histogram, and the clients' status.
        """
        yield from self.totals()
        yield from self._states()

    def totals(self, size: int | None = None) -> Iterator[Metric]:
        """
        Return what was counted.

        :param size: how many clients there are in one part of a metric; ``None`` if each metric comes as a whole.
        :returns: the counters and the histogram; the parts of a metric come one after the other.
        """
        for kind, described in _TOTALS.items():
            for some in parts(self._listeners, size):
                counted = [((client,), {**each.counts, ("accepted",): each.taken}) for client, each in some]
                yield from totals("apns_notifications_", {kind: described}, counted, self._label)
        text = "The time from sending a notification to the answer."
        for some in parts(self._listeners, size):
            yield histogram(
                "apns_notification_seconds", text, self._label, [(name, each.seconds) for name, each in some]
            )

    def _states(self) -> Iterator[Metric]:
        labels = [self._label]
        connections = GaugeMetricFamily("apns_connections", "Connections.", labels=[*labels, "state"])
        in_flight = GaugeMetricFamily("apns_notifications_in_flight", "Notifications in flight.", labels=labels)
        queued = GaugeMetricFamily("apns_notifications_queued", "Notifications that wait.", labels=labels)
        expiry = GaugeMetricFamily(
            "apns_certificate_expiry_timestamp_seconds", "When the certificate expires.", labels=labels
        )
        for name, client in list(self._clients.items()):
            status = client.status()
            for state, count in Counter(status.connections).items():
                connections.add_metric([name, state], count)
            in_flight.add_metric([name], status.in_flight)
            queued.add_metric([name], status.queued)
            if isinstance(client.credential, Certificate):
                expiry.add_metric([name], client.credential.expires.timestamp())
        yield from (connections, in_flight, queued, expiry)
