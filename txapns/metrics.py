"""
What clients send, for Prometheus. It takes the extra ``metrics``: ``pip install 'txapns[metrics]'``.

::

    metrics = ClientMetrics()
    client = APNSClient(reactor, credential, metrics=metrics.listener("shop"))
    metrics.watch("shop", client)

Counters are counted as things happen; what is a state (connections, what is under way, how long a certificate is valid)
is asked for when Prometheus asks. The names, each with the label ``client``:

=======================================================  ===========================================================
``apns_notifications_sent_total``                        handed to a connection
``apns_notifications_accepted_total``                    accepted
``apns_notifications_rejected_total``                    refused for good, by ``status`` and ``reason``
``apns_notifications_retried_total``                     sent again later, by ``reason``
``apns_notifications_unanswered_total``                  ended without an answer, by ``outcome``
``apns_notification_seconds``                            how long the answers took: a histogram
``apns_connections``                                     by ``state``
``apns_notifications_in_flight``                         under way
``apns_notifications_queued``                            waiting
``apns_certificate_expiry_timestamp_seconds``            when the certificate expires, in UNIX seconds
=======================================================  ===========================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client import Counter as Total
from prometheus_client.core import GaugeMetricFamily, Metric
from zope.interface import implementer

from txapns.credentials import Certificate
from txapns.interfaces import IMetrics
from txapns.reasons import Reason, Status, status_name

if TYPE_CHECKING:
    from txapns.client import APNSClient

__all__ = ["BUCKETS", "ClientListener", "ClientMetrics"]

#: The bounds of the histogram, in seconds.
BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Whatever else a gateway may answer is counted under one name: the peer is not to decide how many there are.
OTHER = "other"
_REASONS = frozenset({*(reason.value for reason in Reason), *(status_name(status) for status in Status)})


def _listed(reason: str) -> str:
    return reason if reason in _REASONS else OTHER


@implementer(IMetrics)
class ClientListener:
    """
    Counts what one client sends; :meth:`ClientMetrics.listener` makes it.

    :param metrics: where to count.
    :param name: the client's name.
    """

    def __init__(self, metrics: ClientMetrics, name: str) -> None:
        self._metrics = metrics
        self._name = name
        self._sent = metrics.sent.labels(name)
        self._accepted = metrics.accepted.labels(name)
        self._seconds = metrics.seconds.labels(name)

    def sent(self, count: int) -> None:
        """
        Notifications were handed to a connection.

        :param count: how many.
        """
        self._sent.inc(count)

    def accepted(self, seconds: float) -> None:
        """
        APNs accepted one.

        :param seconds: how long that took.
        """
        self._accepted.inc()
        self._seconds.observe(seconds)

    def rejected(self, status: int, reason: str, seconds: float) -> None:
        """
        APNs refused one, for good.

        :param status: the HTTP status or the status byte.
        :param reason: Apple's word for it.
        :param seconds: how long that took.
        """
        self._metrics.rejected.labels(self._name, str(status), _listed(reason)).inc()
        self._seconds.observe(seconds)

    def retried(self, reason: str) -> None:
        """
        One is sent again later.

        :param reason: Apple's word for why.
        """
        self._metrics.retried.labels(self._name, _listed(reason)).inc()

    def unanswered(self, uncertain: bool) -> None:
        """
        One ended without an answer.

        :param uncertain: whether it may have been processed.
        """
        self._metrics.unanswered.labels(self._name, "uncertain" if uncertain else "unsent").inc()


class ClientMetrics:
    """
    The metrics of all clients of a program.

    :param registry: where they are registered; left out, where Prometheus' library has all others.

    :ivar sent: the counters and the histogram, for those who want to look at them.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def total(name: str, text: str, *labels: str) -> Total:
            return Total(f"apns_notifications_{name}", text, ["client", *labels], registry=registry)

        self.sent = total("sent", "Notifications handed to a connection.")
        self.accepted = total("accepted", "Notifications that APNs accepted.")
        self.rejected = total("rejected", "Notifications that APNs refused for good.", "status", "reason")
        self.retried = total("retried", "Notifications that are sent again later.", "reason")
        self.unanswered = total("unanswered", "Notifications that ended without an answer.", "outcome")
        self.seconds = Histogram(
            "apns_notification_seconds",
            "How long an answer took.",
            ["client"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._clients: dict[str, APNSClient] = {}
        registry.register(self)

    def listener(self, name: str) -> ClientListener:
        """
        Make who counts for a client.

        :param name: what the client is called in the metrics, such as the app.
        :returns: what to give to the client as ``metrics``.
        """
        return ClientListener(self, name)

    def watch(self, name: str, client: APNSClient) -> None:
        """
        Tell from now on how a client fares.

        :param name: what it is called; another client of this name is watched no longer.
        :param client: the client.
        """
        self._clients[name] = client

    def forget(self, name: str) -> None:
        """
        Tell no longer how a client fares. Its counters stay.

        :param name: what it is called.
        """
        self._clients.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """
        Look how the clients fare; Prometheus' library calls this from whichever thread it likes.

        :returns: the gauges.
        """
        connections = GaugeMetricFamily("apns_connections", "Connections.", labels=["client", "state"])
        in_flight = GaugeMetricFamily("apns_notifications_in_flight", "Under way.", labels=["client"])
        queued = GaugeMetricFamily("apns_notifications_queued", "Waiting.", labels=["client"])
        expiry = GaugeMetricFamily(
            "apns_certificate_expiry_timestamp_seconds", "When the certificate expires.", labels=["client"]
        )
        for name, client in list(self._clients.items()):
            status = client.status()
            for state, count in Counter(status.connections).items():
                connections.add_metric([name, state], count)
            in_flight.add_metric([name], status.in_flight)
            queued.add_metric([name], status.queued)
            if isinstance(client.credential, Certificate):
                expiry.add_metric([name], client.credential.expires.timestamp())
        return iter((connections, in_flight, queued, expiry))
