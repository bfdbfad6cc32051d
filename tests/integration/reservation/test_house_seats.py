"""Goal: seats the house keeps are on public sale again all or none, in Redis and in PostgreSQL alike.

Method: a platform on real engines. The control lets PostgreSQL give up what Redis then refuses, as it was
before somebody looked first; a rebuild shows what came of it.
"""

from __future__ import annotations

import pytest

from entrypoints.platform import Platform
from reservation import seats_in
from reservation.errors import SeatNotBlocked
from tests.integration.reservation.conftest import House


async def _kept_off(platform: Platform, showtime_id: str) -> tuple[list[int], list[int]]:
    """By PostgreSQL, and by Redis as it is made anew from that."""
    kept = (await platform.reservation_store.all_blocked()).get(showtime_id, [])
    await platform.rebuilder.rebuild("test")
    return kept, seats_in((await platform.inventory.read_map(showtime_id)).taken or b"")


async def _unblock_one_that_is_and_one_that_is_not(house: House) -> tuple[list[int], list[int]]:
    platform, showtime_id = house.platform, await house.showtime()
    await platform.sales.block(showtime_id, ["A1"])
    with pytest.raises(SeatNotBlocked):
        await platform.sales.unblock(showtime_id, ["A1", "A2"])
    return await _kept_off(platform, showtime_id)


async def test_an_unblocking_that_is_refused_changes_nothing(house: House) -> None:
    assert await _unblock_one_that_is_and_one_that_is_not(house) == ([0], [0])


async def test_without_a_look_first_a_seat_the_house_keeps_would_be_sold_after_the_next_rebuild(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_them(showtime_id: str) -> frozenset[int]:
        return frozenset({0, 1})

    monkeypatch.setattr(house.platform.inventory, "blocked_seats", all_of_them)
    assert await _unblock_one_that_is_and_one_that_is_not(house) == ([], [])


async def test_a_blocking_a_crash_cut_in_two_can_be_undone(house: House) -> None:
    """Redis keeps the seat, PostgreSQL never heard of it."""
    platform, showtime_id = house.platform, await house.showtime()
    await platform.inventory.block(showtime_id, [0])
    await platform.sales.unblock(showtime_id, ["A1"])
    assert await _kept_off(platform, showtime_id) == ([], [])


async def test_an_unblocking_a_crash_cut_in_two_can_be_repeated(house: House) -> None:
    """PostgreSQL gave the seat up, Redis did not hear of it."""
    platform, showtime_id = house.platform, await house.showtime()
    await platform.sales.block(showtime_id, ["A1"])
    await platform.reservation_store.drop_blocked(showtime_id, [0])
    await platform.sales.unblock(showtime_id, ["A1"])
    assert seats_in((await platform.inventory.read_map(showtime_id)).taken or b"") == []
