"""Goal: looking at a seat map, and wanting seats that are gone, cost the seat store nothing.

Method: workers of one platform on a real server. Their clocks stand still and nothing is read in the
background, so a picture stays young until a test lets time pass, and every script the server counts was
asked for in the test. Rules that make the refusals true are taken away one by one: each control shows
the fan who would have been wronged.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kernel import limits
from kernel.clock import to_ms
from kernel.errors import (
    IdempotencyKeyReused,
    InventoryRebuilding,
    Overloaded,
    SeatRushError,
    SeatsUnavailable,
)
from kernel.ids import new_hold_id, new_id
from reservation import Layout, RedisInventory, SaleStatusService, errors, refusals
from reservation.domain import Area, Seat, Segment
from reservation.live import GLANCE_S, READS_PER_S_MAX, STALE_S, TICK_S, TICK_S_MAX
from reservation.packing import count_seats
from reservation.picking import BestAvailable
from reservation.ports import SeatMap
from reservation.replica import YOUNG_S, Replica
from reservation.service import Hold
from tests.integration.reservation.conftest import House, Worker
from tests.support.inventories import make_forget
from tests.support.shop import until

CROWD = 1_000


async def _refusals(worker: Worker, showtime_id: str, *labels: str) -> set[type[SeatRushError]]:
    """What a crowd is told that wants these seats."""
    told = await asyncio.gather(
        *(worker.hold(showtime_id, *labels) for _ in range(CROWD)), return_exceptions=True
    )
    return {type(one) for one in told}  # type: ignore[misc]


async def _gone(house: House, worker: Worker, **terms: Any) -> str:
    """A showtime whose seats A1 and A2 are held, known to the worker."""
    showtime_id = await house.showtime(**terms)
    await worker.hold(showtime_id, "A1", "A2")
    worker.maps.replica(showtime_id).want_hold_ids()
    await worker.maps.tick()
    return showtime_id


def row(areas: str) -> Layout:
    """One row; each letter is the area of a seat."""
    seats = tuple(
        Seat(place, f"1-{place + 1}", "1", str(place + 1), float(place), 0.0, area)
        for place, area in enumerate(areas)
    )
    named = tuple(Area(area, area) for area in sorted(set(areas)))
    return Layout("row", seats, named, (Segment(0, len(seats), "1"),), (len(seats) / 2, 0.0))


# What is free of charge.


async def test_a_thousand_looks_at_a_watched_map_ask_nothing(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    before = await house.scripts_run()

    pictures = [await worker.maps.current(showtime_id) for _ in range(CROWD)]

    assert await house.scripts_run() == before
    assert len({id(picture.encoded) for picture in pictures}) == 1, "rendered once for everybody"


async def test_a_thousand_reads_over_http_ask_nothing_whether_the_map_is_news_or_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = await house.showtime()
    maps = house.platform.maps
    monkeypatch.setattr(maps, "_winds_itself", False)
    monkeypatch.setattr(maps, "_clock", house.clock)
    path = f"/showtimes/{showtime_id}/seats"
    first = await house.running.request("GET", path)
    assert first.status == 200, first.body
    etag = first.headers["Etag"]
    before = await house.scripts_run()

    for start in range(0, CROWD, 50):
        known = {"If-None-Match": etag} if start % 100 else {}
        answers = await asyncio.gather(
            *(house.running.request("GET", path, headers=known) for _ in range(50))
        )
        assert {answer.status for answer in answers} == {304 if known else 200}

    assert await house.scripts_run() == before


async def test_a_thousand_holds_of_seats_that_are_gone_ask_nothing(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    before = await house.scripts_run()

    assert await _refusals(worker, showtime_id, "A1", "A2") == {errors.SeatTaken}
    assert await _refusals(worker, showtime_id, "A2", "A3") == {errors.SeatTaken}

    assert await house.scripts_run() == before


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"opens_at": datetime(2100, 1, 1, tzinfo=UTC)}, errors.SaleNotOpen),
        ({"closes_at": datetime.now(UTC) - timedelta(hours=1)}, errors.SaleClosed),
        ({"phase": "paused"}, errors.SaleNotOpen),
    ],
)
async def test_a_crowd_before_the_opening_or_after_the_closing_asks_nothing(
    house: House, terms: dict[str, Any], told: type[SeatRushError]
) -> None:
    worker = house.worker()
    showtime_id = await house.showtime()
    await house.platform.sales.change_sale(showtime_id, **terms)
    worker.maps.replica(showtime_id).want_hold_ids()
    await worker.maps.tick()
    before = await house.scripts_run()

    assert await _refusals(worker, showtime_id, "A1") == {told}
    with pytest.raises(told):
        await worker.service.hold_best(new_id("acc"), showtime_id, BestAvailable(2), "key")

    assert await house.scripts_run() == before


async def test_a_crowd_that_wants_any_seats_of_a_sold_out_hall_asks_nothing(house: House) -> None:
    worker = house.worker()
    showtime_id = await house.showtime(seats_per_buyer=1_000)
    labels = [f"{row}{number}" for row in "ABCDEFGH" for number in (1, 2, 3, 5, 6, 7, 8, 10, 11, 12)]
    for start in range(0, len(labels), limits.seats_per_hold_max):
        await worker.hold(showtime_id, *labels[start : start + limits.seats_per_hold_max])
    worker.maps.replica(showtime_id).want_hold_ids()
    await worker.maps.tick()
    before = await house.scripts_run()

    for number in range(CROWD):
        with pytest.raises(errors.SoldOut):
            await worker.service.hold_best(new_id("acc"), showtime_id, BestAvailable(1 + number % 3), "key")
    assert await _refusals(worker, showtime_id, "A1") == {errors.SoldOut}

    assert await house.scripts_run() == before


async def test_a_hold_that_may_be_had_is_one_script_call_and_no_more(house: House) -> None:
    worker = house.worker()
    showtime_id = await house.showtime()
    before = await house.scripts_run()

    await worker.hold(showtime_id, "A1")  # nothing is known here yet
    await worker.maps.current(showtime_id)
    await house.time_passes(2 * YOUNG_S)
    await worker.hold(showtime_id, "A2")  # what is known is old
    await worker.maps.tick()
    await worker.hold(showtime_id, "A3")  # what is known is young

    reads = 2
    assert await house.scripts_run() == before + 3 + reads


async def test_of_a_herd_at_a_map_nobody_knows_one_asks_and_all_others_wait_for_the_map(house: House) -> None:
    theirs, ours = house.worker(), house.worker()
    showtime_id = await house.showtime()
    await theirs.hold(showtime_id, "A1")
    before = await house.scripts_run()

    assert await _refusals(ours, showtime_id, "A1") == {errors.SeatTaken}

    assert await house.scripts_run() == before + 2


async def test_of_a_crowd_at_a_free_seat_one_asks_and_the_others_wait_for_his_answer(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    before = await house.scripts_run()

    told = await asyncio.gather(
        *(worker.hold(showtime_id, "D5", "D6") for _ in range(CROWD)), return_exceptions=True
    )

    assert sum(isinstance(one, Hold) for one in told) == 1
    assert {type(one) for one in told} == {Hold, errors.SeatTaken}
    assert await house.scripts_run() == before + 1


async def test_who_waited_for_somebody_who_was_refused_asks_for_himself(house: House) -> None:
    worker, greedy = house.worker(), new_id("acc")
    showtime_id = await _gone(house, worker, seats_per_buyer=2)
    await worker.hold(showtime_id, "B1", "B2", fan=greedy)

    refused, granted = await asyncio.gather(
        worker.hold(showtime_id, "D5", fan=greedy, key="more"),
        worker.hold(showtime_id, "D5"),
        return_exceptions=True,
    )

    assert isinstance(refused, errors.SeatLimitExceeded)
    assert isinstance(granted, Hold)


async def test_who_waits_for_somebody_who_gives_up_is_not_given_up_with_him(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    first = asyncio.create_task(worker.hold(showtime_id, "D5"))
    second = asyncio.create_task(worker.hold(showtime_id, "D5"))
    third = asyncio.create_task(worker.hold(showtime_id, "D5"))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()

    ended = await asyncio.gather(first, second, third, return_exceptions=True)

    assert isinstance(ended[0], asyncio.CancelledError)
    assert isinstance(ended[1], asyncio.CancelledError)
    assert isinstance(ended[2], Hold | errors.SeatTaken)


async def test_whoever_comes_first_after_a_pause_shares_one_read_with_all_the_others(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    await house.time_passes(2 * YOUNG_S)
    before = await house.scripts_run()

    await asyncio.gather(*(worker.maps.current(showtime_id) for _ in range(CROWD)))
    assert await house.scripts_run() == before + 1
    await house.time_passes(2 * YOUNG_S)
    assert await _refusals(worker, showtime_id, "A1") == {errors.SeatTaken}
    assert await house.scripts_run() == before + 2


async def test_a_map_nobody_asks_for_is_not_read(house: House) -> None:
    worker = house.worker()
    await _gone(house, worker)
    before = await house.scripts_run()

    for _ in range(10):
        await house.time_passes(TICK_S)
        await worker.maps.tick()

    assert await house.scripts_run() == before


async def test_a_list_is_content_with_an_older_picture_and_keeps_no_map_watched(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    before = await house.scripts_run()
    await house.time_passes(GLANCE_S)
    await worker.maps.glance(showtime_id)
    await worker.maps.tick()
    assert await house.scripts_run() == before

    await house.time_passes(0.001)
    await worker.maps.glance(showtime_id)
    assert await house.scripts_run() == before + 1


async def test_with_very_many_maps_the_tick_is_stretched_and_never_beyond_half_a_second(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = house.worker()
    monkeypatch.setattr("reservation.live.READS_PER_S_MAX", 20)
    for count, tick_s in [(0, TICK_S), (1, 0.05), (4, 0.2), (12, TICK_S_MAX)]:
        for _ in range(count):
            worker.maps.replica(await house.showtime())
        await worker.maps.tick()
        assert worker.maps._tick_s == tick_s
    assert READS_PER_S_MAX * TICK_S > 1


async def test_losers_of_the_same_seats_are_told_what_was_worked_out_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out: list[Any] = []
    explain = refusals.explain

    def noted(*given: Any) -> SeatRushError:
        worked_out.append(given)
        return explain(*given)

    monkeypatch.setattr(refusals, "explain", noted)
    worker = house.worker()
    showtime_id = await _gone(house, worker)

    with pytest.raises(errors.SeatTaken) as first:
        await worker.hold(showtime_id, "A1", "A2")
    await _refusals(worker, showtime_id, "A1", "A2")
    assert len(worked_out) == 1

    await worker.hold(showtime_id, "H1")  # far away from anything that was offered
    await _refusals(worker, showtime_id, "A1", "A2")
    assert len(worked_out) == 1

    offered = first.value.facts["alternatives"][0]["seats"]
    await worker.hold(showtime_id, *offered)
    with pytest.raises(errors.SeatTaken) as second:
        await worker.hold(showtime_id, "A1", "A2")
    assert len(worked_out) == 2
    again = {label for offer in second.value.facts["alternatives"] for label in offer["seats"]}
    assert again.isdisjoint(offered), "what is offered is free"


# What this worker does is seen at once.


async def test_own_holds_are_on_the_map_at_once_and_without_a_read(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    before = await house.scripts_run()

    for number in range(1, 4):
        await worker.hold(showtime_id, f"B{number}")
        assert await worker.taken(showtime_id) == 2 + number

    assert await house.scripts_run() == before + 3


async def test_an_own_release_is_on_the_map_at_once_and_its_seats_can_be_had(house: House) -> None:
    worker, fan = house.worker(), new_id("acc")
    showtime_id = await _gone(house, worker)
    hold = await worker.hold(showtime_id, "B1", fan=fan)
    await worker.service.release(fan, hold.hold_id)

    assert await worker.taken(showtime_id) == 2
    await worker.hold(showtime_id, "B1")


async def test_after_somebody_elses_hold_an_own_one_makes_the_next_look_a_read(house: House) -> None:
    ours, theirs = house.worker(), house.worker()
    showtime_id = await _gone(house, ours)
    await theirs.hold(showtime_id, "B1")
    await ours.hold(showtime_id, "B2")
    before = await house.scripts_run()

    assert await ours.taken(showtime_id) == 4
    assert await ours.taken(showtime_id) == 4
    assert await house.scripts_run() == before + 1


# What others do is seen within a tick.


async def test_two_workers_see_the_same_map_after_a_tick(house: House) -> None:
    workers = [house.worker(), house.worker()]
    showtime_id = await house.showtime()
    for worker in workers:
        await worker.maps.current(showtime_id)
    for number, worker in enumerate(workers * 5):
        await worker.hold(showtime_id, f"{'ABCDEFGH'[number % 8]}{1 + number // 8}")

    for worker in workers:
        worker.maps.replica(showtime_id)
        await worker.maps.tick()

    ours, theirs = [await worker.maps.current(showtime_id) for worker in workers]
    assert ours == theirs
    assert ours.seat_count - ours.seats_left == 10


async def test_a_release_through_another_worker_is_refused_for_a_tick_at_most(house: House) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await house.showtime()
    hold = await theirs.hold(showtime_id, "A1", fan=fan)
    ours.maps.replica(showtime_id).want_hold_ids()
    await ours.maps.tick()
    await theirs.service.release(fan, hold.hold_id)

    with pytest.raises(errors.SeatTaken):
        await ours.hold(showtime_id, "A1")
    await ours.maps.tick()
    await ours.hold(showtime_id, "A1")


async def test_a_seat_free_for_longer_than_a_picture_stays_young_is_never_refused(house: House) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await house.showtime()
    hold = await theirs.hold(showtime_id, "A1", fan=fan)
    ours.maps.replica(showtime_id).want_hold_ids()
    await ours.maps.tick()
    await theirs.service.release(fan, hold.hold_id)

    await house.time_passes(YOUNG_S + 0.001)  # no tick: the refusal itself looks first
    await ours.hold(showtime_id, "A1")


# Holds that have run out.


async def _run_out(house: House, worker: Worker) -> str:
    """A showtime whose seat A1 is held by a hold past its time, with nobody to reap it."""
    showtime_id = await house.showtime()
    hold_id = f"hld_{showtime_id[4:]}0000000000000000"
    await worker.inventory.hold(
        showtime_id, hold_id, new_id("acc"), [await _index(house, showtime_id, "A1")], ttl_ms=0
    )
    worker.maps.replica(showtime_id).want_hold_ids()
    await worker.maps.current(showtime_id)
    return showtime_id


async def _index(house: House, showtime_id: str, label: str) -> int:
    return (await house.platform.halls.showtime(showtime_id)).hall.layout.index_of[label]


async def test_a_hold_past_its_time_is_no_reason_to_refuse_even_if_nobody_reaps(house: House) -> None:
    worker = house.worker()
    showtime_id = await _run_out(house, worker)
    assert await worker.taken(showtime_id) == 1, "it still looks taken"

    await worker.hold(showtime_id, "A1")


async def test_without_a_look_at_the_deadline_it_would_be_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = house.worker()
    monkeypatch.setattr(Replica, "_reckon_due", lambda *_: None)
    showtime_id = await _run_out(house, worker)

    with pytest.raises(errors.SeatTaken):
        await worker.hold(showtime_id, "A1")


async def test_the_next_tick_frees_what_is_past_its_time(house: House) -> None:
    worker = house.worker()
    showtime_id = await _run_out(house, worker)
    await worker.maps.tick()  # asked for by whoever looked
    worker.maps.replica(showtime_id)
    await worker.maps.tick()

    assert await worker.taken(showtime_id) == 0


async def test_the_best_seats_may_be_those_of_a_hold_past_its_time(house: House) -> None:
    worker = house.worker()
    showtime_id = await _run_out(house, worker)
    layout = (await house.platform.halls.showtime(showtime_id)).hall.layout
    await worker.inventory.block(showtime_id, [seat.index for seat in layout.seats if seat.label != "A1"])
    await worker.maps.look(worker.maps.replica(showtime_id))

    hold = await worker.service.hold_best(new_id("acc"), showtime_id, BestAvailable(1), "key")

    assert [layout.seats[seat].label for seat in hold.seats] == ["A1"]


async def test_however_many_holds_are_past_their_time_the_one_that_is_wanted_comes_free(house: House) -> None:
    worker = house.worker()
    many = limits.sweep_batch_max + limits.sweep_batch_max // 2
    showtime_id = await house.showtime(layout=row("A" * many + "B"))
    now_ms = to_ms(datetime.now(UTC))
    for seat in range(many + 1):
        long_ago_ms = now_ms - 1_000 * (many + 1 - seat)  # the wanted one ended last
        await worker.inventory.hold(
            showtime_id, new_hold_id(showtime_id), new_id("acc"), [seat], ttl_ms=0, now_ms=long_ago_ms
        )

    hold = await worker.service.hold_best(new_id("acc"), showtime_id, BestAvailable(1, "B"), "key")

    assert hold.seats == (many,)


# Repeats.


async def test_a_repeat_whose_answer_was_lost_gets_its_hold_through_any_worker(house: House) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await _gone(house, ours)
    granted = await theirs.hold(showtime_id, "B1", fan=fan, key="once")
    ours.maps.replica(showtime_id)
    await ours.maps.tick()

    again = await ours.hold(showtime_id, "B1", fan=fan, key="once")
    assert again == msgspec.structs.replace(granted, fresh=False)
    with pytest.raises(errors.SeatTaken):
        await ours.hold(showtime_id, "B1", fan=fan, key="another")


async def test_without_the_ids_of_holds_the_repeat_would_be_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_map = RedisInventory.read_map

    async def without_ids(self: RedisInventory, showtime_id: str, **asked: Any) -> SeatMap:
        return replace(await read_map(self, showtime_id, **asked), hold_ids=())

    monkeypatch.setattr(RedisInventory, "read_map", without_ids)
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await _gone(house, ours)
    await theirs.hold(showtime_id, "B1", fan=fan, key="once")
    ours.maps.replica(showtime_id)
    await ours.maps.tick()

    with pytest.raises(errors.SeatTaken):
        await ours.hold(showtime_id, "B1", fan=fan, key="once")


async def test_a_repeated_wish_for_any_seats_gets_its_hold_in_a_hall_that_sold_out_meanwhile(
    house: House,
) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await house.showtime()
    granted = await theirs.service.hold_best(fan, showtime_id, BestAvailable(2), "once")
    layout = (await house.platform.halls.showtime(showtime_id)).hall.layout
    rest = [seat.index for seat in layout.seats if seat.index not in granted.seats]
    await theirs.inventory.block(showtime_id, rest)
    await ours.maps.current(showtime_id)

    again = await ours.service.hold_best(fan, showtime_id, BestAvailable(2), "once")
    assert again == msgspec.structs.replace(granted, fresh=False)


async def test_a_repeated_wish_for_any_seats_is_known_as_one_where_others_could_be_had(house: House) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await house.showtime()
    granted = await theirs.service.hold_best(fan, showtime_id, BestAvailable(2), "once")

    again = await ours.service.hold_best(fan, showtime_id, BestAvailable(2), "once")
    assert again == msgspec.structs.replace(granted, fresh=False)


async def test_a_repeat_that_has_seats_past_their_time_freed_knows_its_hold_when_it_has_them(
    house: House,
) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await _run_out(house, ours)
    layout = (await house.platform.halls.showtime(showtime_id)).hall.layout
    await ours.inventory.block(showtime_id, [seat.index for seat in layout.seats if seat.label != "A1"])
    await ours.maps.look(ours.maps.replica(showtime_id))
    granted = await theirs.service.hold_best(fan, showtime_id, BestAvailable(1), "once")

    again = await ours.service.hold_best(fan, showtime_id, BestAvailable(1), "once")
    assert again == msgspec.structs.replace(granted, fresh=False)
    with pytest.raises(errors.SoldOut):
        await ours.service.hold_best(fan, showtime_id, BestAvailable(1), "another")


@pytest.mark.parametrize("wish", [BestAvailable(4), BestAvailable(1), BestAvailable(2, "B")])
@pytest.mark.parametrize("is_sold_out", [False, True])
async def test_another_wish_with_the_same_key_is_refused_by_every_worker(
    house: House, wish: BestAvailable, is_sold_out: bool
) -> None:
    ours, theirs, fan = house.worker(), house.worker(), new_id("acc")
    showtime_id = await house.showtime(layout=row("A" * 8 + "B" * 8))
    granted = await theirs.service.hold_best(fan, showtime_id, BestAvailable(2, "A"), "once")
    if is_sold_out:
        await theirs.inventory.block(showtime_id, [seat for seat in range(16) if seat not in granted.seats])
    ours.maps.replica(showtime_id).want_hold_ids()
    await ours.maps.tick()

    with pytest.raises(IdempotencyKeyReused):
        await ours.service.hold_best(fan, showtime_id, wish, "once")


# When the seat store is away or fenced off.


async def test_a_fenced_store_is_not_spoken_for(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    await make_forget(house.platform.scripts)
    await house.time_passes(YOUNG_S + 0.001)

    with pytest.raises(InventoryRebuilding):
        await worker.hold(showtime_id, "A1")
    assert await worker.taken(showtime_id) == 2, "looking is not holding"
    await house.time_passes(STALE_S)
    with pytest.raises(InventoryRebuilding):
        await worker.maps.current(showtime_id)


async def _away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can read a seat map any more, and has not for twenty seconds."""

    async def read_map(self: RedisInventory, showtime_id: str, **asked: Any) -> SeatMap:
        raise SeatsUnavailable

    monkeypatch.setattr(RedisInventory, "read_map", read_map)
    await house.time_passes(STALE_S * 2 / 3)


