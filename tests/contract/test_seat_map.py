"""Goal: whoever keeps a copy of a seat map can trust what a reading says and what it leaves out.

Method: the same stories for every adapter, through the port alone and with explicit instants: versions
step with every change, planes come only when they are news, and whoever sees a seat taken can know which
hold took it.
"""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from reservation.packing import plane_of
from reservation.ports import SeatMap
from tests.contract.candidate import Candidate
from tests.support.inventories import NOW_MS, TTL_MS


async def test_the_map_comes_without_planes_when_its_version_is_known(candidate: Candidate) -> None:
    await candidate.open(seats=9)
    await candidate.held([8])

    whole = await candidate.map(1)
    due_at_ms = NOW_MS + TTL_MS
    assert whole == SeatMap(2, "open", 0, 0, 9, NOW_MS, due_at_ms, plane_of([8], 9), bytes(2))
    assert await candidate.map(2, holds_from_ms=0) == SeatMap(2, "open", 0, 0, 9, NOW_MS, due_at_ms)
    assert (await candidate.map(3)).taken is not None


async def test_the_map_says_when_the_first_hold_is_due_even_if_nothing_else_changed(
    candidate: Candidate,
) -> None:
    await candidate.open()
    first, buyer = await candidate.held([3], ttl_ms=10)
    await candidate.held([4], ttl_ms=20)
    version = (await candidate.map()).version
    assert (await candidate.map(version)).first_due_at_ms == NOW_MS + 10

    await candidate.extend(first, buyer, ttl_ms=30)

    assert await candidate.map(version) == SeatMap(version, "open", 0, 0, 40, NOW_MS, NOW_MS + 20)


async def test_the_map_names_the_holds_granted_since_another_look(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3])
    looked = await candidate.map()
    candidate.now_ms += 7
    later = [(await candidate.held([seat]))[0] for seat in (4, 5)]

    since = await candidate.map(looked.version, holds_from_ms=looked.now_ms + TTL_MS + 1)

    assert sorted(since.hold_ids) == sorted(later)
    assert len((await candidate.map(holds_from_ms=0)).hold_ids) == 3
    assert (await candidate.map()).hold_ids == ()


@pytest.mark.parametrize("way", ["swept", "taken over"])
async def test_who_asks_for_new_holds_hears_of_none_that_ended(candidate: Candidate, way: str) -> None:
    """What ended is buried ten minutes later, so its burial is later than any new hold's deadline."""
    await candidate.open(most=40)
    ended = [(await candidate.held([seat]))[0] for seat in range(12)]
    candidate.now_ms += TTL_MS
    if way == "swept":
        await candidate.sweep()
    else:
        await candidate.held(list(range(12)), ttl_ms=0)
    candidate.now_ms += TTL_MS
    looked = await candidate.map()
    new = (await candidate.held([20]))[0]
    since_ms = looked.now_ms + TTL_MS

    told = await candidate.map(looked.version, holds_from_ms=since_ms, holds_within_ms=TTL_MS)

    assert told.hold_ids == (new,)
    without_an_end = await candidate.map(looked.version, holds_from_ms=since_ms)
    assert set(without_an_end.hold_ids) >= {new, *ended}, "each of them would be told at every look"


async def test_a_hold_that_was_extended_is_told_as_a_new_one(candidate: Candidate) -> None:
    """It may have been granted since the last look too, and whoever repeats it must be known."""
    await candidate.open()
    looked = await candidate.map()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += 7
    await candidate.extend(hold_id, buyer, ttl_ms=TTL_MS)

    since_ms = looked.now_ms + TTL_MS
    told = await candidate.map(looked.version, holds_from_ms=since_ms, holds_within_ms=TTL_MS)

    assert told.hold_ids == (hold_id,)


async def test_a_hold_that_ended_is_named_until_it_is_buried_and_an_order_is_not(
    candidate: Candidate,
) -> None:
    await candidate.open()
    expired, _ = await candidate.held([3], ttl_ms=0)
    released, buyer = await candidate.held([4])
    await candidate.claimed([5])
    await candidate.release(released, buyer)
    await candidate.sweep()

    assert (await candidate.map(holds_from_ms=0)).hold_ids == (expired,)


async def test_a_step_of_one_means_that_exactly_the_seats_of_the_hold_changed(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3, 4], ttl_ms=0)
    before = await candidate.seats()

    plain = await candidate.hold(candidate.new_hold(), "acc_a", [7])
    takeover = await candidate.hold(candidate.new_hold(), "acc_b", [4])

    assert plain.version == before.version + 1
    assert takeover.version == plain.version + 2, "seat 3 came free with it"
    assert (await candidate.seats()).taken == {4, 7}


async def test_every_change_of_a_seat_makes_a_new_version(candidate: Candidate) -> None:
    versions = [await candidate.open()]

    async def note(call: Awaitable[object]) -> None:
        await call
        versions.append((await candidate.map()).version)

    hold_id, order_id = candidate.new_hold(), candidate.new_hold()
    await note(candidate.hold(hold_id, "acc_a", [0]))
    await note(candidate.release(hold_id, "acc_a"))
    await note(candidate.hold(order_id, "acc_a", [0]))
    await note(candidate.claim(order_id, "acc_a"))
    await note(candidate.confirm(order_id, "acc_a"))
    await note(candidate.give_back(order_id, "sold"))
    await note(candidate.block([0]))
    await note(candidate.unblock([0]))
    await note(candidate.held([0], ttl_ms=0))
    await note(candidate.sweep())
    await note(candidate.restore())

    assert versions == list(range(1, 13))
