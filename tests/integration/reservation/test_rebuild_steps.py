"""Goal: a rebuild may die at any of its steps, and no step lets through what the next one would forget.

Method: a house with a seat sold, a seat held and a sale paused. The rebuild is made to die before and after
every kind of step it takes, at the first and at the last of many alike; each time the gate is either shut or
stands open on whole maps, and the next round makes everything as it was. Then a worker of the old epoch
orders in the one moment that matters. Each control takes the order of the steps away and shows what is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from kernel.errors import InventoryRebuilding
from kernel.ids import new_hold_id, new_id
from reservation import OwnersOf
from reservation.inventory_redis import RedisInventory
from reservation.keys import epoch_key
from reservation.packing import seats_in
from reservation.ports import Refused
from runtime.redis_link import Nodes, ScriptRunner
from tests.integration.reservation.conftest import House

MINUTE_MS = 60_000

#: Whose call is a step, and which of its methods are.
STEPS = {
    "store": ("gate_book", "raise_epochs", "all_sales", "all_blocked", "mark_opened"),
    "scripts": ("load", "run", "run_many", "commands", "command"),
    "rebuilder": ("_owners",),
    "inventory": ("restore",),
}


class Died(BaseException):
    """The process is gone."""


@dataclass
class Town:
    """The house, and what everybody must find in it whatever happened."""

    house: House
    sold: tuple[str, int]
    held: tuple[str, str, str]
    paused: str

    async def is_whole(self) -> None:
        """The sold seat is sold, the hold is its owner's, the paused sale is paused, other seats are free."""
        inventory = self.house.platform.inventory
        showtime_id, seat = self.sold
        picture = await inventory.read_map(showtime_id)
        assert seats_in(picture.sold or b"") == [seat]
        with pytest.raises(Refused) as refusal:
            await inventory.hold(
                showtime_id, new_hold_id(showtime_id), new_id("acc"), [seat], ttl_ms=MINUTE_MS
            )
        assert refusal.value.status == "seat_taken"
        showtime_id, hold_id, buyer = self.held
        assert (await inventory.read_hold(hold_id, buyer)).seats == (0,)
        assert (await inventory.read_map(self.paused)).phase == "paused"

    async def gate_is_open(self) -> bool:
        return await self.house.platform.rebuilder.gate_is_open()


@pytest_asyncio.fixture(loop_scope="session")
async def town(house: House) -> AsyncIterator[Town]:
    running, platform = house.running, house.platform
    running.start("writer", "completers")
    showtime_id = await house.showtime()
    (fan,) = await running.fans(1)
    await fan.buy(showtime_id, "A1")
    await running.stop()
    elsewhere, buyer, paused = await house.showtime(), new_id("acc"), await house.showtime()
    hold_id = new_hold_id(elsewhere)
    await platform.inventory.hold(elsewhere, hold_id, buyer, [0], ttl_ms=10 * MINUTE_MS)
    await platform.sales.change_sale(paused, phase="paused")
    town = Town(house, (showtime_id, 0), (elsewhere, hold_id, buyer), paused)
    await town.is_whole()
    yield town