async def _fenced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild has begun twenty seconds ago."""
    await make_forget(house.platform.scripts)
    await house.time_passes(STALE_S * 2 / 3)


@pytest.mark.parametrize(("happens", "told"), [(_away, SeatsUnavailable), (_fenced, InventoryRebuilding)])
async def test_that_nothing_is_left_is_said_only_while_the_store_can_be_asked(
    house: House, monkeypatch: pytest.MonkeyPatch, happens: Any, told: type[SeatRushError]
) -> None:
    worker = house.worker()
    showtime_id = await house.showtime()
    await worker.inventory.block(showtime_id, range(80))
    with pytest.raises(errors.SoldOut):
        await worker.service.hold_best(new_id("acc"), showtime_id, BestAvailable(2), "key")

    await happens(house, monkeypatch)

    assert await worker.taken(showtime_id) == 80, "looking is not holding"
    for count in (2, 3):
        with pytest.raises(told):
            await worker.service.hold_best(new_id("acc"), showtime_id, BestAvailable(count), "key")


@pytest.mark.parametrize(("happens", "told"), [(_away, SeatsUnavailable), (_fenced, InventoryRebuilding)])
async def test_a_single_seat_is_not_judged_on_a_picture_from_before_the_store_went_away(
    house: House, monkeypatch: pytest.MonkeyPatch, happens: Any, told: type[SeatRushError]
) -> None:
    worker = house.worker()
    showtime_id = await house.showtime(layout=row("AAAABBBB"), orphan_rule="lenient")
    with pytest.raises(errors.OrphanSeat):
        await worker.hold(showtime_id, "1-2")

    await happens(house, monkeypatch)

    with pytest.raises(told):
        await worker.hold(showtime_id, "1-2")


@pytest.mark.parametrize("trouble", [SeatsUnavailable, InventoryRebuilding, Overloaded])
async def test_a_list_is_shown_without_numbers_whatever_keeps_the_store_from_answering(
    house: House, monkeypatch: pytest.MonkeyPatch, trouble: type[SeatRushError]
) -> None:
    worker = house.worker()
    read, unread = await _gone(house, worker), await house.showtime()
    read_map = RedisInventory.read_map

    async def read_some(self: RedisInventory, showtime_id: str, **asked: Any) -> SeatMap:
        if showtime_id == unread:
            raise trouble
        return await read_map(self, showtime_id, **asked)

    monkeypatch.setattr(RedisInventory, "read_map", read_some)
    status = SaleStatusService(house.platform.reservation_store, worker.maps, house.clock)

    views = await status.views_of([read, unread])

    assert views[read].seats_left == 78
    assert views[unread].seats_left is None


async def test_after_a_rebuild_the_map_is_of_the_new_epoch_at_once(house: House) -> None:
    worker = house.worker()
    showtime_id = await _gone(house, worker)
    old = await worker.maps.current(showtime_id)

    await house.platform.rebuilder.rebuild("test")

    new = await worker.maps.current(showtime_id)
    assert (new.epoch, new.taken) == (old.epoch + 1, old.taken)
    with pytest.raises(errors.SeatTaken):
        await worker.hold(showtime_id, "A1")


async def test_a_seat_is_spoken_of_before_the_limit(house: House) -> None:
    """The one difference to the script, which would speak of the limit; both are reasons, both are true."""
    worker, fan = house.worker(), new_id("acc")
    showtime_id = await _gone(house, worker, seats_per_buyer=2)
    await worker.hold(showtime_id, "B1", "B2", fan=fan)

    with pytest.raises(errors.SeatTaken):
        await worker.hold(showtime_id, "A1", fan=fan, key="second")
    with pytest.raises(errors.SeatLimitExceeded):
        await worker.hold(showtime_id, "B3", fan=fan, key="third")


async def test_left_to_itself_it_keeps_what_is_asked_for_young_and_then_rests(house: House) -> None:
    platform = house.platform
    showtime_id = await house.showtime()
    maps = platform.maps
    await maps.current(showtime_id)
    await platform.inventory.block(showtime_id, [0])

    async def has_seen_it() -> bool:
        return maps.replica(showtime_id).version == 2

    async def rests() -> bool:
        return maps._timer is None

    await until(has_seen_it)
    await until(rests)


# Sales.


async def test_whoever_looks_after_a_sale_made_here_sees_it(house: House) -> None:
    worker, fan = house.worker(), new_id("acc")
    showtime_id = await house.showtime()
    hold = await worker.hold(showtime_id, "A1", fan=fan)
    assert count_seats((await worker.maps.current(showtime_id)).sold) == 0
    worker.inventory.sold = worker.maps.sold_here
    pay_by_ms = to_ms(datetime.now(UTC)) + 60_000
    await worker.inventory.claim(hold.hold_id, fan, seats=hold.seats, pay_by_ms=pay_by_ms, entry=b"-")
    assert count_seats((await worker.maps.current(showtime_id)).sold) == 1


async def test_without_being_told_the_picture_would_be_a_moment_old(house: House) -> None:
    """The control: it is young, so it is shown."""
    worker, fan = house.worker(), new_id("acc")
    showtime_id = await house.showtime()
    hold = await worker.hold(showtime_id, "A1", fan=fan)
    await worker.maps.current(showtime_id)
    pay_by_ms = to_ms(datetime.now(UTC)) + 60_000
    await worker.inventory.claim(hold.hold_id, fan, seats=hold.seats, pay_by_ms=pay_by_ms, entry=b"-")
    assert count_seats((await worker.maps.current(showtime_id)).sold) == 0
