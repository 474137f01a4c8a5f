"""Tests for :mod:`txapns.daemon.operations.exposition`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.operations.exposition import exposition

__all__ = ["ExpositionTests"]


def gauge(first: int, count: int) -> Metric:
    """Make a metric, or a part of it."""
    family = GaugeMetricFamily("apns_odd", 'Odd \\ numbers\nand "others".', labels=["app"])
    for number in range(first, first + count):
        family.add_metric([f'a "{number}\\'], number)
    return family


class Collected(Collector):
    """Metrics of a test."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """See :meth:`Collector.collect`."""
        yield from self._families


class Turns(Clock):
    """Time stands still; ``count`` is how often something waits for another turn of the reactor."""

    count = 0

    def callLater(self, when: float, what: Callable[..., object], *arguments: Any, **named: Any) -> IDelayedCall:
        """Call something in another turn."""
        self.count += 1
        return super().callLater(when, what, *arguments, **named)


class ExpositionTests(SynchronousTestCase):
    """The text."""

    def write(self, *families: Metric) -> tuple[str, int]:
        """Write metrics; returns the text, and how many turns of the reactor that took."""
        registry = CollectorRegistry()
        registry.register(Collected(*families))
        clock = Turns()
        writing = Deferred.fromCoroutine(exposition(clock, registry))
        clock.advance(0)
        return self.successResultOf(writing).decode(), clock.count

    def test_same(self) -> None:
        """It is what Prometheus' library writes, however long."""
        counter = CounterMetricFamily("apns_sent", "Sent.", labels=["app"])
        counter.add_metric(["chess"], 7)
        families = counter, gauge(0, 2_500), InfoMetricFamily("apns", "The version.", value={"version": "1"})
        registry = CollectorRegistry()
        registry.register(Collected(*families))
        text, turns = self.write(*families)
        self.assertEqual(text, generate_latest(registry).decode())
        self.assertEqual(turns, 6)  # between the five slices of the longest, and the others

    def test_parts(self) -> None:
        """A metric that comes in parts has one header."""
        parted, _ = self.write(gauge(0, 3), gauge(3, 2), gauge(5, 0))
        self.assertEqual(parted, self.write(gauge(0, 5))[0])

    def test_nothing(self) -> None:
        """A metric without samples still has a header; nothing takes no turn."""
        text, turns = self.write(gauge(0, 0))
        self.assertEqual((text.count("\n"), turns), (2, 0))
        self.assertEqual(self.write(), ("", 0))
