"""The orphan rule: do not leave one seat alone when moving over by one would not.

A *single* is an available, non-accessible seat whose two neighbours are each taken or blocked,
accessible, or beyond the end of the segment. A selection is judged by the *new* singles it makes.
Whether that is forgivable depends on what the same party could have had instead: under *lenient* in
the same run of free seats, under *strict* anywhere in the area. So nobody is refused a place unless
there is a better one, and near the end of a sale the rule fades by itself.

The decision, for transcription (the hold script repeats it atomically; this module is the reference):

 Input: `taken` (bit per seat), the chosen seats (all free), per seat its kind, the segments.
 0. If the rule is off, or a chosen seat is accessible: accept.
 1. For each segment with chosen seats, over its seats only, before the selection:
      open[i] = not taken[i] and kind[i] is not accessible
    Cut it into maximal runs [a, b) of open seats. For each run with chosen seats, p of them:
      new singles = open, unchosen i in [a, b) with (i = a or i-1 chosen) and (i = b-1 or i+1 chosen).
    None: this run is fine. (Taking an existing single is a run of one; filling a run leaves nothing.)
 2. A run with new singles is refused if its party *fits* elsewhere, which is asked of these seats:
      eligible[i] = seat i is in an area category of one of the run's p chosen seats
      kept[i]     = kind[i] is companion and a seat beside it is accessible and not taken
      usable[i]   = open[i], eligible[i], not kept[i]; a half of a couple seat only if so is the other
    (`couple_left` directly followed by `couple_right` is a couple seat; other halves are plain seats.)
    It fits at s when s … s+p-1 are all usable and lie in one run [a', b') of open seats, no couple
    seat is cut (s is no right half, s+p-1 no left half), and no gap is one seat wide:
      s - a' ≠ 1 and b' - (s+p) ≠ 1.
    lenient looks in [a, b) only. strict looks in every segment with eligible seats, the chosen seats
    of *other* runs counted as taken and those of this run as free.
 3. Refuse the selection if any run is refused. The order of runs does not matter.

 In a run of r plain seats of one area, p fit exactly if r = p or r ≥ p + 2: no need to look at s. Only
 runs with couple seats, kept companions or a border of areas need the loop over s.

Seats chosen in one run need not be adjacent: what counts is how many they are, and whether so many
adjacent seats fit. The area limits both rules, because a place at another price is not the same place.

Refused: judging by the whole selection. A family of six in two rows would be told about a seat in a
third row that has room for six and is of no interest to the three who made no single at all.

Invariant: an alternative that is offered passes this same rule, and a party that was moved cuts no
couple seat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from reservation.domain import OrphanRule

from .geometry import SeatingPlan
from .nearest import outwards
from .openings import Openings
from .planes import mask_of, range_mask, seats_in, stretches, to_bits, window

_ROUNDS_MAX: Final = 4  # of moving parties about before the refusal names no alternative


@dataclass(frozen=True, slots=True)
class OrphanVerdict:
    """Accepted or not; if not, the new singles of the refused runs and one selection that would do."""

    ok: bool
    singles: tuple[int, ...]
    alternative: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of open seats [start, stop) in which the selection makes new singles."""

    segment: int
    start: int
    stop: int
    chosen: tuple[int, ...]
    singles: tuple[int, ...]


_ACCEPTED = OrphanVerdict(ok=True, singles=(), alternative=None)


def judge_orphans(plan: SeatingPlan, taken: bytes, chosen: Sequence[int], rule: OrphanRule) -> OrphanVerdict:
    """Judge a selection of free seats against the seat map it was made on.

    A chosen seat that is taken is in no run and does not count: conflicts are somebody else's check.
    """
    refused = list(_refused(plan, taken, chosen, rule))
    if not refused:
        return _ACCEPTED
    singles = tuple(sorted(seat for run in refused for seat in run.singles))
    return OrphanVerdict(ok=False, singles=singles, alternative=_shifted(plan, taken, chosen, rule, refused))


def passes(plan: SeatingPlan, taken: bytes, chosen: Sequence[int], rule: OrphanRule) -> bool:
    """The decision alone, for picks that are only offered if the rule accepts them."""
    return not any(True for _ in _refused(plan, taken, chosen, rule))


def _refused(plan: SeatingPlan, taken: bytes, chosen: Sequence[int], rule: OrphanRule) -> Iterator[_Run]:
    """The runs the rule does not forgive. Nothing but the touched segments is read until a single shows."""
    if rule == "off":
        return
    runs = list(_runs_with_singles(plan, taken, chosen))
    if not runs or any(plan.ground.accessible >> seat & 1 for seat in chosen):
        return
    for run in runs:
        if _places(plan, taken, chosen, rule, run)[1]:
            yield run


def _runs_with_singles(plan: SeatingPlan, taken: bytes, chosen: Sequence[int]) -> Iterator[_Run]:
    picked: dict[int, int] = {}
    segments = plan.layout.segments
    for seat in chosen:
        position = plan.segment_of[seat]
        picked[position] = picked.get(position, 0) | 1 << (seat - segments[position].start)
    for position, mine in picked.items():
        start, length = segments[position].start, segments[position].length
        barred = plan.barriers.get(position, 0) | window(taken, start, length)
        open_seats = ((1 << length) - 1) & ~barred
        mine &= open_seats
        after = open_seats & ~mine
        fresh = _alone(after) & ~_alone(open_seats)
        if not fresh:
            continue
        for low, high in stretches(open_seats):
            run = range_mask(low, high)
            if fresh & run:
                yield _Run(
                    segment=position,
                    start=start + low,
                    stop=start + high,
                    chosen=tuple(start + seat for seat in seats_in(mine & run)),
                    singles=tuple(start + seat for seat in seats_in(fresh & run)),
                )


def _alone(seats: int) -> int:
    """Bits without a neighbour, in a segment that begins at bit 0 and has nothing beyond its end."""
    return seats & ~(seats << 1 | seats >> 1)


def _places(
    plan: SeatingPlan, taken: bytes, chosen: Sequence[int], rule: OrphanRule, run: _Run
) -> tuple[int, int]:
    """Where the party of a run would make no new single: the first seat meant by bit 0, and the starts."""
    party, eligible = len(run.chosen), plan.areas_of(run.chosen)
    if rule == "strict":
        others = mask_of(chosen) & ~mask_of(run.chosen)
        return 0, Openings.of(plan.ground, to_bits(taken) | others, eligible).clean(party)
    segment = plan.layout.segments[run.segment]
    openings = Openings.of(
        plan.ground.cut(segment.start, segment.length),
        window(taken, segment.start, segment.length),
        eligible >> segment.start,
    )
    inside = range_mask(run.start - segment.start, run.stop - segment.start)
    return segment.start, openings.clean(party) & inside


def _shifted(
    plan: SeatingPlan, taken: bytes, chosen: Sequence[int], rule: OrphanRule, refused: list[_Run]
) -> tuple[int, ...] | None:
    """The selection with the parties of refused runs moved until the rule accepts all of it.

    Moving one party may open a better place for another, hence the rounds; None if that does not end.
    """
    selection = set(chosen)
    for _ in range(_ROUNDS_MAX):
        for run in refused:
            origin, places = _places(plan, taken, tuple(selection), rule, run)
            if not places:
                return None
            party = len(run.chosen)
            _, start = next(outwards(plan, places << origin, party, plan.heart(run.chosen)))
            selection.difference_update(run.chosen)
            selection.update(range(start, start + party))
        refused = list(_refused(plan, taken, tuple(selection), rule))
        if not refused:
            return tuple(sorted(selection))
    return None
