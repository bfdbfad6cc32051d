"""Goal: what a worker keeps of seat maps is bounded, however long it lives and however much was sold.

Method: one worker's seat maps on the inventory in memory, and the hands of a clock. Showtimes are looked at,
losers are told, and then nobody asks any more. What is kept is counted. The control at the end of each story
is a map somebody still looks at, of which nothing may go.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from kernel.clock import ManualClock, to_ms
from kernel.ids import PARTITIONS
from reservation import live
from reservation.inventory_memory import MemoryInventory
from reservation.live import STALE_S, SeatMaps
from reservation.refusals import KEPT_MAX, KeptRefusal, keep, seats_taken
from reservation.replica import Replica
from tests.support.inventories import TTL_MS, new_showtime_id, terms_of
from tests.unit.reservation.test_refusals import Launch


class Worker:
    """The seat maps of one worker, of a chain whose halls look all alike."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        self.inventory = MemoryInventory(clock_ms=lambda: to_ms(self.clock.now()))
        scripts: Any = SimpleNamespace(epochs=[1] * PARTITIONS)
        self.maps = SeatMaps(self.inventory, scripts, self.clock, hold_ttl_ms=TTL_MS, winds_itself=False)
        self.launch = Launch()
        self.launch.gone = set(range(self.launch.layout.seat_count)) - {3, 77, 140}
        self.told: KeptRefusal = seats_taken(self.launch.showtime, (0, 1), self.launch.plane)

    async def showtime(self, losers: int) -> Replica:
        """A showtime at which as many wanted what was gone, each something else."""
        showtime_id = new_showtime_id()
        await self.inventory.open_showtime(terms_of(showtime_id, seats=self.launch.layout.seat_count))
        replica = self.maps.replica(showtime_id)
        replica.want_hold_ids()
        await self.maps.look(replica, for_holding=True)
        for loser in range(losers):
            keep(replica, self.launch.showtime, loser, self.told)
        return replica

    async def look(self, *replicas: Replica, after_s: float) -> None:
        """Somebody looks at these, and at nothing else, every second."""
        for _ in range(round(after_s)):
            self.clock.advance(timedelta(seconds=1))
            for replica in replicas:
                assert self.maps.replica(replica.showtime_id) is replica, "forgotten, and somebody is looking"
            await self.maps.tick()

    @property
    def kept(self) -> set[str]:
        """The showtimes of which anything is known."""
        return set(self.maps._replicas)


async def test_of_sales_nobody_asks_about_any_more_nothing_is_kept() -> None:
    worker = Worker()
    over = [await worker.showtime(losers=8) for _ in range(20)]
    going_on = await worker.showtime(losers=8)

    await worker.look(going_on, after_s=STALE_S)
    assert worker.kept == {replica.showtime_id for replica in (*over, going_on)}, "it may still be shown"
    await worker.look(going_on, after_s=1)

    assert worker.kept == {going_on.showtime_id}
    assert len(going_on.refusals) == 8
    assert going_on.knows_holds


async def test_a_map_that_was_forgotten_is_read_like_one_that_was_never_known() -> None:
    worker = Worker()
    before = await worker.showtime(losers=8)
    await worker.inventory.hold(before.showtime_id, "hld_1", "acc_1", [5], ttl_ms=TTL_MS)
    await worker.look(await worker.showtime(losers=0), after_s=STALE_S + 1)

    picture = await worker.maps.current(before.showtime_id)

    assert worker.maps.replica(before.showtime_id) is not before
    assert int.from_bytes(picture.taken) != 0


async def test_a_map_that_is_just_being_read_for_the_first_time_is_not_forgotten() -> None:
    worker = Worker()
    worker.clock.advance(timedelta(seconds=10 * STALE_S))
    replica = worker.maps.replica(new_showtime_id())
    worker.maps.is_being_read(replica)

    await worker.maps.tick()

    assert worker.maps.replica(replica.showtime_id) is replica


async def test_all_that_losers_were_told_takes_no_more_room_than_a_worker_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "REFUSALS_BYTES_MAX", 100 * (await Worker().showtime(losers=1)).refusals_bytes)
    worker = Worker()
    on_sale = [await worker.showtime(losers=40) for _ in range(5)]

    await worker.maps.look(on_sale[0])
    await worker.maps.tick()

    told = [len(replica.refusals) for replica in on_sale]
    assert sum(told) == 80, "no more than is allowed, and not all of it was thrown away"
    assert told[0] == 40, "of the one that was read last all is kept"


async def test_without_a_bound_for_all_together_every_sale_keeps_what_one_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "REFUSALS_BYTES_MAX", 2**62)
    worker = Worker()
    on_sale = [await worker.showtime(losers=KEPT_MAX) for _ in range(12)]

    await worker.look(*on_sale, after_s=2)

    assert sum(replica.refusals_bytes for replica in on_sale) > 128 * 1024 * 1024
    assert sum(len(replica.refusals) for replica in on_sale) == 12 * KEPT_MAX
