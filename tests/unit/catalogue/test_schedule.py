"""Goal: a week that a cinema could really play, the same whoever seeds it and whenever.

Method: schedules for several instants of two weeks: no two showtimes of a screen overlap, not even of
schedules made on different days; prices and sales windows are complete and say the same every time.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pytest

from catalogue.demo.cinemas import Venue, demo_venues
from catalogue.demo.films import demo_films
from catalogue.demo.schedule import BEIJING, CLEANING, Offer, demo_schedule
from kernel.ids import is_id
from kernel.money import Money

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # a Monday morning in Beijing
DAY = timedelta(days=1)
MINUTES = {film.film_id: film.running_time_min for film in demo_films()}


@pytest.fixture(scope="module")
def venues() -> tuple[Venue, ...]:
    return demo_venues()


@pytest.fixture(scope="module")
def week(venues: tuple[Venue, ...]) -> list[Offer]:
    return demo_schedule(venues, NOW)


@pytest.fixture(scope="module")
def fortnight(venues: tuple[Venue, ...]) -> dict[str, list[Offer]]:
    """What fourteen seedings, one a day at odd hours, hand over, by showtime."""
    found: dict[str, list[Offer]] = defaultdict(list)
    for day in range(14):
        for offer in demo_schedule(venues, NOW + day * DAY + timedelta(hours=5 * day % 24)):
            found[offer.showtime.showtime_id].append(offer)
    return found


def formats(venues: tuple[Venue, ...]) -> dict[str, str]:
    return {screen.screen_id: screen.format for venue in venues for screen, _ in venue.screens}


def test_a_week_has_two_to_three_hundred_showtimes_and_every_screen_plays_every_day(
    venues: tuple[Venue, ...], week: list[Offer]
) -> None:
    assert 200 <= len(week) <= 300
    played = {(o.showtime.screen_id, o.showtime.starts_at.astimezone(BEIJING).date()) for o in week}
    for screen_id, kind in formats(venues).items():
        if kind != "stadium":
            assert all((screen_id, (NOW + i * DAY).astimezone(BEIJING).date()) in played for i in range(7))


def test_showtimes_of_a_screen_leave_time_to_clean_whenever_they_were_seeded(
    fortnight: dict[str, list[Offer]],
) -> None:
    by_screen: dict[str, list[Offer]] = defaultdict(list)
    for first, *_ in fortnight.values():
        by_screen[first.showtime.screen_id].append(first)
    for offers in by_screen.values():
        offers.sort(key=lambda offer: offer.showtime.starts_at)
        for before, after in pairwise(offers):
            assert before.showtime.film_id is not None
            ends_at = before.showtime.starts_at + timedelta(minutes=MINUTES[before.showtime.film_id])
            assert after.showtime.starts_at >= ends_at + CLEANING


def test_a_showtime_is_the_same_whenever_it_was_seeded(fortnight: dict[str, list[Offer]]) -> None:
    assert sum(len(offers) > 1 for offers in fortnight.values()) > 200
    for first, *others in fortnight.values():
        assert all(other == first for other in others)


def test_nothing_begins_in_the_past_and_all_within_a_week_but_the_stadiums_nights(
    venues: tuple[Venue, ...], week: list[Offer]
) -> None:
    kinds = formats(venues)
    for offer in week:
        assert offer.showtime.starts_at > NOW
        if kinds[offer.showtime.screen_id] != "stadium":
            assert offer.showtime.starts_at < NOW + 7 * DAY


def test_showtimes_begin_on_the_five_minutes_between_morning_and_late_evening(week: list[Offer]) -> None:
    for offer in week:
        begins = offer.showtime.starts_at.astimezone(BEIJING)
        assert begins.minute % 5 == begins.second == begins.microsecond == 0
        assert time(10, 0) <= begins.time() <= time(22, 40)


def test_every_area_has_a_price_in_yuan(week: list[Offer]) -> None:
    for offer in week:
        assert set(offer.showtime.prices) == {area.area_id for area in offer.layout.areas}
        assert all(
            money.currency == "CNY" and money.amount >= 20_00 for money in offer.showtime.prices.values()
        )


def test_golden_seats_cost_more_than_the_front_and_evenings_more_than_afternoons(week: list[Offer]) -> None:
    by_screen: dict[str, list[Offer]] = defaultdict(list)
    for offer in week:
        if {"prime", "front"} <= set(offer.showtime.prices):
            assert offer.showtime.prices["prime"].amount > offer.showtime.prices["front"].amount
        if offer.showtime.starts_at.astimezone(BEIJING).weekday() == 0:
            by_screen[offer.showtime.screen_id].append(offer)
    for afternoon, evening in by_screen.values():
        assert all(
            evening.showtime.prices[area].amount > price.amount
            for area, price in afternoon.showtime.prices.items()
        )


def test_the_stadium_has_five_price_levels(venues: tuple[Venue, ...], week: list[Offer]) -> None:
    nights = [offer for offer in week if formats(venues)[offer.showtime.screen_id] == "stadium"]
    for night in nights:
        assert set(night.showtime.prices.values()) == {
            Money(amount, "CNY") for amount in (1280_00, 980_00, 680_00, 480_00, 280_00)
        }


def test_sales_close_after_the_start_and_are_open_now_but_for_the_presale(
    venues: tuple[Venue, ...], week: list[Offer]
) -> None:
    waiting = [offer for offer in week if offer.opens_at > NOW]
    assert [formats(venues)[offer.showtime.screen_id] for offer in waiting] == ["stadium"]
    for offer in week:
        assert offer.opens_at < offer.showtime.starts_at < offer.closes_at


@pytest.mark.parametrize("day", range(14))
def test_on_any_day_one_night_at_the_stadium_is_on_sale_and_one_is_to_come(
    venues: tuple[Venue, ...], day: int
) -> None:
    now = NOW + day * DAY
    saturday, sunday = demo_schedule(venues[-1:], now)
    assert saturday.opens_at < now < sunday.opens_at
    assert [o.showtime.starts_at.astimezone(BEIJING).weekday() for o in (saturday, sunday)] == [5, 6]


def test_the_gala_is_on_saturday_evening_in_the_premiere_hall(
    venues: tuple[Venue, ...], week: list[Offer]
) -> None:
    premiere = [o for o in week if formats(venues)[o.showtime.screen_id] == "premiere"]
    (gala,) = [offer for offer in premiere if offer.seats_per_buyer == 4]
    begins = gala.showtime.starts_at.astimezone(BEIJING)
    assert begins.weekday() == 5
    assert begins.hour >= 18
    assert gala.showtime.prices["prime"].amount > 250_00


def test_ids_are_those_of_showtimes_and_differ(week: list[Offer]) -> None:
    ids = [offer.showtime.showtime_id for offer in week]
    assert len(set(ids)) == len(ids)
    assert all(is_id(each, "sho") for each in ids)


def test_people_can_choose_among_many_films(week: list[Offer]) -> None:
    assert len({offer.showtime.film_id for offer in week}) >= 40
