"""After the rush: every order read back, the seat map read once more, the verdict.

The map may lag behind by a breath, so it is given a few seconds to show what was confirmed; orders may
not: what was said to be committed is asked for once. Of very many orders a sample is read.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from loadtest.rush.decisions import Answer
from loadtest.rush.fan import Picture, Sale, look_at_map
from loadtest.rush.history import Booking, Verdict

_READ_BACK_MAX: Final = 2_000
_READERS: Final = 64
_MAP_SETTLES_S: Final = 5.0
_MAP_INTERVAL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is left when all are home."""

    verdict: Verdict
    picture: Picture | None


async def look_back(sale: Sale, rng: random.Random) -> Aftermath:
    """Compare what fans were told with what the service says now."""
    bookings = list(sale.history.bookings.values())
    if len(bookings) > _READ_BACK_MAX:
        bookings = rng.sample(bookings, _READ_BACK_MAX)
    read_back: dict[str, Answer] = {}
    readers = asyncio.Semaphore(_READERS)

    async def read(booking: Booking) -> None:
        async with readers:
            path = f"/api/v1/orders/{booking.order_id}"
            read_back[booking.order_id] = await sale.api.call(
                "read_back", "GET", path, token=booking.token, rng=rng
            )

    await asyncio.gather(*(read(booking) for booking in bookings))
    picture = await _settled_map(sale, rng)
    sold_on_map = None if picture is None else sale.hall.seats_in(picture.sold)
    return Aftermath(sale.history.judge(read_back, sold_on_map), picture)


async def _settled_map(sale: Sale, rng: random.Random) -> Picture | None:
    """The seat map as soon as it shows what was confirmed, or as it is when that takes too long."""
    confirmed = {seat for booking in sale.history.confirmed for seat in booking.seats}
    picture = await look_at_map(sale, rng)
    for _ in range(round(_MAP_SETTLES_S / _MAP_INTERVAL_S)):
        if picture is not None and confirmed <= sale.hall.seats_in(picture.sold):
            break
        await asyncio.sleep(_MAP_INTERVAL_S)
        picture = await look_at_map(sale, rng)
    return picture
