"""The in-memory twin of the seat inventory: the rules once more, in the plainest Python.

It exists to be obviously right. It sits the same contract suite as the Redis adapter and is the model
of the stateful test, so wherever the two differ one of them is wrong. Simulations run on it. It keeps
sets where the scripts keep bits, and lists log entries in `log` where they append to a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from kernel.errors import InventoryRebuilding, TooLate
from kernel.ids import partition_of, showtime_of
from reservation.domain import OrphanRule
from reservation.packing import plane_of
from reservation.ports import (
    Guards,
    Held,
    HoldState,
    Possession,
    Refused,
    ReturnableState,
    SeatMap,
    Stretches,
    Swept,
    Terms,
)

_TOMBSTONE_MS = 600_000


@dataclass
class _Record:
    state: Literal["held", "claimed", "sold", "expired"]
    buyer_id: str
    seats: tuple[int, ...]
    created_at_ms: int
    expires_at_ms: int


@dataclass
class _Showtime:
    terms: Terms
    version: int = 1
    losses_until_ms: int = 0
    records: dict[str, _Record] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    blocked: set[int] = field(default_factory=set)
    ownerless: set[int] = field(default_factory=set)  # kept for an order PostgreSQL knows and we do not

    def taken(self) -> set[int]:
        held = {seat for record in self.records.values() for seat in record.seats}
        return held | self.blocked | self.ownerless

    def sold(self) -> set[int]:
        owned = (record for record in self.records.values() if record.state in {"claimed", "sold"})
        return {seat for record in owned for seat in record.seats} | self.ownerless

    def owned_by(self, buyer_id: str) -> int:
        return sum(len(record.seats) for record in self.records.values() if record.buyer_id == buyer_id)

    def plane(self, seats: Iterable[int]) -> bytes:
        return plane_of(seats, self.terms.seat_count)

    def expire(self, hold_id: str, now_ms: int) -> None:
        record = self.records[hold_id]
        record.state, record.seats = "expired", ()
        self.due[hold_id] = now_ms + _TOMBSTONE_MS


def _free_runs(taken: set[int], start: int, length: int) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for seat in range(start, start + length):
        if seat in taken:
            runs.append([])
        else:
            runs[-1].append(seat)
    return [run for run in runs if run]


def _fits(run_length: int, party: int) -> bool:
    return run_length == party or run_length >= party + 2


def orphans(
    taken: set[int], chosen: Sequence[int], rule: OrphanRule, stretches: Stretches, area: Stretches
) -> list[int]:
    """The singles that make a choice unacceptable, in seat order; empty when it is fine."""
    after = taken | set(chosen)
    refused = []
    for start, length, area_number in stretches if rule != "off" else ():
        for run in _free_runs(taken, start, length):
            party = len(set(run) & set(chosen))
            left = [rest[0] for rest in _free_runs(after, run[0], len(run)) if len(rest) == 1]
            if not party or not left:
                continue
            others = set(chosen) - set(run)
            elsewhere = rule == "strict" and any(
                _fits(len(other), party)
                for other_start, other_length, other_area in area
                if other_area == area_number
                for other in _free_runs(taken | others, other_start, other_length)
            )
            if elsewhere or _fits(len(run), party):
                refused += left
    return refused


def _see_that_it_is_in_time(now: int, latest_ms: int | None) -> None:
    if latest_ms is not None and now > latest_ms:
        raise TooLate(retry_after_s=1.0)


class MemoryInventory:
    """`SeatInventory` in one process."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._showtimes: dict[str, _Showtime] = {}
        self.log: list[tuple[int, str, bytes]] = []

    def _now(self, now_ms: int | None) -> int:
        return self._clock_ms() if now_ms is None else now_ms

    def _showtime(self, showtime_id: str) -> _Showtime:
        if showtime_id not in self._showtimes:
            raise InventoryRebuilding
        return self._showtimes[showtime_id]

    def _own_record(self, hold_id: str, buyer_id: str, now_ms: int) -> tuple[_Showtime, _Record]:
        showtime = self._showtime(showtime_of(hold_id))
        record = showtime.records.get(hold_id)
        if record is None or record.buyer_id != buyer_id:
            lost = record is None and showtime.losses_until_ms > now_ms
            raise Refused("hold_lost" if lost else "not_found")
        return showtime, record

    async def open_showtime(self, terms: Terms) -> int:
        showtime = self._showtimes.get(terms.showtime_id)
        if showtime is None:
            self._showtimes[terms.showtime_id] = _Showtime(terms)
            return 1
        showtime.terms = terms
        showtime.version += 1
        return showtime.version

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
        showtime, now = self._showtime(showtime_id), self._now(now_ms)
        _see_that_it_is_in_time(now, latest_ms)
        terms = showtime.terms
        existing = showtime.records.get(hold_id)
        if existing is not None:
            return self._repeat(showtime, existing, buyer_id, tuple(seats), now)
        if guards == "buyer":
            if terms.phase == "closed" or 0 < terms.closes_at_ms <= now:
                raise Refused("sale_closed", numbers=(terms.closes_at_ms,))
            if terms.phase == "paused" or now < terms.opens_at_ms:
                raise Refused("sale_not_open", numbers=(terms.opens_at_ms,))
        overdue = [
            other_id
            for other_id, record in showtime.records.items()
            if record.state == "held"
            and record.expires_at_ms <= now
            and (set(record.seats) & set(seats) or (record.buyer_id == buyer_id and guards != "counter"))
        ]
        dead = {seat for other_id in overdue for seat in showtime.records[other_id].seats}
        mine = sum(
            len(showtime.records[i].seats) for i in overdue if showtime.records[i].buyer_id == buyer_id
        )
        limit = terms.buyer_seats_max
        contested = bool(showtime.taken() & set(seats))
        over = guards != "counter" and showtime.owned_by(buyer_id) + len(seats) > limit
        if not contested and not over:
            overdue, dead, mine = [], set(), 0
        owned = showtime.owned_by(buyer_id) - mine
        if guards != "counter" and owned + len(seats) > limit:
            raise Refused("seat_limit_exceeded", numbers=(owned, limit))
        taken = showtime.taken() - dead
        judged = showtime.plane(taken)
        if taken & set(seats):
            raise Refused("seat_taken", taken=judged, numbers=(showtime.version,))
        singles = orphans(taken, seats, rule, stretches, area_stretches)
        if singles:
            raise Refused("orphan_seat", seats=tuple(singles), taken=judged, numbers=(showtime.version,))
        for other_id in overdue:
            showtime.expire(other_id, now)
        showtime.records[hold_id] = _Record("held", buyer_id, tuple(seats), now, now + ttl_ms)
        showtime.due[hold_id] = now + ttl_ms
        showtime.version += 2 if overdue else 1
        return Held(now + ttl_ms, showtime.version, fresh=True)

    def _repeat(
        self, showtime: _Showtime, record: _Record, buyer_id: str, seats: tuple[int, ...], now: int
    ) -> Held:
        if record.state == "held":
            is_the_same = record.seats == seats
        else:
            is_the_same = record.state == "expired" or set(record.seats) == set(seats)
        if record.buyer_id != buyer_id or not is_the_same:
            raise Refused("idempotency_key_reused")
        if record.state == "expired" or (record.state == "held" and record.expires_at_ms <= now):
            raise Refused("hold_expired")
        return Held(record.expires_at_ms, showtime.version, fresh=False)

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
        now = self._now(now_ms)
        self._showtime(showtime_of(hold_id))
        _see_that_it_is_in_time(now, latest_ms)
        showtime, record = self._live(hold_id, buyer_id, now)
        expires_at_ms = min(now + ttl_ms, record.created_at_ms + lifetime_ms_max)
        if expires_at_ms <= record.expires_at_ms:
            raise Refused("hold_not_extendable", numbers=(record.expires_at_ms,))
        record.expires_at_ms = expires_at_ms
        showtime.due[hold_id] = expires_at_ms
        return expires_at_ms

    def _live(self, hold_id: str, buyer_id: str, now: int) -> tuple[_Showtime, _Record]:
        showtime, record = self._own_record(hold_id, buyer_id, now)
        if record.state in {"claimed", "sold"}:
            raise Refused("hold_claimed")
        if record.state == "expired" or record.expires_at_ms <= now:
            raise Refused("hold_expired")
        return showtime, record

    async def release(self, hold_id: str, buyer_id: str, *, now_ms: int | None = None) -> None:
        showtime, _ = self._live(hold_id, buyer_id, self._now(now_ms))
        del showtime.records[hold_id], showtime.due[hold_id]
        showtime.version += 1

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
        now = self._now(now_ms)
        self._showtime(showtime_of(hold_id))
        _see_that_it_is_in_time(now, latest_ms)
        showtime, record = self._own_record(hold_id, buyer_id, now)
        if record.state in {"claimed", "sold"}:
            return False
        if record.state == "expired" or record.expires_at_ms <= now:
            raise Refused("hold_expired")
        if record.seats != tuple(seats):
            raise Refused("not_found")
        self.log.append((partition_of(showtime.terms.showtime_id), "claim", entry))
        record.state, record.expires_at_ms = "claimed", pay_by_ms
        del showtime.due[hold_id]
        showtime.version += 1
        return True

    async def confirm(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        entry: bytes,
        pay_by_ms: int | None = None,
        seats: Sequence[int] = (),
    ) -> bool:
        showtime = self._showtime(showtime_of(hold_id))
        record = showtime.records.get(hold_id)
        if record is None or record.buyer_id != buyer_id or record.state == "expired":
            raise Refused("not_found")
        if pay_by_ms is None:
            is_meant = set(record.seats) == set(seats)
        else:
            is_meant = record.state == "claimed" and record.expires_at_ms == pay_by_ms
        if record.state != "sold" and not is_meant:
            raise Refused("not_found")
        self.log.append((partition_of(showtime.terms.showtime_id), "confirm", entry))
        if record.state == "sold":
            return False
        record.state = "sold"
        showtime.due.pop(hold_id, None)
        showtime.version += 1
        return True

    async def return_seats(
        self,
        hold_id: str,
        *,
        states: frozenset[ReturnableState],
        keep: Sequence[int] = (),
        now_ms: int | None = None,
    ) -> bool:
        showtime = self._showtime(showtime_of(hold_id))
        record = showtime.records.get(hold_id)
        if record is None:
            return False
        is_over = record.state == "held" and record.expires_at_ms <= self._now(now_ms)
        if ("expired" if is_over else record.state) not in states:
            return False
        del showtime.records[hold_id]
        if not is_over:  # what was only held is no order's
            showtime.ownerless -= set(record.seats)
            showtime.ownerless |= set(keep) & set(record.seats)
        showtime.due.pop(hold_id, None)
        showtime.version += 1
        return True

    async def block(self, showtime_id: str, seats: Sequence[int]) -> None:
        showtime = self._showtime(showtime_id)
        taken = showtime.taken()
        if (taken - showtime.blocked) & set(seats):
            raise Refused("seat_taken", taken=showtime.plane(taken), numbers=(showtime.version,))
        showtime.blocked |= set(seats)
        showtime.version += 1

    async def blocked_seats(self, showtime_id: str) -> frozenset[int]:
        return frozenset(self._showtime(showtime_id).blocked)

    async def unblock(self, showtime_id: str, seats: Sequence[int]) -> None:
        showtime = self._showtime(showtime_id)
        if not set(seats) <= showtime.blocked:
            raise Refused("seat_not_blocked")
        showtime.blocked -= set(seats)
        showtime.version += 1

    async def read_map(
        self,
        showtime_id: str,
        *,
        known_version: int | None = None,
        holds_from_ms: int | None = None,
        holds_within_ms: int | None = None,
        now_ms: int | None = None,
    ) -> SeatMap:
        showtime = self._showtime(showtime_id)
        terms = showtime.terms
        found = SeatMap(
            showtime.version,
            terms.phase,
            terms.opens_at_ms,
            terms.closes_at_ms,
            terms.seat_count,
            self._now(now_ms),
            min(showtime.due.values(), default=0),
        )
        if known_version == showtime.version:
            return found
        recent = [
            (at, hold_id)
            for hold_id, at in showtime.due.items()
            if holds_from_ms is not None and at >= holds_from_ms
            if holds_within_ms is None or at <= found.now_ms + holds_within_ms
        ]
        return replace(
            found,
            taken=showtime.plane(showtime.taken()),
            sold=showtime.plane(showtime.sold()),
            hold_ids=tuple(hold_id for _, hold_id in sorted(recent)),
        )

    async def read_hold(self, hold_id: str, buyer_id: str, *, now_ms: int | None = None) -> HoldState:
        now = self._now(now_ms)
        _, record = self._own_record(hold_id, buyer_id, now)
        if record.state == "expired" or (record.state == "held" and record.expires_at_ms <= now):
            raise Refused("hold_expired")
        return HoldState(record.state, record.expires_at_ms, record.seats)

    async def sweep(self, showtime_id: str, *, holds_max: int, now_ms: int | None = None) -> Swept:
        showtime, now = self._showtime(showtime_id), self._now(now_ms)
        due = sorted((at, hold_id) for hold_id, at in showtime.due.items() if at <= now)[:holds_max]
        freed = 0
        for _, hold_id in due:
            if showtime.records[hold_id].state == "held":
                showtime.expire(hold_id, now)
                freed += 1
            else:
                del showtime.records[hold_id], showtime.due[hold_id]
        showtime.version += 1 if freed else 0
        return Swept(freed, len(due))

    async def restore(
        self,
        terms: Terms,
        *,
        blocked: Sequence[int],
        possessions: Sequence[Possession],
        losses_for_ms: int,
        now_ms: int | None = None,
    ) -> tuple[int, int]:
        now = self._now(now_ms)
        old = self._showtimes.get(terms.showtime_id)
        owned = {seat for own in possessions for seat in own.seats}
        losses_until_ms = now + losses_for_ms if losses_for_ms else 0
        new = _Showtime(terms, (old.version if old else 0) + 1, losses_until_ms, blocked=set(blocked) - owned)
        for own in possessions:
            new.records[own.hold_id] = _Record(own.state, own.buyer_id, own.seats, now, own.pay_by_ms)
        kept = dropped = 0
        held = {name: one for name, one in old.records.items() if one.state == "held"} if old else {}
        for hold_id, record in sorted(held.items(), key=lambda one: (one[1].created_at_ms, one[0])):
            alive = record.expires_at_ms > now and hold_id not in new.records
            within = new.owned_by(record.buyer_id) + len(record.seats) <= terms.buyer_seats_max
            if alive and within and not new.taken() & set(record.seats):
                new.records[hold_id] = record
                new.due[hold_id] = record.expires_at_ms
                kept += 1
            else:
                dropped += 1
        self._showtimes[terms.showtime_id] = new
        return kept, dropped
