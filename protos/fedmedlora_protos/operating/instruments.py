"""The measuring instruments of one process: a Prometheus registry and what is read back from it.

Both parties make theirs here; which there are, and what they may say, is in each party's `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series that nobody asked for, beside each other one


class Instruments:
    """A registry with the process's own series, and instruments under one prefix.

    Args:
        prefix: What every name begins with.
    """

    def __init__(self, prefix: str) -> None:
        """Begin with the process's own series."""
        self._prefix = prefix
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        """Make a gauge."""
        return Gauge(f"{self._prefix}_{name}", help_, labels, registry=self.registry)

    def counter(self, name: str, help_: str, *labels: str) -> Counter:
        """Make a counter."""
        return Counter(f"{self._prefix}_{name}", help_, labels, registry=self.registry)

    def histogram(self, name: str, help_: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        """Make a histogram."""
        return Histogram(f"{self._prefix}_{name}", help_, labels, buckets=buckets, registry=self.registry)


def totals(counter: Counter) -> list[tuple[dict[str, str], float]]:
    """Return labels and value of every series of a counter."""
    samples = [sample for metric in counter.collect() for sample in metric.samples]
    return [(sample.labels, sample.value) for sample in samples if sample.name.endswith("_total")]


def traffic_of(counter: Counter) -> dict[str, dict[str, int]]:
    """Return the bytes so far of a counter by direction and kind."""
    found: dict[str, dict[str, int]] = {}
    for labels, value in totals(counter):
        found.setdefault(labels["direction"], {})[labels["kind"]] = int(value)
    return found
