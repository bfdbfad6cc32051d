"""Goal: a primary that dies, stalls or hands over in a rush costs no order that was acknowledged, and no seat
is sold twice, also while the old one still thinks it is a primary.

Method: the whole platform by way of real sentinels, a real rush, SIGKILL and SIGSTOP. A worker that stays
with the old primary, as one would that does not ask the sentinels, is the control: it is granted a seat that
is sold, and is shut out for good as soon as it hears of the new epoch.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from entrypoints.audit import run_audit
from entrypoints.platform import Addresses, Platform, platform_for
from entrypoints.rush import rehearse
from kernel.errors import InventoryRebuilding
from kernel.ids import new_hold_id, new_id
from loadtest.rush import Report, RushPlan
from reservation.ports import Refused
from runtime.engines import ValkeyEngine
from tests.support.platform import RunningPlatform
from tests.support.sentinels import Watch, frozen, kill, role_of
from tests.support.service import Fan
from tests.support.shop import until

HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, 21)) for row in range(1, 16))


async def rush(running: RunningPlatform, showtime_id: str, seed: int) -> Report:
    plan = RushPlan(200, seed=seed)
    return await rehearse(running.platform, running.base_url, plan, showtime_id, None, board=False)


async def until_seats_left(running: RunningPlatform, showtime_id: str, most: int) -> None:
    while (await running.seats(showtime_id))["seats_left"] > most:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def until_made_anew(running: RunningPlatform, epoch: int) -> None:
    """Wait until every partition's maps were made anew after that epoch."""
    async with asyncio.timeout(60):
        while min(running.platform.scripts.epochs) <= epoch:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def held(fan: Fan, showtime_id: str, label: str) -> Any:
    """Try to hold a seat until it is held."""
    async with asyncio.timeout(60):
        while True:
            hold = await fan.hold(showtime_id, label)
            if hold.status == 201:
                return hold.body
            assert hold.status in {409, 503}, hold.body
            await asyncio.sleep(0.1)


async def all_is_well(running: RunningPlatform, *reports: Report) -> None:
    """No rush saw what must not be, and the audit finds nothing."""
    for report in reports:
        verdict = report.verdict
        assert (verdict.sold_twice, verdict.missing, verdict.changed) == ([], [], [])
        assert (verdict.not_on_map, verdict.impossible) == ([], [])
        assert report.audit.ok, report.audit.broken
    audit = await run_audit(running.platform)
    assert audit.ok, [check for check in audit.checks if not check.ok]


async def state_of(fan: Fan, order: Any) -> str:
    return str((await fan.call("GET", f"/orders/{order['order_id']}")).body["state"])


def goes_to(platform: Platform) -> int:
    """The port of the server its calls go to."""
    assert platform.nodes.only is not None
    return platform.nodes.only.address.place.port


async def test_a_primary_killed_in_a_rush_costs_no_order_and_its_replica_sells_on(
    running: RunningPlatform, watch: Watch, primary: ValkeyEngine
) -> None:
    rushed, calm = [await running.add_showtime(HALL) for _ in range(2)]
    epoch = max(running.platform.scripts.epochs)
    early, late = await running.fans(2)
    kept = await early.buy(calm, "15-1", "15-2")
    rushing = asyncio.create_task(rush(running, rushed, seed=5))
    await until_seats_left(running, rushed, 240)

    kill(primary)
    await held(late, calm, "15-19")
    report = await rushing

    assert goes_to(running.platform) == (await watch.successor_of(primary)).port
    assert min(running.platform.scripts.epochs) > epoch, "seat maps were not made anew"
    assert await state_of(early, kept) == "confirmed"
    await all_is_well(running, report)


