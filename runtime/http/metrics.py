"""Counting requests, cheaply enough to count all of them.

The stock Histogram takes two locks and walks its buckets on every observation, several microseconds of
the hottest path there is. A process has one event loop thread, so plain integers will do: an observation is
a bisection and three additions, and the exposition format is only made when somebody scrapes.

Labels are the operation's name and the status: both are ours, so no caller can invent a time series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

#: Upper bounds in seconds. A hold takes about a millisecond; an order may wait 1.5 s for its commit.
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0)

_BOUNDS: Final = (*(f"{bound:g}" for bound in BUCKETS_S), "+Inf")
_LABELS: Final = ("operation", "status")


class RequestObserver(Protocol):
    """Hears about every request."""

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """A request was answered (a stream: opened)."""

    def unhandled(self, operation: str) -> None:
        """A handler failed in a way nobody foresaw."""


class _Series:
    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.seconds = 0.0


class RequestMetrics(Collector):
    """The observer that `/metrics` reads."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int], _Series] = {}
        self._unhandled: dict[str, int] = {}

    def observe(self, operation: str, status: int, seconds: float) -> None:
        series = self._series.get((operation, status))
        if series is None:
            series = self._series[operation, status] = _Series()
        series.counts[bisect_left(BUCKETS_S, seconds)] += 1
        series.seconds += seconds

    def unhandled(self, operation: str) -> None:
        self._unhandled[operation] = self._unhandled.get(operation, 0) + 1

    def collect(self) -> Iterator[Metric]:
        total = CounterMetricFamily("http_requests", "Requests answered", labels=_LABELS)
        duration = HistogramMetricFamily(
            "http_request_duration_seconds", "From headers read to answer ready", labels=_LABELS
        )
        for (operation, status), series in sorted(self._series.items()):
            labels = [operation, str(status)]
            total.add_metric(labels, sum(series.counts))
            buckets = list(zip(_BOUNDS, accumulate(series.counts), strict=True))
            duration.add_metric(labels, buckets, sum_value=series.seconds)
        unhandled = CounterMetricFamily(
            "http_unhandled_exceptions", "Answers of 500: each one is a bug", labels=["operation"]
        )
        for operation, count in sorted(self._unhandled.items()):
            unhandled.add_metric([operation], count)
        yield from (total, duration, unhandled)
