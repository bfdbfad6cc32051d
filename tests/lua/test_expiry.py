"""Goal: a hold ends at its deadline for everybody, whether or not anybody has tidied up.

Method: an explicit instant in every call; holds are let run out and then taken over, swept, or asked for
by their owners. Planes, records, counters and expiries are audited after each story.
"""

from __future__ import annotations

import pytest

from reservation.packing import pack_numbers, plane_of
from tests.support.inventories import EPOCH, TOMBSTONE_MS, TTL_MS, Stage

#: As many expired holds are looked through by whoever is refused.
OVERDUE_MAX = 500


@pytest.fixture
async def open_stage(stage: Stage) -> Stage:
    await stage.open()
    return stage


async def _fill(stage: Stage, seats: range, buyer: str | None = None) -> list[str]:
    """A hold for each seat, in one write."""
    script = stage.scripts["hold_seats"]
    pipeline = stage.redis.pipeline(transaction=False)
    hold_ids = []
    for seat in seats:
        hold_ids.append(stage.new_hold())
        keys = (stage.keys.showtime, stage.keys.taken, stage.keys.expiry)
        arguments = (hold_ids[-1], buyer or f"acc_{seat}", TTL_MS, stage.now_ms, pack_numbers([seat]))
        guards = "counter" if buyer else "buyer"
        pipeline.evalsha(script.sha(EPOCH), 3, *keys, *arguments, "off", "", "", guards, "")
    assert {reply[0] for reply in await pipeline.execute()} == {b"held"}
    return hold_ids


async def test_a_hold_stands_until_its_last_millisecond(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3])
    open_stage.now_ms += TTL_MS - 1

    assert (await open_stage.hold(open_stage.new_hold(), "acc_x", [3]))[0] == "seat_taken"
    assert (await open_stage.sweep())[1:] == [0, 0]
    assert (await open_stage.read(hold_id, buyer))[0] == "hold"


@pytest.mark.parametrize("seats", [[3, 20], [20, 39], [39, 3, 20]])
async def test_an_expired_hold_is_taken_over_whole(open_stage: Stage, seats: list[int]) -> None:
    hold_id, buyer = await open_stage.held(seats)
    open_stage.now_ms += TTL_MS

    assert (await open_stage.hold(open_stage.new_hold(), "acc_x", [20]))[0] == "held"

    picture = await open_stage.picture()
    assert picture.taken == plane_of([20], open_stage.seats)
    assert picture.counters[buyer] == 0
    assert picture.records[hold_id].state == "x"
    assert picture.due[hold_id] == open_stage.now_ms + TOMBSTONE_MS
    assert picture.problems() == []


async def test_whoever_lost_a_hold_is_told_that_it_expired(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3])
    open_stage.now_ms += TTL_MS
    await open_stage.held([3])

    assert (await open_stage.read(hold_id, buyer))[0] == "hold_expired"
    assert (await open_stage.extend(hold_id, buyer))[0] == "hold_expired"
    assert (await open_stage.release(hold_id, buyer))[0] == "hold_expired"
    assert (await open_stage.claim(hold_id, buyer))[0] == "hold_expired"
    assert (await open_stage.confirm(hold_id, buyer))[0] == "not_found"
    assert (await open_stage.hold(hold_id, buyer, [3]))[0] == "hold_expired"
    assert (await open_stage.picture()).problems() == []


async def test_several_expired_holds_are_taken_over_in_one_step(open_stage: Stage) -> None:
    first = await open_stage.held([3, 4])
    second = await open_stage.held([5])
    _, bystander = await open_stage.held([6])
    open_stage.now_ms += TTL_MS

    assert (await open_stage.hold(open_stage.new_hold(), "acc_x", [4, 5]))[0] == "held"

    picture = await open_stage.picture()
    assert [picture.counters[buyer] for buyer in (first[1], second[1], bystander)] == [0, 0, 1]
    assert picture.taken == plane_of([4, 5, 6], open_stage.seats)
    assert picture.problems() == []