async def test_a_primary_that_hands_over_while_seats_are_held_loses_no_order(
    running: RunningPlatform, watch: Watch, primary: ValkeyEngine
) -> None:
    showtime_id, epoch = await running.add_showtime(HALL), max(running.platform.scripts.epochs)
    fans = await running.fans(12)
    bought = [await fan.buy(showtime_id, f"1-{n}") for n, fan in enumerate(fans[:4], 1)]
    held_before = [await held(fan, showtime_id, f"3-{n}") for n, fan in enumerate(fans[4:8], 1)]
    assert len({hold["hold_id"] for hold in held_before}) == 4

    new = await watch.fail_over()
    await until_made_anew(running, epoch)  # before that it may shut between any two steps of a purchase
    for number, fan in enumerate(fans[8:], 1):
        await held(fan, showtime_id, f"5-{number}")
        refused = await fan.hold(showtime_id, f"1-{number}")
        assert (refused.status, refused.body["code"]) == (409, "seat_taken")
        await fan.buy(showtime_id, f"7-{number}")

    assert goes_to(running.platform) == new.port
    for fan, order in zip(fans, bought, strict=False):
        assert await state_of(fan, order) == "confirmed"
    await all_is_well(running)


async def test_an_empty_replica_that_takes_over_is_filled_from_postgresql_before_it_sells(
    running: RunningPlatform, watch: Watch, primary: ValkeyEngine
) -> None:
    showtime_id = await running.add_showtime(HALL)
    early, late = await running.fans(2)
    kept = await early.buy(showtime_id, "1-1")

    new = await watch.switch(to_nothing=True)
    await held(late, showtime_id, "1-2")
    refused = await late.hold(showtime_id, "1-1")

    assert (refused.status, refused.body["code"]) == (409, "seat_taken")
    assert goes_to(running.platform) == new.port
    assert await state_of(early, kept) == "confirmed"
    await all_is_well(running)


async def hold_at(platform: Platform, showtime_id: str, seat: int) -> None:
    """One seat, by a worker's own way to the maps."""
    await platform.inventory.hold(showtime_id, new_hold_id(showtime_id), new_id("acc"), [seat], ttl_ms=60_000)


async def test_a_primary_that_stalls_and_goes_on_after_it_was_replaced_sells_nothing_twice(
    running: RunningPlatform, watch: Watch, primary: ValkeyEngine, tmp_path: Path
) -> None:
    rushed, calm = [await running.add_showtime(HALL) for _ in range(2)]
    addresses = running.platform.addresses
    stays_at = Addresses(primary.url, addresses.database_url, addresses.gateway_url)
    early, late = await running.fans(2)
    kept = await early.buy(calm, "1-1")
    async with platform_for(running.platform.settings, stays_at) as left_behind:
        await left_behind.epoch.refresh()
        await hold_at(left_behind, calm, 290)
        old_epochs = left_behind.scripts.epochs
        rushing = asyncio.create_task(rush(running, rushed, seed=7))
        await until_seats_left(running, rushed, 240)
        with frozen(primary):
            new = await watch.successor_of(primary)
            await watch.whisper()
            await held(late, calm, "15-1")
            sold = await late.buy(calm, "15-2")
        assert await role_of(primary) == "master"
        assert goes_to(running.platform) == new.port

        # The control: on the old primary, under the old epoch, a seat is had that is somebody else's.
        assert left_behind.scripts.epochs == old_epochs
        await hold_at(left_behind, calm, 281)

        # It is shut out once it has heard of the new epoch, and stays so: it asks no sentinel.
        async def has_heard() -> bool:
            await left_behind.epoch.refresh()
            return left_behind.scripts.epochs != old_epochs

        await until(has_heard)
        for _ in range(3):
            with pytest.raises(InventoryRebuilding):
                await hold_at(left_behind, calm, 282)
        # A reaper that is left behind with it does not make the old one the one to be believed.
        found, rebuilt = await left_behind.rebuilder.rebuild_if_needed()
        assert (len(found.replaced), rebuilt) == (len(found.servers), None)

    with pytest.raises(Refused) as refusal:
        await hold_at(running.platform, calm, 281)
    assert refusal.value.status == "seat_taken"
    report = await rushing
    assert await state_of(early, kept) == await state_of(late, sold) == "confirmed"
    await all_is_well(running, report)
