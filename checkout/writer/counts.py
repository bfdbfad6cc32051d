"""What an order writer did since it started, kept in plain attributes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from runtime.metrics import Distribution, Reading, by_label, counter

Phase = Literal["read", "decode", "write", "acknowledge"]

_PHASES: Final[tuple[Phase, ...]] = ("read", "decode", "write", "acknowledge")
#: An fsync takes a millisecond or a few, the largest batch a fifth of a second.
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ENTRIES: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0)


class WriterCounts:
    """Entries that came to an end by what they were, and batches by size and by where their time went."""

    def __init__(self) -> None:
        self.batches = 0
        self.entries = 0
        self.claims = 0
        self.confirms = 0
        self.put_aside = 0
        self.largest_batch = 0
        self._sizes = Distribution(_ENTRIES)
        self._seconds = {phase: Distribution(_SECONDS) for phase in _PHASES}

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Count the seconds this takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase].observe(time.perf_counter() - began)

    def batch(self, entries: int) -> None:
        """A batch of that many entries came to its end."""
        self.batches += 1
        self.entries += entries
        self.largest_batch = max(self.largest_batch, entries)
        self._sizes.observe(entries)

    def readings(self) -> Iterator[Reading]:
        """The source of these numbers."""
        ends = {"claim": self.claims, "confirm": self.confirms, "put_aside": self.put_aside}
        text = "Log entries that came to an end: written, or put aside with a reason"
        yield by_label("order_writer_entries", "counter", text, "end", ends)
        yield counter("order_writer_batches", "Batches written, one transaction each", self.batches)
        yield Reading(
            "order_writer_batch_entries",
            "histogram",
            "Entries of a batch",
            (self._sizes.sample(),),
            (),
            _ENTRIES,
        )
        yield Reading(
            "order_writer_phase_seconds",
            "histogram",
            "Where a batch's time goes; reading without the wait for news",
            tuple(seconds.sample(phase) for phase, seconds in self._seconds.items()),
            ("phase",),
            _SECONDS,
        )
