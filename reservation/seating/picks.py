"""What a search answers with, and the two small questions anybody may ask about named seats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .geometry import SeatingPlan


@dataclass(frozen=True, slots=True)
class Pick:
    """Seats in ascending order, the stage of best available that found them, adjacent or not.

    1 one segment, no new single; 2 one segment; 3 one row across an aisle; 4 neighbouring rows;
    5 split. `together` means adjacent in one segment, which is stages 1 and 2.
    """

    seats: tuple[int, ...]
    stage: int
    together: bool


def is_together(plan: SeatingPlan, seats: Sequence[int]) -> bool:
    """Whether the seats are adjacent in one segment. One seat is; none are not."""
    if not seats:
        return False
    first, last = min(seats), max(seats)
    return (
        last - first + 1 == len(seats) == len(set(seats)) and plan.segment_of[first] == plan.segment_of[last]
    )


def couples_broken(plan: SeatingPlan, chosen: Sequence[int]) -> tuple[int, ...]:
    """The halves of couple seats that the choice leaves behind; a choice may be sold if there are none."""
    pair_left = plan.ground.pair_left
    if not pair_left:
        return ()
    wanted = set(chosen)
    missing = []
    for seat in sorted(wanted):
        if pair_left >> seat & 1 and seat + 1 not in wanted:
            missing.append(seat + 1)
        elif seat and pair_left >> (seat - 1) & 1 and seat - 1 not in wanted:
            missing.append(seat - 1)
    return tuple(missing)
