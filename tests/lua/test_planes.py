"""Goal: the bits that change are exactly the seats that were named, wherever they stand in the plane.

Method: halls of awkward sizes (one seat, around a byte, the largest there may be) and seats at every kind
of place: first, last, both sides of a byte, spans of several bytes. After each verb both planes are
compared bit by bit with sets.
"""

from __future__ import annotations

import pytest

from kernel import limits
from reservation.packing import plane_of
from tests.support.inventories import Stage

LARGEST = limits.seats_per_layout_max
PLACES = [
    (1, [0]),
    (7, [0, 6]),
    (8, [7]),
    (9, [8]),
    (9, [7, 8]),
    (16, [0, 15]),
    (40, [7]),
    (40, [8]),
    (40, [39]),
    (40, [39, 0]),
    (40, [6, 7, 8, 9]),
    (40, [23, 5, 16, 31, 8]),
    (LARGEST, [0]),
    (LARGEST, [LARGEST - 1]),
    (LARGEST, [32_767, 32_768]),
    (LARGEST, [LARGEST - 1, 0, 255, 256, 257, 65_279, 65_280, 40_000, 39_999, 8]),
]


@pytest.fixture(params=PLACES, ids=[f"{seats}_of_{size}" for size, seats in PLACES])
async def place(request: pytest.FixtureRequest, stage: Stage) -> tuple[Stage, list[int]]:
    stage.seats, seats = request.param
    await stage.open()
    return stage, seats


async def _assert_planes(stage: Stage, *, taken: list[int], sold: list[int], blocked: list[int]) -> None:
    picture = await stage.picture()
    planes = [plane_of(seats, stage.seats) for seats in (taken, sold, blocked)]
    assert [picture.taken, picture.sold, picture.blocked] == planes
    assert picture.problems() == []


async def test_a_hold_takes_its_seats_and_letting_go_frees_them(place: tuple[Stage, list[int]]) -> None:
    stage, seats = place
    hold_id, buyer = await stage.held(seats)
    await _assert_planes(stage, taken=seats, sold=[], blocked=[])

    await stage.release(hold_id, buyer)
    await _assert_planes(stage, taken=[], sold=[], blocked=[])


async def test_a_claim_and_a_sale_mark_their_seats_and_a_return_frees_them(
    place: tuple[Stage, list[int]],
) -> None:
    stage, seats = place
    hold_id, buyer = await stage.claimed(seats)
    await _assert_planes(stage, taken=seats, sold=seats, blocked=[])

    await stage.confirm(hold_id, buyer)
    await _assert_planes(stage, taken=seats, sold=seats, blocked=[])

    await stage.give_back(hold_id)
    await _assert_planes(stage, taken=[], sold=[], blocked=[])


async def test_a_sale_straight_from_a_hold_marks_its_seats(place: tuple[Stage, list[int]]) -> None:
    stage, seats = place
    await stage.sold(seats)
    await _assert_planes(stage, taken=seats, sold=seats, blocked=[])


async def test_house_seats_are_taken_until_they_are_given_back(place: tuple[Stage, list[int]]) -> None:
    stage, seats = place
    await stage.block(seats)
    await _assert_planes(stage, taken=seats, sold=[], blocked=seats)

    await stage.block(seats[:1])
    await _assert_planes(stage, taken=seats, sold=[], blocked=seats)

    await stage.unblock(seats[:1])
    await _assert_planes(stage, taken=seats[1:], sold=[], blocked=seats[1:])


async def test_an_expired_hold_frees_its_seats_when_it_is_swept(place: tuple[Stage, list[int]]) -> None:
    stage, seats = place
    await stage.held(seats, ttl_ms=1)
    stage.now_ms += 1
    await stage.sweep()
    await _assert_planes(stage, taken=[], sold=[], blocked=[])


async def test_a_rebuild_sets_every_plane(place: tuple[Stage, list[int]]) -> None:
    stage, seats = place
    owned = [(stage.new_hold(), "s", "acc_a", seats)]
    await stage.restore(owned=owned)
    await _assert_planes(stage, taken=seats, sold=seats, blocked=[])

    await stage.restore(blocked=seats)
    await _assert_planes(stage, taken=seats, sold=[], blocked=seats)


async def test_a_hall_has_no_plane_of_house_seats_before_it_has_house_seats(stage: Stage) -> None:
    """Most halls never do, and an eighth of a byte a seat is a quarter of what a free one costs."""
    await stage.open()
    await stage.sold([3])
    await stage.restore()
    assert await stage.redis.exists(stage.keys.taken, stage.keys.sold, stage.keys.blocked) == 2
    assert await stage.unblock([3]) == ["seat_not_blocked"]

    assert (await stage.block([5]))[0] == "blocked"

    assert await stage.redis.get(stage.keys.blocked) == plane_of([5], stage.seats)
    await stage.restore(blocked=[5])
    assert await stage.redis.get(stage.keys.blocked) == plane_of([5], stage.seats)


async def test_the_largest_hall_can_be_filled_to_the_last_seat(stage: Stage) -> None:
    stage.seats = LARGEST
    await stage.open()
    await stage.block(range(LARGEST - 1))

    status, *_ = await stage.hold(stage.new_hold(), "acc_a", [LARGEST - 2, LARGEST - 1])
    assert status == "seat_taken"
    await stage.held([LARGEST - 1])

    _, _, _, _, _, seat_count, _, _, taken, sold, _ = await stage.read_map()
    assert seat_count == LARGEST
    assert taken == plane_of(range(LARGEST), LARGEST)
    assert sold == bytes(8_192)


async def test_a_map_of_a_known_version_comes_without_planes(stage: Stage) -> None:
    await stage.open()
    await stage.held([3])
    version = (await stage.read_map())[1]

    assert len(await stage.read_map(version)) == 8
    assert len(await stage.read_map(version - 1)) == 11
