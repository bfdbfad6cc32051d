"""Goal: what cannot be done for one showtime, or one server, is left out of a reaper's round, and no more is.

Method: real engines, a reaper turned by hand, an expired hold on a sound showtime beside one that can be told
nothing: its map is gone, or memory is full. The control has such a sale end the round, as it did once.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from kernel.ids import partition_of
from reservation import keys_of, seats_in
from reservation.due import ALONE_MAX_S
from reservation.reaper import Reaper
from tests.integration.reservation.conftest import House
from tests.integration.reservation.test_due import held, reaper_of

LEFT = 3


async def _taken(house: House, showtime_id: str) -> list[int]:
    return seats_in(await house.redis.get(keys_of(showtime_id).taken) or b"")


async def _later(house: House, reaper: Reaper) -> int:
    """A round when everything has been alone for long enough to be looked at."""
    house.clock.advance(timedelta(seconds=ALONE_MAX_S + 1))
    return await reaper.round()


async def _paused_with_its_map_gone(house: House) -> tuple[str, str]:
    """A showtime that was lost behind an open gate and paused by who saw it, and one with an expired hold."""
    damaged, sound = await house.showtime(), await house.showtime()
    await held(house, sound, ttl_ms=1, seat=LEFT)
    await house.redis.delete(keys_of(damaged).showtime)
    with pytest.raises(InventoryRebuilding):
        await house.platform.sales.change_sale(damaged, phase="paused")
    return damaged, sound


async def test_a_showtime_that_is_paused_when_its_map_is_gone_is_made_anew_and_is_paused(
    house: House,
) -> None:
    damaged, sound = await _paused_with_its_map_gone(house)
    reaper = reaper_of(house)
    await _later(house, reaper)
    assert await _taken(house, sound) == [], "the others are swept all the same"
    await _later(house, reaper)
    assert (await house.platform.inventory.read_map(damaged)).phase == "paused"


async def test_were_the_round_to_end_with_it_nobody_would_ever_be_swept_or_mended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sound = await _paused_with_its_map_gone(house)
    reaper, platform = reaper_of(house), house.platform

    async def all_or_nothing() -> int:
        await platform.sales._tell(await platform.reservation_store.unopened_sales())
        return 0

    monkeypatch.setattr(platform.sales, "open_behind", all_or_nothing)
    for _ in range(3):
        with pytest.raises(InventoryRebuilding):
            await _later(house, reaper)
    assert await _taken(house, sound) == [LEFT]


async def test_a_sale_that_is_paused_with_memory_full_keeps_no_seat_taken(house: House) -> None:
    paused, sound = await house.showtime(), await house.showtime()
    await held(house, sound, ttl_ms=1, seat=LEFT)
    await house.redis.config_set("maxmemory", 1)
    try:
        with suppress(Overloaded):
            await house.platform.sales.change_sale(paused, phase="paused")
        assert await _later(house, reaper_of(house)) == 1
        assert await _taken(house, sound) == []
    finally:
        await house.redis.config_set("maxmemory", 0)
    await _later(house, reaper_of(house))
    assert (await house.platform.inventory.read_map(paused)).phase == "paused"


async def test_of_many_untold_sales_those_that_can_be_are_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = house.platform
    away, there = await house.showtime(), [await house.showtime() for _ in range(3)]
    await platform.reservation_store.pause_open_sales([away, *there])
    open_showtime = platform.inventory.open_showtime

    async def but_for_one(terms: Any) -> int:
        if terms.showtime_id == away:
            raise SeatsUnavailable
        return await open_showtime(terms)

    monkeypatch.setattr(platform.inventory, "open_showtime", but_for_one)
    assert await platform.sales.open_behind() == len(there)
    assert [sale.showtime_id for sale in await platform.reservation_store.unopened_sales()] == [away]


async def test_where_the_gate_of_one_server_cannot_be_opened_the_others_are_swept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = await house.showtime()
    await held(house, sound, ttl_ms=1, seat=LEFT)
    shut = next(p for p in range(64) if p != partition_of(sound))
    await house.redis.delete(f"rsv:{{p{shut:02d}}}:epoch")

    async def full(*_: Any, **__: Any) -> Any:
        raise Overloaded

    monkeypatch.setattr("reservation.rebuild.restore_all", full)
    assert await _later(house, reaper_of(house)) == 1
    assert await _taken(house, sound) == []
