"""The catalogue on the wire. Two languages stand side by side in every name; clients pick."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from catalogue.domain import (
    Cinema,
    CinemaCard,
    Film,
    FilmCard,
    Listing,
    SaleInfo,
    SalePhase,
    Screen,
    ScreenCard,
    ScreenFormat,
    Text,
)
from runtime.http import Instant, MoneyModel, Page, PageQuery, Record, instant

#: An id as a filter: what is not there simply filters everything out.
FilterId = Annotated[str, Meta(min_length=1, max_length=64)]


class SearchQuery(PageQuery):
    """What to look for: a title, a name, a city, in Chinese, English, pinyin or initials."""

    q: Annotated[str, Meta(min_length=1, max_length=100)]


class ShowtimesQuery(PageQuery):
    """Which showtimes. A date is a day where the cinema stands; without one the list begins now."""

    film_id: FilterId | None = None
    cinema_id: FilterId | None = None
    date: datetime.date | None = None


class TextModel(Record):
    """The same words in Chinese and in English."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"zh": "流浪地球", "en": "The Wandering Earth"}

    zh: str
    en: str

    @classmethod
    def of(cls, text: Text) -> TextModel:
        return cls(zh=text.zh, en=text.en)


class PeopleModel(Record):
    """Who made the film and who plays in it, in the order of the credits."""

    directors: list[TextModel]
    cast: list[TextModel]


class FilmCardModel(Record):
    """As much of a film as stands on a showtime."""

    film_id: str
    title: TextModel
    year: int
    running_time_min: int
    genres: list[str]

    @classmethod
    def of(cls, film: FilmCard) -> FilmCardModel:
        return cls(
            film_id=film.film_id,
            title=TextModel.of(film.title),
            year=film.year,
            running_time_min=film.running_time_min,
            genres=list(film.genres),
        )


class FilmModel(Record):
    """A film. `release_date` is null where it is not known."""

    film_id: str
    title: TextModel
    year: int
    release_date: datetime.date | None
    running_time_min: int
    genres: list[str]
    people: PeopleModel
    synopsis: TextModel

    @classmethod
    def of(cls, film: Film) -> FilmModel:
        return cls(**_film_fields(film))


class CinemaModel(Record):
    """A cinema. Days and "today" are those of `time_zone`."""

    cinema_id: str
    name: TextModel
    city: TextModel
    address: TextModel
    time_zone: str

    @classmethod
    def of(cls, cinema: Cinema) -> CinemaModel:
        return cls(**_cinema_fields(cinema))


class ScreenModel(Record):
    """One auditorium of a cinema. `layout_id` names the geometry new showtimes get."""

    screen_id: str
    name: TextModel
    format: ScreenFormat
    layout_id: str
    seat_count: int

    @classmethod
    def of(cls, screen: Screen) -> ScreenModel:
        return cls(
            screen_id=screen.screen_id,
            name=TextModel.of(screen.name),
            format=screen.format,
            layout_id=screen.layout_id,
            seat_count=screen.seat_count,
        )


class CinemaWithScreens(CinemaModel):
    """A cinema with its screens."""

    screens: list[ScreenModel]

    @classmethod
    def with_screens(cls, cinema: Cinema, screens: list[Screen]) -> CinemaWithScreens:
        return cls(**_cinema_fields(cinema), screens=[ScreenModel.of(screen) for screen in screens])


class FilmHit(FilmModel, tag_field="kind", tag="film"):
    """A film that was found."""

    @classmethod
    def of(cls, film: Film) -> FilmHit:
        return cls(**_film_fields(film))


class CinemaHit(CinemaModel, tag_field="kind", tag="cinema"):
    """A cinema that was found."""

    @classmethod
    def of(cls, cinema: Cinema) -> CinemaHit:
        return cls(**_cinema_fields(cinema))


class CinemaCardModel(Record):
    """As much of a cinema as stands on a showtime."""

    cinema_id: str
    name: TextModel
    city: TextModel
    time_zone: str

    @classmethod
    def of(cls, cinema: CinemaCard) -> CinemaCardModel:
        return cls(
            cinema_id=cinema.cinema_id,
            name=TextModel.of(cinema.name),
            city=TextModel.of(cinema.city),
            time_zone=cinema.time_zone,
        )


class ScreenCardModel(Record):
    """As much of a screen as stands on a showtime."""

    screen_id: str
    name: TextModel
    format: ScreenFormat

    @classmethod
    def of(cls, screen: ScreenCard) -> ScreenCardModel:
        return cls(screen_id=screen.screen_id, name=TextModel.of(screen.name), format=screen.format)


