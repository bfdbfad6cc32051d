"""When the crowd has gone home: wait until nothing is open, then compare what people were told with what is.

Holds and unpaid orders end by themselves, each at a deadline its owner was told; waiting for the last of
them is waiting for the truth to settle. Then orders are read back and maps compared, by the same code that
judges the simulated rush, with the diaries of all processes as the history: they are told again to its
witness, so that one order of events must explain them too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtest.rehearsal.diary import Entry
from loadtest.rehearsal.possession import Stories, Story
from loadtest.rehearsal.retelling import retell
from loadtest.rush import Api, Hall, History, Meter, Picture, Sale, look_at_map, look_back
from loadtest.rush.history import Booking

_READERS: Final = 64
_LOOKS_AGAIN_S: Final = 0.5
_AFTER_DEADLINES_S: Final = 6.0
_VISIBLE_TRIES: Final = 10  # what was just added is seen within a second, or two on a busy machine
_VISIBLE_AGAIN_S: Final = 0.2
_OPEN: Final = frozenset({"claiming", "pending_payment", "paid"})


@dataclass
class Aftermath:
    """What was found; `broken` are promises, by sentence, `undecided` seats not judged to the end."""

    broken: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    read: int = 0
    unread: int = 0
    still_held: int = 0
    without_owner: int = 0
    seats: int = 0
    sold: int = 0


class Showtimes:
    """The showtimes of a rehearsal, looked at over HTTP before and after."""

    def __init__(self, base_url: str, showtime_ids: Sequence[str], rng: random.Random) -> None:
        self._ids = showtime_ids
        self._rng = rng
        self._api = Api(base_url, connections_max=_READERS, meter=Meter())
        self._sales: dict[str, Sale] = {}
        self._before: dict[str, Picture] = {}

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()

    async def look(self) -> str:
        """Read layouts and maps before the crowd comes; what is wrong, empty when nothing."""
        for showtime_id in self._ids:
            path = f"/api/v1/showtimes/{showtime_id}/layout"
            for _ in range(_VISIBLE_TRIES):
                layout = await self._api.call("layout", "GET", path, rng=self._rng)
                if layout.status == 200:
                    break
                await asyncio.sleep(_VISIBLE_AGAIN_S)
            if layout.status != 200:
                return f"the layout of {showtime_id} cannot be read: {layout.label}"
            sale = Sale(showtime_id, Hall(layout.body), self._api, Meter(), History(), run_id="")
            picture = await look_at_map(sale, self._rng)
            if picture is None:
                return f"the seat map of {showtime_id} cannot be read"
            self._sales[showtime_id], self._before[showtime_id] = sale, picture
        return ""

    async def warm(self, times: int) -> None:
        """Ask for what the crowd will ask for, until nothing is asked for the first time."""
        for sale in self._sales.values():
            await asyncio.gather(*(look_at_map(sale, self._rng) for _ in range(times)))

    async def settle(self, stories: Stories) -> None:
        """Wait until no seat is held and nothing sold without an owner, or all deadlines are well past."""
        last_s = max((story.until_s for story in stories if _is_open(story)), default=time.time())
        while time.time() < last_s + _AFTER_DEADLINES_S:
            if await self._is_settled(stories):
                return
            await asyncio.sleep(_LOOKS_AGAIN_S)

    async def _is_settled(self, stories: Stories) -> bool:
        for showtime_id, sale in self._sales.items():
            picture, before = await look_at_map(sale, self._rng), self._before[showtime_id]
            if picture is None or _held(picture) & ~_held(before):
                return False
            owned = {
                seat
                for story in stories
                if story.showtime_id == showtime_id and story.state == "confirmed"
                for seat in story.seats
            }
            if sale.hall.seats_in(picture.sold) - sale.hall.seats_in(before.sold) - owned:
                return False
        return True

    async def look_back(self, stories: Stories, tokens: Sequence[str], entries: Sequence[Entry]) -> Aftermath:
        """Read orders and maps again, and compare; the stories are those of the entries."""
        found = Aftermath(broken=[f"seat given twice: {one}" for one in stories.given_twice()])
        for showtime_id, sale in self._sales.items():
            sale.history.bookings = bookings_of(stories, showtime_id, tokens)
            sale.history.witness = retell(
                showtime_id, [entry for entry in entries if entry.showtime_id == showtime_id]
            )
            after = await look_back(sale, self._rng)
            verdict, before = after.verdict, self._before[showtime_id]
            found.broken += [
                *(f"seat sold twice: {one}" for one in verdict.sold_twice),
                *(f"booking lost: {one}" for one in verdict.missing),
                *(f"booking changed: {one}" for one in verdict.changed),
                *(f"confirmed and not sold on the map: {one} of {showtime_id}" for one in verdict.not_on_map),
                *(f"no order of events explains: {one}" for one in verdict.impossible),
            ]
            found.undecided += verdict.undecided
            found.read, found.unread = found.read + verdict.read, found.unread + verdict.unread
            found.seats += sale.hall.seat_count
            if after.picture is None:
                continue
            sold = sale.hall.seats_in(after.picture.sold)
            owned = {seat for booking in sale.history.confirmed for seat in booking.seats}
            found.sold += len(sold)
            found.still_held += (_held(after.picture) & ~_held(before)).bit_count()
            found.without_owner += len(sold - owned - sale.hall.seats_in(before.sold))
        return found


def _held(picture: Picture) -> int:
    """The seats that are taken and not sold, as a plane."""
    return int.from_bytes(picture.taken) & ~int.from_bytes(picture.sold)


def _is_open(story: Story) -> bool:
    """Whether its seats will come free by themselves, at a deadline."""
    if story.order_id:
        return story.state in _OPEN
    return story.ends_s > story.until_s


def bookings_of(stories: Stories, showtime_id: str, tokens: Sequence[str]) -> dict[str, Booking]:
    """The orders of a showtime as their owners know them."""
    return {
        story.order_id: Booking(story.order_id, tokens[story.token_number], story.seats, story.promised)
        for story in stories
        if story.order_id and story.showtime_id == showtime_id
    }
