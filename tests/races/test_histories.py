"""Goal: what a crowd is told about a few seats, lost answers included, is what seats could have done.

Method: clients on connections of their own do anything at all to eight seats of a real server, each one thing
after the other, and note when they asked and when they were answered; some go away before the answer. The
checker then looks for one order of events. The control holds by looking first and taking afterwards.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable
from typing import Any

from kernel.ids import new_showtime_id
from loadtest.histories import Operation, judge
from loadtest.histories.operations import What
from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.packing import has_seat
from reservation.ports import Refused, ReturnableState
from tests.races.test_holds import CLIENTS, MINUTE_MS, Town, town

__all__ = ["town"]

SEATS = 8
ROUNDS = 40

#: The server's clock is this machine's, told in whole milliseconds.
CLOCK_S = 0.002


class Client:
    """Does one thing after the other and notes it."""

    def __init__(self, town: Town, number: int, told: list[Operation], *, looks_first: bool) -> None:
        self._town = town
        self._inventory: RedisInventory = town.client(number)
        self._random = random.Random(number)
        self._told = told
        self._looks_first = looks_first
        self._buyer = f"acc_{number}"
        self._hold = ""
        self._seats: tuple[int, ...] = ()
        self._state = ""

    async def act(self) -> None:
        if self._random.random() < 0.2:
            await self._look()
        elif self._state == "":
            await self._choose()
        elif self._state == "held":
            await self._random.choice([self._release, self._extend, self._claim, self._claim])()
        elif self._state == "claimed":
            await self._random.choice([self._sell, self._sell, self._give_back])()
        else:
            await self._give_back()

    async def _choose(self) -> None:
        first, size = self._random.randrange(SEATS - 2), self._random.randint(1, 2)
        self._hold, self._seats = self._town.new_hold(), tuple(range(first, first + size))
        if self._looks_first:
            await self._look_and_clear()
        ttl_ms = self._random.choice([3, 20, MINUTE_MS])
        hold = self._inventory.hold(
            self._town.showtime_id, self._hold, self._buyer, self._seats, ttl_ms=ttl_ms
        )
        self._state = "held" if await self._ask("hold", hold, ttl_ms) else ""

    async def _look_and_clear(self) -> None:
        """What holding by read-then-write comes to: whoever is in the way by now is overwritten."""
        redis: Any = self._town.runners[0].redis
        plane = await redis.getrange(self._town.keys.taken, 0, -1)
        if not any(has_seat(plane, seat) for seat in self._seats):
            await asyncio.sleep(self._random.uniform(0, 0.01))  # between two machines, on a busy day
            for seat in self._seats:
                await redis.setbit(self._town.keys.taken, seat, 0)

    async def _extend(self) -> None:
        more = self._inventory.extend(self._hold, self._buyer, ttl_ms=30, lifetime_ms_max=10 * MINUTE_MS)
        self._state = "held" if await self._ask("extend", more) else ""

    async def _release(self) -> None:
        await self._ask("release", self._inventory.release(self._hold, self._buyer))
        self._state = ""

    async def _claim(self) -> None:
        claim = self._inventory.claim(
            self._hold, self._buyer, seats=self._seats, pay_by_ms=2**42, entry=b"claim"
        )
        self._state = "claimed" if await self._ask("claim", claim) else ""

    async def _sell(self) -> None:
        sale = self._inventory.confirm(self._hold, self._buyer, entry=b"sale", seats=self._seats)
        self._state = "sold" if await self._ask("sell", sale) else ""

    async def _give_back(self) -> None:
        states: frozenset[ReturnableState] = frozenset({"claimed", "sold"})
        await self._ask("give_back", self._inventory.return_seats(self._hold, states=states))
        self._state = ""

    async def _ask(self, what: What, call: Awaitable[Any], ttl_ms: int = 0) -> bool:
        """Whether it was done; what was refused is not noted, what was not waited for is."""
        labels = tuple(f"S{seat}" for seat in self._seats)
        asked_s, asked = time.monotonic(), asyncio.ensure_future(call)
        if self._random.random() < 0.05:
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(0)
            if asked.cancel():
                await asyncio.wait([asked])
                self._told.append(Operation(what, self._hold, labels, asked_s))
                return what == "hold"  # and perhaps it was: go on as if
        try:
            answer = await asked
        except Refused as refusal:
            if what == "hold" and refusal.status == "seat_taken":
                taken = [seat for seat in self._seats if has_seat(refusal.taken or b"", seat)]
                self._see("saw_taken", taken[0], asked_s)
            return False
        assert answer is not False, "nobody asks for a thing twice"
        answered_s, until_s = time.monotonic(), None
        if what in {"hold", "extend"}:
            until_ms = answer if what == "extend" else answer.expires_at_ms
            until_s = answered_s + until_ms / 1_000 - time.time() - CLOCK_S
        self._told.append(Operation(what, self._hold, labels, asked_s, answered_s, until_s))
        return True

    async def _look(self) -> None:
        asked_s = time.monotonic()
        if self._random.random() < 0.3:
            await self._inventory.sweep(self._town.showtime_id, holds_max=100)
        picture = await self._inventory.read_map(self._town.showtime_id)
        seat = self._random.randrange(SEATS)
        self._see("saw_taken" if has_seat(picture.taken or b"", seat) else "saw_free", seat, asked_s)

    def _see(self, what: What, seat: int, asked_s: float) -> None:
        self._told.append(Operation(what, "", (f"S{seat}",), asked_s, time.monotonic()))


async def _another_evening(town: Town) -> None:
    town.showtime_id = new_showtime_id()
    town.keys = keys_of(town.showtime_id)
    await town.open(seats=SEATS)


async def _told_by_a_crowd(town: Town, *, looks_first: bool = False) -> list[Operation]:
    told: list[Operation] = []
    clients = [Client(town, number, told, looks_first=looks_first) for number in range(CLIENTS)]

    async def evening(client: Client) -> None:
        for _ in range(ROUNDS):
            await client.act()

    await asyncio.gather(*(evening(client) for client in clients))
    return told


async def test_one_order_of_events_explains_all_a_crowd_was_told(town: Town) -> None:
    """Five evenings. Every seat is proven; that parties were all or none may take too much search."""
    proven = 0
    for _ in range(5):
        await _another_evening(town)
        told = await _told_by_a_crowd(town)
        found = judge(told)
        assert found.impossible == ()
        assert all("all or none" in sentence for sentence in found.undecided)
        proven += not found.undecided
        kinds = {one.what for one in told if one.answered_s is not None}
        assert kinds >= {"hold", "claim", "sell", "release", "give_back", "saw_taken", "saw_free"}
        assert any(one.answered_s is None for one in told)
    assert proven >= 2


async def test_no_order_explains_what_those_were_told_who_look_first_and_take_afterwards(town: Town) -> None:
    found = []
    for _ in range(3):
        await _another_evening(town)
        found += judge(await _told_by_a_crowd(town, looks_first=True)).impossible
    assert found
