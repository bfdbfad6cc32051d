"""Stage 4: the party in neighbouring rows, one behind the other.

A group is a chain of blocks, one in each of two or more rows that follow each other, each block in
one segment, neighbours in the chain overlapping to the sides or touching at a corner. Nobody sits
alone in his row unless no such group exists; then groups with a lone person are allowed.

In two rows the larger part is at least half the party, so only runs that long are looked at, nearest
first; late in a sale that is few or none. Three rows and more are tried from the nearest
`_CHAINS_MAX` runs. Both searches are bounded: a hall with hundreds of free runs of which none touch
has nothing to offer, and stage 5 answers.

Refused: finding all groups with shifts, as the other stages do. Rows have different lengths, so each
pair of rows needs a shift of its own; in a fan-shaped hall that costs more than walking a few runs.

Invariant: every block is where the lenient orphan rule accepts it, and no couple seat is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from .geometry import Point, SeatingPlan
from .nearest import outwards, shells
from .neighbours import TOUCHING
from .openings import Openings
from .planes import range_mask, seats_in, stretches

_RUNS_MAX: Final = 128
_CHAINS_MAX: Final = 24


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of usable seats start … stop - 1 in one segment, from `left` to `right` in the hall."""

    segment: int
    start: int
    stop: int
    left: float
    right: float

    @property
    def length(self) -> int:
        return self.stop - self.start


def compact_group(
    plan: SeatingPlan, openings: Openings, count: int, near: Point, seed: int
) -> tuple[int, ...] | None:
    """The seats of a compact group near the point, or None if there is none to be found."""
    for smallest in (2, 1) if count > 3 else (1,):
        if count >= 2 * smallest:
            search = _Search(plan, openings, count, smallest, near)
            group = search.two_rows(seed) or search.more_rows(seed)
            if group:
                return group
    return None


def in_touch(plan: SeatingPlan, seats: Sequence[int]) -> bool:
    """Whether blocks of seats hang together, each touching another one in a neighbouring row."""
    blocks: list[_Run] = []
    for seat in sorted(seats):
        segment = plan.segment_of[seat]
        if blocks and blocks[-1].stop == seat and blocks[-1].segment == segment:
            blocks[-1] = _measured(plan, segment, blocks[-1].start, seat + 1)
        else:
            blocks.append(_measured(plan, segment, seat, seat + 1))
    reached, apart = blocks[:1], blocks[1:]
    for here in reached:
        near = [other for other in apart if other.segment in plan.neighbours[here.segment]]
        touching = [other for other in near if _touch(here, other)]
        apart = [other for other in apart if other not in touching]
        reached.extend(touching)
    return not apart


