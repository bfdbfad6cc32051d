"""The rebuild: seat maps made anew from what PostgreSQL owns (rule R7).

Any sign that Redis is not the server PostgreSQL's epoch speaks of (unknown scripts, wrong or missing
epoch in the data) closes the gate by itself; this opens it again. In this order, safe to kill at any
step and start again:

1. raise the epoch, so nothing older is believed; make the server forget its scripts, so the gate is shut;
2. ask who owns which seats: committed orders, and claims still on the log on their way to PostgreSQL;
3. load the scripts of the new epoch, empty the sets of showtimes, and restore every showtime, keeping holds
   whose seats nobody owns;
4. write the epoch into each partition last.

Only one rebuild runs at a time: a PostgreSQL advisory lock, held for the whole of it. Terms that change
meanwhile stay marked as untold; house seats are refused until it is over (`ReservationStore.no_rebuild`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from kernel import limits
from kernel.clock import Clock, to_ms
from kernel.errors import InventoryRebuilding
from kernel.ids import PARTITIONS
from reservation.keys import epoch_key, showtimes_key
from reservation.ports import Possession, SeatInventory
from reservation.store import ReservationStore, Sale
from runtime.redis_link import ScriptRunner

_log = logging.getLogger(__name__)

#: Asks the order side who owns what, by showtime.
Owners = Callable[[], Awaitable[Mapping[str, Sequence[Possession]]]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    epoch: int
    showtimes: int
    seats_owned: int
    holds_kept: int
    holds_dropped: int


def _in_the_hall(sale: Sale, possessions: Sequence[Possession]) -> list[Possession]:
    """One row about a seat that does not exist must not keep every gate closed."""
    seat_count = sale.terms.seat_count
    odd = [one.hold_id for one in possessions if max(one.seats, default=0) >= seat_count]
    if odd:
        _log.error("owners of seats that %s does not have: %s", sale.showtime_id, odd)
    return [replace(one, seats=tuple(seat for seat in one.seats if seat < seat_count)) for one in possessions]


class Rebuilder:
    """Opens the gate again."""

    def __init__(
        self,
        store: ReservationStore,
        inventory: SeatInventory,
        scripts: ScriptRunner,
        owners: Owners,
        clock: Clock,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._scripts = scripts
        self._owners = owners
        self._clock = clock

    async def gate_is_open(self) -> bool:
        """Whether scripts and data are of PostgreSQL's epoch, in every partition."""
        self._scripts.adopt_epoch(await self._store.current_epoch())
        if self._scripts.epoch == 0:
            return False
        try:
            await self._scripts.run_many(
                "read_epoch", [((epoch_key(partition),), ()) for partition in range(PARTITIONS)]
            )
        except InventoryRebuilding:
            return False
        return True

    async def rebuild(self, reason: str) -> Rebuilt:
        """Make every seat map anew; the gate is closed until it is done."""
        async with self._store.rebuild_lock():
            return await self._rebuild(reason)

    async def rebuild_if_needed(self, reason: str) -> Rebuilt | None:
        """Rebuild unless the gate is open, also unless another process just did."""
        if await self.gate_is_open():
            return None
        async with self._store.rebuild_lock():
            if await self.gate_is_open():
                return None
            return await self._rebuild(reason)

    async def rebuild_unless(self, all_is_well: Callable[[], Awaitable[bool]], reason: str) -> Rebuilt | None:
        """Rebuild unless the gate is open and all is well behind it, asked while nobody else rebuilds."""
        async with self._store.rebuild_lock():
            if await self.gate_is_open() and await all_is_well():
                return None
            return await self._rebuild(reason)

    async def _rebuild(self, reason: str) -> Rebuilt:
        epoch = await self._store.raise_epoch(reason)
        self._scripts.adopt_epoch(epoch)
        await self._scripts.forget()

        sales = await self._store.all_sales()
        blocked = await self._store.all_blocked()
        owners = await self._owners()

        await self._scripts.load()
        for partition in range(PARTITIONS):  # what is no longer sold is not swept
            await self._scripts.redis.delete(showtimes_key(partition))
        losses_until_ms = to_ms(self._clock.now()) + limits.hold_lifetime_ms_max if epoch > 1 else 0
        kept = dropped = seats_owned = 0
        for sale in sales:
            possessions = _in_the_hall(sale, owners.get(sale.showtime_id, ()))
            seats_owned += sum(len(possession.seats) for possession in possessions)
            counts = await self._inventory.restore(
                sale.terms,
                blocked=blocked.get(sale.showtime_id, ()),
                possessions=possessions,
                losses_until_ms=losses_until_ms,
            )
            kept, dropped = kept + counts[0], dropped + counts[1]
        # What was paused or moved since it was read stays untold; the reaper tells it once the gate is open.
        await self._store.mark_opened(sales, epoch)
        await self._scripts.run_many("open_partition", [((epoch_key(one),), ()) for one in range(PARTITIONS)])
        return Rebuilt(epoch, len(sales), seats_owned, kept, dropped)