def _each_step(
    town: Town, patch: pytest.MonkeyPatch, before: Callable[[str], int], after: Callable[[int], None]
) -> None:
    """Have both called around every step of a rebuild, steps within steps too; `before` numbers them."""
    platform = town.house.platform
    owners: dict[str, Any] = {
        "store": platform.reservation_store,
        "scripts": platform.scripts,
        "rebuilder": platform.rebuilder,
        "inventory": platform.inventory,
    }
    for owner, names in STEPS.items():
        for name in names:

            def around(step: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
                async def taken(*words: Any, **more: Any) -> Any:
                    number = before(step)
                    answer = await call(*words, **more)
                    after(number)
                    return answer

                return taken

            patch.setattr(owners[owner], name, around(name, getattr(owners[owner], name)))


async def _steps_of_a_rebuild(town: Town) -> list[str]:
    taken: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        _each_step(town, patch, lambda step: taken.append(step) or 0, lambda _: None)
        await town.house.platform.rebuilder.rebuild("test")
    return taken


async def _dies_at(town: Town, number: int, *, done: bool) -> None:
    """A rebuild whose process ends before its so-manieth step, or when that is done."""
    taken: list[str] = []

    def come(step: str) -> int:
        taken.append(step)
        if len(taken) == number + 1 and not done:
            raise Died
        return len(taken) - 1

    def go(step: int) -> None:
        if step == number and done:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        _each_step(town, patch, come, go)
        with pytest.raises(Died):
            await town.house.platform.rebuilder.rebuild("test")


async def test_a_rebuild_that_dies_at_any_step_leaves_no_gate_open_on_half_a_house(town: Town) -> None:
    platform = town.house.platform
    steps = await _steps_of_a_rebuild(town)
    assert set(steps) == {name for names in STEPS.values() for name in names}
    firsts = {steps.index(step) for step in steps}
    lasts = {len(steps) - 1 - steps[::-1].index(step) for step in steps}
    raised = steps.index("raise_epochs")
    for number in sorted(firsts | lasts):
        for done in (False, True):
            await _dies_at(town, number, done=done)
            is_done = number == len(steps) - 1 and done
            is_open = number < raised or (number == raised and not done) or is_done
            assert await town.gate_is_open() == is_open, f"{steps[number]}, done: {done}"
            if is_open:
                await town.is_whole()
            await platform.reaper.round()
            assert await town.gate_is_open(), f"not healed after {steps[number]}"
            await town.is_whole()


async def test_with_the_epoch_written_first_a_gate_would_open_on_half_a_house(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it dies with the owners known. The gate looks open, and nobody is served."""
    platform = town.house.platform
    owners = platform.rebuilder._owners

    async def after_the_epoch(epochs: Mapping[int, int]) -> OwnersOf:
        for partition, epoch in epochs.items():
            await town.house.redis.set(epoch_key(partition), epoch)
        return await owners(epochs)

    steps = await _steps_of_a_rebuild(town)
    monkeypatch.setattr(platform.rebuilder, "_owners", after_the_epoch)
    await _dies_at(town, steps.index("_owners"), done=True)
    assert await town.gate_is_open()
    with pytest.raises(InventoryRebuilding):
        await town.is_whole()


async def test_maps_that_are_wiped_before_the_gate_opens_are_made_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = town.house.platform
    mark_opened = platform.reservation_store.mark_opened

    async def wiped(*words: Any) -> Any:
        await town.house.redis.flushdb()
        return await mark_opened(*words)

    with monkeypatch.context() as patch:
        patch.setattr(platform.reservation_store, "mark_opened", wiped)
        with pytest.raises(InventoryRebuilding):
            await platform.rebuilder.rebuild("test")
    assert not await town.gate_is_open()
    await platform.reaper.round()
    assert await town.gate_is_open()
    showtime_id, seat = town.sold
    assert seats_in((await platform.inventory.read_map(showtime_id)).sold or b"") == [seat]


async def _order_after_the_owners_were_asked_for(town: Town, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A worker that has not heard of the new epoch claims a hold; whether it could say so to its fan."""
    platform = town.house.platform
    _, hold_id, buyer = town.held
    nodes = Nodes(platform.addresses.redis_url)
    old = ScriptRunner(nodes)
    old.adopt_epochs(platform.scripts.epochs)
    owners = platform.rebuilder._owners
    claimed: list[bool] = []

    async def asked(epochs: Mapping[int, int]) -> OwnersOf:
        found = await owners(epochs)
        with suppress(InventoryRebuilding):
            claimed.append(
                await RedisInventory(old).claim(hold_id, buyer, seats=[0], pay_by_ms=2**42, entry=b"an order")
            )
        return found

    monkeypatch.setattr(platform.rebuilder, "_owners", asked)
    await platform.rebuilder.rebuild("test")
    await nodes.aclose()
    assert claimed in ([], [True])
    return bool(claimed)


async def test_an_order_made_after_the_owners_were_asked_for_is_refused_and_not_forgotten(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await _order_after_the_owners_were_asked_for(town, monkeypatch)
    await town.is_whole()


async def test_with_the_old_gate_left_open_that_order_would_be_forgotten(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def partitions_only(partitions: Collection[int], showtime_ids: Collection[str]) -> None:
        """The control: showtimes are what they were until they are restored."""

    monkeypatch.setattr(town.house.platform.rebuilder, "_shut_showtimes", partitions_only)
    assert await _order_after_the_owners_were_asked_for(town, monkeypatch)
    showtime_id, *_ = town.held
    assert seats_in((await town.house.platform.inventory.read_map(showtime_id)).taken or b"") == []
