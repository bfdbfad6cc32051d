"""Which showtimes have something due, without asking every one of them all the time.

A house may have thousands of showtimes on sale and a hold running out in three. Sweeping them all, twice a
second, cost the server a script call each, more than the sales of a quiet hour. But a set of deadlines can be
read ahead: the first one in it is when there is something to do. Nothing comes to be due before that, nor,
where the set is empty, before a hold has lived its time; so a showtime is left alone for so long, and what is
asked then is a few plain commands, no script.

What is known here is a hint with an end: no showtime is left alone for longer than `ALONE_MAX_S`, whatever a
failover, a restored file or a clock has done to its deadlines meanwhile, and a rebuild makes all of it
forgotten. Whether a hold is over is the script's judgement, by the server's clock, as ever. An index of due
showtimes beside the sets was refused: every hold would pay for writing it, and it would be one thing more
that can be wrong.

Whoever looks anyway also sees whether the map is still there. A showtime whose terms or planes are gone while
the epoch of its partition is not (evicted, or deleted by hand) is refused by every script, and would be for
good: the gate as a whole looks open. Such a one is `damaged`, and is nothing to sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from kernel.clock import Clock
from kernel.ids import partition_of
from reservation.keys import keys_of
from runtime.redis_link import Argument, Link, ScriptRunner

#: A wrong hint delays tidying for so long, and no buyer: expired holds are taken over by who wants the seats.
ALONE_MAX_S: Final = 10.0
_LOOKS_PER_TRIP: Final = 500
_COMMANDS: Final = 4  # a look


class DueShowtimes:
    """What is known of deadlines; `hold_ttl_ms` is how long a hold granted from now on will last at least."""

    def __init__(self, scripts: ScriptRunner, clock: Clock, *, hold_ttl_ms: int) -> None:
        self._scripts = scripts
        self._clock = clock
        self._alone_max_s = min(ALONE_MAX_S, hold_ttl_ms / 1_000)
        #: On our own monotonic clock, by showtime.
        self._look_at_s: dict[str, float] = {}
        #: Found by the last `among`.
        self.damaged: list[str] = []

    def forget(self) -> None:
        """Look at every showtime next time."""
        self._look_at_s = {}

    async def among(self, showtime_ids: Sequence[str]) -> list[str]:
        """Those of them in which a deadline has passed. Raises what the link raises."""
        now_s = self._clock.monotonic_s()
        self._look_at_s = {one: self._look_at_s.get(one, now_s) for one in showtime_ids}
        to_look_at = [one for one, at_s in self._look_at_s.items() if at_s <= now_s]
        found: list[str] = []
        self.damaged = []
        for start in range(0, len(to_look_at), _LOOKS_PER_TRIP):
            batch = to_look_at[start : start + _LOOKS_PER_TRIP]
            for showtime_id, left_s in zip(batch, await self._seconds_left(batch), strict=True):
                if left_s is None:
                    self.damaged.append(showtime_id)
                elif left_s <= 0:
                    found.append(showtime_id)  # and looked at again next time, for what is due after that
                else:
                    self._look_at_s[showtime_id] = now_s + min(left_s, self._alone_max_s)
        return found

    async def are_whole(self, showtime_ids: Sequence[str]) -> bool:
        """Whether each of them has terms of our epoch and planes. Raises what the link raises."""
        return None not in await self._seconds_left(showtime_ids)

    async def _seconds_left(self, showtime_ids: Sequence[str]) -> list[float | None]:
        """Until the first deadline of each, by its server's clock; None where the map is gone."""
        left: dict[str, float | None] = {}
        on: dict[Link, list[str]] = {}
        for showtime_id in showtime_ids:
            on.setdefault(self._scripts.nodes.link_of(keys_of(showtime_id).showtime), []).append(showtime_id)
        for link, ours in on.items():
            looks = chain.from_iterable(map(_look_at, ours))
            (seconds, microseconds), told = await asyncio.gather(
                link.command("TIME"), self._scripts.commands(*looks)
            )
            now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
            for at, showtime_id in zip(range(0, len(told), _COMMANDS), ours, strict=True):
                epoch, taken, sold, first = told[at : at + _COMMANDS]
                is_whole = epoch == b"%d" % self._scripts.epochs[partition_of(showtime_id)] and taken and sold
                left[showtime_id] = _left_s(first, now_ms) if is_whole else None
        return [left[showtime_id] for showtime_id in showtime_ids]


def _look_at(showtime_id: str) -> Sequence[tuple[Argument, ...]]:
    keys = keys_of(showtime_id)
    return (
        ("HGET", keys.showtime, "epoch"),
        ("STRLEN", keys.taken),
        ("STRLEN", keys.sold),
        ("ZRANGE", keys.expiry, 0, 0, "WITHSCORES"),
    )


def _left_s(first: Sequence[Any], now_ms: int) -> float:
    for _, deadline_ms in first:
        return (float(deadline_ms) - now_ms) / 1_000
    return float("inf")