async def test_nothing_is_taken_over_by_a_choice_that_is_refused(open_stage: Stage) -> None:
    await open_stage.held([3])
    await open_stage.held([4], ttl_ms=2 * TTL_MS)
    open_stage.now_ms += TTL_MS
    before = await open_stage.picture()

    status, taken, _ = await open_stage.hold(open_stage.new_hold(), "acc_x", [3, 4])

    assert status == "seat_taken"
    assert taken == plane_of([4], open_stage.seats), (
        "the seat whose hold is over is not what stands in the way"
    )
    assert await open_stage.picture() == before


async def test_a_single_is_judged_without_the_expired_holds_in_the_way(open_stage: Stage) -> None:
    await open_stage.held([1, 2])
    open_stage.now_ms += TTL_MS

    refusal = await open_stage.hold(
        open_stage.new_hold(), "acc_x", [1], rule="lenient", stretches=[(0, 5, 0)]
    )

    assert refusal[:3] == ["orphan_seat", pack_numbers([0]), bytes(5)]


async def test_one_expired_hold_is_found_among_as_many_as_are_looked_through(stage: Stage) -> None:
    stage.seats = 600
    await stage.open()
    await _fill(stage, range(1, OVERDUE_MAX))
    hold_id, _ = await stage.held([0, 550])
    stage.now_ms += TTL_MS

    assert (await stage.hold(stage.new_hold(), "acc_x", [0, 550]))[0] == "held"

    picture = await stage.picture()
    assert picture.records[hold_id].state == "x"
    assert sum(record.state == "h" for record in picture.records.values()) == OVERDUE_MAX
    assert picture.problems() == []


@pytest.mark.parametrize("wanted", [0, 599])
async def test_in_a_wave_of_expired_holds_nobody_who_is_refused_walks_through_all_of_them(
    stage: Stage, wanted: int
) -> None:
    """Neither for a seat of theirs nor for one that somebody has."""
    stage.seats = 600
    await stage.open()
    await stage.held([599], ttl_ms=2 * TTL_MS)
    await _fill(stage, range(OVERDUE_MAX + 1))
    stage.now_ms += TTL_MS
    before = await stage.picture()

    assert await stage.hold(stage.new_hold(), "acc_x", [wanted]) == ["holds_overdue"]
    assert await stage.picture() == before
    assert (await stage.hold(stage.new_hold(), "acc_x", [598]))[0] == "held", "what is free is free"

    await stage.sweep(100)
    expected = "held" if wanted == 0 else "seat_taken"
    assert (await stage.hold(stage.new_hold(), "acc_y", [wanted]))[0] == expected
    assert (await stage.picture()).problems() == []


async def test_ones_own_expired_holds_do_not_count_against_the_limit(stage: Stage) -> None:
    await stage.open(most=4)
    await stage.hold(stage.new_hold(), "acc_a", [0, 1])
    await stage.hold(stage.new_hold(), "acc_a", [20], ttl_ms=2 * TTL_MS)
    stage.now_ms += TTL_MS

    assert (await stage.hold(stage.new_hold(), "acc_a", [30, 31, 32]))[0] == "held"

    picture = await stage.picture()
    assert picture.counters["acc_a"] == 4
    assert picture.taken == plane_of([20, 30, 31, 32], stage.seats)
    assert picture.problems() == []
    assert await stage.hold(stage.new_hold(), "acc_a", [35]) == ["seat_limit_exceeded", 4, 4]


async def test_what_is_over_the_limit_even_without_expired_holds_stays_refused(stage: Stage) -> None:
    await stage.open(most=4)
    await stage.hold(stage.new_hold(), "acc_a", [0, 1])
    await stage.hold(stage.new_hold(), "acc_a", [20, 21], ttl_ms=2 * TTL_MS)
    stage.now_ms += TTL_MS
    before = await stage.picture()

    assert await stage.hold(stage.new_hold(), "acc_a", [30, 31, 32]) == ["seat_limit_exceeded", 2, 4]
    assert await stage.picture() == before


