"""Goal: who first asks a worker about a showtime that is about to open pays for nothing, and keeping
it so costs a bounded question.

Method: a second worker's parts, which know nothing, on real engines. What is counted is what a first request
would pay for: statements, seating plans, drawings. Each promise stands beside the same without making ready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from entrypoints.platform import Addresses, Platform, platform_for
from entrypoints.serving import build
from reservation import Layout, import_layout
from reservation.drawings import Drawings
from reservation.halls import TERMS_TTL_S, Halls
from reservation.schemas import LayoutAnswer
from reservation.seating import SeatingPlan
from reservation.warming import AHEAD_S, EACH_MAX, EVERY_S, Warming
from runtime.http import Runner
from runtime.queries import load_queries
from runtime.settings import load
from tests.integration.reservation.conftest import House
from tests.support.platform import RunningPlatform

FIRST_ASKS = {"find_inventories", "find_layout", "find_prices"}
STATEMENT = load_queries(str(Path(__file__).parents[3] / "reservation" / "store.py"))[
    "inventories_near_opening"
]


@dataclass
class Paid:
    """What a worker had to do: statements by name, seats of the plans made and of the halls drawn."""

    statements: list[str] = field(default_factory=list)
    plans: list[int] = field(default_factory=list)
    drawings: list[int] = field(default_factory=list)

    def clear(self) -> None:
        for counted in (self.statements, self.plans, self.drawings):
            counted.clear()


@dataclass
class Newcomer:
    """A worker that was just started, its API, and what it pays for."""

    running: RunningPlatform
    paid: Paid

    @property
    def platform(self) -> Platform:
        return self.running.platform


@pytest_asyncio.fixture(loop_scope="session")
async def newcomer(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Newcomer]:
    addresses = Addresses(house.platform.addresses.redis_url, house.platform.addresses.database_url, None)
    paid = Paid()

    def planned(layout: Layout) -> SeatingPlan:
        paid.plans.append(layout.seat_count)
        return SeatingPlan(layout)

    def drawn(answer: LayoutAnswer) -> bytes:
        paid.drawings.append(answer.seat_count)
        return msgspec.json.encode(answer)

    monkeypatch.setattr("reservation.halls.SeatingPlan", planned)
    monkeypatch.setattr("reservation.drawings._encode", drawn)
    async with platform_for(load({}, data_dir=tmp_path), addresses) as platform:
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            monkeypatch.setattr(platform.database, name, _counted(getattr(platform.database, name), paid))
        await platform.epoch.refresh()
        runner = Runner(build(platform))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.addresses
        async with aiohttp.ClientSession() as session:
            yield Newcomer(
                RunningPlatform(platform, runner.addresses[0][1], session, house.running.redis), paid
            )
        await runner.cleanup()
        await platform.maps.close()


def _counted(ask: Any, paid: Paid) -> Any:
    async def asked(statement: str, *values: Any, **more: Any) -> Any:
        paid.statements.append(statement.split("\n", 1)[0].removeprefix("-- "))
        return await ask(statement, *values, **more)

    return asked


async def _buy_at_opening(house: House, newcomer: Newcomer, *, ready: bool) -> Paid:
    """What the first buyer's requests cost the newcomer: he looks, waits for the opening, and holds."""
    opens_at = datetime.now(UTC) + timedelta(seconds=1)
    showtime_id = await house.running.add_showtime(opens_at=opens_at)
    (fan,) = await newcomer.running.fans(1)
    if ready:
        await newcomer.platform.warming.round()
    newcomer.paid.clear()
    at = newcomer.running
    assert (await at.request("GET", f"/showtimes/{showtime_id}/layout")).status == 200
    assert (await at.request("GET", f"/showtimes/{showtime_id}/seats")).status == 200
    await asyncio.sleep(max(0.0, (opens_at - datetime.now(UTC)).total_seconds()) + 0.05)
    assert (await fan.hold(showtime_id, "A1")).status == 201
    return newcomer.paid


