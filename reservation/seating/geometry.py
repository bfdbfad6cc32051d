"""What a layout means for seating a party, worked out once: sets, distances, neighbouring segments.

A `SeatingPlan` is built when a layout is first used and shared by every showtime on that layout.

A block of seats is judged by the place of its centre: its middle seat, or the point between its two
middle seats. So there are two lists of centres, for odd and for even parties, sorted by distance from
the focal point. Distances are measured in the hall as built: a row is not "central" because its other
half is sold. The sorted list is cut into at most `_ZONES_MAX` zones, and the union of the first j
zones is kept as a set: a binary search over seven intersections then finds the zone of the best
candidate, whatever the fill of the hall.

Refused: walking the sorted list until a seat is free. Fine at the opening; in the last minutes of a
sale, when a loser's request matters most, it walks the whole hall. Refused as well: one zone per half
seat of distance, which needs 200 MB for a chart whose rows are far apart.

Invariant: nothing here changes after `__init__`, so all tasks of a worker share a plan without a lock.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot
from typing import Final

from reservation.domain import Layout, Segment, bytes_for

from .neighbours import neighbouring_segments
from .openings import Ground
from .planes import mask_of_many

Point = tuple[float, float]

_ZONES_MAX: Final = 128  # times the plane of the layout, times two lists: 1.3 MB for 40,000 seats
_ZONE_SIZE_MIN: Final = 16  # below this, scanning a zone costs less than one more probe


@dataclass(frozen=True, slots=True)
class Stretch:
    """A segment as a straight line in the hall: its seat *t* is about at (x + t·dx, y + t·dy)."""

    start: int
    length: int
    depth: float
    x: float
    y: float
    dx: float
    dy: float

    @property
    def stop(self) -> int:
        return self.start + self.length

    def offset_near(self, point: Point) -> float:
        """Which seat of the line is nearest the point, as a fraction, and beyond the ends if it is."""
        along = (point[0] - self.x) * self.dx + (point[1] - self.y) * self.dy
        return along / (self.dx * self.dx + self.dy * self.dy)


class Centres:
    """The centres of blocks of one parity. A centre is named by the middle seat, or the left one of two."""

    __slots__ = ("distance", "lead", "order", "xs", "ys", "zone_size", "zones")

    def __init__(
        self, xs: Sequence[float], ys: Sequence[float], names: Sequence[int], focal: Point, lead: float
    ) -> None:
        """`xs` and `ys` cover every seat, `names` the seats that do name a centre, in ascending order.

        `lead` is how far a centre lies behind the seat that names it, in seats: 0 or one half.
        """
        self.xs: Final = array("d", xs)
        self.ys: Final = array("d", ys)
        self.lead: Final = lead
        focal_x, focal_y = focal
        measured = [hypot(xs[seat] - focal_x, ys[seat] - focal_y) for seat in names]
        ranked = sorted(range(len(measured)), key=measured.__getitem__)  # equals stay in their order
        self.order: Final = array("I", [names[place] for place in ranked])
        self.distance: Final = array("d", [measured[place] for place in ranked])
        self.zone_size: Final = max(_ZONE_SIZE_MIN, -(-len(measured) // _ZONES_MAX))
        zones: list[int] = []
        union = bytearray(bytes_for(len(xs)))
        for rank in range(0, len(measured), self.zone_size):
            for seat in self.order[rank : rank + self.zone_size]:
                union[seat >> 3] |= 1 << (seat & 7)
            zones.append(int.from_bytes(union, "little"))
        self.zones: Final = tuple(zones)

    def point(self, name: int) -> Point:
        """Where this centre is."""
        return self.xs[name], self.ys[name]


class SeatingPlan:
    """Everything about a layout that best available, alternatives and the orphan rule look up."""

    __slots__ = (
        "area_masks",
        "barriers",
        "by_depth",
        "depth_slack",
        "depths",
        "even",
        "focal",
        "ground",
        "is_in_depth_order",
        "layout",
        "neighbours",
        "odd",
        "segment_of",
        "stretches",
    )

    def __init__(self, layout: Layout) -> None:
        xs = [seat.x for seat in layout.seats]
        ys = [seat.y for seat in layout.seats]
        self.layout: Final = layout
        self.focal: Final[Point] = layout.focal_point
        self.segment_of: Final[Sequence[int]] = layout.segment_of
        self.ground: Final = _ground(layout)
        self.area_masks: Final = _area_masks(layout)
        self.barriers: Final = _barriers(layout)
        self.odd: Final = Centres(xs, ys, range(len(xs)), self.focal, lead=0.0)
        self.even: Final = _even_centres(layout, xs, ys)
        self.stretches: Final = tuple(_stretch(segment, xs, ys) for segment in layout.segments)
        self.by_depth: Final = tuple(sorted(self.stretches, key=lambda stretch: stretch.depth))
        self.is_in_depth_order: Final = self.by_depth == self.stretches
        self.depths: Final = tuple(stretch.depth for stretch in self.by_depth)
        self.depth_slack: Final = max(
            max(max(inside) - stretch.depth, stretch.depth - min(inside))
            for stretch in self.stretches
            for centres in (self.odd, self.even)
            for inside in (centres.ys[stretch.start : stretch.stop],)
        )
        self.neighbours: Final = neighbouring_segments(
            layout.segments, xs, [stretch.depth for stretch in self.stretches]
        )

    def centres(self, count: int) -> Centres:
        """The centres a block of `count` seats may have."""
        return self.odd if count % 2 else self.even

    def middle(self, start: int, count: int) -> Point:
        """The centre of the block of `count` seats that begins at `start`."""
        return self.centres(count).point(start + (count - 1) // 2)

    def heart(self, seats: Sequence[int]) -> Point:
        """The mean position of any seats."""
        xs, ys = self.odd.xs, self.odd.ys
        x = y = 0.0
        for seat in seats:
            x += xs[seat]
            y += ys[seat]
        return x / len(seats), y / len(seats)

    def areas_of(self, seats: Sequence[int]) -> int:
        """All seats of the area categories these seats belong to."""
        if len(self.area_masks) == 1:
            return self.ground.seats
        mask = 0
        for area_id in {self.layout.seats[seat].area_id for seat in seats}:
            mask |= self.area_masks[area_id]
        return mask


def _ground(layout: Layout) -> Ground:
    lasts = {segment.stop - 1 for segment in layout.segments}
    seats, count = layout.seats, layout.seat_count
    every_seat = (1 << count) - 1
    by_kind: dict[str, list[int]] = {}
    for seat in seats:
        if seat.kind != "standard":
            by_kind.setdefault(seat.kind, []).append(seat.index)
    return Ground(
        seats=every_seat,
        accessible=mask_of_many(by_kind.get("accessible", ()), count),
        companion=mask_of_many(by_kind.get("companion", ()), count),
        pair_left=mask_of_many(
            (
                seat
                for seat in by_kind.get("couple_left", ())
                if seat not in lasts and seats[seat + 1].kind == "couple_right"
            ),
            count,
        ),
        not_first=every_seat ^ mask_of_many((segment.start for segment in layout.segments), count),
        not_last=every_seat ^ mask_of_many(lasts, count),
        not_row_last=every_seat ^ mask_of_many(_row_lasts(layout), count),
        longest=max(segment.length for segment in layout.segments),
    )


def _row_lasts(layout: Layout) -> list[int]:
    """The last seat of each row."""
    return [
        segment.stop - 1
        for segment, following in zip(layout.segments, (*layout.segments[1:], None), strict=True)
        if following is None or following.row_key != segment.row_key
    ]


def _area_masks(layout: Layout) -> Mapping[str, int]:
    if len(layout.areas) == 1:
        return {layout.areas[0].area_id: (1 << layout.seat_count) - 1}
    planes = {area.area_id: bytearray(bytes_for(layout.seat_count)) for area in layout.areas}
    for index, seat in enumerate(layout.seats):
        planes[seat.area_id][index >> 3] |= 1 << (index & 7)
    return {area_id: int.from_bytes(plane, "little") for area_id, plane in planes.items()}


def _barriers(layout: Layout) -> Mapping[int, int]:
    """The accessible seats of each segment that has any, the segment's first seat at bit 0."""
    barriers: dict[int, int] = {}
    for seat in layout.seats:
        if seat.kind == "accessible":
            position = layout.segment_of[seat.index]
            offset = seat.index - layout.segments[position].start
            barriers[position] = barriers.get(position, 0) | 1 << offset
    return barriers


def _even_centres(layout: Layout, xs: list[float], ys: list[float]) -> Centres:
    """Midway between a seat and the next of its row, be there an aisle between them or not."""
    row_lasts = _row_lasts(layout)
    between_xs = [(x + other) / 2 for x, other in pairwise((*xs, xs[-1]))]
    between_ys = [(y + other) / 2 for y, other in pairwise((*ys, ys[-1]))]
    for seat in row_lasts:
        between_xs[seat], between_ys[seat] = xs[seat], ys[seat]
    alone = set(row_lasts)
    names = [seat for seat in range(len(xs)) if seat not in alone]
    return Centres(between_xs, between_ys, names, layout.focal_point, lead=0.5)


def _stretch(segment: Segment, xs: list[float], ys: list[float]) -> Stretch:
    first, last = segment.start, segment.stop - 1
    dx, dy = 1.0, 0.0
    if (xs[first], ys[first]) != (xs[last], ys[last]):
        dx, dy = (xs[last] - xs[first]) / (last - first), (ys[last] - ys[first]) / (last - first)
    depth = sum(ys[first : last + 1]) / segment.length
    return Stretch(first, segment.length, depth, xs[first], ys[first], dx, dy)
