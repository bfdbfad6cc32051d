"""Best available: five stages, each tried on the whole hall before the next is thought of.

 1 one segment, adjacent, no new single   2 one segment, adjacent   3 one row, across an aisle
 4 compact over neighbouring rows, nobody alone if avoidable        5 split, and said so

Within a stage the block nearest the focal point wins, and equals within half a seat pitch are chosen
by seed. Stages 1 to 3 are a handful of operations on one integer (`openings`) and one look-up by
table (`nearest`); stages 4 and 5 are walks over few runs (`compact`, `split`), reached only when no
row holds the party.

Refused: one score that weighs distance against singles and aisles. Weights cannot be explained to a
fan, and there is always a hall in which they seat a couple across an aisle for the sake of a row.

What is promised about sell-out: as long as enough usable seats are left in the area, there is a pick.
The exceptions are the glossary's: accessible seats, and companion seats beside a free accessible one,
wait for requests that ask for them; a couple seat is sold whole, so an odd party is not seated when
nothing but couple seats is left.

Invariant: the lenient orphan rule accepts every pick. Strict accepts those of stages 1 and 2.
"""

from __future__ import annotations

from .accessible import accessible_pick
from .compact import compact_group
from .geometry import Point, SeatingPlan
from .nearest import nearest_to_focal
from .openings import Openings
from .picks import Pick
from .planes import mask_of, to_bits
from .split import split_group


def best_available(
    plan: SeatingPlan,
    taken: bytes,
    count: int,
    *,
    area_id: str | None = None,
    accessible: int = 0,
    seed: int = 0,
    exclude: frozenset[int] = frozenset(),
) -> Pick | None:
    """The best seats for a party of `count`, or None if they cannot all be seated.

    `accessible` of the party's seats are accessible ones. `exclude` are seats lost to a race that the
    caller's seat map does not show yet; they count as taken. Raises KeyError for an unknown area and
    ValueError for a party that cannot be.
    """
    if count < 1 or not 0 <= accessible <= count:
        raise ValueError(f"no party has {count} seats, {accessible} of them accessible")
    within = plan.ground.seats if area_id is None else plan.area_masks[area_id]
    held = to_bits(taken) | mask_of(exclude)
    if accessible:
        return accessible_pick(plan, held, count, accessible, within, plan.focal, seed)
    openings = Openings.of(plan.ground, held, within)
    for stage, starts_of in ((1, openings.clean), (2, openings.starts), (3, openings.across_aisles)):
        starts = starts_of(count)
        if starts:
            start = nearest_to_focal(plan, starts, count, seed)
            return Pick(tuple(range(start, start + count)), stage, together=stage < 3)
    return spread(plan, openings, count, plan.focal, seed)


def spread(plan: SeatingPlan, openings: Openings, count: int, near: Point, seed: int) -> Pick | None:
    """Stages 4 and 5 around any point, for a party that no row can hold."""
    if not openings.can_seat(count):
        return None
    group = compact_group(plan, openings, count, near, seed)
    if group is not None:
        return Pick(group, 4, together=False)
    return Pick(split_group(plan, openings, count, near, seed), 5, together=False)
