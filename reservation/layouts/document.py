"""A layout as JSON for a `jsonb` column, and back without a loss.

Seats are arrays, not objects: a stadium has sixty thousand, and the keys would be two thirds of the
bytes. An area is named by its position in the list of areas, a kind by its word and only when it is
not standard, so that neither order nor number of the known kinds may ever change the meaning of what
is stored.

Invariant: ``from_document(to_document(layout)) == layout``, with the same `layout_id`, also after a
trip through JSON. Numbers are therefore taken as they come: 2 and 2.0 hash differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reservation.domain import SEAT_KINDS, Area, Layout, Seat, Segment

_FORMAT: Final = 1


def to_document(layout: Layout) -> dict[str, Any]:
    """The layout in JSON-ready values."""
    position = {area.area_id: number for number, area in enumerate(layout.areas)}
    seats: list[list[Any]] = []
    for seat in layout.seats:
        stored: list[Any] = [seat.label, seat.row, seat.number, seat.x, seat.y, position[seat.area_id]]
        seats.append(stored if seat.kind == "standard" else [*stored, seat.kind])
    return {
        "format": _FORMAT,
        "name": layout.name,
        "focal_point": list(layout.focal_point),
        "areas": [[area.area_id, area.name] for area in layout.areas],
        "segments": [[segment.start, segment.length, segment.row_key] for segment in layout.segments],
        "seats": seats,
    }


def from_document(document: Mapping[str, Any]) -> Layout:
    """The layout that was stored. Raises ValueError for a document `to_document` did not make."""
    if document.get("format") != _FORMAT:
        raise ValueError(f"a layout document of format {document.get('format')!r} is not known here")
    try:
        areas = tuple(Area(area_id, name) for area_id, name in document["areas"])
        seats = tuple(_seat(index, stored, areas) for index, stored in enumerate(document["seats"]))
        x, y = document["focal_point"]
        segments = tuple(Segment(start, length, row_key) for start, length, row_key in document["segments"])
        return Layout(document["name"], seats, areas, segments, (x, y))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("this is not a layout document") from error


def _seat(index: int, stored: list[Any], areas: tuple[Area, ...]) -> Seat:
    label, row, number, x, y, area, *kind = stored
    if kind and kind[0] not in SEAT_KINDS:
        raise ValueError(f"{kind[0]!r} is not a kind of seat")
    return Seat(index, label, row, number, x, y, areas[area].area_id, *kind)
