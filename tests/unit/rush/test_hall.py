"""Goal: fans want seats that exist, are free, adjacent and popular; leftovers miss nothing.

Method: a small drawn hall with an aisle, a couple seat and a wheelchair place.
"""

from __future__ import annotations

import random

from loadtest.rush import Hall
from loadtest.rush.decisions import Wish

from .town import layout_of, plane

HALL = layout_of("ssss|ssss", "ssac|ssss", "ssss|<><>")
NOTHING = plane(set(), 24)


def wishes(taken: bytes, party: int, hall: Hall | None = None) -> set[tuple[str, ...]]:
    hall = hall or Hall(HALL)
    return {hall.popular_seats(taken, party, random.Random(seed)) for seed in range(200)}


def test_wanted_seats_are_side_by_side_in_one_block() -> None:
    for seats in wishes(NOTHING, 3):
        columns = [int(label[1:]) for label in seats]
        assert len({label[0] for label in seats}) == 1
        assert columns == list(range(columns[0], columns[0] + 3))
        assert not columns[0] < 5 < columns[-1], "across the aisle"


def test_nobody_picks_a_wheelchair_place_by_name_or_cuts_a_couple_seat() -> None:
    wanted = {label for party in (1, 2, 3) for seats in wishes(NOTHING, party) for label in seats}
    assert not wanted & {"B3", "B4"}
    assert ("C6", "C7") in wishes(NOTHING, 2)
    assert ("C7", "C8") not in wishes(NOTHING, 2)
    assert not any(len(seats) == 1 and seats[0] in {"C6", "C7", "C8", "C9"} for seats in wishes(NOTHING, 1))


def test_many_fans_want_the_same_seats() -> None:
    hall = Hall(layout_of(*["s" * 20] * 20))
    rng = random.Random(1)
    wanted = [hall.popular_seats(plane(set(), 400), 2, rng) for _ in range(100)]
    assert len(set(wanted)) < 50
    rows = {seats[0][0] for seats in wanted}
    assert rows <= set("KLMNOPQ"), "all of them near the middle"


def test_the_same_draw_wants_the_same_seats() -> None:
    hall = Hall(HALL)
    picked = [hall.popular_seats(NOTHING, 2, random.Random(3)) for _ in range(2)]
    assert picked[0] == picked[1]


def test_taken_seats_are_not_wanted_and_a_full_hall_leaves_nothing_to_want() -> None:
    taken = set(range(24)) - {0, 1}
    assert wishes(plane(taken, 24), 2) == {("A1", "A2")}
    assert wishes(plane(set(range(24)), 24), 2) == {()}


def test_leftovers_ask_for_everything_that_is_free() -> None:
    hall = Hall(HALL)
    asked = hall.leftovers(NOTHING, 100)
    assert asked.count(Wish(1, accessible=1)) == 1
    assert asked[1:3] == [Wish(2), Wish(2)]
    assert sum(wish.party for wish in asked) == 24
    assert hall.leftovers(plane(set(range(24)), 24), 100) == []
    assert len(hall.leftovers(NOTHING, 3)) == 3


def test_planes_are_read_with_the_most_significant_bit_first() -> None:
    assert Hall(HALL).seats_in(b"\x80\x01\x00") == {"A1", "B9"}
