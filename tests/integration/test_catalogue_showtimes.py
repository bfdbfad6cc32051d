"""Goal: a showtime is written once with its prices, is read from memory where that is honest, and can be
added on any layout without a cinema.

Method: a real PostgreSQL. Memory is shown by what is still answered after the rows are gone or the server
does not answer; the control is a catalogue without memory, which does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from catalogue import Catalogue, CatalogueStore, SaleInfo
from catalogue.demo.films import demo_films
from catalogue.domain import NO_SALE
from catalogue.service import CARD_TTL_S, HOUSE
from kernel.clock import ManualClock
from kernel.errors import NotFound, PersistenceUnavailable
from kernel.ids import is_id
from kernel.money import Money
from reservation import Area, Layout, Seat, Segment
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker
from tests.support.programme import NOW, Sales, empty_catalogue

TONIGHT = NOW + timedelta(hours=9)
PRICE = Money(49_90, "CNY")
DEAR = Money(89_90, "CNY")
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


class Parts:
    """A catalogue with everything it was made of."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(NOW)
        self.sales = Sales()
        self.store = CatalogueStore(database)
        self.catalogue = Catalogue(self.store, self.sales, self.clock)

    def lose_the_server(self) -> None:
        """From now on nobody answers."""
        self.store._database = Database(NOWHERE, acquire_timeout_s=0.2)


async def _with_films(url: str) -> None:
    await empty_catalogue(url)
    database = Database(url)
    await CatalogueStore(database).add_programme(films=demo_films())
    await database.close()


@pytest_asyncio.fixture
async def parts(make_database: DatabaseMaker) -> AsyncIterator[Parts]:
    database = Database(await make_database(_with_films))
    yield Parts(database)
    await database.close()


