"""Where a party could sit right now: every question about runs of free seats, as shifts and ands.

`Ground` is what never changes (which seats exist, which stand at an aisle, which are accessible,
companions or halves of a couple seat); `Openings` adds what is taken at this moment. The answer to
"where does a party of n fit" is always a set of *starts*: bit *i* says that seats *i* … *i + n - 1*
will do. Folding the plane onto itself (``f & f >> 1``, then ``>> 2``) finds all of them at once, so
the cost depends on the size of the hall and the logarithm of the party, not on how full the hall is.

Refused: a loop over rows with a list of runs per row. It is easier to read for one row and fifty
times slower for a hall, and the orphan rule would be a second loop that could disagree with this one.

Both classes work on a whole hall and, through `Ground.cut`, on one segment moved down to bit 0; the
orphan rule and best available therefore share every definition.

Three sets are kept apart, and mixing them up is the mistake to avoid:
  *open*: not taken, not accessible. What the orphan rule calls available; runs are runs of these.
  *usable*: open seats this request may be given: inside its area, couple seats only while both halves
  are usable, no companion seat that still waits beside a free accessible one.
  *clean* starts: usable blocks that leave no new single among the open seats.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ground:
    """The fixed sets of a stretch of seats. `longest` is the length of the longest segment in it."""

    seats: int
    accessible: int
    companion: int
    pair_left: int
    not_first: int
    not_last: int
    not_row_last: int
    longest: int

    def cut(self, start: int, length: int) -> Ground:
        """The same for one segment alone, its first seat at bit 0."""
        full = (1 << length) - 1
        return Ground(
            seats=full,
            accessible=self.accessible >> start & full,
            companion=self.companion >> start & full,
            pair_left=self.pair_left >> start & full,
            not_first=self.not_first >> start & full,
            not_last=self.not_last >> start & full,
            not_row_last=self.not_last >> start & full,
            longest=length,
        )

    def open_seats(self, taken: int) -> int:
        """Seats neither taken nor accessible: what the orphan rule calls available."""
        return self.seats & ~(taken | self.accessible)

    def singles(self, open_seats: int) -> int:
        """Open seats with no open neighbour in their segment."""
        beside = (open_seats << 1 & self.not_first) | (open_seats >> 1 & self.not_last)
        return open_seats & ~beside

    def kept_companions(self, taken: int) -> int:
        """Companion seats that wait for the guest of a free accessible seat beside them."""
        if not self.companion:
            return 0
        waiting = self.accessible & ~taken
        return self.companion & ((waiting << 1 & self.not_first) | (waiting >> 1 & self.not_last))

    def whole_pairs(self, usable: int) -> int:
        """The set without halves of couple seats whose other half is not in it."""
        if not self.pair_left:
            return usable
        left = self.pair_left & usable & usable >> 1
        return usable & ~(self.pair_left | self.pair_left << 1) | left | left << 1

    def blocks(self, seats: int, links: int, count: int) -> int:
        """Starts of `count` seats in a row of `seats`, given which pairs hang together; no pair broken.

        Bit *i* of `links` says that seats *i* and *i + 1* are both there and adjacent.
        """
        starts, joined = seats, 1
        if count > 1:
            starts, joined = links, 2
        while joined < count:
            step = min(joined - 1, count - joined)
            starts &= starts >> step
            joined += step
        if self.pair_left:
            starts &= ~(self.pair_left << 1 | self.pair_left >> (count - 1))
        return starts

    def runs_holding(self, marks: int, open_seats: int) -> int:
        """Every open seat whose run holds at least one of `marks`: a flood fill in log steps."""
        filled, up, down = marks, open_seats & self.not_first, open_seats & self.not_last
        step = 1
        while step < self.longest:
            filled |= up & filled << step
            up &= up << step
            step <<= 1
        step = 1
        while step < self.longest:
            filled |= down & filled >> step
            down &= down >> step
            step <<= 1
        return filled


class Openings:
    """The places left for one kind of request at one moment, under the lenient or the strict rule."""

    __slots__ = ("_judged", "ground", "open_seats", "strict", "usable")

    def __init__(self, ground: Ground, open_seats: int, usable: int, strict: bool) -> None:
        self.ground = ground
        self.open_seats = open_seats
        self.usable = usable
        self.strict = strict
        self._judged: dict[int, tuple[int, int]] = {}

    @classmethod
    def of(
        cls, ground: Ground, taken: int, within: int, *, companions_too: bool = False, strict: bool = False
    ) -> Openings:
        """The openings inside the set `within`; kept companion seats only for accessible requests."""
        open_seats = ground.open_seats(taken)
        usable = open_seats & within
        if not companions_too:
            usable &= ~ground.kept_companions(taken)
        return cls(ground, open_seats, ground.whole_pairs(usable), strict)

    def without(self, seats: int) -> Openings:
        """The openings once these seats are gone as well. They must not break a couple seat."""
        return Openings(self.ground, self.open_seats & ~seats, self.usable & ~seats, self.strict)

    def can_seat(self, count: int) -> bool:
        """Whether `count` usable seats can be chosen at all, couple seats only as a piece.

        An odd party needs one seat that is no half of a couple; with that, everything else fits.
        """
        left = self.ground.pair_left & self.usable
        others = self.usable & ~(left | left << 1)
        return count <= self.usable.bit_count() and (count % 2 == 0 or bool(others))

    def starts(self, count: int) -> int:
        """Where `count` seats are adjacent in one segment."""
        links = self.usable & self.usable >> 1 & self.ground.not_last
        return self.ground.blocks(self.usable, links, count)

    def across_aisles(self, count: int) -> int:
        """Where `count` seats follow each other in one row, aisles not counted."""
        links = self.usable & self.usable >> 1 & self.ground.not_row_last
        return self.ground.blocks(self.usable, links, count)

    def clean(self, count: int) -> int:
        """Where `count` adjacent seats leave no new single.

        A block can only make its two neighbours single: the one before it if that begins a run of
        open seats, the one after it if that ends one.
        """
        return self._clean(self.starts(count), count)

    def _clean(self, starts: int, count: int) -> int:
        if not starts:
            return 0
        ground, open_seats = self.ground, self.open_seats
        begins_run = open_seats & ~(open_seats << 1 & ground.not_first)
        ends_run = open_seats & ~(open_seats >> 1 & ground.not_last)
        return starts & ~(begins_run << 1 & ground.not_first | (ends_run & ground.not_first) >> count)

    def acceptable(self, count: int) -> int:
        """Where `count` adjacent seats pass the rule: clean, or where nothing clean is to be had.

        Under the lenient rule nothing clean in the same run, under the strict one nothing at all.
        """
        return self.judged(count)[0]

    def judged(self, count: int) -> tuple[int, int]:
        """The acceptable starts, and those of them that are clean."""
        known = self._judged.get(count)
        if known is None:
            starts = self.starts(count)
            clean = self._clean(starts, count)
            acceptable = clean if self.strict and clean else starts
            if clean and clean != acceptable:
                served = self.ground.runs_holding(clean, self.open_seats)
                acceptable = clean | starts & ~served
            known = self._judged[count] = acceptable, clean
        return known
