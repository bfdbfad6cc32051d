"""pretix seating plans become layouts a fan can choose from.

Method: small plans built in the test, each with the one peculiarity its name promises.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservation.domain import Layout
from reservation.layouts import ImportedLayout, LayoutRejected, import_layout

SAMPLES = Path(__file__).parent / "samples"


def seat(number: str, x: float, y: float = 0, category: str = "Stalls", **extra: Any) -> dict[str, Any]:
    return {"seat_number": number, "position": {"x": x, "y": y}, "category": category, **extra}


def row(number: str, *seats: dict[str, Any], x: float = 0, y: float = 0, **extra: Any) -> dict[str, Any]:
    return {"row_number": number, "position": {"x": x, "y": y}, "seats": list(seats), **extra}


def line(number: str, xs: list[float], y: float = 0, first: int = 1, **extra: Any) -> dict[str, Any]:
    return row(number, *(seat(str(first + i), x) for i, x in enumerate(xs)), y=y, **extra)


def zone(name: str, *rows: dict[str, Any], x: float = 0, y: float = 0, **extra: Any) -> dict[str, Any]:
    return {"name": name, "position": {"x": x, "y": y}, "rows": list(rows), **extra}


def plan(*zones: dict[str, Any], categories: tuple[str, ...] = ("Stalls",), **extra: Any) -> dict[str, Any]:
    """A plan whose seats get a guid each, unless they have one."""
    result = {"name": "Plan", "categories": [{"name": c} for c in categories], "zones": list(zones), **extra}
    seats = (s for z in zones for r in z.get("rows", []) for s in r.get("seats", []))
    for number, one in enumerate(seats):
        one.setdefault("seat_guid", f"guid-{number}")
    return result


def imported(document: dict[str, Any], name: str = "") -> ImportedLayout:
    return import_layout(json.dumps(document).encode(), name=name)


def refused(document: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(LayoutRejected) as refusal:
        imported(document)
    return [(issue.code, issue.where) for issue in refusal.value.issues]


def segments(layout: Layout) -> list[list[str]]:
    return [[s.label for s in layout.seats[g.start : g.stop]] for g in layout.segments]


def codes(result: ImportedLayout) -> list[str]:
    return [warning.code for warning in result.warnings]


def test_the_current_dialect_is_read_without_a_loss() -> None:
    result = import_layout((SAMPLES / "pretix_current.json").read_bytes())
    layout = result.layout
    assert result.source == "pretix"
    assert layout.name == "Lantern House 2"
    assert layout.seat_count == 17
    assert [area.area_id for area in layout.areas] == ["parkett", "rollstuhlplatz", "balcony"]
    assert [segment.row_key for segment in layout.segments] == [
        "Parkett/1", "Parkett/1", "Parkett/2", "Parkett/2", "Balcony/1",
    ]  # fmt: skip
    assert [seat.label for seat in layout.seats if seat.kind == "accessible"] == ["1-6"]
    assert set(codes(result)) == {"label_made_unique"}


def test_the_old_dialect_is_read_as_the_current_one_and_mentioned_once() -> None:
    result = import_layout((SAMPLES / "pretix_old.json").read_bytes())
    assert codes(result) == ["old_dialect"]
    assert segments(result.layout) == [["A-1", "A-2", "A-3", "A-4"], ["B-1", "B-2", "B-3", "B-4"]]
    assert result.layout.name == "Town Hall"


def test_positions_of_zone_row_and_seat_add_up() -> None:
    layout = imported(
        plan(
            zone("A", line("1", [0, 10, 20]), x=100, y=100),
            zone("B", line("2", [0, 10, 20]), x=50, y=80, areas=[]),
            zone("C", row("3", seat("1", 5, 5), seat("2", 15, 5), x=95, y=135)),
        )
    ).layout
    at = {s.label: (s.x, s.y) for s in layout.seats}
    assert at["2-1"] == (0.0, 0.0)
    assert at["1-1"] == (5.0, 2.0)
    assert at["3-1"] == (5.0, 6.0)


def test_a_row_without_a_position_stands_at_the_origin_of_its_zone() -> None:
    flat = line("1", [0, 10])
    del flat["position"]
    assert imported(plan(zone("A", flat))).layout.seats[1].x == 1.0


def test_rows_stand_from_the_screen_outwards_and_seats_from_left_to_right() -> None:
    layout = imported(
        plan(
            zone("A", line("3", [20, 0, 10], y=60), line("1", [10, 20, 0], y=0), line("2", [0, 10, 20], y=30))
        )
    ).layout
    assert segments(layout) == [["1-3", "1-1", "1-2"], ["2-1", "2-2", "2-3"], ["3-2", "3-3", "3-1"]]
    assert [s.index for s in layout.seats] == list(range(9))


def test_an_aisle_is_inferred_where_the_gap_is_wider_than_the_rows_pitch() -> None:
    layout = imported(plan(zone("A", line("1", [0, 10, 20, 40, 50, 60])))).layout
    assert segments(layout) == [["1-1", "1-2", "1-3"], ["1-4", "1-5", "1-6"]]
    assert {g.row_key for g in layout.segments} == {"A/1"}


def test_a_row_drawn_by_hand_has_no_aisle() -> None:
    layout = imported(plan(zone("A", line("1", [0, 9, 20, 31, 39, 54])))).layout
    assert len(layout.segments) == 1


def test_an_aisle_is_found_in_a_row_of_two_seats() -> None:
    document = plan(zone("A", line("1", [0, 30]), line("2", [0, 10, 20, 30], y=20)))
    assert segments(imported(document).layout)[:2] == [["1-1"], ["1-2"]]


def test_a_row_of_sofas_has_wide_gaps_and_no_aisle() -> None:
    sofas = row("S", *(seat(str(i), i * 25, category="Sofa") for i in range(1, 4)), y=40)
    document = plan(zone("A", line("1", [0, 10, 20, 30]), sofas), categories=("Stalls", "Sofa"))
    assert segments(imported(document).layout)[1] == ["S-1", "S-2", "S-3"]


def test_pairs_between_aisles_stay_pairs() -> None:
    layout = imported(plan(zone("A", line("1", [0, 10, 40, 50, 80, 90])))).layout
    assert [g.length for g in layout.segments] == [2, 2, 2]


def test_segment_breaks_of_the_sports_hall_dialect_are_aisles() -> None:
    document = plan(zone("A", line("1", [0, 25, 50, 75, 100], segment_breaks=[3], section_break=False)))
    result = imported(document)
    assert segments(result.layout) == [["1-1", "1-2"], ["1-3", "1-4", "1-5"]]
    assert codes(result) == ["unknown_key"]


def test_a_rotated_row_is_ordered_along_itself() -> None:
    turned = [seat(str(i), i * 10 * math.cos(-1.2), i * 10 * math.sin(-1.2)) for i in (3, 1, 4, 2)]
    layout = imported(plan(zone("A", row("1", *turned)))).layout
    assert segments(layout) == [["1-1", "1-2", "1-3", "1-4"]]


def test_an_upright_row_begins_nearest_the_screen() -> None:
    upright = [seat(str(i), 0, i * 10) for i in (2, 3, 1)]
    assert segments(imported(plan(zone("A", row("1", *upright)))).layout) == [["1-1", "1-2", "1-3"]]


def test_a_curved_row_is_one_segment() -> None:
    arc = [seat(str(i), 200 * math.cos(a), 200 * math.sin(a)) for i, a in enumerate(_angles(0.3, 2.8, 40))]
    layout = imported(plan(zone("A", row("1", *reversed(arc))))).layout
    assert [g.length for g in layout.segments] == [40]
    assert layout.seats[0].x == 0.0


def test_a_row_bent_further_than_a_half_circle_keeps_the_order_of_the_file() -> None:
    arc = [seat(str(i), 100 * math.cos(a), 100 * math.sin(a)) for i, a in enumerate(_angles(-1, 4.1, 50))]
    layout = imported(plan(zone("A", row("1", *arc)))).layout
    numbers = [int(s.number) for s in layout.seats]
    assert len(layout.segments) == 1
    assert numbers in (list(range(50)), list(range(49, -1, -1)))


def _angles(start: float, stop: float, count: int) -> list[float]:
    return [start + (stop - start) * i / (count - 1) for i in range(count)]


def test_pieces_of_one_row_that_line_up_are_one_physical_row() -> None:
    document = plan(zone("A", line("7", [50, 60, 70], first=4), line("7", [0, 10, 20])))
    layout = imported(document).layout
    assert segments(layout) == [["7-1", "7-2", "7-3"], ["7-4", "7-5", "7-6"]]
    assert {g.row_key for g in layout.segments} == {"A/7"}


def test_pieces_that_touch_are_one_segment() -> None:
    document = plan(zone("A", line("7", [0, 10, 20]), line("7", [30, 40], first=4)))
    assert [g.length for g in imported(document).layout.segments] == [5]


def test_turned_side_blocks_belong_to_the_row_they_continue() -> None:
    left = row("7", *(seat(str(i), -95 + i * 9.6, -20 + i * 2.8) for i in range(1, 7)))
    middle = row("7", *(seat(str(i), (i - 9) * 10 + 5, 0) for i in range(7, 13)))
    right = row("7", *(seat(str(i), 45 + (i - 13) * 9.6, -2 - (i - 13) * 2.8) for i in range(13, 19)))
    layout = imported(plan(zone("A", middle, right, left))).layout
    assert {g.row_key for g in layout.segments} == {"A/7"}
    assert [int(s.number) for s in layout.seats] == list(range(1, 19))


def test_a_strongly_curved_row_is_followed_at_its_ends() -> None:
    wing, bow = _angles(-2.9, -2.65, 4), _angles(-2.4, -0.6, 22)
    pieces = [
        row("7", *(seat(f"{name}{i}", 120 * math.cos(a), -120 * math.sin(a)) for i, a in enumerate(angles)))
        for name, angles in (("bow", bow), ("wing", wing))
    ]
    layout = imported(plan(zone("A", *pieces))).layout
    assert [(g.length, g.row_key) for g in layout.segments] == [(4, "A/7"), (22, "A/7")]


@pytest.mark.parametrize(
    ("x", "y"),
    [(0, 100), (50, 15), (-50, 15), (5, 2)],
    ids=["behind", "right behind", "left behind", "over each other"],
)
def test_pieces_that_do_not_line_up_are_two_rows(x: float, y: float) -> None:
    document = plan(zone("A", line("1", [0, 10, 20]), line("1", [x, x + 10, x + 20], y=y, first=4)))
    assert {g.row_key for g in imported(document).layout.segments} == {"A/1", "A/1#2"}


def test_the_same_row_in_two_zones_is_two_rows() -> None:
    document = plan(zone("Left", line("1", [0, 10])), zone("Right", line("1", [0, 10], first=3), x=40))
    assert [g.row_key for g in imported(document).layout.segments] == ["Left/1", "Right/1"]


def test_labels_that_repeat_across_zones_get_the_zone_in_front() -> None:
    document = plan(zone("Stalls", line("7", [0, 10])), zone("Balcony", line("7", [0, 10, 20]), y=50))
    result = imported(document)
    assert segments(result.layout) == [["Stalls 7-1", "Stalls 7-2"], ["Balcony 7-1", "Balcony 7-2", "7-3"]]
    assert codes(result) == ["label_made_unique", "label_made_unique"]


def test_labels_that_repeat_within_a_zone_get_a_number_behind() -> None:
    document = plan(zone("A", line("7", [0, 10]), line("7", [40, 50])))
    result = imported(document)
    assert segments(result.layout) == [["7-1", "7-2"], ["7-1 (2)", "7-2 (2)"]]
    assert [(w.code, w.where) for w in result.warnings] == [("label_made_unique", "/zones/0/rows/1/seats/0")]


def test_a_label_made_unique_never_meets_another_label() -> None:
    document = plan(
        zone(
            "A",
            line("7", [0]),
            line("7", [0], y=9),
            row("A 7", seat("1 (2)", 0), y=18),
            line("A 7", [0], y=27),
        ),
        zone("B", line("7", [0], y=40)),
    )
    labels = [s.label for s in imported(document).layout.seats]
    assert sorted(labels) == ["A 7-1", "A 7-1 (2)", "A 7-1 (3)", "A 7-1 (4)", "B 7-1"]


def test_the_name_of_a_zone_falls_back_to_its_id_and_then_to_its_place() -> None:
    first, second = zone("", line("1", [0]), zone_id="north"), zone("", line("1", [0]), y=20)
    del second["name"]
    assert [g.row_key for g in imported(plan(first, second)).layout.segments] == ["north/1", "Zone 2/1"]


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("Accessible", "accessible"),
        ("Wheelchair spaces", "accessible"),
        ("Rollstuhl", "accessible"),
        ("无障碍座位", "accessible"),
        ("轮椅席", "accessible"),
        ("Wheelchair companion", "companion"),
        ("Rollstuhl-Begleitperson", "companion"),
        ("Inaccessible", "standard"),
        ("Not accessible", "standard"),
        ("Stalls", "standard"),
    ],
)
def test_the_name_of_a_category_tells_the_kind_of_its_seats(category: str, kind: str) -> None:
    document = plan(zone("A", row("1", seat("1", 0, category=category))), categories=(category,))
    assert imported(document).layout.seats[0].kind == kind


def test_a_wheelchair_mark_on_a_seat_counts() -> None:
    document = plan(zone("A", row("1", seat("1", 0), seat("2", 10, wheelchair=True))))
    assert [s.kind for s in imported(document).layout.seats] == ["standard", "accessible"]


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_file_does_not_matter(random: Random) -> None:
    document = json.loads((SAMPLES / "pretix_current.json").read_text())
    layout_id = imported(document).layout.layout_id
    random.shuffle(document["zones"])
    for one in document["zones"]:
        random.shuffle(one["rows"])
        for piece in one["rows"]:
            random.shuffle(piece["seats"])
    assert imported(document).layout.layout_id == layout_id


def test_accessible_seats_stand_in_their_segment_in_order() -> None:
    document = plan(zone("A", row("1", seat("1", 0), seat("2", 10, wheelchair=True), seat("3", 20))))
    assert segments(imported(document).layout) == [["1-1", "1-2", "1-3"]]


def test_a_category_is_shown_by_its_label_when_an_editor_gave_it_one() -> None:
    document = plan(zone("A", row("1", seat("1", 0, category="5082-ad"))), categories=("5082-ad",))
    document["categories"][0]["label"] = "Loge Étage"
    (area,) = imported(document).layout.areas
    assert (area.area_id, area.name) == ("loge-etage", "Loge Étage")


def test_categories_without_a_latin_letter_get_a_numbered_id() -> None:
    document = plan(
        zone(
            "A",
            row(
                "1",
                seat("1", 0, category="贵宾"),
                seat("2", 10, category="VIP!"),
                seat("3", 20, category="vip"),
            ),
        ),
        categories=("贵宾", "VIP!", "vip", "never used"),
    )
    areas = imported(document).layout.areas
    assert [(a.area_id, a.name) for a in areas] == [("area-1", "贵宾"), ("vip", "VIP!"), ("vip-2", "vip")]


def test_unknown_keys_are_left_out_with_one_warning_a_kind() -> None:
    document = plan(
        zone("A", row("1", seat("1", 0, status="sold"), seat("2", 10, status="free"), mode="x")), sections=[]
    )
    result = imported(document)
    assert {(w.code, w.where) for w in result.warnings} == {
        ("unknown_key", "/sections"),
        ("unknown_key", "/zones/0/rows/0/mode"),
        ("unknown_key", "/zones/0/rows/0/seats/0/status"),
    }
    assert any("2 times" in w.detail for w in result.warnings)


def test_decoration_is_not_judged() -> None:
    document = plan(zone("A", line("1", [0]), areas=[{"shape": "blob", "polygon": {"nodes": 7}}]))
    assert codes(imported(document)) == []


def test_a_uuid_twice_is_only_a_warning() -> None:
    document = plan(zone("A", row("1", seat("1", 0, uuid="u"), seat("2", 10, uuid="u"))))
    assert codes(imported(document)) == ["duplicate_uuid"]


def test_a_row_without_seats_is_mentioned_and_left_out() -> None:
    result = imported(plan(zone("A", line("1", [0]), row("2"))))
    assert codes(result) == ["row_without_seats"]
    assert result.layout.seat_count == 1


def test_the_given_name_is_used_only_where_the_plan_has_none() -> None:
    document = plan(zone("A", line("1", [0])))
    assert imported(document, name="Screen 4").layout.name == "Plan"
    del document["name"]
    assert imported(document, name=" Screen 4 ").layout.name == "Screen 4"
    assert refused(document) == [("missing_key", "/name")]


def test_labels_are_trimmed_and_composed() -> None:
    document = plan(zone("A", row(" E\u0301 ", seat("1\u00a0 b\n", 0))))
    assert imported(document).layout.seats[0].label == "É-1 b"


def test_every_missing_key_is_a_reason_of_its_own() -> None:
    assert refused({"zones": [{"rows": [{}, {"row_number": "1", "seats": [{}]}]}]}) == [
        ("missing_key", "/name"),
        ("missing_key", "/categories"),
        ("missing_key", "/zones/0/position"),
        ("missing_key", "/zones/0/rows/0/row_number"),
        ("missing_key", "/zones/0/rows/0/seats"),
        ("missing_key", "/zones/0/rows/1/seats/0/seat_guid"),
        ("missing_key", "/zones/0/rows/1/seats/0/seat_number"),
        ("missing_key", "/zones/0/rows/1/seats/0/position"),
        ("missing_key", "/zones/0/rows/1/seats/0/category"),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seat_number": 12}, ("wrong_type", "/seat_number")),
        ({"seat_number": None}, ("label_empty", "/seat_number")),
        ({"seat_number": "  "}, ("label_empty", "/seat_number")),
        ({"seat_number": "1\u202e2"}, ("control_character", "/seat_number")),
        ({"seat_number": "\ud800"}, ("control_character", "/seat_number")),
        ({"seat_number": "9" * 41}, ("label_too_long", "/seat_number")),
        ({"seat_guid": 7}, ("wrong_type", "/seat_guid")),
        ({"category": "Gold"}, ("unknown_category", "/category")),
        ({"category": 4}, ("wrong_type", "/category")),
        ({"position": [1, 2]}, ("wrong_type", "/position")),
        ({"position": {"x": 1}}, ("missing_key", "/position/y")),
        ({"position": {"x": True, "y": 0}}, ("wrong_type", "/position/x")),
        ({"position": {"x": "1", "y": 0}}, ("wrong_type", "/position/x")),
        ({"position": {"x": 1e300, "y": 0}}, ("number_out_of_range", "/position/x")),
        ({"position": {"x": 10**400, "y": 0}}, ("number_out_of_range", "/position/x")),
        ({"wheelchair": "yes"}, ("wrong_type", "/wheelchair")),
    ],
)
def test_a_seat_that_is_not_right_is_refused(change: dict[str, Any], expected: tuple[str, str]) -> None:
    document = plan(zone("A", row("1", seat("1", 0), seat("2", 10))))
    document["zones"][0]["rows"][0]["seats"][1].update(change)
    assert refused(document) == [(expected[0], f"/zones/0/rows/0/seats/1{expected[1]}")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("zones",), {}),
        (("zones", 0), "A"),
        (("categories",), None),
        (("categories", 0), 1),
        (("size",), [600, 400]),
        (("zones", 0, "rows"), "none"),
        (("zones", 0, "areas"), {}),
        (("zones", 0, "rows", 0, "seats"), 4),
        (("zones", 0, "rows", 0, "segment_breaks"), [1.5]),
    ],
)
def test_a_part_of_the_wrong_type_is_refused_at_its_place(path: tuple[str | int, ...], value: object) -> None:
    document = plan(zone("A", line("1", [0])), size={"width": 1, "height": 1})
    *way, last = path
    target: Any = document
    for step in way:
        target = target[step]
    target[last] = value
    assert ("wrong_type", "/" + "/".join(map(str, path))) in refused(document)


def test_a_guid_twice_is_refused_and_names_the_first() -> None:
    document = plan(zone("A", row("1", seat("1", 0, seat_guid="g"), seat("2", 10, seat_guid="g"))))
    assert refused(document) == [("duplicate_guid", "/zones/0/rows/0/seats/1/seat_guid")]


def test_a_category_twice_is_refused() -> None:
    document = plan(zone("A", line("1", [0])), categories=("Stalls", "Stalls "))
    assert refused(document) == [("duplicate_category", "/categories/1/name")]


def test_a_zone_name_too_long_for_a_label_is_refused_only_where_it_is_needed() -> None:
    long = zone("Z" * 120, line("1", [0]))
    assert imported(plan(long)).layout.seats[0].label == "1-1"
    document = plan(copy.deepcopy(long), zone("B", line("1", [0]), y=9))
    assert refused(document) == [("label_too_long", "/zones/0/rows/0/seats/0")]


def test_a_plan_without_a_seat_is_refused() -> None:
    assert refused(plan(zone("A"))) == [("no_seats", "")]
    assert refused(plan()) == [("no_seats", "")]


def test_seats_on_one_spot_are_mentioned() -> None:
    result = imported(plan(zone("A", line("1", [0, 10, 10]))))
    assert [(w.code, w.where) for w in result.warnings] == [("seats_overlap", "/zones/0/rows/0/seats/2")]


def test_all_seats_on_one_spot_are_still_a_layout() -> None:
    layout = imported(plan(zone("A", line("1", [5, 5, 5])))).layout
    assert {(s.x, s.y) for s in layout.seats} == {(0.0, 0.0)}
    assert layout.focal_point == (0.0, 0.0)


def test_single_seats_behind_each_other_are_one_unit_apart() -> None:
    layout = imported(plan(zone("A", line("1", [0]), line("2", [0], y=35), line("3", [0], y=70)))).layout
    assert [s.y for s in layout.seats] == [0.0, 1.0, 2.0]


def test_seats_parted_by_breaks_alone_are_one_unit_apart() -> None:
    layout = imported(plan(zone("A", line("1", [0, 40], segment_breaks=[2])))).layout
    assert [(s.x, s.y) for s in layout.seats] == [(0.0, 0.0), (1.0, 0.0)]


def test_the_focal_point_is_two_thirds_back_in_the_middle() -> None:
    document = plan(zone("A", *(line(str(i), [0, 10, 20, 30, 40], y=i * 10) for i in range(10))))
    assert imported(document).layout.focal_point == (2.0, 6.0)


def test_thirty_two_pieces_of_a_row_are_joined_and_more_are_not() -> None:
    def pieces(count: int) -> dict[str, Any]:
        return plan(zone("A", *(line("1", [i * 10], first=i) for i in range(count))))

    assert len({g.row_key for g in imported(pieces(32)).layout.segments}) == 1
    assert len({g.row_key for g in imported(pieces(33)).layout.segments}) == 33
