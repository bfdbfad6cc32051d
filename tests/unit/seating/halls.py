"""Small halls drawn as text, and a slow reference that reads the glossary literally.

One character is one seat, one line one row, the screen above the first line; a blank is an aisle:
``.`` free, ``#`` taken, ``a``/``A`` accessible, ``c``/``C`` companion, ``l r``/``L R`` the halves of
a couple seat; a capital is taken. Nothing here uses the code under test: sets of seats and loops over
single seats only, so that agreement between the two means something.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import dist

from hypothesis import strategies as st

from reservation.domain import Area, Layout, Seat, SeatKind, Segment

_KINDS: dict[str, SeatKind] = {
    ".": "standard",
    "#": "standard",
    "a": "accessible",
    "c": "companion",
    "l": "couple_left",
    "r": "couple_right",
}


@dataclass(frozen=True)
class Hall:
    """A layout and what is taken in it."""

    layout: Layout
    gone: frozenset[int]

    @property
    def taken(self) -> bytes:
        return plane(self.layout.seat_count, self.gone)

    def at(self, row: int, column: int) -> int:
        """The index of the seat drawn there."""
        return self.layout.index_of[f"{row}-{column}"]

    def many(self, row: int, *columns: int) -> tuple[int, ...]:
        return tuple(self.at(row, column) for column in columns)


def plane(seat_count: int, gone: frozenset[int] | set[int]) -> bytes:
    """The packed plane, most significant bit first, spelled out."""
    digits = "".join("1" if seat in gone else "0" for seat in range(seat_count))
    digits += "0" * (-len(digits) % 8)
    return bytes(int(digits[place : place + 8], 2) for place in range(0, len(digits), 8))


def draw(*rows: str, areas: tuple[str, ...] = (), focal: tuple[float, float] | None = None) -> Hall:
    """The hall of a drawing. `areas` is a second drawing with one letter of area per seat."""
    seats: list[Seat] = []
    segments: list[Segment] = []
    gone: set[int] = set()
    for y, row in enumerate(rows):
        for x, sign in enumerate(row):
            if sign == " ":
                continue
            if x == 0 or row[x - 1] == " ":
                segments.append(Segment(len(seats), 0, f"row {y}"))
            begun = segments[-1]
            segments[-1] = Segment(begun.start, begun.length + 1, begun.row_key)
            if sign == "#" or sign.isupper():
                gone.add(len(seats))
            area = areas[y][x] if areas else "p"
            seats.append(
                Seat(len(seats), f"{y}-{x}", f"{y}", f"{x}", float(x), float(y), area, _KINDS[sign.lower()])
            )
    if focal is None:
        focal = (max(len(row) for row in rows) - 1) / 2, (len(rows) - 1) * 2 / 3
    names = sorted({seat.area_id for seat in seats})
    layout = Layout("drawn", tuple(seats), tuple(Area(name, name) for name in names), tuple(segments), focal)
    return Hall(layout, frozenset(gone))


# The reference


class Reference:
    """The rules of the seat map, seat by seat."""

    def __init__(self, hall: Hall, gone: frozenset[int] | set[int] | None = None) -> None:
        self.layout = hall.layout
        self.gone = set(hall.gone if gone is None else gone)
        self.kind = [seat.kind for seat in self.layout.seats]
        self.area = [seat.area_id for seat in self.layout.seats]
        self.segment: dict[int, int] = {}
        for position, segment in enumerate(self.layout.segments):
            for seat in range(segment.start, segment.start + segment.length):
                self.segment[seat] = position

    def beside(self, seat: int) -> list[int]:
        return [other for other in (seat - 1, seat + 1) if self.segment.get(other, -1) == self.segment[seat]]

    def partner(self, seat: int) -> int | None:
        if self.kind[seat] == "couple_left":
            other, half = seat + 1, "couple_right"
        elif self.kind[seat] == "couple_right":
            other, half = seat - 1, "couple_left"
        else:
            return None
        return other if other in self.beside(seat) and self.kind[other] == half else None

    def available(self) -> set[int]:
        return {s for s in self.segment if s not in self.gone and self.kind[s] != "accessible"}

    def singles(self, available: set[int]) -> set[int]:
        return {seat for seat in available if not any(other in available for other in self.beside(seat))}

    def new_singles(self, chosen: set[int]) -> set[int]:
        before = self.available()
        return self.singles(before - chosen) - self.singles(before)

    def usable(self, areas: set[str] | None = None) -> set[int]:
        seats = set()
        for seat in self.available():
            waiting = any(
                self.kind[other] == "accessible" and other not in self.gone for other in self.beside(seat)
            )
            if self.kind[seat] == "companion" and waiting:
                continue
            if areas is None or self.area[seat] in areas:
                seats.add(seat)
        return {seat for seat in seats if self.partner(seat) is None or self.partner(seat) in seats}

    def blocks(self, count: int, areas: set[str] | None = None) -> list[tuple[int, ...]]:
        """Every adjacent choice of `count` usable seats in one segment that cuts no couple seat."""
        usable, found = self.usable(areas), []
        for start in sorted(usable):
            block = tuple(range(start, start + count))
            if all(seat in usable and self.segment[seat] == self.segment[start] for seat in block) and all(
                self.partner(seat) in (None, *block) for seat in block
            ):
                found.append(block)
        return found

    def clean_blocks(self, count: int, areas: set[str] | None = None) -> list[tuple[int, ...]]:
        return [block for block in self.blocks(count, areas) if not self.new_singles(set(block))]

    def can_seat(self, count: int, areas: set[str] | None = None) -> bool:
        usable = self.usable(areas)
        halves = sum(self.partner(seat) is not None for seat in usable)
        plain = len(usable) - halves
        return any(count - 2 * pairs in range(plain + 1) for pairs in range(halves // 2 + 1))

    def run_of(self, seat: int) -> set[int]:
        available, run = self.available(), {seat}
        while more := {other for here in run for other in self.beside(here) if other in available} - run:
            run |= more
        return run

    def refused_singles(self, chosen: tuple[int, ...], rule: str) -> set[int]:
        """The orphan rule from its definition: run by run, singles that a shift would have avoided."""
        if rule == "off" or any(self.kind[seat] == "accessible" for seat in chosen):
            return set()
        picked, found = set(chosen), set()
        for run in {frozenset(self.run_of(seat)) for seat in chosen}:
            mine = picked & run
            singles = self.new_singles(mine) & run
            elsewhere = Reference.__new__(Reference)
            elsewhere.__dict__ = self.__dict__ | {"gone": self.gone | (picked - mine)}
            places = elsewhere.clean_blocks(len(mine), {self.area[seat] for seat in mine})
            if rule == "lenient":
                places = [block for block in places if set(block) <= run]
            if singles and places:
                found |= singles
        return found

    def away(self, block: tuple[int, ...], point: tuple[float, float]) -> float:
        """Distance of the block's centre: of its middle seat, or midway between its two middle seats."""
        middle = block[(len(block) - 1) // 2], block[len(block) // 2]
        seats = [self.layout.seats[seat] for seat in middle]
        return dist((sum(s.x for s in seats) / 2, sum(s.y for s in seats) / 2), point)

    def in_touch(self, seats: tuple[int, ...]) -> bool:
        """Whether the seats are one block a row, each touching the next, with no nearer row between."""
        rows: dict[float, list[float]] = {}
        for seat in sorted(seats):
            rows.setdefault(self.layout.seats[seat].y, []).append(self.layout.seats[seat].x)
        if any(row != [row[0] + step for step in range(len(row))] for row in rows.values()):
            return False
        for (front, ahead), (back, behind) in pairwise(sorted(rows.items())):
            if ahead[0] > behind[-1] + 1 or behind[0] > ahead[-1] + 1:
                return False
            left, right = min(ahead[0], behind[0]) - 1, max(ahead[-1], behind[-1]) + 1
            if any(front < s.y < back and left <= s.x <= right for s in self.layout.seats):
                return False
        return True


# Random halls

_PLAIN = [".", ".", ".", "#", "#", " "]
_MIXED = [*_PLAIN, ".", "a", "A", "c", "C", "lr", "lr", "LR", "lR", "r", "l"]


@st.composite
def halls(draw_one: st.DrawFn, *, plain: bool = False) -> Hall:
    """Small halls of every kind; `plain` ones have standard seats only."""
    signs = st.sampled_from(_PLAIN if plain else _MIXED)
    rows = draw_one(
        st.lists(
            st.lists(signs, min_size=1, max_size=12).map("".join).filter(str.strip), min_size=1, max_size=4
        )
    )
    border = draw_one(st.integers(0, 14))
    areas = tuple(
        "".join("p" if x + y < border else "q" for x in range(len(row))) for y, row in enumerate(rows)
    )
    focal = draw_one(
        st.tuples(st.integers(0, 24).map(lambda half: half / 2), st.sampled_from([0.0, 1.0, 1.5]))
    )
    return draw(*rows, areas=areas, focal=focal)
