"""seats.io charts keep the names their owners know, and lose nothing without a word.

Method: one sample with every kind of object, and small charts built in the test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reservation.domain import Layout
from reservation.layouts import ImportedLayout, LayoutRejected, import_layout

SAMPLES = Path(__file__).parent / "samples"


def seat(label: Any, x: Any, y: float = 0, key: Any = 1, **extra: Any) -> dict[str, Any]:
    return {"label": label, "x": x, "y": y, "categoryKey": key, **extra}


def row(label: Any, *seats: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "seats": list(seats)}


def line(label: str, xs: list[float], y: float = 0, key: Any = 1) -> dict[str, Any]:
    return row(label, *(seat(str(i), x, y, key) for i, x in enumerate(xs, 1)))


def section(label: Any, *rows: dict[str, Any], x: float = 0, y: float = 0, **extra: Any) -> dict[str, Any]:
    return {"label": label, "topLeft": {"x": x, "y": y}, "subChart": {"rows": list(rows)}, **extra}


def chart(*rows: Any, accessible: bool = False, **drawing: Any) -> dict[str, Any]:
    categories = [{"key": 1, "label": "Gold", "accessible": accessible}, {"key": "2", "label": "Silver"}]
    return {
        "name": "Chart",
        "venueType": "MIXED",
        "categories": {"list": categories},
        "subChart": {"rows": list(rows), **drawing},
    }


def imported(document: dict[str, Any], name: str = "") -> ImportedLayout:
    return import_layout(json.dumps(document).encode(), name=name)


def refused(document: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(LayoutRejected) as refusal:
        imported(document)
    return [(issue.code, issue.where) for issue in refusal.value.issues]


def segments(layout: Layout) -> list[list[str]]:
    return [[s.label for s in layout.seats[g.start : g.stop]] for g in layout.segments]


def found(result: ImportedLayout) -> list[tuple[str, str]]:
    return [(warning.code, warning.where) for warning in result.warnings]


def test_a_chart_with_everything_is_read_and_names_what_it_leaves_out() -> None:
    result = import_layout((SAMPLES / "seatsio_mixed.json").read_bytes())
    layout = result.layout
    assert result.source == "seatsio"
    assert segments(layout) == [
        ["A-1", "A-2", "A-3"],
        ["A-4", "A-5"],
        ["T1-1", "T1-2", "T1-3", "T1-4"],
        ["Loge-A-1", "Loge-A-2", "Loge-A-3"],
        ["Loge-B-1", "Loge-B-2", "Loge-B-3"],
    ]
    assert {s.label: s.kind for s in layout.seats if s.kind != "standard"} == {
        "A-2": "accessible",
        "A-3": "companion",
    }
    assert [(a.area_id, a.name) for a in layout.areas] == [
        ("gold", "Gold"),
        ("silver", "Silver"),
        ("loge-gold", "Loge · Gold"),
        ("loge-silver", "Loge · Silver"),
    ]
    assert found(result) == [
        ("general_admission_left_out", "/subChart/generalAdmissionAreas/0"),
        ("booth_left_out", "/subChart/booths/0"),
    ]
    assert layout.focal_point == (5.75, -2.0)


def test_without_sections_the_category_is_the_area() -> None:
    layout = imported(chart(line("A", [0, 10]), line("B", [0, 10], 12, "2"))).layout
    assert [(a.area_id, a.name) for a in layout.areas] == [("gold", "Gold"), ("silver", "Silver")]
    assert layout.seats[3].area_id == "silver"


def test_a_section_of_one_category_is_one_area_and_seats_inherit_it() -> None:
    document = chart(
        sections=[
            section("Section A", line("A", [0, 10], key=None), categoryKey=1),
            section("Section B", line("A", [0, 10], key=None), x=60, categoryKey=2),
        ]
    )
    layout = imported(document).layout
    assert [(a.area_id, a.name) for a in layout.areas] == [
        ("section-a", "Section A"),
        ("section-b", "Section B"),
    ]
    assert segments(layout) == [["Section A-A-1", "Section A-A-2"], ["Section B-A-1", "Section B-A-2"]]
    assert [g.row_key for g in layout.segments] == ["Section A/A", "Section B/A"]
    assert [(s.row, s.number, s.x) for s in layout.seats[2:]] == [("A", "1", 6.0), ("A", "2", 7.0)]


def test_a_section_without_a_corner_starts_where_its_outline_does() -> None:
    outlined = section("B", line("A", [0, 10]), points=[{"x": 130, "y": 40}, {"x": 30, "y": 90}])
    outlined["topLeft"] = None
    bare = section("C", line("A", [50, 60]))
    del bare["topLeft"]
    assert refused(chart(line("A", [0, 10]), sections=[outlined, bare])) == [
        ("missing_key", "/subChart/sections/1/topLeft")
    ]
    layout = imported(chart(line("A", [0, 10]), sections=[outlined])).layout
    assert {s.label: (s.x, s.y) for s in layout.seats}["B-A-1"] == (3.0, 4.0)


def test_tables_in_a_section_belong_to_it() -> None:
    document = chart(sections=[section("S", categoryKey=1)])
    document["subChart"]["sections"][0]["subChart"]["tables"] = [line("T1", [0, 10, 20], key=None)]
    layout = imported(document).layout
    assert segments(layout) == [["S-T1-1", "S-T1-2", "S-T1-3"]]
    assert layout.segments[0].row_key == "S/T1"


def test_a_table_is_one_segment_in_the_order_of_its_chairs() -> None:
    chairs = [("1", 0, 10), ("2", -10, 0), ("3", 0, -10), ("4", 90, 0)]
    layout = imported(chart(tables=[row("T1", *(seat(label, x, y) for label, x, y in chairs))])).layout
    assert segments(layout) == [["T1-1", "T1-2", "T1-3", "T1-4"]]


def test_two_tables_are_two_rows_even_with_one_name_and_in_line() -> None:
    result = imported(chart(tables=[line("T1", [0, 10]), line("T1", [40, 50])]))
    assert [g.row_key for g in result.layout.segments] == ["T1", "T1#2"]
    assert segments(result.layout)[1] == ["T1-1 (2)", "T1-2 (2)"]


def test_a_table_booked_as_a_whole_is_mentioned() -> None:
    table = line("T1", [0, 10]) | {"bookAsAWhole": True}
    assert found(imported(chart(tables=[table]))) == [("table_sold_by_seat", "/subChart/tables/0")]


def test_pieces_of_one_row_are_one_physical_row() -> None:
    layout = imported(chart(line("A", [0, 10, 20]), row("A", seat("4", 50), seat("5", 60)))).layout
    assert [(g.length, g.row_key) for g in layout.segments] == [(3, "A"), (2, "A")]


def test_floors_stand_one_behind_the_other() -> None:
    result = import_layout((SAMPLES / "seatsio_floors.json").read_bytes())
    layout = result.layout
    assert [g.row_key for g in layout.segments] == ["Lower deck/A", "Lower deck/B", "Upper deck/A"]
    assert [layout.seats[g.start].y for g in layout.segments] == [0.0, 1.0, 5.0]
    assert "Lower deck A-1" in layout.index_of
    assert "B-1" in layout.index_of
    assert {code for code, _ in found(result)} == {"label_made_unique"}


def test_the_focal_point_of_a_floor_moves_with_it() -> None:
    document = chart()
    del document["subChart"]
    document["subChartFloors"] = [
        {"rows": [line("A", [0, 10])], "focalPoint": None},
        {"rows": [], "floorName": "empty"},
        {"rows": [line("B", [0, 10], y=7)], "focalPoint": {"x": 5, "y": 17}},
    ]
    assert imported(document).layout.focal_point == (0.5, 5.0)


def test_the_focal_point_of_the_chart_comes_first() -> None:
    document = chart(line("A", [10, 20], y=50), focalPoint={"x": 15, "y": 10})
    document["zones"] = {"list": [{"focalPoint": {"x": 0, "y": 0}}]}
    result = imported(document)
    assert result.layout.focal_point == (0.5, -4.0)
    assert found(result) == []


def test_a_focal_point_a_hair_beyond_the_edge_is_on_it() -> None:
    focal_point = imported(chart(line("A", [10, 20]), focalPoint={"x": 9.9999, "y": 0})).layout.focal_point
    assert str(focal_point) == "(0.0, 0.0)"  # minus zero would be another layout_id


def test_the_focal_points_of_zones_are_averaged() -> None:
    document = chart(line("A", [0, 10]))
    document["zones"] = {"list": [{"focalPoint": {"x": 20, "y": 0}}, {}, {"focalPoint": {"x": 0, "y": 20}}]}
    result = imported(document)
    assert result.layout.focal_point == (1.0, 1.0)
    assert found(result) == [("focal_points_averaged", "/zones")]
    document["zones"]["list"].pop()
    assert found(imported(document)) == []


def test_a_focal_point_nobody_placed_is_not_used() -> None:
    result = imported(chart(line("A", [10, 20]), line("B", [10, 20], y=30), focalPoint={"x": 0, "y": 0}))
    assert result.layout.focal_point == (0.5, 2.0)
    assert found(result) == [("focal_point_not_placed", "/subChart/focalPoint")]


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({}, "standard"),
        ({"accessible": None, "companionSeat": None}, "standard"),
        ({"accessible": True}, "accessible"),
        ({"companionSeat": True}, "companion"),
        ({"accessible": True, "companionSeat": True}, "accessible"),
    ],
)
def test_flags_of_a_seat_tell_its_kind(flags: dict[str, Any], kind: str) -> None:
    assert imported(chart(row("A", seat("1", 0, **flags)))).layout.seats[0].kind == kind


def test_an_accessible_category_makes_its_seats_accessible() -> None:
    document = chart(
        row("A", seat("1", 0), seat("2", 10, companionSeat=True), seat("3", 20, key="2")), accessible=True
    )
    assert [s.kind for s in imported(document).layout.seats] == ["accessible", "companion", "standard"]


def test_category_keys_are_the_same_as_number_and_as_text() -> None:
    assert imported(chart(row("A", seat("1", 0, key="1"), seat("2", 10, key=2)))).layout.seat_count == 2


def test_a_chart_without_a_name_takes_the_given_one() -> None:
    document = chart(line("A", [0, 10])) | {"name": None}
    assert imported(document, name="Screen 4").layout.name == "Screen 4"
    assert imported(document).layout.name == "Untitled layout"


def test_a_row_without_seats_is_mentioned_and_left_out() -> None:
    assert found(imported(chart(line("A", [0]), row("B")))) == [("row_without_seats", "/subChart/rows/1")]


def test_all_reasons_come_at_once() -> None:
    document = chart(
        row(None, seat("1", 0), seat(None, 10), seat("?", 20)),
        row("B", seat("1", 0, key=None), seat("2", 10, key=9), seat("3", "4"), seat("4", 30, accessible="y")),
        {"label": "C"},
        "D",
        generalAdmissionAreas={"a": 1},
        sections=[
            {"label": "S", "topLeft": {"x": 0}},
            section("", line("A", [0], key=True), categoryKey=[1]),
        ],
    )
    document["categories"]["list"] += [{"key": "1", "label": "Again"}, {"label": "Keyless"}, {"key": 5}]
    assert refused(document) == [
        ("duplicate_category", "/categories/list/2/key"),
        ("missing_key", "/categories/list/3/key"),
        ("missing_key", "/categories/list/4/label"),
        ("label_empty", "/subChart/rows/0/label"),
        ("label_empty", "/subChart/rows/0/seats/1/label"),
        ("label_empty", "/subChart/rows/0/seats/2/label"),
        ("category_missing", "/subChart/rows/1/seats/0"),
        ("unknown_category", "/subChart/rows/1/seats/1/categoryKey"),
        ("wrong_type", "/subChart/rows/1/seats/2/x"),
        ("wrong_type", "/subChart/rows/1/seats/3/accessible"),
        ("missing_key", "/subChart/rows/2/seats"),
        ("wrong_type", "/subChart/rows/3"),
        ("wrong_type", "/subChart/generalAdmissionAreas"),
        ("missing_key", "/subChart/sections/0/topLeft/y"),
        ("missing_key", "/subChart/sections/0/subChart"),
        ("label_empty", "/subChart/sections/1/label"),
        ("wrong_type", "/subChart/sections/1/categoryKey"),
        ("wrong_type", "/subChart/sections/1/subChart/rows/0/seats/0/categoryKey"),
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("categories", ("missing_key", "/categories")),
        ("subChart", ("missing_key", "/subChart")),
    ],
)
def test_a_chart_without_its_main_parts_is_refused(key: str, expected: tuple[str, str]) -> None:
    document = chart(line("A", [0]))
    del document[key]
    assert expected in refused(document)


def test_a_drawing_without_rows_is_refused() -> None:
    document = chart()
    del document["subChart"]["rows"]
    assert refused(document) == [("missing_key", "/subChart/rows")]


def test_a_chart_without_a_seat_is_refused() -> None:
    assert refused(chart(generalAdmissionAreas=[{"label": None}])) == [("no_seats", "")]
