"""Goal: the catalogue finds and pages what it was given, each thing once.

Method: a real PostgreSQL with the catalogue's own migration; databases that hold the demo are copies of
one that was seeded once. Walks compare what paging gave with what one statement gives.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from catalogue import Catalogue, CatalogueStore, Cinema, Film, NewShowtime, Screen, Text
from catalogue.demo.films import demo_films
from catalogue.domain import fold
from catalogue.paging import Cursors, Slice
from catalogue.service import _ShowtimeKey
from catalogue.store import _SQL
from kernel.errors import InvalidCursor, NotFound
from kernel.money import Money
from reservation import Area, Layout, Seat, Segment
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker
from tests.support.programme import NOW, catalogue_on, demo_catalogue, empty_catalogue

PRICE = Money(49_90, "CNY")
_YEARS_OF_SHOWTIMES = """
INSERT INTO catalogue.showtimes
  (showtime_id, film_id, screen_id, cinema_id, layout_id, seat_count, starts_at)
SELECT 'sho_' || n, film_id, screen_id, cinema_id, layout_id, seat_count, starts_at - n * interval '1 hour'
FROM catalogue.showtimes, generate_series(36, 20000) AS n WHERE showtime_id = $1::text
"""


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


@pytest.fixture
def layout() -> Layout:
    seats = tuple(Seat(i, f"1-{i + 1}", "1", str(i + 1), float(i), 0.0, "ab"[i // 2]) for i in range(4))
    return Layout("Barn", seats, (Area("a", "A"), Area("b", "B")), (Segment(0, 4, "1"),), (1.5, 0.0))


async def walk(page: Callable[[str | None], Awaitable[Slice[Any]]]) -> list[Any]:
    """Every item of a list, page by page."""
    items: list[Any] = []
    cursor = None
    while True:
        found = await page(cursor)
        items += found.items
        if found.next_cursor is None:
            return items
        cursor = found.next_cursor


async def names_found(catalogue: Catalogue, query: str) -> list[str]:
    """English names, in the order of the answer."""
    found = await catalogue.search(query, 100)
    return [
        match.item.title.en if isinstance(match.item, Film) else match.item.name.en for match in found.items
    ]


# Lists


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_paging_gives_every_film_and_cinema_once(demo: Database, limit: int) -> None:
    catalogue = catalogue_on(demo)
    films = await walk(lambda cursor: catalogue.films(limit, cursor))
    assert (
        len({film.film_id for film in films})
        == len(films)
        == await demo.fetchval("SELECT count(*) FROM catalogue.films")
    )
    assert [film.year for film in films] == sorted((film.year for film in films), reverse=True)
    cinemas = await walk(lambda cursor: catalogue.cinemas(limit, cursor))
    assert len({cinema.cinema_id for cinema in cinemas}) == len(cinemas) == 7
    assert [cinema.name.en for cinema in cinemas] == sorted(cinema.name.en for cinema in cinemas)


@pytest.mark.parametrize("limit", [3, 50])
async def test_paging_gives_every_showtime_once_in_order_of_time(demo: Database, limit: int) -> None:
    catalogue = catalogue_on(demo)
    listings = await walk(lambda cursor: catalogue.showtimes(limit, cursor))
    found = [(listing.card.starts_at, listing.card.showtime_id) for listing in listings]
    rows = await demo.fetch("SELECT starts_at, showtime_id FROM catalogue.showtimes ORDER BY 1, 2")
    assert found == [tuple(row) for row in rows]
    assert all(listing.prices for listing in listings)


async def test_a_list_that_grows_neither_repeats_nor_skips(demo: Database, layout: Layout) -> None:
    catalogue = catalogue_on(demo)
    first = await catalogue.showtimes(20)
    early = await catalogue.add_showtime(layout, first.items[0].card.starts_at, PRICE)
    rest = await walk(lambda cursor: catalogue.showtimes(20, cursor or first.next_cursor))
    seen = [listing.card.showtime_id for listing in [*first.items, *rest]]
    assert len(seen) == len(set(seen))
    assert set(seen) | {early} == set(await _ids(demo, "showtime_id", "showtimes"))


async def test_searching_pages_too(demo: Database) -> None:
    catalogue = catalogue_on(demo)
    whole = (await catalogue.search("a", 100)).items
    assert len(whole) > 30
    by_page = await walk(lambda cursor: catalogue.search("a", 4, cursor))
    assert [match.hit for match in by_page] == [match.hit for match in whole]


async def test_cursors_of_other_lists_and_filters_are_refused(demo: Database) -> None:
    catalogue = catalogue_on(demo)
    cursor = (await catalogue.showtimes(5)).next_cursor
    assert cursor is not None
    film_id = (await catalogue.films(1)).items[0].film_id
    for refused in (
        catalogue.films(5, cursor),
        catalogue.cinemas(5, cursor),
        catalogue.search("a", 5, cursor),
        catalogue.showtimes(5, cursor, film_id=film_id),
        catalogue.showtimes(5, cursor, day=NOW.date()),
        catalogue.showtimes(5, cursor + "A"),
        catalogue.showtimes(5, ""),
        catalogue.films(5, "bm90IG91cnM"),
    ):
        with pytest.raises(InvalidCursor):
            await refused


async def test_showtimes_are_filtered_by_film_and_cinema(demo: Database) -> None:
    catalogue = catalogue_on(demo)
    some = (await catalogue.showtimes(1)).items[0].card
    assert some.film is not None
    film_id, cinema_id = some.film.film_id, some.cinema.cinema_id
    filters: tuple[dict[str, Any], ...] = (
        {"film_id": film_id},
        {"cinema_id": cinema_id},
        {"film_id": film_id, "cinema_id": cinema_id},
    )
    for wanted in filters:
        listings = await walk(partial(catalogue.showtimes, 10, **wanted))
        where = " AND ".join(f"{name} = '{value}'" for name, value in wanted.items())
        assert len(listings) == await demo.fetchval(f"SELECT count(*) FROM catalogue.showtimes WHERE {where}")
    assert (await catalogue.showtimes(10, film_id="flm_unknown")).items == []


async def test_a_date_is_a_day_where_the_cinema_stands(empty: Database, layout: Layout) -> None:
    zones = (
        "Pacific/Kiritimati",
        "Asia/Shanghai",
        "Europe/Berlin",
        "America/Los_Angeles",
        "Pacific/Pago_Pago",
    )
    noon = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)  # the clocks change in Los Angeles on this day
    showtimes = []
    for number, zone in enumerate(zones):
        cinema = Cinema(f"cin_{number}", Text("影院", zone), Text("城", "City"), Text("", ""), zone)
        screen = Screen(f"scr_{number}", cinema.cinema_id, 1, Text("厅", "Hall"), "standard", "lay_1", 4)
        await CatalogueStore(empty).add_programme(cinemas=[cinema], screens=[screen])
        for hour in range(-48, 48):
            starts_at = noon + timedelta(hours=hour, minutes=30)
            showtimes.append(
                NewShowtime(
                    f"sho_{number}_{hour}",
                    None,
                    screen.screen_id,
                    cinema.cinema_id,
                    "lay_1",
                    4,
                    starts_at,
                    {"a": PRICE},
                )
            )
    await CatalogueStore(empty).add_programme(showtimes=showtimes)
    catalogue = catalogue_on(empty)
    hours = {}
    for number, zone in enumerate(zones):
        listings = await walk(
            partial(catalogue.showtimes, 100, cinema_id=f"cin_{number}", day=date(2026, 3, 8))
        )
        local = await empty.fetch(
            "SELECT showtime_id FROM catalogue.showtimes WHERE cinema_id = $1 AND "
            "(starts_at AT TIME ZONE $2)::date = '2026-03-08' ORDER BY starts_at",
            f"cin_{number}",
            zone,
        )
        assert [listing.card.showtime_id for listing in listings] == [row["showtime_id"] for row in local]
        hours[zone] = len(listings)
    assert hours == {zone: 23 if zone == "America/Los_Angeles" else 24 for zone in zones}
    everywhere = await walk(lambda cursor: catalogue.showtimes(100, cursor, day=date(2026, 3, 8)))
    assert len(everywhere) == sum(hours.values())


async def test_days_at_the_end_of_the_calendar_are_simply_empty(demo: Database) -> None:
    for day in (date.min, date.max):
        assert (await catalogue_on(demo).showtimes(10, day=day)).items == []


async def test_without_a_date_the_list_begins_with_what_just_began(empty: Database, layout: Layout) -> None:
    catalogue = catalogue_on(empty)
    started = {}
    for minutes in (-31, -29, 5):
        started[minutes] = await catalogue.add_showtime(layout, NOW + timedelta(minutes=minutes), PRICE)
    shown = [listing.card.showtime_id for listing in (await catalogue.showtimes(10)).items]
    assert shown == [started[-29], started[5]]
    today = (await catalogue.showtimes(10, day=NOW.date())).items
    assert len(today) == 3


@pytest.mark.parametrize("day", [None, NOW.date()], ids=["from now on", "of a day"])
async def test_the_first_page_of_showtimes_reads_none_of_the_past(
    empty: Database, layout: Layout, monkeypatch: pytest.MonkeyPatch, day: date | None
) -> None:
    """The control begins where it begins for whoever has forged a cursor: at the beginning of time."""
    catalogue = catalogue_on(empty)
    today = await catalogue.add_showtime(layout, NOW, PRICE)
    await empty.execute(_YEARS_OF_SHOWTIMES, today)
    await empty.execute("ANALYZE catalogue.showtimes")
    fetch, asked = empty.fetch, dict[str, tuple[object, ...]]()

    async def remember(statement: str, *words: object) -> list[Any]:
        asked[statement] = words
        return await fetch(statement, *words)

    monkeypatch.setattr(empty, "fetch", remember)
    forged = Cursors(_ShowtimeKey, "showtimes", None, None, str(day)).write(_ShowtimeKey(0, ""))
    read = []
    for cursor in (None, forged):
        assert [one.card.showtime_id for one in (await catalogue.showtimes(10, cursor, day=day)).items] == [
            today
        ]
        read.append(await _pages_read(empty, asked[_SQL["list_showtimes"]]))
    *words, _, _, limit = asked[_SQL["list_showtimes"]]
    everything = await _pages_read(empty, (*words, datetime(1970, 1, 1, tzinfo=UTC), "", limit))
    assert max(read) < 10
    assert everything > 50


async def _pages_read(database: Database, words: tuple[object, ...]) -> int:
    """How many pages of showtimes and their indexes PostgreSQL looks at for a list."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_SQL['list_showtimes']}"
    (plan,) = await database.fetchval(explain, *words)
    pages, nodes = 0, [plan["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", ())
        if node.get("Relation Name") == "showtimes":
            pages += node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    return pages


# Searching


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("流浪地球", "The Wandering Earth"),
        ("the wandering earth", "The Wandering Earth"),
        ("liu lang di qiu", "The Wandering Earth"),
        ("LLDQ", "The Wandering Earth"),
        ("lldq2", "The Wandering Earth II"),
        ("hynh", "In the Mood for Love"),
        ("花样年华", "In the Mood for Love"),
        ("你好李焕英", "Hi, Mom"),
        ("你好，李焕英", "Hi, Mom"),
        ("amelie", "Amélie"),
        ("ＡＭÉＬＩＥ", "Amélie"),
        ("spiderman", "Spider-Man: Into the Spider-Verse"),
        ("interstelar", "Interstellar"),
        ("shawshenk", "The Shawshank Redemption"),
        ("英雄", "Hero"),
        ("柯蒂斯", "Everything Everywhere All at Once"),
        ("Galaxy Film", "Galaxy Film Palace"),
        ("银河", "Galaxy Film Palace"),
        ("yhdyg", "Galaxy Film Palace"),
        ("杭州", "Lakeside Arthouse"),
        ("stadium", "Cloud Arch Stadium"),
    ],
)
async def test_search_finds_by_chinese_english_pinyin_initials_people_and_places(
    demo: Database, query: str, first: str
) -> None:
    assert (await names_found(catalogue_on(demo), query))[:1] == [first]


