"""Halls, drawn as rows of characters and turned into layouts.

A row is a string, left to right as seen facing the screen:

    s  seat                 a  wheelchair place      c  companion seat
    <  left half of a couple seat, >  right half     .  no seat here
    |  aisle (two pitches wide; ends a segment)

`sss|ssssssss|sss` is three segments. Most rows come out of the small functions below, which take the
widths of the blocks and cut, pair or equip them, so a hall reads as a description of itself. The
alternative, coordinates in a file, would be ten thousand numbers nobody can check.

Seats are numbered through the whole row, as in Chinese cinemas: `7-12` is row 7, seat 12. Curved rows
bend towards the screen at their ends. All coordinates are rounded, because the layout's id is a hash of
them and must not depend on how a machine multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from reservation import Area, Layout, Seat, SeatKind, Segment

AISLE: Final = 2.0
ROW_PITCH: Final = 1.2
KINDS: Final[dict[str, SeatKind]] = {
    "s": "standard",
    "a": "accessible",
    "c": "companion",
    "<": "couple_left",
    ">": "couple_right",
}


@dataclass(frozen=True)
class Row:
    """One row: its drawing, the area of each of its blocks (or one for all), its name.

    `gap` is clear floor between this row and the one before, in pitches.
    """

    drawing: str
    areas: str | tuple[str, ...] = "standard"
    name: str = ""
    gap: float = 0.0

    def area_of(self, block: int) -> str:
        return self.areas if isinstance(self.areas, str) else self.areas[block]


def blocks(*widths: int) -> str:
    """Blocks of standard seats with aisles between them."""
    return "|".join("s" * width for width in widths)


def cut(drawing: str, left: int = 0, right: int = 0) -> str:
    """The row without its outermost seats: a corner, a door, the projector's booth."""
    kept = len(drawing) - left - right
    return "." * left + drawing[left : left + kept] + "." * right


def couples(drawing: str) -> str:
    """Every pair of seats as a couple seat; an odd seat at a block's end goes."""
    return "|".join("<>" * (len(block) // 2) + "." * (len(block) % 2) for block in drawing.split("|"))


def with_wheelchairs(drawing: str) -> str:
    """A wheelchair place and a companion at both ends of the row; the chair stands at the end."""
    left = len(drawing) - len(drawing.lstrip("."))
    right = len(drawing) - len(drawing.rstrip("."))
    middle = drawing[left : len(drawing) - right]
    return "." * left + "ac" + middle[2:-2] + "ca" + "." * right


def rows_of(count: int, drawing: Callable[[int], str], areas: Callable[[int], str] | str) -> list[Row]:
    """`count` rows from the screen outwards; `drawing` and `areas` are asked with 0 for the first."""
    return [Row(drawing(i), areas if isinstance(areas, str) else areas(i)) for i in range(count)]


def changed(rows: Sequence[Row], position: int, change: Callable[[str], str]) -> list[Row]:
    """The rows with one drawing changed; negative positions count from the back."""
    result = list(rows)
    result[position] = replace(result[position], drawing=change(result[position].drawing))
    return result


def hall(
    name: str,
    areas: Iterable[tuple[str, str]],
    rows: Sequence[Row],
    *,
    bend_radius: float = 0.0,
    seat_pitch: float = 1.0,
    row_pitch: float = ROW_PITCH,
    first_row_y: float = 4.0,
    stalls: int = 0,
) -> Layout:
    """The layout of a drawn hall.

    The best seat is in the middle, two thirds back: of all rows, or of the first `stalls` rows where
    others hang above them.
    """
    seats: list[Seat] = []
    segments: list[Segment] = []
    half_width = max(_width(row.drawing, seat_pitch) for row in rows) / 2
    y = first_row_y
    for position, row in enumerate(rows, start=1):
        y += row.gap
        row_name = row.name or str(position)
        x = half_width - _width(row.drawing, seat_pitch) / 2 + seat_pitch / 2
        number = 0
        for block, drawing in enumerate(row.drawing.split("|")):
            for offset, run in runs(drawing):
                segments.append(Segment(len(seats), len(run), row_name))
                for place, sign in enumerate(run, start=offset):
                    number += 1
                    seat_x = x + place * seat_pitch
                    seats.append(
                        Seat(
                            index=len(seats),
                            label=f"{row_name}-{number}",
                            row=row_name,
                            number=str(number),
                            x=round(seat_x, 3),
                            y=round(y - _bend(seat_x - half_width, bend_radius), 3),
                            area_id=row.area_of(block),
                            kind=KINDS[sign],
                        )
                    )
            x += len(drawing) * seat_pitch + AISLE
        y += row_pitch
    depth = ((stalls or len(rows)) - 1) * row_pitch + sum(row.gap for row in rows[: stalls or None])
    return Layout(
        name=name,
        seats=tuple(seats),
        areas=tuple(Area(area_id, area_name) for area_id, area_name in areas),
        segments=tuple(segments),
        focal_point=(round(half_width, 3), round(first_row_y + depth * 2 / 3, 3)),
    )


def runs(drawing: str) -> Iterator[tuple[int, str]]:
    """The stretches of seats in a drawing without aisles, each with its place."""
    for match in re.finditer(r"[^.]+", drawing):
        yield match.start(), match.group()


def _width(drawing: str, seat_pitch: float) -> float:
    aisles = drawing.count("|")
    return (len(drawing) - aisles) * seat_pitch + aisles * AISLE


def _bend(from_centre: float, radius: float) -> float:
    return from_centre**2 / (2 * radius) if radius else 0.0
