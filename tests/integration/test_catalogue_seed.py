"""Goal: the demo can be seeded again and again, on any day and after any crash.

Method: a real PostgreSQL; fingerprints of all tables before and after, and a seat engine that can be told
to fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from runtime.postgres import Database
from tests.support.engines import DatabaseMaker
from tests.support.programme import NOW, Engine, demo_catalogue, empty_catalogue, seeded

TABLES = ("films", "cinemas", "screens", "showtimes", "showtime_prices")


@pytest_asyncio.fixture
async def empty(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    database = Database(await make_database(empty_catalogue))
    yield database
    await database.close()


@pytest_asyncio.fixture
async def demo(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    database = Database(await make_database(demo_catalogue))
    yield database
    await database.close()


async def contents(database: Database) -> dict[str, str]:
    """A fingerprint of every table."""
    return {
        table: await database.fetchval(
            f"SELECT count(*) || md5(string_agg(t::text, '' ORDER BY t::text)) FROM catalogue.{table} t"
        )
        for table in TABLES
    }


async def test_seeding_twice_changes_nothing(empty: Database) -> None:
    engine = Engine()
    first = await seeded(empty, engine)
    before, sales = await contents(empty), dict(engine.sales)
    second = await seeded(empty, engine)
    assert await contents(empty) == before
    assert engine.sales == sales
    assert first.showtimes == first.showtimes_added == len(sales)
    assert second.showtimes_added == 0
    assert (first.cinemas, first.screens) == (7, 21)


async def test_seeding_the_next_day_adds_a_day_and_touches_nothing_else(demo: Database) -> None:
    before = await contents(demo)
    report = await seeded(demo, Engine(), NOW + timedelta(days=1))
    after = await contents(demo)
    assert 30 <= report.showtimes_added <= 50
    assert [after[table] == before[table] for table in TABLES] == [True, True, True, False, False]
    overlaps = await demo.fetchval(
        """
        SELECT count(*) FROM catalogue.showtimes a
        JOIN catalogue.films f USING (film_id)
        JOIN catalogue.showtimes b ON b.screen_id = a.screen_id AND b.showtime_id <> a.showtime_id
        WHERE b.starts_at >= a.starts_at
          AND b.starts_at < a.starts_at + make_interval(mins => f.running_time_min)
        """
    )
    assert overlaps == 0


async def test_a_seeding_that_died_before_the_sales_is_finished_by_the_next(empty: Database) -> None:
    engine = Engine()
    engine.broken = True
    with pytest.raises(ConnectionError):
        await seeded(empty, engine)
    engine.broken = False
    report = await seeded(empty, engine)
    assert report.showtimes_added == 0
    assert len(engine.sales) == report.showtimes


async def test_everything_on_a_showtime_is_known_to_the_seat_engine(empty: Database) -> None:
    engine = Engine()
    await seeded(empty, engine)
    for row in await empty.fetch("SELECT showtime_id, layout_id, seat_count FROM catalogue.showtimes"):
        assert engine.layouts[row["layout_id"]].seat_count == row["seat_count"]
        assert engine.sales[row["showtime_id"]].layout.layout_id == row["layout_id"]
