"""A stored layout comes back as the same layout.

Method: through real JSON text, as a jsonb column would return it, over layouts found by hypothesis.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.domain import SEAT_KINDS, Area, Layout, Seat, Segment
from reservation.layouts import from_document, import_layout, to_document

coordinates = st.integers(-50_000, 500_000).map(lambda thousandths: thousandths / 1000 + 0.0)
texts = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    areas = tuple(Area(f"area-{i}", draw(texts)) for i in range(draw(st.integers(1, 3))))
    seats: list[Seat] = []
    segments: list[Segment] = []
    for length in lengths:
        segments.append(Segment(len(seats), length, draw(texts)))
        for _ in range(length):
            seats.append(
                Seat(
                    len(seats),
                    f"{draw(texts)} {len(seats)}",
                    draw(texts),
                    draw(texts),
                    draw(coordinates),
                    draw(coordinates),
                    draw(st.sampled_from(areas)).area_id,
                    draw(st.sampled_from(SEAT_KINDS)),
                )
            )
    focal_point = (draw(coordinates), draw(coordinates))
    return Layout(draw(texts), tuple(seats), areas, tuple(segments), focal_point)


@given(layouts())
def test_a_layout_survives_its_document(layout: Layout) -> None:
    restored = from_document(json.loads(json.dumps(to_document(layout))))
    assert restored == layout
    assert restored.layout_id == layout.layout_id


def test_a_layout_with_whole_numbers_keeps_its_id() -> None:
    layout = Layout(
        "x", (Seat(0, "A1", "A", "1", 2, 3, "a"),), (Area("a", "A"),), (Segment(0, 1, "A"),), (1, 2)
    )
    assert from_document(json.loads(json.dumps(to_document(layout)))).layout_id == layout.layout_id


def test_a_standard_seat_is_an_array_of_six() -> None:
    document = to_document(import_layout(b"A1,A2+").layout)
    assert document["seats"] == [["A1", "A", "1", 0.0, 0.0, 0], ["A2", "A", "2", 1.0, 0.0, 0, "accessible"]]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"areas": [["a"]]},
        {"areas": []},
        {"seats": [["A1"]]},
        {"seats": [["A1", "A", "1", 0.0, 0.0, 0, "throne"]]},
        {"seats": []},
        {"segments": [[0, 2, "1"]]},
        {"segments": None},
        {"focal_point": [1]},
    ],
)
def test_what_to_document_did_not_make_is_refused(change: dict[str, Any]) -> None:
    document = to_document(import_layout(b"A1").layout)
    with pytest.raises(ValueError, match=r"."):
        from_document(document | change)


def test_a_document_without_a_part_is_refused() -> None:
    document = to_document(import_layout(b"A1").layout)
    del document["name"]
    with pytest.raises(ValueError, match="not a layout document"):
        from_document(document)