async def test_a_whole_crowd_of_ones_own_expired_holds_is_taken_over(stage: Stage) -> None:
    stage.seats = 1_100
    await stage.open(most=OVERDUE_MAX)
    await _fill(stage, range(OVERDUE_MAX), buyer="acc_crowd")
    stage.now_ms += TTL_MS

    assert (await stage.hold(stage.new_hold(), "acc_crowd", [1_050]))[0] == "held"

    picture = await stage.picture()
    assert picture.counters["acc_crowd"] == 1
    assert picture.taken == plane_of([1_050], 1_100)
    assert picture.problems() == []


async def test_the_counter_takes_over_only_what_stands_on_its_seats(stage: Stage) -> None:
    stage.seats = 600
    await stage.open(most=1)
    await _fill(stage, range(OVERDUE_MAX), buyer="acc_counter")
    stage.now_ms += TTL_MS

    assert (await stage.hold(stage.new_hold(), "acc_counter", [7, 8], guards="counter"))[0] == "held"

    picture = await stage.picture()
    assert picture.counters["acc_counter"] == OVERDUE_MAX
    assert sum(record.state == "x" for record in picture.records.values()) == 2
    assert picture.problems() == []


async def test_a_sweep_frees_what_is_due_in_bounded_batches(stage: Stage) -> None:
    stage.seats = 400
    await stage.open()
    await _fill(stage, range(250))
    stage.now_ms += TTL_MS
    await stage.held([300])
    version = (await stage.picture()).version

    swept = [(await stage.sweep(100))[1:] for _ in range(4)]

    assert swept == [[100, 100], [100, 100], [50, 50], [0, 0]]
    picture = await stage.picture()
    assert picture.taken == plane_of([300], stage.seats)
    assert picture.version == version + 3
    assert sum(picture.counters.values()) == 1
    assert picture.problems() == []


async def test_a_tombstone_is_buried_by_a_later_sweep_and_its_id_is_free_again(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3])
    open_stage.now_ms += TTL_MS
    await open_stage.sweep()
    open_stage.now_ms += TOMBSTONE_MS - 1
    assert (await open_stage.sweep())[1:] == [0, 0]
    assert (await open_stage.read(hold_id, buyer))[0] == "hold_expired"

    open_stage.now_ms += 1
    assert (await open_stage.sweep())[1:] == [0, 1]

    picture = await open_stage.picture()
    assert picture.records == {}
    assert picture.due == {}
    assert (await open_stage.read(hold_id, buyer))[0] == "not_found"
    assert (await open_stage.hold(hold_id, buyer, [3]))[0] == "held"


async def test_time_alone_never_ends_a_claim_or_a_sale(open_stage: Stage) -> None:
    claim, claimant = await open_stage.claimed([3])
    sale, owner = await open_stage.sold([4])
    open_stage.now_ms += 100 * TOMBSTONE_MS

    assert (await open_stage.sweep())[1:] == [0, 0]
    assert (await open_stage.hold(open_stage.new_hold(), "acc_x", [3]))[0] == "seat_taken"
    assert (await open_stage.read(claim, claimant))[1] == b"claimed"
    assert (await open_stage.read(sale, owner))[1] == b"sold"


async def test_an_extended_hold_expires_at_its_new_deadline(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3])
    open_stage.now_ms += TTL_MS - 1
    await open_stage.extend(hold_id, buyer)
    open_stage.now_ms += TTL_MS - 1
    assert (await open_stage.sweep())[1:] == [0, 0]

    open_stage.now_ms += 1
    assert (await open_stage.sweep())[1:] == [1, 1]
    assert (await open_stage.picture()).problems() == []


async def test_an_extension_never_shortens_a_hold(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3])

    reply = await open_stage.extend(hold_id, buyer, ttl_ms=1)

    assert reply == ["hold_not_extendable", open_stage.now_ms + TTL_MS]


async def test_without_an_instant_the_server_looks_at_its_own_clock(open_stage: Stage) -> None:
    open_stage.now_ms = ""
    seconds, microseconds = await open_stage.redis.time()

    _, expires_at_ms, _ = await open_stage.hold(open_stage.new_hold(), "acc_a", [3])

    assert 0 <= expires_at_ms - TTL_MS - (seconds * 1_000 + microseconds // 1_000) < 10_000
