"""Goal: whoever comes at the same instant, a seat has one holder, a limit holds, and no two verbs both win.

Method: many tasks on many connections ask a real server for the same thing at once, and the answers are
counted. Each race is run a second time against `Careless`, which makes the same decisions from the same
data but reads first and writes afterwards: there the promise must break, or the race proves nothing.
In the end a crowd does anything at all for a while, and the books are looked into while it does.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from kernel.ids import PARTITIONS, new_hold_id, new_showtime_id
from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.packing import has_seat
from reservation.ports import Refused, ReturnableState
from runtime.redis_link import Nodes, connect
from tests.support.inventories import EPOCH, Picture, picture_of, read_record, tail_of, terms_of
from tests.support.runner import WatchedRunner

CLIENTS = 8
CONNECTIONS = 6
CROWD = 200
ROUNDS = 40
LIMIT = 4
MINUTE_MS = 60_000


class Town:
    """Some clients, each with connections of its own, and a showtime."""

    def __init__(self, runners: Sequence[WatchedRunner]) -> None:
        self.runners = runners
        self.inventories = [RedisInventory(runner) for runner in runners]
        self.showtime_id = new_showtime_id()
        self.keys = keys_of(self.showtime_id)

    def client(self, number: int) -> RedisInventory:
        return self.inventories[number % len(self.inventories)]

    def careless(self, number: int) -> Careless:
        return Careless(self, self.runners[number % len(self.runners)])

    def new_hold(self) -> str:
        return new_hold_id(self.showtime_id)

    async def open(self, *, seats: int = 40, most: int = 1_000) -> None:
        await self.client(0).open_showtime(terms_of(self.showtime_id, seats=seats, most=most))

    async def picture(self) -> Picture:
        return await picture_of(self.runners[0].redis, self.showtime_id)


class Careless:
    """An inventory that looks first and acts afterwards, one command at a time."""

    def __init__(self, town: Town, runner: WatchedRunner) -> None:
        self._town = town
        self._redis: Any = runner.redis
        self._inventory = RedisInventory(runner)

    async def hold(self, seats: Sequence[int]) -> bool:
        """Whether the seats were free a moment ago; then takes them."""
        plane = await self._redis.getrange(self._town.keys.taken, 0, -1)
        if any(has_seat(plane, seat) for seat in seats):
            return False
        for seat in seats:
            await self._redis.setbit(self._town.keys.taken, seat, 1)
        return True

    async def hold_within_limit(self, buyer: str, seats: Sequence[int]) -> None:
        """Looks at the buyer's count, then holds without the script's own look."""
        owned = int(await self._redis.hget(self._town.keys.showtime, buyer) or 0)
        if owned + len(seats) > LIMIT:
            raise Refused("seat_limit_exceeded")
        await self._inventory.hold(
            self._town.showtime_id, self._town.new_hold(), buyer, seats, ttl_ms=MINUTE_MS, guards="counter"
        )

    async def confirm(self, hold_id: str) -> bool:
        """Looks whether the hold still stands, then sells its seats."""
        packed = await self._redis.hget(self._town.keys.showtime, tail_of(hold_id))
        if packed is None or read_record(packed).state != "h":
            return False
        for seat in read_record(packed).seats:
            await self._redis.setbit(self._town.keys.sold, seat, 1)
        await self._redis.hset(self._town.keys.showtime, tail_of(hold_id), b"s" + packed[1:])
        await self._redis.zrem(self._town.keys.expiry, tail_of(hold_id))
        return True

    async def release(self, hold_id: str) -> bool:
        """Looks whether the hold is still a hold, then frees its seats."""
        packed = await self._redis.hget(self._town.keys.showtime, tail_of(hold_id))
        if packed is None or read_record(packed).state != "h":
            return False
        for seat in read_record(packed).seats:
            await self._redis.setbit(self._town.keys.taken, seat, 0)
        await self._redis.hdel(self._town.keys.showtime, tail_of(hold_id))
        await self._redis.zrem(self._town.keys.expiry, tail_of(hold_id))
        return True


@pytest.fixture
async def town(runner: WatchedRunner, valkey_url: str) -> AsyncIterator[Town]:
    runners: list[WatchedRunner] = []
    for _ in range(CLIENTS):
        redis = connect(valkey_url, pool_max=CONNECTIONS, socket_timeout_s=10.0)
        await asyncio.gather(*(redis.ping() for _ in range(CONNECTIONS)))  # nobody connects in a race
        runners.append(WatchedRunner(redis, Nodes(valkey_url)))
        runners[-1].adopt_epochs([EPOCH] * PARTITIONS)
        await runners[-1].nodes.primaries()
    yield Town(runners)
    for client in runners:
        await client.nodes.aclose()
        await client.redis.aclose()


async def _won(call: Awaitable[object]) -> bool:
    """Whether the inventory said yes."""
    try:
        await call
    except Refused:
        return False
    return True


async def _wins(calls: Sequence[Awaitable[bool]]) -> int:
    return sum(await asyncio.gather(*calls))


# The same seats.


async def test_two_hundred_holds_of_the_same_two_seats_give_one_hold(town: Town) -> None:
    await town.open()

    wins = await _wins(
        [
            _won(town.client(n).hold(town.showtime_id, town.new_hold(), f"acc_{n}", [7, 8], ttl_ms=MINUTE_MS))
            for n in range(CROWD)
        ]
    )

    assert wins == 1
    picture = await town.picture()
    assert len(picture.records) == 1
    assert picture.problems() == []


async def test_looking_first_and_taking_afterwards_sells_the_same_two_seats_more_than_once(
    town: Town,
) -> None:
    await town.open()

    assert await _wins([town.careless(n).hold([7, 8]) for n in range(CROWD)]) > 1


async def test_overlapping_choices_never_share_a_seat(town: Town) -> None:
    await town.open()

    async def choose(number: int) -> list[int]:
        seats = [number % 20, number % 20 + 1, 39 - number % 7]
        hold = town.client(number).hold(
            town.showtime_id, town.new_hold(), f"acc_{number}", seats, ttl_ms=MINUTE_MS
        )
        return seats if await _won(hold) else []

    granted = await asyncio.gather(*(choose(number) for number in range(CROWD)))

    sold = Counter(seat for seats in granted for seat in seats)
    assert sold
    assert max(sold.values()) == 1
    assert (await town.picture()).problems() == []


async def test_one_request_sent_many_times_makes_one_hold(town: Town) -> None:
    await town.open()
    hold_id = town.new_hold()

    answers = await asyncio.gather(
        *(
            town.client(n).hold(town.showtime_id, hold_id, "acc_a", [7, 8], ttl_ms=MINUTE_MS)
            for n in range(50)
        )
    )

    assert sum(held.fresh for held in answers) == 1
    assert len({held.expires_at_ms for held in answers}) == 1
    assert (await town.picture()).counters == {"acc_a": 2}


# The same buyer.


async def test_a_buyer_with_many_hands_gets_no_more_than_the_limit(town: Town) -> None:
    await town.open(most=LIMIT)

    wins = await _wins(
        [
            _won(
                town.client(n).hold(town.showtime_id, town.new_hold(), "acc_a", [n, n + 20], ttl_ms=MINUTE_MS)
            )
            for n in range(20)
        ]
    )

    assert wins == LIMIT // 2
    assert (await town.picture()).counters == {"acc_a": LIMIT}


async def test_looking_at_the_limit_outside_the_script_lets_the_buyer_have_more(town: Town) -> None:
    await town.open(most=LIMIT)

    await _wins([_won(town.careless(n).hold_within_limit("acc_a", [n, n + 20])) for n in range(20)])

    assert (await town.picture()).counters["acc_a"] > LIMIT


# A payment and an expiry.


def _seats_of(number: int) -> list[int]:
    return [4 * number, 4 * number + 1]


async def _pay_against_takeover(
    town: Town, confirm: Callable[[int, str], Awaitable[bool]]
) -> list[tuple[bool, bool]]:
    """Rounds of one hold past its time that its owner pays for while somebody else wants its seats."""
    await town.open(seats=4 * ROUNDS)
    outcomes = []
    for number in range(ROUNDS):
        seats = _seats_of(number)
        hold_id = town.new_hold()
        await town.client(0).hold(town.showtime_id, hold_id, "acc_owner", seats, ttl_ms=0)
        takeover = town.client(1).hold(
            town.showtime_id, town.new_hold(), "acc_other", seats, ttl_ms=MINUTE_MS
        )
        contest = [confirm(number, hold_id), _won(takeover)]
        if number % 2:
            contest.reverse()
        first, second = await asyncio.gather(*contest)
        outcomes.append((second, first) if number % 2 else (first, second))
    return outcomes


async def test_a_payment_and_a_takeover_of_the_same_seats_never_both_win(town: Town) -> None:
    outcomes = await _pay_against_takeover(
        town,
        lambda number, hold_id: _won(
            town.client(2 + number).confirm(hold_id, "acc_owner", entry=b"sale", seats=_seats_of(number))
        ),
    )

    assert {(True, False), (False, True)} >= set(outcomes)
    assert (await town.picture()).problems() == []


async def test_a_payment_that_looks_first_sells_seats_that_were_taken_over(town: Town) -> None:
    outcomes = await _pay_against_takeover(
        town, lambda number, hold_id: town.careless(2 + number).confirm(hold_id)
    )

    assert (True, True) in outcomes
    assert "a seat is in two live records" in (await town.picture()).problems()


async def test_a_payment_and_the_sweep_never_both_have_the_seats(town: Town) -> None:
    await town.open(seats=4 * ROUNDS)
    paid = 0
    for number in range(ROUNDS):
        hold_id, seats = town.new_hold(), _seats_of(number)
        await town.client(0).hold(town.showtime_id, hold_id, "acc_owner", seats, ttl_ms=0)

        won, _, _ = await asyncio.gather(
            _won(town.client(number).confirm(hold_id, "acc_owner", entry=b"sale", seats=seats)),
            town.client(number + 1).sweep(town.showtime_id, holds_max=100),
            town.client(number + 2).sweep(town.showtime_id, holds_max=100),
        )

        paid += won
        picture = await town.picture()
        assert picture.records[hold_id].state == ("s" if won else "x")
        assert picture.problems() == []
    assert (await town.picture()).counters["acc_owner"] == 2 * paid


# Letting go and ordering.


async def _release_against_claim(
    town: Town, release: Callable[[int, str], Awaitable[bool]]
) -> list[tuple[bool, bool]]:
    """Rounds of one hold that is let go and ordered at once, as by a page open in two tabs."""
    await town.open(seats=4 * ROUNDS)
    outcomes = []
    for number in range(ROUNDS):
        hold_id, seats = town.new_hold(), _seats_of(number)
        await town.client(0).hold(town.showtime_id, hold_id, "acc_a", seats, ttl_ms=MINUTE_MS)
        claim = town.client(1).claim(hold_id, "acc_a", seats=seats, pay_by_ms=2**42, entry=b"claim")
        contest = [release(number, hold_id), _won(claim)]
        if number % 2:
            contest.reverse()
        first, second = await asyncio.gather(*contest)
        outcomes.append((second, first) if number % 2 else (first, second))
    return outcomes


async def test_letting_go_and_ordering_never_both_win(town: Town) -> None:
    outcomes = await _release_against_claim(
        town, lambda number, hold_id: _won(town.client(2 + number).release(hold_id, "acc_a"))
    )

    assert {(True, False), (False, True)} >= set(outcomes)
    picture = await town.picture()
    assert picture.problems() == []
    assert picture.counters["acc_a"] == 2 * sum(claimed for _, claimed in outcomes)


async def test_letting_go_after_a_look_frees_seats_that_were_ordered(town: Town) -> None:
    outcomes = await _release_against_claim(
        town, lambda number, hold_id: town.careless(2 + number).release(hold_id)
    )

    assert (True, True) in outcomes
    assert "sold is not within taken" in (await town.picture()).problems()


# Anybody, anything.


class Fan:
    """Does one thing after the other, on the server's own clock, and notes what it was told."""

    def __init__(self, town: Town, number: int, seats: int, sales: Counter[int]) -> None:
        self._town = town
        self._inventory = town.client(number)
        self._random = random.Random(number)
        self._seats = seats
        self._sales = sales
        self._buyer = f"acc_{number % 5}"
        self._hold: tuple[str, list[int]] | None = None

    async def act(self) -> None:
        try:
            if self._hold is None or self._random.random() < 0.1:
                await self._choose()
            else:
                await self._go_on(*self._hold)
        except Refused:
            self._hold = None

    async def _choose(self) -> None:
        first, size = self._random.randrange(self._seats - 3), self._random.randint(1, 3)
        hold_id, chosen = self._town.new_hold(), list(range(first, first + size))
        await self._inventory.hold(
            self._town.showtime_id,
            hold_id,
            self._buyer,
            chosen,
            ttl_ms=self._random.choice([0, 3, 20, MINUTE_MS]),
            rule=self._random.choice(["off", "lenient", "strict"]),
            stretches=[(0, self._seats, 0)],
            area_stretches=[(0, self._seats, 0)],
        )
        self._hold = hold_id, chosen

    async def _go_on(self, hold_id: str, chosen: list[int]) -> None:
        match self._random.randrange(7):
            case 0:
                await self._inventory.release(hold_id, self._buyer)
                self._hold = None
            case 1:
                await self._inventory.extend(
                    hold_id, self._buyer, ttl_ms=30, lifetime_ms_max=self._random.choice([1, MINUTE_MS])
                )
            case 2 | 3:
                await self._inventory.claim(
                    hold_id, self._buyer, seats=chosen, pay_by_ms=2**42, entry=b"claim"
                )
            case 4 | 5:
                if await self._inventory.confirm(hold_id, self._buyer, entry=b"sale", seats=chosen):
                    self._sales.update(chosen)
            case _:
                states: frozenset[ReturnableState] = frozenset(
                    self._random.choice([("claimed", "expired"), ("sold", "expired")])
                )
                known = await self._inventory.read_hold(hold_id, self._buyer)
                if await self._inventory.return_seats(hold_id, states=states):
                    if known.state == "sold":
                        self._sales.subtract(chosen)
                    self._hold = None


async def test_whatever_a_crowd_does_the_books_balance_at_every_instant(town: Town) -> None:
    seats = 40
    await town.open(seats=seats, most=30)
    sales: Counter[int] = Counter()
    fans = [Fan(town, number, seats, sales) for number in range(2 * CLIENTS)]
    audits: list[list[str]] = []
    everybody_left = asyncio.Event()

    async def behave(fan: Fan) -> None:
        for _ in range(60):
            await fan.act()

    async def tidy() -> None:
        while not everybody_left.is_set():
            await town.client(0).sweep(town.showtime_id, holds_max=3)
            audits.append((await town.picture()).problems())
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as group:
        group.create_task(tidy())
        await asyncio.gather(*(behave(fan) for fan in fans))
        everybody_left.set()

    assert len(audits) > 5
    assert [problems for problems in audits if problems] == []
    picture = await town.picture()
    assert picture.problems() == []
    owned = {seat for record in picture.records.values() if record.state == "s" for seat in record.seats}
    assert {seat for seat, count in sales.items() if count} == owned
    assert set(sales.values()) <= {0, 1}
