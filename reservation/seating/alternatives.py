"""What a fan who lost his seats is offered instead: the nearest places that are like what he wanted.

This runs for every loser of a rush, and losers are most of the work. So it looks outwards from the
seats that were wanted and stops as soon as it has enough; in a hall with room it reads a few rows.

Adjacent seats in the same area category come first, then adjacent seats elsewhere, and only if there
are none at all a party in two rows or split. Offers do not overlap if that can be avoided: three
offers around one free block would send three losers into the next collision. Where the hall has less
room than that, overlapping offers are still better than fewer.

Refused: ranking offers by price or by "quality". A fan who clicked seat 7-12 has told us where he
wants to sit, and nothing else.

Invariant: every offer was free on the seat map it was made from, has as many seats and as many
accessible seats as were wanted, and passes the orphan rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernel import limits
from reservation.domain import OrphanRule

from .accessible import accessible_pick
from .best_available import spread
from .geometry import Point, SeatingPlan
from .nearest import outwards, shells
from .openings import Openings
from .orphans import passes
from .picks import Pick
from .planes import mask_of, to_bits


def alternatives(
    plan: SeatingPlan,
    taken: bytes,
    wanted: Sequence[int],
    rule: OrphanRule,
    *,
    limit: int = limits.alternatives_max,
    spare: int = 0,
    seed: int = 0,
) -> tuple[Pick, ...]:
    """Up to `limit` places for as many people as `wanted` has seats, nearest first, adjacent first.

    Up to `spare` more adjacent places of the same area follow, for when some of those are gone. The
    conflicting seats must be marked in `taken`: a place is offered if it is free there.
    """
    if not wanted or limit < 1:
        return ()
    barred = plan.ground.accessible
    accessible = sum(barred >> seat & 1 for seat in wanted) if barred else 0
    party = _Party(len(wanted), accessible, rule, plan.heart(wanted), seed)
    same = plan.areas_of(wanted)
    if accessible:
        return tuple(_accessible(plan, to_bits(taken), party, same, limit))
    return tuple(
        _adjacent(plan, to_bits(taken), party, same, limit, spare) or _apart(plan, taken, party, same, limit)
    )


@dataclass(frozen=True, slots=True)
class _Party:
    """Who looks for seats: how many, under which orphan rule, near which point."""

    count: int
    accessible: int
    rule: OrphanRule
    near: Point
    seed: int

    def openings(self, plan: SeatingPlan, held: int, within: int) -> Openings:
        """The places this party may be offered in the set `within`."""
        return Openings.of(plan.ground, held, within, strict=self.rule == "strict")


def _adjacent(
    plan: SeatingPlan, held: int, party: _Party, same: int, limit: int, spare: int = 0
) -> list[Pick]:
    """Blocks in one segment, disjoint ones first.

    The other areas are asked when this one has too few, and blocks across areas when neither has any.
    """
    offers: list[Pick] = []
    overlapping: list[Pick] = []
    closed: set[int] = set()  # starts that would overlap with an offer
    count = party.count
    most = limit + spare  # in the same area; elsewhere only what is to be told
    everywhere = plan.ground.seats
    elsewhere = everywhere & ~same
    for within in (same, elsewhere, everywhere) if elsewhere else (same,):
        if offers and within == everywhere and elsewhere:
            break
        openings = party.openings(plan, held, within)
        places, clean = openings.judged(count)
        if party.rule == "off":
            places = openings.starts(count)
        for start in shells(outwards(plan, places, count, party.near), party.seed):
            overlaps = start in closed
            if overlaps and len(overlapping) >= limit:
                continue
            pick = Pick(tuple(range(start, start + count)), 1 if clean >> start & 1 else 2, together=True)
            if overlaps:
                overlapping.append(pick)
                continue
            offers.append(pick)
            closed.update(range(start - count + 1, start + count))
            if len(offers) == most:
                return offers
        if len(offers) >= limit:
            return offers
        most = limit
    return offers + overlapping[: limit - len(offers)]


def _apart(plan: SeatingPlan, taken: bytes, party: _Party, same: int, limit: int) -> list[Pick]:
    """Disjoint groups across an aisle or in several rows, in any area if the same has none.

    Of splitting the party only one way is offered: a second helps nobody to decide.
    """
    for within in (same, plan.ground.seats):
        held = to_bits(taken)
        offers: list[Pick] = []
        for _ in range(limit):
            pick = _group(plan, party.openings(plan, held, within), party)
            if pick is None:
                break
            held |= mask_of(pick.seats)
            if passes(plan, taken, pick.seats, party.rule) and not (offers and pick.stage == 5):
                offers.append(pick)
            if pick.stage == 5:
                break
        if offers:
            return offers
    return []


def _group(plan: SeatingPlan, openings: Openings, party: _Party) -> Pick | None:
    """Stage 3 near the party's point, else stages 4 and 5."""
    across = openings.across_aisles(party.count)
    if across:
        start = next(shells(outwards(plan, across, party.count, party.near), party.seed))
        return Pick(tuple(range(start, start + party.count)), 3, together=False)
    return spread(plan, openings, party.count, party.near, party.seed)


def _accessible(plan: SeatingPlan, held: int, party: _Party, same: int, limit: int) -> list[Pick]:
    """Disjoint groups with as many accessible seats, which no orphan rule concerns."""
    offers: list[Pick] = []
    for within in (same, plan.ground.seats):
        while len(offers) < limit:
            pick = accessible_pick(plan, held, party.count, party.accessible, within, party.near, party.seed)
            if pick is None:
                break
            held |= mask_of(pick.seats)
            offers.append(pick)
    return sorted(offers, key=lambda pick: not pick.together)
