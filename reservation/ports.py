"""The seat inventory as its users see it; two adapters sit the same examination (tests/contract).

Numbers only: seat indices, milliseconds, opaque ids. Labels, prices and films stand above. A refusal is
`Refused` with a status of the code table and the facts the status comes with; what the network does is
an error of the kernel (`InventoryRebuilding`, `SeatsUnavailable`, `TooLate`, `Overloaded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from reservation.domain import OrphanRule

Phase = Literal["open", "paused", "closed"]
#: Which rules a hold must keep: a fan's all of them; one paid after its time the limit but not the window;
#: the cinema's own counter neither.
Guards = Literal["buyer", "late", "counter"]
ReturnableState = Literal["claimed", "sold", "expired"]
#: Ranges of ordinary seats without an aisle or an accessible seat between them: start, length, area number.
Stretches = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a showtime is sold under. Instants in ms; `closes_at_ms` 0 means never."""

    showtime_id: str
    seat_count: int
    opens_at_ms: int
    closes_at_ms: int
    buyer_seats_max: int
    phase: Phase


class Possession(msgspec.Struct, frozen=True, gc=False):
    """Seats PostgreSQL says somebody owns, for a rebuild, where there may be half a million.

    A late one was given up before its money came: it has its seats again only if they are free and its buyer
    may have them beside what else he has.
    """

    showtime_id: str
    hold_id: str
    buyer_id: str
    state: Literal["claimed", "sold"]
    pay_by_ms: int
    seats: tuple[int, ...]
    is_late: bool = False


class Held(msgspec.Struct, frozen=True, gc=False):
    """A granted hold; `fresh` is false for a repeat of one that stood already.

    When a fresh one's `version` is one more than another, exactly its seats were taken in between.
    """

    expires_at_ms: int
    version: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class HoldState:
    """A hold as its owner may see it."""

    state: Literal["held", "claimed", "sold"]
    expires_at_ms: int
    seats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SeatMap:
    """The map of one instant, `now_ms`.

    The planes are None, and no hold ids come with them, when the caller has this version already.
    `first_due_at_ms` is when the first hold ends, 0 when none ever will.
    """

    version: int
    phase: Phase
    opens_at_ms: int
    closes_at_ms: int
    seat_count: int
    now_ms: int
    first_due_at_ms: int
    taken: bytes | None = None
    sold: bytes | None = None
    hold_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep freed, and how many due entries it handled (a full batch means: come back)."""

    freed: int
    handled: int


class Refused(Exception):
    """The inventory says no.

    `status` is a code of the table. `taken` is the plane the refusal was judged on (for `seat_taken` and
    `orphan_seat`), `seats` the singles of an `orphan_seat`, `numbers` the rest of the payload in the
    order of the script's header.
    """

    def __init__(
        self,
        status: str,
        *,
        taken: bytes | None = None,
        seats: tuple[int, ...] = (),
        numbers: tuple[int, ...] = (),
    ) -> None:
        super().__init__(status)
        self.status = status
        self.taken = taken
        self.seats = seats
        self.numbers = numbers


class SeatInventory(Protocol):
    """Seats of showtimes: held, claimed, sold, returned. `now_ms=None` means the inventory's own clock.

    What gives somebody something may be told `latest_ms`, on that clock: after it nothing happens, and
    TooLate is raised. With neither instant an inventory that can be late sees to it itself that nobody is
    given anything he has stopped waiting for.
    """

    async def open_showtime(self, terms: Terms) -> int:
        """Put a showtime on sale or change its terms; the answer is the new version."""

    async def hold(
        self,
        showtime_id: str,
        hold_id: str,
        buyer_id: str,
        seats: Sequence[int],
        *,
        ttl_ms: int,
        rule: OrphanRule = "off",
        stretches: Stretches = (),
        area_stretches: Stretches = (),
        guards: Guards = "buyer",
        now_ms: int | None = None,
        latest_ms: int | None = None,
    ) -> Held:
        """Hold all seats or none. `guards` says which of sale window and buyer limit apply."""

    async def extend(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        ttl_ms: int,
        lifetime_ms_max: int,
        now_ms: int | None = None,
        latest_ms: int | None = None,
    ) -> int:
        """More time for a hold; the answer is its new deadline in ms."""

    async def release(self, hold_id: str, buyer_id: str, *, now_ms: int | None = None) -> None:
        """Let go of a hold."""

    async def claim(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        seats: Sequence[int],
        pay_by_ms: int,
        entry: bytes,
        now_ms: int | None = None,
        latest_ms: int | None = None,
    ) -> bool:
        """Hold → claim, with its log entry. False when it was claimed before.

        `seats` as the hold had them, which the entry was made of: another hold of the same id is refused as
        not_found.
        """

    async def confirm(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        entry: bytes,
        pay_by_ms: int | None = None,
        seats: Sequence[int] = (),
    ) -> bool:
        """Held or claimed → sold, with its log entry. False when it was sold before.

        With `pay_by_ms` only the claim of that deadline, else only what has exactly these seats: another
        hold of the same id is refused as not_found.
        """

    async def return_seats(
        self,
        hold_id: str,
        *,
        states: frozenset[ReturnableState],
        keep: Sequence[int] = (),
        now_ms: int | None = None,
    ) -> bool:
        """Seats of an ended order back on sale, except `keep`.

        A hold past its time is "expired", swept or not. False, and nothing changes, when there is no such
        hold or it is in none of `states`.
        """

    async def block(self, showtime_id: str, seats: Sequence[int]) -> None:
        """Keep free seats off public sale."""

    async def blocked_seats(self, showtime_id: str) -> frozenset[int]:
        """The seats that are kept off public sale."""

    async def unblock(self, showtime_id: str, seats: Sequence[int]) -> None:
        """Put blocked seats back on public sale."""

    async def read_map(
        self,
        showtime_id: str,
        *,
        known_version: int | None = None,
        holds_from_ms: int | None = None,
        holds_within_ms: int | None = None,
        now_ms: int | None = None,
    ) -> SeatMap:
        """The seat map, without planes when the version is the caller's.

        With it the ids of the holds due at `holds_from_ms` or later, and no later than `holds_within_ms` from
        now; from 0 on and without an end it means all of them, and of holds that ended a short while ago.
        """

    async def read_hold(self, hold_id: str, buyer_id: str, *, now_ms: int | None = None) -> HoldState:
        """One hold, for its owner."""

    async def sweep(self, showtime_id: str, *, holds_max: int, now_ms: int | None = None) -> Swept:
        """Free the seats of expired holds, a bounded batch at a time."""

    async def restore(
        self,
        terms: Terms,
        *,
        blocked: Sequence[int],
        possessions: Sequence[Possession],
        losses_for_ms: int,
        now_ms: int | None = None,
    ) -> tuple[int, int]:
        """Build a showtime anew from what PostgreSQL owns; the answer is holds kept and dropped.

        Of the holds that are there, the oldest first, those stay whose seats nobody owns and with which
        their buyer has no more than his limit, owned seats counted. For so long from now on an unknown hold
        is called lost; 0 means that nothing was lost.

        It is on sale when all of it is there, and until then what is there is as it was. Raises
        InventoryRebuilding when a newer rebuild has been here.
        """