class _Search:
    """One search, with every part of the group at least `smallest` seats."""

    def __init__(self, plan: SeatingPlan, openings: Openings, count: int, smallest: int, near: Point) -> None:
        self._plan = plan
        self._openings = openings
        self._count = count
        self._smallest = smallest
        self._near = near
        self._runs_of: dict[int, list[_Run]] = {}

    def two_rows(self, seed: int) -> tuple[int, ...] | None:
        """The party divided between two runs, as evenly as it goes."""
        half = (self._count + 1) // 2
        for run in islice(self._runs(half, seed), _RUNS_MAX):
            for other in self._around(run):
                least = max(half, self._count - other.length)
                for size in range(least, min(run.length, self._count - self._smallest) + 1):
                    group = self._seated((run, other), (size, self._count - size))
                    if group is not None:
                        return group
        return None

    def more_rows(self, seed: int) -> tuple[int, ...] | None:
        """The party over as many rows as it takes, backwards or forwards from one run."""
        if self._count < 3 * self._smallest:
            return None
        for run in islice(self._runs(self._smallest, seed), _CHAINS_MAX):
            for beginning in self._around(run):
                chain = self._chain(run, beginning)
                sizes = _even_sizes([part.length for part in chain], self._count, self._smallest)
                group = self._seated(chain, sizes) if sizes else None
                if group is not None:
                    return group
        return None

    def _chain(self, run: _Run, beginning: _Run) -> list[_Run]:
        """Two runs and those that follow in the same direction, until the party fits or nothing follows."""
        chain = [run, beginning]
        backwards = self._depth(beginning) > self._depth(run)
        while sum(part.length for part in chain) < self._count:
            here = self._depth(chain[-1])
            following = (part for part in self._around(chain[-1]) if (self._depth(part) > here) is backwards)
            longest = next(following, None)
            if longest is None:
                break
            chain.append(longest)
        return chain

    def _runs(self, length: int, seed: int) -> Iterator[_Run]:
        """The runs of at least this length, nearest first, each once."""
        plan, seen = self._plan, set[int]()
        starts = self._openings.starts(length)
        for start in shells(outwards(plan, starts, length, self._near), seed):
            position = plan.segment_of[start]
            run = next(run for run in self._runs_in(position) if run.start <= start < run.stop)
            if run.start not in seen:
                seen.add(run.start)
                yield run

    def _runs_in(self, position: int) -> list[_Run]:
        """All runs of usable seats of a segment."""
        known = self._runs_of.get(position)
        if known is None:
            segment = self._plan.layout.segments[position]
            here = self._openings.usable >> segment.start & range_mask(0, segment.length)
            known = self._runs_of[position] = [
                _measured(self._plan, position, segment.start + low, segment.start + high)
                for low, high in stretches(here)
            ]
        return known

    def _around(self, run: _Run) -> list[_Run]:
        """The runs of neighbouring rows that overlap with this one, the longest first."""
        found = [
            other
            for position in self._plan.neighbours[run.segment]
            for other in self._runs_in(position)
            if other.length >= self._smallest and _touch(run, other)
        ]
        return sorted(found, key=lambda other: (-min(other.length, self._count), other.start))

    def _depth(self, run: _Run) -> float:
        return self._plan.stretches[run.segment].depth

    def _seated(self, chain: Sequence[_Run], sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The blocks of a chain placed one after the other, each nearest the one before it."""
        seats: list[int] = []
        before: _Run | None = None
        aim = self._aim(chain[0], chain[1])
        for run, size in zip(chain, sizes, strict=True):
            places = self._openings.acceptable(size) >> run.start & range_mask(0, run.length)
            if not places:
                return None
            starts = (run.start + offset for offset in seats_in(places))
            start = min(starts, key=lambda start: (abs(self._plan.middle(start, size)[0] - aim), start))
            block = _measured(self._plan, run.segment, start, start + size)
            if before is not None and not _touch(before, block):
                return None
            seats.extend(range(start, start + size))
            before, aim = block, self._plan.middle(start, size)[0]
        return tuple(sorted(seats))

    def _aim(self, run: _Run, other: _Run) -> float:
        """The place nearest the point asked for, from side to side, where both runs have seats."""
        low, high = sorted((max(run.left, other.left), min(run.right, other.right)))
        return min(max(self._near[0], low), high)


def _measured(plan: SeatingPlan, segment: int, start: int, stop: int) -> _Run:
    ends = plan.odd.xs[start], plan.odd.xs[stop - 1]
    return _Run(segment, start, stop, min(ends), max(ends))


def _touch(one: _Run, other: _Run) -> bool:
    return one.left - other.right <= TOUCHING and other.left - one.right <= TOUCHING


def _even_sizes(lengths: Sequence[int], count: int, smallest: int) -> list[int] | None:
    """Sizes of the parts, as equal as the runs allow, or None if the party does not fit so."""
    sizes = [smallest] * len(lengths)
    while sum(sizes) < count:
        roomy = [part for part, length in enumerate(lengths) if sizes[part] < length]
        if not roomy:
            return None
        sizes[min(roomy, key=sizes.__getitem__)] += 1
    return sizes if sum(sizes) == count else None
