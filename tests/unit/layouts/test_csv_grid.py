"""A seat map typed into a spreadsheet becomes the layout that was drawn.

Method: grids in one line of Python, and a round trip over drawn grids found by hypothesis.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservation.domain import Layout
from reservation.layouts import ImportedLayout, LayoutRejected, csv_grid, import_layout

SAMPLES = Path(__file__).parent / "samples"


def imported(text: str) -> ImportedLayout:
    return import_layout(text.encode())


def refused(text: str) -> list[tuple[str, str]]:
    with pytest.raises(LayoutRejected) as refusal:
        imported(text)
    return [(issue.code, issue.where) for issue in refusal.value.issues]


def segments(layout: Layout) -> list[list[str]]:
    return [[s.label for s in layout.seats[g.start : g.stop]] for g in layout.segments]


def test_the_first_line_is_nearest_the_screen_and_an_empty_cell_is_an_aisle() -> None:
    result = import_layout((SAMPLES / "grid.csv").read_bytes(), name="Screen 1")
    layout = result.layout
    assert (result.source, layout.name, result.warnings) == ("csv_grid", "Screen 1", ())
    assert segments(layout) == [
        ["K1", "K2"], ["K3", "K4"], ["L1", "L2"], ["L3", "L4"], ["7-1", "7-2"], ["Throne"],
    ]  # fmt: skip
    assert [g.row_key for g in layout.segments] == ["1", "1", "2", "2", "4", "4"]
    assert [(a.area_id, a.name) for a in layout.areas] == [("standard", "Standard"), ("loge", "Loge")]
    assert [s.label for s in layout.seats if s.kind == "accessible"] == ["L4"]


def test_an_empty_line_is_a_cross_aisle() -> None:
    assert [s.y for s in imported("A1\n\n\nB1\n,,\nC1").layout.seats] == [0.0, 3.0, 5.0]


def test_every_other_seat_stands_alone() -> None:
    layout = imported("A1,,A2,,A3").layout
    assert segments(layout) == [["A1"], ["A2"], ["A3"]]
    assert [s.x for s in layout.seats] == [0.0, 2.0, 4.0]


def test_empty_margins_do_not_move_the_layout() -> None:
    layout = imported(",,,\n,,A1,A2,\n,,B1").layout
    assert layout.seats == imported("A1,A2\nB1\n\n").layout.seats
    assert layout.focal_point == (0.5, 0.667)


@pytest.mark.parametrize(
    ("label", "row", "number"),
    [
        ("K12", "K", "12"),
        ("AA 3", "AA", "3"),
        ("7-12", "7", "12"),
        ("A-b", "A", "b"),
        ("7排12座", "7", "12"),
        ("排1", "排", "1"),
        ("Throne", "2", "3"),
        ("12", "2", "3"),
        ("1-2-3", "2", "3"),
    ],
)
def test_row_and_number_are_read_from_the_label_or_else_from_the_position(
    label: str, row: str, number: str
) -> None:
    (seat,) = [s for s in imported(f"Z1,Z2,Z3,Z4\nY1,,{label}").layout.seats if s.label == label]
    assert (seat.row, seat.number) == (row, number)


@pytest.mark.parametrize(
    "text",
    [
        "A1,A2,,A3\nB1,,,B3\n",
        "\ufeffA1,A2,,A3\nB1,,,B3",
        "A1,A2,,A3\r\nB1,,,B3\r\n",
        "A1,A2,,A3\rB1,,,B3\r",
        '"A1","A2","","A3"\n"B1","","","B3"\n',
        " A1 , A2 ,\u3000, A3 ,,,\nB1,,,B3\n,,,\n",
        "A1;A2;;A3\nB1;;;B3\n",
        "A1\tA2\t\tA3\nB1\t\t\tB3\n",
        "Standard:A1,A2,,A3\nB1,,,Standard : B3\n",
    ],
)
def test_spreadsheets_write_the_same_grid_in_many_ways(text: str) -> None:
    assert imported(text).layout.layout_id == imported("A1,A2,,A3\nB1,,,B3").layout.layout_id


def test_a_quoted_cell_may_hold_the_separator() -> None:
    assert [s.label for s in imported('"Loge:A,1",A2,A3').layout.seats] == ["A,1", "A2", "A3"]


def test_a_label_in_two_areas_gets_its_area_in_front() -> None:
    result = imported("Stalls:A1,Loge:A1,Stalls:A2\nA1")
    assert [s.label for s in result.layout.seats] == ["Stalls A1", "Loge A1", "A2", "Standard A1"]
    assert [w.code for w in result.warnings] == ["label_made_unique", "label_made_unique"]


def test_a_label_twice_in_one_area_is_refused_at_the_second_place() -> None:
    assert refused("A1,A2\nA2,Loge:A1\n,,A1+") == [
        ("duplicate_label", "line 2, column 1"),
        ("duplicate_label", "line 3, column 3"),
    ]


def test_all_reasons_come_at_once() -> None:
    assert refused("A1,+,Loge:\n:B1,C\x071," + "x" * 41 + "\nLo\x00ge:C2,\u200b") == [
        ("label_empty", "line 1, column 2"),
        ("label_empty", "line 1, column 3"),
        ("label_empty", "line 2, column 1"),
        ("control_character", "line 2, column 2"),
        ("label_too_long", "line 2, column 3"),
        ("control_character", "line 3, column 1"),
        ("control_character", "line 3, column 2"),
    ]


def test_a_label_of_forty_characters_is_fine() -> None:
    assert imported("x" * 40).layout.seats[0].label == "x" * 40


def test_columns_and_lines_are_bounded_but_empty_margins_are_not() -> None:
    most = "," * (csv_grid.columns_max - 1) + "A1"
    assert imported(most + ",,,").layout.seat_count == 1
    assert refused("B1\n," + most) == [("too_many_columns", "line 2")]
    assert refused("A1\n" * 2 + "\n" * csv_grid.lines_max + "B1") == [
        ("duplicate_label", "line 2, column 1"),
        ("too_many_lines", f"line {csv_grid.lines_max + 1}"),
    ]


@pytest.mark.parametrize("text", ['A1,"A2', 'A1,"A2"x', "A1," + "x" * 200_000])
def test_a_broken_cell_is_refused_with_its_line(text: str) -> None:
    assert refused(f"B1\n{text}") == [("malformed_csv", "line 2")]


def test_a_cell_over_two_lines_is_refused() -> None:
    assert refused('A1,"A\n2"') == [("control_character", "line 2, column 2")]


def test_a_grid_without_a_seat_is_refused() -> None:
    assert refused(",,\n , ") == [("no_seats", "")]


@pytest.mark.parametrize(
    "text",
    [
        "<svg></svg>",
        "Dear sir or madam,\nplease find our seats below, as we agreed.\n",
        "to be or not to be",
    ],
)
def test_prose_is_not_a_grid(text: str) -> None:
    assert refused(text) == [("unknown_format", "")]


drawings = st.lists(
    st.lists(st.sampled_from(["", "seat", "accessible", "loge"]), max_size=12), min_size=1, max_size=8
).filter(lambda rows: any(cell for row in rows for cell in row))


@given(drawings)
@settings(deadline=None)
def test_what_is_drawn_is_what_is_read(drawing: list[list[str]]) -> None:
    labels = {(y, x): f"R{y}-{x}" for y, row in enumerate(drawing) for x, cell in enumerate(row) if cell}
    shown = {"": "{}", "seat": "{}", "accessible": "{}+", "loge": "Loge:{}"}
    text = io.StringIO()
    csv.writer(text).writerows(
        [shown[cell].format(labels.get((y, x), "")) for x, cell in enumerate(row)]
        for y, row in enumerate(drawing)
    )
    layout = imported(text.getvalue()).layout

    left, top = min(x for _, x in labels), min(y for y, _ in labels)
    assert {s.label: (s.y, s.x) for s in layout.seats} == {
        label: (float(y - top), float(x - left)) for (y, x), label in labels.items()
    }
    for seat in layout.seats:
        y, x = int(seat.y) + top, int(seat.x) + left
        assert (seat.kind == "accessible") == (drawing[y][x] == "accessible")
        assert (seat.area_id == "loge") == (drawing[y][x] == "loge")
    for a, b in zip(layout.seats, layout.seats[1:], strict=False):
        neighbours = a.y == b.y and b.x - a.x == 1
        assert (layout.segment_of[a.index] == layout.segment_of[b.index]) == neighbours
