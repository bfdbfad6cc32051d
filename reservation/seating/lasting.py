"""What offers rest on: the seats that must stay as they are for the offers to be told again.

Offers are worked out for one loser and told to thousands. They remain *true* as long as every offered
seat is free and the orphan rule would still accept it; and they remain *kind* as long as nobody got
seats back that are nearer to what was wanted than the farthest of them. That a nearer place could be had
all along is no reason to search again: none was nearer when the search was made, and sales only take away.

How far the orphan rule looks decides how much of the map an offer rests on. An offer that leaves no new
single is accepted whatever the rest of the hall looks like, and whether a seat beside it is left single is
seen from the two seats on each side of it. Only an offer that is forgiven a single, because its run (under
strict: the hall) has no better place, rests on that run, for which we take its segments, or on the hall.

Freed seats count where they could be a nearer offer: in the segments whose depth is no farther from the
wanted seats than the farthest offer is. There the taken seats must stay taken, and the free ones may go.
With fewer offers than there could be, or any of them apart or at another price, a freed seat anywhere may
make a better one; with no offer at all everything must stay. An accessible seat beside an offered companion
seat is always among these: were it free again, the companion seat would be kept for its guest.

So there are two parts, and they end differently. When a seat was given back nearer than the offers are, the
search itself is out of date. When an offer was sold, only that offer is, and the search has usually seen
the next one: `standing` says which of many offers may still be told.

Refused: resting on the whole rows of all offers, which is simpler: in a launch the seats sold beside an
offer would make it be searched again several times before it is gone itself. Refused too: holding on to
offers as long as they are free. Who wanted a seat in row 2 would hear of row 30 long after row 3 was freed.

Invariant: as long as the seats answered here are as they were, every offer is free and passes the rule.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from math import dist
from typing import Final

from reservation.domain import OrphanRule

from .geometry import SeatingPlan
from .openings import Ground
from .orphans import passes
from .picks import Pick
from .planes import mask_of, range_mask, to_bits

EVERYTHING: Final = -1
_TAIL: Final = 1e-6  # seat pitches: the last digit of a distance leaves no row out
_NEAR_MAX: Final = 64  # segments; where more are in question, a seat freed anywhere is taken for near


def search_rests_on(
    plan: SeatingPlan, taken: bytes, wanted: Sequence[int], offers: Sequence[Pick], limit: int
) -> int:
    """The set of seats that, as they are, say that no nearer offers than these could be found.

    `taken` is the plane they were looked for on. With fewer than `limit` of them every taken seat counts.
    """
    return mask_of(wanted) | to_bits(taken) & _nearer(plan, wanted, offers, limit)


def truth_rests_on(
    plan: SeatingPlan, taken: bytes, wanted: Sequence[int], offers: Sequence[Pick], rule: OrphanRule
) -> int:
    """The set of seats that, as they are, say that these offers may be made; or `EVERYTHING`."""
    if not offers:
        return EVERYTHING
    ground, held = plan.ground, to_bits(taken)
    watched = mask_of(wanted)
    is_judged = rule != "off" and not (ground.accessible and watched & ground.accessible)
    for offer in offers:
        first, stop = offer.seats[0], offer.seats[-1] + 1
        if is_judged and offer.stage == 1:
            segment = plan.stretches[plan.segment_of[first]]
            watched |= range_mask(max(first - 2, segment.start), min(stop + 2, segment.stop))
            continue
        seats = mask_of(offer.seats)
        watched |= seats
        if not is_judged:
            continue
        around = _around(ground, ground.open_seats(held), seats)
        if around:
            watched |= around
        elif rule == "strict":
            return EVERYTHING
        else:
            for position in {plan.segment_of[seat] for seat in offer.seats}:
                watched |= range_mask(plan.stretches[position].start, plan.stretches[position].stop)
    return watched


def standing(plan: SeatingPlan, taken: bytes, offers: Iterable[Pick], rule: OrphanRule) -> Iterator[Pick]:
    """Those of the offers, made on an earlier plane, that may be made on this one.

    Where the seats the search rested on are as they were; what was sold since is found out here.
    """
    ground, held = plan.ground, to_bits(taken)
    open_seats = ground.open_seats(held)
    singles = ground.singles(open_seats)
    for offer in offers:
        seats = mask_of(offer.seats)
        if held & seats:
            continue
        if offer.stage == 1 and rule != "off":
            if not ground.singles(open_seats & ~seats) & ~singles:
                yield offer
        elif passes(plan, taken, offer.seats, rule):
            yield offer


def _around(ground: Ground, open_seats: int, seats: int) -> int:
    """These seats and two on each side, which show that they leave no new single; 0 if they do."""
    if ground.singles(open_seats & ~seats) & ~ground.singles(open_seats):
        return 0
    nearest = seats | _beside(ground, seats)
    return nearest | _beside(ground, nearest)


def _nearer(plan: SeatingPlan, wanted: Sequence[int], offers: Sequence[Pick], limit: int) -> int:
    """The seats that could make a better offer, if they were freed."""
    ground, same, reach = plan.ground, plan.areas_of(wanted), 0.0
    if len(offers) < limit or (ground.accessible and mask_of(wanted) & ground.accessible):
        return ground.seats
    point = plan.heart(wanted)
    for offer in offers:
        if not offer.together or (same != ground.seats and mask_of(offer.seats) & ~same):
            return ground.seats
        reach = max(reach, dist(plan.middle(offer.seats[0], len(offer.seats)), point))
    reach += plan.depth_slack + _TAIL
    low = bisect_left(plan.depths, point[1] - reach)
    high = bisect_right(plan.depths, point[1] + reach)
    if plan.is_in_depth_order:
        return range_mask(plan.by_depth[low].start, plan.by_depth[high - 1].stop)
    if high - low > _NEAR_MAX:
        return ground.seats
    near = 0
    for row in plan.by_depth[low:high]:
        near |= range_mask(row.start, row.stop)
    return near


def _beside(ground: Ground, seats: int) -> int:
    """The seats adjacent to these in their segments; some of them may be among these."""
    return (seats << 1 & ground.not_first) | (seats >> 1 & ground.not_last)