async def test_whole_names_come_before_beginnings_before_middles(demo: Database) -> None:
    ranks = [match.hit.rank for match in (await catalogue_on(demo).search("avatar", 100)).items]
    assert ranks[0] == 0
    assert ranks == sorted(ranks)
    found = await names_found(catalogue_on(demo), "the")
    assert found.index("The Matrix") < found.index("In the Mood for Love")


@pytest.mark.parametrize(
    "query", ["%", "_", "%%%", "\\", "'", "*", "😀", " ", "zzzzzz", "星星星星星", "🎬🎬🎬🎬"]
)
async def test_nothing_is_found_by_what_is_no_name(demo: Database, query: str) -> None:
    assert (await catalogue_on(demo).search(query, 10)).items == []


@pytest.mark.parametrize("name", ["search", "match_films"])
async def test_searching_uses_the_index(demo: Database, name: str) -> None:
    folded = fold("星际穿越")
    rest: tuple[object, ...] = (-1, 0, "", 20) if name == "search" else (20,)
    async with demo.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(
            row[0]
            for row in await connection.fetch(
                f"EXPLAIN {_SQL[name]}", folded, f"%\n{folded}\n%", f"%\n{folded}%", f"%{folded}%", *rest
            )
        )
    assert len(re.findall(r"Bitmap Index Scan on films_search", plan)) == 2, plan


