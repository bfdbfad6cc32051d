"""Fewer new holds while the order writer is far behind.

A hold becomes an order, and an order lies on a log until PostgreSQL has it. When orders come faster than they
are written, or are not written at all, the logs grow until the seat store's memory is full, and then nobody
gets anything. So new holds are refused before: none up to a backlog the writer works off by itself, all of
them at one that is as much as the logs may take, and in between a share that grows with it, so that what
comes in finds its balance with what is written. Who has a hold may buy: he was promised the minutes, and what
the holds there are can add is known (docs/adr/0013). Who hopes for seats that are gone learns it as ever: it
costs the logs nothing.

How many wait is what counts, not for how long the oldest does: one entry that only newer code may write would
close the house. Each worker looks for itself, once a second, and knows nothing of the others; they look at
the same logs. While nobody can look, nobody is refused: then the seat store does not answer, and says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from checkout.writer import LogLag
from kernel import limits
from kernel.errors import Overloaded
from runtime.metrics import Reading, counter


class Throttle:
    """The door to new holds. `draw` answers a number from 0 up to 1, none as likely as another's."""

    def __init__(self, lag: LogLag, draw: Callable[[], float] = random.random) -> None:
        self._lag = lag
        self._draw = draw
        #: Holds refused here.
        self.refused = 0

    def share_refused(self) -> float:
        """Which share of new holds is refused now: 0 none, 1 all."""
        if self._lag.seen is None:
            return 0.0
        beyond = self._lag.seen.entries - limits.backlog_entries_calm
        return min(1.0, max(0.0, beyond / (limits.backlog_entries_max - limits.backlog_entries_calm)))

    def admit(self) -> None:
        """Raises Overloaded when a new hold should not be asked for now."""
        share = self.share_refused()
        if share and self._draw() < share:
            self.refused += 1
            raise Overloaded("Orders wait to be written.", retry_after_s=self._calm_in_s())

    def _calm_in_s(self) -> float:
        """When nobody would be refused, at the pace of the last second; long, when nothing moves."""
        assert self._lag.seen is not None
        beyond, pace = self._lag.seen.entries - limits.backlog_entries_calm, self._lag.falling_per_s
        longest_s = limits.backlog_retry_ms_max / 1_000
        return min(longest_s, max(1.0, beyond / pace)) if pace > 0 else longest_s

    def readings(self) -> Iterator[Reading]:
        """The source of its number."""
        text = "Holds refused because orders wait to be written"
        yield counter("order_log_refused_holds", text, self.refused)
