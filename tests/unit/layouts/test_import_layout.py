"""The door all files come through: told apart by content, read whole or refused whole.

Method: one file for every code the package can answer (the table is compared with the source), and
hypothesis at the door with bytes, and with charts damaged in one place.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import reservation.layouts
from kernel import limits
from reservation.layouts import ImportedLayout, LayoutIssue, LayoutRejected, import_layout
from reservation.layouts.reading import Findings
from tests.support.growth import LINEAR_MAX, growth

SAMPLES = Path(__file__).parent / "samples"
SHARED = Path(__file__).parents[4] / "shared" / "data"


def _plan(rows: list[Any], **extra: Any) -> bytes:
    zone = {"name": "Z", "position": {"x": 0, "y": 0}, "rows": rows}
    return json.dumps({"name": "P", "categories": [{"name": "A"}], "zones": [zone], **extra}).encode()


def _seat(guid: str, number: Any, x: Any = 0, **extra: Any) -> dict[str, Any]:
    position = {"x": x, "y": 0}
    return {"seat_guid": guid, "seat_number": number, "position": position, "category": "A", **extra}


def _row(*seats: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"row_number": "1", "seats": list(seats), **extra}


def _chart(**drawing: Any) -> bytes:
    rows = [{"label": "A", "seats": [{"label": "1", "x": 0, "y": 0, "categoryKey": 1}]}]
    categories = {"list": [{"key": 1, "label": "Gold"}]}
    return json.dumps({"categories": categories, "subChart": {"rows": rows, **drawing}}).encode()


def _crowd() -> bytes:
    columns = 700
    return "\n".join(",".join(f"{y}-{x}" for x in range(columns)) for y in range(94)).encode()


ISSUES: dict[str, Callable[[], bytes]] = {
    "file_too_large": lambda: b" " * (limits.layout_file_bytes_max + 1),
    "not_utf8": lambda: b"A1,\xff",
    "empty_file": lambda: b"\xef\xbb\xbf \r\n",
    "malformed_json": lambda: b'{"zones": [',
    "duplicate_key": lambda: b'{"zones": [], "zones": []}',
    "unknown_format": lambda: b'{"rooms": []}',
    "malformed_csv": lambda: b'A1,"A2',
    "too_many_columns": lambda: b"," * 1_000 + b"A1",
    "too_many_lines": lambda: b"\n" * 10_000 + b"A1",
    "duplicate_label": lambda: b"A1,A1",
    "missing_key": lambda: _plan([{}]),
    "wrong_type": lambda: _plan([_row(_seat("g", 1))]),
    "number_out_of_range": lambda: _plan([_row(_seat("g", "1", 1e9))]),
    "label_empty": lambda: _plan([_row(_seat("g", ""))]),
    "control_character": lambda: _plan([_row(_seat("g", "1\u0007"))]),
    "label_too_long": lambda: _plan([_row(_seat("g", "1" * 41))]),
    "duplicate_guid": lambda: _plan([_row(_seat("g", "1"), _seat("g", "2"))]),
    "duplicate_category": lambda: _plan([], categories=[{"name": "A"}, {"name": "A"}]),
    "unknown_category": lambda: _plan([_row(_seat("g", "1", category="B"))]),
    "category_missing": lambda: _chart(tables=[{"label": "T", "seats": [{"label": "1", "x": 0, "y": 0}]}]),
    "no_seats": lambda: _plan([]),
    "too_many_seats": _crowd,
    "too_many_findings": lambda: b'{"zones": [' + b"{}," * 100_000 + b"{}]}",
}
WARNINGS: dict[str, Callable[[], bytes]] = {
    "unknown_key": lambda: _plan([_row(_seat("g", "1", status="sold"))]),
    "old_dialect": lambda: _plan([_row(_seat("g", "1"), number_of_seats=1)]),
    "duplicate_uuid": lambda: _plan([_row(_seat("g", "1", uuid="u"), uuid="u")]),
    "row_without_seats": lambda: _plan([_row(_seat("g", "1")), _row()]),
    "label_made_unique": lambda: _plan([_row(_seat("g", "1"), _seat("h", "1", 10))]),
    "seats_overlap": lambda: _plan([_row(_seat("g", "1"), _seat("h", "2"))]),
    "general_admission_left_out": lambda: _chart(generalAdmissionAreas=[{"label": "Floor"}]),
    "booth_left_out": lambda: _chart(booths=[{"label": "B1"}]),
    "table_sold_by_seat": lambda: _chart(tables=[{"label": "T", "seats": [], "bookAsAWhole": True}]),
    "focal_point_not_placed": lambda: _chart(focalPoint={"x": 0, "y": 0}),
    "focal_points_averaged": lambda: json.dumps(
        json.loads(_chart()) | {"zones": {"list": [{"focalPoint": {"x": 0, "y": i}} for i in (1, 2)]}}
    ).encode(),
}


def outcome(content: bytes) -> ImportedLayout | tuple[LayoutIssue, ...]:
    """A layout or reasons; whatever else happens is a failure of the test."""
    try:
        result = import_layout(content)
    except LayoutRejected as refusal:
        return _writable(refusal.issues)
    _writable(result.warnings)
    return result


def _writable(findings: tuple[LayoutIssue, ...]) -> tuple[LayoutIssue, ...]:
    """The findings, once it is sure that they can be sent as JSON in UTF-8."""
    json.dumps([[f.code, f.where, f.detail] for f in findings], ensure_ascii=False).encode()
    return findings


@pytest.mark.parametrize("code", ISSUES)
def test_every_reason_to_refuse_can_be_met(code: str) -> None:
    with pytest.raises(LayoutRejected) as refusal:
        import_layout(ISSUES[code]())
    assert code in {issue.code for issue in refusal.value.issues}


@pytest.mark.parametrize("code", WARNINGS)
def test_every_warning_can_be_met(code: str) -> None:
    assert code in {warning.code for warning in import_layout(WARNINGS[code]()).warnings}


def test_the_tables_above_name_every_code_of_the_source() -> None:
    source = "".join(path.read_text() for path in Path(reservation.layouts.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'(?:refuse|warn|LayoutIssue)\(\s*"([a-z_0-9]+)"', source))
    codes |= set(re.findall(r'"([a-z_]+_left_out)"', source))
    assert codes == ISSUES.keys() | WARNINGS.keys()


@pytest.mark.parametrize(
    "text", ["{", "[1, 2", "{]", '{"zones": NaN}', "[" * 100_000, '{"a": 1e5, b}', "{}x"]
)
def test_what_looks_like_json_and_is_not_is_one_error(text: str) -> None:
    issues = outcome(text.encode())
    assert isinstance(issues, tuple)
    assert [issue.code for issue in issues] == ["malformed_json"]


def test_where_the_json_breaks_is_told() -> None:
    with pytest.raises(LayoutRejected) as refusal:
        import_layout(b'{"zones": [],\n  "categories" []}')
    assert refusal.value.issues[0].where == "line 2, column 16"


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": []}', "[[1]]", "<html>", "not a seat map at all"])
def test_what_is_none_of_the_formats_is_called_unknown(text: str) -> None:
    issues = outcome(text.encode())
    assert isinstance(issues, tuple)
    assert [(issue.code, issue.where) for issue in issues] == [("unknown_format", "")]


def test_a_number_too_long_to_read_is_malformed() -> None:
    issues = outcome(b'{"zones": ' + b"9" * 5_000 + b"}")
    assert isinstance(issues, tuple)
    assert [issue.code for issue in issues] == ["malformed_json"]


def test_the_given_name_must_be_fit_to_show() -> None:
    with pytest.raises(LayoutRejected) as refusal:
        import_layout(b"A1", name="a\x00b")
    assert [(i.code, i.where) for i in refusal.value.issues] == [("control_character", "name")]
    assert import_layout(b"A1", name="  ").layout.name == "Untitled layout"


def test_a_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(LayoutRejected, match=r"duplicate_label at line 1, column 2: .* \(and 1 more\)"):
        import_layout(b"A1,A1,A1")
    with pytest.raises(LayoutRejected, match="empty_file at the file"):
        import_layout(b"")


def test_a_byte_order_mark_changes_nothing() -> None:
    for path in sorted(SAMPLES.iterdir()):
        plain = import_layout(path.read_bytes())
        assert import_layout(b"\xef\xbb\xbf" + path.read_bytes()) == plain


@pytest.mark.parametrize(
    ("sample", "layout_id"),
    [
        ("grid.csv", "lay_130f7e0c60e9f73389c5cf27d5a102f9"),
        ("pretix_current.json", "lay_f7cb91746801db9ef105e326f950a975"),
        ("pretix_old.json", "lay_0ab96e140b6fcbb182b73b0df499b185"),
        ("seatsio_floors.json", "lay_6be041c2f748c9f7d46c5b5304ed8160"),
        ("seatsio_mixed.json", "lay_a234b3b8b9fe4df4320fa3cfbe42eb61"),
    ],
)
def test_a_file_keeps_its_layout_id_from_release_to_release(sample: str, layout_id: str) -> None:
    assert import_layout((SAMPLES / sample).read_bytes()).layout.layout_id == layout_id


@pytest.mark.parametrize(
    ("file", "seats", "segments", "areas", "accessible", "codes"),
    [
        ("seatsio-sampleChart.json", 32, 4, 2, 1, ["general_admission_left_out"] * 2),
        ("seatsio-sampleChartWithSections.json", 71, 13, 2, 0, ["focal_point_not_placed"]),
        ("seatsio-sampleChartWithTables.json", 12, 2, 1, 0, ["table_sold_by_seat", "seats_overlap"]),
        ("audience1st-valid.csv", 4, 3, 1, 1, []),
        ("audience1st-bom.csv", 1, 1, 1, 0, []),
    ],
)
def test_public_sample_files_are_read(
    file: str, seats: int, segments: int, areas: int, accessible: int, codes: list[str]
) -> None:
    if not (SHARED / file).exists():
        pytest.skip("public sample charts, not ours to ship, and not beside this checkout")
    result = import_layout((SHARED / file).read_bytes())
    layout = result.layout
    assert (layout.seat_count, len(layout.segments), len(layout.areas)) == (seats, segments, areas)
    assert sum(seat.kind == "accessible" for seat in layout.seats) == accessible
    assert [warning.code for warning in result.warnings] == codes


def test_a_stadium_of_sixty_thousand_seats_is_imported_in_seconds() -> None:
    rows = [
        {
            "row_number": str(y),
            "position": {"x": 0, "y": y * 25},
            "seats": [_seat(f"{y}/{x}", str(x), x * 20 + 60 * (x > 150)) for x in range(300)],
        }
        for y in range(200)
    ]
    content = _plan(rows)
    began = time.perf_counter()
    layout = import_layout(content).layout
    assert time.perf_counter() - began < 20  # about 1.5 s alone; anything quadratic takes minutes
    assert (layout.seat_count, len(layout.segments)) == (60_000, 400)


@given(st.binary(max_size=300))
@example(b"{}")
@example(b"\xef\xbb\xbf")
@example(b"\xef\xbb\xbf\xef\xbb\xbfA1")
@settings(deadline=None)
def test_no_bytes_do_anything_but_give_a_layout_or_reasons(content: bytes) -> None:
    outcome(content)


@given(st.text(st.sampled_from('A1,;\t:+\n\r"\ufeff排座-({[\x00\ud7ff é'), max_size=60))
@settings(deadline=None)
def test_no_text_near_a_grid_does_either(text: str) -> None:
    result = outcome(text.encode())
    assert result == outcome(text.encode())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "label", "seats", "name"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [p for inner in value.values() for p in _places(inner)]
    if isinstance(value, list):
        return [(value, i) for i in range(len(value))] + [p for inner in value for p in _places(inner)]
    return []


@pytest.mark.parametrize(
    "sample", ["pretix_current.json", "pretix_old.json", "seatsio_mixed.json", "seatsio_floors.json"]
)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_chart_damaged_anywhere_gives_a_layout_or_reasons(sample: str, data: st.DataObject) -> None:
    document = json.loads((SAMPLES / sample).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(document)
        container, key = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.booleans()):
            container[key] = data.draw(json_values)
        else:
            del container[key]
    outcome(json.dumps(document).encode())


def test_a_label_of_ten_thousand_marks_costs_its_length_to_refuse() -> None:
    """A chart may have thirty megabytes; composing the marks on one letter takes time with their square."""

    def marked(size: int) -> str:
        return "e" + "\u0301\u0323" * (size // 2)

    def read(text: str) -> str:
        return Findings().clean(text, "/zones/0")

    assert growth(read, marked, 4_000) < LINEAR_MAX
    findings = Findings()
    assert findings.clean(marked(4_000), "/zones/0") == ""
    assert [one.code for one in findings.issues] == ["label_too_long"]
    assert growth(partial(unicodedata.normalize, "NFC"), marked, 1_000) > 1.5 * LINEAR_MAX, "the control"
