"""A week of showtimes, derived from the calendar.

What a screen shows on a date is a function of the screen and the date alone, never of the instant of
seeding: seeding on two days gives overlapping weeks that agree, with no showtime twice and none on top of
another. Choices are drawn from a hash, so a programme looks arranged and is the same everywhere.

A day is filled from its first start on: each showtime begins when the hall is clean after the one before,
and evening showtimes not before people are off work. Twice there is something special: every Saturday the
premiere hall has its gala night, and for the Saturday and Sunday that are ten days off or a little more
the stadium shows a film with live orchestra. Saturday is on sale; Sunday, the added night, opens on a
Friday evening a week before: the demo's blockbuster presale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import cache
from typing import Final

from catalogue.demo.cinemas import Venue
from catalogue.demo.films import demo_films
from catalogue.demo.prices import demo_prices
from catalogue.domain import Film, NewShowtime, Screen, derived_id
from kernel import limits
from reservation import Layout

BEIJING: Final = timezone(timedelta(hours=8))  # no summer time since 1991, so no zone data is needed
DAYS: Final = 7
CLEANING: Final = timedelta(minutes=20)
SALES_CUT_OFF: Final = timedelta(minutes=10)  # after the start: people in the queue still get in
OPENS_BEFORE: Final = timedelta(days=21)
EVENT_NOTICE: Final = timedelta(days=10)

_SATURDAY: Final = 5
_LAST_START: Final = time(22, 40)
_EVENING: Final = time(18, 40)
_RECENT_SINCE: Final = 2014
_GALA_FILM: Final = "Ne Zha 2"
_ORCHESTRA_FILM: Final = "Interstellar"
_HEADLINERS: Final = (
    "Ne Zha 2",
    "The Wandering Earth II",
    "Dune: Part Two",
    "Creation of the Gods I: Kingdom of Storms",
    "Pegasus 2",
    "Oppenheimer",
)


@dataclass(frozen=True)
class Offer:
    """A showtime and the terms it is sold under."""

    showtime: NewShowtime
    layout: Layout
    opens_at: datetime
    closes_at: datetime
    seats_per_buyer: int


def demo_schedule(venues: Sequence[Venue], now: datetime) -> list[Offer]:
    """The showtimes of the coming week that have not begun, and the stadium's nights."""
    today = now.astimezone(BEIJING).date()
    days = [today + timedelta(days=i) for i in range(DAYS)]
    offers: list[Offer] = []
    for screen, layout in (pair for venue in venues for pair in venue.screens):
        if screen.format == "stadium":
            offers += _stadium_nights(screen, layout, today)
        else:
            offers += [offer for day in days for offer in _day(screen, layout, day)]
    return [offer for offer in offers if offer.showtime.starts_at > now]


def _day(screen: Screen, layout: Layout, day: date) -> Iterator[Offer]:
    free_from = datetime.combine(day, time(0), BEIJING)
    for earliest in _starts(screen, day):
        evening = earliest >= _EVENING
        gala = evening and screen.format == "premiere" and day.weekday() == _SATURDAY
        film = _film(_GALA_FILM) if gala else _chosen_film(screen, day, earliest)
        starts_at = _on_the_five(max(free_from, datetime.combine(day, earliest, BEIJING)))
        if starts_at.time() > _LAST_START or starts_at.date() != day:
            return
        yield _offer(screen, layout, film, starts_at, gala=gala, seats_per_buyer=4 if gala else None)
        free_from = starts_at + timedelta(minutes=film.running_time_min) + CLEANING


def _starts(screen: Screen, day: date) -> list[time]:
    """Not before these times: afternoon and evening, and a matinée at weekends where many seats are."""
    shift = _draw(screen.screen_id, day, "shift") % 14 * 5
    afternoon = (datetime.combine(day, time(13, 10)) + timedelta(minutes=shift)).time()
    evening = (datetime.combine(day, _EVENING) + timedelta(minutes=shift)).time()
    if day.weekday() >= _SATURDAY and screen.seat_count >= 250:
        return [time(10, 0), afternoon, evening]
    return [afternoon, evening]


def _chosen_film(screen: Screen, day: date, earliest: time) -> Film:
    """Large halls show headliners most of the time, the smallest show classics, the others what is new."""
    draw = _draw(screen.screen_id, day, earliest)
    if screen.seat_count >= 250 and draw % 4:
        pool = [_film(title) for title in _HEADLINERS]
    elif screen.seat_count <= 120:
        pool = [film for film in demo_films() if film.year < _RECENT_SINCE]
    else:
        pool = [film for film in demo_films() if film.year >= _RECENT_SINCE]
    return pool[draw // 4 % len(pool)]


def _stadium_nights(screen: Screen, layout: Layout, today: date) -> Iterator[Offer]:
    earliest = today + EVENT_NOTICE
    saturday = earliest + timedelta(days=(_SATURDAY - earliest.weekday()) % 7)
    film = _film(_ORCHESTRA_FILM)
    start = datetime.combine(saturday, time(19, 30), BEIJING)
    yield _offer(screen, layout, film, start, seats_per_buyer=6)
    friday_evening = datetime.combine(saturday - timedelta(days=8), time(20, 0), BEIJING)
    yield _offer(screen, layout, film, start + timedelta(days=1), seats_per_buyer=6, opens_at=friday_evening)


def _offer(
    screen: Screen,
    layout: Layout,
    film: Film,
    starts_at: datetime,
    *,
    gala: bool = False,
    seats_per_buyer: int | None = None,
    opens_at: datetime | None = None,
) -> Offer:
    showtime = NewShowtime(
        showtime_id=derived_id("sho", "demo", screen.screen_id, starts_at.isoformat()),
        film_id=film.film_id,
        screen_id=screen.screen_id,
        cinema_id=screen.cinema_id,
        layout_id=layout.layout_id,
        seat_count=layout.seat_count,
        starts_at=starts_at.astimezone(UTC),
        prices=demo_prices(screen, layout, starts_at, gala=gala),
    )
    midnight = starts_at.replace(hour=0, minute=0)
    return Offer(
        showtime=showtime,
        layout=layout,
        opens_at=(opens_at or midnight - OPENS_BEFORE).astimezone(UTC),
        closes_at=showtime.starts_at + SALES_CUT_OFF,
        seats_per_buyer=seats_per_buyer or limits.seats_per_buyer_default,
    )


def _on_the_five(moment: datetime) -> datetime:
    """The next full five minutes, as on every poster."""
    return moment + timedelta(minutes=-moment.minute % 5)


def _draw(*names: object) -> int:
    digest = hashlib.blake2b(repr([str(name) for name in names]).encode(), digest_size=6).digest()
    return int.from_bytes(digest)


@cache
def _films_by_title() -> dict[str, Film]:
    return {film.title.en: film for film in demo_films()}


def _film(title: str) -> Film:
    return _films_by_title()[title]
