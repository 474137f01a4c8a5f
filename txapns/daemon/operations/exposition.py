"""
Metrics in Prometheus' text format, written in slices.

With many apps there are ten thousand lines, which take a tenth of a second. Between two slices the reactor does what
else there is to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

__all__ = ["exposition"]

_SLICE = 500  # samples that are written in one turn of the reactor


async def exposition(clock: IReactorTime, registry: CollectorRegistry) -> bytes:
    """
    Write all metrics of a registry.

    :param clock: the reactor, or a ``Clock``.
    :param registry: has them. Of a metric that comes in several parts, one after the other, there is one header.
    """
    text: list[bytes] = []
    before = ""
    for family in registry.collect():
        for start in range(0, max(1, len(family.samples)), _SLICE):
            if text:
                await deferLater(clock, 0)
            written = generate_latest(_Part(family, family.samples[start : start + _SLICE]))
            if family.name == before:
                written = written.split(b"\n", 2)[2]  # without HELP and TYPE
            text.append(written)
            before = family.name
    return b"".join(text)


class _Part(Collector):
    """A metric with some of its samples."""

    def __init__(self, family: Metric, samples: Sequence[Sample]) -> None:
        self._part = Metric(family.name, family.documentation, family.type, family.unit)
        self._part.samples = list(samples)

    def collect(self) -> Iterator[Metric]:
        """See :meth:`Collector.collect`."""
        yield self._part
