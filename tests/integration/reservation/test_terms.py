"""What a worker remembers of a sale's terms, and how often it asks for them.

The real store behind a count of its questions; the worker's clock stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kernel.errors import NotFound
from kernel.ids import new_showtime_id
from reservation.halls import TERMS_TTL_S, Halls
from tests.integration.reservation.conftest import House


@pytest.fixture
def asked(house: House, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Every question the store gets for sales."""
    found: list[Sequence[str]] = []
    find_sales = house.platform.reservation_store.find_sales

    async def counted(showtime_ids: Sequence[str]) -> Any:
        found.append(showtime_ids)
        return await find_sales(showtime_ids)

    monkeypatch.setattr(house.platform.reservation_store, "find_sales", counted)
    return found


async def test_a_crowd_asks_for_the_terms_once(house: House, asked: list[Sequence[str]]) -> None:
    showtime_id = await house.showtime()
    halls = Halls(house.platform.reservation_store, house.clock)
    asked.clear()
    for round_number in range(1, 4):
        found = await asyncio.gather(*(halls.showtime(showtime_id) for _ in range(50)))
        assert all(each is found[0] for each in found)
        assert len(asked) == round_number
        await house.time_passes(TERMS_TTL_S + 0.1)


async def test_a_crowd_that_leaves_takes_nobody_with_it(house: House, asked: list[Sequence[str]]) -> None:
    showtime_id = await house.showtime()
    halls = Halls(house.platform.reservation_store, house.clock)
    asked.clear()
    first, second = (asyncio.create_task(halls.showtime(showtime_id)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).showtime_id == showtime_id
    assert len(asked) == 1


async def test_a_showtime_that_is_not_there_is_asked_for_again(
    house: House, asked: list[Sequence[str]]
) -> None:
    halls = Halls(house.platform.reservation_store, house.clock)
    nowhere = new_showtime_id()
    for times in (1, 2):
        with pytest.raises(NotFound):
            await halls.showtime(nowhere)
        assert len(asked) == times


async def test_terms_that_are_changed_while_their_hall_is_built_are_asked_for_again(
    house: House, asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = await house.showtime()
    store = house.platform.reservation_store
    halls, find_layout = Halls(store, house.clock), store.find_layout

    async def found_meanwhile(layout_id: str) -> Any:
        halls.forget(showtime_id)
        return await find_layout(layout_id)

    monkeypatch.setattr(store, "find_layout", found_meanwhile)
    asked.clear()
    for times in (1, 2, 2):
        assert (await halls.showtime(showtime_id)).showtime_id == showtime_id
        assert len(asked) == times