async def test_the_first_buyer_of_a_showtime_that_is_about_to_open_waits_for_no_plan(
    house: House, newcomer: Newcomer
) -> None:
    paid = await _buy_at_opening(house, newcomer, ready=True)
    assert (paid.statements, paid.plans, paid.drawings) == ([], [], [])


async def test_control_a_worker_that_made_nothing_ready_has_the_first_buyer_wait(
    house: House, newcomer: Newcomer
) -> None:
    paid = await _buy_at_opening(house, newcomer, ready=False)
    assert set(paid.statements) == FIRST_ASKS
    assert len(paid.plans) == len(paid.drawings) == 1


async def test_what_is_ready_is_made_once_however_often_it_is_looked_after(
    house: House, newcomer: Newcomer
) -> None:
    opens_at = datetime.now(UTC) + timedelta(minutes=10)
    for _ in range(2):
        await house.running.add_showtime(opens_at=opens_at)
    await newcomer.platform.warming.round()
    assert len(newcomer.paid.plans) == len(newcomer.paid.drawings) == 2
    newcomer.paid.clear()
    for _ in range(3):
        await newcomer.platform.warming.round()
    assert newcomer.paid.statements == 3 * ["inventories_near_opening"]
    assert newcomer.paid.plans == newcomer.paid.drawings == []


async def test_terms_of_what_is_kept_ready_are_never_too_old(house: House) -> None:
    showtime_id, platform = await house.showtime(), house.platform
    halls = Halls(platform.reservation_store, house.clock)
    warming = Warming(halls, Drawings(), platform.programme.prices_of)
    for _ in range(4):
        await warming.round()
        await house.time_passes(EVERY_S)
        assert halls.at_hand(showtime_id, house.clock.monotonic_s()) is not None
    await house.time_passes(TERMS_TTL_S)  # the control: nobody renews them
    assert halls.at_hand(showtime_id, house.clock.monotonic_s()) is None


async def test_terms_changed_while_they_are_read_are_asked_for_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id, store = await house.showtime(), house.platform.reservation_store
    halls, read = Halls(store, house.clock), store.sales_near_opening
    await halls.showtime(showtime_id)

    async def read_before_the_change(**bounds: Any) -> Any:
        found = await read(**bounds)
        halls.forget(showtime_id)
        return found

    assert halls.at_hand(showtime_id, house.clock.monotonic_s()) is not None
    monkeypatch.setattr(store, "sales_near_opening", read_before_the_change)
    await halls.near_opening(ahead_s=AHEAD_S, each_max=EACH_MAX)
    assert halls.at_hand(showtime_id, house.clock.monotonic_s()) is None
    monkeypatch.setattr(store, "sales_near_opening", read)
    await halls.near_opening(ahead_s=AHEAD_S, each_max=EACH_MAX)
    assert halls.at_hand(showtime_id, house.clock.monotonic_s()) is not None


async def _sales(house: House, *terms: dict[str, Any]) -> list[str]:
    """A sale each, on one small layout; `opens` and `closes` in minutes from now."""
    sales, now = house.platform.sales, datetime.now(UTC)
    layout = import_layout(b"A1,A2", name="two").layout
    await sales.keep_layout(layout)
    made = [
        sales.terms_of(
            layout,
            opens_at=now + timedelta(minutes=each["opens"]),
            closes_at=now + timedelta(minutes=each["closes"]) if "closes" in each else None,
        )
        for each in terms
    ]
    await sales.open_sales(made)
    return [sale.showtime_id for sale in made]


