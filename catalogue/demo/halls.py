"""The halls of the demo cinemas, from a screening room of 60 to a premiere hall of 700.

Each function describes a kind of hall by the widths of its blocks and what is special about it. Price
areas follow what Chinese cinemas sell: front rows cheaper, the golden block dearer, couple seats, a
balcony, recliners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalogue.demo.shapes import Row, blocks, changed, couples, cut, hall, rows_of, with_wheelchairs
from reservation import Layout

AREA_NAMES: Final = {
    "front": "前区 Front",
    "standard": "普通区 Standard",
    "prime": "黄金区 Prime",
    "couple": "情侣座 Couple seats",
    "balcony": "楼座 Balcony",
    "recliner": "躺椅 Recliners",
}


def small_hall(name: str, rows: int, width: int, *, booth: int = 0, wheelchair_row: int = 0) -> Layout:
    """One block of seats and aisles along the walls; the projector's booth takes a back corner."""
    drawn = rows_of(rows, lambda i: blocks(width), "standard")
    if booth:
        for back in (-1, -2):
            drawn = changed(drawn, back, lambda drawing: cut(drawing, right=booth))
    drawn = changed(drawn, wheelchair_row, with_wheelchairs)
    return hall(name, _areas("standard"), drawn)


def split_hall(name: str, rows: int, half: int, *, door: int = 0) -> Layout:
    """Two blocks and an aisle down the middle; the door takes a front corner, couples sit at the back."""
    drawn = rows_of(rows, lambda i: blocks(half, half), lambda i: "couple" if i == rows - 1 else "standard")
    for front in (0, 1):
        drawn = changed(drawn, front, lambda drawing: cut(drawing, left=door))
    drawn = changed(drawn, -1, couples)
    drawn = changed(drawn, 0, with_wheelchairs)
    return hall(name, _areas("standard", "couple"), drawn, bend_radius=60)


def wide_hall(
    name: str,
    rows: int,
    side: int,
    middle: int,
    *,
    step: int = 2,
    front: int = 2,
    couple_rows: int = 1,
    bend_radius: float = 50,
) -> Layout:
    """Three blocks, curved, wider at the back: the side blocks are `step` seats narrower at the front.

    Rows in the middle third of the depth have the golden block.
    """

    def drawing(i: int) -> str:
        narrow = step if i < rows // 3 else step // 2 if i < 2 * rows // 3 else 0
        return blocks(side - narrow, middle, side - narrow)

    def areas(i: int) -> str | tuple[str, ...]:
        if i < front:
            return "front"
        if i >= rows - couple_rows:
            return "couple"
        if rows * 2 // 5 <= i < rows * 4 // 5:
            return ("standard", "prime", "standard")
        return "standard"

    drawn = _with_areas(rows, drawing, areas)
    for back in range(couple_rows):
        drawn = changed(drawn, -1 - back, couples)
    drawn = changed(drawn, front, with_wheelchairs)
    names = ["front", "standard", "prime", *(["couple"] if couple_rows else [])]
    return hall(name, _areas(*names), drawn, bend_radius=bend_radius)


def couples_hall(name: str, rows: int, pairs: int) -> Layout:
    """Sofas for two throughout, but for two wheelchair places in the first row."""
    sofa_row = couples(blocks(2 * pairs, 2 * pairs))
    drawn = rows_of(rows, lambda i: sofa_row, "couple")
    drawn[0] = Row(with_wheelchairs(blocks(2 * pairs, 2 * pairs)), "standard")
    return hall(name, _areas("standard", "couple"), drawn, seat_pitch=1.2, row_pitch=1.8, bend_radius=45)


def recliner_hall(name: str) -> Layout:
    """Sixty recliners, two steps apart: five rows of three islands of four, sofas in the last row."""
    drawn = rows_of(5, lambda i: blocks(4, 4, 4), lambda i: "couple" if i == 4 else "recliner")
    drawn = changed(drawn, -1, couples)
    drawn = changed(drawn, 0, with_wheelchairs)
    return hall(name, _areas("recliner", "couple"), drawn, seat_pitch=1.6, row_pitch=2.4)


def premiere_hall(name: str) -> Layout:
    """Seven hundred seats: curved stalls that widen towards the back, and a balcony over their end."""

    def stalls(i: int) -> str:
        return blocks(*((6, 14, 6) if i < 4 else (8, 14, 8)))

    def areas(i: int) -> str | tuple[str, ...]:
        if i < 3:
            return "front"
        return ("standard", "prime", "standard") if 7 <= i < 14 else "standard"

    drawn = _with_areas(18, stalls, areas)
    drawn = changed(drawn, 4, with_wheelchairs)
    drawn = changed(drawn, -1, lambda drawing: cut(drawing, left=2, right=2))
    balcony = [Row(blocks(9, 14, 9), "balcony", f"B{i + 1}", 5.0 if i == 0 else 0.0) for i in range(6)]
    areas_sold = _areas("front", "standard", "prime", "balcony")
    return hall(name, areas_sold, [*drawn, *balcony], bend_radius=42, stalls=len(drawn))


def _with_areas(
    rows: int, drawing: Callable[[int], str], areas: Callable[[int], str | tuple[str, ...]]
) -> list[Row]:
    return [Row(drawing(i), areas(i)) for i in range(rows)]


def _areas(*area_ids: str) -> list[tuple[str, str]]:
    return [(area_id, AREA_NAMES[area_id]) for area_id in area_ids]
