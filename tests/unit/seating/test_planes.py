"""Goal: the integer of a search and the plane of Redis are the same set of seats.

Method: the packed plane is spelled out digit by digit in `halls.plane`, most significant bit first.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reservation.seating import SeatingPlan
from reservation.seating.planes import (
    mask_of,
    mask_of_many,
    range_mask,
    scramble,
    seats_in,
    stretches,
    to_bits,
    window,
)
from tests.unit.seating.halls import Hall, Reference, halls, plane

seat_sets = st.sets(st.integers(0, 99))


def test_seat_zero_is_the_most_significant_bit_of_the_first_byte() -> None:
    assert to_bits(b"\x80") == 1


@given(seat_sets)
def test_a_set_of_seats_survives_the_way_to_the_plane_and_back(seats: set[int]) -> None:
    assert to_bits(plane(100, seats)) == mask_of(seats)
    assert seats_in(to_bits(plane(100, seats))) == sorted(seats)


@given(seat_sets)
def test_a_set_of_few_and_a_set_of_many_are_the_same_set(seats: set[int]) -> None:
    assert mask_of_many(seats, 100) == mask_of(seats)


@given(seat_sets, st.integers(0, 99), st.integers(1, 40))
def test_a_window_is_the_plane_moved_down_even_where_redis_cut_it_short(
    seats: set[int], start: int, length: int
) -> None:
    short = plane(100, seats).rstrip(b"\0")
    assert window(short, start, length) == to_bits(plane(100, seats)) >> start & range_mask(0, length)


@given(seat_sets)
def test_stretches_are_maximal_and_leave_nothing_out(seats: set[int]) -> None:
    found = stretches(mask_of(seats))
    assert [seat for low, high in found for seat in range(low, high)] == sorted(seats)
    assert all(low - 1 not in seats and high not in seats for low, high in found)


@given(halls(), st.data())
def test_a_flood_fills_the_runs_it_starts_in_and_no_others(hall: Hall, data: st.DataObject) -> None:
    reference, plan = Reference(hall), SeatingPlan(hall.layout)
    if available := sorted(reference.available()):
        marks = data.draw(st.sets(st.sampled_from(available)))
        filled = plan.ground.runs_holding(mask_of(marks), mask_of(available))
        assert set(seats_in(filled)) == {seat for mark in marks for seat in reference.run_of(mark)}


def test_consecutive_seeds_do_not_lead_to_consecutive_choices() -> None:
    choices = [scramble(seed) % 4 for seed in range(400)]
    assert all(60 < choices.count(choice) < 140 for choice in range(4))
    assert sum((after - before) % 4 == 1 for before, after in pairwise(choices)) < 200
