"""Goal: seats come back exactly once, and never from under their next owner.

Method: an order ends, its seats go to somebody else, and the return is repeated, delayed or overtaken.
The control frees seats by their numbers instead of by the order's record: repeated, it frees the next
owner's seat and a third buyer gets it.
"""

from __future__ import annotations

import pytest

from reservation.packing import pack_numbers, plane_of
from runtime.lua import load_script
from runtime.paths import LUA_DIR
from tests.support.inventories import TTL_MS, Stage

_BY_NUMBER = """#!lua
--[[ Free the seats that are named, whoever has them.
  Atomic because even the wrong thing is done in one step here.
  KEYS  1 taken  string  bit per seat: cannot be held now
        2 sold   string  bit per seat: claimed or sold
  ARGV  1 seats, packed 2 bytes each
  RETURNS  returned
  COST  4 commands ]]
-- include: unpack_seats
-- include: read_piece
-- include: write_piece
write_piece(read_piece(KEYS[1], unpack_seats(ARGV[1])), unpack_seats(ARGV[1]), 0)
write_piece(read_piece(KEYS[2], unpack_seats(ARGV[1])), unpack_seats(ARGV[1]), 0)
return { 'returned' }
"""


@pytest.fixture
async def open_stage(stage: Stage) -> Stage:
    await stage.open()
    return stage


async def test_a_second_return_never_frees_the_next_owners_seats(open_stage: Stage) -> None:
    first, _ = await open_stage.sold([3, 4])
    await open_stage.give_back(first)
    await open_stage.sold([3, 4])

    assert await open_stage.give_back(first) == ["nothing_to_return"]

    assert (await open_stage.hold(open_stage.new_hold(), "acc_third", [3]))[0] == "seat_taken"
    assert (await open_stage.picture()).problems() == []


async def test_without_the_record_as_its_key_a_second_return_does_free_them(
    open_stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("scripts") / "return_by_number.lua"
    path.write_text(_BY_NUMBER)
    by_number = load_script(path, LUA_DIR / "shared").text(0)
    planes = (open_stage.keys.taken, open_stage.keys.sold)
    first, _ = await open_stage.sold([3, 4])
    await open_stage.give_back(first)
    await open_stage.sold([3, 4])

    await open_stage.redis.eval(by_number, 2, *planes, pack_numbers([3, 4]))

    assert (await open_stage.hold(open_stage.new_hold(), "acc_third", [3]))[0] == "held"
    assert "a seat is in two live records" in (await open_stage.picture()).problems()


async def test_a_return_of_an_unpaid_order_leaves_one_alone_that_was_paid_meanwhile(
    open_stage: Stage,
) -> None:
    hold_id, buyer = await open_stage.claimed([3])
    await open_stage.confirm(hold_id, buyer)
    before = await open_stage.picture()

    assert await open_stage.give_back(hold_id, states="c") == ["nothing_to_return"]
    assert await open_stage.picture() == before


@pytest.mark.parametrize("states", ["c", "s", "x", "csx", ""])
async def test_a_hold_that_is_only_held_is_never_returned(open_stage: Stage, states: str) -> None:
    hold_id, _ = await open_stage.held([3])

    assert await open_stage.give_back(hold_id, states=states) == ["nothing_to_return"]


@pytest.mark.parametrize("swept", [True, False])
async def test_an_expired_hold_can_be_cleared_so_that_its_buyer_may_try_again(
    open_stage: Stage, swept: bool
) -> None:
    hold_id, buyer = await open_stage.held([3])
    open_stage.now_ms += TTL_MS
    if swept:
        await open_stage.sweep()

    assert (await open_stage.give_back(hold_id, states="x"))[0] == "returned"

    picture = await open_stage.picture()
    assert picture.records == {}
    assert picture.due == {}
    assert picture.problems() == []
    assert (await open_stage.hold(hold_id, buyer, [3]))[0] == "held"


async def test_clearing_a_tombstone_leaves_the_next_owner_of_its_seats_alone(open_stage: Stage) -> None:
    hold_id, _ = await open_stage.held([3])
    open_stage.now_ms += TTL_MS
    await open_stage.sold([3])

    assert (await open_stage.give_back(hold_id, states="x"))[0] == "returned"

    assert await open_stage.taken() == {3}
    assert (await open_stage.picture()).problems() == []


async def test_seats_another_order_owns_stay_as_they_are(open_stage: Stage) -> None:
    first, second = open_stage.new_hold(), open_stage.new_hold()
    await open_stage.restore(owned=[(first, "c", "acc_a", [3, 4, 5]), (second, "s", "acc_b", [5, 6])])

    await open_stage.give_back(first, keep=[5])

    picture = await open_stage.picture()
    assert picture.taken == picture.sold == plane_of([5, 6], open_stage.seats)
    assert picture.counters["acc_a"] == 0
    assert picture.problems() == []


async def test_a_return_takes_its_seats_off_the_buyers_count(stage: Stage) -> None:
    await stage.open(most=2)
    hold_id = stage.new_hold()
    await stage.hold(hold_id, "acc_a", [3, 4])
    await stage.claim(hold_id, "acc_a")
    assert (await stage.hold(stage.new_hold(), "acc_a", [7, 8]))[0] == "seat_limit_exceeded"

    await stage.give_back(hold_id)

    assert (await stage.hold(stage.new_hold(), "acc_a", [7, 8]))[0] == "held"
    assert (await stage.picture()).problems() == []
