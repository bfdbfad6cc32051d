"""Stage 5: the party is split, in as few and as large pieces as the hall allows, near each other.

Piece by piece: the largest block that does not leave one person over is seated first, nearest the
point asked for, and the other pieces nearest the first. Each piece is placed where the lenient orphan
rule accepts it.

Refused: the optimal partition. It is a knapsack over the runs of the hall, for people who have
already been told that they will not sit together.

Invariant: if `can_seat` says yes, this never fails. Couple seats go whole, so a careless piece could
leave an odd party facing couple seats only; a piece after which the rest cannot be seated is not
taken. There always is another: an odd party has a plain seat to take, an even one can take a couple
seat or, where there is none, a plain seat.
"""

from __future__ import annotations

from collections.abc import Iterator

from .geometry import Point, SeatingPlan
from .nearest import outwards, shells
from .openings import Openings
from .planes import range_mask


def split_group(plan: SeatingPlan, openings: Openings, count: int, near: Point, seed: int) -> tuple[int, ...]:
    """The seats of a party that has to be split; the openings must be able to seat it."""
    seats: list[int] = []
    pieces = _Pieces(plan, openings, near, seed)
    while len(seats) < count:
        start, size = pieces.take(count - len(seats))
        if not seats:
            pieces = _Pieces(plan, pieces.openings, plan.middle(start, size), seed)
        seats.extend(range(start, start + size))
    return tuple(sorted(seats))


class _Pieces:
    """Pieces near one point, from one walk outwards per size, each with the start it has reached."""

    def __init__(self, plan: SeatingPlan, openings: Openings, near: Point, seed: int) -> None:
        self.openings = openings
        self._plan = plan
        self._near = near
        self._seed = seed
        self._walks: dict[int, tuple[Iterator[int], int | None]] = {}

    def take(self, party: int) -> tuple[int, int]:
        """Start and size of the next piece: in company if possible, and in any case possible."""
        for leave_nobody_alone in (True, False):
            for size in range(party, 0, -1):
                start = self._place(size)
                if start is None:
                    continue
                rest, left = self.openings.without(range_mask(start, start + size)), party - size
                if rest.can_seat(left) and (
                    not leave_nobody_alone or left == 0 or (left > 1 and rest.starts(2))
                ):
                    self.openings = rest
                    return start, size
        raise AssertionError("a party that could be seated cannot be split")

    def _place(self, size: int) -> int | None:
        """The nearest acceptable start for a piece of this size.

        A place that was not acceptable may become so when its run shrinks: then a new walk begins.
        """
        places = self.openings.acceptable(size)
        if not places:
            return None
        walk, start = self._walks.get(size, (iter(()), None))
        while start is not None and not places >> start & 1:
            start = next(walk, None)
        if start is None:
            walk = shells(outwards(self._plan, places, size, self._near), self._seed)
            start = next(walk)
        self._walks[size] = walk, start
        return start
