"""Goal: a seat map that is gone behind an open gate sells nothing, and is made anew without anybody's hands.

Method: a key of one showtime is deleted on a real server while others go on. Fans are refused there, the
reaper finds it when it next looks at that showtime, and afterwards everything that was sold or held is as it
was. The control is a reaper that sees deadlines only: it never finds it.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from kernel.errors import InventoryRebuilding
from kernel.ids import new_hold_id, new_id, partition_of
from reservation import keys_of, seats_in
from reservation.due import ALONE_MAX_S, DueShowtimes
from tests.integration.reservation.conftest import TTL_MS, House
from tests.integration.reservation.test_due import held, reaper_of

HELD = 7


async def _taken(house: House, showtime_id: str) -> list[int]:
    return seats_in((await house.platform.inventory.read_map(showtime_id)).taken or b"")


async def _lost(house: House, key: str) -> tuple[str, str]:
    """Two showtimes with a hold in each; of the first one a key is gone."""
    damaged, sound = await house.showtime(), await house.showtime()
    for showtime_id in (damaged, sound):
        await held(house, showtime_id, ttl_ms=TTL_MS, seat=HELD)
    await house.redis.delete(getattr(keys_of(damaged), key))
    return damaged, sound


@pytest.mark.parametrize(("key", "holds_left"), [("taken", [HELD]), ("sold", [HELD]), ("showtime", [])])
async def test_a_map_that_is_gone_is_made_anew_by_the_reaper(
    house: House, key: str, holds_left: list[int]
) -> None:
    """A hold is in the showtime's hash: with that one it is gone, and its owner is told so."""
    reaper, epoch = reaper_of(house), sum(house.platform.scripts.epochs)
    damaged, sound = await _lost(house, key)
    with pytest.raises(InventoryRebuilding):
        await _taken(house, damaged)
    assert await _taken(house, sound) == [HELD]

    await reaper.round()

    assert sum(house.platform.scripts.epochs) == epoch + 1
    assert await _taken(house, damaged) == holds_left
    assert await _taken(house, sound) == [HELD]
    await reaper.round()
    assert sum(house.platform.scripts.epochs) == epoch + 1, "once is enough"


async def test_one_that_is_lost_after_the_look_is_found_when_it_was_alone_for_long_enough(
    house: House,
) -> None:
    reaper, epoch = reaper_of(house), sum(house.platform.scripts.epochs)
    showtime_id = await house.showtime()
    await reaper.round()
    await house.redis.delete(keys_of(showtime_id).taken)
    await reaper.round()
    assert sum(house.platform.scripts.epochs) == epoch, "it is left alone"

    house.clock.advance(timedelta(seconds=ALONE_MAX_S))
    await reaper.round()

    assert sum(house.platform.scripts.epochs) == epoch + 1
    assert await _taken(house, showtime_id) == []


async def test_of_two_reapers_that_find_it_one_makes_it_anew(house: House) -> None:
    epoch = sum(house.platform.scripts.epochs)
    damaged, _ = await _lost(house, "taken")
    late = DueShowtimes(house.platform.scripts, house.clock, hold_ttl_ms=TTL_MS)
    assert await late.among([damaged]) == []
    assert late.damaged == [damaged]
    await reaper_of(house).round()

    rebuilt = await house.platform.rebuilder.rebuild_unless(
        {partition_of(damaged)}, lambda: late.are_whole([damaged]), "test"
    )

    assert rebuilt is None
    assert sum(house.platform.scripts.epochs) == epoch + 1


async def test_without_a_look_at_the_map_nobody_would_find_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reaper, epoch = reaper_of(house), sum(house.platform.scripts.epochs)
    damaged, _ = await _lost(house, "taken")

    async def deadlines_only(showtime_ids: list[str]) -> list[str]:
        return []

    monkeypatch.setattr(reaper._due, "among", deadlines_only)
    for _ in range(3):
        house.clock.advance(timedelta(seconds=ALONE_MAX_S))
        await reaper.round()

    assert sum(house.platform.scripts.epochs) == epoch
    with pytest.raises(InventoryRebuilding):
        await house.platform.inventory.hold(damaged, new_hold_id(damaged), new_id("acc"), [1], ttl_ms=TTL_MS)
