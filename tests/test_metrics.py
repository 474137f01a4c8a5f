"""Tests for :mod:`txapns.metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txapns import Notification, Session
from txapns.interfaces import IMetrics
from txapns.metrics import ClientMetrics, parts
from txapns.simulator import Response
from txapns.testing import MemorySimulator

HELLO = Notification(alert="Hello")
DEAD = "dd" * 32


class MetricsTests(SynchronousTestCase):
    """What Prometheus receives."""

    def setUp(self) -> None:
        """There is a client that is counted and watched."""
        self.simulator = MemorySimulator(dead=[DEAD], delay=0.04)
        self.registry = CollectorRegistry()
        self.metrics = ClientMetrics(self.registry)
        self.client = self.simulator.client(metrics=self.metrics.listener("shop"), retries=1)
        self.metrics.watch("shop", self.client)

    def found(self) -> dict[tuple[str, ...], float]:
        """Ask as Prometheus does: the value for each name and the values of its other labels, in their order."""
        text = generate_latest(self.registry).decode()
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = [value for name, value in sample.labels.items() if name != "client"]
                self.assertEqual(sample.labels.get("client"), "shop")
                found[(sample.name.removeprefix("apns_"), *labels)] = sample.value
        return found

    def test_interface(self) -> None:
        """The listener is what a client takes."""
        verifyObject(IMetrics, self.metrics.listener("other"))

    def test_counted(self) -> None:
        """Each notification is counted by its outcome, with the time it took."""
        responses = [Response(429, "TooManyRequests"), Response(418, "Teapot" * 9)]
        self.simulator.http2_fault = lambda server, request, response: responses.pop(0) if responses else response
        tokens = [f"{number:064x}" for number in range(10)]
        self.simulator.result(self.client.send(HELLO, [*tokens, DEAD]))
        found = self.found()
        self.assertEqual(found["notifications_sent_total",], 11)
        self.assertEqual(found["notifications_accepted_total",], 9)
        self.assertEqual(found["notifications_rejected_total", "Unregistered", "410"], 1)
        self.assertEqual(found["notifications_rejected_total", "other", "418"], 1)
        self.assertEqual(found["notifications_retried_total", "TooManyRequests"], 1)
        self.assertEqual(found["notification_seconds_bucket", "0.02"], 0)
        self.assertEqual(found["notification_seconds_bucket", "0.05"], 10)
        self.assertEqual(found["notification_seconds_count",], 11)

    def test_unanswered(self) -> None:
        """So are those without an answer."""
        self.simulator.http2_fault = lambda server, request, response: server.abort()
        self.simulator.result(self.client.send(HELLO, ["aa" * 32]))
        self.assertEqual(self.found()["notifications_unanswered_total", "uncertain"], 1)

    def test_states(self) -> None:
        """Gauges have the current values."""
        self.simulator.delay = 5.0
        self.client.send(HELLO, [DEAD] * 3)
        self.client.send_one(HELLO, DEAD).addErrback(lambda _: None)
        self.assertEqual(self.found()["notifications_queued",], 1)
        self.simulator.advance(1)
        found = self.found()
        self.assertEqual((found["connections", "ready"], found["notifications_in_flight",]), (1, 4))
        expires = self.simulator.certificate().expires.timestamp()
        self.assertLess(abs(found["certificate_expiry_timestamp_seconds",] - expires), 60)
        self.metrics.forget("shop")
        self.metrics.forget("shop")
        self.assertNotIn(("notifications_in_flight",), self.found())

    def test_binary(self) -> None:
        """The binary protocol is counted the same."""
        client = self.simulator.client("binary", metrics=self.metrics.listener("shop"))
        self.simulator.result(client.send(HELLO, [DEAD, "aa" * 32]))
        found = self.found()
        self.assertEqual(found["notifications_rejected_total", "InvalidToken", "8"], 1)
        self.assertEqual(found["notifications_accepted_total",], 1)

    def test_session(self) -> None:
        """The clients of a session are counted as well, each by the listener it was made with."""
        session = Session(self.simulator.reactor)
        gateway, certificate = self.simulator.gateway(), self.simulator.certificate()
        client = session.client(certificate, gateway, metrics=self.metrics.listener("shop"))
        self.assertIs(session.client(certificate, gateway), client)
        self.simulator.result(client.send(HELLO, ["aa" * 32]))
        self.assertEqual(self.found()["notifications_accepted_total",], 1)
        self.simulator.result(session.close())

    def test_parts(self) -> None:
        """What was counted may come in parts, one after the other for each metric, which together are the whole."""
        metrics = ClientMetrics(None)
        for number in range(5):
            metrics.listener(f"client{number}").sent(number)
        whole, parted = list(metrics.totals()), list(metrics.totals(2))
        self.assertEqual([family.name for family in parted], [family.name for family in whole for _ in range(3)])
        for family in whole:
            samples = [sample for part in parted if part.name == family.name for sample in part.samples]
            self.assertEqual(samples, family.samples)


class PartsTests(SynchronousTestCase):
    """What is counted, split."""

    def test_split(self) -> None:
        """There is one part at least; more may be counted meanwhile."""
        counted = {number: str(number) for number in range(12)}
        found = []
        for some in parts(counted, 5):
            counted[100 + len(found)] = ""
            found.append(some)
        self.assertEqual([len(some) for some in found], [5, 5, 2])
        self.assertEqual([len(some) for some in parts(counted, None)], [15])
        self.assertEqual([*parts({}, 5), *parts({}, None)], [[], []])
