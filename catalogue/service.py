"""Reading the programme, and adding to it.

A reader gets one picture made of three sources: the showtime's card and prices from here, the state of
its sale from the seat engine. Cards and prices are remembered per process, because on the evening of a
big sale everybody looks at the same showtime: prices for good (they never change), cards for a few
seconds, and longer while PostgreSQL is away, since an old card is better than none. The state of a sale
is never remembered here.

Adding a showtime on a layout of its own (a rehearsal, a one-off event) does not need a cinema: the
*house* stands in, with one screen per layout, so that no reader ever meets a showtime without a place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Generic, NamedTuple, TypeVar

from msgspec import Meta

from catalogue.domain import (
    NO_SALE,
    Cinema,
    Film,
    Listing,
    NewShowtime,
    Prices,
    SaleStatus,
    Screen,
    ShowtimeCard,
    Text,
    derived_id,
    fold,
)
from catalogue.paging import Cursors, Slice
from catalogue.store import CatalogueStore, Hit, ShowtimeFilter
from kernel.clock import Clock
from kernel.errors import NotFound, PersistenceUnavailable
from kernel.ids import is_id, new_showtime_id
from kernel.money import Money
from reservation import Layout

CARD_TTL_S: Final = 10.0
REMEMBERED_MAX: Final = 16_384  # showtimes of a large chain for two weeks
#: A list without a date begins this long before now: people still walk in.
LATE_ENTRY: Final = timedelta(minutes=30)

HOUSE: Final = Cinema(
    cinema_id=derived_id("cin", "house"),
    name=Text("本馆", "The House"),
    city=Text("上海", "Shanghai"),
    address=Text("临时场地", "Wherever the layout stands"),
    time_zone="Asia/Shanghai",
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: A day begins nowhere earlier than this before it does in Greenwich.
_EASTERNMOST: Final = timedelta(hours=14)

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Anybody can forge a cursor, so its parts are bounded by what PostgreSQL takes.
_Number = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_Microseconds = Annotated[int, Meta(ge=0, le=250_000_000_000_000_000)]  # until the year 9892
_Word = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]


class _FilmKey(NamedTuple):
    year: _Number
    film_id: _Word


class _CinemaKey(NamedTuple):
    name_en: _Word
    cinema_id: _Word


class _HitKey(NamedTuple):
    rank: _Number
    place: _Number
    id: _Word


class _ShowtimeKey(NamedTuple):
    microseconds: _Microseconds
    showtime_id: _Word


@dataclass(frozen=True, slots=True)
class Match:
    """A search result with the thing itself."""

    hit: Hit
    item: Film | Cinema


class Catalogue:
    """Films, cinemas, showtimes and prices, as one process sees them."""

    def __init__(self, store: CatalogueStore, sales: SaleStatus, clock: Clock) -> None:
        self._store = store
        self._sales = sales
        self._clock = clock
        self._prices: _Memory[str, Prices] = _Memory(REMEMBERED_MAX)
        self._cards: _Memory[str, tuple[float, ShowtimeCard]] = _Memory(REMEMBERED_MAX)

    async def films(self, limit: int, cursor: str | None = None) -> Slice[Film]:
        """A page of films, newest first. Raises InvalidCursor."""
        cursors = Cursors(_FilmKey, "films")
        films = await self._store.list_films(cursors.read(cursor, _FilmKey(9999, "")), limit + 1)
        return _slice(films, limit, lambda film: cursors.write(_FilmKey(film.year, film.film_id)))

    async def film(self, film_id: str) -> Film:
        """One film. Raises NotFound."""
        found = await self._store.find_films([film_id])
        if film_id not in found:
            raise NotFound()
        return found[film_id]

    async def cinemas(self, limit: int, cursor: str | None = None) -> Slice[Cinema]:
        """A page of cinemas by English name. Raises InvalidCursor."""
        cursors = Cursors(_CinemaKey, "cinemas")
        cinemas = await self._store.list_cinemas(cursors.read(cursor, _CinemaKey("", "")), limit + 1)
        return _slice(
            cinemas, limit, lambda cinema: cursors.write(_CinemaKey(cinema.name.en, cinema.cinema_id))
        )

    async def cinema(self, cinema_id: str) -> tuple[Cinema, list[Screen]]:
        """One cinema with its screens. Raises NotFound."""
        found = await self._store.find_cinemas([cinema_id])
        if cinema_id not in found:
            raise NotFound()
        return found[cinema_id], await self._store.screens_of(cinema_id)

    async def search(self, query: str, limit: int, cursor: str | None = None) -> Slice[Match]:
        """Films and cinemas by any of their names, the closest first. Raises InvalidCursor."""
        folded = fold(query)
        cursors = Cursors(_HitKey, "search", folded)
        after = cursors.read(cursor, _HitKey(-1, 0, ""))
        if not folded:
            return Slice([], None)
        hits = await self._store.search(folded, after, limit + 1)
        films = await self._store.find_films(_ids(hits, "film"))
        cinemas = await self._store.find_cinemas(_ids(hits, "cinema"))
        things: Mapping[str, Film | Cinema] = {**films, **cinemas}
        matches = [Match(hit, things[hit.id]) for hit in hits]
        return _slice(
            matches,
            limit,
            lambda match: cursors.write(_HitKey(match.hit.rank, match.hit.place, match.hit.id)),
        )

    async def showtimes(
        self,
        limit: int,
        cursor: str | None = None,
        *,
        film_id: str | None = None,
        cinema_id: str | None = None,
        day: date | None = None,
    ) -> Slice[Listing]:
        """A page of showtimes in order of time: of a day in the cinema's own zone, else from now on.

        Raises InvalidCursor.
        """
        cursors = Cursors(_ShowtimeKey, "showtimes", film_id, cinema_id, str(day))
        wanted = ShowtimeFilter(film_id, cinema_id, day, since=self._clock.now() - LATE_ENTRY)
        after = max(cursors.read(cursor, _ShowtimeKey(0, "")), _beginning_of(wanted))
        starts_after = _EPOCH + after.microseconds * _MICROSECOND
        cards = await self._store.list_showtimes(wanted, (starts_after, after.showtime_id), limit + 1)
        return _slice(
            await self._listings(cards),
            limit,
            lambda listing: cursors.write(
                _ShowtimeKey((listing.card.starts_at - _EPOCH) // _MICROSECOND, listing.card.showtime_id)
            ),
        )

    async def showtime(self, showtime_id: str) -> Listing:
        """One showtime. Raises NotFound."""
        (listing,) = await self._listings([await self.card_of(showtime_id)])
        return listing

    async def card_of(self, showtime_id: str) -> ShowtimeCard:
        """What, where and when a showtime is. Raises NotFound."""
        cards = await self.cards_of([showtime_id])
        if showtime_id not in cards:
            raise NotFound()
        return cards[showtime_id]

    async def cards_of(self, showtime_ids: Collection[str]) -> Mapping[str, ShowtimeCard]:
        """Cards by showtime; unknown showtimes are left out."""
        now_s = self._clock.monotonic_s()
        known = {each: self._cards.find(each) for each in showtime_ids}
        stale = [each for each, entry in known.items() if entry is None or entry[0] <= now_s]
        result = {each: entry[1] for each, entry in known.items() if entry is not None}
        if stale:
            try:
                found = await self._store.find_showtimes(stale)
            except PersistenceUnavailable:
                if len(result) < len(known):
                    raise
                return result
            for showtime_id, card in found.items():
                self._cards.keep(showtime_id, (now_s + CARD_TTL_S, card))
            result |= found
        return result

    async def prices_of(self, showtime_id: str) -> Prices:
        """Price by area of one showtime. Raises NotFound."""
        known = self._prices.find(showtime_id)
        if known is not None:
            return known
        prices = await self._prices_of([showtime_id])
        if showtime_id not in prices:
            raise NotFound()
        return prices[showtime_id]

    async def find_film(self, title: str) -> Film:
        """The film a title means, in either language, in pinyin, or nearly.

        Raises NotFound, whose detail says what was close, when the title means none or several.
        """
        matches = await self._store.match_films(fold(title), 4) if fold(title) else []
        best = [match for match in matches if match[0] == matches[0][0]]
        if len(best) == 1:
            return await self.film(best[0][1])
        if not best:
            raise NotFound(f"no film is called {title!r}")
        names = ", ".join(f"{both.zh} ({both.en}, {film_id})" for _, film_id, both in best)
        raise NotFound(f"{title!r} may be several films: {names}")

    async def add_showtime(
        self,
        layout: Layout,
        starts_at: datetime,
        prices: Prices | Money,
        *,
        film_title: str | None = None,
        film_id: str | None = None,
    ) -> str:
        """Add a showtime on a layout of its own, in the house; the answer is its id.

        One price is for all areas. Raises NotFound for a film that is not in the catalogue, ValueError
        when the prices do not fit the layout's areas.
        """
        by_area = _prices_by_area(layout, prices)
        if film_title is not None:
            film_id = (await self.find_film(film_title)).film_id
        elif film_id is not None:
            await self.film(film_id)
        screen = _house_screen(layout)
        for _ in range(3):  # 50 random bits: twice the same is a rumour, three times a bug
            showtime = NewShowtime(
                showtime_id=new_showtime_id(),
                film_id=film_id,
                screen_id=screen.screen_id,
                cinema_id=HOUSE.cinema_id,
                layout_id=layout.layout_id,
                seat_count=layout.seat_count,
                starts_at=starts_at,
                prices=by_area,
            )
            if await self._store.add_programme(cinemas=[HOUSE], screens=[screen], showtimes=[showtime]):
                return showtime.showtime_id
        raise AssertionError("three fresh showtime ids were all taken")

    async def add_programme(
        self,
        *,
        films: Sequence[Film],
        cinemas: Sequence[Cinema],
        screens: Sequence[Screen],
        showtimes: Sequence[NewShowtime],
    ) -> list[str]:
        """Add a whole programme, all or none; what exists stays as it is.

        The answer names the showtimes that were new.
        """
        return await self._store.add_programme(
            films=films, cinemas=cinemas, screens=screens, showtimes=showtimes
        )

    async def _listings(self, cards: Sequence[ShowtimeCard]) -> list[Listing]:
        showtime_ids = [card.showtime_id for card in cards]
        if not showtime_ids:
            return []
        prices = await self._prices_of(showtime_ids)
        sales = await self._sales.sales_of(showtime_ids)
        return [
            Listing(
                card=card,
                sale=sales.get(card.showtime_id, NO_SALE),
                prices=prices.get(card.showtime_id, {}),
            )
            for card in cards
        ]

    async def _prices_of(self, showtime_ids: Sequence[str]) -> Mapping[str, Prices]:
        known = {each: self._prices.find(each) for each in showtime_ids}
        result = {each: prices for each, prices in known.items() if prices is not None}
        missing = [each for each, prices in known.items() if prices is None and is_id(each, "sho")]
        if missing:
            found = await self._store.find_prices(missing)
            for showtime_id, prices in found.items():
                self._prices.keep(showtime_id, prices)
            result |= found
        return result


class _Memory(Generic[Key, Value]):
    """The values used last."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def find(self, key: Key) -> Value | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def keep(self, key: Key, value: Value) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self._size_max:
            self._values.popitem(last=False)


