"""Stretches: the geometry the hold script needs for the orphan rule, as plain ranges.

A stretch is a maximal range of seats of one segment without an accessible seat: inside it neighbours by
index are neighbours in the hall, and both of its ends are boundaries no single can lean on. Scripts get
only the stretches a choice touches (and those of its areas when the rule is strict), so their work is
bounded by the choice, not by the hall.

The script's rule is arithmetic on lengths, true where any seats of a run are as good as any others. Where
couple seats, companion seats or a change of price stand in a stretch it is not (a place that cuts a couple
is no place), so such a stretch is not *plain*, and a choice that needs it is judged by
`seating.judge_orphans` before the script is called. That judgement is of a picture some milliseconds old;
the rule is a courtesy, so a lost race there strands a seat and harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reservation.domain import Layout, SeatKind, Segment
from reservation.ports import Stretches


class StretchTable:
    """The stretches of one layout, looked up by seat."""

    def __init__(self, layout: Layout) -> None:
        area_number = {area.area_id: number for number, area in enumerate(layout.areas)}
        self._stretches: list[tuple[int, int, int]] = []
        self._areas_in: list[frozenset[int]] = []  # numbers; a stretch itself has that of its first seat
        self._stretch_of: list[int] = [-1] * layout.seat_count
        self._odd: set[tuple[int, int, int]] = set()
        kinds = [seat.kind for seat in layout.seats]
        areas = [area_number[seat.area_id] for seat in layout.seats]
        for segment in layout.segments:
            for start, stop in _between_accessible(kinds, segment):
                within = frozenset(areas[start:stop])
                self._stretch_of[start:stop] = [len(self._stretches)] * (stop - start)
                self._stretches.append((start, stop - start, areas[start]))
                self._areas_in.append(within)
                if len(within) > 1 or set(kinds[start:stop]) != {"standard"}:
                    self._odd.add(self._stretches[-1])

    def touching(self, seats: Iterable[int]) -> Stretches | None:
        """The stretches these seats stand in, each once; None when one of them is accessible, in none."""
        places = {self._stretch_of[seat] for seat in seats}
        return None if -1 in places else tuple([self._stretches[place] for place in sorted(places)])

    def of_areas(self, touched: Stretches) -> Stretches:
        """Every stretch with a seat of the areas of the touched ones, also among seats of other areas."""
        areas = frozenset().union(*(self._areas_in[self._stretch_of[start]] for start, _, _ in touched))
        return tuple(
            [
                stretch
                for stretch, within in zip(self._stretches, self._areas_in, strict=True)
                if not areas.isdisjoint(within)
            ]
        )

    def are_plain(self, stretches: Stretches) -> bool:
        """Whether the script's arithmetic holds on all of them."""
        return self._odd.isdisjoint(stretches)


def _between_accessible(kinds: Sequence[SeatKind], segment: Segment) -> Iterator[tuple[int, int]]:
    """The maximal ranges of a segment without an accessible seat, as (start, stop)."""
    start = segment.start
    if "accessible" in kinds[start : segment.stop]:
        for seat in range(start, segment.stop):
            if kinds[seat] == "accessible":
                if start < seat:
                    yield start, seat
                start = seat + 1
    if start < segment.stop:
        yield start, segment.stop
