"""Counting requests, cheaply enough to count all of them.

The stock Histogram takes two locks and walks its buckets on every observation, several microseconds of
the hottest path there is. A process has one event loop thread, so plain integers will do: an observation is
a bisection and two additions, and nothing is made of them until somebody asks (runtime/metrics.py).

Labels are the operation's name and the status: both are ours, so no caller can invent a time series.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from runtime.metrics import Distribution, Reading, Sample, by_label

#: Upper bounds in seconds. A hold takes about a millisecond; an order may wait 1.5 s for its commit.
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0)

_LABELS: Final = ("operation", "status")


class RequestObserver(Protocol):
    """Hears about every request."""

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """A request was answered (a stream: opened)."""

    def unhandled(self, operation: str) -> None:
        """A handler failed in a way nobody foresaw."""

    def left_claimed(self, operation: str) -> None:
        """An idempotency key got no answer to keep, or could not be freed."""


class RequestMetrics:
    """The observer whose numbers `/metrics` shows."""

    def __init__(self) -> None:
        self._durations: dict[tuple[str, int], Distribution] = {}
        self._unhandled: dict[str, int] = {}
        self._left_claimed: dict[str, int] = {}

    def observe(self, operation: str, status: int, seconds: float) -> None:
        durations = self._durations.get((operation, status))
        if durations is None:
            durations = self._durations[operation, status] = Distribution(BUCKETS_S)
        durations.observe(seconds)

    def unhandled(self, operation: str) -> None:
        self._unhandled[operation] = self._unhandled.get(operation, 0) + 1

    def left_claimed(self, operation: str) -> None:
        self._left_claimed[operation] = self._left_claimed.get(operation, 0) + 1

    def readings(self) -> Iterator[Reading]:
        """The source of these numbers."""
        series = sorted(self._durations.items())
        yield Reading(
            "http_requests",
            "counter",
            "Requests answered",
            tuple(Sample((operation, str(status)), sum(one.counts)) for (operation, status), one in series),
            _LABELS,
        )
        yield Reading(
            "http_request_duration_seconds",
            "histogram",
            "From headers read to answer ready",
            tuple(one.sample(operation, str(status)) for (operation, status), one in series),
            _LABELS,
            BUCKETS_S,
        )
        text = "Answers of 500: each one is a bug"
        yield by_label(
            "http_unhandled_exceptions", "counter", text, "operation", sorted(self._unhandled.items())
        )
        text = "Idempotency keys that stay claimed until their lease ends, as no store could be told"
        yield by_label(
            "http_keys_left_claimed", "counter", text, "operation", sorted(self._left_claimed.items())
        )
