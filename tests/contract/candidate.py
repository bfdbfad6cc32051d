"""An adapter under examination: one showtime, one instant that moves when told to, short calls."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kernel.ids import new_hold_id, new_showtime_id
from reservation.packing import seats_in
from reservation.ports import Held, HoldState, Possession, Refused, SeatInventory, SeatMap
from tests.support.inventories import NOW_MS, TTL_MS, terms_of

PAY_BY_MS = NOW_MS + 900_000


@dataclass(frozen=True)
class Seats:
    """A seat map as sets."""

    taken: set[int]
    sold: set[int]
    version: int


class Candidate:
    """Speaks to an adapter about a showtime of 40 seats unless told otherwise."""

    def __init__(self, inventory: SeatInventory) -> None:
        self.inventory = inventory
        self.showtime_id = new_showtime_id()
        self.now_ms = NOW_MS
        self._numbers = itertools.count(1)
        self._seats_of: dict[str, Sequence[int]] = {}

    def new_hold(self) -> str:
        return new_hold_id(self.showtime_id)

    def new_buyer(self) -> str:
        return f"acc_new_{next(self._numbers)}"

    async def open(self, **changes: Any) -> int:
        return await self.inventory.open_showtime(terms_of(self.showtime_id, **changes))

    async def hold(self, hold_id: str, buyer: str, seats: Sequence[int], **options: Any) -> Held:
        options = {"ttl_ms": TTL_MS, "now_ms": self.now_ms, **options}
        held = await self.inventory.hold(self.showtime_id, hold_id, buyer, seats, **options)
        self._seats_of[hold_id] = seats
        return held

    async def held(self, seats: Sequence[int], **options: Any) -> tuple[str, str]:
        """Hold and buyer of a fresh hold."""
        hold_id, buyer = self.new_hold(), self.new_buyer()
        await self.hold(hold_id, buyer, seats, **options)
        return hold_id, buyer

    async def claimed(self, seats: Sequence[int]) -> tuple[str, str]:
        hold_id, buyer = await self.held(seats)
        await self.claim(hold_id, buyer)
        return hold_id, buyer

    async def sold(self, seats: Sequence[int]) -> tuple[str, str]:
        hold_id, buyer = await self.held(seats)
        await self.confirm(hold_id, buyer)
        return hold_id, buyer

    async def claim(
        self,
        hold_id: str,
        buyer: str,
        *,
        seats: Sequence[int] | None = None,
        latest_ms: int | None = None,
    ) -> bool:
        return await self.inventory.claim(
            hold_id,
            buyer,
            seats=self._meant(hold_id, seats),
            pay_by_ms=PAY_BY_MS,
            entry=b"claim",
            now_ms=self.now_ms,
            latest_ms=latest_ms,
        )

    async def confirm(
        self, hold_id: str, buyer: str, *, pay_by_ms: int | None = None, seats: Sequence[int] | None = None
    ) -> bool:
        meant = self._meant(hold_id, seats) if pay_by_ms is None else ()
        return await self.inventory.confirm(hold_id, buyer, entry=b"sale", pay_by_ms=pay_by_ms, seats=meant)

    def _meant(self, hold_id: str, seats: Sequence[int] | None) -> Sequence[int]:
        """Those the hold was granted here, unless told otherwise."""
        return self._seats_of.get(hold_id, ()) if seats is None else seats

    async def release(self, hold_id: str, buyer: str) -> None:
        await self.inventory.release(hold_id, buyer, now_ms=self.now_ms)

    async def extend(
        self,
        hold_id: str,
        buyer: str,
        *,
        ttl_ms: int = TTL_MS,
        lifetime_ms_max: int = 10 * TTL_MS,
        latest_ms: int | None = None,
    ) -> int:
        return await self.inventory.extend(
            hold_id,
            buyer,
            ttl_ms=ttl_ms,
            lifetime_ms_max=lifetime_ms_max,
            now_ms=self.now_ms,
            latest_ms=latest_ms,
        )

    async def read(self, hold_id: str, buyer: str) -> HoldState:
        return await self.inventory.read_hold(hold_id, buyer, now_ms=self.now_ms)

    async def give_back(self, hold_id: str, *states: Any, keep: Iterable[int] = ()) -> bool:
        return await self.inventory.return_seats(
            hold_id, states=frozenset(states), keep=list(keep), now_ms=self.now_ms
        )

    async def block(self, seats: Sequence[int]) -> None:
        await self.inventory.block(self.showtime_id, seats)

    async def unblock(self, seats: Sequence[int]) -> None:
        await self.inventory.unblock(self.showtime_id, seats)

    async def sweep(self, holds_max: int = 100) -> tuple[int, int]:
        swept = await self.inventory.sweep(self.showtime_id, holds_max=holds_max, now_ms=self.now_ms)
        return swept.freed, swept.handled

    async def map(
        self,
        known_version: int | None = None,
        holds_from_ms: int | None = None,
        holds_within_ms: int | None = None,
    ) -> SeatMap:
        return await self.inventory.read_map(
            self.showtime_id,
            known_version=known_version,
            holds_from_ms=holds_from_ms,
            holds_within_ms=holds_within_ms,
            now_ms=self.now_ms,
        )

    async def seats(self) -> Seats:
        found = await self.map()
        assert found.taken is not None
        assert found.sold is not None
        return Seats(set(seats_in(found.taken)), set(seats_in(found.sold)), found.version)

    async def restore(
        self,
        *owned: Possession,
        blocked: Sequence[int] = (),
        losses_for_ms: int = 0,
        **changes: Any,
    ) -> tuple[int, int]:
        return await self.inventory.restore(
            terms_of(self.showtime_id, **changes),
            blocked=blocked,
            possessions=owned,
            losses_for_ms=losses_for_ms,
            now_ms=self.now_ms,
        )

    def possession(
        self, seats: Sequence[int], *, hold_id: str = "", buyer: str = "", state: Any = "claimed"
    ) -> Possession:
        """What PostgreSQL would say of an order."""
        hold_id, buyer = hold_id or self.new_hold(), buyer or self.new_buyer()
        self._seats_of[hold_id] = seats
        return Possession(self.showtime_id, hold_id, buyer, state, PAY_BY_MS, tuple(seats))

    @asynccontextmanager
    async def changing_nothing(self) -> AsyncIterator[None]:
        """What happens inside leaves map and version as they were."""
        before = await self.map()
        yield
        after = await self.map()
        assert replace(after, now_ms=before.now_ms, first_due_at_ms=before.first_due_at_ms) == before


async def refusal_of(call: Awaitable[object]) -> Refused:
    """The refusal a call must end in."""
    with pytest.raises(Refused) as refusal:
        await call
    return refusal.value


async def status_of(call: Awaitable[object]) -> str:
    """The status of that refusal."""
    return (await refusal_of(call)).status
