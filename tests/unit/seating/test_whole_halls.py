"""Goal: what holds for a row of ten seats holds for a hall: sold out to the last seat, and in any shape.

Method: random halls are sold with random parties until nothing is left; larger and odder halls (a
stadium ring of 40,000 seats, curved rows) are asked questions with known answers.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservation.domain import Area, Layout, Seat, Segment
from reservation.seating import Pick, SeatingPlan, alternatives, best_available, judge_orphans
from reservation.seating.nearest import outwards
from tests.unit.seating.halls import Hall, Reference, draw, halls, plane


@settings(max_examples=40)
@given(halls(), st.lists(st.integers(1, 6), min_size=1, max_size=30), st.booleans())
def test_a_hall_can_be_sold_to_the_last_seat(hall: Hall, parties: list[int], accessible_first: bool) -> None:
    """Random parties, then couples and single people; accessible seats to those who ask for them."""
    plan, gone = SeatingPlan(hall.layout), set(hall.gone)

    def sell(count: int, accessible: int = 0) -> bool:
        pick = best_available(
            plan, plane(hall.layout.seat_count, gone), count, accessible=accessible, seed=len(gone)
        )
        if pick is not None:
            assert gone.isdisjoint(pick.seats)
            gone.update(pick.seats)
        return pick is not None

    def sell_all(count: int, accessible: int = 0) -> None:
        while sell(count, accessible):
            pass

    if accessible_first:
        sell_all(2, accessible=1)
    for count in parties:
        sell(count)
    for count, accessible in ((2, 1), (1, 1), (1, 0), (2, 0)):
        sell_all(count, accessible)
    left = set(range(hall.layout.seat_count)) - gone
    halves = {seat for seat in left if Reference(hall).partner(seat) in hall.gone}
    assert left == halves


def ring(sections: int = 100, rows: int = 20, across: int = 20) -> Layout:
    """A stadium: sections in a circle, each with rows of its own; the focal point is one short side."""
    seats: list[Seat] = []
    segments: list[Segment] = []
    for section in range(sections):
        for row in range(rows):
            segments.append(Segment(len(seats), across, f"{section}/{row}"))
            radius = 330 + 1.8 * row
            for place in range(across):
                angle = 2 * math.pi * section / sections + (place - across / 2) / radius
                x, y = radius * math.sin(angle), -radius * math.cos(angle)
                label = f"{section}/{row}/{place}"
                seats.append(Seat(len(seats), label, str(row), str(place), x, y, f"area {section % 4}"))
    areas = tuple(Area(f"area {number}", "") for number in range(4))
    return Layout("ring", tuple(seats), areas, tuple(segments), (0.0, -330.0))


@pytest.fixture(scope="module")
def stadium() -> SeatingPlan:
    return SeatingPlan(ring())


def test_the_best_seats_of_a_stadium_are_the_nearest_of_all_forty_thousand(stadium: SeatingPlan) -> None:
    """Half of the rows are full, the others empty; a pair may begin anywhere but one seat from an end."""
    empty = random.Random(5).sample(stadium.layout.segments, 1_000)
    free = {seat for row in empty for seat in range(row.start, row.stop)}
    pick = best_available(stadium, plane(40_000, set(range(40_000)) - free), 2, area_id="area 2")
    pairs = [row.start + offset for row in empty for offset in range(19) if offset not in (1, 17)]
    nearest = min(
        math.dist(stadium.heart((start, start + 1)), stadium.focal)
        for start in pairs
        if stadium.layout.seats[start].area_id == "area 2"
    )
    assert pick is not None
    assert pick.seats[0] in pairs
    assert math.dist(stadium.heart(pick.seats), stadium.focal) <= nearest + 0.5 + 1e-6


def test_the_last_pair_of_a_stadium_is_found_by_those_who_look_and_those_who_lost(
    stadium: SeatingPlan,
) -> None:
    taken = plane(40_000, set(range(40_000)) - {31_234, 31_235})
    last = Pick((31_234, 31_235), 1, together=True)
    assert best_available(stadium, taken, 2) == last
    assert alternatives(stadium, taken, (7, 8), "strict") == (last,)
    assert best_available(stadium, taken, 3) is None


@pytest.mark.parametrize("left", [40_000, 20_000, 300])
def test_walking_outwards_visits_every_candidate_once_and_in_order(stadium: SeatingPlan, left: int) -> None:
    """Curved rows may come a seat early or late, so the order is allowed half a row of slack."""
    seats = random.Random(left).sample(range(40_000), left)
    starts = sum(1 << seat for seat in seats[:64]) if left == 300 else stadium.ground.seats
    walk = outwards(stadium, starts, 1, (200.0, -250.0))
    found = [next(walk) for _ in range(min(left, 64))]
    distances = [distance for distance, _ in found]
    assert len({start for _, start in found}) == len(found)
    assert all(after >= before - 0.9 for before, after in pairwise(distances))


def test_curved_rows_are_neighbours_of_the_rows_they_follow() -> None:
    seats: list[Seat] = []
    segments: list[Segment] = []
    for row in range(4):
        segments.append(Segment(len(seats), 9, str(row)))
        for place in range(9):
            y = 2 * row + 0.05 * (place - 4) ** 2
            seats.append(Seat(len(seats), f"{row}-{place}", str(row), str(place), float(place), y, "p"))
    plan = SeatingPlan(Layout("fan", tuple(seats), (Area("p", ""),), tuple(segments), (4.0, 4.0)))
    assert [sorted(found) for found in plan.neighbours] == [[1], [0, 2], [1, 3], [2]]


def test_the_next_block_of_a_curved_row_is_not_the_row_behind() -> None:
    places = [(0.0, 0.6), (1.0, 0.3), (2.0, 0.0), (0.0, 2.6), (1.0, 2.3), (2.0, 2.0)]
    seats = tuple(Seat(i, str(i), str(i // 3), str(i % 3), x, y, "p") for i, (x, y) in enumerate(places))
    segments = tuple(Segment(i, 1, str(i // 3)) for i in range(6))
    plan = SeatingPlan(Layout("aisles without width", seats, (Area("p", ""),), segments, (1.0, 1.0)))
    assert all(
        plan.layout.segments[other].row_key == "1" for here in range(3) for other in plan.neighbours[here]
    )


def test_a_long_row_away_from_the_screen_is_opened_in_time() -> None:
    """Its seats are nearer than its depth says, so the walk must look further than the depths suggest."""
    seats = [Seat(i, f"s{i}", "s", "", 20.0, float(i), "p") for i in range(21)]
    seats += [Seat(21 + i, f"f{i}", "f", "", 8.0 + i, 0.0, "p") for i in range(10)]
    segments = (Segment(0, 21, "s"), Segment(21, 10, "f"))
    plan = SeatingPlan(Layout("odd", tuple(seats), (Area("p", ""),), segments, (0.0, 0.0)))
    assert next(outwards(plan, plan.ground.seats, 1, (20.0, 0.0))) == (0.0, 0)


def test_rows_of_different_blocks_are_neighbours_only_where_they_overlap() -> None:
    plan = SeatingPlan(draw("....  ....", "....  ....", "          ", "....  ....").layout)
    assert [sorted(found) for found in plan.neighbours] == [[2], [3], [0], [1], [], []]


def test_a_row_running_backwards_or_away_from_the_screen_is_searched_like_any_other() -> None:
    seats = [Seat(i, f"b{i}", "b", str(i), 9.0 - i, 0.0, "p") for i in range(10)]
    seats += [Seat(10 + i, f"s{i}", "s", str(i), 20.0, float(i), "p") for i in range(10)]
    segments = (Segment(0, 10, "b"), Segment(10, 10, "s"))
    plan = SeatingPlan(Layout("odd", tuple(seats), (Area("p", ""),), segments, (20.0, 8.0)))
    assert best_available(plan, b"\0\0\0", 3) == Pick((17, 18, 19), 1, together=True)
    assert judge_orphans(plan, b"\0\0\0", (1, 2), "lenient").alternative == (0, 1)
    assert [pick.seats for pick in alternatives(plan, b"\x38\0\0", (2, 3, 4), "lenient", limit=1)] == [
        (5, 6, 7)
    ]


def test_a_segment_of_one_seat_is_a_segment() -> None:
    hall = draw(". .", ".")
    plan = SeatingPlan(hall.layout)
    assert best_available(plan, hall.taken, 2) == Pick((0, 1), 3, together=False)
    assert judge_orphans(plan, hall.taken, (2,), "strict").ok
    assert [pick.seats for pick in alternatives(plan, b"\x80", (0,), "strict", limit=1)] == [(2,)]