class SaleModel(Record):
    """The sale of a showtime. Instants are null while no sale is planned or no end is set."""

    sale_id: str
    phase: SalePhase
    opens_at: Instant | None
    closes_at: Instant | None

    @classmethod
    def of(cls, sale_id: str, sale: SaleInfo) -> SaleModel:
        return cls(
            sale_id=sale_id,
            phase=sale.phase,
            opens_at=instant(sale.opens_at) if sale.opens_at else None,
            closes_at=instant(sale.closes_at) if sale.closes_at else None,
        )


class PriceModel(Record):
    """What a seat of an area costs."""

    area_id: str
    price: MoneyModel


class ShowtimeModel(Record):
    """One film on one screen at one time. `seats_left` is null when nobody can say right now; `film` and
    `ends_at` are null for an evening without a film."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {
        "showtime_id": "sho_3k9d2m7x0q",
        "starts_at": "2026-11-28T11:05:00.000Z",
        "ends_at": "2026-11-28T13:29:00.000Z",
        "film": {
            "film_id": "flm_7b2t9y4c8n1m6x3k5d0q2w9r4v",
            "title": {"zh": "哪吒之魔童闹海", "en": "Ne Zha 2"},
            "year": 2025,
            "running_time_min": 144,
            "genres": ["animation", "fantasy", "action"],
        },
        "cinema": {
            "cinema_id": "cin_5d0q2w9r4v7b2t9y4c8n1m6x3k",
            "name": {"zh": "银河电影宫", "en": "Galaxy Film Palace"},
            "city": {"zh": "北京", "en": "Beijing"},
            "time_zone": "Asia/Shanghai",
        },
        "screen": {
            "screen_id": "scr_1m6x3k5d0q2w9r4v7b2t9y4c8n",
            "name": {"zh": "2号厅", "en": "Screen 2"},
            "format": "standard",
        },
        "layout_id": "lay_0f6c1a5d9e3b7824c0d1e2f3a4b5c6d7",
        "seat_count": 262,
        "seats_left": 141,
        "sale": {
            "sale_id": "sal_3k9d2m7x0q",
            "phase": "on_sale",
            "opens_at": "2026-11-13T16:00:00.000Z",
            "closes_at": "2026-11-28T11:15:00.000Z",
        },
        "prices": [
            {"area_id": "prime", "price": {"amount": 6990, "currency": "CNY"}},
            {"area_id": "standard", "price": {"amount": 5990, "currency": "CNY"}},
        ],
    }

    showtime_id: str
    starts_at: Instant
    ends_at: Instant | None
    film: FilmCardModel | None
    cinema: CinemaCardModel
    screen: ScreenCardModel
    layout_id: str
    seat_count: int
    seats_left: int | None
    sale: SaleModel
    prices: list[PriceModel]

    @classmethod
    def of(cls, listing: Listing) -> ShowtimeModel:
        card = listing.card
        return cls(
            showtime_id=card.showtime_id,
            starts_at=instant(card.starts_at),
            ends_at=instant(card.ends_at) if card.ends_at else None,
            film=FilmCardModel.of(card.film) if card.film else None,
            cinema=CinemaCardModel.of(card.cinema),
            screen=ScreenCardModel.of(card.screen),
            layout_id=card.layout_id,
            seat_count=card.seat_count,
            seats_left=listing.sale.seats_left,
            sale=SaleModel.of(card.sale_id, listing.sale),
            prices=[
                PriceModel(area_id=area_id, price=MoneyModel.of(money))
                for area_id, money in listing.prices.items()
            ],
        )


class FilmPage(Page[FilmModel]):
    """One page of films."""


class CinemaPage(Page[CinemaModel]):
    """One page of cinemas."""


class SearchPage(Page[FilmHit | CinemaHit]):
    """One page of what was found."""


class ShowtimePage(Page[ShowtimeModel]):
    """One page of showtimes."""


def hit_of(item: Film | Cinema) -> FilmHit | CinemaHit:
    """What was found, with its kind."""
    return FilmHit.of(item) if isinstance(item, Film) else CinemaHit.of(item)


def _film_fields(film: Film) -> dict[str, Any]:
    return {
        "film_id": film.film_id,
        "title": TextModel.of(film.title),
        "year": film.year,
        "release_date": film.release_date,
        "running_time_min": film.running_time_min,
        "genres": list(film.genres),
        "people": PeopleModel(
            directors=[TextModel.of(person) for person in film.people.directors],
            cast=[TextModel.of(person) for person in film.people.cast],
        ),
        "synopsis": TextModel.of(film.synopsis),
    }


def _cinema_fields(cinema: Cinema) -> dict[str, Any]:
    return {
        "cinema_id": cinema.cinema_id,
        "name": TextModel.of(cinema.name),
        "city": TextModel.of(cinema.city),
        "address": TextModel.of(cinema.address),
        "time_zone": cinema.time_zone,
    }
