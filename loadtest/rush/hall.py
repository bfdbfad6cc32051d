"""The hall as a fan sees it: the published layout, and which seats people go for.

Built from the answer of `GET …/layout` alone, as a web page would, never from the service's own classes:
the rush must be able to disagree with the service. Seats count as neighbours when they follow each other
in one row about a seat's width apart.

Everybody wants the middle. A fan takes one of the free blocks nearest the focal point of the map it was
shown, and since hundreds are shown the same map, most of them want what somebody else is just getting.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from math import dist
from statistics import median
from typing import Any, Final

from loadtest.rush.decisions import Wish

_ONE_SEAT: Final = 1.6  # times the usual distance: beyond it there is an aisle
_EYED_BLOCKS: Final = 8  # how far down the list of popular blocks a fan goes, on average
_EYED_MAX: Final = 64
_LOOKED_AT_MAX: Final = 1_500  # blocks a person looks at before asking for whatever is free
_LEFTOVER_PARTY_MAX: Final = 4


class Hall:
    """Seats by index; labels, kinds, and the blocks of each party size by how popular they are."""

    def __init__(self, layout: Mapping[str, Any]) -> None:
        seats: Sequence[Mapping[str, Any]] = layout["seats"]
        self.labels: Final = [str(seat["label"]) for seat in seats]
        self._kinds = [str(seat["kind"]) for seat in seats]
        self._points = [(float(seat["x"]), float(seat["y"])) for seat in seats]
        self._focal: tuple[float, float] = tuple(layout["focal_point"])
        self._beside = self._neighbourhood([str(seat["row"]) for seat in seats])
        self._blocks: dict[int, list[int]] = {}
        self._seen = b""
        self._eyed: dict[int, list[int]] = {}

    @property
    def seat_count(self) -> int:
        return len(self.labels)

    @property
    def has_accessible(self) -> bool:
        """Whether there are wheelchair places at all."""
        return "accessible" in self._kinds

    def popular_seats(self, taken: bytes, party: int, rng: random.Random) -> tuple[str, ...]:
        """Seats side by side near the focal point, free on that map; none where no such block is seen."""
        eyed = self._free_blocks(taken, party)
        if not eyed:
            return ()
        start = eyed[int(min(rng.expovariate(1 / _EYED_BLOCKS), len(eyed) - 1))]
        return tuple(self.labels[start : start + party])

    def leftovers(self, taken: bytes, most: int) -> list[Wish]:
        """Wishes that together ask for everything that is free on that map."""
        left = Counter(self._kinds[seat] for seat in range(self.seat_count) if not has(taken, seat))
        wishes = [Wish(1, accessible=1)] * left["accessible"] + [Wish(2)] * left["couple_left"]
        plain = left["standard"] + left["companion"]
        while plain and len(wishes) < most:
            party = min(plain, 1 if len(wishes) % 2 else _LEFTOVER_PARTY_MAX)
            wishes.append(Wish(party))
            plain -= party
        return wishes[:most]

    def seats_in(self, plane: bytes) -> set[str]:
        """The labels of the seats in a plane."""
        return {label for seat, label in enumerate(self.labels) if has(plane, seat)}

    def _free_blocks(self, taken: bytes, party: int) -> list[int]:
        """The first of the popular blocks that are free; many fans see the same map, so it is kept."""
        if taken != self._seen:
            self._seen, self._eyed = taken, {}
        eyed = self._eyed.get(party)
        if eyed is None:
            free = [not has(taken, seat) for seat in range(self.seat_count)]
            looked_at = self._popular_blocks(party)[:_LOOKED_AT_MAX]
            blocks = (start for start in looked_at if all(free[start : start + party]))
            eyed = self._eyed[party] = list(islice(blocks, _EYED_MAX))
        return eyed

    def _neighbourhood(self, rows: Sequence[str]) -> list[bool]:
        """Whether each seat is beside the next one."""
        gaps = [
            dist(self._points[seat], self._points[seat + 1]) if rows[seat] == rows[seat + 1] else 0.0
            for seat in range(len(rows) - 1)
        ]
        usual = median([gap for gap in gaps if gap] or [1.0])
        return [0 < gap <= _ONE_SEAT * usual for gap in gaps]

    def _popular_blocks(self, party: int) -> list[int]:
        blocks = self._blocks.get(party)
        if blocks is None:
            blocks = [start for start in range(self.seat_count - party + 1) if self._fits(start, party)]
            blocks.sort(key=lambda start: dist(self._middle(start, party), self._focal))
            self._blocks[party] = blocks
        return blocks

    def _fits(self, start: int, party: int) -> bool:
        """One block of seats anybody may choose, no couple seat cut in two."""
        kinds = self._kinds[start : start + party]
        return (
            all(self._beside[start : start + party - 1])
            and not {"accessible", "companion"} & set(kinds)
            and kinds[0] != "couple_right"
            and kinds[-1] != "couple_left"
        )

    def _middle(self, start: int, party: int) -> tuple[float, float]:
        first, last = self._points[start], self._points[start + party - 1]
        return (first[0] + last[0]) / 2, (first[1] + last[1]) / 2


def has(plane: bytes, seat: int) -> bool:
    """Whether a seat is in a plane (most significant bit first)."""
    return bool(plane[seat >> 3] & 0x80 >> (seat & 7))
