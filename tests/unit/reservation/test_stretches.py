"""Stretches are what the script's arithmetic may be trusted with.

Goal: on plain stretches the script's closed form and the reference judge every choice alike; where they
would not, the stretch says so. Method: random small rows, every choice of one and two seats in the first of
two, the twin's rule (which the contract suite holds to the script's) against `judge_orphans`.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reservation.domain import Area, Layout, OrphanRule, Seat, SeatKind, Segment
from reservation.inventory_memory import orphans
from reservation.packing import plane_of
from reservation.seating import SeatingPlan, judge_orphans
from reservation.stretches import StretchTable

KINDS: dict[str, SeatKind] = {
    ".": "standard",
    "a": "accessible",
    "c": "companion",
    "l": "couple_left",
    "r": "couple_right",
}


def row(drawing: str, areas: str = "", behind: str = "") -> Layout:
    """A row, a letter a seat, and one of plain seats behind it; `areas` and `behind` name their areas."""
    areas = (areas or "A" * len(drawing)) + behind
    seats = []
    for place, letter in enumerate(drawing + "." * len(behind)):
        number, at = (2, place - len(drawing)) if place >= len(drawing) else (1, place)
        label = f"{number}-{at + 1}"
        x, y = float(at), float(number)
        seats.append(Seat(place, label, f"{number}", f"{at + 1}", x, y, areas[place], KINDS[letter]))
    segments = [Segment(0, len(drawing), "1"), Segment(len(drawing), len(behind), "2")]
    named = tuple(Area(one, one) for one in sorted(set(areas)))
    return Layout("row", tuple(seats), named, tuple(segments[: 2 if behind else 1]), (0.0, 0.0))


@given(
    drawing=st.text(alphabet="...a", min_size=2, max_size=9),
    behind=st.text(alphabet="AB", max_size=6),
    taken=st.sets(st.integers(0, 14)),
    rule=st.sampled_from(["lenient", "strict"]),
)
@settings(max_examples=300, deadline=None)
@example(drawing="...", behind="BAAAA", taken=set(), rule="strict")
def test_script_and_reference_judge_plain_rows_alike(
    drawing: str, behind: str, taken: set[int], rule: OrphanRule
) -> None:
    layout = row(drawing, behind=behind)
    table, plan = StretchTable(layout), SeatingPlan(layout)
    taken = {seat for seat in taken if seat < layout.seat_count}
    free = [seat for seat in range(len(drawing)) if seat not in taken and drawing[seat] == "."]
    for count in (1, 2):
        for chosen in combinations(free, count):
            touched = table.touching(chosen)
            assert touched is not None
            assert table.are_plain(touched)
            area = table.of_areas(touched) if rule == "strict" else ()
            if not table.are_plain(area):
                assert set(behind) == {"A", "B"}
                continue
            singles = orphans(taken, chosen, rule, touched, area)
            verdict = judge_orphans(plan, plane_of(taken, layout.seat_count), chosen, rule)
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


@pytest.mark.parametrize("behind", ["BAAAA", "ABBBB", "BBBBA"])
def test_a_row_that_is_only_partly_of_the_area_is_not_left_to_arithmetic(behind: str) -> None:
    table = StretchTable(row("...", behind=behind))
    area = table.of_areas(table.touching([1]) or ())
    assert len(area) == 2
    assert not table.are_plain(area)


def test_rows_of_other_areas_are_not_looked_at() -> None:
    table = StretchTable(row("...", behind="BBBB"))
    touched = table.touching([1]) or ()
    assert table.of_areas(touched) == touched


def test_accessible_seats_end_a_stretch() -> None:
    assert StretchTable(row("..a..")).touching([0, 4]) == ((0, 2, 0), (3, 2, 0))


def test_whoever_needs_an_accessible_seat_is_in_no_stretch() -> None:
    assert StretchTable(row("..a..")).touching([1, 2]) is None
