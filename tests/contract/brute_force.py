"""The orphan rule as the glossary words it, tried out seat by seat: slow, and nothing to get wrong."""

from __future__ import annotations

from collections.abc import Sequence

from reservation.domain import OrphanRule
from reservation.ports import Stretches


def singles_refused(
    taken: set[int], chosen: Sequence[int], rule: OrphanRule, stretches: Stretches
) -> set[int]:
    """The new singles a choice is refused for; the stretches are all of one area."""
    refused: set[int] = set()
    wanted = set(chosen)
    for start, length, _ in stretches:
        row = range(start, start + length)
        for run in _runs(row, taken):
            party = wanted & run
            left = (_singles(row, taken | wanted) - _singles(row, taken)) & run
            if not party or not left or rule == "off":
                continue
            others = taken | (wanted - party)
            here = [run]
            anywhere = [other for s, n, _ in stretches for other in _runs(range(s, s + n), others)]
            if any(_fits(len(party), other) for other in (here if rule == "lenient" else anywhere)):
                refused |= left
    return refused


def _runs(row: range, taken: set[int]) -> list[set[int]]:
    """Maximal sets of neighbouring free seats."""
    runs: list[set[int]] = []
    for seat in row:
        if seat in taken:
            continue
        if runs and seat - 1 in runs[-1]:
            runs[-1].add(seat)
        else:
            runs.append({seat})
    return runs


def _singles(row: range, taken: set[int]) -> set[int]:
    """Free seats whose two neighbours are each taken or beyond the end."""
    free = set(row) - taken
    return {seat for seat in free if seat - 1 not in free and seat + 1 not in free}


def _fits(party: int, run: set[int]) -> bool:
    """Whether so many neighbours can sit somewhere in a free run and leave no single that was none."""
    row = range(min(run), max(run) + 1)
    places = (set(range(first, first + party)) for first in row)
    return any(place <= run and not _singles(row, place) - _singles(row, set()) for place in places)
