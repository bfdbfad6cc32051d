"""What a worker remembers of a sale's terms, and how often it asks for them.

The real store behind a count of its questions; the worker's clock stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.clock import ManualClock
from kernel.errors import NotFound, PersistenceUnavailable
from kernel.ids import new_showtime_id
from reservation import halls as halls_module
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


@pytest.fixture
def hangs(house: House, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """While this is not set, whoever asks for terms waits; to begin with nobody does."""
    answers = asyncio.Event()
    answers.set()
    find_sales = house.platform.reservation_store.find_sales

    async def waits(showtime_ids: Sequence[str]) -> Any:
        await answers.wait()
        return await find_sales(showtime_ids)

    monkeypatch.setattr(house.platform.reservation_store, "find_sales", waits)
    monkeypatch.setattr(halls_module, "RENEW_PATIENCE_S", 0.01)
    return answers


async def _known_for_long(house: House, asked: list[Sequence[str]]) -> tuple[Halls, str]:
    """Terms somebody asked for long ago."""
    showtime_id = await house.showtime()
    clock = ManualClock(datetime.now(UTC))
    halls = Halls(house.platform.reservation_store, clock)
    await halls.showtime(showtime_id)
    clock.advance(timedelta(seconds=TERMS_TTL_S + 1))
    asked.clear()
    return halls, showtime_id


async def test_while_postgresql_hangs_the_old_terms_are_good_enough_and_nobody_waits_for_it(
    house: House, asked: list[Sequence[str]], hangs: asyncio.Event
) -> None:
    halls, showtime_id = await _known_for_long(house, asked)
    before = halls._sales[showtime_id][1]
    hangs.clear()
    for _ in range(3):
        async with asyncio.timeout(5):
            found = await asyncio.gather(*(halls.showtime(showtime_id) for _ in range(20)))
        assert all(one.sale is before for one in found)
    assert len(asked) == 0, "one question is under way, and has not come through yet"
    hangs.set()


async def test_what_it_answers_in_the_end_is_what_counts(
    house: House, asked: list[Sequence[str]], hangs: asyncio.Event
) -> None:
    halls, showtime_id = await _known_for_long(house, asked)
    hangs.clear()
    old = await halls.showtime(showtime_id)
    await house.platform.reservation_store.pause_open_sales([showtime_id])
    hangs.set()
    await halls._asking[showtime_id]
    found = await halls.showtime(showtime_id)
    assert (old.sale.terms.phase, found.sale.terms.phase) == ("open", "paused")


async def test_terms_this_process_has_changed_are_waited_for_however_long_it_takes(
    house: House, asked: list[Sequence[str]], hangs: asyncio.Event
) -> None:
    halls, showtime_id = await _known_for_long(house, asked)
    hangs.clear()
    looking = asyncio.create_task(halls.showtime(showtime_id))
    await asyncio.sleep(0)
    halls.forget(showtime_id)
    await asyncio.sleep(0.1)
    assert not looking.done()
    hangs.set()
    assert (await looking).showtime_id == showtime_id


async def test_with_nothing_old_to_go_by_it_is_said_that_postgresql_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(showtime_ids: Sequence[str]) -> Any:
        raise PersistenceUnavailable

    halls = Halls(house.platform.reservation_store, house.clock)
    monkeypatch.setattr(house.platform.reservation_store, "find_sales", away)
    with pytest.raises(PersistenceUnavailable):
        await halls.showtime(new_showtime_id())
