"""Seats as points: in which order they stand in their row, how wide a seat is, where the aisles are.

Charts draw seats; they do not say which one is next to which. What matters for the rules of selling
(neighbours, singles, aisles) is inferred here, once. A row is followed along its principal direction,
the axis along which its points spread most, so a rotated or gently curved row is ordered correctly
however its seats are listed. A row bent further than a half circle has no such axis; there the file's
own order is kept when walking along it is clearly shorter.

Sorting by x alone was refused: it is wrong for every side block. Invariant: all functions are pure
and deterministic, and none takes longer than sorting its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import Final

from reservation.domain import SeatKind

#: A gap this many pitches wide is an aisle. Drawn rows wobble by a few percent and a chair more or
#: less by a fifth; the narrowest aisle in real charts leaves out most of a seat (about 1.7 pitches).
AISLE_FACTOR: Final = 1.6

#: The file's order wins over the principal direction when its walk is this much shorter.
_SHORTER: Final = 0.9

#: Seats nearer than this (in drawing units) stand on the same spot.
_SAME_SPOT: Final = 1e-6

#: A row needs this many gaps before its own median says more than its area's.
_GAPS_TO_TRUST: Final = 3

Vector = tuple[float, float]


@dataclass(slots=True)
class LooseSeat:
    """A seat as a reader found it, in drawing units.

    `prefix` goes in front of the label where it is not unique. Neighbours of another `block` are
    across an aisle, however near they are drawn.
    """

    where: str
    prefix: str
    label: str
    row: str
    number: str
    x: float
    y: float
    area_id: str
    kind: SeatKind = "standard"
    block: int = 0


def distance(a: LooseSeat, b: LooseSeat) -> float:
    return math.hypot(b.x - a.x, b.y - a.y)


def centre(seats: Sequence[LooseSeat]) -> Vector:
    return (
        math.fsum(seat.x for seat in seats) / len(seats),
        math.fsum(seat.y for seat in seats) / len(seats),
    )


def direction(seats: Sequence[LooseSeat]) -> Vector:
    """Unit vector along which the seats spread most, pointing right, or away from the screen."""
    mean_x, mean_y = centre(seats)
    spread_xx = math.fsum((seat.x - mean_x) ** 2 for seat in seats)
    spread_yy = math.fsum((seat.y - mean_y) ** 2 for seat in seats)
    spread_xy = math.fsum((seat.x - mean_x) * (seat.y - mean_y) for seat in seats)
    angle = 0.5 * math.atan2(2 * spread_xy, spread_xx - spread_yy)
    along = (math.cos(angle), math.sin(angle))
    if along[0] < 1e-9:  # upright, or as good as
        return (0.0, 1.0)
    return along


def mean_direction(pieces: Iterable[Sequence[LooseSeat]]) -> Vector:
    """The direction of several pieces together; longer pieces count more, single seats nothing."""
    x = y = 0.0
    for piece in pieces:
        along = direction(piece)
        x += along[0] * (len(piece) - 1)
        y += along[1] * (len(piece) - 1)
    length = math.hypot(x, y)
    return (x / length, y / length) if length > 1e-9 else (1.0, 0.0)


def project(seat: LooseSeat, along: Vector) -> tuple[float, float]:
    """How far along the direction, and how far off it, a seat stands."""
    return (seat.x * along[0] + seat.y * along[1], seat.y * along[0] - seat.x * along[1])


def in_order(seats: Sequence[LooseSeat]) -> list[LooseSeat]:
    """The seats of one row from left to right."""
    if len(seats) < 2:
        return list(seats)
    along = direction(seats)

    def place(seat: LooseSeat) -> tuple[float, float]:
        forward, aside = project(seat, along)
        return (round(forward, 6), round(aside, 6))

    sorted_seats = sorted(seats, key=place)
    if _walk(seats) < _SHORTER * _walk(sorted_seats):
        as_listed = list(seats)
        if place(as_listed[-1]) < place(as_listed[0]):
            as_listed.reverse()
        return as_listed
    return sorted_seats


def _walk(seats: Sequence[LooseSeat]) -> float:
    return math.fsum(distance(a, b) for a, b in pairwise(seats))


def gaps(row: Sequence[LooseSeat]) -> list[float]:
    """Distances between neighbours of an ordered row, without those on the same spot."""
    return [gap for a, b in pairwise(row) if (gap := distance(a, b)) > _SAME_SPOT]


def median_pitch(rows: Iterable[Sequence[LooseSeat]]) -> float | None:
    """The typical distance between neighbours, or None when no seat has a neighbour.

    The lower median, so that `2 seats, aisle, 1 seat` counts as one pitch and one aisle.
    """
    every = [gap for row in rows for gap in gaps(row)]
    return median_low(every) if every else None


def pitch_by_area(rows: Iterable[Sequence[LooseSeat]]) -> dict[str, float]:
    """The typical distance between neighbours of the same area, by area id."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for a, b in pairwise(row):
            gap = distance(a, b)
            if a.area_id == b.area_id and gap > _SAME_SPOT:
                found.setdefault(a.area_id, []).append(gap)
    return {area_id: median_low(distances) for area_id, distances in found.items()}


def row_pitch(row: Sequence[LooseSeat], by_area: Mapping[str, float]) -> float:
    """What counts as one pitch in an ordered row.

    A row with enough gaps is measured against its own median: a row of sofas has wide gaps and no
    aisle. In a shorter one the only gap might itself be the aisle, so its area has a say.
    """
    own = gaps(row)
    pitch = median_low(own) if own else math.inf
    if len(own) < _GAPS_TO_TRUST:
        pitch = min([pitch, *(by_area[seat.area_id] for seat in row if seat.area_id in by_area)])
    return pitch


def split_at_aisles(row: Sequence[LooseSeat], pitch: float) -> list[list[LooseSeat]]:
    """The segments of an ordered row."""
    segments = [[row[0]]]
    for a, b in pairwise(row):
        if a.block != b.block or distance(a, b) > AISLE_FACTOR * pitch:
            segments.append([])
        segments[-1].append(b)
    return segments
