"""Goal: every demo hall is one a visitor could believe and the seat engine can sell.

Method: draw all of them once (a Layout that exists is consistent already) and measure: sizes, labels,
aisles, couples, wheelchair places with somebody beside them, the order of rows and seats, and that
drawing twice gives the same layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from catalogue.demo.cinemas import Venue, demo_venues
from catalogue.demo.shapes import AISLE, Row, blocks, couples, cut, hall, with_wheelchairs
from catalogue.demo.stadium import AREAS
from catalogue.domain import Screen
from kernel import limits
from reservation import Layout, Seat

Hall = tuple[Screen, Layout]


@pytest.fixture(scope="module")
def venues() -> tuple[Venue, ...]:
    return demo_venues()


@pytest.fixture(scope="module")
def halls(venues: tuple[Venue, ...]) -> list[Hall]:
    """The halls of the cinemas; the stadium is looked at by itself."""
    return [each for venue in venues for each in venue.screens if each[0].format != "stadium"]


@pytest.fixture(scope="module")
def stadium(venues: tuple[Venue, ...]) -> Layout:
    ((_, layout),) = venues[-1].screens
    return layout


def neighbours(layout: Layout) -> Iterator[tuple[Seat, Seat]]:
    """Seats beside each other in a segment."""
    for segment in layout.segments:
        yield from pairwise(layout.seats[segment.start : segment.stop])


def test_there_are_six_cinemas_with_twenty_screens_and_a_stadium(
    venues: tuple[Venue, ...], halls: list[Hall]
) -> None:
    assert len(venues) == 7
    assert len(halls) == 20
    assert venues[-1].screens[0][0].format == "stadium"


def test_halls_range_from_a_screening_room_to_a_premiere_hall(halls: list[Hall]) -> None:
    counts = {screen.format: layout.seat_count for screen, layout in halls}
    assert min(layout.seat_count for _, layout in halls) == 60
    assert counts["vip"] == 60
    assert 400 <= counts["imax"] <= 500
    assert 690 <= counts["premiere"] <= 720
    assert all(60 <= layout.seat_count <= 720 for _, layout in halls)


def test_the_catalogue_knows_the_layout_it_names(venues: tuple[Venue, ...]) -> None:
    for venue in venues:
        for screen, layout in venue.screens:
            assert screen.cinema_id == venue.cinema.cinema_id
            assert screen.layout_id == layout.layout_id
            assert screen.seat_count == layout.seat_count <= limits.seats_per_layout_max


def test_names_and_ids_are_nobody_elses(venues: tuple[Venue, ...]) -> None:
    screens = [screen for venue in venues for screen, _ in venue.screens]
    layouts = [layout for venue in venues for _, layout in venue.screens]
    assert len({venue.cinema.cinema_id for venue in venues}) == len(venues)
    assert len({screen.screen_id for screen in screens}) == len(screens)
    assert len({layout.layout_id for layout in layouts}) == len(layouts)
    assert len({layout.name for layout in layouts}) == len(layouts)


def test_labels_are_row_and_seat(halls: list[Hall]) -> None:
    for _, layout in halls:
        assert all(seat.label == f"{seat.row}-{seat.number}" for seat in layout.seats)
        assert layout.seats[0].label in ("1-1", "B1-1")


def test_rows_stand_from_the_screen_outwards_and_seats_from_left_to_right(halls: list[Hall]) -> None:
    for _, layout in halls:
        rows: dict[str, list[Seat]] = {}
        for seat in layout.seats:
            rows.setdefault(seat.row, []).append(seat)
        for row in rows.values():
            assert all(left.x < right.x for left, right in pairwise(row))
            assert [seat.number for seat in row] == [str(n + 1) for n in range(len(row))]
        middles = [max(seat.y for seat in row) for row in rows.values()]
        assert all(nearer < farther for nearer, farther in pairwise(middles))
        assert all(seat.x > 0 and seat.y > 0 for seat in layout.seats)


def test_aisles_are_wider_than_a_seat_and_end_a_segment(halls: list[Hall]) -> None:
    for _, layout in halls:
        pitch = min(right.x - left.x for left, right in neighbours(layout))
        assert all(right.x - left.x < 1.01 * pitch for left, right in neighbours(layout))
        for before, after in pairwise(layout.segments):
            if before.row_key == after.row_key:
                gap = layout.seats[after.start].x - layout.seats[before.stop - 1].x
                assert gap >= min(2 * pitch, pitch + AISLE) - 0.01


def test_most_halls_have_an_aisle_and_every_row_is_within_reach_of_one(halls: list[Hall]) -> None:
    with_aisle = [
        layout for _, layout in halls if len(layout.segments) > len({s.row_key for s in layout.segments})
    ]
    assert len(with_aisle) >= 15
    assert all(segment.length <= 14 for _, layout in halls for segment in layout.segments)


def test_curved_rows_bend_towards_the_screen(halls: list[Hall]) -> None:
    layout = next(layout for screen, layout in halls if screen.format == "imax")
    last_row = [seat for seat in layout.seats if seat.row == layout.seats[-1].row]
    middle = last_row[len(last_row) // 2]
    assert last_row[0].y < middle.y > last_row[-1].y


def test_wide_halls_are_wider_at_the_back(halls: list[Hall]) -> None:
    for screen, layout in halls:
        if screen.format in ("imax", "large", "premiere"):
            first = [seat for seat in layout.seats if seat.row == "1"]
            last = [seat for seat in layout.seats if seat.row == layout.seats[-1].row]
            assert len(last) > len(first)


def test_some_hall_misses_a_corner(halls: list[Hall]) -> None:
    lopsided = 0
    for _, layout in halls:
        centre = (min(seat.x for seat in layout.seats) + max(seat.x for seat in layout.seats)) / 2
        rows = {segment.row_key for segment in layout.segments}
        for row in rows:
            xs = [seat.x for seat in layout.seats if seat.row == row]
            lopsided += abs((xs[0] + xs[-1]) / 2 - centre) > 0.5
    assert lopsided >= 8


def test_couple_seats_stand_in_pairs_side_by_side(halls: list[Hall]) -> None:
    paired = 0
    for _, layout in halls:
        halves = [seat for seat in layout.seats if seat.kind.startswith("couple")]
        pairs = [(a, b) for a, b in neighbours(layout) if (a.kind, b.kind) == ("couple_left", "couple_right")]
        assert len(halves) == 2 * len(pairs)
        assert all(seat.area_id == "couple" for seat in halves)
        paired += bool(pairs)
    assert paired >= 10


def test_every_hall_has_wheelchair_places_each_with_a_companion_beside_it(venues: tuple[Venue, ...]) -> None:
    for venue in venues:
        for _, layout in venue.screens:
            places = {seat.index for seat in layout.seats if seat.kind == "accessible"}
            accompanied = {
                chair.index
                for a, b in neighbours(layout)
                for chair, other in ((a, b), (b, a))
                if chair.kind == "accessible" and other.kind == "companion"
            }
            assert len(places) >= 2
            assert accompanied == places
            assert len(places) == sum(seat.kind == "companion" for seat in layout.seats)


def test_the_best_seat_is_central_and_two_thirds_back(halls: list[Hall]) -> None:
    for screen, layout in halls:
        x, y = layout.focal_point
        assert x == pytest.approx(
            (min(s.x for s in layout.seats) + max(s.x for s in layout.seats)) / 2, abs=1.5
        )
        stalls = [seat for seat in layout.seats if seat.area_id != "balcony"]
        depth = max(s.y for s in stalls) - 4.0
        assert y == pytest.approx(4.0 + depth * 2 / 3, abs=1.0), screen.name


def test_the_premiere_hall_sells_its_balcony_as_an_area_of_its_own(halls: list[Hall]) -> None:
    layout = next(layout for screen, layout in halls if screen.format == "premiere")
    balcony = [seat for seat in layout.seats if seat.area_id == "balcony"]
    stalls = [seat for seat in layout.seats if seat.area_id != "balcony"]
    assert len(balcony) > 150
    assert min(seat.y for seat in balcony) > max(seat.y for seat in stalls)
    assert {seat.row for seat in balcony} == {f"B{n}" for n in range(1, 7)}


def test_the_stadium_has_forty_thousand_seats_in_some_twenty_five_areas(stadium: Layout) -> None:
    assert 40_000 <= stadium.seat_count <= limits.seats_per_layout_max
    assert 20 <= len(stadium.areas) <= 30
    assert {area.area_id for area in stadium.areas} == {seat.area_id for seat in stadium.seats} == set(AREAS)
    assert {level for _, level in AREAS.values()} == {1, 2, 3, 4, 5}


def test_stadium_labels_say_section_row_and_seat(stadium: Layout) -> None:
    for seat in stadium.seats:
        section, row, number = seat.label.split("-")
        assert len(section) == 3
        assert section[0] in "FNWSE"
        assert (row, number) == (seat.row, seat.number)


def test_seats_beside_each_other_in_the_stadium_are_one_pitch_apart(stadium: Layout) -> None:
    for a, b in neighbours(stadium):
        assert ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5 == pytest.approx(1.0, abs=0.02)


def test_nobody_sits_on_somebody_else(venues: tuple[Venue, ...]) -> None:
    for venue in venues:
        for _, layout in venue.screens:
            by_cell: dict[tuple[int, int], list[Seat]] = {}
            for seat in layout.seats:
                cell = (int(seat.x), int(seat.y))
                around = [(cell[0] + dx, cell[1] + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
                assert all(
                    (seat.x - other.x) ** 2 + (seat.y - other.y) ** 2 > 0.9
                    for each in around
                    for other in by_cell.get(each, ())
                ), seat
                by_cell.setdefault(cell, []).append(seat)


def test_the_stadium_is_as_good_on_the_left_as_on_the_right(stadium: Layout) -> None:
    def seats_in(area_id: str) -> int:
        return sum(seat.area_id == area_id for seat in stadium.seats)

    for tier in ("lower", "upper"):
        for west, east in (("nw", "ne"), ("sw", "se"), ("w-front", "e-front"), ("w-middle", "e-middle")):
            assert seats_in(f"{tier}-{west}") == seats_in(f"{tier}-{east}")


def test_nobody_sits_behind_the_stage(stadium: Layout) -> None:
    x, _ = stadium.focal_point
    front = min(seat.y for seat in stadium.seats if seat.area_id == "floor-front")
    assert all(seat.y >= front for seat in stadium.seats if abs(seat.x - x) < 40)


def test_drawing_twice_gives_the_same_layouts(venues: tuple[Venue, ...]) -> None:
    again = [layout.layout_id for venue in demo_venues() for _, layout in venue.screens]
    assert again == [layout.layout_id for venue in venues for _, layout in venue.screens]


def test_a_drawing_becomes_seats_aisles_and_gaps() -> None:
    layout = hall("tiny", [("standard", "Standard")], [Row("ss|s.s"), Row("<>|acs", gap=1.0)])
    assert [seat.label for seat in layout.seats] == [
        "1-1",
        "1-2",
        "1-3",
        "1-4",
        "2-1",
        "2-2",
        "2-3",
        "2-4",
        "2-5",
    ]
    assert [(s.start, s.length, s.row_key) for s in layout.segments] == [
        (0, 2, "1"), (2, 1, "1"), (3, 1, "1"), (4, 2, "2"), (6, 3, "2"),
    ]  # fmt: skip
    assert [seat.x for seat in layout.seats[:4]] == [0.5, 1.5, 4.5, 6.5]
    assert layout.seats[4].y == layout.seats[0].y + 1.2 + 1.0
    assert [seat.kind for seat in layout.seats[4:]] == [
        "couple_left", "couple_right", "accessible", "companion", "standard",
    ]  # fmt: skip


def test_the_brushes() -> None:
    assert blocks(2, 3) == "ss|sss"
    assert cut("ssss|ssss", left=2, right=1) == "..ss|sss."
    assert couples("ssss|sss") == "<><>|<>."
    assert with_wheelchairs("..sssss|sss.") == "..acsss|sca."
