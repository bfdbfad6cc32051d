"""Goal: all halls are made anew side by side, within bounds, and whatever fails ends all of it.

Method: a house of five halls on real engines, restored with its own owners. Around what is asked and what is
restored stand counters; bounds are set to a hall or two. A control takes the other hands away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from checkout import owners
from kernel import limits
from kernel.errors import SeatsUnavailable
from kernel.ids import new_hold_id, new_id
from reservation import Possession
from reservation.packing import seats_in
from reservation.ports import Terms
from reservation.restoring import Restored, restore_all
from reservation.store import Sale
from tests.integration.reservation.conftest import House

HALLS = 5
SEATS = 80


@dataclass
class Watched:
    """The house's own owners and inventory, and what was under way at once."""

    house: House
    sales: list[Sale]
    fails_at: str = ""
    asked: list[list[str]] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    asking = asking_max = restoring = 0
    side_by_side = False

    async def restore(self, terms: Terms, **named: Any) -> tuple[int, int]:
        self.restoring += 1
        self.side_by_side |= self.asking > 0
        try:
            if terms.showtime_id == self.fails_at:
                raise SeatsUnavailable
            counts = await self.house.platform.inventory.restore(terms, **named)
            self.restored.append(terms.showtime_id)
            return counts
        finally:
            self.restoring -= 1

    async def restore_all(self) -> Restored:
        """All halls, as a rebuild does it."""
        platform = self.house.platform
        epochs = dict(enumerate(platform.scripts.epochs))
        owners_of = await owners(platform.checkout_store, platform.order_log, epochs)

        async def ask(showtime_ids: Sequence[str]) -> Mapping[str, Sequence[Possession]]:
            self.asked.append(list(showtime_ids))
            self.asking += 1
            self.asking_max = max(self.asking, self.asking_max)
            self.side_by_side |= self.restoring > 0
            try:
                return await owners_of(showtime_ids)
            finally:
                self.asking -= 1

        inventory: Any = self
        return await restore_all(inventory, self.sales, ask, {}, losses_for_ms=0)


@pytest.fixture
async def watched(house: House, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(limits, "rebuild_seats_per_statement_max", SEATS)
    for _ in range(HALLS):
        showtime_id = await house.showtime()
        await house.platform.inventory.hold(
            showtime_id, new_hold_id(showtime_id), new_id("acc"), [3], ttl_ms=60_000
        )
    return Watched(house, await house.platform.reservation_store.all_sales())


@pytest.mark.parametrize(
    ("seats_max", "halls"),
    [(HALLS * SEATS, [5]), (2 * SEATS, [2, 2, 1]), (2 * SEATS - 1, [1] * 5), (1, [1] * 5)],
)
async def test_a_statement_asks_for_as_many_seats_as_it_may_and_for_one_hall_at_least(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, seats_max: int, halls: list[int]
) -> None:
    monkeypatch.setattr(limits, "rebuild_seats_per_statement_max", seats_max)

    restored = await watched.restore_all()

    wanted = [sale.showtime_id for sale in watched.sales]
    assert [len(some) for some in watched.asked] == halls
    assert [showtime_id for some in watched.asked for showtime_id in some] == wanted
    assert sorted(watched.restored) == sorted(wanted)
    assert (restored.seats_owned, restored.holds_kept, restored.holds_dropped) == (0, HALLS, 0)


async def test_while_one_statement_is_under_way_others_are_restored(watched: Watched) -> None:
    await watched.restore_all()

    assert watched.side_by_side
    assert watched.asking_max == 1


async def test_with_one_pair_of_hands_nothing_would_go_side_by_side(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "rebuild_statements_in_flight_max", 1)

    await watched.restore_all()

    assert not watched.side_by_side


async def test_what_fails_ends_the_rest_and_leaves_nothing_under_way(watched: Watched) -> None:
    watched.fails_at = watched.sales[1].showtime_id
    others = asyncio.all_tasks()

    with pytest.raises(SeatsUnavailable):
        await watched.restore_all()

    assert asyncio.all_tasks() <= others
    assert (watched.asking, watched.restoring) == (0, 0)
    assert len(watched.restored) < HALLS - 1


async def test_an_owner_of_a_seat_that_does_not_exist_keeps_no_hall_shut(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    sale = watched.sales[0]
    hold_id = new_hold_id(sale.showtime_id)
    odd = Possession(sale.showtime_id, hold_id, new_id("acc"), "sold", 0, (5, SEATS))

    async def ask(showtime_ids: Sequence[str]) -> Mapping[str, Sequence[Possession]]:
        return {sale.showtime_id: [odd]}

    restored = await restore_all(watched.house.platform.inventory, watched.sales, ask, {}, losses_for_ms=0)

    assert restored.seats_owned == 1
    picture = await watched.house.platform.inventory.read_map(sale.showtime_id)
    assert seats_in(picture.sold or b"") == [5]
    assert hold_id in caplog.text
