"""Goal: however many showtimes there are, the reaper asks about those in which something can be due, and
still frees every hold when its time is over.

Method: the reaper's clock stands still and is moved by hand; what the server is asked is counted there. Each
reason to look again has its control: without it the hold would be left for a while.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from kernel.ids import new_hold_id, new_id
from reservation import Reaper
from reservation.due import ALONE_MAX_S
from tests.integration.reservation.conftest import TTL_MS, House

SHOWTIMES, ROUNDS, ROUND_S = 12, 10, 0.5


def reaper_of(house: House, *, hold_ttl_ms: int = TTL_MS) -> Reaper:
    platform = house.platform
    return Reaper(
        platform.inventory,
        platform.scripts,
        platform.rebuilder,
        platform.sales,
        house.clock,
        hold_ttl_ms=hold_ttl_ms,
    )


async def held(house: House, showtime_id: str, *, ttl_ms: int, seat: int = 0) -> None:
    await house.platform.inventory.hold(
        showtime_id, new_hold_id(showtime_id), new_id("acc"), [seat], ttl_ms=ttl_ms
    )


async def time_passes(house: House, seconds: float) -> None:
    """On the server, and on the reaper's clock."""
    await asyncio.sleep(seconds)
    house.clock.advance(timedelta(seconds=seconds))


async def looks_of(house: House) -> int:
    """How many commands about deadlines the server was ever asked."""
    stats = await house.redis.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("zrange", "evalsha"))


async def asked_by(house: House, reaper: Reaper, *, remembering: bool) -> int:
    """Commands of some rounds in a house where every showtime has a hold that will run for a while."""
    for _ in range(SHOWTIMES):
        await held(house, await house.showtime(), ttl_ms=TTL_MS)
    await reaper.sweep_all()
    before = await looks_of(house)
    for _ in range(ROUNDS):
        house.clock.advance(timedelta(seconds=ROUND_S))
        if not remembering:
            reaper._due.forget()
        assert await reaper.sweep_all() == 0
    return await looks_of(house) - before


async def test_a_quiet_house_costs_the_reaper_no_command_however_many_showtimes_it_has(house: House) -> None:
    assert ROUNDS * ROUND_S < ALONE_MAX_S
    assert await asked_by(house, reaper_of(house), remembering=True) == 0


async def test_without_a_memory_every_round_would_ask_about_every_showtime(house: House) -> None:
    assert await asked_by(house, reaper_of(house), remembering=False) == SHOWTIMES * ROUNDS


async def test_only_the_showtime_with_something_due_is_swept(house: House) -> None:
    reaper, showtimes = reaper_of(house), [await house.showtime() for _ in range(SHOWTIMES)]
    for showtime_id in showtimes:
        await held(house, showtime_id, ttl_ms=TTL_MS)
    await held(house, showtimes[3], ttl_ms=1, seat=5)
    await asyncio.sleep(0.005)
    before = await house.scripts_run()

    assert await reaper.sweep_all() == 1
    assert await house.scripts_run() - before == 1


async def test_a_hold_is_freed_at_its_deadline_though_nobody_looks_before_it(house: House) -> None:
    reaper, showtime_id = reaper_of(house), await house.showtime()
    await held(house, showtime_id, ttl_ms=1_500)
    assert await reaper.sweep_all() == 0
    before = await looks_of(house)
    house.clock.advance(timedelta(seconds=0.1))
    assert await reaper.sweep_all() == 0
    assert await looks_of(house) == before, "it is known that nothing can be due yet"

    await time_passes(house, 1.51)
    assert await reaper.sweep_all() == 1


async def test_holds_that_run_out_one_after_the_other_are_freed_one_after_the_other(house: House) -> None:
    reaper, showtime_id = reaper_of(house), await house.showtime()
    for seat, ttl_ms in enumerate((1, 250, 500)):
        await held(house, showtime_id, ttl_ms=ttl_ms, seat=2 * seat)
    freed = []
    for _ in range(3):
        await time_passes(house, 0.26)
        freed.append(await reaper.sweep_all())
    assert sum(freed) == 3
    assert freed[0] >= 1


async def _granted_after_a_look(house: House, reaper: Reaper, *, ttl_ms: int) -> int:
    """Freed right after the deadline of a hold in a showtime that was empty when it was looked at."""
    showtime_id = await house.showtime()
    assert await reaper.sweep_all() == 0
    await held(house, showtime_id, ttl_ms=ttl_ms)
    await time_passes(house, ttl_ms / 1_000 + 0.01)
    return await reaper.sweep_all()


async def test_a_hold_granted_after_the_look_is_freed_at_its_deadline_too(house: House) -> None:
    assert await _granted_after_a_look(house, reaper_of(house, hold_ttl_ms=200), ttl_ms=200) == 1


async def test_a_deadline_nobody_expects_is_found_when_a_showtime_was_alone_for_long_enough(
    house: House,
) -> None:
    """A shorter hold than is usual here, as of a worker with other settings: late, and not forgotten."""
    reaper = reaper_of(house)
    assert await _granted_after_a_look(house, reaper, ttl_ms=20) == 0

    house.clock.advance(timedelta(seconds=ALONE_MAX_S))
    assert await reaper.sweep_all() == 1


async def test_after_a_rebuild_by_somebody_else_every_showtime_is_looked_at(house: House) -> None:
    reaper, showtime_id = reaper_of(house), await house.showtime()
    assert await reaper.sweep_all() == 0
    await held(house, showtime_id, ttl_ms=300)
    await house.platform.rebuilder.rebuild("test")  # keeps the hold
    await asyncio.sleep(0.31)

    assert await reaper.sweep_all() == 1, "with the reaper's own clock where it was"


async def test_a_showtime_that_is_gone_is_forgotten(house: House) -> None:
    reaper = reaper_of(house)
    await house.showtime()
    await reaper.sweep_all()
    await house.redis.flushdb()
    await time_passes(house, 1.0)
    await reaper.sweep_all()

    assert reaper._due._look_at_s == {}
