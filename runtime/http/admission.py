"""Whether one more request may wait for its turn.

A worker is one event loop, so what runs out in a rush is its time, not memory or places: requests queue
until the loop comes round to them, and a fan who waits for seconds presses the button again. So the limit
is a time, the length of a turn of the loop: whoever is read now has waited in the kernel for as long as this
turn has lasted, and begins at once or, aiohttp's way, in the turn after the next. A count of requests in
flight was refused: the count that means 50 ms depends on the machine and the mix, and orders, which wait up
to 1.5 s for their commit and cost the loop nothing meanwhile, would use up the places of holds. Here they
have begun, and count no more; nor do live views.

Queues are good at bursts and bad at standing. Two thousand people on the same second are a burst, and all
of them get an answer worth waiting for; a stolen time slice is one too. Only when turns have been longer
than `wait_ms_max` again and again for `burst_ms` is the overload real. Then a turn admits as many requests
as fit into that time: after a turn that was too long, in proportion to what it held; after one that was
not, a tenth more. The overload is over when nobody was turned away for `burst_ms`.

Nothing is kept per request: one callback a turn while there is work, and none while there is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter

from kernel import limits
from runtime.metrics import Reading, counter


class Admission:
    """The queue of one process, as seen from its door."""

    def __init__(
        self,
        *,
        wait_ms_max: float = limits.queue_wait_ms_max,
        burst_ms: float = limits.queue_burst_ms,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._wait_s_max = wait_ms_max / 1000
        self._burst_s = burst_ms / 1000
        self._clock = clock
        #: When this turn began; 0 while there is nothing to do.
        self._turned_at_s = 0.0
        #: Requests admitted in this turn, and those of them that began at once; admitted in the one before;
        #: those that were left to begin in this one.
        self._admitted = 0
        self._at_once = 0
        self._earlier = 0
        self._beginning = 0
        #: The spell of long turns: its beginning, and when it was last seen.
        self._slow_since_s = 0.0
        self._slow_last_s = 0.0
        #: How many requests a turn may admit; unlimited while there is no overload.
        self._budget: float | None = None
        #: Requests turned away.
        self.shed = 0

    def arrived(self) -> None:
        """A request was read and will be served."""
        self._admitted += 1
        if not self._turned_at_s:
            self._turned_at_s = now = self._clock()
            if now - self._slow_last_s > self._burst_s:
                self._budget = None  # it was over, and there was no turn to say so
            asyncio.get_running_loop().call_soon(self._turn)

    def begun(self) -> None:
        """The request that has just arrived begins in this turn."""
        self._at_once += 1

    def is_full(self) -> bool:
        """Whether the next request should be turned away."""
        return self._budget is not None and self._admitted >= self._budget

    def turned_away(self) -> None:
        """A request was refused for want of time."""
        self.shed += 1
        self._slow_last_s = self._clock()

    def readings(self) -> Iterator[Reading]:
        """The source of its number."""
        yield counter("http_shed_requests", "Requests turned away because others waited", self.shed)

    def _turn(self) -> None:
        now = self._clock()
        self._judge(now - self._turned_at_s, now)
        busy = self._admitted or self._earlier or self._beginning
        self._beginning, self._earlier = self._earlier, self._admitted - self._at_once
        self._admitted = self._at_once = 0
        self._turned_at_s = now if busy else 0.0
        if busy:
            asyncio.get_running_loop().call_soon(self._turn)

    def _judge(self, length_s: float, now: float) -> None:
        """Learn from the turn that has just ended."""
        begun = self._beginning + self._at_once
        if length_s > self._wait_s_max:
            if now - length_s - self._slow_last_s > self._burst_s:
                self._slow_since_s = now
            self._slow_last_s = now
            if begun and now - self._slow_since_s > self._burst_s:
                fits = begun * self._wait_s_max / length_s
                self._budget = max(1.0, fits if self._budget is None else min(fits, self._budget))
        elif self._budget is not None:
            if begun:
                self._budget = self._budget * 1.1 + 0.1
            if now - self._slow_last_s > self._burst_s:
                self._budget = None