@pytest.fixture
def layout() -> Layout:
    seats = tuple(Seat(i, f"1-{i + 1}", "1", str(i + 1), float(i), 0.0, "ab"[i // 2]) for i in range(4))
    return Layout("Barn", seats, (Area("a", "A"), Area("b", "B")), (Segment(0, 4, "1"),), (1.5, 0.0))


async def showtimes_written(parts: Parts) -> int:
    return int(await parts.database.fetchval("SELECT count(*) FROM catalogue.showtimes"))


async def forget_prices(database: Database) -> None:
    await database.execute("DELETE FROM catalogue.showtime_prices")


async def test_a_showtime_needs_only_a_layout_a_time_and_a_price(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    assert is_id(showtime_id, "sho")
    listing = await parts.catalogue.showtime(showtime_id)
    assert listing.card.film is None
    assert listing.card.ends_at is None
    assert listing.card.starts_at == TONIGHT
    assert (listing.card.layout_id, listing.card.seat_count) == (layout.layout_id, 4)
    assert listing.card.cinema.cinema_id == HOUSE.cinema_id
    assert listing.card.screen.name.zh == "Barn"
    assert listing.prices == {"a": PRICE, "b": PRICE}
    assert listing.sale == NO_SALE


async def test_the_house_has_one_screen_per_layout(parts: Parts, layout: Layout) -> None:
    other = Layout("Yard", layout.seats, layout.areas, layout.segments, layout.focal_point)
    for each in (layout, layout, other):
        await parts.catalogue.add_showtime(each, TONIGHT, PRICE)
    _, screens = await parts.catalogue.cinema(HOUSE.cinema_id)
    assert sorted(screen.name.en for screen in screens) == ["Barn", "Yard"]
    assert await showtimes_written(parts) == 3


@pytest.mark.parametrize(
    "title",
    ["让子弹飞", "Let the Bullets Fly", "let the bullets", "rang zi dan fei", "rzdf", "Let the Bulets Fly"],
)
async def test_a_film_is_named_by_any_of_its_titles(parts: Parts, layout: Layout, title: str) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE, film_title=title)
    card = await parts.catalogue.card_of(showtime_id)
    assert card.film is not None
    assert card.film.title.en == "Let the Bullets Fly"
    assert card.ends_at == TONIGHT + timedelta(minutes=132)


async def test_the_whole_title_wins_over_a_longer_one(parts: Parts) -> None:
    assert (await parts.catalogue.find_film("流浪地球")).year == 2019
    assert (await parts.catalogue.find_film("Ne Zha")).year == 2019


@pytest.mark.parametrize(
    ("title", "says"),
    [
        ("绝无此片", "no film is called"),
        ("", "no film is called"),
        ("!?", "no film is called"),
        ("流浪", "several"),
    ],
)
async def test_a_title_that_means_none_or_several_films_creates_nothing(
    parts: Parts, layout: Layout, title: str, says: str
) -> None:
    with pytest.raises(NotFound, match=says):
        await parts.catalogue.add_showtime(layout, TONIGHT, PRICE, film_title=title)
    assert await showtimes_written(parts) == 0


async def test_a_film_can_be_named_by_its_id(parts: Parts, layout: Layout) -> None:
    film = demo_films()[0]
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE, film_id=film.film_id)
    card = await parts.catalogue.card_of(showtime_id)
    assert card.film is not None
    assert card.film.title == film.title
    with pytest.raises(NotFound):
        await parts.catalogue.add_showtime(layout, TONIGHT, PRICE, film_id="flm_unknown")


@pytest.mark.parametrize(
    "prices",
    [{"a": PRICE}, {"a": PRICE, "b": PRICE, "c": PRICE}, {}, {"a": PRICE, "b": Money(10, "EUR")}],
)
async def test_prices_must_fit_the_areas_and_be_of_one_currency(
    parts: Parts, layout: Layout, prices: Mapping[str, Money]
) -> None:
    with pytest.raises(ValueError):
        await parts.catalogue.add_showtime(layout, TONIGHT, prices)
    assert await showtimes_written(parts) == 0


async def test_the_dearest_area_comes_first(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, {"a": PRICE, "b": DEAR})
    assert list((await Catalogue(parts.store, parts.sales, parts.clock).prices_of(showtime_id)).items()) == [
        ("b", DEAR),
        ("a", PRICE),
    ]


async def test_prices_never_change(parts: Parts, layout: Layout) -> None:
    await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    with pytest.raises(asyncpg.RestrictViolationError):
        await parts.database.execute("UPDATE catalogue.showtime_prices SET amount_minor = 1")


async def test_prices_are_read_once_and_remembered(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    known = await parts.catalogue.prices_of(showtime_id)
    await forget_prices(parts.database)
    assert await parts.catalogue.prices_of(showtime_id) is known
    parts.lose_the_server()
    assert await parts.catalogue.prices_of(showtime_id) is known


async def test_without_memory_prices_are_gone_with_their_rows(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    await parts.catalogue.prices_of(showtime_id)
    await forget_prices(parts.database)
    with pytest.raises(NotFound):
        await Catalogue(parts.store, parts.sales, parts.clock).prices_of(showtime_id)


async def test_a_card_is_read_again_after_some_seconds(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    await parts.catalogue.card_of(showtime_id)
    later = TONIGHT + timedelta(minutes=30)
    await parts.database.execute("UPDATE catalogue.showtimes SET starts_at = $1", later)
    assert (await parts.catalogue.card_of(showtime_id)).starts_at == TONIGHT
    parts.clock.advance(timedelta(seconds=CARD_TTL_S))
    assert (await parts.catalogue.card_of(showtime_id)).starts_at == later


async def test_an_old_card_is_better_than_none(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    await parts.catalogue.showtime(showtime_id)
    parts.clock.advance(timedelta(hours=1))
    parts.lose_the_server()
    assert (await parts.catalogue.showtime(showtime_id)).card.starts_at == TONIGHT
    with pytest.raises(PersistenceUnavailable):
        await parts.catalogue.showtime("sho_0000000000")


async def test_a_new_showtime_is_visible_at_once_even_after_somebody_asked_too_early(
    parts: Parts, layout: Layout
) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    other = Parts(parts.database).catalogue
    await parts.database.execute("CREATE TABLE aside AS SELECT * FROM catalogue.showtime_prices")
    await forget_prices(parts.database)
    with pytest.raises(NotFound):
        await other.prices_of(showtime_id)
    await parts.database.execute("INSERT INTO catalogue.showtime_prices SELECT * FROM aside")
    assert await other.prices_of(showtime_id) == {"a": PRICE, "b": PRICE}


async def test_the_sale_is_what_the_seat_engine_says_every_time(parts: Parts, layout: Layout) -> None:
    showtime_id = await parts.catalogue.add_showtime(layout, TONIGHT, PRICE)
    for seats_left in (4, 3, None):
        parts.sales.known[showtime_id] = SaleInfo("on_sale", NOW, TONIGHT, seats_left)
        assert (await parts.catalogue.showtime(showtime_id)).sale.seats_left == seats_left
        (listed,) = (await parts.catalogue.showtimes(10)).items
        assert listed.sale == parts.sales.known[showtime_id]


async def test_cards_of_many_leave_out_what_is_unknown(parts: Parts, layout: Layout) -> None:
    ids = [await parts.catalogue.add_showtime(layout, TONIGHT, PRICE) for _ in range(3)]
    assert set(await parts.catalogue.cards_of([*ids, "sho_0000000000", "nonsense"])) == set(ids)
