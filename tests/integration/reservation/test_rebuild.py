"""Goal: what a seller decides while the seat maps are made anew, or while another seller decides, holds.

Method: a platform on real engines and no role but those a test asks to go a round. The moment in between is
reached from inside: the rebuild asks who owns what, or a seller tells Redis, and there the other one acts.
Each control takes the guard away and shows the decision lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from entrypoints.platform import Platform, platform_for
from entrypoints.selling import add_showtime
from kernel.errors import InventoryRebuilding, PersistenceUnavailable
from kernel.ids import new_hold_id, new_id, new_showtime_id
from reservation import OwnersOf, import_layout, keys_of, store
from reservation.due import ALONE_MAX_S
from reservation.packing import seats_in
from reservation.ports import Phase, Terms
from reservation.store import RebuildLock, Sale
from tests.integration.reservation.conftest import House
from tests.integration.reservation.test_due import reaper_of
from tests.support.inventories import teach
from tests.support.shop import until


def _while_rebuilding(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]
) -> None:
    """Have `act` done when the rebuild has read what is on sale, and has restored nothing yet."""
    owners = platform.rebuilder._owners

    async def asked(epochs: Mapping[int, int]) -> OwnersOf:
        await act()
        return await owners(epochs)

    monkeypatch.setattr(platform.rebuilder, "_owners", asked)


def _while_telling(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]
) -> None:
    """Have `act` done once, when a seller's terms are on their way to Redis."""
    inventory = platform.sales._inventory
    open_showtime = inventory.open_showtime
    left = [act]

    async def delayed(terms: Terms) -> int:
        if left:
            await left.pop()()
        return await open_showtime(terms)

    monkeypatch.setattr(inventory, "open_showtime", delayed)