def _slice(items: list[Value], limit: int, cursor_of: Callable[[Value], str]) -> Slice[Value]:
    """The first `limit` of items that were asked for one too many."""
    page = items[:limit]
    return Slice(page, cursor_of(page[-1]) if len(items) > limit else None)


def _beginning_of(wanted: ShowtimeFilter) -> _ShowtimeKey:
    """The place no showtime of a list comes before.

    PostgreSQL begins to read its index at the place it is to go on after. It holds what it finds against the
    list's bounds as well, and from the beginning of time that is every showtime there ever was.
    """
    if wanted.day is None:
        since = wanted.since - _EPOCH
    else:  # by the calendar's count: it has days before which there are no fourteen hours
        since = timedelta(days=wanted.day.toordinal() - _EPOCH.toordinal()) - _EASTERNMOST
    return _ShowtimeKey(max(0, since // _MICROSECOND), "")


def _ids(hits: Sequence[Hit], kind: str) -> list[str]:
    return [hit.id for hit in hits if hit.kind == kind]


def _house_screen(layout: Layout) -> Screen:
    return Screen(
        screen_id=derived_id("scr", "house", layout.layout_id),
        cinema_id=HOUSE.cinema_id,
        position=0,
        name=Text(layout.name, layout.name),
        format="standard",
        layout_id=layout.layout_id,
        seat_count=layout.seat_count,
    )


def _prices_by_area(layout: Layout, prices: Prices | Money) -> Prices:
    areas = {area.area_id for area in layout.areas}
    if isinstance(prices, Money):
        return dict.fromkeys(sorted(areas), prices)
    if prices.keys() != areas:
        odd = ", ".join(sorted(prices.keys() ^ areas))
        raise ValueError(f"every area needs one price, and only areas have one: {odd}")
    if len({money.currency for money in prices.values()}) != 1:
        raise ValueError("a showtime is sold in one currency")
    return prices