async def test_every_statement_fits_the_schema(empty: Database) -> None:
    async with empty.connection() as connection:
        for statement in _SQL.values():
            await connection.prepare(statement)


# Single things


async def test_what_is_not_there_is_not_found(demo: Database) -> None:
    catalogue = catalogue_on(demo)
    for missing in (
        catalogue.film("flm_unknown"),
        catalogue.cinema("cin_unknown"),
        catalogue.showtime("sho_0000000000"),
        catalogue.card_of("sho_0000000000"),
        catalogue.prices_of("sho_0000000000"),
        catalogue.prices_of("nonsense"),
    ):
        with pytest.raises(NotFound):
            await missing


async def test_a_cinema_has_its_screens_in_order(demo: Database) -> None:
    catalogue = catalogue_on(demo)
    (match,) = (await catalogue.search("银河电影宫", 1)).items
    cinema, screens = await catalogue.cinema(match.hit.id)
    assert [screen.position for screen in screens] == [1, 2, 3, 4]
    assert screens[0].format == "premiere"
    assert all(screen.cinema_id == cinema.cinema_id for screen in screens)


async def test_a_film_comes_back_as_it_went_in(demo: Database) -> None:
    catalogue = catalogue_on(demo)
    for film in demo_films():
        assert await catalogue.film(film.film_id) == film


async def _ids(database: Database, column: str, table: str) -> list[str]:
    return [row[0] for row in await database.fetch(f"SELECT {column} FROM catalogue.{table}")]
