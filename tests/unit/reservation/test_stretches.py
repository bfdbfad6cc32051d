"""Stretches are what the script's arithmetic may be trusted with.

Goal: on plain stretches the script's closed form and the reference judge every choice alike; where they
would not, the stretch says so. Method: random small rows, every choice of one and two seats, the twin's
rule (which the contract suite holds to the script's) against `judge_orphans`.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservation.domain import Area, Layout, OrphanRule, Seat, Segment
from reservation.inventory_memory import orphans
from reservation.packing import plane_of
from reservation.seating import SeatingPlan, judge_orphans
from reservation.stretches import StretchTable

KINDS = {".": "standard", "a": "accessible", "c": "companion", "l": "couple_left", "r": "couple_right"}


def row(drawing: str, areas: str = "") -> Layout:
    """One row, a letter a seat; `areas` names the area of each seat."""
    areas = areas or "A" * len(drawing)
    seats = tuple(
        Seat(place, f"1-{place + 1}", "1", str(place + 1), float(place), 0.0, areas[place], KINDS[letter])  # type: ignore[arg-type]
        for place, letter in enumerate(drawing)
    )
    segments = (Segment(0, len(seats), "1"),)
    return Layout("row", seats, tuple(Area(one, one) for one in sorted(set(areas))), segments, (0.0, 0.0))


@given(
    drawing=st.text(alphabet="...a", min_size=2, max_size=9),
    taken=st.sets(st.integers(0, 8)),
    rule=st.sampled_from(["lenient", "strict"]),
)
@settings(max_examples=300, deadline=None)
def test_script_and_reference_judge_plain_rows_alike(drawing: str, taken: set[int], rule: OrphanRule) -> None:
    layout = row(drawing)
    table, plan = StretchTable(layout), SeatingPlan(layout)
    taken = {seat for seat in taken if seat < len(drawing)}
    free = [seat for seat in range(len(drawing)) if seat not in taken and drawing[seat] == "."]
    for count in (1, 2):
        for chosen in combinations(free, count):
            touched = table.touching(chosen)
            assert touched is not None
            assert table.are_plain(touched)
            singles = orphans(taken, chosen, rule, touched, table.of_areas(touched))
            verdict = judge_orphans(plan, plane_of(taken, len(drawing)), chosen, rule)
            assert (not singles) == verdict.ok, (drawing, taken, chosen)
            assert tuple(singles) == verdict.singles


@pytest.mark.parametrize(("drawing", "areas"), [(".lr.", ""), ("..c.", ""), ("....", "AABB")])
def test_couples_companions_and_price_borders_are_not_left_to_arithmetic(drawing: str, areas: str) -> None:
    table = StretchTable(row(drawing, areas))
    assert not table.are_plain(table.touching([0]) or ())


def test_by_arithmetic_alone_a_couple_between_two_seats_could_never_be_bought() -> None:
    layout = row(".lr.")
    table = StretchTable(layout)
    assert orphans(set(), [1, 2], "lenient", table.touching([1]) or (), ()) == [0, 3]
    assert judge_orphans(SeatingPlan(layout), bytes(1), [1, 2], "lenient").ok


def test_accessible_seats_end_a_stretch() -> None:
    assert StretchTable(row("..a..")).touching([0, 4]) == ((0, 2, 0), (3, 2, 0))


def test_whoever_needs_an_accessible_seat_is_in_no_stretch() -> None:
    assert StretchTable(row("..a..")).touching([1, 2]) is None