def _mark_whatever_was_told(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the guard away: a telling is believed to have been of the latest terms."""

    async def mark(sales: Sequence[Sale], epochs: Sequence[int]) -> list[str]:
        await platform.database.execute(
            "UPDATE reservation.inventories SET opened_epoch = $2 WHERE showtime_id = ANY ($1)",
            [sale.showtime_id for sale in sales],
            max(epochs),
        )
        return []

    monkeypatch.setattr(platform.reservation_store, "mark_opened", mark)


async def _phase(platform: Platform, showtime_id: str) -> Phase:
    return (await platform.inventory.read_map(showtime_id)).phase


async def _pause_in_a_rebuild(house: House, monkeypatch: pytest.MonkeyPatch) -> str:
    """The phase fans meet in the end."""
    platform, showtime_id = house.platform, await house.showtime()

    async def pause() -> None:
        with pytest.raises(InventoryRebuilding):
            await platform.sales.change_sale(showtime_id, phase="paused")

    _while_rebuilding(platform, monkeypatch, pause)
    await platform.rebuilder.rebuild("test")
    await platform.reaper.round()
    return await _phase(platform, showtime_id)


async def test_a_sale_paused_during_a_rebuild_is_paused_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _pause_in_a_rebuild(house, monkeypatch) == "paused"


async def test_without_a_look_at_what_was_told_the_pause_would_be_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mark_whatever_was_told(house.platform, monkeypatch)
    assert await _pause_in_a_rebuild(house, monkeypatch) == "open"


async def _put_on_sale_as_a_rebuild_begins(house: House, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Another process, which knows of no rebuild, adds a showtime just before the partitions are shut.

    Whether it is on sale in the end, whatever reapers do.
    """
    platform, run_many, made = house.platform, house.platform.scripts.run_many, list[str]()
    async with platform_for(platform.settings, platform.addresses) as seller:
        await seller.epoch.refresh()

        async def then_shut(verb: str, calls: Any) -> Any:
            if verb == "shut_partition":
                made.append(await add_showtime(seller, import_layout(b"A1,A2", name="hall")))
            return await run_many(verb, calls)

        monkeypatch.setattr(platform.scripts, "run_many", then_shut)
        await platform.rebuilder.rebuild("test")
        for _ in range(3):
            house.clock.advance(timedelta(seconds=ALONE_MAX_S + 1))
            await reaper_of(house).round()
        try:
            return await _phase(platform, made[0]) == "open"
        except InventoryRebuilding:
            return False


async def test_a_showtime_that_is_put_on_sale_as_a_rebuild_begins_is_on_sale_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _put_on_sale_as_a_rebuild_begins(house, monkeypatch)


async def test_were_the_sales_read_before_the_partitions_are_shut_it_would_stay_shut_for_good(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_before = await house.platform.reservation_store.all_sales()

    async def all_sales() -> list[Sale]:
        return read_before

    monkeypatch.setattr(house.platform.reservation_store, "all_sales", all_sales)
    assert not await _put_on_sale_as_a_rebuild_begins(house, monkeypatch)


async def test_a_showtime_that_comes_too_late_for_a_rebuild_is_told_by_the_reaper(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, made = house.platform, list[str]()
    all_blocked = platform.reservation_store.all_blocked
    async with platform_for(platform.settings, platform.addresses) as seller:
        await seller.epoch.refresh()

        async def meanwhile() -> dict[str, list[int]]:
            with pytest.raises(InventoryRebuilding):
                await add_showtime(seller, import_layout(b"A1,A2", name="hall"))
            made.extend(sale.showtime_id for sale in await platform.reservation_store.unopened_sales())
            return await all_blocked()

        monkeypatch.setattr(platform.reservation_store, "all_blocked", meanwhile)
        await platform.rebuilder.rebuild("test")
        await reaper_of(house).round()
    assert [await _phase(platform, showtime_id) for showtime_id in made] == ["open"]


async def _two_sellers(house: House, monkeypatch: pytest.MonkeyPatch, **terms: Any) -> str:
    """One pauses; before Redis hears it another has opened again. The phase fans meet in the end."""
    platform, showtime_id = house.platform, await house.showtime(**terms)
    _while_telling(platform, monkeypatch, lambda: platform.sales.change_sale(showtime_id, phase="open"))
    await platform.sales.change_sale(showtime_id, phase="paused")
    await platform.reaper.round()
    return await _phase(platform, showtime_id)


@pytest.mark.parametrize("odd", [timedelta(0), timedelta(microseconds=1), timedelta(microseconds=999)])
async def test_of_two_sellers_the_later_one_is_heard(
    house: House, monkeypatch: pytest.MonkeyPatch, odd: timedelta
) -> None:
    opens_at = datetime(2026, 1, 1, tzinfo=UTC) + odd  # finer than Redis knows instants

    assert await _two_sellers(house, monkeypatch, opens_at=opens_at) == "open"


async def test_without_a_look_at_what_was_told_the_earlier_one_would_be_heard(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mark_whatever_was_told(house.platform, monkeypatch)
    assert await _two_sellers(house, monkeypatch) == "paused"


async def test_what_was_told_is_not_told_again(house: House) -> None:
    showtime_id = await house.showtime()
    await house.platform.sales.change_sale(showtime_id, phase="paused")
    await house.platform.rebuilder.rebuild("test")

    assert await house.platform.sales.open_behind() == 0


async def test_on_an_emptied_server_no_showtime_goes_on_sale_before_the_rebuild(house: House) -> None:
    platform, sold_before = house.platform, await house.showtime()
    await house.redis.flushdb()
    await teach(platform.scripts)  # the scripts outlive the data, as after FLUSHALL

    with pytest.raises(InventoryRebuilding):
        await platform.sales.change_sale(sold_before, phase="open")
    with pytest.raises(InventoryRebuilding):
        await house.showtime()
    assert await house.redis.dbsize() == 0

    await platform.reaper.round()
    sales = await platform.reservation_store.all_sales()
    assert [await _phase(platform, sale.showtime_id) for sale in sales] == ["open", "open"]


async def _nobody_sells(house: House) -> str:
    """A showtime without terms whose last hold is over."""
    showtime_id = new_showtime_id()
    foreign = keys_of(showtime_id)
    await house.redis.sadd(foreign.showtimes, showtime_id)
    await house.redis.zadd(foreign.expiry, {"a" * 16: 1})
    return showtime_id


async def test_a_showtime_nobody_sells_any_more_does_not_stop_the_sweep_of_the_others(house: House) -> None:
    platform, showtime_id = house.platform, await house.showtime()
    await _nobody_sells(house)
    await platform.rebuilder.rebuild("test")
    await platform.inventory.hold(showtime_id, new_hold_id(showtime_id), new_id("acc"), [0], ttl_ms=1)
    await asyncio.sleep(0.005)

    assert await platform.reaper.sweep_all() == 1


async def test_before_a_rebuild_it_is_not_swept_at_all(house: House) -> None:
    platform, showtime_id, foreign = house.platform, await house.showtime(), await _nobody_sells(house)
    await platform.inventory.hold(showtime_id, new_hold_id(showtime_id), new_id("acc"), [0], ttl_ms=1)
    await asyncio.sleep(0.005)

    assert await platform.reaper.sweep_all() == 1
    assert platform.reaper._due.damaged == [foreign]


async def test_swept_with_the_others_it_would_stop_them(house: House) -> None:
    showtime_id, foreign = await house.showtime(), await _nobody_sells(house)

    with pytest.raises(InventoryRebuilding):
        await house.platform.inventory.sweep_many([foreign, showtime_id], holds_max=10)


async def _house_seat_in_a_rebuild(house: House, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A1 goes off sale; before PostgreSQL is told, the maps are made anew. Whether it is off sale then."""
    platform, showtime_id = house.platform, await house.showtime()
    inventory = platform.sales._inventory
    block = inventory.block
    rebuilding: list[asyncio.Task[object]] = []

    async def rebuild_waits_or_is_over() -> bool:
        waiting = await platform.database.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
        return bool(waiting) or rebuilding[0].done()

    async def blocked(showtime_id: str, seats: Sequence[int]) -> None:
        await block(showtime_id, seats)
        rebuilding.append(asyncio.create_task(platform.rebuilder.rebuild("test")))
        await until(rebuild_waits_or_is_over)

    monkeypatch.setattr(inventory, "block", blocked)
    await platform.sales.block(showtime_id, ["A1"])
    await rebuilding[0]
    return seats_in((await platform.inventory.read_map(showtime_id)).taken or b"") == [0]


async def test_a_seat_taken_off_sale_as_a_rebuild_begins_is_off_sale_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _house_seat_in_a_rebuild(house, monkeypatch)


async def test_without_keeping_the_rebuild_waiting_it_would_be_on_sale(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.platform.reservation_store, "no_rebuild", nullcontext)
    assert not await _house_seat_in_a_rebuild(house, monkeypatch)


async def test_a_seat_put_on_sale_during_a_rebuild_is_refused_and_can_be_put_on_sale_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, showtime_id = house.platform, await house.showtime()
    await platform.sales.block(showtime_id, ["A1"])

    async def unblock() -> None:
        with pytest.raises(InventoryRebuilding):
            await platform.sales.unblock(showtime_id, ["A1"])

    _while_rebuilding(platform, monkeypatch, unblock)
    await platform.rebuilder.rebuild("test")

    assert await platform.reservation_store.all_blocked() == {showtime_id: [0]}
    await platform.sales.unblock(showtime_id, ["A1"])
    assert await platform.reservation_store.all_blocked() == {}
    assert seats_in((await platform.inventory.read_map(showtime_id)).taken or b"") == []


async def _opens_after_a_long_rebuild(house: House, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the gate is open after a rebuild that talks to Redis for longer than may be silent."""
    monkeypatch.setattr(house.platform.database, "transaction_idle_s", 1.0)

    async def talk() -> None:
        await asyncio.sleep(2.5)

    _while_rebuilding(house.platform, monkeypatch, talk)
    with suppress(PersistenceUnavailable):
        await house.platform.rebuilder.rebuild("test")
    return await house.platform.rebuilder.gate_is_open()


async def test_a_rebuild_that_takes_long_opens_its_gate(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _opens_after_a_long_rebuild(house, monkeypatch)


async def test_control_a_rebuild_that_gives_no_sign_of_life_loses_its_lock(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RebuildLock, "alive", lambda *_: nullcontext())
    assert not await _opens_after_a_long_rebuild(house, monkeypatch)


async def test_a_rebuild_whose_lock_was_lost_while_it_gave_signs_of_life_opens_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = house.platform
    monkeypatch.setattr(platform.database, "transaction_idle_s", 0.3)
    end_it = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    async def lose_it() -> None:
        await asyncio.sleep(0.5)  # some signs of life were answered
        assert await platform.database.fetchval(end_it)
        await asyncio.sleep(0.5)  # and one was not

    _while_rebuilding(platform, monkeypatch, lose_it)
    with pytest.raises(PersistenceUnavailable):
        await platform.rebuilder.rebuild("test")
    assert not await platform.rebuilder.gate_is_open()


async def test_a_rebuild_that_is_over_leaves_its_connection_as_it_was(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end comes in the middle of a sign of life."""
    database = house.platform.database
    monkeypatch.setattr(store, "_SIGNS_OF_LIFE", 1e9)
    for _ in range(5):
        async with house.platform.reservation_store.rebuild_lock() as lock:
            while not lock._speaks.locked():  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert database.abandoned == 0
