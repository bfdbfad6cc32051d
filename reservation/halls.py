"""What a worker remembers of the halls it sells: layouts for good, terms for a few seconds.

A layout never changes, so it and everything derived from it (seating plan, stretches) is kept as long
as there is room. Terms may change; they are asked for again after `TERMS_TTL_S`, and when PostgreSQL is
away the old ones are good enough, because the script judges window and limit on its own copy anyway. So they
are when it only takes its time: a database that hangs would otherwise keep everybody waiting for its deadline
who holds a seat, which is nothing it is asked for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from kernel.clock import Clock
from kernel.errors import NotFound, PersistenceUnavailable
from kernel.ids import is_id
from reservation.domain import Layout
from reservation.seating import SeatingPlan
from reservation.store import ReservationStore, Sale
from reservation.stretches import StretchTable

TERMS_TTL_S: Final = 5.0
#: How long new terms are waited for where old ones are known, and how long those then pass for fresh.
RENEW_PATIENCE_S: Final = 0.2
RENEW_AGAIN_S: Final = 2.0
SALES_MAX: Final = 16_384  # showtimes of a large chain for two weeks
HALLS_MAX: Final = 256  # a 40,000-seat hall with its plan is about 20 MB; halls of 300 seats are nothing


@dataclass(frozen=True)
class Hall:
    """A layout with everything worth computing once."""

    layout: Layout
    plan: SeatingPlan
    stretches: StretchTable


@dataclass(frozen=True)
class Showtime:
    """A sale and its hall."""

    showtime_id: str
    sale: Sale
    hall: Hall


def _hall_of(layout: Layout) -> Hall:
    _ = layout.index_of  # made here, not when the first buyer names a seat
    return Hall(layout, SeatingPlan(layout), StretchTable(layout))


class Halls:
    """Per-process memory of sales and layouts."""

    def __init__(self, store: ReservationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._halls: OrderedDict[str, Hall] = OrderedDict()
        self._sales: OrderedDict[str, tuple[float, Sale]] = OrderedDict()
        #: The two put together, as long as the terms are fresh; never more than halls.
        self._showtimes: OrderedDict[str, tuple[float, Showtime]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Showtime]] = {}
        self._forgotten = 0  # times anything was
        self._building = asyncio.Lock()

    def at_hand(self, showtime_id: str, now_s: float) -> Showtime | None:
        """What `showtime` would answer, where it need not ask."""
        known = self._showtimes.get(showtime_id)
        return known[1] if known is not None and known[0] > now_s else None

    async def showtime(self, showtime_id: str) -> Showtime:
        """Everything about a showtime but its seat states.

        Raises NotFound, or PersistenceUnavailable when it was never seen and PostgreSQL is away.
        """
        now_s = self._clock.monotonic_s()
        showtime = self.at_hand(showtime_id, now_s)
        if showtime is not None:
            return showtime
        asking = self._asking.get(showtime_id)
        if asking is None:
            asking = self._asking[showtime_id] = asyncio.create_task(self._ask(showtime_id, now_s))
            asking.add_done_callback(lambda task: self._has_asked(showtime_id, task))
        known = self._showtimes.get(showtime_id)
        if known is None:
            return await asyncio.shield(asking)
        await asyncio.wait([asking], timeout=RENEW_PATIENCE_S)
        still_known = self._showtimes.get(showtime_id)
        if asking.done() or still_known is None or still_known[1] is not known[1]:  # they were changed
            return await asyncio.shield(asking)
        self._remember(self._clock.monotonic_s() + RENEW_AGAIN_S, known[1])
        return known[1]

    def _has_asked(self, showtime_id: str, task: asyncio.Task[Showtime]) -> None:
        self._asking.pop(showtime_id, None)
        if not task.cancelled():
            task.exception()  # looked at, should everybody who waited have gone

    async def _ask(self, showtime_id: str, now_s: float) -> Showtime:
        """Once for everybody who asks meanwhile: a rush would ask a hundred times a TTL."""
        fresh_until_s, sale = await self._sale(showtime_id, now_s)
        showtime = Showtime(showtime_id, sale, await self.hall(sale.layout_id))
        if showtime_id in self._sales:  # else they were changed meanwhile, and are to be asked for again
            self._remember(fresh_until_s, showtime)
        return showtime

    def _remember(self, fresh_until_s: float, showtime: Showtime) -> None:
        self._showtimes[showtime.showtime_id] = (fresh_until_s, showtime)
        self._showtimes.move_to_end(showtime.showtime_id)
        while len(self._showtimes) > HALLS_MAX:
            self._showtimes.popitem(last=False)

    async def near_opening(self, *, ahead_s: float, each_max: int) -> list[Sale]:
        """The sales nearest their opening, as `ReservationStore.sales_near_opening` finds them.

        Their terms are as fresh now as if each had been asked for. Raises PersistenceUnavailable.
        """
        asked_s, forgotten = self._clock.monotonic_s(), self._forgotten
        sales = await self._store.sales_near_opening(ahead_s=ahead_s, each_max=each_max)
        if self._forgotten != forgotten:
            return sales  # one of them may have been changed since it was read
        fresh_until_s = asked_s + TERMS_TTL_S
        for sale in sales:
            self._know(fresh_until_s, sale)
            hall = self._halls.get(sale.layout_id)
            if hall is not None:
                self._halls.move_to_end(sale.layout_id)
                self._remember(fresh_until_s, Showtime(sale.showtime_id, sale, hall))
        return sales

    def _know(self, fresh_until_s: float, sale: Sale) -> tuple[float, Sale]:
        known = self._sales[sale.showtime_id] = (fresh_until_s, sale)
        while len(self._sales) > SALES_MAX:
            self._sales.popitem(last=False)
        return known

    async def hall(self, layout_id: str) -> Hall:
        """A layout by id. Raises NotFound."""
        hall = self._halls.get(layout_id)
        if hall is not None:
            self._halls.move_to_end(layout_id)
            return hall
        async with self._building:
            if layout_id not in self._halls:
                self._halls[layout_id] = await self._build(layout_id)
            while len(self._halls) > HALLS_MAX:
                self._halls.popitem(last=False)
            return self._halls[layout_id]

    async def _build(self, layout_id: str) -> Hall:
        """Read and compute, both on another thread, so that everybody else has his turns meanwhile."""
        layout = await self._store.find_layout(layout_id)
        if layout is None:
            raise NotFound()
        return await asyncio.to_thread(_hall_of, layout)

    def forget(self, showtime_id: str) -> None:
        """Ask for the terms again next time."""
        self._forgotten += 1
        self._sales.pop(showtime_id, None)
        self._showtimes.pop(showtime_id, None)

    async def _sale(self, showtime_id: str, now_s: float) -> tuple[float, Sale]:
        """The terms, and until when they are fresh."""
        known = self._sales.get(showtime_id)
        if known is not None and known[0] > now_s:
            return known
        if not is_id(showtime_id, "sho"):
            raise NotFound()
        try:
            found = await self._store.find_sales([showtime_id])
        except PersistenceUnavailable:
            if known is None:
                raise
            return known
        if not found:
            raise NotFound()
        return self._know(now_s + TERMS_TTL_S, found[0])
