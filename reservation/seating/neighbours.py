"""Which segments are near enough in front and behind that people in both still sit together.

A segment's neighbours are those of the nearest row in front and of the nearest row behind whose
extents to the sides overlap with its own or touch at a corner. A walkway between two rows is wider
than the usual distance of rows, and what lies beyond it is no neighbour.

Refused: taking the previous and the next row of the layout. In a hall of several blocks the next row
of the file is often the other end of the same physical row, or a balcony. Refused as well: general
geometry for sections turned by a right angle. They have no neighbours here, so their parties sit in
one segment, across an aisle, or split; nobody is told to be together who is not.

Invariant: being neighbours is mutual.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import Final

from reservation.domain import Segment

_REACH: Final = 4.0  # seat pitches of depth; rows further apart are not looked at
_WALKWAY: Final = 1.5  # times the usual distance of rows: from here on it is a walkway
_ONE_ROW: Final = 0.25  # seat pitches of depth that do not yet make another row
TOUCHING: Final = 1.25  # seat pitches to the side between two seats that still touch at a corner


def neighbouring_segments(
    segments: Sequence[Segment], xs: Sequence[float], depths: Sequence[float]
) -> tuple[tuple[int, ...], ...]:
    """The neighbours of every segment, as positions in `segments`; `depths` are the segments' own."""
    extents = [(min(xs[s.start : s.stop]), max(xs[s.start : s.stop])) for s in segments]
    order = sorted(range(len(segments)), key=depths.__getitem__)
    behind = [_next_row(rank, order, segments, extents, depths) for rank in range(len(order))]
    gaps = [depths[found[0]] - depths[order[rank]] for rank, found in enumerate(behind) if found]
    widest = _WALKWAY * median_low(gaps) if gaps else 0.0
    mutual: list[list[int]] = [[] for _ in segments]
    for rank, found in enumerate(behind):
        here = order[rank]
        for other in found:
            if depths[other] - depths[here] <= widest:
                mutual[here].append(other)
                mutual[other].append(here)
    return tuple(tuple(positions) for positions in mutual)


def _next_row(
    rank: int,
    order: Sequence[int],
    segments: Sequence[Segment],
    extents: Sequence[tuple[float, float]],
    depths: Sequence[float],
) -> list[int]:
    """The segments of the nearest row behind that touch the one at `rank`, nearest first."""
    here = order[rank]
    left, right = extents[here]
    found: list[int] = []
    for behind in range(rank + 1, len(order)):
        other = order[behind]
        gap = depths[other] - depths[here]
        if gap > _REACH or (found and depths[other] - depths[found[0]] > _ONE_ROW):
            break
        if gap <= _ONE_ROW or segments[other].row_key == segments[here].row_key:
            continue
        if extents[other][0] <= right + TOUCHING and extents[other][1] >= left - TOUCHING:
            found.append(other)
    return found
