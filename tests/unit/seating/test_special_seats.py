"""Goal: accessible seats, their companions and couple seats reach the people they are there for.

Method: drawings for each rule, then random halls.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.seating import Pick, SeatingPlan, best_available, couples_broken, is_together
from tests.unit.seating.halls import Hall, Reference, draw, halls


def best(hall: Hall, count: int, *, accessible: int = 0, seed: int = 0) -> Pick | None:
    return best_available(SeatingPlan(hall.layout), hall.taken, count, accessible=accessible, seed=seed)


# Accessible seats


def test_an_accessible_seat_is_never_given_to_a_request_that_did_not_ask() -> None:
    assert best(draw("aa.aa"), 1) == Pick((2,), 1, together=True)
    assert best(draw("aa.aa"), 2) is None


def test_an_accessible_request_gets_the_nearest_accessible_seat_and_the_companion_beside() -> None:
    hall = draw("ac......ca", "..........", ".a.ac.....", focal=(3, 2))
    assert best(hall, 1, accessible=1) == Pick((hall.at(2, 3),), 1, together=True)
    assert best(hall, 2, accessible=1) == Pick(hall.many(2, 3, 4), 1, together=True)


def test_company_takes_an_ordinary_seat_where_no_companion_seat_is_left() -> None:
    assert best(draw("Ca..C", focal=(1, 0)), 2, accessible=1) == Pick((1, 2), 2, together=True)


def test_two_accessible_seats_and_their_company_sit_together_if_they_can() -> None:
    picks = {best(draw(".ca.ac."), 4, accessible=2, seed=seed) for seed in range(10)}
    assert picks == {Pick((1, 2, 3, 4), 2, together=True), Pick((2, 3, 4, 5), 2, together=True)}


def test_everyone_with_an_accessible_seat_has_company_beside_where_no_window_fits() -> None:
    hall = draw("ca........ac", focal=(0, 0))
    assert best(hall, 4, accessible=2) == Pick(hall.many(0, 0, 1, 10, 11), 5, together=False)


def test_company_that_finds_no_seat_beside_sits_as_near_as_it_can() -> None:
    hall = draw(".....", "#####", ".#a#.", focal=(2, 2))
    pick = best(hall, 2, accessible=1, seed=1)
    assert pick is not None
    assert pick.seats in {hall.many(2, 0, 2), hall.many(2, 2, 4)}
    assert not pick.together


def test_of_two_seats_beside_the_accessible_one_company_takes_the_companion_seat() -> None:
    hall = draw("ca.", focal=(1, 0))
    assert {best(hall, 2, accessible=1, seed=seed) for seed in range(10)} == {Pick((0, 1), 1, together=True)}
    gathered = draw("ca.#.", focal=(1, 0))
    assert best(gathered, 4, accessible=1) == Pick((0, 1, 2, 4), 5, together=False)


def test_a_group_that_cannot_sit_side_by_side_gathers_where_most_of_it_can() -> None:
    hall = draw("#a#####", "###.a##", "#######", ".######", focal=(1, 0))
    assert best(hall, 3, accessible=1) == Pick((*hall.many(1, 3, 4), hall.at(3, 0)), 5, together=False)


def test_a_gathered_group_is_told_how_far_apart_it_sits() -> None:
    stages = [
        best(hall, 2, accessible=1)
        for hall in (
            draw("ca"),
            draw("a ."),
            draw("#a#", "#.#"),
            draw("#a#.", "####"),
            draw("#a#", "###", "#.#"),
            draw("##a", ".##"),
        )
    ]
    assert [pick and pick.stage for pick in stages] == [1, 3, 4, 5, 5, 5]


def test_company_leaves_couple_seats_whole() -> None:
    assert best(draw("alr#."), 2, accessible=1) == Pick((0, 4), 5, together=False)
    seats = best(draw(".a.#lr"), 4, accessible=1)
    assert seats is not None
    assert {1, 4, 5} < set(seats.seats)


def test_accessible_seats_that_are_not_there_are_not_replaced() -> None:
    assert best(draw("a....."), 3, accessible=2) is None


def test_a_companion_seat_waits_while_the_accessible_seat_beside_it_is_free() -> None:
    assert best(draw("ac"), 1) is None
    assert best(draw("Ac"), 1) == Pick((1,), 1, together=True)
    assert best(draw("a c"), 1) == Pick((1,), 1, together=True)  # an aisle away is not beside


def test_accessible_requests_may_start_from_equal_seats() -> None:
    hall = draw("a.a", focal=(1, 0))
    assert {best(hall, 1, accessible=1, seed=seed) for seed in range(10)} == {
        Pick((0,), 1, together=True),
        Pick((2,), 1, together=True),
    }


@given(halls(), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3))
def test_an_accessible_pick_has_exactly_the_accessible_seats_asked_for(
    hall: Hall, count: int, wanted: int, seed: int
) -> None:
    accessible, reference, plan = min(wanted, count), Reference(hall), SeatingPlan(hall.layout)
    free = {seat for seat, kind in enumerate(reference.kind) if kind == "accessible"} - hall.gone
    pick = best(hall, count, accessible=accessible, seed=seed)
    if pick is None:
        company = reference.available()
        whole = {seat for seat in company if reference.partner(seat) in (None, *company)}
        plain = {seat for seat in whole if reference.partner(seat) is None}
        needed = count - accessible
        assert len(free) < accessible or len(whole) < needed or (needed % 2 and not plain)
    else:
        assert len(set(pick.seats)) == count
        assert len(free.intersection(pick.seats)) == accessible
        assert hall.gone.isdisjoint(pick.seats)
        assert couples_broken(plan, pick.seats) == ()
        assert pick.together == is_together(plan, pick.seats)


# Couple seats


def test_one_person_is_not_given_half_a_couple_seat() -> None:
    hall = draw("lr.lr", focal=(0, 0))
    assert best(hall, 1) == Pick((2,), 1, together=True)
    assert best(draw("lrlr"), 1) is None


def test_a_block_begins_and_ends_between_couple_seats() -> None:
    assert best(draw("lrlrlr", focal=(2.5, 0)), 2) == Pick((2, 3), 1, together=True)
    assert best(draw("lrlrlr"), 3) is None


def test_an_odd_party_takes_its_plain_seat_before_it_is_too_late() -> None:
    hall = draw("..#lr", focal=(0, 0))
    pick = best(hall, 3)
    assert pick is not None
    assert couples_broken(SeatingPlan(hall.layout), pick.seats) == ()
    assert {3, 4} <= set(pick.seats)


def test_a_split_party_keeps_a_plain_seat_for_its_odd_member() -> None:
    hall = draw("..##lrlr", focal=(0, 0))
    assert best(hall, 5) == Pick((0, 4, 5, 6, 7), 5, together=False)


def test_a_half_whose_other_half_is_gone_is_not_sold() -> None:
    assert best(draw("lR.", focal=(0, 0)), 1) == Pick((2,), 1, together=True)


def test_halves_that_do_not_stand_side_by_side_are_ordinary_seats() -> None:
    assert best(draw("l r"), 1) is not None
    assert couples_broken(SeatingPlan(draw("l r").layout), (0,)) == ()


@pytest.mark.parametrize(
    ("chosen", "missing"),
    [((1,), (2,)), ((2,), (1,)), ((1, 2), ()), ((0, 1, 4), (2, 3)), ((2, 3), (1, 4)), ((0, 5), ())],
)
def test_the_missing_halves_of_a_selection_are_named(
    chosen: tuple[int, ...], missing: tuple[int, ...]
) -> None:
    assert couples_broken(SeatingPlan(draw(".lrlr.").layout), chosen) == missing


# Together


def test_together_means_adjacent_in_one_segment() -> None:
    plan = SeatingPlan(draw("....", ".. ..").layout)
    assert is_together(plan, (2, 1, 3))
    assert is_together(plan, (5,))
    assert not is_together(plan, (0, 2))
    assert not is_together(plan, (3, 4))  # the end of one row and the beginning of the next
    assert not is_together(plan, (5, 6))  # across the aisle
    assert not is_together(plan, (1, 1))
    assert not is_together(plan, ())
