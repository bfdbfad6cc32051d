"""Requests for accessible seats: the accessible seats first, company beside them.

Accessible seats are few, so this is the one search that looks at each of them. Adjacent in one
segment is best: among the windows with exactly as many accessible seats as asked for, those nearest
the point count, of these the ones with most companion seats, and of equals the seed chooses. Where no
window fits, the party gathers round a group of accessible seats: companion seats beside them first,
then other seats beside them, then the nearest seats of the hall.

Refused: treating an accessible seat as an ordinary one with a flag in the five stages. The orphan
rule does not apply here, the pool is another, and every ordinary search would pay for the difference.

Invariant: a pick has exactly as many accessible seats as asked for, and cuts no couple seat.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import dist
from typing import Final

from .compact import in_touch
from .geometry import Point, SeatingPlan
from .openings import Openings
from .picks import Pick, is_together
from .planes import mask_of, scramble, seats_in
from .split import split_group

_HEADS_MAX: Final = 8  # accessible seats tried as the middle of a group that cannot sit side by side
_EQUAL: Final = 0.5 + 1e-9  # seat pitches, as for everybody else


def accessible_pick(
    plan: SeatingPlan, taken: int, count: int, accessible: int, within: int, near: Point, seed: int
) -> Pick | None:
    """The best seats for a party of `count`, `accessible` of them in accessible seats, near a point."""
    free = seats_in(plan.ground.accessible & within & ~taken)
    openings = Openings.of(plan.ground, taken, within, companions_too=True)
    if len(free) < accessible or not openings.can_seat(count - accessible):
        return None
    seats = _side_by_side(plan, openings, free, count, accessible, near, seed)
    if seats is None:
        seats = _gathered(plan, openings, free, count, accessible, near, seed)
    return Pick(seats, _stage(plan, openings, seats), is_together(plan, seats))


def _side_by_side(
    plan: SeatingPlan,
    openings: Openings,
    free: Sequence[int],
    count: int,
    accessible: int,
    near: Point,
    seed: int,
) -> tuple[int, ...] | None:
    ground, pool = plan.ground, mask_of(free)
    seats = pool | openings.usable
    starts = ground.blocks(seats, seats & seats >> 1 & ground.not_last, count)
    covering = 0
    for back in range(count):
        covering |= pool >> back
    windows: list[tuple[float, int]] = []
    for start in seats_in(starts & covering):
        low, high = bisect_left(free, start), bisect_left(free, start + count)
        if high - low == accessible:
            windows.append((dist(plan.heart(free[low:high]), near), start))
    if not windows:
        return None
    edge = min(windows)[0] + _EQUAL
    company = {
        start: sum(plan.layout.seats[seat].kind == "companion" for seat in range(start, start + count))
        for distance, start in windows
        if distance <= edge
    }
    best = [start for start, companions in company.items() if companions == max(company.values())]
    start = best[scramble(seed) % len(best)]
    return tuple(range(start, start + count))


def _gathered(
    plan: SeatingPlan,
    openings: Openings,
    free: Sequence[int],
    count: int,
    accessible: int,
    near: Point,
    seed: int,
) -> tuple[int, ...]:
    """Round the accessible seat, of the nearest few, whose group leaves fewest people elsewhere."""

    def away(point: Point, seat: int) -> float:
        return dist(plan.odd.point(seat), point)

    heads = sorted(free, key=lambda seat: (away(near, seat), scramble(seed ^ seat)))[:_HEADS_MAX]
    best: tuple[list[int], list[int]] | None = None
    for head in heads:
        centre = plan.odd.point(head)
        group = sorted(free, key=lambda seat: (away(centre, seat), seat))[:accessible]
        beside = _beside(plan, openings, group)[: count - accessible]
        if best is None or len(beside) > len(best[1]):
            best = group, beside
    assert best is not None, "a group needs an accessible seat"
    group, beside = best
    while not openings.without(mask_of(beside)).can_seat(count - accessible - len(beside)):
        beside = beside[:-1]
    rest = count - accessible - len(beside)
    others = split_group(plan, openings.without(mask_of(beside)), rest, plan.heart(group), seed)
    return tuple(sorted((*group, *beside, *others)))


def _beside(plan: SeatingPlan, openings: Openings, group: Sequence[int]) -> list[int]:
    """Usable seats adjacent to the group, companion seats first; halves of couple seats left out."""
    ground, pool = plan.ground, mask_of(group)
    adjacent = (pool << 1 & ground.not_first) | (pool >> 1 & ground.not_last)
    plain = openings.usable & ~(ground.pair_left | ground.pair_left << 1)
    return sorted(
        seats_in(adjacent & plain), key=lambda seat: (plan.layout.seats[seat].kind != "companion", seat)
    )


def _stage(plan: SeatingPlan, openings: Openings, seats: Sequence[int]) -> int:
    """The stage of best available that such a group would have been found in."""
    ground, rows, chosen = plan.ground, plan.layout.segments, mask_of(seats)
    if is_together(plan, seats):
        before = openings.open_seats
        return 2 if ground.singles(before & ~chosen) & ~ground.singles(before) else 1
    first, last = rows[plan.segment_of[seats[0]]], rows[plan.segment_of[seats[-1]]]
    if first.row_key == last.row_key and seats[-1] - seats[0] + 1 == len(seats):
        return 3
    return 4 if in_touch(plan, seats) else 5
