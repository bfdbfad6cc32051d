"""The reaper: tidies what time has ended, and keeps the gate.

Expired holds are taken over by whoever wants their seats; the reaper only makes the picture honest and
the sets small. Only showtimes with something due are swept (`reservation/due.py`), so a quiet house costs
next to nothing, however many showtimes it has. It also asks, every round, whether the gate is open, and has
it rebuilt when not, also when a single map is gone behind an open gate; and it tells Redis of sales a crash
left untold. Every step may be repeated by any number of reapers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from kernel import limits
from kernel.clock import Clock
from kernel.errors import PersistenceUnavailable, SeatRushError
from kernel.ids import PARTITIONS, partition_of
from reservation.due import DueShowtimes
from reservation.inventory_redis import RedisInventory
from reservation.keys import showtimes_key
from reservation.rebuild import Rebuilder, Rebuilt
from reservation.sales import SalesService
from runtime.metrics import Reading, counter, gauge
from runtime.redis_link import WEATHER, ScriptRunner

ROUND_S: Final = 0.5
LIST_AGAIN_S: Final = 1.0

_log = logging.getLogger(__name__)


class Reaper:
    """One round after the other."""

    def __init__(
        self,
        inventory: RedisInventory,
        scripts: ScriptRunner,
        rebuilder: Rebuilder,
        sales: SalesService,
        clock: Clock,
        *,
        hold_ttl_ms: int,
    ) -> None:
        self._inventory = inventory
        self._scripts = scripts
        self._rebuilder = rebuilder
        self._sales = sales
        self._clock = clock
        self._due = DueShowtimes(scripts, clock, hold_ttl_ms=hold_ttl_ms)
        self._due_epochs = scripts.epochs
        #: The partitions somebody to be believed answered for, when they were last looked at.
        self._within_reach: Collection[int] = range(PARTITIONS)
        self._showtimes: list[str] = []
        self._listed_at_s = -LIST_AGAIN_S
        self._rounds = 0
        self._freed = 0
        self._rebuilds = 0
        self._gate_is_open = False

    def readings(self) -> Iterator[Reading]:
        """Numbers for the operators."""
        yield counter("reaper_rounds", "Rounds gone", self._rounds)
        yield counter("reaper_holds_freed", "Expired holds freed", self._freed)
        yield counter("reaper_rebuilds", "Times the seat maps were made anew", self._rebuilds)
        text = "Whether the gate stood open when it was last looked at; 0 also while nobody can look"
        yield gauge("reaper_gate_open", text, self._gate_is_open)
        text = "The youngest generation of seat maps that is believed"
        yield gauge("reaper_epoch", text, max(self._scripts.epochs))

    async def run(self) -> None:
        """Go round until cancelled; bad weather is waited out."""
        while True:
            try:
                await self.round()
                self._rounds += 1
            except (SeatRushError, *WEATHER) as error:
                self._gate_is_open = False
                _log.warning("reaper waits: %s", error)
            await asyncio.sleep(ROUND_S)

    async def round(self) -> int:
        """Keep the gate, open what is behind, sweep every showtime; answers holds freed.

        What keeps one of these from being done keeps nobody from the next: a gate that cannot be opened on
        one server, or a sale that cannot be told, is no reason to leave the seats of all others taken.
        """
        try:
            await self._keep_gate()
        except SeatRushError as error:
            self._gate_is_open = False
            _log.warning("the gate is not looked after: %s", error)
        try:
            await self._sales.open_behind()
        except PersistenceUnavailable as error:
            _log.warning("sales are not looked after: %s", error)
        freed = await self.sweep_all()
        if self._due.damaged:
            await self._mend(self._due.damaged)
        return freed

    async def _keep_gate(self) -> None:
        found, rebuilt = await self._rebuilder.rebuild_if_needed()
        self._within_reach = found.servers.keys() - found.replaced
        self._gate_is_open = found.is_open
        if rebuilt is not None:
            self._note(rebuilt)

    async def _mend(self, damaged: Sequence[str]) -> None:
        """Maps that are gone behind an open gate: nothing is sold there, and nobody else looks."""
        rebuilt = await self._rebuilder.rebuild_unless(
            {partition_of(showtime_id) for showtime_id in damaged},
            lambda: self._due.are_whole(damaged),
            f"seat maps are gone: {', '.join(damaged[:10])}",
        )
        if rebuilt is not None:
            self._note(rebuilt)

    def _note(self, rebuilt: Rebuilt) -> None:
        self._rebuilds += 1
        self._listed_at_s = -LIST_AGAIN_S
        _log.warning("seat maps rebuilt: %s", rebuilt)

    async def sweep_all(self) -> int:
        """Free expired holds of every showtime that has a seat map; answers how many."""
        await self._list_showtimes()
        if self._due_epochs != self._scripts.epochs:  # a rebuild, by whomever, has brought old deadlines back
            self._due_epochs = self._scripts.epochs
            self._due.forget()
        freed, busy = 0, await self._due.among(self._showtimes)
        while busy:
            swept = await self._inventory.sweep_many(busy, holds_max=limits.sweep_batch_max)
            freed += sum(one.freed for one in swept)
            busy = [
                showtime_id
                for showtime_id, one in zip(busy, swept, strict=True)
                if one.handled == limits.sweep_batch_max
            ]
        self._freed += freed
        return freed

    async def _list_showtimes(self) -> None:
        """Which showtimes there are; a new one has no expired hold for a while, so not every round."""
        now_s = self._clock.monotonic_s()
        if now_s - self._listed_at_s < LIST_AGAIN_S:
            return
        asked = (("SMEMBERS", showtimes_key(partition)) for partition in self._within_reach)
        listed = await self._scripts.commands(*asked)
        self._showtimes = [member.decode() for members in listed for member in members]
        self._listed_at_s = now_s
