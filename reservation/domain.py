"""A seat layout: the fixed geometry of a screen, and the one internal form of every chart.

Seats are numbered 0 … n-1 so that **the seats of a segment are consecutive**: a segment is then a
range of indices, a run of free seats is a run of zero bits, and the scripts never need geometry, only
ranges. Rows are ordered from the screen outwards, seats within a row from left to right.

A layout is immutable; its id is a hash of its content, so the same file imported twice is the same
layout and a front end may cache it for ever.

Words (see the glossary): a *segment* is seats of one row not separated by an aisle; an *area
category* is a group of seats with one price scheme.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import msgspec

SeatKind = Literal["standard", "accessible", "companion", "couple_left", "couple_right"]
OrphanRule = Literal["off", "lenient", "strict"]
SEAT_KINDS: Final = ("standard", "accessible", "companion", "couple_left", "couple_right")


class Seat(msgspec.Struct, frozen=True, gc=False):
    """One seat. `x` grows to the right, `y` away from the screen, both in units of one seat pitch.

    In tens of thousands: made in a tenth of a dataclass's time, and no work for the collector.
    """

    index: int
    label: str
    row: str
    number: str
    x: float
    y: float
    area_id: str
    kind: SeatKind = "standard"


@dataclass(frozen=True, slots=True)
class Area:
    """An area category: `area_id` is unique in the layout, `name` is what people read."""

    area_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Seats `start` … `start + length - 1`: one row, no aisle between them, left to right.

    Segments of one physical row share `row_key`, and stand in the order of the row.
    """

    start: int
    length: int
    row_key: str

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Layout:
    """Fixed geometry of a screen.

    Raises ValueError when the parts contradict each other: a layout that exists is consistent.
    """

    name: str
    seats: tuple[Seat, ...]
    areas: tuple[Area, ...]
    segments: tuple[Segment, ...]
    focal_point: tuple[float, float]

    def __post_init__(self) -> None:
        labels = {seat.label for seat in self.seats}
        area_ids = {area.area_id for area in self.areas}
        if not self.seats:
            raise ValueError("a layout needs at least one seat")
        if len(labels) != len(self.seats):
            raise ValueError("seat labels are not unique")
        if len(area_ids) != len(self.areas):
            raise ValueError("area ids are not unique")
        if [seat.index for seat in self.seats] != list(range(len(self.seats))):
            raise ValueError("seat indices are not 0 … n-1 in order")
        if any(seat.area_id not in area_ids for seat in self.seats):
            raise ValueError("a seat names an area the layout does not have")
        cursor = 0
        for segment in self.segments:
            if segment.start != cursor or segment.length < 1:
                raise ValueError("segments do not cover the seats one after the other")
            cursor = segment.stop
        if cursor != len(self.seats):
            raise ValueError("segments do not cover all seats")

    @property
    def seat_count(self) -> int:
        return len(self.seats)

    @cached_property
    def layout_id(self) -> str:
        """``lay_`` and 32 hexadecimal digits of a hash over everything a front end can see."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.name, self.focal_point, self.areas, self.segments)).encode())
        for seat in self.seats:
            digest.update(repr(seat).encode())
        return f"lay_{digest.hexdigest()}"

    @cached_property
    def index_of(self) -> Mapping[str, int]:
        """Seat index by label."""
        return {seat.label: seat.index for seat in self.seats}

    @cached_property
    def segment_of(self) -> Sequence[int]:
        """Position in `segments`, by seat index."""
        result: list[int] = []
        for position, segment in enumerate(self.segments):
            result.extend([position] * segment.length)
        return result


def bytes_for(seat_count: int) -> int:
    """Length of a bit plane: bit *i*, most significant first, is seat *i*."""
    return (seat_count + 7) // 8
