"""Until when a caller waits, on the clock of the server he asks (rule R5).

A server that was stopped, or a network that held its breath, executes what lies in its buffers when it goes
on: seconds after the caller was told that it does not answer. What gives somebody something must not happen
then, so it is sent with the last instant at which it may, and the script judges by the server's own clock.

Nobody's wall clock but that one is believed. A reading of it, which comes with every picture of a map, is
set against our monotonic clock when it *arrives*. It was made a little earlier, so the server's clock is at
least as far ahead as it seems, and an instant reckoned from it is early rather than late: what is granted
was granted while the caller waited. A refusal that reaches somebody finds him waiting, so it means mostly
that the server's clock was set, or another server answers now, or this process slept over the reading: its
own instant is the new reading, and the same is asked once more. So a clock that jumps costs one round trip,
and never a sale.

Without a reading, or with one from long ago, nothing is said and the script executes whenever it comes to
it: as little as we know, no refusal may rest on it. Refused: the worker's wall clock (an hour wrong, it
would sell nothing, or everything), a question for the time before each hold (a second round trip), and
undoing a hold whose caller has gone (its repeat, through another worker, may have been told that he has
it).
"""

from __future__ import annotations

from typing import Final

from kernel import limits
from kernel.clock import Clock
from runtime.redis_link import Argument, Nodes

#: Two clocks drift apart by less than a thousandth, so by half a second in this time.
READING_S: Final = 500.0
WHENEVER: Final = ""


class Deadlines:
    """What is known of the clock of each node."""

    def __init__(self, nodes: Nodes, clock: Clock) -> None:
        self._nodes = nodes
        self._monotonic_s = clock.monotonic_s
        #: By node: its lead over our monotonic clock plus a caller's patience, ms; until when that holds.
        self._known: dict[object, tuple[float, float]] = {}

    def latest_ms(self, key: str) -> Argument:
        """The last instant at which what is asked now may take effect; `WHENEVER` when nobody knows.

        Raises SeatsUnavailable when no node has the key.
        """
        known = self._known.get(self._nodes.only or self._nodes.link_of(key))
        now_s = self._monotonic_s()
        if known is None or now_s > known[1]:
            return WHENEVER
        return int(now_s * 1_000 + known[0])

    def server_ms(self, key: str) -> int | None:
        """What the clock of the key's node shows, or a little less; None when nobody knows.

        Raises SeatsUnavailable when no node has the key.
        """
        latest_ms = self.latest_ms(key)
        return None if latest_ms == WHENEVER else int(latest_ms) - limits.redis_deadline_ms

    def read(self, key: str, server_ms: int) -> None:
        """The key's node has just said what its clock shows. Raises SeatsUnavailable when no node has it."""
        now_s = self._monotonic_s()
        lead_ms = server_ms - now_s * 1_000
        node = self._nodes.only or self._nodes.link_of(key)
        if node not in self._known:  # nodes come and go: those nobody has heard from for long are forgotten
            self._known = {other: known for other, known in self._known.items() if now_s <= known[1]}
        self._known[node] = lead_ms + limits.redis_deadline_ms, now_s + READING_S
