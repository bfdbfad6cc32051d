"""Goal: what the reaper says of itself is what it did. Method: one round after something was there to do."""

from __future__ import annotations

import asyncio

from entrypoints.platform import Platform
from kernel.ids import new_hold_id, new_id
from tests.support.platform import RunningPlatform, platform, running

__all__ = ["platform", "running"]


def readings_of(platform: Platform) -> dict[str, float]:
    return {reading.name: reading.samples[0].value for reading in platform.reaper.readings()}


async def test_a_round_says_what_it_freed_and_that_the_gate_is_open(
    running: RunningPlatform, platform: Platform
) -> None:
    showtime_id = await running.add_showtime()
    before = readings_of(platform)
    assert before["reaper_gate_open"] == 0, "nobody has looked yet"
    for seat in range(3):
        await platform.inventory.hold(showtime_id, new_hold_id(showtime_id), new_id("acc"), [seat], ttl_ms=1)
    await asyncio.sleep(0.005)
    await platform.reaper.round()
    after = readings_of(platform)
    assert after["reaper_holds_freed"] == before["reaper_holds_freed"] + 3
    assert (after["reaper_gate_open"], after["reaper_rebuilds"]) == (1, before["reaper_rebuilds"])
    assert after["reaper_epoch"] == max(platform.scripts.epochs)


async def test_a_round_that_had_to_rebuild_says_so_and_names_the_new_epoch(
    running: RunningPlatform, platform: Platform
) -> None:
    await running.add_showtime()
    before = readings_of(platform)
    await running.redis.flushall()
    await platform.reaper.round()
    after = readings_of(platform)
    assert after["reaper_rebuilds"] == before["reaper_rebuilds"] + 1
    assert after["reaper_epoch"] == before["reaper_epoch"] + 1