async def test_what_opens_next_comes_first_then_what_opened_last_and_nothing_that_is_over(
    house: House,
) -> None:
    opens = ({"opens": 30}, {"opens": 5}, {"opens": -5}, {"opens": -60}, {"opens": 5_000})
    over = ({"opens": -9, "closes": -1}, {"opens": -2})
    in_30, in_5, since_5, since_60, _, _, closed = await _sales(house, *opens, *over)
    paused = (await _sales(house, {"opens": -30}))[0]
    await house.platform.sales.change_sale(closed, phase="closed")
    await house.platform.sales.change_sale(paused, phase="paused")
    find = house.platform.reservation_store.sales_near_opening
    found = [sale.showtime_id for sale in await find(ahead_s=AHEAD_S, each_max=9)]
    assert found == [in_5, in_30, since_5, paused, since_60]
    found = [sale.showtime_id for sale in await find(ahead_s=AHEAD_S, each_max=1)]
    assert found == [in_5, since_5]


async def test_only_as_many_seats_are_kept_ready_as_there_is_room_for(
    house: House, newcomer: Newcomer
) -> None:
    now, platform = datetime.now(UTC), newcomer.platform
    large, small = ",".join(f"A{seat}" for seat in range(50)), "A1,A2,A3"
    for minutes, grid in ((1, small), (2, large), (3, small.replace("A", "B"))):
        await house.running.add_showtime(grid, opens_at=now + timedelta(minutes=minutes))
    bounded = Warming(platform.halls, Drawings(), platform.programme.prices_of, seats_max=10)
    await bounded.round()
    assert newcomer.paid.plans == [3, 3]
    await platform.warming.round()  # the control: where there is room, the large one too
    assert newcomer.paid.plans == [3, 3, 50]


async def test_a_layout_that_cannot_be_read_is_said_once_and_keeps_nothing_else_from_being_ready(
    house: House, newcomer: Newcomer, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    spoilt, sound = [
        await house.running.add_showtime(opens_at=now + timedelta(minutes=minutes)) for minutes in (1, 2)
    ]
    await house.platform.database.execute(
        "UPDATE reservation.layouts SET document = '{}' WHERE layout_id ="
        " (SELECT layout_id FROM reservation.inventories WHERE showtime_id = $1::text)",
        spoilt,
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await newcomer.platform.warming.round()
    assert [record.getMessage() for record in caplog.records if spoilt in record.getMessage()] == [
        record.getMessage() for record in caplog.records
    ]
    assert len(caplog.records) == 1
    halls, clock = newcomer.platform.halls, newcomer.platform.clock
    assert halls.at_hand(sound, clock.monotonic_s()) is not None


async def test_while_postgres_is_away_nothing_is_made_ready_and_nothing_said(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Addresses(house.platform.addresses.redis_url, "postgresql://nobody@127.0.0.1:1/none", None)
    async with platform_for(load({}, data_dir=tmp_path), nowhere) as platform:
        with caplog.at_level(logging.WARNING):
            await platform.warming.round()
    assert caplog.records == []


async def test_among_thousands_of_showtimes_only_the_nearest_are_looked_at(house: House) -> None:
    await _sales(house, {"opens": 0})
    database = house.platform.database
    await database.execute(
        "INSERT INTO reservation.inventories (showtime_id, layout_id, opens_at, buyer_seats_max, orphan_rule)"
        " SELECT 'sho_x' || number, layout_id, now() + (number - 5000) * interval '1 second', 8, 'off'"
        " FROM reservation.layouts, generate_series(1, 10000) AS number"
    )
    await database.execute("ANALYZE reservation.inventories")

    async def looked_at() -> int:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {STATEMENT}"
        (found,) = await database.fetchval(explain, timedelta(seconds=AHEAD_S), EACH_MAX)
        return _rows_read(found["Plan"])

    assert await looked_at() <= 2 * EACH_MAX
    await database.execute("DROP INDEX reservation.inventories_by_opening")
    assert await looked_at() > 5_000, "the control: without its index"


def _rows_read(plan: dict[str, Any]) -> int:
    """Rows of the table of sales that were read, those thrown away too."""
    here = 0
    if plan.get("Relation Name") == "inventories":
        here = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return int(here) + sum(_rows_read(part) for part in plan.get("Plans", ()))
