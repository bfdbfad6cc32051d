"""Halls made ready before anybody asks: in a presale everybody's first request is the opening second's.

Who first asks a worker about a showtime pays for what the worker does not know: its terms, its layout, the
seating plan of it, its prices, the drawing of the hall. That is four questions to PostgreSQL and, for a large
hall, tens of milliseconds of arithmetic that everybody else of the worker shares. So every `EVERY_S` each
worker asks for the sales nearest their opening, those that open within `AHEAD_S` first, and makes them
ready, one after the other; what is ready costs a look. Their terms come with the question, so of what is
kept ready nobody ever waits for terms again.

It must never hurt. What is kept ready is bounded in showtimes and in seats, and is at most half of what a
worker remembers, so what is expected never drives out what is used. The question is one statement on one
index with a limit on either side. When PostgreSQL is away it is asked again later, without a word: whoever
needs it says so already. A layout that cannot be read is left out, and said once.

Refused: warming by the news of a sale, over a channel. A worker that was started later would have missed it.
Refused as well: reading the seat maps ahead. It is one command that a whole herd shares, and a picture is
young for a tenth of a second only.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from kernel.errors import NotFound, PersistenceUnavailable
from reservation.answers import PriceList
from reservation.drawings import Drawings
from reservation.halls import HALLS_MAX, TERMS_TTL_S, Halls
from reservation.store import Sale

EVERY_S: Final = TERMS_TTL_S / 2  # so that terms are renewed before they are too old
AHEAD_S: Final = 3_600.0  # people look at a hall an hour before they can buy there
#: Of those that open soon, and of those that opened last: together half of the halls a worker remembers.
EACH_MAX: Final = HALLS_MAX // 4
#: Of different layouts together: six stadiums, or a chain. About 150 MB of a worker's memory.
SEATS_MAX: Final = 250_000

_log = logging.getLogger(__name__)


class Warming:
    """Keeps ready, in one worker, what will be asked for next."""

    def __init__(
        self, halls: Halls, drawings: Drawings, prices_of: PriceList, *, seats_max: int = SEATS_MAX
    ) -> None:
        self._halls = halls
        self._drawings = drawings
        self._prices_of = prices_of
        self._seats_max = seats_max
        self._spoilt: set[str] = set()

    async def follow(self) -> None:
        """Keep ready for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.round()

    async def round(self) -> None:
        """Make ready what is not, nearest opening first; as far as PostgreSQL can be asked."""
        try:
            sales = await self._halls.near_opening(ahead_s=AHEAD_S, each_max=EACH_MAX)
            layouts: set[str] = set()
            seats = 0
            for sale in sales:
                is_first = sale.layout_id not in layouts
                if is_first and seats + sale.terms.seat_count > self._seats_max:
                    continue
                if is_first:
                    seats += sale.terms.seat_count
                    layouts.add(sale.layout_id)
                if sale.layout_id not in self._spoilt:
                    await self._make_ready(sale, draw=is_first)
        except PersistenceUnavailable:
            return
        except Exception:  # noqa: BLE001 (nobody would wait for nothing any more, or even be served)
            _log.exception("a round of making ready failed")

    async def _make_ready(self, sale: Sale, *, draw: bool) -> None:
        """`draw` for the first of a layout only: at prices of its own each showtime is another drawing."""
        try:
            showtime = await self._halls.showtime(sale.showtime_id)
            prices = await self._prices_of(sale.showtime_id)
            if draw:
                await self._drawings.of(showtime, prices)
        except NotFound:
            return  # on sale, and not in the programme
        except (ValueError, KeyError):
            self._spoilt.add(sale.layout_id)
            _log.exception("the layout %s of %s cannot be made ready", sale.layout_id, sale.showtime_id)
