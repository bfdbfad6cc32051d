"""Putting showtimes on sale and changing how they are sold.

PostgreSQL first: a sale exists when its terms are committed. Then Redis is told; what a crash leaves
untold is `opened_epoch IS NULL`, and `open_behind` finishes it. House seats follow the rule of all
seats: taken in Redis first, freed in PostgreSQL first, so a crash errs on the side "unavailable". A rebuild
waits for both: begun between the two, it would make the seat maps anew without the seats.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from kernel import limits
from kernel.clock import Clock, to_ms
from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from kernel.ids import new_showtime_id
from reservation import errors
from reservation.domain import Layout, OrphanRule
from reservation.halls import Halls
from reservation.ports import Phase, Refused, SeatInventory, Terms
from reservation.store import ReservationStore, Sale
from runtime.redis_link import ScriptRunner

#: What keeps a sale from being told to its server for now.
_NOT_NOW: Final = (InventoryRebuilding, Overloaded, SeatsUnavailable)
_log = logging.getLogger(__name__)


class SalesService:
    """The seller's side of the seat engine."""

    def __init__(
        self,
        store: ReservationStore,
        inventory: SeatInventory,
        scripts: ScriptRunner,
        halls: Halls,
        clock: Clock,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._scripts = scripts
        self._halls = halls
        self._clock = clock

    async def keep_layout(self, layout: Layout) -> str:
        """Store a layout; the answer is its id."""
        return await self._store.keep_layout(layout)

    def terms_of(
        self,
        layout: Layout,
        *,
        showtime_id: str | None = None,
        opens_at: datetime | None = None,
        closes_at: datetime | None = None,
        seats_per_buyer: int = limits.seats_per_buyer_default,
        orphan_rule: OrphanRule = "lenient",
    ) -> Sale:
        """A sale of this layout, on sale at once unless told otherwise."""
        return Sale(
            terms=Terms(
                showtime_id=showtime_id or new_showtime_id(),
                seat_count=layout.seat_count,
                opens_at_ms=to_ms(opens_at or self._clock.now()),
                closes_at_ms=to_ms(closes_at) if closes_at else 0,
                buyer_seats_max=seats_per_buyer,
                phase="open",
            ),
            layout_id=layout.layout_id,
            orphan_rule=orphan_rule,
        )

    async def open_sales(self, sales: Sequence[Sale]) -> None:
        """Put showtimes on sale. Repeating it changes nothing."""
        await self._store.add_sales(sales)
        known = await self._store.find_sales([sale.showtime_id for sale in sales])
        await self._tell([sale for sale in known if sale.opened_epoch is None])

    async def open_behind(self) -> int:
        """Tell Redis of sales it has not heard of; the answer says of how many it was told.

        One that cannot be told keeps no other waiting. Raises PersistenceUnavailable.
        """
        behind = await self._store.unopened_sales()
        met = await asyncio.gather(
            *(self._inventory.open_showtime(sale.terms) for sale in behind), return_exceptions=True
        )
        told, refused = [], Counter[str]()
        for sale, outcome in zip(behind, met, strict=True):
            if isinstance(outcome, _NOT_NOW):
                refused[outcome.code.name] += 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                told.append(sale)
        if refused:
            _log.warning("sales cannot be told yet: %s", dict(refused))
        await self._told(told)
        return len(told)

    async def change_sale(
        self,
        showtime_id: str,
        *,
        phase: Phase | None = None,
        opens_at: datetime | None = None,
        closes_at: datetime | None = None,
    ) -> None:
        """Pause, close or reopen a sale, or move its window. Raises NotFound."""
        await self._halls.showtime(showtime_id)
        await self._store.change_sale(showtime_id, phase=phase, opens_at=opens_at, closes_at=closes_at)
        self._halls.forget(showtime_id)
        await self.tell(showtime_id)

    async def pause_open_sales(self, showtime_ids: Sequence[str]) -> list[str]:
        """Write that these are paused, where they are open; the answer is which. Redis is to be told next.

        A sale somebody closes meanwhile stays closed. All in one statement: what cannot be told at once, the
        reaper tells.
        """
        paused = await self._store.pause_open_sales(showtime_ids)
        for showtime_id in paused:
            self._halls.forget(showtime_id)
        return paused

    async def tell(self, showtime_id: str) -> None:
        """Have Redis sell a showtime as PostgreSQL says.

        Raises PersistenceUnavailable, SeatsUnavailable, InventoryRebuilding.
        """
        await self._tell(await self._store.find_sales([showtime_id]))

    async def block(self, showtime_id: str, labels: Sequence[str], reason: str = "") -> None:
        """Keep seats off public sale. Raises NotFound, UnknownSeat, SeatTaken, InventoryRebuilding."""
        seats = await self._seats(showtime_id, labels)
        async with self._store.no_rebuild():
            try:
                await self._inventory.block(showtime_id, seats)
            except Refused:
                raise errors.SeatTaken() from None
            await self._store.add_blocked(showtime_id, seats, reason)

    async def unblock(self, showtime_id: str, labels: Sequence[str]) -> None:
        """Put house seats on public sale.

        Raises NotFound, UnknownSeat, SeatNotBlocked, InventoryRebuilding.
        """
        seats = await self._seats(showtime_id, labels)
        async with self._store.no_rebuild():
            # All or none, in PostgreSQL too, which comes first.
            if not await self._inventory.blocked_seats(showtime_id) >= {*seats}:
                raise errors.SeatNotBlocked()
            await self._store.drop_blocked(showtime_id, seats)
            try:
                await self._inventory.unblock(showtime_id, seats)
            except Refused:
                raise errors.SeatNotBlocked() from None

    async def _seats(self, showtime_id: str, labels: Sequence[str]) -> list[int]:
        layout = (await self._halls.showtime(showtime_id)).hall.layout
        unknown = [label for label in labels if label not in layout.index_of]
        if unknown:
            raise errors.UnknownSeat(f"not in this layout: {', '.join(unknown)}")
        return [layout.index_of[label] for label in labels]

    async def _tell(self, sales: Sequence[Sale]) -> None:
        for sale in sales:
            await self._inventory.open_showtime(sale.terms)
        await self._told(sales)

    async def _told(self, sales: Sequence[Sale]) -> None:
        """Redis heard of these; of two who tell at once, the one who is heard last looks again."""
        if sales:
            written = await self._store.mark_opened(sales, self._scripts.epochs)
            await self._tell(await self._store.find_sales(written))
