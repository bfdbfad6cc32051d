"""The reaper: tidies what time has ended, and keeps the gate.

Expired holds are taken over by whoever wants their seats; the reaper only makes the picture honest and
the sets small. It also asks, every round, whether the gate is open, and has it rebuilt when not, and
tells Redis of sales a crash left untold. Every step may be repeated by any number of reapers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from kernel import limits
from kernel.errors import InventoryRebuilding, PersistenceUnavailable, SeatRushError
from kernel.ids import PARTITIONS
from reservation.keys import showtimes_key
from reservation.ports import SeatInventory
from reservation.rebuild import Rebuilder
from reservation.sales import SalesService
from runtime.redis_link import WEATHER, ScriptRunner

ROUND_S: Final = 0.5

_log = logging.getLogger(__name__)


class Reaper:
    """One round after the other."""

    def __init__(
        self,
        inventory: SeatInventory,
        scripts: ScriptRunner,
        rebuilder: Rebuilder,
        sales: SalesService,
    ) -> None:
        self._inventory = inventory
        self._scripts = scripts
        self._rebuilder = rebuilder
        self._sales = sales

    async def run(self) -> None:
        """Go round until cancelled; bad weather is waited out."""
        while True:
            try:
                await self.round()
            except (SeatRushError, *WEATHER) as error:
                _log.warning("reaper waits: %s", error)
            await asyncio.sleep(ROUND_S)

    async def round(self) -> int:
        """Keep the gate, open what is behind, sweep every showtime; answers holds freed."""
        rebuilt = await self._rebuilder.rebuild_if_needed("gate found closed")
        if rebuilt is not None:
            _log.warning("seat maps rebuilt: %s", rebuilt)
        try:
            await self._sales.open_behind()
        except PersistenceUnavailable as error:
            _log.warning("sales stay behind: %s", error)
        return await self.sweep_all()

    async def sweep_all(self) -> int:
        """Free expired holds of every showtime that has a seat map; answers how many."""
        freed = 0
        for partition in range(PARTITIONS):
            for showtime_id in await self._scripts.redis.smembers(showtimes_key(partition)):
                freed += await self._sweep(_text(showtime_id))
        return freed

    async def _sweep(self, showtime_id: str) -> int:
        freed = 0
        while True:
            try:
                swept = await self._inventory.sweep(showtime_id, holds_max=limits.sweep_batch_max)
            except InventoryRebuilding:
                return freed
            freed += swept.freed
            if swept.handled < limits.sweep_batch_max:
                return freed


def _text(member: bytes | str) -> str:
    return member.decode() if isinstance(member, bytes) else member
