"""What a sale looks like from outside: its phase, its window, how many seats are left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kernel.clock import Clock, from_ms, to_ms
from reservation.live import AWAY, SeatMaps
from reservation.ports import Terms
from reservation.store import ReservationStore

SalePhase = Literal["presale", "on_sale", "paused", "closed"]


@dataclass(frozen=True, slots=True)
class SaleView:
    """A sale now. `seats_left` is None while the seat store cannot say."""

    showtime_id: str
    phase: SalePhase
    opens_at: datetime
    closes_at: datetime | None
    seats_left: int | None


def phase_of(terms: Terms, now_ms: int) -> SalePhase:
    """Where a sale stands at an instant."""
    if terms.phase == "closed" or 0 < terms.closes_at_ms <= now_ms:
        return "closed"
    if terms.phase == "paused":
        return "paused"
    return "presale" if now_ms < terms.opens_at_ms else "on_sale"


class SaleStatusService:
    """Answers for lists of showtimes."""

    def __init__(self, store: ReservationStore, maps: SeatMaps, clock: Clock) -> None:
        self._store = store
        self._maps = maps
        self._clock = clock

    async def views_of(self, showtime_ids: Sequence[str]) -> Mapping[str, SaleView]:
        """What is known of these sales; showtimes that never were on sale are left out."""
        now_ms = to_ms(self._clock.now())
        sales = await self._store.find_sales(showtime_ids)
        left = await asyncio.gather(*(self._seats_left(sale.showtime_id) for sale in sales))
        return {
            sale.showtime_id: SaleView(
                sale.showtime_id,
                phase_of(sale.terms, now_ms),
                from_ms(sale.terms.opens_at_ms),
                from_ms(sale.terms.closes_at_ms) if sale.terms.closes_at_ms else None,
                seats_left,
            )
            for sale, seats_left in zip(sales, left, strict=True)
        }

    async def _seats_left(self, showtime_id: str) -> int | None:
        try:
            return (await self._maps.glance(showtime_id)).seats_left
        except AWAY:
            return None
