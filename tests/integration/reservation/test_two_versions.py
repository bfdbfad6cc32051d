"""Two releases beside each other on one server, whose scripts differ (fault F17).

Goal: while processes are replaced, nobody of either release holds what the other has held, no script of
theirs is taken for the other's, and whoever has not been taught yet says so instead of guessing. Method: the
same keys, one real server, and a second set of scripts that differ by a word, so that their SHA1s do.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkout import owners, set_back
from kernel.errors import InventoryRebuilding
from kernel.ids import partition_of
from reservation import Rebuilder, RedisInventory
from reservation.errors import SeatTaken
from runtime.lua import load_scripts
from runtime.redis_link import ScriptRunner
from tests.integration.reservation.conftest import House, Worker


class NextRelease:
    """The next release: its worker, and what its reaper opens the gate with."""

    def __init__(self, house: House) -> None:
        platform = house.platform
        scripts = {verb: replace(one, body=f"{one.body}-- next\n") for verb, one in load_scripts().items()}
        self.runner = ScriptRunner(platform.nodes, scripts)
        self.runner.adopt_epochs(platform.scripts.epochs)
        self.worker: Worker = house.worker(self.runner)
        self.rebuilder = Rebuilder(
            platform.reservation_store,
            RedisInventory(self.runner),
            self.runner,
            lambda epochs: owners(platform.checkout_store, platform.order_log, epochs),
            lambda: set_back(platform.checkout_store, platform.order_log),
        )


@pytest.fixture
async def house(house: House) -> House:
    """On a server that knows the scripts of this release's present epochs and no others."""
    await house.redis.script_flush()
    await house.platform.rebuilder.rebuild_if_needed()
    return house


async def test_a_release_nobody_taught_yet_is_refused_and_holds_up_nobody(house: House) -> None:
    showtime_id, old, new = await house.showtime(), house.worker(), NextRelease(house)
    with pytest.raises(InventoryRebuilding):
        await new.worker.hold(showtime_id, "A1")
    await old.hold(showtime_id, "A1")


async def test_once_its_reaper_has_looked_both_sell_from_one_map_and_no_map_was_made_anew(
    house: House,
) -> None:
    showtime_id, old, new = await house.showtime(), house.worker(), NextRelease(house)
    before = house.platform.scripts.epochs
    await old.hold(showtime_id, "A1")
    _, rebuilt = await new.rebuilder.rebuild_if_needed()
    assert rebuilt is None
    assert new.runner.epochs == before

    await new.worker.hold(showtime_id, "A2")
    for worker, label in ((old, "A2"), (new.worker, "A1")):
        with pytest.raises(SeatTaken):
            await worker.hold(showtime_id, label)
    await old.hold(showtime_id, "A3")
    await house.time_passes(1.0)
    assert await new.worker.taken(showtime_id) == 3


async def test_maps_the_new_release_made_are_not_touched_by_the_old_before_its_own_reaper_has_looked(
    house: House,
) -> None:
    showtime_id, old, new = await house.showtime(), house.worker(), NextRelease(house)
    await old.hold(showtime_id, "A1")
    await new.rebuilder.rebuild("a release", [partition_of(showtime_id)])
    with pytest.raises(InventoryRebuilding):
        await old.hold(showtime_id, "A2")
    house.platform.scripts.adopt_epochs(new.runner.epochs)
    with pytest.raises(InventoryRebuilding):  # it knows the epoch, and nobody knows its scripts
        await old.hold(showtime_id, "A2")

    _, rebuilt = await house.platform.rebuilder.rebuild_if_needed()
    assert rebuilt is None
    await old.hold(showtime_id, "A2")
    with pytest.raises(SeatTaken):
        await new.worker.hold(showtime_id, "A1")


async def test_the_control_scripts_by_another_name_alone_would_be_the_old_ones(house: House) -> None:
    """Where two releases' scripts are the same to the letter nobody has to be taught."""
    showtime_id = await house.showtime()
    same = ScriptRunner(house.platform.nodes, dict(load_scripts()))
    same.adopt_epochs(house.platform.scripts.epochs)
    await house.worker(same).hold(showtime_id, "A1")
