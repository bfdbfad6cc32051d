"""What PostgreSQL knows of films, cinemas, screens, showtimes and prices.

Lists are read by key, never by offset: every page method takes the sort key of the last item and gives
items after it. Writing is for whole programmes at once and repeatable: what exists stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from catalogue.domain import (
    Cinema,
    CinemaCard,
    Film,
    FilmCard,
    NewShowtime,
    People,
    Prices,
    Screen,
    ScreenCard,
    ShowtimeCard,
    Text,
)
from kernel.money import Money
from runtime.postgres import Database, Record
from runtime.queries import load_queries

_SQL = load_queries(__file__)

#: Near misses of fewer letters are everything, and judging them reads the whole table.
NEAR_MISS_LENGTH_MIN: Final = 4


@dataclass(frozen=True, slots=True)
class Hit:
    """Something a search found, with its sort key: the lower, the closer."""

    kind: Literal["film", "cinema"]
    id: str
    place: int
    rank: int


@dataclass(frozen=True, slots=True)
class ShowtimeFilter:
    """Which showtimes a list is about. A day counts in the cinema's zone and replaces `since`."""

    film_id: str | None
    cinema_id: str | None
    day: date | None
    since: datetime


class CatalogueStore:
    """The catalogue schema, statement by statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_programme(
        self,
        *,
        films: Sequence[Film] = (),
        cinemas: Sequence[Cinema] = (),
        screens: Sequence[Screen] = (),
        showtimes: Sequence[NewShowtime] = (),
    ) -> list[str]:
        """Write what is new of all this, all or none; the answer names the showtimes that were new."""
        async with self._database.transaction() as connection:
            if films:
                await connection.executemany(_SQL["add_films"], [_film_row(film) for film in films])
            if cinemas:
                await connection.executemany(_SQL["add_cinemas"], [_cinema_row(each) for each in cinemas])
            if screens:
                await connection.executemany(_SQL["add_screens"], [_screen_row(each) for each in screens])
            if not showtimes:
                return []
            rows = await connection.fetch(
                _SQL["add_showtimes"],
                [each.showtime_id for each in showtimes],
                [each.film_id for each in showtimes],
                [each.screen_id for each in showtimes],
                [each.cinema_id for each in showtimes],
                [each.layout_id for each in showtimes],
                [each.seat_count for each in showtimes],
                [each.starts_at for each in showtimes],
            )
            added = {str(row["showtime_id"]) for row in rows}
            prices = [
                (each.showtime_id, area_id, money)
                for each in showtimes
                if each.showtime_id in added
                for area_id, money in each.prices.items()
            ]
            await connection.execute(
                _SQL["add_prices"],
                [showtime_id for showtime_id, _, _ in prices],
                [area_id for _, area_id, _ in prices],
                [money.amount for _, _, money in prices],
                [money.currency for _, _, money in prices],
            )
        return sorted(added)

    async def list_films(self, before: tuple[int, str], limit: int) -> list[Film]:
        """Films in order of (year, id), newest first."""
        return [_film(row) for row in await self._database.fetch(_SQL["list_films"], *before, limit)]

    async def find_films(self, film_ids: Iterable[str]) -> dict[str, Film]:
        rows = await self._database.fetch(_SQL["find_films"], list(film_ids))
        return {row["film_id"]: _film(row) for row in rows}

    async def list_cinemas(self, after: tuple[str, str], limit: int) -> list[Cinema]:
        """Cinemas in order of (English name, id)."""
        return [_cinema(row) for row in await self._database.fetch(_SQL["list_cinemas"], *after, limit)]

    async def find_cinemas(self, cinema_ids: Iterable[str]) -> dict[str, Cinema]:
        rows = await self._database.fetch(_SQL["find_cinemas"], list(cinema_ids))
        return {row["cinema_id"]: _cinema(row) for row in rows}

    async def screens_of(self, cinema_id: str) -> list[Screen]:
        rows = await self._database.fetch(_SQL["screens_of"], cinema_id)
        return [
            Screen(
                screen_id=row["screen_id"],
                cinema_id=row["cinema_id"],
                position=row["position"],
                name=_text(row, "name"),
                format=row["format"],
                layout_id=row["layout_id"],
                seat_count=row["seat_count"],
            )
            for row in rows
        ]

    async def search(self, folded: str, after: tuple[int, int, str], limit: int) -> list[Hit]:
        """Films and cinemas for a folded query, in order of (rank, place, id)."""
        rows = await self._database.fetch(_SQL["search"], *_probes(folded), *after, limit)
        return [Hit(row["kind"], row["id"], row["place"], row["rank"]) for row in rows]

    async def match_films(self, folded: str, limit: int) -> list[tuple[int, str, Text]]:
        """Films a folded title may mean: rank, id and title, the closest first."""
        rows = await self._database.fetch(_SQL["match_films"], *_probes(folded), limit)
        return [(row["rank"], row["film_id"], _text(row, "title")) for row in rows]

    async def list_showtimes(
        self, wanted: ShowtimeFilter, after: tuple[datetime, str], limit: int
    ) -> list[ShowtimeCard]:
        """Showtimes in order of (start, id)."""
        rows = await self._database.fetch(
            _SQL["list_showtimes"],
            wanted.film_id,
            wanted.cinema_id,
            wanted.day,
            wanted.since,
            *after,
            limit,
        )
        return [_card(row) for row in rows]

    async def find_showtimes(self, showtime_ids: Iterable[str]) -> dict[str, ShowtimeCard]:
        rows = await self._database.fetch(_SQL["find_showtimes"], list(showtime_ids))
        return {row["showtime_id"]: _card(row) for row in rows}

    async def find_prices(self, showtime_ids: Iterable[str]) -> dict[str, Prices]:
        """Prices by showtime, the dearest area first; unknown showtimes are left out."""
        found: dict[str, dict[str, Money]] = {}
        for row in await self._database.fetch(_SQL["find_prices"], list(showtime_ids)):
            prices = found.setdefault(row["showtime_id"], {})
            prices[row["area_id"]] = Money(row["amount_minor"], row["currency"])
        return {**found}


def _probes(folded: str) -> tuple[str | None, str, str, str]:
    """What a folded query is compared with: itself for near misses, and LIKE patterns for the whole of a
    name, its beginning and its middle. Folded text has no wildcards."""
    near = folded if len(folded) >= NEAR_MISS_LENGTH_MIN else None
    return (near, f"%\n{folded}\n%", f"%\n{folded}%", f"%{folded}%")


def _film_row(film: Film) -> tuple[object, ...]:
    return (
        film.film_id,
        film.title.zh,
        film.title.en,
        film.pinyin,
        film.initials,
        film.year,
        film.release_date,
        film.running_time_min,
        list(film.genres),
        {
            "directors": [[person.zh, person.en] for person in film.people.directors],
            "cast": [[person.zh, person.en] for person in film.people.cast],
        },
        film.synopsis.zh,
        film.synopsis.en,
        film.search_text,
    )


def _cinema_row(cinema: Cinema) -> tuple[object, ...]:
    both = (cinema.name, cinema.city, cinema.address)
    return (
        cinema.cinema_id,
        *(text for each in both for text in (each.zh, each.en)),
        cinema.time_zone,
        cinema.search_text,
    )


def _screen_row(screen: Screen) -> tuple[object, ...]:
    return (
        screen.screen_id,
        screen.cinema_id,
        screen.position,
        screen.name.zh,
        screen.name.en,
        screen.format,
        screen.layout_id,
        screen.seat_count,
    )


def _text(row: Record, name: str) -> Text:
    return Text(row[f"{name}_zh"], row[f"{name}_en"])


def _people(people: Mapping[str, Any]) -> People:
    return People(
        directors=tuple(Text(zh, en) for zh, en in people["directors"]),
        cast=tuple(Text(zh, en) for zh, en in people["cast"]),
    )


def _film(row: Record) -> Film:
    return Film(
        film_id=row["film_id"],
        title=_text(row, "title"),
        pinyin=row["title_pinyin"],
        year=row["year"],
        running_time_min=row["running_time_min"],
        genres=tuple(row["genres"]),
        people=_people(row["people"]),
        synopsis=_text(row, "synopsis"),
        release_date=row["release_date"],
    )


def _cinema(row: Record) -> Cinema:
    return Cinema(
        cinema_id=row["cinema_id"],
        name=_text(row, "name"),
        city=_text(row, "city"),
        address=_text(row, "address"),
        time_zone=row["time_zone"],
    )


def _card(row: Record) -> ShowtimeCard:
    film = None
    if row["film_id"] is not None:
        film = FilmCard(
            film_id=row["film_id"],
            title=_text(row, "title"),
            year=row["year"],
            running_time_min=row["running_time_min"],
            genres=tuple(row["genres"]),
        )
    return ShowtimeCard(
        showtime_id=row["showtime_id"],
        starts_at=row["starts_at"],
        layout_id=row["layout_id"],
        seat_count=row["seat_count"],
        film=film,
        cinema=CinemaCard(row["cinema_id"], _text(row, "cinema"), _text(row, "city"), row["time_zone"]),
        screen=ScreenCard(row["screen_id"], _text(row, "screen"), row["format"]),
    )
